"""mdui 2, Material Design 3 in web components."""

from html import escape

from .kit_mdui_frame import MduiFrame
from .kits import Field, Row, flag, mark, state_of, tag


class Mdui(MduiFrame):
    """Lists and controls of mdui."""

    # -- lists -----------------------------------------------------------------

    def group(
        self,
        rows: list[str],
        header: str = "",
        footer: str = "",
        inset: bool = False,
        media: bool = False,
    ) -> str:
        """A group of rows, in a card when inset."""
        head = ""
        if header:
            head = (
                '<mdui-list-subheader style="height:40px;line-height:40px"><span>'
                f"{escape(header)}</span></mdui-list-subheader>"
            )
        foot = tag('div class="x-pad x-s" style="margin:4px 0 12px"', footer)
        fields = any("mdui-text-field" in row or "mdui-select" in row for row in rows)
        lined = self._one_of(3) == 0 and not (inset or fields)
        items = ("<mdui-divider></mdui-divider>" if lined else "").join(rows)
        body = f"<mdui-list>{items}</mdui-list>"
        if inset and not fields:
            body = (
                f'<mdui-card variant="{self._card_kind()}" style="display:block;'
                f'margin:4px 16px 12px">{body}</mdui-card>'
            )
        return f"{head}{body}{foot}"

    def _card_kind(self) -> str:
        return ("elevated", "outlined")[self._one_of(2)]

    def row(self, row: Row) -> str:
        """One row. A row with a control is not itself a button."""
        words = f'<div class="{"x-one" if row.tap else ""}">{escape(row.title)}</div>'
        about = tag('div class="x-one"', row.subtitle)
        about += tag('div class="x-two"', row.text)
        about = about and f'<div slot="description">{about}</div>'
        tail = tag('span style="font-size:12px"', row.after)
        tail += self.badge(row.badge) if row.badge else ""
        tail += row.control
        fixed = "" if row.mark() else "nonclickable"
        return (
            f"<mdui-list-item {fixed}{row.mark()}>"
            f"{self._slot('icon', row.lead + row.media)}{words}{about}"
            f"{self._slot('end-icon', tail)}</mdui-list-item>"
        )

    def badge(self, text: str, color: str = "") -> str:
        style = f' style="background:{color}"' if color else ""
        return f"<mdui-badge{style}><span>{escape(text)}</span></mdui-badge>"

    # -- controls --------------------------------------------------------------

    def switch(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark(
            "switch",
            label,
            box=".track",
            state=state_of(checked=on, disabled=disabled),
        )
        flags = flag("checked", on) + flag("disabled", disabled)
        return f"<mdui-switch {flags}{spec}></mdui-switch>"

    def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
        state = state_of(checked=on, disabled=disabled)
        spec = mark("checkbox", label, box="path", state=state)
        flags = flag("checked", on) + flag("disabled", disabled)
        return f'<mdui-checkbox style="margin:-8px" {flags}{spec}></mdui-checkbox>'

    def radio(self, label: str, on: bool) -> str:
        state = state_of(checked=on)
        spec = mark("radio", label, box="path", state=state)
        return (
            f'<mdui-radio style="margin:-8px" {flag("checked", on)}{spec}></mdui-radio>'
        )

    def _variant(self) -> str:
        return ("filled", "outlined")[self._one_of(2)]

    def field(self, field: Field) -> str:
        """A labelled text field in a box."""
        spec = mark("input", field.label, box=".container", **field.meaning())
        glyph = self._slot(
            "icon", self.icon(field.icon, 24, "inherit") if field.icon else ""
        )
        name = "" if field.hide_label else f'label="{escape(field.label)}"'
        focus = flag("focused-style", field.focused)
        return (
            f'<div style="padding:8px 16px"><mdui-text-field {name} {focus}'
            f'variant="{self._variant()}" {field.attributes()}{spec}>{glyph}'
            "</mdui-text-field></div>"
        )

    def select(self, label: str, value: str, options: list[str]) -> str:
        """A labelled drop-down in a box."""
        state = state_of(value=value)
        spec = mark("select", label, box=".container", state=state, text=value)
        items = "".join(
            f'<mdui-menu-item value="{escape(o)}">{escape(o)}</mdui-menu-item>'
            for o in options
        )
        return (
            f'<div style="padding:8px 16px"><mdui-select label="{escape(label)}" '
            f'variant="{self._variant()}" value="{escape(value)}"{spec}>{items}'
            "</mdui-select></div>"
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
        kinds = {"fill": "filled", "tonal": "tonal", "outline": "outlined"}
        glyph = self.icon(icon, 18, "inherit") if icon else ""
        spec = mark(
            "button",
            icon=icon if glyph else "",
            box="ink" if style == "plain" else "",
            state=state_of(disabled=disabled),
        )
        wide = "" if small else "full-width"
        high = "height:48px;" if large else "height:32px;" if small else ""
        return (
            f'<mdui-button variant="{kinds.get(style, "text")}" {wide} '
            f"{flag('disabled', disabled)}"
            f'style="{high}{css}"{spec}>{self._slot("icon", glyph)}'
            f"<span>{escape(text)}</span></mdui-button>"
        )

    def segmented(self, options: list[str], active: int) -> str:
        """Joined buttons or, on every other screen, tabs."""
        tabs = self._one_of(2)
        name = "mdui-tab" if tabs else "mdui-segmented-button"
        parts = []
        for i, option in enumerate(options):
            spec = mark(
                "tab",
                option,
                box="ink" if tabs else "",
                state={"selected": i == active},
            )
            parts.append(
                f'<{name} value="s{i}"{spec}><span>{escape(option)}</span></{name}>'
            )
        if tabs:
            return (
                f'<mdui-tabs value="s{active}" full-width>{"".join(parts)}</mdui-tabs>'
            )
        return (
            '<div class="x-pad"><mdui-segmented-button-group selects="single" '
            f'full-width value="s{active}">{"".join(parts)}'
            "</mdui-segmented-button-group></div>"
        )

    def chip(
        self, text: str, on: bool = False, icon: str = "", close: bool = False
    ) -> str:
        spec = mark("button", text, state={"selected": on})
        kind = "filter" if self._one_of(2) else "assist"
        return (
            f'<mdui-chip variant="{kind}" selectable {flag("selected", on)}{spec}>'
            f"<span>{escape(text)}</span></mdui-chip>"
        )

    def slider(self, label: str, value: int) -> str:
        """A range from 0 to 100."""
        box = ".track-inactive, .elevation"
        spec = mark("slider", label, box=box, state=state_of(value=value))
        return f'<mdui-slider nolabel value="{value}"{spec}></mdui-slider>'

    def stepper(self, label: str, value: int) -> str:
        """mdui has no stepper: two small buttons about a number."""
        kind = ("tonal", "outlined", "filled")[self._one_of(3)]
        keys = []
        for word, icon in (("Decrease", "minus"), ("Increase", "add")):
            spec = mark("button", f"{word} {label}", icon)
            keys.append(
                f'<mdui-button-icon variant="{kind}" style="width:32px;height:32px"'
                f"{spec}>{self.icon(icon, 18, 'inherit')}</mdui-button-icon>"
            )
        return self.line(keys[0], f'<span class="x-p">{value}</span>', keys[1])

    def searchbar(
        self, placeholder: str, value: str = "", focused: bool = False
    ) -> str:
        """A text field with a magnifier: mdui has no field of its own for this."""
        state = state_of(value=value, focused=focused)
        hint = placeholder or "Search"
        spec = mark("input", hint, "search", ".container", state=state, text=value)
        return (
            f'<div class="x-pad"><mdui-text-field variant="{self._variant()}" '
            f'type="search" value="{escape(value)}" placeholder="{escape(hint)}" '
            f"{flag('focused-style', focused)}{spec}>"
            f"{self._slot('icon', self.icon('search', 24, 'inherit'))}"
            "</mdui-text-field></div>"
        )

    def progress(self, fraction: float) -> str:
        return f'<mdui-linear-progress value="{fraction:.2f}"></mdui-linear-progress>'

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A raised box; `spec` makes it tappable."""
        style = f"display:block;padding:12px;min-width:0;{css}"
        return (
            f'<mdui-card variant="{self._card_kind()}" style="{style}"{spec}>{body}'
            "</mdui-card>"
        )
