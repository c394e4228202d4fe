"""python -m mm15_mlx.screens.check --screens DIR … --n 40 --sheet boxes.png

Does the annotated text stand where its box says? Text boxes are cropped and read by
RapidOCR (recognition only), which knows nothing of how the screens were made. The sheet
shows the first of them with their boxes, to look at.
"""

import argparse
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mm15_mlx.blas import usable_cores
from mm15_mlx.config import UserError
from mm15_mlx.evaluate import edit_similarity
from mm15_mlx.screens.sheet import (
    BACK,
    GAP,
    INK,
    Row,
    fitting,
    open_picture,
    read_rows,
    sheet_target,
)

Reader = Callable[[Image.Image], str]

AGREES = 0.8  # edit similarity
ENOUGH = 0.97  # of the texts must agree
WORST = 10  # disagreements that are listed
SHOWN, ACROSS, CELL = 60, 6, (300, 96)  # texts on a sheet, a line's, pixels of one
RED = "#d1242f"
HEIGHT = 64  # pixels; smaller crops are enlarged to it, the recogniser works at 48

# One drawing, several code points: a reader that returns the other one is not wrong.
# Letters and digits that look alike (l I 1, O 0) stay apart: they could hide a fault.
ALIKE = str.maketrans(
    dict.fromkeys("‘’‚′`´", "'")
    | dict.fromkeys("“”„″", '"')
    | dict.fromkeys("‐‑‒–—―−", "-")
    | dict.fromkeys("•∙⋅●", "·")
    | {"×": "x", "。": "."}
)


@dataclass(frozen=True)
class Sample:
    """One annotated text."""

    image: str
    kit: str
    text: str
    box: tuple[float, ...]


@dataclass(frozen=True)
class Reading:
    """A sample and what was read in its box."""

    sample: Sample
    read: str
    similarity: float
    exact: bool

    @property
    def agrees(self) -> bool:
        return self.similarity >= AGREES


def folded(text: str) -> str:
    """Without case, spaces and the differences between characters drawn alike."""
    text = text.translate(ALIKE)  # first: NFKC would take ´ apart into two
    text = unicodedata.normalize("NFKC", text).translate(ALIKE)
    return re.sub(r"\s+", "", text.casefold())


def readable(text: dict[str, Any]) -> bool:
    """Whether OCR can be expected to read it: whole, undimmed, with letters."""
    words = text["text"].strip()
    if text.get("dimmed") or words.endswith(("…", "...")):
        return False
    return len(words) >= 2 and any(c.isalnum() for c in words)


def pick(rows: Sequence[Row], n: int, seed: int) -> list[Sample]:
    """`n` texts, the kits in turn; no screen twice before all of its kit had one."""
    rng = Random(seed)
    screens: dict[str, list[list[Sample]]] = {}
    for row in rows:
        texts = [
            Sample(row["image"], row["kit"], text["text"], tuple(text["box"]))
            for text in row["texts"]
            if readable(text)
        ]
        rng.shuffle(texts)
        screens.setdefault(row["kit"], []).append(texts)
    queues = []
    for kit in sorted(screens):
        rng.shuffle(screens[kit])
        queues.append(_in_turn(screens[kit]))
    chosen = _in_turn([list(queue) for queue in queues])
    return [sample for _, sample in zip(range(n), chosen, strict=False)]


def _in_turn(lists: list[list[Sample]]) -> Iterator[Sample]:
    """The first of each list, then the second of each, and so on."""
    for depth in range(max(map(len, lists), default=0)):
        yield from (items[depth] for items in lists if depth < len(items))


def crop(picture: Image.Image, box: Sequence[float]) -> Image.Image:
    """The box with a small margin, enlarged where it is small."""
    x1, y1, x2, y2 = box
    margin = 2 + 0.2 * (y2 - y1)
    part = picture.crop(
        (
            max(0, round(x1 - margin)),
            max(0, round(y1 - margin)),
            min(picture.width, round(x2 + margin)),
            min(picture.height, round(y2 + margin)),
        )
    )
    if part.height >= HEIGHT:
        return part
    width = max(1, round(part.width * HEIGHT / part.height))
    return part.resize((width, HEIGHT), Image.Resampling.LANCZOS)


def rapid_reader() -> Reader:
    """RapidOCR's recogniser, with the models of its own wheel: nothing is fetched."""
    try:
        import onnxruntime  # noqa: F401  RapidOCR itself would only log its absence
        from rapidocr import RapidOCR
    except ImportError as e:
        raise UserError(
            f"screens.check needs {e.name}: pip install 'mm15-mlx[check]'"
        ) from e
    engine = RapidOCR(
        params={
            "Global.use_det": False,
            "Global.use_cls": False,
            "Global.use_preprocess_img": False,
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": usable_cores(),
        }
    )

    def read(picture: Image.Image) -> str:
        found = engine(picture)
        return (found.txts or ("",))[0]

    return read


def compare(folder: Path, samples: Sequence[Sample], reader: Reader) -> list[Reading]:
    """Reads every sample; each picture is opened once."""
    readings = []
    for image in dict.fromkeys(s.image for s in samples):
        picture = open_picture(folder, {"image": image})
        for sample in (s for s in samples if s.image == image):
            read = reader(crop(picture, sample.box))
            a, b = folded(sample.text), folded(read)
            readings.append(Reading(sample, read, edit_similarity(a, b), a == b))
    return readings


def gather(folders: Sequence[Path]) -> tuple[Path, list[Row]]:
    """The rows of all folders, and what their pictures' names are relative to."""
    if len(folders) == 1:
        return folders[0], read_rows(folders[0])
    return Path(), [
        {**row, "image": str(folder / row["image"])}
        for folder in folders
        for row in read_rows(folder)
    ]


def surroundings(picture: Image.Image, box: Sequence[float]) -> Image.Image:
    """A box, outlined, and what is around it, as large as a cell of the sheet."""
    x1, y1, x2, y2 = box
    factor = min((CELL[0] - 60) / (x2 - x1), (CELL[1] - 40) / (y2 - y1), 3)
    left = (x1 + x2) / 2 - CELL[0] / 2 / factor
    top = (y1 + y2) / 2 - CELL[1] / 2 / factor
    part = (left, top, left + CELL[0] / factor, top + CELL[1] / factor)
    cell = picture.transform(
        CELL, Image.Transform.EXTENT, part, Image.Resampling.BICUBIC, fillcolor=BACK
    )
    pen = ImageDraw.Draw(cell)
    near = [
        (v - o) * factor
        for v, o in zip(box, (left, top, left, top), strict=True)
    ]  # fmt: skip
    pen.rectangle(near, outline=RED)
    return cell


def draw_boxes(folder: Path, readings: Sequence[Reading]) -> Image.Image:
    """The first readings, each with its box, what was annotated and what was read."""
    shown, font = readings[:SHOWN], ImageFont.load_default(size=13)
    down, under = -(-len(shown) // ACROSS), round(2.8 * font.size)
    size = ACROSS * (CELL[0] + GAP) + GAP, down * (CELL[1] + under + GAP) + GAP
    sheet = Image.new("RGB", size, BACK)
    pen = ImageDraw.Draw(sheet)
    for k, reading in enumerate(shown):
        sample = reading.sample
        x = GAP + k % ACROSS * (CELL[0] + GAP)
        y = GAP + k // ACROSS * (CELL[1] + under + GAP)
        picture = open_picture(folder, {"image": sample.image})
        sheet.paste(surroundings(picture, sample.box), (x, y))
        words = (f"{sample.kit}: {sample.text}", f"read: {reading.read}")
        colors = (INK, INK if reading.agrees else RED)
        for line, (text, color) in enumerate(zip(words, colors, strict=True)):
            place = x, y + CELL[1] + 2 + line * round(1.3 * font.size)
            pen.text(place, fitting(text, CELL[0], font), fill=color, font=font)
    return sheet


def shares(readings: Sequence[Reading]) -> dict[str, Any]:
    """How many agree."""
    n = len(readings)
    return {
        "n": n,
        "agree": round(sum(r.agrees for r in readings) / n, 4),
        "exact": round(sum(r.exact for r in readings) / n, 4),
    }


def report(readings: Sequence[Reading]) -> dict[str, Any]:
    """All shares, and the readings that differ, the worst first."""
    kits = sorted({r.sample.kit for r in readings})
    differing = sorted((r for r in readings if not r.exact), key=lambda r: r.similarity)
    return {
        **shares(readings),
        "kits": {k: shares([r for r in readings if r.sample.kit == k]) for k in kits},
        "disagreements": [
            {**asdict(r.sample), "read": r.read, "similarity": round(r.similarity, 3)}
            for r in differing
        ],
    }


def as_text(found: dict[str, Any]) -> str:
    """The report for a person."""
    lines = [f"{'kit':<16} {'n':>5} {'agree':>7} {'exact':>7}"]
    for kit, part in [*found["kits"].items(), ("all", found)]:
        agree, exact = (f"{100 * part[k]:.1f} %" for k in ("agree", "exact"))
        lines.append(f"{kit:<16} {part['n']:>5} {agree:>7} {exact:>7}")
    for bad in found["disagreements"][:WORST]:
        box = ", ".join(f"{v:g}" for v in bad["box"])
        lines.append(
            f"{bad['similarity']:.2f} {bad['kit']} {bad['image']} [{box}] "
            f"annotated {bad['text']!r}, read {bad['read']!r}"
        )
    return "\n".join(lines)


def run(args: argparse.Namespace, reader: Reader | None = None) -> int:
    """Prints the report; 0, or 1 where too few texts agree."""
    if args.n < 1:
        raise UserError("--n must be at least 1")
    target = args.sheet and sheet_target(args.sheet, args.force)
    folder, rows = gather(args.screens)
    samples = pick(rows, args.n, args.seed)
    if not samples:
        names = ", ".join(map(str, args.screens))
        raise UserError(f"{names} has no text that OCR could read")
    readings = compare(folder, samples, reader or rapid_reader())
    found = report(readings)
    if target:
        draw_boxes(folder, readings).save(target)
    if args.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        print(as_text(found))
    return 0 if found["agree"] >= ENOUGH else 1


def main(arguments: Sequence[str] | None = None, reader: Reader | None = None) -> int:
    parser = argparse.ArgumentParser(prog="mm15_mlx.screens.check", description=__doc__)
    parser.add_argument(
        "--screens", required=True, type=Path, nargs="+", help="the folders"
    )
    parser.add_argument("--n", type=int, default=40, help="how many texts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--sheet", type=Path, help="draw the first texts there")
    parser.add_argument("--force", action="store_true", help="overwrite the sheet")
    args = parser.parse_args(arguments)
    try:
        return run(args, reader)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
