"""How time grows: encoding with the number of views, a step with the tokens before it.

Encoding is to be linear in views (R² of a straight line), and a token of an answer is
to cost about the same after a long prompt as after a short one. Medians of trials that
take all sizes in turn, so that a slow minute falls on every size; random weights of a
preset's shape. A markdown table on stdout, then one JSON line.

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

from mm15_mlx import __version__, blas
from mm15_mlx.config import PRESETS
from mm15_mlx.decoder import KVCache
from mm15_mlx.mm15 import MM15

VIEWS = (1, 2, 3, 4, 6, 8, 10)
CONTEXTS = (256, 512, 1024, 2048, 3072, 4096)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(PRESETS), default="nano-ui")
    parser.add_argument("--trials", type=int, default=5)
    args = parser.parse_args()
    mx.random.seed(0)
    model = MM15(PRESETS[args.model])
    model.eval()
    mx.eval(model.parameters())

    encode = medians(VIEWS, args.trials, lambda n: encoding(model, n))
    caches = {n: filled(model, n) for n in CONTEXTS}
    decode = medians(CONTEXTS, args.trials, lambda n: step(model, caches[n]))
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
    }  # fmt: skip
    print("| views | encode, s | a view, s |\n|---|---|---|")
    for n, seconds in zip(VIEWS, encode, strict=True):
        print(f"| {n} | {seconds:.3f} | {seconds / n:.3f} |")
    print(f"\nR² of a straight line: {report['encode_r2']:.4f}\n")
    print("| tokens before | a token, ms |\n|---|---|")
    for n, seconds in zip(CONTEXTS, decode, strict=True):
        print(f"| {n} | {1000 * seconds:.2f} |")
    first, last = CONTEXTS[0], CONTEXTS[-1]
    print(
        f"\nafter {last} tokens {report['decode_ratio']:.2f} times that after {first}"
    )
    print(json.dumps(report))


if __name__ == "__main__":
    main()
