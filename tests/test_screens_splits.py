"""Kits by what they are for: none is for two things, and names of splits stand for
their kits."""

import json
import re
from pathlib import Path

import pytest

from mm15_mlx.screens import HELD_OUT, Options
from mm15_mlx.screens.build import KITS
from mm15_mlx.screens.splits import KEPT, SPLITS, held_out, split_of

DATA = Path(__file__).parents[1] / "benchmarks" / "data"


def test_every_kit_is_of_one_split() -> None:
    kept = [kit for kits in KEPT.values() for kit in kits]
    assert len(set(kept)) == len(kept) and set(kept) < set(KITS)
    kits = {split: Options(kits=(split,)).kits for split in SPLITS}
    assert sorted(kit for found in kits.values() for kit in found) == sorted(KITS)
    assert all(split_of(kit) == split for split in SPLITS for kit in kits[split])


def test_a_split_stands_for_its_kits_once() -> None:
    options = Options(kits=("beercss", "validation", "vant"))
    assert options == Options(kits=("beercss", "vant"))
    assert "weui" not in Options(kits=("train", "validation")).kits


def test_a_split_is_no_layout() -> None:
    with pytest.raises(ValueError, match=re.escape("unknown layout 'train': one of")):
        Options(layouts=("train",))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"kit": "weui", "layout": "login"}, "the kit weui is kept for test"),
        ({"kit": "beercss"}, "the kit beercss is kept for validation"),
        (
            {"kit": "vant", "layout": HELD_OUT[0]},
            f"the layout {HELD_OUT[0]} is kept for test",
        ),
        ({"kit": "vant", "words": "kept"}, "its words are kept for test"),
        ({"kit": "vant", "layout": "login"}, None),
        ({"kit": "my-app"}, None),
        ({}, None),
    ],
)
def test_what_is_kept_says_why(row: dict, why: str | None) -> None:
    assert held_out(row) == why


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("kits", "test"),
        ("crops", "test"),
        ("wide", "test"),
        ("new-words", "test"),
        ("several", "test"),
        ("validation", "validation"),
    ],
)
def test_tasks_are_about_kits_of_their_split(name: str, split: str) -> None:
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert {split_of(json.loads(line)["kit"]) for line in lines} == {split}


@pytest.mark.parametrize("name", ["layouts", "layouts-ten-kits"])
def test_tasks_of_trained_kits_are_about_layouts_that_are_kept(name: str) -> None:
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["layout"] for line in lines} == set(HELD_OUT)
