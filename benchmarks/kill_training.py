"""A training that is killed, again and again, at random moments, and goes on.

What it shows: `kill -9` at any moment of `mm15-mlx train` (starting, stepping, saving)
loses nothing but the steps since the last checkpoint. The run is begun, killed and
resumed until it has been killed so many times, then left to end; its adapters must
equal, bit for bit, those of a run that nobody killed. Each kill comes at a uniformly
random moment of a run's time, start included; but only those of a start that was beyond
its load count, so that every state a kill left is one that something went on from. Of
twenty kills or more at least one must have come in the middle of a save.

The last line of stdout is one JSON document.

Run: python benchmarks/kill_training.py --kills 50
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

ADAPTERS = "adapters.safetensors"


def write_data(folder: Path) -> None:
    """Four short rows, one with a small picture."""
    Image.new("RGB", (96, 96), "white").save(folder / "a.png")
    words = (("What is this?", "image"), ("Say yes", "yes"), ("Say no", "no"),
             ("Say on", "on"))  # fmt: skip
    rows = []
    for k, (question, answer) in enumerate(words):
        row: dict[str, Any] = {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
        }
        rows.append(row | ({"images": ["a.png"]} if k == 0 else {}))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("train", "valid"):
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def settings(args: argparse.Namespace, data: Path, target: Path) -> dict[str, Any]:
    return {
        "model": args.model, "data": str(data), "adapter_path": str(target),
        "iters": args.iters, "batch_size": 2, "save_every": 1, "steps_per_report": 1,
        "steps_per_eval": 3, "learning_rate": 1e-3,
    }  # fmt: skip


def train(flags: dict[str, Any], log: Path, resume: bool, force: bool) -> None:
    """A whole `train`, in a process of its own."""
    with log.open("a") as sys.stderr:
        from mm15_mlx.train import run

        sys.exit(run(flags, None, resume, force)[1])


def has_checkpoint(target: Path) -> bool:
    parent = target / "checkpoints"
    return parent.is_dir() and any(
        p.name.startswith("step-") and not p.name.endswith(".partial")
        for p in parent.iterdir()
    )


class Runs:
    """Starts of one training. Processes are forked off one that has only imported, so
    that the kills fall on what matters; it never ran MLX, whose threads do not fork."""

    def __init__(self, args: argparse.Namespace, data: Path, target: Path) -> None:
        self.target = target
        self.log = target.with_suffix(".log")
        self._flags = settings(args, data, target)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["mm15_mlx.train", "mlx_lm.tuner.utils"])

    def start(self) -> Any:
        """Begin, or go on where there is something to go on from."""
        resume = has_checkpoint(self.target)
        process = self._context.Process(
            target=train,
            args=(self._flags, self.log, resume, not resume and self.target.exists()),
        )
        process.start()
        return process

    def said(self) -> int:
        """How many starts have read their model and, after a kill, their checkpoint."""
        if not self.log.exists():
            return 0
        return self.log.read_text().count("\ntraining ")

    def finish(self) -> None:
        """Start, and wait for the end."""
        process = self.start()
        process.join()
        self.check(process)

    def check(self, process: Any) -> None:
        if process.exitcode:
            said = self.log.read_text()[-2000:]
            raise SystemExit(f"a start failed with {process.exitcode}:\n{said}")


def killed(args: argparse.Namespace, runs: Runs, seconds: float) -> dict[str, int]:
    """Kill `--kills` times, then finish; how many of the kills came after a resume,
    before any checkpoint, and in the middle of a save. Those while a start was loading
    are counted apart."""
    rng = Random(args.seed)
    kinds = ("kills", "resumed", "begun", "while_saving", "while_loading", "runs")
    counts = dict.fromkeys(kinds, 0)
    while counts["kills"] < args.kills:
        kind = "resumed" if has_checkpoint(runs.target) else "begun"
        begin, loaded = time.perf_counter(), runs.said()
        process = runs.start()
        process.join(rng.uniform(0, seconds))
        if process.exitcode is None:
            process.kill()
            process.join()
            if runs.said() == loaded:
                counts["while_loading"] += 1
                continue
            counts["kills"] += 1
            counts[kind] += 1
            counts["while_saving"] += any(runs.target.rglob("*.partial"))
        else:  # it came to its end before its kill: another run begins
            runs.check(process)
            seconds = min(seconds, time.perf_counter() - begin)
            counts["runs"] += 1
            runs.target.rename(f"{runs.target}-{counts['runs']}")
    runs.finish()
    counts["runs"] += 1
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--iters", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "data").mkdir()
        write_data(root / "data")
        whole = Runs(args, root / "data", root / "whole")
        whole.finish()  # the first also waits for the imports
        whole.target.rename(root / "first")
        begin = time.perf_counter()
        whole.finish()
        seconds = time.perf_counter() - begin
        counts = killed(args, Runs(args, root / "data", root / "killed"), seconds)
        expected = (root / "whole" / ADAPTERS).read_bytes()
        ends = [*root.glob("killed*/" + ADAPTERS)]
        same = sum(p.read_bytes() == expected for p in ends)
    report = {**counts, "runs_bit_equal": same, "seconds_of_a_run": round(seconds, 1)}
    print(json.dumps(report))
    saving = counts["while_saving"] > 0 or args.kills < 20
    return 0 if same == counts["runs"] and saving else 1


if __name__ == "__main__":
    sys.exit(main())
