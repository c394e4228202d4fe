"""Stopping answers of the app: waiting ones, at their picture, as they are written."""

import importlib
import threading
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from test_app_worker import ask, finish

from mm15_mlx.apps import drawing
from mm15_mlx.apps import worker as module
from mm15_mlx.apps.page import Asking, Page
from mm15_mlx.apps.worker import BusyError, Choice, Ticket, Waiting, Worker
from mm15_mlx.config import UserError
from mm15_mlx.decoding import Stop
from mm15_mlx.images import load_picture
from mm15_mlx.load import load_processor
from mm15_mlx.mm15 import MM15

Held = tuple[threading.Event, threading.Event]
EARLY = "stopped before the answer began; ask again"


@pytest.fixture
def worker(ui_folder: Path) -> Iterator[Worker]:
    made = Worker([Choice(str(ui_folder))], limit=2)
    yield made
    made.close()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    """`reached`: an answer is at its picture; `go`: it may go on."""
    go, reached = threading.Event(), threading.Event()
    decode = module.decode

    def slow(*arguments: object, stop: Stop) -> Iterator:
        reached.set()
        go.wait()
        yield from decode(*arguments, stop=stop)

    monkeypatch.setattr(module, "decode", slow)
    return reached, go


def test_queue_is_bounded_and_says_who_is_ahead(
    ui_folder: Path, screen: Path, worker: Worker, held: Held
) -> None:
    reached, go = held
    request = ask(ui_folder, screen, "What is this?", 3)
    first = worker.submit(request)
    reached.wait()
    second, third = worker.submit(request), worker.submit(request)
    with pytest.raises(BusyError, match="2 questions are waiting, the limit is 2: ask"):
        worker.submit(request)
    assert [worker.ahead(t) for t in (first, second, third)] == [0, 1, 2]
    assert next(third.events()) == Waiting(2)
    second.stop()
    with pytest.raises(UserError, match=EARLY):  # at once, not when its turn comes
        finish(second.events())
    assert [worker.ahead(t) for t in (second, third)] == [None, 1]
    fourth = worker.submit(request)  # its place is free
    go.set()
    for ticket in (first, third, fourth):
        finish(ticket.events())
    assert worker.ahead(third) is None


def test_stop_while_the_picture_is_read(
    ui_folder: Path,
    screen: Path,
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its user waits for nothing more; no further views are encoded, and the next
    question is answered."""
    answering = importlib.import_module("mm15_mlx.generate")
    monkeypatch.setattr(answering, "views_together", lambda config: 2)
    go, reached = threading.Event(), threading.Event()
    encode, views = MM15.encode_image, []

    def slow(model: MM15, pixels: mx.array) -> mx.array:
        views.append(pixels.shape[0])
        reached.set()
        go.wait()
        return encode(model, pixels)

    monkeypatch.setattr(MM15, "encode_image", slow)
    first = worker.submit(ask(ui_folder, load_picture(screen), "What is this?", 3))
    reached.wait()
    other = load_picture(np.full((90, 90, 3), 9, dtype=np.uint8))
    second = worker.submit(ask(ui_folder, other, "What is this?", 3))
    first.stop()
    first.stop()  # a second click says nothing twice
    with pytest.raises(UserError, match=EARLY):
        finish(first.events())
    assert not go.is_set()
    go.set()
    assert finish(second.events())[1].result.generation_tokens == 3
    prepare = load_processor(ui_folder).prepare
    mine, others = (len(prepare("What?", [p]).images[0].views) for p in (screen, other))
    assert views[0] == 2 < mine and sum(views[1:]) == others
    assert capsys.readouterr().err == ""  # a stop is no failure


def test_nothing_is_read_for_a_question_that_was_stopped_while_its_model_came(
    ui_folder: Path, screen: Path, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    use, asked = worker._use, []

    def slow(label: str) -> object:
        asked[-1].stop()
        return use(label)

    def never(*_: object, **__: object) -> Iterator:
        raise AssertionError("it was read")

    monkeypatch.setattr(worker, "_use", slow)
    monkeypatch.setattr(module, "decode", never)
    ticket = Ticket(ask(ui_folder, screen, "What?"), worker)
    asked.append(ticket)
    with pytest.raises(UserError, match=EARLY):
        worker._answer(ticket)


def test_a_tab_that_is_closed_as_its_answer_is_written(
    ui_folder: Path, screen: Path, worker: Worker
) -> None:
    """The answer ends, and the next user's begins; the tab's conversation stays for a
    while as it was before the question."""
    page = Page(worker)
    mine = page.sessions.of("tab")
    mine.add(screen, "screen.png")
    form = Asking("What is this?", str(ui_folder), max_tokens=2000)
    stream = page.ask(mine, form)
    while next(stream).get("status") != drawing.status(""):  # until words come
        pass
    ticket = mine.ticket
    assert ticket
    page.sessions.close("tab")  # what Gradio tells
    finish(worker.submit(ask(ui_folder, screen, "What?", 3)).events())
    assert ticket.stopped and worker.ahead(ticket) is None
    stream.close()  # as Gradio does with what nobody reads
    assert mine.ticket is None and mine.turns == [] and len(mine.shots) == 1
    assert page.sessions.of("tab") is mine
