"""Annotated screens → tasks for `mm15-mlx eval` about several of them at once.

All are `vqa`: the answers are words. `asks` names the kind, for `--by asks`.

Run: python -m mm15_mlx.screens.several_tasks --screens DIR … --out several.jsonl
"""

import argparse
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from mm15_mlx.screens.several import (
    Several,
    about_flow,
    about_pair,
    series,
    which,
)
from mm15_mlx.screens.sheet import read_rows

Row = dict[str, Any]
# What was tapped and what changed begin with a box, which the metric leaves aside.
METRIC = {"changed": "contains", "tapped": "contains"}
HOW = re.compile(r"was (?:turned )?\w+|changed")  # outside of the names in quotes
QUOTED = re.compile(r'".*?"')
BOX = re.compile(r" ?<box.*?</box> ?")
TRIES = 50  # for one question about two screens: most pairs of screens allow one


# Less tall ones are split in four, and two of these are more than nano-ui can be shown.
TALL = 1.9  # height / width


def questions(rows: list[Row], count: int, rng: Random) -> Iterator[Several]:
    """`count` questions about two single screens, and all about pairs, of tall screens
    only; and all about flows, which are not split."""
    tall = [row for row in rows if row["height"] >= TALL * row["width"]]
    single = [row for row in tall if "pair" not in row and "flow" not in row]
    for _ in range(count if len(single) > 1 else 0):
        made = (which(rng, *rng.sample(single, 2)) for _ in range(TRIES))
        found = next((m for m in made if m), None)
        if found:
            yield found
    for before, after in series(tall, "pair"):
        yield from about_pair(rng, before, after)
    for frames in series(rows, "flow"):
        yield about_flow(rng, frames)[0]  # their order; the rest is what pairs ask


def task(number: int, several: Several, out: Path) -> Row:
    """The row of one question in the file `out`."""
    asked = several.question
    answer = BOX.sub("", asked.answer)
    folders = [Path(row["folder"]) for row in several.images]
    return {
        "id": f"several-{number:04d}",
        "images": [
            os.path.relpath(folder / row["image"], out.parent)
            for folder, row in zip(folders, several.images, strict=True)
        ],
        "task": "vqa",
        "question": asked.prompt,
        "answers": [answer],
        "metric": METRIC.get(asked.task, "exact_match"),
        "asks": asked.task,
        "kit": several.images[0]["kit"],
    }


def hows(rows: Iterable[Row]) -> Iterator[Row]:
    """The questions about changes again, scored by what happened alone (`was opened`),
    whatever it happened to: names are a question of reading."""
    for row in rows:
        if row["asks"] == "changed":
            found = HOW.search(QUOTED.sub("", row["answers"][0]))
            answers = [found.group()] if found else row["answers"]
            more = {"id": f"{row['id']}-how", "asks": "changed_how"}
            yield {**row, **more, "answers": answers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--which", type=int, default=60, help="about any two screens")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = [
        row | {"folder": str(folder)}
        for folder in args.screens
        for row in read_rows(folder)
    ]
    made = questions(rows, args.which, Random(args.seed))
    tasks = [task(n, q, args.out) for n, q in enumerate(made)]
    lines = [json.dumps(row) for row in (*tasks, *hows(tasks))]
    args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
