import dataclasses

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mm15_mlx.config import ConfigError, ModelConfig, VisionConfig
from mm15_mlx.encoder import (
    ACTIVATIONS,
    Encoder,
    quick_gelu,
    resize_matrix,
    resize_table,
)


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


# --- what SigLIP and InternViT have otherwise ----------------------------------------


def test_gelu_with_tanh() -> None:
    x = np.linspace(-6, 6, 97, dtype=np.float32)
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x.astype(np.float64) ** 3)
    expected = 0.5 * x * (1 + np.tanh(inner))
    got = ACTIVATIONS["gelu_pytorch_tanh"](mx.array(x))
    np.testing.assert_allclose(np.array(got), expected, atol=1e-6)
    exact = np.array(ACTIVATIONS["gelu"](mx.array(x)))
    assert 1e-4 < np.abs(exact - expected).max() < 1e-3


@pytest.mark.parametrize(
    ("switch", "value", "names"),
    [
        ("class_token", False, {"class_embedding"}),
        ("pre_norm", False, {"pre_layernorm.weight", "pre_layernorm.bias"}),
        ("patch_bias", True, {"patch_embedding.bias"}),
        ("post_norm", True, {"post_layernorm.weight", "post_layernorm.bias"}),
        ("layer_scale", True, {f"layers.{i}.ls{j}.gamma" for i in "01" for j in "12"}),
        (
            "qkv_bias",
            False,
            {f"layers.{i}.self_attn.{p}_proj.bias" for i in "01" for p in "qkv"},
        ),
    ],
)
def test_a_switch_is_the_parameters_that_it_adds_or_takes(
    config: VisionConfig, encoder: Encoder, switch: str, value: bool, names: set[str]
) -> None:
    other = Encoder(dataclasses.replace(config, **{switch: value}))
    held, before = (
        {n for n, _ in tree_flatten(e.parameters())} for e in (other, encoder)
    )
    assert held ^ before == names
    assert other(views(2, 84)).shape == (2, 36, 32)


def test_positions_without_a_class_token(config: VisionConfig) -> None:
    encoder = Encoder(dataclasses.replace(config, class_token=False))
    assert encoder.position_embedding.shape == (16, 32)
    table = np.array(encoder.position_embedding)
    np.testing.assert_array_equal(np.array(encoder.positions(4)), table)
    expected = resize_table(encoder.position_embedding, 6)
    np.testing.assert_array_equal(np.array(encoder.positions(6)), np.array(expected))


def test_layer_scale_weighs_what_a_block_adds(config: VisionConfig) -> None:
    encoder = Encoder(dataclasses.replace(config, layer_scale=True, pre_norm=False))
    for layer in encoder.layers:
        layer.ls1.gamma, layer.ls2.gamma = mx.zeros((32,)), mx.zeros((32,))
    x = views(1, 56)
    start = encoder.patch_embedding(encoder.patches(x)) + encoder.positions(4)[1:]
    np.testing.assert_allclose(np.array(encoder(x)), np.array(start), atol=1e-6)


def test_pixels_beyond_the_last_patch_are_not_seen(
    config: VisionConfig, encoder: Encoder
) -> None:
    """384 pixels are 27 patches of 14 and 6 pixels more, for SigLIP so400m."""
    cropping = dataclasses.replace(config, crop_to_patches=True, image_size=60)
    other = Encoder(cropping)
    other.update(encoder.parameters())
    assert cropping.grid_size == 4
    x = views(1, 60)
    np.testing.assert_array_equal(np.array(other(x)), np.array(encoder(x[:, :56, :56])))
    with pytest.raises(
        ConfigError, match="image_size 60 is not a multiple of vision_c"
    ):
        dataclasses.replace(config, image_size=60)


def test_post_norm_is_the_last_step(config: VisionConfig) -> None:
    encoder = Encoder(dataclasses.replace(config, post_norm=True))
    features = np.array(encoder(views(1, 56)))
    np.testing.assert_allclose(features.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(features.std(-1), 1, atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hidden_act": "relu"},
            "hidden_act is 'relu'; it must be one of quick_gelu, ",
        ),
        ({"feature_layer": -3}, "feature_layer is -3; use -1 or -2"),
        (
            {"post_norm": True, "feature_layer": -2},
            "post_norm is the norm after the last block; with feature_layer -2 it must",
        ),
    ],
)
def test_what_the_configuration_refuses(
    config: VisionConfig, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"vision_config.{message}"):
        dataclasses.replace(config, **changes)
