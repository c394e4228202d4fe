"""Means, intervals and slices of answers; more of the tables is with the benchmarks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mm15_mlx.scores import Said, score
from mm15_mlx.summaries import (
    Prediction,
    bootstrap,
    can_slice,
    draws,
    intervals,
    sliced,
    summary,
    tables,
    task_means,
)


def done(image: str, said: str, **fields: Any) -> Prediction:
    row = {"id": "1", "image": image, "task": "vqa", "question": "?",
           "answers": ["x"], "metric": "exact_match", **fields}  # fmt: skip
    result = Said(said, ())
    return Prediction(row, result, score(row, result), 0.5)


def test_questions_may_have_different_metrics() -> None:
    answers = [
        done("a", "x"),
        done("a", "y"),
        done("b", "abcx", answers=["abcd"], metric="anls"),
    ]
    assert task_means(answers) == {"vqa": {"exact_match": 0.5, "anls": 0.75, "n": 3}}
    assert set(intervals(answers)["vqa"]) == {"exact_match", "anls"}
    report = summary("tiny", answers, ["image"])
    assert report["counts"] == {"vqa": {"exact_match": 2, "anls": 1}}
    assert report["slice_counts"] == {"image": {"a": {}, "b": {}}}  # n is right there
    shown = tables(report).split("\n")[0]
    assert "exact_match 0.500 [0.500, 0.500] (n 2)  anls 0.750 " in shown
    assert shown.endswith(" (n 1)  (n 3)")
    assert "counts" not in summary("tiny", answers[:2], ["image"])
    # the picture without exact matches is not drawn: else it would count as nothing
    assert bootstrap(answers, "exact_match") == (0.5, 0.5)


def test_draws_are_whole_samples_and_the_same_again() -> None:
    assert draws(7).shape == (1000, 7)
    assert (draws(7).sum(axis=1) == 7).all()
    assert np.array_equal(draws(7), draws.__wrapped__(7))
    assert not np.array_equal(draws(7), draws(7, seed=1))


def test_many_questions_on_a_picture_do_not_narrow_the_interval() -> None:
    once = [done(str(k), "x" if k % 2 else "y") for k in range(20)]
    often = [p for p in once for _ in range(10)]
    low, high = bootstrap(often, "exact_match")
    assert (low, high) == bootstrap(once, "exact_match")
    assert high - low > 0.3


def test_boxes_are_sliced_by_size(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (100, 100)).save(path)
    boxes = {"small": [0, 0, 3, 3], "medium": [0, 0, 3, 4], "large": [0, 0, 5, 10]}
    answers = [done(str(path), "x", box=box) for box in boxes.values()]
    answers.append(done(str(path), "x"))
    parts = sliced(answers, "size")
    assert list(parts) == ["-", "large", "medium", "small"]
    assert {k: v[0].row.get("box") for k, v in parts.items()} == {"-": None, **boxes}
    film = done("", "x", video="no such file", box=[0, 0, 3, 3])
    odd = done(str(path), "x", box="left")  # a question may have such a field
    assert list(sliced([film, odd], "size")) == ["-"]
    given = [done("no such file", "x", size="XL"), done("a", "x")]
    assert list(sliced(given, "size")) == ["-", "XL"]  # the row's own word


def test_what_can_be_sliced() -> None:
    assert can_slice([{"kit": "weui"}, {}], "kit")
    assert can_slice([{"box": [0, 0, 1, 1]}], "size")
    assert not can_slice([{"text": "a"}], "size")


def test_a_summary_has_intervals_for_each_slice() -> None:
    answers = [done("a", "x", kit="weui"), done("b", "y", kit="vant")]
    report = summary("tiny", answers, ["kit", "metric"])
    assert report["intervals"] == {"vqa": {"exact_match": (0.0, 1.0)}}
    assert set(report["slices"]) == set(report["slice_intervals"]) == {"kit", "metric"}
    kit = report["slice_intervals"]["kit"]
    assert kit["weui"] == {"vqa": {"exact_match": (1.0, 1.0)}}
    printed = tables(report)
    assert printed.startswith("vqa            exact_match 0.500 [0.000, 1.000]  (n 2)")
    assert "\n\nkit vant\nvqa            exact_match 0.000 [0.000, 0.000]" in printed
    assert "\n\nmetric exact_match\nvqa " in printed


@pytest.mark.parametrize("said", ["a settings page", "nothing of it"])
def test_a_caption_is_scored_against_its_file(said: str) -> None:
    from mm15_mlx.scores import corpora

    rows: list[dict[str, Any]] = [
        {"task": "screen_summary", "references": ["a settings page"]},
        {"task": "screen_summary", "references": ["a list of mails"]},
        {"task": "widget_caption", "references": ["go back"]},
    ]
    ciders = corpora(rows)
    assert set(ciders) == {"screen_summary", "widget_caption"}
    value = score(rows[0], Said(said, ()), (), ciders)["cider"]
    # of a, settings, page the first is everywhere; all n-grams up to three are right
    assert value == pytest.approx(7.5 if said == "a settings page" else 0.0)
