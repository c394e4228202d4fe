"""WeUI, WeChat's own look."""

from html import escape

from .kit_web import WebKit
from .kits import Field, Row, flag, mark, state_of, tag


class WeUI(WebKit):
    """WeChat's own style sheet."""

    forms = ("phone", "tablet")
    name, theme = "weui", "ios"
    styles = ("weui/dist/style/weui.css",)
    setup_js = """
    window.applyLook = (shell) => {
      const dark = shell.classes.includes("dark");
      document.body.dataset.weuiTheme = dark ? "dark" : "light";
      document.body.style.setProperty("--weui-BRAND", shell.accent);
      document.body.style.fontFamily = shell.font;
    };
    """

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
            f'<div class="weui-cells__title">{escape(header)}</div>' if header else ""
        )
        foot = f'<div class="weui-cells__tips">{escape(footer)}</div>' if footer else ""
        style = "margin:8px 16px;border-radius:10px;overflow:hidden" if inset else ""
        return (
            f'{head}<div class="weui-cells" style="{style}">{"".join(rows)}</div>{foot}'
        )

    def row(self, row: Row) -> str:
        """One row. A row with a control is not itself a button."""
        front = f'<div class="weui-cell__hd x-line x-start">{row.lead}{row.media}</div>'
        front = front if row.lead or row.media else ""
        words = tag("p", row.title)
        words += tag('div class="weui-cell__desc x-one"', row.subtitle)
        words += tag('div class="x-s x-two"', row.text)
        tail = tag("span", row.after) + tag('span class="weui-badge"', row.badge)
        tail += row.control
        if row.chevron:
            tail += self.icon("chevron-right", 14, "var(--muted)")
        end = tail and (
            f'<div class="weui-cell__ft x-line" style="gap:6px">{tail}</div>'
        )
        return (
            f'<div class="weui-cell"{row.mark()}>{front}<div class="weui-cell__bd" '
            f'style="min-width:0">{words}</div>{end}</div>'
        )

    def switch(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark("switch", label, state=state_of(checked=on, disabled=disabled))
        flags = flag("checked", on) + flag("disabled", disabled)
        return f'<input class="weui-switch" type="checkbox" {flags}{spec}>'

    def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark(
            "checkbox",
            label,
            box=".weui-icon-checked",
            state=state_of(checked=on, disabled=disabled),
        )
        return (
            f'<span class="weui-cells_checkbox"{spec}><input type="checkbox" '
            f'class="weui-check" {flag("checked", on)}{flag("disabled", disabled)}>'
            f'<i class="weui-icon-checked"></i></span>'
        )

    def radio(self, label: str, on: bool) -> str:
        """A tick for the chosen row and nothing for the others."""
        if not on:
            return '<span style="width:24px"></span>'
        glyph = self.icon("check", 20, "var(--accent)")
        spec = mark("radio", label, "check", box="ink", state={"checked": on})
        return f"<span{spec}>{glyph}</span>"

    def field(self, field: Field) -> str:
        """A labelled text field, as one row of a list."""
        spec = mark("input", field.label, **field.meaning())
        front = self.icon(field.icon, 20) if field.icon else ""
        if not field.hide_label:
            front = f'<label class="weui-label">{escape(field.label)}</label>'
        return (
            f'<div class="weui-cell"><div class="weui-cell__hd x-start">{front}</div>'
            f'<div class="weui-cell__bd"><input class="weui-input" '
            f"{field.attributes()}{spec}></div></div>"
        )

    def select(self, label: str, value: str, options: list[str]) -> str:
        """A labelled drop-down, as one row of a list."""
        spec = mark("select", label, state=state_of(value=value), text=value)
        return (
            f'<div class="weui-cell weui-cell_select weui-cell_select-after">'
            '<div class="weui-cell__hd"><label '
            f'class="weui-label">{escape(label)}</label>'
            f'</div><div class="weui-cell__bd"><select class="weui-select"{spec}>'
            f"{self.options(value, options)}</select></div></div>"
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
        glyph = self.icon(icon, 18) if icon else ""
        state = state_of(disabled=disabled)
        if style == "plain":
            spec = mark("button", icon=icon if glyph else "", box="ink", state=state)
            return (
                '<div class="x-mid"><a '
                f'class="x-link"{spec}>{glyph}{escape(text)}</a></div>'
            )
        cls = "weui-btn_primary" if style == "fill" else "weui-btn_default"
        cls += " weui-btn_disabled" if disabled else ""
        cls += " weui-btn_mini" if small else ""
        wide = "" if small else "width:auto;"
        corner = "border-radius:28px;" if round_ else ""
        spec = mark("button", icon=icon if glyph else "", state=state)
        return (
            f'<a class="weui-btn {cls}" style="{wide}{corner}{css}"{spec}>'
            f"{glyph}<span>&nbsp;{escape(text)}</span></a>"
        )

    def segmented(self, options: list[str], active: int) -> str:
        """WeUI's bar of tabs, laid in the page."""
        parts = []
        for i, option in enumerate(options):
            spec = mark("tab", option, state={"selected": i == active})
            on = "weui-bar__item_on" if i == active else ""
            parts.append(
                f'<div class="weui-navbar__item {on}"{spec}>{escape(option)}</div>'
            )
        style = "position:relative;top:0;margin:8px 0"
        return f'<div class="weui-navbar" style="{style}">{"".join(parts)}</div>'

    def chip(
        self, text: str, on: bool = False, icon: str = "", close: bool = False
    ) -> str:
        spec = mark("button", text, state={"selected": on})
        cls = "weui-btn_primary" if on else "weui-btn_default"
        return (
            f'<a class="weui-btn weui-btn_mini {cls}" '
            f'style="margin:0"{spec}>{escape(text)}</a>'
        )

    def slider(self, label: str, value: int) -> str:
        """A range from 0 to 100."""
        spec = mark(
            "slider",
            label,
            box=".weui-slider__inner, .weui-slider__handler",
            state=state_of(value=value),
        )
        return (
            f'<div class="weui-slider"{spec}><div class="weui-slider__inner">'
            f'<div class="weui-slider__track" style="width:{value}%"></div>'
            '<div class="weui-slider__handler" '
            f'style="left:{value}%"></div></div></div>'
        )

    def searchbar(
        self, placeholder: str, value: str = "", focused: bool = False
    ) -> str:
        """A search field on a line of its own."""
        state = state_of(value=value, focused=focused)
        spec = mark("input", placeholder or "Search", "search", state=state, text=value)
        return (
            f'<div class="weui-search-bar weui-search-bar_focusing"><form '
            f'class="weui-search-bar__form"{spec}><div class="weui-search-bar__box">'
            f'<i class="weui-icon-search"></i><input type="search" '
            f'class="weui-search-bar__input" value="{escape(value)}" '
            f'placeholder="{escape(placeholder)}"></div></form></div>'
        )

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A raised box; `spec` makes it tappable."""
        return f'<div class="x-card" style="border-radius:8px;{css}"{spec}>{body}</div>'
