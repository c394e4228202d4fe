"""Many answers in few numbers: means, 95 % intervals, slices, and their tables.

What this file is: statistics of answers that have been scored. What it is not: the
scores (scores.py), or the difference of two models (compare.py).

S pictures, R bootstrap draws.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mm15_mlx import ui
from mm15_mlx.images import header_size, load_picture
from mm15_mlx.scores import Answered, Scores, f1, matched
from mm15_mlx.tasks import FIELDS, Row, is_box, pictures
from mm15_mlx.vqa import folded

DRAWS = 1000
LEVEL = (2.5, 97.5)  # percentiles of a 95 % interval
# Shares of the picture's area: about the thirds of the boxes on phone screens. Not
# published: our choice.
SMALL, MEDIUM = 0.001, 0.005
COUNTS = ("n", "listed")  # beside the metrics of a task
Interval = tuple[float, float]
Intervals = dict[str, dict[str, Interval]]
Counts = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Prediction:
    """One task, its answer, and what that was worth. `seconds` is a share of the time
    that all questions about the picture took; `listed` is of a `widgets` answer."""

    row: Row
    result: Answered
    scores: Scores
    seconds: float
    listed: Sequence[ui.Element] = ()


# --- means -----------------------------------------------------------------------


def by_task(done: Sequence[Prediction]) -> dict[str, list[Prediction]]:
    """The answers of each task, in the order of the tasks."""
    parts = {task: [p for p in done if p.row["task"] == task] for task in FIELDS}
    return {task: mine for task, mine in parts.items() if mine}


def metrics_of(task: str, mine: Sequence[Prediction]) -> list[str]:
    """The names of a task's metrics; `vqa` may have several, each of some rows."""
    names = dict.fromkeys(k for p in mine for k in p.scores)
    return [*names, *(["f1"] if task == "tappable" else [])]


def having(mine: Sequence[Prediction], metric: str) -> list[Prediction]:
    """The answers that a metric is of."""
    return [p for p in mine if metric == "f1" or metric in p.scores]


def metric_counts(done: Sequence[Prediction]) -> Counts:
    """How many answers each metric is of, for tasks where that is not always `n`."""
    found: Counts = {}
    for task, mine in by_task(done).items():
        counts = {m: len(having(mine, m)) for m in metrics_of(task, mine)}
        if set(counts.values()) != {len(mine)}:
            found[task] = counts
    return found


def task_means(done: Sequence[Prediction]) -> dict[str, Scores]:
    """Means of every metric by task, with the number of tasks `n`."""
    found: dict[str, Scores] = {}
    for task, mine in by_task(done).items():
        means = {}
        for metric in metrics_of(task, mine):
            if metric == "f1":
                means["f1"] = f1([(p.row["answer"], p.result.text) for p in mine])
            else:
                values = [p.scores[metric] for p in having(mine, metric)]
                means[metric] = float(np.mean(values))
        found[task] = {k: round(v, 4) for k, v in means.items()} | {"n": len(mine)}
    return found


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


# --- intervals -------------------------------------------------------------------


def fraction(p: Prediction, metric: str) -> tuple[float, float]:
    """What an answer adds to the numerator and the denominator of a task's metric."""
    if metric != "f1":
        return p.scores[metric], 1.0
    true, claimed = folded(p.row["answer"]) == "yes", folded(p.result.text) == "yes"
    return 2.0 * (true and claimed), float(true + claimed)


def picture_sums(mine: Sequence[Prediction], metric: str) -> np.ndarray:
    """(S, 2) numerators and denominators of a metric, added up for each picture."""
    sums: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    for p in having(mine, metric):
        sums.setdefault(pictures(p.row), []).append(fraction(p, metric))
    return np.array([np.sum(parts, axis=0) for parts in sums.values()])


def ratio(sums: np.ndarray) -> np.ndarray:
    """Numerators over denominators (…, 2) → (…,); 0 where there is nothing."""
    return sums[..., 0] / np.maximum(sums[..., 1], 1e-9)


@lru_cache(maxsize=16)
def draws(number: int, seed: int = 0) -> np.ndarray:
    """(R, S) how often each picture is drawn, S at a time with replacement."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(number, np.full(number, 1 / number), size=DRAWS)
    return counts.astype(np.float64)


def interval(values: np.ndarray) -> Interval:
    """The middle 95 % of bootstrap draws (R,)."""
    low, high = np.percentile(values, LEVEL)
    return round(float(low), 4), round(float(high), 4)


def bootstrap(done: Sequence[Prediction], metric: str, seed: int = 0) -> Interval:
    """95 % interval of one task's metric: percentiles over resampled pictures.

    Pictures are drawn, not tasks: answers about one stand or fall together. Of a single
    picture both ends are its value: an interval cannot be had. CIDEr's weights of words
    stay those of the whole file.
    """
    sums = picture_sums(done, metric)
    return interval(ratio(draws(len(sums), seed) @ sums))


def intervals(done: Sequence[Prediction]) -> Intervals:
    """The 95 % interval of every metric of every task."""
    return {
        task: {metric: bootstrap(mine, metric) for metric in metrics_of(task, mine)}
        for task, mine in by_task(done).items()
    }


# --- slices ----------------------------------------------------------------------


def box_sizes() -> Callable[[Row], str]:
    """Small, medium or large: the share of the first picture that a row's box takes;
    only the pictures' headers are read, and videos are not."""
    areas: dict[str, int] = {}

    def size(row: Row) -> str:
        if "video" in row or not is_box(row.get("box")):
            return "-"
        path = pictures(row)[0]
        if path not in areas:
            width, height = header_size(path) or load_picture(path).size
            areas[path] = width * height
        x1, y1, x2, y2 = row["box"]
        share = abs(x2 - x1) * abs(y2 - y1) / areas[path]
        return "small" if share < SMALL else "medium" if share < MEDIUM else "large"

    return size


def sliced(done: Sequence[Prediction], field: str) -> dict[str, list[Prediction]]:
    """The answers for each value of a field of the rows, `-` where a row has none.
    `size` is derived from the box where no row says it."""
    derived = field == "size" and not any("size" in p.row for p in done)
    size = box_sizes()
    parts: dict[str, list[Prediction]] = {}
    for p in done:
        value = size(p.row) if derived else p.row.get(field, "-")
        parts.setdefault(str(value), []).append(p)
    return {name: parts[name] for name in sorted(parts)}


def can_slice(rows: Sequence[Row], field: str) -> bool:
    """Whether any row has the field, or it can be derived."""
    return any(field in row or (field == "size" and "box" in row) for row in rows)


def summary(
    name: str, done: Sequence[Prediction], by: Sequence[str] = ()
) -> dict[str, Any]:
    """The JSON of `eval`: means per task with 95 % intervals, seconds per task; for
    each field of `by` the same for its values; where there are `widgets` tasks, also
    `element_types`; where metrics are of some rows of a task each, also `counts`."""
    seconds = float(np.mean([p.seconds for p in done])) if done else 0.0
    report: dict[str, Any] = {
        "model": name,
        "n": len(done),
        "metrics": task_means(done),
        "intervals": intervals(done),
        "seconds_per_task": round(seconds, 4),
    }
    if counts := metric_counts(done):
        report["counts"] = counts
    if kinds := element_types(done):
        report["element_types"] = kinds
    if by:
        parts = {field: sliced(done, field) for field in by}
        report["slices"] = {
            field: {value: task_means(mine) for value, mine in values.items()}
            for field, values in parts.items()
        }
        report["slice_intervals"] = {
            field: {value: intervals(mine) for value, mine in values.items()}
            for field, values in parts.items()
        }
        if counts:
            report["slice_counts"] = {
                field: {value: metric_counts(mine) for value, mine in values.items()}
                for field, values in parts.items()
            }
    return report


# --- tables ----------------------------------------------------------------------


def table(
    metrics: Mapping[str, Scores],
    spread: Mapping[str, Mapping[str, Interval]] | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """Metrics by task as lines of text, each with its interval where there is one, and
    its number of answers where `metric_counts` has it."""
    lines = []
    for task, values in metrics.items():
        shown = []
        for metric, value in values.items():
            if metric in COUNTS:
                continue
            text = f"{metric} {value:.3f}"
            if spread:
                low, high = spread[task][metric]
                text += f" [{low:.3f}, {high:.3f}]"
            if counts and task in counts:
                text += f" (n {counts[task][metric]})"
            shown.append(text)
        lines.append(f"{task:14} {'  '.join(shown)}  (n {values['n']})")
    return "\n".join(lines)


def tables(report: Mapping[str, Any]) -> str:
    """What `eval` prints of a summary."""
    parts = [table(report["metrics"], report["intervals"], report.get("counts"))]
    if "element_types" in report:
        parts.append(f"widgets by element type\n{table(report['element_types'])}")
    for field, values in report.get("slices", {}).items():
        spread = report["slice_intervals"][field]
        counts = report.get("slice_counts", {}).get(field, {})
        parts += [
            f"{field} {value}\n{table(metrics, spread[value], counts.get(value))}"
            for value, metrics in values.items()
        ]
    return "\n\n".join(parts)
