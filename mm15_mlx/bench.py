"""`mm15-mlx bench`: first token, encode, prefill, decode and memory, here and now.

What this file is: trials of the production path (generate.decode, batch.py), each with
the model loaded again and nothing remembered, and the limits of the machine measured
beside them. What it is not: a comparison with other programs; that is
benchmarks/side_by_side.py.
"""

import gc
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
from PIL import Image, ImageDraw

from mm15_mlx import __version__, blas, calibrate, costs
from mm15_mlx.batch import Question, answer_together
from mm15_mlx.config import ModelConfig
from mm15_mlx.decoding import Options
from mm15_mlx.generate import decode
from mm15_mlx.images import Picture, load_picture
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.weights import load_model

QUESTION = "What is on this screen?"
SCREEN = (1170, 2532)  # a phone's screenshot
_MORE = " Read every line of it again."
# Of a limit's measurement: enough rows for the BLAS, and more than a core's caches.
_ROWS, _SWEEP = 1024, 256_000_000
Figures = dict[str, list[float]]


@dataclass(frozen=True)
class Wanted:
    """What is measured: tokens of text at least, of the answer exactly."""

    prompt_tokens: int = 0
    max_tokens: int = 64
    batch: int = 1
    trials: int = 5


def screen(size: tuple[int, int]) -> Picture:
    """A drawn screenshot of width × height pixels: bars and lines of text."""
    image = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(image)
    for y in range(0, size[1], 60):
        pen.rectangle((0, y, size[0] // 2, y + 20), fill=(y % 256, 90, 160))
        pen.text((size[0] // 2, y), f"Line {y}", fill="black")
    return load_picture(image)


def run(
    name: str,
    image: str | None,
    views: int | None,
    wanted: Wanted,
    json_output: bool,
) -> None:
    """Print the figures, as a table or as one JSON document."""
    folder = find_model(name)
    processor = load_processor(folder)
    # The answer's length is the flag's, whatever a model would say.
    processor.encoder.stop_ids = frozenset()
    picture = _picture(processor.config, image, views)
    prompt = question(processor, wanted.prompt_tokens)
    images = [picture] if picture else []
    processor.prepare(prompt, images)  # its mistakes come before the weights are read
    figures: Figures = {}
    for k in range(wanted.trials + 1):
        said = trial(folder, processor, prompt, images, wanted)
        what = f"trial {k} of {wanted.trials}" if k else "warm-up"
        print(f"{what}: first token {said['first_token_s']:.3f} s", file=sys.stderr)
        for key, value in said.items():
            figures.setdefault(key, []).extend([value] if k else [])
    facts = _facts(name, folder, processor, prompt, images, wanted, figures)
    print(json.dumps(facts, indent=2) if json_output else _text(facts))


def _picture(
    config: ModelConfig, image: str | None, views: int | None
) -> Picture | None:
    if image:
        return load_picture(image)
    if views is None:
        return screen(SCREEN)
    return screen(costs.picture_of(config, views)) if views else None


def question(processor: Processor, tokens: int) -> str:
    """A question of at least so many tokens, its roles and marks counted."""
    plain = len(processor.prepare(QUESTION).ids)
    each = len(processor.prepare(QUESTION + _MORE).ids) - plain
    return QUESTION + _MORE * max(0, -(-(tokens - plain) // each))


def trial(
    folder: Path,
    processor: Processor,
    prompt: str,
    images: Sequence[Picture],
    wanted: Wanted,
) -> dict[str, float]:
    """One answer from nothing: seconds, tokens per second, and bytes."""
    processor.memory.forget()
    gc.collect()
    mx.clear_cache()
    begin = time.perf_counter()
    model, _ = load_model(folder)
    load_s = time.perf_counter() - begin
    begin = time.perf_counter()
    prepared = processor.prepare(prompt, images)
    for picture in prepared.images:  # `encode_s` has the cutting once more
        _ = picture.views, picture.key
    picture_s = time.perf_counter() - begin
    *_, last = decode(model, processor, prepared, Options(wanted.max_tokens))
    said = {
        "load_s": load_s,
        "picture_s": picture_s,
        "encode_s": last.timings.encode_s,
        "prefill_s": last.timings.prefill_s,
        "first_token_s": last.timings.first_token_s,
        "decode_tokens_per_s": last.generation_tps,
        "peak_memory_bytes": last.peak_memory * 1e9,
    }
    if wanted.batch > 1:
        speed = _together(model, processor, prompt, images, wanted)
        said["batch_tokens_per_s"] = speed
    processor.memory.forget()
    return said


def _together(
    model: MM15,
    processor: Processor,
    prompt: str,
    images: Sequence[Picture],
    wanted: Wanted,
) -> float:
    """Tokens per second of all answers together, the picture's prefill not counted."""
    asked = [Question(f"{prompt} {k}", wanted.max_tokens) for k in range(wanted.batch)]
    results = answer_together(model, processor, asked, images, Options())
    return sum(r.timings.decode_tokens_per_s for r in results)


def _facts(
    name: str,
    folder: Path,
    processor: Processor,
    prompt: str,
    images: Sequence[Picture],
    wanted: Wanted,
    figures: Figures,
) -> dict[str, Any]:
    process = _process_peak()  # before the limits are measured
    prepared = processor.prepare(prompt, images)
    model, config = load_model(folder)
    views = sum(len(p.tiling.indices) for p in prepared.images)
    medians = {key: statistics.median(values) for key, values in figures.items()}
    limits = _limits(config, model)
    work = _work(config, model, views, len(prepared.ids), wanted)
    return {
        "model": name,
        "views": views,
        "image_tokens": sum(p.tokens for p in prepared.images),
        **asdict(wanted),
        "prompt_tokens": len(prepared.ids),
        "machine": platform.processor() or platform.machine(),
        "device": str(mx.default_device()),
        "blas": blas.preload().name,
        "cores": blas.usable_cores(),
        "versions": {"mm15-mlx": __version__, "mlx": version("mlx")},
        "figures": {
            key: {
                "median": medians[key], "min": min(values), "max": max(values)
            }
            for key, values in figures.items()
        },
        "limits": limits,
        "share_of_limit": _shares(work, medians, limits),
        "process_peak_bytes": process,
    }  # fmt: skip


def _limits(config: ModelConfig, model: MM15) -> dict[str, float]:
    """FLOP/s of products at the encoder's and the decoder's sizes, bytes/s."""
    v, t = config.vision_config, costs.dense_like(config).text_config
    dtype = model.decoder.norm.weight.dtype
    return {
        "encode_flop_s": calibrate.matmul_rate(
            _ROWS, v.hidden_size, v.intermediate_size, dtype
        ),
        "prefill_flop_s": calibrate.matmul_rate(
            _ROWS, t.hidden_size, t.intermediate_size, dtype
        ),
        "bytes_s": calibrate.bandwidth(_SWEEP, dtype),
    }  # fmt: skip


def _work(
    config: ModelConfig, model: MM15, views: int, tokens: int, wanted: Wanted
) -> dict[str, float]:
    """What the phases come to: operations, and bytes of a step."""
    held = costs.weights(config, model, None)
    size = model.decoder.norm.weight.dtype.size
    each = costs.encoder_flop(config) + costs.connector_flop(config)
    seen = tokens + wanted.max_tokens // 2
    return {
        "encode": views * each,
        "prefill": costs.prefill_flop(config, held.numbers, tokens),
        "step": costs.step_bytes(config, held.nbytes, seen, size),
    }


def _shares(
    work: Mapping[str, float],
    medians: Mapping[str, float],
    limits: Mapping[str, float],
) -> dict[str, float]:
    shares = {
        "prefill_s": work["prefill"] / medians["prefill_s"] / limits["prefill_flop_s"],
        "decode_tokens_per_s": (
            work["step"] * medians["decode_tokens_per_s"] / limits["bytes_s"]
        ),
    }
    if work["encode"]:
        done = work["encode"] / medians["encode_s"]
        shares["encode_s"] = done / limits["encode_flop_s"]
    return shares


def _process_peak() -> int:
    """Bytes of the whole program at most, loading included."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # KiB on Linux


_ROWS_OF_TABLE = (  # key, title, unit, factor, decimals
    ("load_s", "load", "s", 1, 3),
    ("picture_s", "cut picture", "s", 1, 3),
    ("encode_s", "encode", "s", 1, 3),
    ("prefill_s", "prefill", "s", 1, 3),
    ("first_token_s", "first token", "s", 1, 3),
    ("decode_tokens_per_s", "decode", "tokens/s", 1, 1),
    ("batch_tokens_per_s", "decode, batch", "tokens/s", 1, 1),
    ("peak_memory_bytes", "peak memory", "MB", 1e-6, 1),
)


def _text(facts: Mapping[str, Any]) -> str:
    f, limits = facts["figures"], facts["limits"]
    lines = [
        f"{facts['model']} on {facts['machine']}, {facts['cores']} cores, "
        f"{facts['blas']}, mlx {facts['versions']['mlx']}, {facts['device']}",
        f"{facts['views']} views, prompt {facts['prompt_tokens']} tokens "
        f"({facts['image_tokens']} visual), answer {facts['max_tokens']}, "
        f"{facts['trials']} trials after a warm-up",
        f"{'':<14}{'median':>10}{'min':>10}{'max':>10}  {'':<9}{'of limit':>8}",
    ]
    for key, title, unit, factor, decimals in _ROWS_OF_TABLE:
        if key not in f:
            continue
        numbers = "".join(
            f"{f[key][column] * factor:>10.{decimals}f}"
            for column in ("median", "min", "max")
        )
        share = facts["share_of_limit"].get(key)
        of_limit = f"{share:>8.0%}" if share is not None else ""
        lines.append(f"{title:<14}{numbers}  {unit:<9}{of_limit}".rstrip())
    lines += [
        f"limits: {limits['encode_flop_s'] / 1e9:,.1f} GFLOP/s at the encoder's sizes, "
        f"{limits['prefill_flop_s'] / 1e9:,.1f} at the decoder's, "
        f"{limits['bytes_s'] / 1e9:,.1f} GB/s",
        f"first token: after load and cut; the program at most "
        f"{facts['process_peak_bytes'] / 1e6:,.0f} MB",
    ]
    return "\n".join(lines)
