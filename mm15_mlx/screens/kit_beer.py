"""Beer CSS: Material Design from semantic HTML and a few helper classes."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from .kit_md import PAINT, MaterialKit
from .kits import Bars, Field, Nav, Row, flag, mark, state_of, tag

# Beer CSS paints its boxes with pseudo-elements: b.b-ink is a twin to measure.
# Its reset gives every element the corners of its parent, also table cells.
STYLE = """
.w-page { background: var(--surface); color: var(--on-surface); }
.w-body { padding-block-start: .5rem; }
.x-table, .x-table * { border-radius: 0; }
.x-bubble.mine > span, .x-day.now > span { color: var(--on-primary); }
.x-dots i { --_size: 8px; }
.list > li { white-space: normal; cursor: auto; }
.list.border > .b-in::before { display: none; }
.b-ink { position: absolute; inset: 2px auto auto 2px; width: 20px; height: 20px; }
.checkbox > .b-ink { inset: 3px auto auto 3px; width: 18px; height: 18px; }
.b-on > input { border-block-end: 2px solid var(--primary) !important; }
.b-on.border > input { border: 2px solid var(--primary) !important; }
::placeholder { color: var(--on-surface-variant); }
.b-on > label { color: var(--primary); }
.b-on > label::after { border-block-start: 2px solid var(--primary) !important; }
nav.bottom > a:not(.button) { inline-size: auto; min-inline-size: 3.5rem; flex: 1; }
"""


class Beer(MaterialKit):
    """Markup of beercss 5; its script only moves what we draw in place."""

    name = "beercss"
    styles = (
        "beercss/dist/cdn/beer.min.css",
        "material-icons/iconfont/material-icons.css",
    )
    icon_fonts = ("Material Icons", "Material Symbols Outlined")
    setup_js = (
        PAINT % ("", STYLE)
        + """
    window.applyLook = (shell) => {
      document.body.className = shell.classes.includes("dark") ? "dark" : "light";
      document.body.style.setProperty("--font", shell.font);
      window.paintLook(shell);
    };
    """
    )

    def glyph(self, glyph: str, style: str, spec: str) -> str:
        style += "--_size:1em"
        return super().glyph(glyph, style, spec)

    # -- page ------------------------------------------------------------------

    def round_key(
        self, glyph: str, size: int, filled: bool, style: str, spec: str
    ) -> str:
        cls = "surface-container-highest" if filled else "transparent"
        style += f";--_size:{max(32, size + 12)}px"
        return f'<button class="{cls} circle" style="{style}"{spec}>{glyph}</button>'

    def round_button(self, icon: str, label: str, size: int = 56) -> str:
        """A filled circle, or the floating button's rounded square."""
        if not self.has_icon(icon):
            return ""
        cls = "square round primary-container" if size == 56 else "circle"
        spec = mark("button", label, icon)
        return (
            f'<button class="{cls}" style="--_size:{size}px"{spec}>'
            f"{self.icon(icon, size * 3 // 7)}</button>"
        )

    def text_button(self, text: str) -> str:
        spec = mark("button", box="ink")
        return f'<button class="transparent link"{spec}>{escape(text)}</button>'

    def _header(self, title: str, bars: Bars) -> str:
        start, back = self._buttons(bars.left), bars.back
        if back is not None:
            start = self.icon_button("back", back or "Back")
        shades = ("", "", "surface-container", "primary-container")
        cls = shades[sum(map(ord, self.look.accent)) % 4]
        sub = tag('div class="small-text x-one"', bars.subtitle)
        name = tag('h6 class="x-one"', title)
        big = ""
        if bars.large:
            big = tag('h5 style="padding:4px 0 12px"', title)
            name = ""
        return (
            f'<header class="{cls}" style="padding:var(--top) 8px 0;flex-shrink:0">'
            f'<nav style="min-block-size:4rem;gap:4px">{start}<div class="max" '
            f'style="padding:0 8px;min-width:0">{name}{sub}</div>'
            f'{self._buttons(bars.right)}</nav><div style="padding:0 8px">{big}</div>'
            "</header>"
        )

    def _tabs(self, bars: Bars) -> str:
        keys = []
        for i, (label, icon) in enumerate(bars.tabs):
            on = i == bars.active
            spec = mark("tab", label, icon, box="ink", state={"selected": on})
            glyph = self.icon(icon) if icon else ""
            cls = "active" if on else ""
            keys.append(f'<a class="{cls}"{spec}>{glyph}<span>{label}</span></a>')
        return f'<nav class="bottom" style="gap:0">{"".join(keys)}</nav>'

    def _tools(self, tools: Sequence[Nav]) -> str:
        if not tools:
            return ""
        return f'<nav class="bottom">{self._buttons(tools)}</nav>'

    # -- lists -----------------------------------------------------------------

    def group(
        self,
        rows: list[str],
        header: str = "",
        footer: str = "",
        inset: bool = False,
        media: bool = False,
    ) -> str:
        """A group of rows."""
        head = tag('div class="x-pad primary-text"', header)
        foot = tag('div class="x-pad small-text"', footer)
        line = "border" if self.c.chance(0.6) else ""
        body = f'<ul class="list {line}">{"".join(rows)}</ul>'
        if inset:
            cls = self.c.pick(("", "border", "no-elevate"))
            body = (
                f'<article class="no-padding {cls}" style="margin:8px 16px">{body}'
                "</article>"
            )
        return f"{head}{body}{foot}"

    def row(self, row: Row) -> str:
        """One row. A row with a control is not itself a button."""
        words = tag('h6 class="small"', row.title)
        words += tag('div style="line-height:1.25rem"', row.subtitle)
        words += tag('div class="x-two" style="line-height:1.25rem"', row.text)
        tail = tag('label class="small-text"', row.after)
        tail += tag('span class="badge none"', row.badge) + row.control
        if row.chevron:
            tail += self.icon("chevron-right", 20, "var(--muted)")
        return (
            f"<li{row.mark()}>{row.lead}{row.media}"
            f'<div class="max" style="min-width:0">{words}</div>{tail}</li>'
        )

    # -- controls --------------------------------------------------------------

    def switch(self, label: str, on: bool, disabled: bool = False) -> str:
        return self._choice("switch", "checkbox", label, on, disabled)

    def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
        return self._choice("checkbox", "checkbox", label, on, disabled)

    def radio(self, label: str, on: bool) -> str:
        return self._choice("radio", "radio", label, on, False)

    def _choice(
        self, kind: str, type_: str, label: str, on: bool, disabled: bool
    ) -> str:
        state = state_of(checked=on, disabled=disabled)
        spec = mark(kind, label, box="input" if kind == "switch" else "b", state=state)
        flags = flag("checked", on) + flag("disabled", disabled)
        twin = "" if kind == "switch" else '<b class="b-ink"></b>'
        return (
            f'<label class="{kind}"{spec}><input type="{type_}" {flags}><span></span>'
            f"{twin}</label>"
        )

    def field(self, field: Field) -> str:
        """A text field whose label rests in it or floats on its edge."""
        spec = mark("input", field.label, box="input", **field.meaning())
        front = self.icon(field.icon) if field.icon else ""
        cls = "prefix" if front else ""
        cls += " b-on" if field.focused else ""
        name = up = ""
        if not field.hide_label:
            floats = field.focused or field.value or self.c.chance(0.3)
            up = "active" if floats else ""
            name = tag(f'label class="{up}"', field.label)
            cls += " label"
            field = field if floats else replace(field, placeholder=" ")
        shape = self._shape(field.label)
        return (
            f'<li class="b-in"><div class="field max {shape} {cls}"{spec}>{front}'
            f'<input class="{up}" {field.attributes()}>{name}</div></li>'
        )

    def _shape(self, label: str) -> str:
        """How fields look; the same for all of a screen."""
        shapes = ("border", "border", "border round", "fill")
        return shapes[sum(map(ord, self.look.accent)) % 4]

    def select(self, label: str, value: str, options: list[str]) -> str:
        """A drop-down with a label on its edge."""
        spec = mark(
            "select", label, box="select", state=state_of(value=value), text=value
        )
        return (
            f'<li class="b-in"><div class="field max label suffix {self._shape(label)}"'
            f"{spec}><select>{self.options(value, options)}</select>"
            f"<label>{escape(label)}</label>"
            '<i class="material-icons">arrow_drop_down</i></div></li>'
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
        kind = {"tonal": "fill", "outline": "border", "plain": "transparent link"}
        cls = kind.get(style, "")
        cls += " small" if small else " large" if large else ""
        cls += "" if small else " responsive"
        glyph = self.icon(icon, 18) if icon else ""
        spec = mark(
            "button",
            icon=icon if glyph else "",
            box="ink" if style == "plain" else "",
            state=state_of(disabled=disabled),
        )
        return (
            f'<button class="{cls}" style="{css}" {flag("disabled", disabled)}{spec}>'
            f"{glyph}<span>{escape(text)}</span></button>"
        )

    def segmented(self, options: list[str], active: int) -> str:
        """Connected buttons, or tabs."""
        parts, tabs = [], self.c.chance(0.4)
        for i, option in enumerate(options):
            on = "active" if i == active else ""
            spec = mark("tab", option, state={"selected": i == active})
            parts.append(
                f'<a class="{on}"{spec}>{escape(option)}</a>'
                if tabs
                else f'<button class="max {on}" style="--_padding:4px"{spec}>'
                f"{escape(option)}</button>"
            )
        if tabs:
            return f'<div class="tabs">{"".join(parts)}</div>'
        return (
            f'<div class="x-pad"><nav class="group connected">{"".join(parts)}</nav>'
            "</div>"
        )

    def chip(
        self, text: str, on: bool = False, icon: str = "", close: bool = False
    ) -> str:
        spec = mark("button", text, icon, state={"selected": on})
        cls = "secondary-container" if on else ""
        glyph = self.icon(icon, 18) if icon else ""
        if close:
            glyph += self.icon("close", 18)
        return (
            f'<button class="chip {cls}"{spec}><span>{escape(text)}</span>{glyph}'
            "</button>"
        )

    def slider(self, label: str, value: int) -> str:
        """A range from 0 to 100."""
        spec = mark("slider", label, state=state_of(value=value))
        return (
            f'<label class="slider" style="--_end:{100 - value}%;margin:0"{spec}>'
            f'<input type="range" value="{value}"><span></span></label>'
        )

    def pill(self, placeholder: str, value: str, spec: str, icon: str = "") -> str:
        """A round text field without a label."""
        cls = "fill" if self.c.chance(0.6) else "border"
        cls += " prefix" if icon else " small"
        return (
            f'<div class="field round {cls}"{spec}>{self.icon(icon) if icon else ""}'
            f'<input type="text" value="{escape(value)}" '
            f'placeholder="{escape(placeholder)}"></div>'
        )

    def progress(self, fraction: float) -> str:
        return f'<progress value="{fraction * 100:.0f}" max="100"></progress>'

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A raised box; `spec` makes it tappable."""
        return f'<article style="margin:0;{css}"{spec}>{body}</article>'

    # -- over the page ---------------------------------------------------------

    def _over(self, content: str) -> str:
        return f'<div data-over><div class="overlay active"></div>{content}</div>'

    def dialog(self, title: str, text: str, keys: list[str], tall: bool = False) -> str:
        """A question with one to three answers."""
        links = "".join(self.text_button(key) for key in keys)
        tall_ = "flex-direction:column;align-items:flex-end;" if tall else ""
        return self._over(
            '<dialog class="active" style="inset-block-start:32%">'
            f"<h5>{escape(title)}</h5><p>{escape(text)}</p>"
            f'<nav class="right-align" style="{tall_}gap:0">{links}</nav></dialog>'
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
            f"<li{mark('button', text, icon if icons else '')}>"
            f"{self.icon(icon) if icons and icon else ''}<div>{escape(text)}</div></li>"
            for text, icon in actions
        )
        if danger:
            rows += f'<li class="error-text"{mark("button")}>{escape(danger)}</li>'
        rows += f"<li{mark('button')}>Cancel</li>"
        head = tag('div style="padding:8px 16px"', caption)
        return self._over(
            f'<dialog class="bottom active" style="padding-inline:0">{head}'
            f'<ul class="list large-text">{rows}</ul></dialog>'
        )

    def menu(self, actions: list[Nav]) -> str:
        """A small menu under the top right corner."""
        rows = "".join(
            f"<li{mark('menuitem', icon=icon)}>{self.icon(icon, 20) if icon else ''}"
            f"<span>{escape(text)}</span></li>"
            for text, icon in actions
        )
        place = "position:fixed;inset:calc(var(--top) + 52px) 12px auto auto"
        return (
            f'<menu class="active no-wrap" style="{place};transform:none;'
            f'min-width:190px" data-cover data-over>{rows}</menu>'
        )

    def toast(self, text: str, action: str = "") -> str:
        link = ""
        if action:
            spec = mark("link", box="ink")
            link = f'<a class="inverse-link"{spec}>{escape(action)}</a>'
        return (
            f'<div class="snackbar active" data-over><div class="max">{escape(text)}'
            f"</div>{link}</div>"
        )
