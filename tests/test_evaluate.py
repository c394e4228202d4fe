"""Metrics by hand-checked values, task files and their errors, one whole run."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mm15_mlx.config import UserError
from mm15_mlx.evaluate import (
    FIELDS,
    Prediction,
    centre_in,
    edit_similarity,
    element_types,
    f1,
    folded,
    grey,
    iou,
    matched,
    message,
    prediction_row,
    predictions,
    question,
    read_tasks,
    score,
    summary,
    table,
)
from mm15_mlx.generate import Result
from mm15_mlx.load import load
from mm15_mlx.ui import WIDGETS_PROMPT, Element


def answer(text: str, *places: tuple[float, ...]) -> Result:
    """What the metrics read of a result: four numbers are a box, two a point."""
    made = [SimpleNamespace(px=p) for p in places]
    return SimpleNamespace(
        text=text,
        boxes=[p for p in made if len(p.px) == 4],
        points=[p for p in made if len(p.px) == 2],
    )


def test_iou_of_hand_made_boxes() -> None:
    assert iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert iou((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert iou((0, 0, 10, 10), (10, 0, 20, 10)) == 0


def test_centre_in_box() -> None:
    assert centre_in((0, 0, 10, 10), (4, 4, 6, 6))
    assert not centre_in((0, 0, 10, 10), (6, 4, 9, 6))


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ("Wi-Fi", "wi-fi", 1.0),
        ("kitten", "sitting", 1 - 3 / 7),
        ("", "", 1.0),
        ("", "abc", 0.0),
        ("a  b", "A b", 1.0),
    ],
)
def test_edit_similarity(a: str, b: str, value: float) -> None:
    assert edit_similarity(a, b) == pytest.approx(value)


@given(st.text(max_size=20), st.text(max_size=20))
def test_edit_similarity_is_symmetric_and_bounded(a: str, b: str) -> None:
    value = edit_similarity(a, b)
    assert 0 <= value <= 1
    assert value == pytest.approx(edit_similarity(b, a))
    assert (value == 1) == (folded(a) == folded(b))


def test_f1_counts_yes() -> None:
    pairs = [("yes", "Yes"), ("yes", "No"), ("no", "Yes"), ("no", "No")]
    assert f1(pairs) == pytest.approx(0.5)
    assert f1([("no", "no")]) == 0


def test_scores_of_each_task() -> None:
    box = [10, 10, 30, 20]
    find = {"task": "find_text", "text": "A", "box": box}
    assert score(find, answer("", (10, 10, 30, 20))) == {
        "acc@0.5": 1,
        "centre_in_box": 1,
    }
    assert score(find, answer("")) == {"acc@0.5": 0, "centre_in_box": 0}
    wide = score(find, answer("", (0, 0, 40, 30)))
    assert wide == {"acc@0.5": 0, "centre_in_box": 1}
    assert score(find, answer("", (30, 20), (0, 0)))["centre_in_box"] == 1
    assert score(find, answer("", (31, 20), (15, 15)))["centre_in_box"] == 0
    assert score(find, answer("", (20, 15)))["acc@0.5"] == 0  # a point covers nothing
    both = score(find, answer("", (15, 15), (100, 100, 120, 120)))
    assert both == {"acc@0.5": 0, "centre_in_box": 0}  # a box comes first
    ocr = {"task": "ocr", "text": "Log In", "box": box}
    assert score(ocr, answer("log  in")) == {"exact": 1, "edit_similarity": 1}
    kind = {"task": "widget_class", "type": "button", "box": box, "accept": ["link"]}
    assert score(kind, answer("Link"))["accuracy"] == 1
    assert score(kind, answer("text"))["accuracy"] == 0


def listed(kind: str, *px: float) -> Element:
    return Element(kind, "", px, (0, 0, 1, 1))


SCREEN = [
    {"type": "button", "text": "Save", "box": [0, 0, 10, 10]},
    {"type": "switch", "text": "Wi-Fi", "box": [20, 0, 40, 10]},
    {"type": "text", "text": "Wi-Fi", "box": [50, 0, 60, 10]},
    {"type": "icon", "text": "back", "box": [70, 0, 80, 10]},
]
LISTED = [
    listed("button", 0, 0, 10, 8),  # IoU 0.8
    listed("button", 0, 0, 10, 10),  # IoU 1: takes the Save button from the first
    listed("text", 20, 0, 40, 10),  # the right place, the wrong type
    listed("text", 50, 0, 60, 5),  # IoU 0.5, just enough
    listed("icon", 74, 0, 84, 10),  # IoU 6 / 14, too little
]


def test_widgets_are_matched_one_to_one_best_first() -> None:
    assert matched(SCREEN, LISTED) == [(0, 1), (1, 2), (2, 3)]
    assert matched(SCREEN, LISTED, typed=True) == [(0, 1), (2, 3)]
    assert matched(SCREEN, []) == []


def test_a_listed_element_covers_one_annotated_element_only() -> None:
    twice = [SCREEN[0], {**SCREEN[0], "type": "text"}]  # a caption as big as its button
    one = [listed("text", 0, 0, 10, 10)]
    assert matched(twice, one) == [(0, 0)]
    assert matched(twice, one, typed=True) == [(1, 0)]


def test_scores_of_a_list_of_widgets() -> None:
    row = {"task": "widgets", "elements": SCREEN}
    assert score(row, answer(""), LISTED) == {
        "recall@0.5": 3 / 4, "typed_recall@0.5": 2 / 4, "precision@0.5": 3 / 5,
    }  # fmt: skip
    assert set(score(row, answer("nothing of the sort")).values()) == {0.0}


def test_element_types_count_over_all_screens() -> None:
    screens = [(SCREEN, LISTED), (SCREEN[:1], []), (SCREEN[:1], LISTED[2:3])]
    done = []
    for elements, found in screens:
        row = {"task": "widgets", "image": "a", "elements": elements}
        scores = score(row, answer(""), found)
        done.append(Prediction(row, answer(""), scores, 0.5, found))
    kinds = element_types(done)
    assert list(kinds) == ["button", "text", "switch", "icon"]
    assert kinds["button"] == {
        "recall@0.5": 0.3333, "typed_recall@0.5": 0.3333, "precision@0.5": 0.5,
        "n": 3, "listed": 2,
    }  # fmt: skip
    assert kinds["switch"] == {
        "recall@0.5": 1.0, "typed_recall@0.5": 0.0, "precision@0.5": 0.0,
        "n": 1, "listed": 0,
    }  # fmt: skip
    assert kinds["text"]["precision@0.5"] == 0.6667  # 2 of 3 lie on some element
    report = summary("tiny", done)
    assert report["element_types"] == kinds
    assert report["metrics"]["widgets"] == {
        "recall@0.5": 0.25, "typed_recall@0.5": 0.1667, "precision@0.5": 0.2, "n": 3,
    }  # fmt: skip
    assert "switch         recall@0.5 1.000  typed" in table(kinds)


def test_a_model_is_asked_for_its_list_as_the_verb_asks(
    ui_folder: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load(str(ui_folder))
    asked = []

    def said(model: object, processor: object, questions: list, *rest: object):
        asked.extend((q.prompt[0]["content"][1:], q.max_tokens) for q in questions)
        shown = [SimpleNamespace(picture=SimpleNamespace(size=(40, 60)))]
        text = 'button "Save" [0, 0, 500, 500]\nsong "x" [1, 1, 2, 2]'
        return [SimpleNamespace(text=text, boxes=[], points=[], images=shown)]

    monkeypatch.setattr("mm15_mlx.evaluate.answer_together", said)
    elements = [{"type": "button", "text": "Save", "box": [0, 0, 20, 30]}]
    row = {"id": "1", "image": str(picture), "task": "widgets", "elements": elements}
    (done,) = predictions(model, processor, [row])
    assert asked == [([{"type": "text", "text": WIDGETS_PROMPT}], 1500)]
    assert set(done.scores.values()) == {1.0}
    (written,) = prediction_row(done)["listed"]
    assert (written["type"], written["text"]) == ("button", "Save")
    assert written["px"] == (0, 0, 20, 30)


def test_summary_has_the_documented_keys() -> None:
    row = {"task": "tappable", "image": "a", "box": [0, 0, 1, 1], "answer": "yes"}
    result = answer("Yes")
    done = [Prediction(row, result, score(row, result), 0.5)]
    report = summary("tiny", done)
    assert report == {
        "model": "tiny",
        "n": 1,
        "metrics": {"tappable": {"accuracy": 1.0, "f1": 1.0, "n": 1}},
        "intervals": {"tappable": {"accuracy": (1.0, 1.0), "f1": (1.0, 1.0)}},
        "seconds_per_task": 0.5,
    }
    line = "tappable       accuracy 1.000  f1 1.000  (n 1)"
    assert table(report["metrics"]) == line


def test_summary_slices_by_a_field() -> None:
    made = []
    for kit, said in (("weui", "Yes"), ("weui", "No"), ("vant", "Yes"), (None, "Yes")):
        row = {"task": "tappable", "image": "a", "box": [0, 0, 1, 1], "answer": "yes"}
        row |= {"kit": kit} if kit else {}
        result = answer(said)
        made.append(Prediction(row, result, score(row, result), 0.5))
    slices = summary("tiny", made, ["kit"])["slices"]["kit"]
    assert {k: v["tappable"]["accuracy"] for k, v in slices.items()} == {
        "-": 1.0, "vant": 1.0, "weui": 0.5,
    }  # fmt: skip


def test_every_task_has_a_question() -> None:
    fields = {
        "text": "T", "icon": "back", "query": "Q button", "box": [1, 2, 3, 4],
        "type": "button", "answer": "yes", "question": "Why?",
    }  # fmt: skip
    prompts = {question({"task": t, **fields}) for t in FIELDS}
    assert len(prompts) == len(FIELDS)
    assert 'Where is the text "T"?' in prompts
    assert "What text is displayed in the element <box>1,2,3,4</box>?" in prompts


def test_only_a_question_has_places_for_its_pictures() -> None:
    find = {"id": "1", "task": "find_text", "text": "the <image> tag", "box": [0] * 4}
    shown = [{"type": "image", "image": k} for k in "ab"]
    text = {"type": "text", "text": 'Where is the text "the <image> tag"?'}
    assert message(find, ["a", "b"], [])["content"] == [*shown, text]
    asked = {"id": "1", "task": "vqa", "question": "<image> or <image>?"}
    parts = message(asked, ["a", "b"], [])["content"]
    assert [p["type"] for p in parts] == ["image", "text", "image", "text"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 60), "red").save(path)
    return path


def test_grey_picture_has_the_size_and_nothing_else(picture: Path) -> None:
    image = grey(str(picture))
    assert image.size == (40, 60)
    assert image.getcolors() == [(40 * 60, (128, 128, 128))]


GOOD = {"id": "1", "image": "a.png", "task": "ocr", "box": [0, 0, 9, 9], "text": "x"}


def test_reading_tasks(picture: Path) -> None:
    path = picture.parent / "tasks.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n")
    assert read_tasks(path) == [{**GOOD, "image": str(picture)}]


def widgets(elements: object) -> str:
    row = {"id": "1", "image": "a.png", "task": "widgets", "elements": elements}
    return json.dumps(row)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"tasks.jsonl, line 1 is not JSON"),
        ("[1]", r"line 1 is not an object"),
        (json.dumps({**GOOD, "task": "sing"}), r"'sing'; .* one of .*, widgets"),
        (json.dumps({**GOOD, "task": "find_icon"}), "lacks the key 'icon'"),
        (json.dumps({**GOOD, "image": "b.png"}), r"the picture .*b.png does not exist"),
        ("", "holds no tasks"),
        (widgets([]), "line 1: elements must be a list of at least one element"),
        (widgets("none"), "elements must be a list"),
        (widgets([{"type": "text"}]), r"element 1 is not \{type, text, box\}"),
        (widgets([SCREEN[0], {**SCREEN[1], "type": "knob"}]),
         "element 2 has the type 'knob'; it must be one of button, link"),
    ],
)  # fmt: skip
def test_a_bad_task_file_is_one_line(picture: Path, line: str, message: str) -> None:
    path = picture.parent / "tasks.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        read_tasks(path)


def test_a_missing_task_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no.jsonl does not exist; give a JSONL"):
        read_tasks(tmp_path / "no.jsonl")


def test_eval_prints_the_documented_json(
    ui_folder: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    Image.new("RGB", (90, 160), "white").save(tmp_path / "a.png")
    data, out = tmp_path / "tasks.jsonl", tmp_path / "out.jsonl"
    rows = [{**GOOD, "id": str(k)} for k in range(3)]
    data.write_text("\n".join(json.dumps(r) for r in rows))
    arguments = ["eval", "--model", ui_folder, "--data", data, "--predictions", out]
    status, printed, _ = cli(*arguments, "--json", "--limit", "2")
    assert status == 0
    report = json.loads(printed)
    keys = {"model", "n", "metrics", "intervals", "seconds_per_task"}
    assert set(report) == keys
    assert report["n"] == report["metrics"]["ocr"]["n"] == 2
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [w["id"] for w in written] == ["0", "1"]
    assert set(written[0]["scores"]) == {"exact", "edit_similarity"}
    status, _, complaint = cli(*arguments)
    assert status == 2
    assert complaint.startswith(f"error: {out} exists; give --force")


def test_eval_prints_element_types(
    ui_folder: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    Image.new("RGB", (90, 160), "white").save(tmp_path / "a.png")
    data = tmp_path / "tasks.jsonl"
    data.write_text(widgets(SCREEN))
    status, printed, _ = cli("eval", "--model", ui_folder, "--data", data)
    assert status == 0
    assert printed.startswith("widgets        recall@0.5 0.")
    assert "\n\nwidgets by element type\nbutton         recall@0.5 0." in printed


def test_eval_slices(
    ui_folder: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    Image.new("RGB", (90, 160), "white").save(tmp_path / "a.png")
    data = tmp_path / "tasks.jsonl"
    data.write_text(json.dumps({**GOOD, "kit": "weui"}))
    arguments = ["eval", "--model", ui_folder, "--data", data, "--by"]
    status, printed, _ = cli(*arguments, "kit")
    assert status == 0
    assert "\n\nkit weui\nocr " in printed
    status, printed, complaint = cli(*arguments, "kit_", "--json")
    assert (status, printed) == (2, "")
    message = "has the field 'kit_': box, id, image, kit, size, task, text"
    assert complaint.startswith("error: no row of ") and message in complaint
