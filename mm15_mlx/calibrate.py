"""What this machine does in a second, measured with the model's own layers and sizes.

What this file is: the limits that `bench` compares with (the BLAS or GPU alone), and
the rates that `plan --chip cpu` predicts with (one layer of each kind, random weights,
a second or two). What it is not: a benchmark of a whole model; that is bench.py.
"""

import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mm15_mlx import costs, fast_cpu, one_token
from mm15_mlx.chips import Rates
from mm15_mlx.config import ModelConfig
from mm15_mlx.decoder import KVCache
from mm15_mlx.mm15 import MM15, patches, views_together

_BUDGET_S = 0.4
_TRIES = 3
_FLOP = 30e9  # of one try, about: half a second of a CPU
_BYTES = 128e6  # layers for a step: more than any cache near a core


def seconds(work: Callable[[], Any]) -> float:
    """Median of as many tries as 0.4 s hold, at least three, after one more."""
    mx.eval(work())
    times: list[float] = []
    while len(times) < _TRIES or sum(times) < _BUDGET_S:
        start = time.perf_counter()
        mx.eval(work())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul_rate(rows: int, inputs: int, outputs: int, dtype: mx.Dtype) -> float:
    """FLOP/s of (rows, inputs) times the transpose of (outputs, inputs)."""
    x = mx.random.normal((rows, inputs)).astype(dtype)
    weight = mx.random.normal((outputs, inputs)).astype(dtype)
    mx.eval(x, weight)
    return 2 * rows * inputs * outputs / seconds(lambda: x @ weight.T)


def bandwidth(nbytes: int, dtype: mx.Dtype) -> float:
    """Bytes/s of one row times matrices of `nbytes` together, as a step reads them."""
    side = 2048
    count = max(1, round(nbytes / (side * side * dtype.size)))
    matrices = [mx.full((side, side), 0.01, dtype) for _ in range(count)]
    row = mx.ones((1, side), dtype)
    mx.eval(row, *matrices)
    sweep = seconds(lambda: [row @ m.T for m in matrices])
    return count * side * side * dtype.size / sweep


def measured(config: ModelConfig, model: MM15, tokens: int, views: int) -> Rates:
    """Rates of this machine for a lazy model (costs.lazy_model): L tokens, V views.

    Only the layers that are measured are computed. A model with experts is to be given
    as `costs.dense_like` has it.
    """
    for module in model.modules():
        if type(module) is nn.QuantizedLinear:  # as weights.py loads them
            module.__class__ = fast_cpu.QuantizedLinear
    encode = connect = 1.0
    if views:
        together = min(views, views_together(config))
        encode, connect = _encoder(config, model, together)
    return Rates(encode, connect, _prefill(config, model, tokens),
                 _step(config, model, tokens))  # fmt: skip


def _encoder(config: ModelConfig, model: MM15, views: int) -> tuple[float, float]:
    flop = costs.encoder_flop(config)
    layers = len(model.encoder.layers)
    views = max(1, min(views, int(_FLOP * layers / flop)))
    block = model.encoder.layers[0]
    width = config.vision_config.hidden_size
    # Values as they are inside: attention over equal ones would be as fast.
    x = mx.random.normal((views, patches(config), width))
    features = mx.random.normal((views, config.view_grid**2, width))
    mx.eval(x, features, block.parameters(), model.connector.parameters())
    one = seconds(lambda: block(x))
    connector = seconds(lambda: model.connector(features))
    # All of the encoder's work is counted as that of its blocks, patches included.
    return (
        views * flop / layers / one,
        views * costs.connector_flop(config) / connector,
    )


def _prefill(config: ModelConfig, model: MM15, tokens: int) -> float:
    text = config.text_config
    numbers = costs.weights(config, model, None).numbers
    layers = text.num_hidden_layers

    def flop(count: int) -> float:
        whole = costs.prefill_flop(config, numbers, count)
        return (whole - 2 * text.hidden_size * text.vocab_size) / layers

    tokens = max(min(tokens, 64), min(tokens, int(tokens * _FLOP / flop(tokens))))
    block = model.decoder.layers[0]
    x = mx.random.normal((1, tokens, text.hidden_size))
    mx.eval(x, block.parameters())
    return flop(tokens) / seconds(lambda: block(x, "causal", KVCache())[0])


def _step(config: ModelConfig, model: MM15, tokens: int) -> float:
    """Bytes/s of a step with L tokens in the cache."""
    text = config.text_config
    held = costs.weights(config, model, None).nbytes
    each = held["decoder"] / text.num_hidden_layers
    blocks = model.decoder.layers[: max(1, int(_BYTES / each))]
    shape = (1, text.num_key_value_heads, costs.capacity(tokens + 1), text.head_dim)
    caches = [KVCache() for _ in blocks]
    for cache in caches:
        cache.state = mx.zeros(shape), mx.zeros(shape), tokens
    x = mx.random.normal((1, 1, text.hidden_size))
    head = model.decoder.get("lm_head", model.decoder.embed_tokens)
    mx.eval(x, head.parameters(), *(b.parameters() for b in blocks))
    mx.eval([c.state[:2] for c in caches])
    part = SimpleNamespace(layers=blocks, norm=model.decoder.norm, config=text)
    mx.eval(part.norm.parameters())
    numpy = one_token.fits(part, x, caches)

    def layers() -> mx.array:
        for cache in caches:
            cache.offset = tokens
        if numpy:
            return one_token.hidden(part, x, caches)
        y = x
        for block, cache in zip(blocks, caches, strict=True):
            y = block(y, None, cache)[0]
        return y

    one = seconds(layers) / len(blocks)
    last = seconds(lambda: mx.argmax(model.decoder.logits(x[:, -1]), axis=-1))
    step = one * text.num_hidden_layers + last
    return costs.step_bytes(config, held, tokens, x.dtype.size) / step
