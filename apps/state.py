"""What one user of the app has: pictures, the place pointed at, and the turns so far.

What this file is: plain objects without Gradio, MLX or threads; every change that fails
raises UserError and leaves the rest as it was. What it is not: how it looks
(drawing.py) or what the buttons ask (tasks.py).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mm15_mlx import ui
from mm15_mlx.apps.pictures import Shot, UploadError, open_upload
from mm15_mlx.apps.settings import Settings
from mm15_mlx.apps.worker import STOPPED, Answered, Choice, Ticket
from mm15_mlx.config import UserError
from mm15_mlx.grounding import Box, Point
from mm15_mlx.processor import Message
from mm15_mlx.ui import Element

# Not published: our choice.
MAX_PICTURES = 8  # of one conversation
MAX_LETTERS = 4000  # of one question

Scope = tuple[int, ...]  # which pictures a question is about


@dataclass(frozen=True)
class Region:
    """A place of picture `picture`, in its pixels: x, y or x1, y1, x2, y2."""

    picture: int
    px: tuple[float, ...]

    def markup(self, scope: Scope) -> str:
        """As questions have it; numbered where they are about several pictures."""
        text = ui.box_markup(self.px)
        if len(self.px) == 2:
            text = text.replace("box>", "point>")
        if len(scope) > 1:
            text = text.replace(">", f" image={scope.index(self.picture)}>", 1)
        return text


@dataclass(frozen=True)
class Turn:
    """A question and its answer. `alone`: asked without the turns before it; `model`
    and `adapters`: as the program was told them.

    Boxes and points name pictures of the conversation; `document`, the JSON of the
    contract, names those of the question.
    """

    question: str
    scope: Scope
    model: str
    adapters: Path | None = None
    alone: bool = False
    answer: str = ""
    marked: str = ""
    boxes: tuple[Box, ...] = ()
    points: tuple[Point, ...] = ()
    elements: tuple[Element, ...] = ()
    document: dict[str, Any] = field(default_factory=dict)
    earlier: tuple[tuple[str, str], ...] = ()  # what was sent along
    settings: Settings = Settings()

    @property
    def done(self) -> bool:
        return bool(self.document)

    def answered(self, got: Answered) -> "Turn":
        result = got.result
        boxes = [replace(b, image=self.scope[b.image]) for b in result.boxes]
        if got.elements:  # their lines say what they are better than any label
            image = self.scope[result.subject]
            boxes = [
                Box(ui.element_line(e.type, e.text), image, e.px, e.norm)
                for e in got.elements
            ]
        points = tuple(replace(p, image=self.scope[p.image]) for p in result.points)
        return replace(
            self, answer=result.text, marked=got.marked, boxes=tuple(boxes),
            points=points, elements=tuple(got.elements), document=got.document,
        )  # fmt: skip

    @property
    def timings(self) -> str:
        """`first token 0.2 s · 70 tokens/s · …`, and whether it is the whole answer."""
        if not self.document:
            return ""
        times, usage = self.document["timings"], self.document["usage"]
        reason = self.document["finish_reason"]
        cut = {STOPPED: " · stopped by you", "length": " · cut at max tokens"}
        cached = " (picture remembered)" if self.scope and not times["encode_s"] else ""
        return (
            f"first token {times['first_token_s']:.2f} s{cached} · "
            f"{usage['generated_tokens']} tokens · "
            f"{times['decode_tokens_per_s']:.0f} tokens/s" + cut.get(reason, "")
        )


@dataclass(eq=False)
class Conversation:
    """One user's pictures and turns. Turns about the same pictures follow each other,
    so that switching between pictures mixes nothing."""

    shots: list[Shot] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    shown: int = 0  # the picture on the page
    region: Region | None = None
    corner: tuple[float, float] | None = None  # the first of a box's two clicks
    ticket: Ticket | None = None  # the question that is being answered
    chosen: Turn | None = None  # an earlier turn that was called back
    draft: str = ""  # the answer for a training row, as far as it was put right

    # --- pictures ---------------------------------------------------------------

    def add(self, path: Path, name: str) -> None:
        """Open an uploaded file; `name` is what the user calls it."""
        if len(self.shots) >= MAX_PICTURES:
            raise UploadError(
                f"{name} is one too many: a conversation takes {MAX_PICTURES} "
                "pictures; begin a new one"
            )
        self.shots.append(Shot(open_upload(path, name)))
        self.show(len(self.shots) - 1)

    def show(self, picture: int) -> None:
        if not 0 <= picture < len(self.shots):
            raise UserError(
                f"there is no picture {picture + 1}; there are {len(self.shots)}"
            )
        self.shown = picture
        self.region = self.corner = None
        if self.chosen and picture not in self.chosen.scope:
            self.chosen = None

    def clear(self) -> None:
        """A new conversation; an answer still to come is dropped."""
        self.stop()
        self.ticket = None
        self.shots, self.turns = [], []
        self.shown, self.region, self.corner = 0, None, None
        self.chosen, self.draft = None, ""

    # --- pointing ---------------------------------------------------------------

    def point(self, values: Sequence[Any], box: bool = False) -> None:
        """A click at x, y, or a drag x1, y1, x2, y2, in pixels of the shown picture.

        With `box`, two clicks are a box's corners.
        """
        region = self.place(values)
        if box and len(region.px) == 2:
            if self.corner is None:
                self.corner = (region.px[0], region.px[1])
                self.region = None
                return
            region = self.place([*self.corner, *region.px])
        self.region, self.corner = region, None

    def place(self, values: Sequence[Any]) -> Region:
        """What a page sent as a place of the shown picture, cut to it."""
        limits = self._shot().size
        numbers = _numbers(values)
        if len(numbers) not in (2, 4):
            raise UserError(f"{values!r} is no place: give x, y or x1, y1, x2, y2")
        px = [min(max(v, 0.0), limits[i % 2]) for i, v in enumerate(numbers)]
        if len(px) == 4:
            xs, ys = sorted(px[0::2]), sorted(px[1::2])
            px = [xs[0], ys[0], xs[1], ys[1]]
            if not (px[0] < px[2] and px[1] < px[3]):
                raise UserError("that box is empty: its corners must differ both ways")
        return Region(self.shown, tuple(round(v, 1) for v in px))

    def pick(self, k: int) -> None:
        """The k-th thing found on the shown picture becomes the place asked about."""
        found = self.found()
        if not 0 <= k < len(found):
            raise UserError(f"nothing numbered {k + 1} is marked on this picture")
        self.region, self.corner = Region(self.shown, found[k].px), None

    def unpoint(self) -> None:
        self.region = self.corner = None

    def marking(self) -> Turn | None:
        """The turn whose boxes lie on the shown picture: the one that was chosen, else
        the last about it, but for those that asked about a place and found none."""
        if self.chosen:
            return self.chosen
        for turn in reversed(self.turns):
            if self.shown in turn.scope and turn.done:
                if turn.boxes or turn.points or not _MARKUP.search(turn.question):
                    return turn
        return None

    def found(self) -> list[Box | Point]:
        """What is marked on the shown picture."""
        turn = self.marking()
        marks = (*turn.boxes, *turn.points) if turn else ()
        return [m for m in marks if m.image == self.shown]

    def box(self) -> Region:
        """The place asked about as a box; a point stands for the smallest thing found
        around it."""
        if self.region is None:
            raise UserError(
                "point at something first: drag a box over it, or click what was found"
            )
        if len(self.region.px) == 4:
            return self.region
        x, y = self.region.px
        around = [
            b.px
            for b in self.found()
            if isinstance(b, Box)
            and b.px[0] <= x <= b.px[2]
            and b.px[1] <= y <= b.px[3]
        ]
        if not around:
            raise UserError(
                "this needs a box, and no found element lies under that point: drag a "
                "box over it, or list the widgets first"
            )
        area = [(b[2] - b[0]) * (b[3] - b[1]) for b in around]
        return Region(self.shown, around[area.index(min(area))])

    # --- turns ------------------------------------------------------------------

    def finish(self, turn: Turn) -> None:
        """An answered turn becomes the last one."""
        self.turns.append(turn)
        self.chosen, self.draft = None, turn.marked

    def choose(self, k: int) -> None:
        """Call the k-th turn back: its picture, its boxes, its answer."""
        if not 0 <= k < len(self.turns):
            raise UserError(f"there is no turn {k + 1}; there are {len(self.turns)}")
        turn = self.turns[k]
        marked = [m.image for m in (*turn.boxes, *turn.points)]
        if turn.scope and self.shown not in (marked or turn.scope):
            self.show((marked or turn.scope)[0])
        self.region = self.corner = None
        self.chosen, self.draft = turn, turn.marked

    def current(self) -> Turn:
        """The turn that is taken away or saved: the chosen one, else the last."""
        for turn in (self.chosen, *reversed(self.turns)):
            if turn and turn.done:
                return turn
        raise UserError("there is no answer yet; ask something first")

    def scope(self, every: bool) -> Scope:
        """The shown picture, or every picture."""
        if every:
            return tuple(range(len(self.shots)))
        return (self.shown,) if self.shots else ()

    def ask(
        self,
        question: str,
        scope: Scope,
        choice: Choice,
        alone: bool,
        settings: Settings,
    ) -> tuple[Turn, list[Message]]:
        """A turn to be answered, and the messages that ask it."""
        question = " ".join(question.split())
        if not question:
            raise UserError("the question is empty; write one, or press a task")
        if len(question) > MAX_LETTERS:
            raise UserError(
                f"the question has {len(question)} letters; the limit is {MAX_LETTERS}"
            )
        earlier = [] if alone else [t for t in self.turns if _follows(t, scope)]
        said = tuple((t.question, t.answer) for t in earlier)
        turn = Turn(
            question, scope, choice.name, choice.adapters, alone, earlier=said,
            settings=settings,
        )  # fmt: skip
        pictures = [self.shots[k].picture for k in scope]
        return turn, messages(said, question, [{"image": p} for p in pictures])

    def stop(self) -> None:
        """End the answer that is being written, if there is one."""
        if self.ticket:
            self.ticket.stop()

    def _shot(self) -> Shot:
        if not self.shots:
            raise UserError("there is no picture yet; drop one, or take an example")
        return self.shots[self.shown]


def _follows(turn: Turn, scope: Scope) -> bool:
    return turn.scope == scope and not turn.alone and bool(turn.answer)


def messages(
    earlier: Sequence[tuple[str, str]],
    question: str,
    images: Sequence[dict[str, Any]],
) -> list[Message]:
    """A conversation; `images`, what each image part holds, come first."""
    asked: list[Message] = []
    for text, answer in (*earlier, (question, "")):
        asked.append({"role": "user", "content": [{"type": "text", "text": text}]})
        if answer:
            asked.append({"role": "assistant", "content": answer})
    asked[0]["content"][:0] = [{"type": "image", **part} for part in images]
    return asked


_MARKUP = re.compile(r"\s*<(box|point)(?: image=\d+)?>[^<]*</\1>")


def with_region(question: str, region: Region | None, scope: Scope) -> str:
    """A question with its last place replaced by `region`, or put at its end."""
    found = [*_MARKUP.finditer(question)]
    start, end = found[-1].span() if found else (len(question), len(question))
    before, after = question[:start], question[end:]
    if region is None:
        return (before + after).strip()
    return f"{before.rstrip()} {region.markup(scope)}{after}".strip()


def _numbers(values: Sequence[Any]) -> list[float]:
    """What a page sent; anything may have been."""
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError, OverflowError):
        return []
    return numbers if all(map(math.isfinite, numbers)) else []
