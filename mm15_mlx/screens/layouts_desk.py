"""Screens of work: tables with actions, boards of cards, filters of a search."""

from html import escape

from .content import Content
from .kits import Bars, Field, Kit, Row, mark
from .layout_parts import filters, frame

STATES = (
    ("Active", "#2fa84f"), ("Paid", "#2fa84f"), ("Pending", "#c77700"),
    ("Draft", "#6c757d"), ("Failed", "#d13438"), ("Shipped", "#1a73e8"),
    ("Closed", "#6c757d"), ("New", "#6750a4"),
)  # fmt: skip


def pill(c: Content) -> str:
    """A state in a coloured capsule."""
    text, color = c.pick(STATES)
    return f'<span class="x-pill" style="background:{color}">{text}</span>'


def data_table(ui: Kit, c: Content) -> str:
    """Rows with boxes, states and actions; above them a search, below them pages."""
    kinds = {
        "Name": c.name,
        "Product": c.product,
        "Company": c.fake.company,
        "Email": c.email,
        "City": c.fake.city,
        "Date": c.date,
        "Amount": lambda: c.price(5, 3000),
        "Stock": lambda: c.number(900),
    }
    wide = ui.look.form != "phone"
    room = max(2, ui.look.breadth // 190) if wide else 2
    shown = c.some(list(kinds), room, room)
    boxes, states, actions = c.chance(0.5), c.chance(0.7), wide and c.chance(0.7)
    sorted_by = c.rng.randrange(len(shown))
    head = "<th></th>" if boxes else ""
    for i, name in enumerate(shown):
        arrow = ui.icon("chevron-down", 12) if i == sorted_by else ""
        spec = mark("button", f"Sort by {name}", box="ink")
        head += f'<th><a class="x-sort"{spec}>{name}{arrow}</a></th>'
    head += "<th>Status</th>" if states else ""
    head += "<th></th>" if actions else ""
    body = ""
    for _ in range(ui.look.many(c.rng.randint(6, 11))):
        cells = [escape(kinds[name]()) for name in shown]
        first = cells[0]
        row = f"<td>{ui.checkbox(first, c.chance(0.3))}</td>" if boxes else ""
        row += "".join(f'<td><div class="x-one">{cell}</div></td>' for cell in cells)
        row += f"<td>{pill(c)}</td>" if states else ""
        if actions:
            keys = (("Edit", "edit"), ("Delete", "trash"), ("View", "eye"))
            row += '<td><div class="x-line">' + "".join(
                ui.icon_button(icon, f"{word} {first}", 17) for word, icon in keys
            )
            row += "</div></td>"
        body += f"<tr>{row}</tr>"
    grid = f'<table class="x-table x-data"><tr>{head}</tr>{body}</table>'
    parts = [ui.searchbar(f"Search {c.pick(('orders', 'people', 'records'))}")]
    if c.chance(0.4):
        parts.append(filters(ui, c))
    parts += [ui.stack(ui.card(grid) if c.chance(0.6) else grid), pages(ui, c)]
    bars = frame(c)
    bars["right"] = bars["right"] or [("Add", "add"), ("Download", "download")]
    title = c.pick(("Customers", "Orders", "Inventory", "Members", "Invoices"))
    return ui.page(title, "".join(parts), Bars(**bars))


def pages(ui: Kit, c: Content) -> str:
    """Which part of a long table this is, and the ways to the others."""
    last = c.rng.randint(3, 9)
    now = c.rng.randint(1, last)
    keys = ""
    for i in range(max(1, now - 2), min(last, now + 2) + 1):
        spec = mark("button", f"Page {i}", text=str(i), state={"selected": i == now})
        on = "on" if i == now else ""
        keys += f'<a class="x-page {on}"{spec}>{i}</a>'
    before = ui.icon_button("back", "Previous page", 18)
    after = ui.icon_button("chevron-right", "Next page", 18)
    note = f"Page {now} of {last}"
    return ui.stack(
        ui.line(f'<span class="x-s x-grow">{note}</span>', before, keys, after)
    )


def board(ui: Kit, c: Content) -> str:
    """Columns of tasks."""
    names = ("Backlog", "To Do", "In Progress", "Review", "Blocked", "Done")
    columns = min(5, max(2, ui.look.breadth // 250))
    lanes = ""
    for name in c.some(names, columns, columns):
        cards = ""
        for _ in range(ui.look.many(c.rng.randint(2, 5))):
            task = c.sentence(3, 7).rstrip(".")
            who = c.name()
            low = ui.line(
                pill(c) if c.chance(0.5) else "",
                f'<span class="x-s x-grow">{c.date() if c.chance(0.5) else ""}</span>',
                ui.avatar(who, 24),
            )
            words = f'<div class="x-p" style="margin-bottom:8px">{escape(task)}</div>'
            cards += ui.card(words + low, mark("button", task), "margin-bottom:8px")
        add = ui.icon_button("add", f"Add to {name}", 18)
        count = f'<span class="x-s x-grow">{c.number(30)}</span>'
        head = ui.line(f'<span class="x-h3">{name}</span>', count, add)
        lanes += f'<div class="x-lane">{head}{cards}</div>'
    title = c.pick(("Board", "Sprint", "Tasks", c.app, "Roadmap"))
    return ui.page(title, f'<div class="x-lanes">{lanes}</div>', Bars(**frame(c)))


def filter_page(ui: Kit, c: Content) -> str:
    """What a search is narrowed to; some choices cannot be made."""
    brands = c.some([c.fake.company() for _ in range(6)], 3, 5)
    parts = [
        ui.group(
            [
                ui.row(Row(b, lead=ui.checkbox(b, c.chance(0.4), c.chance(0.2))))
                for b in brands
            ],
            c.pick(("Brand", "Seller", "Provider")),
        )
    ]
    orders = c.some(("Newest", "Price: low to high", "Rating", "Distance"), 3, 4)
    on = c.rng.randrange(len(orders))
    parts.append(
        ui.group(
            [ui.row(Row(o, lead=ui.radio(o, i == on))) for i, o in enumerate(orders)],
            "Sort by",
        )
    )
    words = ui.line(
        '<span class="x-p x-grow">Price</span>',
        f'<span class="x-s">up to {c.price(20, 900)}</span>',
    )
    parts.append(ui.stack(words, ui.slider("Price", c.rng.randint(5, 95)),
                          style="padding:8px 22px"))  # fmt: skip
    parts.append(
        ui.group(
            [
                ui.row(Row(n, control=ui.switch(n, c.chance(0.5), c.chance(0.25))))
                for n in c.some(("In stock", "Free delivery", "On sale", "New"), 2, 3)
            ]
        )
    )
    if c.chance(0.6):
        field = Field("Keyword", placeholder="Any", disabled=c.chance(0.3),
                      focused=c.chance(0.3), value=c.fake.word() if c.chance(0.5)
                      else "")  # fmt: skip
        parts.append(ui.group([ui.field(field)]))
    parts.append(filters(ui, c))
    c.rng.shuffle(parts)
    off = c.chance(0.3)
    show = ui.button(f"Show {c.number(900)} results", "fill", large=True, disabled=off)
    return ui.page(
        c.pick(("Filters", "Filter", "Refine")),
        "".join(parts) + ui.stack(show),
        Bars(left=[("Cancel", "")], right=[("Reset", "")]),
    )
