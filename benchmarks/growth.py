"""How time and memory grow: with views, with the tokens before a step, with answers.

Encoding is to be linear in views (R² of a straight line), a token of an answer is to
cost about the same after a long prompt as after a short one, and answers side by side
less than one after the other. Medians of trials that take all sizes in turn, so that a
slow minute falls on every size; random weights of a preset's shape. Memory is MLX's
peak above what it held before. Markdown tables on stdout, then one JSON line.

Run: python benchmarks/growth.py --model nano-ui --trials 5
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import mlx.core as mx
import numpy as np

from mm15_mlx import __version__, blas, heap
from mm15_mlx.batch import SharedKVCache
from mm15_mlx.config import PRESETS
from mm15_mlx.decoder import KVCache
from mm15_mlx.mm15 import MM15

VIEWS = (1, 2, 3, 4, 6, 8, 10)
CONTEXTS = (256, 512, 1024, 2048, 3072, 4096)
ROWS = (1, 2, 4, 8, 16, 32)
SHARED = 1024  # tokens that all rows begin with
STEPS = 16  # tokens of a trial
CHUNK = 512


def r_squared(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the straight line through the points that fits best."""
    line = np.polynomial.Polynomial.fit(x, y, 1)
    left = np.square(np.asarray(y) - line(np.asarray(x))).sum()
    return float(1 - left / np.square(np.asarray(y) - np.mean(y)).sum())


def medians(
    sizes: Sequence[int], trials: int, timed: Callable[[int], float]
) -> list[float]:
    """Seconds for each size; a first round is not counted."""
    rounds = [[timed(n) for n in sizes] for _ in range(trials + 1)][1:]
    return [statistics.median(values) for values in zip(*rounds, strict=True)]


def encoding(model: MM15, views: int) -> float:
    """Seconds for so many views in one batch."""
    side = model.config.tiling.tile_size
    pixels = mx.random.normal((views, side, side, 3))
    mx.eval(pixels)
    begin = time.perf_counter()
    mx.eval(model.encode_image(pixels))
    return time.perf_counter() - begin


def filled(model: MM15, tokens: int) -> list[KVCache]:
    """The cache after a prompt of so many tokens."""
    cache = model.make_cache()
    for start in range(0, tokens, CHUNK):
        ids = mx.zeros((1, min(CHUNK, tokens - start)), mx.int32)
        mx.eval(model.decoder(ids, cache), [c.state[:2] for c in cache])
    return cache


def step(model: MM15, cache: list[KVCache]) -> float:
    """Seconds for a token after what the cache holds, which is left as it was."""
    begin = time.perf_counter()
    for _ in range(STEPS):
        mx.eval(model.decoder.logits(model.decoder(mx.array([[7]]), cache)[:, -1]))
    each = (time.perf_counter() - begin) / STEPS
    for layer in cache:
        layer.trim(STEPS)
    return each


def rows_step(model: MM15, cache: list[KVCache], rows: int) -> float:
    """Seconds for a token of each of so many answers that begin alike."""
    beside = [SharedKVCache(layer, [0] * rows) for layer in cache]
    token = mx.full((rows, 1), 7)
    begin = time.perf_counter()
    for _ in range(STEPS):
        mx.eval(model.decoder.logits(model.decoder(token, beside)[:, -1]))
    return (time.perf_counter() - begin) / STEPS


def peak(work: Callable[[], object]) -> int:
    """Bytes that MLX held at most beyond what it held before."""
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    work()
    return mx.get_peak_memory() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(PRESETS), default="nano-ui")
    parser.add_argument("--trials", type=int, default=5)
    args = parser.parse_args()
    heap.keep()  # as a model that is loaded does
    mx.random.seed(0)
    model = MM15(PRESETS[args.model])
    model.eval()
    mx.eval(model.parameters())

    encode = medians(VIEWS, args.trials, lambda n: encoding(model, n))
    caches = {n: filled(model, n) for n in CONTEXTS}
    decode = medians(CONTEXTS, args.trials, lambda n: step(model, caches[n]))
    together = medians(ROWS, args.trials, lambda n: rows_step(model, caches[SHARED], n))
    memory = {
        "encode_mb": {n: peak(lambda n=n: encoding(model, n)) / 1e6 for n in VIEWS},
        "prefill_mb": {n: peak(lambda n=n: filled(model, n)) / 1e6 for n in CONTEXTS},
    }
    report = {
        "model": args.model, "trials": args.trials,
        "machine": platform.processor() or platform.machine(),
        "blas": blas.preload().name, "mlx": version("mlx"), "mm15-mlx": __version__,
        "encode_s": dict(zip(VIEWS, np.round(encode, 4).tolist(), strict=True)),
        "encode_r2": round(r_squared(VIEWS, encode), 5),
        "decode_ms": dict(
            zip(CONTEXTS, np.round(np.multiply(1000, decode), 3).tolist(), strict=True)
        ),
        "decode_ratio": round(decode[-1] / decode[0], 3),
        "rows_ms": dict(
            zip(ROWS, np.round(np.multiply(1000, together), 3).tolist(), strict=True)
        ),
        **{k: {n: round(mb, 1) for n, mb in v.items()} for k, v in memory.items()},
    }  # fmt: skip
    print("| views | encode, s | a view, s | peak, MB |\n|---|---|---|---|")
    for n, seconds in zip(VIEWS, encode, strict=True):
        mb = memory["encode_mb"][n]
        print(f"| {n} | {seconds:.3f} | {seconds / n:.3f} | {mb:.0f} |")
    print(f"\nR² of a straight line: {report['encode_r2']:.4f}\n")
    print("| tokens before | a token, ms | peak of reading them, MB |\n|---|---|---|")
    for n, seconds in zip(CONTEXTS, decode, strict=True):
        print(f"| {n} | {1000 * seconds:.2f} | {memory['prefill_mb'][n]:.0f} |")
    first, last = CONTEXTS[0], CONTEXTS[-1]
    print(
        f"\nafter {last} tokens {report['decode_ratio']:.2f} times that after {first}\n"
    )
    print("| answers | a step, ms | tokens/s of all |\n|---|---|---|")
    for n, seconds in zip(ROWS, together, strict=True):
        print(f"| {n} | {1000 * seconds:.2f} | {n / seconds:.0f} |")
    print()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
