"""Questions in words alone: right, answerable from what they say, and seeded."""

from collections import Counter
from random import Random

import pytest

from mm15_mlx import ui
from mm15_mlx.grounding import split_regions
from mm15_mlx.screens import written
from mm15_mlx.screens.questions import CATEGORIES, SHARES


def element(kind: str, text: str) -> dict:
    return {"type": kind, "text": text, "label": text}


NAMES = {"Wi-Fi": "switch", "Save": "button", "Open": "button", "Home": "tab",
         "Name": "input", "Photo": "image", "Terms": "link"}  # fmt: skip
ROW = {
    "layout": "sign-up",
    "texts": [{"text": t} for t in ("Email", "Password", "Sign Up", "x" * 60)],
    "elements": [
        *(element(kind, name) for name, kind in NAMES.items()),
        element("text", "a line that is much too long to be a name"),
        element("icon", ""),
    ],
}
BARE = {"layout": "empty-state", "texts": [], "elements": []}


def listed(prompt: str) -> dict[str, str]:
    """Types by name, as they stand in a question."""
    assert prompt.startswith("These are elements: ")
    parts = prompt.partition(": ")[2].partition(". ")[0].split(", ")
    pairs = (part.removesuffix('"').split(' "') for part in parts)
    return {name: kind for kind, name in pairs}


def asked(task: written.Task, count: int = 200) -> list[written.Question]:
    return [q for k in range(count) if (q := task(ROW, Random(k)))]


def test_the_one_of_its_type_is_named() -> None:
    for question in asked(written.which):
        given = listed(question.prompt)
        kind = given[question.answer]
        assert list(given.values()).count(kind) == 1
        words = written.spoken(kind)
        assert question.prompt.endswith(tuple(f" is the {w}?" for w in words))


def test_types_and_counts_are_those_of_the_list() -> None:
    for question in asked(written.type_of):
        name = question.prompt.rpartition(' of "')[2].removesuffix('"?')
        assert listed(question.prompt)[name] == question.answer == NAMES[name]
    counts = Counter()
    for question in asked(written.how_many):
        kind = question.prompt.rpartition(' type "')[2].removesuffix('"?')
        found = list(listed(question.prompt).values()).count(kind)
        assert question.answer == str(found)
        counts[question.answer] += 1
    assert counts["0"] > 20 and counts["1"] > 50 and counts["2"] > 10


def test_a_screen_is_told_from_its_texts() -> None:
    question = written.kind_of_screen(ROW, Random(0))
    assert question and question.answer == "sign up screen"
    assert '"Email"' in question.prompt and "xxx" not in question.prompt


def test_facts_agree_with_the_library() -> None:
    facts = dict(written.FACTS)
    types = facts["Which types of elements are there?"]
    assert tuple(types.split(", ")) == ui.ELEMENT_TYPES


def test_a_screen_with_too_little_on_it_leaves_facts() -> None:
    made = [written.text_only(BARE, Random(k)) for k in range(60)]
    assert {(q.prompt, q.answer) for q in made} == set(written.FACTS)


def test_questions_are_seeded_and_need_no_picture() -> None:
    made = [written.text_only(ROW, Random(k)) for k in range(200)]
    assert made == [written.text_only(ROW, Random(k)) for k in range(200)]
    assert {q.task for q in made} == {
        "which_listed", "type_listed", "count_listed", "kind_said", "fact",
    }  # fmt: skip
    for question in made:
        assert split_regions(question.prompt, [], 1000) == [question.prompt]
        assert question.answer


@pytest.mark.parametrize("task", [written.which, written.type_of, written.how_many])
def test_too_few_names_allow_no_list(task: written.Task) -> None:
    assert task({**ROW, "elements": ROW["elements"][:2]}, Random(0)) is None


def test_the_category_has_no_share_unless_it_is_given_one() -> None:
    assert written.TEXT_ONLY not in SHARES and written.TEXT_ONLY not in CATEGORIES
