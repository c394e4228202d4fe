"""How a question about a video grows with its frames.

A recording of 60 seconds is drawn here, and asked about with more and more frames: the
seconds until they are read from the file, encoded and prefilled, and MLX's peak memory.
Encoding is to be linear in frames (R² of a straight line), and a prompt has exactly the
frames' visual tokens beside its text. Medians of trials that take all counts in turn;
nothing is remembered between them. Needs the extra `video`. A markdown table on stdout,
then one JSON line.

Run: python benchmarks/frames.py --frames 1 2 4 6 8 10 --trials 3
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
from growth import r_squared
from PIL import Image, ImageDraw

from mm15_mlx import __version__, generate, load
from mm15_mlx.config import UserError
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor

SIZE = (720, 1280)
SECONDS = 60
QUESTION = "List the UI elements of this screen."


def recording(path: Path) -> None:
    """A list that scrolls, ten pictures a second, as H.264."""
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for k in range(10 * SECONDS):
            screen = Image.new("RGB", SIZE, "white")
            pen = ImageDraw.Draw(screen)
            for row in range(60):
                y = 120 * row - 8 * k
                pen.text((60, y), f"Message {row}", fill="black", font_size=40)
                pen.line((0, y + 80, SIZE[0], y + 80), fill="lightgrey")
            frame = av.VideoFrame.from_image(screen)
            frame.pts, frame.time_base = k, Fraction(1, 10)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def asked(
    model: MM15, processor: Processor, video: Path, frames: int
) -> dict[str, float]:
    """Seconds of the parts of one question's first token, and its tokens."""
    processor.memory.forget()
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    shown = {"type": "video", "video": str(video), "frames": frames}
    prompt = [{"role": "user", "content": [shown, {"type": "text", "text": QUESTION}]}]
    begin = time.perf_counter()
    result = generate(model, processor, prompt, max_tokens=1)
    whole = time.perf_counter() - begin
    timings = result.timings
    return {
        "read_s": whole - timings.encode_s - timings.prefill_s,
        "encode_s": timings.encode_s,
        "prefill_s": timings.prefill_s,
        "image_tokens": result.image_tokens,
        "text_tokens": result.prompt_tokens - result.image_tokens,
        "peak_mb": (mx.get_peak_memory() - before) / 1e6,
    }


def measured(
    model: MM15, processor: Processor, video: Path, counts: Sequence[int], trials: int
) -> dict[int, dict[str, float]]:
    """Medians for each count of frames; a first round is not counted."""
    rounds = [
        {n: asked(model, processor, video, n) for n in counts}
        for _ in range(trials + 1)
    ][1:]
    return {
        n: {
            key: round(statistics.median(r[n][key] for r in rounds), 4)
            for key in rounds[0][n]
        }
        for n in counts
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4, 6, 8, 10])
    parser.add_argument("--trials", type=int, default=3)
    args = parser.parse_args(arguments)
    try:
        model, processor = load(args.model)
        with tempfile.TemporaryDirectory() as folder:
            video = Path(folder) / "recording.mp4"
            recording(video)
            found = measured(model, processor, video, args.frames, args.trials)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        "| frames | visual tokens | of the text | read, s | encode, s | a frame, s "
        "| prefill, s | peak, MB |\n" + "|---" * 8 + "|"
    )
    for n, row in found.items():
        print(
            f"| {n} | {row['image_tokens']:.0f} | {row['text_tokens']:.0f} "
            f"| {row['read_s']:.2f} | {row['encode_s']:.2f} "
            f"| {row['encode_s'] / n:.3f} | {row['prefill_s']:.2f} "
            f"| {row['peak_mb']:.0f} |"
        )
    report: dict[str, Any] = {
        "model": args.model, "trials": args.trials,
        "machine": platform.processor() or platform.machine(),
        "mlx": version("mlx"), "mm15-mlx": __version__, "frames": found,
    }  # fmt: skip
    if len(args.frames) > 2:
        seconds = [found[n]["encode_s"] for n in args.frames]
        report["encode_r2"] = round(r_squared(args.frames, seconds), 5)
        print(f"\nR² of a straight line: {report['encode_r2']:.4f}\n")
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
