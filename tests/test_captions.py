"""CIDEr-D by hand; beside the published implementation it is in tests/parity."""

from math import exp, sqrt

import pytest

from mm15_mlx.captions import Cider, tokens

# Two rows without a word in common: every word's idf is log 2, which cancels.
CIDER = Cider([["red dog"], ["blue cat"]])


# What Stanford's tokenizer and COCO's wrapper made of each.
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A Wi-Fi switch, turned on.", "a wi-fi switch turned on"),
        ("Check-in or pop-up: 5/5 and/or 1/2", "check-in or pop-up 5/5 and/or 1/2"),
        ("don't can't shouldn't've", "do n't ca n't should n't 've"),
        ("the user's, users' and John’s", "the user 's users and john 's"),
        ("I'd we'll they've it 's", "i 'd we 'll they 've it 's"),
        ("cannot gonna gimme y'all 'tis", "can not gon na gim me y' all 't is"),
        ("o'clock 'n' O'Reilly 90's '90s", "o'clock 'n' o'reilly 90 's '90s"),
        ("It costs $3.50, €20 or £5!", "it costs $ 3.50 $ 20 or # 5"),
        ("e.g. Dr. Smith in the U.S.", "e.g. dr. smith in the u.s."),
        ("10:30am, 5 p.m. or 12:00", "10:30 am 5 p.m. or 12:00"),
        ("1,000 (one) [two]", "1,000 -lrb- one -rrb- -lsb- two -rsb-"),
        ("“two” – words — so… 'yes'?!", "two words so yes ?!"),
        ("R&B, A & B, C++ #1 #tag @me", "r&b a & b c++ # 1 #tag @me"),
        ("me@x.com x.org/a-b app.js v1.2", "me@x.com x.org/a-b app.js v1 .2"),
        ("50%-off 3rd-party -5 to +3", "50 % off 3rd-party -5 to +3"),
        ("(555) 123-4567", "-lrb-555-rrb- 123-4567"),
        ("25° → no. 6", "25 ° → no. 6"),
        ("  ", ""),
    ],
)
def test_tokens(text: str, words: str) -> None:
    assert tokens(text) == words.split()


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
