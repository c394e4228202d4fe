"""Attention and activations at NumPy's speed, where MLX runs on an x86 CPU.

What this file is: the exponentials of the model, computed by NumPy on MLX's own memory.
MLX's loops are not vectorised on x86 (measured: 13 ns for an exp, 0.5 ns in NumPy), so
they, not the matrix products, took most of the time. What it is not: in force anywhere
else. On Metal, on CUDA, on an ARM CPU, in half precision, and under `mx.compile` or
`mx.vmap`, every function here is the MLX formula that it was given.

B batch, L queries, T keys, H query heads, K key/value heads, D head dim.
"""

import functools
import platform
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mm15_mlx.cores import on_all_cores

At = tuple[int, ...]  # row and head
Composed = Callable[..., mx.array]
# MLX passes a lone array without a tuple; None is a tangent of zero.
Primals = mx.array | tuple[mx.array, ...]
Tangents = mx.array | tuple[mx.array | None, ...]

_X86 = platform.machine() in ("x86_64", "AMD64")
_AT_ONCE = 2**17  # numbers: half a megabyte, so that the passes stay in the L2 cache
_WORTH = 2**14  # numbers: fewer take MLX less time than waiting for them does
_FEW = 8  # rows: more of them are worth dequantising a matrix for
# Queries: NumPy gradients of fewer save little time, and an evaluation amid a backward
# pass keeps all that it has made to its end (131 MB a layer of 576 and 658 tokens).
_LONG = 1024
_COPIED = 2**19  # numbers of a matrix: fewer are as quick in MLX
_MASKED = np.finfo(np.float32).min  # MLX's: a row without any key becomes their mean


def usable(*arrays: mx.array) -> bool:
    """Whether NumPy may compute with these float32 arrays now; evaluates them."""
    if not _X86 or mx.default_device().type != mx.cpu:
        return False
    if any(x.dtype != mx.float32 for x in arrays):
        return False
    try:
        mx.eval(*arrays)
    except ValueError:  # MLX's word for: mx.compile or mx.vmap is tracing
        return False
    return True


def elementwise(fast: Callable[..., None], composed: Composed) -> Composed:
    """A function of arrays of one shape: `fast(*inputs, out)`, or else `composed`.

    `composed` is the definition in MLX: what runs elsewhere, and what derivatives are
    taken of.
    """

    def call(*inputs: mx.array) -> mx.array:
        if inputs[0].size < _WORTH or not usable(*inputs):
            return composed(*inputs)
        return _differentiable(functools.partial(_in_pieces, fast), composed, inputs)

    return call


def attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    mask: str | mx.array | None = None,
) -> mx.array:
    """`mx.fast.scaled_dot_product_attention`, by NumPy where that is faster.

    `queries` (B, H, L, D), `keys` and `values` (B, K, T, D) → (B, H, L, D). `mask` is
    None, "causal", or a boolean array that broadcasts to (B, H, L, T), true where a
    query sees a key; others, such as biases, are left to MLX. So is a single query: a
    token's whole step in one evaluation is faster than its layers one by one.
    """
    composed = functools.partial(
        mx.fast.scaled_dot_product_attention, scale=scale, mask=mask
    )
    if isinstance(mask, mx.array):
        known = mask.dtype == mx.bool_
    else:
        known = mask is None or queries.shape[2] <= keys.shape[2]
    if queries.shape[2] == 1 or not known or not usable(queries, keys, values):
        return composed(queries, keys, values)
    fast = functools.partial(_attention, scale=scale, mask=mask)
    back: Composed | None = None
    if queries.shape[2] >= _LONG:
        back = functools.partial(_attention_gradients, scale=scale, mask=mask)
    return _differentiable(fast, composed, (queries, keys, values), back)


def depthwise(x: mx.array, weight: mx.array) -> mx.array:
    """A 3×3 convolution of every channel alone, padded by 1, by NumPy where faster.

    `x` (B, height, width, C), `weight` (C, 3, 3, 1) → the shape of `x`.
    """

    def composed(x: mx.array, weight: mx.array) -> mx.array:
        return mx.conv2d(x, weight, padding=1, groups=x.shape[-1])

    if not usable(x, weight):
        return composed(x, weight)
    return _differentiable(_depthwise, composed, (x, weight))


def product(x: mx.array, weight: mx.array) -> mx.array:
    """`x` (…, I), `weight` (O, I) → x Wᵀ (…, O), by NumPy where one row meets a large
    matrix: OpenBLAS' product of matrices copies it into its own order first.

    Measured for 4096 × 4096 on two cores: 6.7 ms, of a matrix and a vector 2.3 ms.
    """

    def composed(x: mx.array, weight: mx.array) -> mx.array:
        return x @ weight.T

    one = x.size == x.shape[-1] and weight.size >= _COPIED
    if not one or not usable(x, weight):
        return composed(x, weight)
    return _differentiable(_row_product, composed, (x, weight))


class Linear(nn.Linear):
    """MLX's, with `product`."""

    def __call__(self, x: mx.array) -> mx.array:
        y = product(x, self.weight)
        return y + self.bias if "bias" in self else y


class Embedding(nn.Embedding):
    """MLX's, with `product` where it is the output too."""

    def as_linear(self, x: mx.array) -> mx.array:
        return product(x, self.weight)


class QuantizedLinear(nn.QuantizedLinear):
    """MLX's, but a CPU dequantises the matrix where many rows meet it.

    Measured on x86: 2000 rows through 384 × 1024 packed 4-bit weights take 1.4 s, the
    same weights dequantised (2 ms) and given to the BLAS 20 ms.
    """

    def __call__(self, x: mx.array) -> mx.array:
        few = x.size <= _FEW * x.shape[-1]
        if few or mx.default_device().type != mx.cpu:
            return super().__call__(x)
        weight = mx.dequantize(
            self.weight, self.scales, self.get("biases"), group_size=self.group_size,
            bits=self.bits, mode=self.mode, dtype=x.dtype,
        )  # fmt: skip
        y = x @ weight.T
        return y + self.bias if "bias" in self else y


def quick_gelu(x: np.ndarray, out: np.ndarray) -> None:
    """OpenAI's GELU, x · sigmoid(1.702 x)."""
    np.multiply(x, -1.702, out=out)
    _divide_by_one_plus_exp(x, out)


def gelu(x: np.ndarray, out: np.ndarray) -> None:
    """The exact GELU, x · Φ(x); NumPy has no erf (Abramowitz and Stegun, 7.1.26)."""
    t = np.abs(x)
    t *= 0.5**0.5
    np.square(t, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)
    t *= 0.3275911
    t += 1
    np.reciprocal(t, out=t)
    series = t * 1.061405429
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series += factor
        series *= t
    out *= series  # 1 - erf(|x| / √2)
    # x · Φ(x) = max(x, 0) - |x| · (1 - Φ(|x|))
    out *= np.abs(x, out=t)
    out *= -0.5
    out += np.maximum(x, 0, out=t)


def gelu_tanh(x: np.ndarray, out: np.ndarray) -> None:
    """The GELU with tanh: x · (1 + tanh u) / 2 is x · sigmoid(2u)."""
    np.square(x, out=out)
    out *= -2 * (2 / np.pi) ** 0.5 * 0.044715
    out -= 2 * (2 / np.pi) ** 0.5
    out *= x
    _divide_by_one_plus_exp(x, out)


def silu(x: np.ndarray, out: np.ndarray) -> None:
    """x · sigmoid(x)."""
    np.negative(x, out=out)
    _divide_by_one_plus_exp(x, out)


def swiglu(gate: np.ndarray, up: np.ndarray, out: np.ndarray) -> None:
    """silu(gate) · up."""
    silu(gate, out)
    out *= up


def softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    weights = scores - scores.max(axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def _divide_by_one_plus_exp(x: np.ndarray, out: np.ndarray) -> None:
    np.exp(out, out=out)
    out += 1
    np.divide(x, out, out=out)


def _in_pieces(fast: Callable[..., None], *inputs: mx.array) -> mx.array:
    flat = [np.asarray(x).reshape(-1) for x in inputs]
    out = np.empty(inputs[0].size, np.float32)

    def compute(start: int) -> None:
        piece = slice(start, start + _AT_ONCE)
        fast(*(x[piece] for x in flat), out[piece])

    on_all_cores(compute, range(0, out.size, _AT_ONCE))
    return mx.array(out.reshape(inputs[0].shape))


def _row_product(x: mx.array, weight: mx.array) -> mx.array:
    row = np.asarray(weight) @ np.asarray(x).reshape(-1)
    return mx.array(row.reshape(*x.shape[:-1], -1))


def _depthwise(x: mx.array, weight: mx.array) -> mx.array:
    inner = np.asarray(x)
    _, height, width, _ = inner.shape
    padded = np.pad(inner, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = np.asarray(weight)[..., 0].transpose(1, 2, 0).copy()  # (3, 3, C)
    out = np.empty(inner.shape, np.float32)

    def compute(pair: tuple[np.ndarray, np.ndarray]) -> None:
        view, sums = pair  # one view stays in the cache
        part = np.empty(sums.shape, np.float32)
        np.multiply(view[:height, :width], taps[0, 0], out=sums)
        for i, j in list(np.ndindex(3, 3))[1:]:
            np.multiply(view[i : i + height, j : j + width], taps[i, j], out=part)
            sums += part

    on_all_cores(compute, zip(padded, out, strict=True))
    return mx.array(out)


def _attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    mask: str | mx.array | None,
) -> mx.array:
    q, k, v = (np.asarray(x) for x in (queries, keys, values))
    b, heads, length, head_dim = q.shape
    ones = np.ones(k.shape[2], np.float32)
    # In the order of the layer's output: the caller's transpose back costs nothing.
    out = np.empty((b, length, heads, head_dim), np.float32)

    def compute(shared: At) -> None:
        for at, rows, seen, s, _ in _blocks(q, k, scale, mask, shared):
            # Divided after the product: it has fewer columns than the scores.
            weighted = s @ v[shared][:seen]
            weighted /= (s @ ones[:seen])[:, None]
            out[at[0], rows, at[1]] = weighted

    on_all_cores(compute, np.ndindex(b, k.shape[1]))
    return mx.array(out).transpose(0, 2, 1, 3)


def _attention_gradients(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    cotangent: mx.array,
    scale: float,
    mask: str | mx.array | None,
) -> tuple[mx.array, ...]:
    """Of queries, keys and values. Measured: 0.2 s a layer of 6 heads and 1656 tokens,
    MLX 0.9 s."""
    q, k, v, g = (np.asarray(x) for x in (queries, keys, values, cotangent))
    of_q, of_k, of_v = (np.zeros_like(x) for x in (q, k, v))

    def compute(shared: At) -> None:
        for at, rows, seen, p, hidden in _blocks(q, k, scale, mask, shared):
            p /= p.sum(axis=1, keepdims=True)
            of_v[shared][:seen] += p.T @ g[at][rows]
            d = g[at][rows] @ v[shared][:seen].T
            d -= np.einsum("ij,ij->i", d, p)[:, None]
            d *= p
            if hidden is not None:  # matters where a query sees no key at all
                d[hidden] = 0
            of_q[at][rows] = d @ k[shared][:seen]
            of_k[shared][:seen] += d.T @ q[at][rows]

    on_all_cores(compute, np.ndindex(*k.shape[:2]))
    return mx.array(of_q * scale), mx.array(of_k * scale), mx.array(of_v)


def _blocks(
    q: np.ndarray,
    k: np.ndarray,
    scale: float,
    mask: str | mx.array | None,
    shared: At,
) -> Iterator[tuple[Any, ...]]:
    """The queries of a key head (row, head), a few at a time: (row, query head), the
    slice of queries, how many keys they see, their weights before division, and which
    of them are masked, if an array says so. The weights' memory is used again."""
    (b, heads, length, _), (_, key_heads, total, _) = q.shape, k.shape
    every = None
    if isinstance(mask, mx.array):
        every = np.broadcast_to(~np.asarray(mask), (b, heads, length, total))
    blocks = -(-length * total // _AT_ONCE) or 1
    rows = -(-length // blocks)
    scores = np.empty(rows * total, np.float32)
    later = np.triu(np.ones((rows, rows), bool), 1)
    group = heads // key_heads
    for at in ((shared[0], shared[1] * group + n) for n in range(group)):
        for start in range(0, length, rows):
            end = min(start + rows, length)
            n = end - start
            # Keys behind the last query of these are not multiplied at all.
            seen = total - length + end if mask == "causal" else total
            s = scores[: n * seen].reshape(n, seen)
            np.matmul(q[at][start:end] * scale, k[shared][:seen].T, out=s)
            hidden = None if every is None else every[at][start:end]
            if hidden is not None:
                np.copyto(s, _MASKED, where=hidden)
            elif mask == "causal":
                np.copyto(s[:, seen - n :], _MASKED, where=later[:n, :n])
            s -= s.max(axis=1, keepdims=True)
            np.exp(s, out=s)
            yield at, slice(start, end), seen, s, hidden


def _differentiable(
    fast: Composed,
    composed: Composed,
    inputs: tuple[mx.array, ...],
    fast_gradients: Composed | None = None,
) -> mx.array:
    """`fast(*inputs)` with the derivatives of `composed`: MLX sees into no NumPy.

    fast_gradients: what `mx.vjp` of `composed` gives, from inputs and cotangent.
    """
    call = mx.custom_function(fast)

    def gradients(*primals_and_cotangent: mx.array) -> tuple[mx.array, ...]:
        *primals, cotangent = primals_and_cotangent
        return tuple(mx.vjp(composed, primals, [cotangent])[1])

    @call.vjp
    def backward(primals: Primals, cotangent: mx.array, _: mx.array) -> Primals:
        given = (*_listed(primals), cotangent)
        if fast_gradients is None or not usable(*given):
            return gradients(*given)
        again = mx.custom_function(fast_gradients)

        @again.vjp
        def twice(primals: Primals, cotangents: Primals, _: Primals) -> Primals:
            return tuple(mx.vjp(gradients, list(primals), list(cotangents))[1])

        return again(*given)

    @call.jvp
    def forward(primals: Primals, tangents: Tangents) -> mx.array:
        xs = _listed(primals)
        steps = [
            mx.zeros_like(x) if step is None else step
            for x, step in zip(xs, _listed(tangents), strict=True)
        ]
        _, (change,) = mx.jvp(composed, xs, steps)
        return change

    return call(*inputs)


def _listed(one_or_more: Any) -> list[Any]:
    return list(one_or_more) if isinstance(one_or_more, tuple) else [one_or_more]
