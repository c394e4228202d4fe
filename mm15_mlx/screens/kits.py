"""What every kit can draw: marked-up HTML pieces that layouts put together.

A kit turns "a row with a switch" into the markup of one UI library. `mark` puts the
meaning of a widget on its element; annotate.js measures it once it is rendered.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from .art import picture, status_glyphs
from .content import Content
from .icons import GLYPHS
from .look import Look, lighter
from .photos import photo

Nav = tuple[str, str]  # (label, icon); an empty icon makes a text button


@dataclass(frozen=True)
class Bars:
    """What stands around the content of a page."""

    left: Sequence[Nav] = ()
    right: Sequence[Nav] = ()
    large: bool = False  # a title on a line of its own
    subtitle: str = ""
    back: str | None = None  # the caption of a back button; None: no button
    tabs: Sequence[Nav] = ()
    active: int = 0  # the chosen tab
    tools: Sequence[Nav] = ()  # a bottom bar of buttons, when there are no tabs
    fab: Nav | None = None  # a floating button
    overlay: str = ""  # something modal
    footer: str = ""  # drawn over the end of the content
    bare: bool = False  # no navigation bar
    keyboard: str = ""  # what the page makes room for at the foot of the screen


@dataclass(frozen=True)
class Row:
    """One row of a list. A row with a control is not itself a button."""

    title: str
    subtitle: str = ""
    text: str = ""
    after: str = ""
    media: str = ""
    badge: str = ""
    chevron: bool = False
    control: str = ""
    lead: str = ""  # a checkbox or a radio button before everything
    tap: bool = False

    def mark(self) -> str:
        """The row's meaning, when it can be tapped."""
        if not (self.tap or self.chevron):
            return ""
        return mark("menuitem", self.title, text=self.title)


@dataclass(frozen=True)
class Field:
    """A labelled text field, as one row of a list."""

    label: str
    kind: str = "text"
    placeholder: str = ""
    value: str = ""
    icon: str = ""
    focused: bool = False
    disabled: bool = False
    hide_label: bool = False

    def meaning(self) -> dict[str, Any]:
        """The state and the text that `mark` takes."""
        shown = "•" * len(self.value) if self.kind == "password" else self.value
        state = state_of(focused=self.focused, disabled=self.disabled, value=shown)
        return {"state": state, "text": shown}

    def attributes(self) -> str:
        """The attributes of the <input>."""
        return (
            f'type="{self.kind}" value="{escape(self.value)}" '
            f'placeholder="{escape(self.placeholder)}" '
            f"{flag('disabled', self.disabled)}"
        )


def mark(kind: str, label: str = "", icon: str = "", box: str = "", **more: Any) -> str:
    """The attribute that tells annotate.js what an element is.

    `box` names what is visibly painted: "" the element, "ink" its text and icons, or
    a selector for the parts inside it.
    """
    spec = {"type": kind, "label": label, "icon": icon, "box": box, **more}
    spec = {
        key: value
        for key, value in spec.items()
        if value is not None and (value != "" or key == "text")
    }
    return f' data-el="{escape(json.dumps(spec))}"'


def tag(opening: str, text: str) -> str:
    """Escaped text in an element, or nothing for no text."""
    return f"<{opening}>{escape(text)}</{opening.split()[0]}>" if text else ""


def flag(name: str, on: bool) -> str:
    """An attribute without a value, or nothing."""
    return f"{name} " if on else ""


def state_of(**state: Any) -> dict[str, Any]:
    """A widget's state without what is off or empty, but always with `checked`."""
    return {
        k: v for k, v in state.items() if k == "checked" or v not in (False, "", None)
    }


Arrange = Callable[["Kit", str, str, Bars], str]


def alone(kit: "Kit", title: str, body: str, bars: Bars) -> str:
    """The page as the whole screen, as on a phone."""
    return kit.pane(title, body, bars)


class Kit:
    """Common pieces. A subclass names its files and overrides the library's own."""

    name = ""
    theme = "ios"
    icon_set = "f7"
    styles: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    imports: dict[str, str] = {}  # where modules find what they name: an import map
    icon_fonts: tuple[str, ...] = ()
    setup_js = ""  # may define window.applyLook(shell) and async window.settle()
    fonts: tuple[str, ...] = ("Inter Variable",)

    forms: tuple[str, ...] = ("phone", "tablet", "desktop")
    own_frame = 0  # CSS pixels of a side bar that `pane` draws itself

    def __init__(self, content: Content, look: Look) -> None:
        self.c = content
        self.look = look
        self.arrange: Arrange = alone
        self.scrolls = True  # false for pages whose bars would collapse

    # -- small parts -----------------------------------------------------------

    def has_icon(self, name: str) -> bool:
        return name in GLYPHS[self.icon_set]

    def icon(self, name: str, size: int = 24, color: str = "", label: str = "") -> str:
        """One glyph, or nothing when the kit's icon set lacks it."""
        if not self.has_icon(name):
            return ""
        style = f"font-size:{size}px;width:{size}px;height:{size}px;"
        if color:
            style += f"color:{color};"
        spec = mark("icon", label or name.replace("-", " "), name)
        return self.glyph(GLYPHS[self.icon_set][name], style, spec)

    def glyph(self, glyph: str, style: str, spec: str) -> str:
        """The icon set's own way of drawing `glyph`."""
        family = {"f7": "f7-icons", "material": "material-icons"}[self.icon_set]
        return f'<i class="{family} glyph" style="{style}"{spec}>{glyph}</i>'

    def image(
        self,
        label: str,
        width: str,
        height: str,
        kind: str = "scene",
        radius: int = 0,
        style: str = "",
    ) -> str:
        """A picture; `kind` is scene, product, abstract or face."""
        svg = photo(self.c.rng, kind) or picture(self.c.rng, kind)
        css = f"width:{width};height:{height};border-radius:{radius}px;{style}"
        return f'<div class="pic" style="{css}"{mark("image", label)}>{svg}</div>'

    def avatar(self, name: str, size: int = 44, square: bool = False) -> str:
        """A round face, or initials on a colour."""
        radius = size // 5 if square else size // 2
        if self.c.chance(0.5):
            return self.image(name, f"{size}px", f"{size}px", "face", radius)
        initials = "".join(word[0] for word in name.split()[:2]).upper()
        style = (
            f"width:{size}px;height:{size}px;border-radius:{radius}px;"
            f"background:{self.c.color()};font-size:{int(size * 0.38)}px"
        )
        spec = mark("image", name)
        return f'<div class="avatar" style="{style}"{spec}>{initials}</div>'

    def tile(self, icon: str, size: int = 29, color: str = "") -> str:
        """A white glyph on a rounded coloured square, as settings lists have."""
        if not self.has_icon(icon):
            return ""
        color = color or self.c.color()
        glyph = self.icon(icon, int(size * 0.66), "#fff")
        style = f"width:{size}px;height:{size}px;background:{color}"
        return f'<div class="tile" style="{style}">{glyph}</div>'

    def badge(self, text: str, color: str = "") -> str:
        style = f' style="background:{color}"' if color else ""
        return f'<span class="x-badge"{style}>{escape(text)}</span>'

    def text(self, text: str, style: str = "", cls: str = "") -> str:
        return f'<div class="{cls}" style="{style}">{escape(text)}</div>'

    def status_bar(self) -> str:
        """The phone's own bar: clock, network, battery."""
        clock = f"{self.c.rng.randint(1, 12)}:{self.c.rng.randrange(60):02d}"
        charge = self.c.rng.randint(5, 100)
        percent = f"<span>{charge}%</span>" if self.c.chance(0.3) else ""
        icons = "".join(
            f'<span class="sb-icon"{mark("icon", name, name)}>{svg}</span>'
            for name, svg in status_glyphs(charge, self.theme)
            if self.c.chance(0.85)
        )
        cls = f"statusbar-x bar-{self.theme} {'notch' if self.look.notch else ''}"
        return (
            f'<div class="{cls}" data-cover data-over><b>{clock}</b>'
            f'<div class="sb-right">{percent}{icons}</div></div>'
        )

    def scroller(self, parts: list[str], gap: int = 8) -> str:
        """A row that may run off the side of the screen."""
        return f'<div class="x-scroll" style="gap:{gap}px">{"".join(parts)}</div>'

    def grid(self, cells: list[str], columns: int = 2, gap: int = 12) -> str:
        """Cells in that many columns on a phone, and more where there is room."""
        across = self.look.columns(columns)
        style = f"grid-template-columns:repeat({across},minmax(0,1fr));gap:{gap}px"
        return f'<div class="x-grid" style="{style}">{"".join(cells)}</div>'

    def stack(self, *parts: str, style: str = "") -> str:
        return f'<div class="x-pad" style="{style}">{"".join(parts)}</div>'

    def line(self, *parts: str, style: str = "") -> str:
        """Parts side by side, vertically centred."""
        return f'<div class="x-line" style="{style}">{"".join(parts)}</div>'

    def link(self, text: str, style: str = "") -> str:
        return f'<a class="x-link" style="{style}"{mark("link", box="ink")}>{text}</a>'

    def icon_button(
        self,
        icon: str,
        label: str = "",
        size: int = 24,
        color: str = "",
        style: str = "",
        **more: Any,
    ) -> str:
        """A bare glyph that can be tapped."""
        if not self.has_icon(icon):
            return ""
        label = label or icon.replace("-", " ").capitalize()
        spec = mark("button", label, icon, box="ink", **more)
        glyph = self.icon(icon, size, color)
        return f'<a class="x-iconbtn" style="{style}"{spec}>{glyph}</a>'

    def round_button(self, icon: str, label: str, size: int = 56) -> str:
        """A glyph on a filled circle."""
        if not self.has_icon(icon):
            return ""
        style = f"width:{size}px;height:{size}px"
        glyph = self.icon(icon, size // 2, "#fff")
        spec = mark("button", label, icon)
        return f'<a class="x-round" style="{style}"{spec}>{glyph}</a>'

    def progress(self, fraction: float) -> str:
        return f'<div class="x-bar"><i style="width:{fraction * 100:.0f}%"></i></div>'

    def rating(self, stars: float, size: int = 14) -> str:
        """Stars, filled up to the rating."""
        names = ["star-filled" if i < round(stars) else "star" for i in range(5)]
        glyphs = "".join(self.icon(name, size, "#f5a623") for name in names)
        return f'<span class="x-stars">{glyphs}</span>'

    def bubble(self, text: str, mine: bool, note: str = "") -> str:
        """One chat message."""
        cls = "mine" if mine else ""
        note = f'<div class="x-note {cls}">{escape(note)}</div>' if note else ""
        return f'<div class="x-bubble {cls}"><span>{escape(text)}</span></div>{note}'

    def toast(self, text: str, action: str = "") -> str:
        button = self.link(action, "margin-left:auto;color:#8ab4f8") if action else ""
        return (
            f'<div class="x-toast" data-over><span>{escape(text)}</span>{button}</div>'
        )

    def backdrop(self, content: str, align: str = "center") -> str:
        """Something modal, over a dimmed page."""
        return f'<div class="x-backdrop {align}" data-over>{content}</div>'

    def shell(self) -> dict[str, Any]:
        """What the page script needs besides HTML."""
        look = self.look
        classes = [
            self.theme,
            self.name,
            *(["dark"] if look.dark else []),
            *look.classes,
        ]
        return {
            "classes": classes,
            "accent": lighter(look.accent) if look.dark else look.accent,
            "font": look.font,
            "top": self.top_inset(),
            "bottom": self.bottom_inset(),
        }

    def top_inset(self) -> int:
        if not self.look.phone_bar or self.look.form != "phone":
            return 0  # wide screens put the bar above the page
        return (47 if self.look.notch else 20) if self.theme == "ios" else 28

    def bottom_inset(self) -> int:
        return 22 if self.theme == "ios" and self.look.notch else 0

    def pane(self, title: str, body: str, bars: Bars) -> str:
        """Bars around `body`, as wide and high as what holds them."""
        raise NotImplementedError

    def page(self, title: str, body: str, bars: Bars) -> str:
        """A whole screen."""
        page = self.arrange(self, title, body, bars)
        return self.wrap(page + bars.keyboard, bars.overlay)

    def wrap(self, page: str, overlay: str = "") -> str:
        """The page, what lies over it, and the phone's own bars."""
        bar = self.status_bar() if self.look.phone_bar else ""
        home = '<div class="homebar"></div>' if self.bottom_inset() else ""
        return f"{page}{overlay}{bar}{home}"

    # -- what a library may draw its own way -----------------------------------

    def dialog(self, title: str, text: str, keys: list[str], tall: bool = False) -> str:
        """A question with one to three answers."""
        rows = "".join(f"<a{mark('button')}>{escape(key)}</a>" for key in keys)
        cls = "keys tall" if tall else "keys"
        return self.backdrop(
            f'<div class="x-dialog"><div class="body"><h3>{escape(title)}</h3>'
            f'<p>{escape(text)}</p></div><div class="{cls}">{rows}</div></div>'
        )

    def sheet(
        self,
        actions: list[Nav],
        danger: str = "",
        caption: str = "",
        icons: bool = False,
    ) -> str:
        """Actions that rise from the bottom."""
        rows = "".join(
            f"<a{mark('button', icon=icon if icons else '')}>"
            f"{self.icon(icon, 22) if icons and icon else ''}"
            f"<span>{escape(text)}</span></a>"
            for text, icon in actions
        )
        if danger:
            rows += f'<a class="red"{mark("button")}><span>{escape(danger)}</span></a>'
        head = f'<div class="cap">{escape(caption)}</div>' if caption else ""
        cancel = f"<a{mark('button')}><b>Cancel</b></a>"
        return self.backdrop(
            f'<div class="x-sheet"><div class="group">{head}{rows}</div>'
            f'<div class="group">{cancel}</div></div>',
            "bottom",
        )

    def menu(self, actions: list[Nav]) -> str:
        """A small menu under the top right corner."""
        rows = "".join(
            f"<a{mark('menuitem', icon=icon)}><span>{escape(text)}</span>"
            f"{self.icon(icon, 20) if icon else ''}</a>"
            for text, icon in actions
        )
        return self.backdrop(f'<div class="x-menu">{rows}</div>', "corner")

    def message_bar(self, placeholder: str, value: str = "") -> str:
        """The field at the foot of a conversation."""
        first = self.c.pick(("add", "camera", "smile", "paperclip"))
        last, word = self.c.pick((("send", "Send"), ("microphone", "Record")))
        field = (
            f'<input type="text" class="x-msg-in" placeholder="{escape(placeholder)}" '
            f'value="{escape(value)}"{mark("input", placeholder)}>'
        )
        return (
            f'<div class="x-bottom" data-cover><div class="x-line">'
            f"{self.icon_button(first, 'Attach')}{field}"
            f"{self.icon_button(last, word)}</div></div>"
        )
