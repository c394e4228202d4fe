"""Onsen UI's CSS components in their iOS and Material looks."""

from collections.abc import Sequence
from html import escape

from .kit_onsen_base import DARK, LIGHT, OnsenBase
from .kits import Bars, Field, Kit, Nav, Row, flag, mark, state_of, tag


class Onsen(OnsenBase):
    """Static markup: Onsen's components need only its classes."""

    # -- page ------------------------------------------------------------------

    def pane(self, title: str, body: str, bars: Bars) -> str:
        """Bars around `body`, as wide and high as what holds them."""
        head = "" if bars.bare else self._header(title, bars)
        foot = self._tabs(bars) if bars.tabs else self._tools(bars.tools)
        pad = "padding-top:calc(var(--top) + 8px);" if bars.bare else ""
        pad += "padding-bottom:90px;" if bars.footer else "padding-bottom:24px;"
        if bars.large and self.theme == "ios":
            body = f'<div class="x-pad x-h1">{escape(title)}</div>{body}'
        float_ = self._fab(*bars.fab, above=56 if foot else 0) if bars.fab else ""
        return (
            f'<div class="{self.cls("page")}" style="display:flex;'
            f'flex-direction:column">{head}<div class="{self.cls("page__content")}" '
            'data-scroll style="position:relative;flex:1;min-height:0;overflow:auto;'
            f'background:none;{pad}">{body}</div>{foot}{float_}{bars.footer}</div>'
        )

    def _buttons(self, items: Sequence[Nav]) -> str:
        out = []
        for label, icon in items:
            glyph = self.icon(icon, 24) if icon else ""
            if icon and not glyph:
                continue
            spec = mark("button", label, icon, box="ink")
            words = "" if glyph else escape(label)
            size = "" if glyph or self.theme == "ios" else "font-size:16px;"
            out.append(
                f'<span class="{self.cls("toolbar-button")}" style="display:inline-flex'
                f";align-items:center;height:100%;box-sizing:border-box;{size}"
                f'vertical-align:top"{spec}>{glyph}{words}</span>'
            )
        return "".join(out)

    def _header(self, title: str, bars: Bars) -> str:
        start, back = self._buttons(bars.left), bars.back
        if back is not None:
            words = back if self.theme == "ios" else ""
            spec = mark("button", words or "Back", "back", box="ink")
            icon = self.cls("back-button__icon")
            label = f'span class="{self.cls("back-button__label")}"'
            start = (
                f'<span class="{self.cls("back-button")}" style="white-space:nowrap"'
                f'{spec}><span class="{icon}">{self.icon("back", 24)}</span>'
                f"{tag(label, words)}</span>"
            )
        name = "" if bars.large and self.theme == "ios" else escape(title)
        if bars.subtitle:
            name = (
                f'<div style="line-height:20px;padding-top:{self._bar() // 2 - 19}px">'
                f'{name}</div><div class="x-s x-one">{escape(bars.subtitle)}</div>'
            )
        side = "width:auto;max-width:none;flex-shrink:0;"
        side += "min-width:27%" if self.theme == "ios" else ""
        middle = "flex:1;min-width:0;width:auto;overflow:hidden;text-overflow:ellipsis"
        return (
            f'<div class="{self.cls("toolbar")}" style="flex-shrink:0;padding-top:'
            f'var(--top);height:calc({self._bar()}px + var(--top))">'
            f'<div class="{self.cls("toolbar__left")}" style="{side}">{start}</div>'
            f'<div class="{self.cls("toolbar__center")}" style="{middle}">{name}</div>'
            f'<div class="{self.cls("toolbar__right")}" style="{side}">'
            f"{self._buttons(bars.right)}</div></div>"
        )

    def _tabs(self, bars: Bars) -> str:
        keys = []
        for i, (label, icon) in enumerate(bars.tabs):
            on = i == bars.active
            spec = mark("tab", label, icon, box="ink", state={"selected": on})
            glyph = self.icon(icon, 24) if icon else ""
            if glyph:
                glyph = (
                    f'<div class="{self.cls("tabbar__icon")}"><div class="x-center">'
                    f"{glyph}</div></div>"
                )
            keys.append(
                f'<div class="{self.cls("tabbar__item")}" style="min-width:0"{spec}>'
                f'<input type="radio" {flag("checked", on)}><button '
                f'class="{self.cls("tabbar__button")}">{glyph}<div '
                f'class="{self.cls("tabbar__label")}">{label}</div></button></div>'
            )
        return (
            f'<div class="{self.cls("tabbar")}" style="position:relative;flex-shrink:0;'
            f'padding-bottom:var(--bottom)">{"".join(keys)}</div>'
        )

    def _tools(self, tools: Sequence[Nav]) -> str:
        if not tools:
            return ""
        return (
            '<div class="bottom-bar bottom-bar--aligned" style="position:relative;'
            "flex-shrink:0;justify-content:space-around;padding-bottom:var(--bottom);"
            f'box-sizing:content-box">{self._buttons(tools)}</div>'
        )

    def _fab(self, label: str, icon: str, above: int) -> str:
        at = f"bottom:calc(var(--bottom) + {above + 20}px)"
        return (
            f'<button class="{self.cls("fab")} fab--bottom__right" data-over '
            f'style="{at}"{mark("button", label, icon)}><span class="x-center">'
            f"{self.icon(icon, 25)}</span></button>"
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
        above = first = ""
        if header and self.c.chance(0.4):
            first = f'<li class="{self.cls("list-header")}">{escape(header)}</li>'
        elif header:
            above = f'<div class="{self.cls("list-title")}">{escape(header)}</div>'
        foot = f'<div class="x-pad x-s">{escape(footer)}</div>' if footer else ""
        cls = self.cls("list") + (" list--inset" if inset else "")
        gap = "margin-top:8px" if not above else "margin-top:0"
        return (
            f'{above}<ul class="{cls}" style="{gap};margin-bottom:12px">{first}'
            f"{''.join(rows)}</ul>{foot}"
        )

    def row(self, row: Row) -> str:
        """One row. A row with a control is not itself a button."""
        one = " x-one" if row.text else ""
        words = escape(row.title)
        if row.subtitle or row.text:
            sub = self.cls("list-item__subtitle")
            title = self.cls("list-item__title") + one
            words = f'<div class="{title}">{words}</div>'
            words += tag(f'div class="{sub}{one}"', row.subtitle)
            words += tag(f'div class="{sub} x-two"', row.text)
        tail = tag('div class="list-item__label x-nowrap"', row.after)
        if row.badge:
            tail += self.badge(row.badge)
        tail += row.control
        arrow = row.chevron and self.theme == "ios"
        return self._item(words, row.lead + row.media, tail, row.mark(), arrow)

    def badge(self, text: str, color: str = "") -> str:
        style = "font-size:13px" + (f";background:{color}" if color else "")
        cls = self.cls("notification")
        return f'<span class="{cls}" style="{style}">{escape(text)}</span>'

    # -- controls --------------------------------------------------------------

    def switch(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark(
            "switch",
            label,
            box=".switch__toggle, .switch__handle",
            state=state_of(checked=on, disabled=disabled),
        )
        flags = flag("checked", on) + flag("disabled", disabled)
        return (
            f'<label class="{self.cls("switch")}"{spec}><input type="checkbox" '
            f'class="{self.cls("switch__input")}" {flags}><div '
            f'class="{self.cls("switch__toggle")}"><div '
            f'class="{self.cls("switch__handle")}"></div></div></label>'
        )

    def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
        state = state_of(checked=on, disabled=disabled)
        spec = mark("checkbox", label, box=".checkbox__checkmark", state=state)
        flags = flag("checked", on) + flag("disabled", disabled)
        return self._check("checkbox", "checkbox", flags, spec)

    def radio(self, label: str, on: bool) -> str:
        """iOS draws only the chosen one, so only that one is an element there."""
        box = ".x-tick" if self.theme == "ios" else ".radio-button__checkmark"
        spec = mark("radio", label, box=box, state=state_of(checked=on))
        spec = "" if self.theme == "ios" and not on else spec
        return self._check("radio-button", "radio", flag("checked", on), spec)

    def _check(self, block: str, kind: str, flags: str, spec: str) -> str:
        return (
            f'<label class="{self.cls(block)}"{spec}><input type="{kind}" '
            f'class="{self.cls(f"{block}__input")}" {flags}><div '
            f'class="{self.cls(f"{block}__checkmark")}"><span class="x-tick"></span>'
            "</div></label>"
        )

    def field(self, field: Field) -> str:
        """A labelled text field, as one row of a list; Material's label floats."""
        front = self.icon(field.icon, 22) if field.icon else ""
        label, given = "", field.attributes()
        if self.theme == "ios":
            if not field.hide_label:
                front += f'<span style="width:104px">{escape(field.label)}</span>'
        elif not field.hide_label:
            up = field.value or field.focused
            cls = "text-input--material__label"
            cls += f" {cls}--active" if up else ""
            label = f'<span class="{cls}">{escape(field.label)}</span>'
            if not up:
                given = given.replace(
                    f'placeholder="{escape(field.placeholder)}"', 'placeholder=""'
                )
        line = ""
        if field.focused and self.theme == "md":
            color = "var(--material-text-input-active-color)"
            line = f";background-image:linear-gradient({color},{color})"
        spec = mark("input", field.label, box="input", **field.meaning())
        room = "padding-top:10px" if label else ""
        words = (
            f'<div style="width:100%;{room}"{spec}><div style="position:relative">'
            f'<input class="{self.cls("text-input")}" style="width:100%{line}" {given}>'
            f"{label}</div></div>"
        )
        return self._item(words, front, "", "")

    def select(self, label: str, value: str, options: list[str]) -> str:
        """A labelled drop-down, as one row of a list."""
        spec = mark("select", label, state=state_of(value=value), text=value)
        box = (
            f'<select class="{self.cls("select-input")}" style="max-width:200px"{spec}>'
            f"{self.options(value, options)}</select>"
        )
        return self._item(escape(label), "", box, "")

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
        css = f"display:{'inline-flex' if small else 'flex'};{css}"
        if self.theme == "ios":
            kinds = {"fill": "", "tonal": "--cta", "outline": "--outline"}
            kind = kinds.get(style, "--quiet")
            cls = f"button button{kind}" if kind else "button"
            cls += "" if small else " button--large"
            css += ";font-size:14px;line-height:24px" if small else ""
        else:
            flat = style in ("outline", "plain")
            cls = "button button--material" + ("--flat" if flat else "")
            css += ";border:1px solid" if style == "outline" else ""
            css += ";background:var(--second-highlight-color)" * (style == "tonal")
            css += "" if small else ";width:100%"
        css += ";border-radius:24px" if round_ else ""
        glyph = self.icon(icon, 18) if icon else ""
        spec = mark(
            "button",
            icon=icon if glyph else "",
            box="ink" if style == "plain" else "",
            state=state_of(disabled=disabled),
        )
        return (
            f'<button class="{cls}" style="justify-content:center;align-items:center;'
            f'gap:8px;{css}" {flag("disabled", disabled)}{spec}>{glyph}<span>'
            f"{escape(text)}</span></button>"
        )

    def segmented(self, options: list[str], active: int) -> str:
        """A few choices in one strip."""
        parts = []
        for i, option in enumerate(options):
            spec = mark("tab", option, state={"selected": i == active})
            parts.append(
                f'<div class="{self.cls("segment__item")}"{spec}><input type="radio" '
                f'class="{self.cls("segment__input")}" {flag("checked", i == active)}>'
                f'<div class="{self.cls("segment__button")}" style="white-space:nowrap"'
                f">{escape(option)}</div></div>"
            )
        strip = f'<div class="{self.cls("segment")}" style="width:100%">'
        return f'<div class="x-pad">{strip}{"".join(parts)}</div></div>'

    def chip(
        self, text: str, on: bool = False, icon: str = "", close: bool = False
    ) -> str:
        """Onsen has no chips: a small round button."""
        style = "fill" if on else "outline"
        return self.button(text, style, small=True, round_=True, css="margin:1px")

    def stepper(self, label: str, value: int) -> str:
        """Onsen has no stepper: two small buttons about a number."""
        keys = []
        for word, icon in (("Decrease", "minus"), ("Increase", "add")):
            spec = mark("button", f"{word} {label}", icon)
            keys.append(
                '<button class="button button--outline" style="display:flex;'
                'padding:6px"'
                f"{spec}>{self.icon(icon, 16)}</button>"
            )
        return self.line(keys[0], f'<span class="x-p">{value}</span>', keys[1])

    def slider(self, label: str, value: int) -> str:
        """A range from 0 to 100."""
        spec = mark("slider", label, box=".x-rail", state=state_of(value=value))
        zero = "" if value else "_zero"
        return (
            f'<div class="{self.cls("range")}" style="width:100%"{spec}><span '
            f'class="x-rail"></span><input type="range" value="{value}" {zero} '
            f'class="{self.cls("range__input")}" style="background-size:{value}% 2px">'
            "</div>"
        )

    def searchbar(
        self, placeholder: str, value: str = "", focused: bool = False
    ) -> str:
        """A search field on a line of its own."""
        state = state_of(value=value, focused=focused)
        spec = mark("input", placeholder or "Search", "search", state=state, text=value)
        return (
            f'<div class="x-pad"><input type="search" class="{self.cls("search-input")}'
            f'" style="width:100%" value="{escape(value)}" '
            f'placeholder="{escape(placeholder)}"{spec}></div>'
        )

    def progress(self, fraction: float) -> str:
        first = self.cls("progress-bar__primary")
        return (
            f'<div class="{self.cls("progress-bar")}" style="background:var(--fill)">'
            f'<div class="{first}" style="width:{fraction * 100:.0f}%"></div></div>'
        )

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A raised box; `spec` makes it tappable."""
        return (
            f'<div class="{self.cls("card")}" style="margin:0;{css}"{spec}>{body}</div>'
        )


class OnsenIOS(Onsen):
    name, theme, icon_set = "onsen-ios", "ios", "ionicons"

    def glyph(self, glyph: str, style: str, spec: str) -> str:
        path = f"ionicons/dist/svg/{glyph}.svg"
        return (
            f'<span class="svg-glyph" data-glyph="{path}" style="{style}"{spec}></span>'
        )


class OnsenMD(Onsen):
    name, theme, icon_set = "onsen-md", "md", "material"
    styles = (LIGHT, DARK, "material-icons/iconfont/material-icons.css")
    icon_fonts = ("Material Icons",)
    fonts = ("Roboto Variable",)

    glyph = Kit.glyph
