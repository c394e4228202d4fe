"""The head of the first layer that compares two screens begins fitted."""

import copy
import json
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image

from mm15_mlx.config import UserError
from mm15_mlx.convert.mm15_torch import comparing_head
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.compared import (
    Compared,
    apart,
    compared,
    marked,
    together,
)
from mm15_mlx.convert.mm15_torch.comparing_head import (
    FirstLayer,
    begin_comparing,
    least_squares,
    sampled,
    states_apart,
    telling,
)
from mm15_mlx.convert.mm15_torch.decoder import Decoder
from mm15_mlx.convert.mm15_torch.first_layer import Other, Pair
from tests.parity.test_frames_of_flows import as_flow
from tests.parity.test_recipe import Make, make, tiny  # noqa: F401

pytestmark = pytest.mark.parity

TOKENS, WIDTH, USED = 36, 64, 32
QUIET, NOISY = 3, 5


def test_directions_tell_what_changed_from_what_did_not() -> None:
    torch.manual_seed(0)
    same, changed = 0.1 * torch.randn(4000, 12), 0.1 * torch.randn(300, 12)
    same[:, NOISY] += 9 * torch.randn(4000)
    changed[:, NOISY] += 9 * torch.randn(300)
    changed[:, QUIET] += torch.randn(300)
    found = telling(changed, same, 2)
    assert found.shape == (2, 12)
    assert found[-1].abs().argmax() == QUIET  # the best is the last
    assert 0.5 < (same @ found[-1]).square().mean() < 1.01
    assert (changed @ found[-1]).square().mean() > 50


def test_weights_make_of_what_is_given_what_is_wanted() -> None:
    torch.manual_seed(0)
    given, weights = torch.randn(500, 12), torch.randn(3, 12)
    found = least_squares(given, given @ weights.T)
    assert (found - weights).abs().max() < 0.01


def embeddings(*shape: int) -> torch.Tensor:
    """That leave some of their width unused, as trained ones do."""
    x = torch.randn(*shape, WIDTH)
    x[..., USED:] *= 0.01
    return x


def pair(places: torch.Tensor) -> Pair:
    """Tokens that show where they are and what is there; of the second screen five
    show something else."""
    before = places + 0.5 * embeddings(TOKENS)
    after, differs = before.clone(), torch.zeros(TOKENS, dtype=torch.bool)
    differs[torch.randperm(TOKENS)[:5]] = True
    after[differs] = places[differs] + 0.5 * embeddings(5)
    x = torch.cat([torch.ones(1, WIDTH), before, torch.ones(1, WIDTH), after])
    at = torch.arange(TOKENS)
    return Pair(
        x, torch.arange(len(x)), torch.stack([at + 1, at + TOKENS + 2]), differs
    )


def all_marked(first: FirstLayer, pairs: list[Pair]) -> float:
    """Of as many tokens as differ, how many of those that are said to most do."""
    right = []
    for p in pairs:
        states = first.run(p)[1][0, p.image[1]]
        said = first.aids.otherwise(first.decoder.norm(states))[:, 0]
        right.append(marked(said, p.differs))
    return sum(right) / len(right)


def test_a_layer_says_what_differs_and_little_else_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    places = embeddings(TOKENS)
    pairs, kept = ([pair(places) for _ in range(n)] for n in (400, 20))
    others = [Other(embeddings(2, 8), embeddings(2, 3, 5))] * 2
    config, rng = tiny().text_config, Random(0)
    first = FirstLayer(Decoder(config), Aids(WIDTH))
    before = copy.deepcopy(first.layer)
    beside = [first.beside(p, *heads(before, config.head_dim), sampled(p)).exp().mean()
              for p in kept]  # fmt: skip
    assert torch.stack(beside).mean() < 0.1

    for name, value in {"LOOK_LR": 1e-2, "SETTLE_LR": 2e-4, "KEPT": 0.3}.items():
        monkeypatch.setattr(comparing_head, name, value)
    losses = first.fit_look(pairs, 300, rng)
    assert losses[0] > 2 and sum(losses[-20:]) / 20 < 1
    beside = [first.beside(p, *heads(first.layer, config.head_dim), sampled(p)).exp()
              .mean() for p in kept]  # fmt: skip
    assert torch.stack(beside).mean() > 0.35  # 4 nats at most, among 72 tokens

    untouched = others_states(first, others)
    first.begin(pairs, others)
    assert all_marked(first, kept) > 0.5  # 0.14 by chance
    apart = states_apart(others_states(first, others), untouched)
    log = list(first.settle(pairs, others, before, 120, rng))
    assert all_marked(first, kept) > 0.6
    early, late = ({k: sum(x[k] for x in some) for k in log[0]}
                   for some in (log[5:25], log[-20:]))  # fmt: skip
    assert all(late[k] < early[k] for k in late)
    assert states_apart(others_states(first, others), untouched) < min(apart, 0.2)


def heads(layer: torch.nn.Module, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of queries and keys of the head that compares."""
    rows = slice(comparing_head.HEAD * size, (comparing_head.HEAD + 1) * size)
    attention = layer.self_attn
    return attention.q_proj.weight[rows], attention.k_proj.weight[rows]


def others_states(first: FirstLayer, others: list[Other]) -> torch.Tensor:
    return torch.cat([first.run(o)[1] for o in others])


def test_other_heads_of_the_layer_are_left_as_they_are() -> None:
    torch.manual_seed(0)
    pairs = [pair(embeddings(TOKENS)) for _ in range(4)]
    others = [Other(embeddings(1, 8), embeddings(1, 3, 5))]
    config = tiny().text_config
    first = FirstLayer(Decoder(config), Aids(WIDTH))
    before = copy.deepcopy(first.layer.state_dict())
    first.fit_look(pairs, 1, Random(0))
    first.begin(pairs, others)
    mine = list(range(2 * config.head_dim, 3 * config.head_dim))
    for name, now in first.layer.state_dict().items():
        across = name in ("self_attn.o_proj.weight", "mlp.down_proj.weight")
        changed = (now != before[name]).reshape(len(now), -1).any(0 if across else 1)
        where = changed.nonzero().flatten().tolist()
        if ".mlp." in f".{name}":  # two neurons to each dimension of the head
            assert len(where) == 2 * config.head_dim, name
        else:
            assert where == (mine if "_proj" in name else []), name


@pytest.fixture
def steps(make: Make, tmp_path: Path) -> Make:  # noqa: F811
    """Screens of a flow that differ in a corner, as is told of the second."""
    as_flow(tmp_path / "screens")
    path = tmp_path / "screens/screens.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["flow"]["change"] = {
        "kind": "added", "words": 'the item "Item 1" was added', "on": 1,
        "box": [0, 0, 24, 24], "tapped": None,
    }  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for k in range(3):
        image = Image.new("RGB", (48, 96), (90, 90, 200))
        image.paste((250, 40 * k, 0), (0, 0, 24, 24))
        image.save(tmp_path / f"screens/images/{k}.png")
    return make


def test_a_trainer_begins_so(steps: Make) -> None:
    trainer = steps("--steps", 2, "--whole", "--lines", 0)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    begin_comparing(trainer, parts=1, whole=2, others=1, look=2)
    for name, now in trainer.model.state_dict().items():
        first = name.startswith("decoder.layers.0.")
        assert first or torch.equal(now, before[name]), name
    weight = "decoder.layers.0.self_attn.v_proj.weight"
    assert not torch.equal(trainer.model.state_dict()[weight], before[weight])


def test_screens_without_pairs_are_named(make: Make) -> None:  # noqa: F811
    with pytest.raises(UserError, match="no pairs in .*data screens --pairs"):
        begin_comparing(make("--whole", "--lines", 0), parts=1, whole=1, others=1)


def test_how_well_screens_are_compared_is_measured(steps: Make) -> None:
    differs = torch.tensor([False, True, False, True, True])
    assert marked(torch.tensor([0.1, 3.0, 0.2, 2.0, -1.0]), differs) == pytest.approx(
        2 / 3
    )
    trainer = steps("--whole", "--lines", 0)
    kinds = compared(trainer, 9)
    assert list(kinds) == ["added"]
    found = kinds["added"].means()
    assert found["pairs"] == 1  # nothing is told of the others
    layers = found["opening"]
    assert len(layers) == 4 and all(0 <= x <= 1 for x in layers)
    for name in ("marked", "beside"):
        assert 0 <= found[name] <= 1
    assert found["apart"] > 0
    assert compared(trainer, 0) == {}


def test_figures_of_kinds_are_put_together() -> None:
    one = Compared([1.0], [], [0.5], [0.25], [[0.0, 1.0]])
    two = Compared([0.0], [0.0], [0.1], [0.75], [])
    assert together([one, two]).means() == {
        "marked": 0.5, "small": 0.0, "apart": 0.3, "beside": 0.5,
        "opening": [0.0, 1.0], "pairs": 2,
    }  # fmt: skip
    assert together([]).means() == {"opening": [], "pairs": 0}


def test_tokens_that_moved_are_as_far_apart_as_they_are(steps: Make) -> None:
    """Of those that differ, where half is turned round and half stays."""
    trainer = steps("--whole", "--lines", 0)
    x = torch.randn(8, trainer.config.text_config.hidden_size)
    x[4:] = x[:4]
    x[6:] *= -1
    image = torch.arange(8).view(2, 4)
    differs = torch.tensor([False, False, True, True])
    for there, far in ((differs, 2.0), (~differs, 0.0)):
        pair = Pair(x, torch.arange(8), image, there)
        assert apart(trainer, pair) == pytest.approx(far, abs=1e-6)
