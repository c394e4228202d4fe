"""What the Material kits share: colours from one accent, and how they are set."""

from collections.abc import Sequence
from math import atan2, cos, hypot, sin
from typing import Any

from .kit_web import WebKit
from .kits import Kit, Nav, mark, state_of

# role: (palette, tone in light, tone in dark), as Material 3 sets them.
ROLES = {
    "primary": ("accent", 40, 80),
    "on-primary": ("accent", 100, 20),
    "primary-container": ("accent", 90, 30),
    "on-primary-container": ("accent", 10, 90),
    "inverse-primary": ("accent", 80, 40),
    "secondary": ("second", 40, 80),
    "on-secondary": ("second", 100, 20),
    "secondary-container": ("second", 90, 30),
    "on-secondary-container": ("second", 10, 90),
    "tertiary-container": ("third", 90, 30),
    "on-tertiary-container": ("third", 10, 90),
    "surface": ("grey", 98, 6),
    "background": ("grey", 98, 6),
    "surface-container-lowest": ("grey", 100, 4),
    "surface-container-low": ("grey", 96, 10),
    "surface-container": ("grey", 94, 12),
    "surface-container-high": ("grey", 92, 17),
    "surface-container-highest": ("grey", 90, 22),
    "on-surface": ("grey", 10, 90),
    "on-background": ("grey", 10, 90),
    "surface-variant": ("dull", 90, 30),
    "on-surface-variant": ("dull", 30, 80),
    "outline": ("dull", 50, 60),
    "outline-variant": ("dull", 80, 30),
    "inverse-surface": ("grey", 20, 90),
    "inverse-on-surface": ("grey", 95, 20),
}


def scheme(accent: str, dark: bool) -> dict[str, str]:
    """Material's colour roles, all in the hue of one colour."""
    red, green, blue = (int(accent[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
        for v in (red, green, blue)
    )
    # Björn Ottosson's OKLab.
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    mid = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    a = 1.9779984951 * long - 2.428592205 * mid + 0.4505937099 * short
    b = 0.0259040371 * long + 0.7827717662 * mid - 0.808675766 * short
    hue, chroma = atan2(b, a), hypot(a, b)
    palettes = {
        "accent": (hue, chroma),
        "second": (hue, min(chroma, 0.045)),
        "third": (hue + 1.05, min(chroma, 0.07)),
        "grey": (hue, min(chroma, 0.008)),
        "dull": (hue, min(chroma, 0.016)),
    }
    return {
        role: tone(*palettes[palette], on_dark if dark else on_light)
        for role, (palette, on_light, on_dark) in ROLES.items()
    }


def tone(hue: float, chroma: float, lightness: int) -> str:
    """The most colourful sRGB colour of one hue and lightness, up to `chroma`."""
    light = (lightness + 16) / 116
    while True:
        a, b = chroma * cos(hue), chroma * sin(hue)
        long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
        mid = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
        short = (light - 0.0894841775 * a - 1.291485548 * b) ** 3
        linear = (
            4.0767416621 * long - 3.3077115913 * mid + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * mid - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * mid + 1.707614701 * short,
        )
        if chroma < 0.001 or all(-0.0005 <= v <= 1.0005 for v in linear):
            break
        chroma -= 0.004
    shares = (
        12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055
        for v in (min(max(v, 0.0), 1.0) for v in linear)
    )
    return "#" + "".join(f"{round(v * 255):02x}" for v in shares)


# Sets a library's colour variables, whose names begin with %s, and our own.
PAINT = """
window.paintLook = (shell) => {
  const { style } = document.body;
  for (const [role, value] of Object.entries(shell.colors)) {
    style.setProperty(`--%s${role}`, value);
  }
  const ours = { bg: "surface", fg: "on-surface", muted: "on-surface-variant",
    card: "surface-container-low", line: "outline-variant",
    fill: "surface-container-highest", accent: "primary" };
  for (const [name, role] of Object.entries(ours)) {
    style.setProperty(`--${name}`, shell.colors[role]);
  }
};
const extra = document.createElement("style");
extra.textContent = `%s`;
document.head.append(extra);
"""


class MaterialKit(WebKit):
    """A kit of Material Design 3 with the Material Icons font."""

    theme, icon_set = "md", "material"
    icon_fonts: tuple[str, ...] = ("Material Icons",)
    fonts = ("Roboto Variable",)

    def shell(self) -> dict[str, Any]:
        """What the page script needs besides HTML."""
        return {**super().shell(), "colors": scheme(self.look.accent, self.look.dark)}

    def glyph(self, glyph: str, style: str, spec: str) -> str:
        return Kit.glyph(self, glyph, style, spec)

    def icon_button(
        self,
        icon: str,
        label: str = "",
        size: int = 24,
        color: str = "",
        style: str = "",
        **more: Any,
    ) -> str:
        """A round button about a glyph, filled where it lies on a picture."""
        if not self.has_icon(icon):
            return ""
        label = label or icon.replace("-", " ").capitalize()
        filled = "absolute" in style
        spec = mark("button", label, icon, box="" if filled else "ink", **more)
        return self.round_key(self.icon(icon, size, color), size, filled, style, spec)

    def round_key(
        self, glyph: str, size: int, filled: bool, style: str, spec: str
    ) -> str:
        """The library's icon button about a glyph of `size`."""
        raise NotImplementedError

    def _buttons(self, items: Sequence[Nav]) -> str:
        out = []
        for label, icon in items:
            if icon and self.has_icon(icon):
                out.append(self.icon_button(icon, label, color="inherit"))
            elif label:
                out.append(self.text_button(label))
        return "".join(out)

    def text_button(self, text: str) -> str:
        """Words that can be tapped, in bars and dialogs."""
        raise NotImplementedError

    def pill(self, placeholder: str, value: str, spec: str, icon: str = "") -> str:
        """A round text field without a label."""
        raise NotImplementedError

    def searchbar(
        self, placeholder: str, value: str = "", focused: bool = False
    ) -> str:
        """A round field with a lens, on a line of its own."""
        state = state_of(value=value, focused=focused)
        spec = mark("input", placeholder or "Search", "search", state=state, text=value)
        return (
            f'<div class="x-pad">{self.pill(placeholder, value, spec, "search")}</div>'
        )

    def message_bar(self, placeholder: str, value: str = "") -> str:
        """The field at the foot of a conversation."""
        first = self.c.pick(("add", "camera", "smile"))
        last, word = self.c.pick((("send", "Send"), ("microphone", "Record")))
        field = self.pill(placeholder, value, mark("input", placeholder, text=value))
        return (
            '<div class="x-bottom" data-cover><div class="x-line" style="gap:4px">'
            f"{self.icon_button(first, 'Attach')}"
            f'<div class="x-grow">{field}</div>'
            f"{self.icon_button(last, word)}</div></div>"
        )
