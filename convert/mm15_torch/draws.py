"""Batches of the answering stage: which screens come, and what they are asked."""

import argparse
from collections import defaultdict
from random import Random

import numpy as np
import torch
from torch import Tensor

from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.convert.mm15_torch.augment import move
from mm15_mlx.convert.mm15_torch.looking import Places
from mm15_mlx.convert.mm15_torch.pages import KIT
from mm15_mlx.convert.mm15_torch.samples import (
    Asked,
    Batch,
    Row,
    SampleEncoder,
    collate,
    load_picture,
)
from mm15_mlx.convert.mm15_torch.several import SeveralScreens
from mm15_mlx.convert.mm15_torch.store import Screen, Screens, cut_out
from mm15_mlx.screens.crops import part_of, part_size
from mm15_mlx.screens.questions import (
    CATEGORIES,
    Question,
    list_widgets,
    read_screen,
    short_questions,
)
from mm15_mlx.screens.written import TEXT_ONLY, text_only
from mm15_mlx.tiling import cut, plan

Pool = tuple[bool, tuple[int, int]]  # whether drawn (pages.py), and the grid
READ_DRAWN = 0.6  # of the screens that are only read, the share of drawn pages
LONGEST = 1200  # tokens of a transcription
LISTED = 160  # tokens of a question with a list in it
TURNS = (2, 4)  # of a conversation, fewest and most
LONG = {"read": read_screen, "widgets": list_widgets}


def mixture(pairs: list[str]) -> dict[str, float]:
    """Shares by category, from CATEGORY=SHARE; UserError for what is neither."""
    known, shares = (*CATEGORIES, TEXT_ONLY), {}
    for pair in pairs:
        category, _, share = pair.partition("=")
        if category not in known:
            raise UserError(
                f"--shares {pair}: no category {category!r}; one of {', '.join(known)}"
            )
        try:
            shares[category] = float(share)
        except ValueError:
            shares[category] = -1.0
        if not 0 <= shares[category] < float("inf"):
            raise UserError(
                f"--shares {pair}: {share!r} is no share; give a number from 0, such "
                f"as {category}=10"
            )
    if not sum(shares.values()):
        raise UserError(
            f"--shares {' '.join(pairs)}: every share is 0; give one of them more"
        )
    return shares


class Draws:
    """Screens of folders that may still be growing, drawn by the stage's flags."""

    def __init__(
        self, args: argparse.Namespace, config: ModelConfig, samples: SampleEncoder
    ) -> None:
        self.args, self.config, self.samples = args, config, samples
        self.shares = mixture(args.shares)
        self.text_only = self.shares.get(TEXT_ONLY, 0.0) / sum(self.shares.values())
        self.screens = Screens(args.screens, config)
        self.sort()

    def refresh(self) -> None:
        """Takes in what was written since."""
        self.screens.refresh()
        self.sort()

    def sort(self) -> None:
        """The screens by kind and grid: pictures of one batch are tiled alike."""
        self.several = SeveralScreens(self.screens.items, self.config)
        self.ready: dict[Pool, list[Screen]] = defaultdict(list)
        for screen in self.screens.items:
            if len(screen.row["texts"]) >= self.args.lines:
                drawn = screen.row.get("kit") == KIT
                self.ready[drawn, screen.tiling.grid].append(screen)

    def moved(self, screen: Screen, rng: Random) -> Screen:
        """Some screens elsewhere and at another scale on their picture."""
        if rng.random() >= self.args.moved:
            return screen
        seed = np.random.default_rng(rng.getrandbits(32))
        row, image = move(screen.row, load_picture(screen.row), seed)
        views = cut(image, screen.tiling, self.config.tiling)
        return Screen(row, screen.tiling, views)

    def cropped(self, screens: list[Screen], rng: Random) -> list[Screen]:
        """A part of each as a picture of its own, as people cut them: all of one size,
        so that they are tiled alike."""
        widths, heights = zip(*(s.size for s in screens), strict=True)
        part = part_size((min(widths), min(heights)), rng)
        tiling = plan(*part, self.config.tiling)
        return [
            cut_out(s.row, part_of(s.size, part, rng), tiling, self.config)
            for s in screens
        ]

    def changed(self, screens: list[Screen], rng: Random) -> list[Screen]:
        """Some of them moved, or all of them cropped."""
        if rng.random() < self.args.cropped:
            return self.cropped(screens, rng)
        return [self.moved(s, rng) for s in screens]

    def long_answers(self, screen: Screen, rng: Random, limit: int) -> list[Asked]:
        """All of a screen, whatever the limit of other questions."""
        lines = rng.randint(20, 60)
        questions = [LONG[task](screen.row, lines) for task in self.args.long]
        return self.fitting(questions, [screen], LONGEST)

    def short_answers(self, screen: Screen, rng: Random, limit: int) -> list[Asked]:
        """Questions about a screen, each alone, with `limit` tokens at most."""
        return self.fitting(self.questions(screen, rng), [screen], limit)

    def conversations(self, screen: Screen, rng: Random, limit: int) -> list[Asked]:
        """As many questions, a few in turn, with `limit` tokens at most for each."""
        found, mixed = [], self.questions(screen, rng)
        rng.shuffle(mixed)
        while mixed:
            count = rng.randint(*TURNS)
            mine, mixed = mixed[:count], mixed[count:]
            found.append(
                self.samples.converse(mine, [screen.size], [screen.tiling], limit)
            )
        return [talk for talk in found if talk]

    def questions(self, screen: Screen, rng: Random) -> list[Question]:
        return short_questions(screen.row, rng, self.args.questions, self.shares)

    def fitting(
        self, questions: list[Question], screens: list[Screen], limit: int
    ) -> list[Asked]:
        """Those of `limit` tokens at most."""
        sizes, tilings = [s.size for s in screens], [s.tiling for s in screens]
        found = (self.samples.ask(q, sizes, tilings, limit) for q in questions)
        return [a for a in found if a]

    def pool(self, rng: Random, drawn: float) -> list[Screen]:
        """Screens of one kind and grid, rare grids more often than they are; drawn: the
        chance of drawn pages."""
        kind = rng.random() < drawn
        enough = [p for p, found in self.ready.items() if len(found) >= self.args.batch]
        if not enough:
            raise UserError(
                f"--batch {self.args.batch}: {len(self.screens.items)} screens in "
                f"{', '.join(map(str, self.args.screens))}, but not so many of one "
                f"grid with --lines {self.args.lines} lines of text; make more screens "
                "or lower one of the two"
            )
        pools = [p for p in enough if p[0] == kind] or enough
        weights = [len(self.ready[p]) ** 0.5 for p in pools]
        return self.ready[rng.choices(pools, weights)[0]]

    def pictures(self, rng: Random) -> tuple[list[Screen], Tensor]:
        """Screens to read, of which nothing is asked, and the prefix of each (P,)."""
        screens = rng.sample(self.pool(rng, READ_DRAWN), self.args.batch)
        screens = self.changed(screens, rng)
        return screens, self.prefix(screens[:1])

    def prefix(self, screens: list[Screen]) -> Tensor:
        """Ids (P,) of a prompt up to the end of its pictures."""
        sizes, tilings = [s.size for s in screens], [s.tiling for s in screens]
        return torch.tensor(self.samples.question_ids("", sizes, tilings)[0])

    def batch(self, rng: Random) -> tuple[list[Screen], Batch]:
        pool = self.pool(rng, self.args.drawn)
        ask = self.short_answers
        if rng.random() < self.args.long_share:
            ask = self.long_answers
        elif self.args.turns and rng.random() < self.args.turns:
            ask = self.conversations
        # All are padded to the longest: long ones come together, now and then.
        limit = rng.choice(self.args.lengths)
        while True:
            screens = self.changed(rng.sample(pool, self.args.batch), rng)
            asked = [ask(s, rng, limit) for s in screens]
            if all(asked):
                break
        return screens, collate(self.prefix(screens[:1]), asked)

    def together(self, rng: Random) -> tuple[list[Screen], Batch, list[list[Places]]]:
        """The screens of one prompt after those of another, as many to each, questions
        about all of a prompt's, and where the answer to each looks."""
        screens: list[Screen] = []
        asked: list[list[Asked]] = []
        there: list[list[Places]] = []
        while not asked:
            for shown, drawn in self.several.draw(rng, self.args.questions):
                fits = [(self.fitting([d.question], shown, LONGEST), d) for d in drawn]
                found = [(mine[0], d.places) for mine, d in fits if mine]
                if found:
                    screens += shown
                    asked.append([a for a, _ in found])
                    there.append([places for _, places in found])
        prefix = self.prefix(screens[: len(screens) // len(asked)])
        return screens, collate(prefix, asked), there

    def flows(self, flag: str) -> list[list[Row]]:
        """The flows that there are; UserError where a flag needs some."""
        known = self.several.series["flow"]
        if not known:
            raise UserError(
                f"{flag}: no flows in {', '.join(map(str, self.args.screens))}; make "
                "some with data screens --flows, or leave the flag out"
            )
        return known

    def written(self, rng: Random) -> Batch:
        """Questions without a picture, as many as a batch has about pictures."""
        asked: list[Asked] = []
        items = self.screens.items
        screens = [s for s in items if s.row.get("kit") != KIT] or items
        while not asked:
            for s in rng.choices(screens, k=self.args.batch * self.args.questions):
                asked += self.fitting([text_only(s.row, rng)], [], LISTED)
        return collate(self.prefix([]), [asked])
