"""What the verbs `generate`, `ground`, `widgets` and `chat` print, draw and write."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mm15_mlx import ui
from mm15_mlx.batch import Question, answer_together
from mm15_mlx.config import CoordinateConfig, UserError
from mm15_mlx.decoding import Options
from mm15_mlx.features import open_store
from mm15_mlx.generate import Result, collect, decode
from mm15_mlx.grounding import Box, Point, draw
from mm15_mlx.images import ImageLike, load_picture
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.lora import load_adapters, read_tuning
from mm15_mlx.memory import NO_STORE, Store
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Message, Prompt, TiledPicture
from mm15_mlx.weights import load_model

SHOT = "IMG::QUESTION::ANSWER"


class Session:
    """One model for one run of the program; inputs are checked before weights load."""

    def __init__(
        self,
        name: str,
        started: float,
        options: dict[str, Any],
        store: Store = NO_STORE,
        adapters: Path | None = None,
    ) -> None:
        self.name = name
        self.options = Options(**options)
        self.started = started
        self.folder = find_model(name)
        self.processor = load_processor(self.folder)
        self.processor.memory.store = store
        self.adapters = adapters
        if adapters:
            read_tuning(adapters)
        self._model: MM15 | None = None
        self.load_s = 0.0

    @property
    def coordinates(self) -> CoordinateConfig:
        return self.processor.config.coordinates

    @property
    def model(self) -> MM15:
        """Loaded when it is first needed."""
        if self._model is None:
            begin = time.perf_counter()
            self._model, _ = load_model(self.folder)
            if self.adapters:
                applied = load_adapters(self._model, self.adapters)
                print(f"applied {applied} modules", file=sys.stderr)
            self.load_s = time.perf_counter() - begin
        return self._model

    def answer(
        self, prompt: Prompt, images: Sequence[ImageLike], stream: bool = False
    ) -> Result:
        """The answer; with `stream` it is written to stdout as it comes."""
        prepared = self.processor.prepare(prompt, images)
        responses = decode(self.model, self.processor, prepared, self.options)
        result = collect(
            self.processor,
            prepared,
            prompt,
            _written(responses) if stream else responses,
        )
        result.timings.load_s = self.load_s
        return result

    def answer_together(
        self, questions: Sequence[Question], images: Sequence[ImageLike]
    ) -> list[Result]:
        """The answers to questions about the same pictures."""
        return answer_together(
            self.model, self.processor, questions, images, self.options
        )


def feature_store(folder: Path | None, gigabytes: float) -> Store:
    """The store of `--cache-dir`; its warnings go to stderr."""
    if folder is None:
        return NO_STORE
    return open_store(
        folder, gigabytes, lambda text: print(f"warning: {text}", file=sys.stderr)
    )


def _written(responses: Any) -> Any:
    for response in responses:
        sys.stdout.write(response.text)
        sys.stdout.flush()
        yield response
    sys.stdout.write("\n")


def conversation(
    prompt: str, images: Sequence[str], shots: Sequence[str], system: str | None
) -> list[Message]:
    """The system text, the examples, and the question with its pictures first."""
    if not prompt.strip():
        raise UserError("the prompt is empty; ask something")
    messages: list[Message] = []
    if system:
        messages.append({"role": "system", "content": system})
    for shot in shots:
        fields = shot.split("::")
        if len(fields) != 3:
            raise UserError(f"--shot {shot!r} is not {SHOT}")
        messages.append(_asked(fields[1], fields[:1]))
        messages.append({"role": "assistant", "content": fields[2]})
    messages.append(_asked(prompt, images))
    return messages


def _asked(text: str, images: Sequence[ImageLike]) -> Message:
    parts = [{"type": "image", "image": i} for i in images]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def drawing_target(path: Path | None, force: bool, pictures: bool) -> Path | None:
    """`path` if a picture can be written there; checked before any weights load."""
    if path is None:
        return None
    if not pictures:
        raise UserError(f"--draw {path} needs a picture to draw on; give --image")
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"--draw {path} must end in .png, .jpg or .webp")
    if not path.parent.is_dir():
        raise UserError(f"--draw {path}: the folder {path.parent} does not exist")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"--draw {path} cannot be written; name another file")
    if path.exists() and not force:
        raise UserError(f"{path} exists; give --force to overwrite it")
    return path


def save_drawing(
    target: Path, image: TiledPicture, boxes: Sequence[Box], points: Sequence[Point]
) -> None:
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        draw(image.picture.image, boxes, points).save(partial)
        os.replace(partial, target)
    except OSError as e:
        raise UserError(f"--draw {target} cannot be written: {e.strerror}") from e
    finally:
        partial.unlink(missing_ok=True)
    print(f"wrote {target}", file=sys.stderr)


def finish(
    result: Result,
    session: Session,
    json: bool,
    target: Path | None,
    scale: float | None,
) -> None:
    """The JSON document or the line of timings, and the drawing."""
    if json:
        _print_json(document(result, session.name, scale))
    _print_timings(result, session.started)
    if target:
        asked_about = result.images[result.subject]
        save_drawing(target, asked_about, result.boxes, result.points)


def document(result: Result, model: str, scale: float | None) -> dict[str, Any]:
    """The JSON of `generate` and `ground`."""
    return {
        "text": result.text,
        "model": model,
        "finish_reason": result.finish_reason,
        "images": [_image(i) for i in result.images],
        "boxes": [_region(b, result.images, scale) for b in result.boxes],
        "points": [_region(p, result.images, scale) for p in result.points],
        "usage": {
            "prompt_tokens": result.prompt_tokens,
            "image_tokens": result.image_tokens,
            "generated_tokens": result.generation_tokens,
        },
        "timings": {k: round(v, 4) for k, v in asdict(result.timings).items()},
        "peak_memory_bytes": result.peak_memory,
    }


def _image(image: TiledPicture) -> dict[str, Any]:
    width, height = image.picture.size
    return {
        "path": image.picture.path,
        "width": width,
        "height": height,
        "grid": list(image.tiling.grid),
        "views": len(image.tiling.indices),
        "tokens": image.tokens,
    }


def _region(
    region: Box | Point, images: Sequence[TiledPicture], scale: float | None
) -> dict[str, Any]:
    found = {
        "label": region.label,
        "image": region.image,
        "px": list(region.px),
        "norm": list(region.norm),
    }
    scale = scale or images[region.image].picture.scale
    if scale:
        found["pt"] = [round(v / scale, 1) for v in region.px]
    return found


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))


def _print_timings(result: Result, started: float) -> None:
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


def ground(
    session: Session,
    image: str,
    queries: Sequence[str],
    json: bool,
    target: Path | None,
    scale: float | None,
) -> None:
    """One question for each query; the picture is encoded and read once."""
    if any(not q.strip() for q in queries):
        raise UserError("a --query is empty; say what to find")
    picture = load_picture(image)
    results = [session.answer(_ask_for(q), [picture]) for q in queries]
    asked = list(zip(results, queries, strict=True))
    boxes = [_labelled(b, q) for r, q in asked for b in r.boxes]
    points = [_labelled(p, q) for r, q in asked for p in r.points]
    first = results[0]
    if json:
        whole = document(first, session.name, scale)
        whole["text"] = "\n".join(r.text for r in results)
        whole["boxes"] = [_region(b, first.images, scale) for b in boxes]
        whole["points"] = [_region(p, first.images, scale) for p in points]
        whole["usage"]["generated_tokens"] = sum(r.generation_tokens for r in results)
        _print_json(whole)
    else:
        for result, query in asked:
            found = [_plain(r.px) for r in (*result.boxes, *result.points)]
            print(f"{query}: {' '.join(found) or 'not found'}")
    _print_timings(first, session.started)
    if target:
        save_drawing(target, first.images[0], boxes, points)


def _ask_for(query: str) -> str:
    """Quoted words are looked for as text, anything else by what it is called."""
    if len(query) > 2 and query[0] == query[-1] == '"':
        return ui.find_text_prompt(query[1:-1])
    return ui.find_prompt(query)


def _labelled(region: Any, label: str) -> Any:
    return type(region)(label, region.image, region.px, region.norm)


def _plain(px: Sequence[float]) -> str:
    return "[" + ", ".join(f"{v:g}" for v in px) + "]"


def widgets(
    session: Session, image: str, json: bool, target: Path | None, scale: float | None
) -> None:
    """Every UI element the model lists."""
    result = session.answer(ui.WIDGETS_PROMPT, [image])
    picture = result.images[0].picture
    coordinates = session.coordinates
    elements = ui.parse_elements(result.text, picture.size, coordinates)
    boxes = [Box(ui.element_line(e.type, e.text), 0, e.px, e.norm) for e in elements]
    if json:
        regions = [_region(b, result.images, scale) for b in boxes]
        _print_json({"elements": [
            {"type": e.type, "text": e.text,
             **{k: r[k] for k in ("px", "norm", "pt") if k in r}}
            for e, r in zip(elements, regions, strict=True)
        ]})  # fmt: skip
    else:
        for box in boxes:
            print(f"{_plain(box.px)} {box.label}")
    if result.finish_reason == "length":
        print("warning: the list was cut at --max-tokens", file=sys.stderr)
    _print_timings(result, session.started)
    if target:
        save_drawing(target, result.images[0], boxes, [])


def chat(session: Session, images: Sequence[str]) -> None:
    """Read questions until an empty line; the pictures belong to the first."""
    opened = [load_picture(i) for i in images]
    messages: list[Message] = []
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line.strip():
            return
        pictures = [] if messages else opened
        messages.append(_asked(line.strip(), pictures))
        result = session.answer(messages, [], stream=True)
        messages.append({"role": "assistant", "content": result.text})
