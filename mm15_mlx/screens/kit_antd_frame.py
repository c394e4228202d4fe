"""The frame of Ant Design Mobile: its style, its bars, what lies over a page."""

from collections.abc import Sequence
from html import escape

from .kit_web import WebKit
from .kits import Bars, Nav, mark, tag

SETUP = """
(() => {
  const style = document.createElement("style");
  style.textContent = `
    html.antd-mobile {
      --fg: var(--adm-color-text);
      --muted: var(--adm-color-weak);
      --bg: var(--adm-color-background);
      --card: var(--adm-color-background);
      --line: var(--adm-color-border);
      --fill: var(--adm-color-border);
      --adm-color-primary: var(--accent);
      --adm-color-wathet: color-mix(in srgb, var(--accent) 14%, var(--bg));
    }
    html.antd-mobile .w-body:has(.adm-list, .adm-card) {
      background: var(--adm-color-box);
    }
    html.antd-mobile .w-page .x-scroll { padding: 8px 12px; margin: 0 0 8px; }
    html.antd-mobile .x-scroll, html.antd-mobile .adm-strip { background: var(--bg); }
    html.antd-mobile :is(input, button) { font-family: inherit; }`;
  document.documentElement.append(style);
})();
window.applyLook = (shell) => {
  const dark = shell.classes.includes("dark");
  document.documentElement.dataset.prefersColorScheme = dark ? "dark" : "light";
  document.documentElement.style.setProperty("--adm-font-family", shell.font);
};
"""

INK = mark("button", box="ink")  # a button of which only the words are seen
POINTER = (
    '<svg class="adm-popover-arrow-icon" viewBox="0 0 30 16" '
    'style="--arrow-icon-rotate:180deg" fill="currentColor">'
    '<path d="M0 0h30L17 14a3 3 0 0 1-4 0z"></path></svg>'
)


class AntdFrame(WebKit):
    """Ant Design's own style sheet; its scripts are not needed."""

    forms = ("phone", "tablet")
    name, theme = "antd-mobile", "ios"
    styles = ("antd-mobile/bundle/style.css",)
    setup_js = SETUP

    def _one_of(self, count: int) -> int:
        """A choice that stays the same for a whole screen."""
        return sum(map(ord, self.look.accent)) % count

    # -- page ------------------------------------------------------------------

    def _header(self, title: str, bars: Bars) -> str:
        start, back = self._buttons(bars.left), bars.back
        if back is not None:
            spec = mark("button", back or "Back", "back", box="ink")
            start = (
                f'<div class="adm-nav-bar-back" style="margin:0"{spec}><span '
                f'class="adm-nav-bar-back-arrow">{self.icon("back", 22)}</span>'
                f"<span>{escape(back)}</span></div>{start}"
            )
        name = f'<div class="x-one">{escape(title)}</div>'
        sub = 'div class="x-one" style="font-size:12px;color:var(--adm-color-weak)"'
        name += tag(sub, bars.subtitle)
        big = ""
        if bars.large:
            big = f'<div class="x-h1" style="padding:0 12px 10px">{escape(title)}</div>'
            name = ""
        line = "--border-bottom:1px solid var(--adm-color-border)"
        line = "" if bars.large or self._one_of(2) else line
        gap = '<div class="x-line" style="gap:16px;'
        return (
            f'<div class="adm-strip" style="padding-top:var(--top);flex-shrink:0">'
            f'<div class="adm-nav-bar" style="{line}"><div class="adm-nav-bar-left">'
            f'{gap}">{start}</div></div><div class="adm-nav-bar-title">{name}</div>'
            f'<div class="adm-nav-bar-right">{gap}justify-content:flex-end">'
            f"{self._buttons(bars.right)}</div></div></div>{big}</div>"
        )

    def _buttons(self, items: Sequence[Nav]) -> str:
        out = []
        for label, icon in items:
            if icon and self.has_icon(icon):
                out.append(
                    self.icon_button(icon, label, 22, "inherit", "color:inherit")
                )
            elif label:
                out.append(f'<span style="font-size:15px"{INK}>{label}</span>')
        return "".join(out)

    def _tabs(self, bars: Bars) -> str:
        keys = []
        for i, (label, icon) in enumerate(bars.tabs):
            on = i == bars.active
            spec = mark("tab", label, icon, box="ink", state={"selected": on})
            glyph = self.icon(icon, 24) if icon else ""
            title = "adm-tab-bar-item-title"
            if glyph:
                title += " adm-tab-bar-item-title-with-icon"
                glyph = (
                    '<div class="adm-badge-wrapper adm-tab-bar-icon-badge">'
                    f'<div class="adm-tab-bar-item-icon">{glyph}</div></div>'
                )
            cls = "adm-tab-bar-item-active" if on else ""
            keys.append(
                f'<div class="adm-tab-bar-item {cls}"{spec}>{glyph}'
                f'<div class="{title}">{escape(label)}</div></div>'
            )
        style = "border-top:1px solid var(--line);padding-bottom:var(--bottom)"
        return (
            f'<div class="adm-tab-bar adm-strip" style="{style};flex-shrink:0">'
            f'<div class="adm-tab-bar-wrap">{"".join(keys)}</div></div>'
        )

    def round_button(self, icon: str, label: str, size: int = 56) -> str:
        """Ant Design's floating bubble, laid in the page."""
        if not self.has_icon(icon):
            return ""
        glyph = self.icon(icon, size // 2, "#fff")
        spec = mark("button", label, icon)
        return (
            f'<div class="adm-floating-bubble" style="--size:{size}px"><div '
            f'class="adm-floating-bubble-button" style="position:static"{spec}>'
            f"{glyph}</div></div>"
        )

    # -- over the page ---------------------------------------------------------

    def dialog(self, title: str, text: str, keys: list[str], tall: bool = False) -> str:
        """A question with one to three answers."""
        cls = (
            "adm-button adm-button-primary adm-button-block adm-button-fill-none "
            "adm-button-shape-rectangular adm-dialog-button"
        )
        cells = [
            f'<div class="{cls}"{mark("button")}>{escape(key)}</div>' for key in keys
        ]
        rows = cells if tall else ["".join(cells)]
        foot = "".join(f'<div class="adm-dialog-action-row">{r}</div>' for r in rows)
        return self._modal(
            '<div class="adm-center-popup adm-dialog"><div '
            'class="adm-center-popup-wrap"><div class="adm-center-popup-body '
            f'adm-dialog-body"><div class="adm-dialog-title">{escape(title)}</div>'
            '<div class="adm-dialog-content"><div class="adm-auto-center"><div '
            f'class="adm-auto-center-content">{escape(text)}</div></div></div>'
            f'<div class="adm-dialog-footer">{foot}</div></div></div></div>'
        )

    @staticmethod
    def _modal(content: str) -> str:
        mask = '<div class="adm-mask" style="background:rgba(0,0,0,.55)"></div>'
        return f"<div data-over>{mask}{content}</div>"

    def sheet(
        self,
        actions: list[Nav],
        danger: str = "",
        caption: str = "",
        icons: bool = False,
    ) -> str:
        """Actions that rise from the bottom."""
        rows = "".join(
            self._action(text, icon if icons else "") for text, icon in actions
        )
        rows += self._action(danger, cls="-danger") if danger else ""
        head = tag('div class="adm-action-sheet-extra"', caption)
        return self._modal(
            '<div class="adm-popup adm-action-sheet-popup"><div class="adm-popup-body '
            'adm-popup-body-position-bottom" style="padding-bottom:var(--bottom)"><div '
            f'class="adm-action-sheet">{head}<div class="adm-action-sheet-button-list">'
            f'{rows}</div><div class="adm-action-sheet-cancel">'
            f"{self._action('Cancel')}</div></div></div></div>"
        )

    def _action(self, text: str, icon: str = "", cls: str = "") -> str:
        """One row of a sheet."""
        glyph = self.icon(icon, 20) if icon else ""
        base = "adm-action-sheet-button-item"
        spec = mark("button", icon=icon if glyph else "")
        return (
            f'<div class="{base}-wrapper"><div class="{base} {base}{cls}"{spec}><div '
            f'class="{base}-name x-line" style="justify-content:center">{glyph}<span>'
            f"{escape(text)}</span></div></div></div>"
        )

    def menu(self, actions: list[Nav]) -> str:
        """A small menu under the top right corner, without a veil."""
        rows = []
        for text, icon in actions:
            glyph = self.icon(icon, 20) if icon else ""
            front = f'<div class="adm-popover-menu-item-icon">{glyph}</div>'
            rows.append(
                f'<div class="adm-popover-menu-item"{mark("menuitem", icon=icon)}>'
                f"{front if glyph else ''}<div "
                f'class="adm-popover-menu-item-text">{escape(text)}</div></div>'
            )
        place = "position:fixed;left:auto;right:12px;top:calc(var(--top) + 48px)"
        shade = "adm-popover-dark" if self.look.dark or self._one_of(2) else ""
        return (
            f'<div class="adm-popover adm-popover-menu {shade}" style="{place}" '
            f'data-over><div class="adm-popover-arrow" style="right:14px;top:-8px">'
            f'{POINTER}</div><div class="adm-popover-inner"><div '
            'class="adm-popover-inner-content"><div class="adm-popover-menu-list">'
            f'<div class="adm-popover-menu-list-inner">{"".join(rows)}</div></div>'
            "</div></div></div>"
        )

    def toast(self, text: str, action: str = "") -> str:
        """A short message; Ant Design's has no button."""
        top = ("20%", "50%", "80%")[self._one_of(3)]
        return (
            '<div class="adm-mask adm-toast-mask" style="pointer-events:none" '
            'data-over><div class="adm-toast-wrap"><div class="adm-toast-main '
            f'adm-toast-main-text" style="top:{top}">{escape(text)}</div></div></div>'
        )
