"""What happens on the page: each method takes what Gradio has and returns what is to be
shown, by the names of app.py's components. Without Gradio, so that it can be tested."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mm15_mlx.apps import drawing, export
from mm15_mlx.apps.correcting import Place, moved, places
from mm15_mlx.apps.pictures import Shot, open_upload
from mm15_mlx.apps.sessions import Sessions
from mm15_mlx.apps.settings import OWN, Settings, split_as, splittings
from mm15_mlx.apps.state import Conversation, Turn, with_region
from mm15_mlx.apps.tasks import TASKS, shown
from mm15_mlx.apps.worker import Answered, Request, Ticket, Waiting, Worker
from mm15_mlx.config import UserError
from mm15_mlx.tiling import Tiling, plan

EXAMPLES = tuple(sorted((Path(__file__).parent / "examples").glob("*.webp")))
_FRAME_S = 0.06  # between two updates of a streaming answer

Shown = dict[str, Any]


@dataclass(frozen=True)
class Asking:
    """What the form says, besides the conversation."""

    question: str = ""
    model: str = ""
    every: bool = False  # about all pictures
    history: bool = True  # with the turns before it
    tiles: bool = False  # drawn over the picture
    temp: float = 0.0
    max_tokens: int = 256
    split: str = OWN
    correct: bool = False  # the answer's places, on the picture

    @classmethod
    def of(cls, values: Sequence[Any]) -> "Asking":
        """What Gradio sent: None for a field that the browser has not drawn yet."""
        sent = zip(fields(cls), values, strict=True)
        return cls(**{field.name: v for field, v in sent if v is not None})


@dataclass(frozen=True)
class Choices:
    """What one may choose from, each by its name and value, and what is chosen."""

    pairs: list[tuple[str, str]]
    value: str


class Page:
    """One for all users; what is theirs is in their Conversation."""

    def __init__(self, worker: Worker, rows: Path | None = None) -> None:
        """rows: the folder of training rows, where they may be saved."""
        self.worker = worker
        self.rows = rows
        self.sessions = Sessions()
        self.examples = [Shot(open_upload(p, p.name)) for p in EXAMPLES]

    # --- what is shown ----------------------------------------------------------

    def everything(self, mine: Conversation, form: Asking) -> Shown:
        """All that depends on the pictures, the place and the turns."""
        shot = mine.shots[mine.shown] if mine.shots else None
        tiling = self._tiling(mine, shot, form)
        return {
            "strip": drawing.strip(mine, self.examples),
            "view": self._view(mine, form),
            "talk": drawing.talk(mine),
            "inside": self._inside(mine, shot, tiling, form.model),
            "answer": mine.draft,
            "question": form.question,
            "status": drawing.status(""),
        } | self.prompts(mine, form.question)

    def prompts(self, mine: Conversation, question: str) -> Shown:
        """Each task's button: its name, and the prompt that it would send now."""
        return {
            f"task{k}": f"{task.label}\n{shown(task, mine, question)}"
            for k, task in enumerate(TASKS)
        }

    def _view(self, mine: Conversation, form: Asking) -> str:
        shot = mine.shots[mine.shown] if mine.shots else None
        tiling = self._tiling(mine, shot, form) if form.tiles else None
        side = self._side(form.model) if tiling else 0
        return drawing.view(mine, tiling, _editing(mine, form), side)

    def _tiling(
        self, mine: Conversation, shot: Shot | None, form: Asking
    ) -> Tiling | None:
        """Of the shown picture, if the question were asked now."""
        config = self.worker.configs.get(form.model)
        if not (shot and config):
            return None
        known = [value for _, value in splittings(config.tiling)]
        config = split_as(config, form.split if form.split in known else OWN)
        return plan(*shot.size, config.tiling, len(mine.scope(form.every)))

    def switch(self, mine: Conversation, form: Asking) -> Shown:
        """Another model: its own choices of splitting."""
        pairs = self.splittings(form.model)
        split = form.split if form.split in [v for _, v in pairs] else OWN
        made = self.change(mine, lambda: None, replace(form, split=split))
        return made | {"split": Choices(pairs, split)}

    def splittings(self, model: str) -> list[tuple[str, str]]:
        return splittings(self.worker.configs[model].tiling)

    def _inside(
        self, mine: Conversation, shot: Shot | None, tiling: Tiling | None, model: str
    ) -> str:
        tokens = 0
        if tiling:
            tokens = tiling.tokens(self._side(model))
        last = mine.turns[-1] if mine.turns else None
        facts = self.worker.facts.get(model)
        return drawing.inside(facts, model, shot, tiling, tokens, last)

    def _side(self, model: str) -> int:
        """Of a view's grid of visual tokens."""
        return self.worker.configs[model].connector_config.pooled_grid

    # --- pictures and places ----------------------------------------------------

    def upload(
        self, mine: Conversation, files: Sequence[tuple[Path, str]], form: Asking
    ) -> Shown:
        """Take the files that are pictures; say in one line which are not, and why."""
        wrong = []
        for path, name in files:
            try:
                mine.add(path, name)
            except UserError as e:
                wrong.append(str(e))
        made = self.change(mine, lambda: None, form)
        if wrong:
            made["status"] = _wrong(" · ".join(wrong))
        return made

    def example(self, mine: Conversation, k: int, form: Asking) -> Shown:
        return self.upload(mine, [(p, p.name) for p in EXAMPLES[k : k + 1]], form)

    def change(
        self, mine: Conversation, action: Callable[[], None], form: Asking
    ) -> Shown:
        """Do something to the conversation; the place pointed at goes into the
        question. Where it cannot be done, one line says why and all else stays."""
        try:
            action()
        except UserError as e:
            return {"status": _wrong(str(e))}
        place = with_region(form.question, mine.region, mine.scope(form.every))
        return self.everything(mine, replace(form, question=place))

    # --- asking -----------------------------------------------------------------

    def ask(self, mine: Conversation, form: Asking) -> Iterator[Shown]:
        """The question in the form, its answer as it comes. The field is free for the
        next one meanwhile; a question that failed comes back to it."""
        alone = not form.history
        try:
            ticket, turn = self._submit(
                mine, form, form.question, alone, form.every, form.max_tokens
            )
            yield {"question": ""}
            yield from self._stream(mine, turn, ticket)
        except UserError as e:
            yield self._failed(mine, e) | {"question": form.question}
            return
        yield self._done(mine, form, "")

    def press(self, mine: Conversation, k: int, form: Asking) -> Iterator[Shown]:
        """The k-th task: its own prompt, without the turns before it."""
        task = TASKS[k]
        tokens = max(form.max_tokens, task.max_tokens or 0)
        try:
            prompt = task.prompt(mine, form.question)
            ticket, turn = self._submit(mine, form, prompt, True, task.every, tokens)
            yield from self._stream(mine, turn, ticket)
        except UserError as e:
            yield self._failed(mine, e)
            return
        yield self._done(mine, form, form.question)

    def _submit(
        self,
        mine: Conversation,
        form: Asking,
        question: str,
        alone: bool,
        every: bool,
        tokens: int,
    ) -> tuple[Ticket, Turn]:
        if mine.ticket:
            raise UserError("an answer is being written: wait for it, or stop it")
        settings = Settings(tokens, form.temp, form.split)
        scope = mine.scope(every)
        choice = self.worker.choice(form.model)
        turn, messages = mine.ask(question, scope, choice, alone, settings)
        mine.ticket = self.worker.submit(Request(form.model, messages, settings))
        return mine.ticket, turn

    def _failed(self, mine: Conversation, error: UserError) -> Shown:
        made = {"status": _wrong(str(error))}
        return made if mine.ticket else made | {"talk": drawing.talk(mine)}

    def _done(self, mine: Conversation, form: Asking, question: str) -> Shown:
        made = self.everything(mine, replace(form, question=question))
        del made["question"]  # the user may be writing the next one
        turn = mine.turns[-1] if mine.turns else None
        if turn is None:
            return made
        return made | {
            "links": drawing.status("Close and open this to make the files anew."),
            "command": export.as_command(turn, mine.shots),
            "python": export.as_python(turn, mine.shots),
        }

    def _stream(
        self, mine: Conversation, turn: Turn, ticket: Ticket
    ) -> Iterator[Shown]:
        reading = "reading the picture …" if turn.scope else "reading …"
        text, note = "", reading
        due = 0.0
        try:
            for event in ticket.events():
                if isinstance(event, Answered):
                    if mine.ticket is ticket:  # else a new conversation was begun
                        mine.finish(turn.answered(event))
                    return
                if isinstance(event, Waiting):
                    ahead = event.ahead
                    note = f"waiting: {ahead} before you" if ahead else reading
                    note = "" if text else note  # a pause between two words
                    due = 0.0
                else:
                    text, note = text + event.text, ""
                if time.monotonic() >= due:
                    due = time.monotonic() + _FRAME_S
                    written = drawing.talk(mine, turn.question, text, note)
                    yield {"talk": written, "status": drawing.status(note)}
        finally:  # also where the user has gone away
            ticket.stop()
            if mine.ticket is ticket:
                mine.ticket = None

    # --- putting right and taking away -------------------------------------------

    def write(self, mine: Conversation, answer: str, form: Asking) -> Shown:
        """The answer of the training row, as the user is writing it."""
        if answer == mine.draft:  # it was set by the page itself
            return {}
        mine.draft = answer
        return {"view": self._view(mine, form)} if form.correct else {}

    def correct(self, mine: Conversation, sent: dict[str, Any], form: Asking) -> Shown:
        """A place of that answer was dragged, drawn anew or moved by keys."""
        try:
            scope = mine.current().scope
            region = mine.place(sent.get("px", ()))
            if mine.shown not in scope:
                raise UserError(
                    f"picture {mine.shown + 1} is not one that this answer is about"
                )
            k = sent.get("k")
            mine.draft = moved(
                mine.draft, k if isinstance(k, int) else -1, region, scope
            )
        except UserError as e:
            return {"status": _wrong(str(e)), "view": self._view(mine, form)}
        return {"answer": mine.draft, "view": self._view(mine, form), "saved": ""}

    def take(self, mine: Conversation) -> Shown:
        """Files, command and Python of the chosen or last answer."""
        try:
            turn = mine.current()
        except UserError as e:
            return {"links": _wrong(str(e)), "command": "", "python": ""}
        return {
            "links": export.links(mine),
            "command": export.as_command(turn, mine.shots),
            "python": export.as_python(turn, mine.shots),
        }

    def save(self, mine: Conversation, answer: str) -> Shown:
        """A training row of the chosen or last turn, with the answer put right."""
        try:
            if self.rows is None:
                raise UserError(
                    "rows go to a folder that was named at the start: "
                    "mm15-mlx app --rows my-data"
                )
            turn = mine.current()
            path = export.save_row(self.rows, turn, mine.shots, answer)
        except UserError as e:
            return {"saved": _wrong(str(e))}
        told = f"added to {path.parent.name}/{path.name}; check it with "
        return {"saved": drawing.status(f"{told}mm15-mlx data check")}


def _editing(mine: Conversation, form: Asking) -> list[Place] | None:
    """The places to be put right, where that is what the picture is for now."""
    try:
        scope = mine.current().scope
    except UserError:
        return None
    if not form.correct or mine.shown not in scope:
        return None
    return places(mine.draft, scope)


def _wrong(text: str) -> str:
    return drawing.status(text, wrong=True)
