"""What happens on the app's page, without Gradio and without a model: asking, tasks,
streams, failures, switching, saving. Nothing that a user has is lost when one fails."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from app_data import ANSWER, BOX, document

from mm15_mlx.apps import drawing, page
from mm15_mlx.apps.page import Asking, Choices, Page, Shown
from mm15_mlx.apps.settings import OWN, WHOLE, Settings
from mm15_mlx.apps.state import Conversation
from mm15_mlx.apps.tasks import TASKS
from mm15_mlx.apps.worker import (
    Answered,
    BusyError,
    Choice,
    Event,
    Piece,
    Request,
    Ticket,
    Waiting,
    Worker,
    labelled,
)
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.generate import Result, Timings
from mm15_mlx.grounding import Box

RIGHT = Box(BOX.label, 0, BOX.px, BOX.norm)


def answered(text: str = ANSWER, reason: str = "stop") -> Answered:
    boxes = [RIGHT] if text == ANSWER else []
    result = Result(text, boxes, [], [], reason, 9, 7, Timings())
    marked = "<box>12,40,72,140</box>" if boxes else text
    return Answered(result, document(text, reason), [], marked)


class Fake:
    """A worker without a thread: what it is told to do, each question meets at once."""

    def __init__(self, *configs: ModelConfig) -> None:
        choices = [Choice(f"model{k}", Path("/runs/mine")) for k in range(len(configs))]
        self.choices = labelled(choices)
        self.configs = dict(zip(self.choices, configs, strict=True))
        self.facts: dict[str, dict[str, Any]] = {}
        self.asked: list[Request] = []
        self.left: list[Ticket] = []
        self.script: list[Event | UserError] = [Piece("[100,"), answered()]
        self.full: BusyError | None = None

    choice = Worker.choice

    def submit(self, request: Request) -> Ticket:
        if self.full:
            raise self.full
        self.asked.append(request)
        ticket = Ticket(request, cast(Worker, self))
        for event in self.script:
            ticket.put(event)
        return ticket

    def ahead(self, ticket: Ticket) -> int | None:
        return None

    def leave(self, ticket: Ticket) -> None:
        self.left.append(ticket)


@pytest.fixture
def fake(ui_config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(page, "_FRAME_S", 0.0)  # every event is shown
    few = dataclasses.replace(ui_config.tiling, policy="static")
    return Fake(ui_config, dataclasses.replace(ui_config, tiling=few))


@pytest.fixture
def made(fake: Fake) -> Page:
    return Page(cast(Worker, fake))


@pytest.fixture
def form(fake: Fake) -> Asking:
    return Asking("Where is it?", next(iter(fake.choices)))


@pytest.fixture
def mine(screen: Path) -> Conversation:
    conversation = Conversation()
    conversation.add(screen, "screen.png")
    return conversation


def ended(stream: Iterator[Shown]) -> Shown:
    """The page after all of a stream's updates."""
    shown: Shown = {}
    for update in stream:
        shown |= update
    return shown


def kept(conversation: Conversation) -> tuple[object, ...]:
    c = conversation
    return [*c.shots], [*c.turns], c.shown, c.region, c.draft, c.ticket


def test_a_form_that_is_not_drawn_yet_is_an_empty_one() -> None:
    """A picture may be dropped while the page is still being built."""
    assert Asking.of([None] * 9) == Asking()
    sent = ["Where is it?", None, True, None, None, 0.5, None, None, None]
    assert Asking.of(sent) == Asking("Where is it?", every=True, temp=0.5)


def test_ask_streams_and_ends(
    made: Page, fake: Fake, form: Asking, mine: Conversation
) -> None:
    fake.script = [Waiting(2), Waiting(0), Piece("[100,"), Piece(" 200"), answered()]
    shown = list(made.ask(mine, form))
    assert shown[0] == {"question": ""}  # the field is free for the next one
    told = [s["status"] for s in shown[1:5]]
    words = ("waiting: 2 before you", "reading the picture …", "", "")
    assert told == [drawing.status(w) for w in words]
    assert "[100,<" in shown[3]["talk"] and "[100, 200<" in shown[4]["talk"]
    last = shown[-1]
    assert "question" not in last  # the user may be writing the next one
    assert "mm-mark" in last["view"] and last["answer"] == "<box>12,40,72,140</box>"
    assert "--adapter-path /runs/mine" in last["command"] and "load(" in last["python"]
    turn = mine.turns[0]
    assert (turn.model, turn.adapters) == ("model0", Path("/runs/mine"))
    assert turn.boxes == (RIGHT,) and mine.ticket is None
    assert fake.asked == [Request("model0 + mine", fake.asked[0].messages, Settings())]


def test_a_pause_between_two_words_is_no_reading(
    made: Page, fake: Fake, form: Asking, mine: Conversation
) -> None:
    """Where the first words came at once, nobody was told before that he is next."""
    fake.script = [Piece("[100,"), Waiting(0), Piece(" 200"), answered()]
    shown = list(made.ask(mine, form))[1:4]
    assert [s["status"] for s in shown] == [drawing.status("")] * 3
    assert not any("reading" in s["talk"] for s in shown)


def test_turns_are_sent_along_where_that_is_wanted(
    made: Page, fake: Fake, form: Asking, mine: Conversation
) -> None:
    for history in (True, True, False):
        ended(made.ask(mine, dataclasses.replace(form, history=history)))
    assert [len(r.messages) for r in fake.asked] == [1, 3, 1]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([UserError("not enough memory for this")], "not enough memory for this"),
        ([Piece("[100"), UserError("the answer failed")], "the answer failed"),
        ([], "32 questions are waiting"),
    ],
)
def test_a_question_that_fails_loses_nothing(
    made: Page, fake: Fake, form: Asking, mine: Conversation, script: list, words: str
) -> None:
    ended(made.ask(mine, form))
    mine.point([5, 6, 50, 60])
    before = kept(mine)
    fake.script = script
    fake.full = None if script else BusyError(words)
    for stream in (made.ask(mine, form), made.press(mine, 0, form)):
        shown = ended(stream)
        assert shown["status"] == drawing.status(words, wrong=True)
        assert "mm-q" in shown["talk"] and "aria-busy" not in shown["talk"]
        assert kept(mine) == before
    assert ended(made.ask(mine, form))["question"] == form.question
    fake.script, fake.full = [answered("Yes")], None
    ended(made.ask(mine, form))
    assert [t.answer for t in mine.turns] == [ANSWER, "Yes"]


def test_mistakes_before_a_question_is_sent(
    made: Page, fake: Fake, form: Asking, mine: Conversation
) -> None:
    def told(stream: Iterator[Shown]) -> str:
        return ended(stream)["status"]

    empty = dataclasses.replace(form, question=" ")
    assert "the question is empty" in told(made.ask(mine, empty))
    other = dataclasses.replace(form, model="/etc")
    assert "model &#x27;/etc&#x27; is not offered here" in told(made.ask(mine, other))
    assert "no picture yet" in told(made.press(Conversation(), 0, form))
    running = Ticket(Request("m", [], Settings()), cast(Worker, fake))
    mine.ticket = running
    shown = ended(made.ask(mine, form))
    assert "an answer is being written: wait for it, or stop it" in shown["status"]
    assert "talk" not in shown  # what is being written stays
    assert mine.ticket is running and fake.asked == []


def test_a_task_sends_its_own_prompt(
    made: Page, fake: Fake, form: Asking, mine: Conversation
) -> None:
    ended(made.ask(mine, form))
    shown = ended(made.press(mine, 0, form))  # List widgets
    assert "question" not in shown
    turn = mine.turns[-1]
    assert turn.alone and turn.question.startswith("List the UI")
    assert len(fake.asked[-1].messages) == 1
    assert fake.asked[-1].settings.max_tokens == TASKS[0].max_tokens
    mine.add(page.EXAMPLES[0], "second.webp")
    ended(made.press(mine, len(TASKS) - 1, form))  # Compare
    assert mine.turns[-1].scope == (0, 1)


def test_stop_keeps_what_was_said(
    made: Page, fake: Fake, form: Asking, mine: Conversation
) -> None:
    fake.script = [Piece("Yes"), answered("Yes", "stopped")]
    stream = made.ask(mine, form)
    next(stream), next(stream)
    ticket = mine.ticket
    assert ticket
    mine.stop()
    shown = ended(stream)
    assert ticket.stopped and fake.left[0] is ticket
    assert mine.turns[0].answer == "Yes" and "stopped by you" in shown["talk"]
    fake.script = []
    stream = made.ask(mine, form)
    next(stream)
    mine.stop()  # nothing of it was there
    shown = ended(stream)
    assert "stopped before the answer began; ask again" in shown["status"]
    assert shown["question"] == form.question and len(mine.turns) == 1


def test_a_user_who_goes_away_stops_his_answer(
    made: Page, fake: Fake, form: Asking, mine: Conversation
) -> None:
    stream = made.ask(mine, form)
    next(stream), next(stream)
    ticket = mine.ticket
    assert ticket and not ticket.stopped
    stream.close()  # type: ignore[attr-defined]
    assert ticket.stopped and mine.ticket is None and mine.turns == []
    ended(made.ask(mine, form))
    assert len(mine.turns) == 1


def test_an_answer_of_a_conversation_that_was_ended_is_dropped(
    made: Page, form: Asking, mine: Conversation
) -> None:
    stream = made.ask(mine, form)
    next(stream), next(stream)
    made.change(mine, mine.clear, form)
    shown = ended(stream)
    assert mine.turns == [] and "No picture yet" in shown["view"]
    assert "command" not in shown


def test_another_model_keeps_the_conversation(
    made: Page, fake: Fake, form: Asking, mine: Conversation
) -> None:
    ended(made.ask(mine, form))
    mine.point([5, 6])
    before = kept(mine)
    other = dataclasses.replace(form, model=[*fake.choices][1], split="2", tiles=True)
    shown = made.switch(mine, other)
    split = shown["split"]
    assert isinstance(split, Choices) and split.value == OWN  # it has no such number
    assert "2" not in [value for _, value in split.pairs]
    assert kept(mine) == before
    whole = dataclasses.replace(other, split=WHOLE)
    assert made.switch(mine, whole)["split"].value == WHOLE
    ended(made.ask(mine, whole))
    assert [t.model for t in mine.turns] == ["model0", "model1"]
    assert len(fake.asked[-1].messages) == 3
    assert fake.asked[-1].settings.split == WHOLE


def test_uploads_say_in_one_line_which_are_none(
    made: Page, form: Asking, mine: Conversation, screen: Path, tmp_path: Path
) -> None:
    bad, empty = tmp_path / "bad.png", tmp_path / "empty.png"
    bad.write_bytes(b"no picture")
    empty.touch()
    files = [(bad, "bad.png"), (screen, "good.png"), (empty, "empty.png")]
    shown = made.upload(mine, files, form)
    assert [s.name for s in mine.shots] == ["screen.png", "good.png"]
    assert mine.shown == 1 and "good.png" in shown["strip"]
    assert shown["status"].count("alert") == 1
    assert "bad.png is not a picture" in shown["status"]
    assert " · empty.png is an empty file" in shown["status"]
    assert shown["question"] == form.question


def test_a_row_is_saved_or_says_why_not(
    fake: Fake, form: Asking, mine: Conversation, tmp_path: Path
) -> None:
    made = Page(cast(Worker, fake), tmp_path / "rows")
    assert "there is no answer yet" in made.save(mine, "x")["saved"]
    assert "there is no answer yet" in made.take(mine)["links"]
    ended(made.ask(mine, form))
    before = kept(mine)
    wrong = made.save(mine, "<box>900,900,950,950</box>")["saved"]
    assert "alert" in wrong and "lies outside the picture" in wrong
    assert not (tmp_path / "rows").exists()
    told = made.save(mine, "<box>1,2,30,40</box>")["saved"]
    assert "added to rows/train.jsonl; check it with mm15-mlx data check" in told
    row = json.loads((tmp_path / "rows/train.jsonl").read_text())
    assert row["messages"][1]["content"] == "<box>1,2,30,40</box>"
    assert kept(mine) == before
    nowhere = Page(cast(Worker, fake)).save(mine, "Yes")["saved"]
    assert "mm15-mlx app --rows my-data" in nowhere
    taken = made.take(mine)
    assert "screen-marked.png" in taken["links"] and taken["command"]


def test_places_are_put_right(made: Page, form: Asking, mine: Conversation) -> None:
    ended(made.ask(mine, form))
    editing = dataclasses.replace(form, correct=True)
    shown = made.correct(mine, {"k": 0, "px": [1, 2, 30, 40]}, editing)
    assert shown["answer"] == mine.draft == "<box>1,2,30,40</box>"
    assert "mm-edit" in shown["view"]
    for sent in ({"k": 0, "px": [5, 5, 5, 9]}, {"px": "x"}, {}):
        told = made.correct(mine, sent, editing)
        assert "alert" in told["status"] and mine.draft == "<box>1,2,30,40</box>"
    assert made.write(mine, mine.draft, editing) == {}
    assert "mm-edit" in made.write(mine, "<point>5,6</point>", editing)["view"]
    assert made.write(mine, "No", form) == {} and mine.draft == "No"


def test_tiles_are_drawn_and_counted(
    made: Page, form: Asking, mine: Conversation
) -> None:
    plain = made.change(mine, lambda: None, form)
    tiled = made.change(mine, lambda: None, dataclasses.replace(form, tiles=True))
    assert tiled["view"] != plain["view"]
    assert "views, 16 each, 80 in all" in tiled["inside"]
