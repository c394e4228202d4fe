"""The screen generator: plans without a browser, measurements with one.

Run: python -m pytest tests/test_screens.py. The browser part needs playwright, a
Chromium and the kits (MM15_NODE_MODULES or `npm ci` beside package.json).
"""

import json
import os
import re
import sys
from pathlib import Path
from random import Random

import pytest

from mm15_mlx.screens import HELD_OUT, LAYOUTS, Options, icons, labels, render_screens
from mm15_mlx.screens.__main__ import main
from mm15_mlx.screens.art import PICTURES, picture
from mm15_mlx.screens.build import (
    KITS,
    find_node_modules,
    finished,
    plan_screen,
    render_one,
    scaled,
)
from mm15_mlx.screens.capture import Camera
from mm15_mlx.screens.kits import lighter, mark, tag

PACKAGE = Path(sys.modules["mm15_mlx.screens"].__file__).parent
TYPES = {
    "button", "link", "text", "input", "checkbox", "radio", "switch", "select", "icon",
    "image", "tab", "slider", "menuitem",
}  # fmt: skip


# -- without faker -----------------------------------------------------------------


def test_every_icon_name_has_at_most_one_meaning_per_set() -> None:
    for family in icons.SETS:
        glyphs = list(icons.GLYPHS[family].values())
        assert len(glyphs) == len(set(glyphs)), family
    assert len(icons.NAMES) == len(set(icons.NAMES))


def test_labels_name_only_icons_that_exist() -> None:
    for entries in (labels.SETTINGS, labels.TABS, labels.ACTIONS):
        for entry in entries:
            assert entry.split(":")[1] in icons.NAMES, entry
    assert set(labels.NAVBAR) <= set(icons.NAMES)
    assert {icon for *_, icon in labels.EMPTY} <= set(icons.NAMES)


def test_labels_are_many_and_clean() -> None:
    names = [name for name in dir(labels) if name.isupper()]
    words = [w for n in names for w in getattr(labels, n) if isinstance(w, str)]
    assert len(set(words)) > 600
    assert all(word == word.strip() and word for word in words)


def test_pictures_depend_on_the_seed_only() -> None:
    for kind in PICTURES:
        assert picture(Random(1), kind) == picture(Random(1), kind)
        assert picture(Random(1), kind) != picture(Random(2), kind)


def test_mark_drops_what_is_empty_but_keeps_an_empty_text() -> None:
    assert "icon" not in mark("button", "Save")
    assert "&quot;text&quot;: &quot;&quot;" in mark("input", "Name", text="")


def test_tag_escapes_and_closes() -> None:
    assert tag('p class="a"', "1 < 2") == '<p class="a">1 &lt; 2</p>'
    assert tag("p", "") == ""


def test_dark_accents_become_lighter() -> None:
    assert lighter("#000000") == "#737373"
    assert re.fullmatch("#[0-9a-f]{6}", lighter("#ffcc00"))


def test_boxes_are_scaled_and_stay_in_the_picture() -> None:
    assert scaled([-1.0, 2.0, 10.26, 99.0], 2, 20, 30) == [0, 4.0, 20.5, 60]


def test_lock_file_names_no_address() -> None:
    text = (PACKAGE / "package-lock.json").read_text()
    assert "http" not in text
    wanted = json.loads((PACKAGE / "package.json").read_text())["dependencies"]
    assert json.loads(text)["packages"][""]["dependencies"] == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kits": ("framework8",)}, "unknown kit 'framework8': one of framework7-ios"),
        ({"layouts": ("setings",)}, "unknown layout 'setings': one of settings"),
        (
            {"viewports": ("390",)},
            "viewport '390' is not like 390x844 nor one of phone, tablet, desktop",
        ),
        (
            {"kits": ("weui",), "viewports": ("desktop",)},
            "no kit of weui is made for a viewport of desktop: they are made for "
            "phone, tablet",
        ),
        ({"layouts": ()}, "need at least one entry each"),
        ({"picture": "gif"}, "unknown picture format 'gif'"),
    ],
)
def test_wrong_options_say_what_is_right(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Options(**change)


def test_cli_reports_a_mistake_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    argv = ["screens", "--out", str(tmp_path), "--exclude-layouts", "nothing"]
    monkeypatch.setattr(sys, "argv", argv)
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: unknown layout 'nothing'")


def test_missing_kits_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run `npm ci` in a copy of"):
        find_node_modules(tmp_path, ("weui",))


def test_a_half_written_row_is_cut(tmp_path: Path) -> None:
    index = tmp_path / "screens.jsonl"
    index.write_text('{"seed": 1, "index": 0}\n{"seed": 1, "ind')
    assert finished(index) == {(1, 0)}
    assert index.read_text() == '{"seed": 1, "index": 0}\n'
    assert finished(tmp_path / "none") == set()


# -- plans -------------------------------------------------------------------------


@pytest.mark.usefixtures("faker")
@pytest.mark.parametrize("kit", KITS)
def test_every_layout_can_be_drawn_with_every_kit(kit: str) -> None:
    for number, layout in enumerate(LAYOUTS):
        plan = plan_screen(0, number, Options(kits=(kit,), layouts=(layout,)))
        specs = re.findall(r'data-el="(.*?)"', plan.html)
        assert specs, layout
        for spec in specs:
            assert json.loads(spec.replace("&quot;", '"').replace("&#x27;", "'")
                              .replace("&amp;", "&"))["type"] in TYPES  # fmt: skip
        assert "None" not in re.sub(r"<[^>]*>", " ", plan.html)


@pytest.mark.usefixtures("faker")
def test_a_plan_depends_on_seed_and_number_only() -> None:
    options = Options()
    first = [plan_screen(3, k, options) for k in range(12)]
    again = [plan_screen(3, k, options) for k in reversed(range(12))][::-1]
    assert [p.html for p in first] == [p.html for p in again]
    assert [p.shell for p in first] == [p.shell for p in again]
    assert first[0].html != plan_screen(4, 0, options).html


@pytest.mark.usefixtures("faker")
def test_plans_vary() -> None:
    plans = [plan_screen(5, k, Options()) for k in range(400)]
    assert {p.kit.name for p in plans} == set(KITS)
    assert {p.layout for p in plans} == set(LAYOUTS)
    assert 0.2 < sum(p.kit.look.dark for p in plans) / len(plans) < 0.5
    assert set(HELD_OUT) < set(LAYOUTS)


# -- with a browser ----------------------------------------------------------------


@pytest.fixture(scope="module")
def rendered(kits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two screens of each kit."""
    out = tmp_path_factory.mktemp("screens")
    (out / "images").mkdir()
    with Camera(kits) as camera, (out / "screens.jsonl").open("w") as rows:
        for seed, kit in enumerate(KITS):
            for number, layout in enumerate(("settings", "sign-up")):
                sizes = ("390x844", "1280x800")
                options = Options((kit,), (layout,), sizes[-1:] if kit == "adminlte"
                                  else sizes[:1], 2)  # fmt: skip
                plan = plan_screen(seed, number, options)
                row = render_one(camera, plan, out, options)
                rows.write(json.dumps(row) + "\n")
    return out


def read(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "screens.jsonl").open()]


def boxes_stay_inside(row: dict) -> None:
    for item in (*row["texts"], *row["elements"]):
        x1, y1, x2, y2 = item["box"]
        assert 0 <= x1 < x2 <= row["width"], item
        assert 0 <= y1 < y2 <= row["height"], item


def test_rows_fit_their_pictures(rendered: Path) -> None:
    from PIL import Image

    for row in read(rendered):
        with Image.open(rendered / row["image"]) as picture:
            assert picture.size == (row["width"], row["height"])
            assert row["viewport"] == f"{picture.width // 2}x{picture.height // 2}"
        assert len(row["texts"]) > 3
        assert {"kit", "theme", "layout", "viewport", "dark", "seed"} <= row.keys()
        boxes_stay_inside(row)


def test_text_lines_have_one_edge_more_than_characters(rendered: Path) -> None:
    for row in read(rendered):
        for line in row["texts"]:
            edges = line["edges"]
            assert len(edges) == len(line["text"]) + 1
            assert edges == sorted(edges)
            assert abs(edges[0] - line["box"][0]) < 12
            assert abs(edges[-1] - line["box"][2]) < 12


def inked(folder: Path, row: dict) -> list[bool]:
    """Of each line of a screen, whether the rows of pixels just outside its box are
    plain and those inside are not."""
    import numpy as np
    from PIL import Image

    with Image.open(folder / row["image"]) as picture:
        grey = np.asarray(picture.convert("L")).astype(int)
    found = []
    for line in row["texts"]:
        x1, y1, x2, y2 = (round(v) for v in line["box"])
        if line.get("dimmed") or y1 < 4 or y2 > row["height"] - 4:
            continue
        inside = np.ptp(grey[y1:y2, x1:x2])
        outside = max(np.ptp(grey[y, x1:x2]) for y in (y1 - 3, y2 + 2))
        found.append(bool(inside > 40 and outside < 40))
    return found


def test_text_boxes_hold_the_ink(rendered: Path) -> None:
    found = [tight for row in read(rendered) for tight in inked(rendered, row)]
    assert len(found) > 50
    assert sum(found) / len(found) > 0.85


def test_elements_are_named(rendered: Path) -> None:
    rows = read(rendered)
    elements = [e for row in rows for e in row["elements"]]
    assert {e["type"] for e in elements} <= TYPES
    assert all(e["label"] for e in elements)
    switches = [e for e in elements if e["type"] == "switch"]
    assert switches
    names = {entry.split(":")[0] for entry in labels.SETTINGS}
    assert all(e["label"] in names and "checked" in e["state"] for e in switches)


def test_icons_of_every_set_are_installed(kits: Path) -> None:
    assert icons.missing(kits) == {family: [] for family in icons.SETS}


def test_a_run_resumes_and_repeats_itself(kits: Path, tmp_path: Path) -> None:
    options = Options(("framework7-ios",), viewports=("360x800",), scale=2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert render_screens(whole, 4, 8, options, 0, kits, progress=False) == 4
    assert render_screens(parts, 1, 8, options, 3, kits, progress=False) == 1
    assert render_screens(parts, 4, 8, options, 0, kits, progress=False) == 3
    assert render_screens(parts, 4, 8, options, 0, kits, progress=False) == 0
    assert sorted(read(parts), key=lambda row: row["index"]) == read(whole)
    for row in read(whole):
        assert (whole / row["image"]).read_bytes() == (
            parts / row["image"]
        ).read_bytes()


def test_nothing_is_fetched(kits: Path) -> None:
    plan = plan_screen(0, 0, Options(("weui",), ("settings",), ("360x800",), 1))
    html = plan.html + '<img id="far" src="https://example.com/a.png">'
    with Camera(kits) as camera:
        camera.shoot(plan.kit, html, plan.shell, 360, 800, 1, "jpeg")
        page, _ = camera.pages["weui"]
        assert page.evaluate("document.getElementById('far').naturalWidth") == 0


def test_labels_of_outlined_ionic_fields_are_whole(kits: Path) -> None:
    options = Options(("ionic-md",), ("sign-up",), ("390x844",), 2)
    plans = (plan_screen(0, k, options) for k in range(50))
    outlined = r'label="([^"]+)" label-placement="stacked" fill="outline"'
    plan = next(p for p in plans if re.search(outlined, p.html))
    with Camera(kits) as camera:
        shell = {**plan.shell, "scroll": 0}
        camera.shoot(plan.kit, plan.html, shell, 390, 844, 2, "jpeg")
        page, _ = camera.pages["ionic-md"]
        cut = page.evaluate(
            """() => [...document.querySelectorAll("ion-input[fill=outline]")].map(
              (n) => getComputedStyle(n.closest("ion-item")).overflowY)"""
        )
    assert cut and set(cut) == {"visible"}


def test_missing_playwright_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(RuntimeError, match=r"pip install 'mm15-mlx\[screens\]'"):
        Camera(Path(os.devnull)).__enter__()
