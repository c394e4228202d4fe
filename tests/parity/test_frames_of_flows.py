"""Frames of a flow: what their tokens say of when they came, where the numbers of an
order look, and what a part of the visual tokens costs nothing of."""

import json
import math
from pathlib import Path
from random import Random

import pytest
import torch

from mm15_mlx.config import PRESETS, ModelConfig, UserError
from mm15_mlx.convert.mm15_torch import several
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.frames import (
    SCALE,
    frame_losses,
    kept_tokens,
    late_losses,
)
from mm15_mlx.convert.mm15_torch.lateness import fitted
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.packed import Look, States, packed_states
from mm15_mlx.convert.mm15_torch.samples import SampleEncoder
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.questions import Question
from mm15_mlx.tiling import plan
from tests.parity.test_recipe import RECIPE, Make, make, tiny  # noqa: F401

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
    of_frames = (kept[1:-1] - 1).view(4, 100)  # the same places in each
    assert torch.equal(of_frames, of_frames[0] + 400 * torch.arange(4)[:, None])
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


def test_an_order_is_scored_by_all_pairs_of_frames() -> None:
    late = torch.tensor([[2.0, 4.0], [0.0, 0.0], [1.0, 5.0]]) / SCALE
    together, each = late_losses(late, torch.tensor([1, 0, 2]))
    apart = torch.tensor([3.0, 0.0, 3.0])  # later less earlier
    assert together.sum().item() == pytest.approx((1 + (-apart).exp()).log().sum())
    apart = torch.tensor([[2.0, 4.0], [-1.0, 1.0], [1.0, 5.0]])
    assert each.sum().item() == pytest.approx((1 + (-apart).exp()).log().sum())


@torch.enable_grad()
def test_tokens_learn_to_score_how_late_they_are() -> None:
    """From what comes little by little, whatever else they show."""
    torch.manual_seed(0)
    aids = Aids(8)
    opt = torch.optim.Adam(aids.late[0].parameters(), lr=2e-3)
    losses = []
    for _ in range(150):
        steps = torch.randperm(4)
        tokens = torch.randn(4, 16, 8)
        tokens[..., 2] += 4 * steps[:, None]
        opt.zero_grad()
        loss = late_losses(aids.late[0](tokens)[..., 0], steps)[1].mean()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(2)) and losses[-1] < 0.1


def test_a_score_is_fitted_to_what_other_flows_are_ordered_by_too() -> None:
    """One direction of many tells the time; what else frames show is noise."""
    torch.manual_seed(0)
    means = torch.randn(240, 4, 32)
    means[..., 3] += 1.5 * torch.arange(4)
    score = means[120:] @ fitted(means[:120])
    assert (score[:, 1:] > score[:, :-1]).float().mean() > 0.8
    assert fitted(means[:120]).abs().argmax() == 3


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


def states_of(asked: int, named: list[int]) -> States:
    """After five layers: of four frames of two tokens, the positions of an answer look
    at one of those of the frames `named`."""
    keys, asking = 30.0 * torch.eye(8), torch.zeros(asked, 8)
    for t, k in enumerate(named):
        asking[t, 2 * k + t % 2] = 1.0
    total = torch.logsumexp(asking @ keys.T, -1)

    def per_head(x: torch.Tensor) -> torch.Tensor:
        return x.expand(1, 6, *x.shape)

    nothing = torch.zeros(0)
    look = Look(per_head(asking[None]), per_head(keys), per_head(total[None]), nothing,
                nothing)  # fmt: skip
    return [(torch.zeros(1, 8, 1), torch.zeros(1, 1, asked, 1), look)] * 5


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
        told = frame_losses(
            Aids(1), torch.nn.Identity(), torch.zeros(4, 3, 1),
            states_of(len(named), named), [(flow([2, 0, 3, 1]), asked)], image,
            numbers, config,
        )  # fmt: skip
        for name in ("ordering", "each_ordering", "half_way"):  # all alike
            assert told[name].item() == pytest.approx(math.log(2))
        return told["naming_frames"].item()

    assert lost(1, 3, 0, 2) < 0.01
    assert lost(1, 3, 2, 0) == pytest.approx(-math.log(1e-3) / 2, abs=0.1)


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
    assert len(shown) == 4 * several.FLOWS and there == [[(None, None)]] * several.FLOWS
    for k in range(several.FLOWS):
        mine = shown[4 * k : 4 * k + 4]
        assert all(len(s.tiling.indices) == 1 for s in mine)  # not split
        assert torch.equal(draws.prefix(mine), batch.prefix)
    assert batch.ids.shape[:2] == (several.FLOWS, 1)


def test_the_score_begins_fitted_to_the_flows(flows: Make) -> None:
    trainer = flows(f"@{RECIPE / 'several-whole.args'}", "--lines", 0)
    assert trainer.args.whole and trainer.args.fit_late
    (rows,) = trainer.draws.several.series["flow"]
    shown = [trainer.draws.several.shown(row, 4) for row in rows]
    tokens = trainer.model.decoder.norm(trainer.visual(shown)[0])
    together, _ = late_losses(trainer.aids.late[0](tokens)[..., 0], torch.arange(4))
    assert together.mean().item() < 0.95 * math.log(2)


@pytest.mark.parametrize("flag", ["--fit-late", "--order-heads"])
def test_a_beginning_needs_flows(flag: str, make: Make) -> None:  # noqa: F811
    with pytest.raises(UserError, match=f"{flag}: no flows in .*screens; make some"):
        make("--several", 1, "--whole", flag)


@torch.enable_grad()
def test_a_step_on_flows(flows: Make) -> None:
    stats = flows("--several", 1, "--whole").train_step()
    scores = "ordering", "each_ordering", "half_way"
    names = ("loss", *scores, "naming_frames", "telling")
    assert all(math.isfinite(stats[f"frames_{name}"]) for name in names)
    assert stats["frames_ordering"] > 0 and stats["frames_naming_frames"] > 0
    assert not any(name.startswith("several_") for name in stats)
