"""Peak memory and speed of streaming a checkpoint into a model folder, against `cp`.

A synthetic checkpoint of two shards (random bfloat16, one tensor a layer) goes through
rules that rename and transpose, as they are and quantised. Each way is a process of its
own, so that its peak is its own; files that are only mapped count in it too.

Run: python benchmarks/convert_memory.py --gb 2
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

from mm15_mlx import __version__
from mm15_mlx.config import PRESETS
from mm15_mlx.convert.rules import Rule, plan_rules
from mm15_mlx.convert.sources import open_source
from mm15_mlx.convert.stream import Quantisation
from mm15_mlx.weights import new_folder, write_weights

SIDE = 4096  # 32 MB a tensor, like a 7B decoder's attention
WAYS = ("start", "cp", "keep", "quantise", "turn")


def make(folder: Path, gigabytes: float) -> None:
    count = round(gigabytes * 1e9 / (2 * SIDE * SIDE))
    noise = mx.random.normal((SIDE, SIDE)).astype(mx.bfloat16)
    for shard in range(2):
        names = [f"layers.{i}.weight" for i in range(shard, count, 2)]
        tensors = {n: mx.roll(noise, i, axis=0) for i, n in enumerate(names)}
        path = folder / f"model-{shard + 1:05}-of-00002.safetensors"
        mx.save_safetensors(str(path), tensors)


def convert(source: Path, out: Path, way: str) -> None:
    """What stream.write_model does, for tensors that are no MM15."""
    checkpoint = open_source(source)
    like = checkpoint.placeholders()
    turned = Rule(r".*", r"\g<0>", lambda x: x.T)
    rules = [Rule(r".*", r"\g<0>") if way == "keep" else turned]
    plan = plan_rules(like, rules, {name: (SIDE, SIDE) for name in like})
    quantise = Quantisation()

    def parts(name: str, array: mx.array) -> list[tuple[str, mx.array]]:
        if way != "quantise":
            return [(name, array)]
        made = quantise(array)
        return [(f"{name}.{i}", part) for i, part in enumerate(made)]

    planned = dict(p for item in plan.parameters.items() for p in parts(*item))
    made = (p for item in plan.run(checkpoint.read) for p in parts(*item))
    with new_folder(out, PRESETS["nano-ui"]) as partial:
        write_weights(partial, planned, made)


def run(way: str, source: Path, out: Path, gigabytes: float) -> tuple[float, int]:
    """Seconds and peak bytes of one way, in a process of its own."""
    command = [sys.executable, __file__, "--one", way, source, out]
    done = subprocess.run(
        [*command, "--gb", str(gigabytes)], check=True, capture_output=True
    )
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="where there is room for 3 copies")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        way, source, out = args.one
        begin = time.perf_counter()
        if way == "make":
            make(Path(source), args.gb)
        elif way != "start":
            convert(Path(source), Path(out), way)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
        print(json.dumps([time.perf_counter() - begin, peak]))  # parsed by `run`
        return
    report = {"machine": platform.machine(), "mlx": version("mlx"), "gb": args.gb}
    report["mm15-mlx"] = __version__
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        source, out = Path(place) / "source", Path(place) / "out"
        source.mkdir()
        # Elsewhere, because a process inherits the peak of the one that starts it.
        run("make", source, out, args.gb)
        for way in WAYS:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            if way == "cp":
                begin = time.perf_counter()
                subprocess.run(["cp", "-r", str(source), str(out)], check=True)
                subprocess.run(["sync", "-f", str(out)], check=True)
                seconds, peak = time.perf_counter() - begin, 0
            else:
                seconds, peak = run(way, source, out, args.gb)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            report[way] = {
                "seconds": round(seconds, 2),
                "cpu_seconds": round(cpu, 2),
                "peak_mb": round(peak / 1e6),
            }
            took = f"{seconds:7.2f} s  CPU {cpu:6.2f} s"
            print(f"{way:9} {took}  peak {peak / 1e6:5.0f} MB", flush=True)
            subprocess.run(["rm", "-rf", str(out)], check=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
