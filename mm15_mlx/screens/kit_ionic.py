"""Ionic's web components in iOS and Material mode."""

from collections.abc import Sequence
from html import escape

from .kits import Bars, Field, Kit, Nav, Row, flag, mark, state_of, tag

SETUP = """
window.Ionic = { config: { mode: "%s", animated: false } };
window.applyLook = (shell) => {
  const root = document.documentElement;
  root.classList.toggle("ion-palette-dark", shell.classes.includes("dark"));
  root.setAttribute("mode", "%s");
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(shell.accent.slice(i, i + 2), 16));
  const vars = {
    "--ion-font-family": shell.font,
    "--ion-color-primary": shell.accent,
    "--ion-color-primary-rgb": `${r}, ${g}, ${b}`,
    "--ion-color-primary-contrast": "#ffffff",
    "--ion-color-primary-shade": shell.accent,
    "--ion-color-primary-tint": shell.accent,
  };
  for (const [name, value] of Object.entries(vars)) root.style.setProperty(name, value);
};
window.settle = async () => {
  await customElements.whenDefined("ion-app");
  const ready = (root) => Promise.all([...root.querySelectorAll("*")]
    .filter((el) => el.componentOnReady).map((el) => el.componentOnReady()));
  await ready(document.getElementById("app"));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
};
window.scrollers = () => Promise.all(
  [...document.querySelectorAll("ion-content")].map((c) => c.getScrollElement()));
"""


class Ionic(Kit):
    """Markup of @ionic/core 9. Shadow roots are read by annotate.js."""

    icon_set = "ionicons"
    styles = (
        "@ionic/core/css/ionic.bundle.css",
        "@ionic/core/css/palettes/dark.class.css",
    )
    modules = ("@ionic/core/dist/ionic/ionic.esm.js",)

    def glyph(self, glyph: str, style: str, spec: str) -> str:
        path = f"ionicons/dist/svg/{glyph}.svg"
        return (
            f'<span class="svg-glyph" data-glyph="{path}" style="{style}"{spec}></span>'
        )

    # -- page ------------------------------------------------------------------

    def pane(self, title: str, body: str, bars: Bars) -> str:
        """Bars around `body`, as wide and high as what holds them."""
        head = "" if bars.bare else self._header(title, bars)
        foot = self._tabs(bars) if bars.tabs else self._tools(bars.tools)
        pad = "padding-top:calc(var(--top) + 8px);" if bars.bare else ""
        pad += "padding-bottom:90px;" if bars.footer else "padding-bottom:24px;"
        float_ = ""
        if bars.fab:
            spec = mark("button", bars.fab[0], bars.fab[1], box="ion-fab-button")
            float_ = (
                f'<ion-fab slot="fixed" vertical="bottom" horizontal="end"{spec}>'
                f"<ion-fab-button>{self.icon(bars.fab[1], 24, '#fff')}"
                f"</ion-fab-button></ion-fab>"
            )
        return (
            f'<ion-app><div class="ion-page">{head}<ion-content>{float_}'
            "<div "
            f'style="{pad}">{body}</div></ion-content>{foot}{bars.footer}'
            "</div></ion-app>"
        )

    def _buttons(self, items: Sequence[Nav], slot: str) -> str:
        out = []
        for label, icon in items:
            if icon and self.has_icon(icon):
                spec = mark("button", label, icon, box="ink")
                out.append(f"<ion-button{spec}>{self.icon(icon, 24)}</ion-button>")
            elif label:
                out.append(
                    f"<ion-button{mark('button', box='ink')}>{label}</ion-button>"
                )
        return f'<ion-buttons slot="{slot}">{"".join(out)}</ion-buttons>' if out else ""

    def _header(self, title: str, bars: Bars) -> str:
        start, back = self._buttons(bars.left, "start"), bars.back
        if back is not None:
            words = escape(back) if self.theme == "ios" else ""
            spec = mark("button", words or "Back", "back", box="ink")
            start = (
                f'<ion-buttons slot="start"><ion-button{spec}>'
                f"{self.icon('back', 24)}{words}</ion-button></ion-buttons>"
            )
        name = escape(title) + tag('div class="x-s w-sub"', bars.subtitle)
        big = ""
        if bars.large and self.theme == "ios":
            big = (
                f'<ion-toolbar><ion-title size="large">{name}</ion-title></ion-toolbar>'
            )
            name = ""
        return (
            f"<ion-header><ion-toolbar>{start}<ion-title>{name}</ion-title>"
            f"{self._buttons(bars.right, 'end')}</ion-toolbar>{big}</ion-header>"
        )

    def _tabs(self, bars: Bars) -> str:
        tabs, active = bars.tabs, bars.active
        keys = []
        for i, (label, icon) in enumerate(tabs):
            spec = mark("tab", label, icon, box="ink", state={"selected": i == active})
            keys.append(
                f'<ion-tab-button tab="t{i}" {"selected" if i == active else ""} '
                f'layout="icon-top"{spec}>{self.icon(icon, 24) if icon else ""}'
                f"<ion-label>{label}</ion-label></ion-tab-button>"
            )
        return f'<ion-tab-bar selected-tab="t{active}">{"".join(keys)}</ion-tab-bar>'

    def _tools(self, tools: Sequence[Nav]) -> str:
        if not tools:
            return ""
        links = self._buttons(tools, "start").replace(
            "<ion-buttons", '<ion-buttons class="x-wide"'
        )
        return f"<ion-footer><ion-toolbar>{links}</ion-toolbar></ion-footer>"

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
        head = ""
        if header:
            head = (
                "<ion-list-header>"
                f"<ion-label>{escape(header)}</ion-label></ion-list-header>"
            )
        foot = f'<div class="x-pad x-s">{escape(footer)}</div>' if footer else ""
        lines = "full" if self.c.chance(0.3) else "inset"
        set_ = 'inset="true"' if inset else ""
        return (
            f'<ion-list lines="{lines}" {set_}>{head}{"".join(rows)}</ion-list>{foot}'
        )

    def row(self, row: Row) -> str:
        """One row. A row with a control is not itself a button."""
        words = tag("h2" if row.subtitle or row.text else "span", row.title)
        if row.text:
            words += tag('h3 class="x-one"', row.subtitle)
            words += tag('p class="x-two"', row.text)
        else:
            words += tag("p", row.subtitle)
        front = f'<div slot="start" class="x-line x-start">{row.lead}{row.media}</div>'
        front = front if row.lead or row.media else ""
        tail = tag('ion-note slot="end"', row.after)
        tail += tag('ion-badge slot="end" color="danger"', row.badge)
        if row.control:
            tail += f'<div slot="end" class="x-end">{row.control}</div>'
        if row.chevron and self.theme == "ios":
            tail += (
                f'<div slot="end" class="x-end">'
                f"{self.icon('chevron-right', 17, 'var(--muted)')}</div>"
            )
        return (
            f'<ion-item detail="false"{row.mark()}>{front}'
            f"<ion-label>{words}</ion-label>{tail}</ion-item>"
        )

    # -- controls --------------------------------------------------------------

    def switch(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark(
            "switch",
            label,
            box=".toggle-icon, .toggle-inner",
            state=state_of(checked=on, disabled=disabled),
        )
        return (
            f'<ion-toggle aria-label="{escape(label)}" {flag("checked", on)}'
            f"{flag('disabled', disabled)}{spec}></ion-toggle>"
        )

    def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark(
            "checkbox",
            label,
            box=".checkbox-icon",
            state=state_of(checked=on, disabled=disabled),
        )
        return (
            f'<ion-checkbox aria-label="{escape(label)}" {flag("checked", on)}'
            f"{flag('disabled', disabled)}{spec}></ion-checkbox>"
        )

    def radio(self, label: str, on: bool) -> str:
        """iOS draws only the chosen one, so only that one is an element there."""
        spec = mark("radio", label, box=".radio-icon", state=state_of(checked=on))
        if self.theme == "ios" and not on:
            spec = ""
        return (
            f'<ion-radio-group value="on"><ion-radio value="{"on" if on else "off"}" '
            f'aria-label="{escape(label)}"{spec}></ion-radio></ion-radio-group>'
        )

    def field(self, field: Field) -> str:
        """A labelled text field, as one row of a list."""
        shaped = self.theme == "md" and sum(map(ord, field.label)) % 3
        box = ".input-wrapper" if shaped else "input"
        spec = mark("input", field.label, box=box, **field.meaning())
        fill = f'fill="{("outline", "solid")[shaped - 1]}"' if shaped else ""
        place = "floating" if shaped and field.value else "stacked"
        words = f'label="{escape(field.label)}" label-placement="{place}"'
        words = words if not field.hide_label else f'aria-label="{escape(field.label)}"'
        cls = "has-focus" if field.focused else ""
        native = (
            f'<ion-input class="{cls}" {words} {fill} {field.attributes()}{spec}>'
            f"</ion-input>"
        )
        front = self.icon(field.icon, 22) if field.icon else ""
        front = front and f'<div slot="start" class="x-start">{front}</div>'
        # An outlined field's label sits on its upper edge, which the item would cut.
        room = 'lines="none" style="margin:8px 0;overflow:visible"'
        lines = room if shaped else ""
        return f"<ion-item {lines}>{front}{native}</ion-item>"

    def select(self, label: str, value: str, options: list[str]) -> str:
        """A labelled drop-down; Ionic shows the chosen text beside an arrow."""
        spec = mark(
            "select",
            label,
            state=state_of(value=value),
            text=value,
            box=".select-text, .select-icon",
        )
        body = "".join(
            f'<ion-select-option value="{escape(o)}">{escape(o)}</ion-select-option>'
            for o in options
        )
        return (
            f'<ion-item><ion-select label="{escape(label)}" value="{escape(value)}" '
            f'interface="popover"{spec}>{body}</ion-select></ion-item>'
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
        fill = {"fill": "solid", "tonal": "solid", "outline": "outline"}.get(
            style, "clear"
        )
        tone = 'color="light"' if style == "tonal" else ""
        size = 'size="small"' if small else 'size="large"' if large else ""
        shape = 'shape="round"' if round_ else ""
        glyph = self.icon(icon, 18 if small else 20) if icon else ""
        box = "ink" if style == "plain" else ".button-native"
        spec = mark(
            "button",
            icon=icon if glyph else "",
            box=box,
            state=state_of(disabled=disabled),
        )
        wide = "" if small else 'expand="block"'
        return (
            f'<ion-button {wide} fill="{fill}" {tone} {size} {shape} style="{css}" '
            f"{flag('disabled', disabled)}{spec}>{glyph}"
            f"<span>&nbsp;{escape(text)}</span>"
            f"</ion-button>"
        )

    def segmented(self, options: list[str], active: int) -> str:
        """A few choices in one strip."""
        parts = []
        for i, option in enumerate(options):
            spec = mark("tab", option, state={"selected": i == active})
            parts.append(
                f'<ion-segment-button value="s{i}"{spec}><ion-label>{escape(option)}'
                f"</ion-label></ion-segment-button>"
            )
        return (
            f'<div class="x-pad"><ion-segment value="s{active}">{"".join(parts)}'
            f"</ion-segment></div>"
        )

    def chip(
        self, text: str, on: bool = False, icon: str = "", close: bool = False
    ) -> str:
        tone = (
            'color="primary"' if on else 'outline="true"' if self.c.chance(0.3) else ""
        )
        glyph = self.icon(icon, 16) if icon else ""
        if close:
            glyph += self.icon_button("close", f"Remove {text}", 14, "inherit")
        spec = mark(
            "button", text, icon if icon and not close else "", state={"selected": on}
        )
        return (
            f"<ion-chip {tone}{spec}>"
            f"<ion-label>{escape(text)}</ion-label>{glyph}</ion-chip>"
        )

    def slider(self, label: str, value: int) -> str:
        """A range from 0 to 100."""
        spec = mark(
            "slider", label, box=".range-bar, .range-knob", state=state_of(value=value)
        )
        return (
            f'<ion-range value="{value}" '
            f'aria-label="{escape(label)}"{spec}></ion-range>'
        )

    def stepper(self, label: str, value: int) -> str:
        """Ionic has no stepper: two small buttons about a number."""
        keys = []
        for word, icon in (("Decrease", "minus"), ("Increase", "add")):
            spec = mark("button", f"{word} {label}", icon, box=".button-native")
            keys.append(
                '<ion-button size="small" '
                f'fill="outline"{spec}>{self.icon(icon, 16)}</ion-button>'
            )
        return self.line(keys[0], f'<span class="x-p">{value}</span>', keys[1])

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
        return (
            f'<ion-searchbar placeholder="{escape(placeholder)}" '
            f'value="{escape(value)}"'
            f"{spec}></ion-searchbar>"
        )

    def title(self, text: str) -> str:
        return f'<div class="x-pad x-h3">{escape(text)}</div>'

    def large_title(self, text: str) -> str:
        return f'<div class="x-pad x-h1">{escape(text)}</div>'

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A raised box; `spec` makes it tappable."""
        return f'<ion-card class="x-ion-card" style="{css}"{spec}>{body}</ion-card>'


class IonicIOS(Ionic):
    name, theme = "ionic-ios", "ios"
    setup_js = SETUP % ("ios", "ios")


class IonicMD(Ionic):
    name, theme = "ionic-md", "md"
    setup_js = SETUP % ("md", "md")
    fonts = ("Roboto Variable",)
