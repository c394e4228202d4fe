"""How a checkpoint reads lines of text, word piece by word piece, all before it given.

Of the pieces that are alone in their visual token, of the first ones in a token of
several, and of those after them (pieces.py): looked, how many positions see the token
in which theirs ends more than any other, with a head that hands it over, in the last
layer; named, how many of these tokens name it before all others half-way; right, how
many are answered. By where they look instead, and by how many pieces of the line come
before: right.

Run: python -m mm15_mlx.convert.mm15_torch.spelled, with sft's flags --tokenizer,
--screens, --views, --start, --steps as many screens and --out, which is not written.
Prints JSON.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

from mm15_mlx.convert.mm15_torch.draws import LISTED
from mm15_mlx.convert.mm15_torch.flags import arguments
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.looking import halving_heads, sights
from mm15_mlx.convert.mm15_torch.pieces import FIRST, LATER, ONLY, Heads
from mm15_mlx.convert.mm15_torch.samples import collate
from mm15_mlx.convert.mm15_torch.sft import Trainer
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.questions import ocr

NAMES = {ONLY: "alone", FIRST: "first", LATER: "later"}
NEAR = 2  # tokens to the left or to the right
THERE = "there"
STEPS = (1, 2, 4, 8, 12)  # pieces before, at least, of all but the first group


@dataclass(frozen=True)
class Piece:
    """What became of one piece of a line."""

    heads: Heads
    looked: str  # where
    before: int  # pieces of its line
    named: bool
    right: bool


def where(seen: int, token: int, last: int | None, across: int, side: int) -> str:
    """What visual token `seen` is to `token`, of `across` tiles side by side of side²
    each. last: where the piece before ends, if there is one."""
    if seen == token:
        return THERE
    if seen == last:
        return "at the piece before"
    if seen == 0:
        return "at nothing"  # the first of all: where those look who are to see nothing
    tiles = [divmod(t, side * side) for t in (seen, token)]
    (y, x), (row, column) = (
        (tile // across * side + at // side, tile % across * side + at % side)
        for tile, at in tiles
    )
    if y == row:
        return "near" if abs(x - column) <= NEAR else "in the row"
    return "a row beside" if abs(y - row) == 1 else "elsewhere"


def spelled_on(trainer: Trainer, screen: Screen) -> list[Piece]:
    """What there is to read on a screen."""
    draws, decoder = trainer.draws, trainer.model.decoder
    asked = draws.fitting(ocr(screen.row, Random(0)), [screen], LISTED)
    side = trainer.config.connector_config.pooled_grid
    see = sights(screen, asked, trainer.tokenizer, side)
    if see is None or not see.spelled.any():
        return []
    batch = collate(draws.prefix([screen]), [asked])
    image = trainer.tile_tokens([screen], batch.prefix)
    with autocast():
        prefix, _ = trainer.embedded([screen], batch.prefix, 1)
        _, states = trainer.answers(prefix, batch)
        tokens = decoder.norm(states[len(states) // 2 - 1][0][0, image])
        later = decoder.logits(trainer.aids.later(tokens)).argmax(-1)
        named = decoder.logits(tokens).argmax(-1)
    heads = halving_heads(trainer.config.text_config)
    question, place = see.question[see.spelled], see.place[see.spelled]
    target = batch.target[0, question, place]
    with autocast():
        last = decoder.norm(states[-1][1][0, question, place])
        guess = decoder.logits(last).argmax(-1)
    most = states[-1][2].weights(0, question, place)[heads][..., image].argmax(-1)
    lines: dict[int, list[int]] = defaultdict(list)  # tokens of pieces, by question
    found = []
    for n, halves in enumerate(see.halves[see.spelled]):
        mine, token = tuple(halves.any(1).tolist()), int(halves.any(0).nonzero()[0])
        line = lines[int(question[n])]
        looks = [
            where(
                int(most[h, n]), token, line[-1] if line else None,
                screen.tiling.grid[1], side,
            )
            for h in (0, 1) if mine[h]
        ]  # fmt: skip
        found.append(
            Piece(
                mine,
                THERE if THERE in looks else looks[0],
                len(line),
                bool((later if mine == LATER else named)[token] == target[n]),
                bool(guess[n] == target[n]),
            )
        )
        line.append(token)
    return found


Holds = dict[str, Callable[[Piece], bool]]
RIGHT: Holds = {"right": lambda p: p.right}
ALL: Holds = {"looked": lambda p: p.looked == THERE, "named": lambda p: p.named} | RIGHT


def shares(pieces: list[Piece], what: Holds) -> dict[str, float]:
    """Of how many pieces each thing holds, and how many there are."""
    n = len(pieces)
    means = {k: round(sum(map(holds, pieces)) / n, 3) for k, holds in what.items()}
    return {**means, "n": n}


def group(pieces: list[Piece], name: Callable[[Piece], str]) -> dict[str, list[Piece]]:
    groups: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        groups[name(piece)].append(piece)
    return dict(sorted(groups.items(), key=lambda g: -len(g[1])))


def so_many(piece: Piece) -> str:
    """How many pieces come before, as a group: "4+" is 4 to 7."""
    return f"{max((s for s in STEPS if s <= piece.before), default=0)}+"


@torch.no_grad()
def spelled(trainer: Trainer, count: int) -> dict[str, dict[str, Any]]:
    """Shares of each kind, and how many there are, of `count` screens at most."""
    pieces: list[Piece] = []
    for screen in trainer.draws.screens.items[:count]:
        pieces += spelled_on(trainer, screen)
    kinds = group(pieces, lambda p: NAMES[p.heads])
    looks, places = group(pieces, lambda p: p.looked), group(pieces, so_many)
    return {
        **{k: shares(found, ALL) for k, found in kinds.items()},
        "by where they look": {k: shares(v, RIGHT) for k, v in looks.items()},
        "by pieces before": {k: shares(v, RIGHT) for k, v in places.items()},
    }


def main() -> None:
    args = arguments(description=__doc__)
    torch.set_num_threads(args.threads)
    print(json.dumps(spelled(Trainer(args), args.steps)))


if __name__ == "__main__":
    main()
