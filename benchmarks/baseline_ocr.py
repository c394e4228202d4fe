"""OCR and fuzzy matching on the tasks find_text and ocr: what `nano-ui` is held to.

RapidOCR (extra `check`) detects and reads the lines of a screen. A text is found where
a line, or a part of one, is nearest to it; the text in a box is what the lines have
there. Parts of lines are cut in proportion to their characters: our choice. The last
line of stdout is one JSON document.

Run: python benchmarks/baseline_ocr.py benchmarks/data/kits.jsonl
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tables import field_table, main_table

from mm15_mlx.blas import usable_cores
from mm15_mlx.config import UserError
from mm15_mlx.evaluate import (
    Prediction,
    Row,
    edit_similarity,
    read_tasks,
    score,
    summary,
)
from mm15_mlx.images import load_picture
from mm15_mlx.scores import Place, Said

TASKS = ("find_text", "ocr")
NAME = "RapidOCR + fuzzy matching"
# RapidOCR's boxes leave a margin around a line, a share of their height. Median of 180
# lines of 12 training screens, ten kits: 0.18 above and below, 0.19 at the sides.
MARGIN = 0.19


@dataclass(frozen=True)
class Line:
    """A line of text and its box x1, y1, x2, y2 in pixels."""

    text: str
    box: tuple[float, float, float, float]

    def part(self, start: int, end: int) -> tuple[float, float, float, float]:
        """The box of characters `start` to `end`, all taken as equally wide."""
        x1, y1, x2, y2 = self.box
        step = (x2 - x1) / len(self.text)
        return x1 + start * step, y1, x1 + end * step, y2


def without_margin(box: Sequence[float]) -> tuple[float, float, float, float]:
    """A detected box x1, y1, x2, y2, tight around its line as the annotations are."""
    x1, y1, x2, y2 = box
    down = MARGIN * (y2 - y1)
    side = min(down, (x2 - x1) / 4)  # a lone letter keeps half of its box
    return x1 + side, y1 + down, x2 - side, y2 - down


Ocr = Callable[[str], list[Line]]


def nearest_part(query: str, text: str) -> tuple[int, int, int]:
    """(edits, start, end) of the part of `text` that is nearest to `query`."""
    row = [(0, k) for k in range(len(text) + 1)]  # (edits, where the part starts)
    for i, wanted in enumerate(query, 1):
        last, row[0] = row[0], (i, 0)
        for k, char in enumerate(text, 1):
            same = (last[0] + (wanted != char), last[1])
            skip = (row[k - 1][0] + 1, row[k - 1][1])
            more = (row[k][0] + 1, row[k][1])
            last, row[k] = row[k], min(same, skip, more, key=lambda c: c[0])
    # of equally near parts the one of the query's length: a misread letter is a letter
    end = min(
        range(len(row)), key=lambda k: (row[k][0], abs(k - row[k][1] - len(query)))
    )
    return row[end][0], row[end][1], end


def find(query: str, lines: Sequence[Line]) -> tuple[float, float, float, float] | None:
    """The box of the line, or the part of one, that is nearest to `query`.

    Of parts that are equally near, the one that leaves the least of its line out wins:
    `7` is rather the line 7 than a digit of 17.
    """
    best, box = (0.0, 0.0), None
    wanted = query.casefold()
    for line in lines:
        text = line.text.casefold()
        if not text or len(text) != len(line.text):  # ß and the like would shift it
            text = line.text
        if not text:
            continue
        edits, start, end = nearest_part(wanted, text)
        rank = (1 - edits / len(wanted), edit_similarity(query, line.text))
        if rank > best and end > start:
            best, box = rank, line.part(start, end)
    return box


def read(box: Sequence[float], lines: Sequence[Line]) -> str:
    """The characters whose middle is in the box, top to bottom and left to right."""
    x1, y1, x2, y2 = box
    found = []
    for line in sorted(lines, key=lambda line: (line.box[1], line.box[0])):
        if not line.text or not y1 <= (line.box[1] + line.box[3]) / 2 <= y2:
            continue
        middles = [sum(line.part(k, k + 1)[::2]) / 2 for k in range(len(line.text))]
        kept = [c for c, m in zip(line.text, middles, strict=True) if x1 <= m <= x2]
        found.append("".join(kept).strip())
    return " ".join(part for part in found if part)


def answer(row: Row, lines: Sequence[Line]) -> Said:
    """What the scoring reads of a result: a text and boxes."""
    if row["task"] == "ocr":
        return Said(read(row["box"], lines), ())
    box = find(row["text"], lines)
    return Said("", (Place(tuple(box)),) if box else ())


def rapid_ocr() -> Ocr:
    """RapidOCR with the models of its own wheel: nothing is fetched."""
    try:
        import onnxruntime  # noqa: F401  RapidOCR itself would only log its absence
        from rapidocr import RapidOCR
    except ImportError as e:
        raise UserError(
            f"baseline_ocr.py needs {e.name}: pip install 'mm15-mlx[check]'"
        ) from e
    engine = RapidOCR(
        params={
            "Global.use_cls": False,  # screens are upright
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": usable_cores(),
        }
    )

    def lines(path: str) -> list[Line]:
        found = engine(load_picture(path).image.convert("RGB"))
        if found.txts is None:
            return []
        found_lines = []
        for text, box in zip(found.txts, found.boxes, strict=True):
            corners = [*box.min(axis=0).tolist(), *box.max(axis=0).tolist()]
            found_lines.append(Line(text, without_margin(corners)))
        return found_lines

    return lines


def predictions(rows: Sequence[Row], ocr: Ocr) -> Iterator[Prediction]:
    """Answers of the two tasks; every screen is read once, its first task pays."""
    rows = sorted((r for r in rows if r["task"] in TASKS), key=lambda r: r["image"])
    image, lines = "", []
    for row in rows:
        begin = time.perf_counter()
        if row["image"] != image:
            image, lines = row["image"], ocr(row["image"])
            print(image, f"{len(lines)} lines", file=sys.stderr)
        result = answer(row, lines)
        seconds = time.perf_counter() - begin
        yield Prediction(row, result, score(row, result), seconds)


def check(path: Path, rows: Sequence[Row]) -> None:
    """UserError where the file holds nothing that OCR can answer."""
    if not any(row["task"] in TASKS for row in rows):
        raise UserError(f"{path} has no task of {' or '.join(TASKS)}")


def main(arguments: Sequence[str] | None = None, ocr: Ocr | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", type=Path)
    args = parser.parse_args(arguments)
    try:
        rows = read_tasks(args.tasks)
        check(args.tasks, rows)
        done = list(predictions(rows, ocr or rapid_ocr()))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{main_table(done)}\n\n{field_table(done, 'kit')}\n")
    print(json.dumps({"screen": summary(NAME, done, by=["kit"])}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
