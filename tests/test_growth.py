"""benchmarks/growth.py: its arithmetic, and that what it times leaves no trace."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("growth")


def test_a_straight_line_and_what_is_none(growth: ModuleType) -> None:
    views = growth.VIEWS
    assert growth.r_squared(views, [3 * n + 1 for n in views]) == pytest.approx(1)
    assert growth.r_squared([1, 2, 3, 4], [0, 1, 1, 0]) == pytest.approx(0)
    assert growth.r_squared(views, [n**3 for n in views]) < 0.95


def test_sizes_are_timed_in_turn_without_the_first_round(
    growth: ModuleType,
) -> None:
    asked: list[int] = []

    def timed(size: int) -> float:
        asked.append(size)
        slow = 100 if len(asked) <= 2 else 0  # as a first round is
        return size + slow + len(asked) / 100

    assert growth.medians([1, 2], 3, timed) == pytest.approx([1.05, 2.06])
    assert asked == [1, 2] * 4


def test_a_step_leaves_the_cache_as_it_was(
    growth: ModuleType, ui: tuple[MM15, Processor]
) -> None:
    cache = growth.filled(ui[0], 600)  # in two parts
    assert [layer.offset for layer in cache] == [600] * len(cache)
    assert growth.step(ui[0], cache) > 0
    assert [layer.offset for layer in cache] == [600] * len(cache)


def test_answers_side_by_side_and_their_memory(
    growth: ModuleType, ui: tuple[MM15, Processor]
) -> None:
    cache = growth.filled(ui[0], 100)
    assert growth.rows_step(ui[0], cache, 3) > 0
    assert [layer.offset for layer in cache] == [100] * len(cache)
    assert growth.peak(lambda: growth.filled(ui[0], 600)) > cache[0].nbytes
