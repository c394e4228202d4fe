"""Tablets and desktops, maps, keyboards and tables of the screen generator."""

import json
import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from test_screens import boxes_stay_inside, inked

from mm15_mlx.screens import Options, viewports
from mm15_mlx.screens.build import KITS, find_node_modules, plan_screen, render_one
from mm15_mlx.screens.capture import Camera, find_chromium
from mm15_mlx.screens.look import Look
from mm15_mlx.screens.wide import Arrangement

NEW = (
    "map", "typing-chat", "typing-form", "typing-search", "passcode", "data-table",
    "board", "filters",
)  # fmt: skip


# -- sizes, without faker ----------------------------------------------------------


def test_sizes_are_of_one_form_each() -> None:
    assert len(set(viewports.VIEWPORTS)) == len(viewports.VIEWPORTS)
    for form, sizes in viewports.FORMS.items():
        assert {viewports.form_of(size) for size in sizes} == {form}
    assert viewports.form_of("844x390") == "phone"
    assert viewports.form_of("834x1194") == "tablet"
    assert viewports.form_of("1600x900") == "desktop"
    assert sum(viewports.SHARES.values()) == pytest.approx(1)


def test_names_of_forms_stand_for_their_sizes() -> None:
    mixed = viewports.expand(("desktop", "390x844", "1280x800"))
    assert mixed == (*viewports.FORMS["desktop"], "390x844")
    with pytest.raises(ValueError, match="'watch' is not like 390x844 nor one of"):
        viewports.expand(("watch",))


def test_forms_have_their_shares() -> None:
    rng = Random(0)
    drawn = [viewports.pick(rng, viewports.VIEWPORTS) for _ in range(4000)]
    forms = Counter(map(viewports.form_of, drawn))
    for form, share in viewports.SHARES.items():
        assert forms[form] / len(drawn) == pytest.approx(share, abs=0.03)
    only = {viewports.pick(rng, ("390x844", "1280x800")) for _ in range(99)}
    assert only == {"390x844", "1280x800"}


def test_a_phone_keeps_its_columns_and_counts() -> None:
    phone = Look(width=430, height=932, breadth=430)
    assert (phone.columns(2), phone.many(6, 2)) == (2, 6)
    wide = Look(form="desktop", width=1440, height=900, breadth=1200)
    assert wide.columns(2) == 5 and wide.many(6, 2) == 16
    assert Look(form="tablet", breadth=300).columns(2) == 2


@pytest.mark.parametrize(
    ("arrangement", "breadth"),
    [
        (Arrangement("map"), 1280),
        (Arrangement("table", side=200), 1080),
        (Arrangement("cart", side=200, column=640), 640),
        (Arrangement("settings", 80, 320, list_first=True), 320),
        (Arrangement("profile", 80, 320, column=900), 880),
    ],
)
def test_a_layout_knows_its_breadth(arrangement: Arrangement, breadth: int) -> None:
    assert arrangement.breadth(1280) == breadth


# -- plans -------------------------------------------------------------------------


@pytest.mark.usefixtures("faker")
def test_kits_stay_on_the_forms_they_are_made_for() -> None:
    plans = [plan_screen(1, k, Options()) for k in range(300)]
    for plan in plans:
        form = viewports.form_of(plan.viewport)
        assert form in KITS[plan.kit.name].forms
        assert plan.scale in viewports.SCALES[form]
        assert ("x-pane" in plan.html) == (form != "phone")
        assert plan.kit.look.phone_bar is False or form != "desktop"
    assert {p.scale for p in plans} == {1, 2, 3}


@pytest.mark.usefixtures("faker")
def test_wide_screens_have_lists_beside_details_and_side_bars() -> None:
    options = Options(viewports=("tablet", "desktop"), layouts=("settings", "profile"))
    pages = [plan_screen(2, k, options).html for k in range(60)]
    panes = Counter(html.count('class="x-pane"') for html in pages)
    assert set(panes) == {1, 2} and min(panes.values()) > 10
    assert 10 < sum("x-places" in html for html in pages) < 50


@pytest.mark.usefixtures("faker")
def test_desktops_have_no_keyboard() -> None:
    for form, keys in (("phone", True), ("tablet", True), ("desktop", False)):
        options = Options(viewports=(form,), layouts=("typing-chat",))
        assert ("x-keyrow" in plan_screen(0, 1, options).html) is keys


@pytest.mark.usefixtures("faker")
def test_keys_are_named_buttons() -> None:
    options = Options(("framework7-ios",), ("typing-search",), ("phone",))
    html = plan_screen(0, 0, options).html
    specs = [json.loads(s.replace("&quot;", '"').replace("&amp;", "&"))
             for s in re.findall(r'class="x-key .*?data-el="(.*?)"', html)]  # fmt: skip
    assert {s["type"] for s in specs} == {"button"}
    labels = {s["label"].lower() for s in specs}
    assert set("qwertyuiopasdfghjklzxcvbnm") < labels
    assert {"space", "shift", "delete", "enter", "numbers"} < labels


@pytest.mark.usefixtures("faker")
def test_new_layouts_can_be_left_out() -> None:
    options = Options(layouts=NEW[1:])
    assert all(plan_screen(3, k, options).layout != "map" for k in range(60))


# -- with a browser ----------------------------------------------------------------


@pytest.fixture(scope="module")
def rendered(faker: None, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Wide screens and new layouts; each row with its folder."""
    pytest.importorskip("playwright")
    if find_chromium() is None:
        pytest.skip("no Chromium on this machine")
    kits = ("framework7-ios", "ionic-md", "bootstrap", "adminlte")
    try:
        modules = find_node_modules(None, kits)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp("wide")
    (out / "images").mkdir()
    plans = [
        (("adminlte",), ("dashboard",), ("1280x800",)),
        (("adminlte",), ("data-table",), ("1280x800",)),
        (("ionic-md",), ("settings",), ("820x1180",)),
        (("framework7-ios",), ("mail-list",), ("1180x820",)),
        (("bootstrap",), ("shop-grid",), ("1440x900",)),
        (("framework7-ios",), ("map",), ("390x844",)),
        (("framework7-ios",), ("typing-form",), ("390x844",)),
    ]
    rows = []
    with Camera(modules) as camera:
        for number, (kit, layout, size) in enumerate(plans):
            options = Options(kit, layout, size, 1)
            row = render_one(camera, plan_screen(7, number, options), out, options)
            rows.append({**row, "folder": out})
    return rows


def test_boxes_stay_on_wide_screens(rendered: list[dict]) -> None:
    for row in rendered:
        assert len(row["texts"]) > 5, row["layout"]
        boxes_stay_inside(row)


def test_text_boxes_of_wide_screens_hold_the_ink(rendered: list[dict]) -> None:
    # Streets run under the names of a map.
    rows = [row for row in rendered if row["layout"] != "map"]
    found = [tight for row in rows for tight in inked(row["folder"], row)]
    assert len(found) > 80
    assert sum(found) / len(found) > 0.85


def test_keys_are_annotated_above_nothing_hidden(rendered: list[dict]) -> None:
    row = rendered[-1]
    keys = [e for e in row["elements"] if e["type"] == "button" and len(e["text"]) == 1]
    top = min(key["box"][1] for key in keys)
    assert len(keys) >= 10 and top > row["height"] - 280
    inputs = [e for e in row["elements"] if e["type"] == "input"]
    assert inputs and all(e["box"][3] <= top for e in inputs)


def test_pins_of_a_map_are_buttons(rendered: list[dict]) -> None:
    pins = [e for e in rendered[-2]["elements"] if e["icon"] == "location"]
    assert pins and all(p["type"] == "button" and p["label"] for p in pins)
    for pin in pins:
        x1, y1, x2, y2 = pin["box"]
        assert x2 - x1 == pytest.approx(24, abs=1)
        assert y2 - y1 == pytest.approx(32, abs=1)


def test_lock_file_pins_the_admin_kit() -> None:
    import mm15_mlx.screens

    text = (Path(mm15_mlx.screens.__file__).parent / "package-lock.json").read_text()
    entry = json.loads(text)["packages"]["node_modules/admin-lte"]
    assert entry["license"] == "MIT" and entry["integrity"].startswith("sha512-")
