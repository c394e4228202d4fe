"""Many questions about the same pictures at once.

What this file is: the pictures and the words that all questions begin with are read
once, and the questions are answered side by side: each step of the decoder makes one
token of every answer. What it is not: another way of answering. Greedy, the tokens are
those of one question after the other, as far as rounding allows.

B questions, L tokens, T tokens that all have in common, S tokens of a question's own so
far, H query heads, K key/value heads, G = H / K, D head dim.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np

from mm15_mlx import fast_cpu
from mm15_mlx.decoder import KVCache, Mask
from mm15_mlx.decoding import Options, make_sampler, prefill
from mm15_mlx.generate import (
    Answer,
    Beginning,
    GenerationResponse,
    Result,
    Timings,
    collect,
    content_keys,
    decode,
    embed_prompt,
    resume,
)
from mm15_mlx.images import ImageLike, open_pictures
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Prepared, Processor, Prompt, TiledPicture, with_pictures

ROWS = 32  # mlx-lm's completion_batch_size
# Padded tokens of the questions read at once: 250 MB of scores with 32 heads and a
# prompt of 4000 tokens, as nothing fuses this attention.
OWN_TOKENS = 512


class SharedKVCache:
    """Keys and values of one layer: a beginning that all rows share, not copied, and
    each row's own after it, `padding` (B,) tokens of which, on the left, are nothing.
    """

    def __init__(self, shared: KVCache, padding: Sequence[int]) -> None:
        keys, values = shared.keys_and_values()  # (1, K, T, D)
        # Once, here: a product with a view of the cache would copy it at every step.
        self._keys, self._values = mx.contiguous(keys[0]), mx.contiguous(values[0])
        self._own = KVCache()
        self._padding = mx.array(padding)
        self.offset = keys.shape[2] - self._padding  # (B,), for the positions

    def update_and_fetch(
        self, keys: mx.array, values: mx.array
    ) -> tuple[mx.array, mx.array]:
        self.offset = self.offset + keys.shape[2]
        return self._own.update_and_fetch(keys, values)

    def make_mask(
        self, N: int, return_array: bool = False, window_size: int | None = None
    ) -> Mask:
        """(B, 1, N, S), true where a token sees one of its own row's."""
        end = self._own.offset + N
        columns = mx.arange(end)
        seen = columns <= mx.arange(self._own.offset, end)[:, None]
        return seen & (columns >= self._padding[:, None, None, None])

    def attend(
        self,
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        scale: float,
        mask: mx.array,
    ) -> mx.array:
        """(B, H, L, D) of queries (B, H, L, D) and own keys and values (B, K, S, D).

        The scores of both parts meet in one softmax. The shared part is a single
        product for all rows.
        """
        b, heads, length, d = queries.shape
        k, common = self._keys.shape[:2]
        q = (queries * scale).reshape(b, k, -1, length, d).transpose(1, 0, 2, 3, 4)
        flat = q.reshape(k, -1, d)  # (K, B·G·L, D)
        ahead = flat @ self._keys.swapaxes(-1, -2)  # (K, B·G·L, T)
        own_keys = keys.transpose(1, 0, 3, 2)[:, :, None]  # (K, B, 1, D, S)
        own = mx.where(mask, q @ own_keys, mx.finfo(q.dtype).min)  # (K, B, G, L, S)
        scores = mx.concatenate([ahead.reshape(*own.shape[:-1], common), own], axis=-1)
        weights = softmax(scores)  # (K, B, G, L, T + S)
        flat = weights[..., :common].reshape(k, -1, common)
        out = (flat @ self._values).reshape(q.shape)
        own_values = values.transpose(1, 0, 2, 3)[:, :, None]  # (K, B, 1, S, D)
        out = out + weights[..., common:] @ own_values  # (K, B, G, L, D)
        return out.transpose(1, 0, 2, 3, 4).reshape(b, heads, length, d)

    def only(self, row: int) -> KVCache:
        """What one row sees, as a cache of its own: without others, that is faster."""
        keys, values = self._own.keys_and_values()  # (B, K, S, D)
        start = int(self._padding[row].item())
        own = keys[row, :, start:], values[row, :, start:]
        alone = KVCache()
        alone.update_and_fetch(
            mx.concatenate([self._keys, own[0]], axis=1)[None],
            mx.concatenate([self._values, own[1]], axis=1)[None],
        )
        return alone

    def keep_rows(self, rows: mx.array) -> None:
        """Only these rows go on."""
        self._padding, self.offset = self._padding[rows], self.offset[rows]
        keys, values, length = self._own.state
        if keys is not None and values is not None:
            self._own.state = keys[rows], values[rows], length


def softmax(scores: mx.array) -> mx.array:
    """Over the last axis; by NumPy where MLX's exponential is slow."""
    if not fast_cpu.usable(scores):
        return mx.softmax(scores, axis=-1, precise=True)
    return mx.array(fast_cpu.softmax(np.asarray(scores)))


@dataclass(frozen=True)
class Question:
    """What to ask, and how long the answer may be."""

    prompt: Prompt
    max_tokens: int


def answer_together(
    model: MM15,
    processor: Processor,
    questions: Sequence[Question],
    images: Sequence[ImageLike],
    options: Options,
    before: Beginning | None = None,
) -> list[Result]:
    """The answers to questions about the same pictures, in their order.

    before: messages that stand before every question, and that were read already: see
    `read_beginning`. Each question's own `max_tokens` counts, not that of `options`.
    The timings of a result are those of the questions that were answered with it. With
    a quantised KV cache, which cannot be shared, one is answered after the other.
    Raises UserError for what cannot be asked.
    """
    opened = open_pictures(images)
    first = before.messages if before else []
    prepared = _sharing(
        [
            processor.prepare([*first, *with_pictures(q.prompt, opened)])
            for q in questions
        ],
        before.images if before else [],
    )
    image_id = processor.encoder.image_id
    keys = [content_keys(p, image_id) for p in prepared]
    common = _common(keys)
    order = sorted(range(len(keys)), key=lambda i: len(keys[i]))
    results: dict[int, Result] = {}
    while order:
        rows = _next_rows(order, [len(k) - common for k in keys])
        order = order[len(rows) :]
        mine = [replace(options, max_tokens=questions[i].max_tokens) for i in rows]
        asked = [prepared[i] for i in rows]
        alone = len(rows) == 1 or not common or image_id in asked[0].ids[common:]
        if alone or options.kv_bits:
            streams = [
                list(decode(model, processor, p, o, before))
                for p, o in zip(asked, mine, strict=True)
            ]
        else:
            start = keys[rows[0]][: common + 1]
            streams = _decode_rows(model, processor, asked, start, mine, before)
        for i, p, stream in zip(rows, asked, streams, strict=True):
            results[i] = collect(processor, p, questions[i].prompt, iter(stream))
    return [results[i] for i in range(len(questions))]


def _sharing(
    prepared: Sequence[Prepared], known: Sequence[TiledPicture]
) -> list[Prepared]:
    """The same with one object for each picture, so that it is hashed once. `known`
    have been hashed already."""
    kept = {(id(t.picture), t.tiling): t for t in known}
    return [
        replace(
            p, images=[kept.setdefault((id(t.picture), t.tiling), t) for t in p.images]
        )
        for p in prepared
    ]


def _common(keys: Sequence[list[int]]) -> int:
    """How many tokens all prompts begin with, at least one of each left over."""
    first, last = min(keys), max(keys)  # by their tokens: any other lies between
    same = 0
    for a, b in zip(first, last, strict=False):
        if a != b:
            break
        same += 1
    return min(same, *(len(k) - 1 for k in keys))


def _next_rows(order: Sequence[int], own: Sequence[int]) -> list[int]:
    """The questions to answer next, of `order`, which goes by `own` length."""
    rows = [order[0]]
    for i in order[1:ROWS]:
        if (len(rows) + 1) * own[i] > OWN_TOKENS:
            break
        rows.append(i)
    return rows


def _decode_rows(
    model: MM15,
    processor: Processor,
    prepared: Sequence[Prepared],
    keys: list[int],
    options: Sequence[Options],
    before: Beginning | None,
) -> list[list[GenerationResponse]]:
    """The answers' streams; all prompts begin with the same `keys` but the last."""
    common = len(keys) - 1
    start = time.perf_counter()
    mx.reset_peak_memory()
    if options[0].seed is not None:
        mx.random.seed(options[0].seed)
    timings = Timings()
    cache = _shared_beginning(
        model, processor, prepared[0], keys, options[0], timings, before
    )
    begin = time.perf_counter()
    logits, caches = _read_own(model, [p.ids[common:] for p in prepared], cache)
    sampler = make_sampler(options[0], logits.shape[-1])
    token = sampler(logits)
    mx.eval(token)
    timings.prefill_s += time.perf_counter() - begin
    timings.first_token_s = time.perf_counter() - start
    answers = [
        Answer(model, processor, p, o.max_tokens)
        for p, o in zip(prepared, options, strict=True)
    ]
    streams: list[list[GenerationResponse]] = [[] for _ in prepared]
    speed = len(prepared[0].ids) / max(timings.prefill_s, 1e-9)
    begin = time.perf_counter()
    going = list(range(len(prepared)))
    while going:
        values = token.tolist()
        reasons = [answers[i].ends(v) for i, v in zip(going, values, strict=True)]
        rows = [r for r, reason in enumerate(reasons) if reason is None]
        if rows:  # the next step runs while these tokens are being written out
            if len(rows) < len(going):
                token = token[mx.array(rows)]
                caches = _going_on(caches, rows)
            hidden = model.decoder(token[:, None], caches)
            token = sampler(model.decoder.logits(hidden[:, -1, :]))
            mx.async_eval(token)
        elapsed = time.perf_counter() - begin
        for i, value, reason in zip(going, values, reasons, strict=True):
            answer = answers[i]
            rate = (answer.count - 1) / elapsed
            timing = replace(timings, decode_tokens_per_s=rate)
            streams[i].append(GenerationResponse(
                answer.text(value, reason), value, len(prepared[i].ids), speed,
                answer.count, rate, mx.get_peak_memory() / 1e9, reason, timing,
            ))  # fmt: skip
        going = [going[r] for r in rows]
    return streams


def _shared_beginning(
    model: MM15,
    processor: Processor,
    prepared: Prepared,
    keys: list[int],
    options: Options,
    timings: Timings,
    before: Beginning | None,
) -> list[Any]:
    """The KV cache of all `keys` but the last, remembered for other questions too."""
    memory = processor.memory
    memory.serve(model)
    common = len(keys) - 1
    cache, known = resume(model, processor, keys, None, before)
    if known < common:
        part = replace(prepared, ids=prepared.ids[:common])
        embeddings = embed_prompt(model, processor, part, known, timings)
        begin = time.perf_counter()
        prefill(model, part.ids[known:], embeddings, cache, options)
        mx.eval([c.state for c in cache])
        timings.prefill_s = time.perf_counter() - begin
    memory.keep(keys[:common], cache)
    return cache


def _going_on(caches: Sequence[SharedKVCache], rows: Sequence[int]) -> list[Any]:
    """The caches of the rows that have not ended yet."""
    if len(rows) == 1:
        return [c.only(rows[0]) for c in caches]
    for c in caches:
        c.keep_rows(mx.array(rows))
    return list(caches)


def _read_own(
    model: MM15, ids: Sequence[list[int]], cache: Sequence[KVCache]
) -> tuple[mx.array, list[SharedKVCache]]:
    """Logits (B, vocabulary) after every question, and what their tokens left."""
    longest = max(map(len, ids))
    padding = [longest - len(own) for own in ids]
    caches = [SharedKVCache(c, padding) for c in cache]
    rows = [[0] * n + own for n, own in zip(padding, ids, strict=True)]
    hidden = model.decoder(mx.array(rows), caches)
    return model.decoder.logits(hidden[:, -1, :]), caches
