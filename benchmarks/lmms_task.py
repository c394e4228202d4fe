"""A folder with a task for lmms-eval, made of tasks of `eval`: to see that its figures
are ours, or as a pattern for pictures of your own.

    python benchmarks/lmms_task.py benchmarks/data/kits.jsonl --out lmms-task --limit 12
    lmms-eval --model mm15_mlx --model_args pretrained=nano-ui \
        --tasks mm15_ocr --include_path lmms-task --batch_size 1

Only `ocr` is taken, whose exact match lmms-eval counts as we do. Nothing is fetched:
set HF_HUB_OFFLINE=1 where there is no network. lmms-eval 0.7 needs filelock below 4.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mm15_mlx import ui
from mm15_mlx.config import UserError
from mm15_mlx.tasks import read_tasks

TASK = """task: mm15_ocr
dataset_path: json
dataset_kwargs:
  data_files:
    test: {rows}
test_split: test
output_type: generate_until
doc_to_visual: !function shown.pictures
doc_to_text: !function shown.question
doc_to_target: answer
generation_kwargs:
  max_new_tokens: 48
  temperature: 0
  do_sample: false
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata:
  - version: 0.0
"""
SHOWN = '''"""What lmms-eval shows of a row, and asks."""

from PIL import Image


def pictures(row):
    return [Image.open(row["image"]).convert("RGB")]


def question(row, lmms_eval_specific_kwargs=None):
    return row["question"]
'''


def write(data: Path, out: Path, limit: int | None) -> int:
    """The folder `out`; returns how many rows it has. Raises UserError."""
    rows = [row for row in read_tasks(data) if row["task"] == "ocr"][:limit]
    if not rows:
        raise UserError(f"{data} has no task ocr; give a file that has")
    lines = [
        {
            "image": str(Path(row["image"]).resolve()),
            "question": ui.ocr_prompt(row["box"]),
            "answer": row["text"],
        }
        for row in rows
    ]
    out.mkdir(parents=True, exist_ok=True)
    path = out / "rows.jsonl"
    path.write_text("".join(json.dumps(x) + "\n" for x in lines), encoding="utf-8")
    task = TASK.format(rows=json.dumps(str(path.resolve())))
    (out / "mm15_ocr.yaml").write_text(task, encoding="utf-8")
    (out / "shown.py").write_text(SHOWN, encoding="utf-8")
    return len(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="Tasks of `eval`.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int)
    args = parser.parse_args(arguments)
    try:
        print(f"{write(args.data, args.out, args.limit)} rows in {args.out}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
