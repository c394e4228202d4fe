"""What lies on the picture, as SVG in its own pixels: marks of what was found, places
to correct, the place asked about, and the tiles.

What this file is: one shape at a time, without a conversation. What it is not: the
picture with its frame and table (drawing.py), or the pointer (viewer.js, correct.js).
"""

from collections.abc import Sequence
from functools import cache
from html import escape
from unicodedata import east_asian_width

from PIL import ImageFont

from mm15_mlx.grounding import Box, Point
from mm15_mlx.tiling import OVERVIEW, Tiling

# Okabe and Ito's colours without black and yellow, which screens are full of; each with
# the ink that is readable on it (4.5 : 1).
COLOURS = (
    ("#0072b2", "#ffffff"), ("#d55e00", "#000000"), ("#009e73", "#000000"),
    ("#cc79a7", "#000000"), ("#56b4e9", "#000000"), ("#e69f00", "#000000"),
)  # fmt: skip
MANY = 15  # marks; more are drawn finer, and labelled one at a time
LETTERS = 24  # of a label on the picture; not published: our choice
Mark = Box | Point
Size = tuple[int, int]  # width, height


def colour(k: int) -> tuple[str, str]:
    """Paint and ink of the k-th mark."""
    return COLOURS[k % len(COLOURS)]


def places(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{v:g}" for v in values) + "]"


def mark(k: int, found: Mark, unit: float, size: Size) -> str:
    """The k-th thing found: its shape, its number, and its label beside that, which
    page.css shows where there are few or this one is pointed at."""
    paint, ink = colour(k)
    if isinstance(found, Box):
        x1, y1, x2, y2 = found.px
        body = "".join(
            f'<rect class="{name}" x="{x1:g}" y="{y1:g}" '
            f'width="{x2 - x1:g}" height="{y2 - y1:g}"/>'
            for name in ("mm-halo", "mm-line")
        )
    else:
        x1, y1 = found.px
        body = f'<circle class="mm-line" cx="{x1:g}" cy="{y1:g}" r="{4 * unit:g}"/>'
    number = str(k + 1)
    tall, wide = 13 * unit, (5 + 8 * len(number)) * unit
    left = min(max(x1, 0.0), size[0] - wide)
    top = y1 - tall if y1 >= tall else y1
    label = f"{number}: {found.label or 'place'} {places(found.px)}"
    words = _words(found.label, (left, left + wide, size[0]), top, unit)
    return (
        f'<g class="mm-mark" data-k="{k}" tabindex="0" role="button" '
        f'style="--paint:{paint};--ink:{ink}">'
        f"<title>{escape(label)}</title>{body}{words}"
        f'<rect class="mm-tag" x="{left:g}" y="{top:g}" width="{wide:g}" '
        f'height="{tall:g}"/><text aria-hidden="true" x="{left + wide / 2:g}" '
        f'y="{top + 10.5 * unit:g}" text-anchor="middle" font-size="{11 * unit:g}">'
        f"{number}</text></g>"
    )


def _words(
    label: str, across: tuple[float, float, float], top: float, unit: float
) -> str:
    """A label beside its number, on the side that has room for it.

    across: where the number begins and ends, and the picture's width.
    """
    begin, end, width = across
    text = " ".join(label.split())
    right = width - end >= min(begin, _width(text, unit))
    room = width - end if right else begin
    shown = text[:LETTERS]
    while shown and _width(shown + "…" * (shown != text), unit) > room:
        shown = shown[:-1]
    if not shown.strip():
        return ""
    shown = shown if shown == text else f"{shown.rstrip()}…"
    wide = _width(shown, unit)
    x = end if right else begin - wide
    return (
        f'<g class="mm-label" aria-hidden="true"><rect class="mm-tag" x="{x:g}" '
        f'y="{top:g}" width="{wide:g}" height="{13 * unit:g}"/>'
        f'<text x="{x + 3 * unit:g}" y="{top + 10 * unit:g}" '
        f'font-size="{10 * unit:g}">{escape(shown)}</text></g>'
    )


@cache
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=100)


def _width(text: str, unit: float) -> float:
    """Of a label with its margins. Browsers' bold letters are a tenth wider than those
    that are measured here, Chinese ones are as wide as high."""
    wide = [c for c in text if east_asian_width(c) in "WF"]
    narrow = "".join(c for c in text if c not in wide)
    letters = 1.1 * _font().getlength(narrow) / 100 + len(wide)
    return (10 * letters + 6) * unit


def edited(k: int, px: Sequence[float], unit: float) -> str:
    """A place that correct.js moves; what the lines are is said in its label."""
    paint, ink = colour(k)
    label = f"Place {k + 1} of the answer, {places(px)}. Arrow keys move it"
    shape = (
        '<rect class="mm-halo"/><rect class="mm-line"/><path class="mm-grip"/>'
        if len(px) == 4
        else f'<circle class="mm-line" r="{5 * unit:g}"/>'
    )
    label += ", with Shift its lower right corner." if len(px) == 4 else "."
    numbers = ",".join(f"{v:g}" for v in px)
    return (
        f'<g class="mm-edit" data-edit="{k}" data-px="{numbers}" tabindex="0" '
        f'role="application" aria-label="{escape(label)}" '
        f'style="--paint:{paint};--ink:{ink}">{shape}</g>'
    )


def pointed(px: Sequence[float], unit: float) -> str:
    """The place asked about: a cross and a ring, or a box."""
    if len(px) == 2:
        x, y, r = *px, 6 * unit
        return (
            f'<path class="mm-region" d="M{x - r:g} {y:g}H{x + r:g}M{x:g} {y - r:g}'
            f'V{y + r:g}"/><circle class="mm-region" cx="{x:g}" cy="{y:g}" r="{r:g}"/>'
        )
    return _rect("mm-region", px)


def corner(px: Sequence[float], unit: float) -> str:
    """The first of a box's two corners."""
    return f'<circle class="mm-corner" cx="{px[0]:g}" cy="{px[1]:g}" r="{4 * unit:g}"/>'


# --- the tiling ------------------------------------------------------------------


def tiles(tiling: Tiling, size: Size, unit: float, side: int = 0) -> str:
    """Every view of the picture: its edges and a caption.

    side: of a view's grid of visual tokens; 0 leaves their count unsaid.
    """
    counts: dict[int, int] = {}
    if side:
        for token in tiling.packing(side):
            counts[token // side**2] = counts.get(token // side**2, 0) + 1
    shapes, captions = [], []
    for view, index in enumerate(tiling.indices):
        edges = view_edges(tiling, view, size)
        if not (edges[0] < edges[2] and edges[1] < edges[3]):
            continue  # nothing but padding
        whole = index == OVERVIEW
        name = "overview: all of it" if whole else f"tile {index[0]}, {index[1]}"
        text = f"{name} · {counts.get(view, 0)} tokens" if side else name
        shapes.append(_rect("mm-whole" if whole else "mm-tile", edges))
        wide, tall = _width(text, 0.9 * unit), 12 * unit
        # Tiles begin at their upper left corner, and the overview ends below.
        x = max(0.0, min(edges[0], size[0] - wide))
        y = size[1] - tall if whole else edges[1]
        captions.append(
            f'<g class="mm-caption"><rect x="{x:g}" y="{y:g}" width="{wide:g}" '
            f'height="{tall:g}"/><text x="{x + 2.5 * unit:g}" '
            f'y="{y + 9.2 * unit:g}" font-size="{9 * unit:g}">{text}</text></g>'
        )
    return "".join(shapes + captions)


def view_edges(tiling: Tiling, view: int, size: Size) -> tuple[float, ...]:
    """A view in pixels of the picture, without the padding."""
    if tiling.indices[view] == OVERVIEW:
        return (0.0, 0.0, float(size[0]), float(size[1]))
    side = tiling.tile_size
    corners = (*tiling.to_picture(view, 0, 0), *tiling.to_picture(view, side, side))
    inside = (min(max(v, 0.0), size[i % 2]) for i, v in enumerate(corners))
    return tuple(round(v, 1) for v in inside)


def _rect(name: str, px: Sequence[float]) -> str:
    return (
        f'<rect class="{name}" x="{px[0]:g}" y="{px[1]:g}" '
        f'width="{px[2] - px[0]:g}" height="{px[3] - px[1]:g}"/>'
    )
