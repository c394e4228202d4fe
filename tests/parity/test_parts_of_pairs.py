"""The same part of two screens, cut around what changed."""

from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mm15_mlx.config import PRESETS
from mm15_mlx.convert.mm15_torch.samples import Row
from mm15_mlx.convert.mm15_torch.several import (
    OFTEN,
    SeveralScreens,
    around,
    by_kind,
    change_in,
)
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.tiling import plan
from tests.parity.test_recipe import Make, make, tiny  # noqa: F401

pytestmark = pytest.mark.parity

SIZE = 400, 900
TINTS = (200, 90)  # grey of the first screen and of the second
ITEM = [20, 300, 380, 360]
CHANGE = {"kind": "added", "words": 'the item "Bread" was added', "on": 1,
          "box": ITEM, "tapped": None}  # fmt: skip


def line(text: str, box: list[float]) -> Row:
    return {"text": text, "box": box, "edges": [box[0], box[2]]}


def row(**more: object) -> Row:
    return {"width": SIZE[0], "height": SIZE[1], "texts": [], "elements": [],
            "seed": 1, "layout": "settings", **more}  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 10_000),
    st.tuples(*[st.integers(0, 399)] * 2, *[st.integers(0, 899)] * 2),
)
def test_a_part_lies_on_the_screen_and_meets_what_changed(
    seed: int, ends: tuple[int, int, int, int]
) -> None:
    x1, x2, y1, y2 = (*sorted(ends[:2]), *sorted(ends[2:]))
    box = [x1, y1, x2 + 1, y2 + 1]
    left, top, right, bottom = around(Random(seed), row(), {"box": box})
    assert 0 <= left < right <= 400 and 0 <= top < bottom <= 900
    assert 280 <= right - left <= 400
    met = (left < box[2], box[0] < right, top < box[3], box[1] < bottom)
    assert all(met)
    if box[3] - box[1] < 100 and box[2] - box[0] < 200:  # it fits
        assert left <= x1 and x2 < right and top <= y1 and y2 < bottom


@pytest.mark.parametrize(("top", "room"), [(180, True), (700, False)])
def test_a_part_has_what_was_tapped_where_there_is_room(top: int, room: bool) -> None:
    """Above the item, a row across the screen; too far below it, the item alone."""
    change = {**CHANGE, "tapped": {"box": [0, top, 400, top + 60]}}
    for seed in range(100):
        _, y1, _, y2 = around(Random(seed), row(), change)
        if y2 - y1 >= 300:  # 180 to 360, and a margin
            assert (y1 <= top and top + 60 <= y2) == room
            assert room or (y1 <= ITEM[1] and ITEM[3] <= y2)


def test_what_opened_is_drawn_more_often(series: SeveralScreens) -> None:
    pairs = series.series["part"]
    series.kinds["part"] = {kind: [[*pairs[0], {"kind": kind}]] for kind in
                            ("dialog", "tab", "added")}  # fmt: skip
    rng = Random(0)
    seen = Counter(series.two(rng, "part")[2]["kind"] for _ in range(3000))
    assert abs(seen["dialog"] / 3000 - OFTEN["dialog"] / (OFTEN["dialog"] + 2)) < 0.05


def test_a_change_keeps_its_place_and_what_was_tapped() -> None:
    box = 10, 250, 390, 500
    button = {"type": "button", "label": "Add", "box": [350, 260, 380, 280]}
    seen = change_in(box, {**CHANGE, "tapped": button}, [row()], [row()])
    assert seen is not None and seen["words"] == CHANGE["words"]
    assert seen["box"] == [10, 50, 370, 110]
    assert seen["tapped"] == {**button, "box": [340, 10, 370, 30]}
    above = {**button, "box": [350, 20, 380, 40]}  # cut off
    seen = change_in(box, {**CHANGE, "tapped": above}, [row()], [row()])
    assert seen is not None and seen["tapped"] is None


def test_what_cannot_be_told_from_a_part_is_not_asked() -> None:
    bread = row(texts=[line("Bread", [30, 310, 90, 330])])
    assert change_in((0, 250, 400, 500), CHANGE, [bread], [bread])
    assert change_in((0, 250, 400, 500), CHANGE, [bread], [row()]) is None
    assert change_in((0, 345, 400, 500), CHANGE, [row()], [row()]) is None
    assert change_in((0, 250, 400, 500), {}, [row()], [row()]) is None
    scrolled = {**CHANGE, "words": "the page was scrolled down", "box": None}
    assert change_in((0, 345, 400, 500), scrolled, [row()], [row()]) == scrolled


@pytest.fixture
def series(tmp_path: Path) -> SeveralScreens:
    """Two frames of a flow: an item comes, and with it a black rectangle."""
    screens = []
    for step, tint in enumerate(TINTS):
        picture = np.full((*SIZE[::-1], 3), tint, np.uint8)
        if step:
            picture[300:360, 20:380] = 0
        Image.fromarray(picture).save(tmp_path / f"{step}.png")
        texts = [line("Bread", [30, 310, 90, 330])] * step
        flow = {"number": 0, "step": step, "of": 2, "change": CHANGE if step else None}
        made = row(id=str(step), image=f"{step}.png", folder=str(tmp_path),
                   texts=texts, flow=flow)  # fmt: skip
        screens.append(Screen(made, plan(*SIZE, PRESETS["nano-ui"].tiling)))
    return SeveralScreens(screens, PRESETS["nano-ui"])


def test_frames_of_a_flow_have_parts_that_are_pairs(series: SeveralScreens) -> None:
    ((before, after),) = series.series["part"]
    asked = 0
    for seed in range(10):
        screens, made = series.part(Random(seed), before, after)
        assert [len(s.views) for s in screens] == [1, 1]
        assert screens[0].size == screens[1].size
        assert all("flow" not in s.row for s in screens)
        tints = [np.bincount(s.views[s.views > 0]).argmax() for s in screens]
        assert tints == list(TINTS)
        for several in made:
            assert several.images == [s.row for s in screens]
            if several.question.task != "changed":  # of the only line, on the second
                assert several.question.task in ("ocr", "find_text")
                assert several.there[0] == 1
                continue
            asked += 1
            x1, y1, x2, y2 = several.there[1]
            scale = 480 / max(screens[1].size)
            inner = [round(n * scale) for n in (x1 + 9, y1 + 9, x2 - 9, y2 - 9)]
            view = screens[1].views[0]
            assert view[inner[1] : inner[3], inner[0] : inner[2]].max() < 40
            last = several.question.answer.split("</box>")[1]
            assert last == ' the item "Bread" was added'
    assert asked > 5


def test_each_kind_of_change_comes_as_often(series: SeveralScreens) -> None:
    scrolled = {**CHANGE, "kind": "scrolled"}
    after = {**series.series["part"][0][1], "flow": {"change": scrolled}}
    before, added = series.series["part"][0]
    made = by_kind([[before, added], *[[before, after]] * 9, [before, {}]])
    assert {k: len(v) for k, v in made.items()} == {"added": 1, "scrolled": 9, "": 1}
    series.kinds["pair"] = made
    drawn = [series.two(Random(seed), "pair")[1] == added for seed in range(300)]
    assert 70 < sum(drawn) < 130  # a third


def test_frames_of_a_flow_are_cut_alike_or_whole(series: SeveralScreens) -> None:
    frames = series.series["flow"][0] * 2  # four: not split
    sizes = []
    for seed in range(40):
        screens = series.frames(Random(seed), frames)
        assert [s.row["flow"] for s in screens] == [f["flow"] for f in frames]
        assert screens[0].tiling == screens[1].tiling
        assert [len(s.views) for s in screens] == [1] * 4
        first, second = (s.views[0].astype(int) for s in screens[:2])
        shown = first > 0  # what is around a picture is black
        assert set(np.unique(first[shown])) == {TINTS[0]}
        there = (second[shown] == 0).mean()  # the black rectangle: most of it is left
        assert 0.02 < there < 60 * 360 / (0.64 * SIZE[0] * SIZE[1]) + 0.01
        sizes.append(screens[0].size)
    cut = [size for size in sizes if size != SIZE]
    assert 15 < len(cut) < 33  # six of ten
    assert all(w >= 0.8 * SIZE[0] - 1 and h >= 0.8 * SIZE[1] - 1 for w, h in cut)


def test_parts_are_as_far_from_each_other_as_whole_screens(
    make: Make,  # noqa: F811
) -> None:
    trainer = make()
    config = trainer.config.tiling
    part = row(whole={"width": 48, "height": 140})
    shown = Screen(part, plan(48, 48, config, 3))
    ids = trainer.draws.prefix([shown] * 2)
    places = trainer.places(shown, ids)
    first, second = (ids == trainer.image_id).nonzero().flatten().chunk(2)
    assert torch.equal(places[: len(ids) - len(second)],
                       torch.arange(len(ids) - len(second)))  # fmt: skip
    whole = Screen({"width": 48, "height": 140}, plan(48, 140, config, 2))
    assert len(whole.tiling.indices) > 2
    same = (trainer.draws.prefix([whole] * 2) == trainer.image_id).nonzero().flatten()
    before, after = same.chunk(2)
    assert torch.equal(places[second] - places[first], (after - before)[: len(second)])
    alone = Screen(row(), shown.tiling)
    assert torch.equal(trainer.places(alone, ids), torch.arange(len(ids)))
