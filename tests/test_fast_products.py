"""One row and a large matrix: NumPy's product, its derivatives, and who takes it."""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mm15_mlx import fast_cpu

here = pytest.mark.skipif(
    not fast_cpu.usable(mx.zeros(1)), reason="NumPy is for MLX on an x86 CPU only"
)


def close(a: mx.array, b: mx.array, atol: float) -> None:
    assert a.shape == b.shape and a.dtype == b.dtype
    np.testing.assert_allclose(np.array(a), np.array(b), rtol=0, atol=atol)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 64), (64,), (1, 2, 64)])
def test_a_row_and_a_large_matrix(
    shape: tuple[int, ...], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_cpu, "_COPIED", 96 * 64)
    mx.random.seed(1)
    ours = fast_cpu.Linear(64, 96, bias=bias)
    theirs = nn.Linear(64, 96, bias=bias)
    theirs.update(ours.parameters())
    x = mx.random.normal(shape)
    close(ours(x), theirs(x), 2e-6)
    table = fast_cpu.Embedding(96, 64)
    close(table.as_linear(x), x @ table.weight.T, 2e-6)

    def loss(layer: nn.Module, x: mx.array) -> mx.array:
        return mx.sin(layer(x)).sum()

    for mine, other in zip(
        mx.grad(lambda x: loss(ours, x))(x)[None],
        mx.grad(lambda x: loss(theirs, x))(x)[None],
        strict=True,
    ):
        close(mine, other, 2e-6)
    gradients = [nn.value_and_grad(m, loss)(m, x)[1] for m in (ours, theirs)]
    for name, value in tree_flatten(gradients[0]):
        close(value, dict(tree_flatten(gradients[1]))[name], 2e-6)


@here
@pytest.mark.parametrize(
    ("rows", "size", "by_numpy"), [(1, 2**19, True), (2, 2**19, False), (1, 512, False)]
)
def test_numpy_takes_one_row_and_large_matrices_only(
    rows: int, size: int, by_numpy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    row_product = fast_cpu._row_product
    monkeypatch.setattr(
        fast_cpu, "_row_product", lambda *a: calls.append(1) or row_product(*a)
    )
    x, weight = mx.ones((1, rows, 512)), mx.ones((size // 512, 512))
    assert fast_cpu.product(x, weight).shape == (1, rows, size // 512)
    assert bool(calls) == by_numpy
