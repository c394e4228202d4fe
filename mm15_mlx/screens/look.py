"""The choices that are the same for a whole screen, and its colours."""

from dataclasses import dataclass, field

NARROW = 390  # CSS pixels: the width that layouts are written for
TALL = 844


@dataclass
class Look:
    """Sizes are in CSS pixels."""

    dark: bool = False
    accent: str = "#007aff"
    font: str = ""
    scale_text: float = 1.0
    phone_bar: bool = True
    notch: bool = True
    width: int = NARROW
    height: int = TALL
    form: str = "phone"  # or tablet or desktop
    breadth: int = NARROW  # what the layout's own content has of the width
    classes: list[str] = field(default_factory=list)

    def columns(self, narrow: int) -> int:
        """How many columns a grid has that has `narrow` on a phone."""
        if self.form == "phone":
            return narrow
        return max(narrow, round(narrow * self.breadth / (NARROW * 1.2)))

    def many(self, count: int, columns: int = 1) -> int:
        """How many things fill a screen that `count` fill on a phone.

        `columns` is how many of them stand side by side on a phone.
        """
        if self.form == "phone":
            return count
        tall = max(1.0, self.height / TALL)
        return round(count * tall * self.columns(columns) / columns)


def lighter(color: str) -> str:
    """A dark colour mixed with white, to be readable on black."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    share = 0.45 if 0.3 * red + 0.59 * green + 0.11 * blue < 120 else 0.1
    mixed = (round(value + (255 - value) * share) for value in (red, green, blue))
    return "#" + "".join(f"{value:02x}" for value in mixed)
