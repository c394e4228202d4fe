"""Annotated screens → tasks for `mm15-mlx eval`.

Run: python -m mm15_mlx.screens.tasks --screens DIR --out tasks.jsonl --per-task 2
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from mm15_mlx.screens.questions import (
    SPOKEN,
    bare_icons,
    caption,
    named_widgets,
    once,
)
from mm15_mlx.screens.sheet import read_rows

Row = dict[str, Any]


def candidates(row: Row, rng: Random) -> dict[str, list[Row]]:
    """Every task that a screen allows, by task; only unambiguous ones.

    All tasks draw from one `rng` in this order: a new task goes to the end, or the
    tasks of screens that are in use would change.
    """
    texts = once([t["text"] for t in row["texts"]])
    icons = once([e["icon"] for e in row["elements"] if e.get("icon")])
    bare = bare_icons(row, rng)
    return {
        "find_text": [
            {"text": t["text"], "box": t["box"]}
            for t in row["texts"]
            if t["text"] in texts
        ],
        "find_icon": [
            {"icon": e["icon"], "box": e["box"]} for e in bare if e["icon"] in icons
        ],
        "find_widget": [
            {"query": f"{name} {SPOKEN[kind][0]}", "box": e["box"], "type": kind}
            for name, kind, e in named_widgets(row)
        ],
        "ocr": [{"box": t["box"], "text": t["text"]} for t in row["texts"]],
        "widget_class": [typed(e) for e in row["elements"]],
        "icon_class": [{"box": e["box"], "icon": e["icon"]} for e in bare],
        "tappable": [
            {"box": e["box"], "answer": "yes" if e["tappable"] else "no"}
            for e in row["elements"]
        ],
        "widgets": [{"elements": _listed(row)}] if row["elements"] else [],
    }


def typed(element: Row) -> Row:
    """Its box and its type; `accept`: types that are as right."""
    accept = element.get("state", {}).get("accept")
    asked = {"box": element["box"], "type": element["type"]}
    return {**asked, "accept": accept} if accept else asked


def _listed(row: Row) -> list[Row]:
    """All elements of a screen, each named as the model's list names it."""
    return [
        {"type": e["type"], "text": e.get("icon") or caption(e), "box": e["box"]}
        for e in row["elements"]
    ]


def tasks(row: Row, folder: str, per_task: int, seed: int) -> Iterator[Row]:
    """At most `per_task` tasks of each kind about one screen."""
    rng = Random(f"{seed} {row['id']}")
    for task, pool in candidates(row, rng).items():
        for k, fields in enumerate(rng.sample(pool, min(per_task, len(pool)))):
            yield {
                "id": f"{row['id']}-{task}-{k}",
                "image": os.path.normpath(os.path.join(folder, row["image"])),
                "task": task,
                **fields,
                "kit": row["kit"],
                "layout": row["layout"],
                "dark": row["dark"],
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-task", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with args.out.open("w") as out:
        for folder in args.screens:
            beside = os.path.relpath(folder, args.out.parent)
            for row in read_rows(folder):
                for task in tasks(row, beside, args.per_task, args.seed):
                    out.write(json.dumps(task, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
