"""From embeddings to tokens: prefill, steps and sampling.

What this file is: the loop's parts, for one answer. What it is not: the prompt and the
pictures before it, or the text after it (generate.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import mlx.core as mx

from mm15_mlx.config import UserError
from mm15_mlx.mm15 import MM15

Sampler = Callable[[mx.array], mx.array]
_COLDEST = 1e-30  # of temperatures: logits divided by it are float32 still
Stop = Callable[[], bool]  # whether the answer is no longer wanted


class Stopped(Exception):
    """Nobody wants the answer any more, and nothing of it was there yet."""


def never() -> bool:
    """A `Stop` that does not."""
    return False


@dataclass(frozen=True)
class Options:
    """How to decode; names and defaults are mlx-lm's."""

    max_tokens: int = 256
    temp: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    top_k: int = 0
    seed: int | None = None
    prefill_step_size: int = 2048
    kv_bits: int | None = None
    kv_group_size: int = 64
    quantized_kv_start: int = 5000

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UserError(f"max-tokens is {self.max_tokens}; it must be at least 1")
        if not self.temp >= 0:  # so written for NaN
            raise UserError(f"temp is {self.temp}; it must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top-p is {self.top_p}; it must be above 0 and at most 1")
        if not 0 <= self.min_p <= 1:
            raise UserError(f"min-p is {self.min_p}; it must be between 0 and 1")
        if self.top_k < 0:
            raise UserError(f"top-k is {self.top_k}; it must be 0 (all) or more")
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise UserError(f"seed is {self.seed}; it must be between 0 and 2**64 - 1")
        if self.kv_bits not in (None, 2, 4, 8):
            raise UserError(f"kv-bits is {self.kv_bits}; it must be 2, 4 or 8")
        if self.kv_group_size not in (32, 64, 128):
            raise UserError(
                f"kv-group-size is {self.kv_group_size}; it must be 32, 64 or 128"
            )
        if self.quantized_kv_start < 0:
            raise UserError(
                f"quantized-kv-start is {self.quantized_kv_start}; it must be 0 or more"
            )
        if self.prefill_step_size < 1:
            raise UserError(
                f"prefill-step-size is {self.prefill_step_size}; it must be at least 1"
            )


def make_sampler(options: Options, vocabulary: int) -> Sampler:
    """Logits (B, vocabulary) → tokens (B,). Greedy at temp 0, which needs no
    probabilities, and where dividing by it leaves float32; else mlx-lm's sampler
    (imported only then: it is slow)."""
    if options.temp < _COLDEST:
        return _greedy
    from mlx_lm.sample_utils import make_sampler as mlx_lm_sampler

    sampler = mlx_lm_sampler(
        temp=options.temp, top_p=options.top_p, min_p=options.min_p,
        top_k=options.top_k if options.top_k < vocabulary else 0,
    )  # fmt: skip

    def sample(logits: mx.array) -> mx.array:
        logits = logits.astype(mx.float32)
        return sampler(logits - mx.logsumexp(logits, axis=-1, keepdims=True))

    return sample


def _greedy(logits: mx.array) -> mx.array:
    return mx.argmax(logits, axis=-1)


def prefill(
    model: MM15,
    ids: list[int],
    embeddings: mx.array,
    cache: list[Any],
    options: Options,
    stop: Stop = never,
) -> mx.array:
    """Run the prompt in chunks; logits (1, vocabulary) of its end. Raises Stopped
    before a chunk; the cache then holds whole chunks, evaluated."""
    tokens, hidden = mx.array([ids]), embeddings
    # As in mlx-lm, a prompt's last token sees what will be remembered of the others.
    end = len(ids) - bool(options.kv_bits)
    bounds = [*range(0, end, options.prefill_step_size), end]
    for start, end in pairwise([*bounds, len(ids)] if options.kv_bits else bounds):
        if stop():
            raise Stopped
        hidden = model.decoder(tokens[:, start:end], cache, embeddings[:, start:end])
        pack(cache, options)
        if end < len(ids):
            mx.eval([c.state for c in cache])
    return model.decoder.logits(hidden[:, -1, :])


def step(model: MM15, token: mx.array, cache: list[Any], options: Options) -> mx.array:
    hidden = model.decoder(token[:, None], cache)
    pack(cache, options)
    return model.decoder.logits(hidden[:, -1, :])


def kind(model: MM15, options: Options) -> object:
    """What a kept KV cache must have been made with. Raises UserError where the model's
    heads cannot be packed as the options say."""
    if options.kv_bits is None:
        return None
    head_dim, group_size = model.config.text_config.head_dim, options.kv_group_size
    if head_dim % group_size:
        raise UserError(
            f"the model's heads of {head_dim} numbers cannot be quantised in groups of "
            f"{group_size}; give a kv-group-size that divides {head_dim}, or no kv-bits"
        )
    return options.kv_bits, group_size, options.quantized_kv_start


def pack(cache: list[Any], options: Options) -> None:
    """Quantise a KV cache that has grown long enough, as mlx-lm does: what is read up
    to there sees floating keys, which no kernel multiplies faster."""
    for i, layer in enumerate(cache):
        long = layer.offset >= options.quantized_kv_start
        if options.kv_bits and long and hasattr(layer, "to_quantized"):
            cache[i] = layer.to_quantized(options.kv_group_size, options.kv_bits)
