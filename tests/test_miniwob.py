"""The tasks about MiniWoB++ pages: those shipped, how they are picked, a real build.

Run: python -m pytest tests/test_miniwob.py. The last part needs playwright, a Chromium
and `pip install --no-deps miniwob`.
"""

import importlib.metadata
import importlib.util
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from PIL import Image

from mm15_mlx.config import UserError
from mm15_mlx.evaluate import read_tasks
from mm15_mlx.screens.capture import find_chromium
from mm15_mlx.screens.questions import short_questions
from mm15_mlx.screens.sheet import read_rows
from mm15_mlx.screens.tasks import tasks
from mm15_mlx.ui import ELEMENT_TYPES

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
DATA = BENCHMARKS / "data" / "miniwob.jsonl"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """benchmarks/miniwob.py under a name that cannot be taken for the package."""
    spec = importlib.util.spec_from_file_location(
        "miniwob_benchmark", BENCHMARKS / "miniwob.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- what is shipped ---------------------------------------------------------------


def test_shipped_tasks_are_sound(bench: ModuleType) -> None:
    rows = read_tasks(DATA)
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["kit"] for row in rows} == {"miniwob"}
    pictures = defaultdict(set)
    for row in rows:
        pictures[row["page"]].add(row["image"])
        x1, y1, x2, y2 = row["box"]
        assert 0 <= x1 < x2 <= bench.WIDTH * bench.SCALE, row
        assert 0 <= y1 < y2 <= bench.HEIGHT * bench.SCALE, row
        assert {row.get("type", "text"), *row.get("accept", ())} <= {*ELEMENT_TYPES}
    assert set(pictures) == set(bench.PAGES) and len(pictures) >= 25
    assert all(len(seeds) >= 8 for seeds in pictures.values())


def test_shipped_pictures_are_those_of_the_tasks(bench: ModuleType) -> None:
    named = {Path(row["image"]) for row in read_tasks(DATA)}
    assert named == set((DATA.parent / "miniwob").iterdir())
    assert sum(path.stat().st_size for path in named) < 3_000_000
    size = bench.WIDTH * bench.SCALE, bench.HEIGHT * bench.SCALE
    for path in named:
        with Image.open(path) as picture:
            assert picture.size == size, path


def test_the_first_tasks_are_about_every_page(bench: ModuleType) -> None:
    rows = read_tasks(DATA)
    pages = {row["page"] for row in rows[: len(rows) // 8 + len(bench.PAGES)]}
    assert pages == set(bench.PAGES)


# -- how tasks are picked ----------------------------------------------------------


def element(kind: str, text: str, box: list[float], **state: object) -> dict:
    tappable = kind != "text"
    return {"type": kind, "text": text, "label": text, "icon": "", "box": box,
            "tappable": tappable, "state": state}  # fmt: skip


def written(text: str, box: list[float]) -> dict:
    """A line as annotate.js gives it."""
    step = (box[2] - box[0]) / len(text)
    edges = [box[0] + step * k for k in range(len(text) + 1)]
    return {"text": text, "box": box, "edges": edges, "dimmed": False}


def test_boxes_are_pixels_and_instructions_lose_their_full_stop(
    bench: ModuleType,
) -> None:
    ok = element("button", "ok", [10, 60, 40, 80])
    found = {"texts": [written("ok", [20, 65, 30, 75])], "elements": [ok]}
    rows = list(bench.tasks("click", 3, 'Click on the "ok" button.', found, ok))
    by_label = {row["id"].rsplit("-", 1)[1]: row for row in rows}
    assert by_label["ocr"]["box"] == by_label["find_text"]["box"] == [60, 195, 90, 225]
    assert by_label["find_widget"]["query"] == "ok button"
    assert by_label["find_widget"]["asks"] == "name"
    assert by_label["tappable"]["answer"] == "yes"
    asked = by_label["instruction"]
    assert (asked["task"], asked["asks"]) == ("find_widget", "instruction")
    assert asked["query"] == 'Click on the "ok" button'
    assert asked["box"] == [30, 180, 120, 240]
    assert asked["image"] == "miniwob/click-3.webp"


def test_what_may_be_tappable_is_not_asked_for(bench: ModuleType) -> None:
    elements = [
        element("text", "words", [10, 60, 40, 80], unsure=True),
        element("menuitem", "row", [10, 90, 40, 99], accept=["link", "button"]),
    ]
    for seed in range(12):
        found = {"texts": [], "elements": elements}
        for row in bench.tasks("page", seed, "Do this.", found, None):
            if row["task"] == "tappable":
                assert row["box"] == [30, 270, 120, 297]
            if row["task"] == "widget_class":
                right = ["link", "button"] if row["type"] == "menuitem" else None
                assert row.get("accept") == right
            assert not row["id"].endswith("instruction")


def test_missing_package_says_how_to_get_it(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(UserError, match="not installed; pip install --no-deps miniwob"):
        bench.html_folder()
    monkeypatch.setattr(sys, "argv", ["miniwob.py"])
    with pytest.raises(SystemExit, match="^error: the pages come from the package"):
        bench.main()


def test_unknown_page_is_named(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "html_folder", lambda: tmp_path)
    message = re.escape("the package miniwob has no page 'click-buton'")
    with pytest.raises(UserError, match=message):
        bench.build(tmp_path / "out.jsonl", ["click-buton"])
    assert not (tmp_path / "out.jsonl").exists()


def test_a_page_is_a_screen_to_train_on(bench: ModuleType) -> None:
    row = element("menuitem", "row", [10, 90, 40, 99], accept=["link"])
    line = written("row", [12, 91, 30, 98])
    found = bench.screen_row("menu", 9, {"texts": [line], "elements": [row]})
    assert found["texts"][0]["edges"] == [36, 54, 72, 90]  # pixels, as boxes are
    assert found["image"] == "images/menu-9.webp"
    assert found["texts"][0]["box"] == [36, 273, 90, 294]
    asked = {q.task: q for q in short_questions(found, Random(0), 20)}
    assert asked["find_text"].answer == "<box>36,273,90,294</box>"
    assert asked["widget_class"].answer == "menuitem"
    (typed,) = [t for t in tasks(found, "x", 1, 0) if t["task"] == "widget_class"]
    assert (typed["type"], typed["accept"]) == ("menuitem", ["link"])


# -- with a browser ----------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> None:
    pytest.importorskip("playwright")
    if importlib.util.find_spec("miniwob") is None:  # importing it needs selenium
        pytest.skip("the package miniwob is not installed")
    if find_chromium() is None:
        pytest.skip("no Chromium on this machine")


@pytest.mark.usefixtures("browser")
def test_a_build_repeats_itself(bench: ModuleType, tmp_path: Path) -> None:
    pages = ("click-tab", "login-user")
    outs = [tmp_path / name / "m.jsonl" for name in ("one", "two")]
    counts = [bench.build(out, pages, (5,)) for out in outs]
    assert outs[0].read_text() == outs[1].read_text()
    rows = [json.loads(line) for line in outs[0].read_text().splitlines()]
    assert counts == [len(rows)] * 2 and len(read_tasks(outs[0])) == len(rows)
    for page in pages:
        one, two = ((out.parent / "miniwob" / f"{page}-5.webp") for out in outs)
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.usefixtures("browser")
def test_screens_are_annotated(bench: ModuleType, tmp_path: Path) -> None:
    assert bench.build_screens(tmp_path, ("click-tab",), (8,)) == 1
    (row,) = read_rows(tmp_path)
    with Image.open(tmp_path / row["image"]) as picture:
        assert picture.size == (row["width"], row["height"])
    assert "Tab #1" in {t["text"] for t in row["texts"]}


@pytest.mark.usefixtures("browser")
def test_a_target_is_what_the_instruction_names(bench: ModuleType) -> None:
    with bench.Camera(bench.html_folder()) as camera:
        stage = bench.Stage(camera)
        for seed in range(3):
            instruction, words = stage.begin("click-tab", seed)
            assert "Last reward" not in words
            found = stage.annotate()
            tabs = [e for e in found["elements"] if e["type"] == "tab"]
            assert [tab["text"] for tab in tabs] == ["Tab #1", "Tab #2", "Tab #3"]
            target = stage.target("click-tab", seed, words, found["elements"])
            assert target and f"{target['text']}." in instruction
        # Several clicks: nothing on the page earns the reward at once.
        _, words = stage.begin("login-user", 0)
        fields = stage.annotate()["elements"]
        assert {"Username", "Password"} <= {e["label"] for e in fields}
        assert stage.target("login-user", 0, words, fields) is None
