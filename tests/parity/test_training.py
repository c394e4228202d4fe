"""The trainer of nano-ui: a packed sample is the same as its questions asked alone."""

import dataclasses
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch

from mm15_mlx.config import PRESETS, CoordinateConfig, ModelConfig
from mm15_mlx.convert.mm15 import convert_mm15
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.blend import blend
from mm15_mlx.convert.mm15_torch.export import PARTS
from mm15_mlx.convert.mm15_torch.losses import AnswerLoss, init_locations
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.optimizing import optimizers, schedule, update
from mm15_mlx.convert.mm15_torch.packed import Attend, future, packed_states
from mm15_mlx.convert.mm15_torch.perception import (
    Heads,
    Perception,
    box_loss,
    class_loss,
    init_positions,
)
from mm15_mlx.convert.mm15_torch.pieces import visual_words
from mm15_mlx.convert.mm15_torch.restore import in_torch_layout, restored
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET, SampleEncoder, collate
from mm15_mlx.convert.mm15_torch.targets import (
    ICON_OF,
    TYPE_OF,
    in_model,
    in_tiles,
    page_glyphs,
    screen_targets,
)
from mm15_mlx.grounding import split_regions
from mm15_mlx.prompt import ImageSlot, Piece, Turn
from mm15_mlx.screens.questions import Question
from mm15_mlx.tiling import plan

pytestmark = pytest.mark.parity

QUESTIONS = [
    Question("find_text", 'Where is the text "Save"?', "<box>10,20,50,40</box>"),
    Question("ocr", "What text is displayed in the element <box>1,2,30,9</box>?", "Hi"),
    Question("state", "Is the Wi-Fi switch on? It is <box>1,2,3,4</box>.", "No"),
]  # fmt: skip
SIZE = (100, 220)
CANVAS = CoordinateConfig(format="tokens", frame="canvas")


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    nano = PRESETS["nano-ui"]
    return dataclasses.replace(
        nano,
        vision_config=dataclasses.replace(
            nano.vision_config, hidden_size=64, intermediate_size=96,
            num_hidden_layers=1, num_attention_heads=1, image_size=28, patch_size=14,
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


def test_a_question_is_what_a_user_would_ask(samples: SampleEncoder) -> None:
    tiling = plan(*SIZE, samples.config.tiling)
    prefix, _ = samples.question_ids("", [SIZE], [tiling])
    asked = samples.ask(QUESTIONS[0], [SIZE], [tiling], 10_000)
    assert asked is not None
    turn = Turn("user", [ImageSlot(0), QUESTIONS[0].prompt])
    prompt = samples.encoder.encode([turn], [tiling])
    assert (prefix + asked.ids)[: len(prompt)] == prompt
    answer = samples.answer_ids(QUESTIONS[0].answer, [SIZE], [tiling])
    assert [t for t in asked.target if t != NO_TARGET] == answer
    # where the prompt ends, the answer's first token is to be predicted
    assert asked.target[len(prompt) - len(prefix) - 1] == answer[0]
    assert samples.config.prompt.image_token_id not in answer


def test_a_conversation_is_what_a_user_would_have(samples: SampleEncoder) -> None:
    tiling = plan(*SIZE, samples.config.tiling)
    regions = samples.config.coordinates.range
    prefix, _ = samples.question_ids("", [SIZE], [tiling])
    talk = samples.converse(QUESTIONS, [SIZE], [tiling], 10_000)
    assert talk is not None
    said: list[Piece] = [ImageSlot(0)]
    turns = []
    for question in QUESTIONS:
        said += split_regions(question.prompt, [SIZE], regions)
        answer = split_regions(question.answer, [SIZE], regions)
        turns += [Turn("user", said), Turn("assistant", answer)]
        said = []
    assert prefix + talk.ids == samples.encoder.encode(turns, [tiling])[:-1]
    # every answer is to be predicted with its end, and nothing between them
    answers = [samples.answer_ids(q.answer, [SIZE], [tiling]) for q in QUESTIONS]
    assert [t for t in talk.target if t != NO_TARGET] == sum(answers, [])
    follows = dict(zip(range(len(talk.ids)), talk.ids[1:], strict=False))
    assert all(t in (NO_TARGET, follows.get(k, t)) for k, t in enumerate(talk.target))
    alone = [samples.ask(q, [SIZE], [tiling], 10_000) for q in QUESTIONS]
    for name in ("about", "line", "lined", "coordinate", "end"):
        assert len(getattr(talk, name)) == len(talk.ids), name
    for name in ("about", "line"):
        told = [v for a in alone for v in getattr(a, name) if v]
        assert [v for v in getattr(talk, name) if v] == told, name


def test_what_is_too_long_is_no_turn(samples: SampleEncoder) -> None:
    tiling = plan(*SIZE, samples.config.tiling)
    alone = [samples.ask(q, [SIZE], [tiling], 10_000) for q in QUESTIONS]
    limit = min(len(a.ids) for a in alone)
    talk = samples.converse(QUESTIONS, [SIZE], [tiling], limit)
    assert talk is not None and len(talk.ids) == limit
    assert samples.converse(QUESTIONS, [SIZE], [tiling], 1) is None


def test_packed_questions_are_the_questions_asked_alone(samples: SampleEncoder) -> None:
    config = samples.config
    torch.manual_seed(0)
    model = MM15(config).eval()
    tiling = plan(*SIZE, config.tiling)
    pixels = torch.randn(len(tiling.indices), 3, 28, 28)
    prefix, _ = samples.question_ids("", [SIZE], [tiling])
    asked = [samples.ask(q, [SIZE], [tiling], 10_000) for q in QUESTIONS]
    batch = collate(
        torch.tensor(prefix), [asked, asked[:2]]
    )  # of other lengths and numbers
    image_id = config.prompt.image_token_id
    with torch.no_grad():
        pooled = model.connector.pooled(model.encoder(pixels))
        visual = model.connector.readout(pooled)
        twice = torch.cat([visual, visual])
        x = model.embed_inputs(batch.prefix.expand(2, -1), twice, image_id)
        questions = model.decoder.embed_tokens(batch.ids)
        states = packed_states(model.decoder, x, questions)
        for b, k in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
            ids = torch.tensor([prefix + asked[k].ids])
            logits = model(ids, pixels, image_id)[0, len(prefix) :]
            packed = model.decoder.logits(model.decoder.norm(states[-1][1][b, k]))
            assert torch.allclose(packed[: len(logits)], logits, atol=1e-5)
        # what a position does not give to the picture it gives to its question
        look = states[0][2].weights(0, torch.tensor([0, 1]), torch.tensor([0, 0]))
        assert look.shape == (config.text_config.num_key_value_heads, 2, len(prefix))
        assert (look.sum(-1) < 1).all() and (look.sum(-1) > 0).all()
    assert (batch.target[1, 2] == NO_TARGET).all()  # the one that fills up


@torch.enable_grad()
def test_attention_is_what_torch_makes_of_it_with_its_gradients() -> None:
    for hidden in (None, future(6, 2, 3)):  # 2 heads × 6 queries, 9 keys
        q = torch.randn(3, 12, 8, requires_grad=True)
        k, v = (torch.randn(3, 9, 8, requires_grad=True) for _ in range(2))
        out, log = Attend.apply(q, k, v, hidden)
        scores = q @ k.transpose(1, 2)
        if hidden is not None:
            scores = scores.masked_fill(hidden, -torch.inf)
        plain = scores.softmax(-1) @ v, scores.logsumexp(-1, keepdim=True)
        weights = torch.randn_like(out), torch.randn_like(log)
        found, expected = (
            torch.autograd.grad(
                sum((x * w).sum() for x, w in zip(y, weights, strict=True)), (q, k, v)
            )
            for y in ((out, log), plain)
        )
        for a, b in zip((out, log, *found), (*plain, *expected), strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_a_question_beyond_the_limit_is_left_out(samples: SampleEncoder) -> None:
    tiling = plan(*SIZE, samples.config.tiling)
    asked = samples.ask(QUESTIONS[0], [SIZE], [tiling], 10_000)
    assert asked is not None
    assert samples.ask(QUESTIONS[0], [SIZE], [tiling], len(asked.ids)) == asked
    assert samples.ask(QUESTIONS[0], [SIZE], [tiling], len(asked.ids) - 1) is None


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
    assert [p[:2] for p in pairs] == [(5, token) for token in tokenizer.encode("aa")]


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


def test_every_patch_is_to_name_what_it_shows() -> None:
    tiling = plan(480, 960, PRESETS["nano-ui"].tiling)  # two tiles, scale 1
    assert tiling.grid == (2, 1)
    line = {"text": "ab", "box": [40, 496, 56, 512], "edges": [40, 48, 56]}
    row = {
        "texts": [line],
        "elements": [
            {"type": "button", "icon": "", "box": [24, 480, 120, 552]},
            {"type": "icon", "icon": "search", "box": [24, 480, 48, 504]},
        ],
    }
    targets = screen_targets(row, tiling)
    assert not targets.glyphs[0].any() and not targets.types[0].any()
    # characters of 8 × 16 px: two cells wide, two high, across four patches
    cells = targets.glyphs[1, 0, 1].reshape(3, 6)
    assert cells.tolist() == [[0] * 6, [0] * 6, [0, 0, 0, 0, 1, 1]]
    assert targets.glyphs[1, 1, 2].reshape(3, 6)[:, 0].tolist() == [2, 0, 0]
    assert targets.types[1, 0, 1] == TYPE_OF["icon"]  # the innermost
    assert targets.icons[1, 0, 1] == ICON_OF["search"]
    assert targets.types[1, 1, 1] == TYPE_OF["button"]
    assert targets.types[1, 0, 6] == 0
    assert targets.texts[1, 0, 1].tolist() == line["box"]
    local = in_tiles(targets.texts, tiling)[1, 0, 1]
    assert local.tolist() == [40, 16, 56, 32]
    numbers = in_model(targets.texts[1, 0, 1], tiling, CANVAS)
    assert numbers.tolist() == [83, 517, 117, 533]


def test_a_place_in_a_tile_is_one_number_whatever_the_picture_is() -> None:
    config = PRESETS["nano-ui"]
    for height in (800, 880, 960):  # all on a canvas of two tiles
        tiling = plan(480, height, config.tiling)
        box = np.array([48.0, 240.0, 96.0, 480.0])
        assert in_model(box, tiling, CANVAS).tolist() == [100, 250, 200, 500]


def test_a_place_in_a_tile_is_one_number_whatever_tiles_follow() -> None:
    numbers = CoordinateConfig(format="tokens", frame="tiles", per_tile=250)
    box = np.array([48.0, 240.0, 96.0, 480.0])
    for size in ((480, 480), (480, 960), (960, 960), (480, 1920)):
        tiling = plan(*size, PRESETS["nano-ui"].tiling)
        assert in_model(box, tiling, numbers).tolist() == [25, 125, 50, 250]


def test_a_box_over_the_edge_of_a_tile_ends_there_for_the_tile() -> None:
    tiling = plan(480, 960, PRESETS["nano-ui"].tiling)
    element = {"type": "image", "icon": "", "box": [0, 300, 480, 600]}
    targets = screen_targets({"texts": [], "elements": [element]}, tiling)
    local = in_tiles(targets.elements, tiling)
    assert local[0, 15, 5].tolist() == [0, 300, 480, 480]
    assert local[1, 2, 5].tolist() == [0, 0, 480, 120]
    assert in_model(targets.elements[1, 2, 5], tiling, CANVAS)[1] == 312


def test_pointing_is_a_distribution_over_the_tokens() -> None:
    aids = Aids(width=8)
    chances = aids.pointing(torch.randn(3, 8), torch.randn(5, 8)).exp().sum(-1)
    assert torch.allclose(chances, torch.ones(3), atol=1e-5)
    read = aids.boxes("texts", torch.randn(3, 8))
    assert read.shape == (3, 4, 8)


def test_page_cells_take_the_class_at_their_centre() -> None:
    classes = np.zeros((1, 48, 48), np.uint8)
    classes[0, 0:8, 5:8] = 9  # the second cell of the first patch's first row
    picked = page_glyphs(classes)
    assert picked.shape == (1, 2, 2, 18)
    assert np.argwhere(picked).tolist() == [[0, 0, 0, 1]]


def test_heads_name_the_patches_of_a_token_in_their_places() -> None:
    heads = Heads(width=4, side=2)
    glyphs, *_ = heads(torch.randn(1, 9, 4))
    assert glyphs.shape[:3] == (1, 6, 6)
    with torch.no_grad():
        heads.out.weight.zero_()
        heads.out.bias.copy_(
            torch.arange(4).repeat_interleave(len(heads.out.bias) // 4)
        )
    glyphs, *_ = heads(torch.randn(1, 9, 4))
    assert glyphs[0, :4, :4, 0].tolist() == [[0, 1, 0, 1], [2, 3, 2, 3]] * 2


def test_a_right_box_costs_nothing() -> None:
    boxes = torch.full((1, 2, 2, 4), torch.nan)
    boxes[0, 1, 0] = torch.tensor([8.0, 32.0, 34.0, 42.0])  # the middle is (12, 36)
    out = torch.zeros(1, 2, 2, 4)
    out[0, 1, 0] = torch.tensor([-4.0, -4.0, 22.0, 6.0]) / 24
    loss, right = box_loss(out, boxes)
    assert loss.item() == pytest.approx(0, abs=1e-6) and right == 1.0
    worse, _ = box_loss(out + 1, boxes)
    assert worse > 0.1


def test_class_loss_counts_what_is_there() -> None:
    target = torch.tensor([0, 0, 2, 1])
    logits = 20 * torch.nn.functional.one_hot(torch.tensor([1, 0, 2, 2]), 3).float()
    _, right = class_loss(logits, target, 1.0)
    assert right == 0.5


def test_positions_tell_the_patches_of_a_token_apart(config: ModelConfig) -> None:
    model = Perception(config)  # a view of 2 × 2 patches … one token each
    model.token_heads.side = 2
    features = 6 + 2 * torch.randn(3, 4, 64)
    init_positions(model, features)
    table = model.connector.pos_emb[0].detach()
    assert (features.mean((0, 1)) + table.mean(0)).abs().mean() < 3
    apart = torch.cdist(table, table) + 100 * torch.eye(4)
    assert apart.min() > 5


@torch.enable_grad()
def test_a_gradient_that_is_not_finite_stops_the_run() -> None:
    layer = torch.nn.Linear(2, 2)
    opts = [torch.optim.SGD(layer.parameters(), lr=0.1)]
    before = layer.weight.detach().clone()
    with pytest.raises(FloatingPointError, match="the gradient's norm is nan"):
        update(layer(torch.full((1, 2), torch.nan)).sum(), opts, 0.1)
    assert torch.equal(layer.weight, before)


@torch.enable_grad()
def test_one_by_one_convolutions_are_trained_as_matrices() -> None:
    model = torch.nn.Sequential()
    model.add_module("net", torch.nn.Sequential(torch.nn.Conv2d(4, 3, 1)))
    before = model.net[0].weight.detach().clone()
    opts = optimizers(model, 0.1)
    assert [p.shape for p in opts[0].param_groups[0]["params"]] == [(3, 4)]
    update(model(torch.ones(1, 4, 2, 2)).sum(), opts, 0.1)
    assert (model.net[0].weight - before).abs().min() > 0
    assert model.net[0].weight.grad is None  # the next gradient is not added to it


def test_schedule_warms_up_holds_and_decays() -> None:
    assert schedule(0, 1000, 100) == pytest.approx(0.01)
    assert schedule(500, 1000, 100) == 1.0
    assert schedule(750, 1000, 100) == pytest.approx(0.525)
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


def test_a_blend_lies_between_two_checkpoints() -> None:
    before, after = {"a": torch.zeros(2)}, {"a": torch.tensor([1.0, 4.0])}
    assert blend(before, after, 0.25)["a"].tolist() == [0.25, 1.0]
    assert blend(before, after, 1)["a"].tolist() == [1.0, 4.0]
    with pytest.raises(ValueError, match="b is in one of the checkpoints only"):
        blend(before, after | {"b": torch.ones(1)}, 0.5)
    with pytest.raises(ValueError, match=r"a has the shapes \(2,\) and \(3,\)"):
        blend(before, {"a": torch.zeros(3)}, 0.5)


def test_what_ships_can_be_trained_on(tmp_path: Path) -> None:
    """export, then restore: the numbers of the folder, its packed tables unpacked."""
    config = PRESETS["nano-ui"]
    torch.manual_seed(0)
    model = MM15(config)
    arrays = {k: v.numpy() for k, v in model.state_dict().items()}
    folder = tmp_path / "m"
    convert_mm15(arrays, config, folder, dtype=mx.float16, parts=PARTS)
    assert (folder / "model.safetensors").stat().st_size < 40e6
    for name, found in restored(folder, model).items():
        given = model.state_dict()[name]
        assert found.shape == given.shape
        step = (
            2.0**-10 if "embed_tokens" not in name and "lm_head" not in name else 2e-2
        )
        assert (found - given).abs().max() <= step * given.abs().max().clamp(min=1)
