"""Shares of categories: exact at every moment, the same in every run."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mm15_mlx.config import UserError
from mm15_mlx.mixture import Draws, draws_of, read_mixture, report_lines
from mm15_mlx.train_config import FOLDER, read_yaml

PAPER = read_yaml(FOLDER / "sft.yaml")["mixture"]


def paper(seed: int = 0) -> Draws:
    groups = {n: range(100 * k, 100 * k + 30) for k, n in enumerate(PAPER)}
    return Draws(groups, PAPER, seed)


def test_the_papers_shares() -> None:
    assert sum(PAPER.values()) == pytest.approx(100)
    singles = [v for k, v in PAPER.items() if k not in ("multi_image", "text")]
    assert sum(singles) == pytest.approx(80)


def test_shares_hold_after_every_draw() -> None:
    draws = paper()
    drawn = np.array([draws[t] // 100 for t in range(3000)])
    counts = np.cumsum(np.eye(len(PAPER))[drawn], axis=0)
    wanted = draws.shares * np.arange(1, 3001)[:, None]
    assert np.abs(counts - wanted).max() < 1
    assert Counter(drawn.tolist())[0] == 1116  # 37.2 % of 3000


def test_every_row_comes_once_before_one_comes_twice() -> None:
    draws = Draws({"a": [3, 4, 5, 9]}, {"a": 1.0}, seed=1)
    rounds = [[draws[4 * r + k] for k in range(4)] for r in range(6)]
    assert all(sorted(r) == [3, 4, 5, 9] for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1


def test_the_seed_gives_the_order_and_nothing_else() -> None:
    forward = [paper()[t] for t in range(200)]
    later = paper()
    assert later[150] == forward[150] and later[3] == forward[3]
    assert [paper(1)[t] for t in range(200)] != forward


def test_report() -> None:
    draws = paper()
    report = draws.report(draws[t] for t in range(1000))
    assert [r["drawn"] for r in report] == [372, 225, 113, 56, 23, 11, 100, 100]
    line = report_lines(report)[0]
    assert "text_rich" in line and "drawn     372 ( 37.2%) of 30 rows, 12.40" in line
    assert paper().report([])[0]["drawn"] == 0


def test_without_a_mixture_all_rows_are_alike() -> None:
    draws = draws_of(["a", "b", "a"], (), 0)
    assert sorted(draws[t] for t in range(3)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "mixture must map names of categories to weights"),
        ({}, "mixture must map names"),
        ({"a": 0}, "mixture: a has the weight 0; give above 0"),
        ({"a": True}, "mixture: a has the weight True"),
        ({"a": {"weigth": 1}}, "mixture: a has the key 'weigth'; it takes weight and"),
        ({"a": {"weight": 1, "files": "b"}}, "files of a must be a list of paths"),
        ({"a": {"weight": 1, "files": ["b"]}}, "mixture: a: .*b does not exist"),
    ],
)
def test_bad_mixtures(value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_mixture(value, tmp_path)


def test_categories_and_mixture_must_be_the_same(tmp_path: Path) -> None:
    mixture = read_mixture({"a": 1, "b": 2}, tmp_path)
    with pytest.raises(UserError, match="gives b a share, but no row has that"):
        draws_of(["a"], mixture, 0)
    with pytest.raises(UserError, match="rows of the category 'c', which the mixture"):
        draws_of(["a", "b", "c"], mixture, 0)
