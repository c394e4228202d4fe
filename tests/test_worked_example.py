"""The worked example's data: what is tested on is never trained on."""

import importlib
import json
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from mm15_mlx.dataset import read_split
from mm15_mlx.load import BUNDLED, load_processor

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCREENS = FOLDER / "data" / "screens" / "kits"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("worked_example")


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_screens_are_in_one_set_only(example: ModuleType, tmp_path: Path) -> None:
    example.write_data(SCREENS, tmp_path, questions=6, turns=3, per_task=1)
    train, valid = (
        {r["images"][0] for r in rows(tmp_path / f"{name}.jsonl")}
        for name in ("train", "valid")
    )
    tested = {r["image"] for r in rows(tmp_path / "tasks.jsonl")}
    assert (len(train), len(valid), len(tested)) == (15, 4, 5)
    assert not train & valid and not (train | valid) & tested
    processor = load_processor(BUNDLED / "nano-ui")
    split = read_split(tmp_path, "valid", processor)
    assert split.problems == [] and len(split.samples) == 8


def test_a_row_asks_several_questions_about_one_screen(
    example: ModuleType, tmp_path: Path
) -> None:
    example.write_data(SCREENS, tmp_path, questions=6, turns=4, per_task=1)
    turns = [len(r["messages"]) for r in rows(tmp_path / "train.jsonl")]
    assert turns == [8, 4] * 15
    roles = [m["role"] for m in rows(tmp_path / "train.jsonl")[0]["messages"]]
    assert roles == ["user", "assistant"] * 4


def test_rows_of_known_screens_come_in_between(
    example: ModuleType, tmp_path: Path
) -> None:
    known = SCREENS.parent / "validation"
    example.write_data(SCREENS, tmp_path, 6, turns=3, per_task=1, replay=known)
    train = rows(tmp_path / "train.jsonl")
    count = Counter(r["category"] for r in train)
    screens = len((known / "screens.jsonl").read_text().splitlines())
    assert count == {"style": 30, "known": screens}
    for row in train:
        assert ("validation" in row["images"][0]) == (row["category"] == "known")
    for name in ("valid", "tasks"):
        assert "validation" not in (tmp_path / f"{name}.jsonl").read_text()


def test_table(example: ModuleType) -> None:
    before = {"ocr": {"exact": 0.25, "n": 4}}
    after = {"ocr": {"exact": 0.75, "n": 4}}
    text = example.table("style", before, after)
    assert "| ocr | exact | 0.250 | 0.750 | +0.500 | 4 |" in text


def test_the_picture_shows_a_text_that_is_only_found_now(example: ModuleType) -> None:
    def done(*scores: tuple[str, float]) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(row={"task": task, "id": k}, scores={"acc@0.5": value})
            for k, (task, value) in enumerate(scores)
        ]

    before = done(("find_icon", 0), ("find_text", 1), ("find_text", 0))
    after = done(("find_icon", 1), ("find_text", 1), ("find_text", 1))
    assert example.first_gain(before, after)["id"] == 2
    assert example.first_gain(after, before) is None
