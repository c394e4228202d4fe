"""Keyboards that phones and tablets draw: letters, symbols, digits."""

from html import escape

from .content import Content
from .kits import Kit, mark

LETTERS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
SYMBOLS = ("1234567890", '-/:;()$&@"', ".,?!'#%")
PAD = ("123", "456", "789")


def key(label: str, text: str, inner: str = "", grow: float = 1, cls: str = "") -> str:
    """One key; `text` is what stands on it, `inner` its markup where it differs."""
    spec = mark("button", label, text=text)
    style = f"flex:{grow} 1 0"
    return f'<a class="x-key {cls}" style="{style}"{spec}>{inner or escape(text)}</a>'


def special(ui: Kit, label: str, icon: str, text: str, grow: float) -> str:
    """A key with a glyph, or a word where the kit has no such glyph."""
    glyph = ui.icon(icon, 20)
    if not glyph:
        return key(label, text, grow=grow, cls="dim")
    spec = mark("button", label, icon, text="")
    return f'<a class="x-key dim" style="flex:{grow} 1 0"{spec}>{glyph}</a>'


def keyboard(ui: Kit, c: Content, kind: str, enter: str = "return") -> str:
    """A keyboard for `kind`: letters, symbols or digits. None on a desktop."""
    if ui.look.form == "desktop":
        return ""
    rows = pad_rows(ui) if kind == "digits" else letter_rows(ui, c, kind, enter)
    hints = ""
    if kind == "letters" and c.chance(0.5):
        words = "".join(
            f'<a class="x-hint"{mark("button", word)}>{word}</a>'
            for word in (c.fake.word(), c.first(), c.fake.word())
        )
        hints = f'<div class="x-hints">{words}</div>'
    lines = "".join(f'<div class="x-keyrow">{row}</div>' for row in rows)
    return f'<div class="x-keys" data-cover data-over>{hints}{lines}</div>'


def pad_rows(ui: Kit) -> list[str]:
    """The pad that telephones have."""
    rows = ["".join(key(digit, digit) for digit in row) for row in PAD]
    last = special(ui, "Delete", "backspace", "del", 1)
    return [*rows, key("Decimal point", ".", cls="dim") + key("0", "0") + last]


def letter_rows(ui: Kit, c: Content, kind: str, enter: str) -> list[str]:
    """Three rows of characters, and the row with the space bar."""
    ios, upper = ui.theme == "ios", c.chance(0.3)
    chars = SYMBOLS if kind == "symbols" else LETTERS
    rows = []
    for i, row in enumerate(chars):
        shown = row.upper() if upper else row
        keys = "".join(key(char, char) for char in shown)
        if i == 1 and kind == "letters":
            keys = f'<i style="flex:.5 1 0"></i>{keys}<i style="flex:.5 1 0"></i>'
        if i == 2:
            first = special(ui, "Shift", "shift", "shift", 1.4)
            if kind == "symbols":
                first = key("More symbols", "#+=", grow=1.4, cls="dim")
            keys = first + keys + special(ui, "Delete", "backspace", "del", 1.4)
        rows.append(keys)
    switch = key("Letters", "ABC", grow=1.5, cls="dim")
    if kind == "letters":
        text = "123" if ios else "?123"
        switch = key("Numbers", text, grow=1.5, cls="dim")
    globe = special(ui, "Next keyboard", "globe", "lang", 1.2) if c.chance(0.6) else ""
    comma = "" if ios else key(",", ",", cls="dim") + globe
    space = key("Space", "space" if ios else "English", grow=5)
    dot = "" if ios else key(".", ".", cls="dim")
    first = switch + (globe if ios else comma)
    rows.append(first + space + dot + key("Enter", enter, grow=1.8, cls="go"))
    return rows
