"""Heads that name the frames of a flow begin with what orders them."""

import dataclasses

import pytest
import torch

from mm15_mlx.config import PRESETS
from mm15_mlx.convert.mm15_torch.blend import STRONGER, blend, with_order
from mm15_mlx.convert.mm15_torch.decoder import Attention
from mm15_mlx.convert.mm15_torch.order_heads import (
    KEY,
    QUERY,
    Inputs,
    begin,
    key_row,
    query_row,
)
from tests.parity.test_frames_of_flows import as_flow, flows  # noqa: F401
from tests.parity.test_recipe import RECIPE, Make, make, tiny  # noqa: F401

pytestmark = pytest.mark.parity

WIDTH, LATE, NOISY = 24, 3, 5


@pytest.fixture
def given() -> Inputs:
    """Frames that a quiet direction orders, and a noisy one less surely; all tokens
    have something in common."""
    torch.manual_seed(0)
    steps = torch.arange(4.0)
    frames = 0.2 * torch.randn(150, 4, WIDTH)
    frames[..., LATE] += 0.3 * steps
    frames[..., NOISY] += 0.3 * steps
    frames[..., 7] += 4
    tokens = frames[:, :, None] + 0.3 * torch.randn(150, 4, 5, WIDTH)
    tokens[..., NOISY] += 5 * torch.randn(150, 4, 5)
    asking, others = torch.randn(40, WIDTH), torch.randn(400, WIDTH)
    asking[:, 9] += 6
    return Inputs(frames, tokens.flatten(0, 2), asking, others)


def test_a_key_orders_frames_by_what_tokens_of_one_agree_on(given: Inputs) -> None:
    row = key_row(given.frames, given.tokens)
    scores = given.frames @ row
    assert (scores[:, 1:] > scores[:, :-1]).float().mean() > 0.8
    assert row[LATE] > 10 * row[NOISY].abs()
    tokens = given.tokens @ row
    assert tokens.square().mean().item() == pytest.approx(1, abs=1e-3)
    assert abs(tokens.mean().item()) < 1e-3  # what all have in common says nothing


def test_a_query_asks_where_numbers_come_next_only(given: Inputs) -> None:
    row = query_row(given.asking, given.others)
    assert (given.asking @ row).mean().item() == pytest.approx(-1, abs=0.1)
    assert (given.others @ row).square().mean().sqrt().item() < 0.3


def test_one_dimension_of_a_head_begins_so(given: Inputs) -> None:
    config = dataclasses.replace(
        PRESETS["nano-ui"].text_config, hidden_size=WIDTH, num_attention_heads=6,
        num_key_value_heads=6, head_dim=8,
    )  # fmt: skip
    attention = Attention(config)
    before = {k: v.clone() for k, v in attention.state_dict().items()}
    begin(attention, config, given)
    changed = {0 * 8 + 3, 3 * 8 + 3}  # the pair that is turned least
    for name, x, much in (
        ("k_proj.weight", given.tokens, KEY), ("q_proj.weight", given.asking, QUERY),
    ):  # fmt: skip
        now = attention.state_dict()[name]
        rows = (now != before[name]).any(1).nonzero().flatten().tolist()
        assert set(rows) == changed
        for head in (0, 3):
            usual = (x @ before[name][head * 8 : head * 8 + 8].T).square().mean().sqrt()
            mine = (x @ now[head * 8 + 3]).square().mean().sqrt()
            assert (mine / usual).item() == pytest.approx(much, rel=0.05)
    assert torch.equal(attention.v_proj.weight, before["v_proj.weight"])
    # An earlier frame's token is looked at more by who asks, and by nobody else.
    asks = given.asking @ attention.q_proj.weight[3]
    late = given.frames @ attention.k_proj.weight[3]
    assert asks.max() < 0 and (late[:, 3] > late[:, 0]).float().mean() > 0.9


def test_a_trainer_begins_so(flows: Make) -> None:  # noqa: F811
    plain = flows("--several", 1, "--whole").model.state_dict()
    begun = flows(f"@{RECIPE / 'order.args'}", "--lines", 0).model.state_dict()
    config = tiny().text_config
    at = [h * config.head_dim + config.head_dim // 2 - 1 for h in (0, 3)]
    half = config.num_hidden_layers // 2 + 1
    for name, x in begun.items():
        rows = (x != plain[name]).flatten(1).any(1) if x.ndim > 1 else x != plain[name]
        named = ".q_proj." in name or ".k_proj." in name
        layer = int(name.split(".")[2]) if name.startswith("decoder.layers.") else 0
        expected = at if named and layer >= half else []
        assert rows.nonzero().flatten().tolist() == expected, name


def test_a_blend_keeps_what_orders_frames_in_one_head() -> None:
    config = PRESETS["nano-ui"].text_config
    names = [f"decoder.layers.{k}.self_attn.{p}_proj.weight"
             for k in range(5) for p in "qk"]  # fmt: skip
    before, after = (dict.fromkeys(names, torch.full((384, 2), x)) for x in (1.0, 2.0))
    half = blend(before, after, 0.5)
    kept = with_order(half, before, after, 3, config)
    for name in names:
        changed = (kept[name] != half[name]).any(1).nonzero().flatten().tolist()
        assert changed == ([31, 3 * 64 + 31] if int(name.split(".")[2]) > 2 else [])
        if changed:
            much = STRONGER if "q_proj" in name else 1
            assert kept[name][[31, 223], 0].tolist() == [1.0, 2 * much]
    assert torch.equal(half[names[-1]], torch.full((384, 2), 1.5))  # itself untouched
