"""Answers about two screens at once: where they open, and how much they weigh."""

from dataclasses import replace

import pytest
import torch

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.comparing import shares
from mm15_mlx.convert.mm15_torch.looking import (
    OPENING,
    LookingLoss,
    nothing_seen,
    openings,
    shown_together,
    sights,
)
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.packed import packed_states
from mm15_mlx.convert.mm15_torch.samples import (
    NO_TARGET,
    Asked,
    SampleEncoder,
    collate,
)
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.questions import Question
from tests.parity.test_looking import (  # noqa: F401
    BACK,
    SAVE,
    SIZE,
    config,
    screen,
)

pytestmark = pytest.mark.parity


def test_answers_about_two_screens_open_before_a_word_is_given(
    samples: SampleEncoder,
    screen: Screen,  # noqa: F811
) -> None:
    answer = 'the item "Save" was added'
    for task, count in (("changed", OPENING), ("which_icon", 2), ("ocr", 0)):
        given = "first" if task.startswith("which") else answer
        asked = samples.ask(Question(task, "?", given), [SIZE], [screen.tiling], 100)
        about = [None if t == NO_TARGET else SAVE["box"] for t in asked.target]
        asked = replace(asked, about=about)
        answered = [k for k, t in enumerate(asked.target) if t != NO_TARGET]
        assert openings(asked) == answered[:count] and len(answered) > 1
        see = sights(screen, [asked], samples.encoder.tokenizer, 20)
        assert see.opening.tolist() == [k < count for k in range(len(answered))]


def test_answers_about_both_screens_weigh_as_much_as_all_others() -> None:
    def asked(task: str, answered: int) -> Asked:
        target = [NO_TARGET] * 2 + [5] * answered
        none = [None] * len(target)
        return Asked(task, [4] * len(target), target, none, none, [], [], [])

    def weights(*asks: Asked) -> list[float]:
        return shares(collate(torch.tensor([1]), [list(asks)])).tolist()

    few, many = asked("changed", 2), asked("ocr", 8)
    assert weights(few, many) == [4] * 2 + [1] * 8
    assert weights(asked("which_text", 1), many, many) == [8] + [1] * 16  # no more
    assert weights(many, few, few, few, few, few) == [1] * 18
    assert weights(few) == [1] * 2 and weights(many) == [1] * 8


def test_the_rest_of_an_answer_may_look_elsewhere_than_its_box(
    samples: SampleEncoder,
    screen: Screen,  # noqa: F811
) -> None:
    """What was removed is found on the second screen and read on the first."""
    answer = '<box image=0>30.5,484,90,500</box> the item "Save" was removed'
    sizes, tilings = [SIZE] * 2, [screen.tiling] * 2
    asked = samples.ask(Question("changed", "?", answer), sizes, tilings, 100)
    places = (1, SAVE["box"]), (0, SAVE["box"])
    first, second = (
        shown.asked[0].about
        for shown in shown_together([screen] * 2, [asked], [places], 20)
    )
    opens, ends = openings(asked)[0], len(asked.target)
    numbers = [t for t, n in enumerate(asked.coordinate) if n != NO_TARGET]
    assert len(numbers) == 4 and opens < numbers[0]
    boxed = range(opens, numbers[-1] + 1)
    assert [t for t, box in enumerate(second) if box] == list(boxed)
    assert [t for t, box in enumerate(first) if box] == list(range(boxed.stop, ends))


def test_a_name_before_the_box_is_read_elsewhere_than_where_the_box_is(
    samples: SampleEncoder,
    screen: Screen,  # noqa: F811
) -> None:
    """What opened is called by what was tapped: read on the second, then found."""
    answer = 'the button "Save" <box image=0>400,10,440,30</box>'
    question = Question("tapped", "?", answer, (SAVE["box"], None))
    asked = samples.ask(question, [SIZE] * 2, [screen.tiling] * 2, 100)
    assert asked is not None and max(asked.end) == len("Save")
    button = [400.0, 10.0, 440.0, 30.0]
    first, second = (
        shown.asked[0].about
        for shown in shown_together(
            [screen] * 2, [asked], [((1, SAVE["box"]), (0, button))], 20
        )
    )
    number, ends = asked.coordinate.index(0), len(asked.target)
    assert asked.end.index(4) < number - 1  # the name's last letters
    named = range(openings(asked)[0], number)
    assert [t for t, box in enumerate(second) if box] == list(named)
    assert [t for t, box in enumerate(first) if box] == list(range(named.stop, ends))


def test_a_name_within_a_title_is_read_from_where_it_stands(
    samples: SampleEncoder,
    screen: Screen,  # noqa: F811
) -> None:
    """“Hide “Save”?”: its letters are the title's 7th to 10th."""
    answer = 'the button "Save" <box image=0>400,10,440,30</box>'
    question = Question("tapped", "?", answer, (SAVE["box"], None), before=6)
    asked = samples.ask(question, [SIZE] * 2, [screen.tiling] * 2, 100)
    plain = samples.ask(
        replace(question, before=0), [SIZE] * 2, [screen.tiling] * 2, 100
    )
    assert asked is not None and plain is not None
    assert 10 in asked.end and asked.end.index(10) == plain.end.index(4)
    known = [end for end in plain.end if end != NO_TARGET]
    assert [end for end in asked.end if end != NO_TARGET] == [6 + e for e in known]


def test_what_no_place_shows_is_sought_nowhere(
    samples: SampleEncoder,
    screen: Screen,  # noqa: F811
) -> None:
    """That a page was scrolled; of other tasks, such as an order, nothing is sought."""
    answer = "the page was scrolled down"
    sizes, tilings = [SIZE] * 2, [screen.tiling] * 2
    asked = [
        samples.ask(Question(task, "?", answer), sizes, tilings, 100)
        for task in ("changed", "order", "changed")
    ]
    there = [(None, None), (None, None), ((1, SAVE["box"]),) * 2]
    see = nothing_seen(shown_together([screen] * 2, asked, there, 20), 20)
    assert see.question.tolist() == [0] * OPENING
    assert see.place.tolist() == openings(asked[0])
    assert see.opening.all() and see.changed.all() and not see.spelled.any()
    assert not (see.share.any() or see.halves.any() or see.edges.any())
    none = shown_together([screen] * 2, asked[1:], there[1:], 20)
    assert nothing_seen(none, 20) is None


@torch.no_grad()
def test_where_answers_about_a_change_look_counts_however_many_others_there_are(
    config: ModelConfig,  # noqa: F811
    samples: SampleEncoder,
    screen: Screen,  # noqa: F811
) -> None:
    """Questions alike but for their task, of which only one is about a change."""
    torch.manual_seed(0)
    width = config.text_config.hidden_size
    decoder, aids, loss = (
        MM15(config).decoder,
        Aids(width),
        LookingLoss(config, samples.encoder.tokenizer),
    )
    sizes, tilings = [SIZE] * 2, [screen.tiling] * 2
    prefix = torch.tensor(samples.question_ids("", sizes, tilings)[0])

    def losses(**boxes: int) -> list[float]:
        several = [
            Question(t, "?", "second") for t, n in boxes.items() for _ in range(n)
        ]
        asked = [samples.ask(q, sizes, tilings, 100) for q in several]
        there = [
            (1, BACK["box"] if q.task == "changed" else SAVE["box"]) for q in several
        ]
        batch = collate(prefix, [asked])
        x = torch.randn(1, len(prefix), width, generator=torch.manual_seed(1))
        states = packed_states(decoder, x, decoder.embed_tokens(batch.ids))
        shown = shown_together([screen] * 2, asked, [(p, p) for p in there], 20)
        return [x.item() for x in loss(aids, decoder.norm, states, [shown], prefix)]

    one, few, many = losses(changed=1), losses(which=1), losses(changed=1, which=9)
    both = [a + b for a, b in zip(one, few, strict=True)]
    assert many == pytest.approx(both, rel=2e-3)
