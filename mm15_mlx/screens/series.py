"""Pairs of screens between which one thing happens, and flows of four such screens.

All of a series is one planned screen: layout, kit, seed and content are the same, and
edits (edits.py) make the difference. Series k is a function of (seed, k) and the
options only, like a screen.
"""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from .build import (
    Options,
    Plan,
    find_node_modules,
    plan_screen,
    shoot,
    written,
)
from .capture import Camera
from .changes import BACKWARD, ONE_WAY, Step, found, line, removal, steps
from .content import USUAL
from .edits import Call, Edit, edited
from .fonts import note_absent
from .progress import shown

Screen = dict[str, Any]
Shot = tuple[bytes, Screen]
Story = tuple[frozenset[Edit], list[Step]]  # what is edited at first, what happens then

LENGTH = {"pair": 2, "flow": 4}
SCREENS = 24  # planned screens that a series may be made of
# Nearly every screen allows these; a screen with a switch is to show the switch.
EVERYWHERE = {"removed": 0.25, "dialog": 0.25, "sheet": 0.25, "scrolled": 0.25}
TRIES = 3  # stories that are tried on each; some cannot be seen in the end


def plan_edited(
    seed: int, index: int, options: Options, edits: frozenset[Edit]
) -> tuple[Plan, list[Call]]:
    """A screen with these edits, and what its layout asked of the kit."""
    ordered = tuple(sorted(edits, key=repr))
    plan = plan_screen(seed, index, options, partial(edited, edits=ordered))
    for edit in ordered:
        if edit.call == "scroll" and plan.kit.scrolls:
            plan = replace(plan, shell={**plan.shell, "scroll": edit.value})
    return plan, plan.kit.calls


def pair_story(rng: Random, there: list[Step]) -> Story | None:
    """One step from the screen, or back to it."""
    kinds = sorted({step.kind for step in there})
    if not kinds:
        return None
    kind = rng.choices(kinds, [EVERYWHERE.get(kind, 1.0) for kind in kinds])[0]
    step = rng.choice([step for step in there if step.kind == kind])
    if kind in ONE_WAY or (kind in BACKWARD and rng.random() < 0.5):
        return frozenset(step.add), [step.back()]
    return frozenset(), [step]


def flow_story(rng: Random, there: list[Step], screen: Screen) -> Story | None:
    """Three steps of which one at least tells which way time runs.

    A deletion (the question, then the answer), a form that is filled in, messages that
    come, or a page that is scrolled from its top to its end.
    """
    usual = [_delete, _scroll]  # what nearly every screen allows comes last
    rng.shuffle(usual)
    makers = (_fill, _talk, *usual)
    return next(filter(None, (make(rng, there, screen) for make in makers)), None)


def _delete(rng: Random, there: list[Step], screen: Screen) -> Story | None:
    items = [s for s in there if s.kind == "removed" and s.tap is None]
    if not items:
        return None
    item = rng.choice(items)
    two = list(removal(item))
    rest = _others(rng, there, item.add, 1)
    if not rest:
        return None
    first = rest[0].kind != "dialog" and rng.random() < 0.5
    return frozenset(), [*rest, *two] if first else [*two, *rest]


def _fill(rng: Random, there: list[Step], screen: Screen) -> Story | None:
    blanks = _downwards([s for s in there if s.kind == "emptied"], screen)
    if not blanks:
        return None
    blanks = blanks[: rng.randint(1, 3)]
    edits = tuple(edit for step in blanks for edit in step.add)
    rest = _others(rng, there, edits, 3 - len(blanks))
    if len(rest) + len(blanks) < 3:
        return None
    order = [step.back() for step in blanks]
    for step in rest:  # a question that is open hides all that would come after it
        last = step.kind == "dialog"
        order.insert(len(order) if last else rng.randint(0, len(blanks)), step)
    return frozenset(edits), order


def _talk(rng: Random, there: list[Step], screen: Screen) -> Story | None:
    last = _downwards([s for s in there if s.kind == "unsaid"], screen)[-3:]
    if len(last) < 3:
        return None
    edits = frozenset(edit for step in last for edit in step.add)
    return edits, [step.back() for step in last]


def _scroll(rng: Random, there: list[Step], screen: Screen) -> Story | None:
    if not any(s.kind == "scrolled" for s in there):
        return None
    places = [Edit("scroll", 0, value) for value in (0.0, 0.33, 0.67, 1.0)]
    moves = zip(places, places[1:], strict=False)
    down = [Step("scrolled", "", (new,), (old,)) for old, new in moves]
    return frozenset(places[:1]), down


def _downwards(there: list[Step], screen: Screen) -> list[Step]:
    """From the top of the screen on, those that are one line of it."""
    tops = []
    for step in there:
        shown = line(screen, step.old or step.name)
        if shown:
            tops.append((shown["box"][1], step.name, step))
    return [step for *_, step in sorted(tops, key=lambda t: t[:2])]


def _others(
    rng: Random, there: list[Step], taken: tuple[Edit, ...], count: int
) -> list[Step]:
    """Steps of different kinds about other things; a question is the last of them."""
    used = {(e.call, e.number) for e in taken}
    free = [
        s
        for s in there
        if s.kind in ("switch", "checkbox", "tab", "value", "dialog")
        and not {(e.call, e.number) for e in s.add} & used
    ]
    rng.shuffle(free)
    kinds = {step.kind: step for step in free}
    picked = rng.sample(sorted(kinds), min(count, len(kinds)))
    return sorted((kinds[k] for k in picked), key=lambda s: s.kind == "dialog")


def make_series(
    camera: Camera, seed: int, number: int, options: Options, what: str
) -> list[Shot]:
    """The screens of pair or flow `number`, in order. Raises ValueError where none of
    the screens it may be made of allows one."""
    for index in range(number * SCREENS, (number + 1) * SCREENS):
        plan, calls = plan_edited(seed, index, options, frozenset())
        rng = Random(f"{what} {seed}:{index}")
        shots = {frozenset(): shoot(camera, plan, options, "")}
        screen = shots[frozenset()][1]
        there = steps(calls, screen, rng)
        if plan.kit.scrolls:
            there.append(_scrolling(plan, rng))
        for _ in range(TRIES):
            story = (
                pair_story(rng, there)
                if what == "pair"
                else flow_story(rng, there, screen)
            )
            if story is None:
                break
            series = _told(camera, seed, index, options, story, shots)
            if series:
                return _numbered(series, seed, number, what)
    raise ValueError(
        f"no {what} can be made of screens {number * SCREENS} to "
        f"{(number + 1) * SCREENS - 1} of seed {seed}: allow more layouts"
    )


def _scrolling(plan: Plan, rng: Random) -> Step:
    """To another place of the page."""
    to = rng.choice([v for v in (0.0, 0.5, 1.0) if abs(v - plan.shell["scroll"]) > 0.2])
    return Step("scrolled", "", (Edit("scroll", 0, to),))


def _told(
    camera: Camera,
    seed: int,
    index: int,
    options: Options,
    story: Story,
    shots: dict[frozenset[Edit], Shot],
) -> list[tuple[Shot, Screen | None]] | None:
    """Every screen with what led to it; nothing where a step cannot be seen."""
    edits, happened = story
    series: list[tuple[Shot, Screen | None]] = []
    for step in (None, *happened):
        edits = step.after(edits) if step else edits
        if edits not in shots:
            plan, _ = plan_edited(seed, index, options, edits)
            shots[edits] = shoot(camera, plan, options, "")
        shot, change = shots[edits], None
        if step:
            change = found(step, series[-1][0][1], shot[1])
            if not change:
                return None
        series.append((shot, change))
    return series


def _numbered(
    series: list[tuple[Shot, Screen | None]], seed: int, number: int, what: str
) -> list[Shot]:
    shots = []
    for k, ((image, row), change) in enumerate(series):
        name = f"{seed}-{what}{number:06d}-{k}"
        place = {"number": number, "step": k, "of": len(series), "change": change}
        ending = row["image"].rpartition(".")[2]
        row = {**row, "id": name, "image": f"images/{name}.{ending}", what: place}
        shots.append((image, row))
    return shots


def finished_series(path: Path, what: str) -> set[tuple[int, int]]:
    """(seed, number) of the series already written; one that lacks its end is cut."""
    rows = written(path)
    whole = rows
    for kind in LENGTH:  # the last one alone can be unfinished
        if rows and kind in rows[-1]:
            rest = rows[-1][kind]["step"] + 1
            whole = rows if rest == rows[-1][kind]["of"] else rows[:-rest]
    if len(whole) < len(rows):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: len(whole)]))
    return {(row["seed"], row[what]["number"]) for row in whole if what in row}


def render_series(
    out: str | Path,
    what: str,
    n: int,
    seed: int = 0,
    options: Options | None = None,
    start: int = 0,
    node_modules: str | Path | None = None,
    progress: bool = True,
) -> int:
    """Renders `n` pairs or flows from number `start` on; how many were new.

    Each of their rows has the field `pair` or `flow`: number, step, of, and the change
    that led to it (see `changes.found`).
    """
    options, out = options or Options(), Path(out)
    if options.words != USUAL:
        raise ValueError(f"{what}s have the usual words only: leave out --words")
    path = out / "screens.jsonl"
    done = finished_series(path, what)
    todo = [k for k in range(start, start + n) if (seed, k) not in done]
    if not todo:
        return 0
    kits = find_node_modules(node_modules, options.kits)
    (out / "images").mkdir(parents=True, exist_ok=True)
    show = shown(len(todo), what + "s") if progress else nullcontext(lambda: None)
    with Camera(kits) as camera, path.open("a", encoding="utf-8") as rows, show as step:
        note_absent(camera.browser)
        for number in todo:
            series = make_series(camera, seed, number, options, what)
            for image, row in series:
                (out / row["image"]).write_bytes(image)
            rows.write("".join(_lines(row for _, row in series)))
            rows.flush()
            step()
    return len(todo)


def _lines(rows: Iterator[Screen]) -> Iterator[str]:
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"
