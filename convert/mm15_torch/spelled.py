"""How a checkpoint reads lines of text, word piece by word piece, all before it given.

Of the pieces that are alone in their visual token, of the first ones in a token of
several, and of those after them (pieces.py): looked, how many positions see the token
in which theirs ends more than any other, with a head that hands it over, in the last
layer; named, how many of these tokens name it before all others half-way; right, how
many are answered.

Run: python -m mm15_mlx.convert.mm15_torch.spelled, with sft's flags --tokenizer,
--screens, --views, --start, --steps as many screens and --out, which is not written.
Prints JSON.
"""

import json
from collections import defaultdict
from random import Random

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
Found = dict[Heads, list[tuple[bool, bool, bool]]]  # looked, named, right


def spelled_on(trainer: Trainer, screen: Screen, found: Found) -> None:
    """Adds what there is to read on a screen."""
    draws, decoder = trainer.draws, trainer.model.decoder
    asked = draws.fitting(ocr(screen.row, Random(0)), [screen], LISTED)
    side = trainer.config.connector_config.pooled_grid
    see = sights(screen, asked, trainer.tokenizer, side)
    if see is None or not see.spelled.any():
        return
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
    for n, halves in enumerate(see.halves[see.spelled]):
        mine, token = tuple(halves.any(1).tolist()), int(halves.any(0).nonzero()[0])
        looked = any(most[h, n] == token for h in (0, 1) if mine[h])
        says = later if mine == LATER else named
        found[mine].append(
            (looked, bool(says[token] == target[n]), bool(guess[n] == target[n]))
        )


@torch.no_grad()
def spelled(trainer: Trainer, count: int) -> dict[str, dict[str, float]]:
    """Shares of each kind, and how many there are, of `count` screens at most."""
    found: Found = defaultdict(list)
    for screen in trainer.draws.screens.items[:count]:
        spelled_on(trainer, screen, found)
    shares = {}
    for kind, rows in sorted(found.items()):
        means = torch.tensor(rows).float().mean(0).tolist()
        shares[NAMES[kind]] = {
            **{k: round(v, 3) for k, v in zip(("looked", "named", "right"), means,
                                              strict=True)},
            "n": len(rows),
        }  # fmt: skip
    return shares


def main() -> None:
    args = arguments(description=__doc__)
    torch.set_num_threads(args.threads)
    print(json.dumps(spelled(Trainer(args), args.steps)))


if __name__ == "__main__":
    main()
