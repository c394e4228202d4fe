"""Whether answers about what was tapped point at it, whatever name they give it.

place: the middle of the answer's box lies in what was tapped; chance: what a guess
among all that can be tapped on the first screen would reach; name: the words are right.

Run: mm15-mlx eval --data several.jsonl --predictions OUT.jsonl
     python benchmarks/places.py OUT.jsonl --screens DIR, that of the annotated pairs
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from mm15_mlx.answered import read_predictions
from mm15_mlx.config import UserError
from mm15_mlx.scores import centre_in
from mm15_mlx.screens.several import change_of
from mm15_mlx.screens.sheet import read_rows
from mm15_mlx.tasks import Row

ALL = "all"
FIGURES = ("place", "chance", "name")


def places(answers: Sequence[Row], screens: Path) -> Iterator[tuple[str, list[float]]]:
    """Of each answer about what was tapped: the kind of change, and its figures."""
    known = {Path(row["image"]).name: row for row in read_rows(screens)}
    for answer in answers:
        if answer.get("asks") != "tapped":
            continue
        names = [Path(image).name for image in answer["images"]]
        missing = next((name for name in names if name not in known), None)
        change = change_of(known.get(names[-1], {})) or {}
        if missing or not change.get("tapped"):
            lacks = f"screen {missing}" if missing else f"tap that led to {names[-1]}"
            raise UserError(
                f"{screens} has no {lacks}; give the folder of the pairs that were "
                "evaluated"
            )
        before = known[names[0]]
        found = answer["boxes"][:1]
        there = any(centre_in(box, change["tapped"]["box"]) for box in found)
        others = sum(element["tappable"] for element in before["elements"])
        named = answer["scores"]["contains"]
        yield change["kind"], [float(there), 1 / max(others, 1), named]


def table(found: Sequence[tuple[str, list[float]]]) -> list[str]:
    """Means by kind of change, the commonest first, and of all."""
    kinds: dict[str, list[list[float]]] = defaultdict(list)
    for kind, figures in found:
        kinds[kind].append(figures)
    lines = [f"| what happened | {' | '.join(FIGURES)} | n |", "|---" * 5 + "|"]
    groups = sorted(kinds.items(), key=lambda group: -len(group[1]))
    for kind, rows in [*groups, (ALL, [figures for _, figures in found])]:
        means = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        cells = " | ".join(f"{mean:.3f}" for mean in means)
        lines.append(f"| {kind} | {cells} | {len(rows)} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--screens", type=Path, required=True)
    args = parser.parse_args(arguments)
    try:
        found = list(places(read_predictions(args.predictions), args.screens))
        if not found:
            raise UserError(
                f"{args.predictions} has no answer about what was tapped; evaluate "
                "tasks of mm15_mlx.screens.several_tasks"
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
