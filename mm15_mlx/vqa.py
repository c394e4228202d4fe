"""Metrics of an answer to a question about a picture, each 0…1 of one answer.

What this file is: the published definitions, by the names of `vqa` rows. What it is
not: metrics of places, classes and captions (scores.py, captions.py).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

ANLS_LEAST = 0.5  # ST-VQA and DocVQA: a text that is further away is another answer
RELAXED = 0.05  # ChartQA
AGREEING = 3  # VQA: as many people make an answer wholly right


def folded(text: str) -> str:
    """Case and spaces folded, as `exact` compares."""
    return " ".join(text.casefold().split())


def edits(a: str, b: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def anls(said: str, answers: Sequence[str]) -> float:
    """DocVQA's similarity to the nearest answer, 0 below one half.

    The similarity of exactly one half counts, as in the challenge's own script; the
    paper (ST-VQA, arXiv 1905.13648) writes the comparison the other way.
    """
    best = 0.0
    said = " ".join(said.lower().split())
    for answer in answers:
        answer = " ".join(answer.lower().split())
        longest = max(len(said), len(answer))
        best = max(best, 1 - edits(said, answer) / longest if longest else 1.0)
    return best if best >= ANLS_LEAST else 0.0


def relaxed_accuracy(said: str, answers: Sequence[str]) -> float:
    """ChartQA's (arXiv 2203.10244, 5.1): 5 % on numbers, else equal but for case.

    Percentages are numbers as evaluation scripts have it: 5% is 0.05. A truth of 0 is
    compared as text, as nothing is within 5 % of it.
    """
    return float(any(_relaxed(said.strip(), a.strip()) for a in answers))


def _relaxed(said: str, truth: str) -> bool:
    value, wanted = _number(said), _number(truth)
    if value is not None and wanted:
        return abs(value - wanted) / abs(wanted) <= RELAXED
    return said.lower() == truth.lower()


def _number(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def exact_match(said: str, answers: Sequence[str]) -> float:
    """Equal to an answer, case and spaces folded."""
    return float(folded(said) in map(folded, answers))


def contains(said: str, answers: Sequence[str]) -> float:
    """OCRBench's: an answer stands somewhere in what is said, whatever its case."""
    text = _line(said.lower())
    return float(any(_line(a.lower()) in text for a in answers))


def contains_formula(said: str, answers: Sequence[str]) -> float:
    """OCRBench's for handwritten formulas: case counts, spaces do not."""
    text = _line(said).replace(" ", "")
    return float(any(_line(a).replace(" ", "") in text for a in answers))


def _line(text: str) -> str:
    return text.strip().replace("\n", " ")


# --- VQA -------------------------------------------------------------------------

_DIGITS = dict(zip(
    "none zero one two three four five six seven eight nine ten".split(),
    ("0", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"), strict=True,
))  # fmt: skip
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`!'
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS = 32  # no more: the original gives a flag (re.UNICODE) where the count stands
# Written without one of its apostrophes each of these is put right. The original's
# table has no others: `hell`, `shed` and `wed` are words.
_SHORT = """
ain't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am aren't
mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at
shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll
that's there'd there'd've there're there's they'd they'd've they'll they're they've
'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's
where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()
_CONTRACTIONS = {
    short[:k] + short[k + 1 :]: short
    for short in _SHORT
    for k, char in enumerate(short)
    if char == "'"
} | {"somebody'd": "somebodyd"}  # so the original has it


def vqa_normalised(text: str) -> str:
    """As TextVQA's own evaluation reads an answer: no articles and hardly punctuation,
    numbers to ten as digits, contractions with their apostrophes.

    The quirks are the original's: commas and question marks go first, `'s` becomes a
    word of its own, and any other mark becomes a space, unless it stands beside one
    somewhere, when it vanishes everywhere.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    found = text = text.replace("\n", " ").replace("\t", " ")
    for mark in _PUNCTUATION:
        loose = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if loose else " ")
    found = _PERIOD.sub("", found, count=_PERIODS)
    words = [_DIGITS.get(w, w) for w in found.split()]
    return " ".join(_CONTRACTIONS.get(w, w) for w in words if w not in _ARTICLES)


def vqa_accuracy(said: str, answers: Sequence[str]) -> float:
    """VQA's (arXiv 1505.00468): the mean, over leaving one person out, of the others
    who say the same, three being enough.

    Both sides are always normalised, as in TextVQA's evaluation; VQA v2's leaves them
    as they are where all people agree, and reads commas and `'s` in another way.
    """
    same = [vqa_normalised(a) == vqa_normalised(said) for a in answers]
    total = sum(same)
    return sum(min(1.0, (total - s) / AGREEING) for s in same) / len(same)


# --- multiple choice -------------------------------------------------------------

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALONE = re.compile(r"\W*([A-Za-z])\W*")  # b, (B), B.
_FIRST = re.compile(r"\s*([A-Z])\.")  # B. because
_FORMS = (
    re.compile(r"\(([A-Z])\)"),
    re.compile(r"(?<!\S)([A-HJ-Z])(?!\S)"),  # I is a word
    re.compile(r"\b([A-HJ-Z])\."),
    re.compile(r"^\s*([A-Z])[):]"),
)
_AROUND = (",", ".", "!", "?", ";", ":", "'")


def choice(said: str, letters: str = _LETTERS) -> str | None:
    """The letter that an answer names, as MuirBench's evaluation reads it (MMMU's): in
    brackets, else standing alone; of several the last. None but `letters` are seen: the
    X of `f(X)` is no option.

    A letter before a period counts too, as lmms-eval has it for MuirBench and NExT-QA,
    and `b`, `B)` and `B:`, our choice. Where the original looks for the words of an
    option, or at last draws one at random, this finds None: our choice.
    """
    for form in (_ALONE.fullmatch, _FIRST.match):
        found = form(said)
        if found and found[1].upper() in letters:
            return found[1].upper()
    for mark in _AROUND:
        said = said.strip(mark)
    for form in _FORMS:
        named = [letter for letter in form.findall(said) if letter in letters]
        if named:
            return named[-1]
    return None


def mcq(said: str, answers: Sequence[str], options: Any = None) -> float:
    """Whether the letter that was chosen is an answer's, `B` or `(b)`.

    options: how many there are, or a list of them: only their letters count. Anything
    else is a field of the user's own, and every letter counts.
    """
    count = len(options) if isinstance(options, list) else options
    known = isinstance(count, int) and not isinstance(count, bool) and count > 0
    letters = _LETTERS[:count] if known else _LETTERS
    letter = choice(said, letters)
    return float(letter is not None and letter in map(choice, answers))


# --- VL-ICL ----------------------------------------------------------------------


def cut(said: str) -> str:
    """What VL-ICL's evaluation keeps of an answer: its first line, or where there is
    only one, what stands before the first period."""
    said = said.strip()
    end = said.find("\n")
    if end <= 0:
        end = said.find(".")
    return said[:end] if end > 0 else said


def first_line(said: str, answers: Sequence[str]) -> float:
    """VL-ICL's: what is kept of the answer is the truth, whatever its case."""
    return float(cut(said).lower() in [a.lower() for a in answers])


def first_number(said: str, answers: Sequence[str]) -> float:
    """VL-ICL's for the operators: the first digits of what is kept. A minus is not read
    there, so a negative truth is never met: the original's quirk."""
    number = re.search(r"\d+", cut(said))
    return float((number[0] if number else "") in answers)


def yes_or_no(said: str, answers: Sequence[str]) -> float:
    """VL-ICL's for pairs: what holds `yes` says so, and all else says no."""
    found = "yes" if "yes" in cut(said).lower() else "no"
    return float(found in [a.lower() for a in answers])


METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "anls": anls,
    "relaxed_accuracy": relaxed_accuracy,
    "exact_match": exact_match,
    "vqa_accuracy": vqa_accuracy,
    "mcq": mcq,
    "contains": contains,
    "contains_formula": contains_formula,
    "first_line": first_line,
    "first_number": first_number,
    "yes_or_no": yes_or_no,
}
