"""Failures to look at: the part of a picture that matters, truth and answer drawn.

What this file is: which answers are failures, their boxes and words, one small picture
of each. It works on lines of `eval --predictions`. What it is not: a page or a sheet of
them (report.py, benchmarks/failures.py).
"""

from collections.abc import Sequence

from PIL import Image, ImageDraw

from mm15_mlx.tasks import CAPTIONS, CLASSES, Row, is_box

EXPECTED, ANSWERED = "#2f9e44", "#e6194b"
CROPPED = ("ocr", "widget_class", "icon_class", "tappable", "widget_caption")
TRUTH = {"ocr": "text", **CLASSES}  # the field that an answer is compared with
DASH = 6  # pixels
Box = Sequence[float]


def failed(row: Row) -> bool:
    """Whether the first metric, the strictest, is short of 1. Captions fail by CIDEr
    below 1, of 10: a line must be drawn somewhere, our choice."""
    return next(iter(row["scores"].values())) < 1


def boxes(row: Row) -> tuple[list[Box], list[Box]]:
    """(expected, answered) boxes in pixels of the picture."""
    if row["task"] == "widgets":
        truth = [e["box"] for e in row["elements"]]
        return truth, [e["px"] for e in row["listed"]]
    if not is_box(row.get("box")):  # a question may have a field of that name
        return [], []
    answered = [] if row["task"] in CROPPED else row["boxes"][:1]
    return [row["box"]], answered


def expected(row: Row) -> str:
    """What would have been right, in words."""
    task = row["task"]
    if task == "widgets":
        return f"{len(row['elements'])} elements"
    if task in TRUTH:
        also = row.get("accept", ()) if task in CLASSES else ()
        return " or ".join([row[TRUTH[task]], *also])
    if task in CAPTIONS:
        return " / ".join(row["references"])
    if task == "vqa":
        return " or ".join(dict.fromkeys(row["answers"]))
    return plain(row["box"])


def answered(row: Row) -> str:
    """What was said; of a box, where."""
    task = row["task"]
    if task == "widgets":
        return f"{len(row['listed'])} listed"
    if task.startswith("find") and row["boxes"]:
        return plain(row["boxes"][0])
    return row["prediction"] or "nothing"


def plain(box: Box) -> str:
    return ", ".join(f"{v:.0f}" for v in box)


def view(row: Row, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of a picture of `size` that is shown: all, or around the asked box."""
    if row["task"] not in CROPPED:
        return 0, 0, *size
    x1, y1, x2, y2 = row["box"]
    wide = max(1.5 * (x2 - x1), 2 * (y2 - y1), size[0] / 3)
    high = max(1.5 * (y2 - y1), wide / 2)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    left, right = max(0, round(x - wide / 2)), min(size[0], round(x + wide / 2))
    top, bottom = max(0, round(y - high / 2)), min(size[1], round(y + high / 2))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def draw_crop(row: Row, picture: Image.Image, width: int) -> Image.Image:
    """That part, `width` pixels wide: expected boxes solid and green, answered ones
    dashed and red."""
    part = view(row, picture.size)
    factor = width / (part[2] - part[0])
    small = picture.crop(part).resize(
        (width, max(1, round((part[3] - part[1]) * factor))), Image.Resampling.LANCZOS
    )
    pen = ImageDraw.Draw(small)
    truth, found = boxes(row)
    for box in truth:
        pen.rectangle(_frame(box, part, factor), outline=EXPECTED, width=2)
    for box in found:
        _dashed(pen, _frame(box, part, factor))
    return small


def _frame(box: Box, part: Box, factor: float) -> tuple[float, float, float, float]:
    """The box in the small picture, two pixels further out: its text stays legible."""
    x1, y1, x2, y2 = ((v - part[k % 2]) * factor for k, v in enumerate(box))
    return min(x1, x2) - 2, min(y1, y2) - 2, max(x1, x2) + 2, max(y1, y2) + 2


def _dashed(pen: ImageDraw.ImageDraw, frame: tuple[float, float, float, float]) -> None:
    x1, y1, x2, y2 = (round(v) for v in frame)
    for start in range(x1, x2, 2 * DASH):
        end = min(start + DASH, x2)
        for y in (y1, y2 - 1):
            pen.rectangle((start, y, end, y + 1), fill=ANSWERED)
    for start in range(y1, y2, 2 * DASH):
        end = min(start + DASH, y2)
        for x in (x1, x2 - 1):
            pen.rectangle((x, start, x + 1, end), fill=ANSWERED)
