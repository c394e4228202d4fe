"""What the benchmarks print: means with their spread, and one table for each field."""

from collections.abc import Sequence

from mm15_mlx.summaries import Prediction, bootstrap, intervals, task_means
from mm15_mlx.tasks import CAPTIONS, FIELDS

__all__ = ["bootstrap", "field_table", "intervals", "main_table", "type_table"]
HEADLINE = {  # the metric that the tables by kit and type show; vqa has no one metric
    **dict.fromkeys((task for task in FIELDS if task != "vqa"), "accuracy"),
    **dict.fromkeys(("find_text", "find_icon", "find_widget"), "acc@0.5"),
    "ocr": "edit_similarity",
    "widgets": "recall@0.5",
    **dict.fromkeys(CAPTIONS, "cider"),
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
    tasks = [task for task in HEADLINE if any(task in m for m in means.values())]
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
