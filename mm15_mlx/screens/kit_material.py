"""Google's own web components for Material Design 3."""

from html import escape
from typing import Any

from .kit_md import PAINT, MaterialKit
from .kits import Bars, Field, Nav, Row, flag, mark, state_of, tag

STYLE = """
.w-page { background: var(--bg); }
.x-bubble.mine > span, .x-day.now > span { color: var(--md-sys-color-on-primary); }
.x-toast { background: var(--md-sys-color-inverse-surface); border-radius: 4px;
  color: var(--md-sys-color-inverse-on-surface); }
.x-toast .x-link { color: var(--md-sys-color-inverse-primary) !important; }
.m-block { width: 100%; box-sizing: border-box; }
.m-small { align-self: flex-start; }
.m-twin { position: absolute; top: 10px; height: 20px; }
.m-in { padding: 8px 16px; }
.m-sheet { width: 100%; padding: 20px 0 calc(var(--bottom) + 12px);
  border-radius: 28px 28px 0 0; background: var(--md-sys-color-surface-container-low); }
.m-sheet > md-list, .m-clear { --md-list-container-color: transparent; }
.m-clear { border-radius: inherit; }
.m-title { font-size: 22px; line-height: 28px; }
.m-large { font-size: 28px; line-height: 36px; padding: 8px 12px 20px; }
md-linear-progress { width: 100%; --md-linear-progress-track-color: var(--line); }
span[slot] { display: flex; }
md-navigation-bar { flex-shrink: 0; }
md-icon-button { margin: 0; flex-shrink: 0; }
md-checkbox, md-radio { margin: 3px; }
"""
# showModal() makes the page beneath inert, and so invisible to hit tests; a veil that
# lets pointers through and a dialog painted by a pseudo-element are not seen by them.
SETUP = """
HTMLDialogElement.prototype.showModal = HTMLDialogElement.prototype.show;
const still = new CSSStyleSheet();
still.replaceSync("*, ::before, ::after { transition: none !important;" +
  "animation-duration: 0s !important; animation-delay: 0s !important; }");
const { animate } = Element.prototype;
Element.prototype.animate = function (...how) {
  const motion = animate.apply(this, how);
  motion.finish();
  return motion;
};
window.applyLook = (shell) => {
  const style = document.body.style;
  style.fontFamily = shell.font;
  style.setProperty("--md-ref-typeface-plain", shell.font);
  style.setProperty("--md-ref-typeface-brand", shell.font);
  window.paintLook(shell);
};
window.settle = async () => {
  const within = (root) => [...root.querySelectorAll("*")].flatMap((el) =>
    el.shadowRoot ? [el, ...within(el.shadowRoot)] : [el]);
  for (let round = 0; round < 5; round++) {
    const all = within(document.getElementById("app"));
    await Promise.all(all.map((el) => el.updateComplete));
    for (const el of all) {
      if ("focused" in el.dataset) el.focused = true;
      const sheets = el.shadowRoot?.adoptedStyleSheets;
      if (sheets && !sheets.includes(still)) sheets.push(still);
    }
    await new Promise((done) => requestAnimationFrame(done));
  }
  for (const { shadowRoot } of document.querySelectorAll("md-dialog")) {
    shadowRoot.querySelector(".scrim").style.pointerEvents = "auto";
    shadowRoot.querySelector("dialog").style = "inset:0;z-index:2;position:fixed";
    shadowRoot.querySelector(".container").style =
      "background:var(--md-sys-color-surface-container-high)";
  }
  document.activeElement?.blur();
};
"""

LABS = (
    *(f"card/{kind}-card" for kind in ("elevated", "filled", "outlined")),
    *("badge/badge", "navigationbar/navigation-bar", "navigationtab/navigation-tab"),
    "segmentedbutton/outlined-segmented-button",
    "segmentedbuttonset/outlined-segmented-button-set",
)


class MaterialWeb(MaterialKit):
    """Elements of @material/web 2. Shadow roots are read by annotate.js."""

    name = "material-web"
    styles = ("material-icons/iconfont/material-icons.css",)
    modules = ("@material/web/all.js", *(f"@material/web/labs/{x}.js" for x in LABS))
    imports = {
        "@lit/context": "/@lit/context/index.js",
        "@lit/reactive-element": "/@lit/reactive-element/reactive-element.js",
        "@lit/reactive-element/": "/@lit/reactive-element/",
        "lit": "/lit/index.js",
        "lit/": "/lit/",
        "lit-element/": "/lit-element/",
        "lit-html": "/lit-html/lit-html.js",
        "lit-html/": "/lit-html/",
        "tslib": "/tslib/tslib.es6.mjs",
    }
    setup_js = PAINT % ("md-sys-color-", STYLE) + SETUP

    def __init__(self, content: Any, look: Any) -> None:
        super().__init__(content, look)
        self.box = content.pick(("outlined", "outlined", "filled"))
        self.cards = content.pick(("elevated", "filled", "outlined"))
        self.glyphs = content.chance(0.3)  # switches with a tick and a cross
        self.lines = content.chance(0.4)

    def _in(self, slot: str, icon: str, size: int = 24) -> str:
        """A glyph in a slot, or nothing."""
        glyph = self.icon(icon, size) if icon else ""
        return glyph and f'<span slot="{slot}">{glyph}</span>'

    # -- page ------------------------------------------------------------------

    def round_key(
        self, glyph: str, size: int, filled: bool, style: str, spec: str
    ) -> str:
        kind = "md-filled-tonal-icon-button" if filled else "md-icon-button"
        side = f"{max(32, size + 12)}px"
        style += f";width:{side};height:{side};--{kind}-icon-size:{size}px"
        style += "".join(
            f";--{kind}-state-layer-{edge}:{side}" for edge in ("width", "height")
        )
        return f'<{kind} style="{style}"{spec}>{glyph}</{kind}>'

    def round_button(self, icon: str, label: str, size: int = 56) -> str:
        """The floating button, or a filled circle of another size."""
        if not self.has_icon(icon):
            return ""
        spec = mark("button", label, icon)
        if size == 56:
            variant = self.c.pick(("surface", "primary", "secondary"))
            glyph = self._in("icon", icon)
            return f'<md-fab variant="{variant}"{spec}>{glyph}</md-fab>'
        kind, glyph = "md-filled-icon-button", self.icon(icon, size // 2)
        style = f"--{kind}-container-width:{size}px;--{kind}-icon-size:{size // 2}px;"
        style += f"--{kind}-container-height:{size}px;margin:0"
        return f'<{kind} style="{style}"{spec}>{glyph}</{kind}>'

    def text_button(self, text: str) -> str:
        spec = mark("button", box="ink")
        return f"<md-text-button{spec}>{escape(text)}</md-text-button>"

    def _header(self, title: str, bars: Bars) -> str:
        start, back = self._buttons(bars.left), bars.back
        if back is not None:
            start = self.icon_button("back", back or "Back", color="inherit")
        roles = ("surface", "surface", "surface-container")
        role = roles[sum(map(ord, self.look.accent)) % 3]
        name, big = tag('div class="x-one m-title"', title), ""
        sub = tag('div class="x-s x-one"', bars.subtitle)
        if bars.large:
            name, big = "", tag('div class="m-large"', title)
        return (
            f'<div style="background:var(--md-sys-color-{role});flex-shrink:0;'
            'padding:var(--top) 4px 0"><div class="x-line" style="height:64px;gap:4px">'
            f'{start}<div class="x-grow" style="padding:0 12px">{name}{sub}</div>'
            f"{self._buttons(bars.right)}</div>{big}</div>"
        )

    def _tabs(self, bars: Bars) -> str:
        keys = []
        for i, (label, icon) in enumerate(bars.tabs):
            on = i == bars.active
            spec = mark("tab", label, icon, box="ink", state={"selected": on})
            glyph = self._in("active-icon" if on else "inactive-icon", icon)
            name = f'md-navigation-tab label="{escape(label)}"'
            keys.append(f"<{name}{spec}>{glyph}</md-navigation-tab>")
        opening = f'<md-navigation-bar active-index="{bars.active}">'
        return f"{opening}{''.join(keys)}</md-navigation-bar>"

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
        font = "font-size:14px;font-weight:500;color:var(--accent)"
        head = tag(f'div class="x-pad" style="{font}"', header)
        foot = tag('div class="x-pad x-s"', footer)
        fields = any('class="m-in"' in row for row in rows)
        line = "<md-divider></md-divider>" if self.lines and not fields else ""
        body = line.join(rows)
        if inset:
            inner = f'<md-list class="m-clear">{body}</md-list>'
            return f"{head}{self.card(inner, css='margin:8px 16px;padding:0')}{foot}"
        return f"{head}<md-list>{body}</md-list>{foot}"

    def row(self, row: Row) -> str:
        """One row. A row with a control is not itself a button."""
        front = row.lead + row.media
        front = front and f'<div slot="start" class="x-line">{front}</div>'
        words = tag('div slot="headline"', row.title)
        words += tag('div slot="supporting-text"', row.subtitle)
        words += tag('div slot="supporting-text" class="x-two"', row.text)
        words += tag('div slot="trailing-supporting-text"', row.after)
        tail = row.control + (self.badge(row.badge) if row.badge else "")
        if row.chevron:
            tail += self.icon("chevron-right", 24, "var(--muted)")
        tail = tail and f'<div slot="end" class="x-line">{tail}</div>'
        kind = "button" if row.mark() else "text"
        return (
            f'<md-list-item type="{kind}"{row.mark()}>{front}{words}{tail}'
            "</md-list-item>"
        )

    def badge(self, text: str, color: str = "") -> str:
        """The library's badge lies on the corner of what holds it."""
        return (
            '<span style="position:relative;width:24px;height:16px;'
            f'align-self:center"><md-badge value="{escape(text)}" '
            'style="position:absolute;left:-10px"></md-badge></span>'
        )

    # -- controls --------------------------------------------------------------

    def switch(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark("switch", label, state=state_of(checked=on, disabled=disabled))
        flags = flag("selected", on) + flag("disabled", disabled)
        flags += flag("icons", self.glyphs)
        return f'<md-switch style="flex-shrink:0" {flags}{spec}></md-switch>'

    def checkbox(self, label: str, on: bool, disabled: bool = False) -> str:
        spec = mark("checkbox", label, state=state_of(checked=on, disabled=disabled))
        flags = flag("checked", on) + flag("disabled", disabled)
        return f'<md-checkbox touch-target="none" {flags}{spec}></md-checkbox>'

    def radio(self, label: str, on: bool) -> str:
        spec = mark("radio", label, state=state_of(checked=on))
        return f'<md-radio touch-target="none" {flag("checked", on)}{spec}></md-radio>'

    def field(self, field: Field) -> str:
        """A text field whose label rests in it or floats."""
        spec = mark("input", field.label, **field.meaning())
        name = "" if field.hide_label else f'label="{escape(field.label)}"'
        front = self._in("leading-icon", field.icon)
        kind = f"md-{self.box}-text-field"
        return (
            f'<div class="m-in"><{kind} class="m-block" {name} {field.attributes()}'
            f"{flag('data-focused', field.focused)}{spec}>{front}</{kind}></div>"
        )

    def select(self, label: str, value: str, options: list[str]) -> str:
        """A drop-down with a label."""
        spec = mark("select", label, state=state_of(value=value), text=value)
        body = "".join(
            f'<md-select-option value="{escape(o)}" {flag("selected", o == value)}>'
            f'<div slot="headline">{escape(o)}</div></md-select-option>'
            for o in options
        )
        kind = f"md-{self.box}-select"
        return (
            f'<div class="m-in"><{kind} class="m-block" label="{escape(label)}"{spec}>'
            f"{body}</{kind}></div>"
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
        kinds = {"fill": "filled", "tonal": "filled-tonal", "outline": "outlined"}
        kind = f"md-{kinds.get(style, 'text')}-button"
        glyph = self._in("icon", icon, 18)
        spec = mark(
            "button",
            icon=icon if glyph else "",
            box="ink" if style == "plain" else "",
            state=state_of(disabled=disabled),
        )
        cls = "m-small" if small else "m-block"
        return (
            f'<{kind} class="{cls}" style="{css}" {flag("disabled", disabled)}{spec}>'
            f"{glyph}{escape(text)}</{kind}>"
        )

    def segmented(self, options: list[str], active: int) -> str:
        """Tabs, or buttons in one outline."""
        kind = self.c.pick(("primary", "secondary", "button"))
        parts = []
        for i, option in enumerate(options):
            on = i == active
            spec = mark("tab", option, state={"selected": on})
            if kind == "button":
                flags = flag("selected", on) + flag("no-checkmark", len(options) > 3)
                parts.append(
                    f'<md-outlined-segmented-button label="{escape(option)}" '
                    f"{flags}{spec}></md-outlined-segmented-button>"
                )
            else:
                parts.append(
                    f"<md-{kind}-tab {flag('active', on)}{spec}>{escape(option)}"
                    f"</md-{kind}-tab>"
                )
        if kind != "button":
            return f"<md-tabs>{''.join(parts)}</md-tabs>"
        name = "md-outlined-segmented-button-set"
        return f'<div class="x-pad"><{name}>{"".join(parts)}</{name}></div>'

    def chip(
        self, text: str, on: bool = False, icon: str = "", close: bool = False
    ) -> str:
        kind = "md-input-chip" if close else "md-filter-chip"
        spec = mark("button", text, icon, state={"selected": on})
        glyph = self._in("icon", icon, 18)
        return (
            f'<{kind} label="{escape(text)}" {flag("selected", on)}{spec}>{glyph}'
            f"</{kind}>"
        )

    def slider(self, label: str, value: int) -> str:
        """A range from 0 to 100, with a twin of what its pseudo-elements paint."""
        spec = mark("slider", label, box="b", state=state_of(value=value))
        left, right = (
            f"min(18px,10px + (100% - 40px)*{share / 100})"
            for share in (value, 100 - value)
        )
        return (
            f'<div style="position:relative"{spec}><md-slider class="m-block" '
            f'style="min-width:0;display:flex" value="{value}"></md-slider>'
            f'<b class="m-twin" style="left:{left};right:{right}"></b></div>'
        )

    def pill(self, placeholder: str, value: str, spec: str, icon: str = "") -> str:
        """A round text field without a label."""
        shape = "--md-outlined-text-field-container-shape:28px"
        glyph = self._in("leading-icon", icon)
        return (
            f'<md-outlined-text-field class="m-block" style="{shape}" '
            f'placeholder="{escape(placeholder)}" value="{escape(value)}"{spec}>'
            f"{glyph}</md-outlined-text-field>"
        )

    def progress(self, fraction: float) -> str:
        return f'<md-linear-progress value="{fraction:.2f}"></md-linear-progress>'

    def card(self, body: str, spec: str = "", css: str = "") -> str:
        """A card; `spec` makes it tappable."""
        kind = f"md-{self.cards}-card"
        css = css.replace("background:", f"--{kind}-container-color:")
        return f'<{kind} style="padding:14px;{css}"{spec}>{body}</{kind}>'

    # -- over the page ---------------------------------------------------------

    def dialog(self, title: str, text: str, keys: list[str], tall: bool = False) -> str:
        """A question with one to three answers."""
        links = "".join(self.text_button(key) for key in keys)
        column = "flex-direction:column;align-items:flex-end" if tall else ""
        return (
            '<div style="position:fixed;inset:0;z-index:13000" data-over>'
            f'<md-dialog open quick><div slot="headline">{escape(title)}</div>'
            f'<div slot="content">{escape(text)}</div>'
            f'<div slot="actions" style="{column}">{links}</div></md-dialog></div>'
        )

    def sheet(
        self,
        actions: list[Nav],
        danger: str = "",
        caption: str = "",
        icons: bool = False,
    ) -> str:
        """A list that rises from the bottom."""
        rows = "".join(
            f'<md-list-item type="button"{mark("button", icon=icon if icons else "")}>'
            f"{self._in('start', icon if icons else '')}"
            f'<div slot="headline">{escape(text)}</div></md-list-item>'
            for text, icon in [*actions, *([(danger, "")] if danger else [])]
        )
        head = tag('div class="x-pad x-s"', caption)
        body = f'<div class="m-sheet">{head}<md-list>{rows}</md-list></div>'
        return self.backdrop(body, "bottom")

    def menu(self, actions: list[Nav]) -> str:
        """A small menu under the top right corner."""
        rows = "".join(
            f"<md-menu-item{mark('menuitem', icon=icon)}>"
            f'<div slot="headline">{escape(text)}</div>'
            f"{self._in('start', icon, 20)}</md-menu-item>"
            for text, icon in actions
        )
        place = "position:fixed;top:calc(var(--top) + 8px);right:12px;width:44px"
        return (
            f'<div style="{place};z-index:13000" data-over><div id="corner" '
            'style="height:44px"></div><md-menu open quick anchor="corner" '
            'positioning="fixed" anchor-corner="end-end" menu-corner="start-end" '
            f'default-focus="none">{rows}</md-menu></div>'
        )
