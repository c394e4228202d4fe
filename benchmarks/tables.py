"""What the benchmarks print: means with their spread, and one table for each field."""

from collections.abc import Sequence

import numpy as np

from mm15_mlx.evaluate import FIELDS, Prediction, folded, task_means

RESAMPLES = 2000
HEADLINE = {  # the metric that the tables by kit and type show
    **dict.fromkeys(FIELDS, "accuracy"),
    **dict.fromkeys(("find_text", "find_icon", "find_widget"), "acc@0.5"),
    "ocr": "edit_similarity",
    "widgets": "recall@0.5",
}
Interval = tuple[float, float]


def fraction(p: Prediction, metric: str) -> tuple[float, float]:
    """What an answer adds to the numerator and the denominator of a task's metric."""
    if metric != "f1":
        return p.scores[metric], 1.0
    true, claimed = folded(p.row["answer"]) == "yes", folded(p.result.text) == "yes"
    return 2.0 * (true and claimed), float(true + claimed)


def bootstrap(done: Sequence[Prediction], metric: str, seed: int = 0) -> Interval:
    """95 % interval of one task's metric: percentiles over resampled screens.

    Screens are drawn, not tasks: answers about one screen stand or fall together. Of a
    single screen both ends are its value: an interval cannot be had.
    """
    screens: dict[str, list[tuple[float, float]]] = {}
    for p in done:
        screens.setdefault(p.row["image"], []).append(fraction(p, metric))
    sums = np.array([np.sum(parts, axis=0) for parts in screens.values()])  # (S, 2)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(sums), size=(RESAMPLES, len(sums)))
    above, below = sums[drawn].sum(axis=1).T  # (R,) each
    low, high = np.percentile(above / np.maximum(below, 1e-9), (2.5, 97.5))
    return round(float(low), 4), round(float(high), 4)


def intervals(done: Sequence[Prediction]) -> dict[str, dict[str, Interval]]:
    """The 95 % interval of every metric of every task."""
    return {
        task: {
            metric: bootstrap([p for p in done if p.row["task"] == task], metric)
            for metric in values
            if metric != "n"
        }
        for task, values in task_means(done).items()
    }


def main_table(
    done: Sequence[Prediction], beside: Sequence[Prediction] = (), name: str = ""
) -> str:
    """Every metric with its interval and n, and that of other answers beside it."""
    means, spread, others = task_means(done), intervals(done), task_means(beside)
    titles = ["task", "metric", "screen", "95 %", *([name] if others else []), "n"]
    lines = [_line(titles), "|" + "---|" * len(titles)]
    for task, values in means.items():
        for metric, value in values.items():
            if metric == "n":
                continue
            low, high = spread[task][metric]
            other = [f"{others[task][metric]:.3f}"] if others else []
            span = f"{low:.3f}–{high:.3f}"
            lines.append(
                _line([task, metric, f"{value:.3f}", span, *other, str(values["n"])])
            )
    return "\n".join(lines)


def field_table(done: Sequence[Prediction], field: str) -> str:
    """The headline metric of every task (n) for each value of a field of the rows."""
    parts: dict[str, list[Prediction]] = {}
    for p in done:
        if field in p.row:
            parts.setdefault(str(p.row[field]), []).append(p)
    means = {value: task_means(parts[value]) for value in sorted(parts)}
    tasks = [task for task in FIELDS if any(task in m for m in means.values())]
    titles = [field, *(f"{task} {HEADLINE[task]}" for task in tasks)]
    lines = [_line(titles), "|" + "---|" * len(titles)]
    for value, found in means.items():
        cells = [
            f"{found[task][HEADLINE[task]]:.3f} ({found[task]['n']})"
            if task in found
            else "–"
            for task in tasks
        ]
        lines.append(_line([value, *cells]))
    return "\n".join(lines)


def type_table(kinds: dict[str, dict[str, float]]) -> str:
    """`element_types` of a summary."""
    titles = ["widgets", "recall@0.5", "typed_recall@0.5", "precision@0.5", "n"]
    titles.append("listed")
    lines = [_line(titles), "|" + "---|" * len(titles)]
    for kind, values in kinds.items():
        shares = [f"{values[t]:.3f}" for t in titles[1:4]]
        counts = [str(values[t]) for t in titles[4:]]
        lines.append(_line([kind, *shares, *counts]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
