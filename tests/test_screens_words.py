"""Words that are kept for test screens: none is among the others, and no other word of
the lists comes when they are asked for."""

import html
import json
import re
from pathlib import Path
from random import Random

import pytest

from mm15_mlx.screens import LAYOUTS, Options, icons, labels, labels_kept, plan_screen
from mm15_mlx.screens.build import KITS
from mm15_mlx.screens.content import INSTEAD, KEPT, Content
from mm15_mlx.screens.series import render_series

NAMES = [name for name in dir(labels_kept) if name.isupper()]


def entries(module: object, name: str) -> set[str]:
    """The words of a list, without icons."""
    found: set[str] = set()
    for entry in getattr(module, name):
        for part in entry if isinstance(entry, tuple) else entry.split(":")[:1]:
            if part not in icons.NAMES:
                found.add(part.casefold())
    return found


def test_no_kept_word_is_in_a_list_of_training() -> None:
    usual = [name for name in dir(labels) if name.isupper()]
    trained = set().union(*(entries(labels, name) for name in usual))
    for name in NAMES:
        kept = entries(labels_kept, name)
        assert len(kept) >= 10 and not kept & trained, name


def test_every_list_stands_for_one() -> None:
    assert len(INSTEAD) == len(NAMES) >= 20
    for name in NAMES:
        theirs, ours = getattr(labels, name), getattr(labels_kept, name)
        assert len(ours) > 0.4 * len(theirs)
        assert {type(e) for e in ours} == {type(e) for e in theirs}
    for name in ("SETTINGS", "TABS", "ACTIONS"):
        named = [entry.split(":") for entry in getattr(labels_kept, name)]
        assert all(icon in icons.NAMES for _, icon in named)
        assert len({word for word, _ in named}) == len(named)


def test_slots_are_those_that_content_fills() -> None:
    known = set(re.findall(r"\{(\w+)\}", str(vars(labels))))
    assert set(re.findall(r"\{(\w+)\}", str(vars(labels_kept)))) <= known


@pytest.mark.usefixtures("faker")
def test_screens_with_kept_words_have_none_of_the_lists() -> None:
    """Words that layouts, forms and keyboards have themselves are on both."""
    lists = ("SONGS", "PRODUCTS", "EVENTS", "MESSAGES", "EMPTY", "ONBOARDING",
             "COUNTRIES", "APPS")  # fmt: skip
    usual = {
        w for n in lists for w in entries(labels, n) if len(w) > 4 and "{" not in w
    }
    kept = {w for n in lists for w in entries(labels_kept, n) if len(w) > 4}
    assert len(usual) > 150
    seen: dict[str, set[str]] = {"usual": set(), KEPT: set()}
    for words, found in seen.items():
        for number, layout in enumerate(LAYOUTS):
            for kit in ("weui", "bootstrap"):
                options = Options((kit,), (layout,), words=words)
                plan = plan_screen(0, number, options)
                said = html.unescape(re.sub(r"<[^>]*>", "\n", plan.html)).casefold()
                found |= {line.strip() for line in said.split("\n")}
    assert len(usual & seen["usual"]) > 30 < len(kept & seen[KEPT])
    assert not kept & seen["usual"]
    assert not usual & seen[KEPT]


@pytest.mark.usefixtures("faker")
def test_the_usual_words_are_as_they_were() -> None:
    content = Content(Random(0))
    assert content.words(labels.TABS) is labels.TABS
    assert Content(Random(0), KEPT).words(labels.TABS) == labels_kept.TABS
    assert Content(Random(0), KEPT).words(["a"]) == ["a"]
    assert Options() == Options(tuple(KITS), words="usual")


def test_the_shipped_screens_say_that_their_words_are_kept() -> None:
    folder = Path(__file__).parents[1] / "benchmarks" / "data" / "screens"
    index = (folder / "new-words" / "screens.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in index.splitlines()]
    assert len(rows) == 24 and {row["words"] for row in rows} == {KEPT}


def test_words_that_are_unknown_or_not_for_pairs() -> None:
    with pytest.raises(ValueError, match="unknown words 'new': usual or kept"):
        Options(words="new")
    with pytest.raises(ValueError, match="pairs have the usual words only"):
        render_series("none", "pair", 1, 0, Options(words=KEPT))
