"""Parts of annotated screens as pictures of their own, as people cut them.

Run: python -m mm15_mlx.screens.crops --screens DIR --out DIR
"""

import argparse
import json
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from mm15_mlx.screens.sheet import read_rows

Row = dict[str, Any]
Size = tuple[int, int]  # width, height
KEPT = 0.6  # of an element's area, or it is left out
PARTS = (0.5, 1.0), (0.2, 0.8)  # of a screen's width and height


def part_size(size: Size, rng: Random) -> Size:
    """Width and height of a part of a screen."""
    width, height = (
        round(n * rng.uniform(*p)) for n, p in zip(size, PARTS, strict=True)
    )
    return width, height


def part_of(size: Size, part: Size, rng: Random) -> tuple[int, int, int, int]:
    """Where a part of that size may lie: x1, y1, x2, y2."""
    x, y = (rng.randint(0, whole - n) for whole, n in zip(size, part, strict=True))
    return x, y, x + part[0], y + part[1]


def crop(
    row: Row, image: Image.Image, box: tuple[int, int, int, int]
) -> tuple[Row, Image.Image]:
    """A part of the screen, x1, y1, x2, y2 in its pixels, as a picture of its own."""
    part = image.crop(box)
    size = {"width": part.width, "height": part.height}
    return {**row, **size, **placed(row, 1, -box[0], -box[1], part.size)}, part


def placed(row: Row, scale: float, dx: float, dy: float, size: Size) -> Row:
    """Lines and elements, scaled and moved, as far as they are in a picture of that
    size: lines that are cut are left out, elements end at the picture's edge."""
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    with (args.out / "screens.jsonl").open("w", encoding="utf-8") as rows:
        for row in read_rows(args.screens):
            rng = Random(f"{args.seed}-{row['id']}")
            with Image.open(args.screens / row["image"]) as image:
                box = part_of(image.size, part_size(image.size, rng), rng)
                made, part = crop(row, image.convert("RGB"), box)
            made |= {
                "id": f"{row['id']}-part",
                "image": f"images/{row['id']}-part.webp",
            }
            part.save(args.out / made["image"], quality=95)
            rows.write(json.dumps(made, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
