"""Pairs and flows of screens as they are planned, and questions about several."""

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from mm15_mlx.screens import series, several
from mm15_mlx.screens.build import KITS, Options, finished
from mm15_mlx.screens.build import plan_screen as plain
from mm15_mlx.screens.changes import Step, found, removal
from mm15_mlx.screens.edits import Edit

Row = dict


def screen(*texts: str, elements: list[Row] | None = None, **more: object) -> Row:
    """A screen with these lines below each other, 100 × 400 pixels."""
    lines = [
        {"text": t, "box": [10, 20 * k, 90, 20 * k + 15]} for k, t in enumerate(texts)
    ]
    return {"texts": lines, "elements": elements or [], "width": 100, "height": 400,
            "seed": 1, "index": 0, **more}  # fmt: skip


def element(kind: str, label: str, y: int = 0, icon: str = "", **state: object) -> Row:
    text = "" if icon else label
    return {"type": kind, "label": label, "text": text, "icon": icon, "tappable": True,
            "box": [5, y, 95, y + 18], "state": state}  # fmt: skip


# -- two screens of any kind -----------------------------------------------------------

LEFT = screen("Wi-Fi", "Save", "Both", elements=[
    element("button", "Save", 20), element("button", "Menu", 60, "menu"),
])  # fmt: skip
RIGHT = screen("Alarms", "Save as", "Both", elements=[
    element("switch", "Alarms", 0, checked=True),
    element("button", "Find", 60, "search"),
])  # fmt: skip


def asked(count: int = 300) -> list[several.Question]:
    made = [several.which(Random(k), LEFT, RIGHT) for k in range(count)]
    assert all(m and m.images == [LEFT, RIGHT] for m in made)
    return [m.question for m in made if m]


def test_what_is_asked_for_is_on_exactly_one_screen() -> None:
    said = {(q.prompt, q.answer) for q in asked()}
    assert said == {
        ('Which screen has the text "Wi-Fi"?', "first"),
        ("Which screen has the Menu button?", "first"),
        ("Which screen has the menu icon?", "first"),
        ('Which screen has the text "Alarms"?', "second"),
        ('Which screen has the text "Save as"?', "second"),
        ("Which screen has the Alarms switch?", "second"),
        ("Which screen has the Alarms toggle?", "second"),
        ("Which screen has the Find button?", "second"),
        ("Which screen has the search icon?", "second"),
    }  # "Save" can be read on both


def test_where_it_is_seen_goes_with_the_question() -> None:
    for k in range(100):
        made = several.which(Random(k), LEFT, RIGHT)
        assert made and made.there
        side, box = made.there
        assert several.PLACES[side] == made.question.answer
        row = (LEFT, RIGHT)[side]
        boxes = [e["box"] for e in row["elements"]] + [t["box"] for t in row["texts"]]
        assert box in boxes


def test_the_first_screen_is_right_half_of_the_time() -> None:
    count = Counter(q.answer for q in asked())
    assert count.keys() == {"first", "second"} and 120 < count["first"] < 180
    assert {q.task for q in asked()} == {"which_text", "which_widget", "which_icon"}


def test_screens_that_say_the_same_are_not_asked_about() -> None:
    assert all(several.which(Random(k), LEFT, LEFT) is None for k in range(20))


def test_questions_depend_on_the_seed_only() -> None:
    assert asked(50) == asked(50)


# -- changes, on rows made by hand -----------------------------------------------------


def switches(on: bool) -> Row:
    return screen("Wi-Fi", "Sound", elements=[
        element("switch", "Wi-Fi", 0, checked=on),
        element("switch", "Sound", 20, checked=False),
    ])  # fmt: skip


OVER = Edit("overlay", 0, ("dialog", "Delete?", "Really?", "Cancel", "Delete"))
PAGE = screen("Notes", "One", "Two", "Off", elements=[
    element("menuitem", "One", 20), element("button", "Delete", 300),
    element("tab", "Home", 380, selected=True), element("tab", "Shop", 381),
])  # fmt: skip
DIALOG = screen("Delete?", "Really?", elements=[
    element("button", "Cancel", 60), element("button", "Delete", 80),
])  # fmt: skip


def chosen(screen: Row) -> Row:
    new = json.loads(json.dumps(screen))
    new["elements"][2]["state"] = {}
    new["elements"][3]["state"] = {"selected": True}
    return new


@pytest.mark.parametrize(
    ("step", "before", "after", "words", "on", "box", "tapped"),
    [
        (Step("switch", "Wi-Fi"), switches(True), switches(False),
         'the switch "Wi-Fi" was turned off', 1, [5, 0, 95, 18], "Wi-Fi"),
        (Step("switch", "Wi-Fi"), switches(False), switches(True),
         'the switch "Wi-Fi" was turned on', 1, [5, 0, 95, 18], "Wi-Fi"),
        (Step("tab", "Shop"), PAGE, chosen(PAGE), 'the tab "Shop" was chosen', 1,
         [5, 381, 95, 399], "Shop"),
        (Step("removed", "Two"), PAGE, screen("Notes", "One"),
         'the item "Two" was removed', 0, [10, 40, 90, 55], None),
        (Step("added", "One"), screen("Notes"), PAGE, 'the item "One" was added', 1,
         [5, 20, 95, 38], None),
        (Step("value", "Two", old="Off", new="On"), PAGE,
         screen("Notes", "One", "Two", "On"), '"Two" changed from "Off" to "On"', 1,
         [10, 60, 90, 75], None),
        (Step("entered", "City", new="Oslo"),
         screen("City", elements=[element("input", "City")]),
         screen("City", "Oslo", elements=[element("input", "City")]),
         '"Oslo" was entered in the field "City"', 1, [5, 0, 95, 18], None),
        (Step("message", "Hi!"), screen("Anna"), screen("Anna", "Hi!"),
         'the message "Hi!" was added', 1, [10, 20, 90, 35], None),
        (Step("dialog", "Delete?", (OVER,), tap=("button", "Delete")), PAGE, DIALOG,
         'the dialog "Delete?" was opened', 1, [5, 0, 95, 98], "Delete"),
        (Step("dialog", "Delete?", (OVER,), tap=("button", "Delete")).back(), DIALOG,
         PAGE, 'the dialog "Delete?" was closed', 0, [5, 0, 95, 98], "Cancel"),
        (Step("scrolled", ""), screen("a", "b", "c", "d", "e"),
         screen("c", "d", "e", "f"), "the page was scrolled down", 1, None, None),
    ],
)  # fmt: skip
def test_what_happened_in_words(
    step: Step, before: Row, after: Row, words: str, on: int, box: list | None,
    tapped: str | None,
) -> None:  # fmt: skip
    change = found(step, before, after)
    assert change and (change["words"], change["on"], change["box"]) == (words, on, box)
    assert (change["tapped"] or {}).get("label") == tapped
    after = {**after, "pair": {"change": change}}
    made = several.changed(Random(0), before, after)
    assert made and made.images == [before, after]
    place = f"<box image={on}>{','.join(map(str, box))}</box> " if box else ""
    assert made.question.answer == place + words
    touch = several.tapped(Random(0), before, after)
    assert (touch is None) == (tapped is None)
    if touch:
        where = re.escape(",".join(map(str, change["tapped"]["box"])))
        box, name = f"<box image=0>{where}</box>", rf'the \w+ "{tapped}"'
        said = f"{name} {box}" if "opened" in words else f"{box} {name}"
        assert re.fullmatch(said, touch.question.answer)


def test_what_is_gone_is_found_where_it_was_and_read_on_the_first_screen() -> None:
    """Nothing on the first says that it goes; the second looks otherwise there."""
    after = screen("Notes", "One")
    after["pair"] = {"change": found(Step("removed", "Two"), PAGE, after)}
    made = several.changed(Random(0), PAGE, after)
    box = after["pair"]["change"]["box"]
    assert made and made.places == ((1, box), (0, box))
    added = screen("Notes", "One", "Two", "Three")
    added["pair"] = {"change": found(Step("added", "Three"), PAGE, added)}
    made = several.changed(Random(0), PAGE, added)
    assert made and made.places == (made.there,) * 2 and made.there[0] == 1


def test_the_line_that_is_read_with_an_answer() -> None:
    """Of a removal on the first screen; of a switch, the words beside it; of a name
    that stands twice, neither."""
    after = screen("Notes", "One")
    after["pair"] = {"change": found(Step("removed", "Two"), PAGE, after)}
    made = several.changed(Random(0), PAGE, after)
    assert made and made.question.lines == ([10, 40, 90, 55],) * 2
    before, after = switches(False), switches(True)
    after["pair"] = {"change": found(Step("switch", "Wi-Fi"), before, after)}
    wifi = next(t["box"] for t in before["texts"] if t["text"] == "Wi-Fi")
    for task in (several.changed, several.tapped):
        made = task(Random(0), before, after)
        assert made and made.question.lines == (wifi,) * 2
    assert several.named_line(screen("One", "One"), 'the tab "One" was chosen') is None
    assert several.named_line(PAGE, "the page was scrolled down") is None


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (Step("switch", "Wi-Fi"), switches(True), switches(True)),
        (Step("switch", "Sound"), switches(True), screen("Wi-Fi", "Sound")),
        (Step("switch", "Wi-Fi"), switches(True),
         {**switches(False), "texts": screen("another page")["texts"]}),
        (Step("tab", "Shop"), PAGE, PAGE),
        (Step("removed", "Two"), PAGE, PAGE),
        (Step("value", "Two", old="Off", new="On"), PAGE, screen("x", "Two", "On")),
        (Step("message", "Hi!"), screen("Hi!"), screen("Hi!", "Hi!")),
        (Step("dialog", "Delete?", (OVER,), tap=("button", "no")), PAGE, DIALOG),
        (Step("scrolled", ""), screen("a", "b"), screen("a", "b")),
    ],
)  # fmt: skip
def test_what_cannot_be_seen_did_not_happen(
    step: Step, before: Row, after: Row
) -> None:
    assert found(step, before, after) is None


def test_the_state_of_a_switch_is_asked_of_both_screens() -> None:
    before, after = switches(False), switches(True)
    after["pair"] = {"change": found(Step("switch", "Wi-Fi"), before, after)}
    answers = Counter()
    for seed in range(40):
        made = several.which_state(Random(seed), before, after)
        assert made
        assert made.question.prompt == "On which screen is the Wi-Fi switch on?"
        assert made.images[several.PLACES.index(made.question.answer)] is after
        answers[made.question.answer] += 1
        assert made.there == (1, made.images[1]["elements"][0]["box"])
    assert 10 < answers["first"] < 30
    assert several.which_state(Random(0), before, before) is None


def test_of_tabs_the_one_before_is_asked_for_too() -> None:
    """So the order in which they are shown does not tell the answer."""
    after = chosen(PAGE)
    after["pair"] = {"change": found(Step("tab", "Shop"), PAGE, after)}
    in_order = Counter()
    for seed in range(80):
        made = several.which_state(Random(seed), PAGE, after)
        assert made and made.question.task == "which_state"
        name = made.question.prompt.removeprefix("On which screen is the ")
        name = name.removesuffix(" tab selected?")
        where = several.PLACES.index(made.question.answer)
        assert made.images[where] is {"Home": PAGE, "Shop": after}[name]
        box = several.states(made.images[1], "tab")[name][1]
        assert made.there == (1, box)
        if made.images[0] is PAGE:
            in_order[made.question.answer] += 1
    assert min(in_order["first"], in_order["second"]) > 10


def test_what_stands_twice_has_no_state_by_its_name() -> None:
    twice = switches(True)
    twice["elements"] = [e for e in twice["elements"] for _ in range(2)]
    assert several.states(twice, "switch") == {} != several.states(PAGE, "tab")


def test_a_flow_is_put_in_order() -> None:
    frames = [screen(str(k)) for k in range(4)]
    seen = set()
    for seed in range(60):
        made = several.order(Random(seed), *frames)
        places = [int(n) - 1 for n in made.question.answer.split(", ")]
        assert [made.images[k] for k in places] == frames
        seen.add(made.question.answer)
    assert len(seen) > 15 and "1, 2, 3, 4" not in seen


def test_series_are_gathered_from_rows() -> None:
    rows = [
        {"id": f"{n}{k}", "seed": 1, "pair": {"number": n, "step": k, "of": 2}}
        for n, k in ((0, 1), (0, 0), (1, 0))
    ]
    found = several.series([*rows, {"id": "x", "seed": 1}], "pair")
    assert [[row["id"] for row in s] for s in found] == [["00", "01"]]


# -- plans -----------------------------------------------------------------------------


@pytest.mark.usefixtures("faker")
@pytest.mark.parametrize("kit", KITS)
def test_edits_change_one_thing(kit: str) -> None:
    """All that follows a changed call is as it was: no draw is added or lost."""
    sizes = ("1366x768",) if kit == "adminlte" else ("390x844",)
    for layout in ("settings", "sign-up", "conversation", "controls", "chat-list"):
        options = Options((kit,), (layout,), sizes)
        whole, calls = series.plan_edited(5, 1, options, frozenset())
        assert whole.html == plain(5, 1, options).html
        for call in calls[:30]:
            on = call.given.get("on")
            values = {"switch": not on, "checkbox": not on, "row": "Other",
                      "field": "x", "bubble": None, "segmented": 1}  # fmt: skip
            if call.call not in values:
                continue
            edit = Edit(call.call, call.number, values[call.call])
            plan, again = series.plan_edited(5, 1, options, frozenset([edit]))
            assert plan.kit.c.rng.getstate() == whole.kit.c.rng.getstate()
            assert [c.call for c in again] == [c.call for c in calls]


@pytest.mark.usefixtures("faker")
def test_a_hidden_row_and_an_overlay() -> None:
    options = Options(("weui",), ("settings",), ("390x844",))
    plan, calls = series.plan_edited(5, 1, options, frozenset())
    row = next(c for c in calls if c.call == "row")
    title = f"<p>{row.given['row'].title}</p>"
    hidden, _ = series.plan_edited(
        5, 1, options, frozenset([Edit("row", row.number, None)])
    )
    assert plan.html.count(title) == hidden.html.count(title) + 1
    sheet = Edit("overlay", 0, ("sheet", "Sort", "By name", "By date"))
    opened, _ = series.plan_edited(5, 1, options, frozenset([sheet, OVER]))
    assert ("By name" in opened.html) != ("Really?" in opened.html)
    scrolled, _ = series.plan_edited(5, 1, options, frozenset([Edit("scroll", 0, 1.0)]))
    assert scrolled.shell["scroll"] == 1.0 and scrolled.html == plan.html


def test_flows_tell_which_way_time_runs() -> None:
    items = [Step("removed", "One", (Edit("row", 0, None),))]
    values = [Step("value", "Two", (Edit("row", 1, "On"),), (), "Off", "On")]
    first = [series.flow_story(Random(k), items + values, PAGE) for k in range(20)]
    kinds = {tuple(step.kind for step in story[1]) for story in first if story}
    assert kinds == {("value", "dialog", "removed"), ("dialog", "removed", "value")}
    names = ("City", "Name")
    blanks = [Step("emptied", n, (Edit("field", k, ""),), (), n)
              for k, n in enumerate(names)]  # fmt: skip
    form = screen(*names)
    for seed in range(20):
        start, three = series.flow_story(Random(seed), blanks + values + items, form)
        entered = [step.name for step in three if step.kind == "entered"]
        assert len(three) == 3
        assert entered == list(names)[: len(entered)]
        edits = start
        for step in three:
            edits = step.after(edits)
        assert not {e for e in edits if e.call == "field"}
    assert series.flow_story(Random(0), values, PAGE) is None
    opened, confirmed = removal(items[0])
    assert opened.tap == ("menuitem", "One")
    assert confirmed.after(opened.after(frozenset())) == set(items[0].add)


def test_an_unfinished_series_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "screens.jsonl"

    def row(what: str, number: int, step: int, of: int) -> str:
        place = {"number": number, "step": step, "of": of}
        return json.dumps({"seed": 1, "index": 9, what: place}) + "\n"

    whole = row("pair", 0, 0, 2) + row("pair", 0, 1, 2) + '{"seed": 1, "index": 3}\n'
    path.write_text(whole + row("flow", 0, 0, 4) + row("flow", 0, 1, 4) + '{"se')
    assert series.finished_series(path, "flow") == set()
    assert path.read_text() == whole
    assert series.finished_series(path, "pair") == {(1, 0)}
    assert finished(path) == {(1, 3)}, "a pair is not the screen it is made of"
    assert series.finished_series(tmp_path / "none", "pair") == set()


def test_the_command_line(
    cli: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    calls: list[tuple] = []
    monkeypatch.setattr(series, "render_series", lambda *a: calls.append(a))
    flags = ("--pairs", "3", "--flows", "2", "--seed", "4", "--start", "7")
    code, out, err = cli("data", "screens", "--out", tmp_path, *flags)
    assert (code, out, err) == (0, "", "")
    rest = (4, Options(), 7, Path("node_modules"))
    assert calls == [(tmp_path, "pair", 3, *rest), (tmp_path, "flow", 2, *rest)]


@pytest.mark.usefixtures("faker")
def test_screens_that_allow_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "shoot", lambda *a: (b"", screen()))
    options = Options(("weui",), ("passcode",), ("390x844",), 1)
    message = "no flow can be made of screens 48 to 71 of seed 3: allow more layouts"
    with pytest.raises(ValueError, match=message):
        series.make_series(None, 3, 2, options, "flow")
