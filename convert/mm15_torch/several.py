"""Screens that are shown together, with questions about all of them.

Two screens of any kind, the two of a pair or two in a row of a flow, the same part of
each cut around what changed, or the four frames of a flow. As in MM1.5, three pictures
or more are not split; nor are parts, so that a batch has several pairs of them.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from random import Random

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.samples import Row, load_views
from mm15_mlx.convert.mm15_torch.store import Screen, cut_out
from mm15_mlx.screens.crops import part_of, placed
from mm15_mlx.screens.several import (
    Several,
    about_pair,
    beside,
    change_of,
    order,
    series,
    which,
)
from mm15_mlx.tiling import plan

SHARES = {"any": 0.16, "pair": 0.28, "part": 0.38, "flow": 0.18}  # of what there is
FLOWS = 8  # of a batch: of a part of their visual tokens each (frames.py)
PARTS = 6  # of pairs, of a batch
CUT, LEFT = 0.6, 0.8  # of flows, and what is left of their frames' sides, at least
WIDE, TALL = (0.7, 1.0), (0.6, 1.2)  # a part: of the shorter side, of its own width
FEW = 8  # questions beside those of a change, of each kind
FEWER = 3  # about each of two parts
MARGIN = 0.06  # around what changed, of the part's width
# How often kinds of change are drawn; others 1. What opened something is read on the
# second screen and found on the first: the longest way to an answer.
OFTEN = {"dialog": 4.0, "sheet": 3.0}
QUOTED = re.compile(r'"(.*?)"')

Prompt = tuple[list[Screen], list[Several]]


class SeveralScreens:
    """What can be shown together of the screens of some folders."""

    def __init__(self, screens: Iterable[Screen], config: ModelConfig) -> None:
        self.config = config
        by_folder: dict[str, list[Row]] = {}
        self.screens: list[Screen] = []
        for screen in screens:
            by_folder.setdefault(screen.row["folder"], []).append(screen.row)
            self.screens.append(screen)
        self.series = {
            what: [s for rows in by_folder.values() for s in series(rows, what)]
            for what in ("pair", "flow")
        }
        steps = [
            [before, after]
            for frames in self.series["flow"]
            for before, after in zip(frames, frames[1:], strict=False)
        ]
        seen = [s for s in steps if (change_of(s[1]) or {}).get("box")]  # not scrolled
        self.series["part"] = self.series["pair"] + seen
        self.series["pair"] += steps
        self.kinds = {what: by_kind(self.series[what]) for what in ("pair", "part")}

    def draw(self, rng: Random, count: int) -> list[Prompt]:
        """Screens, and `count` questions at most about them in this order; several
        such where they are the frames of a flow."""
        kinds = [k for k in SHARES if k == "any" or self.series[k]]
        kind = rng.choices(kinds, [SHARES[k] for k in kinds])[0]
        if kind == "any":
            screens = rng.sample(self.screens, 2)
            rows = [s.row for s in screens]
            made = self.which(rng, rows, count // 2)
            return [(screens, made + self.beside(rng, rows, count // 4))]
        if kind == "pair":
            rows = self.two(rng, kind)
            made = [m for m in about_pair(rng, *rows) if m.images == rows]
            made += self.which(rng, rows, min(count, FEW))
            made += self.beside(rng, rows, min(count, FEW))
            return [([self.shown(r, 2) for r in rows], made)]
        if kind == "part":
            return [self.part(rng, *self.two(rng, kind)) for _ in range(PARTS)]
        asked = [order(rng, *rng.choice(self.series[kind])) for _ in range(FLOWS)]
        return [(self.frames(rng, a.images), [a]) for a in asked]

    def two(self, rng: Random, what: str) -> list[Row]:
        """Two screens in a row, by kinds of change, not as often as these come: flows
        scroll nearly half of the time, and who has seen that says so wherever it is in
        doubt."""
        kinds = list(self.kinds[what])
        kind = rng.choices(kinds, [OFTEN.get(kind, 1.0) for kind in kinds])[0]
        return rng.choice(self.kinds[what][kind])

    def frames(self, rng: Random, rows: list[Row]) -> list[Screen]:
        """The frames of a flow, or the same part of each: a flow is known by what its
        frames show, not where."""
        if rng.random() >= CUT:
            return [self.shown(row, len(rows)) for row in rows]
        size = rows[0]["width"], rows[0]["height"]
        width, height = (round(n * rng.uniform(LEFT, 1)) for n in size)
        box = part_of(size, (width, height), rng)
        tiling = plan(width, height, self.config.tiling, len(rows))
        return [cut_out(row, box, tiling, self.config) for row in rows]

    def part(self, rng: Random, before: Row, after: Row) -> Prompt:
        """The same part of both screens, one view of each, and what it tells."""
        change = change_of(after) or {}
        box = around(rng, before, change)
        size = box[2] - box[0], box[3] - box[1]
        unsplit = self.config.tiling.max_split_images + 1
        tiling = plan(*size, self.config.tiling, unsplit)
        cuts = [cut_out(row, box, tiling, self.config) for row in (before, after)]
        told = change_in(box, change, [before, after], [c.row for c in cuts])
        whole = {k: before[k] for k in ("width", "height")}
        rows = [
            {**shown_as(part.row, c), "whole": whole}
            for part, c in zip(cuts, (None, told), strict=True)
        ]
        screens = [replace(c, row=row) for c, row in zip(cuts, rows, strict=True)]
        made = [m for m in about_pair(rng, *rows) if m.images == rows]
        return screens, made + self.beside(rng, rows, FEWER)

    def beside(self, rng: Random, rows: list[Row], count: int) -> list[Several]:
        """What each of two screens could be asked alone: `count` questions at most."""
        return [m for k in (0, 1) for m in beside(rng, rows, k, count)]

    def which(self, rng: Random, rows: list[Row], count: int) -> list[Several]:
        """On which of two screens something is: `count` questions at most."""
        made = [which(rng, *rows) for _ in range(count)]
        return list({m.question.prompt: m for m in made if m}.values())

    def shown(self, row: Row, count: int) -> Screen:
        """A screen as one of `count` pictures."""
        tiling = plan(row["width"], row["height"], self.config.tiling, count)
        if count <= self.config.tiling.max_split_images:  # as if alone: views are kept
            return Screen(row, tiling)
        return Screen(row, tiling, load_views(row, tiling, self.config))


def by_kind(series: list[list[Row]]) -> dict[str, list[list[Row]]]:
    """Screens in a row by what happened before the last of them."""
    found: dict[str, list[list[Row]]] = {}
    for screens in series:
        kind = (change_of(screens[-1]) or {}).get("kind", "")
        found.setdefault(kind, []).append(screens)
    return found


def around(rng: Random, row: Row, change: Row) -> tuple[int, int, int, int]:
    """A part of a screen with what changed in it, or within what changed; where there
    is room, with what was tapped for it."""
    whole = row["width"], row["height"]
    width = min(whole) * rng.uniform(*WIDE)
    part = round(width), min(round(width * rng.uniform(*TALL)), whole[1])
    box = change.get("box") or [0, 0, *whole]
    tapped = (change.get("tapped") or change).get("box") or box
    start = []
    for axis in (0, 1):
        low, high = box[axis], box[axis + 2]
        both = min(low, tapped[axis]), max(high, tapped[axis + 2])
        if both[1] - both[0] <= part[axis] - 2 * MARGIN * width:
            low, high = both
        first = round(high + MARGIN * width) - part[axis]
        last = round(low - MARGIN * width)
        at = rng.randint(*sorted((first, last)))
        start.append(min(max(at, 0), whole[axis] - part[axis]))
    return start[0], start[1], start[0] + part[0], start[1] + part[1]


def change_in(
    box: tuple[int, int, int, int], change: Row, whole: list[Row], parts: list[Row]
) -> Row | None:
    """A change of screens as their parts in that box show it: nothing where a line that
    it names is cut off, or most of what changed."""
    lines, kept = (
        {t["text"] for r in rows for t in r["texts"]} for rows in (whole, parts)
    )
    if not change or any(n in lines - kept for n in QUOTED.findall(change["words"])):
        return None
    size = box[2] - box[0], box[3] - box[1]

    def moved(thing: Row | None) -> Row | None:
        elements = [thing] if thing and thing["box"] else []
        row = {"texts": [], "elements": elements}
        return next(iter(placed(row, 1, -box[0], -box[1], size)["elements"]), None)

    there = moved(change)
    if change["box"] and not there:
        return None
    return {**(there or change), "tapped": moved(change["tapped"])}


def shown_as(row: Row, change: Row | None) -> Row:
    """A row that is one of a pair, no longer of a flow."""
    own = {k: v for k, v in row.items() if k != "flow"}
    return {**own, "pair": {"change": change}}
