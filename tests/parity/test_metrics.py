"""Metrics beside their published implementations, to 1e-6."""

import random

import pytest

from mm15_mlx.captions import Cider, tokens
from mm15_mlx.vqa import anls

pytestmark = pytest.mark.parity
WORDS = "a the red blue big screen button list of with settings no icon page".split()


def test_cider_as_pycocoevalcap_has_it() -> None:
    scorer = pytest.importorskip("pycocoevalcap.cider.cider_scorer").CiderScorer
    rng = random.Random(0)

    def caption() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(1, 14)))

    rows = [[caption() for _ in range(rng.randint(1, 5))] for _ in range(60)]
    # half of what is said is near a reference, so that long n-grams meet
    said = [rng.choice(r) + " red" if k % 2 else caption() for k, r in enumerate(rows)]
    theirs = scorer()
    for text, references in zip(said, rows, strict=True):
        theirs += (
            " ".join(tokens(text)), [" ".join(tokens(r)) for r in references],
        )  # fmt: skip
    mean, scores = theirs.compute_score()
    cider = Cider(rows)
    ours = [cider.score(s, r) for s, r in zip(said, rows, strict=True)]
    assert mean > 1  # something to compare
    assert ours == pytest.approx(list(scores), abs=1e-6)


def test_anls_as_anls_star_has_it() -> None:
    theirs = pytest.importorskip("anls_star").anls_score
    rng = random.Random(1)

    def text() -> str:
        return "x" + "".join(rng.choices("ab AB", k=rng.randint(0, 7)))

    values = set()
    for _ in range(500):
        said, answers = text(), [text() for _ in range(3)]
        values.add(value := anls(said, answers))
        assert value == pytest.approx(theirs(tuple(answers), said), abs=1e-6)
    assert len(values) > 10
