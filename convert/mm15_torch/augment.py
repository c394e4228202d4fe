"""Screens as they may come: moved, scaled, of other colours, blurred, compressed."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from mm15_mlx.convert.mm15_torch.samples import Row
from mm15_mlx.screens.crops import placed

SCALES = (0.85, 1.1)


def recolour(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Inversion, gain, offset and noise, each picture its own: uint8 (N, H, W, 3) →
    float32 in 0…1."""
    x = images.astype(np.float32) / 255
    n = len(x)
    shape = (n, 1, 1, 1)
    x = np.where(rng.random(shape) < 0.25, 1 - x, x)
    gain = rng.uniform(0.75, 1.1, (n, 1, 1, 3)).astype(np.float32)
    offset = rng.uniform(-0.08, 0.12, shape).astype(np.float32)
    noise = rng.uniform(0, 0.03, shape).astype(np.float32)
    grain = rng.standard_normal((*x.shape[:3], 1), np.float32)
    return np.clip(x * gain + (offset + noise * grain), 0, 1)


def spoil(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One picture in four blurred a little, one in four compressed as JPEG: uint8
    (H, W, 3)."""
    blurred, compressed = rng.random(2) < 0.25
    image = Image.fromarray(picture)
    if blurred:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.8)))
    if compressed:
        kept = BytesIO()
        image.save(kept, "JPEG", quality=int(rng.integers(35, 90)))
        image = Image.open(kept)
    return np.asarray(image)


def spoilt(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One picture, uint8 (H, W, 3), with both: float32 in 0…1."""
    return recolour(spoil(picture, rng)[None], rng)[0]


def move(
    row: Row, image: Image.Image, rng: np.random.Generator
) -> tuple[Row, Image.Image]:
    """The screen larger or smaller somewhere on a picture of that size, and its row.

    Around it is the colour of its corner. Lines that are cut are left out, elements end
    at the picture's edge.
    """
    width, height = image.size
    scale = rng.uniform(*SCALES)
    dx, dy = (rng.uniform(*sorted((0, n * (1 - scale)))) for n in (width, height))
    around = image.getpixel((0, 0))
    back = (1 / scale, 0, -dx / scale, 0, 1 / scale, -dy / scale)
    moved = image.transform(
        image.size, Image.Transform.AFFINE, back, Image.Resampling.BICUBIC,
        fillcolor=around,
    )  # fmt: skip

    return {**row, **placed(row, scale, dx, dy, image.size)}, moved
