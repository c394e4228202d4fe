"""Frames of a flow: what their last tokens gather and say of when they came, where the
numbers of an order look, and what a part of the visual tokens costs nothing of."""

import json
import math
from pathlib import Path
from random import Random

import pytest
import torch

from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.convert.mm15_torch import several
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.frames import (
    SCALE,
    evenly,
    frame_losses,
    kept_tokens,
)
from mm15_mlx.convert.mm15_torch.looking import halving_heads
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.packed import Look, States, packed_states
from mm15_mlx.convert.mm15_torch.samples import SampleEncoder
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.questions import Question
from mm15_mlx.tiling import plan
from tests.parity.test_recipe import Make, make, tiny  # noqa: F401

pytestmark = pytest.mark.parity

SIZE = (480, 960)


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return PRESETS["nano-ui"]


# -- a part of the visual tokens -------------------------------------------------------


def test_text_and_the_last_token_of_each_frame_are_kept() -> None:
    torch.manual_seed(0)
    image = torch.tensor([False, *[True] * 1600, False])
    kept = kept_tokens(image, 4)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert {0, 400, 800, 1200, 1600, 1601} <= set(kept.tolist())
    of_frames = torch.bincount((kept[1:-1] - 1) // 400)
    assert of_frames.tolist() == [100] * 4
    assert not torch.equal(kept, kept_tokens(image, 4))  # by chance


def test_what_is_left_out_leaves_the_places_of_the_rest(config: ModelConfig) -> None:
    """Positions are relative: without what comes first, all is as if at its start."""
    torch.manual_seed(0)
    decoder, width = MM15(config).decoder, config.text_config.hidden_size
    prefix, asked = torch.randn(1, 30, width), torch.randn(1, 2, 3, width)
    alone = packed_states(decoder, prefix, asked)[-1]
    behind = packed_states(decoder, prefix, asked, places=torch.arange(7, 37))[-1]
    for one, other in zip(alone[:2], behind[:2], strict=True):
        assert (one - other).abs().max() < 1e-4
    gap = torch.cat([torch.arange(15), torch.arange(22, 37)])
    apart = packed_states(decoder, prefix, asked, places=gap)[-1]
    assert (apart[0][:, :15] - alone[0][:, :15]).abs().max() < 1e-4
    assert (apart[0][:, 15:] - alone[0][:, 15:]).abs().max() > 1e-2
    assert (apart[1] - alone[1]).abs().max() > 1e-2


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


# -- what frames say -------------------------------------------------------------------


def look_by(queries: torch.Tensor, keys: torch.Tensor) -> Look:
    """Of one head: of the prompt's tokens and of one question's, which all ask alike.
    queries, keys (P, E)."""
    own, keys = queries[None, None], keys[None, None]
    total = (own @ keys.transpose(2, 3)).logsumexp(-1)
    return Look(own[:, :, None], keys, total[:, :, None], own, total)


def test_the_last_token_of_a_frame_gathers_all_of_it_evenly() -> None:
    torch.manual_seed(0)
    places = torch.arange(1, 9).view(2, 4)  # two frames of four, after one of text
    own, keys = torch.zeros(9, 2), torch.zeros(9, 2)
    keys[1:5, 0] = keys[5:, 1] = 20.0
    own[4, 0] = own[8, 1] = 1.0
    right = evenly(look_by(own, keys), 0, places)
    assert right.shape == (8,) and right.abs().max() < 2e-3
    swapped = evenly(look_by(own.flip(1), keys), 0, places)
    assert swapped.min() > 6  # each at the other's
    some = keys.clone()
    some[1:3] = 0  # half of the first frame
    half = evenly(look_by(own, some), 0, places)
    assert half[:2].min() > 6 and half[2:4] == pytest.approx(-math.log(2), abs=0.01)
    assert half.mean() > right.mean()


def flow(steps: list[int]) -> list[Screen]:
    row = {"id": "1", "width": SIZE[0], "height": SIZE[1], "texts": [], "elements": []}
    tiling = plan(*SIZE, PRESETS["nano-ui"].tiling, 4)
    return [Screen({**row, "flow": {"step": step}}, tiling) for step in steps]


def asked_for(samples: SampleEncoder, order: str) -> tuple[object, dict[int, int]]:
    """The question with that answer, and the tokens of the numbers."""
    shown = flow([0] * 4)
    question = Question("order", "In which order?", order)
    asked = samples.ask(question, [SIZE] * 4, [s.tiling for s in shown], 100)
    tokenizer = samples.encoder.tokenizer
    return asked, {tokenizer.encode(str(k + 1))[0]: k for k in range(4)}


def states_of(scores: list[float], asked: int, named: list[int] | None) -> States:
    """After five layers: the last of each frame's two tokens holds its score, and the
    positions of an answer look at last tokens in turn as `named`."""
    prompt = torch.zeros(1, 8, 1)
    prompt[0, 1::2, 0] = torch.tensor(scores)
    keys = 30.0 * torch.eye(8)
    own = torch.zeros(8, 8)
    asking = torch.zeros(asked, 8)
    for t, k in enumerate(named or []):
        asking[t, 2 * k + 1] = 1.0
    heads = 6
    total = torch.logsumexp(asking @ keys.T, -1)
    own_total = (own @ keys.T).logsumexp(-1)

    def per_head(x: torch.Tensor) -> torch.Tensor:
        return x.expand(1, heads, *x.shape)

    look = Look(per_head(asking[None]), per_head(keys), per_head(total[None]),
                per_head(own), per_head(own_total))  # fmt: skip
    return [(prompt, torch.zeros(1, 1, asked, 1), look)] * 5


def test_numbers_of_an_order_look_at_the_frames_they_name(
    config: ModelConfig, samples: SampleEncoder
) -> None:
    asked, numbers = asked_for(samples, "2, 4, 1, 3")
    image = torch.ones(8, dtype=torch.bool)

    def lost(*turns: int) -> float:
        named = [0] * len(asked.ids)
        at = [t for t, target in enumerate(asked.target) if target in numbers]
        assert len(at) == 4
        for t, k in zip(at, turns, strict=True):
            named[t] = k
        states = states_of([0.0] * 4, len(named), named)
        told = frame_losses(Aids(1), lambda x: x, states, [(flow([2, 0, 3, 1]), asked)],
                            image, numbers, config)  # fmt: skip
        return told["naming_frames"].item()

    assert lost(1, 3, 0, 2) < 0.01
    assert lost(1, 3, 2, 0) == pytest.approx(-math.log(1e-3) / 2, abs=0.1)


def test_an_order_is_scored_by_all_pairs_of_frames(
    config: ModelConfig, samples: SampleEncoder
) -> None:
    asked, numbers = asked_for(samples, "2, 1, 3, 4")
    aids = Aids(1)
    torch.nn.init.constant_(aids.late.weight, 1 / SCALE)
    states = states_of([2.0, 0.0, 1.0, 5.0], len(asked.ids), None)
    told = frame_losses(aids, lambda x: x, states, [(flow([1, 0, 2, 3]), asked)],
                        torch.ones(8, dtype=torch.bool), numbers, config)  # fmt: skip
    apart = torch.tensor([2.0, -1.0, 1.0, 3.0, 5.0, 4.0])  # later less earlier
    assert told["ordering"].item() == pytest.approx((1 + (-apart).exp()).log().mean())


def test_the_looking_heads_are_those_of_boxes(config: ModelConfig) -> None:
    assert halving_heads(config.text_config) == [0, 3]  # the last gathers


# -- their batches ---------------------------------------------------------------------


def as_flow(folder: Path) -> None:
    """The screens in `folder` become a flow of four."""
    path = folder / "screens.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows.append({**rows[0], "id": "3"})
    for k, row in enumerate(rows):
        row |= {"seed": 0, "flow": {"number": 0, "step": k, "of": 4, "change": None}}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def flows(
    make: Make,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Make:
    as_flow(tmp_path / "screens")
    monkeypatch.setattr(several, "SHARES", {"flow": 1.0})
    return make


def test_a_batch_has_several_flows(flows: Make) -> None:
    draws = flows("--several", 1).draws
    shown, batch, there = draws.together(Random(0))
    assert len(shown) == 4 * several.FLOWS and there == [[None]] * several.FLOWS
    for k in range(several.FLOWS):
        mine = shown[4 * k : 4 * k + 4]
        assert all(len(s.tiling.indices) == 1 for s in mine)  # not split
        assert torch.equal(draws.prefix(mine), batch.prefix)
    assert batch.ids.shape[:2] == (several.FLOWS, 1)


@torch.enable_grad()
def test_a_step_on_flows(flows: Make) -> None:
    stats = flows("--several", 1, "--whole").train_step()
    names = ("loss", "gathering", "ordering", "naming_frames", "telling")
    assert all(math.isfinite(stats[f"frames_{name}"]) for name in names)
    assert stats["frames_ordering"] > 0 and stats["frames_naming_frames"] > 0
    assert not any(name.startswith("several_") for name in stats)
