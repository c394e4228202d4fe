"""Questions and answers about one annotated screen, with boxes in its pixels.

Tasks and wording follow Ferret-UI; only what occurs once on a screen is asked for.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from mm15_mlx import ui

Row = dict[str, Any]

# What people call the types; the first is the name that answers use.
SPOKEN = {
    "button": ("button",), "link": ("link",), "input": ("input", "field", "text field"),
    "checkbox": ("checkbox",), "radio": ("radio", "radio button"),
    "switch": ("switch", "toggle"), "select": ("select", "dropdown"), "tab": ("tab",),
    "slider": ("slider",), "menuitem": ("menuitem", "row", "item"), "image": ("image",),
}  # fmt: skip
STATUS_BAR = ("battery", "signal", "wifi")
STATEFUL = ("switch", "checkbox", "radio")


Box = list[float]


@dataclass(frozen=True)
class Question:
    """lines: of each box that the answer is about, the line of text that is read with
    it, if any. before: how much of that line, in characters, comes before what is read.
    whole: whether the answer says all, or breaks off."""

    task: str
    prompt: str
    answer: str
    lines: tuple[Box | None, ...] = ()
    whole: bool = True
    before: int = 0


def caption(element: Row) -> str:
    """What names the element: its own text, else the label of its row."""
    return (element.get("text") or element.get("label") or "").strip()


def once(values: list[str]) -> set[str]:
    return {v for v, n in Counter(values).items() if n == 1 and v}


def _where(rng: Random, query: str) -> str:
    if rng.random() < 0.7:
        return ui.find_prompt(query)
    return rng.choice(
        [
            f"Where is the {query} located?",
            f"Find the {query}.",
            f"Point to the {query}.",
        ]
    )


def find_text(row: Row, rng: Random) -> list[Question]:
    unique = once([t["text"] for t in row["texts"]])
    return [
        Question("find_text", ui.find_text_prompt(t["text"]), ui.box_markup(t["box"]))
        for t in row["texts"]
        if t["text"] in unique
    ]


def bare_icons(row: Row, rng: Random) -> list[Row]:
    """Elements that are a bare icon; status bars, on every screen, seldom."""
    return [
        e
        for e in row["elements"]
        if e.get("icon")
        and (e["type"] == "icon" or not e.get("text"))
        and e["type"] not in ("input", "menuitem", "image")
        and (e["icon"] not in STATUS_BAR or rng.random() < 0.15)
    ]


def find_icon(row: Row, rng: Random) -> list[Question]:
    unique = once([e["icon"] for e in row["elements"] if e.get("icon")])
    return [
        Question("find_icon", _where(rng, f"{e['icon']} icon"), ui.box_markup(e["box"]))
        for e in bare_icons(row, rng)
        if e["icon"] in unique
    ]


def named_widgets(row: Row) -> list[tuple[str, str, Row]]:
    """(caption, type, element) of widgets that caption and type name uniquely."""
    found = [(caption(e), e["type"], e) for e in row["elements"] if e["type"] in SPOKEN]
    count = Counter((c.lower(), t) for c, t, _ in found)
    return [f for f in found if f[0] and count[f[0].lower(), f[1]] == 1]


def find_widget(row: Row, rng: Random) -> list[Question]:
    return [
        Question(
            "find_widget",
            _where(rng, f"{name} {rng.choice(SPOKEN[kind])}"),
            ui.box_markup(element["box"]),
        )
        for name, kind, element in named_widgets(row)
    ]


def ocr(row: Row, rng: Random) -> list[Question]:
    return [
        Question("ocr", ui.ocr_prompt(t["box"]), t["text"], (t["box"],))
        for t in row["texts"]
    ]


def widget_class(row: Row, rng: Random) -> list[Question]:
    return [
        Question("widget_class", ui.widget_class_prompt(e["box"]), e["type"])
        for e in row["elements"]
    ]


def icon_class(row: Row, rng: Random) -> list[Question]:
    return [
        Question("icon_class", ui.icon_class_prompt(e["box"]), e["icon"])
        for e in bare_icons(row, rng)
    ]


def tappable(row: Row, rng: Random) -> list[Question]:
    return [
        Question(
            "tappable",
            ui.tappable_prompt(e["box"]),
            "Yes" if e["tappable"] else "No",
        )
        for e in row["elements"]
    ]


def state(row: Row, rng: Random) -> list[Question]:
    questions = []
    for name, kind, element in named_widgets(row):
        checked = (element.get("state") or {}).get("checked")
        if kind in STATEFUL and checked is not None:
            answer = "Yes" if checked else "No"
            word = "on" if kind == "switch" else "selected"
            questions.append(Question("state", f"Is the {name} {kind} {word}?", answer))
    return questions


COUNTED = ("button", "switch", "checkbox", "radio", "input", "slider", "tab", "image")


def summary(row: Row, rng: Random) -> list[Question]:
    """What kind of screen it is, its title and how many controls it has."""
    words = row["layout"].replace("-", " ")
    top = [t for t in row["texts"] if t["box"][3] < row["height"] / 4]
    title = max(top, key=lambda t: t["box"][3] - t["box"][1], default=None)
    answer = f"{words} screen"
    if title:
        answer += f' "{title["text"]}"'
    count = Counter(e["type"] for e in row["elements"])
    found = [
        f"{count[kind]} {kind}{'es' if kind[-1] in 'xh' else 's'}"
        if count[kind] > 1
        else f"one {kind}"
        for kind in COUNTED
        if count[kind]
    ]
    if found:
        answer += " with " + ", ".join(found)
    return [Question("summary", ui.SUMMARY_PROMPT, answer)]


# Tasks of each category, with their shares within it (MM1.5 §3.2 mixes categories).
# Questions about several screens are in several.py, those in words alone in written.py.
CATEGORIES = {
    "text-rich": {ocr: 1},
    "refer-ground": {
        find_text: 6, find_widget: 6, find_icon: 3, widget_class: 2, icon_class: 2,
        tappable: 2,
    },
    "general": {state: 2, summary: 1},
}  # fmt: skip
# Not the paper's 37.2 : 22.5 : 11.3: this model's uses are almost all of the second.
SHARES = {"text-rich": 20.0, "refer-ground": 75.0, "general": 5.0}


def short_questions(
    row: Row, rng: Random, count: int, shares: Mapping[str, float] = SHARES
) -> list[Question]:
    """`count` questions at most, categories and tasks in their shares, none twice."""
    pools, weights = {}, {}
    for category, tasks in CATEGORIES.items():
        for task, share in tasks.items():
            pool = task(row, rng)
            rng.shuffle(pool)
            pools[task] = pool
            weights[task] = shares.get(category, 0.0) * share / sum(tasks.values())
    picked: list[Question] = []
    while len(picked) < count:
        live = [t for t, pool in pools.items() if pool and weights[t] > 0]
        if not live:
            break
        task = rng.choices(live, [weights[t] for t in live])[0]
        picked.append(pools[task].pop())
    return picked


def in_order(parts: list[Row]) -> list[Row]:
    """Top to bottom, then left to right."""
    return sorted(parts, key=lambda p: (round(p["box"][1] / 8), p["box"][0]))


def read_screen(row: Row, limit: int | None = None) -> Question:
    """Every line of text with its box, `limit` of them at most: continual
    pre-training."""
    lines = in_order(row["texts"])[:limit]
    answer = "\n".join(f"{t['text']} {ui.box_markup(t['box'])}" for t in lines)
    boxes = tuple(t["box"] for t in lines)
    whole = len(lines) == len(row["texts"])
    return Question("read", ui.READ_PROMPT, answer, boxes, whole)


def list_widgets(row: Row, limit: int | None = None) -> Question:
    """Every element with type, text and box, `limit` of them at most."""
    elements = in_order(row["elements"])[:limit]
    answer = "\n".join(
        f"{ui.element_line(e['type'], e.get('icon') or caption(e))} "
        f"{ui.box_markup(e['box'])}"
        for e in elements
    )
    boxes = tuple(None if e.get("icon") else caption_line(row, e) for e in elements)
    whole = len(elements) == len(row["elements"])
    return Question("widgets", ui.WIDGETS_PROMPT, answer, boxes, whole)


def caption_line(row: Row, element: Row) -> Box | None:
    """The box of the line of text that says an element's caption: the only one, or
    else the one inside it."""
    same = [t["box"] for t in row["texts"] if t["text"] == caption(element)]
    x1, y1, x2, y2 = element["box"]
    inside = [
        b
        for b in same
        if x1 <= (b[0] + b[2]) / 2 <= x2 and y1 <= (b[1] + b[3]) / 2 <= y2
    ]
    found = inside or same
    return found[0] if len(found) == 1 else None
