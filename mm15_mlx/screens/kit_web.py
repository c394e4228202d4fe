"""A mobile frame for kits that are style sheets only."""

from collections.abc import Sequence
from html import escape

from .kits import Bars, Kit, Nav, flag, mark, tag


class WebKit(Kit):
    """A header, a pane that scrolls and a footer, with Bootstrap's icons."""

    icon_set = "bootstrap"

    def pane(self, title: str, body: str, bars: Bars) -> str:
        """Bars around `body`, as wide and high as what holds them."""
        head = "" if bars.bare else self._header(title, bars)
        foot = self._tabs(bars) if bars.tabs else self._tools(bars.tools)
        pad = "padding-top:calc(var(--top) + 8px);" if bars.bare else ""
        pad += "padding-bottom:90px;" if bars.footer else "padding-bottom:24px;"
        float_ = ""
        if bars.fab:
            button = self.round_button(bars.fab[1], bars.fab[0])
            float_ = f'<div class="w-fab" data-over>{button}</div>'
        return (
            f'<div class="w-page">{head}<div class="w-body" data-scroll style="{pad}">'
            f"{body}</div>{foot}{float_}{bars.footer}</div>"
        )

    def _buttons(self, items: Sequence[Nav]) -> str:
        out = []
        for label, icon in items:
            if icon and self.has_icon(icon):
                out.append(self.icon_button(icon, label, 21, "inherit"))
            elif label:
                out.append(f'<a class="x-link"{mark("button", box="ink")}>{label}</a>')
        return "".join(out)

    def _header(self, title: str, bars: Bars) -> str:
        start, back = self._buttons(bars.left), bars.back
        if back is not None:
            spec = mark("button", back or "Back", "back", box="ink")
            start = (
                f'<a class="x-iconbtn" style="color:inherit;gap:2px"{spec}>'
                f"{self.icon('back', 20)}<span>{escape(back)}</span></a>"
            )
        sub = tag('div class="x-s"', bars.subtitle)
        cls = "x-h1" if bars.large else "x-h3"
        filled = self.header_class() == "w-filled"
        style = f"background:{self.look.accent}" if filled else ""
        return (
            f'<div class="w-head {self.header_class()}" style="{style}"><div '
            f'class="w-side">{start}</div>'
            f'<div class="w-title"><div class="{cls} x-one" style="color:inherit">'
            f'{escape(title)}</div>{sub}</div><div class="w-side end">'
            f"{self._buttons(bars.right)}</div></div>"
        )

    def header_class(self) -> str:
        return ""

    def _tabs(self, bars: Bars) -> str:
        tabs, active = bars.tabs, bars.active
        keys = []
        for i, (label, icon) in enumerate(tabs):
            spec = mark("tab", label, icon, box="ink", state={"selected": i == active})
            on = "on" if i == active else ""
            glyph = self.icon(icon, 22) if icon else ""
            keys.append(f'<a class="w-tab {on}"{spec}>{glyph}<span>{label}</span></a>')
        return f'<div class="w-foot">{"".join(keys)}</div>'

    def _tools(self, tools: Sequence[Nav]) -> str:
        if not tools:
            return ""
        return f'<div class="w-foot w-tools">{self._buttons(tools)}</div>'

    def glyph(self, glyph: str, style: str, spec: str) -> str:
        path = f"bootstrap-icons/icons/{glyph}.svg"
        return (
            f'<span class="svg-glyph" data-glyph="{path}" style="{style}"{spec}></span>'
        )

    def stepper(self, label: str, value: int) -> str:
        """Minus, number, plus."""
        less, more = (
            self.icon_button(icon, f"{word} {label}", 18)
            for word, icon in (("Decrease", "minus"), ("Increase", "add"))
        )
        return self.line(less, f'<span class="x-p">{value}</span>', more)

    def title(self, text: str) -> str:
        return f'<div class="x-pad x-h3">{escape(text)}</div>'

    def large_title(self, text: str) -> str:
        return f'<div class="x-pad x-h2">{escape(text)}</div>'

    def options(self, value: str, options: list[str]) -> str:
        """The <option>s of a select."""
        return "".join(
            f"<option {flag('selected', o == value)}>{escape(o)}</option>"
            for o in options
        )
