"""Boxes and points: pixels of the picture, the model's 0…range, text, and drawing.

Users and data write `<box>x1,y1,x2,y2</box>` and `<point>x,y</point>` in pixels of the
original picture; models answer `[x1, y1, x2, y2]` in 0…range of it, as Ferret does, or
in the grammar of their own that `CoordinateConfig` describes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from mm15_mlx.config import CoordinateConfig, UserError
from mm15_mlx.prompt import Region

Size = tuple[int, int]  # width, height


class RegionError(UserError):
    """A box or a point that cannot be used; the message shows it and the limits."""


@dataclass(frozen=True)
class Box:
    """`px` in pixels of picture `image`, `norm` in 0–1000 of it: x1, y1, x2, y2."""

    label: str
    image: int
    px: tuple[float, float, float, float]
    norm: tuple[int, int, int, int]


@dataclass(frozen=True)
class Point:
    """Like `Box`, with x, y."""

    label: str
    image: int
    px: tuple[float, float]
    norm: tuple[int, int]


def to_model(
    values: Sequence[float],
    size: Size,
    scale: int,
    image: int = 0,
    offset: Size = (0, 0),
) -> Region:
    """Pixels of picture `image` → whole numbers of 0…scale over a frame of `size`, in
    which the picture begins at `offset`."""
    shares = (
        round((v + offset[i % 2]) * scale / size[i % 2]) for i, v in enumerate(values)
    )
    return Region(tuple(shares), image)


def to_pixels(values: Sequence[float], size: Size, scale: int) -> tuple[float, ...]:
    """Numbers of 0…scale → pixels, to a tenth of a pixel."""
    return tuple(round(v * size[i % 2] / scale, 1) for i, v in enumerate(values))


def _frame(size: Size, coordinates: CoordinateConfig) -> tuple[Size, Size]:
    """The frame over which numbers count, and where the picture begins in it."""
    if coordinates.frame != "square":  # the canvas is the decoder's affair
        return size, (0, 0)
    side = max(size)
    return (side, side), ((side - size[0]) // 2, (side - size[1]) // 2)


def _grammar(coordinates: CoordinateConfig | int) -> CoordinateConfig:
    """How answers read. Location tokens are shown as digits over the picture, which is
    also what a mere number, their range, stands for."""
    if isinstance(coordinates, int):
        return CoordinateConfig(range=coordinates)
    if coordinates.format == "tokens":
        return CoordinateConfig(range=coordinates.range)
    return coordinates


# --- what users write ------------------------------------------------------------

_MARKUP = re.compile(r"<(box|point)(?:\s+image=(\d+))?>(.*?)</\1>", re.DOTALL)
_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*")


def split_regions(
    text: str,
    sizes: Sequence[Size],
    coordinates: CoordinateConfig | int,
    image: int = 0,
    first: int = 0,
) -> list[str | Region]:
    """Text with pixel markup → plain text and regions in the model's coordinates.

    coordinates: the model's, or a range of numbers over the picture.
    Markup that names no picture is about picture `image`; one that does counts from
    picture `first`. A box that reaches over the edge is clipped to the picture; one
    that lies wholly outside, is empty or is not made of numbers is a RegionError.
    """
    grammar = _grammar(coordinates)
    parts: list[str | Region] = []
    end = 0
    for match in _MARKUP.finditer(text):
        parts.append(text[end : match.start()])
        kind, named, body = match.groups()
        about = image if named is None else first + int(named)
        parts.append(_read(match.group(0), kind, about, body, sizes, grammar, first))
        end = match.end()
    parts.append(text[end:])
    return [p for p in parts if p != ""]


def _read(
    shown: str,
    kind: str,
    image: int,
    body: str,
    sizes: Sequence[Size],
    grammar: CoordinateConfig,
    first: int,
) -> Region:
    if not sizes:
        raise RegionError(f"{shown} marks a place, but there is no picture")
    if image >= len(sizes):
        raise RegionError(
            f"{shown} names picture {image - first}, but there are "
            f"{len(sizes) - first} (the first is image=0)"
        )
    width, height = sizes[image]
    fields = body.split(",")
    wanted = 4 if kind == "box" else 2
    found = [_NUMBER.fullmatch(f) for f in fields]
    if len(fields) != wanted or not all(found):
        form = "x1,y1,x2,y2" if kind == "box" else "x,y"
        raise RegionError(f"{shown} is not <{kind}>{form}</{kind}> in pixels")
    values = [float(f) for f in fields]
    if kind == "box" and not (values[0] < values[2] and values[1] < values[3]):
        raise RegionError(f"{shown} is empty: x1 < x2 and y1 < y2 must hold")
    xs, ys = values[0::2], values[1::2]
    outside = max(xs) < 0 or min(xs) > width or max(ys) < 0 or min(ys) > height
    if kind == "box":  # one that only touches an edge has nothing in the picture
        outside = xs[1] <= 0 or xs[0] >= width or ys[1] <= 0 or ys[0] >= height
    if outside:
        raise RegionError(
            f"{shown} lies outside the picture of {width} × {height} pixels"
        )
    limits = (width, height)
    clipped = [min(max(v, 0.0), limits[i % 2]) for i, v in enumerate(values)]
    frame, offset = _frame((width, height), grammar)
    return to_model(clipped, frame, grammar.range, image, offset)


# --- what models answer ----------------------------------------------------------

_FIELD = re.compile(r"\{(\w+)\}")
_TAG = re.compile(r"<([\w-]+)>\s*$")
_BETWEEN = " \t:;,.-"  # a region and its label


@lru_cache
def _pattern(grammar: CoordinateConfig) -> re.Pattern[str]:
    """Boxes and points as the model writes them, with spaces anywhere between the
    parts, and numbers that may be named: `click(x=0.25, y=0.5)`."""
    number = r"[01](?:\.\d{1,8})?|\.\d{1,8}" if grammar.decimals else r"\d{1,5}"
    kinds = []
    for form in (grammar.box, grammar.point):
        literals = _FIELD.split(form)  # text, field, text, field … text
        for i, part in enumerate(literals):
            if i % 2:
                literals[i] = rf"\s*(?:{part}\s*=\s*)?(?P<{part}>{number})\s*"
            else:
                literals[i] = r"\s*".join(map(re.escape, part.split()))
        if literals[0] == r"\(":  # OS-Atlas-4B's evaluation reads [[x,y]]
            literals[0], literals[-1] = r"(?:\(|\[\[)", r"(?:\)|\]\])"
        kinds.append("".join(literals))
    return re.compile("|".join(kinds))


_ASKED = re.compile(
    r"^\s*where(?: is|'s| are) (?:the |an? )?(.+?)(?: located)?\s*\??\s*$",
    re.IGNORECASE,
)


def asked_label(prompt: str) -> str:
    """What `Where is the Wi-Fi switch?` asks for: `Wi-Fi switch`; else nothing."""
    match = _ASKED.match(prompt)
    return match.group(1) if match else ""


def parse_answer(
    text: str,
    sizes: Sequence[Size],
    coordinates: CoordinateConfig | int,
    label: str = "",
    image: int = 0,
) -> tuple[list[Box], list[Point]]:
    """The boxes and points in an answer, clipped to the picture.

    coordinates: the model's, or the range of numbers in brackets over the picture. A
    region's label is the text before it on its line, else `label`, else, of the only
    region of an answer, the text behind it on its line; of ScreenVLM's
    `<button><loc_1>…<loc_9>Sign in</button>` it is `button "Sign in"`. Corners in the
    wrong order are swapped; a box of no area is left out: it points at nothing.
    """
    boxes: list[Box] = []
    points: list[Point] = []
    found = list(places(text, sizes, coordinates, image))
    for place in found:
        named = _label(place) or label or (_behind(place) if len(found) == 1 else "")
        region = replace(place.region, label=named)
        if isinstance(region, Box):
            boxes.append(region)
        else:
            points.append(region)
    return boxes, points


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (total - width * height)


@dataclass(frozen=True)
class Place:
    """A region without its label, where its text begins in the answer, and what stands
    around that: since the region before, and up to the answer's end."""

    region: Box | Point
    start: int
    before: str
    after: str

    @property
    def tag(self) -> tuple[str, str] | None:
        """Name and text of an element such as `<button>`, whose text ends with its own
        tag's end or where the next element begins."""
        tag = _TAG.search(self.before)
        if not tag or "<" not in self.after:
            return None
        return tag[1], self.after[: self.after.index("<")].strip()


def places(
    text: str, sizes: Sequence[Size], coordinates: CoordinateConfig | int, image: int
) -> Iterator[Place]:
    """What `parse_answer` finds, in the answer's order."""
    if not sizes:
        return
    grammar = _grammar(coordinates)
    size, scale = sizes[image], grammar.range
    end = 0
    for match in _pattern(grammar).finditer(text):
        around = text[end : match.start()], text[match.end() :]
        end = match.end()
        found = {k: float(v) for k, v in match.groupdict().items() if v is not None}
        values = _in_picture(found, size, grammar)
        kind: type[Box | Point] = Point
        if len(values) == 4:
            kind, (x1, y1, x2, y2) = Box, values
            values = [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]
            if values[0] == values[2] or values[1] == values[3]:
                continue
        px, norm = to_pixels(values, size, scale), _thousand(values, scale)
        yield Place(kind("", image, px, norm), match.start(), *around)


def _label(place: Place) -> str:
    if place.tag:
        name, words = place.tag
        return f'{name} "{words}"' if words else name
    return place.before.rsplit("\n", 1)[-1].strip(_BETWEEN)


def _behind(place: Place) -> str:
    """Words only: not what closes a region, such as `</box>` or `')`."""
    line = place.after.split("\n", 1)[0].strip(_BETWEEN)
    return line if re.search(r"\w", line) and "<" not in line else ""


def _in_picture(
    found: dict[str, float], size: Size, grammar: CoordinateConfig
) -> list[float]:
    """Numbers as the model wrote them → 0…range over the picture, clipped to it."""
    unit = grammar.range if grammar.decimals else 1
    frame, offset = _frame(size, grammar)
    values = []
    for name in ("x1", "y1", "x2", "y2", "x", "y"):
        if name in found:
            axis = int(name[0] == "y")
            value = min(found[name] * unit, grammar.range)
            value *= frame[axis] / size[axis]
            value -= offset[axis] * grammar.range / size[axis]
            values.append(min(max(value, 0.0), float(grammar.range)))
    return values


def _thousand(values: Sequence[float], scale: int) -> tuple[int, ...]:
    return tuple(round(v * 1000 / scale) for v in values)


# --- drawing ---------------------------------------------------------------------

PALETTE = ("#e6194b", "#0a84ff", "#2f9e44", "#f08c00", "#7048e8", "#0c8599", "#c2255c")


def draw(
    picture: Image.Image, boxes: Sequence[Box], points: Sequence[Point] = ()
) -> Image.Image:
    """A copy of the picture with boxes, points and labels; sizes follow the picture."""
    image = picture.convert("RGB")
    pen = ImageDraw.Draw(image)
    unit = max(1, round(max(image.size) / 500))
    font = ImageFont.load_default(size=max(10, 9 * unit))
    for k, box in enumerate(boxes):
        color = PALETTE[k % len(PALETTE)]
        x1, y1, x2, y2 = box.px
        pad = 2 * unit
        pen.rectangle(
            (x1 - pad, y1 - pad, x2 + pad, y2 + pad), outline=color, width=unit
        )
        _tag(pen, (x1 - pad, y1 - pad), box.label, color, font, image.size)
    for k, point in enumerate(points):
        color = PALETTE[(len(boxes) + k) % len(PALETTE)]
        x, y = point.px
        r = 4 * unit
        pen.ellipse(
            (x - r, y - r, x + r, y + r), fill=color, outline="white", width=unit
        )
        _tag(pen, (x + r, y - r), point.label, color, font, image.size)
    return image


def _tag(
    pen: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    label: str,
    color: str,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    size: Size,
) -> None:
    """The label above the corner, moved inside the picture where it would leave it."""
    if not label:
        return
    left, top, right, bottom = pen.textbbox((0, 0), label, font=font)
    gap = max(2, round((bottom - top) / 5))
    width, height = right - left + 2 * gap, bottom - top + 2 * gap
    x = max(0, min(corner[0], size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    pen.rectangle((x, y, x + width, y + height), fill=color)
    pen.text((x + gap - left, y + gap - top), label, fill="white", font=font)
