"""Heads that look hand over what tokens name; large weights learn as fast as small."""

import pytest
import torch
from torch import nn

from mm15_mlx.convert.mm15_torch import handing_heads
from mm15_mlx.convert.mm15_torch.boxes import handed_by
from mm15_mlx.convert.mm15_torch.copying import even
from mm15_mlx.convert.mm15_torch.decoder import Decoder
from mm15_mlx.convert.mm15_torch.handing_heads import (
    Given,
    begin_handing,
    fit,
    given_to,
    missed,
    told_by,
)
from mm15_mlx.convert.mm15_torch.looking import copying_heads, halving_heads
from mm15_mlx.convert.mm15_torch.optimizing import STEADY, optimizers, scale_of, update
from mm15_mlx.convert.mm15_torch.words import Words
from tests.parity.test_recipe import Make, changed_in, make, tiny  # noqa: F401

pytestmark = pytest.mark.parity

WIDTH, TOKENS, LAYER = 64, 600, 3
SIZE = torch.tensor(0.1)


def test_even_heads_make_the_same_of_a_token() -> None:
    torch.manual_seed(0)
    decoder = Decoder(tiny().text_config)
    attention, width = decoder.layers[LAYER].self_attn, decoder.config.head_dim
    with torch.no_grad():  # as a fit left them once
        attention.v_proj.weight[:width] *= 100 * torch.logspace(0, -3, width)[:, None]
        attention.o_proj.weight[:, :width] *= 30
    every = list(range(decoder.config.num_key_value_heads))
    tokens = torch.randn(20, WIDTH)
    before = handed_by(decoder, LAYER, every, tokens, SIZE)
    even(decoder, LAYER, every)
    after = handed_by(decoder, LAYER, every, tokens, SIZE)
    assert torch.allclose(after, before, atol=1e-4 * before.abs().max().item())
    for head in every:
        mine = slice(head * width, (head + 1) * width)
        v = attention.v_proj.weight[mine].square().sum(1)
        o = attention.o_proj.weight[:, mine].square().sum(0)
        assert torch.allclose(v, o, rtol=1e-3)


def given(count: int) -> Given:
    """Tokens whose name is a linear map of them, half of them named by each head."""
    places, pieces = torch.randn(count, WIDTH), torch.arange(count) % 50
    table = torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(1))
    first = torch.arange(count) % 2 == 0
    words = Words(
        *torch.zeros(2, count, dtype=torch.long), pieces,
        torch.stack([first, ~first], 1),
    )  # fmt: skip
    tokens = table[pieces] + 0.3 * places
    none = torch.zeros(0, WIDTH), torch.zeros(0, 4, dtype=torch.long)
    return Given(tokens, words, *none, torch.randn(200, WIDTH), torch.randn(2, WIDTH))


@torch.enable_grad()
def test_they_learn_to_hand_over_what_tokens_name_and_others_what_they_did(
    make: Make,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    trainer = make("--whole", "--lines", 0)
    decoder = trainer.model.decoder
    decoder.lm_head.weight.data *= 10
    shown, held_out = given(TOKENS), given(100)
    before = {k: v.clone() for k, v in decoder.state_dict().items()}
    every = list(range(decoder.config.num_key_value_heads))

    def handed(tokens: torch.Tensor) -> torch.Tensor:
        return handed_by(decoder, LAYER, every, tokens, SIZE).detach()

    def loss() -> float:
        return missed(trainer, LAYER, held_out, SIZE)["pieces"].item()

    old, rested, plain = loss(), handed(shown.resting), handed(shown.plain)
    monkeypatch.setattr(handing_heads, "LR", 1e-2)
    log = fit(trainer, LAYER, shown, SIZE, 150)
    assert set(log[0]) == {"pieces", "held", "rests"}  # there are no boxes
    assert log[0]["held"] == log[0]["rests"] == 0
    assert loss() < 0.5 * old
    idle = (handed(shown.resting) - rested).square().mean() / plain.square().mean()
    assert idle < 0.01
    assert changed_in(decoder, before) == {
        f"layers.{LAYER}.self_attn.{x}_proj.weight" for x in "vo"
    }


@torch.enable_grad()
def test_a_trainer_begins_so(make: Make) -> None:  # noqa: F811
    trainer = make("--steps", 2, "--whole", "--lines", 0, "--questions", 4)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    begin_handing(trainer, batches=2)
    assert changed_in(trainer.model, before) == {
        f"decoder.layers.{layer}.self_attn.{x}_proj.weight"
        for layer in (2, 3)
        for x in "vo"
    }


def test_what_a_layer_is_given_of_screens(make: Make) -> None:  # noqa: F811
    trainer = make("--whole", "--lines", 0, "--questions", 4)
    told, size = told_by(trainer, 2)
    assert len(told) == 4 and size > 0
    decoder = trainer.model.decoder
    found = given_to(decoder, 2, told, "texts")
    pieces = sum(len(one.words.piece) for one in told)
    assert len(found.pieces) == len(found.words.piece) == pieces > 0
    assert len(found.marks) == len(found.numbers) > 0 and len(found.resting) == 4
    tokens = sum(one.prompt.x.shape[1] + one.prompt.questions.shape[2] for one in told)
    held = {(k, t) for k, one in enumerate(told) for t in one.words.token.tolist()}
    assert len(found.plain) == tokens - len(held)
    with torch.no_grad():
        losses = missed(trainer, 2, found, size)
    assert set(losses) == {"pieces", "numbers"}
    heads = halving_heads(decoder.config) + copying_heads(decoder.config)
    assert sorted(heads) == list(range(decoder.config.num_key_value_heads))


class Two(nn.Module):
    """Blocks' matrices of which one has weights twenty times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        for layer, size in zip(self.layers, (0.05, 1.0, 0.05), strict=True):
            nn.init.normal_(layer.weight, std=size)
        with torch.no_grad():
            self.layers[2].weight[0] = 40.0  # one neuron's


@torch.enable_grad()
def test_large_weights_take_steps_as_large() -> None:
    torch.manual_seed(0)
    net = Two()
    before = [layer.weight.detach().clone() for layer in net.layers]
    assert scale_of(before[1]) == pytest.approx(1.0, rel=0.1)
    assert scale_of(before[2]) == pytest.approx(0.05, rel=0.1)
    opts = optimizers(net, 1e-3)
    assert [g["pace"] for g in opts[0].param_groups] == [
        1.0, pytest.approx(scale_of(before[1]) / STEADY), 1.0,
    ]  # fmt: skip
    x = torch.randn(8, 32)
    update(sum(layer(x).square().mean() for layer in net.layers), opts, 1e-3)
    steps = [
        (layer.weight - old).square().mean().sqrt().item()
        for layer, old in zip(net.layers, before, strict=True)
    ]
    assert steps[0] < 1e-3 and steps[1] > 5 * steps[0]
