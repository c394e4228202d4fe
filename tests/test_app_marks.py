"""What lies on the picture, and the words of the answer that belong to it."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from app_data import ANSWER, BOX, talk, turn

from mm15_mlx.apps import drawing, linking, marks, tasks
from mm15_mlx.apps.linking import Span, spans
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.grounding import Box, Point
from mm15_mlx.tiling import OVERVIEW, plan

PLACE = "<box>12,40,72,140</box>"


def parsed(html: str) -> ET.Element:
    return ET.fromstring(f"<div>{html}</div>")


def chips(html: str) -> list[tuple[str | None, str]]:
    """Each chip's mark, and its words."""
    found = parsed(html).iter("button")
    return [
        (b.get("data-k"), "".join(b.itertext()))
        for b in found
        if b.get("class") == "mm-chip"
    ]


# --- words -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "marked", "found"),
    [
        ("[1, 2, 3, 4]", PLACE, ["[1, 2, 3, 4]"]),
        ("See [1, 2]: (3).", "See <point>1,2</point>: (3).", ["[1, 2]"]),
        ("click(x=1, y=2)", "<point>1,2</point>", ["click(x=1, y=2)"]),
        ("[[1, 2, 3, 4]], [[5, 6, 7, 8]] and", f"{PLACE}, {PLACE} and",
         ["[[1, 2, 3, 4]]", "[[5, 6, 7, 8]]"]),
        ("(at [1, 2, 3, 4])", f"(at {PLACE})", ["[1, 2, 3, 4]"]),
        ("[1, 2, 3, 4][5, 6, 7, 8]", PLACE + PLACE, ["[1, 2, 3, 4]", "[5, 6, 7, 8]"]),
        ('button "Delete (3)" [1, 2, 3, 4]\nicon [5, 6, 7, 8]',
         f'button "Delete (3)" {PLACE}\nicon {PLACE}',
         ["[1, 2, 3, 4]", "[5, 6, 7, 8]"]),
        ("Nothing (here).", "Nothing (here).", []),
        ("It is at [1, 2, 3, 4]", f"It was at {PLACE}", []),  # another text
        ("It is here", f"It is {PLACE}", []),
    ],
)  # fmt: skip
def test_places_are_found_in_the_answer(
    answer: str, marked: str, found: list[str]
) -> None:
    assert [answer[s.start : s.end] for s in spans(answer, marked)] == found


def test_spans_have_the_numbers_of_the_markup() -> None:
    assert spans("a [1, 2]", "a <point>3,4</point>") == [Span(2, 8, "3,4")]


def test_points_are_linked(screen: Path) -> None:
    point = Point("Tap here", 0, (3.0, 4.0), (25, 20))
    asked = turn(
        answer="Tap here: [25, 20].", marked="Tap here: <point>3,4</point>.",
        boxes=(), points=(point,),
    )  # fmt: skip
    html = drawing.talk(talk(screen, asked))
    assert chips(html) == [("0", "1 Tap here: [25, 20]")]


def test_the_label_is_in_the_chip_and_brackets_in_it_do_no_harm(screen: Path) -> None:
    labels = ['button "Delete (3)"', "icon", 'text "a [b] c"']
    px = [(1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0), (9.0, 9.0, 20.0, 20.0)]
    boxes = tuple(Box(a, 0, p, BOX.norm) for a, p in zip(labels, px, strict=True))
    places = [", ".join(f"{v:g}" for v in p) for p in px]
    lines = [f"{a} [{p}]" for a, p in zip(labels, places, strict=True)]
    tags = [f"<box>{p.replace(' ', '')}</box>" for p in places]
    asked = turn(
        answer="Two & a half:\n" + "\n".join(lines),
        marked="Two & a half:\n"
        + "\n".join(f"{a} {t}" for a, t in zip(labels, tags, strict=True)),
        boxes=boxes,
    )
    html = drawing.talk(talk(screen, asked))
    assert chips(html) == [(str(k), f"{k + 1} {line}") for k, line in enumerate(lines)]
    told = parsed(html).find(".//p[@class='mm-a']")
    assert told is not None and told.text == "Two & a half:\n"


def test_what_is_no_mark_stays_text(screen: Path) -> None:
    """A line of a list that is no element; the pairs after it are not shifted."""
    asked = turn(
        answer=f"blob [0, 0, 9, 9]\nicon {ANSWER}",
        marked=f"blob <box>0,0,1,2</box>\nicon {PLACE}",
    )
    assert chips(drawing.talk(talk(screen, asked))) == [("0", f"1 {ANSWER}")]


def test_answers_about_two_pictures_are_linked(screen: Path) -> None:
    """On the picture that has them, and from the other one by way of the turn."""
    boxes = (Box("switch", 1, BOX.px, BOX.norm), Box("icon", 1, (1, 2, 3, 4), BOX.norm))
    answer = "switch [1, 2, 3, 4], icon [5, 6, 7, 8]"
    asked = turn(
        scope=(0, 1), answer=answer, boxes=boxes,
        marked=f"switch {PLACE}, icon <box>1,2,3,4</box>",
    )  # fmt: skip
    conversation = talk(screen, asked, pictures=2)
    html = drawing.talk(conversation)
    words = ["1 switch [1, 2, 3, 4] on picture 2", "2 icon [5, 6, 7, 8] on picture 2"]
    assert chips(html) == [(None, w) for w in words]
    later = [b for b in parsed(html).iter("button") if b.get("data-later")]
    assert [(b.get("data-turn"), b.get("data-later")) for b in later] == [
        ("0", "0"),
        ("0", "1"),
    ]
    conversation.show(1)
    words = ["1 switch [1, 2, 3, 4]", "2 icon [5, 6, 7, 8]"]
    assert chips(drawing.talk(conversation)) == [("0", words[0]), ("1", words[1])]


def test_an_endless_answer_is_linked_quickly() -> None:
    """No pattern tries every way to divide the text."""
    text = "[1, 2, 3, 4] " * 2000
    marked = f"{PLACE} " * 2000
    assert len(spans(text, marked)) == 2000
    assert spans(text + "!", marked) == []
    assert linking.spans("([" * 4000, PLACE) == []


# --- labels and tiles -----------------------------------------------------------------


def label_of(drawn: str) -> tuple[str, list[float]]:
    """A mark's words on the picture, and from where to where they go."""
    found = parsed(drawn).find(".//g[@class='mm-label']")
    assert found is not None
    text, rect = found.find("text"), found.find("rect")
    assert text is not None and rect is not None
    x, wide = (float(rect.get(a, "")) for a in ("x", "width"))
    return text.text or "", [x, x + wide]


def test_labels_are_drawn_beside_their_numbers(screen: Path) -> None:
    html = drawing.view(talk(screen, turn()))
    assert label_of(html)[0] == "download icon"
    nameless = turn(boxes=(Box("", 0, BOX.px, BOX.norm),))
    assert "mm-label" not in drawing.view(talk(screen, nameless))


@pytest.mark.parametrize("x", [0, 30, 100, 290])
@pytest.mark.parametrize(
    "label", ["OK", "a label that nobody wants to read", "设置" * 14]
)
def test_labels_are_short_and_inside_the_picture(x: int, label: str) -> None:
    box = Box(label, 0, (float(x), 50.0, x + 10.0, 60.0), BOX.norm)
    text, (left, right) = label_of(marks.mark(0, box, 1.0, (300, 500)))
    assert 0 <= left < right <= 300
    assert text == label if label == "OK" else text.endswith("…")
    assert label.startswith(text.rstrip("…")) and len(text) <= marks.LETTERS + 1


def test_many_labels_wait_to_be_pointed_at(screen: Path) -> None:
    boxes = tuple(Box("icon", 0, BOX.px, BOX.norm) for _ in range(marks.MANY + 1))
    few = drawing.view(talk(screen, turn(boxes=boxes[:-1])))
    many = drawing.view(talk(screen, turn(boxes=boxes)))
    assert "mm-many" in many and "mm-many" not in few
    css = Path(drawing.__file__).with_name("page.css").read_text(encoding="utf-8")
    rule = re.search(r"\.mm-many [^{]*\.mm-label \{ display: none; \}", css)
    assert rule and ".mm-hot" in rule[0] and ".mm-picked" in rule[0]


def test_tiles_lie_on_the_picture(ui_config: ModelConfig) -> None:
    tiling = plan(120, 200, ui_config.tiling)
    views = range(len(tiling.indices))
    edges = [marks.view_edges(tiling, v, (120, 200)) for v in views]
    assert edges.pop(tiling.indices.index(OVERVIEW)) == (0, 0, 120, 200)
    rows, columns = tiling.grid
    assert len(edges) == rows * columns
    assert min(e[0] for e in edges) == 0 == min(e[1] for e in edges)
    assert max(e[2] for e in edges) == 120 and max(e[3] for e in edges) == 200


def test_every_view_has_a_caption(ui_config: ModelConfig, screen: Path) -> None:
    tiling = plan(120, 200, ui_config.tiling)
    side = ui_config.connector_config.pooled_grid
    shown = drawing.view(talk(screen), tiling, side=side)
    root = parsed(shown)
    captions = [t.text for t in root.findall(".//g[@class='mm-caption']/text")]
    rows, columns = tiling.grid
    wanted = {
        f"tile {r}, {c} · {side**2} tokens"
        for r in range(1, rows + 1)
        for c in range(1, columns + 1)
    }
    assert set(captions) == wanted | {f"overview: all of it · {side**2} tokens"}
    assert len(captions) == len(tiling.indices)
    assert len(root.findall(".//rect[@class='mm-tile']")) == rows * columns
    assert len(root.findall(".//rect[@class='mm-whole']")) == 1


# --- places typed into the question ---------------------------------------------------

READ = next(task for task in tasks.TASKS if task.label == "Read this")


def test_tasks_take_the_place_from_the_question(screen: Path) -> None:
    conversation = talk(screen, turn())
    sent = "What text is displayed in the element <box>20,150,100,180</box>?"
    typed = "What is <box>20,150,100,180</box>?"
    assert tasks.shown(READ, conversation, typed) == sent
    conversation.point([5, 5, 9, 9])  # before it was typed
    assert READ.prompt(conversation, typed) == sent
    assert PLACE in READ.prompt(conversation, "this <point>30,60</point>")  # around it
    assert "<box>5,5,9,9</box>" in READ.prompt(conversation, "this")
    assert conversation.region is not None and conversation.region.px == (5, 5, 9, 9)
    assert "<box>90,100,120,200</box>" in READ.prompt(
        conversation, "<box>500,300,90,100</box>"
    )  # cut to the picture


def test_places_of_the_question_that_are_none(screen: Path) -> None:
    conversation = talk(screen, pictures=2)
    with pytest.raises(UserError, match="point at something first"):
        READ.prompt(conversation, "<box>1,2</box>")
    with pytest.raises(UserError, match="that box is empty: its corners must differ"):
        READ.prompt(conversation, "<box>1,2,1,9</box>")
    with pytest.raises(
        UserError,
        match="the place in the question is on picture 2, and picture 1 is shown; "
        "choose the other one first",
    ):
        READ.prompt(conversation, "<box image=1>1,2,3,4</box>")
    conversation.show(1)
    assert "<box>1,2,3,4</box>" in READ.prompt(
        conversation, "<box image=1>1,2,3,4</box>"
    )
