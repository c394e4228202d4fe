"""Results as people and programs get them: JSON, a line of timings, drawings."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mm15_mlx.config import UserError
from mm15_mlx.generate import Result
from mm15_mlx.grounding import Box, Point, draw
from mm15_mlx.outputs import output_place
from mm15_mlx.processor import TiledPicture, Video


def document(result: Result, model: str, scale: float | None) -> dict[str, Any]:
    """The JSON of `generate` and `ground`. `images` has pictures and the frames of
    videos, these with `time_s`, in the order in which the model saw them: it is what
    `image` of a box counts through. `videos` is there where there are any."""
    times = {v.first + k: t for v in result.videos for k, t in enumerate(v.times)}
    whole: dict[str, Any] = {
        "text": result.text,
        "model": model,
        "finish_reason": result.finish_reason,
        "images": [_image(i, times.get(k)) for k, i in enumerate(result.images)],
    }
    if result.videos:
        whole["videos"] = [_video(v) for v in result.videos]
    return whole | {
        "boxes": [region(b, result.images, scale) for b in result.boxes],
        "points": [region(p, result.images, scale) for p in result.points],
        "usage": {
            "prompt_tokens": result.prompt_tokens,
            "image_tokens": result.image_tokens,
            "generated_tokens": result.generation_tokens,
        },
        "timings": {k: round(v, 4) for k, v in asdict(result.timings).items()},
        "peak_memory_bytes": result.peak_memory,
    }


def _image(image: TiledPicture, time_s: float | None) -> dict[str, Any]:
    width, height = image.picture.size
    said = {
        "path": image.picture.path,
        "width": width,
        "height": height,
        "grid": list(image.tiling.grid),
        "views": len(image.tiling.indices),
        "tokens": image.tokens,
    }
    return said if time_s is None else said | {"time_s": round(time_s, 3)}


def _video(video: Video) -> dict[str, Any]:
    return {
        "path": video.path,
        "duration_s": round(video.duration, 3),
        "frames": len(video.times),
        "times_s": [round(t, 3) for t in video.times],
    }


def region(
    found: Box | Point, images: Sequence[TiledPicture], scale: float | None
) -> dict[str, Any]:
    """A place: pixels, thousandths, and points of the screen where a scale is known."""
    said = {
        "label": found.label,
        "image": found.image,
        "px": list(found.px),
        "norm": list(found.norm),
    }
    scale = scale or images[found.image].picture.scale
    if scale:
        said["pt"] = [round(v / scale, 1) for v in found.px]
    return said


def print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def print_timings(result: Result, started: float) -> None:
    t = result.timings
    text = result.prompt_tokens - result.image_tokens
    print(
        f"{result.image_tokens} image + {text} text tokens · load {t.load_s:.2f} s · "
        f"encode {t.encode_s:.2f} s · prefill {t.prefill_s:.2f} s · first token "
        f"{t.first_token_s:.2f} s · {t.decode_tokens_per_s:.0f} tokens/s · "
        f"{result.peak_memory / 1e6:.0f} MB · "
        f"{time.perf_counter() - started:.1f} s in all",
        file=sys.stderr,
    )


def drawing_targets(path: Path | None, force: bool, pictures: int) -> list[Path]:
    """The files of `--draw`, if they can be written: `path`, or for several pictures
    `name-0.png`, `name-1.png`, …, by their number in `images`. None without `path`.
    Asked before any weights load; raises UserError."""
    if path is None:
        return []
    if not pictures:
        raise UserError(f"--draw {path} needs a picture to draw on; give --image")
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"--draw {path} must end in .png, .jpg or .webp")
    targets = [path]
    if pictures > 1:
        targets = [
            path.with_name(f"{path.stem}-{k}{path.suffix}") for k in range(pictures)
        ]
    for target in targets:
        try:
            output_place(target)
        except UserError as e:
            raise UserError(f"--draw {e}") from e
        if target.exists() and not force:
            raise UserError(f"{target} exists; give --force to overwrite it")
    return targets


def save_drawing(
    target: Path, image: TiledPicture, boxes: Sequence[Box], points: Sequence[Point]
) -> None:
    """The picture with its places, whole or not at all. Raises UserError."""
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        draw(image.picture.image, boxes, points).save(partial)
        os.replace(partial, target)
    except OSError as e:
        raise UserError(f"--draw {target} cannot be written: {e.strerror}") from e
    finally:
        partial.unlink(missing_ok=True)
    print(f"wrote {target}", file=sys.stderr)
