"""Where answers about what was tapped point: benchmarks/places.py."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Row = dict[str, Any]
TAPPED = [10, 10, 50, 30]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("places")


def screens(number: int, kind: str, tappable: int) -> list[Row]:
    change = {"kind": kind, "tapped": {"box": TAPPED}}
    before = {
        "image": f"images/{number}-0.jpg", "pair": {"change": None},
        "elements": [{"tappable": k < tappable} for k in range(5)],
    }  # fmt: skip
    after = {"image": f"images/{number}-1.jpg", "pair": {"change": change}}
    return [before, after | {"elements": []}]


def answer(
    number: int, box: list[int] | None, named: bool, asks: str = "tapped"
) -> Row:
    return {
        "id": f"{number}-{asks}", "task": "vqa", "asks": asks, "prediction": "",
        "images": [f"elsewhere/{number}-{k}.jpg" for k in (0, 1)],
        "boxes": [box] if box else [], "scores": {"contains": float(named)},
    }  # fmt: skip


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pairs = [("dialog", 2), ("tab", 4), ("dialog", 0)]
    rows = [r for n, (kind, taps) in enumerate(pairs) for r in screens(n, kind, taps)]
    rows += [{"image": f"images/3-{k}.jpg", "pair": {"change": None}} for k in (0, 1)]
    write(tmp_path / "screens.jsonl", rows)
    return tmp_path


def test_places_and_names_are_counted_apart(
    script: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [
        answer(0, [12, 0, 52, 42], named=False),  # its middle lies in what was tapped
        answer(1, [60, 10, 90, 30], named=True),
        answer(2, None, named=False),
        answer(1, TAPPED, named=True, asks="changed"),
    ]
    given = write(folder / "out.jsonl", answers)
    assert script.main([str(given), "--screens", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "| what happened | place | chance | name | n |",
        "|---|---|---|---|---|",
        "| dialog | 0.500 | 0.750 | 0.000 | 2 |",
        "| tab | 0.000 | 0.250 | 1.000 | 1 |",
        "| all | 0.333 | 0.583 | 0.333 | 3 |",
    ]


@pytest.mark.parametrize(
    ("number", "asks", "text"),
    [
        (7, "tapped", "has no screen 7-0.jpg; give the folder of the pairs that were"),
        (3, "tapped", "has no tap that led to 3-1.jpg; give the folder of the pairs"),
        (0, "changed", "has no answer about what was tapped; evaluate tasks of"),
    ],
)
def test_answers_that_cannot_be_placed_are_errors(
    script: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str],
    number: int, asks: str, text: str,
) -> None:  # fmt: skip
    given = write(folder / "out.jsonl", [answer(number, TAPPED, True, asks)])
    assert script.main([str(given), "--screens", str(folder)]) == 2
    assert text in capsys.readouterr().err
