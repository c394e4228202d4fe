"""CIDEr-D of captions: agreement with several people's, rare words counting most.

What this file is: Vedantam et al. (arXiv 1411.5726), in the form CIDEr-D that the COCO
evaluation computes: clipped counts, a Gaussian over the difference in length, scaled
by ten. What it is not: a metric of one caption alone: a word's weight comes from all
rows of the file.
"""

import re
from collections import Counter
from collections.abc import Sequence
from math import exp, log, sqrt

LONGEST = 4  # n-grams
SIGMA = 6.0  # tokens
SCALE = 10.0
Gram = tuple[str, ...]

# The signs that the tokenizer writes in another way before it splits.
_SIGNS = str.maketrans({
    "’": "'", "‘": "'", "“": '"', "”": '"', "–": "--", "—": "--", "…": "...",
    "€": "$", "£": "#",
})  # fmt: skip
_BRACKETS = dict(zip("()[]{}", "lrb rrb lsb rsb lcb rcb".split(), strict=True))
_ENDS = r"(?:n't|'(?:s|m|d|re|ve|ll))"
_ABBREVIATIONS = """
mr mrs ms dr prof st rev hon pres gov gen sen rep col maj capt lt sgt jr sr dept univ
inc co ltd corp bros vs etc est mt ft ave rd blvd jan feb mar apr jun jul aug sept? oct
nov dec mon tues? wed thu(?:rs)? fri
"""
# The first that fits counts, so a form stands before those that it contains.
_TOKEN = re.compile(
    rf"""
      https?://[^\s<>"]*[\w/] | www\.[^\s<>"]*[\w/]
    | [\w.+-]+@[\w-]+(?:\.[\w-]+)+
    | [@\#][^\W\d]\w*
    | '(?:n'|em\b|tis\b|twas\b|\d\ds?\b) | (?<!\w){_ENDS}\b
    | (?-i:[A-Z]+(?:&[A-Z]+)+)(?:'s)? | [cf]\# | [a-z]\+\+
    | (?:[^\W\d_]\.){{2,}} | \bph\.d\. | \b[a-z]\.(?![^\W\d_])
    | \b(?:{"|".join(_ABBREVIATIONS.split())})\.(?!\w)
    | \b(?:no|pp|fig)\.(?=\s*\d)
    | [^\W\d_][^\W_]*(?:\.[^\W\d_][^\W_]*)+(?:/[\w/?=&.-]*\w)?   # names with a period
    | \(\d{{3}}\)(?=\s*\d{{3}}-)                                 # of telephones
    | \d+:\d\d(?=[ap]m\b)
    | (?:(?<![\w)])[-+])?(?:\d+|(?=\.\d))(?:[.,:]\d+)*\w*(?:[-/]\w+)*(?:'s)?
    | \w+(?:[-/]\w+)*(?:'\w+)*
    | --+ | \.\.+ | [?!]+ | \#\#+ | [^\w\s]
    """,
    re.VERBOSE | re.IGNORECASE,
)
_TAIL = re.compile(rf"(?<=\w){_ENDS}$")
_PAIRS = {  # the words that Penn's treebank splits
    "cannot": ("can", "not"), "gonna": ("gon", "na"), "gotta": ("got", "ta"),
    "wanna": ("wan", "na"), "gimme": ("gim", "me"), "lemme": ("lem", "me"),
    "'tis": ("'t", "is"), "'twas": ("'t", "was"), "y'all": ("y'", "all"),
}  # fmt: skip
# What the COCO evaluation drops. It knows brackets in capitals only, and they are
# lower-case by then, so it counts them as words: so do we.
_DROPPED = frozenset("' \" ` . ? ! , : - -- ... ;".split())


def tokens(text: str) -> list[str]:
    """Lower-case words without punctuation, as the COCO evaluation has them.

    It runs Stanford's Java tokenizer, which splits contractions (do n't) and keeps
    wi-fi, and/or and 5/5. This follows its rules, not its code: nearly all captions
    are split alike, rare signs (smileys, tags, scripts without spaces) may not be.
    """
    words = (w.lower() for w in _TOKEN.findall(text.translate(_SIGNS)))
    return [part for w in words if w not in _DROPPED for part in _parted(w)]


def _parted(word: str) -> list[str]:
    """do n't, should n't 've, can not; a bracket by its name."""
    tails: list[str] = []
    while tail := _TAIL.search(word):
        tails.insert(0, tail[0])
        word = word[: tail.start()]
    for sign, name in _BRACKETS.items():
        word = word.replace(sign, f"-{name}-")
    return [*_PAIRS.get(word, (word,)), *tails]


class Cider:
    """Scores captions against a corpus: the references of every row of a file."""

    def __init__(self, corpus: Sequence[Sequence[str]]) -> None:
        """corpus: the tokens' source, one list of reference captions for each row. In
        a corpus of one row no word tells anything apart, and every score is 0."""
        self._rows = len(corpus)
        self._seen: Counter[Gram] = Counter()  # rows that have an n-gram
        for references in corpus:
            grams = (_grams(tokens(r)) for r in references)
            self._seen.update(set().union(*grams))

    def score(self, said: str, references: Sequence[str]) -> float:
        """0…10, the mean over the row's references."""
        mine = self._weighed(tokens(said))
        theirs = [self._weighed(tokens(r)) for r in references]
        return SCALE * sum(_similarity(mine, other) for other in theirs) / len(theirs)

    def _weighed(self, words: list[str]) -> tuple[int, list[dict[Gram, float]]]:
        """(bigrams, tf-idf by length of n-gram) of a caption's words.

        What the COCO evaluation calls a caption's length is its number of bigrams.
        """
        whole = log(self._rows)
        weights: list[dict[Gram, float]] = [{} for _ in range(LONGEST)]
        for gram, count in _grams(words).items():
            idf = whole - log(max(1, self._seen[gram]))
            weights[len(gram) - 1][gram] = count * idf
        return max(len(words) - 1, 0), weights


def _grams(words: Sequence[str]) -> Counter[Gram]:
    return Counter(
        tuple(words[k : k + n])
        for n in range(1, LONGEST + 1)
        for k in range(len(words) - n + 1)
    )


def _similarity(
    a: tuple[int, list[dict[Gram, float]]], b: tuple[int, list[dict[Gram, float]]]
) -> float:
    """Mean cosine of the clipped weights of `a` with those of the reference `b`."""
    total = 0.0
    for mine, theirs in zip(a[1], b[1], strict=True):
        norm = _norm(mine) * _norm(theirs)
        if norm:
            shared = sum(
                min(w, theirs[gram]) * theirs[gram]
                for gram, w in mine.items()
                if gram in theirs
            )
            total += shared / norm
    return total / LONGEST * exp(-((a[0] - b[0]) ** 2) / (2 * SIGMA**2))


def _norm(weights: dict[Gram, float]) -> float:
    return sqrt(sum(w * w for w in weights.values()))
