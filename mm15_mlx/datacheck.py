"""`mm15-mlx data check`: every row of training data, before any training is begun.

What this file is: the report for people and programs. What it is not: the rules; those
are in dataset.py and hold for `train` as well.
"""

import hashlib
import json as json_module
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mm15_mlx.dataset import Sample, Split, read_split
from mm15_mlx.hub_rows import is_table
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.training_rows import (
    LEAST_TOKENS,
    SPLITS,
    DataError,
    VideoPart,
    no_rows,
    split_file,
)

_BINS, _WIDTH = 8, 40


def run(folder: Path, model: str, limit: int | None, json: bool) -> int:
    """Print the report; 1 where a row is bad, else 0."""
    tables = is_table(folder)
    if not folder.is_dir() and not tables:
        raise DataError(f"{folder} is no folder; give one with train.jsonl")
    if not tables and split_file(folder, "train") is None:
        raise DataError(f"{folder} has no train.jsonl (or train.json); write one")
    if limit is not None and limit < LEAST_TOKENS:
        raise DataError(
            f"--max-seq-length is {limit}; it must be {LEAST_TOKENS} or more"
        )
    processor = load_processor(find_model(model))
    splits = [read_split(folder, name, processor, limit) for name in SPLITS]
    if not splits[0].read:
        raise no_rows(folder)
    found = report(splits)
    if json:
        print(json_module.dumps(found, ensure_ascii=False, indent=2))
    else:
        print("\n".join(report_lines(found)))
    return 1 if found["bad_rows"] else 0


def report(splits: Sequence[Split]) -> dict[str, Any]:
    """Counts, histograms, what is wrong, and rows of one split that another has too."""
    return {
        "splits": {s.name: _counts(s) for s in splits if s.read},
        "bad_rows": sum(len(s.problems) for s in splits),
        "problems": [p for s in splits for p in s.problems],
        "warnings": repeated(splits),
    }


def _counts(split: Split) -> dict[str, Any]:
    lengths = sorted(len(s.ids) for s in split.samples)
    pictures = {p.key: p for s in split.samples for p in s.pictures}
    categories = Counter(s.category for s in split.samples)
    videos = {s for r in split.rows for s in r.images if isinstance(s, VideoPart)}
    made: dict[str, Any] = {
        "rows": split.read,
        "bad": len(split.problems),
        "pictures": len(pictures),  # frames of videos among them
        "videos": len(videos),
        "learnt_tokens": sum(int(s.learnt.sum()) for s in split.samples),
        "picture_tokens": sum(p.tokens for s in split.samples for p in s.pictures),
        "categories": dict(sorted(categories.items())),
    }
    if lengths:
        made["tokens"] = {
            "min": lengths[0],
            "median": lengths[len(lengths) // 2],
            "p95": lengths[min(len(lengths) * 95 // 100, len(lengths) - 1)],
            "max": lengths[-1],
            "histogram": histogram(lengths),
        }
    return made


def histogram(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """First, last and count of equal ranges; one where all are alike."""
    low, high = min(lengths), max(lengths)
    step = max(1, -(-(high - low + 1) // _BINS))
    bins = Counter((n - low) // step for n in lengths)
    return [
        (low + k * step, low + (k + 1) * step - 1, bins[k])
        for k in range(max(bins) + 1)
    ]


def repeated(splits: Sequence[Split]) -> list[str]:
    """Rows to validate or test on that are trained on: their loss says nothing."""
    seen: dict[str, Sample] = {}
    warnings = []
    for split in splits:
        for s in split.samples:
            key = repr([p.key for p in s.pictures]).encode() + s.ids.tobytes()
            first = seen.setdefault(hashlib.sha256(key).hexdigest(), s)
            if first.where.partition(",")[0] != s.where.partition(",")[0]:
                warnings.append(f"{s.where} is also {first.where}")
    return warnings


def report_lines(found: dict[str, Any]) -> list[str]:
    lines = []
    for name, s in found["splits"].items():
        videos = f" (frames of {s['videos']} videos among them)" if s["videos"] else ""
        lines.append(
            f"{name}: {s['rows']} rows, {s['bad']} bad, {s['pictures']} pictures"
            f"{videos}, {s['learnt_tokens']} tokens to learn, "
            f"{s['picture_tokens']} of pictures"
        )
        if len(s["categories"]) > 1:
            shown = ", ".join(f"{k} {n}" for k, n in s["categories"].items())
            lines.append(f"  categories: {shown}")
        if tokens := s.get("tokens"):
            lines.append(
                f"  tokens of a row: {tokens['min']} to {tokens['max']}, median "
                f"{tokens['median']}, 95 % up to {tokens['p95']}"
            )
            most = max(count for *_, count in tokens["histogram"])
            for first, last, count in tokens["histogram"]:
                bar = "█" * -(-count * _WIDTH // most)
                lines.append(f"  {first:>6} – {last:<6} {count:>6} {bar}")
    lines += [f"warning: {w}" for w in found["warnings"]]
    lines += [f"bad: {p}" for p in found["problems"]]
    bad = found["bad_rows"]
    lines.append(f"{bad} bad rows; `train` would refuse them" if bad else "all good")
    return lines
