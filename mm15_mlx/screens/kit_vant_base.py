"""The theme of Vant and what its kit lays over a page."""

from html import escape

from .kit_web import WebKit
from .kits import Nav, mark, tag

# Vant's dark theme keeps greys of the light one that are hard to read on black, and
# its placeholders are fainter than most phones show.
SETUP = """
window.applyLook = (shell) => {
  const dark = shell.classes.includes("dark");
  document.documentElement.classList.toggle("van-theme-dark", dark);
  document.body.style.fontFamily = shell.font;
  let tag = document.getElementById("look");
  if (!tag) {
    tag = document.createElement("style");
    tag.id = "look";
    document.head.append(tag);
  }
  tag.textContent = `html:root {
    --van-primary-color: ${shell.accent};
    --van-badge-font: inherit;
    --van-toast-background: rgba(0, 0, 0, 0.8);
    --van-field-placeholder-text-color: var(--van-text-color-2);
    --fg: var(--van-text-color);
    --muted: var(--van-gray-7);
    --bg: var(--van-background);
    --card: var(--van-background-2);
    --line: var(--van-border-color);
    --fill: var(--van-gray-3);
  }
  html:root.van-theme-dark {
    --van-text-color-2: #8e8e93;
    --van-gray-7: #a0a0a5;
    --van-button-default-border-color: #48484a;
    --van-progress-background: #48484a;
    --van-toast-background: #3a3a3c;
    --fill: #2c2c2e;
  }
  .w-page:has(.w-filled) ~ .statusbar-x,
  div:has(> .van-overlay[style=""]) ~ .statusbar-x { color: #fff; }`;
};
"""


class VantBase(WebKit):
    """Questions, sheets, menus and messages."""

    forms = ("phone", "tablet")
    styles = ("vant/lib/index.css",)
    icon_fonts = ("vant-icon",)
    setup_js = SETUP

    def _bit(self, place: int) -> bool:
        """One of some choices that are the same for the whole screen."""
        return bool(sum(map(ord, self.look.accent)) >> place & 1)

    # -- what lies over a page --------------------------------------------------

    @staticmethod
    def _modal(content: str, veil: str = "") -> str:
        return (
            '<div style="position:fixed;inset:0;z-index:13000" data-over><div '
            f'class="van-overlay" style="{veil}"></div>{content}</div>'
        )

    def dialog(self, title: str, text: str, keys: list[str], tall: bool = False) -> str:
        """A question with one to three answers."""
        buttons = ""
        for i, key in enumerate(keys):
            kind = "confirm" if i == len(keys) - 1 and not tall else "cancel"
            line = f"van-hairline--{'top' if tall else 'left'}" if i else ""
            buttons += (
                f'<button class="van-button van-button--default van-button--large '
                f'van-dialog__{kind} {line}" style="flex:{"none" if tall else 1}"'
                f'{mark("button")}><div class="van-button__content"><span '
                f'class="van-button__text">{escape(key)}</span></div></button>'
            )
        style = "flex-direction:column" if tall else ""
        return self._modal(
            '<div class="van-popup van-popup--center van-dialog" style="z-index:2">'
            f'<div class="van-dialog__header" style="padding-left:16px;padding-right:'
            f'16px">{escape(title)}</div><div class="van-dialog__content"><div '
            'class="van-dialog__message van-dialog__message--has-title">'
            f'{escape(text)}</div></div><div class="van-hairline--top '
            f'van-dialog__footer" style="{style}">{buttons}</div></div>'
        )

    def sheet(
        self,
        actions: list[Nav],
        danger: str = "",
        caption: str = "",
        icons: bool = False,
    ) -> str:
        """Actions that rise from the bottom."""
        rows = tag('div class="van-action-sheet__description"', caption)
        items = [(text, icon, "") for text, icon in actions]
        if danger:
            items.append((danger, "trash", "color:var(--van-danger-color)"))
        rows += '<div class="van-action-sheet__content">'
        for text, icon, style in items:
            glyph = self.icon(icon, 18) if icons and icon else ""
            spec = mark("button", icon=icon if glyph else "")
            glyph = glyph and (
                f'<div class="van-action-sheet__item-icon x-line">{glyph}</div>'
            )
            rows += (
                f'<button class="van-action-sheet__item" style="{style}"{spec}>{glyph}'
                f'<span class="van-action-sheet__name">{escape(text)}</span></button>'
            )
        return self._modal(
            '<div class="van-popup van-popup--round van-popup--bottom '
            'van-action-sheet" style="z-index:2;padding-bottom:var(--bottom)">'
            f'{rows}</div><div class="van-action-sheet__gap" style="flex-shrink:0">'
            f'</div><button class="van-action-sheet__cancel"{mark("button")}>Cancel'
            "</button></div>"
        )

    def menu(self, actions: list[Nav]) -> str:
        """A popover under the top right corner."""
        rows = ""
        for text, icon in actions:
            glyph = self.icon(icon, 20) if icon else ""
            cls = "van-popover__action" + " van-popover__action--with-icon" * bool(
                glyph
            )
            spec = mark("menuitem", icon=icon if glyph else "")
            glyph = glyph and (
                f'<div class="van-popover__action-icon x-line">{glyph}</div>'
            )
            rows += (
                f'<div class="{cls}" style="width:auto;min-width:128px"{spec}>{glyph}'
                '<div class="van-popover__action-text van-hairline--bottom">'
                f"{escape(text)}</div></div>"
            )
        look = "dark" if self._bit(3) and not self.look.dark else "light"
        at = "position:fixed;top:calc(var(--top) + 50px);right:10px;z-index:2"
        return self._modal(
            f'<div class="van-popover van-popover--{look}" style="{at}" '
            'data-popper-placement="bottom-end"><div class="van-popover__arrow"></div>'
            f'<div class="van-popover__content">{rows}</div></div>',
            "background:rgba(0,0,0,.3)",
        )

    def toast(self, text: str, action: str = "") -> str:
        style = "color:#8ab4f8;margin-left:16px"
        button = self.link(action, style) if action else ""
        return (
            '<div class="van-popup van-popup--center van-toast van-toast--text '
            'van-toast--break-normal van-toast--bottom" style="z-index:14000;'
            f'flex-direction:row" data-over><div class="van-toast__text">{escape(text)}'
            f"</div>{button}</div>"
        )
