"""Two runs on the same rows: where they differ, and whether that is more than chance.

What this file is: differences per task and metric, with a bootstrap interval paired by
picture and a test: McNemar's exact one of metrics that are 0 or 1, a permutation test
of others. What it is not: means of one run (summaries.py).

P pictures, R draws.
"""

from collections.abc import Mapping, Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from mm15_mlx.answered import check_ids, key_of, said
from mm15_mlx.config import UserError
from mm15_mlx.summaries import (
    Prediction,
    by_task,
    draws,
    fraction,
    having,
    interval,
    metrics_of,
    ratio,
)
from mm15_mlx.tasks import FIELDS, Row, pictures

PERMUTATIONS = 10_000
EXACT_PICTURES = 13  # up to so many, all 2^P ways of swapping are counted
SHOWN = 10  # missing rows named in the text; the JSON names all
Key = tuple[str, str]


def paired(rows: Sequence[Row], lines: Sequence[Row], path: Path) -> dict[Key, Row]:
    """The other run's lines by task and id. Raises UserError where a row of the two
    has one id but other contents, where an id comes twice, or none is common."""
    check_ids(rows, "--against")
    others = {key_of(line): line for line in lines}
    common = 0
    for row in rows:
        key = key_of(row)
        if key not in others:
            continue
        common += 1
        for name in FIELDS[row["task"]]:
            if others[key].get(name) != row[name]:
                raise UserError(
                    f"--against {path}: {key[0]} {key[1]!r} has another {name} there; "
                    "give the answers to the same tasks"
                )
    if not common:
        raise UserError(
            f"--against {path} has none of the tasks' ids; "
            "give the answers to the same tasks"
        )
    return others


def differences(
    done: Sequence[Prediction], others: Mapping[Key, Row]
) -> dict[str, Any]:
    """`metrics`: for each, this run's mean, the other's, the difference with its 95 %
    interval, and the test; `missing`: ids of rows that only one run has."""
    mine = {key_of(p.row): p for p in done}
    both = [p for p in done if key_of(p.row) in others]
    theirs = {id(p): said(p.row, others[key_of(p.row)]) for p in both}
    found: dict[str, dict[str, Any]] = {}
    for task, here in by_task(both).items():
        pairs = [(p, theirs[id(p)]) for p in here]
        found[task] = {"n": len(here)}
        for metric in metrics_of(task, here):
            have = [p for p in pairs if len(having(p, metric)) == 2]
            if have:
                found[task][metric] = _difference(have, metric)
    return {
        "metrics": found,
        "missing": {
            "here": [list(key) for key in others if key not in mine],
            "there": [list(key) for key in mine if key not in others],
        },
    }


def _difference(
    pairs: Sequence[tuple[Prediction, Prediction]], metric: str
) -> dict[str, Any]:
    sums: dict[tuple[str, ...], list[Any]] = {}
    for a, b in pairs:
        both = fraction(a, metric), fraction(b, metric)
        sums.setdefault(pictures(a.row), []).append(both)
    per_picture = np.array([np.sum(v, axis=0) for v in sums.values()])  # (P, 2, 2)
    this, other = ratio(per_picture.sum(axis=0)).tolist()
    drawn = ratio(np.tensordot(draws(len(per_picture)), per_picture, axes=1))  # (R, 2)
    result: dict[str, Any] = {
        "this": round(this, 4),
        "other": round(other, 4),
        "difference": round(this - other, 4),
        "interval": interval(drawn[:, 0] - drawn[:, 1]),
        "n": len(pairs),
    }
    changes = [(a.scores.get(metric), b.scores.get(metric)) for a, b in pairs]
    if metric == "f1" or not {v for c in changes for v in c} <= {0.0, 1.0}:
        p = permutation(per_picture)
        return result | {"test": "permutation", "p": round(p, 6)}
    better, worse = changes.count((1.0, 0.0)), changes.count((0.0, 1.0))
    p = mcnemar(better, worse)
    counts = {"better": better, "worse": worse}
    return result | {"test": "mcnemar", "p": round(p, 6)} | counts


def mcnemar(better: int, worse: int) -> float:
    """Two-sided p of so many rows better and worse, were both as likely: the binomial
    sign test. It takes rows as independent, which those of one picture are not quite;
    the interval does not."""
    n = better + worse
    tail = sum(comb(n, k) for k in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / 2**n)


def permutation(sums: np.ndarray, seed: int = 0) -> float:
    """Two-sided p of the difference of two ratios, (P, 2 runs, 2) numerators and
    denominators, when each picture's answers may be either run's. Up to 13 pictures
    all ways are counted; else 10,000 are drawn, and the one seen is added to them."""
    number = len(sums)
    exact = number <= EXACT_PICTURES
    if exact:
        ways = (np.arange(2**number)[:, None] >> np.arange(number)) & 1
    else:
        ways = np.random.default_rng(seed).integers(2, size=(PERMUTATIONS, number))
    swap = ways.astype(np.float64)  # (R, P)
    change = (sums[:, ::-1] - sums).reshape(number, 4)
    mixed = sums.sum(axis=0) + (swap @ change).reshape(-1, 2, 2)
    values = ratio(mixed)
    seen = ratio(sums.sum(axis=0))
    far = np.abs(values[:, 0] - values[:, 1]) >= abs(seen[0] - seen[1]) - 1e-9
    return float(far.mean()) if exact else float((far.sum() + 1) / (len(far) + 1))


def text(found: Mapping[str, Any], name: str) -> str:
    """The differences as lines."""
    lines = [f"against {name}: difference [95 % interval], p"]
    for task, values in found["metrics"].items():
        for metric, d in values.items():
            if metric == "n":
                continue
            low, high = d["interval"]
            lines.append(
                f"{task:14} {metric} {d['difference']:+.3f} [{low:+.3f}, {high:+.3f}]  "
                f"{d['this']:.3f} for {d['other']:.3f}  "
                f"p {d['p']:.4g} ({tested(d)})  (n {d['n']})"
            )
    return "\n".join([*lines, *missing_lines(found)])


def tested(difference: Mapping[str, Any]) -> str:
    """The test, and what it counted."""
    if "better" not in difference:
        return difference["test"]
    return f"mcnemar, {difference['better']} better, {difference['worse']} worse"


def missing_lines(found: Mapping[str, Any]) -> list[str]:
    """How many rows only one run has, and which."""
    lines = []
    for side, what in (("here", "rows only there"), ("there", "rows only here")):
        keys = found["missing"][side]
        if keys:
            named = ", ".join(f"{task} {name}" for task, name in keys[:SHOWN])
            more = ", …" if len(keys) > SHOWN else ""
            lines.append(f"{len(keys)} {what}: {named}{more}")
    return lines
