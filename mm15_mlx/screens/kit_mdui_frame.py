"""The frame of mdui 2: its start, its bars, what lies over a page.

Words go into slots inside an element of their own: a slot gives its font only to
elements, so text put straight into a component would be measured in the wrong one.
"""

from collections.abc import Sequence
from html import escape

from .kit_web import WebKit
from .kits import Bars, Nav, flag, mark, tag

SETUP = """
(() => {
  const style = document.createElement("style");
  const color = (name) => `rgb(var(--mdui-color-${name}))`;
  const times = ["short", "medium", "long", "extra-long"].flatMap((word) =>
    [1, 2, 3, 4].map((n) => `--mdui-motion-duration-${word}${n}:0s !important;`));
  style.textContent = `
    html.mdui {
      --fg: ${color("on-surface")}; --muted: ${color("on-surface-variant")};
      --bg: ${color("surface")}; --card: ${color("surface-container")};
      --line: ${color("outline-variant")}; --fill: ${color("surface-container-high")};
      ${times.join("")}
    }
    html.mdui :is(.x-bubble.mine > span, .x-day.now > span) {
      color: ${color("on-primary")};
    }
    html.mdui .x-menu-place mdui-menu { min-width: 180px; }
    html.mdui .w-page:has(mdui-navigation-bar) ~ mdui-snackbar {
      bottom: 96px !important;
    }`;
  document.documentElement.append(style);
})();
window.applyLook = (shell) => {
  const root = document.documentElement;
  mdui.setColorScheme(shell.accent);
  const dark = shell.classes.includes("dark");
  root.classList.add(dark ? "mdui-theme-dark" : "mdui-theme-light");
  root.style.setProperty("--accent", "rgb(var(--mdui-color-primary))");
  document.body.style.fontFamily = shell.font;
};
window.settle = async () => {
  const inside = (root) => [...root.querySelectorAll("*")].flatMap((el) =>
    el.shadowRoot ? [el, ...inside(el.shadowRoot)] : [el]);
  // Components render their own in turn, and some only after they were measured.
  for (let round = 0; round < 4; round++) {
    const all = inside(document.getElementById("app"));
    await Promise.all(all.map((el) => el.updateComplete));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  }
};
"""


class MduiFrame(WebKit):
    """Components of mdui; shadow roots are read by annotate.js."""

    name, theme, icon_set = "mdui", "md", "material"
    styles = ("mdui/mdui.css", "material-icons/iconfont/material-icons.css")
    scripts = ("mdui/mdui.global.js",)
    icon_fonts = ("Material Icons",)
    fonts = ("Roboto Variable",)
    setup_js = SETUP

    def _one_of(self, count: int) -> int:
        """A choice that stays the same for a whole screen."""
        return sum(map(ord, self.look.accent)) % count

    def glyph(self, glyph: str, style: str, spec: str) -> str:
        return f'<i class="material-icons glyph" style="{style}"{spec}>{glyph}</i>'

    @staticmethod
    def _slot(name: str, content: str) -> str:
        """What goes into a named slot, or nothing."""
        if not content:
            return ""
        return f'<div slot="{name}" class="x-line" style="gap:8px">{content}</div>'

    # -- page ------------------------------------------------------------------

    def _button_icon(self, icon: str, label: str) -> str:
        """A glyph in a round button without a fill, which is not seen."""
        spec = mark("button", label, icon, box="ink")
        glyph = self.icon(icon, 24, "inherit")
        return f"<mdui-button-icon{spec}>{glyph}</mdui-button-icon>"

    def _buttons(self, items: Sequence[Nav]) -> str:
        out = []
        for label, icon in items:
            if icon and self.has_icon(icon):
                out.append(self._button_icon(icon, label))
            elif label:
                spec = mark("button", box="ink")
                out.append(
                    f'<mdui-button variant="text"{spec}><span>{escape(label)}</span>'
                    "</mdui-button>"
                )
        return "".join(out)

    def _header(self, title: str, bars: Bars) -> str:
        start = self._buttons(bars.left)
        if bars.back is not None:
            start = self._button_icon("back", "Back") + start
        variant = ("small", "small", "center-aligned")[self._one_of(3)]
        height = 64
        big = ""
        if bars.large and title:
            variant, height = (("medium", 112), ("large", 152))[self._one_of(2)]
            big = f'<span slot="label-large">{escape(title)}</span>'
        name = f'<div class="x-one">{escape(title)}</div>'
        if bars.subtitle and not big:
            name = (
                f'<div style="line-height:1.2"><div class="x-one">{escape(title)}</div>'
                f'<div class="x-s">{escape(bars.subtitle)}</div></div>'
            )
        style = (
            f"position:relative;height:calc({height}px + var(--top));"
            "padding-top:calc(var(--top) + 12px);z-index:1"
        )
        edge = "" if start else "padding-left:8px;"
        # The large title stands outside the box of the component that holds it.
        edge += "overflow:visible" if big else ""
        return (
            f'<mdui-top-app-bar variant="{variant}" style="{style}">{start}'
            f'<mdui-top-app-bar-title style="{edge}">{name}{big}'
            f"</mdui-top-app-bar-title>{self._buttons(bars.right)}</mdui-top-app-bar>"
        )

    def _tabs(self, bars: Bars) -> str:
        keys = []
        for i, (label, icon) in enumerate(bars.tabs):
            state = {"selected": i == bars.active}
            spec = mark("tab", label, icon, box="ink", state=state)
            glyph = self._slot("icon", self.icon(icon, 24, "inherit") if icon else "")
            keys.append(
                f'<mdui-navigation-bar-item value="t{i}"{spec}>{glyph}'
                f"<span>{escape(label)}</span></mdui-navigation-bar-item>"
            )
        return (
            f'<mdui-navigation-bar value="t{bars.active}" label-visibility="labeled" '
            f'style="position:relative;z-index:1">{"".join(keys)}</mdui-navigation-bar>'
        )

    def _tools(self, tools: Sequence[Nav]) -> str:
        if not tools:
            return ""
        style = "position:relative;z-index:1"
        return (
            f'<mdui-bottom-app-bar style="{style}">{self._buttons(tools)}'
            "</mdui-bottom-app-bar>"
        )

    def round_button(self, icon: str, label: str, size: int = 56) -> str:
        """A floating action button in the size of the library's own."""
        if not self.has_icon(icon):
            return ""
        spec = mark("button", label, icon)
        variant = ("primary", "surface", "secondary", "tertiary")[self._one_of(4)]
        return (
            f'<mdui-fab variant="{variant}"{spec}>'
            f"{self._slot('icon', self.icon(icon, 24, 'inherit'))}</mdui-fab>"
        )

    # -- over the page ---------------------------------------------------------

    def dialog(self, title: str, text: str, keys: list[str], tall: bool = False) -> str:
        """A question with one to three answers."""
        buttons = "".join(
            f'<mdui-button slot="action" variant="text"{mark("button", box="ink")}>'
            f"<span>{escape(key)}</span></mdui-button>"
            for key in keys
        )
        return (
            f"<mdui-dialog open data-over {flag('stacked-actions', tall)}>"
            f'<div slot="headline">{escape(title)}</div><div slot="description">'
            f"{escape(text)}</div>{buttons}</mdui-dialog>"
        )

    def sheet(
        self,
        actions: list[Nav],
        danger: str = "",
        caption: str = "",
        icons: bool = False,
    ) -> str:
        """A list that rises from the bottom; mdui itself has no sheet."""
        rows = [self._action(text, icon if icons else "") for text, icon in actions]
        if danger:
            rows.append(self._action(danger, "", "rgb(var(--mdui-color-error))"))
        rows.append(self._action("Cancel", ""))
        head = tag('div class="x-s" style="padding:8px 16px"', caption)
        style = (
            "width:100%;border-radius:28px 28px 0 0;padding:16px 0 8px;"
            "background:rgb(var(--mdui-color-surface-container-low))"
        )
        return self.backdrop(
            f'<div style="{style}">{head}<mdui-list>{"".join(rows)}</mdui-list></div>',
            "bottom",
        )

    def _action(self, text: str, icon: str, color: str = "inherit") -> str:
        """One row of a sheet."""
        glyph = self.icon(icon, 24, "inherit") if icon else ""
        spec = mark("button", icon=icon if glyph else "")
        return (
            f"<mdui-list-item{spec}>{self._slot('icon', glyph)}"
            f'<div style="color:{color}">{escape(text)}</div></mdui-list-item>'
        )

    def menu(self, actions: list[Nav]) -> str:
        """A small menu under the top right corner, without a veil."""
        rows = []
        for text, icon in actions:
            glyph = self.icon(icon, 24, "inherit") if icon else ""
            rows.append(
                f"<mdui-menu-item{mark('menuitem', icon=icon)}>"
                f"{self._slot('icon', glyph)}<div>{escape(text)}</div></mdui-menu-item>"
            )
        place = "position:fixed;right:12px;top:calc(var(--top) + 52px);z-index:2500"
        return (
            f'<div class="x-menu-place" style="{place}" data-over><mdui-menu>'
            f"{''.join(rows)}</mdui-menu></div>"
        )

    def toast(self, text: str, action: str = "") -> str:
        """A snackbar."""
        button = ""
        if action:
            color = "color:rgb(var(--mdui-color-inverse-primary))"
            button = (
                f'<mdui-button slot="action" variant="text" style="{color}"'
                f"{mark('button', box='ink')}><span>{escape(action)}</span>"
                "</mdui-button>"
            )
        return (
            '<mdui-snackbar open auto-close-delay="0" data-over><div>'
            f"{escape(text)}</div>{button}</mdui-snackbar>"
        )
