"""Metrics beside their published implementations, to 1e-6; where one cannot be
installed, beside a second reading of its rule, written apart from the first."""

import inspect
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mm15_mlx.captions import Cider, tokens
from mm15_mlx.grounding import iou
from mm15_mlx.vqa import anls, choice, relaxed_accuracy, vqa_accuracy, vqa_normalised

pytestmark = pytest.mark.parity
WORDS = "a the red blue big screen button list of with settings no icon page".split()
DATA = Path(__file__).parents[2] / "benchmarks" / "data" / "kits.jsonl"
SENTENCES = """
The user can't sign in, as the app's "Wi-Fi" switch is off.
A pop-up asks for check-in and/or check-out dates (12/25/2020).
It's 10:30am; e.g. Dr. Smith's page costs $1,299.99 or 50% less!
A close-up of a half-eaten sandwich... it's on the boss's plate
Facebook, Google+ and Twitter: they're 5/5, aren't they?
Terms & Conditions of R&B [2nd-hand] — don’t read
He said "cannot", I'd've said 'gonna'. O'Clock no. 6
""".strip().split("\n")


def texts_of_screens() -> list[str]:
    """What stands on the screens of the first questions, each once."""
    rows = map(json.loads, DATA.read_text(encoding="utf-8").splitlines())
    found = (
        [row.get("text"), *(e["text"] for e in row.get("elements", ()))] for row in rows
    )
    return sorted({" ".join(t.split()) for texts in found for t in texts if t})


@pytest.fixture(scope="module")
def treebank() -> Callable[[list[str]], list[list[str]]]:
    """COCO's wrapper of Stanford's tokenizer, in one call of Java."""
    wrapper = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    if shutil.which("java") is None:
        pytest.skip("needs java")

    def split(texts: list[str]) -> list[list[str]]:
        asked = {k: [{"caption": text}] for k, text in enumerate(texts)}
        found = wrapper.PTBTokenizer().tokenize(asked)
        return [found[k][0].split() for k in range(len(texts))]

    return split


def test_words_as_penns_treebank_has_them(
    treebank: Callable[[list[str]], list[list[str]]],
) -> None:
    screens = texts_of_screens()
    chosen = random.Random(2).sample(screens, 200) + SENTENCES
    theirs = treebank(chosen)
    other = [t for t, words in zip(chosen, theirs, strict=True) if tokens(t) != words]
    assert len(other) <= len(chosen) // 100, other
    assert sum(map(len, theirs)) > 400  # something to compare


def test_cider_with_the_published_words(
    treebank: Callable[[list[str]], list[list[str]]],
) -> None:
    scorer = pytest.importorskip("pycocoevalcap.cider.cider_scorer").CiderScorer
    rng = random.Random(3)
    rows = [rng.choices(SENTENCES, k=3) for _ in range(12)]
    said = [" ".join(r[0].split()[: rng.randint(3, 9)]) for r in rows]
    words = treebank([t for s, r in zip(said, rows, strict=True) for t in (s, *r)])
    joined = [" ".join(w) for w in words]
    theirs = scorer()
    for k in range(len(rows)):
        theirs += joined[4 * k], joined[4 * k + 1 : 4 * k + 4]
    cider = Cider(rows)
    ours = [cider.score(s, r) for s, r in zip(said, rows, strict=True)]
    assert ours == pytest.approx(list(theirs.compute_score()[1]), abs=1e-6)
    assert max(ours) > 1


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


@pytest.mark.parametrize(
    "module", ["torchvision.ops", "transformers.loss.loss_for_object_detection"]
)
def test_iou_as_detectors_have_it(module: str) -> None:
    torch = pytest.importorskip("torch")
    box_iou = pytest.importorskip(module).box_iou
    if not inspect.isfunction(box_iou):
        pytest.skip("torchvision was built for another torch: see conftest.py")
    rng = random.Random(4)

    def box() -> list[float]:
        x, y = rng.randint(0, 8), rng.randint(0, 8)
        return [x, y, x + rng.random() * 8 + 0.1, y + rng.random() * 8 + 0.1]

    pairs = [(box(), box()) for _ in range(500)]
    ours = [iou(a, b) for a, b in pairs]
    first, second = (
        torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True)
    )
    found = box_iou(first, second)
    theirs = found[0] if isinstance(found, tuple) else found  # with the union
    assert ours == pytest.approx(theirs.diagonal().tolist(), abs=1e-6)
    assert 0 in ours and sum(value > 0.3 for value in ours) > 20


# --- second readings of published rules ----------------------------------------------


def relaxed(said: str, truth: str) -> bool:
    """pix2struct's: within 5 % of a number that is not 0, else equal but for case."""

    def value(text: str) -> float | None:
        share = re.fullmatch(r"(.*?)%+", text)
        try:
            return float(share[1]) / 100 if share else float(text)
        except ValueError:
            return None

    a, b = value(said), value(truth)
    if a is None or b is None or b == 0:
        return said.lower() == truth.lower()
    return abs((a - b) / b) <= 0.05


def test_relaxed_accuracy_as_pix2struct_has_it() -> None:
    rng = random.Random(5)
    ends = ["", "", "%", " %", "k", "%%"]
    seen = {True: 0, False: 0}
    for _ in range(5000):
        truth = rng.choice(["-", "", "", "+"]) + str(rng.choice([0, 7, 20, 99.5, 400]))
        said = truth
        if rng.random() < 0.7:  # around the limit of 5 %
            number = abs(float(truth)) * rng.uniform(0.93, 1.07)
            said = f"{truth[0] if truth[0] in '+-' else ''}{number:.3g}"
        said, truth = said + rng.choice(ends), truth + rng.choice(ends)
        if rng.random() < 0.1:
            said, truth = rng.choice(["Blue", "blue", "red"]), "blue"
        expected = relaxed(said, truth)
        seen[expected] += 1
        assert relaxed_accuracy(said, [truth]) == expected, (said, truth)
    assert min(seen.values()) > 1000


SMALL = "none zero one two three four five six seven eight nine ten".split()


def text_vqa(answer: str) -> str:
    """TextVQA's reading of an answer, a sign at a time."""
    text = re.sub(r"[,?]", "", answer.lower())
    text = re.sub("'s", " 's", text).strip()
    text = text.translate({9: " ", 10: " "})
    signs = []
    for sign in text:
        beside = re.search(rf"(?<= ){re.escape(sign)}|{re.escape(sign)}(?= )", text)
        if sign in ';/[]"{}()=+\\_-><@`!':
            sign = "" if beside else " "
        signs.append(sign)
    words = re.sub(r"\.(?!\d)", "", "".join(signs)).split()
    short = {"dont": "don't", "wont": "won't", "thats": "that's", "youre": "you're"}
    numbers = {word: str(max(k - 1, 0)) for k, word in enumerate(SMALL)}
    said = [numbers.get(w, w) for w in words if w not in {"a", "an", "the"}]
    return " ".join(short.get(w, w) for w in said)


def test_vqa_accuracy_as_textvqa_has_it() -> None:
    rng = random.Random(6)
    pieces = [
        *"abst 10.,?!-/()@;'\n\t", "'s", "the ", "Two ", "dont ", "$1,000", "none",
        " a ", "thats", "12:30", "<b>", "ten", " - ",
    ]  # fmt: skip

    def text() -> str:
        return "".join(rng.choices(pieces, k=rng.randint(0, 8)))

    changed = 0
    for _ in range(5000):
        answer = text()
        assert vqa_normalised(answer) == text_vqa(answer), answer
        changed += text_vqa(answer) != answer
    assert changed > 2500
    values = set()
    for _ in range(500):
        few = [rng.choice(["red", "Red.", "the red", "blue", "two", "2"])] * 3
        people = [rng.choice([*few, "red", "2 "]) for _ in range(10)]
        said = text_vqa(rng.choice(["red", "2", "blue"]))
        read = [text_vqa(p) for p in people]
        shares = [
            min(1.0, sum(r == said for j, r in enumerate(read) if j != k) / 3)
            for k in range(10)
        ]
        values.add(value := vqa_accuracy(said, people))
        assert value == pytest.approx(sum(shares) / 10, abs=1e-6)
    assert len(values) > 3


def mmmu(answer: str, letters: str) -> str | None:
    """MMMU's reading of an answer, which MuirBench uses, as far as it needs no words of
    the options: the last letter in brackets, else the last between spaces."""
    for sign in ",.!?;:'":
        answer = answer.strip(sign)
    for form in ("({})", " {} "):
        found = [(f" {answer} ".rfind(form.format(x)), x) for x in letters]
        if max(found)[0] >= 0:
            return max(found)[1]
    return None


def test_letters_as_muirbench_has_them() -> None:
    rng = random.Random(7)
    pieces = "(A) (B) A C D the cat is, (c) Both AB or".split()
    named = 0
    for _ in range(3000):
        words = rng.choices(pieces, k=rng.randint(1, 5))
        answer = " ".join(words) + rng.choice(["", ".", "!", "?"])
        expected = mmmu(answer, "ABCD")
        # of one letter alone ours takes either case
        if expected is not None:
            named += 1
            assert choice(answer) == expected, answer
        elif answer.strip(".!?") != "(c)":
            assert choice(answer) is None, answer
    assert named > 1000
