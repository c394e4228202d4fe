"""A kit that draws one thing otherwise than the layout asks, and all else the same.

A layout is a run of calls to its kit (`switch`, `row`, `page`…). `edited` makes a kit
that remembers these calls and answers chosen ones differently. Every call draws the
same random numbers either way, so that what follows stays as it was.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from .content import Content
from .kits import Bars, Field, Kit, Row
from .look import Look

_AS_PLANNED = object()


@dataclass(frozen=True)
class Edit:
    """What call `number` (from 0) of a kit's method is to get instead.

    value, by method: switch and checkbox, the state; row, the words at its end, or None
    for no row; field, its text; bubble, None; segmented and tabs, the chosen one;
    overlay, ("dialog", title, text, *keys) or ("sheet", caption, *actions); scroll, a
    share of what there is to scroll.
    """

    call: str
    number: int
    value: Any


@dataclass(frozen=True)
class Call:
    """What the layout asked for."""

    call: str
    number: int
    given: dict[str, Any] = field(hash=False)


def edited(kit: type[Kit], edits: tuple[Edit, ...] = ()) -> type[Kit]:
    """`kit`, remembering its calls in `calls`, with these edits."""
    wanted = {(e.call, e.number): e.value for e in edits}

    class Edited(kit):  # type: ignore[misc, valid-type]
        def __init__(self, content: Content, look: Look) -> None:
            super().__init__(content, look)
            self.calls: list[Call] = []
            self.count: Counter[str] = Counter()

        def meet(self, call: str, **given: Any) -> Any:
            """Remembers a call; the value that an edit has for it."""
            number = self.count[call]
            self.count[call] += 1
            self.calls.append(Call(call, number, given))
            return wanted.get((call, number), _AS_PLANNED)

        def drawn(self, planned: Callable[[], str], other: Callable[[], str]) -> str:
            """What `other` draws, from and to where `planned` leaves the randomness."""
            before = self.c.rng.getstate()
            planned()
            after = self.c.rng.getstate()
            self.c.rng.setstate(before)
            html = other()
            self.c.rng.setstate(after)
            return html

        def _stateful(self, call: str, label: str, on: bool, disabled: bool) -> str:
            draw = getattr(super(), call)
            value = self.meet(call, label=label, on=on, disabled=disabled)
            planned = partial(draw, label, on, disabled)
            if value is _AS_PLANNED:
                return planned()
            return self.drawn(planned, partial(draw, label, value, disabled))

        def switch(self, label: str, on: bool, disabled: bool = False) -> str:
            return self._stateful("switch", label, on, disabled)

        def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
            return self._stateful("checkbox", label, on, disabled)

        def row(self, row: Row) -> str:
            value = self.meet("row", row=row)
            planned = partial(super().row, row)
            if value is _AS_PLANNED:
                return planned()
            if value is None:
                return self.drawn(planned, str)  # nothing
            return self.drawn(planned, partial(super().row, replace(row, after=value)))

        def group(
            self,
            rows: list[str],
            header: str = "",
            footer: str = "",
            inset: bool = False,
            media: bool = False,
        ) -> str:
            shown = [row for row in rows if row]
            return super().group(shown, header, footer, inset, media)

        def field(self, field: Field) -> str:
            value = self.meet("field", field=field)
            planned = partial(super().field, field)
            if value is _AS_PLANNED:
                return planned()
            other = partial(super().field, replace(field, value=value))
            return self.drawn(planned, other)

        def bubble(self, text: str, mine: bool, note: str = "") -> str:
            value = self.meet("bubble", text=text)
            planned = partial(super().bubble, text, mine, note)
            return planned() if value is _AS_PLANNED else self.drawn(planned, str)

        def segmented(self, options: list[str], active: int) -> str:
            value = self.meet("segmented", options=options, active=active)
            planned = partial(super().segmented, options, active)
            if value is _AS_PLANNED:
                return planned()
            return self.drawn(planned, partial(super().segmented, options, value))

        def page(self, title: str, body: str, bars: Bars) -> str:
            tab = self.meet("tabs", bars=bars)
            over = self.meet("overlay", bars=bars)
            if tab is not _AS_PLANNED:
                bars = replace(bars, active=tab)
            if over is not _AS_PLANNED:
                overlay = self.drawn(str, partial(self._overlay, *over))
                bars = replace(bars, overlay=overlay)
            return super().page(title, body, bars)

        def _overlay(self, kind: str, title: str, *rest: str) -> str:
            if kind == "dialog":
                return self.dialog(title, rest[0], list(rest[1:]))
            return self.sheet([(action, "") for action in rest], "", title)

    return Edited
