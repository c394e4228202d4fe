"""Vant, a shop-like look from China, as static markup."""

from collections.abc import Sequence
from html import escape

from .kit_vant_base import VantBase
from .kits import Bars, Field, Nav, Row, mark, state_of, tag


class Vant(VantBase):
    """Vant's own class names; ticks come from its icon font."""

    name, theme = "vant", "ios"

    # -- bars ------------------------------------------------------------------

    def _header(self, title: str, bars: Bars) -> str:
        start, back = self._buttons(bars.left), bars.back
        if back is not None:
            spec = mark("button", back or "Back", "back", box="ink")
            start = (
                f'<a class="x-iconbtn" style="gap:4px"{spec}>{self.icon("back", 18)}'
                f"{tag('span', back)}</a>"
            )
        # A centred title may not reach under the wider of the two groups.
        left = 48 + 9 * len(back) if back is not None else self._width(bars.left)
        room = self.look.width - 2 * max(left, self._width(bars.right), 40)
        name = f'<div class="x-one">{escape(title)}</div>' if title else ""
        if bars.subtitle:
            name = (
                f'<div style="line-height:20px">{name}<div class="x-s x-one" '
                f'style="font-weight:400">{escape(bars.subtitle)}</div></div>'
            )
        cls, style = "van-nav-bar van-hairline--bottom", ""
        if self._bit(0) and not self.look.dark:
            cls += " w-filled"
            style = (
                "--van-nav-bar-background:var(--van-primary-color);"
                "--van-nav-bar-title-text-color:#fff;"
            )
        return (
            f'<div class="{cls}" style="{style}flex-shrink:0;padding-top:var(--top)">'
            f'<div class="van-nav-bar__content"><div class="van-nav-bar__left" '
            f'style="gap:16px">{start}</div><div class="van-nav-bar__title" '
            f'style="max-width:{room}px">{name}</div><div class="van-nav-bar__right" '
            f'style="gap:16px">{self._buttons(bars.right)}</div></div></div>'
        )

    @staticmethod
    def _width(items: Sequence[Nav]) -> int:
        """How wide a group of navigation buttons is, about."""
        return 24 + sum(37 if icon else 16 + 9 * len(label) for label, icon in items)

    def _tabs(self, bars: Bars) -> str:
        keys = []
        for i, (label, icon) in enumerate(bars.tabs):
            on = i == bars.active
            spec = mark("tab", label, icon, box="ink", state={"selected": on})
            glyph = self.icon(icon, 22) if icon else ""
            glyph = glyph and f'<div class="van-tabbar-item__icon">{glyph}</div>'
            keys.append(
                f'<div class="van-tabbar-item{" van-tabbar-item--active" * on}"{spec}>'
                f'{glyph}<div class="van-tabbar-item__text">{label}</div></div>'
            )
        return self._foot("".join(keys))

    def _tools(self, tools: Sequence[Nav]) -> str:
        style = "align-items:center;justify-content:space-around;"
        return self._foot(self._buttons(tools), style) if tools else ""

    @staticmethod
    def _foot(keys: str, style: str = "") -> str:
        return (
            '<div class="van-tabbar van-hairline--top-bottom" style="flex-shrink:0;'
            f'padding-bottom:var(--bottom);{style}">{keys}</div>'
        )

    def round_button(self, icon: str, label: str, size: int = 48) -> str:
        """Vant's floating bubble, where it is put."""
        if not self.has_icon(icon):
            return ""
        style = f"position:static;flex:none;width:{size}px;height:{size}px"
        spec = mark("button", label, icon)
        return (
            f'<div class="van-floating-bubble" style="{style}"{spec}>'
            f"{self.icon(icon, size // 2)}</div>"
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
        more = " van-cell-group__title--inset" if inset else ""
        head = tag(f'div class="van-cell-group__title{more}"', header)
        foot = f'<div class="x-pad x-s">{escape(footer)}</div>' if footer else ""
        cls = "van-cell-group--inset" if inset else "van-hairline--top-bottom"
        gap = "margin-bottom:12px" if header else "margin-bottom:12px;margin-top:12px"
        return (
            f'{head}<div class="van-cell-group {cls}" style="{gap}">{"".join(rows)}'
            f"</div>{foot}"
        )

    def row(self, row: Row) -> str:
        """One row. A row with a control is not itself a button."""
        words = tag(f'div class="{"van-ellipsis" if row.text else ""}"', row.title)
        words += tag('div class="van-cell__label van-ellipsis"', row.subtitle)
        words += tag('div class="van-cell__label x-two"', row.text)
        tail = tag("span", row.after)
        tail += self.badge(row.badge) if row.badge else ""
        tail += row.control
        return self._cell(words, row.lead + row.media, tail, row.mark(), row.chevron)

    def _cell(
        self, words: str, front: str, tail: str, spec: str, arrow: bool = False
    ) -> str:
        """One cell with up to three parts and an arrow."""
        front = front and (
            '<div class="van-cell__left-icon x-line" style="height:auto;'
            f'margin-right:12px">{front}</div>'
        )
        tail = tail and (
            '<div class="van-cell__value x-line" style="flex:none;max-width:60%;'
            f'gap:8px;overflow:visible">{tail}</div>'
        )
        cls = "van-cell van-cell--center" + " van-cell--clickable" * bool(spec)
        cls += " van-cell--large" if self._bit(1) else ""
        return (
            f'<div class="{cls}"{spec}>{front}<div class="van-cell__title" '
            f'style="min-width:0">{words}</div>{tail}{self._arrow() if arrow else ""}'
            "</div>"
        )

    def _arrow(self) -> str:
        glyph = self.icon("chevron-right", 14)
        return f'<div class="van-cell__right-icon x-line">{glyph}</div>'

    def badge(self, text: str, color: str = "") -> str:
        style = f' style="background:{color}"' if color else ""
        return f'<span class="van-badge"{style}>{escape(text)}</span>'

    # -- controls --------------------------------------------------------------

    def switch(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark("switch", label, state=state_of(checked=on, disabled=disabled))
        cls = "van-switch" + " van-switch--on" * on + " van-switch--disabled" * disabled
        style = "flex-shrink:0" + ";font-size:22px" * self._bit(2)
        return (
            f'<div class="{cls}" style="{style}"{spec}><div class="van-switch__node">'
            "</div></div>"
        )

    def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
        shape = "van-checkbox__icon--round" if self._bit(1) else ""
        state = state_of(checked=on, disabled=disabled)
        spec = mark("checkbox", label, box=".van-icon", state=state)
        return self._check("checkbox", shape, on, disabled, spec)

    def radio(self, label: str, on: bool) -> str:
        dot = self._bit(2)
        box = ".van-radio__icon--dot" if dot else ".van-icon"
        shape = f"van-radio__icon--{'dot' if dot else 'round'}"
        spec = mark("radio", label, box=box, state=state_of(checked=on))
        return self._check("radio", shape, on, False, spec)

    @staticmethod
    def _check(kind: str, shape: str, on: bool, disabled: bool, spec: str) -> str:
        cls = f"van-{kind}__icon {shape}"
        cls += f" van-{kind}__icon--checked" if on else ""
        cls += f" van-{kind}__icon--disabled" if disabled else ""
        mark_ = '<i class="van-icon van-icon-success"></i>'
        if shape.endswith("dot"):
            mark_ = f'<div class="{shape}__icon"></div>'
        return (
            f'<div class="van-{kind}" style="flex:none"{spec}><div class="{cls}">'
            f"{mark_}</div></div>"
        )

    def field(self, field: Field) -> str:
        """A labelled text field, as one row of a list."""
        spec = mark("input", field.label, **field.meaning())
        name = "" if field.hide_label else field.label
        box = f'<input class="van-field__control" {field.attributes()}{spec}>'
        beside = not (name and self._bit(3))  # a name on top leaves no place
        front = self.icon(field.icon, 18) if field.icon and beside else ""
        front = front and (
            '<div class="van-field__left-icon x-line" style="margin-right:10px">'
            f"{front}</div>"
        )
        return self._field(name, front, box, field.disabled)

    def _field(self, name: str, front: str, box: str, off: bool, more: str = "") -> str:
        """A cell with a name beside or over something to fill in."""
        top = " van-field__label--top" if self._bit(3) and not more else ""
        name = tag(f'div class="van-cell__title van-field__label{top}"', name)
        cls = "van-cell van-field" + " van-field--disabled" * off
        cls += " van-cell--large" if self._bit(1) else ""
        return (
            f'<div class="{cls}">{front}{name}<div class="van-cell__value '
            f'van-field__value"><div class="van-field__body">{box}</div></div>{more}'
            "</div>"
        )

    def select(self, label: str, value: str, options: list[str]) -> str:
        """A field that opens a picker: the chosen text and an arrow."""
        state = state_of(value=value)
        box = ".van-field__value, .svg-glyph"
        spec = mark("select", label, state=state, text=value, box=box)
        value = f'<input class="van-field__control" readonly value="{escape(value)}">'
        cell = self._field(label, "", value, False, self._arrow())
        return cell.replace("<div", f"<div{spec}", 1)

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
        kinds = {"fill": "primary", "outline": "primary van-button--plain"}
        cls = f"van-button van-button--{kinds.get(style, 'default')}"
        cls += " van-button--" + ("small" if small else "large" if large else "normal")
        cls += "" if small else " van-button--block"
        cls += " van-button--round" if round_ else ""
        cls += " van-button--disabled" if disabled else ""
        css += ";flex-shrink:0" if small else ""
        if style == "plain":
            css += ";border:0;background:none;color:var(--van-primary-color)"
        glyph = self.icon(icon, 18) if icon else ""
        spec = mark(
            "button",
            icon=icon if glyph else "",
            box="ink" if style == "plain" else "",
            state=state_of(disabled=disabled),
        )
        glyph = glyph and f'<div class="van-button__icon x-line">{glyph}</div>'
        return (
            f'<button class="{cls}" style="{css}"{spec}><div '
            f'class="van-button__content">{glyph}<span class="van-button__text">'
            f"{escape(text)}</span></div></button>"
        )

    def segmented(self, options: list[str], active: int) -> str:
        """Tabs, with a line under the chosen one or as a strip of boxes."""
        kind, parts = ("card", "line")[sum(map(ord, options[0])) % 2], []
        for i, option in enumerate(options):
            spec = mark("tab", option, state={"selected": i == active})
            on = "van-tab--active" if i == active else ""
            parts.append(
                f'<div class="van-tab van-tab--{kind} {on}"{spec}><span '
                f'class="van-tab__text">{escape(option)}</span></div>'
            )
        if kind == "line":
            at = 100 * (active + 0.5) / len(options)
            parts.append(
                '<div class="van-tabs__line" '
                f'style="left:{at:.2f}%;transform:translateX(-50%)"></div>'
            )
        return (
            f'<div class="van-tabs van-tabs--{kind}" style="margin:12px 0"><div '
            f'class="van-tabs__wrap"><div class="van-tabs__nav van-tabs__nav--{kind}">'
            f"{''.join(parts)}</div></div></div>"
        )

    def chip(
        self, text: str, on: bool = False, icon: str = "", close: bool = False
    ) -> str:
        """Vant has no chips: a small button, chosen or not."""
        style = "fill" if on else "tonal"
        css = "padding:0 14px"
        return self.button(text, style, small=True, round_=self._bit(3), css=css)

    def slider(self, label: str, value: int) -> str:
        """A range from 0 to 100."""
        box = ".van-slider, .van-slider__button"
        spec = mark("slider", label, box=box, state=state_of(value=value))
        return (
            f'<div style="padding:12px"><div class="van-slider"{spec}><div '
            f'class="van-slider__bar" style="width:{value}%"><div '
            'class="van-slider__button-wrapper van-slider__button-wrapper--right">'
            '<div class="van-slider__button"></div></div></div></div></div>'
        )

    def stepper(self, label: str, value: int) -> str:
        """Minus, number, plus."""
        less = mark("button", f"Decrease {label}", "minus")
        more = mark("button", f"Increase {label}", "add")
        text = str(value)
        spec = mark("input", label, state=state_of(value=text), text=text)
        off = "" if value else " van-stepper__minus--disabled"
        cls = "van-stepper van-stepper--round" if self._bit(2) else "van-stepper"
        return (
            f'<div class="{cls}" style="white-space:nowrap"><button '
            f'class="van-stepper__minus{off}"{less}></button>'
            f'<input type="text" class="van-stepper__input" value="{text}"{spec}>'
            f'<button class="van-stepper__plus"{more}></button></div>'
        )

    def searchbar(
        self, placeholder: str, value: str = "", focused: bool = False
    ) -> str:
        """A search field on a line of its own."""
        state = state_of(value=value, focused=focused)
        spec = mark("input", placeholder or "Search", "search", state=state, text=value)
        shape = "van-search__content--round" if self._bit(2) else ""
        icon = self.icon("search", 16)
        box = (
            '<input type="search" class="van-field__control" '
            f'value="{escape(value)}" placeholder="{escape(placeholder)}">'
        )
        return (
            f'<div class="van-search"><div class="van-search__content {shape}"{spec}>'
            '<div class="van-cell van-cell--borderless van-field van-search__field">'
            f'<div class="van-field__left-icon x-line">{icon}</div><div '
            'class="van-cell__value van-field__value"><div class="van-field__body">'
            f"{box}</div></div></div></div></div>"
        )

    def progress(self, fraction: float) -> str:
        return (
            '<div class="van-progress"><span class="van-progress__portion" '
            f'style="transform:scaleX({fraction:.2f})"></span></div>'
        )

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A raised box; `spec` makes it tappable."""
        return f'<div class="x-card" style="border-radius:8px;{css}"{spec}>{body}</div>'
