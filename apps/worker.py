"""One thread owns MLX: it loads, answers and frees; others hand it plain objects.

What this file is: a bounded queue of questions, their places in it, stopping one, and
failures as one line. What it is not: Gradio, or anything that one user has.
"""

import contextlib
import queue
import re
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from mm15_mlx import info, ui
from mm15_mlx.answers import document
from mm15_mlx.apps.settings import Settings, split_as
from mm15_mlx.config import CoordinateConfig, ModelConfig, UserError
from mm15_mlx.decoding import Options, Stopped
from mm15_mlx.generate import GenerationResponse, Result, collect, decode
from mm15_mlx.grounding import Box, Size, places
from mm15_mlx.load import find_model, load, load_processor
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Message, Processor
from mm15_mlx.ui import Element

QUEUE = 32  # questions that may wait; not published: our choice
STOPPED = "stopped"  # the finish reason of an answer that its user ended
STOPPED_EARLY = "stopped before the answer began; ask again"
_POLL_S = 0.2


class BusyError(UserError):
    """The queue is full, or the program is ending."""


@dataclass(frozen=True)
class Choice:
    """A model that the app offers. Raises UserError where it cannot be one.

    `folder`: where it lies, if that is known; else it is looked for by its name.
    """

    name: str
    adapters: Path | None = None
    folder: Path | None = None

    @property
    def label(self) -> str:
        return f"{self.name} + {self.adapters.name}" if self.adapters else self.name

    def found(self) -> "Choice":
        """With its folder. Only here may a hub id use the network."""
        return replace(self, folder=self.folder or find_model(self.name))

    def check(self) -> ModelConfig:
        """Its configuration, and all else that can be said without weights."""
        folder = self.folder or find_model(self.name)
        return load_processor(folder, self.adapters).config


def labelled(choices: Sequence[Choice]) -> dict[str, Choice]:
    """Choices by what the page calls them: where two adapter folders have one name,
    by their whole paths."""
    labels = [c.label for c in choices]
    return {
        f"{c.name} + {c.adapters}" if labels.count(c.label) > 1 else c.label: c
        for c in choices
    }


@dataclass(frozen=True)
class Request:
    """A question: a conversation whose image parts hold their pictures."""

    model: str  # a Choice's label
    messages: Sequence[Message]
    settings: Settings


@dataclass(frozen=True)
class Waiting:
    """`ahead`: questions before this one; 0 while its picture is being read."""

    ahead: int


@dataclass(frozen=True)
class Piece:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True)
class Answered:
    """A whole answer. `document` is the JSON of the contract, `marked` the text with
    its places in pixel markup, as training data has it."""

    result: Result
    document: dict[str, Any]
    elements: list[Element]
    marked: str


Event = Waiting | Piece | Answered


class Ticket:
    """One question in the queue, for the thread that asked it."""

    def __init__(self, request: Request, worker: "Worker") -> None:
        self.request = request
        self.stopped = False
        self._begun = False  # something of the answer is out
        self._worker = worker
        self._events: queue.Queue[Event | UserError] = queue.Queue()
        self._lock = threading.Lock()

    def stop(self) -> None:
        """End the answer after the token that is due; what there is of it is kept.
        Where there is nothing yet, the user waits for nothing more: a waiting question
        leaves the queue, and a picture is read no further than the part that is due.
        """
        with self._lock:
            if self.stopped:
                return
            self.stopped = True
            if not self._begun:
                self._events.put(UserError(STOPPED_EARLY))
        self._worker.leave(self)

    def put(self, event: Event | UserError) -> None:
        with self._lock:
            self._begun = self._begun or isinstance(event, Piece)
            self._events.put(event)

    def events(self) -> Iterator[Event]:
        """What happens, to its end. Raises UserError, in one line, where it failed."""
        ahead = -1
        while True:
            try:
                event = self._events.get(timeout=_POLL_S)
            except queue.Empty:
                now = self._worker.ahead(self)
                if now is not None and now != ahead:
                    ahead = now
                    yield Waiting(ahead)
                continue
            if isinstance(event, UserError):
                raise event
            yield event
            if isinstance(event, Answered):
                return


@dataclass
class _Loaded:
    choice: Choice
    model: MM15
    processor: Processor
    seconds: float


class Worker:
    """The thread and its queue. One model is in memory at a time."""

    def __init__(self, choices: Sequence[Choice], limit: int = QUEUE) -> None:
        """Loads the first of `choices`; raises UserError where one cannot be used."""
        self.choices = labelled([c.found() for c in choices])
        self.limit = limit
        self.facts: dict[str, dict[str, Any]] = {}  # of models that were loaded
        self.configs = {label: c.check() for label, c in self.choices.items()}
        self._loaded: _Loaded | None = None
        self._waiting: list[Ticket] = []
        self._answering: Ticket | None = None
        self._change = threading.Condition()
        self._ended = False
        self._failure: UserError | None = None
        ready = threading.Event()
        self._freed = threading.Event()
        first = next(iter(self.choices))
        thread = threading.Thread(target=self._live, args=(first, ready), daemon=True)
        thread.start()
        ready.wait()
        if self._failure:
            raise self._failure

    def choice(self, label: str) -> Choice:
        """Raises UserError where it is none of those that are offered."""
        if label not in self.choices:
            raise UserError(
                f"model {label!r} is not offered here; "
                f"choose one of {', '.join(self.choices)}"
            )
        return self.choices[label]

    def submit(self, request: Request) -> Ticket:
        """Raises BusyError where the queue is full."""
        self.choice(request.model)
        ticket = Ticket(request, self)
        with self._change:
            if self._ended:
                raise BusyError("the app is ending; start it again")
            if len(self._waiting) >= self.limit:
                raise BusyError(
                    f"{len(self._waiting)} questions are waiting, the limit is "
                    f"{self.limit}: ask again in a minute"
                )
            self._waiting.append(ticket)
            self._change.notify()
        return ticket

    def ahead(self, ticket: Ticket) -> int | None:
        """How many questions come before a ticket; None when it is done."""
        with self._change:
            if ticket is self._answering:
                return 0
            if ticket not in self._waiting:
                return None
            busy = self._answering is not None
            return self._waiting.index(ticket) + busy

    def leave(self, ticket: Ticket) -> None:
        """A stopped question gives its place in the queue to the next one."""
        with self._change:
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    def close(self) -> None:
        """Ends after the token that is due, and frees the model."""
        with self._change:
            self._ended = True
            if self._answering:
                self._answering.stop()
            self._change.notify()
        self._freed.wait()

    def _live(self, first: str, ready: threading.Event) -> None:
        """The thread; it never ends, because MLX aborts a program one of whose threads
        has used it and ended before."""
        self._run(first, ready)
        mx.clear_cache()
        self._freed.set()
        threading.Event().wait()

    def _run(self, first: str, ready: threading.Event) -> None:
        try:
            self._use(first)
        except Exception as e:
            self._failure = one_line(e)
            return
        finally:
            ready.set()
        while True:
            with self._change:
                self._answering = None
                self._change.wait_for(lambda: self._waiting or self._ended)
                if self._ended:
                    for ticket in self._waiting:
                        ticket.put(BusyError("the app is ending; start it again"))
                    self._loaded = None  # freed where it was made
                    return
                ticket = self._answering = self._waiting.pop(0)
            try:
                ticket.put(self._answer(ticket))
            except Exception as e:  # the next question is answered all the same
                with contextlib.suppress(OSError):  # nobody reads stderr
                    self._recover(e)
                ticket.put(one_line(e))

    def _use(self, label: str) -> _Loaded:
        choice = self.choices[label]
        if self._loaded is None or self._loaded.choice != choice:
            self._loaded = None  # the other's memory is needed first
            mx.clear_cache()
            begin = time.perf_counter()
            folder = choice.folder or choice.name
            model, processor = load(folder, adapter_path=choice.adapters)
            seconds = time.perf_counter() - begin
            self.facts[label] = info.describe(str(folder))
            self._loaded = _Loaded(choice, model, processor, seconds)
        return self._loaded

    def _answer(self, ticket: Ticket) -> Answered:
        request = ticket.request
        loaded = self._use(request.model)
        if ticket.stopped:  # the next question need not wait for this one's picture
            raise UserError(STOPPED_EARLY)
        asked = request.settings
        options = Options(max_tokens=asked.max_tokens, temp=asked.temp)
        processor = _splitting(loaded.processor, asked.split)
        prepared = processor.prepare(request.messages)
        responses = decode(
            loaded.model, processor, prepared, options, stop=lambda: ticket.stopped
        )
        told = _told(responses, ticket)
        try:
            result = collect(processor, prepared, request.messages, told)
        except Stopped:
            raise UserError(STOPPED_EARLY) from None
        result.timings.load_s = loaded.seconds
        coordinates = processor.config.coordinates
        elements: list[Element] = []
        marked = result.text
        if prepared.images:
            size = prepared.sizes[prepared.subject]
            elements = ui.parse_elements(result.text, size, coordinates)
            marked = mark(result.text, size, coordinates)
        document_ = document(result, request.model, None)
        return Answered(result, document_, elements, marked)

    def _recover(self, error: Exception) -> None:
        if isinstance(error, UserError):
            return
        traceback.print_exc(file=sys.stderr)
        traceback.clear_frames(error.__traceback__)  # they hold the arrays
        if self._loaded:  # it may be half of something
            self._loaded.processor.memory.forget()
        mx.clear_cache()


def _splitting(processor: Processor, split: str) -> Processor:
    """The processor of one question. It shares what is remembered of pictures: that is
    kept by pixels and tiling, and so is never taken for another's."""
    config = split_as(processor.config, split)
    if config is processor.config:
        return processor
    made = Processor(config, processor.tokenizer)
    made.memory = processor.memory
    return made


def _told(
    responses: Iterator[GenerationResponse], ticket: Ticket
) -> Iterator[GenerationResponse]:
    """The stream, written to the ticket as it comes, to its end or to `stop`."""
    for response in responses:
        ticket.put(Piece(response.text))
        if ticket.stopped and response.finish_reason is None:
            responses.close()  # type: ignore[attr-defined]
            yield replace(response, finish_reason=STOPPED)
            return
        yield response


def mark(text: str, size: Size, coordinates: CoordinateConfig) -> str:
    """An answer with its places as pixel markup, in whichever form the model writes
    them: `[0, 0, 500, 500]` of a picture of 100 × 200 → `<box>0,0,50,100</box>`. What
    is no place stays, a box of no area too."""
    made, end = [], 0
    for place in places(text, [size], coordinates, 0):
        made.append(text[end : place.start])
        end = len(text) - len(place.after)
        px = place.region.px
        if isinstance(place.region, Box):
            made.append(ui.box_markup(px))
        else:
            made.append(f"<point>{px[0]:g},{px[1]:g}</point>")
    return "".join(made) + text[end:]


# As MLX's allocators say it, Metal's command buffers (`Insufficient Memory (…
# OutOfMemory)`), CUDA (`out of memory`) and C++ (`bad_alloc`).
_SHORT = re.compile(
    r"malloc|allocat|bad_alloc|out ?of ?memory|insufficient memory|buffer size",
    re.IGNORECASE,
)


def one_line(error: Exception) -> UserError:
    """What a user is told: his mistake, too little memory, or that the model failed."""
    if isinstance(error, UserError):
        return error
    text = textwrap.shorten(str(error).rstrip(". \n"), 200, placeholder=" …")
    text = text or type(error).__name__
    if isinstance(error, MemoryError) or _SHORT.search(text):
        return UserError(
            f"not enough memory for this question ({text}): use fewer or smaller "
            "pictures, image splitting with fewer tiles or off, fewer tokens, or a "
            "smaller model"
        )
    return UserError(
        f"the answer failed ({type(error).__name__}: {text}); the conversation "
        "is kept: ask again, or choose another model"
    )
