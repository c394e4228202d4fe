"""A token of an answer through the decoder's layers, at NumPy's speed on an x86 CPU.

What this file is: decoder.py's layers for one token after a KV cache, in NumPy on MLX's
own memory. MLX's product of one row with a matrix copies the matrix first, and each of
its small operations costs more than it computes: of a model of 30 layers and 576
numbers a token took 110 ms, so 55 ms. What it is not: in force for prompts, batches,
experts, packed weights, adapters or half precision, nor where `fast_cpu` is not; those
go through decoder.py's own layers.

D width, H query heads, K key/value heads, T tokens cached, this one too.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mm15_mlx import fast_cpu

_GATES = {
    "silu": fast_cpu.silu, "gelu": fast_cpu.gelu,
    "gelu_pytorch_tanh": fast_cpu.gelu_tanh,
}  # fmt: skip


def fits(decoder: Any, x: mx.array, caches: Sequence[Any]) -> bool:
    """Whether `hidden` may take this input now; evaluates it, and what is cached."""
    one = x.size == x.shape[-1] and caches[0].offset > 0
    if not one or not fast_cpu.usable(x, *(c.keys for c in caches)):
        return False
    return all(map(_plain, decoder.layers))


def _plain(layer: Any) -> bool:
    """Whether a layer is dense and its matrices are neither packed nor adapted."""
    attention, mlp = layer.self_attn, layer.mlp
    if "gate_proj" not in mlp:
        return False
    projections = (
        attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj,
        mlp.gate_proj, mlp.up_proj, mlp.down_proj,
    )  # fmt: skip
    return all(
        type(p) is fast_cpu.Linear and p.weight.dtype == mx.float32 for p in projections
    )


def hidden(decoder: Any, x: mx.array, caches: Sequence[Any]) -> mx.array:
    """A token's embedding (1, 1, D) → its hidden state (1, 1, D), after the last norm.

    caches: decoder.KVCache of one row, for each layer; they grow by the token.
    """
    row = np.array(x).reshape(-1)
    turn = _turn(decoder.layers[0].self_attn, caches[0].offset)
    gate = _GATES[decoder.config.hidden_act]
    with np.errstate(all="ignore"):  # exp may reach infinity, as MLX's does
        for layer, cache in zip(decoder.layers, caches, strict=True):
            normed = _normed(layer.input_layernorm, row)
            row = row + _attended(layer.self_attn, normed, cache, turn)
            normed = _normed(layer.post_attention_layernorm, row)
            gated = _product(layer.mlp.gate_proj, normed)
            gate(gated.copy(), gated)
            gated *= _product(layer.mlp.up_proj, normed)
            row = row + _product(layer.mlp.down_proj, gated)
        mx.eval([(cache.keys, cache.values) for cache in caches])
        return mx.array(_normed(decoder.norm, row)[None, None])


def _product(projection: nn.Linear, x: np.ndarray) -> np.ndarray:
    y = np.asarray(projection.weight) @ x
    return y + np.asarray(projection.bias) if "bias" in projection else y


def _normed(norm: Any, x: np.ndarray) -> np.ndarray:
    """RMSNorm over the last axis; of queries and keys it may be the identity."""
    if not isinstance(norm, nn.RMSNorm):
        return x
    mean = np.einsum("...i,...i->...", x, x)[..., None] / np.float32(x.shape[-1])
    return x / np.sqrt(mean + np.float32(norm.eps)) * np.asarray(norm.weight)


def _turn(attention: Any, offset: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of a position's rotation, as MLX computes them."""
    half = attention.head_dim // 2
    unit = mx.concatenate([mx.ones((1, 1, 1, half)), mx.zeros((1, 1, 1, half))], axis=3)
    turned = np.array(attention.rotate(unit, offset)).reshape(-1)
    return turned[:half], turned[half:]


def _turned(x: np.ndarray, turn: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    (cos, sin), half = turn, x.shape[1] // 2
    first, second = x[:, :half], x[:, half:]
    return np.hstack([first * cos - second * sin, first * sin + second * cos])


def _attended(
    attention: Any, x: np.ndarray, cache: Any, turn: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    q, k, v = (
        _product(projection, x).reshape(-1, attention.head_dim)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )  # (H or K, head_dim)
    q = _turned(_normed(attention.q_norm, q), turn) * np.float32(attention.scale)
    k = _turned(_normed(attention.k_norm, k), turn)
    q = q.reshape(len(k), -1, attention.head_dim)  # (K, H / K, head_dim)
    # The new key and value are beside the cache's: waiting for MLX to write them costs
    # more than the attention.
    keys, values = (
        np.asarray(each)[0, :, : cache.offset] for each in (cache.keys, cache.values)
    )  # (K, T - 1, head_dim)
    scores = np.dstack([q @ keys.swapaxes(1, 2), q @ k[:, :, None]])  # (K, H / K, T)
    weights = fast_cpu.softmax(scores)
    out = weights[:, :, :-1] @ values + weights[:, :, -1:] * v[:, None]
    cache.update_and_fetch(*(mx.array(new[None, :, None]) for new in (k, v)))
    return _product(attention.o_proj, out.reshape(-1))
