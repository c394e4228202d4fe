"""Metrics of an answer to a question about a picture, each 0…1 of one answer.

What this file is: the published definitions, by the names of `vqa` rows. What it is
not: metrics of places, classes and captions (scores.py, captions.py).
"""

import re
from collections.abc import Callable, Sequence

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
    """An answer stands somewhere in what is said, case and spaces folded (OCRBench)."""
    text = folded(said)
    return float(any(folded(a) in text for a in answers))


# --- VQA -------------------------------------------------------------------------

_DIGITS = dict(zip(
    "none zero one two three four five six seven eight nine ten".split(),
    ("0", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"), strict=True,
))  # fmt: skip
_ARTICLES = ("a", "an", "the")
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
# Written without one of its apostrophes each of these is put right. VQAEval's table
# has no others: `hell`, `shed` and `wed` are words.
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
} | {"somebody'd": "somebodyd"}  # so VQAEval has it


def vqa_normalised(text: str) -> str:
    """As VQA's own evaluation reads an answer: no articles and hardly punctuation,
    numbers to ten as digits, contractions with their apostrophes.

    The quirks are the original's: punctuation becomes a space unless a space or a
    number's comma is near, when it vanishes.
    """
    text = " ".join(text.split())
    found = text
    for mark in _PUNCTUATION:
        loose = f"{mark} " in text or f" {mark}" in text or _NUMBER_COMMA.search(text)
        found = found.replace(mark, "" if loose else " ")
    words = [_DIGITS.get(w, w) for w in _PERIOD.sub("", found).lower().split()]
    return " ".join(_CONTRACTIONS.get(w, w) for w in words if w not in _ARTICLES)


def vqa_accuracy(said: str, answers: Sequence[str]) -> float:
    """VQA's (arXiv 1505.00468): the mean, over leaving one person out, of the others
    who say the same, three being enough.

    Both sides are always normalised. VQAEval leaves them as they are where all people
    agree, which makes `Yes` wrong beside ten `yes`: our choice.
    """
    same = [vqa_normalised(a) == vqa_normalised(said) for a in answers]
    total = sum(same)
    return sum(min(1.0, (total - s) / AGREEING) for s in same) / len(same)


# --- multiple choice -------------------------------------------------------------

_LETTERS = (
    re.compile(r"^\W*([A-Za-z])\W*$"),  # b, (B), B.
    re.compile(r"^([A-Z])[.):]"),  # B. because
    re.compile(r"(?i:answer|option|choice)(?:\s+is)?\W+([A-Z])\b"),
    re.compile(r"\(([A-Z])\)"),
)


def choice(said: str) -> str | None:
    """The letter that an answer names, in the surest of a few forms; not published,
    our choice. An answer that names two in the same form names none."""
    for pattern in _LETTERS:
        letters = {letter.upper() for letter in pattern.findall(said.strip())}
        if letters:
            return letters.pop() if len(letters) == 1 else None
    return None


def mcq(said: str, answers: Sequence[str]) -> float:
    """Whether the letter that was chosen is an answer's, `B` or `(b)`."""
    letter = choice(said)
    return float(letter is not None and letter in map(choice, answers))


METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "anls": anls,
    "relaxed_accuracy": relaxed_accuracy,
    "exact_match": exact_match,
    "vqa_accuracy": vqa_accuracy,
    "mcq": mcq,
    "contains": contains,
}
