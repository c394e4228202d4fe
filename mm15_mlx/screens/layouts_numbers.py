"""Screens of numbers and dates: dashboards, tables, calendars."""

import calendar as months

from . import labels
from .content import Content
from .kits import Bars, Kit, Row, mark
from .layout_parts import choice, columns_of, filters, frame


def dashboard(ui: Kit, c: Content) -> str:
    """Numbers on cards, some with a bar or a chart."""
    cells = []
    for name in c.some(labels.METRICS, ui.look.many(2), ui.look.many(6)):
        value = c.pick(
            (c.number(), c.price(), f"{c.rng.randint(0, 100)}%", c.number(99))
        )
        trend = f"{c.rng.uniform(-12, 30):+.1f}%"
        color = "#2fa84f" if trend[0] == "+" else "#e5484d"
        icon = c.pick(
            ("chart", "bolt", "heart", "flame", "person", "drop", "clock", "star")
        )
        glyph = ui.icon(icon, 22, c.color()) if c.chance(0.6) else ""
        tail = c.pick(
            (
                f'<div style="color:{color};font-size:13px">{trend}</div>',
                ui.progress(c.rng.random()),
                "",
            )
        )
        cells.append(
            ui.card(
                f'{glyph}<div class="x-s x-one">{name}</div>'
                f'<div class="x-h2">{value}</div>{tail}'
            )
        )
    parts = [ui.segmented(*choice(c))] if c.chance(0.5) else []
    if c.chance(0.4):
        parts.append(
            f'<div class="x-pad x-h1">{c.pick(("Good morning", "Hello", "Hi"))}, '
            f"{c.first()}</div>"
        )
    grid = ui.grid(cells, c.pick((2, 2, 1)), 12)
    charts = [
        ui.stack(
            ui.card(f'<div class="x-h3">{c.pick(labels.METRICS)}</div>{bars_chart(c)}')
        )
        for _ in range(ui.look.columns(1))
    ]
    chart = columns_of(ui, charts)
    parts += [grid, chart] if c.chance(0.6) else [chart, grid]
    if c.chance(0.4):
        rows = [
            ui.row(
                Row(
                    c.pick((c.name(), c.fake.company())),
                    subtitle=c.date(),
                    after=f"{c.pick('+-')}{c.price()}",
                )
            )
            for _ in range(ui.look.many(3))
        ]
        parts.append(ui.group(rows, "Recent", inset=True))
    return ui.page(
        c.pick(("Dashboard", "Overview", "Statistics", "Today", c.app)),
        "".join(parts),
        Bars(
            **frame(c),
        ),
    )


def bars_chart(c: Content) -> str:
    """Seven bars with the days under them."""
    cols = ""
    for day in c.pick(("MTWTFSS", "1234567")):
        height = c.rng.randint(8, 90)
        cols += (
            f'<div class="x-mid x-grow" style="justify-content:flex-end;height:112px">'
            f'<div style="width:60%;height:{height}px;border-radius:4px;'
            f'background:var(--accent)"></div><div class="x-s" style="font-size:11px">'
            f"{day}</div></div>"
        )
    return f'<div class="x-line" style="gap:4px;margin-top:8px">{cols}</div>'


def table(ui: Kit, c: Content) -> str:
    """Columns of names and numbers."""
    kinds = {
        "Name": lambda: c.name().split()[0],
        "Item": c.product,
        "Date": c.date,
        "City": c.fake.city,
        "Order": lambda: f"#{c.rng.randint(1000, 99999)}",
    }
    numbers = {
        "Price": c.price,
        "Qty": lambda: str(c.rng.randint(1, 40)),
        "Total": lambda: c.price(10, 2000),
        "Change": lambda: f"{c.rng.uniform(-9, 9):+.1f}%",
        "Score": lambda: str(c.rng.randint(0, 100)),
        "Calories": lambda: c.number(900),
    }
    first, last = (
        c.pick(list(kinds)),
        c.some(numbers, ui.look.columns(1), ui.look.columns(2)),
    )
    head = f"<th>{first}</th>" + "".join(f'<th class="num">{n}</th>' for n in last)
    body = ""
    for _ in range(ui.look.many(c.rng.randint(8, 16))):
        cells = "".join(f'<td class="num">{numbers[n]()}</td>' for n in last)
        body += f"<tr><td>{kinds[first]()}</td>{cells}</tr>"
    grid = f'<table class="x-table"><tr>{head}</tr>{body}</table>'
    parts = [ui.segmented(*choice(c))] if c.chance(0.5) else []
    if c.chance(0.3):
        parts.append(filters(ui, c))
    parts.append(
        ui.stack(ui.card(grid, css="padding:4px 10px") if c.chance(0.5) else grid)
    )
    return ui.page(
        c.pick(("Orders", "Report", "Transactions", "Results", "Inventory")),
        "".join(parts),
        Bars(
            **frame(c),
        ),
    )


def agenda(ui: Kit, c: Content) -> str:
    """A month, or the events of some days."""
    year, month = c.rng.randint(2019, 2027), c.rng.randint(1, 12)
    today, parts = c.rng.randint(1, 28), []
    name = months.month_name[month]
    if c.chance(0.75):
        head = ui.line(
            ui.icon_button("back", "Previous month", 20),
            f'<div class="x-h3 x-grow" style="text-align:center">{name} {year}</div>',
            ui.icon_button("chevron-right", "Next month", 20),
        )
        cells = "".join(
            f'<div class="x-s" style="text-align:center">{d}</div>' for d in "SMTWTFS"
        )
        for week in months.Calendar(6).monthdayscalendar(year, month):
            for day in week:
                if not day:
                    cells += '<div class="x-day"></div>'
                    continue
                on = "now" if day == today else "off" if c.chance(0.05) else ""
                spec = mark(
                    "button",
                    f"{name} {day}",
                    box="span",
                    text=str(day),
                    state={"selected": day == today},
                )
                cells += f'<a class="x-day {on}"{spec}><span>{day}</span></a>'
        grid = (
            '<div class="x-grid" '
            f'style="grid-template-columns:repeat(7,1fr);padding:0">{cells}</div>'
        )
        parts.append(ui.stack(head, grid))
    for _ in range(c.rng.randint(1, 2)):
        rows = []
        for _ in range(c.rng.randint(2, 4)):
            stripe = (
                f'<div style="width:4px;height:34px;border-radius:2px;'
                f'background:{c.color()}"></div>'
            )
            event = c.fill(c.pick(labels.EVENTS))
            place = c.pick((c.fake.city(), c.pick(labels.LOCATIONS)))
            note = f"{c.time()} · {place}"
            rows.append(ui.row(Row(event, media=stripe, tap=True, subtitle=note)))
        parts.append(ui.group(rows, c.pick(("Today", "Tomorrow", c.date()))))
    bars = frame(c)
    if c.chance(0.3):
        bars["fab"] = ("Add event", "add")
    return ui.page(
        c.pick(("Calendar", "Agenda", name, "Schedule")), "".join(parts), Bars(**bars)
    )
