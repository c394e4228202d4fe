"""How many tiles a picture is cut into, in how many rows and columns.

MM1.5's rule (§3.5, Eq. 1) and those of the families whose checkpoints are imported.
Every rule takes the picture's width and height in pixels and gives rows, columns.
"""

import math
from fractions import Fraction

from mm15_mlx.config import TilingConfig

Grid = tuple[int, int]  # rows, columns


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


def one_tile(width: int, height: int, config: TilingConfig) -> Grid:
    return 1, 1


def static_grid(width: int, height: int, config: TilingConfig) -> Grid:
    return config.static_grid


def best_pinpoint(width: int, height: int, config: TilingConfig) -> Grid:
    """LLaVA's: most effective pixels, then least waste, then the first in the list."""
    size = config.tile_size

    def worth(grid: Grid) -> tuple[int, int]:
        rows, columns = grid
        scale = min(columns * size / width, rows * size / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        return effective, effective - rows * columns * size**2

    return max(config.pinpoints, key=worth)


def nearest_aspect(width: int, height: int, config: TilingConfig) -> Grid:
    """InternVL's: the nearest proportions; of equals the larger grid, as long as the
    picture has more than half of its pixels."""
    best, least = (1, 1), math.inf
    for rows, columns in candidate_grids(config.n_min, config.n_max):
        difference = abs(width / height - columns / rows)
        enough = width * height > 0.5 * config.tile_size**2 * rows * columns
        if difference < least or (difference == least and enough):
            best, least = (rows, columns), difference
    return best


def scaled_to_edge(width: int, height: int, edge: int) -> tuple[int, int]:
    """Idefics3's first resize: the longer side is `edge`, the other one even."""
    if width >= height:
        other = int(edge / (width / height))
        return edge, max(other + other % 2, 1)
    other = int(edge * (width / height))
    return max(other + other % 2, 1), edge


def whole_tiles(width: int, height: int, config: TilingConfig) -> Grid:
    """Idefics3's: both sides of the scaled picture rounded up to whole tiles."""
    size = config.tile_size
    width, height = scaled_to_edge(width, height, config.longest_edge)
    aspect = width / height
    if width >= height:
        columns = math.ceil(width / size)
        return max(1, math.ceil(int(columns * size / aspect) / size)), columns
    rows = math.ceil(height / size)
    return rows, max(1, math.ceil(int(rows * size * aspect) / size))
