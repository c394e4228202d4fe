"""A contact sheet of annotated screens: what the boxes say, at a glance.

`read_rows` and `draw_sheet` serve any folder of images/ and screens.jsonl.
"""

import json
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mm15_mlx.config import UserError

Row = dict[str, Any]

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
FIRST = 20  # screens on a sheet, unless told
WIDTH, COLUMNS, GAP = 360, 5, 12
BACK, INK = "#f4f4f2", "#202124"
TEXT_COLOR = "#ff4fd8"  # text boxes, whatever element they belong to
COLORS = {
    "button": "#e6194b",
    "link": "#0a84ff",
    "text": "#8d99ae",
    "input": "#2f9e44",
    "checkbox": "#f08c00",
    "radio": "#b35900",
    "switch": "#7048e8",
    "select": "#0c8599",
    "icon": "#fab005",
    "image": "#94d82d",
    "tab": "#22b8cf",
    "slider": "#5c7cfa",
    "menuitem": "#9c1f4f",
}
OTHER = "#000000"  # a type that is not in the table


def sheet_target(path: Path, force: bool) -> Path:
    """`path` if a sheet can be written there; ask before rendering anything."""
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"--sheet {path} must end in .png, .jpg or .webp")
    if path.is_dir():
        raise UserError(f"--sheet {path} is a folder; name a file")
    if not path.parent.is_dir():
        raise UserError(f"--sheet {path}: the folder {path.parent} does not exist")
    if path.exists() and not force:
        raise UserError(f"{path} exists; give --force to overwrite it")
    return path


def read_rows(folder: Path, first: int | None = None) -> list[Row]:
    """The rows of a folder of screens, or the first few of them."""
    index = folder / "screens.jsonl"
    if not folder.is_dir():
        raise UserError(f"the folder {folder} does not exist")
    if not index.is_file():
        raise UserError(f"{folder} has no screens.jsonl: render screens into it first")
    rows: list[Row] = []
    with index.open("rb") as lines:
        for number, line in enumerate(islice(lines, first), 1):
            if not line.endswith(b"\n"):
                break  # still being written
            try:
                rows.append(json.loads(line))
            except ValueError as e:
                raise UserError(f"{index}, line {number} is not JSON") from e
    if not rows:
        raise UserError(f"{index} has no finished row yet")
    return rows


def open_picture(folder: Path, row: Row) -> Image.Image:
    """The picture of a row, in RGB."""
    path = folder / row["image"]
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as e:
        raise UserError(f"the picture {path} cannot be read") from e


def draw_screen(picture: Image.Image, row: Row, width: int = WIDTH) -> Image.Image:
    """A small copy of a screen with its boxes: elements framed, texts tinted."""
    factor = width / picture.width
    small = picture.resize(
        (width, round(picture.height * factor)), Image.Resampling.LANCZOS
    )
    marked = small.copy()
    pen = ImageDraw.Draw(marked)
    for text in row["texts"]:
        pen.rectangle([v * factor for v in text["box"]], fill=TEXT_COLOR)
    small = Image.blend(small, marked, 0.3)
    pen = ImageDraw.Draw(small)
    for element in row["elements"]:
        x1, y1, x2, y2 = (v * factor for v in element["box"])
        color = COLORS.get(element["type"], OTHER)
        pen.rectangle((x1 - 2, y1 - 2, x2 + 2, y2 + 2), outline=color, width=2)
    return small


def draw_sheet(
    folder: Path, rows: Sequence[Row], columns: int = COLUMNS, width: int = WIDTH
) -> Image.Image:
    """All rows on one picture, captions below them and the colours on top."""
    cells = [draw_screen(open_picture(folder, row), row, width) for row in rows]
    columns = min(columns, len(cells))
    font = ImageFont.load_default(size=max(11, width // 20))
    line = round(1.5 * font.size)
    total = GAP + columns * (width + GAP)
    key = _key(total, font, line)
    heights = [
        max(cell.height for cell in cells[k : k + columns])
        for k in range(0, len(cells), columns)
    ]
    bottom = key.height + sum(height + line + GAP for height in heights)
    sheet = Image.new("RGB", (total, bottom), BACK)
    sheet.paste(key, (0, 0))
    pen = ImageDraw.Draw(sheet)
    y = key.height
    for k, (cell, row) in enumerate(zip(cells, rows, strict=True)):
        x = GAP + k % columns * (width + GAP)
        sheet.paste(cell, (x, y))
        caption = fitting(f"{row['kit']}/{row['layout']}", width, font)
        pen.text((x, y + cell.height + 2), caption, fill=INK, font=font)
        if k % columns == columns - 1:
            y += heights[k // columns] + line + GAP
    return sheet


def _key(width: int, font: Any, line: int) -> Image.Image:
    """Which colour is which type, in as many lines as it takes."""
    entries = [*COLORS.items(), ("text box", TEXT_COLOR)]
    places, x, y = [], GAP, GAP
    for name, color in entries:
        long = round(font.getlength(name)) + 2 * line
        if x > GAP and x + long > width:
            x, y = GAP, y + line
        places.append((x, y, name, color))
        x += long
    key = Image.new("RGB", (width, y + line + GAP // 2), BACK)
    pen = ImageDraw.Draw(key)
    for x, y, name, color in places:
        side = round(font.size)
        pen.rectangle((x, y + 2, x + side, y + 2 + side), fill=color)
        pen.text((x + side + 4, y), name, fill=INK, font=font)
    return key


def fitting(text: str, width: int, font: Any) -> str:
    """`text`, cut with an ellipsis where it is wider than its screen."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def write_sheet(folder: Path, target: Path, first: int = FIRST) -> int:
    """Draws the first screens of a folder; returns how many there were."""
    if first < 1:
        raise UserError("--sheet-of must be at least 1")
    rows = read_rows(folder, first)
    partial = target.with_name(f".{target.stem}.partial{target.suffix}")
    try:
        draw_sheet(folder, rows).save(partial)
        os.replace(partial, target)
    except OSError as e:
        raise UserError(f"--sheet {target} cannot be written: {e.strerror}") from e
    finally:
        partial.unlink(missing_ok=True)
    return len(rows)
