"""Grid choice, views and the way back to original pixels."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mm15_mlx.config import TilingConfig
from mm15_mlx.tiling import candidate_grids, choose_grid, cut, fit_scale, plan

PAPER = TilingConfig()  # tile 672, (4, 9)

# width, height → rows, columns; Eq. 1 read literally, ties to the fewest tiles
VECTORS = {
    (300, 300): (2, 2), (672, 672): (2, 2), (1344, 1344): (2, 2), (640, 480): (2, 3),
    (480, 640): (3, 2), (1024, 768): (2, 3), (1920, 1080): (2, 4), (1080, 1920): (4, 2),
    (1170, 2532): (4, 2), (2532, 1170): (2, 4), (850, 1100): (3, 2),
    (1700, 2200): (3, 3), (2016, 2016): (3, 3), (2017, 2017): (3, 3),
    (4032, 3024): (3, 3), (600, 5000): (8, 1), (5000, 600): (1, 8), (100, 1000): (9, 1),
}  # fmt: skip


@pytest.mark.parametrize(("size", "grid"), VECTORS.items())
def test_grid_of_equation_1(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert choose_grid(*size, PAPER) == grid


@pytest.mark.parametrize(
    ("bounds", "count"), [((4, 9), 18), ((4, 16), 45), ((1, 9), 23)]
)
def test_number_of_candidate_grids(bounds: tuple[int, int], count: int) -> None:
    assert len(candidate_grids(*bounds)) == count


def test_up_to_four_tiles_are_the_paper_s_eight_grids() -> None:
    assert set(candidate_grids(1, 4)) == {
        (1, 1), (1, 2), (2, 1), (1, 3), (3, 1), (1, 4), (4, 1), (2, 2),
    }  # fmt: skip


def test_least_padding_of_an_iphone_screen() -> None:
    scale = fit_scale(1170, 2532, (4, 2), 672)
    padding = 8 * 672**2 - scale * scale * 1170 * 2532
    assert int(padding) == 273_946


def test_anyres_does_not_count_upscaling() -> None:
    rule = dataclasses.replace(PAPER, grid_rule="anyres")
    assert choose_grid(640, 480, rule) == (2, 2)
    assert choose_grid(640, 480, PAPER) == (2, 3)


def test_three_images_are_not_split() -> None:
    assert plan(1170, 2532, PAPER, images=2).grid == (4, 2)
    assert plan(1170, 2532, PAPER, images=3).indices == ((1, 1),)


@pytest.mark.parametrize("where", ["before", "after", "none"])
def test_overview_position(where: str) -> None:
    config = dataclasses.replace(PAPER, overview=where)
    indices = plan(672, 672, config).indices
    tiles = ((1, 1), (1, 2), (2, 1), (2, 2))
    expected = {"before": ((0, 0), *tiles), "after": (*tiles, (0, 0)), "none": tiles}
    assert indices == expected[where]


def test_a_single_tile_has_no_overview() -> None:
    assert plan(50, 50, dataclasses.replace(PAPER, n_min=1)).indices == ((1, 1),)


def test_static_and_no_splitting() -> None:
    static = dataclasses.replace(PAPER, policy="static")
    assert len(plan(100, 900, static).indices) == 5
    assert plan(100, 900, dataclasses.replace(PAPER, policy="none")).grid == (1, 1)


def test_pixels_lie_where_the_transform_says() -> None:
    config = TilingConfig(tile_size=32, n_min=1, n_max=4, pad_color=(9, 9, 9))
    image = Image.new("RGB", (40, 90), (255, 255, 255))
    tiling = plan(40, 90, config)
    views = cut(image, tiling, config)
    assert views.shape == (len(tiling.indices), 32, 32, 3)
    for v in range(len(views)):
        for x, y in [(0.5, 0.5), (31.5, 31.5), (16.5, 2.5)]:
            px, py = tiling.to_picture(v, x, y)
            inside = 1 < px < 39 and 1 < py < 89
            outside = px > 41 or py > 91
            value = views[v, int(y), int(x), 0]
            assert not inside or value == 255
            assert not outside or value == 9


def test_tiles_join_to_the_resized_picture() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8))
    config = TilingConfig(tile_size=32, n_min=1, n_max=6, overview="none")
    tiling = plan(96, 64, config)
    assert tiling.grid == (2, 3)
    views = cut(image, tiling, config)
    rows = [np.concatenate(list(views[r * 3 : r * 3 + 3]), axis=1) for r in range(2)]
    assert np.array_equal(np.concatenate(rows), np.asarray(image))


sizes = st.integers(1, 6000)
configs = st.builds(
    TilingConfig,
    tile_size=st.sampled_from([14, 336, 378, 672]),
    n_min=st.integers(1, 4),
    n_max=st.integers(4, 12),
    policy=st.sampled_from(["dynamic", "static", "none"]),
    overview=st.sampled_from(["before", "after", "none"]),
    grid_rule=st.sampled_from(["mm15", "anyres"]),
    pad_side=st.sampled_from(["end", "center"]),
)


@given(sizes, sizes, configs, st.floats(0, 1), st.floats(0, 1))
def test_round_trip_through_every_view(
    width: int, height: int, config: TilingConfig, u: float, v: float
) -> None:
    tiling = plan(width, height, config)
    x, y = u * width, v * height
    for view in range(len(tiling.indices)):
        back = tiling.to_picture(view, *tiling.to_view(view, x, y))
        assert back == pytest.approx((x, y), rel=1e-9, abs=1e-6)


@given(sizes, sizes, configs)
def test_every_pixel_is_in_exactly_one_tile(
    width: int, height: int, config: TilingConfig
) -> None:
    tiling = plan(width, height, config)
    size, (rows, columns) = tiling.tile_size, tiling.grid
    assert tiling.tiles.resized[0] <= columns * size
    assert tiling.tiles.resized[1] <= rows * size
    for x, y in [(0.0, 0.0), (width / 2, height / 3), (width - 1e-3, height - 1e-3)]:
        hits = 0
        for view, index in enumerate(tiling.indices):
            vx, vy = tiling.to_view(view, x, y)
            hits += index != (0, 0) and 0 <= vx < size and 0 <= vy < size
        assert hits == 1


@given(sizes, sizes)
def test_the_chosen_grid_is_never_worse_than_another(width: int, height: int) -> None:
    chosen = choose_grid(width, height, PAPER)
    scale = fit_scale(width, height, chosen, 672)
    for grid in candidate_grids(4, 9):
        other = fit_scale(width, height, grid, 672)
        if scale < 1:
            assert other <= scale
        elif other >= 1:
            area = width * height
            pad = chosen[0] * chosen[1] * 672**2 - scale * scale * area
            assert pad <= grid[0] * grid[1] * 672**2 - other * other * area


def test_impossible_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="0 × 5 pixels cannot be tiled"):
        plan(0, 5, PAPER)
    tiling = plan(10, 10, PAPER)
    with pytest.raises(ValueError, match="planned for 10 × 10"):
        cut(Image.new("RGB", (9, 10)), tiling, PAPER)
