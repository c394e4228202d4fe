"""Screens as they may come: moved, scaled, cut, recoloured, blurred, compressed."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from mm15_mlx.convert.mm15_torch.samples import Row

SCALES = (0.85, 1.1)
KEPT = 0.6  # of an element's area, or it is left out


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

    return {**row, **_placed(row, scale, dx, dy, image.size)}, moved


def crop(
    row: Row, image: Image.Image, box: tuple[int, int, int, int]
) -> tuple[Row, Image.Image]:
    """A part of the screen, x1, y1, x2, y2 in its pixels, as a picture of its own."""
    part = image.crop(box)
    size = {"width": part.width, "height": part.height}
    return {**row, **size, **_placed(row, 1, -box[0], -box[1], part.size)}, part


def _placed(row: Row, scale: float, dx: float, dy: float, size: tuple[int, int]) -> Row:
    """Lines and elements, scaled and moved, of what is left of them in a picture of
    that size."""
    width, height = size

    def there(box: list[float]) -> list[float]:
        x1, y1, x2, y2 = box
        x1, x2 = (round(x * scale + dx, 1) for x in (x1, x2))
        y1, y2 = (round(y * scale + dy, 1) for y in (y1, y2))
        return [x1, y1, x2, y2]

    def inside(box: list[float]) -> list[float]:
        x1, y1, x2, y2 = box
        return [max(x1, 0), max(y1, 0), min(x2, width), min(y2, height)]

    texts = []
    for line in row["texts"]:
        box = there(line["box"])
        if box == inside(box):
            edges = [round(x * scale + dx, 1) for x in line["edges"]]
            texts.append({**line, "box": box, "edges": edges})
    elements = []
    for element in row["elements"]:
        box = there(element["box"])
        cut = inside(box)
        if _area(cut) >= KEPT * _area(box) > 0:
            elements.append({**element, "box": cut})
    return {"texts": texts, "elements": elements}


def _area(box: list[float]) -> float:
    x1, y1, x2, y2 = box
    return max(x2 - x1, 0) * max(y2 - y1, 0)
