"""Pairs of screens on which a tab was chosen, with less of what differs between them.

How plainly must a kit mark the chosen tab to be understood? Both screens of a pair are
pulled to their mean until a share of their difference is left; the questions about what
was tapped stay as they are.

Run: python -m mm15_mlx.screens.several_tasks --screens DIR --which 0 --out S.jsonl
     python benchmarks/fainter.py S.jsonl --screens DIR --left 0.5 --out FAINTER
     mm15-mlx eval --data FAINTER/tasks.jsonl --predictions OUT.jsonl
     python benchmarks/places.py OUT.jsonl --screens DIR
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mm15_mlx.config import UserError
from mm15_mlx.images import load_picture
from mm15_mlx.screens.several import change_of
from mm15_mlx.screens.sheet import read_rows
from mm15_mlx.tasks import Row, read_tasks


def pulled(
    before: Image.Image, after: Image.Image, left: float
) -> tuple[Image.Image, Image.Image]:
    """Two RGB pictures of one size, of whose difference `left` (0–1) is left: each
    still shows more of its own."""
    first, second = (np.asarray(image, np.float32) for image in (before, after))
    step = (second - first) * (1 - left) / 2
    nearer = np.rint([first + step, second - step]).astype(np.uint8)
    return Image.fromarray(nearer[0]), Image.fromarray(nearer[1])


def about_tabs(tasks: Sequence[Row], screens: Path) -> list[Row]:
    """The questions about what was tapped where that was a tab."""
    changes = {Path(r["image"]).name: change_of(r) or {} for r in read_rows(screens)}

    def tab(task: Row) -> bool:
        after = Path(task.get("images", [""])[-1]).name
        return changes.get(after, {}).get("kind") == "tab"

    return [task for task in tasks if task.get("asks") == "tapped" and tab(task)]


def write(tasks: Sequence[Row], left: float, out: Path) -> None:
    """`out`/tasks.jsonl and the fainter pictures beside it."""
    (out / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for task in tasks:
        nearer = pulled(*(load_picture(path).image for path in task["images"]), left)
        names = [f"images/{Path(path).name}" for path in task["images"]]
        for name, image in zip(names, nearer, strict=True):  # places.py knows the names
            image.save(out / name, quality=100, subsampling=0)
        lines.append(json.dumps({**task, "images": names}, ensure_ascii=False))
    (out / "tasks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--screens", type=Path, required=True)
    parser.add_argument("--left", type=float, required=True, help="0 to 1")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(arguments)
    try:
        if not 0 <= args.left <= 1:
            raise UserError(f"--left is {args.left:g}; it must be from 0 to 1")
        tasks = about_tabs(read_tasks(args.tasks), args.screens)
        if not tasks:
            raise UserError(
                f"{args.tasks} asks about no tab of {args.screens} that was tapped; "
                "make tasks with mm15_mlx.screens.several_tasks"
            )
        write(tasks, args.left, args.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(tasks)} pairs with {args.left:g} of what differs in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
