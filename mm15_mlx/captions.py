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

# Words with what apostrophes and periods they have inside, numbers, or one other sign.
_TOKEN = re.compile(r"\d+(?:[.,:]\d+)*|\w+(?:['’.]\w+)*|[^\w\s]")
_DROPPED = set("'’`\"“”.?!,:;-–—…()[]{}")


def tokens(text: str) -> list[str]:
    """Lower-case words without punctuation.

    COCO's own evaluation runs Stanford's Java tokenizer here, which also splits
    contractions (do n't). Ours leaves them whole: no choice between two captions
    hangs on it, but scores are comparable only among themselves.
    """
    return [t for t in _TOKEN.findall(text.lower()) if t not in _DROPPED]


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
