"""The rows of `mm15-mlx eval`: reading and checking them, and what each asks.

What this file is: `{"id", "task", …}` with an `image`, several `images` or a `video`,
and boxes in pixels of the original picture, the first one where there are several.
What it is not: the metrics (scores.py) or the answering (evaluate.py).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mm15_mlx import ui
from mm15_mlx.config import UserError
from mm15_mlx.images import header_size
from mm15_mlx.json_lines import fault, numbered, parsed, read_text
from mm15_mlx.vqa import METRICS, folded

Row = dict[str, Any]

# task → the fields that a row must have, besides id, pictures and task
FIELDS = {
    "find_text": ("text", "box"),
    "find_icon": ("icon", "box"),
    "find_widget": ("query", "box"),
    "ocr": ("box", "text"),
    "widget_class": ("box", "type"),
    "icon_class": ("box", "icon"),
    "tappable": ("box", "answer"),
    "widgets": ("elements",),
    "screen_summary": ("references",),
    "widget_caption": ("box", "references"),
    "vqa": ("question", "answers", "metric"),
}
SHOWN = ("image", "images", "video")
CAPTIONS = ("screen_summary", "widget_caption")
CLASSES = {"widget_class": "type", "icon_class": "icon", "tappable": "answer"}
# the verbs' own limits: a list of a whole screen is longer than an answer
MAX_TOKENS = {
    **dict.fromkeys(FIELDS, 64),
    "widgets": 1500,
    "screen_summary": 128,
}
# Of VQA's ten people: accuracy leaves one out and asks for three that agree.
LEAST_PEOPLE = 4
WITH_WORDS = ("anls", "contains", "contains_formula")  # an empty truth is in anything
FARTHEST = 1e6  # pixels from the corner; prompts write larger numbers with an exponent
_LONGEST = 80  # characters of a bad value that are shown


def read_tasks(path: Path) -> list[Row]:
    """The rows of a task file, checked; pictures become paths beside the file. Raises
    UserError with the line."""
    return [row for _, row in named_tasks(path)]


def named_tasks(path: Path) -> list[tuple[str, Row]]:
    """What `read_tasks` reads, each row with its place in the file, for messages."""
    if why := fault(path):
        raise UserError(f"{path} {why}; give a JSONL file of tasks")
    rows = []
    for number, line in numbered(read_text(path)):
        where = f"{path}, line {number}"
        try:
            row = parsed(line)
        except ValueError as e:
            raise UserError(f"{where} is not JSON: {e}") from e
        checked_row = checked(row, where, path.parent)
        _check_truth(checked_row, where)
        rows.append((where, checked_row))
    if not rows:
        raise UserError(f"{path} holds no tasks")
    return rows


def checked(row: Any, where: str, folder: Path) -> Row:
    """The row with its pictures' paths below `folder`. Raises UserError that begins
    with `where` for what cannot be asked, or read as a truth."""
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object")
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        half = e.object[e.start]
        raise UserError(
            f"{where} holds {half!r}, half a character, which no text can; write it "
            "whole"
        ) from e
    if not isinstance(row.get("task"), str) or row["task"] not in FIELDS:
        raise UserError(
            f"{where} has the task {row.get('task')!r}; "
            f"it must be one of {', '.join(FIELDS)}"
        )
    row = {k: v for k, v in row.items() if k not in SHOWN or v is not None}
    shown = [key for key in SHOWN if key in row]
    if len(shown) > 1:
        raise UserError(f"{where} has both {' and '.join(shown)}; leave one out")
    image = shown[0] if shown else "image"
    for key in ("id", image, *FIELDS[row["task"]]):
        if key not in row:
            raise UserError(f"{where} lacks the key {key!r}")
    _check_values(row, where)
    paths = row["images"] if image == "images" else [row[image]]
    if not isinstance(paths, list) or not paths:
        raise UserError(f"{where}: images must be a list of at least one path")
    if not all(isinstance(p, str) for p in paths):
        raise UserError(f"{where}: {image} must hold paths, as text")
    paths = [str(folder / p) for p in paths]
    for path in paths:
        if why := fault(Path(path)):
            what = "video" if image == "video" else "picture"
            raise UserError(f"{where}: the {what} {path} {why}")
    return row | {image: paths if image == "images" else paths[0]}


def _check_values(row: Row, where: str) -> None:
    for key in FIELDS[row["task"]]:
        value = row[key]
        if key == "box":
            _check_box(value, f"{where}: box")
        elif key == "elements":
            _check_elements(value, where)
        elif key in ("references", "answers"):
            if not value or not _are_texts(value):
                raise UserError(f"{where}: {key} must be a list of at least one text")
        elif not isinstance(value, str):
            raise UserError(f"{where}: {key} is {value!r}; it must be a text")
    if row["task"] in CLASSES and not _are_texts(row.get("accept", [])):
        raise UserError(
            f"{where}: accept is {row['accept']!r}; it must be a list of texts, or be "
            "left out"
        )
    if row["task"] == "tappable" and folded(row["answer"]) not in ("yes", "no"):
        raise UserError(f"{where}: answer is {row['answer']!r}; it must be yes or no")
    if row["task"] == "vqa":
        metric = row["metric"]
        if metric not in METRICS:
            raise UserError(
                f"{where} has the metric {metric!r}; "
                f"it must be one of {', '.join(METRICS)}"
            )
        if metric == "vqa_accuracy" and len(row["answers"]) < LEAST_PEOPLE:
            raise UserError(
                f"{where}: vqa_accuracy compares people, and answers holds "
                f"{len(row['answers'])}; give at least {LEAST_PEOPLE}, or use "
                "exact_match"
            )


def are_numbers(value: Any, count: int) -> bool:
    """Whether a value of a row is so many numbers of pixels."""
    return (
        isinstance(value, list | tuple)
        and len(value) == count
        and all(isinstance(v, int | float) and abs(v) < FARTHEST for v in value)
    )


def is_box(value: Any) -> bool:
    """Whether a value of a row is four numbers of pixels."""
    return are_numbers(value, 4)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) for v in value)


def _check_box(value: Any, name: str) -> None:
    if not is_box(value):
        shown = repr(value)
        shown = shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"
        raise UserError(
            f"{name} is {shown}; it must be four numbers x1, y1, x2, y2 of pixels, "
            f"below {FARTHEST:,.0f}"
        )


def _check_elements(elements: Any, where: str) -> None:
    if not isinstance(elements, list) or not elements:
        raise UserError(f"{where}: elements must be a list of at least one element")
    for number, element in enumerate(elements, 1):
        if not isinstance(element, dict) or not {"type", "text", "box"} <= set(element):
            raise UserError(f"{where}: element {number} is not {{type, text, box}}")
        if element["type"] not in ui.ELEMENT_TYPES:
            raise UserError(
                f"{where}: element {number} has the type {element['type']!r}; "
                f"it must be one of {', '.join(ui.ELEMENT_TYPES)}"
            )
        _check_box(element["box"], f"{where}: the box of element {number}")


def _boxes(row: Row) -> Iterator[tuple[str, Any]]:
    """The boxes that a task is about, each with its name for messages."""
    if "box" in FIELDS[row["task"]]:
        yield "box", row["box"]
    if "elements" in FIELDS[row["task"]]:
        for number, element in enumerate(row["elements"], 1):
            yield f"the box of element {number}", element["box"]


def _check_truth(row: Row, where: str) -> None:
    """Raise UserError for truths that no answer can meet, or that any does. Those of
    public benchmarks are scored as they are. Videos are not opened here."""
    metric = row["metric"] if row["task"] == "vqa" else None
    if metric in WITH_WORDS and not all(a.strip() for a in row["answers"]):
        raise UserError(
            f"{where}: answers holds an empty text, in which {metric} finds nothing to "
            "compare; leave it out, or use exact_match"
        )
    found = list(_boxes(row))
    for name, box in found:
        if not (box[0] < box[2] and box[1] < box[3]):
            raise UserError(
                f"{where}: {name} is {box!r}, which is empty; x1 < x2 and y1 < y2 must "
                "hold"
            )
    size = header_size(pictures(row)[0]) if found and "video" not in row else None
    if size is None:
        return
    for name, (x1, y1, x2, y2) in found:
        if x2 <= 0 or x1 >= size[0] or y2 <= 0 or y1 >= size[1]:
            raise UserError(
                f"{where}: {name} is {[x1, y1, x2, y2]!r}, outside the picture of "
                f"{size[0]} × {size[1]} pixels"
            )


def pictures(row: Row) -> tuple[str, ...]:
    """The paths of a row's pictures, or of its video; answers about the same ones are
    not independent, and are given together."""
    if "images" in row:
        return tuple(row["images"])
    return (row["video"] if "video" in row else row["image"],)


def question(row: Row) -> str:
    """The prompt of a task. A question of `vqa` is asked as it stands: an instruction
    such as "answer with a word" belongs into the row."""
    match row["task"]:
        case "find_text":
            return ui.find_text_prompt(row["text"])
        case "find_icon":
            return ui.find_prompt(f"{row['icon']} icon")
        case "find_widget":
            return ui.find_prompt(row["query"])
        case "ocr":
            return ui.ocr_prompt(row["box"])
        case "widget_class":
            return ui.widget_class_prompt(row["box"])
        case "icon_class":
            return ui.icon_class_prompt(row["box"])
        case "tappable":
            return ui.tappable_prompt(row["box"])
        case "widgets":
            return ui.WIDGETS_PROMPT
        case "screen_summary":
            return ui.SUMMARY_PROMPT
        case "widget_caption":
            return ui.widget_caption_prompt(row["box"])
        case _:
            return row["question"]
