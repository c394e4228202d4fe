"""Two runs beside each other: differences, tests of chance, rows that are missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mm15_mlx.answered import prediction_row
from mm15_mlx.compare import differences, mcnemar, paired, permutation, text
from mm15_mlx.config import UserError
from mm15_mlx.scores import Said, score
from mm15_mlx.summaries import Prediction


def done(name: str, said: str, image: str = "a", **fields: Any) -> Prediction:
    row = {"id": name, "image": image, "task": "ocr", "box": [0, 0, 9, 9], "text": "x",
           **fields}  # fmt: skip
    result = Said(said, ())
    return Prediction(row, result, score(row, result), 0.5)


def others(*answers: Prediction) -> dict[tuple[str, str], dict[str, Any]]:
    lines = [prediction_row(p) for p in answers]
    return {(line["task"], line["id"]): line for line in lines}


@pytest.mark.parametrize(
    ("better", "worse", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 0, 2 / 32), (1, 7, 2 * 9 / 256), (4, 4, 1.0)],
)
def test_mcnemar_is_the_sign_test(better: int, worse: int, p: float) -> None:
    assert mcnemar(better, worse) == pytest.approx(p)
    assert mcnemar(worse, better) == pytest.approx(p)


def test_permutation_counts_all_ways_of_few_pictures() -> None:
    sums = np.array([[[1.0, 1.0], [0.0, 1.0]]] * 4)  # always one better
    assert permutation(sums) == pytest.approx(2 / 16)  # all swapped, or none
    assert permutation(sums[:, [0, 0]]) == 1.0
    many = np.array([[[0.6, 1.0], [0.5, 1.0]]] * 40)
    assert permutation(many) == pytest.approx(1 / 10_001)  # never as far by chance
    assert permutation(many) == permutation(many)


def test_differences() -> None:
    here = [done(str(k), "x", image=str(k)) for k in range(6)]
    there = [done(str(k), "x" if k == 0 else "xy", image=str(k)) for k in range(6)]
    found = differences(here, others(*there))
    exact = found["metrics"]["ocr"]["exact"]
    assert (exact["this"], exact["other"]) == (1.0, round(1 / 6, 4))
    assert exact["difference"] == round(5 / 6, 4)
    assert (exact["test"], exact["better"], exact["worse"]) == ("mcnemar", 5, 0)
    assert exact["p"] == pytest.approx(2 / 32)
    low, high = exact["interval"]
    assert 0 < low < exact["difference"] < high == 1
    similar = found["metrics"]["ocr"]["edit_similarity"]
    assert similar["test"] == "permutation"
    assert similar["p"] == pytest.approx(2 / 32)  # five that can be swapped
    assert found["metrics"]["ocr"]["n"] == 6
    assert found["missing"] == {"here": [], "there": []}


def test_the_interval_is_paired() -> None:
    """Runs that are right and wrong together differ by nothing, surely."""
    here = [done(str(k), "x" if k % 2 else "y", image=str(k)) for k in range(30)]
    exact = differences(here, others(*here))["metrics"]["ocr"]["exact"]
    assert (exact["difference"], exact["interval"], exact["p"]) == (0.0, (0.0, 0.0), 1)


def test_f1_is_compared_by_its_counts() -> None:
    def tap(name: str, truth: str, said: str) -> Prediction:
        return done(name, said, image=name, task="tappable", answer=truth)

    here = [tap("1", "yes", "Yes"), tap("2", "no", "No")]
    there = [tap("1", "yes", "No"), tap("2", "no", "No")]
    found = differences(here, others(*there))["metrics"]["tappable"]
    assert (found["f1"]["this"], found["f1"]["other"]) == (1.0, 0.0)
    assert found["f1"]["test"] == "permutation"
    assert found["accuracy"]["better"] == 1


def test_rows_that_only_one_run_has() -> None:
    here = [done("1", "x"), done("2", "x")]
    more = [done(f"m{k}", "x") for k in range(12)]
    found = differences(here, others(here[0], *more))
    assert found["metrics"]["ocr"]["n"] == 1
    assert found["missing"]["there"] == [["ocr", "2"]]
    assert len(found["missing"]["here"]) == 12
    printed = text(found, "other.jsonl")
    assert printed.startswith("against other.jsonl: difference [95 % interval], p\n")
    assert (
        "ocr            exact +0.000 [+0.000, +0.000]  1.000 for 1.000  p 1 ("
        in printed
    )
    assert "(mcnemar, 0 better, 0 worse)  (n 1)" in printed
    assert "12 rows only there: ocr m0, ocr m1," in printed and ", …" in printed
    assert printed.endswith("1 rows only here: ocr 2")


def test_a_difference_is_of_the_rows_that_have_the_metric() -> None:
    def ask(name: str, metric: str) -> Prediction:
        fields = {"question": "?", "answers": ["x"], "metric": metric}
        return done(name, "x", image=name, task="vqa", **fields)

    here = [ask("1", "contains"), ask("2", "contains"), ask("3", "contains_formula")]
    found = differences(here, others(*here))
    counts = {k: d["n"] for k, d in found["metrics"]["vqa"].items() if k != "n"}
    assert counts == {"contains": 2, "contains_formula": 1}
    lines = text(found, "other.jsonl").split("\n")[1:]
    assert [line[-6:] for line in lines] == [" (n 2)", " (n 1)"]


def test_metrics_that_the_other_run_did_not_have_are_left_out() -> None:
    line = prediction_row(done("1", "x"))
    line["scores"] = {"exact": 1.0}
    found = differences([done("1", "x")], {("ocr", "1"): line})
    assert set(found["metrics"]["ocr"]) == {"n", "exact"}


def test_rows_that_cannot_be_compared() -> None:
    path = Path("other.jsonl")
    row = done("1", "x").row
    good = prediction_row(done("1", "x"))
    assert paired([row], [good], path) == {("ocr", "1"): good}
    with pytest.raises(
        UserError, match=r"ocr '1' has another text there; give the ans"
    ):
        paired([row], [{**good, "text": "y"}], path)
    with pytest.raises(UserError, match="ocr '1' comes twice in the tasks; make ids"):
        paired([row, row], [good], path)
    with pytest.raises(UserError, match="other.jsonl has none of the tasks' ids"):
        paired([row], [{**good, "id": "7"}], path)
