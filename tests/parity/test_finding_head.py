"""The head of the second layer that finds what changed begins fitted."""

from random import Random

import pytest
import torch

from mm15_mlx.config import UserError
from mm15_mlx.convert.mm15_torch import finding_head
from mm15_mlx.convert.mm15_torch.decoder import Decoder
from mm15_mlx.convert.mm15_torch.finding_head import (
    FindingHead,
    Found,
    Given,
    apart,
    begin_finding,
    found_in,
)
from mm15_mlx.convert.mm15_torch.first_layer import shown_pairs
from mm15_mlx.convert.mm15_torch.looking import EARLY
from mm15_mlx.convert.mm15_torch.looking import finding_head as head_of
from mm15_mlx.convert.mm15_torch.packed import packed_states
from tests.parity.test_comparing_head import steps  # noqa: F401
from tests.parity.test_recipe import Make, make, tiny  # noqa: F401

pytestmark = pytest.mark.parity

WIDTH, TOKENS, QUESTIONS, LONG = 64, 40, 3, 6


def prompt(decoder: Decoder) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings of a prefix and its questions, and where the prefix is."""
    prefix = torch.randn(1, TOKENS, WIDTH)
    return prefix, torch.randn(1, QUESTIONS, LONG, WIDTH), torch.arange(TOKENS)


def test_the_head_looks_as_in_the_model() -> None:
    """Attention as all heads of the model have it together, within 0.02: there it is
    of bfloat16 states."""
    torch.manual_seed(0)
    decoder = Decoder(tiny().text_config)
    head = FindingHead(decoder)
    prefix, questions, places = prompt(decoder)
    look = packed_states(decoder, prefix, questions, EARLY + 1, places)[EARLY][2]
    given = head.given(prefix, questions, places)
    which, place = torch.tensor([0, 2, 1]), torch.tensor([0, 5, 3])
    mine = head_of(decoder.config)
    seen = head.of_questions(given, head.weights(), which, place).exp()
    assert torch.allclose(seen.sum(1), torch.ones(3))
    known = look.weights(0, which, place)[mine]
    assert torch.allclose(seen[:, :TOKENS], known, atol=0.02)

    some = torch.tensor([7, 31])
    back = head.of_picture(given, head.weights(), some).exp()
    own = look.own_weights(0, mine, some, torch.tensor([7, 2]))
    assert torch.allclose(back[[0, 1], [7, 2]], own, atol=0.02)
    assert back[0, 8:].max() == 0  # nobody looks ahead


def marked(head: FindingHead, mark: torch.Tensor, asking: torch.Tensor) -> Found:
    """Some tokens of a picture are marked; two positions ask for them."""
    picture = torch.randn(TOKENS, WIDTH)
    there = torch.zeros(TOKENS, dtype=torch.bool)
    there[torch.randperm(TOKENS - 1)[:3] + 1] = True
    picture[there] += 2 * mark
    questions = torch.randn(QUESTIONS, LONG, WIDTH)
    questions[1, 4:] += 2 * asking
    none = torch.zeros(1, 1, QUESTIONS * LONG, WIDTH)
    rope = head.given(picture[None], none, torch.arange(TOKENS)).rope
    rope = tuple(t[:, : TOKENS + LONG] for t in rope)
    given = Given(picture, questions, (rope[0], rope[1]))
    where = there.expand(2, -1)
    return Found(given, torch.tensor([1, 1]), torch.tensor([4, 5]), where)


def test_it_learns_to_look_at_what_is_marked_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    decoder = Decoder(tiny().text_config)
    head = FindingHead(decoder)
    before = {k: v.clone() for k, v in decoder.state_dict().items()}
    mark, asking = torch.randn(2, WIDTH)
    pairs, kept = ([marked(head, mark, asking) for _ in range(n)] for n in (200, 20))
    others = [marked(head, 0 * mark, 0 * asking).given for _ in range(20)]

    def seen() -> float:
        mass = [head.seen(pair, head.weights()).mean() for pair in kept]
        return torch.stack(mass).mean().item()

    old = head.weights()
    assert seen() < 0.15  # 3 of 40
    monkeypatch.setattr(finding_head, "LR", 1e-2)
    log = head.fit(pairs, others, 400, Random(0))
    assert seen() > 0.6
    assert log[-1]["finding"] < 0.5 < 1.5 < log[0]["finding"]
    assert log[0]["one"] == log[0]["pair"] == 0
    elsewhere = [head.asked_elsewhere(o, head.weights(), old) for o in others]
    free = head.fit(pairs, [], 0, Random(0))
    assert not free and torch.stack(elsewhere).mean() < 0.3

    rows = list(range(head.rows.start, head.rows.stop))
    for name, now in decoder.state_dict().items():
        changed = (now != before[name]).reshape(len(now), -1).any(1)
        fitted = name in (f"layers.{EARLY}.self_attn.{x}_proj.weight" for x in "qk")
        assert changed.nonzero().flatten().tolist() == (rows if fitted else []), name


def test_where_both_have_no_attention_they_do_not_differ() -> None:
    none = torch.tensor([[0.0, -torch.inf]])
    assert apart(none, none) == 0
    half = torch.tensor([[0.5, 0.5]]).log()
    assert apart(none, half) == pytest.approx(0.6931, abs=1e-4)


def test_a_trainer_begins_so(steps: Make) -> None:  # noqa: F811
    trainer = steps("--steps", 2, "--whole", "--lines", 0)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    begin_finding(trainer, parts=0, whole=6, others=1)
    changed = {
        name
        for name, now in trainer.model.state_dict().items()
        if not torch.equal(now, before[name])
    }
    attention = f"decoder.layers.{EARLY}.self_attn"
    assert changed == {f"{attention}.{x}_proj.weight" for x in "qk"}


def test_what_a_pair_asks_and_where_it_is(steps: Make) -> None:  # noqa: F811
    trainer = steps("--whole", "--lines", 0)
    head = FindingHead(trainer.model.decoder)
    found = [
        (screens, f)
        for screens, several in shown_pairs(trainer, 0, 6)
        if (f := found_in(trainer, head, screens, several))
    ]
    assert found
    for screens, f in found:
        ids = trainer.draws.prefix(screens)
        image = (ids == trainer.image_id).nonzero().flatten()
        second = image[len(image) // 2 :]
        assert f.given.length == len(ids)
        assert f.place.tolist() == list(range(f.place[0], f.place[0] + len(f.place)))
        assert f.there.any(1).all()
        assert set(f.there.nonzero()[:, 1].tolist()) <= set(second.tolist())
    assert found_in(trainer, head, found[0][0], []) is None


def test_screens_without_pairs_are_named(make: Make) -> None:  # noqa: F811
    with pytest.raises(UserError, match="no pairs in .*data screens --pairs"):
        begin_finding(make("--whole", "--lines", 0), parts=1, whole=1, others=1)


def test_pairs_of_which_nothing_is_told_are_named(steps: Make) -> None:  # noqa: F811
    with pytest.raises(UserError, match="what changed in none of 0 pairs of .*screens"):
        begin_finding(steps("--whole", "--lines", 0), parts=0, whole=0, others=1)
