"""Questions in words alone, about lists that stand in them: the category text-only.

The lists come from annotated screens, so that the words are those of the rest of
training. MM1.5 keeps a tenth of its mixture for text; the questions are our choice.
"""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from mm15_mlx import ui
from mm15_mlx.screens.questions import SPOKEN, Question, caption

Row = dict[str, Any]

TEXT_ONLY = "text-only"
FEWEST, MOST = 3, 6  # things in a list
LONGEST = 24  # characters of a name
FACTS = (  # about the model's own forms, which no screen shows
    ("What are the four numbers of a box?", "left, top, right, bottom"),
    ("What are the two numbers of a point?", "left, top"),
    ("Which types of elements are there?", ", ".join(ui.ELEMENT_TYPES)),
)


def _named(row: Row, rng: Random) -> list[tuple[str, str]]:
    """(type, name) of some elements of a screen, no name twice."""
    named = {
        name: e["type"]
        for e in row["elements"]
        if (name := caption(e)) and len(name) <= LONGEST and '"' not in name
    }
    pool = [(kind, name) for name, kind in named.items()]
    return rng.sample(pool, min(len(pool), rng.randint(FEWEST, MOST)))


def _listed(elements: list[tuple[str, str]]) -> str:
    return "These are elements: " + ", ".join(
        ui.element_line(kind, name) for kind, name in elements
    )


def which(row: Row, rng: Random) -> Question | None:
    """The one element of its type."""
    elements = _named(row, rng)
    count = Counter(kind for kind, _ in elements)
    once = [(kind, name) for kind, name in elements if count[kind] == 1]
    if len(elements) < FEWEST or not once:
        return None
    kind, name = rng.choice(once)
    prompt = f"{_listed(elements)}. Which of these is the {rng.choice(spoken(kind))}?"
    return Question("which_listed", prompt, name)


def type_of(row: Row, rng: Random) -> Question | None:
    """What an element of the list is."""
    elements = _named(row, rng)
    if len(elements) < FEWEST:
        return None
    kind, name = rng.choice(elements)
    prompt = f'{_listed(elements)}. What is the UI type of "{name}"?'
    return Question("type_listed", prompt, kind)


def how_many(row: Row, rng: Random) -> Question | None:
    """How many of the list are of a type; one that is not there in a third."""
    elements = _named(row, rng)
    if len(elements) < FEWEST:
        return None
    absent = rng.random() < 1 / 3
    kind = rng.choice(ui.ELEMENT_TYPES if absent else [kind for kind, _ in elements])
    count = sum(kind == other for other, _ in elements)
    prompt = f'{_listed(elements)}. How many of these have the UI type "{kind}"?'
    return Question("count_listed", prompt, str(count))


def kind_of_screen(row: Row, rng: Random) -> Question | None:
    """What some of its texts say of a screen."""
    texts = [t["text"] for t in row["texts"] if len(t["text"]) <= LONGEST]
    if len(texts) < FEWEST:
        return None
    said = ", ".join(f'"{text}"' for text in rng.sample(texts, min(len(texts), MOST)))
    prompt = f"A screen says {said}. What kind of screen is it?"
    return Question("kind_said", prompt, f"{row['layout'].replace('-', ' ')} screen")


def fact(row: Row, rng: Random) -> Question:
    prompt, answer = rng.choice(FACTS)
    return Question("fact", prompt, answer)


def spoken(kind: str) -> tuple[str, ...]:
    """What people call a type."""
    return SPOKEN.get(kind, (kind,))


Task = Callable[[Row, Random], Question | None]
TASKS: dict[Task, int] = {which: 3, type_of: 2, how_many: 2, kind_of_screen: 2, fact: 1}


def text_only(row: Row, rng: Random) -> Question:
    """A question made from a screen's annotation; a fact where it holds too little."""
    (task,) = rng.choices(list(TASKS), list(TASKS.values()))
    return task(row, rng) or fact(row, rng)
