"""Failures as pictures: a sheet for each task, from the answers that `eval` wrote.

Green is what was expected, red what was answered. A question about a box shows the box
and its surroundings, any other the whole screen.

Run: mm15-mlx eval --data TASKS.jsonl --predictions OUT.jsonl
     python benchmarks/failures.py OUT.jsonl TASKS.jsonl --out failures --n 12
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mm15_mlx.config import UserError
from mm15_mlx.evaluate import FIELDS, Row, read_tasks
from mm15_mlx.images import load_picture

EXPECTED, ANSWERED, BACK, INK = "#2f9e44", "#e6194b", "#f4f4f2", "#202124"
WIDTH, COLUMNS, GAP = 300, 4, 12
CROPPED = ("ocr", "widget_class", "icon_class", "tappable")
TRUTH = {  # the field of a row that its answer is compared with
    "ocr": "text", "widget_class": "type", "icon_class": "icon", "tappable": "answer",
}  # fmt: skip
Box = Sequence[float]


def read_predictions(path: Path, tasks: Sequence[Row]) -> list[Row]:
    """The rows of `eval --predictions`, with the pictures of the task file."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; write it with eval --predictions")
    pictures = {row["id"]: row["image"] for row in tasks}
    rows = []
    for number, line in enumerate(path.read_text("utf-8").rstrip("\n").split("\n"), 1):
        try:
            row = json.loads(line)
            known = row["id"] in pictures
            row["task"], row["scores"], row["boxes"], row["prediction"]
            row["task"] != "widgets" or row["listed"]
        except (ValueError, KeyError, TypeError) as e:
            raise UserError(
                f"{path}, line {number} is not a line of eval --predictions"
            ) from e
        if not known:
            raise UserError(
                f"{path}, line {number}: the task file has no {row['id']!r}; "
                "give the file that was evaluated"
            )
        rows.append({**row, "image": pictures[row["id"]]})
    return rows


def failed(row: Row) -> bool:
    """Whether the first metric, the strictest, is short of 1."""
    return next(iter(row["scores"].values())) < 1


def pick(rows: Sequence[Row], n: int, seed: int) -> Iterator[tuple[str, list[Row]]]:
    """At most `n` failures of each task, by chance; a task's do not hang on others."""
    for task in FIELDS:
        pool = [row for row in rows if row["task"] == task and failed(row)]
        pool.sort(key=lambda row: str(row["id"]))
        if pool:
            yield task, Random(f"{seed} {task}").sample(pool, min(n, len(pool)))


def boxes(row: Row) -> tuple[list[Box], list[Box]]:
    """(expected, answered) boxes in pixels of the picture."""
    if row["task"] == "widgets":
        truth = [e["box"] for e in row["elements"]]
        return truth, [e["px"] for e in row["listed"]]
    answered = [] if row["task"] in CROPPED else row["boxes"][:1]
    return [row["box"]], answered


def captions(row: Row) -> list[str]:
    """What was asked, expected and answered."""
    task = row["task"]
    if task == "widgets":
        values = "  ".join(f"{k} {v:.2f}" for k, v in row["scores"].items())
        counts = f"{len(row['elements'])} elements, {len(row['listed'])} listed"
        return [f"{row['id']}", counts, values]
    if task in CROPPED:
        expected = [str(row[TRUTH[task]]), *row.get("accept", ())]
        said = row["prediction"] or "nothing"
        return [row["id"], f"expected: {' or '.join(expected)}", f"answered: {said}"]
    asked = row.get("text") or row.get("query") or f"{row.get('icon')} icon"
    expected, answered = boxes(row)
    said = _plain(answered[0]) if answered else row["prediction"] or "nothing"
    return [f"find: {asked}", f"expected: {_plain(expected[0])}", f"answered: {said}"]


def _plain(box: Box) -> str:
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


def draw_failure(row: Row, picture: Image.Image, width: int = WIDTH) -> Image.Image:
    """The part of the screen, `width` pixels wide, with its boxes and captions."""
    part = view(row, picture.size)
    factor = width / (part[2] - part[0])
    small = picture.crop(part).resize(
        (width, max(1, round((part[3] - part[1]) * factor))), Image.Resampling.LANCZOS
    )
    pen = ImageDraw.Draw(small)
    for color, found in zip((EXPECTED, ANSWERED), boxes(row), strict=True):
        for box in found:
            x1, y1, x2, y2 = ((v - part[k % 2]) * factor for k, v in enumerate(box))
            frame = x1 - 2, y1 - 2, x2 + 2, y2 + 2  # outside, the text stays legible
            pen.rectangle(frame, outline=color, width=2)
    font = ImageFont.load_default(size=13)
    line = round(1.4 * font.size)
    lines = captions(row)
    cell = Image.new("RGB", (width, small.height + 4 + line * len(lines)), BACK)
    cell.paste(small, (0, 0))
    pen = ImageDraw.Draw(cell)
    for k, (text, color) in enumerate(
        zip(lines, (INK, EXPECTED, ANSWERED), strict=True)
    ):
        place = 0, small.height + 2 + k * line
        pen.text(place, _fitting(text, width, font), fill=color, font=font)
    return cell


def _fitting(text: str, width: int, font: Any) -> str:
    text = " ".join(text.split())  # a list of widgets has lines
    while font.getlength(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def draw_sheet(rows: Sequence[Row]) -> Image.Image:
    """The failures side by side, `COLUMNS` in a row."""
    cells = [draw_failure(row, load_picture(row["image"]).image) for row in rows]
    columns = min(COLUMNS, len(cells))
    rows_of = [cells[k : k + columns] for k in range(0, len(cells), columns)]
    height = GAP + sum(max(c.height for c in line) + GAP for line in rows_of)
    sheet = Image.new("RGB", (GAP + columns * (WIDTH + GAP), height), BACK)
    y = GAP
    for line in rows_of:
        for k, cell in enumerate(line):
            sheet.paste(cell, (GAP + k * (WIDTH + GAP), y))
        y += max(c.height for c in line) + GAP
    return sheet


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", type=Path)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder for the sheets")
    parser.add_argument("--n", type=int, default=12, help="failures of a task")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    try:
        if args.n < 1:
            raise UserError(f"--n is {args.n}; it must be at least 1")
        rows = read_predictions(args.predictions, read_tasks(args.tasks))
        args.out.mkdir(parents=True, exist_ok=True)
        for task, some in pick(rows, args.n, args.seed):
            target = args.out / f"{task}.png"
            draw_sheet(some).save(target)
            print(f"{target}: {len(some)}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
