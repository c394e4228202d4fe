"""Image splitting (MM1.5 §3.5): which grid, which views, and the way back.

A picture is resized onto a canvas of rows × columns tiles, without distortion and then
padded (MM1.5), and cut into square *tiles*; the *overview* is the whole picture in one
square. Tiles and overview are all *views*. Other families' policies stand beside
MM1.5's in one table, `POLICIES`. This file knows sizes and pixels, nothing of models.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mm15_mlx.config import TilingConfig
from mm15_mlx.grids import (
    Grid,
    best_pinpoint,
    choose_grid,
    fit_scale,
    nearest_aspect,
    one_tile,
    scaled_to_edge,
    static_grid,
    whole_tiles,
)

Point = tuple[float, float]
OVERVIEW: Grid = (0, 0)  # the index of that view
NEWLINE = -1  # in a packing: the newline embedding


@dataclass(frozen=True)
class Placement:
    """A picture of width × height resized to `resized` at `offset` of a canvas."""

    width: int
    height: int
    resized: Point  # width, height
    offset: Point  # x, y
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


@dataclass(frozen=True)
class Tiling:
    """How one picture becomes views.

    `indices` names the views in the order in which the model sees them: (row, column)
    from 1 for a tile, (0, 0) for the overview. `merge` is `TilingConfig.merge`.
    """

    grid: Grid
    tile_size: int
    tiles: Placement
    overview: Placement
    indices: tuple[Grid, ...]
    merge: str = "flat"

    def to_picture(self, view: int, x: float, y: float) -> Point:
        """Pixels of a view → pixels of the picture."""
        row, column = self.indices[view]
        if (row, column) == OVERVIEW:
            return self.overview.to_picture(x, y)
        size = self.tile_size
        return self.tiles.to_picture((column - 1) * size + x, (row - 1) * size + y)

    def to_view(self, view: int, x: float, y: float) -> Point:
        """Pixels of the picture → pixels of a view (outside 0…S if not in it)."""
        row, column = self.indices[view]
        if (row, column) == OVERVIEW:
            return self.overview.to_canvas(x, y)
        size = self.tile_size
        cx, cy = self.tiles.to_canvas(x, y)
        return cx - (column - 1) * size, cy - (row - 1) * size

    def packing(self, side: int) -> np.ndarray:
        """Which visual token stands where: (T,), indices into (V · side²).

        Every view has side² tokens in reading order. `NEWLINE` stands for the newline
        embedding. The T of it is what the picture takes of the context.
        """
        views = np.arange(len(self.indices) * side**2).reshape(-1, side, side)
        if self.merge == "flat":
            return views.flatten()
        unpadded = self.merge in _ROUNDINGS
        if len(views) == 1:  # one newline at the end, as Hugging Face has it
            return np.append(views.flatten(), [NEWLINE] * unpadded)
        tiles = [v for v, index in enumerate(self.indices) if index != OVERVIEW]
        whole = views[tiles].reshape(*self.grid, side, side).transpose(0, 2, 1, 3)
        whole = whole.reshape(self.grid[0] * side, -1)  # rows, columns of the canvas
        if unpadded:
            whole = _unpad(whole, self.tiles, _ROUNDINGS[self.merge])
            whole = np.pad(whole, ((0, 0), (0, 1)), constant_values=NEWLINE)
        parts = [whole.flatten()]
        if OVERVIEW in self.indices:
            place = self.indices.index(OVERVIEW)
            parts.insert(1 if place else 0, views[place].flatten())
        return np.concatenate(parts)

    def tokens(self, side: int) -> int:
        """Visual tokens of the picture, newlines included, at side² a view."""
        return len(self.packing(side))


# Hugging Face rounds away the error of a floating-point product, LLaVA's code does not.
_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "spatial_unpad": lambda x: int(round(x, 7)),
    "spatial_unpad_floor": int,
}


def _unpad(
    whole: np.ndarray, picture: Placement, rounding: Callable[[float], int]
) -> np.ndarray:
    """A map of the canvas without the rows or columns that are padding alone."""
    rows, columns = whole.shape
    if picture.width / picture.height > columns / rows:
        kept = rounding(picture.height * (columns / picture.width))
        padding = (rows - kept) // 2
        return whole[padding : rows - padding]
    kept = rounding(picture.width * (rows / picture.height))
    padding = (columns - kept) // 2
    return whole[:, padding : columns - padding]


# --- placements: where on the canvas the picture lies --------------------------------


def place(width: int, height: int, grid: Grid, config: TilingConfig) -> Placement:
    """Longer-side resize onto the grid's canvas; padding at the end or around."""
    scale = fit_scale(width, height, grid, config.tile_size)
    resized = (max(1, round(width * scale)), max(1, round(height * scale)))
    return _padded(width, height, resized, grid, config)


def _padded(
    width: int, height: int, resized: tuple[int, int], grid: Grid, config: TilingConfig
) -> Placement:
    canvas = (grid[1] * config.tile_size, grid[0] * config.tile_size)
    offset = (0, 0)
    if config.pad_side == "center":
        offset = ((canvas[0] - resized[0]) // 2, (canvas[1] - resized[1]) // 2)
    return Placement(width, height, resized, offset, canvas)


def _stretch(width: int, height: int, grid: Grid, config: TilingConfig) -> Placement:
    canvas = (grid[1] * config.tile_size, grid[0] * config.tile_size)
    return Placement(width, height, canvas, (0, 0), canvas)


def _fit_pinpoint(
    width: int, height: int, grid: Grid, config: TilingConfig
) -> Placement:
    """Like `place`, but the shorter side is rounded up, as LLaVA does."""
    if config.pad_side == "none":
        return _stretch(width, height, grid, config)
    high, wide = grid[0] * config.tile_size, grid[1] * config.tile_size
    across, down = wide / width, high / height
    if across < down:
        resized = (wide, min(math.ceil(height * across), high))
    else:
        resized = (min(math.ceil(width * down), wide), high)
    return _padded(width, height, resized, grid, config)


def _centre_in_square(
    width: int, height: int, grid: Grid, config: TilingConfig
) -> Placement:
    """The picture is padded to a square first, so its edges fall between pixels."""
    size, side = config.tile_size, max(width, height)
    x, y = (side - width) // 2, (side - height) // 2
    return Placement(
        width, height,
        (width * size / side, height * size / side),
        (x * size / side, y * size / side),
        (size, size),
    )  # fmt: skip


# --- pixels -------------------------------------------------------------------------

_LARGEST_SQUARE = 8192  # pixels a side
_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}


def _paste(
    image: Image.Image, placement: Placement, config: TilingConfig
) -> Image.Image:
    width, height = placement.resized
    small = image.resize((int(width), int(height)), _FILTERS[config.resample])
    if small.size == placement.canvas:
        return small
    canvas = Image.new("RGB", placement.canvas, config.pad_color)
    x, y = placement.offset
    canvas.paste(small, (int(x), int(y)))
    return canvas


def _paste_scaled(
    image: Image.Image, placement: Placement, config: TilingConfig
) -> Image.Image:
    """Idefics3 resizes twice, which gives other pixels than once."""
    scaled = scaled_to_edge(*image.size, config.longest_edge)
    resample = _FILTERS[config.resample]
    return image.resize(scaled, resample).resize(placement.canvas, resample)


def _paste_in_square(
    image: Image.Image, placement: Placement, config: TilingConfig
) -> Image.Image:
    width, height = image.size
    side = max(width, height)
    if side > _LARGEST_SQUARE:  # a long thin picture would need the square of its side
        scale = _LARGEST_SQUARE / side
        width, height = (max(1, round(v * scale)) for v in image.size)
        image, side = image.resize((width, height)), _LARGEST_SQUARE
    square = Image.new("RGB", (side, side), config.pad_color)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square.resize(placement.canvas, _FILTERS[config.resample])


def _of_picture(
    image: Image.Image, canvas: Image.Image, tiling: Tiling, config: TilingConfig
) -> Image.Image:
    return _paste(image, tiling.overview, config)


def _of_canvas(
    image: Image.Image, canvas: Image.Image, tiling: Tiling, config: TilingConfig
) -> Image.Image:
    return canvas.resize(tiling.overview.canvas, _FILTERS[config.resample])


# --- policies -----------------------------------------------------------------------

Choose = Callable[[int, int, TilingConfig], Grid]
Place = Callable[[int, int, Grid, TilingConfig], Placement]
Paste = Callable[[Image.Image, Placement, TilingConfig], Image.Image]
Shrink = Callable[[Image.Image, Image.Image, Tiling, TilingConfig], Image.Image]


@dataclass(frozen=True)
class Policy:
    """A family's way: the grid, where the picture lies on the tiles' canvas and on the
    overview's, and how pixels get there."""

    grid: Choose
    tiles: Place = _stretch
    overview: Place = _stretch
    paste: Paste = _paste
    shrink: Shrink = _of_picture


POLICIES: dict[str, Policy] = {
    "dynamic": Policy(choose_grid, place, place),
    "static": Policy(static_grid, place, place),
    "none": Policy(one_tile, place, place),
    "longest_edge": Policy(whole_tiles, paste=_paste_scaled, shrink=_of_canvas),
    "pinpoints": Policy(best_pinpoint, _fit_pinpoint),
    "aspect": Policy(nearest_aspect),
    "pad_square": Policy(
        one_tile, _centre_in_square, _centre_in_square, _paste_in_square
    ),
    "squash": Policy(one_tile),
}  # fmt: skip


def plan(width: int, height: int, config: TilingConfig, images: int = 1) -> Tiling:
    """The tiling of a width × height picture, one of `images` in the sample.

    Only samples of fewer than three pictures (`max_split_images`) are split. A picture
    of one tile has no overview: it would be the same view twice.
    """
    if width < 1 or height < 1:
        raise ValueError(f"a picture of {width} × {height} pixels cannot be tiled")
    policy = POLICIES[config.policy]
    overview = policy.overview(width, height, (1, 1), config)
    grid, tiles = (1, 1), overview
    if images <= config.max_split_images:
        grid = policy.grid(width, height, config)
        tiles = policy.tiles(width, height, grid, config)
    rows, columns = grid
    indices = [(r, c) for r in range(1, rows + 1) for c in range(1, columns + 1)]
    if grid != (1, 1) and config.overview == "before":
        indices.insert(0, OVERVIEW)
    elif grid != (1, 1) and config.overview == "after":
        indices.append(OVERVIEW)
    return Tiling(grid, config.tile_size, tiles, overview, tuple(indices), config.merge)


def cut(image: Image.Image, tiling: Tiling, config: TilingConfig) -> np.ndarray:
    """The views of an RGB picture, uint8 (V, S, S, 3), in the order of `indices`."""
    if image.size != (tiling.tiles.width, tiling.tiles.height):
        raise ValueError(
            f"the picture is {image.size[0]} × {image.size[1]}, the tiling was planned "
            f"for {tiling.tiles.width} × {tiling.tiles.height}"
        )
    size = tiling.tile_size
    policy = POLICIES[config.policy]
    pasted = policy.paste(image, tiling.tiles, config)
    canvas = np.asarray(pasted)
    views = []
    for row, column in tiling.indices:
        if (row, column) == OVERVIEW:
            views.append(np.asarray(policy.shrink(image, pasted, tiling, config)))
        else:
            y, x = (row - 1) * size, (column - 1) * size
            views.append(canvas[y : y + size, x : x + size])
    return np.stack(views)
