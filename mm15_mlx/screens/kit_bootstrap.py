"""Bootstrap at the width of a phone."""

from html import escape

from .kit_web import WebKit
from .kits import Field, Row, flag, mark, state_of, tag


class Bootstrap(WebKit):
    """Bootstrap on a phone: a web page rather than an app."""

    name, theme = "bootstrap", "md"
    styles = ("bootstrap/dist/css/bootstrap.min.css",)
    fonts = ("Roboto Variable",)
    setup_js = """
    window.applyLook = (shell) => {
      const root = document.documentElement;
      root.dataset.bsTheme = shell.classes.includes("dark") ? "dark" : "light";
      document.body.style.setProperty("--bs-body-font-family", shell.font);
      document.body.style.fontFamily = shell.font;
    };
    """

    def header_class(self) -> str:
        return "w-filled" if sum(map(ord, self.look.accent)) % 2 else "border-bottom"

    def group(
        self,
        rows: list[str],
        header: str = "",
        footer: str = "",
        inset: bool = False,
        media: bool = False,
    ) -> str:
        """A group of rows."""
        head = (
            f'<h6 class="x-pad text-secondary">{escape(header)}</h6>' if header else ""
        )
        foot = f'<div class="x-pad form-text">{escape(footer)}</div>' if footer else ""
        cls = "list-group mx-3" if inset else "list-group list-group-flush"
        return f'{head}<ul class="{cls} my-2">{"".join(rows)}</ul>{foot}'

    def row(self, row: Row) -> str:
        """One row. A row with a control is not itself a button."""
        bold = "fw-semibold" if row.subtitle or row.text else ""
        words = tag(f'div class="{bold}"', row.title)
        words += tag('div class="small text-secondary"', row.subtitle)
        words += tag('div class="small text-body-tertiary x-two"', row.text)
        tail = tag('span class="text-secondary small"', row.after)
        tail += tag('span class="badge rounded-pill text-bg-danger"', row.badge)
        tail += row.control
        if row.chevron:
            tail += self.icon("chevron-right", 14, "var(--muted)")
        return (
            f'<li class="list-group-item x-line"{row.mark()}>{row.lead}{row.media}'
            f'<div class="x-grow">{words}</div>{tail}</li>'
        )

    def switch(self, label: str, on: bool, disabled: bool = False) -> str:
        return self._check("switch", label, "checkbox", on, disabled)

    def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
        return self._check("checkbox", label, "checkbox", on, disabled)

    def radio(self, label: str, on: bool) -> str:
        return self._check("radio", label, "radio", on, False)

    def _check(
        self, kind: str, label: str, type_: str, on: bool, disabled: bool
    ) -> str:
        state = state_of(checked=on, disabled=disabled)
        spec = mark(kind, label, box="input", state=state)
        cls = "form-check form-switch" if kind == "switch" else "form-check"
        flags = flag("checked", on) + flag("disabled", disabled)
        return (
            f'<div class="{cls} mb-0"{spec}>'
            f'<input class="form-check-input" type="{type_}" {flags}></div>'
        )

    def field(self, field: Field) -> str:
        """A labelled text field in a box."""
        spec = mark("input", field.label, **field.meaning())
        name = ""
        if not field.hide_label:
            name = f'<label class="form-label">{escape(field.label)}</label>'
        ring = "box-shadow:0 0 0 3px var(--accent)" if field.focused else ""
        return (
            f'<li class="list-group-item border-0">{name}<input class="form-control" '
            f'style="{ring}" {field.attributes()}{spec}></li>'
        )

    def select(self, label: str, value: str, options: list[str]) -> str:
        """A labelled drop-down in a box."""
        spec = mark("select", label, state=state_of(value=value), text=value)
        return (
            f'<li class="list-group-item border-0"><label class="form-label">'
            f'{escape(label)}</label><select class="form-select"{spec}>'
            f"{self.options(value, options)}</select></li>"
        )

    def button(
        self,
        text: str,
        style: str = "fill",
        icon: str = "",
        small: bool = False,
        large: bool = False,
        disabled: bool = False,
        css: str = "",
        round_: bool = False,
    ) -> str:
        """style is fill, tonal, outline or plain."""
        kind = {"fill": "btn-x", "tonal": "btn-secondary", "outline": "btn-outline-x"}
        cls = kind.get(style, "btn-link")
        cls += " btn-sm" if small else " btn-lg" if large else ""
        cls += "" if small else " w-100"
        cls += " rounded-pill" if round_ else ""
        cls += " disabled" if disabled else ""
        glyph = self.icon(icon, 18) if icon else ""
        box = "ink" if style == "plain" else ""
        spec = mark(
            "button",
            icon=icon if glyph else "",
            box=box,
            state=state_of(disabled=disabled),
        )
        return (
            f'<a class="btn {cls}" style="{css}"{spec}>{glyph}'
            f"<span>&nbsp;{escape(text)}</span></a>"
        )

    def segmented(self, options: list[str], active: int) -> str:
        """Buttons in one group, or tabs."""
        parts = []
        for i, option in enumerate(options):
            spec = mark("tab", option, state={"selected": i == active})
            cls = "btn btn-x" if i == active else "btn btn-outline-x"
            parts.append(f'<a class="{cls}"{spec}>{escape(option)}</a>')
        return (
            '<div class="x-pad"><div class="btn-group '
            f'w-100">{"".join(parts)}</div></div>'
        )

    def chip(
        self, text: str, on: bool = False, icon: str = "", close: bool = False
    ) -> str:
        spec = mark("button", text, state={"selected": on})
        cls = "btn-x" if on else "btn-outline-secondary"
        return f'<a class="btn btn-sm rounded-pill {cls}"{spec}>{escape(text)}</a>'

    def slider(self, label: str, value: int) -> str:
        """A range from 0 to 100."""
        spec = mark("slider", label, state=state_of(value=value))
        return f'<input type="range" class="form-range" value="{value}"{spec}>'

    def searchbar(
        self, placeholder: str, value: str = "", focused: bool = False
    ) -> str:
        """A search field on a line of its own."""
        state = state_of(value=value, focused=focused)
        spec = mark("input", placeholder or "Search", "search", state=state, text=value)
        button = self.icon("search", 16)
        return (
            f'<div class="x-pad"><div class="input-group"{spec}>'
            f'<span class="input-group-text">{button}</span><input type="search" '
            f'class="form-control" value="{escape(value)}" '
            f'placeholder="{escape(placeholder)}"></div></div>'
        )

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A bordered box; `spec` makes it tappable."""
        return f'<div class="card" style="padding:12px;{css}"{spec}>{body}</div>'
