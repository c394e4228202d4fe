"""Boxes and points: pixels ↔ the model's numbers, markup, answers, drawing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mm15_mlx.config import CoordinateConfig
from mm15_mlx.grounding import (
    PALETTE,
    Box,
    Point,
    RegionError,
    asked_label,
    draw,
    parse_answer,
    split_regions,
    to_model,
    to_pixels,
)
from mm15_mlx.prompt import Region, region_pieces

SIZES = [(1000, 500), (200, 400)]


# --- numbers ---------------------------------------------------------------------


def test_to_model_by_hand() -> None:
    assert to_model((0, 0, 1170, 2532), (1170, 2532), 1000).values == (0, 0, 1000, 1000)
    assert to_model((585, 633), (1170, 2532), 1000).values == (500, 250)


def test_to_pixels_by_hand() -> None:
    assert to_pixels((0, 250, 333, 1000), (1170, 2532), 1000) == (0, 633, 389.6, 2532)


side = st.integers(1, 20_000)
scale = st.sampled_from([100, 999, 1000])


@given(side, side, st.floats(0, 1), st.floats(0, 1), scale)
def test_pixels_survive_within_half_a_unit(
    width: int, height: int, fx: float, fy: float, scale: int
) -> None:
    size = (width, height)
    there = to_model((fx * width, fy * height), size, scale)
    x, y = to_pixels(there.values, size, scale)
    rounding = 0.0501  # pixels are given to a tenth
    assert abs(x - fx * width) <= 0.5 * width / scale + rounding
    assert abs(y - fy * height) <= 0.5 * height / scale + rounding
    assert all(0 <= v <= scale for v in there.values)


@given(st.integers(100, 20_000), scale, st.data())
def test_numbers_survive_pixels(side: int, scale: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(0, scale))
    back = to_model(to_pixels((n, n), (side, side), scale), (side, side), scale)
    assert all(abs(v - n) <= 0.05 * scale / side + 0.5 for v in back.values)


# --- what users write --------------------------------------------------------------


def test_markup_becomes_regions() -> None:
    text = "Is <box>100,50,200.5,250</box> like <point image=1> 20 , 40 </point>?"
    assert split_regions(text, SIZES, 1000) == [
        "Is ", Region((100, 100, 200, 500)), " like ", Region((100, 100), 1), "?",
    ]  # fmt: skip


def test_markup_alone_and_text_alone() -> None:
    assert split_regions("<box>0,0,10,10</box>", SIZES, 100) == [Region((0, 0, 1, 2))]
    assert split_regions("plain", [], 1000) == ["plain"]
    assert split_regions("", [], 1000) == []


def test_markup_without_a_number_is_about_the_given_picture() -> None:
    text = "<box>0,0,100,100</box>"
    assert split_regions(text, SIZES, 1000, image=1) == [Region((0, 0, 500, 250), 1)]
    first = split_regions(text.replace("box>0", "box image=0>0"), SIZES, 1000, image=1)
    assert first == [Region((0, 0, 100, 200))]


@pytest.mark.parametrize("text", ["<box>1,2,3,4", "a <box> tag", "<BOX>1,2,3,4</BOX>"])
def test_what_is_not_markup_stays_text(text: str) -> None:
    assert split_regions(text, SIZES, 1000) == [text]


def test_a_box_over_the_edge_is_clipped() -> None:
    clipped = split_regions("<box>-50,-1,500,9999</box>", SIZES, 1000)
    assert clipped == [Region((0, 0, 500, 1000))]
    assert split_regions("<point>1000,500</point>", SIZES, 1000) == [
        Region((1000, 1000))
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<box>1,2,3</box>", r"<box>1,2,3</box> is not <box>x1,y1,x2,y2</box> in pix"),
        ("<box>a,b,c,d</box>", "is not <box>x1,y1,x2,y2</box> in pixels"),
        ("<box></box>", "<box></box> is not <box>x1,y1,x2,y2</box> in pixels"),
        ("<box>1,2,nan,4</box>", "is not <box>x1,y1,x2,y2</box> in pixels"),
        ("<box>1,2,1e9,4</box>", "is not <box>x1,y1,x2,y2</box> in pixels"),
        ("<point>1,2,3,4</point>", "is not <point>x,y</point> in pixels"),
        ("<box>5,2,5,4</box>", "is empty: x1 < x2 and y1 < y2 must hold"),
        ("<box>9,2,5,4</box>", "is empty: x1 < x2 and y1 < y2 must hold"),
        ("<box>1000,0,1200,9</box>", "lies outside the picture of 1000 × 500 pixels"),
        ("<box>0,-9,9,0</box>", "lies outside the picture of 1000 × 500 pixels"),
        ("<box>0,501,9,600</box>", "lies outside the picture of 1000 × 500 pixels"),
        ("<point>-1,5</point>", "<point>-1,5</point> lies outside the picture of 1000"),
        ("<point image=1>201,5</point>", "lies outside the picture of 200 × 400 pix"),
        (
            "<box image=2>0,0,9,9</box>",
            r"names picture 2, but there are 2 \(the first is image=0\)",
        ),
    ],
)
def test_markup_that_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(RegionError, match=message):
        split_regions(f"What is {text}?", SIZES, 1000)


def test_markup_without_a_picture() -> None:
    with pytest.raises(RegionError, match="marks a place, but there is no picture"):
        split_regions("<point>1,2</point>", [], 1000)


# --- what models answer --------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("Where is the Wi-Fi switch?", "Wi-Fi switch"),
        ("where is the back arrow", "back arrow"),
        ("Where's the logo?", "logo"),
        ("Where are the tabs located?", "tabs"),
        ("Where is a button?", "button"),
        ("Where is an icon ?", "icon"),
        ('Where is the text "Sign in"?', 'text "Sign in"'),
        ("What is this?", ""),
        ("Tell me where is it", ""),
        ("Where is the A?\nAnd B?", ""),
    ],
)
def test_asked_label(prompt: str, label: str) -> None:
    assert asked_label(prompt) == label


def test_a_box_in_an_answer() -> None:
    boxes, points = parse_answer("[100, 200, 300, 400]", SIZES, 1000, "switch")
    assert boxes == [Box("switch", 0, (100, 100, 300, 200), (100, 200, 300, 400))]
    assert points == []


def test_a_point_in_an_answer_about_the_second_picture() -> None:
    boxes, points = parse_answer("At [100,200].", SIZES, 1000, "switch", image=1)
    assert points == [Point("At", 1, (20, 80), (100, 200))] and boxes == []


@pytest.mark.parametrize(
    ("text", "label", "expected"),
    [
        ('[1, 2, 30, 40] the tab "Mail" was chosen.', "", 'the tab "Mail" was chosen'),
        ("Here:\n[1, 2, 30, 40] the tab\nand more", "", "the tab"),
        ("[1, 2, 30, 40] the tab", "asked", "asked"),
        ("tab [1, 2, 30, 40] was chosen", "", "tab"),
        ("[1, 2, 30, 40], [5, 6, 70, 80] tabs", "", ""),
        ("[1, 2, 30, 40]</box>", "", ""),
        ("[1, 2, 30, 40]')", "", ""),
    ],
)
def test_the_only_region_may_have_its_label_behind_it(
    text: str, label: str, expected: str
) -> None:
    boxes, _ = parse_answer(text, [(100, 100)], 1000, label)
    assert boxes[0].label == expected


def test_labels_are_the_text_before_on_the_line() -> None:
    text = 'Found:\n- icon "Wi-Fi": [0, 0, 10, 10], [5, 5, 9, 9]\ntab [1, 1]'
    boxes, points = parse_answer(text, SIZES, 1000, "asked")
    assert [b.label for b in boxes] == ['icon "Wi-Fi"', "asked"]
    assert [p.label for p in points] == ["tab"]


def test_corners_are_put_in_order() -> None:
    boxes, _ = parse_answer("[300, 400, 100, 200]", SIZES, 1000)
    assert boxes[0].norm == (100, 200, 300, 400)


@pytest.mark.parametrize("text", ["[5, 5, 5, 9]", "[5, 9, 9, 9]", "[1000, 0, 2000, 9]"])
def test_a_box_of_no_area_is_left_out(text: str) -> None:
    assert parse_answer(text, SIZES, 1000) == ([], [])


def test_numbers_beyond_the_range_are_clipped() -> None:
    boxes, _ = parse_answer("[0, 0, 99999, 1001]", SIZES, 1000)
    assert boxes[0].norm == (0, 0, 1000, 1000) and boxes[0].px == (0, 0, 1000, 500)


def test_norm_is_of_a_thousand_whatever_the_range() -> None:
    boxes, _ = parse_answer("[0, 25, 50, 100]", SIZES, 100)
    assert boxes[0].norm == (0, 250, 500, 1000) and boxes[0].px == (0, 125, 500, 500)


@pytest.mark.parametrize("text", ["[1, 2, 3]", "[a, b]", "1, 2", "[-1, 2]", "[1.5, 2]"])
def test_other_brackets_are_text(text: str) -> None:
    assert parse_answer(text, SIZES, 1000) == ([], [])


def test_without_a_picture_there_is_no_box() -> None:
    assert parse_answer("[1, 2, 3, 4]", [], 1000) == ([], [])


# --- the grammars of other models -------------------------------------------------

LOCS = "<loc_{x1}><loc_{y1}><loc_{x2}><loc_{y2}>"
GRAMMARS = {
    "ferret": CoordinateConfig(),
    "llava": CoordinateConfig(range=100, decimals=2),
    "llava-square": CoordinateConfig(range=100, decimals=2, frame="square"),
    "honeybee": CoordinateConfig(
        range=1000, decimals=3, box="[{x1},{y1},{x2},{y2}]", point="[{x},{y}]"
    ),
    "agentic": CoordinateConfig(range=10_000, decimals=4, point="click({x}, {y})"),
    "internvl": CoordinateConfig(
        box="[[{x1}, {y1}, {x2}, {y2}]]", point="[[{x}, {y}]]"
    ),
    "os-atlas": CoordinateConfig(point="({x},{y})"),
    "screenvlm": CoordinateConfig(range=500, box=LOCS, point="<loc_{x}><loc_{y}>"),
}


def written(text: str, name: str) -> str:
    """Markup in a picture of 1000 × 500 as the model reads it."""
    grammar = GRAMMARS[name]
    parts = split_regions(text, [(1000, 500)], grammar)
    return "".join(
        p if isinstance(p, str) else "".join(t.text for t in region_pieces(p, grammar))
        for p in parts
    )


@pytest.mark.parametrize(
    ("name", "box", "point"),
    [
        ("ferret", "[100, 200, 300, 1000]", "[123, 500]"),
        ("llava", "[0.10, 0.20, 0.30, 1.00]", "[0.12, 0.50]"),
        ("llava-square", "[0.10, 0.35, 0.30, 0.75]", "[0.12, 0.50]"),
        ("honeybee", "[0.100,0.200,0.300,1.000]", "[0.123,0.500]"),
        ("agentic", "[0.1000, 0.2000, 0.3000, 1.0000]", "click(0.1234, 0.5000)"),
        ("internvl", "[[100, 200, 300, 1000]]", "[[123, 500]]"),
        ("os-atlas", "[100, 200, 300, 1000]", "(123,500)"),
        ("screenvlm", "<loc_50><loc_100><loc_150><loc_500>", "<loc_62><loc_250>"),
    ],
)
def test_markup_in_a_model_s_grammar(name: str, box: str, point: str) -> None:
    markup = "Is <box>100,100,300,500</box> or <point>123.4,250</point>?"
    text = written(markup, name)
    assert text == f"Is {box} or {point}?"
    boxes, points = parse_answer(text, [(1000, 500)], GRAMMARS[name])
    step = 500 / GRAMMARS[name].range + 0.1
    assert boxes[0].px == pytest.approx((100, 100, 300, 500), abs=step)
    assert points[0].px == pytest.approx((123.4, 250), abs=step)
    assert [b.label for b in boxes] == ["Is"] and points[0].label == "or"


numbers = st.tuples(*[st.floats(0, 1)] * 4)


@given(numbers, side, side, st.sampled_from(sorted(GRAMMARS)))
def test_boxes_survive_a_grammar(
    shares: tuple[float, ...], width: int, height: int, name: str
) -> None:
    grammar, size = GRAMMARS[name], (width, height)
    box = [share * size[i % 2] for i, share in enumerate(shares)]
    box = [*map(min, box[:2], box[2:]), *map(max, box[:2], box[2:])]
    markup = f"<box>{','.join(f'{v:f}' for v in box)}</box>"
    try:
        (region,) = split_regions(markup, [size], grammar)
    except RegionError:
        return
    text = "".join(t.text for t in region_pieces(region, grammar))
    found = parse_answer(text, [size], grammar)[0]
    frame = max(size) if name == "llava-square" else None
    for box_found in found:
        for i, value in enumerate(box_found.px):
            extent = frame or size[i % 2]
            assert abs(value - box[i]) <= 0.5 * extent / grammar.range + 0.06
            assert 0 <= value <= size[i % 2]
    if min(box[2] - box[0], box[3] - box[1]) > 1.1 * max(size) / grammar.range:
        assert len(found) == 1, "a box of more than a step is never lost"


@pytest.mark.parametrize(
    ("name", "text", "px"),
    [
        (
            "agentic",
            "<think>x</think><code>\nclick(x=0.25, y=0.5)\n</code>",
            (250, 250),
        ),
        ("agentic", "Action: click(0.2512, .5)", (251.2, 250)),
        ("os-atlas", "(250, 500)", (250, 250)),
        ("os-atlas", "[[250,500]]", (250, 250)),
        ("llava", "[ 0.25 ,0.5 ]", (250, 250)),
        ("llava", "[0.251, 0.5]", (251, 250)),
        ("llava-square", "[0.25, 0.1]", (250, 0)),  # in the padding
    ],
)
def test_points_as_models_vary_them(
    name: str, text: str, px: tuple[float, float]
) -> None:
    _, points = parse_answer(text, [(1000, 500)], GRAMMARS[name], "asked")
    assert points[0].px == pytest.approx(px)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("llava", "[100, 200, 300, 400]"), ("llava", "[2, 3]"),
        ("agentic", "wait(0.5, 0.5)"), ("internvl", "[1, 2, 3, 4]"),
        ("screenvlm", "<loc_1><loc_2><loc_3>"), ("os-atlas", "(about 3, or 4)"),
        ("llava-square", "[0.10, 0.00, 0.20, 0.20]"),  # wholly in the padding
    ],
)  # fmt: skip
def test_other_text_is_no_box_of_a_grammar(name: str, text: str) -> None:
    assert parse_answer(text, [(1000, 500)], GRAMMARS[name])[0] == []


def test_a_screen_in_tags() -> None:
    text = (
        "<screentag><navbar><loc_0><loc_0><loc_500><loc_50><button><loc_10><loc_5>"
        "<loc_60><loc_45>Sign in</button></navbar>\n<icon><loc_1><loc_2><loc_3><loc_4>"
        "</icon></screentag>"
    )
    boxes, points = parse_answer(text, [(1000, 500)], GRAMMARS["screenvlm"])
    assert [b.label for b in boxes] == ["navbar", 'button "Sign in"', "icon"]
    assert boxes[1].px == (20, 5, 120, 45) and boxes[1].norm == (20, 10, 120, 90)
    assert points == []


def test_location_tokens_read_as_digits() -> None:
    tokens = CoordinateConfig(format="tokens", range=200, frame="canvas")
    boxes, _ = parse_answer("[0, 50, 100, 200]", [(1000, 500)], tokens)
    assert boxes[0].px == (0, 125, 500, 500)
    assert split_regions("<point>500,500</point>", [(1000, 500)], tokens) == [
        Region((100, 200))
    ]


# --- drawing -------------------------------------------------------------------------


def rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def test_drawing_marks_the_edges_only() -> None:
    picture = Image.new("RGB", (100, 80), "white")
    box = Box("", 0, (30, 20, 70, 60), (0, 0, 0, 0))
    drawn = draw(picture, [box])
    # unit is 1 here, and the frame stands 2 pixels outside the box
    for corner in ((28, 18), (72, 18), (28, 62), (72, 62), (50, 18), (28, 40)):
        assert drawn.getpixel(corner) == rgb(PALETTE[0]), corner
    assert drawn.getpixel((50, 40)) == (255, 255, 255), "the inside stays visible"
    assert drawn.getpixel((5, 5)) == (255, 255, 255)
    assert picture.getpixel((28, 18)) == (255, 255, 255), "the original is untouched"


def test_points_are_dots_and_colours_differ() -> None:
    picture = Image.new("RGB", (100, 80))
    box = Box("", 0, (30, 20, 70, 60), (0, 0, 0, 0))
    drawn = draw(picture, [box], [Point("", 0, (10, 10), (0, 0))])
    assert drawn.getpixel((10, 10)) == rgb(PALETTE[1])
    assert drawn.getpixel((28, 18)) == rgb(PALETTE[0])


@pytest.mark.parametrize("corner", [(0, 0), (380, 0), (0, 380), (380, 380)])
def test_labels_stay_inside_the_picture(corner: tuple[int, int]) -> None:
    x, y = corner
    picture = Image.new("RGB", (400, 400), "white")
    drawn = draw(picture, [Box("Sign in", 0, (x, y, x + 20, y + 20), (0, 0, 0, 0))])
    colors = drawn.getcolors(400 * 400)
    counts = {color: n for n, color in colors or []}
    assert counts[rgb(PALETTE[0])] > 300, "a filled tag, not only a frame"


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_mode_can_be_drawn_on(mode: str) -> None:
    drawn = draw(Image.new(mode, (50, 50)), [Box("x", 0, (1, 1, 9, 9), (0, 0, 0, 0))])
    assert drawn.mode == "RGB" and drawn.size == (50, 50)


def test_a_box_as_large_as_the_picture_and_a_tiny_picture() -> None:
    draw(Image.new("RGB", (1, 1)), [Box("long label", 0, (0, 0, 1, 1), (0, 0, 0, 0))])
