"""The answer with its places as buttons, each for one mark on the picture.

What this file is: which letters of an answer are which of its boxes and points. What it
is not: what a click on them does (viewer.js).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import zip_longest

from mm15_mlx.apps.marks import Mark, colour
from mm15_mlx.apps.state import Turn

_MARKUP = re.compile(r"<(?:box|point)>([^<]*)</(?:box|point)>")
_STOPS = " \t:;,.-"  # between a label and its place


@dataclass(frozen=True)
class Span:
    """Letters `start` to `end` of an answer, with the numbers of their place in pixels
    as markup has them."""

    start: int
    end: int
    numbers: str


def spans(answer: str, marked: str) -> list[Span]:
    """Where the places of an answer stand: `marked` is the same text with pixel markup
    for them. None where the two differ in anything else."""
    found = []
    end = at = 0
    tags = [*_MARKUP.finditer(marked)]
    for tag, after in zip_longest(tags, tags[1:]):
        before = marked[at : tag.start()]
        if not answer.startswith(before, end):
            return []
        at = tag.end()
        rest = marked[at : after.start()] if after else marked[at:]
        follows = re.escape(rest) + ("" if after else r"\Z")
        tokens = rf"(?:<\w+>){{{tag[1].count(',') + 1}}}"  # <loc_1><loc_2>, ScreenVLM's
        place = re.compile(rf"(?:\w*[\[(]+?[^\[\]()]*[\])]+?|{tokens})(?={follows})")
        match = place.match(answer, end + len(before))
        if not match:
            return []
        found.append(Span(match.start(), match.end(), tag[1]))
        end = match.end()
    return found


def linked(turn: Turn, k: int, shown: int) -> str:
    """The answer of turn k while picture `shown` is on the page; its labels and places
    are buttons that show their marks."""
    marks = [*turn.boxes, *turn.points]
    out, end = [], 0
    for span, which in _pairs(spans(turn.answer, turn.marked), marks):
        mark = marks[which]
        before = turn.answer[end : span.start]
        start = span.start - len(_phrase(before, mark.label))
        out.append(escape(turn.answer[end:start]))
        nth = [m.image for m in marks[:which]].count(mark.image)
        # All places of an answer are on one picture: showing the turn shows them.
        where = f'data-turn="{k}" data-later' if mark.image != shown else "data-k"
        words = escape(turn.answer[start : span.end])
        if mark.image != shown:
            words += f" <i>on picture {mark.image + 1}</i>"
        paint, ink = colour(nth)
        out.append(
            f'<button type="button" class="mm-chip" {where}="{nth}" '
            f'style="--paint:{paint};--ink:{ink}"><b>{nth + 1}</b> {words}</button>'
        )
        end = span.end
    return "".join(out) + escape(turn.answer[end:])


def _pairs(found: Sequence[Span], marks: Sequence[Mark]) -> Iterator[tuple[Span, int]]:
    """Each span with its mark; spans that were no marks, such as boxes of no area or
    lines that are no elements, are left out."""
    free: dict[str, list[int]] = {}
    for which, mark in enumerate(marks):
        free.setdefault(",".join(f"{v:g}" for v in mark.px), []).append(which)
    for span in found:
        if free.get(span.numbers):
            yield span, free[span.numbers].pop(0)


def _phrase(before: str, label: str) -> str:
    """The end of a text that is the label of the place after it."""
    line = before.rsplit("\n", 1)[-1]
    if not label or not line.rstrip(_STOPS).endswith(label):
        return ""
    return line[line.rindex(label) :]
