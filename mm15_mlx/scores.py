"""The metrics of one answer: places, texts, classes, lists of elements.

What this file is: numbers 0…1 (CIDEr: 0…10) of a row and what was answered. What it is
not: means and intervals over many (summaries.py), or the metrics of questions and
captions themselves (vqa.py, captions.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mm15_mlx import ui
from mm15_mlx.captions import Cider
from mm15_mlx.grounding import iou
from mm15_mlx.tasks import CAPTIONS, CLASSES, Row
from mm15_mlx.vqa import METRICS, edits, folded, mcq

Scores = dict[str, float]


class Region(Protocol):
    """A box or a point that was answered, in pixels."""

    @property
    def px(self) -> tuple[float, ...]: ...


class Answered(Protocol):
    """What the metrics read of an answer."""

    @property
    def text(self) -> str: ...

    @property
    def boxes(self) -> Sequence[Region]: ...

    @property
    def points(self) -> Sequence[Region]: ...


@dataclass(frozen=True)
class Place:
    """A box or a point read back from a file."""

    px: tuple[float, ...]


@dataclass(frozen=True)
class Said:
    """An answer read back from a file."""

    text: str
    boxes: tuple[Place, ...]
    points: tuple[Place, ...] = ()


def centre_in(box: Sequence[float], target: Sequence[float]) -> bool:
    """Whether the middle of `box`, where one would tap, lies in `target`."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return target[0] <= x <= target[2] and target[1] <= y <= target[3]


def edit_similarity(a: str, b: str) -> float:
    """1 − edit distance / longer length, of folded texts."""
    a, b = folded(a), folded(b)
    if not a or not b:
        return float(a == b)
    return 1 - edits(a, b) / max(len(a), len(b))


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


def corpora(rows: Sequence[Row]) -> dict[str, Cider]:
    """What CIDEr weighs words by, for each task of captions among the rows."""
    references: dict[str, list[list[str]]] = {}
    for row in rows:
        if row["task"] in CAPTIONS:
            references.setdefault(row["task"], []).append(row["references"])
    return {task: Cider(texts) for task, texts in references.items()}


def score(
    row: Row,
    result: Answered,
    listed: Sequence[ui.Element] = (),
    ciders: Mapping[str, Cider] | None = None,
) -> Scores:
    """The metrics of one answer; `listed` is what a `widgets` answer lists, `ciders`
    are the corpora of captions (else the row itself, where CIDEr is 0).

    A screen's `recall@0.5` is the share of its elements that an element of the list
    covers, `precision@0.5` the share of the list that covers one (0 of an empty list).
    Of what was found the first box counts, or where there is none the first point, as
    ScreenSpot's models answer: it is its own centre, and covers nothing.
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
        places = [b.px for b in result.boxes[:1]] or [
            (*p.px, *p.px) for p in result.points[:1]
        ]
        return {
            "acc@0.5": float(any(iou(p, row["box"]) >= 0.5 for p in places)),
            "centre_in_box": float(any(centre_in(p, row["box"]) for p in places)),
        }
    if task == "ocr":
        return {
            "exact": float(folded(result.text) == folded(row["text"])),
            "edit_similarity": edit_similarity(result.text, row["text"]),
        }
    if task == "vqa":
        if row["metric"] == "mcq":  # only the letters of options can be chosen
            right = mcq(result.text, row["answers"], row.get("options"))
            return {"mcq": right}
        return {row["metric"]: METRICS[row["metric"]](result.text, row["answers"])}
    if task in CAPTIONS:
        cider = (ciders or corpora([row]))[task]
        return {"cider": cider.score(result.text, row["references"])}
    accepted = {folded(row[CLASSES[task]]), *map(folded, row.get("accept", ()))}
    return {"accuracy": float(folded(result.text) in accepted)}


def f1(rows: Sequence[tuple[str, str]]) -> float:
    """F1 of `yes` over (truth, answer) pairs."""
    pairs = [(folded(t) == "yes", folded(a) == "yes") for t, a in rows]
    hits = sum(t and a for t, a in pairs)
    claimed, true = sum(a for _, a in pairs), sum(t for t, _ in pairs)
    return 2 * hits / (claimed + true) if claimed + true else 0.0
