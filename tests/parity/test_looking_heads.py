"""Heads that look begin with finding what changed."""

import math
from random import Random

import pytest
import torch

from mm15_mlx.config import PRESETS, UserError
from mm15_mlx.convert.mm15_torch import looking_heads
from mm15_mlx.convert.mm15_torch.decoder import Decoder
from mm15_mlx.convert.mm15_torch.first_layer import shown_pairs
from mm15_mlx.convert.mm15_torch.looking import (
    EARLY,
    OPENING,
    Sights,
    copying_heads,
    finding_head,
    halving_heads,
)
from mm15_mlx.convert.mm15_torch.looking_heads import (
    Heads,
    Pair,
    Prompt,
    apart,
    begin_looking,
    pair_in,
    stages,
)
from mm15_mlx.convert.mm15_torch.packed import packed_states
from mm15_mlx.screens.questions import Question
from mm15_mlx.screens.several import Several
from tests.parity.test_comparing_head import steps  # noqa: F401
from tests.parity.test_recipe import Make, changed_in, make, tiny  # noqa: F401

pytestmark = pytest.mark.parity

WIDTH, TOKENS, QUESTIONS, LONG = 64, 40, 3, 6


def test_heads_share_the_work() -> None:
    config = PRESETS["nano-ui"].text_config
    assert halving_heads(config) == [0, 3]
    assert copying_heads(config) == [1, 2, 4, 5]
    assert finding_head(config) == 5


def prompt() -> Prompt:
    """Embeddings of what comes before three questions, and of these."""
    x, questions = torch.randn(1, TOKENS, WIDTH), torch.randn(1, QUESTIONS, LONG, WIDTH)
    return Prompt(x, questions, torch.arange(TOKENS))


@pytest.mark.parametrize("heads", [[2], [0, 1, 2, 3, 4, 5]])
@pytest.mark.parametrize("layer", [0, EARLY, 3])
def test_heads_look_as_in_the_model(layer: int, heads: list[int]) -> None:
    """Attention as the model has it of all heads at once, within 0.02: what a layer is
    given is kept in bfloat16."""
    torch.manual_seed(0)
    decoder = Decoder(tiny().text_config)
    some = Heads(decoder, layer, heads)
    given = prompt()
    states = packed_states(decoder, given.x, given.questions, layer + 1, given.places)
    look, inside = states[layer][2], some.given(given)
    which, place = torch.tensor([0, 2, 1]), torch.tensor([0, 5, 3])
    seen = some.of_questions(inside, some.weights(), which, place).exp()
    assert torch.allclose(seen.sum(-1), torch.ones(len(heads), 3))
    known = look.weights(0, which, place)[heads]
    assert torch.allclose(seen[..., :TOKENS], known, atol=0.02)

    tokens, before = torch.tensor([7, 31]), torch.tensor([7, 2])
    back = some.of_picture(inside, some.weights(), tokens).exp()
    own = torch.stack([look.own_weights(0, h, tokens, before) for h in heads])
    assert torch.allclose(back[:, [0, 1], before], own, atol=0.02)
    assert back[:, 0, 8:].max() == 0  # nobody looks ahead


def pair(mark: torch.Tensor, asking: torch.Tensor) -> Pair:
    """Some tokens of a picture are marked; where an answer opens, they are sought."""
    made = prompt()
    there = torch.randperm(TOKENS - 1)[:3]
    made.x[0, there + 1] += 2 * mark
    made.questions[0, 1, 4:] += 2 * asking
    share = torch.zeros(2, TOKENS - 1)
    share[:, there] = 1 / 3
    here, yes = torch.tensor([1, 1]), torch.tensor([True, True])
    nothing = torch.zeros(2, 4, TOKENS - 1, dtype=torch.bool)
    see = Sights(
        here, torch.tensor([4, 5]), share, nothing[:, :2], nothing, ~yes, ~yes, yes, yes
    )
    return Pair(made, [(see, torch.arange(1, TOKENS))], 1)


def test_a_head_learns_to_look_at_what_is_marked_and_others_do_not(
    make: Make,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    trainer = make("--whole", "--lines", 0)
    decoder = trainer.model.decoder
    (head, goal), *_ = stages(trainer)
    assert head.layer == EARLY
    before = {k: v.clone() for k, v in decoder.state_dict().items()}
    mark, asking = torch.randn(2, WIDTH)
    pairs, kept = ([pair(mark, asking) for _ in range(n)] for n in (200, 20))
    others = [prompt() for _ in range(20)]
    known, held = ([head.given(p) for p in some]
                   for some in ([k.prompt for k in kept], others))  # fmt: skip

    def missed() -> float:
        of = zip(kept, known, strict=True)
        found = [head.missed(p, g, head.weights(), goal)["early"][0] for p, g in of]
        return torch.stack(found).mean().item()

    old = head.weights()
    assert missed() > 1.8
    monkeypatch.setattr(looking_heads, "LR", 1e-2)
    log = head.fit(pairs, others, goal, 300, Random(0))
    assert missed() < 0.6
    assert log[-1]["early"] < 0.6 < 1.8 < log[0]["early"]
    assert log[0]["one"] == log[0]["asked"] == log[0]["pair"] == 0
    moved = [head.asked_elsewhere(given, head.weights(), old) for given in held]
    assert torch.stack(moved).mean() < 0.3

    rows, heads = head.rows.tolist(), finding_head(decoder.config)
    assert rows == [heads * head.size + k for k in range(head.size)]
    for name, now in decoder.state_dict().items():
        changed = (now != before[name]).reshape(len(now), -1).any(1)
        fitted = name in (f"layers.{EARLY}.self_attn.{x}_proj.weight" for x in "qk")
        assert changed.nonzero().flatten().tolist() == (rows if fitted else []), name


def test_where_both_have_no_attention_they_do_not_differ() -> None:
    none = torch.tensor([0.0, -torch.inf]).expand(2, 3, 2)
    assert apart(none, none) == 0
    half = torch.tensor([0.5, 0.5]).log().expand(2, 3, 2)
    assert apart(none, half) == pytest.approx(2 * 0.6931, abs=1e-4)  # of two heads


def test_a_trainer_begins_so(steps: Make) -> None:  # noqa: F811
    trainer = steps("--steps", 2, "--whole", "--lines", 0)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    begin_looking(trainer, parts=0, whole=6, others=1)
    layers = [heads.layer for heads, _ in stages(trainer)]
    assert layers == [EARLY, 2, 3]
    assert changed_in(trainer.model, before) == {
        f"decoder.layers.{layer}.self_attn.{x}_proj.weight"
        for layer in layers
        for x in "qk"
    }


def test_what_a_pair_asks_and_where_it_is(steps: Make) -> None:  # noqa: F811
    trainer = steps("--whole", "--lines", 0)
    found = [
        (screens, pair)
        for screens, several in shown_pairs(trainer, 0, 6)
        if (pair := pair_in(trainer, screens, several))
    ]
    assert found
    for screens, made in found:
        ids = trainer.draws.prefix(screens)
        image = (ids == trainer.image_id).nonzero().flatten()
        assert made.first == image[0]
        assert made.prompt.x.shape[1] == len(made.prompt.places) == len(ids)
        ((see, mine),) = made.seen  # it was added to the second
        assert set(mine.tolist()) <= set(image[len(image) // 2 :].tolist())
        assert see.changed.all() and see.opening.any() and not see.opening.all()
        numbers = see.edges.any(2).any(1)
        assert int(numbers.sum()) == 4 and see.share.sum(1).min() > 0.99
    assert pair_in(trainer, found[0][0], []) is None


def test_where_no_place_shows_what_changed_the_first_token_is_looked_at(
    steps: Make,  # noqa: F811
) -> None:
    trainer = steps("--whole", "--lines", 0)
    screens, _ = next(shown_pairs(trainer, 0, 1))
    question = Question("changed", "?", "the page was scrolled down")
    asked = Several([s.row for s in screens], question)
    made = pair_in(trainer, screens, [asked])
    ((see, mine),) = made.seen
    assert len(see.place) == OPENING and not see.share.any()
    for heads, goal in stages(trainer):
        seen = torch.rand(heads.count, OPENING, len(mine))
        for first, loss in ((0.0, -math.log(1e-3)), (1.0, -math.log(1.001))):
            found = goal(see, seen, torch.full(seen.shape[:2], first))
            losses = torch.cat([loss for _, loss in found])
            assert len(losses) and torch.allclose(losses, torch.tensor(loss), atol=1e-5)


def test_screens_without_pairs_are_named(make: Make) -> None:  # noqa: F811
    with pytest.raises(UserError, match="no pairs in .*data screens --pairs"):
        begin_looking(make("--whole", "--lines", 0), parts=1, whole=1, others=1)


def test_pairs_of_which_nothing_is_told_are_named(steps: Make) -> None:  # noqa: F811
    with pytest.raises(UserError, match="told of none of 0 pairs of .*screens"):
        begin_looking(steps("--whole", "--lines", 0), parts=0, whole=0, others=1)
