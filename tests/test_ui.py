"""UI tasks: prompts as Ferret-UI has them, and the list of widgets."""

import pytest

from mm15_mlx import ui
from mm15_mlx.config import CoordinateConfig
from mm15_mlx.grounding import split_regions
from mm15_mlx.prompt import Region
from mm15_mlx.ui import Element

SIZE = (1000, 2000)


def test_prompts_read_as_ferret_ui_has_them() -> None:
    box = (1, 2.5, 30, 40)
    assert ui.find_text_prompt("Wi-Fi") == 'Where is the text "Wi-Fi"?'
    assert ui.find_prompt("Wi-Fi switch") == "Where is the Wi-Fi switch?"
    assert ui.ocr_prompt(box) == (
        "What text is displayed in the element <box>1,2.5,30,40</box>?"
    )
    assert ui.widget_class_prompt(box) == (
        "What's the UI type of the widget <box>1,2.5,30,40</box>?"
    )
    assert ui.icon_class_prompt(box) == (
        "Identify the icon type of the widget <box>1,2.5,30,40</box>?"
    )
    assert ui.tappable_prompt(box) == (
        "Predict whether the UI element <box>1,2.5,30,40</box> is tappable."
    )


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.1, 0.2, 999.9, 1999.96)])
def test_box_markup_is_what_grounding_reads(box: tuple[float, ...]) -> None:
    (region,) = split_regions(ui.box_markup(box), [SIZE], 1000)
    assert isinstance(region, Region) and region.kind == "box"


def test_elements_are_read_back() -> None:
    answer = (
        f"{ui.element_line('switch', 'Wi-Fi')} [100, 200, 300, 400]\n"
        f"{ui.element_line('icon', '')} [0, 0, 50, 50]\n"
        'text "Say "hi", [12, 5]": [1, 2, 3, 4]\n'
    )
    assert ui.parse_elements(answer, SIZE, 1000) == [
        Element("switch", "Wi-Fi", (100, 400, 300, 800), (100, 200, 300, 400)),
        Element("icon", "", (0, 0, 50, 100), (0, 0, 50, 50)),
        Element("text", 'Say "hi", [12, 5]', (1, 4, 3, 8), (1, 2, 3, 4)),
    ]


LOCS = "<loc_{x1}><loc_{y1}><loc_{x2}><loc_{y2}>"


def test_elements_in_screenvlm_s_tags() -> None:
    """Its own classes are the types; what has no box, such as the whole, is none."""
    places = CoordinateConfig(range=500, box=LOCS, point="<loc_{x}><loc_{y}>")
    answer = (
        "<screentag><navbar><loc_0><loc_0><loc_500><loc_50><button><loc_10><loc_5>"
        "<loc_60><loc_45>Sign in</button></navbar>\n<menu-item><loc_1><loc_2><loc_3>"
        "<loc_4></menu-item><icon><loc_9><loc_9><loc_9><loc_9></icon>"
        "<tab><loc_1><loc_2></tab>a<loc_1><loc_2><loc_3><loc_4></screentag>"
    )
    assert ui.parse_elements(answer, SIZE, places) == [
        Element("navbar", "", (0, 0, 1000, 200), (0, 0, 1000, 100)),
        Element("button", "Sign in", (20, 20, 120, 180), (20, 10, 120, 90)),
        Element("menu-item", "", (2, 8, 6, 16), (2, 4, 6, 8)),
    ]


def test_elements_with_internvl_s_boxes() -> None:
    places = CoordinateConfig(box="[[{x1}, {y1}, {x2}, {y2}]]")
    answer = 'button "OK" [[100, 200, 300, 400]]\nicon[[0,0,50,50]]\ntab [1, 2, 3, 4]\n'
    assert ui.parse_elements(answer, SIZE, places) == [
        Element("button", "OK", (100, 400, 300, 800), (100, 200, 300, 400)),
        Element("icon", "", (0, 0, 50, 100), (0, 0, 50, 50)),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "", "There are many elements:", 'gadget "x" [1, 2, 3, 4]', "button [1, 2]",
        'button "OK"', 'button "OK" [5, 5, 5, 5]', 'button "OK" [1, 2, 3, 4] and more',
        'button "cut off [1, 2', "[1, 2, 3, 4]", "button Wi-Fi [1, 2, 3, 4]",
    ],
)  # fmt: skip
def test_other_lines_are_left_out(line: str) -> None:
    before, after = 'button "OK" [1, 2, 3, 4]', 'button "No" [5, 2, 9, 4]'
    found = ui.parse_elements(f"{before}\n{line}\n{after}", SIZE, 1000)
    assert [e.text for e in found] == ["OK", "No"]


@pytest.mark.parametrize(
    ("again", "texts"),
    [
        ('button "OK" [0, 0, 100, 100]', ["OK"]),
        ('button "O K" [0, 0, 100, 75]', ["OK"]),  # IoU 0.75
        ('button "Other" [0, 0, 100, 65]', ["OK", "Other"]),
        ('text "OK" [0, 0, 100, 100]', ["OK", "OK"]),  # a button and its caption
    ],
)
def test_an_element_is_listed_once(again: str, texts: list[str]) -> None:
    answer = f'button "OK" [0, 0, 100, 100]\n{again}'
    assert [e.text for e in ui.parse_elements(answer, SIZE, 1000)] == texts


def test_every_element_type_is_readable() -> None:
    answer = "\n".join(f"{t} [1, 2, 3, 4]" for t in ui.ELEMENT_TYPES)
    found = ui.parse_elements(answer, SIZE, 1000)
    assert [e.type for e in found] == list(ui.ELEMENT_TYPES)
