"""Bits against size, speed, memory, drift and UI metrics, as a table and a plot.

For every recipe a folder is made with `mm15-mlx quantize`; its drift, and its metrics
where `--data` is given, are those of its report. First token (from the process start),
tokens per second and MLX's peak memory are medians of fresh processes that ask for the
list of widgets. The table is markdown; after it comes one JSON line for every row.
With `--gptq` or `--dwq` (files of tasks, as `quantize` takes them) all folders are made
so, and their rows named so. `--plot` needs matplotlib (extra: pretrain).

A run may be split and stopped: a row is a line of `--out` as soon as it is measured,
and the same command measures only what is missing there, of the rows in `--only`.

Run: python benchmarks/quantization.py --data benchmarks/data/kits.jsonl --limit 60 \
         --out runs/quantization.jsonl --plot runs/quantization.png
"""

import argparse
import hashlib
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import cycle
from pathlib import Path
from typing import Any

from mm15_mlx import __version__
from mm15_mlx.checkpoint import stored_tensors, weight_files
from mm15_mlx.config import UserError
from mm15_mlx.load import find_model
from mm15_mlx.quantize import Wanted
from mm15_mlx.shrink import Lesson, run

PROBE = """
import sys, time
from mm15_mlx import load, stream_generate
from mm15_mlx.ui import WIDGETS_PROMPT
model, processor = load(sys.argv[1])
first = None
for r in stream_generate(
    model, processor, WIDGETS_PROMPT, images=[sys.argv[2]], max_tokens=100
):
    first = first or time.time()
print(first, r.generation_tps, r.peak_memory)
"""
SEEING = ("encoder", "connector")
TEXT = ("decoder", "embedding", "head")
# Columns of metrics: tasks, and the metric of each; means weighed by number of tasks.
COLUMNS = {
    "find acc@0.5": (("find_text", "find_icon", "find_widget"), "acc@0.5"),
    "ocr edit": (("ocr",), "edit_similarity"),
    "class acc": (("widget_class", "icon_class", "tappable"), "accuracy"),
    "widgets recall": (("widgets",), "recall@0.5"),
}


def recipes(bits: list[int], target: float | None) -> dict[str, Wanted]:
    """What is measured, by name: the decoder alone, all text, everything, a target."""
    found = {}
    for b in bits:
        found[f"decoder {b}"] = Wanted(b)
    for b in bits:
        parts = dict.fromkeys((*SEEING, "embedding", "head"), b)
        found[f"all {b}"] = Wanted(b, part_bits=parts)
    if 4 in bits:
        parts = dict.fromkeys(SEEING, 8)
        found["text 4, seeing 8"] = Wanted(
            4, part_bits={**parts, "embedding": 4, "head": 4}
        )
    if target is not None:
        found[f"target {target:g}, seeing 8"] = Wanted(
            part_bits=dict.fromkeys(SEEING, 8), target_bpw=target
        )
    return found


def timed(folder: Path, image: str, trials: int) -> dict[str, float]:
    """Medians over fresh processes, after one that warms the disk cache."""
    command = [sys.executable, "-c", PROBE, str(folder), image]
    runs = []
    for _ in range(trials + 1):
        begin = time.time()  # both processes read the same clock
        out = subprocess.run(command, check=True, capture_output=True, text=True)
        first, speed, memory = map(float, out.stdout.split())
        runs.append((first - begin, speed, memory * 1e3))
    names = ("first_token_s", "tokens_per_s", "peak_mb")
    columns = zip(*runs[1:], strict=True)
    return {
        name: round(statistics.median(values), 3)
        for name, values in zip(names, columns, strict=True)
    }


def metric_means(metrics: dict[str, Any], key: str) -> dict[str, float]:
    """The columns' means; `key` is `before` or `after` of the report."""
    found = {}
    for column, (tasks, metric) in COLUMNS.items():
        pairs = [
            (metrics[t][metric][key], metrics[t]["n"]) for t in tasks if t in metrics
        ]
        if pairs:
            total = sum(n for _, n in pairs)
            found[column] = round(sum(v * n for v, n in pairs) / total, 4)
    return found


def row(name: str, report: dict[str, Any], timing: dict[str, float]) -> dict[str, Any]:
    drift = report["drift"]
    return {
        "name": name,
        "mb": round(report["bytes_after"] / 1e6, 2),
        "quantized_bpw": report["quantized_bpw"],
        **timing,
        "kl": float(f"{drift['kl_mean']:.3g}"),
        "same_token": round(drift["same_token"], 4),
        **metric_means(report.get("metrics", {}), "after"),
    }


def source_row(
    name: str, folder: Path, timing: dict[str, float], metrics: dict[str, Any]
) -> dict[str, Any]:
    nbytes = sum(s.nbytes for s in stored_tensors(folder).values())
    return {
        "name": name, "mb": round(nbytes / 1e6, 2), "quantized_bpw": 0, **timing,
        "kl": 0.0, "same_token": 1.0, **metric_means(metrics, "before"),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as markdown."""
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "|---" * len(keys) + "|"]
    lines += ["| " + " | ".join(str(r.get(k, "–")) for k in keys) + " |" for r in rows]
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Drift over size, a point for every recipe."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), constrained_layout=True)
    series: dict[str, list[dict[str, Any]]] = {}
    for r in rows:
        if r["kl"] > 0:
            series.setdefault(re.sub(r"[\d.]+", "", r["name"]), []).append(r)
    for mine, marker in zip(series.values(), cycle("os^*Dv"), strict=False):
        axes.plot([r["mb"] for r in mine], [r["kl"] for r in mine], marker + "-")
        for r in mine:
            axes.annotate(r["name"], (r["mb"], r["kl"]), fontsize=8,
                          xytext=(4, 4), textcoords="offset points")  # fmt: skip
    axes.set_yscale("log")
    axes.margins(x=0.12)  # room for the names
    axes.set_xlabel("weights, MB")
    axes.set_ylabel("KL(source ‖ quantised), nats per answer token")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def digest(folder: Path) -> str:
    """Of the weights: rows of another model under the same name are not joined."""
    whole = hashlib.sha256()
    for path in sorted(weight_files(folder)):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:12]


def rows_of(path: Path | None, about: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that a file has of this very run. Raises UserError for other lines."""
    if path is None or not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            held = json.loads(line)
            _ = held["name"], held["kl"]
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{path}, line {number} is no row of this benchmark; give --out "
                "another name"
            ) from None
        if about.items() <= held.items():
            found.append({k: v for k, v in held.items() if k not in about})
    return found


def measured(
    args: argparse.Namespace, wanted: dict[str, Wanted], done: set[str]
) -> Iterator[dict[str, Any]]:
    """The rows that are not done yet; the source's, which each report has, first."""
    folder = find_model(args.model)
    lesson = Lesson(args.gptq, args.dwq)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "model"
        for name, recipe in wanted.items():
            if name in done:
                continue
            print(f"--- {name}", file=sys.stderr, flush=True)
            report = run(
                args.model, target, recipe, args.data, args.limit, force=True,
                lesson=lesson,
            )  # fmt: skip
            if "source" not in done:
                done.add("source")
                timing = timed(folder, args.image, args.trials)
                yield source_row("source", folder, timing, report.get("metrics", {}))
            yield row(name, report, timed(target, args.image, args.trials))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--image", default="examples/settings.png")
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 5, 4])
    parser.add_argument("--target-bpw", type=float, default=4.5)
    parser.add_argument("--only", help="Names of rows, with semicolons.")
    parser.add_argument("--gptq", type=Path, help="Tasks of `eval`.")
    parser.add_argument("--dwq", type=Path, help="Tasks of `eval`.")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--out", type=Path, help="A line for every row is added.")
    parser.add_argument("--plot", type=Path)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    args = parsed(arguments)
    about: dict[str, Any] = {
        "model": args.model, "data": str(args.data), "limit": args.limit,
        "trials": args.trials, "machine": platform.processor() or platform.machine(),
        "mlx": version("mlx"), "mm15-mlx": __version__,
    }  # fmt: skip
    try:
        wanted = recipes(args.bits, args.target_bpw)
        names = args.only.split(";") if args.only else list(wanted)
        if unknown := [n for n in names if n not in wanted]:
            raise UserError(
                f"--only has {unknown[0]!r}; it must be one of {'; '.join(wanted)}"
            )
        about["sha256"] = digest(find_model(args.model))
        rows = rows_of(args.out, about)
        done = {r["name"] for r in rows}
        made = "".join(f" {k}" for k in ("gptq", "dwq") if getattr(args, k))
        order = ["source", *wanted, *(n + made for n in wanted)]
        for new in measured(args, {n + made: wanted[n] for n in names}, done):
            rows.append(new)
            print(json.dumps(new), file=sys.stderr, flush=True)
            if args.out:
                args.out.parent.mkdir(parents=True, exist_ok=True)
                with args.out.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(about | new) + "\n")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rows.sort(key=lambda r: order.index(r["name"]) if r["name"] in order else 99)
    print(table(rows), end="\n\n")
    for r in rows:
        print(json.dumps(about | r))
    if args.plot:
        plot(rows, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
