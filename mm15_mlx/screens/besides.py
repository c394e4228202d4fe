"""What stands beside a layout on a wide screen: a list, or what was chosen in it."""

from . import labels
from .content import Content
from .kits import Bars, Kit, Row
from .layout_parts import nav
from .layouts_lists import setting_row


def listing(ui: Kit, c: Content, layout: str) -> tuple[str, str]:
    """Title and rows of a list from which the layout was reached."""
    chats = layout in ("conversation", "typing-chat", "mail-detail")
    if not chats and layout != "profile":
        return c.pick(labels.TITLES), settings_rows(ui, c)
    rows = []
    for _ in range(ui.look.many(c.rng.randint(7, 11))):
        name = c.name()
        rows.append(
            ui.row(
                Row(
                    name,
                    subtitle=c.message() if chats else "",
                    after=c.when() if chats else "",
                    media=ui.avatar(name, 40),
                    tap=True,
                )
            )
        )
    title = c.pick(("Chats", "Messages", "Inbox") if chats else ("People", "Team"))
    return title, ui.searchbar("Search") + ui.group(rows)


def settings_rows(ui: Kit, c: Content) -> str:
    """Groups of places with an icon."""
    pool = c.named(labels.SETTINGS, 20, 20)
    rows = [
        ui.row(Row(name, media=ui.icon(icon, 24) if icon else "", chevron=True))
        for name, icon in pool[: ui.look.many(c.rng.randint(7, 11))]
    ]
    half = len(rows) // 2
    head = c.pick(labels.HEADERS) if c.chance(0.5) else ""
    return ui.group(rows[:half]) + ui.group(rows[half:], head)


def detail(ui: Kit, c: Content, layout: str) -> tuple[str, str, Bars]:
    """Title, body and bars of what is chosen in a list, or of nothing chosen."""
    bars = Bars(right=nav(c, 1, 3))
    if c.chance(0.12):
        words = c.pick(("Nothing selected", "Select an item", "No selection"))
        icon = ui.icon(c.pick(("inbox", "chat", "document")), 64, "var(--muted)")
        body = (
            f'<div class="x-mid" style="gap:12px;padding-top:200px">{icon}'
            f'<div class="x-h2">{words}</div>'
            f'<div class="x-s">{c.sentence(4, 8)}</div></div>'
        )
        return "", body, Bars()
    if layout == "chat-list":
        return c.name(), talk(ui, c), Bars(footer=ui.message_bar("Message"))
    if layout == "settings":
        rows = [
            setting_row(ui, c, name, icon, False, False)
            for name, icon in c.named(labels.SETTINGS, 5, 12)
        ]
        half = len(rows) // 2
        body = ui.group(rows[:half], footer=c.sentence()) + ui.group(
            rows[half:], c.pick(labels.HEADERS), inset=True
        )
        return c.pick(labels.TITLES), body, bars
    if layout == "contacts":
        return "", person(ui, c), bars
    return c.pick(("", "Details", c.app)), article(ui, c), bars


def talk(ui: Kit, c: Content) -> str:
    """Messages of two people."""
    return "".join(
        ui.bubble(c.message() if c.chance(0.6) else c.sentence(6, 20), c.chance(0.5))
        for _ in range(ui.look.many(c.rng.randint(6, 11)))
    )


def person(ui: Kit, c: Content) -> str:
    """A face, ways to reach them, what is known of them."""
    name = c.name()
    keys = [
        ui.icon_button(icon, f"{word} {name}", 26, style="margin:0 14px")
        for word, icon in (("Call", "phone"), ("Write to", "chat"), ("Film", "video"))
    ]
    rows = [
        ui.row(Row(what, after=value))
        for what, value in (
            ("Mobile", c.fake.numerify("(###) ###-####")),
            ("Email", c.email()),
            ("Company", c.fake.company()),
            ("City", c.fake.city()),
            ("Birthday", c.date()),
        )
    ]
    return (
        f'<div class="x-pad x-mid" style="gap:10px">{ui.avatar(name, 112)}'
        f'<div class="x-h1">{name}</div><div class="x-s">{c.fake.job()}</div>'
        f"{ui.line(*keys)}</div>{ui.group(rows, inset=c.chance(0.5))}"
    )


def article(ui: Kit, c: Content) -> str:
    """A heading, perhaps a picture, paragraphs, one or two buttons."""
    title = c.sentence(3, 8).rstrip(".")
    shot = ui.image(title, "100%", f"{c.rng.randint(180, 340)}px", "scene", 12)
    text = "".join(
        f'<p class="x-p">{c.paragraph(c.rng.randint(2, 5))}</p>'
        for _ in range(c.rng.randint(2, 5))
    )
    keys = [
        ui.button(word, style, css="flex:1")
        for word, style in zip(c.some(labels.BUTTONS, 1, 2), ("fill", "outline"),
                               strict=False)
    ]  # fmt: skip
    return ui.stack(
        shot if c.chance(0.6) else "",
        f'<div class="x-h1" style="margin:16px 0 6px">{title}</div>',
        f'<div class="x-s">{c.name()} · {c.date()}</div>',
        text,
        ui.line(*keys, style="max-width:420px"),
    )
