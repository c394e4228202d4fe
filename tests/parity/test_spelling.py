"""Word pieces in visual tokens, and the heads that hand them over."""

import itertools
from random import Random

import pytest
import torch

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.copying import Fitted, fit
from mm15_mlx.convert.mm15_torch.looking import copying_heads, halving_heads, sights
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.pieces import (
    FIRST,
    LATER,
    ONLY,
    Spelling,
    piece_at,
    visual_words,
)
from mm15_mlx.convert.mm15_torch.samples import SampleEncoder
from mm15_mlx.convert.mm15_torch.spelled import spelled, where
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.convert.mm15_torch.words import half_way, handed, words_of
from mm15_mlx.screens.questions import ocr
from mm15_mlx.tiling import plan
from tests.parity.test_looking import SAVE, SIZE, config  # noqa: F401
from tests.parity.test_recipe import Make, make  # noqa: F401

pytestmark = pytest.mark.parity

HOUR = {
    "text": "10:05", "box": [97, 10, 150, 30], "edges": [97, 105, 113, 119, 135, 151],
}  # fmt: skip
ROW = {
    "id": "1", "width": 480, "height": 960, "texts": [HOUR, SAVE], "elements": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def screen(config: ModelConfig) -> Screen:  # noqa: F811
    return Screen(ROW, plan(*SIZE, config.tiling))


def spelling(samples: SampleEncoder, screen: Screen, line: dict) -> Spelling:
    tokenizer = samples.encoder.tokenizer
    return Spelling(line, tokenizer, screen.tiling, screen.tiles, 20)


def test_the_first_piece_in_a_token_and_those_after_it_have_a_head_each(
    samples: SampleEncoder, screen: Screen
) -> None:
    """Of "10:05" three characters end in the fifth token, one each in the two after."""
    line = spelling(samples, screen, HOUR)
    pieces = [samples.encoder.tokenizer.piece(p) for _, _, p in line.pieces]
    assert pieces == list("10:05")
    assert [token for token, _, _ in line.pieces] == [4, 4, 4, 5, 6]
    heads = [line.heads(end) for _, end, _ in line.pieces]
    assert heads == [FIRST, LATER, LATER, ONLY, ONLY]
    assert visual_words(
        {"texts": [HOUR]}, screen.tiling, samples.encoder.tokenizer, screen.tiles, 20
    ) == [(t, p, h) for (t, _, p), h in zip(line.pieces, heads, strict=True)]


def test_half_of_a_piece_is_handed_over_as_the_whole_is(
    samples: SampleEncoder, screen: Screen
) -> None:
    edges = [24.5 + k for k in range(9)]  # all in one token
    line = spelling(
        samples, screen, {"text": "Settings", "box": [24, 0, 33, 20], "edges": edges}
    )
    ends = [end for _, end, _ in line.pieces]
    text = spelling(
        samples, screen, {"text": "Settings x", "box": [24, 0, 35, 20],
                          "edges": [24.5 + k for k in range(11)]}
    )  # fmt: skip
    first = text.pieces[0][1]
    assert len(text.pieces) > 1
    for end in range(1, 11):
        assert text.heads(end) == (FIRST if end <= first else LATER)
    if len(ends) == 1:
        assert line.heads(3) == ONLY  # "Set" of "Settings", which is alone


@pytest.mark.parametrize("seed", range(20))
def test_every_token_has_one_piece_or_a_first_one(
    samples: SampleEncoder, screen: Screen, seed: int
) -> None:
    rng = Random(seed)
    text = "".join(rng.choice("Settings 0123:,.-") for _ in range(rng.randint(1, 30)))
    edges = list(itertools.accumulate((rng.uniform(2, 14) for _ in text), initial=20.5))
    line = spelling(
        samples, screen, {"text": text, "box": [20, 5, 400, 20], "edges": edges}
    )
    for _, mine in itertools.groupby(line.pieces, key=lambda piece: piece[0]):
        heads = [line.heads(end) for _, end, _ in mine]
        assert heads == [ONLY] or heads == [FIRST] + [LATER] * (len(heads) - 1)


def test_a_position_looks_with_the_head_that_its_piece_has(
    samples: SampleEncoder, screen: Screen
) -> None:
    (question,) = ocr({"texts": [HOUR]}, None)
    asked = samples.ask(question, [SIZE], [screen.tiling], 100)
    assert asked is not None
    see = sights(screen, [asked], samples.encoder.tokenizer, 20)
    assert see is not None and see.spelled.tolist() == [True] * 5 + [False]
    read = see.halves[see.spelled]
    assert read.any(2).tolist() == [list(h) for h in (FIRST, LATER, LATER, ONLY, ONLY)]
    assert read.any(1).float().argmax(1).tolist() == [4, 4, 4, 5, 6]


@torch.no_grad()
def test_half_way_later_pieces_are_named_through_a_map(
    config: ModelConfig,  # noqa: F811
    samples: SampleEncoder,
    screen: Screen,  # noqa: F811
) -> None:
    torch.manual_seed(0)
    aids = Aids(config.text_config.hidden_size)
    tokens = torch.randn(1, 800, config.text_config.hidden_size)
    words = words_of([screen], samples.encoder.tokenizer, 20)
    own = tokens[0, words.token]
    assert torch.equal(half_way(aids, tokens, words), own)  # at first no other
    aids.later.weight.mul_(2)
    later = ~words.heads[:, 0]
    assert 0 < later.sum() < len(later)
    said = half_way(aids, tokens, words)
    assert torch.equal(said[~later], own[~later])
    assert torch.allclose(said[later], 2 * own[later])


def test_a_piece_is_where_it_ends(screen: Screen) -> None:
    places = [piece_at(SAVE, n, screen.tiling, screen.tiles, 20) for n in range(6)]
    # edges 45, 60, 75 and 91 lie in tokens 1, 2, 3 and 3 of the second tile's first row
    assert places == [-1, 401, 402, 403, 403, -1]


@torch.no_grad()
def test_what_heads_that_spell_hand_over_is_what_they_would_add(
    config: ModelConfig,  # noqa: F811
    samples: SampleEncoder,
    screen: Screen,  # noqa: F811
) -> None:
    torch.manual_seed(0)
    decoder, width = MM15(config).decoder, config.text_config.hidden_size
    image = torch.tensor([False] + [True] * 800)
    states = [(torch.randn(1, 801, width), torch.randn(1, 1, 1, width), None)] * 5
    found = words_of([screen], samples.encoder.tokenizer, 20)
    pieces = [samples.encoder.tokenizer.piece(i) for i in found.piece.tolist()]
    assert "".join(pieces) == "10:05Save" and set(found.picture.tolist()) == {0}
    assert set(map(tuple, found.heads.tolist())) == {FIRST, LATER, ONLY}
    loss = handed(decoder, states, image, found, torch.tensor(3.0))
    heads = halving_heads(config.text_config)

    losses = []
    for layer in decoder.layers[-2:]:
        x = layer.input_layernorm(states[0][0][0, 1:][found.token])
        values = layer.self_attn.v_proj(x).view(-1, 6, 64)
        values[:, copying_heads(config.text_config)] = 0
        for head, own in zip(heads, found.heads.T, strict=True):
            values[~own, head] = 0
        added = layer.self_attn.o_proj(values.flatten(1))
        logits = decoder.logits(added * decoder.norm.weight / 3)
        losses.append(torch.nn.functional.cross_entropy(logits, found.piece))
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-4)

    plain = Screen({**ROW, "texts": []}, screen.tiling)
    none = words_of([plain], samples.encoder.tokenizer, 20)
    assert handed(decoder, states, image, none, torch.tensor(3.0)) == 0


@torch.no_grad()
def test_fitted_heads_name_the_pieces(config: ModelConfig) -> None:  # noqa: F811
    """Where inputs say which piece it is, two heads learn to hand its name over."""
    torch.manual_seed(0)
    decoder = MM15(config).decoder
    heads = halving_heads(config.text_config)
    before = decoder.layers[-1].self_attn.v_proj.weight.clone()
    fitted = Fitted(-1, heads)
    table = decoder.lm_head.weight[:100].double()
    piece = torch.randint(100, (600,))
    inputs = torch.nn.functional.one_hot(piece, 384).double()
    fitted.add(inputs, 9 * table[piece] / table[piece].norm(dim=1, keepdim=True))
    fitted.set(decoder, table, torch.ones(384, 1).double())
    attn = decoder.layers[-1].self_attn
    values = attn.v_proj(inputs.float()).view(-1, 6, 64)
    values[:, copying_heads(config.text_config)] = 0
    named = attn.o_proj(values.flatten(1)) @ table.float().T
    assert (named.argmax(1) == piece).float().mean() > 0.95
    changed = (attn.v_proj.weight != before).any(1).view(6, 64).any(1)
    assert changed.nonzero().flatten().tolist() == heads


def test_how_pieces_are_read_is_measured(make: Make) -> None:  # noqa: F811
    trainer = make("--lines", 0)
    found = spelled(trainer, 9)
    assert found == spelled(trainer, 9)
    looks, places = (
        found.pop(f"by {by}") for by in ("where they look", "pieces before")
    )
    assert set(found) <= {"alone", "first", "later"}
    assert set(places) <= {"0+", "1+", "2+", "4+"}
    pieces = [
        word
        for s in trainer.draws.screens.items
        for word in visual_words(s.row, s.tiling, trainer.tokenizer, s.tiles, 2)
    ]
    assert sum(kind["n"] for kind in found.values()) == len(pieces) > 3
    for kind in found.values():
        assert all(0 <= kind[k] <= 1 for k in ("looked", "named", "right"))
    looked = sum(round(kind["looked"] * kind["n"]) for kind in found.values())
    assert looks.pop("there", {"n": 0})["n"] == looked
    for groups in (looks, places):
        assert all(0 <= g["right"] <= 1 for g in groups.values())
    assert sum(g["n"] for g in places.values()) == len(pieces)
    assert sum(g["n"] for g in looks.values()) == len(pieces) - looked
    assert not any(spelled(trainer, 0).values())


@pytest.mark.parametrize(
    ("seen", "what"),
    [
        (28, "there"), (27, "at the piece before"), (29, "near"), (26, "near"),
        (120, "near"), (121, "in the row"), (25, "in the row"), (38, "a row beside"),
        (110, "a row beside"), (8, "elsewhere"), (228, "elsewhere"), (0, "at nothing"),
    ],
)  # fmt: skip
def test_looks_that_go_astray_are_told_apart(seen: int, what: str) -> None:
    """Two by two tiles of ten by ten tokens; the piece ends in the third row of the
    first, 28, the one before it in 27."""
    assert where(seen, 28, 27, 2, 10) == what


def test_pieces_are_fitted_to_the_embeddings_of_pieces(
    make: Make,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer, tables = make("--lines", 0, "--batch", 2), []
    monkeypatch.setattr(
        Fitted, "set", lambda self, _, table, gain: tables.append(table)
    )
    fit(trainer, ["pieces"], batches=1)
    (table,) = tables
    own = trainer.model.decoder.lm_head.weight.double()
    ids = trainer.tokenizer.encode("Item 12")
    assert all((table == own[i]).all(1).any() for i in ids)
    where = slice(trainer.first, trainer.first + trainer.count)
    assert not any((table == row).all(1).any() for row in own[where])
