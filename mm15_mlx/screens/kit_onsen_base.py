"""The themes of Onsen UI and what its kits lay over a page."""

from html import escape

from .kit_web import WebKit
from .kits import Nav, mark, tag

LIGHT = "onsenui/css/onsen-css-components.css"
DARK = "onsenui/css/dark-onsen-css-components.css"

# Both themes are loaded and one sheet is on. The components name fonts that only
# phones have, so the screen's font is forced. Alerts and sheets are white even in the
# dark theme, where a light accent cannot be read on them. Onsen leaves the page behind
# a sheet or a menu almost bright; the veil here is the one of its dialogs. `.x-tick`
# and `.x-rail` lie on what Onsen paints without an element, to be measured.
SETUP = """
window.applyLook = (shell) => {
  const dark = shell.classes.includes("dark");
  for (const link of document.querySelectorAll('link[href*="onsenui"]'))
    link.sheet.disabled = link.href.includes("/dark-") !== dark;
  let tag = document.getElementById("look");
  if (!tag) {
    tag = document.createElement("style");
    tag.id = "look";
    document.head.append(tag);
  }
  const hex = shell.accent;
  const rgb = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",");
  const md = ["button-background", "switch-active-thumb", "range-thumb",
    "checkbox-active", "radio-button-active", "text-input-active",
    "alert-dialog-button", "progress-bar-primary", "fab-background",
    "tabbar-highlight-text", "toolbar-button"];
  const side = shell.classes.includes("md") ? "material-" : "";
  const filled = side && !dark && parseInt(hex.slice(1), 16) % 2;
  document.body.style.fontFamily = shell.font;
  tag.textContent = `html:root {
    --highlight-color-rgb: ${rgb};
    ${md.map((name) => `--material-${name}-color: ${hex};`).join("")}
    --material-switch-active-background-color: rgba(${rgb}, 0.5);
    --material-checkbox-checkmark-color: #fff;
    --material-fab-text-color: #fff;
    --action-sheet-mask-color: rgba(0, 0, 0, 0.2);
    ${dark ? `--alert-dialog-background-color: #2b2b2d;
    --alert-dialog-text-color: #fff; --alert-dialog-separator-color: #48484a;
    --action-sheet-button-background-color: #2b2b2d;
    --action-sheet-cancel-button-background-color: #2b2b2d;
    --action-sheet-button-separator-color: #48484a;` : ""}
    --fg: var(--${side}text-color);
    --bg: var(--${side}background-color);
    --card: var(--${side}card-background-color);
    ${filled ? `--material-toolbar-background-color: ${hex};
    --material-toolbar-text-color: #fff; --material-toolbar-button-color: #fff;` : ""}
  }
  ${filled ? ".page:has(.toolbar) ~ .statusbar-x { color: #fff; }" : ""}
  ${filled ? ".toolbar .x-s { color: #fff; }" : ""}
  .x-center { display: flex; justify-content: center; align-items: center; }
  .tabbar__icon > .x-center { height: 100%; }
  #app *:not(i.glyph) { font-family: inherit; }
  .popover-mask.popover-mask--material { background: rgba(0, 0, 0, 0.2); }
  .radio-button__checkmark > .x-tick {
    position: absolute; left: 4px; top: 6px; width: 13px; height: 11px;
  }
  .range > .x-rail { position: absolute; left: 0; right: 0; top: 1px; bottom: 1px; }
  .range--material > .x-rail { top: 8px; bottom: 8px; }`;
};
"""


class OnsenBase(WebKit):
    """Class names, bars, list items, questions, sheets, menus, messages."""

    forms = ("phone", "tablet")
    styles = (LIGHT, DARK)
    setup_js = SETUP

    def cls(self, *names: str) -> str:
        """Class names, each with its --material twin in the Material look."""
        if self.theme == "ios":
            return " ".join(names)
        out = []
        for name in names:
            block, _, part = name.partition("__")
            twin = f"{block}--material__{part}" if part else f"{block}--material"
            out.append(f"{name} {twin}")
        return " ".join(out)

    def _bar(self) -> int:
        """How high a toolbar is."""
        return 44 if self.theme == "ios" else 56

    def _item(
        self, words: str, front: str, tail: str, spec: str, arrow: bool = False
    ) -> str:
        """One <li> with up to three parts."""
        left, right = self.cls("list-item__left"), self.cls("list-item__right")
        gap = "gap:12px" + (";padding-right:16px" if self.theme == "md" else "")
        front = front and f'<div class="{left}" style="{gap}">{front}</div>'
        right += " list-item--chevron__right" if arrow else ""
        if tail or arrow:
            tail = f'<div class="{right}" style="gap:6px">{tail}</div>'
        cls = self.cls("list-item") + (" list-item--chevron" if arrow else "")
        return (
            f'<li class="{cls}"{spec}>{front}<div class="'
            f'{self.cls("list-item__center")}" style="flex:1;min-width:0">{words}</div>'
            f"{tail}</li>"
        )

    # -- what lies over a page --------------------------------------------------

    def _modal(self, mask: str, content: str) -> str:
        return (
            '<div style="position:fixed;inset:0;z-index:13000" data-over><div '
            f'class="{self.cls(mask)}"></div>{content}</div>'
        )

    def dialog(self, title: str, text: str, keys: list[str], tall: bool = False) -> str:
        """A question with one to three answers."""
        rows = self.theme == "ios" and not tall and len(keys) > 1
        foot = self.cls("alert-dialog-footer")
        foot += " alert-dialog-footer--rowfooter" if rows else ""
        cls = self.cls("alert-dialog-button")
        cls += " alert-dialog-button--rowfooter" if rows else ""
        # Material buttons float right, so the first one stands last.
        order = keys if self.theme == "ios" else keys[::-1]
        bold = " alert-dialog-button--primal"
        buttons = "".join(
            f'<button class="{cls}{bold if key == keys[-1] else ""}"{mark("button")}>'
            f"{escape(key)}</button>"
            for key in order
        )
        height = ' style="height:auto;display:flow-root"' if self.theme == "md" else ""
        return self._modal(
            "alert-dialog-mask",
            f'<div class="{self.cls("alert-dialog")}"><div '
            f'class="{self.cls("alert-dialog-container")}"><div '
            f'class="{self.cls("alert-dialog-title")}">{escape(title)}</div><div '
            f'class="{self.cls("alert-dialog-content")}">{escape(text)}</div><div '
            f'class="{foot}"{height}>{buttons}</div></div></div>',
        )

    def sheet(
        self,
        actions: list[Nav],
        danger: str = "",
        caption: str = "",
        icons: bool = False,
    ) -> str:
        """Actions that rise from the bottom; only Material shows their icons."""
        icons = icons and self.theme == "md"
        items = [(text, icon, "") for text, icon in actions]
        items += [(danger, "trash", " action-sheet-button--destructive")] * bool(danger)
        rows = tag(f'div class="{self.cls("action-sheet-title")}"', caption)
        for text, icon, more in (*items, ("Cancel", "close", "")):
            glyph = self.icon(icon, 24) if icons and icon else ""
            if icons:
                style = 'style="display:flex;align-items:center;width:24px"'
                cls = self.cls("action-sheet-icon")
                glyph = f'<span class="{cls}" {style}>{glyph}</span>'
            spec = mark("button", icon=icon if icons else "")
            rows += (
                f'<button class="{self.cls("action-sheet-button")}{more}"{spec}>'
                f"{glyph}{escape(text)}</button>"
            )
        low = "calc(var(--bottom) + 10px)" if self.theme == "ios" else "0"
        return self._modal(
            "action-sheet-mask",
            f'<div class="{self.cls("action-sheet")}" style="bottom:{low}">'
            f"{rows}</div>",
        )

    def menu(self, actions: list[Nav]) -> str:
        """A popover with a list under the top right corner."""
        rows = "".join(
            self._item(
                escape(text),
                self.icon(icon, 22) if icon else "",
                "",
                mark("menuitem", icon=icon),
            )
            for text, icon in actions
        )
        top = f"calc(var(--top) + {self._bar() + 6}px)"
        return self._modal(
            "popover-mask",
            f'<div class="{self.cls("popover")} popover--top" style="top:{top};'
            f'right:8px"><div class="{self.cls("popover__arrow")} popover--top__arrow" '
            f'style="right:34px"></div><div class="{self.cls("popover__content")} '
            f'popover--top__content"><ul class="{self.cls("list")} list--noborder" '
            f'style="background:none">{rows}</ul></div></div>',
        )

    def toast(self, text: str, action: str = "") -> str:
        spec = mark("button", box="ink")
        key = self.cls("toast__button")
        button = action and f'<button class="{key}"{spec}>{escape(action)}</button>'
        return (
            f'<div class="{self.cls("toast")}" data-over style="position:fixed;'
            f'z-index:14000;bottom:calc(var(--bottom) + 64px)"><div '
            f'class="{self.cls("toast__message")}">{escape(text)}</div>{button}</div>'
        )
