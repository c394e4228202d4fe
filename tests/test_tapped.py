"""Where what was tapped is to be seen, and where its name is read."""

from random import Random

from mm15_mlx.screens import several
from mm15_mlx.screens.changes import Step, found
from tests.test_several_screens import DIALOG, OVER, PAGE, switches


def test_where_what_was_tapped_is_to_be_seen() -> None:
    """Where it is what changed, on the second screen: the first looks as always."""
    before, after = switches(False), switches(True)
    after["pair"] = {"change": found(Step("switch", "Wi-Fi"), before, after)}
    box = after["pair"]["change"]["box"]
    made = several.tapped(Random(0), before, after)
    assert made and made.there == (1, box)
    after["pair"]["change"]["box"] = [0, 0, 5, 5]  # it has moved
    made = several.tapped(Random(0), before, after)
    assert made and made.there == (0, box)
    after["pair"]["change"] |= {"kind": "dialog", "box": box}  # over it
    made = several.tapped(Random(0), before, after)
    assert made and made.there == (0, box)


def test_what_opened_is_called_by_what_was_tapped() -> None:
    """So its name is read on the second screen, where it is a title, and then found on
    the first; not where the title says more, or stands twice."""
    step = Step("dialog", "Delete?", (OVER,), tap=("button", "Delete"))
    change = found(step, PAGE, DIALOG)
    after = {**DIALOG, "pair": {"change": change}}
    made = several.tapped(Random(0), PAGE, after)
    title, button = DIALOG["texts"][0]["box"], PAGE["elements"][1]["box"]
    assert made and made.question.lines == (title, None)
    assert made.question.before == 0
    assert made.places == ((1, title), (0, button))
    asks = {**DIALOG["texts"][0], "text": "Hide “Delete”?"}
    words = {"words": 'the dialog "Hide “Delete”?" was opened'}
    asked = {**DIALOG, "texts": [asks], "pair": {"change": {**change, **words}}}
    made = several.tapped(Random(0), PAGE, asked)
    assert made and made.question.lines == (title, None)
    assert made.question.before == len("Hide “")  # only its name is read
    assert made.places == ((1, title), (0, button))


def test_what_opened_something_is_named_before_its_place_whatever_the_title() -> None:
    """Where the title says something else, or stands twice, its name is read where it
    was tapped."""
    step = Step("dialog", "Delete?", (OVER,), tap=("button", "Delete"))
    change = found(step, PAGE, DIALOG)
    after = {**DIALOG, "pair": {"change": change}}
    button = PAGE["elements"][1]["box"]
    twice = {**after, "texts": [*after["texts"], DIALOG["texts"][0]]}
    for other in (twice, {**after, "pair": {"change": {**change, "words":
                  'the dialog "Really?" was opened'}}}):  # fmt: skip
        made = several.tapped(Random(0), PAGE, other)
        assert made and made.places == ((0, button),) * 2
        assert made.question.before == 0
        assert made.question.answer.startswith('the button "Delete" <box image=0>')
