"""What the verbs `generate`, `ground`, `widgets` and `chat` print, draw and write."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mm15_mlx import ui
from mm15_mlx.batch import Question, answer_together
from mm15_mlx.config import CoordinateConfig, UserError
from mm15_mlx.decoding import Options
from mm15_mlx.documents import (
    document,
    print_json,
    print_timings,
    region,
    save_drawing,
)
from mm15_mlx.features import open_store
from mm15_mlx.generate import (
    Beginning,
    Result,
    Timings,
    collect,
    decode,
    read_beginning,
)
from mm15_mlx.grounding import Box, Point
from mm15_mlx.images import ImageLike, Picture, open_pictures
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.lora import load_adapters
from mm15_mlx.memory import NO_STORE, Store
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Message, Processor, Prompt, Video
from mm15_mlx.prompt import Template, interleaved
from mm15_mlx.video import Clip
from mm15_mlx.weights import load_model


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
        self.processor = load_processor(self.folder, adapters)
        self.processor.memory.store = store
        self.adapters = adapters
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

    def beginning(self, messages: Sequence[Message]) -> Beginning:
        """Messages before many questions, read once."""
        return read_beginning(self.model, self.processor, messages, self.options)

    def answer_together(
        self,
        questions: Sequence[Question],
        images: Sequence[ImageLike],
        before: Beginning | None = None,
    ) -> list[Result]:
        """The answers to questions about the same pictures."""
        return answer_together(
            self.model, self.processor, questions, images, self.options, before
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


def ask(
    prompt: str, images: Sequence[ImageLike], videos: Sequence[str | Path | Clip] = ()
) -> Message:
    """A question; pictures and videos stand where it says, or first: `interleaved`."""
    if not prompt.strip():
        raise UserError("the prompt is empty; ask something")
    return {"role": "user", "content": interleaved(prompt, images, videos)}


def _asked(text: str, parts: Sequence[dict[str, Any]]) -> Message:
    """A question whose text is nothing but text, after its pictures."""
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def finish(
    result: Result,
    session: Session,
    json: bool,
    targets: Sequence[Path],
    scale: float | None,
) -> None:
    """The JSON document or the line of timings, and the drawing."""
    if json:
        print_json(document(result, session.name, scale))
    print_timings(result, session.started)
    about = result.images[result.subject :]
    if len(about) > 1 and (result.boxes or result.points):
        print(
            f"warning: places are taken to be in picture {result.subject}, the first "
            f"of the {len(about)} that were asked about; `ground` asks about each",
            file=sys.stderr,
        )
    for target in targets:
        save_drawing(target, about[0], result.boxes, result.points)


@dataclass(frozen=True)
class Searched:
    """A picture to find things in; `name` is for a line of the answer. `split` is None
    where it is cut like any picture, False for one view."""

    picture: Picture
    name: str
    split: bool | None = None


def searched(
    images: Sequence[str], clip: Clip | None, split: bool | None
) -> tuple[list[Searched], list[Video]]:
    """Pictures, then the frames of a video."""
    pictures = open_pictures(images)
    found = [Searched(p, i) for p, i in zip(pictures, images, strict=True)]
    if clip is None:
        return found, []
    video = Video(clip.path, clip.duration, clip.times, len(found))
    found += [
        Searched(p, f"{clip.path} at {t:.2f} s", split)
        for p, t in zip(clip.frames, clip.times, strict=True)
    ]
    return found, [video]


def ground(
    session: Session,
    pictures: Sequence[Searched],
    videos: list[Video],
    queries: Sequence[str],
    json: bool,
    targets: Sequence[Path],
    scale: float | None,
) -> None:
    """One question for each picture and query; a picture is encoded and read once.

    Each picture is asked about alone: a model's boxes name no picture, and three or
    more together would not be split into tiles.
    """
    if any(not q.strip() for q in queries):
        raise UserError("a --query is empty; say what to find")
    prompt = session.processor.config.prompt
    results: list[Result] = []
    lines: list[str] = []
    boxes: list[Box] = []
    points: list[Point] = []
    for k, one in enumerate(pictures):
        part = {"type": "image", "image": one.picture, "split": one.split}
        for query in queries:
            asked = worded(session.processor, prompt.ground, _named_as(query))
            result = session.answer([{"role": "user", "content": [part, *asked]}], [])
            results.append(result)
            boxes += [_named(b, query, k) for b in result.boxes]
            points += [_named(p, query, k) for p in result.points]
            places = [_plain(r.px) for r in (*result.boxes, *result.points)]
            where = f"{one.name}: " if len(pictures) > 1 else ""
            lines.append(f"{where}{query}: {' '.join(places) or 'not found'}")
    firsts = results[:: len(queries)]  # of each picture
    reasons = [r.finish_reason for r in results]
    whole = replace(
        results[0],
        text="\n".join(r.text for r in results),
        boxes=boxes,
        points=points,
        images=[r.images[0] for r in firsts],
        videos=videos,
        # a picture is read once, whatever is asked about it
        prompt_tokens=sum(r.prompt_tokens - r.image_tokens for r in results)
        + sum(r.image_tokens for r in firsts),
        generation_tokens=sum(r.generation_tokens for r in results),
        peak_memory=max(r.peak_memory for r in results),
        finish_reason=next((r for r in reasons if r == "length"), reasons[0]),
        timings=_together(results),
    )
    if json:
        print_json(document(whole, session.name, scale))
    else:
        print("\n".join(lines))
    print_timings(whole, session.started)
    for k, target in enumerate(targets):
        mine = [b for b in boxes if b.image == k], [p for p in points if p.image == k]
        save_drawing(target, whole.images[k], *mine)


def _together(results: Sequence[Result]) -> Timings:
    """Of several answers: all seconds; the first token is that of the first."""
    times = [r.timings for r in results]
    timed = [(r.generation_tokens, r.timings.decode_tokens_per_s) for r in results]
    seconds = sum(tokens / pace for tokens, pace in timed if pace)
    tokens = sum(tokens for tokens, pace in timed if pace)
    return replace(
        times[0],
        encode_s=sum(t.encode_s for t in times),
        prefill_s=sum(t.prefill_s for t in times),
        decode_tokens_per_s=tokens / seconds if seconds else 0.0,
    )


def _named_as(query: str) -> str:
    """Quoted words are looked for as text, anything else by what it is called."""
    quoted = len(query) > 2 and query[0] == query[-1] == '"'
    return f"text {query}" if quoted else query


def worded(processor: Processor, wording: str, words: str = "") -> list[dict[str, Any]]:
    """A question in the model's own wording, with `words` in its place for them.

    Parts of a message. Names of special tokens stand for those tokens in the wording,
    never in the words; where it names none it is one text, tokenised as a whole.
    """
    before, place, after = wording.partition("{query}")
    named = any(isinstance(p, int) for p in processor.tokenizer.split(wording))
    texts: list[str | Template] = [before + words * bool(place) + after]
    if named:
        own = Template(before), Template(after)
        texts = [own[0], words, own[1]] if place else [own[0]]
    return [{"type": "text", "text": text} for text in texts]


def _named(region: Any, label: str, image: int) -> Any:
    return type(region)(label, image, region.px, region.norm)


def _plain(px: Sequence[float]) -> str:
    return "[" + ", ".join(f"{v:g}" for v in px) + "]"


def widgets(
    session: Session,
    image: str,
    json: bool,
    targets: Sequence[Path],
    scale: float | None,
) -> None:
    """Every UI element the model lists."""
    asked = worded(session.processor, session.processor.config.prompt.widgets)
    shown = {"type": "image", "image": image}
    result = session.answer([{"role": "user", "content": [shown, *asked]}], [])
    picture = result.images[0].picture
    coordinates = session.coordinates
    elements = ui.parse_elements(result.text, picture.size, coordinates)
    boxes = [Box(ui.element_line(e.type, e.text), 0, e.px, e.norm) for e in elements]
    if json:
        regions = [region(b, result.images, scale) for b in boxes]
        print_json({"elements": [
            {"type": e.type, "text": e.text,
             **{k: r[k] for k in ("px", "norm", "pt") if k in r}}
            for e, r in zip(elements, regions, strict=True)
        ]})  # fmt: skip
    else:
        for box in boxes:
            print(f"{_plain(box.px)} {box.label}")
    if result.finish_reason == "length":
        print("warning: the list was cut at --max-tokens", file=sys.stderr)
    print_timings(result, session.started)
    for target in targets:
        save_drawing(target, result.images[0], boxes, [])


def chat(session: Session, images: Sequence[str], clip: Clip | None) -> None:
    """Read questions until an empty line; pictures and video belong to the first."""
    opened = [{"type": "image", "image": p} for p in open_pictures(images)]
    if clip:
        opened.append({"type": "video", "video": clip})
    messages: list[Message] = []
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line.strip():
            return
        messages.append(_asked(line.strip(), [] if messages else opened))
        try:
            result = session.answer(messages, [], stream=True)
        except UserError as e:
            if not sys.stdin.isatty():
                raise
            print(f"error: {e}", file=sys.stderr)  # a slip is no end of a talk
            messages.pop()
            continue
        messages.append({"role": "assistant", "content": result.text})
