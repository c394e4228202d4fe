"""Failures as pictures: a sheet for each task, from the answers that `eval` wrote.

Green and solid is what was expected, red and dashed what was answered. A question about
a box shows the box and its surroundings, any other the whole screen.

Run: mm15-mlx eval --data TASKS.jsonl --predictions OUT.jsonl
     python benchmarks/failures.py OUT.jsonl TASKS.jsonl --out failures --n 12
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mm15_mlx.answered import key_of, read_predictions
from mm15_mlx.config import UserError
from mm15_mlx.crops import ANSWERED, EXPECTED, answered, draw_crop, expected, failed
from mm15_mlx.images import load_picture
from mm15_mlx.tasks import FIELDS, Row, pictures, read_tasks

BACK, INK = "#f4f4f2", "#202124"
WIDTH, COLUMNS, GAP = 300, 4, 12


def answers(path: Path, tasks: Sequence[Row]) -> list[Row]:
    """The rows of `eval --predictions`, with the pictures of the task file."""
    known = {key_of(row): row for row in tasks}
    rows = []
    for number, row in enumerate(read_predictions(path), 1):
        task = known.get(key_of(row))
        if task is None:
            raise UserError(
                f"{path}, line {number}: the task file has no {row['id']!r}; "
                "give the file that was evaluated"
            )
        shown = {k: task[k] for k in ("image", "images") if k in task}
        rows.append({**row, **shown})
    return rows


def pick(rows: Sequence[Row], n: int, seed: int) -> Iterator[tuple[str, list[Row]]]:
    """At most `n` failures of each task, by chance; a task's do not hang on others."""
    for task in FIELDS:
        pool = [row for row in rows if row["task"] == task and failed(row)]
        pool.sort(key=lambda row: str(row["id"]))
        if pool:
            yield task, Random(f"{seed} {task}").sample(pool, min(n, len(pool)))


def captions(row: Row) -> list[str]:
    """What was asked, expected and answered."""
    task = row["task"]
    if task == "widgets":
        values = "  ".join(f"{k} {v:.2f}" for k, v in row["scores"].items())
        return [f"{row['id']}", f"{expected(row)}, {answered(row)}", values]
    first = str(row["id"])
    if task.startswith("find"):
        asked = row.get("text") or row.get("query") or f"{row.get('icon')} icon"
        first = f"find: {asked}"
    return [first, f"expected: {expected(row)}", f"answered: {answered(row)}"]


def draw_failure(row: Row, picture: Image.Image, width: int = WIDTH) -> Image.Image:
    """The part of the screen, `width` pixels wide, with its boxes and captions."""
    small = draw_crop(row, picture, width)
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
    cells = [draw_failure(r, load_picture(pictures(r)[0]).image) for r in rows]
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
        rows = answers(args.predictions, read_tasks(args.tasks))
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
