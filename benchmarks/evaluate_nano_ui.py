"""`nano-ui` on held-out screens beside the same questions about a grey picture.

The grey picture has the screen's size and shows nothing: what is left is what the model
guesses from the question alone. Every metric comes with its n and a 95 % interval (a
bootstrap over screens); further tables show each kit and each element type. The last
line of stdout is one JSON document. With `--ocr`, a table of the tasks that an OCR
engine can do sets its answers beside the model's (baseline_ocr.py, extra `check`).

Run: python benchmarks/evaluate_nano_ui.py benchmarks/data/layouts.jsonl
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import baseline_ocr
from tables import field_table, main_table, type_table

from mm15_mlx import load
from mm15_mlx.config import UserError
from mm15_mlx.evaluate import Prediction, predictions, read_tasks, summary

FIELDS = ("kit", "type")  # of the rows; only classes and widgets have a type


def report(name: str, done: Sequence[Prediction]) -> dict[str, Any]:
    """The JSON of `eval`, with the slices by both fields."""
    return summary(name, done, [f for f in FIELDS if any(f in p.row for p in done)])


def ocr_table(seen: Sequence[Prediction], ocr: baseline_ocr.Ocr) -> str:
    """The model and an OCR engine on the same tasks."""
    mine = [p for p in seen if p.row["task"] in baseline_ocr.TASKS]
    others = list(baseline_ocr.predictions([p.row for p in mine], ocr))
    return main_table(mine, others, baseline_ocr.NAME)


def main(
    arguments: Sequence[str] | None = None, ocr: baseline_ocr.Ocr | None = None
) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", type=Path)
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--task", help="only this task, such as widgets")
    parser.add_argument("--ocr", action="store_true", help="an OCR engine beside it")
    args = parser.parse_args(arguments)
    try:
        rows = read_tasks(args.tasks)
        rows = [r for r in rows if args.task in (None, r["task"])][: args.limit]
        if not rows:
            raise UserError(f"{args.tasks} has no task {args.task!r}")
        if args.ocr:
            baseline_ocr.check(args.tasks, rows)
            ocr = ocr or baseline_ocr.rapid_ocr()
        model, processor = load(args.model)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    seen, blind = (
        list(predictions(model, processor, rows, blind=b)) for b in (False, True)
    )
    found = report(args.model, seen)
    print(main_table(seen, blind, "grey picture"))
    if args.ocr:
        print(f"\n{ocr_table(seen, ocr)}")
    for field in found.get("slices", ()):
        print(f"\n{field_table(seen, field)}")
    if "element_types" in found:
        print(f"\n{type_table(found['element_types'])}")
    print(f"\n{json.dumps({'screen': found, 'grey': summary(args.model, blind)})}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
