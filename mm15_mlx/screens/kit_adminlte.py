"""AdminLTE: a desktop's administration pages, made of Bootstrap's components."""

from html import escape

from . import labels
from .content import Content
from .kit_bootstrap import Bootstrap
from .kits import Bars, mark, tag
from .look import Look


class AdminLTE(Bootstrap):
    """A top bar, a side bar of its own, and boxes on a grey ground."""

    name, theme = "adminlte", "md"
    styles = ("admin-lte/dist/css/adminlte.min.css",)
    forms = ("desktop",)
    own_frame = 250
    fonts = ("Open Sans",)

    def __init__(self, content: Content, look: Look) -> None:
        super().__init__(content, look)
        look.classes.append("bootstrap")
        self.dark_side = look.dark or content.chance(0.7)
        self.sparse = content.chance(0.4)  # no breadcrumbs and no foot

    def pane(self, title: str, body: str, bars: Bars) -> str:
        """The whole application, with `body` as its content."""
        place = bars.tabs[bars.active][0] if bars.tabs else title
        trail = "" if self.sparse else self._trail(place or self.c.app)
        head = (
            f'<div class="app-content-header"><div class="x-line px-3">'
            f'<h3 class="mb-0 x-grow">{escape(title or self.c.app)}</h3>{trail}'
            f"</div></div>"
        )
        foot = ""
        if not self.sparse:
            note = f"Copyright © 20{self.c.rng.randint(14, 27)} {self.c.fake.company()}"
            foot = f'<footer class="app-footer"><small>{escape(note)}</small></footer>'
        float_ = ""
        if bars.fab:
            button = self.round_button(bars.fab[1], bars.fab[0])
            float_ = f'<div class="w-fab" data-over>{button}</div>'
        return (
            f'<div class="app-wrapper x-admin">{self._top(bars)}{self._side(bars)}'
            f'<main class="app-main" data-scroll>{"" if bars.bare else head}'
            f'<div class="app-content"><div class="container-fluid">{body}</div></div>'
            f"</main>{foot}{bars.footer}{float_}</div>"
        )

    def _trail(self, place: str) -> str:
        """Where one is, as links."""
        home = self.link("Home")
        return (
            f'<ol class="breadcrumb mb-0"><li class="breadcrumb-item">{home}</li>'
            f'<li class="breadcrumb-item active">{escape(place)}</li></ol>'
        )

    def _top(self, bars: Bars) -> str:
        """The bar over everything: menu, some links, buttons, a person."""
        c = self.c
        start = self.icon_button("menu", "Toggle side bar", 22, "inherit")
        links = "".join(
            f'<a class="nav-link"{mark("link", box="ink")}>{word}</a>'
            for word in c.some(("Home", "Contact", "Help", "Reports", "Docs"), 0, 3)
        )
        keys = "".join(
            f'<span class="x-line" style="gap:2px">'
            f"{self.icon_button(icon, label, 19, 'inherit')}"
            f"{self.badge(c.number(20)) if c.chance(0.4) else ''}</span>"
            for label, icon in (*bars.right, ("Notifications", "bell"))
            if icon
        )
        words = "".join(
            f'<a class="nav-link"{mark("button", box="ink")}>{escape(label)}</a>'
            for label, icon in bars.right
            if label and not icon
        )
        name = c.name()
        who = f"{self.avatar(name, 30)}<span>{escape(name)}</span>"
        person = f'<a class="x-line nav-link"{mark("button", name)}>{who}</a>'
        return (
            f'<nav class="app-header navbar navbar-expand bg-body"><div '
            f'class="container-fluid x-line" style="gap:16px">{start}{links}'
            f'<div class="x-grow"></div>{words}{keys}{person}</div></nav>'
        )

    def _side(self, bars: Bars) -> str:
        """The side bar: the page's tabs or places, some under a heading."""
        c = self.c
        entries = [*bars.tabs, *c.named(labels.TABS, 5, 9)]
        entries = list(dict(entries).items())
        active = bars.active if bars.tabs else c.rng.randrange(len(entries))
        heading = c.rng.randint(2, len(entries))
        rows = ""
        for i, (label, icon) in enumerate(entries):
            kind = "tab" if i < len(bars.tabs) else "menuitem"
            spec = mark(kind, label, icon, text=label, state={"selected": i == active})
            if i == heading:
                rows += tag('li class="nav-header"', c.pick(labels.HEADERS).upper())
            on = "active" if i == active else ""
            glyph = self.icon(icon, 18) if icon else ""
            note = c.number(30) if c.chance(0.15) else ""
            rows += (
                f'<li class="nav-item"><a class="nav-link {on}"{spec}>{glyph}'
                f'<p class="x-one">{escape(label)}</p>'
                f"{self.badge(note) if note else ''}</a></li>"
            )
        theme = "dark" if self.dark_side else "light"
        return (
            f'<aside class="app-sidebar bg-body-secondary shadow" data-bs-theme='
            f'"{theme}"><div class="sidebar-brand"><span class="brand-text">'
            f'{escape(c.app)}</span></div><div class="sidebar-wrapper"><ul '
            f'class="nav sidebar-menu flex-column">{rows}</ul></div></aside>'
        )

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A box; `spec` makes it tappable."""
        line = "" if spec or css else f"border-top:3px solid {self.look.accent};"
        shape = "" if sum(map(ord, self.look.accent)) % 2 else line
        return (
            f'<div class="card" style="{shape}{css}"{spec}>'
            f'<div class="card-body" style="padding:12px">{body}</div></div>'
        )
