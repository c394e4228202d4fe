"""Metrics of answers to questions, by cases worked out by hand."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm15_mlx.scores import Said, score
from mm15_mlx.vqa import (
    METRICS,
    anls,
    choice,
    contains,
    contains_formula,
    cut,
    edits,
    exact_match,
    first_line,
    first_number,
    mcq,
    relaxed_accuracy,
    vqa_accuracy,
    vqa_normalised,
    yes_or_no,
)


@pytest.mark.parametrize(
    ("said", "answers", "value"),
    [
        ("Coca Cola", ["coca  cola"], 1.0),  # case and spaces do not count
        ("coca colas", ["coca cola"], 1 - 1 / 10),
        ("pepsi", ["coca cola", "pepso"], 1 - 1 / 5),  # the nearest answer
        ("ab", ["ac"], 0.5),  # exactly a half still counts
        ("abc", ["axy"], 0.0),  # a third does not
        ("", ["a"], 0.0),
        ("", [""], 1.0),
    ],
)
def test_anls(said: str, answers: list[str], value: float) -> None:
    assert anls(said, answers) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("said", "answer", "value"),
    [
        ("105", "100", 1.0), ("95", "100", 1.0), ("105.1", "100", 0.0),
        ("-95", "-100", 1.0), ("95", "-100", 0.0),
        ("50%", "0.5", 1.0), ("50%", "50", 0.0), (" 12 ", "12.3", 1.0),
        ("0.0", "0", 0.0),  # of a truth of 0 the text counts
        ("0", "0", 1.0), ("Blue", "blue", 1.0), ("blues", "blue", 0.0),
        ("about 100", "100", 0.0), ("nan", "100", 0.0),
    ],
)  # fmt: skip
def test_relaxed_accuracy(said: str, answer: str, value: float) -> None:
    assert relaxed_accuracy(said, [answer]) == value
    assert relaxed_accuracy(said, ["no such answer", answer]) == value


def test_exact_match_and_containment() -> None:
    assert exact_match(" Sign  IN", ["log in", "sign in"]) == 1
    assert exact_match("sign in now", ["sign in"]) == 0
    assert contains("It reads: Sign\nin now", ["log in", " sign in"]) == 1
    assert contains("sign  in", ["sign in"]) == 0  # two spaces are not one
    assert contains("sign", ["sign in"]) == 0


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (r"It is \frac {1}{2} + x.", 1.0),
        ("\\frac{1}{2}\n+x", 1.0),
        (r"\FRAC{1}{2}+x", 0.0),
    ],
)
def test_formulas_are_compared_with_case_and_without_spaces(
    said: str, value: float
) -> None:
    assert contains_formula(said, [r"\frac { 1 } { 2 } + x"]) == value


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The two Dogs.", "2 dogs"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("hell", "hell"),  # a word, not he'll
        ("black/white", "black white"),
        ("yes, sir/madam -", "yes sir madam"),  # a space beside it: gone
        ("top-left -", "topleft"),  # everywhere
        ("1,000", "1000"),
        ("$1,000-$2,000", "$1000 $2000"),
        ("red,blue", "redblue"),  # no space is left, as the original has it
        ("what?yes", "whatyes"),
        ("The dog's", "dog 's"),
        ('"Moe"\'s', "moe 's"),
        ("thats", "that's"),
        ("that's", "that 's"),
        ("." * 33, "."),  # the original's count of what it takes away
        ("3.5", "3.5"),
        ("none", "0"),
        ("somebody'd", "somebodyd"),
        ("a\nb", "b"),
    ],
)
def test_normalisation_of_vqa(text: str, normal: str) -> None:
    assert vqa_normalised(text) == normal


def test_vqa_accuracy_leaves_one_person_out() -> None:
    ten = ["yes"] * 3 + ["no"] * 7
    # leaving out one of three who agree, two others remain: 3 × 2/3 + 7 × 1, over 10
    assert vqa_accuracy("Yes", ten) == pytest.approx((3 * 2 / 3 + 7) / 10)
    assert vqa_accuracy("no", ten) == 1.0
    assert vqa_accuracy("perhaps", ten) == 0.0
    once = ["red"] + ["blue"] * 9
    assert vqa_accuracy("red", once) == pytest.approx(9 * (1 / 3) / 10)
    assert vqa_accuracy("Yes.", ["yes"] * 10) == 1.0  # normalised though all agree
    assert vqa_accuracy("$1,000-$2,000", ["$1000-$2000"] * 10) == 1.0
    assert vqa_accuracy("red,blue", ["red blue"] * 10) == 0.0
    assert vqa_accuracy("dog's", ["dog 's"] * 10) == 1.0


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("B", "B"), ("b", "B"), ("(B)", "B"), ("B.", "B"), (" B) the red one", "B"),
        ("B. the red one (A)", "B"), ("B: red", "B"), ("It is B. Red", "B"),
        ("The answer is C", "C"), ("Answer: (D)", "D"), ("I choose (A), a cat", "A"),
        ("Option B", "B"), ("I think so", None),
        ("(A) or (B)", "B"), ("not A but C", "C"),  # the last
        ("(A), and B is not", "A"),  # brackets before letters
        ("A cat", "A"),  # so the original has it
        ("a cat", None), ("The answer is a cat", None), ("", None), ("Bobby", None),
    ],
)  # fmt: skip
def test_the_letter_of_an_answer(said: str, letter: str | None) -> None:
    assert choice(said) == letter
    assert mcq(said, ["(B)"]) == (letter == "B")


@pytest.mark.parametrize(
    ("said", "letter"),
    [
        ("The answer is B. It was taken in the U.S. last year", "B"),
        ("(B) because f(X) grows", "B"), ("B because plan Y fails", "B"),
        ("Option B is right, as in Figure X above", "B"), ("B: see (X)", "B"),
        ("(X) is no option, so C", "C"), ("X. No, (b)? D", "D"),
        ("x", None), ("(E)", None), ("E. of five", None), ("as in (X)", None),
    ],
)  # fmt: skip
def test_only_letters_of_options_are_seen(said: str, letter: str | None) -> None:
    assert choice(said, "ABCD") == letter
    for options in (4, list("wxyz")):
        assert mcq(said, ["B"], options) == (letter == "B")
        row = {"task": "vqa", "answers": ["B"], "metric": "mcq", "options": options}
        assert score(row, Said(said, ())) == {"mcq": letter == "B"}


@pytest.mark.parametrize("options", [None, 0, -1, True, "4", 2.5, [], {}])
def test_options_that_say_no_number_leave_every_letter(options: Any) -> None:
    assert mcq("The answer is (X)", ["X"], options) == 1
    assert mcq("The answer is (Z)", ["Z"], 90) == 1


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (" dax. It is one.", "dax"), ("dax\nA wug. Yes", "dax"), ("dax", "dax"),
        ("It. Is\nso", "It. Is"),  # a period counts only where one line is
        (".5", ".5"), ("", ""),
    ],
)  # fmt: skip
def test_what_vl_icl_keeps_of_an_answer(said: str, kept: str) -> None:
    assert cut(said) == kept


def test_answers_of_vl_icl() -> None:
    assert first_line("Dax.", ["dax"]) == first_line("dax\nbecause", ["Dax"]) == 1
    assert first_line("a dax", ["dax"]) == 0
    assert first_number("It is 12.", ["12"]) == first_number("12x7", ["12"]) == 1
    assert first_number("twelve", ["12"]) == first_number("2\n12", ["12"]) == 0
    assert first_number("-3", ["-3"]) == 0  # digits only: the original's quirk
    assert yes_or_no("Yes, it does", ["yes"]) == yes_or_no("perhaps", ["No"]) == 1
    assert yes_or_no("No.\nYes", ["no"]) == 1 and yes_or_no("yes", ["no"]) == 0


@given(st.text(max_size=12), st.text(max_size=12))
def test_every_metric_is_a_share_and_likes_the_truth(said: str, truth: str) -> None:
    for metric in METRICS.values():
        assert 0 <= metric(said, [truth] * 4) <= 1
    assert anls(truth, [truth]) == exact_match(truth, [truth]) == 1
    assert edits(said, truth) == edits(truth, said) <= max(len(said), len(truth))
