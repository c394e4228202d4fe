import dataclasses
import math

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mm15_mlx.config import PRESETS, ConfigError, ConnectorConfig, ModelConfig
from mm15_mlx.connector import (
    AdaptiveAvgPool,
    AvgPool,
    CAbstractor,
    MLPConnector,
    PixelShuffle,
    build_connector,
    pool_matrix,
)

TINY = ConnectorConfig(num_visual_tokens=16, hidden_size=24, depth=2)


def features(grid: int, width: int, count: int = 2) -> mx.array:
    return mx.random.normal((count, grid * grid, width), key=mx.random.key(3))


def test_windows_of_27_to_12() -> None:
    windows = [np.flatnonzero(row) for row in pool_matrix(27, 12)]
    assert [(w[0], w[-1] + 1) for w in windows] == [
        (0, 3), (2, 5), (4, 7), (6, 9), (9, 12), (11, 14),
        (13, 16), (15, 18), (18, 21), (20, 23), (22, 25), (24, 27),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "side"), [(27, 12), (48, 12), (24, 12), (16, 12), (6, 4), (5, 5), (3, 4)]
)
def test_pooling_is_the_mean_of_its_windows(grid: int, side: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, grid, grid, 3)).astype(np.float32)

    def window(i: int) -> slice:
        return slice(i * grid // side, math.ceil((i + 1) * grid / side))

    expected = [
        [x[:, window(i), window(j)].mean((1, 2)) for j in range(side)]
        for i in range(side)
    ]
    got = np.array(AdaptiveAvgPool(side)(mx.array(x)))
    np.testing.assert_allclose(got, np.array(expected).transpose(2, 0, 1, 3), atol=1e-6)


@pytest.mark.parametrize("grid", [4, 5, 6, 9])
@pytest.mark.parametrize("kind", ["c_abstractor", "avg_pool"])
def test_tokens_do_not_depend_on_the_grid(kind: str, grid: int) -> None:
    config = dataclasses.replace(TINY, type=kind)
    connector = build_connector(config, 20, 40, grid=6)
    assert connector(features(grid, 20)).shape == (2, 16, 40)


def test_mlp_keeps_every_patch() -> None:
    config = dataclasses.replace(TINY, type="mlp", num_visual_tokens=36)
    connector = build_connector(config, 20, 40, grid=6)
    assert isinstance(connector, MLPConnector)
    assert connector(features(6, 20)).shape == (2, 36, 40)


def test_average_pooling_is_pool_then_linear() -> None:
    connector = AvgPool(dataclasses.replace(TINY, type="avg_pool"), 20, 40)
    x = features(8, 20)
    pooled = x.reshape(2, 4, 2, 4, 2, 20).mean((2, 4)).reshape(2, 16, 20)
    got, expected = connector(x), connector.readout[0](pooled)
    np.testing.assert_allclose(np.array(got), np.array(expected), atol=1e-5)


def test_squeeze_excite_width_follows_the_block_input() -> None:
    """The first block's SE is a quarter of the encoder's width, not of its own."""
    stage = CAbstractor(ConnectorConfig(hidden_size=1024), 1280, 64, 27).net[0]
    widths = [block.se.fc1.weight.shape[0] for block in stage.children().values()]
    assert widths == [320, 256, 256]


def test_real_size_has_the_published_shape() -> None:
    """Encoder 1280, hidden 1024, decoder 3072 at 48×48: 33.1M parameters."""
    connector = CAbstractor(ConnectorConfig(), 1280, 3072, 48)
    sizes = {n: a.size for n, a in tree_flatten(connector.parameters())}
    assert sizes["pos_emb"] == 2304 * 1280
    assert (
        round(sum(s for n, s in sizes.items() if n.startswith("net.0")), -4) == 9.62e6
    )
    assert (
        round(sum(s for n, s in sizes.items() if n.startswith("net.2")), -4) == 7.91e6
    )
    assert round(sum(sizes.values()), -5) == 33.1e6


def test_norms_have_timms_eps() -> None:
    connector = CAbstractor(TINY, 20, 40, 6)
    norms = [m.eps for name, m in connector.named_modules() if name.endswith("bn")]
    assert len(norms) == 13  # three in each of four blocks, one shortcut
    assert set(norms) == {1e-5}


def test_shortcut_only_where_the_width_changes() -> None:
    names = dict(tree_flatten(CAbstractor(TINY, 20, 40, 6).parameters()))
    shortcuts = {n.rsplit(".", 2)[0] for n in names if "downsample" in n}
    assert shortcuts == {"net.0.b1.downsample"}
    same = dict(tree_flatten(CAbstractor(TINY, 24, 40, 6).parameters()))
    assert not any("downsample" in n for n in same)


def test_positions_are_interpolated_when_the_grid_differs() -> None:
    connector = CAbstractor(TINY, 20, 40, grid=6)
    connector.pos_emb = mx.zeros_like(connector.pos_emb) + 0.5
    moved = connector(features(9, 20))
    connector.pos_emb = mx.zeros_like(connector.pos_emb)
    expected = connector(features(9, 20) + 0.5)
    np.testing.assert_allclose(np.array(moved), np.array(expected), atol=1e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gives_its_number_of_tokens(preset: str) -> None:
    config = PRESETS[preset]
    connector = config.connector_config
    assert connector.num_visual_tokens == (400 if preset == "nano-ui" else 144)
    side = connector.pooled_grid
    assert pool_matrix(config.view_grid, side).shape == (side, config.view_grid)


def test_half_precision_stays_half() -> None:
    connector = CAbstractor(TINY, 20, 40, 6)
    connector.set_dtype(mx.float16)
    assert connector(features(9, 20).astype(mx.float16)).dtype == mx.float16


# --- pixel shuffle -------------------------------------------------------------------

SHUFFLE = ConnectorConfig(type="pixel_shuffle", num_visual_tokens=4, scale_factor=3)


def test_shuffle_by_hand() -> None:
    """4×4 patches, squares of 2: a square's patches in reading order."""
    config = dataclasses.replace(SHUFFLE, scale_factor=2)
    connector = PixelShuffle(config, 1, 8)
    got = connector.shuffled(mx.arange(16).reshape(1, 16, 1))
    assert got[0].tolist() == [
        [0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"mlp_depth": 1, "mlp_bias": False}, {"readout.0.weight"}),
        (
            {"pre_norm": True},
            {
                f"{layer}.{kind}"
                for layer in ("pre_layernorm", "readout.0", "readout.2")
                for kind in ("weight", "bias")
            },
        ),
    ],
)
def test_idefics3_and_internvl(changes: dict[str, object], names: set[str]) -> None:
    connector = build_connector(dataclasses.replace(SHUFFLE, **changes), 20, 40, grid=6)
    parameters = dict(tree_flatten(connector.parameters()))
    assert set(parameters) == names
    assert parameters["readout.0.weight"].shape == (40, 180)
    assert connector(features(6, 20)).shape == (2, 4, 40)


def test_the_mlp_without_bias_and_with_another_gelu() -> None:
    config = dataclasses.replace(TINY, type="mlp", mlp_bias=False)
    connector = build_connector(config, 20, 40, grid=4)
    names = {n for n, _ in tree_flatten(connector.parameters())}
    assert names == {"readout.0.weight", "readout.2.weight"}
    tanh = dataclasses.replace(config, hidden_act="gelu_pytorch_tanh")
    other = build_connector(tanh, 20, 40, grid=4)
    other.update(connector.parameters())
    x = features(4, 20) * 3
    assert 1e-6 < mx.abs(connector(x) - other(x)).max().item() < 1e-2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "resampler"}, "connector_config.type is 'resampler'; it must be one"),
        ({"hidden_act": "silu"}, "connector_config.hidden_act is 'silu'; it must be"),
        ({"num_visual_tokens": 15}, "num_visual_tokens is 15; it must be a square"),
        (
            {"type": "pixel_shuffle", "scale_factor": 0},
            "connector_config.scale_factor is 0; it must be 1 to 1,024",
        ),
        (
            {"type": "pixel_shuffle", "scale_factor": 4},
            "patches along a view: 6 is not a multiple of connector_config.scale_fac",
        ),
        (
            {"type": "pixel_shuffle", "scale_factor": 2},
            "with scale_factor 2 makes 9 tokens of a view's 36 patches; num_visual_tok",
        ),
        (
            {"type": "mlp"},
            "an mlp connector keeps all 36 patches of a view; num_visual_tokens is 16",
        ),
    ],
)
def test_what_the_configuration_refuses(
    tiny_config: ModelConfig, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        connector = dataclasses.replace(tiny_config.connector_config, **changes)
        dataclasses.replace(tiny_config, connector_config=connector)
