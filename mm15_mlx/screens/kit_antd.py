"""Ant Design Mobile: the markup its React components would render."""

from html import escape

from .kit_antd_frame import INK, AntdFrame
from .kits import Field, Row, mark, state_of, tag

TICK = (
    '<svg viewBox="0 0 40 40"><path d="M11 20.5l7.5 6.5L30 16.5" fill="none" '
    'stroke="currentColor" stroke-width="3" stroke-linecap="round" '
    'stroke-linejoin="round"></path></svg>'
)
CORNER = (
    '<div class="adm-selector-check-mark-wrapper"><svg viewBox="0 0 8 6"><path '
    'd="M1 3l2 2 4-4" fill="none" stroke="#fff"></path></svg></div>'
)
GRIP = (
    '<svg class="adm-slider-thumb-icon" viewBox="0 0 24 24" fill="currentColor">'
    '<rect y="4" width="4" height="16" rx="2"></rect>'
    '<rect x="10" width="4" height="24" rx="2"></rect>'
    '<rect x="20" y="4" width="4" height="16" rx="2"></rect></svg>'
)


class AntdMobile(AntdFrame):
    """Lists and controls of Ant Design Mobile."""

    # -- lists -----------------------------------------------------------------

    def group(
        self,
        rows: list[str],
        header: str = "",
        footer: str = "",
        inset: bool = False,
        media: bool = False,
    ) -> str:
        """A group of rows, as a form when they are fields."""
        head = tag('div class="adm-list-header"', header)
        foot = tag('div class="x-pad x-s" style="margin:8px 0"', footer)
        cls = "adm-list-card" if inset else "adm-list-default"
        items = "".join(rows)
        space = "" if inset else "margin-bottom:10px"
        group = (
            f'<div class="adm-list {cls}" style="{space}">{head}<div '
            f'class="adm-list-body"><div class="adm-list-body-inner">{items}</div>'
            "</div></div>"
        )
        if "adm-form-item" in items:
            group = f'<div class="adm-form adm-form-horizontal">{group}</div>'
        return group + foot

    def row(self, row: Row) -> str:
        """One row. A row with a control is not itself a button."""
        front = ""
        if row.lead or row.media:
            front = (
                '<div class="adm-list-item-content-prefix"><div class="x-line">'
                f"{row.lead}{row.media}</div></div>"
            )
        one = "x-one" if row.tap else ""
        words = tag(f'div class="{one}"', row.title)
        words += tag(f'div class="adm-list-item-description {one}"', row.subtitle)
        words += tag('div class="adm-list-item-description x-two"', row.text)
        tail = tag("span", row.after)
        tail += self.badge(row.badge) if row.badge else ""
        tail += row.control
        if tail:
            tail = (
                '<div class="adm-list-item-content-extra"><div class="x-line" '
                f'style="gap:8px">{tail}</div></div>'
            )
        return self._item(front, words, tail, row.chevron, row.mark())

    def _item(
        self, front: str, main: str, tail: str, arrow: bool, spec: str, cls: str = ""
    ) -> str:
        """The frame of a list item."""
        if arrow:
            glyph = self.icon("chevron-right", 16, "inherit")
            tail += f'<div class="adm-list-item-content-arrow">{glyph}</div>'
        return (
            f'<div class="adm-list-item {cls}"{spec}><div '
            f'class="adm-list-item-content">{front}<div '
            f'class="adm-list-item-content-main" style="min-width:0">{main}</div>'
            f"{tail}</div></div>"
        )

    def badge(self, text: str, color: str = "") -> str:
        style = f' style="--color:{color}"' if color else ""
        return (
            f'<span class="adm-badge"{style}><span class="adm-badge-content">'
            f"{escape(text)}</span></span>"
        )

    # -- controls --------------------------------------------------------------

    def switch(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark("switch", label, state=state_of(checked=on, disabled=disabled))
        cls = self._state("adm-switch", on, disabled)
        return (
            f'<div class="{cls}" style="flex-shrink:0"{spec}><div '
            'class="adm-switch-checkbox"><div class="adm-switch-handle"></div>'
            '<div class="adm-switch-inner"></div></div></div>'
        )

    @staticmethod
    def _state(base: str, on: bool, disabled: bool) -> str:
        """The classes of a widget that can be on and off."""
        cls = f"{base} {base}-checked" if on else base
        return f"{cls} {base}-disabled" if disabled else cls

    def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
        return self._box("checkbox", label, on, disabled)

    def radio(self, label: str, on: bool) -> str:
        return self._box("radio", label, on, False)

    def _box(self, kind: str, label: str, on: bool, disabled: bool) -> str:
        state = state_of(checked=on, disabled=disabled)
        spec = mark(kind, label, box=f".adm-{kind}-icon", state=state)
        cls = self._state(f"adm-{kind}", on, disabled)
        tick = TICK if on else ""
        return (
            f'<label class="{cls}"{spec}><input type="{kind}">'
            f'<div class="adm-{kind}-icon">{tick}</div></label>'
        )

    def field(self, field: Field) -> str:
        """A labelled text field, as one item of a form."""
        meaning = field.meaning()
        # Only the caret, which is never drawn here, tells that a field has the focus.
        meaning["state"].pop("focused", None)
        spec = mark("input", field.label, **meaning)
        off = "adm-input-disabled" if field.disabled else ""
        entry = (
            f'<div class="adm-input {off}"><input class="adm-input-element" '
            f"{field.attributes()}{spec}></div>"
        )
        glyph = self.icon(field.icon, 20, "var(--muted)") if field.icon else ""
        return self._form_item("" if field.hide_label else field.label, entry, glyph)

    def _form_item(
        self,
        label: str,
        child: str,
        glyph: str = "",
        arrow: bool = False,
        spec: str = "",
    ) -> str:
        """A label before or above what it names."""
        name = tag('label class="adm-form-item-label"', label)
        above = bool(name) and self._one_of(3) == 0
        body = (
            '<div class="adm-form-item-child adm-form-item-child-position-normal">'
            f'<div class="adm-form-item-child-inner">{child}</div></div>'
        )
        front = f'<div class="x-line">{glyph}</div>' if glyph else ""
        width = "" if name and not above else "---prefix-width:auto"
        if above:
            body = name + body
        elif name:
            front = name
        if front:
            front = f'<div class="adm-list-item-content-prefix">{front}</div>'
        kind = "vertical" if above else "horizontal"
        item = self._item(
            front, body, "", arrow, spec, f"adm-form-item adm-form-item-{kind}"
        )
        return f'<div style="{width}">{item}</div>' if width else item

    def select(self, label: str, value: str, options: list[str]) -> str:
        """A form item that opens a picker and shows what was chosen."""
        box = ".adm-form-item-child-inner, .adm-list-item-content-arrow > *"
        spec = mark("select", label, box=box, state=state_of(value=value), text=value)
        child = f"<span>{escape(value)}</span>"
        return self._form_item(label, child, "", True, spec)

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
        tone = "default" if style == "tonal" else "primary"
        fill = {"outline": "outline", "plain": "none"}.get(style, "solid")
        shape = "rounded" if round_ else "default"
        cls = f"adm-button adm-button-{tone} adm-button-fill-{fill}"
        cls += f" adm-button-shape-{shape}"
        cls += " adm-button-small" if small else " adm-button-block"
        cls += " adm-button-large" if large else ""
        cls += " adm-button-disabled" if disabled else ""
        glyph = self.icon(icon, 18, "inherit") if icon else ""
        spec = mark(
            "button",
            icon=icon if glyph else "",
            box="ink" if style == "plain" else "",
            state=state_of(disabled=disabled),
        )
        return (
            f'<div class="{cls}" style="{css}"{spec}><span class="x-line" '
            f'style="justify-content:center;gap:6px">{glyph}<span>{escape(text)}'
            "</span></span></div>"
        )

    def segmented(self, options: list[str], active: int) -> str:
        """A segmented control or, on every other screen, tabs."""
        if self._one_of(2):
            return self._strip_of_tabs(options, active)
        parts = []
        for i, option in enumerate(options):
            spec = mark("tab", option, state={"selected": i == active})
            on = "adm-segmented-item-selected" if i == active else ""
            parts.append(
                f'<label class="adm-segmented-item {on}"{spec}><div '
                f'class="adm-segmented-item-label">{escape(option)}</div></label>'
            )
        return (
            '<div class="adm-strip" style="padding:8px 12px;margin-bottom:8px"><div '
            'class="adm-segmented adm-segmented-block"><div '
            f'class="adm-segmented-group">{"".join(parts)}</div></div></div>'
        )

    def _strip_of_tabs(self, options: list[str], active: int) -> str:
        parts = []
        for i, option in enumerate(options):
            spec = mark("tab", option, box="ink", state={"selected": i == active})
            on = "adm-tabs-tab-active" if i == active else ""
            line = '<div class="adm-tabs-tab-line" style="width:100%"></div>'
            parts.append(
                '<div class="adm-tabs-tab-wrapper adm-tabs-tab-wrapper-stretch"><div '
                f'class="adm-tabs-tab {on}"{spec}>{escape(option)}'
                f"{line if on else ''}</div></div>"
            )
        return (
            '<div class="adm-tabs adm-strip" style="margin-bottom:8px"><div '
            'class="adm-tabs-header"><div class="adm-tabs-tab-list">'
            f"{''.join(parts)}</div></div></div>"
        )

    def chip(
        self, text: str, on: bool = False, icon: str = "", close: bool = False
    ) -> str:
        """A selector's option or, on every other screen, a capsule tab."""
        spec = mark("button", text, state={"selected": on})
        if self._one_of(2):
            cls = "adm-capsule-tabs-tab-active" if on else ""
            return f'<div class="adm-capsule-tabs-tab {cls}"{spec}>{escape(text)}</div>'
        cls = "adm-selector-item-active" if on else ""
        return (
            f'<div class="adm-selector"><div class="adm-selector-item {cls}"{spec}>'
            f"{escape(text)}{CORNER if on else ''}</div></div>"
        )

    def slider(self, label: str, value: int) -> str:
        """A range from 0 to 100."""
        spec = mark(
            "slider",
            label,
            box=".adm-slider-track, .adm-slider-thumb",
            state=state_of(value=value),
        )
        return (
            f'<div class="adm-slider"{spec}><div class="adm-slider-track-container">'
            f'<div class="adm-slider-track"><div class="adm-slider-fill" '
            f'style="width:{value}%;left:0"></div><div '
            f'class="adm-slider-thumb-container" style="left:{value}%">'
            f'<div class="adm-slider-thumb">{GRIP}</div></div></div></div></div>'
        )

    def stepper(self, label: str, value: int) -> str:
        """Minus, number, plus."""
        keys = []
        for word, side, icon in (
            ("Decrease", "minus", "minus"),
            ("Increase", "plus", "add"),
        ):
            spec = mark("button", f"{word} {label}", icon)
            keys.append(
                "<div class="
                '"adm-button adm-button-primary adm-button-fill-none '
                f'adm-button-shape-rectangular adm-stepper-{side}"{spec}>'
                f"{self.icon(icon, 16, 'inherit')}</div>"
            )
        return (
            f'<div class="adm-stepper" style="flex-shrink:0">{keys[0]}<div '
            'class="adm-stepper-middle"><div class="adm-input adm-stepper-input">'
            f'<input class="adm-input-element" value="{value}"></div></div>'
            f"{keys[1]}</div>"
        )

    def searchbar(
        self, placeholder: str, value: str = "", focused: bool = False
    ) -> str:
        """A search field on a line of its own."""
        state = state_of(value=value, focused=focused)
        spec = mark("input", placeholder or "Search", "search", state=state, text=value)
        cancel = ""
        if focused:
            cancel = (
                '<div class="adm-search-bar-suffix"><div class="adm-button '
                "adm-button-default adm-button-fill-none adm-search-bar-cancel-button"
                f'"{INK}><span>Cancel</span></div></div>'
            )
        on = "adm-search-bar-active" if focused else ""
        return (
            f'<div class="adm-strip" style="padding:8px 12px;margin-bottom:8px"><div '
            f'class="adm-search-bar {on}"><div class="adm-search-bar-input-box"{spec}>'
            f'<div class="adm-search-bar-input-box-icon">{self.icon("search", 15)}'
            '</div><div class="adm-input adm-search-bar-input"><input type="search" '
            f'class="adm-input-element" value="{escape(value)}" '
            f'placeholder="{escape(placeholder)}"></div></div>{cancel}</div></div>'
        )

    def progress(self, fraction: float) -> str:
        return (
            '<div class="adm-progress-bar adm-progress-bar-rounded" '
            'style="--track-width:6px"><div class="adm-progress-bar-trail"><div '
            f'class="adm-progress-bar-fill" style="width:{fraction * 100:.0f}%">'
            "</div></div></div>"
        )

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A raised box; `spec` makes it tappable."""
        style = f"padding:12px;min-width:0;{css}"
        return f'<div class="adm-card" style="{style}"{spec}>{body}</div>'
