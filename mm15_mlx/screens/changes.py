"""What can change on a screen, in words, and where it is seen on two renderings of it.

A `Step` leads from one state of a screen (a set of edits) to the next. `found` looks
for it on both pictures: a change that cannot be seen is none.
"""

from collections import Counter
from dataclasses import dataclass
from random import Random
from statistics import median
from typing import Any

from . import labels
from .edits import Call, Edit

Screen = dict[str, Any]  # a row of screens.jsonl

CANCEL, CONFIRM, DELETE = "Cancel", "Continue", "Delete"
OPENERS = ("button", "menuitem", "link")
MENUS = ("more", "share", "menu", "sort", "filter", "edit", "settings", "cart")
VERBS = ("Share", "Archive", "Hide", "Mute", "Pin", "Duplicate", "Rename", "Move")
BACKWARD = {
    "removed": "added", "added": "removed", "emptied": "entered", "unsaid": "message",
    "dialog": "closed", "sheet": "closed",
}  # fmt: skip
# Nobody empties a field or takes a message back: steps that say which way time runs.
ONE_WAY = ("emptied", "unsaid")
QUIET = ("switch", "checkbox", "tab")  # these leave every word where it is
OPENED = ("dialog", "sheet")


@dataclass(frozen=True)
class Step:
    """`add` and `drop`: edits of the screen. `old` and `new`: words that change;
    `tap`: type and label of what is tapped, where it is not the thing itself."""

    kind: str
    name: str
    add: tuple[Edit, ...] = ()
    drop: tuple[Edit, ...] = ()
    old: str = ""
    new: str = ""
    tap: tuple[str, str] | None = None

    def back(self) -> "Step":
        """The same change the other way."""
        tap = ("button", CANCEL) if self.kind == "dialog" else None
        kind = BACKWARD.get(self.kind, self.kind)
        return Step(kind, self.name, self.drop, self.add, self.new, self.old, tap)

    def after(self, edits: frozenset[Edit]) -> frozenset[Edit]:
        return (edits - set(self.drop)) | set(self.add)


def widget(screen: Screen, kind: str, label: str) -> Screen | None:
    """The only element of that type and label."""
    same = [e for e in screen["elements"] if e["type"] == kind and
            e["label"].lower() == label.lower()]  # fmt: skip
    return same[0] if len(same) == 1 else None


def line(screen: Screen, text: str) -> Screen | None:
    """The only line of text that reads so."""
    same = [t for t in screen["texts"] if t["text"].lower() == text.lower()]
    return same[0] if len(same) == 1 else None


def steps(calls: list[Call], screen: Screen, rng: Random) -> list[Step]:
    """All that can happen to things that are seen on a screen as it was planned."""
    out: list[Step] = []
    for c in calls:
        out += _MAKERS[c.call](c, screen, rng) if c.call in _MAKERS else []
    return out


def _stateful(c: Call, screen: Screen, rng: Random) -> list[Step]:
    label, on, disabled = (c.given[k] for k in ("label", "on", "disabled"))
    if disabled or not widget(screen, c.call, label):
        return []
    return [Step(c.call, label, (Edit(c.call, c.number, not on),))]


def _row(c: Call, screen: Screen, rng: Random) -> list[Step]:
    row = c.given["row"]
    if not line(screen, row.title):
        return []
    out = [Step("removed", row.title, (Edit("row", c.number, None),))]
    if row.after in labels.VALUES and line(screen, row.after):
        other = rng.choice([v for v in labels.VALUES if not line(screen, v)])
        out.append(Step("value", row.title, (Edit("row", c.number, other),), (),
                        row.after, other))  # fmt: skip
    return out


def _field(c: Call, screen: Screen, rng: Random) -> list[Step]:
    given = c.given["field"]
    if given.kind == "password" or given.disabled or not line(screen, given.value):
        return []
    return [Step("emptied", given.label, (Edit("field", c.number, ""),), (),
                 given.value)]  # fmt: skip


def _bubble(c: Call, screen: Screen, rng: Random) -> list[Step]:
    text = c.given["text"]  # one line of a longer message would not be all of it
    edit = Edit("bubble", c.number, None)
    return [Step("unsaid", text, (edit,))] if line(screen, text) else []


def _choices(c: Call, screen: Screen, options: list[str], active: int) -> list[Step]:
    if not all(widget(screen, "tab", o) for o in options):
        return []
    return [Step("tab", option, (Edit(c.call, c.number, k),))
            for k, option in enumerate(options) if k != active]  # fmt: skip


def _segmented(c: Call, screen: Screen, rng: Random) -> list[Step]:
    return _choices(c, screen, c.given["options"], c.given["active"])


def _tabs(c: Call, screen: Screen, rng: Random) -> list[Step]:
    bars = c.given["bars"]
    return _choices(c, screen, [label for label, _ in bars.tabs], bars.active)


def _overlay(c: Call, screen: Screen, rng: Random) -> list[Step]:
    """Words that can be tapped open a question, bare icons a menu."""
    if c.given["bars"].overlay or c.given["bars"].keyboard:
        return []
    out = []
    for e in screen["elements"]:
        name, kind = e["label"], e["type"]
        shown = widget(screen, kind, name) and 3 <= len(name) <= 28
        if kind not in OPENERS or not e["tappable"] or not shown or name[-1] in "….?!":
            continue
        if line(screen, name):
            verb = rng.choice(VERBS)
            title = f"{verb} “{name}”?" if kind == "menuitem" else f"{name}?"
            text = "You can change this again at any time."
            over = ("dialog", title, text, CANCEL, CONFIRM)
        elif e["icon"] in MENUS:
            actions = rng.sample([a.split(":")[0] for a in labels.ACTIONS], 3)
            title, over = name, ("sheet", name, *actions)
        else:
            continue
        out.append(Step(over[0], title, (Edit("overlay", 0, over),), tap=(kind, name)))
    return out


def removal(step: Step) -> tuple[Step, Step]:
    """A removal as apps ask for it: the question, then its answer."""
    title = f"Delete “{step.name}”?"
    over = Edit(
        "overlay", 0, ("dialog", title, "You cannot undo this.", CANCEL, DELETE)
    )
    return (
        Step("dialog", title, (over,), tap=("menuitem", step.name)),
        Step("removed", step.name, step.add, (over,), tap=("button", DELETE)),
    )


_MAKERS = {
    "switch": _stateful, "checkbox": _stateful, "row": _row, "field": _field,
    "bubble": _bubble, "segmented": _segmented, "tabs": _tabs, "overlay": _overlay,
}  # fmt: skip


def found(step: Step, before: Screen, after: Screen) -> Screen | None:
    """What happened, for the row of `after`; nothing where it cannot be seen.

    box: where, on picture `on` (0 or 1) of the two; tapped: type, label and box, on the
    first.
    """
    if step.kind in QUIET and _words(before) != _words(after):
        return None
    if (
        step.kind in ("value", "entered")
        and (_words(before) - _words(after)).total() > 1
    ):
        return None
    seen = _LOOKS[step.kind](step, before, after)
    if not seen:
        return None
    words, on, box, tapped = seen
    if step.tap:
        tapped = widget(before, *step.tap)
        if not tapped:
            return None
    return {
        "kind": step.kind,
        "words": words,
        "on": on,
        "box": box,
        "tapped": tapped and {k: tapped[k] for k in ("type", "label", "box")},
    }


Look = tuple[str, int, list[float] | None, Screen | None] | None


def _words(screen: Screen) -> Counter[str]:
    return Counter(t["text"].lower() for t in screen["texts"])


def _state(step: Step, before: Screen, after: Screen) -> Look:
    old, new = (widget(s, step.kind, step.name) for s in (before, after))
    if not (old and new) or old["state"].get("checked") == new["state"].get("checked"):
        return None
    words = ("off", "on") if step.kind == "switch" else ("cleared", "selected")
    verb = "turned " if step.kind == "switch" else ""
    how = words[bool(new["state"].get("checked"))]
    said = f'the {step.kind} "{new["label"]}" was {verb}{how}'
    return said, 1, new["box"], old


def _tab(step: Step, before: Screen, after: Screen) -> Look:
    old, new = (widget(s, "tab", step.name) for s in (before, after))
    if not (old and new) or old["state"] == new["state"]:
        return None
    return f'the tab "{new["label"]}" was chosen', 1, new["box"], old


def _value(step: Step, before: Screen, after: Screen) -> Look:
    new = line(after, step.new)
    if not (new and line(before, step.old) and line(after, step.name)):
        return None
    said = f'"{step.name}" changed from "{step.old}" to "{step.new}"'
    return said, 1, new["box"], None


def _item(step: Step, before: Screen, after: Screen) -> Look:
    gone = step.kind == "removed"
    there, missing = (before, after) if gone else (after, before)
    shown = line(there, step.name)
    if not shown or line(missing, step.name):
        return None
    box = (widget(there, "menuitem", step.name) or shown)["box"]
    return f'the item "{step.name}" was {step.kind}', 0 if gone else 1, box, None


def _entered(step: Step, before: Screen, after: Screen) -> Look:
    old, new = (widget(s, "input", step.name) for s in (before, after))
    if not (old and new) or not line(after, step.new) or line(before, step.new):
        return None
    said = f'"{step.new}" was entered in the field "{step.name}"'
    return said, 1, new["box"], None


def _message(step: Step, before: Screen, after: Screen) -> Look:
    new = line(after, step.name)
    if not new or line(before, step.name):
        return None
    return f'the message "{step.name}" was added', 1, new["box"], None


def _over(step: Step, before: Screen, after: Screen) -> Look:
    closed = step.kind == "closed"
    there = before if closed else after
    over = (step.drop if closed else step.add)[0].value
    kind, what = over[0], "dialog" if over[0] == "dialog" else "menu"
    parts = [line(there, text) for text in over[1:] if text]
    parts += [widget(there, "button", text) for text in over[2:]]
    if kind == "dialog" and not line(there, step.name):
        return None
    boxes = [p["box"] for p in parts if p and not p.get("dimmed")]
    if len(boxes) < 2 or _words(before) == _words(after):
        return None
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    box = [min(x1), min(y1), max(x2), max(y2)]
    said = f'the {what} "{step.name}" was {"closed" if closed else "opened"}'
    return said, 0 if closed else 1, box, None


def _scrolled(step: Step, before: Screen, after: Screen) -> Look:
    moves = []
    for old in before["texts"]:
        new = line(after, old["text"])
        if new and line(before, old["text"]) and abs(new["box"][1] - old["box"][1]) > 4:
            moves.append(new["box"][1] - old["box"][1])
    if len(moves) < 2 or abs(median(moves)) < before["height"] / 25:
        return None
    way = "down" if median(moves) < 0 else "up"
    return f"the page was scrolled {way}", 1, None, None


_LOOKS = {
    "switch": _state, "checkbox": _state, "tab": _tab, "value": _value,
    "removed": _item, "added": _item, "entered": _entered, "message": _message,
    "dialog": _over, "sheet": _over, "closed": _over, "scrolled": _scrolled,
}  # fmt: skip
