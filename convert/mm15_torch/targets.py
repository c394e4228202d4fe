"""What every patch of every tile shows, from a screen's row: the dense targets.

V tiles, P patches a side. A cell is 8 × 4 px: three rows and six columns to a patch.
Boxes are in pixels of the canvas, NaN where a patch belongs to nothing.
"""

from dataclasses import dataclass
from math import ceil, floor

import numpy as np

from mm15_mlx.config import PRESETS, CoordinateConfig
from mm15_mlx.convert.mm15_torch.glyphs import CLASS_OF, NUM_CLASSES
from mm15_mlx.convert.mm15_torch.samples import Row
from mm15_mlx.prompt import frame_size
from mm15_mlx.screens.icons import NAMES
from mm15_mlx.tiling import Tiling
from mm15_mlx.ui import ELEMENT_TYPES

PATCH = PRESETS["nano-ui"].vision_config.patch_size
CELLS_Y, CELLS_X = 3, 6  # cells in one patch
CELL_H, CELL_W = PATCH // CELLS_Y, PATCH // CELLS_X

TYPE_OF = {name: i + 1 for i, name in enumerate(ELEMENT_TYPES)}
ICON_OF = {name: i + 1 for i, name in enumerate(sorted(NAMES))}
SIZES = {
    "glyphs": NUM_CLASSES,
    "types": len(TYPE_OF) + 1,
    "icons": len(ICON_OF) + 1,
}


@dataclass
class Targets:
    """glyphs (V, P, P, cells), types and icons (V, P, P), boxes (V, P, P, 4)."""

    glyphs: np.ndarray
    types: np.ndarray
    icons: np.ndarray
    texts: np.ndarray  # box of the line of text
    elements: np.ndarray  # box of the innermost element


def by_patch(cells: np.ndarray) -> np.ndarray:
    """(V, rows, columns) of cells → (V, P, P, cells of a patch)."""
    v, rows, columns = cells.shape
    shape = (v, rows // CELLS_Y, CELLS_Y, columns // CELLS_X, CELLS_X)
    return cells.reshape(shape).swapaxes(2, 3).reshape(v, shape[1], shape[3], -1)


def centres(low: float, high: float, pitch: int) -> slice:
    """Cells of `pitch` pixels whose centre lies between; at least one."""
    start, stop = ceil(low / pitch - 0.5), ceil(high / pitch - 0.5)
    if start == stop:
        start = floor((low + high) / 2 / pitch)
        stop = start + 1
    return slice(max(start, 0), max(stop, 0))


def split_tiles(canvas: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """(rows · h, columns · w, …) → (tiles, h, w, …), row by row."""
    rows, columns = grid
    h, w = canvas.shape[0] // rows, canvas.shape[1] // columns
    tiles = canvas.reshape(rows, h, columns, w, *canvas.shape[2:])
    return tiles.swapaxes(1, 2).reshape(-1, h, w, *canvas.shape[2:])


def _canvas_box(box: list[float], tiling: Tiling) -> tuple[float, float, float, float]:
    return (*tiling.tiles.to_canvas(*box[:2]), *tiling.tiles.to_canvas(*box[2:]))


def in_tiles(boxes: np.ndarray, tiling: Tiling) -> np.ndarray:
    """Boxes of `Targets` in pixels of their tile, clipped to it."""
    size = tiling.tile_size
    tile = np.arange(len(boxes))
    x, y = tile % tiling.grid[1] * size, tile // tiling.grid[1] * size
    corner = np.stack([x, y, x, y], -1)[:, None, None]
    return np.clip(boxes - corner, 0, size).astype(np.float32)


def in_model(
    boxes: np.ndarray, tiling: Tiling, coordinates: CoordinateConfig
) -> np.ndarray:
    """Boxes of `Targets` as the model's whole numbers, (…, 4)."""
    scale = coordinates.range
    numbers = boxes / np.array(frame_size(coordinates, tiling) * 2) * scale
    return np.clip(np.nan_to_num(numbers), 0, scale).round().astype(np.int64)


def screen_targets(row: Row, tiling: Tiling) -> Targets:
    """The targets of a screen's tiles."""
    rows, columns = (n * tiling.tile_size for n in tiling.grid)
    glyphs = np.zeros((rows // CELL_H, columns // CELL_W), np.uint8)
    shape = (rows // PATCH, columns // PATCH)
    types, icons = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    texts, elements = (np.full((*shape, 4), np.nan, np.float32) for _ in range(2))
    overlap = np.zeros(shape, np.float32)
    for line in row["texts"]:
        x1, y1, x2, y2 = _canvas_box(line["box"], tiling)
        edges = [tiling.tiles.to_canvas(x, 0)[0] for x in line["edges"]]
        band = centres(y1, y2, CELL_H)
        for char, left, right in zip(line["text"], edges, edges[1:], strict=False):
            start, stop = ceil(left / CELL_W - 0.5), ceil(right / CELL_W - 0.5)
            glyphs[band, max(start, 0) : max(stop, 0)] = CLASS_OF.get(char, 0)
        r = slice(floor(y1 / PATCH), ceil(y2 / PATCH))
        c = slice(floor(x1 / PATCH), ceil(x2 / PATCH))
        ys = np.arange(shape[0])[r] * PATCH
        xs = np.arange(shape[1])[c] * PATCH
        high = np.minimum(ys + PATCH, y2) - np.maximum(ys, y1)
        wide = np.minimum(xs + PATCH, x2) - np.maximum(xs, x1)
        area = np.outer(high, wide)
        area[high < 0.4 * min(PATCH, y2 - y1)] = 0
        better = area > overlap[r, c]
        overlap[r, c][better] = area[better]
        texts[r, c][better] = (x1, y1, x2, y2)
    for e in sorted(row["elements"], key=_area, reverse=True):
        x1, y1, x2, y2 = _canvas_box(e["box"], tiling)
        place = centres(y1, y2, PATCH), centres(x1, x2, PATCH)
        types[place] = TYPE_OF[e["type"]]
        icons[place] = ICON_OF.get(e.get("icon") or "", 0)
        elements[place] = (x1, y1, x2, y2)
    return Targets(
        by_patch(split_tiles(glyphs, tiling.grid)),
        split_tiles(types, tiling.grid),
        split_tiles(icons, tiling.grid),
        split_tiles(texts, tiling.grid),
        split_tiles(elements, tiling.grid),
    )


def _area(element: Row) -> float:
    x1, y1, x2, y2 = element["box"]
    return (x2 - x1) * (y2 - y1)


def halves_in(box: list[float], tiling: Tiling, side: int) -> np.ndarray:
    """How much of a box of the picture's pixels lies in the upper and in the lower half
    of each visual token, `side`² a tile: (2, tiles · side²), pixels of the canvas.

    Lines lie where they want, so that where one is takes halves of tokens.
    """
    x1, y1, x2, y2 = _canvas_box(box, tiling)
    size = tiling.tile_size / side
    rows, columns = tiling.grid
    overlaps = []
    for count, pitch, low, high in (
        (rows * side * 2, size / 2, y1, y2),
        (columns * side, size, x1, x2),
    ):
        start = np.arange(count) * pitch
        reach = np.minimum(start + pitch, high) - np.maximum(start, low)
        overlaps.append(np.clip(reach, 0, None))
    area = split_tiles(np.outer(*overlaps), tiling.grid)  # (tiles, 2 · side, side)
    area = area.reshape(-1, side, 2, side).transpose(2, 0, 1, 3)
    return area.reshape(2, -1).astype(np.float32)


def edges_in(
    halves: np.ndarray, grid: tuple[int, int], side: int, share: float
) -> np.ndarray:
    """Tokens that hold an edge of a box, of what `halves_in` gives: (4, tokens) bool,
    left, top, right and bottom, each as long as the box. A token counts where one half
    of it holds `share` of what the fullest holds."""
    rows, columns = grid
    inside = halves.max(0)
    inside = inside >= share * max(float(inside.max()), 1e-6)
    canvas = inside.reshape(rows, columns, side, side).swapaxes(1, 2)
    canvas = canvas.reshape(rows * side, columns * side)
    y, x = np.nonzero(canvas)
    edges = np.zeros((4, *canvas.shape), bool)
    if len(y):
        edges[0][:, x.min()] = edges[1][y.min()] = True
        edges[2][:, x.max()] = edges[3][y.max()] = True
    edges &= canvas
    tiles = edges.reshape(4, rows, side, columns, side).swapaxes(2, 3)
    return tiles.reshape(4, -1)


def page_glyphs(classes: np.ndarray) -> np.ndarray:
    """(B, S, S) character of each pixel → (B, P, P, cells) at each cell's centre."""
    picked = classes[:, CELL_H // 2 :: CELL_H, CELL_W // 2 :: CELL_W]
    return by_patch(picked)
