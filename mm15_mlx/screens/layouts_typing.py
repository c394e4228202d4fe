"""Screens that are being typed on: a keyboard is up and a field has the focus."""

from . import labels
from .content import Content
from .keyboard import PAD, keyboard
from .kits import Bars, Field, Kit, Row, mark
from .layouts_forms import FIELDS, field_value


def typing_chat(ui: Kit, c: Content) -> str:
    """A conversation with an answer half written."""
    lines = [
        ui.bubble(c.message() if c.chance(0.7) else c.sentence(5, 12), c.chance(0.5))
        for _ in range(ui.look.many(c.rng.randint(3, 7)))
    ]
    draft = c.message() if c.chance(0.7) else ""
    bars = Bars(
        back=c.pick(("", "Chats")),
        right=c.pick(([("Call", "phone")], [("Video", "video")], [])),
        footer=ui.message_bar(c.pick(("Message", "Type a message", "Reply")), draft),
        keyboard=keyboard(ui, c, c.pick(("letters", "letters", "symbols")), "send"),
    )
    return ui.page(c.name(), "".join(lines), bars)


def typing_form(ui: Kit, c: Content) -> str:
    """A form of which one field is being filled in."""
    names = c.some(FIELDS, 2, 4)
    at = c.rng.randrange(len(names))
    fields = []
    for i, name in enumerate(names):
        done = i < at or (i == at and c.chance(0.6))
        kind = {"Password": "password", "Email": "email"}.get(name, "text")
        fields.append(
            ui.field(
                Field(
                    name,
                    kind=kind,
                    placeholder=c.pick((name, "Required", f"Enter {name.lower()}")),
                    value=field_value(c, name) if done else "",
                    focused=i == at,
                    disabled=i != at and c.chance(0.12),
                )
            )
        )
    digits = names[at] in ("Phone", "Card Number", "ZIP Code")
    word = c.pick(("Save", "Continue", "Next", "Sign In"))
    send = ui.button(word, "fill", large=True, disabled=c.chance(0.25))
    keys = keyboard(ui, c, "digits" if digits else "letters", c.pick(("next", "done")))
    return ui.page(
        c.pick(("Edit Contact", "Your Details", "New Address", "Profile", "Sign In")),
        ui.group(fields, inset=c.chance(0.3)) + ui.stack(send),
        Bars(
            left=[("Cancel", "")] if c.chance(0.5) else [],
            right=[("Done", "")] if c.chance(0.5) else [],
            keyboard=keys,
        ),
    )


def typing_search(ui: Kit, c: Content) -> str:
    """A search in progress, with what it may come to."""
    query = c.pick(labels.PRODUCTS).lower()[: c.rng.randint(2, 9)].strip()
    rows = [
        ui.row(
            Row(
                f"{query} {c.fake.word()}" if c.chance(0.6) else c.product(),
                media=ui.icon(c.pick(("search", "clock")), 20, "var(--muted)"),
                subtitle=c.sentence(3, 5) if c.chance(0.2) else "",
                tap=True,
            )
        )
        for _ in range(ui.look.many(c.rng.randint(4, 7)))
    ]
    return ui.page(
        c.pick(("Search", "Explore", c.app)),
        ui.searchbar("Search", query, focused=True)
        + ui.group(rows, c.pick(("", "Suggestions", "Recent searches"))),
        Bars(back=c.pick(("", None)), keyboard=keyboard(ui, c, "letters", "search")),
    )


def passcode(ui: Kit, c: Content) -> str:
    """A code or an amount, and large round keys to enter it."""
    money = c.chance(0.4)
    length = c.pick((4, 6))
    typed = c.rng.randint(0, length - 1)
    if money:
        big = f'<div class="x-h1" style="font-size:44px">{c.price(1, 900)}</div>'
        head = c.pick(("Send money", "Amount", "Top up", "Enter amount"))
    else:
        dots = "".join(f'<i class="{"on" if i < typed else ""}"></i>'
                       for i in range(length))  # fmt: skip
        big = f'<div class="x-dots" style="gap:18px">{dots}</div>'
        head = c.pick(("Enter Passcode", "Enter your PIN", "Confirm code", "Unlock"))
    size, rows = c.pick((64, 72, 76)), ""
    keys = [digit for row in PAD for digit in row]
    for label in (*keys, "." if money else "", "0", "Delete"):
        if not label:
            rows += "<i></i>"
        elif label == "Delete":
            rows += f'<div class="x-mid">{ui.icon_button("backspace", label, 26)}</div>'
        else:
            spec = mark("button", label, text=label)
            style = f"width:{size}px;height:{size}px"
            rows += f'<a class="x-digit" style="{style}"{spec}>{label}</a>'
    pad = f'<div class="x-pad9" style="gap:{c.rng.randint(10, 22)}px">{rows}</div>'
    note = f'<div class="x-s">{c.sentence(4, 7)}</div>' if c.chance(0.5) else ""
    last = ui.stack(ui.button("Continue", "fill", large=True, disabled=c.chance(0.5))
                    if money else f'<div class="x-mid">{ui.link("Forgot code?")}</div>'
                    )  # fmt: skip
    top = c.rng.randint(20, 90)
    return ui.page(
        c.pick(("", head)),
        f'<div class="x-mid" style="gap:18px;padding-top:{top}px"><div class="x-h2">'
        f"{head}</div>{note}{big}</div>{pad}{last}",
        Bars(back=c.pick(("", None)), right=c.pick(([], [("Cancel", "")]))),
    )
