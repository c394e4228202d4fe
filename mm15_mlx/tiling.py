"""Dynamic image splitting (MM1.5 §3.5): which grid, which views, and the way back.

A picture is resized without distortion onto a canvas of rows × columns tiles, padded,
and cut into square *tiles*; the *overview* is the whole picture in one square. Tiles
and overview are all *views*. This file knows sizes and pixels, nothing of models.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from PIL import Image

from mm15_mlx.config import TilingConfig

Grid = tuple[int, int]  # rows, columns
Point = tuple[float, float]


def candidate_grids(n_min: int, n_max: int) -> list[Grid]:
    """Every grid of n_min to n_max tiles: fewest tiles first, then the squarest."""
    grids = [
        (rows, tiles // rows)
        for tiles in range(n_min, n_max + 1)
        for rows in range(1, tiles + 1)
        if tiles % rows == 0
    ]
    return sorted(grids, key=lambda g: (g[0] * g[1], abs(g[0] - g[1]), g))


def fit_scale(width: int, height: int, grid: Grid, tile_size: int) -> Fraction:
    """The largest scale at which the picture still fits the grid's canvas, exact."""
    rows, columns = grid
    return min(Fraction(rows * tile_size, height), Fraction(columns * tile_size, width))


def choose_grid(width: int, height: int, config: TilingConfig) -> Grid:
    """The grid of the dynamic policy for a picture of this size.

    `mm15` is Eq. 1 read literally: among the grids that cover the picture (scale ≥ 1)
    the one with least padding, else the one that shrinks it least. The tie-break, not
    published, is ours: fewest tiles, then the squarest grid.
    """
    grids = candidate_grids(config.n_min, config.n_max)
    scales = {g: fit_scale(width, height, g, config.tile_size) for g in grids}

    def padding(grid: Grid, scale: Fraction) -> Fraction:
        canvas = grid[0] * grid[1] * config.tile_size**2
        return canvas - scale * scale * width * height

    if config.grid_rule == "anyres":  # LLaVA: most effective pixels, then least waste
        natural = {g: min(s, Fraction(1)) for g, s in scales.items()}
        return min(grids, key=lambda g: (-natural[g], padding(g, natural[g])))
    covering = [g for g in grids if scales[g] >= 1]
    if covering:
        return min(covering, key=lambda g: padding(g, scales[g]))
    return max(grids, key=lambda g: scales[g])


@dataclass(frozen=True)
class Placement:
    """A picture of width × height resized to `resized` at `offset` of a canvas."""

    width: int
    height: int
    resized: tuple[int, int]  # width, height
    offset: tuple[int, int]  # x, y
    canvas: tuple[int, int]  # width, height

    def to_canvas(self, x: float, y: float) -> Point:
        """Pixels of the picture → pixels of the canvas."""
        return (
            self.offset[0] + x * self.resized[0] / self.width,
            self.offset[1] + y * self.resized[1] / self.height,
        )

    def to_picture(self, x: float, y: float) -> Point:
        """The exact inverse of `to_canvas`; padding maps outside the picture."""
        return (
            (x - self.offset[0]) * self.width / self.resized[0],
            (y - self.offset[1]) * self.height / self.resized[1],
        )


def place(width: int, height: int, grid: Grid, config: TilingConfig) -> Placement:
    """Longer-side resize onto the grid's canvas; padding at the end or around."""
    size = config.tile_size
    canvas = (grid[1] * size, grid[0] * size)
    scale = fit_scale(width, height, grid, size)
    resized = (max(1, round(width * scale)), max(1, round(height * scale)))
    offset = (0, 0)
    if config.pad_side == "center":
        offset = ((canvas[0] - resized[0]) // 2, (canvas[1] - resized[1]) // 2)
    return Placement(width, height, resized, offset, canvas)


@dataclass(frozen=True)
class Tiling:
    """How one picture becomes views.

    `indices` names the views in the order in which the model sees them: (row, column)
    from 1 for a tile, (0, 0) for the overview.
    """

    grid: Grid
    tile_size: int
    tiles: Placement
    overview: Placement
    indices: tuple[Grid, ...]

    @property
    def reach(self) -> Point:
        """How much of the tiles' canvas the picture covers, across and down."""
        (width, height), canvas = self.tiles.resized, self.tiles.canvas
        return width / canvas[0], height / canvas[1]

    def to_picture(self, view: int, x: float, y: float) -> Point:
        """Pixels of a view → pixels of the picture."""
        row, column = self.indices[view]
        if (row, column) == (0, 0):
            return self.overview.to_picture(x, y)
        size = self.tile_size
        return self.tiles.to_picture((column - 1) * size + x, (row - 1) * size + y)

    def to_view(self, view: int, x: float, y: float) -> Point:
        """Pixels of the picture → pixels of a view (outside 0…S if not in it)."""
        row, column = self.indices[view]
        if (row, column) == (0, 0):
            return self.overview.to_canvas(x, y)
        size = self.tile_size
        cx, cy = self.tiles.to_canvas(x, y)
        return cx - (column - 1) * size, cy - (row - 1) * size


def plan(width: int, height: int, config: TilingConfig, images: int = 1) -> Tiling:
    """The tiling of a width × height picture, one of `images` in the sample.

    Only samples of fewer than three pictures (`max_split_images`) are split. A picture
    of one tile has no overview: it would be the same view twice.
    """
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width} × {height} pixels cannot be tiled")
    grid = (1, 1)
    if images <= config.max_split_images:
        if config.policy == "dynamic":
            grid = choose_grid(width, height, config)
        elif config.policy == "static":
            grid = config.static_grid
    rows, columns = grid
    indices = [(r, c) for r in range(1, rows + 1) for c in range(1, columns + 1)]
    if grid != (1, 1) and config.overview == "before":
        indices.insert(0, (0, 0))
    elif grid != (1, 1) and config.overview == "after":
        indices.append((0, 0))
    return Tiling(
        grid,
        config.tile_size,
        place(width, height, grid, config),
        place(width, height, (1, 1), config),
        tuple(indices),
    )


def _paste(
    image: Image.Image, placement: Placement, color: tuple[int, ...]
) -> Image.Image:
    canvas = Image.new("RGB", placement.canvas, color)
    small = image.resize(placement.resized, Image.Resampling.BICUBIC)
    canvas.paste(small, placement.offset)
    return canvas


def cut(image: Image.Image, tiling: Tiling, config: TilingConfig) -> np.ndarray:
    """The views of an RGB picture, uint8 (V, S, S, 3), in the order of `indices`."""
    if image.size != (tiling.tiles.width, tiling.tiles.height):
        raise ValueError(
            f"the picture is {image.size[0]} × {image.size[1]}, the tiling was planned "
            f"for {tiling.tiles.width} × {tiling.tiles.height}"
        )
    size = tiling.tile_size
    canvas = np.asarray(_paste(image, tiling.tiles, config.pad_color))
    views = []
    for row, column in tiling.indices:
        if (row, column) == (0, 0):
            views.append(np.asarray(_paste(image, tiling.overview, config.pad_color)))
        else:
            y, x = (row - 1) * size, (column - 1) * size
            views.append(canvas[y : y + size, x : x + size])
    return np.stack(views)
