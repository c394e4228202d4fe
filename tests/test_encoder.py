import dataclasses

import mlx.core as mx
import numpy as np
import pytest

from mm15_mlx.config import ModelConfig, VisionConfig
from mm15_mlx.encoder import Encoder, quick_gelu, resize_matrix, resize_table


def views(count: int, side: int) -> mx.array:
    return mx.random.normal((count, side, side, 3), key=mx.random.key(1))


@pytest.fixture
def config(tiny_config: ModelConfig) -> VisionConfig:
    return tiny_config.vision_config


@pytest.fixture
def encoder(config: VisionConfig) -> Encoder:
    mx.random.seed(0)
    return Encoder(config)


@pytest.mark.parametrize(("size_in", "size_out"), [(27, 48), (27, 16), (4, 6), (6, 4)])
def test_resize_matrix_keeps_constants_and_symmetry(
    size_in: int, size_out: int
) -> None:
    matrix = resize_matrix(size_in, size_out)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-6)


def test_resize_matrix_literal() -> None:
    """2 → 3 by hand: Keys' kernel, a = -0.5, at distances 1/3, 2/3; 1/2, 1/2."""
    near, far = 1 - 2.5 / 9 + 1.5 / 27, 1 - 2.5 * 4 / 9 + 1.5 * 8 / 27
    # Centres lie at 1/3, 1, 5/3; pixels at 1/2, 3/2.
    k = [1 - 2.5 * d**2 + 1.5 * d**3 for d in (1 / 6,)]
    outer = -0.5 * (7 / 6) ** 3 + 2.5 * (7 / 6) ** 2 - 4 * (7 / 6) + 2
    total = k[0] + outer
    expected = [
        [k[0] / total, outer / total],
        [0.5, 0.5],
        [outer / total, k[0] / total],
    ]
    np.testing.assert_allclose(resize_matrix(2, 3), expected, atol=1e-6)
    assert near > far


def test_resize_table_same_size_is_the_table_itself() -> None:
    table = mx.random.normal((16, 3))
    assert resize_table(table, 4) is table


def test_resize_table_is_separable_rows_then_columns() -> None:
    table = mx.random.normal((16, 3), key=mx.random.key(0))
    m = resize_matrix(4, 6)
    expected = np.einsum("ih,jw,hwd->ijd", m, m, np.array(table).reshape(4, 4, 3))
    got = np.array(resize_table(table, 6)).reshape(6, 6, 3)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_resize_table_keeps_half_precision() -> None:
    assert resize_table(mx.zeros((16, 3), mx.float16), 6).dtype == mx.float16


def test_patch_embedding_is_the_strided_convolution(encoder: Encoder) -> None:
    x = views(2, 56)
    weight = encoder.patch_embedding.weight.reshape(-1, 14, 14, 3)
    expected = mx.conv2d(x, weight, stride=14).flatten(1, 2)
    got = encoder.patch_embedding(encoder.patches(x))
    np.testing.assert_allclose(np.array(got), np.array(expected), atol=1e-4)


def test_quick_gelu() -> None:
    got = quick_gelu(mx.array([-1.0, 0.0, 1.0]))
    np.testing.assert_allclose(np.array(got), [-0.154205, 0, 0.845795], atol=1e-5)


@pytest.mark.parametrize("side", [28, 56, 84, 126])
def test_any_view_size(encoder: Encoder, side: int) -> None:
    assert encoder(views(2, side)).shape == (2, (side // 14) ** 2, 32)


def test_views_do_not_see_each_other(encoder: Encoder) -> None:
    x = views(3, 84)
    single = mx.concatenate([encoder(x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(np.array(encoder(x)), np.array(single), atol=1e-5)


def test_feature_layer_minus_two_skips_the_last_block(
    config: VisionConfig, encoder: Encoder
) -> None:
    below = Encoder(dataclasses.replace(config, feature_layer=-2))
    assert len(below.layers) == len(encoder.layers) - 1
    below.update(encoder.parameters(), strict=False)
    last = encoder.layers.pop()
    np.testing.assert_allclose(
        np.array(below(views(1, 56))), np.array(encoder(views(1, 56))), atol=1e-6
    )
    assert last is not None


def test_exact_gelu_differs_from_quick_gelu(
    config: VisionConfig, encoder: Encoder
) -> None:
    other = Encoder(dataclasses.replace(config, hidden_act="gelu"))
    other.update(encoder.parameters())
    gap = mx.abs(other(views(1, 56)) - encoder(views(1, 56))).max().item()
    assert 1e-5 < gap < 0.5


def test_half_precision_stays_half_and_close(encoder: Encoder) -> None:
    full = encoder(views(1, 84))
    encoder.set_dtype(mx.float16)
    half = encoder(views(1, 84))
    assert half.dtype == mx.float16
    np.testing.assert_allclose(np.array(half), np.array(full), atol=2e-2)


@pytest.mark.parametrize("shape", [(1, 56, 84, 3), (1, 60, 60, 3)])
def test_a_view_that_is_no_square_of_patches(
    encoder: Encoder, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"a view is \d+ x \d+ pixels.*multiple of 14"):
        encoder(mx.zeros(shape))
