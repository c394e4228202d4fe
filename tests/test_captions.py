"""CIDEr-D by hand; beside the published implementation it is in tests/parity."""

from math import exp, sqrt

import pytest

from mm15_mlx.captions import Cider, tokens

# Two rows without a word in common: every word's idf is log 2, which cancels.
CIDER = Cider([["red dog"], ["blue cat"]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A Wi-Fi switch, turned on.", ["a", "wi", "fi", "switch", "turned", "on"]),
        ("don't", ["don't"]),
        ("It costs $3.50!", ["it", "costs", "$", "3.50"]),
        ("  ", []),
        ("e.g. 1,000 (one)", ["e.g", "1,000", "one"]),
    ],
)
def test_tokens(text: str, words: list[str]) -> None:
    assert tokens(text) == words


def test_cider_by_hand() -> None:
    # cosines of 1-, 2-, 3- and 4-grams are 1, 1, 0, 0; their mean times ten
    assert CIDER.score("red dog", ["red dog"]) == pytest.approx(5.0)
    assert CIDER.score("red cat", ["red dog"]) == pytest.approx(10 * 0.5 / 4)
    # counts 2, 1 clipped to 1, 1; one bigram more than the reference
    words, pairs = 2 / sqrt(5 * 2), 1 / sqrt(2)
    length = exp(-1 / 72)
    value = 10 * (words + pairs) / 4 * length
    assert CIDER.score("red red dog", ["red dog"]) == pytest.approx(value)
    assert CIDER.score("red dog", ["red dog", "blue cat"]) == pytest.approx(2.5)


def test_words_of_every_row_count_nothing() -> None:
    cider = Cider([["a red dog"], ["a blue cat"]])
    assert cider.score("a", ["a red dog"]) == 0
    assert cider.score("red", ["a red dog"]) > 0
    assert cider.score("", ["a red dog"]) == 0
    alone = Cider([["red dog"]])
    assert alone.score("red dog", ["red dog"]) == 0  # nothing to tell it apart from
