"""What the app shows and exports: HTML, the annotated PNG, commands, training rows."""

import io
import json
import math
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from app_data import ANSWER, BOX, document, talk, turn
from PIL import Image

from mm15_mlx.apps import drawing, export, marks
from mm15_mlx.apps.pictures import Shot
from mm15_mlx.apps.state import Conversation
from mm15_mlx.config import UserError
from mm15_mlx.grounding import Box, Point
from mm15_mlx.tiling import plan

NASTY = "<img src=x onerror=alert(1)> \"'&${1}{{2}}"


def parsed(html: str) -> ET.Element:
    """As XML: what is not well formed is an error."""
    return ET.fromstring(f"<div>{html}</div>")


def test_view_draws_boxes_in_pixels_of_the_picture(screen: Path) -> None:
    conversation = talk(screen, turn())
    conversation.point([5, 6, 50, 60])
    root = parsed(drawing.view(conversation))
    svg = root.find(".//svg")
    assert svg is not None and svg.get("viewBox") == "0 0 120 200"
    line = root.find(".//rect[@class='mm-line']")
    assert line is not None
    shown = [float(line.get(k, "")) for k in ("x", "y", "width", "height")]
    assert shown == [12, 40, 60, 100]
    region = root.find(".//rect[@class='mm-region']")
    assert region is not None and region.get("width") == "45"
    title = root.find(".//g/title")
    assert title is not None and title.text == "1: download icon [12, 40, 72, 140]"


def test_view_of_nothing_points_and_corners(screen: Path) -> None:
    assert "No picture yet" in drawing.view(Conversation())
    conversation = talk(screen, turn(boxes=(), points=(Point("x", 0, (3, 4), (1, 2)),)))
    conversation.point([9, 9], box=True)
    html = drawing.view(conversation)
    parsed(html)
    assert 'class="mm-corner"' in html and '<circle class="mm-line"' in html
    conversation.point([9, 9])
    conversation.unpoint()
    conversation.point([7, 8])
    assert 'class="mm-region" d="M' in drawing.view(conversation)


def test_nothing_that_was_written_is_html(screen: Path) -> None:
    box = Box(NASTY, 0, BOX.px, BOX.norm)
    conversation = talk(screen, turn(NASTY, answer=NASTY, boxes=(box,)))
    conversation.shots[0] = Shot(type(conversation.shots[0].picture)(
        conversation.shots[0].picture.image, NASTY
    ))  # fmt: skip
    for html in (
        drawing.view(conversation),
        drawing.strip(conversation, conversation.shots),
        drawing.talk(conversation, NASTY, NASTY, NASTY),
        drawing.status(NASTY),
        export.links(conversation),
        drawing.inside(None, NASTY, conversation.shots[0], None, 0, None),
    ):
        tags = {e.tag for e in parsed(html).iter()}
        assert "onerror" not in re.sub(r"&lt;.*?&gt;", "", html)
        assert tags & {"script"} == set()


def test_elements_are_a_table_with_a_filter(screen: Path) -> None:
    labels = ['switch "Wi-Fi"', 'button "OK"', "icon", 'button "No"']
    boxes = tuple(Box(text, 0, BOX.px, BOX.norm) for text in labels)
    root = parsed(drawing.view(talk(screen, turn(boxes=boxes))))
    rows = [[c.text for c in r.findall("td")[1:3]] for r in root.findall(".//tbody/tr")]
    assert rows == [
        ["switch", "Wi-Fi"],
        ["button", "OK"],
        ["icon", None],
        ["button", "No"],
    ]
    options = [o.text for o in root.findall(".//option")]
    assert options == ["all 4", "button", "icon", "switch"]


def test_answers_link_their_boxes(screen: Path) -> None:
    told = turn(
        answer=f"It is at {ANSWER}.", marked="It is at <box>12,40,72,140</box>."
    )
    html = drawing.talk(talk(screen, told))
    chip = parsed(html).find(".//button[@class='mm-chip']")
    assert chip is not None and chip.get("data-k") == "0"
    assert "first token 0.25 s" in html
    older = drawing.talk(talk(screen, turn(), turn(boxes=(), answer="No")))
    assert "mm-chip" not in older  # its boxes are no longer on the picture


def test_streaming_answer_is_busy(screen: Path) -> None:
    html = drawing.talk(talk(screen, pictures=2), "Q?", "so far", "2 ahead")
    busy = parsed(html).find(".//p[@aria-busy='true']")
    assert busy is not None and busy.text == "so far"
    both = drawing.talk(talk(screen, turn(scope=(0, 1)), pictures=2))
    assert "picture 1, 2" in both


def test_inside_says_what_is_known(ui_config, screen: Path) -> None:
    conversation = talk(screen, turn())
    tiling = plan(120, 200, ui_config.tiling)
    facts = {
        "parameters": {"total": 1_000_000}, "bytes": 500_000, "licence": "MIT",
        "source": "here",
    }  # fmt: skip
    shown = drawing.inside(
        facts, "nano-ui", conversation.shots[0], tiling, 80, conversation.turns[0]
    )
    for words in ("4.0 bits each", "MIT", "80 in all", "121 MB", "70 tokens/s"):
        assert words in shown


def linear(colour: str) -> list[float]:
    """`#rrggbb` → light of red, green and blue, 0…1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]


def test_colours_are_readable() -> None:
    """WCAG contrast of each number on its paint: at least 4.5 : 1."""
    for paint, ink in marks.COLOURS:
        low, high = sorted(
            0.2126 * r + 0.7152 * g + 0.0722 * b
            for r, g, b in map(linear, (paint, ink))
        )
        assert (high + 0.05) / (low + 0.05) >= 4.5, (paint, ink)


# What eyes without one kind of cone see, in linear light: Machado, Oliveira, Fernandes
# 2009, severity 1.
SEEN = {
    "all": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protan": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deutan": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritan": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
XYZ = (  # of sRGB's red, green and blue, over the white of D65
    (0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883),
)
APART = 15  # CIE 1976 differences; 2.3 is just noticeable. Not published: our choice


def times(matrix: tuple, vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def lab(colour: str, eye: str) -> tuple[float, float, float]:
    light = [min(max(v, 0.0), 1.0) for v in times(SEEN[eye], linear(colour))]
    x, y, z = (
        v ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116
        for v in times(XYZ, light)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("eye", SEEN)
def test_colours_differ_for_every_eye(eye: str) -> None:
    paints = [paint for paint, _ in marks.COLOURS]
    for a, b in combinations(paints, 2):
        assert math.dist(lab(a, eye), lab(b, eye)) >= APART, (a, b)


def test_red_and_green_would_not_do() -> None:
    """Otherwise the test above could not fail."""
    pair = "#b22222", "#6b6b00"
    for eye, told in (("all", True), ("deutan", False)):
        assert (math.dist(*(lab(c, eye) for c in pair)) >= APART) == told


def test_annotated_png(screen: Path) -> None:
    conversation = talk(screen, turn())
    image = Image.open(io.BytesIO(export.png(conversation)))
    assert image.size == (120, 200)
    rgb = tuple(int(marks.COLOURS[0][0][i : i + 2], 16) for i in (1, 3, 5))
    for corner in ((12, 140), (72, 140), (72, 100)):  # on the box's own pixels
        assert image.getpixel(corner) == rgb
    assert conversation.shots[0].picture.image.getpixel((12, 140)) != rgb
    dot = drawing.annotate(image, [Point("here", 0, (60.0, 100.0), (500, 500))])
    assert dot.getpixel((60, 100)) == rgb


def test_json_and_markdown(screen: Path) -> None:
    conversation = talk(screen, turn("Is ``` this?"))
    assert json.loads(export.as_json(conversation.turns[0])) == document(ANSWER)
    text = export.as_markdown(conversation)
    assert "- picture 1: `screen.png`" in text
    assert "````text\nIs ``` this?\n````" in text and ANSWER in text
    with pytest.raises(UserError, match="there is no answer yet; ask something first"):
        talk(screen).current()


def test_copied_command_runs(
    button: Path, screen: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(screen.parent)
    asked = turn('Where\'s the "button"?', model=str(button))
    words = shlex.split(export.as_command(asked, talk(screen).shots))
    code, out, _ = cli(*words[1:])
    assert (code, out) == (0, f"{ANSWER}\n")


@pytest.mark.parametrize("earlier", [(), (("What's 'this'?", 'A "button"'),)])
def test_copied_python_runs(
    button: Path,
    screen: Path,
    earlier: tuple,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(screen.parent)
    asked = turn('Where is "it"\'s \\n?', model=str(button), earlier=earlier)
    code = export.as_python(asked, talk(screen).shots)
    exec(compile(code, "copied", "exec"), {})
    assert capsys.readouterr().out.startswith(ANSWER)


def test_training_rows_are_what_data_check_accepts(
    ui_folder: Path, screen: Path, tmp_path: Path, cli: Callable
) -> None:
    conversation = talk(screen, turn("Where is the switch?"))
    folder = tmp_path / "rows"
    asked = conversation.turns[0]
    path = export.save_row(folder, asked, conversation.shots, asked.marked)
    path.write_text(path.read_text().rstrip("\n"))  # as an editor may leave it
    export.save_row(folder, asked, conversation.shots, " <box>20,150,100,180</box> ")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[1]["messages"][1]["content"] == "<box>20,150,100,180</box>"
    assert rows[0]["images"] == rows[1]["images"]  # one file for one picture
    assert Image.open(folder / rows[0]["images"][0]).size == (120, 200)
    code, out, _ = cli("data", "check", folder, "--model", ui_folder)
    assert code == 0 and "train: 2 rows, 0 bad, 1 pictures" in out


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("  ", "the answer is empty; write what is right"),
        ("<box>1,2,3</box>", "is not <box>x1,y1,x2,y2</box> in pixels"),
        ("<box>500,500,600,600</box>", "lies outside the picture of 120 × 200"),
    ],
)
def test_rows_that_would_be_bad_are_not_written(
    screen: Path, tmp_path: Path, answer: str, message: str
) -> None:
    conversation = talk(screen, turn())
    with pytest.raises(UserError, match=message):
        export.save_row(tmp_path, conversation.turns[0], conversation.shots, answer)
    assert list(tmp_path.iterdir()) == []


def test_rows_that_cannot_be_written(screen: Path, tmp_path: Path) -> None:
    (tmp_path / "rows").write_text("a file")
    conversation = talk(screen, turn())
    with pytest.raises(UserError, match="cannot be written to train.jsonl: .*--rows"):
        export.save_row(
            tmp_path / "rows", conversation.turns[0], conversation.shots, "Yes"
        )
