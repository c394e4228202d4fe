"""How pages stand on tablets and desktops: beside a list, a side bar, in a column."""

from dataclasses import dataclass, replace
from html import escape

from . import labels
from .besides import detail, listing
from .content import Content
from .kits import Bars, Kit, mark
from .layout_parts import nav
from .look import Look

# Layouts that are a list, those that show one thing, and those that fill any width.
LISTS = (
    "settings", "chat-list", "mail-list", "notifications", "file-browser", "contacts",
    "search-results",
)  # fmt: skip
DETAILS = (
    "conversation", "mail-detail", "profile", "product-page", "controls", "agenda",
    "typing-chat",
)  # fmt: skip
GRIDS = (
    "shop-grid", "gallery", "dashboard", "table", "controls", "data-table", "board",
)  # fmt: skip
CARDS = ("login", "sign-up", "onboarding", "passcode")
WHOLE = ("map",)  # laid out for any width by themselves
SMALL_LIST = 300  # CSS pixels


@dataclass(frozen=True)
class Arrangement:
    """Where a page stands on a wide screen. Widths are in CSS pixels; 0: absent."""

    layout: str
    side: int = 0
    list: int = 0
    list_first: bool = False  # the layout itself is the list
    column: int = 0  # the most that the layout's content takes of its pane
    card: bool = False

    def breadth(self, width: int) -> int:
        """What the layout's content has of a screen's width."""
        if self.list_first:
            return self.list
        rest = width - self.side - self.list
        return min(rest, self.column) if self.column else rest

    def __call__(self, kit: Kit, title: str, body: str, bars: Bars) -> str:
        """The HTML of the whole screen."""
        c, panes = kit.c, []
        if kit.look.form == "desktop" and not (self.side or kit.own_frame):
            bars = replace(bars, tabs=())  # no desktop has tabs at its foot
        if self.side:
            panes.append(side_bar(kit, bars, self.side))
            bars = replace(bars, tabs=(), left=())
        if self.list_first:
            panes += [
                pane(kit.pane(title, body, replace(bars, fab=None)), self.list),
                pane(beside(kit, self.layout)),
            ]
        else:
            if self.list:
                name, rows = listing(kit, c, self.layout)
                panes.append(pane(kit.pane(name, rows, Bars(right=nav(c))), self.list))
                bars = replace(bars, tabs=(), back=None)
            panes.append(pane(kit.pane(title, self.fitted(body), bars)))
        return framed(kit, "".join(panes))

    def fitted(self, body: str) -> str:
        """The body, no wider than its column."""
        if not self.column:
            return body
        cls = "x-col x-sheetlike" if self.card else "x-col"
        return f'<div class="{cls}" style="max-width:{self.column}px">{body}</div>'


def beside(kit: Kit, layout: str) -> str:
    """The page of what is chosen in a list."""
    title, body, bars = detail(kit, kit.c, layout)
    return kit.pane(title, f'<div class="x-col" style="max-width:760px">{body}</div>',
                    bars)  # fmt: skip


def pane(page: str, width: int = 0) -> str:
    """A part of the screen that holds a page of its own; 0: what is left."""
    style = f"width:{width}px" if width else "flex:1"
    return f'<div class="x-pane" style="{style}">{page}</div>'


def framed(kit: Kit, panes: str) -> str:
    """Panes side by side, under the bar of a tablet."""
    height = (20 if kit.theme == "ios" else 28) if kit.look.phone_bar else 0
    return f'<div class="x-wide" style="padding-top:{height}px">{panes}</div>'


def side_bar(kit: Kit, bars: Bars, width: int) -> str:
    """Where one can go: the page's tabs, or places of the app."""
    c = kit.c
    kind = "tab" if bars.tabs else "menuitem"
    entries = list(bars.tabs) or c.named(labels.TABS, 4, 8)
    active = bars.active if bars.tabs else c.rng.randrange(len(entries))
    narrow = width < 120
    rows = ""
    for i, (label, icon) in enumerate(entries):
        spec = mark(kind, label, icon, text=label, state={"selected": i == active})
        glyph = kit.icon(icon, 22) if icon else ""
        on = "on" if i == active else ""
        note = "" if narrow or not c.chance(0.15) else kit.badge(c.number(99))
        rows += (
            f'<a class="x-place {on}"{spec}>{glyph}'
            f'<span class="x-one x-grow">{escape(label)}</span>{note}</a>'
        )
    cls = "x-places narrow" if narrow else "x-places"
    head = "" if narrow else f'<div class="x-h2 x-one x-app">{c.app}</div>'
    foot = ""
    if not narrow and c.chance(0.4):
        name = c.name()
        words = f'<span class="x-one x-grow x-p">{name}</span>'
        foot = f'<div class="x-line x-me">{kit.avatar(name, 32)}{words}</div>'
    return (
        f'<nav class="{cls}" style="width:{width}px">{head}{rows}'
        f'<div class="x-grow"></div>{foot}</nav>'
    )


def choose(c: Content, look: Look, layout: str, own_frame: int) -> Arrangement:
    """An arrangement that real apps of this size have for such a layout.

    `own_frame`: how wide a side bar of the kit's own is, 0 for none.
    """
    if layout in WHOLE:
        return Arrangement(layout)
    room = look.width
    side = 0
    if not own_frame and c.chance(0.6 if look.form == "desktop" else 0.35):
        side = c.pick((76, 84)) if room < 1000 else c.pick((76, 200, 220, 250))
    if layout in CARDS:
        width = c.rng.randrange(380, 521, 20)
        return Arrangement(layout, 0, column=width, card=c.chance(0.7))
    room -= side
    split = room >= 740 and not own_frame
    if layout in LISTS and split and c.chance(0.65):
        width = c.rng.randrange(SMALL_LIST, min(430, room // 2), 10)
        return Arrangement(layout, side, width, list_first=True)
    if layout in DETAILS and split and c.chance(0.55):
        width = c.rng.randrange(SMALL_LIST, min(400, room // 2), 10)
        column = c.rng.randrange(560, 801, 20)
        return Arrangement(layout, side, width, column=column)
    if layout in GRIDS:
        return Arrangement(layout, side, column=c.pick((0, 0, 1140)))
    column = 440 if layout == "player" else c.rng.randrange(560, 881, 40)
    return Arrangement(layout, side, column=column)
