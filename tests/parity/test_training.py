"""The trainer of nano-ui: a packed sample is the same as its questions asked alone."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.convert.mm15_torch.dense import CELLS_X, CELLS_Y, cells, schedule
from mm15_mlx.convert.mm15_torch.losses import AnswerLoss, init_locations
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.restore import in_torch_layout
from mm15_mlx.convert.mm15_torch.samples import (
    NO_TARGET,
    SampleEncoder,
    collate,
    visual_words,
    window,
)
from mm15_mlx.convert.mm15_torch.vocabulary import train
from mm15_mlx.prompt import ImageSlot, PromptEncoder, Turn
from mm15_mlx.screens.questions import Question
from mm15_mlx.tiling import plan
from mm15_mlx.tokenizer import Tokenizer

pytestmark = pytest.mark.parity

QUESTIONS = [
    Question("find_text", 'Where is the text "Save"?', "<box>10,20,50,40</box>"),
    Question("ocr", "What text is displayed in the element <box>1,2,30,9</box>?", "Hi"),
    Question("state", "Is the Wi-Fi switch on? It is <box>1,2,3,4</box>.", "No"),
]  # fmt: skip
SIZE = (100, 220)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    nano = PRESETS["nano-ui"]
    return dataclasses.replace(
        nano,
        vision_config=dataclasses.replace(
            nano.vision_config, hidden_size=64, intermediate_size=96,
            num_hidden_layers=1, num_attention_heads=1, image_size=28,
        ),
        connector_config=dataclasses.replace(
            nano.connector_config, hidden_size=32, num_visual_tokens=4, depth=1
        ),
        text_config=dataclasses.replace(
            nano.text_config, hidden_size=64, intermediate_size=96,
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        ),
        tiling=dataclasses.replace(nano.tiling, tile_size=28),
    )  # fmt: skip


@pytest.fixture(scope="module")
def samples(
    config: ModelConfig, tmp_path_factory: pytest.TempPathFactory
) -> SampleEncoder:
    path: Path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.model"
    train(config, path, lines=6000)
    return SampleEncoder(config, PromptEncoder(config, Tokenizer(path)))


def test_a_sample_holds_what_a_user_would_ask(samples: SampleEncoder) -> None:
    tiling = plan(*SIZE, samples.config.tiling)
    sample = samples.encode(QUESTIONS[:1], SIZE, tiling, 10_000)
    turn = Turn("user", [ImageSlot(0), QUESTIONS[0].prompt])
    asked = samples.encoder.encode([turn], [tiling])
    assert sample.ids[: len(asked)] == asked
    answer = samples.answer_ids(QUESTIONS[0].answer, SIZE)
    assert [t for t in sample.target if t != NO_TARGET] == answer
    # where the prompt ends, the answer's first token is to be predicted
    assert sample.target[len(asked) - 1] == answer[0]
    assert samples.config.prompt.image_token_id not in answer


def test_packed_questions_do_not_see_each_other(samples: SampleEncoder) -> None:
    config = samples.config
    torch.manual_seed(0)
    model = MM15(config).eval()
    tiling = plan(*SIZE, config.tiling)
    pixels = torch.randn(len(tiling.indices), 3, 28, 28)

    @torch.no_grad()
    def logits(questions: list[Question]) -> torch.Tensor:
        batch = collate([samples.encode(questions, SIZE, tiling, 10_000)])
        visual = model.encode_image(pixels)
        x = model.embed_inputs(batch.ids, visual, config.prompt.image_token_id)
        hidden = model.decoder(x, batch.position, batch.mask)
        return model.decoder.logits(hidden[batch.target != NO_TARGET])

    alone = torch.cat([logits([q]) for q in QUESTIONS])
    assert torch.allclose(logits(QUESTIONS), alone, atol=1e-5)


def test_a_sample_keeps_within_its_limit(samples: SampleEncoder) -> None:
    tiling = plan(*SIZE, samples.config.tiling)
    whole = samples.encode(QUESTIONS, SIZE, tiling, 10_000)
    cut = samples.encode(QUESTIONS, SIZE, tiling, len(whole.ids) - 1)
    assert len(cut.tasks) == 2
    assert len(cut.ids) < len(whole.ids)


def test_window_keeps_what_lies_inside_a_tile(samples: SampleEncoder) -> None:
    tiling = plan(56, 112, samples.config.tiling)
    assert tiling.grid == (2, 1)
    inside = {"text": "a", "box": [0, 60, 20, 80]}
    across = {"text": "b", "box": [0, 50, 20, 70]}
    row = {"texts": [inside, across], "elements": []}
    (kept,) = window(row, tiling, 1)["texts"]
    assert kept["box"] == pytest.approx([0, 2, 10, 12])


def test_words_belong_to_the_visual_token_that_holds_their_end(
    samples: SampleEncoder,
) -> None:
    tiling = plan(56, 112, samples.config.tiling)  # two tiles of 28 px, scale 1/2
    tokenizer = samples.encoder.tokenizer
    # 2 × 2 visual tokens a tile, 28 px of the picture each
    line = {"text": "aa", "box": [20, 60, 40, 70], "edges": [20, 30, 40]}
    row = {"texts": [line], "elements": []}
    pairs = visual_words(row, tiling, tokenizer, [0, 1], 2)
    # both ends lie right of the middle, in the lower tile's first row
    assert pairs == [(5, token) for token in tokenizer.encode("aa")]


def test_answer_loss_is_cross_entropy_with_spread_numbers() -> None:
    loss = AnswerLoss(first=4, count=5, spread=1.0)
    logits = torch.randn(3, 12)
    target = torch.tensor([1, 6, 11])
    log = logits.log_softmax(-1)
    soft = torch.softmax(-(torch.arange(5) - 2.0).abs(), -1)
    hand = -(3 * log[0, 1] + (soft * log[1, 4:9]).sum() + log[2, 11]) / 5
    value = loss(logits, target, torch.tensor([3.0, 1.0, 1.0]))
    assert value.item() == pytest.approx(hand.item(), abs=1e-5)


def test_near_locations_start_near(config: ModelConfig) -> None:
    model = MM15(config)
    init_locations(model, 13)
    table = model.decoder.embed_tokens.weight[13 : 13 + 1001].detach()
    near = torch.nn.functional.cosine_similarity(table[500], table[502], dim=0)
    far = torch.nn.functional.cosine_similarity(table[500], table[900], dim=0)
    assert near > 0.8 > abs(far) + 0.2


def test_cells_take_the_class_at_their_centre() -> None:
    labels = np.zeros((1, 28, 28), np.uint8)
    labels[0, 0:7, 3:7] = 9  # the second cell of the first patch's first row
    picked = cells(labels, 14)
    assert picked.shape == (1, 4, CELLS_Y * CELLS_X)
    assert np.argwhere(picked).tolist() == [[0, 0, 1]]


def test_schedule_warms_up_holds_and_decays() -> None:
    assert schedule(0, 1000, 100) == pytest.approx(0.01)
    assert schedule(500, 1000, 100) == 1.0
    assert schedule(1000, 1000, 100) == pytest.approx(0.05)


def test_a_shipped_tensor_goes_back_to_the_torch_layout() -> None:
    conv = torch.randn(8, 3, 14, 14)
    linear = conv.permute(0, 2, 3, 1).reshape(8, -1)
    assert torch.equal(
        in_torch_layout("encoder.patch_embedding.weight", linear, conv), conv
    )
    deep = torch.randn(8, 1, 3, 3)
    assert torch.equal(in_torch_layout("c", deep.permute(0, 2, 3, 1), deep), deep)
    point = torch.randn(8, 4, 1, 1)
    assert torch.equal(in_torch_layout("c", point.flatten(1), point), point)
