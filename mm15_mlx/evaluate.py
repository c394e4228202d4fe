"""`mm15-mlx eval`: tasks in JSONL → metrics per task, through a user's own code path.

Rows are `{"id", "image", "task", …}` with boxes in pixels of the original picture; the
metrics' names and rules are those of the documentation's section on tasks.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mm15_mlx import ui
from mm15_mlx.batch import Question, answer_together
from mm15_mlx.config import UserError
from mm15_mlx.decoding import Options
from mm15_mlx.generate import Result
from mm15_mlx.images import load_picture
from mm15_mlx.load import load
from mm15_mlx.memory import NO_STORE, Store
from mm15_mlx.mm15 import MM15
from mm15_mlx.outputs import output_file, write_lines
from mm15_mlx.processor import Processor

Row = dict[str, Any]
Scores = dict[str, float]

# task → the fields that a row must have, besides id, image and task
FIELDS = {
    "find_text": ("text", "box"),
    "find_icon": ("icon", "box"),
    "find_widget": ("query", "box"),
    "ocr": ("box", "text"),
    "widget_class": ("box", "type"),
    "icon_class": ("box", "icon"),
    "tappable": ("box", "answer"),
    "widgets": ("elements",),
}
# the verbs' own limits: a list of a whole screen is longer than an answer
MAX_TOKENS = {task: 1500 if task == "widgets" else 64 for task in FIELDS}


def read_tasks(path: Path) -> list[Row]:
    """The rows of a task file, checked; `image` becomes a path beside the file."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a JSONL file of tasks")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as e:
            raise UserError(f"{where} is not JSON: {e.msg}") from e
        if not isinstance(row, dict):
            raise UserError(f"{where} is not an object")
        if row.get("task") not in FIELDS:
            raise UserError(
                f"{where} has the task {row.get('task')!r}; "
                f"it must be one of {', '.join(FIELDS)}"
            )
        for key in ("id", "image", *FIELDS[row["task"]]):
            if key not in row:
                raise UserError(f"{where} lacks the key {key!r}")
        if row["task"] == "widgets":
            _check_elements(row["elements"], where)
        row["image"] = str(path.parent / row["image"])
        if not Path(row["image"]).is_file():
            raise UserError(f"{where}: the picture {row['image']} does not exist")
        rows.append(row)
    if not rows:
        raise UserError(f"{path} holds no tasks")
    return rows


def _check_elements(elements: Any, where: str) -> None:
    if not isinstance(elements, list) or not elements:
        raise UserError(f"{where}: elements must be a list of at least one element")
    for number, element in enumerate(elements, 1):
        if not isinstance(element, dict) or not {"type", "text", "box"} <= set(element):
            raise UserError(f"{where}: element {number} is not {{type, text, box}}")
        if element["type"] not in ui.ELEMENT_TYPES:
            raise UserError(
                f"{where}: element {number} has the type {element['type']!r}; "
                f"it must be one of {', '.join(ui.ELEMENT_TYPES)}"
            )


def question(row: Row) -> str:
    """The prompt of a task."""
    match row["task"]:
        case "find_text":
            return ui.find_text_prompt(row["text"])
        case "find_icon":
            return ui.find_prompt(f"{row['icon']} icon")
        case "find_widget":
            return ui.find_prompt(row["query"])
        case "ocr":
            return ui.ocr_prompt(row["box"])
        case "widget_class":
            return ui.widget_class_prompt(row["box"])
        case "icon_class":
            return ui.icon_class_prompt(row["box"])
        case "widgets":
            return ui.WIDGETS_PROMPT
        case _:
            return ui.tappable_prompt(row["box"])


# --- metrics ---------------------------------------------------------------------


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (total - width * height)


def centre_in(box: Sequence[float], target: Sequence[float]) -> bool:
    """Whether the middle of `box`, where one would tap, lies in `target`."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return target[0] <= x <= target[2] and target[1] <= y <= target[3]


def folded(text: str) -> str:
    """Case and spaces folded, as `exact` compares."""
    return " ".join(text.casefold().split())


def edit_similarity(a: str, b: str) -> float:
    """1 − edit distance / longer length, of folded texts."""
    a, b = folded(a), folded(b)
    if not a or not b:
        return float(a == b)
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return 1 - row[-1] / max(len(a), len(b))


def matched(
    truth: Sequence[Row], listed: Sequence[ui.Element], typed: bool = False
) -> list[tuple[int, int]]:
    """(annotated, listed) elements that belong together, one to one: of all pairs with
    IoU ≥ 0.5 the best first. With `typed`, only pairs of one type count as pairs.

    Greedy matching at 0.5 is detection's usual rule; the order is not published for
    lists of widgets: our choice.
    """
    pairs = [
        (iou(element["box"], found.px), i, j)
        for i, element in enumerate(truth)
        for j, found in enumerate(listed)
        if not typed or element["type"] == found.type
    ]
    best: dict[int, int] = {}
    for value, i, j in sorted(pairs, key=lambda p: -p[0]):
        if value >= 0.5 and i not in best and j not in best.values():
            best[i] = j
    return sorted(best.items())


def score(row: Row, result: Result, listed: Sequence[ui.Element] = ()) -> Scores:
    """The metrics of one answer, each 0…1; `listed` is what a `widgets` answer lists.

    A screen's `recall@0.5` is the share of its elements that an element of the list
    covers, `precision@0.5` the share of the list that covers one (0 of an empty list).
    """
    task = row["task"]
    if task == "widgets":
        truth = row["elements"]
        hits = len(matched(truth, listed))
        return {
            "recall@0.5": hits / len(truth),
            "typed_recall@0.5": len(matched(truth, listed, typed=True)) / len(truth),
            "precision@0.5": hits / len(listed) if listed else 0.0,
        }
    if task.startswith("find"):
        box = result.boxes[0].px if result.boxes else (0.0, 0.0, 0.0, 0.0)
        return {
            "acc@0.5": float(iou(box, row["box"]) >= 0.5),
            "centre_in_box": float(bool(result.boxes) and centre_in(box, row["box"])),
        }
    if task == "ocr":
        return {
            "exact": float(folded(result.text) == folded(row["text"])),
            "edit_similarity": edit_similarity(result.text, row["text"]),
        }
    key = {"widget_class": "type", "icon_class": "icon", "tappable": "answer"}[task]
    accepted = {folded(str(row[key])), *map(folded, row.get("accept", ()))}
    return {"accuracy": float(folded(result.text) in accepted)}


def f1(rows: Sequence[tuple[str, str]]) -> float:
    """F1 of `yes` over (truth, answer) pairs."""
    pairs = [(folded(t) == "yes", folded(a) == "yes") for t, a in rows]
    hits = sum(t and a for t, a in pairs)
    claimed, true = sum(a for _, a in pairs), sum(t for t, _ in pairs)
    return 2 * hits / (claimed + true) if claimed + true else 0.0


@dataclass(frozen=True)
class Prediction:
    row: Row
    result: Result
    scores: Scores
    seconds: float
    listed: Sequence[ui.Element] = ()  # of a `widgets` answer


def grey(path: str) -> Image.Image:
    """A picture of the same size that shows nothing: what guessing would score."""
    return Image.new("RGB", load_picture(path).size, (128, 128, 128))


def predictions(
    model: MM15,
    processor: Processor,
    rows: Sequence[Row],
    blind: bool = False,
    options: Options | None = None,
) -> Iterator[Prediction]:
    """Answer every task, those about one picture together; `seconds` is a share of
    the time that all of those took."""
    options = options or Options()  # greedy
    rows = sorted(rows, key=lambda r: r["image"])
    for path, group in groupby(rows, key=lambda r: r["image"]):
        mine = list(group)
        picture = load_picture(grey(path) if blind else path)
        questions = [Question(question(r), MAX_TOKENS[r["task"]]) for r in mine]
        begin = time.perf_counter()
        results = answer_together(model, processor, questions, [picture], options)
        seconds = (time.perf_counter() - begin) / len(mine)
        for row, result in zip(mine, results, strict=True):
            listed = elements_of(result, processor) if row["task"] == "widgets" else []
            yield Prediction(row, result, score(row, result, listed), seconds, listed)


def elements_of(result: Result, processor: Processor) -> list[ui.Element]:
    """What a `widgets` answer lists, read as the verb `widgets` reads it."""
    size, scale = result.images[0].picture.size, processor.config.coordinates
    return ui.parse_elements(result.text, size, scale.range)


def task_means(done: Sequence[Prediction]) -> dict[str, Scores]:
    """Means of every metric by task, with the number of tasks `n`."""
    metrics: dict[str, Scores] = {}
    for task in FIELDS:
        mine = [p for p in done if p.row["task"] == task]
        if not mine:
            continue
        keys = mine[0].scores
        means = {k: float(np.mean([p.scores[k] for p in mine])) for k in keys}
        if task == "tappable":
            means["f1"] = f1([(p.row["answer"], p.result.text) for p in mine])
        metrics[task] = {k: round(v, 4) for k, v in means.items()} | {"n": len(mine)}
    return metrics


def element_types(done: Sequence[Prediction]) -> dict[str, Scores]:
    """Over all `widgets` answers together, each type's recall, typed recall and
    precision, its number `n` of annotated and `listed` of answered elements."""
    counts: dict[str, Counter[str]] = {}
    for p in done:
        if p.row["task"] != "widgets":
            continue
        truth = p.row["elements"]
        found = matched(truth, p.listed)
        same = matched(truth, p.listed, typed=True)
        for key, kinds in {
            "n": [e["type"] for e in truth],
            "listed": [e.type for e in p.listed],
            "recall": [truth[i]["type"] for i, _ in found],
            "typed": [truth[i]["type"] for i, _ in same],
            "precision": [p.listed[j].type for _, j in found],
        }.items():
            for kind in kinds:
                counts.setdefault(kind, Counter())[key] += 1
    return {
        kind: {
            "recall@0.5": round(c["recall"] / max(c["n"], 1), 4),
            "typed_recall@0.5": round(c["typed"] / max(c["n"], 1), 4),
            "precision@0.5": round(c["precision"] / max(c["listed"], 1), 4),
            "n": c["n"],
            "listed": c["listed"],
        }
        for kind in ui.ELEMENT_TYPES
        if (c := counts.get(kind))
    }


def summary(
    name: str, done: Sequence[Prediction], by: str | None = None
) -> dict[str, Any]:
    """The JSON of `eval`: means per task, seconds per task, and with `by`, a field of
    the rows, the means for each of its values; where there are `widgets` tasks, also
    `element_types`."""
    seconds = float(np.mean([p.seconds for p in done])) if done else 0.0
    report: dict[str, Any] = {
        "model": name,
        "n": len(done),
        "metrics": task_means(done),
        "seconds_per_task": round(seconds, 4),
    }
    if kinds := element_types(done):
        report["element_types"] = kinds
    if by:
        parts: dict[str, list[Prediction]] = {}
        for p in done:
            parts.setdefault(str(p.row.get(by, "-")), []).append(p)
        report["slices"] = {value: task_means(parts[value]) for value in sorted(parts)}
    return report


def table(metrics: dict[str, Scores]) -> str:
    """Metrics by task as lines of text."""
    lines = []
    for task, values in metrics.items():
        shares = {k: v for k, v in values.items() if k not in ("n", "listed")}
        shown = "  ".join(f"{k} {v:.3f}" for k, v in shares.items())
        lines.append(f"{task:13} {shown}  (n {values['n']})")
    return "\n".join(lines)


def prediction_row(p: Prediction) -> Row:
    """One line of `--predictions`: the task, the answer and its scores."""
    boxes = [list(b.px) for b in p.result.boxes]
    row = {**p.row, "prediction": p.result.text, "boxes": boxes, "scores": p.scores}
    if p.row["task"] == "widgets":
        row["listed"] = [asdict(element) for element in p.listed]
    return row


def run(
    name: str,
    data: Path,
    limit: int | None,
    target: Path | None,
    force: bool,
    json_output: bool,
    by: str | None = None,
    store: Store = NO_STORE,
    options: Options | None = None,
    adapters: Path | None = None,
) -> None:
    """The verb: print the summary and, where `target` is given, write every answer."""
    rows = read_tasks(data)[:limit]
    if by and not any(by in row for row in rows):
        fields = sorted({key for row in rows for key in row})
        raise UserError(f"no row of {data} has the field {by!r}: {', '.join(fields)}")
    if target:
        output_file(target, force)
    model, processor = load(name, adapter_path=adapters)
    processor.memory.store = store
    done = []
    for prediction in predictions(model, processor, rows, options=options):
        done.append(prediction)
        if len(done) % 50 == 0 or len(done) == len(rows):
            print(f"{len(done)}/{len(rows)} tasks", file=sys.stderr)
    if target:
        write_lines(
            target, [json.dumps(prediction_row(p), ensure_ascii=False) for p in done]
        )
    report = summary(name, done, by)
    if json_output:
        print(json.dumps(report, indent=2))
        return
    print(table(report["metrics"]))
    if "element_types" in report:
        print(f"\nwidgets by element type\n{table(report['element_types'])}")
    for value, metrics in report.get("slices", {}).items():
        print(f"\n{by} {value}\n{table(metrics)}")
