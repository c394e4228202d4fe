"""Answers: pictures and prompt in, text out, and what a second question need not pay.

`stream_generate` yields text as it comes, `generate` returns the whole answer with its
boxes. Both keep, on the processor, the visual tokens of recent pictures (by content)
and the keys and values of the last conversation, so that another question about the
same picture encodes nothing and reads only its own words.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx

from mm15_mlx.decoder import KVCache
from mm15_mlx.decoding import (
    Options,
    Stop,
    Stopped,
    kind,
    make_sampler,
    never,
    prefill,
    step,
)
from mm15_mlx.grounding import Box, Point, asked_label, parse_answer
from mm15_mlx.images import ImageLike
from mm15_mlx.mm15 import MM15, views_together
from mm15_mlx.processor import (
    Message,
    Prepared,
    Processor,
    Prompt,
    TiledPicture,
    Video,
)
from mm15_mlx.prompt import PICTURE, VIDEO, WHOLE, AnswerDecoder, reach


@dataclass
class Timings:
    """Seconds of each part; `first_token_s` counts from the call."""

    load_s: float = 0.0
    encode_s: float = 0.0
    prefill_s: float = 0.0
    first_token_s: float = 0.0
    decode_tokens_per_s: float = 0.0


@dataclass(frozen=True)
class GenerationResponse:
    """One step of an answer, with mlx-lm's field names."""

    text: str
    token: int
    prompt_tokens: int
    prompt_tps: float
    generation_tokens: int
    generation_tps: float
    peak_memory: float  # GB
    finish_reason: str | None
    timings: Timings


@dataclass(frozen=True)
class Result:
    """A whole answer. Boxes and points are in pixels of the original picture."""

    text: str
    boxes: list[Box]
    points: list[Point]
    images: list[TiledPicture]
    finish_reason: str
    prompt_tokens: int
    generation_tokens: int
    timings: Timings
    peak_memory: int = 0  # bytes
    tokens: list[int] = field(default_factory=list)
    subject: int = 0  # which of `images` the question is about
    videos: list[Video] = field(default_factory=list)

    @property
    def image_tokens(self) -> int:
        return sum(t.tokens for t in self.images)


class Answer:
    """Where one answer ends, and its text."""

    def __init__(
        self, model: MM15, processor: Processor, prepared: Prepared, max_tokens: int
    ) -> None:
        coordinates = processor.config.coordinates
        covered = WHOLE
        if prepared.images:
            covered = reach(coordinates, prepared.images[prepared.subject].tiling)
        self._decoder = AnswerDecoder(processor.tokenizer, coordinates, covered)
        self._stop_ids = processor.encoder.stop_ids
        limit = model.config.text_config.max_position_embeddings - len(prepared.ids)
        self._budget = min(max_tokens, limit)
        self.count = 0

    def ends(self, token: int) -> str | None:
        """The finish reason, if `token`, the answer's next, is its last."""
        self.count += 1
        if token in self._stop_ids:
            return "stop"
        return "length" if self.count >= self._budget else None

    def text(self, token: int, reason: str | None) -> str:
        """The text that can be written once `token` is known."""
        text = "" if reason == "stop" else self._decoder.add(token)
        return text + self._decoder.finish() if reason else text


def content_keys(prepared: Prepared, image_id: int) -> list[int]:
    """The prompt's ids with every placeholder replaced by its picture's content.

    Equal keys mean equal keys and values: two prompts that differ in a picture only
    must not share them.
    """
    owners = [
        -1 - int(picture.key[:15], 16)
        for picture in prepared.images
        for _ in range(picture.tokens)
    ]
    rest = iter(owners)
    return [next(rest) if i == image_id else i for i in prepared.ids]


@dataclass(frozen=True)
class Beginning:
    """What many prompts begin with, examples say, read once for one model.

    `messages` stand before every prompt; `keys` are theirs (see `content_keys`), and
    `cache` holds exactly those. It is copied, never handed over, so that prompts which
    differ from there on all find it.
    """

    messages: list[Message]
    images: list[TiledPicture]
    keys: list[int]
    cache: list[KVCache]

    def shared(self, keys: list[int]) -> int:
        """How many of `keys` it holds; never the last, whose logits are needed."""
        same = 0
        for a, b in zip(self.keys, keys[:-1], strict=False):
            if a != b:
                break
            same += 1
        return same

    def copy(self, tokens: int) -> list[KVCache]:
        """Caches of the first `tokens`, to be written on."""
        copies = []
        for layer in self.cache:
            keys, values = layer.keys_and_values()
            copies.append(KVCache())
            copies[-1].state = keys[..., :tokens, :], values[..., :tokens, :], tokens
        return copies


def read_beginning(
    model: MM15, processor: Processor, messages: Sequence[Message], options: Options
) -> Beginning:
    """Encode the pictures of `messages` and read them, for `answer_together` and
    `decode`. Raises UserError for what cannot be asked."""
    processor.memory.serve(model)
    prepared = processor.prepare(messages)
    cache = model.make_cache()
    embeddings = embed_prompt(model, processor, prepared, 0, Timings())
    prefill(model, prepared.ids, embeddings, cache, replace(options, kv_bits=None))
    mx.eval([c.state for c in cache])
    keys = content_keys(prepared, processor.encoder.image_id)
    return Beginning(list(messages), prepared.images, keys, cache)


def resume(
    model: MM15,
    processor: Processor,
    keys: list[int],
    made: object,
    beginning: Beginning | None,
) -> tuple[list[Any], int]:
    """A KV cache and how many of `keys` it holds: the last conversation's, or a copy
    of the beginning's where that holds more. A quantised one (`made`) has no copies."""
    cache, known = processor.memory.resume(keys, model.make_cache, made)
    if beginning and made is None and beginning.shared(keys) > known:
        known = beginning.shared(keys)
        return beginning.copy(known), known
    return cache, known


def stream_generate(
    model: MM15,
    processor: Processor,
    prompt: Prompt,
    images: Sequence[ImageLike] = (),
    **options: Any,
) -> Iterator[GenerationResponse]:
    """Yield the answer piece by piece. Keyword arguments are those of `Options`."""
    prepared = processor.prepare(prompt, images)
    yield from decode(model, processor, prepared, Options(**options))


def runs_ahead() -> bool:
    """Whether a step is begun before its token is known: a GPU then never waits for
    Python, and one step in vain ends each answer. On a CPU that step would cost more
    than all the waiting."""
    return mx.default_device() != mx.cpu


def decode(
    model: MM15,
    processor: Processor,
    prepared: Prepared,
    options: Options,
    beginning: Beginning | None = None,
    stop: Stop = never,
) -> Iterator[GenerationResponse]:
    """The answer to a prepared prompt.

    stop: asked between the parts of encode and prefill. Raises Stopped where it says
    so; what was read by then, whole pictures and chunks, is kept for the next question.
    """
    start = time.perf_counter()
    mx.reset_peak_memory()
    if options.seed is not None:
        mx.random.seed(options.seed)
    timings = Timings()
    memory = processor.memory
    memory.serve(model)
    keys = content_keys(prepared, processor.encoder.image_id)
    made = kind(model, options)
    cache, known = resume(model, processor, keys, made, beginning)
    try:
        embeddings = embed_prompt(model, processor, prepared, known, timings, stop)
        begin = time.perf_counter()
        logits = prefill(model, prepared.ids[known:], embeddings, cache, options, stop)
    except Stopped:
        if held := cache[0].offset:
            memory.keep(keys[:held], cache, made)
        raise
    sampler = make_sampler(options, logits.shape[-1])
    token = sampler(logits)
    mx.eval(token)
    timings.prefill_s = time.perf_counter() - begin
    timings.first_token_s = time.perf_counter() - start

    answer = Answer(model, processor, prepared, options.max_tokens)
    fed: list[int] = []
    prompt_tps = (len(prepared.ids) - known) / max(timings.prefill_s, 1e-9)
    begin = time.perf_counter()
    reason, ahead = None, runs_ahead()

    def following(token: mx.array) -> mx.array:
        """The token after it; its step runs while others are being written out."""
        after = sampler(step(model, token, cache, options))
        mx.async_eval(after)
        return after

    while reason is None:
        last = token
        if ahead:
            token = following(last)
        value = int(last.item())
        reason = answer.ends(value)
        if reason is None and not ahead:
            token = following(last)
        if reason is None or ahead:
            fed.append(value)
        text = answer.text(value, reason)
        elapsed = time.perf_counter() - begin
        timings.decode_tokens_per_s = (answer.count - 1) / elapsed
        if reason:
            # before the last yield: a caller need not ask for more after it
            memory.keep(keys + fed, cache, made)
        response = GenerationResponse(
            text, value, len(prepared.ids), prompt_tps, answer.count,
            timings.decode_tokens_per_s, mx.get_peak_memory() / 1e9, reason, timings,
        )  # fmt: skip
        try:
            yield response
        except GeneratorExit:
            # nobody listens any more: the next question is quick all the same
            if not reason:
                memory.keep(keys + fed, cache, made)
            raise


def embed_prompt(
    model: MM15,
    processor: Processor,
    prepared: Prepared,
    known: int,
    timings: Timings,
    stop: Stop = never,
) -> mx.array:
    """Embeddings (1, L, D) of the prompt's tokens that the cache does not hold. Raises
    Stopped between views; those of a picture that is not whole are lost."""
    image_id = processor.encoder.image_id
    rest = prepared.ids[known:]
    ids = mx.array([rest])
    if image_id not in rest:
        return model.embed_inputs(ids)
    begin = time.perf_counter()
    visual = []
    skip = prepared.ids[:known].count(image_id)
    for picture in prepared.images:
        if skip >= picture.tokens:  # wholly in the cache
            skip -= picture.tokens
            continue
        features = processor.memory.features(
            picture.key, lambda p=picture: _visual_tokens(model, processor, p, stop)
        )
        visual.append(features[skip:])
        skip = 0
    timings.encode_s = time.perf_counter() - begin
    return model.embed_inputs(ids, mx.concatenate(visual))


def _visual_tokens(
    model: MM15, processor: Processor, picture: TiledPicture, stop: Stop
) -> mx.array:
    """A picture's visual tokens (M, D), from the disk or the encoder."""
    store = processor.memory.store
    features = store.load(model, picture.key, picture.tokens)
    if features is None:
        features = encode_picture(model, processor, picture, stop)
        store.save(model, picture.key, features)
    return features


def encode_picture(
    model: MM15, processor: Processor, picture: TiledPicture, stop: Stop = never
) -> mx.array:
    """A picture's visual tokens (M, D), of as many views at a time as memory is meant
    to hold. Raises Stopped between those."""
    encoded = []
    for views in processor.groups(picture, views_together(model.config)):
        if stop():
            raise Stopped
        encoded.append(model.encode_image(views))
        mx.eval(encoded[-1])
    return model.pack(mx.concatenate(encoded), picture.packing)


def generate(
    model: MM15,
    processor: Processor,
    prompt: Prompt,
    images: Sequence[ImageLike] = (),
    **options: Any,
) -> Result:
    """The whole answer. Keyword arguments are those of `Options`."""
    prepared = processor.prepare(prompt, images)
    responses = decode(model, processor, prepared, Options(**options))
    return collect(processor, prepared, prompt, responses)


def collect(
    processor: Processor,
    prepared: Prepared,
    prompt: Prompt,
    responses: Iterator[GenerationResponse],
) -> Result:
    """Join a stream into a Result, with the boxes and points of its text."""
    text, tokens, last = "", [], None
    for last in responses:
        text += last.text
        tokens.append(last.token)
    if last is None or last.finish_reason is None:
        raise ValueError("the stream ended before the answer did")
    asked = prompt if isinstance(prompt, str) else _last_words(prompt)
    asked = asked.replace(PICTURE, "").replace(VIDEO, "")
    boxes, points = parse_answer(
        text,
        prepared.sizes,
        processor.config.coordinates,
        asked_label(asked),
        prepared.subject,
    )
    return Result(
        text, boxes, points, prepared.images, last.finish_reason, last.prompt_tokens,
        last.generation_tokens, last.timings, round(last.peak_memory * 1e9), tokens,
        prepared.subject, prepared.videos,
    )  # fmt: skip


def _last_words(messages: Sequence[dict[str, Any]]) -> str:
    content = messages[-1]["content"]
    if isinstance(content, str):
        return content
    texts = [p["text"] for p in content if p["type"] == "text"]
    return " ".join(t for t in texts if isinstance(t, str))
