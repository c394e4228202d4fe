"""Maps: streets drawn at random, pins on them, a field above, a card below."""

from html import escape
from math import cos, pi, sin

from . import labels
from .content import Content
from .kits import Bars, Kit, Row, mark
from .layout_parts import filters

LIGHT = {"land": "#f2efe9", "block": "#e9e4da", "park": "#c8e6c1", "water": "#aad3f0",
         "road": "#ffffff", "main": "#fbd97b", "edge": "#d9d3c7"}  # fmt: skip
DARK = {"land": "#242a33", "block": "#2b323d", "park": "#24402f", "water": "#17263c",
        "road": "#3a4350", "main": "#5b5337", "edge": "#1b2027"}  # fmt: skip
PIN = "M12 0C5.4 0 0 5.3 0 11.9 0 20.6 12 32 12 32s12-11.4 12-20.1C24 5.3 18.6 0 12 0z"
ROUTE = "#1a73e8"


def ground(c: Content, width: int, height: int, dark: bool) -> str:
    """Water, parks, streets in a turned grid, perhaps a route. An SVG."""
    tint, rng = DARK if dark else LIGHT, c.rng
    reach = width + height
    parts = []
    for _ in range(rng.randint(2, 5)):
        x, y = rng.randrange(width), rng.randrange(height)
        turns = sorted(rng.uniform(0, 2 * pi) for _ in range(7))
        points = " ".join(
            f"{x + rng.randint(50, 190) * cos(a):.0f},"
            f"{y + rng.randint(50, 150) * sin(a):.0f}"
            for a in turns
        )
        fill = tint[c.pick(("park", "park", "block", "water"))]
        parts.append(f'<polygon points="{points}" fill="{fill}" stroke-width="16" '
                     f'stroke="{fill}" stroke-linejoin="round"/>')  # fmt: skip
    angle = rng.uniform(-0.6, 0.6)
    roads: dict[str, str] = {"road": "", "main": ""}
    for side in (angle, angle + pi / 2 + rng.uniform(-0.15, 0.15)):
        at = -reach
        while at < reach:
            at += rng.randint(38, 110)
            kind = "main" if rng.random() < 0.18 else "road"
            dx, dy = cos(side), sin(side)
            x, y = width / 2 - dy * at, height / 2 + dx * at
            bend = rng.randint(-40, 40)
            roads[kind] += (
                f"M{x - dx * reach:.0f} {y - dy * reach:.0f}"
                f"Q{x + bend:.0f} {y - bend:.0f} {x + dx * reach:.0f} "
                f"{y + dy * reach:.0f}"
            )
    if rng.random() < 0.5:
        y = rng.randrange(height)
        parts.append(
            f'<path d="M-40 {y} C{width // 3} {y - 160} {2 * width // 3} {y + 200} '
            f'{width + 40} {y - 40}" stroke="{tint["water"]}" fill="none" '
            f'stroke-width="{rng.randint(24, 80)}"/>'
        )
    lines = "".join(
        f'<path d="{roads[kind]}" fill="none" stroke="{tint["edge"]}" '
        f'stroke-width="{thick + 2}"/><path d="{roads[kind]}" fill="none" '
        f'stroke="{tint[kind]}" stroke-width="{thick}"/>'
        for kind, thick in (("road", 7), ("main", 12))
    )
    if rng.random() < 0.35:
        x, y = rng.randrange(width), rng.randrange(height // 3, 2 * height // 3)
        path = f"M{x} {y}"
        for leg in range(rng.randint(3, 6)):
            side = angle + leg % 2 * pi / 2
            far = rng.randint(50, 190) * rng.choice((-1, 1))
            x, y = x + far * cos(side), y + far * sin(side)
            path += f"L{x:.0f} {y:.0f}"
        lines += (f'<path d="{path}" fill="none" stroke="{ROUTE}" stroke-width="6" '
                  'stroke-linejoin="round" stroke-linecap="round"/>')  # fmt: skip
    return (
        f'<svg class="x-ground" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" style="background:{tint["land"]}">{"".join(parts)}{lines}'
        "</svg>"
    )


def place(c: Content) -> str:
    """The name of somewhere one may go."""
    kind = c.pick(("Café", "Park", "Market", "Museum", "Station", "Bakery", "Hotel",
                   "Pharmacy", "Library", "Books", "Grill", "Gym"))  # fmt: skip
    return f"{c.fake.last_name()} {kind}"


def spots(c: Content, left: int, top: int, right: int, low: int, count: int
          ) -> list[tuple[int, int]]:  # fmt: skip
    """Points that keep a distance from each other."""
    found: list[tuple[int, int]] = []
    for _ in range(count * 8):
        x, y = c.rng.randint(left, right), c.rng.randint(top, low)
        if len(found) < count and all(
            abs(x - a) > 96 or abs(y - b) > 52 for a, b in found
        ):
            found.append((x, y))
    return found


def map_page(ui: Kit, c: Content) -> str:
    """A map to the edges, with what lies over it."""
    look = ui.look
    wide = look.form != "phone"
    width, height = look.breadth, look.height
    panel = c.rng.randrange(320, 401, 20) if wide else 0
    floor = height - (40 if wide else 250)
    points = spots(c, panel + 50, 190, width - 190, floor, 14 if wide else 8)
    marks = ""
    for i, (x, y) in enumerate(points):
        name = place(c)
        if i < len(points) // 2:
            color = look.accent if i == 0 else c.pick(("#ea4335", c.color()))
            spec = mark("button", name, "location", box="path",
                        state={"selected": True} if i == 0 else {})  # fmt: skip
            marks += (
                f'<a class="x-pin" style="left:{x - 12}px;top:{y - 32}px"{spec}>'
                f'<svg width="24" height="32" viewBox="0 0 24 32"><path d="{PIN}" '
                f'fill="{color}"/><circle cx="12" cy="12" r="4.5" fill="#fff"/></svg>'
                "</a>"
            )
            if c.chance(0.5):
                marks += f'<div class="x-spot" style="left:{x + 15}px;'
                marks += f'top:{y - 24}px">{escape(name)}</div>'
        else:
            marks += f'<div class="x-spot area" style="left:{x - 40}px;top:{y - 10}px">'
            marks += f"{escape(c.pick((c.fake.city(), c.fake.street_name())))}</div>"
    shot = ground(c, width, height, look.dark)
    over = search_card(ui, c, panel)
    over += side_keys(ui, c, 24 if wide else 230)
    if panel:
        over += f'<div class="x-float x-panel" style="width:{panel}px" data-over>'
        over += f"{places(ui, c)}</div>"
    elif c.chance(0.85):
        over += f'<div class="x-float x-card-low" data-over>{card(ui, c)}</div>'
    body = f'<div class="x-map">{shot}{marks}{over}</div>'
    return ui.page("", body, Bars(bare=True))


def search_card(ui: Kit, c: Content, panel: int) -> str:
    """A field for where to go, and kinds of places."""
    hint = c.pick(("Search here", "Where to?", "Search maps", "Find a place"))
    field = ui.searchbar(hint, c.fake.city() if c.chance(0.3) else "")
    kinds = "" if panel or c.chance(0.4) else filters(ui, c)
    style = f"width:{panel}px" if panel else ""
    return f'<div class="x-float x-seek" style="{style}" data-over>{field}{kinds}</div>'


def side_keys(ui: Kit, c: Content, low: int) -> str:
    """Round and square buttons on the right: nearer, farther, here."""
    keys = (("My location", "navigate"), ("Zoom in", "add"), ("Zoom out", "minus"),
            ("Layers", "map"))  # fmt: skip
    shown = ""
    for label, icon in c.some(keys, 2, 4):
        if ui.has_icon(icon):
            spec = mark("button", label, icon)
            shown += f'<a class="x-mapkey"{spec}>{ui.icon(icon, 22)}</a>'
    return f'<div class="x-mapkeys" style="bottom:{low}px" data-over>{shown}</div>'


def card(ui: Kit, c: Content) -> str:
    """The chosen place: name, stars, ways to get there."""
    name, stars = place(c), c.rng.uniform(2.5, 5)
    head = ui.line(
        f'<div class="x-grow"><div class="x-h2 x-one">{escape(name)}</div>'
        f'<div class="x-s x-one">{escape(c.fake.street_address())}</div></div>',
        ui.image(name, "64px", "64px", "scene", 10) if c.chance(0.6) else "",
    )
    facts = ui.line(
        ui.rating(stars),
        f'<span class="x-s">{stars:.1f} · {c.rng.uniform(0.1, 9):.1f} km · '
        f"{c.pick(('Open', 'Closed', 'Open until 10 PM'))}</span>",
        style="margin:6px 0 12px",
    )
    keys = ui.line(
        ui.button("Directions", "fill", css="flex:1"),
        ui.button(c.pick(("Call", "Save", "Share")), "outline", css="flex:1"),
    )
    return f'<div class="x-pad">{head}{facts}{keys}</div>'


def places(ui: Kit, c: Content) -> str:
    """What was found, as the panel of a wide screen shows it."""
    rows = [
        ui.row(
            Row(
                name,
                subtitle=f"{c.fake.street_address()} · {c.rng.uniform(0.1, 9):.1f} km",
                media=ui.image(name, "52px", "52px", "scene", 8),
                tap=True,
            )
        )
        for name in (place(c) for _ in range(c.rng.randint(4, 7)))
    ]
    return ui.group(rows, c.pick(labels.HEADERS) if c.chance(0.3) else "")
