"""Questions about annotated screens: unambiguous, in the screen's pixels, seeded."""

from random import Random

from mm15_mlx.screens.questions import (
    caption,
    find_icon,
    find_text,
    find_widget,
    list_widgets,
    named_widgets,
    once,
    read_screen,
    short_questions,
    state,
    summary,
    tappable,
)
from mm15_mlx.screens.tasks import tasks


def element(kind: str, box: list[float], **fields: object) -> dict:
    base = {"text": "", "label": "", "icon": None, "tappable": True, "state": {}}
    return {"type": kind, "box": box, **base, **fields}


ROW = {
    "id": "1-000000", "image": "images/a.png", "kit": "k", "layout": "settings",
    "dark": False, "width": 100, "height": 200,
    "texts": [
        {"text": "Wi-Fi", "box": [5, 50, 40, 60]},
        {"text": "Off", "box": [60, 90, 70, 99]},
        {"text": "Off", "box": [60, 120, 70, 129]},
        {"text": "Settings", "box": [30, 5, 70, 20]},
    ],
    "elements": [
        element("switch", [80, 50, 95, 60], label="Wi-Fi", state={"checked": True}),
        element("text", [5, 50, 40, 60], text="Wi-Fi", tappable=False),
        element("button", [2, 5, 12, 15], icon="back", label="Back"),
        element("icon", [80, 90, 90, 99], icon="chevron-right", tappable=False),
        element("icon", [80, 120, 90, 129], icon="chevron-right", tappable=False),
        element("button", [10, 180, 50, 195], text="Save"),
        element("button", [55, 180, 95, 195], text="Save"),
    ],
}  # fmt: skip


def test_once_keeps_what_occurs_once() -> None:
    assert once(["a", "b", "b", ""]) == {"a"}


def test_only_unique_text_is_asked_for() -> None:
    asked = {q.prompt: q.answer for q in find_text(ROW, Random(0))}
    assert asked == {
        'Where is the text "Wi-Fi"?': "<box>5,50,40,60</box>",
        'Where is the text "Settings"?': "<box>30,5,70,20</box>",
    }


def test_only_unique_icons_are_asked_for() -> None:
    (only,) = find_icon(ROW, Random(0))
    assert "back icon" in only.prompt
    assert only.answer == "<box>2,5,12,15</box>"


def test_widgets_are_named_by_row_and_type() -> None:
    names = {(name, kind) for name, kind, _ in named_widgets(ROW)}
    assert names == {("Wi-Fi", "switch"), ("Back", "button")}
    prompts = " ".join(q.prompt for q in find_widget(ROW, Random(3)))
    assert "Wi-Fi" in prompts
    assert "Save" not in prompts


def test_captions() -> None:
    assert caption({"text": " Save ", "label": "x"}) == "Save"
    assert caption({"text": "", "label": "Wi-Fi"}) == "Wi-Fi"


def test_yes_and_no() -> None:
    (one,) = state(ROW, Random(0))
    assert (one.prompt, one.answer) == ("Is the Wi-Fi switch on?", "Yes")
    answers = [q.answer for q in tappable(ROW, Random(0))]
    assert answers == ["Yes", "No", "Yes", "No", "No", "Yes", "Yes"]


def test_reading_goes_from_top_to_bottom() -> None:
    lines = read_screen(ROW).answer.splitlines()
    assert lines[0] == "Settings <box>30,5,70,20</box>"
    assert lines[-1] == "Off <box>60,120,70,129</box>"


def test_listing_names_type_text_and_box() -> None:
    lines = list_widgets(ROW).answer.splitlines()
    assert 'switch "Wi-Fi" <box>80,50,95,60</box>' in lines
    assert 'button "back" <box>2,5,12,15</box>' in lines


def test_a_summary_names_the_kind_the_title_and_what_is_there() -> None:
    (only,) = summary(ROW, Random(0))
    assert only.answer == 'settings screen "Settings" with 3 buttons, one switch'
    bare = {**ROW, "texts": [], "elements": [], "layout": "empty-state"}
    assert summary(bare, Random(0))[0].answer == "empty state screen"


def test_a_category_without_a_share_is_not_asked() -> None:
    asked = short_questions(ROW, Random(0), 1000, {"text-rich": 1.0})
    assert {q.task for q in asked} == {"ocr"} and len(asked) == len(ROW["texts"])
    most = [
        short_questions(ROW, Random(k), 1, {"text-rich": 9.0, "general": 1.0})[0].task
        for k in range(200)
    ]
    assert 160 <= most.count("ocr") <= 195


def test_short_questions_are_seeded_and_differ() -> None:
    one = short_questions(ROW, Random(7), 8)
    assert one == short_questions(ROW, Random(7), 8)
    assert len({(q.prompt, q.answer) for q in one}) == len(one) == 8
    everything = short_questions(ROW, Random(7), 10_000)
    assert {q.task for q in everything} == {
        "find_text", "find_widget", "find_icon", "ocr", "widget_class", "icon_class",
        "tappable", "state", "summary",
    }  # fmt: skip


def test_tasks_are_deterministic_and_beside_their_pictures() -> None:
    made = list(tasks(ROW, "folder", 2, seed=0))
    assert made == list(tasks(ROW, "folder", 2, seed=0))
    assert len({t["id"] for t in made}) == len(made)
    assert all(t["image"] == "folder/images/a.png" for t in made)
    assert {t["task"] for t in made} >= {"find_text", "find_widget", "ocr", "tappable"}
