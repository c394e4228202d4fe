"""Task rows of questions, captions and several pictures; the rest is with `eval`."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mm15_mlx.config import UserError
from mm15_mlx.tasks import pictures, question, read_tasks

VQA = {
    "id": "1", "image": "a.png", "task": "vqa", "question": "Which is newer?",
    "answers": ["left"], "metric": "exact_match",
}  # fmt: skip
CAPTION = {"id": "1", "image": "a.png", "task": "widget_caption", "box": [0, 0, 9, 9],
           "references": ["go back"]}  # fmt: skip


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 60), "red").save(tmp_path / name)
    return tmp_path / "tasks.jsonl"


def read(path: Path, **changes: Any) -> dict[str, Any]:
    row = {**VQA, **changes}
    row = {k: v for k, v in row.items() if v is not None}
    path.write_text(json.dumps(row), encoding="utf-8")
    return read_tasks(path)[0]


def test_a_question_about_several_pictures(tasks: Path) -> None:
    row = read(tasks, image=None, images=["a.png", "b.png"])
    paths = tuple(str(tasks.parent / name) for name in ("a.png", "b.png"))
    assert pictures(row) == paths
    assert question(row) == "Which is newer?"  # as it stands
    assert pictures(read(tasks)) == paths[:1]


def test_captions_are_asked_as_ferret_ui_asks(tasks: Path) -> None:
    assert question(CAPTION) == (
        "For the interactive element <box>0,0,9,9</box>, "
        "provide a phrase that best describes its functionality."
    )
    summary = {"task": "screen_summary", "references": ["a list"]}
    assert question(summary) == "Provide a summary of this screenshot."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "bleu"}, r"line 1 has the metric 'bleu'; .* anls, .*mcq"),
        ({"answers": []}, "line 1: answers must be a list of at least one text"),
        ({"answers": "left"}, "line 1: answers must be a list of at least one text"),
        ({"answers": [1]}, "line 1: answers must be a list of at least one text"),
        ({"metric": "vqa_accuracy"},
         "vqa_accuracy compares people, and answers holds 1; give at least 4, or use"),
        ({"question": 7}, "line 1: question is 7; it must be a text"),
        ({"question": None}, "line 1 lacks the key 'question'"),
        ({"images": ["a.png"]}, "line 1 has both image and images; leave one out"),
        ({"image": None, "images": []}, "images must be a list of at least one path"),
        ({"image": None, "images": "a.png"}, "images must be a list of at least one"),
        ({"image": None, "images": ["a.png", 3]}, "images must hold paths, as text"),
        ({"image": 3}, "image must hold paths, as text"),
        ({"image": None, "images": ["a.png", "c.png"]}, "picture .*c.png does not ex"),
        ({"image": None}, "lacks the key 'image'"),
        ({"task": "ocr", "text": "x", "box": [1, 2, 3]},
         r"line 1: box is \[1, 2, 3\]; it must be four numbers x1, y1, x2, y2"),
        ({"task": "ocr", "text": "x", "box": [1, 2, 3, float("inf")]}, "box is "),
        ({"task": "screen_summary", "references": []}, "references must be a list"),
        ({"task": "find_text", "text": "x", "box": [30, 50, 20, 20]},
         r"line 1: box is \[30, 50, 20, 20\], which is empty; x1 < x2 and y1 < y2 mus"),
        ({"task": "ocr", "text": "x", "box": [5, 5, 5, 9]}, "line 1: box is .* empty"),
        ({"task": "find_icon", "icon": "x", "box": [40, 0, 50, 9]},
         r"box is \[40, 0, 50, 9\], outside the picture of 40 × 60 pixels"),
        ({"task": "widgets", "elements": [
            {"type": "text", "text": "", "box": [0, 0, 9, 9]},
            {"type": "text", "text": "", "box": [0, 60, 9, 70]}]},
         r"line 1: the box of element 2 is \[0, 60, 9, 70\], outside the picture"),
        ({"task": ["x"]}, r"line 1 has the task \['x'\]; it must be one of find_text"),
        ({"task": "widget_class", "box": [0, 0, 9, 9], "type": "text", "accept": [1]},
         r"line 1: accept is \[1\]; it must be a list of texts, or be left out"),
        ({"task": "widgets", "elements": [{"type": "text", "text": "", "box": [1, 2]}]},
         r"line 1: the box of element 1 is \[1, 2\]; it must be four numbers x1, y1"),
        ({"task": "ocr", "text": "x", "box": [0, 0, 9, 10**400]},
         r"box is \[0, 0, 9, 10+…; it must be four numbers .* of pixels, below 1"),
        ({"image": "a" * 300}, "the picture .*aa cannot be read: File name too long"),
        ({"image": "."}, "line 1: the picture .* is a folder"),
        ({"question": "\ud83d"}, r"line 1 holds '\\ud83d', half a character, which"),
        ({"kit": {"x": ["\udead"]}}, r"line 1 holds '\\udead', half a character"),
        ({"answers": ["x", ""], "metric": "contains"},
         "line 1: answers holds an empty text, in which contains finds nothing to com"),
        ({"answers": [" "], "metric": "contains_formula"}, "in which contains_formula"),
        ({"answers": ["\n"], "metric": "anls"}, "leave it out, or use exact_match"),
        ({"task": "tappable", "box": [0, 0, 9, 9], "answer": "true"},
         "line 1: answer is 'true'; it must be yes or no"),
    ],
)  # fmt: skip
def test_a_bad_row_is_one_line(
    tasks: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(tasks, **changes)


def test_null_is_nothing(tasks: Path) -> None:
    path = tasks.parent
    tasks.write_text(json.dumps({**VQA, "images": None, "video": None}))
    assert read_tasks(tasks) == [{**VQA, "image": str(path / "a.png")}]
    tasks.write_text(json.dumps({**CAPTION, "task": "icon_class", "icon": "x",
                                 "accept": None}))  # fmt: skip
    with pytest.raises(UserError, match="accept is None; it must be a list of texts"):
        read_tasks(tasks)
    tasks.write_text(json.dumps({**VQA, "accept": None}))  # a field of the user's own
    assert read_tasks(tasks)[0]["accept"] is None
    tasks.write_text(json.dumps({**VQA, "answers": [""]}))
    assert read_tasks(tasks)[0]["answers"] == [""]  # which exact_match can meet


def test_a_folder_is_no_task_file(tasks: Path) -> None:
    with pytest.raises(UserError, match="is a folder; give a JSONL file of tasks"):
        read_tasks(tasks.parent)


def test_boxes_are_of_the_picture_the_right_way_up(tasks: Path) -> None:
    """As a phone's camera writes it: lying, with a note to turn it."""
    turned = Image.Exif()
    turned[274] = 6
    for name in ("a.jpg", "a.png"):
        Image.new("RGB", (40, 60), "red").save(tasks.parent / name, exif=turned)
        find: dict[str, Any] = {"task": "find_text", "text": "x", "image": name}
        assert read(tasks, **find, box=[45, 0, 60, 40])["box"] == [45, 0, 60, 40]
        with pytest.raises(UserError, match="outside the picture of 60 × 40 pixels"):
            read(tasks, **find, box=[0, 45, 9, 60])


def test_a_picture_that_cannot_be_read_is_left_to_who_opens_it(tasks: Path) -> None:
    (tasks.parent / "c.png").write_bytes(b"not a picture")
    row = read(tasks, **{**CAPTION, "image": "c.png"})
    assert row["image"] == str(tasks.parent / "c.png")


def test_files_that_are_no_text(tasks: Path) -> None:
    tasks.write_bytes(b'{"id": "\xff"}')
    with pytest.raises(UserError, match="tasks.jsonl is not UTF-8 text"):
        read_tasks(tasks)
    tasks.write_text("[" * 200_000)
    with pytest.raises(UserError, match="line 1 is not JSON: nested too deep"):
        read_tasks(tasks)
