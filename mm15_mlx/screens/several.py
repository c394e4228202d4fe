"""Questions about several annotated screens, with boxes in the pixels of each.

MM1.5 trains on several pictures at once; its questions are about photos, so these tasks
and their words are our choice. Boxes name their picture: `<box image=1>` is the second.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from mm15_mlx import ui
from mm15_mlx.screens.changes import OPENED, QUIET
from mm15_mlx.screens.questions import (
    SPOKEN,
    Box,
    Question,
    bare_icons,
    caption,
    caption_line,
    named_widgets,
    once,
    short_questions,
)

Row = dict[str, Any]
Place = tuple[int, Box]  # a picture, from 0, and a box in its pixels

CHANGE_PROMPT = "What changed from the first screen to the second?"
TAPPED_PROMPT = "What was tapped on the first screen to get to the second?"
ORDER_PROMPT = (
    "These four screens are out of order. List their numbers in the order in which "
    "they were seen."
)
PLACES = ("first", "second")
MARKED = re.compile(r"<box>(.*?)</box>")


@dataclass(frozen=True)
class Several:
    """The screens in the order in which they are shown, and a question about them.

    there: where the answer is to be seen, a picture from 0 and a box in its pixels.
    found: where it is found, until the answer has given its box, or, where a name
    comes before that, has read it; None: there.
    """

    images: list[Row]
    question: Question
    there: Place | None = None
    found: Place | None = None

    @property
    def places(self) -> tuple[Place | None, Place | None]:
        """Where to look until the answer has given its box or a name, and after."""
        return self.found or self.there, self.there


def box_of(box: Sequence[float], image: int) -> str:
    """Pixel markup of a box on picture `image`, from 0."""
    return ui.box_markup(box).replace("<box>", f"<box image={image}>")


def series(rows: Iterable[Row], what: str) -> list[list[Row]]:
    """The whole pairs or flows among rows of `data screens`; what: pair or flow."""
    found: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        if what in row:
            found[row["seed"], row[what]["number"]].append(row)
    whole = [sorted(s, key=lambda row: row[what]["step"]) for s in found.values()]
    return [s for s in whole if len(s) == s[0][what]["of"]]


# -- two screens of any kind -----------------------------------------------------------


@dataclass(frozen=True)
class _Asked:
    """A question, what it names, and that thing's box."""

    prompt: str
    name: str
    box: Box


def _texts(row: Row, rng: Random) -> list[_Asked]:
    lines = [t for t in row["texts"] if not t.get("dimmed")]
    boxes = {t["text"]: t["box"] for t in lines}
    return [
        _Asked(f'Which screen has the text "{text}"?', text, boxes[text])
        for text in sorted(once([t["text"] for t in lines]))
        if 3 <= len(text) <= 40 and not text.endswith("…")
    ]


def _icons(row: Row, rng: Random) -> list[_Asked]:
    boxes = {e["icon"]: e["box"] for e in bare_icons(row, rng)}
    return [
        _Asked(f"Which screen has the {name} icon?", name, box)
        for name, box in sorted(boxes.items())
    ]


def _widgets(row: Row, rng: Random) -> list[_Asked]:
    return [
        _Asked(
            f"Which screen has the {name} {rng.choice(SPOKEN[kind])}?", name, e["box"]
        )
        for name, kind, e in named_widgets(row)
        if len(name) <= 40
    ]


def _says(row: Row) -> str:
    """All that a screen can be asked for by name, one a line."""
    names = [t["text"] for t in row["texts"]]
    names += [word for e in row["elements"] for word in (caption(e), e["label"])]
    return "\n".join(names).casefold()


def which(rng: Random, first: Row, second: Row) -> Several | None:
    """On which of two screens something is: it is on exactly one, drawn before."""
    rows = [first, second]
    side = rng.randrange(2)
    there, other = rows[side], rows[1 - side]
    pools: list[tuple[str, list[_Asked]]] = []
    elsewhere = _says(other)
    for task, make in (("text", _texts), ("widget", _widgets)):
        found = [a for a in make(there, rng) if a.name.casefold() not in elsewhere]
        pools.append((f"which_{task}", found))
    icons = {e["icon"] for e in other["elements"] if e.get("icon")}
    found = [a for a in _icons(there, rng) if a.name not in icons]
    pools = [(task, pool) for task, pool in [*pools, ("which_icon", found)] if pool]
    if not pools:
        return None
    task, pool = rng.choice(pools)
    asked = rng.choice(pool)
    question = Question(task, asked.prompt, PLACES[side])
    return Several(rows, question, (side, asked.box))


ALONE = {"text-rich": 1.0, "refer-ground": 1.0}  # what is asked of one of several


def beside(rng: Random, rows: Sequence[Row], which: int, count: int) -> list[Several]:
    """What one of several screens could be asked alone, with its place in words: it is
    to be seen as well beside another. `count` questions at most, about one box each."""
    made = []
    for asked in short_questions(rows[which], rng, count, ALONE):
        boxes = MARKED.findall(asked.prompt + asked.answer)
        if len(boxes) != 1:
            continue
        box = [float(v) for v in boxes[0].split(",")]
        question = replace(
            asked,
            prompt=f"On the {PLACES[which]} screen: {_on(asked.prompt, which)}",
            answer=_on(asked.answer, which),
        )
        made.append(Several(list(rows), question, (which, box)))
    return made


def _on(text: str, image: int) -> str:
    """Pixel markup that names its picture."""
    return MARKED.sub(rf"<box image={image}>\1</box>", text)


# -- a pair: the same screen before and after ------------------------------------------


def change_of(row: Row) -> Row | None:
    """What led to a screen of a pair or a flow; nothing for the first of it."""
    return (row.get("pair") or row.get("flow") or {}).get("change")


def named_line(row: Row, words: str) -> Row | None:
    """The only line of text that words name first: `the tab "Calls" …`."""
    _, _, rest = words.partition('"')
    name = rest.partition('"')[0]
    same = [t for t in row["texts"] if name and t["text"] == name]
    return same[0] if len(same) == 1 else None


def changed(rng: Random, before: Row, after: Row) -> Several | None:
    """Where something happened, and what: mostly on the second picture, a removal on
    the first. The place comes first: who has found that reads the rest there. Where
    something is gone only the second looks otherwise, so there it is found."""
    change = change_of(after)
    if not change:
        return None
    answer, there, found = change["words"], None, None
    lines: tuple[Box | None, ...] = ()
    if change["box"]:
        there, found = (change["on"], change["box"]), (1, change["box"])
        named = named_line((before, after)[change["on"]], answer)
        lines = (named and named["box"],) * 2
        answer = f"{box_of(change['box'], change['on'])} {answer}"
    question = Question("changed", CHANGE_PROMPT, answer, lines)
    return Several([before, after], question, there, found)


def tapped(rng: Random, before: Row, after: Row) -> Several | None:
    """Its box on the first picture, and what was tapped there in between. Where that is
    what changed, the same place of the second tells it: only there it looks otherwise.
    What opened is called by what opened it, or asks about it, so there the name comes
    first: it is read on the second picture, and then found on the first.
    """
    change = change_of(after) or {}
    target = change.get("tapped")
    if not target:
        return None
    there = (0, target["box"])
    if change["kind"] in QUIET and change["box"] == target["box"]:
        there = (1, change["box"])
    name = ui.element_line(target["type"], target["label"])
    box = box_of(target["box"], 0)
    read = caption_line(before, target)
    if change["kind"] not in OPENED:
        answer = f"{box} the {name}"
        question = Question("tapped", TAPPED_PROMPT, answer, (read,) * 2)
        return Several([before, after], question, there)
    title, ahead, found = named_line(after, change["words"]), -1, None
    if title:
        ahead = title["text"].find(target["label"])
    if ahead >= 0:
        read, found = title["box"], (1, title["box"])
    question = Question(
        "tapped", TAPPED_PROMPT, f"the {name} {box}", (read, None), before=max(ahead, 0)
    )
    return Several([before, after], question, there, found)


def which_state(rng: Random, before: Row, after: Row) -> Several | None:
    """On which of two screens a switch is on, or a box or a tab selected; shown either
    way. Only the second shown can tell that it differs, so there it is to be seen."""
    kind = (change_of(after) or {}).get("kind", "")
    if kind not in ("switch", "checkbox", "tab"):
        return None
    rows = [before, after]
    rng.shuffle(rows)
    first, second = (states(row, kind) for row in rows)
    differ = [k for k, (on, _) in second.items() if first.get(k, (on, None))[0] != on]
    if not differ:
        return None
    label = rng.choice(differ)
    on, box = second[label]
    word = "on" if kind == "switch" else "selected"
    prompt = f"On which screen is the {label} {kind} {word}?"
    return Several(rows, Question("which_state", prompt, PLACES[on]), (1, box))


def states(row: Row, kind: str) -> dict[str, tuple[bool, Box]]:
    """Whether what has a state is on, and its box, by label; none that stands twice."""
    name = "selected" if kind == "tab" else "checked"
    every = [e for e in row["elements"] if e["type"] == kind]
    single = once([e["label"] for e in every])
    return {
        e["label"]: (bool(e["state"].get(name)), e["box"])
        for e in every
        if e["label"] in single
    }


# -- a flow ----------------------------------------------------------------------------


def order(rng: Random, *frames: Row) -> Several:
    """In which order the frames of a flow came, shown shuffled: `2, 4, 1, 3`."""
    shown = list(range(len(frames)))
    while shown == sorted(shown):
        rng.shuffle(shown)
    answer = ", ".join(str(shown.index(k) + 1) for k in range(len(frames)))
    images = [frames[k] for k in shown]
    return Several(images, Question("order", ORDER_PROMPT, answer))


Task = Callable[[Random, Row, Row], Several | None]
OF_PAIR: tuple[Task, ...] = (changed, tapped, which_state)


def about_pair(rng: Random, before: Row, after: Row) -> list[Several]:
    """Every question that two screens in a row allow; also those of a flow."""
    made = (task(rng, before, after) for task in OF_PAIR)
    return [question for question in made if question]


def about_flow(rng: Random, frames: Sequence[Row]) -> list[Several]:
    """The order of the frames, and what happened between each two of them."""
    out = [order(rng, *frames)]
    for before, after in zip(frames, frames[1:], strict=False):
        out += about_pair(rng, before, after)
    return out
