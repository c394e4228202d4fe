"""NumPy's attention and activations are MLX's, to 1e-6, and its derivatives too."""

from collections.abc import Callable, Iterator

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mm15_mlx import decoder, encoder, fast_cpu
from mm15_mlx.config import ModelConfig
from mm15_mlx.mm15 import MM15

Function = Callable[..., mx.array]
here = pytest.mark.skipif(
    not fast_cpu.usable(mx.zeros(1)), reason="NumPy is for MLX on an x86 CPU only"
)


def exact_gelu(x: mx.array) -> mx.array:
    return x * (1 + mx.erf(x / 2**0.5)) / 2


def tanh_gelu(x: mx.array) -> mx.array:
    return x * (1 + mx.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x * x * x))) / 2


def composed_silu(x: mx.array) -> mx.array:
    return x * mx.sigmoid(x)


def composed_attention(
    q: mx.array, k: mx.array, v: mx.array, scale: float, mask: str | mx.array | None
) -> mx.array:
    """Scores, mask, softmax, values, with every key head repeated for its queries."""
    k, v = (mx.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    scores = (q * scale) @ k.swapaxes(-1, -2)
    length, total = scores.shape[-2:]
    if isinstance(mask, str):
        mask = mx.tril(mx.ones((length, total), mx.bool_), total - length)
    if mask is not None:
        scores = mx.where(mask, scores, mx.finfo(mx.float32).min)
    return mx.softmax(scores, axis=-1) @ v


def close(a: mx.array, b: mx.array, atol: float = 1e-6) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype
    np.testing.assert_allclose(np.array(a), np.array(b), rtol=0, atol=atol)


def heads(
    length: int, total: int, h: int = 4, k: int = 2, b: int = 2
) -> tuple[mx.array, mx.array, mx.array]:
    """Queries as a layer gives them, transposed; keys as a view into a longer cache."""
    mx.random.seed(7)
    q = mx.random.normal((b, length, h, 16)).transpose(0, 2, 1, 3)
    keys, values = (mx.random.normal((b, k, total + 5, 16)) for _ in range(2))
    return q, keys[..., :total, :], values[..., :total, :]


@pytest.fixture(autouse=True)
def small_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy, not MLX, takes the small arrays of these tests."""
    monkeypatch.setattr(fast_cpu, "_WORTH", 0)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks and pieces even in small arrays."""
    monkeypatch.setattr(fast_cpu, "_AT_ONCE", 100)


def forbid_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed by NumPy")

    monkeypatch.setattr(fast_cpu, "_attention", never)
    monkeypatch.setattr(fast_cpu, "_in_pieces", never)


# --- the numbers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "composed"),
    [
        (encoder.quick_gelu, lambda x: x * mx.sigmoid(1.702 * x)),
        (encoder.gelu, exact_gelu),
        (encoder.gelu_tanh, tanh_gelu),
        (fast_cpu.elementwise(fast_cpu.silu, composed_silu), composed_silu),
    ],
    ids=["quick_gelu", "gelu", "gelu_tanh", "silu"],
)
def test_activations(
    function: Function, composed: Function, small_blocks: None
) -> None:
    x = mx.linspace(-12, 12, 7 * 1001).reshape(7, 1001)
    close(function(x), composed(x), atol=2e-6)  # 1e-6 is the spacing near 12
    close(function(x / 6), composed(x / 6))
    close(function(x[:, ::3].T), composed(x[:, ::3].T), atol=2e-6)
    far = mx.array([-1e30, -1e4, -89, -0.0, 89, 1e4, 1e30])
    close(function(far), composed(far))
    assert np.isnan(np.array(function(mx.array([float("nan")])))).all()


def test_swiglu(small_blocks: None) -> None:
    gate, up = mx.random.normal((2, 3, 50, 11), key=mx.random.key(0))
    close(decoder.swiglu(gate, up), composed_silu(gate) * up)


@here
@pytest.mark.parametrize("size", [(1, 1, 1, 3), (2, 5, 7, 8)])
def test_depthwise_convolution(size: tuple[int, int, int, int]) -> None:
    mx.random.seed(3)
    x, w = mx.random.normal(size), mx.random.normal((size[-1], 3, 3, 1))

    def plain(x: mx.array, w: mx.array) -> mx.array:
        return mx.conv2d(x, w, padding=1, groups=size[-1])

    close(fast_cpu.depthwise(x, w), plain(x, w), 2e-6)
    found, expected = (
        mx.grad(lambda x, w, f=f: (f(x, w) ** 2).sum(), argnums=(0, 1))(x, w)
        for f in (fast_cpu.depthwise, plain)
    )
    for a, b in zip(found, expected, strict=True):
        close(a, b, 1e-4)


@pytest.mark.parametrize("mask", [None, "causal"])
@pytest.mark.parametrize(
    ("length", "total"), [(1, 1), (1, 40), (2, 40), (40, 40), (13, 61), (61, 61)]
)
def test_attention(
    length: int, total: int, mask: str | None, small_blocks: None
) -> None:
    q, k, v = heads(length, total)
    close(
        fast_cpu.attention(q, k, v, 0.25, mask), composed_attention(q, k, v, 0.25, mask)
    )


@pytest.mark.parametrize(("h", "k"), [(6, 6), (6, 3), (6, 1)])
def test_shared_key_heads(h: int, k: int) -> None:
    q, keys, values = heads(9, 20, h, k)
    got = fast_cpu.attention(q, keys, values, 0.25, "causal")
    close(got, composed_attention(q, keys, values, 0.25, "causal"))


def test_blocks_of_real_size() -> None:
    q, k, v = heads(401, 1000, b=1)
    got = fast_cpu.attention(q, k, v, 0.25, "causal")
    close(got, composed_attention(q, k, v, 0.25, "causal"))


@pytest.mark.parametrize("mask", [None, "causal"])
def test_large_scores(mask: str | None, small_blocks: None) -> None:
    """Whole numbers, so that scores up to some 10,000 have no rounding of their own."""
    q, k, v = heads(30, 45)
    q, k = mx.round(20 * q), mx.round(20 * k)
    got = fast_cpu.attention(q, k, v, 0.5, mask)
    close(got, composed_attention(q, k, v, 0.5, mask))
    assert mx.abs(q @ mx.repeat(k, 2, axis=1).swapaxes(-1, -2)).max().item() > 5000


def test_padding_and_rows_without_any_key(small_blocks: None) -> None:
    """The second text has 6 tokens of padding before it: their rows see nothing."""
    q, k, v = heads(17, 23)
    causal = mx.tril(mx.ones((17, 23), mx.bool_), 6)
    mask = mx.stack([causal, causal & (mx.arange(23) >= 12)])[:, None]  # (B, 1, L, T)
    assert not mask[1, 0, 5].any().item()
    got = fast_cpu.attention(q, k, v, 0.25, mask)
    close(got, composed_attention(q, k, v, 0.25, mask))
    close(got, mx.fast.scaled_dot_product_attention(q, k, v, scale=0.25, mask=mask))
    close(got[1, :, 0], mx.repeat(v[1], 2, axis=0).mean(axis=1))


def test_a_bias_is_left_to_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_numpy(monkeypatch)
    q, k, v = heads(5, 8)
    bias = mx.random.normal((5, 8), key=mx.random.key(1))
    k4, v4 = (mx.repeat(x, 2, axis=1) for x in (k, v))
    expected = mx.softmax(0.25 * (q @ k4.swapaxes(-1, -2)) + bias, axis=-1) @ v4
    close(fast_cpu.attention(q, k, v, 0.25, bias), expected)


# --- where it is in force ----------------------------------------------------------


@here
def test_numpy_computes_both_parts_of_the_model(
    tiny_model: MM15, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_numpy(monkeypatch)
    with pytest.raises(AssertionError, match="computed by NumPy"):
        tiny_model.encoder(mx.zeros((1, 56, 56, 3)))
    with pytest.raises(AssertionError, match="computed by NumPy"):
        tiny_model.decoder(mx.array([[1, 2, 3]]))


def test_a_single_token_waits_for_nothing(
    tiny_model: MM15, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its step stays one lazy graph, as fast as without this file."""
    monkeypatch.undo()
    forbid_numpy(monkeypatch)
    cache = tiny_model.make_cache()
    for _ in range(3):
        assert mx.isfinite(tiny_model.decoder(mx.array([[7]]), cache)).all().item()


@pytest.mark.parametrize("other", ["machine", "half"])
def test_elsewhere_mlx_computes(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = mx.float16 if other == "half" else mx.float32
    q, k, v = (x.astype(dtype) for x in heads(6, 9))
    expected = composed_attention(q, k, v, 0.25, "causal")
    forbid_numpy(monkeypatch)
    if other == "machine":
        monkeypatch.setattr(fast_cpu, "_X86", False)
    atol = 2e-3 if other == "half" else 1e-6
    close(fast_cpu.attention(q, k, v, 0.25, "causal"), expected, atol)
    close(encoder.quick_gelu(q), q * mx.sigmoid(1.702 * q), atol)


@pytest.fixture
def compiling() -> Iterator[None]:
    """The suite switches `mx.compile` off: see conftest.py."""
    mx.enable_compile()
    yield
    mx.disable_compile()


def test_mlx_computes_what_is_compiled(
    compiling: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = heads(6, 9)
    forbid_numpy(monkeypatch)
    got = mx.compile(lambda q: fast_cpu.attention(q, k, v, 0.25, "causal"))(q)
    close(got, composed_attention(q, k, v, 0.25, "causal"))


def test_mlx_computes_what_is_vectorised(monkeypatch: pytest.MonkeyPatch) -> None:
    x = mx.random.normal((6, 9), key=mx.random.key(2))
    forbid_numpy(monkeypatch)
    close(mx.vmap(encoder.quick_gelu)(x), x * mx.sigmoid(1.702 * x))


# --- derivatives -------------------------------------------------------------------


SOME = mx.array(np.random.default_rng(5).random((12, 12)) < 0.6)
NONE = SOME & (mx.arange(12)[:, None] != 3)  # the fourth query sees no key


@pytest.mark.parametrize("at_once", [2**17, 40])
@pytest.mark.parametrize("mask", [None, "causal", SOME, NONE], ids=str)
def test_gradients_of_attention(
    mask: str | mx.array | None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_cpu, "_AT_ONCE", at_once)  # whole, or 3 queries at a time
    monkeypatch.setattr(fast_cpu, "_LONG", 12)
    q, k, v = heads(12, 12)
    weight = mx.random.normal(q.shape, key=mx.random.key(3))
    got, expected = (
        mx.grad(lambda *x, f=f: (f(*x, 0.25, mask) * weight).sum(), (0, 1, 2))(q, k, v)
        for f in (fast_cpu.attention, composed_attention)
    )
    for a, b in zip(got, expected, strict=True):
        close(a, b, atol=1e-5)
        assert mx.abs(b).max().item() > 0.1


@pytest.mark.parametrize("transform", ["second", "checkpoint", "forward"])
def test_other_derivatives_of_attention(
    transform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_cpu, "_LONG", 7)
    q, k, v = heads(7, 9)

    def derivative(attend: Function) -> mx.array:
        def f(q: mx.array) -> mx.array:
            return (attend(q, k, v, 0.25, "causal") ** 2).sum()

        if transform == "forward":
            return mx.jvp(f, [q], [q * 2])[1][0]
        if transform == "checkpoint":
            return mx.grad(mx.checkpoint(f))(q)
        return mx.grad(lambda q: (mx.grad(f)(q) ** 2).sum())(q)

    expected = derivative(composed_attention)
    close(derivative(fast_cpu.attention), expected, atol=2e-4)
    assert mx.abs(expected).max().item() > 0.1


@pytest.mark.parametrize("length", [11, 12])
def test_gradients_of_long_attention_are_by_numpy(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_cpu, "_LONG", 12)
    q, k, v = heads(length, length)
    called = []

    def ones(*x: mx.array, scale: float, mask: str) -> tuple[mx.array, ...]:
        called.append(mask)
        return tuple(mx.ones_like(y) for y in x[:3])

    monkeypatch.setattr(fast_cpu, "_attention_gradients", ones)
    gradient = mx.grad(lambda q: fast_cpu.attention(q, k, v, 0.25, "causal").sum())(q)
    long = length == 12
    assert called == ["causal"] * long and (gradient == 1).all().item() == long


@pytest.mark.parametrize("transform", ["forward", "second", "checkpoint"])
def test_other_derivatives(transform: str) -> None:
    gate, up = mx.random.normal((2, 5, 4), key=mx.random.key(4))

    def derivative(f: Function) -> mx.array:
        if transform == "forward":  # `up` is constant: it has no tangent
            return mx.jvp(lambda x: f(x, up), [gate], [up])[1][0]
        if transform == "checkpoint":
            return mx.grad(lambda x: mx.checkpoint(f)(x, up).sum())(gate)
        return mx.grad(lambda x: mx.grad(lambda y: f(y, up).sum())(x).sum())(gate)

    expected = derivative(lambda gate, up: composed_silu(gate) * up)
    close(derivative(decoder.swiglu), expected, atol=1e-5)
    assert mx.abs(expected).max().item() > 0.1


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_through_a_block(
    part: str, training: bool, tiny_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In either mode: nobody need say that a gradient will be taken."""
    mx.random.seed(0)
    if part == "encoder":
        block: nn.Module = encoder.Block(tiny_config.vision_config)
    else:
        block = decoder.Block(tiny_config.text_config, 0)
    block.train(training)
    width = 32 if part == "encoder" else 64
    x = mx.random.normal((2, 9, width), key=mx.random.key(5))

    def loss(block: nn.Module, x: mx.array) -> mx.array:
        if part == "encoder":
            return block(x).square().sum()
        return block(x, "causal", decoder.NoCache())[0].square().sum()

    value_and_grad = nn.value_and_grad(block, loss)
    value, grads = value_and_grad(block, x)
    of_input = mx.grad(lambda x: loss(block, x))(x)
    monkeypatch.setattr(fast_cpu, "_X86", False)
    expected_value, expected = value_and_grad(block, x)
    assert value.item() == pytest.approx(expected_value.item(), rel=1e-6)
    close(of_input, mx.grad(lambda x: loss(block, x))(x), atol=1e-4)
    flat, expected = (dict(tree_flatten(g)) for g in (grads, expected))
    assert flat.keys() == expected.keys()
    for name, gradient in expected.items():
        np.testing.assert_allclose(
            np.array(flat[name]), np.array(gradient), rtol=1e-4, atol=1e-4, err_msg=name
        )
    assert any(mx.abs(g).max().item() > 0.1 for n, g in expected.items() if "q_" in n)
