"""Screens that are shown together: what their tokens are to say of each other, and how
they are drawn; and what a processor without half precision needs."""

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch

from mm15_mlx.convert.mm15_torch import half, optimizing
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.comparing import (
    HEAD,
    alongside_losses,
    comparing_losses,
    otherwise,
)
from mm15_mlx.convert.mm15_torch.optimizing import Muon
from mm15_mlx.convert.mm15_torch.packed import Look
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.tiling import plan
from tests.parity.test_recipe import Make, make, tiny  # noqa: F401

pytestmark = pytest.mark.parity


def views(*spots: tuple[int, int, int]) -> np.ndarray:
    """Two grey views of 48 px with some white pixels: (view, y, x)."""
    picture = np.full((2, 48, 48, 3), 128, np.uint8)
    for v, y, x in spots:
        picture[v, y : y + 3, x : x + 3] = 255
    return picture


def test_a_token_is_otherwise_where_pixels_differ() -> None:
    grey = views()
    assert not otherwise(grey, grey, 2).any()
    assert not otherwise(grey, grey + 20, 2).any()  # looks the same
    found = otherwise(views((0, 2, 30)), views((1, 40, 4)), 2)
    assert found.tolist() == [False, True, False, False, False, False, True, False]


def screens(*pictures: np.ndarray, size: tuple[int, int] = (48, 96)) -> list[Screen]:
    tiling = plan(*size, tiny().tiling)
    return [
        Screen({"width": size[0], "height": size[1]}, tiling, picture)
        for picture in pictures
    ]


@torch.enable_grad()
def test_tokens_learn_to_say_where_the_second_screen_is_otherwise() -> None:
    torch.manual_seed(0)
    config, aids = tiny(), Aids(8)
    pair = screens(views((0, 2, 30)), views((1, 40, 4)))
    states = torch.randn(1, 16, 8)
    opt = torch.optim.Adam(aids.otherwise.parameters(), lr=0.1)
    losses = []
    for _ in range(60):
        opt.zero_grad()
        loss = comparing_losses(aids, states, [pair], Path(), config)["comparing"]
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[0] > 0.4 and losses[-1] < 0.1
    named = aids.otherwise(states)[0, 8:, 0] > 0
    assert named.tolist() == otherwise(pair[0].views, pair[1].views, 2).tolist()


@torch.no_grad()
def test_what_differs_stands_out_of_all_tokens() -> None:
    aids, pair = Aids(8), screens(views((0, 2, 30)), views((1, 40, 4)))
    there = torch.from_numpy(otherwise(pair[0].views, pair[1].views, 2))

    def lost(states: torch.Tensor, shown: list[Screen] = pair) -> torch.Tensor | None:
        both = torch.cat([torch.zeros(8, 8), states])[None]
        found = comparing_losses(aids, both, [shown], Path(), tiny())
        return found.get("standing_out")

    flat = lost(torch.zeros(8, 8))
    assert flat is not None
    assert flat.item() == pytest.approx(math.log(8 / int(there.sum())), abs=1e-5)
    along = torch.zeros(8, 8)
    along[there] = 1000 * aids.otherwise.weight[0]
    right = lost(along)
    assert right is not None and right.item() == pytest.approx(0, abs=1e-4)
    assert lost(torch.zeros(8, 8), screens(views(), views())) is None  # all the same


def test_pictures_of_different_sizes_are_not_compared() -> None:
    first, second = screens(views())[0], screens(views(), size=(48, 90))[0]
    pair, states = [[first, second]], torch.randn(1, 16, 8)
    assert comparing_losses(Aids(8), states, pair, Path(), tiny()) == {}


def look_at(order: list[int], scale: float = 20.0) -> Look:
    """Two pictures of 16 tokens: tokens of the second look at those of the first in
    that order, after one token of text."""
    keys, queries = torch.zeros(1, 3, 33, 16), torch.zeros(1, 3, 33, 16)
    keys[0, HEAD, 1:17] = torch.eye(16)
    queries[0, HEAD, 17:] = scale * torch.eye(16)[order]
    total = (queries @ keys.transpose(2, 3)).logsumexp(-1)
    nothing = torch.zeros(0)
    return Look(nothing, keys, nothing, queries, total)


def test_tokens_look_at_the_same_place_of_the_picture_before() -> None:
    pair, image = [screens(views(), views())], torch.arange(1, 33)
    (right,) = alongside_losses(look_at(list(range(16))), pair, image)
    assert len(right) == 16 and right.max() < 0.01
    (elsewhere,) = alongside_losses(look_at([*range(1, 16), 0]), pair, image)
    assert elsewhere.min() > 6
    (nowhere,) = alongside_losses(look_at(list(range(16)), 0), pair, image)
    assert nowhere.mean().item() == pytest.approx(math.log(33), abs=0.1)
    mixed = [[screens(views())[0], screens(views(), size=(48, 90))[0]]]
    assert alongside_losses(look_at(list(range(16))), mixed, image) == []


def test_pictures_of_a_prompt_are_recoloured_alike(make: Make) -> None:  # noqa: F811
    trainer = make("--several", 1)
    seen = []
    encode = trainer.model.encoder.forward
    trainer.model.encoder.forward = lambda x: seen.append(x) or encode(x)
    same = [trainer.screens.items[0]] * 4
    trainer.visual(same, Random(0), pictures=2)
    first, second, third, fourth = seen[0].chunk(4)
    assert torch.equal(first, second) and torch.equal(third, fourth)
    assert not torch.equal(second, third)


@torch.enable_grad()
def test_aids_alone_are_trained(make: Make) -> None:  # noqa: F811
    trainer = make("--whole", "--aids-only", "--several", 0.3, "--read", 0.3)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    heads = {k: v.clone() for k, v in trainer.heads.state_dict().items()}
    aids = {k: v.clone() for k, v in trainer.aids.state_dict().items()}
    for _ in range(4):
        trainer.train_step()
        trainer.step += 1
    after = trainer.model.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    for part, old in ((trainer.heads, heads), (trainer.aids, aids)):
        assert any(not torch.equal(old[k], v) for k, v in part.state_dict().items())


# -- precision ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "faster"),
    [(0.3, True), (1.9, False), (3.0, False)],
    ids=["faster", "alike", "slower"],
)
def test_half_precision_only_where_it_is_clearly_faster(
    taken: float, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {torch.bfloat16: taken, torch.float32: 2.0}
    monkeypatch.setattr(half, "_seconds", times.__getitem__)
    half.faster.cache_clear()
    with half.autocast():
        made = torch.ones(2, 2) @ torch.ones(2, 2)
    half.faster.cache_clear()
    assert made.dtype == (torch.bfloat16 if faster else torch.float32)


@torch.enable_grad()
@pytest.mark.parametrize("shape", [(48, 32), (32, 48)])
def test_muon_in_float32_is_torchs(shape: tuple[int, int]) -> None:
    """To 1e-3 of a step's size 1e-2: PyTorch rounds to bfloat16 within a step."""
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    flags = {"lr": 0.02, "weight_decay": 0.01, "adjust_lr_fn": "match_rms_adamw"}
    opts = Muon([ours], **flags), torch.optim.Muon([theirs], **flags)
    for _ in range(5):
        grad = torch.randn(shape)
        before = theirs.detach().clone()
        ours.grad, theirs.grad = grad, grad.clone()
        for opt in opts:
            opt.step()
        assert (theirs - before).abs().mean() > 2e-3
        assert (ours - theirs).abs().max() < 1e-3
    states = [opt.state_dict()["state"][0]["momentum_buffer"] for opt in opts]
    assert torch.equal(*states)


def test_the_matrices_optimizer_suits_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([torch.nn.Linear(4, 4)])})
    for faster, kind in ((True, torch.optim.Muon), (False, Muon)):
        monkeypatch.setattr(optimizing.half, "faster", lambda faster=faster: faster)
        assert type(optimizing.optimizers(net, 0.1)[0]) is kind


@torch.enable_grad()
def test_screens_are_read_beside_another_as_alone(make: Make) -> None:  # noqa: F811
    """Each of a prompt's pictures teaches what it does alone; what is not split does
    not."""
    trainer = make("--several", 1, "--whole", "--questions", 4)
    told = {"reading", "boxes", "naming", "handed", "spelt"}
    stats = trainer.train_step()
    assert {f"several_{k}" for k in told} < set(stats)
    screens_, batch, _ = trainer.draws.together(Random(0))
    prefix, seen = trainer.embedded(screens_, batch.prefix, 2)
    _, states = trainer.answers(prefix, batch)
    both = trainer.telling.together(screens_, batch, states, seen, Random(0))
    image = (batch.prefix == trainer.image_id).nonzero().flatten()
    views = len(screens_[0].tiling.indices)  # the overview last
    mine = image.view(2, views, -1)[:, :-1].flatten(1)  # tokens of each one's tiles
    first, second = (
        trainer.telling.half_way(
            [screen], states[1][0][:, mine[k]],
            tuple(x[views * k :][:views] for x in seen), Random(0),
        )[0]
        for k, screen in enumerate(screens_)
    )  # fmt: skip
    mean = (first["reading"] + second["reading"]) / 2
    assert both["several_reading"].item() == pytest.approx(mean.item(), abs=1e-5)
    assert abs(first["reading"] - second["reading"]) > 1e-3
