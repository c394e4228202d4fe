"""Places in the answer of a training row, and putting them right on the picture.

What this file is: text in pixel markup → its places, and the text with one of them
elsewhere. What it is not: the pointer (correct.js) or the file of rows (export.py).
"""

import re
from dataclasses import dataclass

from mm15_mlx import ui
from mm15_mlx.apps.state import Region, Scope

_PLACE = re.compile(r"<(box|point)(?:\s+image=(\d+))?>([^<]*)</\1>")
_NUMBER = re.compile(r"\s*-?\d+(?:\.\d+)?\s*")


@dataclass(frozen=True)
class Place:
    """A place in a text: `start` to `end` of it, on picture `region.picture`."""

    region: Region
    start: int
    end: int
    before: str  # the opening tag as it was written


def places(text: str, scope: Scope) -> list[Place]:
    """Boxes and points of a text, in its order; those that are none are left out.

    scope: the pictures of the question; markup without a number is about its first.
    """
    found = []
    for match in _PLACE.finditer(text):
        kind, named, body = match.groups()
        fields = body.split(",")
        about = int(named or 0)
        if about >= len(scope) or len(fields) != (4 if kind == "box" else 2):
            continue
        if all(map(_NUMBER.fullmatch, fields)):
            region = Region(scope[about], tuple(map(float, fields)))
            opening = text[match.start() : match.start(3)]
            found.append(Place(region, match.start(), match.end(), opening))
    return found


def moved(text: str, k: int, region: Region, scope: Scope) -> str:
    """The text with its k-th place at `region`; where there is none so numbered, with
    one more at its end. Whole pixels: nobody sees finer."""
    found = places(text, scope)
    whole = Region(region.picture, tuple(float(round(v)) for v in region.px))
    if not 0 <= k < len(found):
        return f"{text.rstrip()} {whole.markup(scope)}".strip()
    place = found[k]
    opening = place.before
    if ("box" in opening) != (len(whole.px) == 4):  # drawn anew as the other kind
        opening = whole.markup(scope).split(">")[0] + ">"
    body = ui.box_markup(whole.px)[len("<box>") : -len("</box>")]
    kind = "box" if len(whole.px) == 4 else "point"
    return f"{text[: place.start]}{opening}{body}</{kind}>{text[place.end :]}"
