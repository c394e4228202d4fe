"""Questions alone and after others: which are asked, and what each sees."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
from decoding import Counter

from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("followups")


def tasks(image: str, count: int) -> list[dict]:
    found = [
        {"id": f"{k}", "image": image, "task": "find_text", "text": f"Item {k}",
         "box": [1, 2, 30, 40]}
        for k in range(count)
    ]  # fmt: skip
    return [*found, {"id": "w", "image": image, "task": "widgets", "elements": []}]


def test_conversations_are_drawn_alike_and_have_no_lists(bench: ModuleType) -> None:
    rows = [*tasks("a.png", 6), *tasks("b.png", 2)]
    first, second = bench.conversations(rows, 4)
    assert (len(first), len(second)) == (4, 2)
    assert {row["task"] for row in first + second} == {"find_text"}
    assert bench.conversations(rows, 4) == [first, second]


def test_later_questions_are_asked_alone_and_after_others(
    bench: ModuleType,
    ui: tuple[MM15, Processor],
    screen: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, processor = ui
    seen: list[int] = []
    prepare = processor.prepare
    monkeypatch.setattr(
        processor, "prepare",
        lambda *a: seen.append(len((p := prepare(*a)).ids)) or p,
    )  # fmt: skip
    counted = Counter(model, monkeypatch)
    pairs = list(bench.asked(model, processor, tasks(str(screen), 3)[:3]))
    assert [row["id"] for row, *_ in pairs] == ["1", "2"]
    first, alone, after, alone_again, last = seen
    assert first == alone == alone_again < after < last
    assert sum(counted.views) == 5  # the picture is encoded once
