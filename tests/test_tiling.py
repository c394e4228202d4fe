"""Grid choice, views and the way back to original pixels."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mm15_mlx.config import TilingConfig
from mm15_mlx.grids import candidate_grids, choose_grid, fit_scale
from mm15_mlx.tiling import NEWLINE, POLICIES, cut, plan

PAPER = TilingConfig()  # tile 672, (4, 9)

PINPOINTS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))  # LLaVA-NeXT's, as grids

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
    policy=st.sampled_from(sorted(POLICIES)),
    longest_edge=st.just(2048),
    pinpoints=st.just(PINPOINTS),
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


# --- other families' policies -----------------------------------------------------


def policy(name: str, size: int = 32, **fields: Any) -> TilingConfig:
    return TilingConfig(
        tile_size=size,
        policy=name,
        longest_edge=4 * size,
        pinpoints=PINPOINTS,
        **fields,
    )


@pytest.mark.parametrize(
    ("name", "size", "grid", "views"),
    [
        ("longest_edge", (100, 100), (4, 4), 17),
        ("longest_edge", (1170, 2532), (4, 2), 9),  # 59 → 60 → two tiles across
        ("longest_edge", (5000, 3), (1, 4), 5),
        ("pinpoints", (50, 50), (2, 2), 5),
        ("pinpoints", (1170, 2532), (3, 1), 4),
        ("pinpoints", (5000, 3), (1, 2), 3),  # not a pixel high
        ("aspect", (1170, 2532), (2, 1), 3),
        ("aspect", (50, 50), (2, 2), 5),  # more than half of four tiles' pixels
        ("aspect", (40, 40), (1, 1), 1),
        ("aspect", (5000, 3), (1, 4), 5),
        ("pad_square", (1170, 2532), (1, 1), 1),
        ("squash", (1170, 2532), (1, 1), 1),
    ],
)
def test_grids_of_other_families(
    name: str, size: tuple[int, int], grid: tuple[int, int], views: int
) -> None:
    config = policy(name, n_min=1, n_max=4)
    tiling = plan(*size, config)
    assert tiling.grid == grid and len(tiling.indices) == views
    assert cut(Image.new("RGB", size), tiling, config).shape == (views, 32, 32, 3)
    assert len(plan(*size, config, images=3).indices) == 1


def internvl(width: int, height: int, size: int, most: int) -> tuple[int, int]:
    """The documented rule, written out: columns, rows."""
    ratios = {
        (i, j) for n in range(1, most + 1) for i in range(1, n + 1)
        for j in range(1, n + 1) if i * j <= most
    }  # fmt: skip
    least, best = float("inf"), (1, 1)
    for ratio in sorted(ratios, key=lambda r: r[0] * r[1]):
        difference = abs(width / height - ratio[0] / ratio[1])
        if difference < least:
            least, best = difference, ratio
        elif difference == least:
            if width * height > 0.5 * size * size * ratio[0] * ratio[1]:
                best = ratio
    return best


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from([6, 12]))
@example(900, 900, 12)
@example(1600, 800, 12)
def test_internvl_s_grid(width: int, height: int, most: int) -> None:
    config = TilingConfig(tile_size=448, policy="aspect", n_min=1, n_max=most)
    columns, rows = internvl(width, height, 448, most)
    assert plan(width, height, config).grid == (rows, columns)


def test_a_padded_square_lies_between_pixels() -> None:
    config = policy("pad_square", size=64, pad_color=(122, 116, 104))
    image = Image.new("RGB", (100, 51), "white")
    tiling = plan(100, 51, config)
    assert tiling.to_view(0, 0, 0) == (0, 24 * 0.64)
    (view,) = cut(image, tiling, config)
    assert view[2, 30].tolist() == view[-3, 30].tolist() == [122, 116, 104]
    assert view[17:46, 3:-3].min() == 255


def test_a_thin_picture_needs_no_square_of_its_side() -> None:
    config = policy("pad_square", pad_color=(9, 9, 9))
    thin = Image.new("RGB", (60_000, 2), "white")
    (view,) = cut(thin, plan(60_000, 2, config), config)
    assert view[2].max() == 9 and view[16].max() > 9


def test_pinpoints_pad_or_stretch() -> None:
    image = Image.new("RGB", (60, 20), "white")  # three times as wide as high
    centre = policy("pinpoints", pad_side="center", overview="before")
    tiling = plan(60, 20, centre)
    assert tiling.grid == (1, 2) and tiling.tiles.resized == (64, 22)
    views = cut(image, tiling, centre)
    assert views[1][:5].max() == 0 and views[1][5:27].min() == 255
    assert views[0].min() == 255, "the overview is stretched"
    stretched = policy("pinpoints", pad_side="none")
    assert cut(image, plan(60, 20, stretched), stretched).min() == 255


# --- the order of visual tokens ---------------------------------------------------


def test_tokens_view_by_view() -> None:
    tiling = plan(100, 100, TilingConfig(policy="static"))
    assert tiling.packing(2).tolist() == list(range(20)) and tiling.tokens(2) == 20


def test_tiles_become_one_map() -> None:
    """Two tiles beside each other of 2² tokens: rows run through both."""
    for where, overview in (("before", [0, 1, 2, 3]), ("after", [8, 9, 10, 11])):
        config = policy(
            "pinpoints", pad_side="none", overview=where, indicator="none",
            merge="spatial",
        )  # fmt: skip
        order = plan(64, 32, config).packing(2).tolist()
        start = 4 if where == "before" else 0
        whole = [start + i for i in (0, 1, 4, 5, 2, 3, 6, 7)]
        assert order == (overview + whole if where == "before" else whole + overview)


def unpadding(merge: str = "spatial_unpad") -> TilingConfig:
    return policy(
        "pinpoints", pad_side="center", overview="before", indicator="none", merge=merge
    )


def test_padding_goes_and_rows_end_with_a_newline() -> None:
    tiling = plan(64, 16, unpadding())  # half as high as its two tiles of 4² tokens
    assert tiling.grid == (1, 2)
    second, third = [20, 21, 22, 23, 36, 37, 38, 39], [24, 25, 26, 27, 40, 41, 42, 43]
    whole = [*second, NEWLINE, *third, NEWLINE]
    assert tiling.packing(4).tolist() == [*range(16), *whole]
    high = plan(16, 64, unpadding())
    assert high.grid == (2, 1) and high.tokens(4) == 16 + 8 * (2 + 1)


def test_a_view_alone_has_one_newline() -> None:
    order = plan(64, 16, unpadding(), images=3).packing(2).tolist()
    assert order == [0, 1, 2, 3, NEWLINE]


def test_rounding_is_of_hugging_face_or_of_llava() -> None:
    """187 · (24 / 88) is 51, and 50.99999999999999 in floating point."""
    one, other = unpadding(), unpadding("spatial_unpad_floor")
    assert plan(88, 187, one).tokens(24) == 24**2 + 52 * (24 + 1)
    assert plan(88, 187, other).tokens(24) == 24**2 + 50 * (24 + 1)


@given(sizes, sizes, st.sampled_from(["flat", "spatial", "spatial_unpad"]))
def test_every_token_comes_once(width: int, height: int, merge: str) -> None:
    tiling = plan(width, height, unpadding(merge))
    order = tiling.packing(6)
    real = order[order != NEWLINE]
    assert len(set(real.tolist())) == len(real) == len(order) - sum(order == NEWLINE)
    assert set(range(36)) <= set(real.tolist()), "the overview is whole"
    if merge != "spatial_unpad":
        assert len(real) == 36 * len(tiling.indices) == len(order)


def test_impossible_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="0 × 5 pixels cannot be tiled"):
        plan(0, 5, PAPER)
    tiling = plan(10, 10, PAPER)
    with pytest.raises(ValueError, match="planned for 10 × 10"):
        cut(Image.new("RGB", (9, 10)), tiling, PAPER)
