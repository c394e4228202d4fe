"""Bars and strips that many layouts share."""

from . import labels
from .content import Content
from .kits import Kit


def nav(c: Content, low: int = 0, high: int = 2) -> list[tuple[str, str]]:
    """Right-hand navigation buttons."""
    names = c.some(labels.NAVBAR, low, high)
    if names and c.chance(0.15):
        return [(c.pick(("Edit", "Done", "Save", "Add", "Next", "Select")), "")]
    return [(name.replace("-", " ").capitalize(), name) for name in names]


def tabs(c: Content) -> dict:
    """A tab bar, or none."""
    if c.chance(0.45):
        return {}
    items = c.named(labels.TABS, 3, 5)
    return {"tabs": items, "active": c.rng.randrange(len(items))}


def back(c: Content, chance: float = 0.6) -> str | None:
    """A back button with or without words, or none."""
    if not c.chance(chance):
        return None
    return c.pick(("", "", "", "Back", "Settings", "Home", "Menu"))


def frame(c: Content, **extra: object) -> dict:
    """Bars in a random but plausible combination."""
    start = back(c)
    low = tabs(c) if start is None or c.chance(0.3) else {}
    left = [("Menu", "menu")] if start is None and c.chance(0.2) else []
    return {"back": start, "left": left, "right": nav(c), **low, **extra}


def choice(c: Content) -> tuple[list[str], int]:
    """Options of a segmented control and the active one."""
    options = list(c.pick(labels.SEGMENTS))
    return options, c.rng.randrange(len(options))


def filters(ui: Kit, c: Content) -> str:
    """A strip of chips that may run off the screen."""
    names = c.some(labels.FILTERS, 3, 7)
    on = c.rng.randrange(len(names))
    return ui.scroller([ui.chip(name, i == on) for i, name in enumerate(names)])


def columns_of(ui: Kit, parts: list[str]) -> str:
    """Blocks below each other on a phone, in columns where there is room."""
    across = min(len(parts), ui.look.columns(1))
    if across < 2:
        return "".join(parts)
    style = f"grid-template-columns:repeat({across},minmax(0,1fr))"
    return f'<div class="x-cols" style="{style}">{"".join(parts)}</div>'
