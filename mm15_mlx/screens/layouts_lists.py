"""Screens that are mostly rows: settings, chats, mail, files, notices."""

from . import labels
from .content import Content
from .kits import Bars, Kit, Row
from .layout_parts import choice, filters, frame, nav


def settings(ui: Kit, c: Content) -> str:
    """Groups of rows with switches, values and chevrons."""
    pool = c.named(labels.SETTINGS, 30, 30)
    inset, icons, tiles = c.chance(0.5), c.chance(0.65), c.chance(0.7)
    parts = []
    if c.chance(0.3):
        parts.append(ui.searchbar("Search"))
    if c.chance(0.25):
        person = c.name()
        top = ui.row(
            Row(
                person,
                subtitle=c.pick((c.email(), "Account, Cloud & More")),
                media=ui.avatar(person, 48),
                chevron=True,
            )
        )
        parts.append(ui.group([top], inset=inset))
    for _ in range(ui.look.many(c.rng.randint(2, 5))):
        count = min(len(pool), c.rng.randint(1, 6))
        rows = [setting_row(ui, c, *pool.pop(), icons, tiles) for _ in range(count)]
        header = c.pick(labels.HEADERS) if c.chance(0.5) else ""
        footer = c.sentence() if c.chance(0.2) else ""
        parts.append(ui.group(rows, header, footer, inset))
    if c.chance(0.2):
        parts.append(ui.stack(ui.button(c.pick(labels.DANGER), "plain")))
    title = c.pick(labels.TITLES) if c.chance(0.6) else "Settings"
    return ui.page(title, "".join(parts), Bars(**frame(c, large=c.chance(0.2))))


def setting_row(
    ui: Kit, c: Content, name: str, icon: str, icons: bool, tiles: bool
) -> str:
    """One setting in one of its usual shapes."""
    media = ""
    if icons and icon:
        media = ui.tile(icon) if tiles else ui.icon(icon, 24, c.pick(("", c.color())))
    kind = c.rng.random()
    sub = c.sentence(3, 6) if c.chance(0.15) else ""
    if kind < 0.38:
        toggle = ui.switch(name, c.chance(0.5), c.chance(0.1))
        return ui.row(Row(name, subtitle=sub, media=media, control=toggle))
    if kind < 0.7:
        return ui.row(
            Row(
                name,
                subtitle=sub,
                media=media,
                after=c.pick(labels.VALUES),
                chevron=True,
            )
        )
    if kind < 0.78:
        stepper = ui.stepper(name, c.rng.randint(0, 20))
        return ui.row(Row(name, media=media, control=stepper))
    badge = str(c.rng.randint(1, 12)) if c.chance(0.15) else ""
    return ui.row(Row(name, subtitle=sub, media=media, badge=badge, chevron=True))


def chat_list(ui: Kit, c: Content) -> str:
    """Conversations with faces, previews, times and badges."""
    size, rows = c.pick((40, 48, 56)), []
    for _ in range(ui.look.many(c.rng.randint(5, 11))):
        person = c.name()
        badge = str(c.rng.randint(1, 30)) if c.chance(0.3) else ""
        rows.append(
            ui.row(
                Row(
                    person,
                    subtitle=c.message(),
                    after=c.when(),
                    badge=badge,
                    media=ui.avatar(person, size),
                    tap=True,
                )
            )
        )
    parts = [ui.searchbar(c.pick(("Search", "Search chats")))] if c.chance(0.5) else []
    if c.chance(0.3):
        parts.append(ui.segmented(*choice(c)))
    parts.append(ui.group(rows))
    bars = frame(c, back=None, large=c.chance(0.25))
    if not bars["right"]:
        bars["right"] = [("New message", "compose")]
    if c.chance(0.3):
        bars["fab"] = ("New chat", c.pick(("chat", "edit", "add")))
    return ui.page(
        c.pick(("Chats", "Messages", "Inbox", c.app)), "".join(parts), Bars(**bars)
    )


def conversation(ui: Kit, c: Content) -> str:
    """Bubbles, with a field to write in at the foot."""
    person, parts = c.name(), []
    for i in range(ui.look.many(c.rng.randint(5, 10))):
        if i == 0 or c.chance(0.15):
            stamp = f"{c.pick(('Today', 'Yesterday', c.date()))} {c.time()}"
            parts.append(f'<div class="x-note mid">{stamp}</div>')
        text = c.message() if c.chance(0.7) else c.sentence(5, 16)
        note = c.pick(("Delivered", "Read", c.time())) if c.chance(0.2) else ""
        parts.append(ui.bubble(text, c.chance(0.5), note))
    draft = c.message() if c.chance(0.25) else ""
    hint = c.pick(("Message", "Type a message", "Write something…", "Reply"))
    bars = {
        "back": c.pick(("", "", "Chats", "Back")),
        "footer": ui.message_bar(hint, draft),
    }
    bars["right"] = c.pick(
        ([("Call", "phone")], [("Video", "video"), ("Call", "phone")], [])
    )
    bars["subtitle"] = c.pick(("", "online", "last seen " + c.when().lower()))
    return ui.page(person, "".join(parts), Bars(**bars))


def mail_list(ui: Kit, c: Content) -> str:
    """Messages with a subject and a preview."""
    rows, stars, faces = [], c.chance(0.3), c.chance(0.35)
    for _ in range(ui.look.many(c.rng.randint(5, 9))):
        sender = c.pick((c.name(), c.fake.company(), c.app))
        star = c.pick(("star", "star-filled"))
        control = ui.icon_button(star, f"Star {sender}", 18) if stars else ""
        media = ui.avatar(sender, 40) if faces else ""
        rows.append(
            ui.row(
                Row(
                    sender,
                    subtitle=c.sentence(3, 6),
                    text=c.paragraph(1),
                    after=c.when(),
                    media=media,
                    control=control,
                    tap=True,
                )
            )
        )
    parts = [ui.searchbar("Search mail")] if c.chance(0.4) else []
    if c.chance(0.3):
        parts.append(filters(ui, c))
    parts.append(ui.group(rows, media=True))
    bars = frame(c)
    if c.chance(0.4):
        bars["fab"] = ("Compose", c.pick(("edit", "compose", "add")))
    elif "tabs" not in bars and c.chance(0.5):
        bars["tools"] = [("Filter", "filter"), ("Compose", "compose")]
    title = c.pick(
        ("Inbox", "All Mail", "Sent", "Drafts", "Archive", "Updates", "Spam")
    )
    return ui.page(title, "".join(parts), Bars(**bars))


def mail_detail(ui: Kit, c: Content) -> str:
    """One message, its people, its attachment."""
    sender = c.name()
    head = ui.line(
        ui.avatar(sender, 42),
        f'<div class="x-grow"><div class="x-h3 x-one">{sender}</div>'
        f'<div class="x-s x-one">to {c.pick(("me", c.first(), c.email()))}</div></div>',
        f'<div class="x-s">{c.when()}</div>',
    )
    body = "".join(
        f'<p class="x-p">{c.paragraph(c.rng.randint(1, 3))}</p>'
        for _ in range(c.rng.randint(2, 4))
    )
    hello = f'<p class="x-p">{c.pick(("Hi", "Hello", "Dear", "Hey"))} {c.first()},</p>'
    parts = [
        '<div class="x-h2" '
        f'style="margin-bottom:14px">{c.sentence(3, 7).rstrip(".")}</div>',
        head,
        hello,
        body,
        f'<p class="x-p">{c.pick(("Best", "Thanks", "Cheers"))},<br>'
        f"{sender.split()[0]}</p>",
    ]
    if c.chance(0.5):
        file = ui.row(
            Row(
                c.filename(),
                subtitle=c.size(),
                media=ui.tile("document", 34),
                control=ui.icon_button("download", "Download"),
                tap=True,
            )
        )
        parts.append(ui.group([file], inset=True))
    if c.chance(0.4):
        parts.append(
            ui.line(
                ui.button("Reply", "outline", "reply", round_=True),
                ui.button("Forward", "outline", "forward-mail", round_=True),
            )
        )
    bars = {"back": c.pick(("", "Inbox", "Back")), "right": nav(c, 0, 3)}
    if c.chance(0.6):
        keys = (
            ("Delete", "trash"),
            ("Archive", "archive"),
            ("Reply", "reply"),
            ("Move", "folder"),
            ("Compose", "compose"),
            ("Flag", "flag"),
        )
        bars["tools"] = c.some(keys, 3, 5)
    title = c.pick(("", "Inbox", f"{c.rng.randint(1, 9)} of {c.rng.randint(10, 99)}"))
    return ui.page(title, ui.stack(*parts), Bars(**bars))


def notifications(ui: Kit, c: Content) -> str:
    """What happened, newest first."""
    parts, faces = [], c.chance(0.5)
    for header in c.some(("Today", "Yesterday", "This Week", "Earlier"), 1, 3):
        rows = []
        for _ in range(c.rng.randint(2, 5)):
            icon = c.pick(
                ("bell", "heart", "person-add", "chat", "gift", "warning", "bag")
            )
            media = ui.avatar(c.name(), 40) if faces else ui.tile(icon, 34)
            rows.append(
                ui.row(
                    Row(
                        c.fill(c.pick(labels.NOTICES)),
                        subtitle=c.when(),
                        media=media,
                        tap=True,
                    )
                )
            )
        parts.append(ui.group(rows, header, inset=c.chance(0.3)))
    if c.chance(0.3):
        parts.insert(0, ui.segmented(["All", "Mentions"], c.rng.randrange(2)))
    bars = frame(c)
    if c.chance(0.4):
        bars["right"] = [(c.pick(("Clear", "Mark All Read", "Edit")), "")]
    return ui.page("Notifications", "".join(parts), Bars(**bars))


def file_browser(ui: Kit, c: Content) -> str:
    """Folders and files."""
    rows = []
    for _ in range(c.rng.randint(2, 5)):
        folder = c.pick(labels.TITLES)
        rows.append(
            ui.row(
                Row(
                    folder,
                    subtitle=f"{c.rng.randint(0, 240)} items",
                    media=ui.icon("folder", 30, c.pick(("", c.color()))),
                    chevron=True,
                )
            )
        )
    for _ in range(ui.look.many(c.rng.randint(3, 7))):
        name = c.filename()
        image = name.endswith(("png", "jpg"))
        icon = (
            "music"
            if name.endswith("mp3")
            else "film"
            if name.endswith("mp4")
            else "document"
        )
        media = (
            ui.image(name, "34px", "34px", "scene", 5) if image else ui.icon(icon, 30)
        )
        more = ui.icon_button("more", f"More for {name}", 20) if c.chance(0.5) else ""
        rows.append(
            ui.row(
                Row(
                    name,
                    subtitle=f"{c.size()} · {c.date()}",
                    media=media,
                    control=more,
                    tap=True,
                )
            )
        )
    parts = [ui.searchbar("Search files")] if c.chance(0.5) else []
    if c.chance(0.3):
        parts.append(
            ui.stack(
                f'<div class="x-s" style="margin-bottom:6px">{c.size()} of 128 GB '
                "used</div>",
                ui.progress(c.rng.random()),
            )
        )
    parts.append(ui.group(rows, c.pick(labels.HEADERS) if c.chance(0.4) else ""))
    bars = frame(c)
    if c.chance(0.35):
        bars["fab"] = ("New", "add")
    return ui.page(
        c.pick(("Files", "Documents", "Downloads", "My Drive")),
        "".join(parts),
        Bars(**bars),
    )


def contacts(ui: Kit, c: Content) -> str:
    """People by first letter."""
    people = sorted({c.name() for _ in range(ui.look.many(c.rng.randint(7, 12)))})
    parts, faces, numbers = [ui.searchbar("Search")], c.chance(0.5), c.chance(0.4)
    for letter in sorted({name[0] for name in people}):
        rows = []
        for name in (n for n in people if n[0] == letter):
            call = ui.icon_button("phone", f"Call {name}", 20) if numbers else ""
            rows.append(
                ui.row(
                    Row(
                        name,
                        media=ui.avatar(name, 36) if faces else "",
                        subtitle=c.fake.numerify("(###) ###-####") if numbers else "",
                        control=call,
                        tap=True,
                    )
                )
            )
        parts.append(ui.group(rows, letter))
    bars = frame(c, back=None)
    bars["right"] = [("Add contact", c.pick(("add", "person-add")))]
    return ui.page("Contacts", "".join(parts), Bars(**bars))
