"""Ferret-UI's elementary tasks, in the form of ml-ferret's sample data.

A JSON list of `{"id", "image", "image_w", "image_h", "conversations",
"box_x1y1x2y2"}`; the file's name says the task, as in the original's evaluation. Of the
data only samples of referring tasks are published; the form of the grounding tasks'
answers is taken from them.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from mm15_mlx.config import UserError
from mm15_mlx.readers.records import Record, numbers, records, upright_box
from mm15_mlx.tasks import Row

_SCALE = 1000  # of coordinates in Ferret's text
_REFERRING = {
    "ocr": "ocr",
    "icon_recognition": "icon_class",
    "widget_classification": "widget_class",
    "taperception": "tappable",
    "widgetcaptions": "widget_caption",
}
_GROUNDING = {
    "find_text": ("find_text", "text"),
    "find_icon": ("find_icon", "icon"),
    "find_widget": ("find_widget", "query"),
}
_SUMMARY = "screen2words"
# Apple's and Android's names of types that ours call otherwise; our choice.
_OURS = {
    "picture": "image", "toggle": "switch", "text field": "input",
    "dropdown": "select", "segmented control": "tab", "tab bar item": "tab",
    "radio button": "radio",
}  # fmt: skip
_WHERE = re.compile(r"where is (?:the )?(.*?)(?: located)?\s*\?*$", re.IGNORECASE)
_NUMBERS = re.compile(r"\[\s*(\d+),\s*(\d+),\s*(\d+),\s*(\d+)\s*\]")


def ferret_ui(path: Path, split: str | None) -> Iterator[Row]:
    """Rows of all elementary tasks that the files' names hold; others are an error.

    Boxes are pixels x1, y1, x2, y2; those in an answer's text are thousandths. `split`
    is a word of the files' names, such as `iphone` or `find_text`. Pictures lie beside
    the file or in `images`. Layout of ml-ferret's samples, not tried with real data.
    """
    for number, record in enumerate(records(path, ("*.json", "*.jsonl"), split), 1):
        name = record.file.stem.casefold()
        row: Row = {
            "id": f"{record.file.stem}-{record.data.get('id', number)}",
            "image": record.picture("image", below=("images",)),
        }
        referring = next((t for key, t in _REFERRING.items() if key in name), None)
        grounding = next((t for key, t in _GROUNDING.items() if key in name), None)
        if _SUMMARY in name:
            yield row | {"task": "screen_summary", "references": _answers(record)}
        elif referring:
            yield row | _referring(record, referring)
        elif grounding:
            task, key = grounding
            sought = _sought(record)
            if key == "icon":  # the task's own question says "icon" after it
                sought = re.sub(r"\s+icon$", "", sought, flags=re.IGNORECASE)
            yield row | {"task": task, key: sought, "box": _answered(record)}
        else:
            known = ", ".join([*_REFERRING, *_GROUNDING, _SUMMARY])
            raise UserError(
                f"{record.file} does not name its task; its name must hold one of "
                f"{known}"
            )


def _referring(record: Record, task: str) -> Row:
    box = _box(record, 0)
    if box is None:
        raise UserError(f"{record.where} lacks the box box_x1y1x2y2[0][0]")
    answers = _answers(record)
    row: Row = {"task": task, "box": box}
    match task:
        case "ocr":
            return row | {"text": answers[0]}
        case "icon_class":
            return row | {"icon": answers[0]}
        case "tappable":
            return row | {"answer": answers[0].casefold().rstrip(".")}
        case "widget_class":
            ours = _OURS.get(answers[0].casefold())
            return row | {"type": answers[0]} | ({"accept": [ours]} if ours else {})
        case _:
            return row | {"references": answers}


def _turn(record: Record, number: int) -> str | None:
    turns = record.data.get("conversations")
    if not isinstance(turns, list) or len(turns) <= number:
        return None
    value = turns[number].get("value") if isinstance(turns[number], dict) else None
    return value if isinstance(value, str) else None


def _answers(record: Record) -> list[str]:
    if record.get("label") is not None:
        return record.texts("label")
    answer = _turn(record, 1)
    if answer is None:
        raise UserError(
            f"{record.where} has no answer: neither a label nor a second conversation"
        )
    return [answer.strip()]


def _sought(record: Record) -> str:
    """`Games Tab` of "Where is the Games Tab located?"; quoted words where it has."""
    asked = (_turn(record, 0) or "").replace("<image>", "").strip()
    match = _WHERE.match(asked)
    if not match:
        raise UserError(f'{record.where} asks {asked!r}; it must be "Where is the …?"')
    quoted = re.search(r"[\"“](.+)[\"”]", match[1])
    return quoted[1] if quoted else match[1].strip()


def _answered(record: Record) -> list[float]:
    box = _box(record, 1)
    if box is not None:
        return box
    match = _NUMBERS.search(_answers(record)[0])
    if not match:
        raise UserError(
            f"{record.where} has no box: neither box_x1y1x2y2[1][0] nor [x1, y1, x2, "
            "y2] in its answer"
        )
    size = [record.data.get("image_w"), record.data.get("image_h")]
    width, height = numbers(size, 2, f"{record.where}: image_w, image_h")
    scale = (width, height, width, height)
    corners = [int(v) * s / _SCALE for v, s in zip(match.groups(), scale, strict=True)]
    return upright_box(corners, record.where)


def _box(record: Record, turn: int) -> list[float] | None:
    """The first box of a turn, in pixels."""
    boxes = record.data.get("box_x1y1x2y2")
    try:
        first = boxes[turn][0]
    except (TypeError, IndexError, KeyError):
        return None
    where = f"{record.where}: box_x1y1x2y2"
    return upright_box(numbers(first, 4, where), record.where)
