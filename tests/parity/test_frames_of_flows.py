"""Where the numbers of an order look, and the tokens of a picture at those before."""

import pytest
import torch

from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.convert.mm15_torch.looking import shown_together
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.packed import packed_states
from mm15_mlx.convert.mm15_torch.samples import SampleEncoder
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.questions import Question
from mm15_mlx.tiling import plan

pytestmark = pytest.mark.parity

SIZE = (480, 960)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return PRESETS["nano-ui"]


def test_numbers_of_an_order_look_at_the_frames_they_name(
    config: ModelConfig, samples: SampleEncoder
) -> None:
    row = {"id": "1", "width": SIZE[0], "height": SIZE[1], "texts": [], "elements": []}
    frames = [Screen(row, plan(*SIZE, config.tiling, 4))] * 4
    question = Question("order", "In which order?", "2, 4, 1, 3")
    asked = [samples.ask(question, [SIZE] * 4, [s.tiling for s in frames], 100)]
    tokenizer = samples.encoder.tokenizer
    numbers = {tokenizer.encode(str(k + 1))[0]: k for k in range(4)}
    shown = shown_together(frames, asked, [None], numbers, 20)
    assert [s.start for s in shown] == [0, 400, 800, 1200]  # not split
    seen = {}
    for k, one in enumerate(shown):
        (mine,) = one.asked
        assert mine.about.count([0, 0, *SIZE]) == 1 and mine.about.count(None) > 5
        seen[mine.about.index([0, 0, *SIZE])] = k
    assert [seen[at] for at in sorted(seen)] == [1, 3, 0, 2]


def test_a_token_gives_all_to_those_before_it_or_to_itself(config: ModelConfig) -> None:
    torch.manual_seed(0)
    decoder = MM15(config).decoder
    width = config.text_config.hidden_size
    states = packed_states(
        decoder, torch.randn(2, 400, width), torch.randn(2, 1, 3, width)
    )
    for at in (0, 383, 384, 399):  # on both sides of a block's edge
        before = torch.arange(at + 1)
        for head in range(config.text_config.num_key_value_heads):
            own = states[1][2].own_weights(1, head, torch.full_like(before, at), before)
            assert own.sum().item() == pytest.approx(1, abs=1e-5)
            assert at == 0 or own.max() < 0.99
