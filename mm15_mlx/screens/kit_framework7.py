"""Framework7 in its iOS and Material themes: static markup, no app script."""

from collections.abc import Sequence
from html import escape
from typing import Any

from .kits import Bars, Field, Kit, Nav, Row, flag, mark, state_of, tag


class Framework7(Kit):
    """Markup of framework7 9, whose styles need only classes on <html>."""

    styles = (
        "framework7/framework7-bundle.min.css",
        "framework7-icons/css/framework7-icons.css",
        "material-icons/iconfont/material-icons.css",
    )
    scripts = ("framework7/framework7-bundle.min.js",)
    icon_fonts = ("Framework7 Icons", "Material Icons")
    setup_js = """
    window.applyLook = (shell) => {
      let tag = document.getElementById("look");
      if (!tag) {
        tag = document.createElement("style");
        tag.id = "look";
        document.head.append(tag);
      }
      const css = Framework7.utils.colorThemeCSSStyles({ primary: shell.accent });
      tag.textContent = css + `:root{--f7-font-family:${shell.font};` +
        `--f7-theme-color-fallback:${shell.accent}}`;
    };
    """

    # -- page ------------------------------------------------------------------

    def pane(self, title: str, body: str, bars: Bars) -> str:
        """Bars around `body`, as wide and high as what holds them."""
        bar = "" if bars.bare else self._navbar(title, bars)
        low = self._tabs(bars) if bars.tabs else self._tools(bars.tools)
        float_ = self._fab(*bars.fab) if bars.fab else ""
        pad = "padding-top:calc(var(--top) + 8px);" if bars.bare else ""
        if bars.footer:
            pad += "padding-bottom:90px;"
        cls = "page-with-navbar-large" if bars.large else ""
        return (
            f'<div class="framework7-root"><div class="views"><div class="view">'
            f'<div class="page {cls}">{bar}{low}{float_}'
            '<div class="page-content" data-scroll '
            f'style="{pad}">{body}</div>{bars.footer}'
            f"</div></div></div></div>"
        )

    def _nav_items(self, items: Sequence[Nav]) -> str:
        size = 24
        out = []
        for label, icon in items:
            if icon and self.has_icon(icon):
                spec = mark("button", label, icon, box="ink")
                out.append(
                    f'<a class="link icon-only"{spec}>{self.icon(icon, size)}</a>'
                )
            elif label:
                out.append(f'<a class="link"{mark("button", box="ink")}>{label}</a>')
        return "".join(out)

    def _navbar(self, title: str, bars: Bars) -> str:
        start = self._nav_items(bars.left)
        left_width, back = self._width(bars.left), bars.back
        if back is not None:
            caption = tag("span", back)
            spec = mark("button", back or "Back", "back", box="ink")
            only = "" if back else "icon-only"
            start = f'<a class="link {only}"{spec}>{self.icon("back", 24)}{caption}</a>'
            left_width = 64 + 9 * len(back)
        start = f'<div class="left">{start}</div>' if start else ""
        end = self._nav_items(bars.right)
        end = f'<div class="right">{end}</div>' if end else ""
        sub = tag('span class="subtitle"', bars.subtitle)
        big = ""
        # A centred title may not reach under the wider of the two groups.
        room = self.look.width - 2 * max(left_width, self._width(bars.right)) - 24
        style = f' style="max-width:{room}px"' if self.theme == "ios" else ""
        name = f'<div class="title"{style}>{escape(title)}{sub}</div>'
        if self.theme == "ios" and room < 70:
            name = '<div class="title"></div>'
        if bars.large:
            self.scrolls = False
            big = (
                '<div class="title-large"><div class="title-large-text">'
                f"{escape(title)}</div></div>"
            )
            name = '<div class="title"></div>'
        cls = "navbar-large" if bars.large else ""
        return (
            f'<div class="navbar {cls}" data-cover><div class="navbar-bg"></div>'
            f'<div class="navbar-inner">{start}{name}{end}{big}</div></div>'
        )

    @staticmethod
    def _width(items: Sequence[Nav]) -> int:
        """How wide a group of navigation buttons is, about."""
        return 16 + sum(60 if icon else 24 + 10 * len(label) for label, icon in items)

    def _tabs(self, bars: Bars) -> str:
        tabs, active = bars.tabs, bars.active
        links = []
        for i, (label, icon) in enumerate(tabs):
            on = "tab-link-active" if i == active else ""
            glyph = self.icon(icon, 26) if icon else ""
            spec = mark("tab", label, icon, box="ink", state={"selected": i == active})
            caption = f'<span class="tabbar-label">{label}</span>'
            links.append(f'<a class="tab-link {on}"{spec}>{glyph}{caption}</a>')
        width = 100 / len(tabs)
        light = (
            f'<span class="tab-link-highlight" style="width:{width}%;'
            f'transform:translateX({active * 100}%)"></span>'
        )
        inner = "".join(links) + light
        if self.theme == "ios":
            inner = f'<div class="toolbar-pane">{inner}</div>'
        icons = "tabbar-icons" if any(icon for _, icon in tabs) else ""
        return (
            f'<div class="toolbar tabbar {icons} toolbar-bottom" data-cover>'
            f'<div class="toolbar-inner">{inner}</div></div>'
        )

    def _tools(self, tools: Sequence[Nav]) -> str:
        if not tools:
            return ""
        links = self._nav_items(tools)
        if self.theme == "ios":
            links = f'<div class="toolbar-pane">{links}</div>'
        return (
            f'<div class="toolbar toolbar-bottom" data-cover>'
            f'<div class="toolbar-inner">{links}</div></div>'
        )

    def _fab(self, label: str, icon: str) -> str:
        spec = mark("button", label, icon, box="a")
        return (
            f'<div class="fab fab-right-bottom" data-over{spec}>'
            f"<a>{self.icon(icon, 24)}</a></div>"
        )

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
        cls = "list list-strong list-dividers"
        cls += " inset" if inset else " list-outline" if self.theme == "ios" else ""
        cls += " media-list" if media else ""
        head = f'<div class="block-title">{escape(header)}</div>' if header else ""
        foot = f'<div class="block-footer">{escape(footer)}</div>' if footer else ""
        return f'{head}<div class="{cls}"><ul>{"".join(rows)}</ul></div>{foot}'

    def row(self, row: Row) -> str:
        """One row. A row with a control is not itself a button."""
        front = (
            f'<div class="item-media">{row.lead}{row.media}</div>'
            if row.lead or row.media
            else ""
        )
        tail = tag('span class="x-s" style="font-size:inherit"', row.after)
        tail += self.badge(row.badge) if row.badge else ""
        tail += row.control
        if row.chevron and self.theme == "ios":
            tail += self.icon("chevron-right", 14, "var(--muted)")
        if tail:
            tail = f'<div class="item-after x-line" style="gap:6px">{tail}</div>'
        name = f'<div class="item-title">{escape(row.title)}'
        if row.text:
            inner = (
                f'<div class="item-title-row">{name}</div>{tail}</div>'
                f'<div class="item-subtitle">{escape(row.subtitle)}</div>'
                f'<div class="item-text">{escape(row.text)}</div>'
            )
        else:
            sub = tag('div class="item-footer"', row.subtitle)
            inner = f"{name}{sub}</div>{tail}"
        inner = f'<div class="item-inner">{inner}</div>'
        spec = row.mark()
        return f'<li><div class="item-content"{spec}>{front}{inner}</div></li>'

    # -- controls --------------------------------------------------------------

    def switch(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark("switch", label, state=state_of(checked=on, disabled=disabled))
        return (
            f'<label class="toggle {"disabled" if disabled else ""}"{spec}>'
            f'<input type="checkbox" {flag("checked", on)}{flag("disabled", disabled)}>'
            f'<span class="toggle-icon"></span></label>'
        )

    def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark(
            "checkbox",
            label,
            box=".icon-checkbox",
            state=state_of(checked=on, disabled=disabled),
        )
        return (
            f'<label class="checkbox"{spec}><input type="checkbox" '
            f"{flag('checked', on)}"
            f'{flag("disabled", disabled)}><i class="icon-checkbox"></i></label>'
        )

    def radio(self, label: str, on: bool) -> str:
        spec = mark("radio", label, box=".icon-radio", state=state_of(checked=on))
        return (
            f'<label class="radio"{spec}><input type="radio" {flag("checked", on)}>'
            f'<i class="icon-radio"></i></label>'
        )

    def field(self, field: Field) -> str:
        """A labelled text field, as one row of a list."""
        outline = self.theme == "md" and sum(map(ord, field.label)) % 2
        outer, inner, shape = self._field_marks("input", field.label, field.meaning())
        cls = "item-content item-input"
        cls += " item-input-outline" if outline else ""
        cls += " item-input-focused" if field.focused else ""
        cls += " item-input-with-value" if field.value else ""
        front = (
            f'<div class="item-media">{self.icon(field.icon, 22)}</div>'
            if field.icon
            else ""
        )
        name = ""
        if not field.hide_label:
            name = f'<div class="item-title item-label">{escape(field.label)}</div>'
        return (
            f'<li class="{cls}"{outer}>{shape}{front}<div class="item-inner">{name}'
            f'<div class="item-input-wrap"><input {field.attributes()}{inner}>'
            f"</div></div></li>"
        )

    def _field_marks(
        self, kind: str, label: str, more: dict[str, Any]
    ) -> tuple[str, str, str]:
        """Marks for the row and the input, and the shape that Material paints.

        Material's box is a pseudo-element of the row, so a twin makes it measurable.
        """
        if self.theme == "ios":
            return "", mark(kind, label, **more), ""
        shape = '<span class="x-field"></span>'
        return mark(kind, label, box=".x-field", **more), "", shape

    def select(self, label: str, value: str, options: list[str]) -> str:
        """A labelled drop-down, as one row of a list."""
        meaning = {"state": state_of(value=value), "text": value}
        outer, inner, shape = self._field_marks("select", label, meaning)
        body = "".join(
            f"<option {flag('selected', o == value)}>{escape(o)}</option>"
            for o in options
        )
        return (
            f'<li class="item-content item-input"{outer}>{shape}<div '
            'class="item-inner">'
            f'<div class="item-title item-label">{escape(label)}</div>'
            f'<div class="item-input-wrap input-dropdown-wrap">'
            f"<select{inner}>{body}</select></div></div></li>"
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
        cls = f"button button-{style}" if style != "plain" else "button"
        cls += " button-small" if small else " button-large" if large else ""
        cls += " button-round" if round_ else ""
        cls += " disabled" if disabled else ""
        glyph = self.icon(icon, 18 if small else 20) if icon else ""
        box = "ink" if style == "plain" else ""
        spec = mark(
            "button",
            icon=icon if glyph else "",
            box=box,
            state=state_of(disabled=disabled),
        )
        return (
            f'<a class="{cls}" style="{css}"{spec}>{glyph}'
            f"<span>{escape(text)}</span></a>"
        )

    def segmented(self, options: list[str], active: int) -> str:
        """A few choices in one strip."""
        parts = []
        for i, option in enumerate(options):
            spec = mark("tab", option, state={"selected": i == active})
            on = "button-active" if i == active else ""
            parts.append(f'<a class="button {on}"{spec}>{escape(option)}</a>')
        strip = "".join(parts)
        strong = self.theme == "ios" or active % 2
        light = ""
        if strong:
            light = (
                f'<span class="segmented-highlight" style="width:calc((100% - 4px) / '
                f'{len(options)});transform:translateX({active * 100}%)"></span>'
            )
        cls = "segmented segmented-strong" if strong else "segmented segmented-raised"
        return f'<div class="x-pad"><div class="{cls}">{strip}{light}</div></div>'

    def chip(
        self, text: str, on: bool = False, icon: str = "", close: bool = False
    ) -> str:
        style = "background:var(--accent);color:#fff" if on else ""
        glyph = self.icon(icon, 16) if icon else ""
        if close:
            glyph += self.icon_button("close", f"Remove {text}", 14, "inherit")
        spec = mark(
            "button", text, icon if icon and not close else "", state={"selected": on}
        )
        return (
            f'<a class="chip" style="{style}"{spec}><span class="chip-label">'
            f'{escape(text)}</span><span style="width:4px"></span>{glyph}</a>'
        )

    def slider(self, label: str, value: int) -> str:
        """A range from 0 to 100."""
        spec = mark(
            "slider", label, box=".range-bar, .range-knob", state=state_of(value=value)
        )
        return (
            f'<div class="range-slider range-slider-horizontal"{spec}><div '
            'class="range-bar">'
            f'<div class="range-bar-active" style="width:{value}%"></div></div>'
            f'<div class="range-knob-wrap" style="left:{value}%">'
            f'<div class="range-knob"></div></div></div>'
        )

    def stepper(self, label: str, value: int) -> str:
        """Minus, number, plus."""
        less, more = (
            mark("button", f"Decrease {label}", "minus"),
            mark("button", f"Increase {label}", "add"),
        )
        return (
            '<div class="stepper stepper-small"><div '
            f'class="stepper-button-minus"{less}></div>'
            f'<div class="stepper-value">{value}</div>'
            f'<div class="stepper-button-plus"{more}></div></div>'
        )

    def searchbar(
        self, placeholder: str, value: str = "", focused: bool = False
    ) -> str:
        """A search field on a line of its own."""
        state = state_of(value=value, focused=focused)
        spec = mark(
            "input",
            placeholder or "Search",
            "search",
            state=state,
            text=value,
            box="input",
        )
        clear = '<span class="input-clear-button"></span>' if value else ""
        return (
            '<form class="searchbar searchbar-inline" style="margin:10px '
            '16px;width:auto">'
            f'<div class="searchbar-inner"><div class="searchbar-input-wrap"{spec}>'
            f'<input type="search" value="{escape(value)}" '
            f'placeholder="{escape(placeholder)}"><i class="searchbar-icon"></i>{clear}'
            f"</div></div></form>"
        )

    def title(self, text: str) -> str:
        return f'<div class="block-title">{escape(text)}</div>'

    def large_title(self, text: str) -> str:
        return f'<div class="block-title block-title-medium">{escape(text)}</div>'

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A raised box; `spec` makes it tappable."""
        return f'<div class="x-card" style="{css}"{spec}>{body}</div>'


class Framework7IOS(Framework7):
    name, theme, icon_set = "framework7-ios", "ios", "f7"


class Framework7MD(Framework7):
    name, theme, icon_set = "framework7-md", "md", "material"
    fonts = ("Roboto Variable",)
