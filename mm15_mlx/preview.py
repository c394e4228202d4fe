"""`mm15-mlx data preview`: rows of training data as a sheet, with the boxes they name.

A look at it shows what no rule can: a box round the wrong thing, an answer to another
question.
"""

import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mm15_mlx.dataset import FrameOf, PictureRef, marked, read_split
from mm15_mlx.grounding import Box, Point, draw
from mm15_mlx.hub_rows import is_table
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.processor import Processor
from mm15_mlx.training_rows import SPLITS, DataError, Row, VideoPart, split_file

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_MOST = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500}  # pixels of a side
_WIDTH, _COLUMNS, _GAP, _LINE, _LINES = 300, 5, 12, 15, 8
_BACK, _INK, _ANSWER, _NUMBER = "#f4f4f2", "#202124", "#0a58ca", "#6c757d"


def run(
    folder: Path, out: Path, split: str, limit: int, model: str, force: bool
) -> None:
    """Write the sheet of the first good rows; raises DataError where there are none."""
    if split not in SPLITS:
        raise DataError(f"--split is {split!r}; use {', '.join(SPLITS)}")
    if out.suffix.lower() not in ENDINGS:
        raise DataError(f"--out {out} must end in .png, .jpg or .webp")
    if not out.parent.is_dir():
        raise DataError(f"--out {out}: the folder {out.parent} does not exist")
    if out.exists() and not force:
        raise DataError(f"{out} exists; give --force to overwrite it")
    tables = is_table(folder)
    if not tables and (not folder.is_dir() or split_file(folder, split) is None):
        raise DataError(f"{folder} has no {split}.jsonl; write one")
    processor = load_processor(find_model(model))
    read = read_split(folder, split, processor)
    if not read.rows:
        raise DataError(f"{folder} has no good row in {split}; see `data check`")
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    try:
        shown = [(r, s.pictures) for r, s in zip(read.rows, read.samples, strict=True)]
        made = sheet(shown[:limit], processor)
        _check_size(out, made.size, min(limit, len(shown)))
        made.save(partial)
        os.replace(partial, out)
    except OSError as e:
        raise DataError(f"--out {out} cannot be written: {e.strerror or e}") from e
    finally:
        partial.unlink(missing_ok=True)
    if read.problems:
        print(
            f"warning: {len(read.problems)} bad rows are not shown; see `data check`",
            file=sys.stderr,
        )
    print(f"wrote {out} ({min(limit, len(read.rows))} rows)", file=sys.stderr)


def _check_size(out: Path, size: tuple[int, int], rows: int) -> None:
    """Raises DataError for a sheet that its format cannot hold."""
    most = _MOST.get(out.suffix.lower())
    if most and max(size) > most:
        raise DataError(
            f"--out {out}: the sheet has {size[0]} × {size[1]} pixels, and "
            f"{out.suffix} holds {most} at most; give a --limit below {rows}, or .png"
        )


def sheet(
    rows: Sequence[tuple[Row, Sequence[PictureRef]]], processor: Processor
) -> Image.Image:
    """All rows, each with its pictures, on one picture, five side by side."""
    cells = [cell(*row, processor) for row in rows]
    columns = min(_COLUMNS, len(cells))
    bands = [cells[k : k + columns] for k in range(0, len(cells), columns)]
    heights = [max(c.height for c in band) for band in bands]
    size = _GAP + columns * (_WIDTH + _GAP), _GAP + sum(h + _GAP for h in heights)
    image = Image.new("RGB", size, _BACK)
    y = _GAP
    for band, height in zip(bands, heights, strict=True):
        for k, one in enumerate(band):
            image.paste(one, (_GAP + k * (_WIDTH + _GAP), y))
        y += height + _GAP
    return image


def cell(row: Row, shown: Sequence[PictureRef], processor: Processor) -> Image.Image:
    """One row: its pictures with the places that the texts mark, then the texts.

    shown: all pictures of the row, frames of its video among them. Of a video those
    frames are drawn that have places, else its first one.
    """
    counts = _counts(row, shown)
    boxes, points = regions(row, counts)
    pictures = []
    for k, caption in _chosen(row, counts, {p.image for p in (*boxes, *points)}):
        drawn = draw(
            shown[k].open(processor).picture.image,
            [b for b in boxes if b.image == k],
            [p for p in points if p.image == k],
        )
        height = max(1, round(drawn.height * _WIDTH / drawn.width))
        small = drawn.resize((_WIDTH, height), Image.Resampling.LANCZOS)
        pictures.append((small, caption))
    lines = [(row.where, _NUMBER)]
    stands = (
        f"[video: {n} frames] " if isinstance(source, VideoPart) else "[image] "
        for source, n in zip(row.images, counts, strict=True)
    )
    for role, parts in row.messages:
        words = "".join(next(stands) if p is None else p for p in parts)
        wrapped = textwrap.wrap(words, 46) or [""]
        if len(wrapped) > _LINES:
            wrapped = [*wrapped[: _LINES - 1], wrapped[_LINES - 1] + " …"]
        lines += [(t, _ANSWER if role == "assistant" else _INK) for t in wrapped]
    height = sum(p.height + 4 + _LINE * bool(c) for p, c in pictures)
    image = Image.new("RGB", (_WIDTH, height + _LINE * len(lines) + 4), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=12)
    y = 0
    for picture, caption in pictures:
        image.paste(picture, (0, y))
        y += picture.height + 4
        if caption:
            pen.text((4, y - 4), caption, fill=_NUMBER, font=font)
            y += _LINE
    for text, color in lines:
        pen.text((4, y), text, fill=color, font=font)
        y += _LINE
    return image


def _counts(row: Row, shown: Sequence[PictureRef]) -> list[int]:
    """How many pictures stand at each of the row's places: all frames of its video."""
    frames = sum(isinstance(ref.source, FrameOf) for ref in shown)
    return [frames if isinstance(s, VideoPart) else 1 for s in row.images]


def _chosen(
    row: Row, counts: Sequence[int], marked_on: set[int]
) -> Iterator[tuple[int, str]]:
    """The pictures of a row that are drawn, with a line for frames of a video."""
    first = 0
    for source, count in zip(row.images, counts, strict=True):
        frames = range(first, first + count)
        first += count
        if not isinstance(source, VideoPart):
            yield frames[0], ""
            continue
        for k in [k for k in frames if k in marked_on] or frames[:1]:
            yield k, f"frame {k - frames[0] + 1} of {count}, image={k}"


def regions(row: Row, counts: Sequence[int]) -> tuple[list[Box], list[Point]]:
    """Every place that a row marks; places in answers are labelled so.

    counts: how many pictures stand at each of the row's places.
    """
    boxes: list[Box] = []
    points: list[Point] = []
    rest = iter(counts)
    shown = subject = 0
    for role, parts in row.messages:
        if None in parts:
            subject = shown
        label = "answer" if role == "assistant" else ""
        for part in parts:
            if part is None:
                shown += next(rest)
                continue
            for _, image, values in marked(part, subject):
                if len(values) == 4:
                    x1, y1, x2, y2 = values
                    boxes.append(Box(label, image, (x1, y1, x2, y2), (0, 0, 0, 0)))
                elif values:
                    points.append(Point(label, image, (values[0], values[1]), (0, 0)))
    return boxes, points
