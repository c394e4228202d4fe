"""Views, their pixels and the order of their tokens, against transformers' own.

transformers gives float32 pixels after rescaling; tolerance is a grey level, 1/255.
"""

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from PIL import Image

from mm15_mlx.config import TilingConfig
from mm15_mlx.tiling import NEWLINE, cut, plan

from .conftest import Compare
from .processors import (
    GotOcr2ImageProcessorPil,
    Idefics3ImageProcessorPil,
    LlavaImageProcessorPil,
    LlavaNextImageProcessorPil,
    SiglipImageProcessorPil,
    get_anyres_image_grid_shape,
    unpad_image,
)

pytestmark = pytest.mark.parity

SIZES = {
    "square": (300, 300), "phone": (117, 253), "wide": (640, 150), "tiny": (5, 3),
    "thin": (700, 4), "tile": (56, 56),
}  # fmt: skip
PINPOINTS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
GREY = 1 / 255 + 1e-6


def picture(name: str) -> Image.Image:
    width, height = SIZES[name]
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
    smooth = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.integers(-9, 10, (height, width, 3))
    pixels = np.asarray(smooth).astype(int) + noise
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def views(image: Image.Image, config: TilingConfig) -> mx.array:
    return mx.array(cut(image, plan(*image.size, config), config) / np.float32(255))


def theirs(processor: Any, image: Image.Image) -> torch.Tensor:
    pixels = processor(image, return_tensors="pt", do_normalize=False)["pixel_values"]
    if pixels.ndim == 5:
        pixels = pixels[0]
    return pixels.permute(0, 2, 3, 1)  # (V, S, S, 3)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("edge", [56, 168, 250])
def test_idefics3(name: str, edge: int, compare: Compare) -> None:
    config = TilingConfig(
        tile_size=56, policy="longest_edge", longest_edge=edge, resample="lanczos"
    )
    processor = Idefics3ImageProcessorPil(
        size={"longest_edge": edge}, max_image_size={"longest_edge": 56}
    )
    image = picture(name)
    ours = views(image, config)
    compare("views of Idefics3", ours, theirs(processor, image), GREY)
    info = processor(image, return_row_col_info=True)
    grid = (info["rows"][0][0], info["cols"][0][0])
    expected = plan(*image.size, config).grid
    assert grid == (expected if len(ours) > 1 else (0, 0))


@pytest.mark.parametrize("name", SIZES)
def test_llava_next(name: str, compare: Compare) -> None:
    config = TilingConfig(
        tile_size=56, policy="pinpoints", pinpoints=PINPOINTS, pad_side="center",
        overview="before",
    )  # fmt: skip
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56},
        image_grid_pinpoints=[[r * 56, c * 56] for r, c in PINPOINTS],
    )  # fmt: skip
    image = picture(name)
    compare("views of LLaVA-NeXT", views(image, config), theirs(processor, image), GREY)


@pytest.mark.parametrize("name", SIZES)
def test_internvl(name: str, compare: Compare) -> None:
    config = TilingConfig(tile_size=56, policy="aspect", n_min=1, n_max=12)
    processor = GotOcr2ImageProcessorPil(
        size={"height": 56, "width": 56}, crop_to_patches=True, max_patches=12
    )
    image = picture(name)
    compare("views of InternVL", views(image, config), theirs(processor, image), GREY)


@pytest.mark.parametrize("name", SIZES)
def test_llava(name: str, compare: Compare) -> None:
    config = TilingConfig(tile_size=56, policy="pad_square", pad_color=(122, 116, 104))
    processor = LlavaImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, do_pad=True
    )
    image = picture(name)
    compare("view of LLaVA-1.5", views(image, config), theirs(processor, image), GREY)


@pytest.mark.parametrize("name", SIZES)
def test_squash(name: str, compare: Compare) -> None:
    config = TilingConfig(tile_size=56, policy="squash")
    processor = SiglipImageProcessorPil(size={"height": 56, "width": 56}, resample=3)
    image = picture(name)
    compare("view of CLIP", views(image, config), theirs(processor, image), GREY)


# --- the order of visual tokens -----------------------------------------------------

ODD = [(88, 187), (187, 88), (333, 1000), (1000, 999), (17, 5), (2, 1999), (640, 480)]


@pytest.mark.parametrize("size", [*SIZES.values(), *ODD])
def test_llava_next_packs_as_transformers_does(size: tuple[int, int]) -> None:
    """Tokens numbered from 0 through the model's own packing, its newline as -1."""
    side, tile = 24, 336
    config = TilingConfig(
        tile_size=tile, policy="pinpoints", pinpoints=PINPOINTS, pad_side="center",
        overview="before", indicator="none", merge="spatial_unpad",
    )  # fmt: skip
    tiling = plan(*size, config)
    width, height = size
    pinpoints = [[r * tile, c * tile] for r, c in PINPOINTS]
    grid = get_anyres_image_grid_shape((height, width), pinpoints, tile)
    assert tiling.grid == tuple(grid)
    count = 1 + math.prod(grid)
    features = torch.arange(count * side**2).reshape(count, side**2, 1)
    base, tiles = features[0], features[1:]
    whole = tiles.view(*grid, side, side, 1).permute(4, 0, 2, 1, 3).flatten(1, 2)
    whole = unpad_image(whole.flatten(2, 3), (height, width))
    newline = torch.full((1, whole.shape[1], 1), NEWLINE)
    whole = torch.cat((whole, newline), dim=-1).flatten(1, 2).transpose(0, 1)
    expected = torch.cat((base, whole)).flatten()
    assert tiling.packing(side).tolist() == expected.tolist()
