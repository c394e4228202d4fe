"""Screens with people and pictures: profiles, players, galleries, feeds."""

from . import labels
from .content import Content
from .kits import Bars, Kit, Row, mark
from .layout_parts import choice, columns_of, frame, nav, tabs


def profile(ui: Kit, c: Content) -> str:
    """A person: face, numbers, buttons, rows."""
    name = c.name()
    size = c.rng.randint(72, 120)
    cover = ui.image("Cover photo", "100%", "140px", "scene") if c.chance(0.3) else ""
    counts = "".join(
        f'<div class="x-mid x-grow"><div class="x-h2">{c.number()}</div>'
        f'<div class="x-s">{label}</div></div>'
        for label in c.some(
            (
                "Posts",
                "Followers",
                "Following",
                "Likes",
                "Trips",
                "Friends",
                "Reviews",
                "Points",
            ),
            2,
            3,
        )
    )
    about = c.pick((f"@{c.fake.user_name()}", c.email(), c.fake.job(), c.fake.city()))
    parts = [
        cover,
        f'<div class="x-pad x-mid" style="gap:6px">{ui.avatar(name, size)}'
        f'<div class="x-h2">{name}</div><div class="x-s">{about}</div></div>',
    ]
    if c.chance(0.7):
        parts.append(ui.stack(ui.line(counts)))
    if c.chance(0.6):
        first = ui.button(
            c.pick(("Follow", "Message", "Edit Profile", "Add Friend")),
            "fill",
            css="flex:1",
        )
        second = ui.button(
            c.pick(("Message", "Share", "Call", "Invite")), "outline", css="flex:1"
        )
        parts.append(ui.stack(ui.line(first, second if c.chance(0.6) else "")))
    if c.chance(0.3):
        parts.append(ui.segmented(*choice(c)))
    if c.chance(0.3):
        shots = [ui.image(f"Photo {i + 1}", "100%", "110px", "scene") for i in range(9)]
        parts.append(ui.grid(shots, 3, 3))
    else:
        rows = [
            ui.row(
                Row(
                    n,
                    media=ui.icon(i, 24) if i else "",
                    chevron=True,
                    after=c.pick(labels.VALUES) if c.chance(0.2) else "",
                )
            )
            for n, i in c.named(labels.SETTINGS, 3, 7)
        ]
        parts.append(ui.group(rows, inset=c.chance(0.5)))
    return ui.page(
        c.pick(("Profile", "Account", "", "My Profile")),
        "".join(parts),
        Bars(**frame(c)),
    )


def player(ui: Kit, c: Content) -> str:
    """A record cover, a slider, the usual keys."""
    song, artist = c.pick(labels.SONGS), c.name()
    side = c.rng.randint(200, min(310, ui.look.width - 60))
    at = c.rng.randint(3, 97)
    big = c.rng.randint(36, 52)
    playing = c.pick(("play", "pause"))
    keys = [("Previous", "previous", 32), ("Next", "next", 32)]
    middle = (
        ui.round_button(playing, playing.capitalize(), big + 20)
        if c.chance(0.4)
        else ui.icon_button(playing, playing.capitalize(), big)
    )
    before, after = (ui.icon_button(i, n, s) for n, i, s in keys)
    ends = [ui.icon_button("shuffle", "", 22), ui.icon_button("repeat", "", 22)]
    strip = (
        [ends[0], before, middle, after, ends[1]]
        if c.chance(0.6)
        else [before, middle, after]
    )
    love = ui.icon_button(c.pick(("heart", "heart-filled", "more", "add")), "", 24)
    gap, corner = c.rng.randint(10, 40), c.pick((0, 8, 16))
    cover = ui.image(song, f"{side}px", f"{side}px", "abstract", corner)
    parts = [
        f'<div class="x-mid" style="padding-top:{gap}px">{cover}</div>',
        ui.stack(
            ui.line(
                f'<div class="x-grow"><div class="x-h2 x-one">{song}</div>'
                f'<div class="x-s" style="font-size:16px">{artist}</div></div>',
                love,
            ),
            style="margin-top:26px",
        ),
        ui.stack(
            ui.slider("Playback position", at),
            ui.line(
                f'<span class="x-s x-grow">{c.duration()}</span>'
                f'<span class="x-s">{c.duration()}</span>',
                style="margin-top:8px",
            ),
        ),
        ui.stack(ui.line(*strip, style="justify-content:space-around")),
    ]
    if c.chance(0.5):
        parts.append(
            ui.stack(
                ui.line(
                    ui.icon("volume-low", 20),
                    f'<div class="x-grow" style="padding:0 8px">'
                    f"{ui.slider('Volume', c.rng.randint(0, 100))}</div>",
                    ui.icon("volume-high", 20),
                    style="margin-top:20px",
                )
            )
        )
    bars = {"back": c.pick(("", None)), "right": nav(c)}
    return ui.page(
        c.pick(("Now Playing", c.pick(labels.SONGS), "")), "".join(parts), Bars(**bars)
    )


def gallery(ui: Kit, c: Content) -> str:
    """Pictures edge to edge."""
    narrow = c.pick((2, 3, 3, 4))
    height = {2: 180, 3: 125, 4: 94}[narrow]
    columns = ui.look.columns(narrow)
    count = columns * c.rng.randint(3, 6)
    kind, names = c.pick(("scene", "scene", "abstract")), []
    parts = [ui.segmented(*choice(c))] if c.chance(0.3) else []
    if narrow == 2 and c.chance(0.6):
        for _ in range(count):
            title = c.pick((*c.words(labels.TITLES), *c.words(labels.FILTERS)))
            shot = ui.image(title, "100%", f"{height - 40}px", kind, 10)
            names.append(
                f"<div{mark('button', title)}>{shot}"
                f'<div class="x-p x-one" style="margin-top:4px">{title}</div>'
                f'<div class="x-s">{c.number(900)}</div></div>'
            )
        parts.append(ui.grid(names, 2, 14))
    else:
        for header in c.some(("Today", "Yesterday", c.date(), c.fake.city()), 1, 2):
            shots = [
                ui.image(f"Photo {i + 1}", "100%", f"{height}px", kind)
                for i in range(count)
            ]
            title = f'<div class="x-pad x-h3">{header}</div>' if c.chance(0.7) else ""
            cells = "".join(shots)
            parts.append(
                f'{title}<div class="x-grid" style="padding:0;gap:2px;'
                f'grid-template-columns:repeat({columns},1fr)">{cells}</div>'
            )
    return ui.page(
        c.pick(("Photos", "Albums", "Gallery", c.fake.city())),
        "".join(parts),
        Bars(
            **frame(c),
        ),
    )


def feed(ui: Kit, c: Content) -> str:
    """Posts with a picture and small buttons."""
    parts = []
    for _ in range(ui.look.many(c.rng.randint(1, 3))):
        name = c.name()
        head = ui.line(
            ui.avatar(name, 38),
            f'<div class="x-grow"><div class="x-h3">{name}</div>'
            f'<div class="x-s">{c.when()}</div></div>',
            ui.icon_button("more", f"More for {name}", 20),
        )
        shot = ui.image(
            f"Photo by {name}",
            "100%",
            f"{c.rng.randint(130, 260)}px",
            "scene",
            10,
            "margin:10px 0",
        )
        keys = ui.line(
            *[
                f"{ui.icon_button(i, f'{n} {name}', 22)}<span "
                f'class="x-s">{c.number(990)}</span>'
                for n, i in (
                    ("Like", c.pick(("heart", "heart-filled"))),
                    ("Reply to", "chat"),
                    ("Share", "share"),
                )
                if c.chance(0.85)
            ]
        )
        words = f'<div class="x-p">{c.sentence(5, 18)}</div>' if c.chance(0.8) else ""
        parts.append(
            ui.stack(ui.card(head + (shot if c.chance(0.8) else "") + words + keys))
        )
    bars = {"right": nav(c), **tabs(c)}
    if c.chance(0.3):
        bars["fab"] = ("New post", "add")
    return ui.page(
        c.pick((c.app, "Feed", "Home", "News")), "".join(parts), Bars(**bars)
    )


def controls(ui: Kit, c: Content) -> str:
    """Smart-home style cards with sliders and switches."""
    cards = []
    for name, icon in c.named(
        (
            "Lights:bulb",
            "Thermostat:thermometer",
            "Speaker:volume-high",
            "Brightness:sun",
            "Volume:volume-high",
            "Bass:music",
            "Fan:refresh",
            "TV:tv",
            "Door Lock:lock",
            "Camera:camera",
        ),
        ui.look.many(3),
        ui.look.many(5),
    ):
        room = c.pick(labels.LOCATIONS)
        head = ui.line(
            ui.icon(icon, 26, "var(--accent)"),
            f'<div class="x-grow"><div class="x-h3">{name}</div>'
            f'<div class="x-s">{room}</div></div>',
            ui.switch(name, c.chance(0.6)),
        )
        level = c.rng.randint(0, 100)
        bar = f'<div style="margin:16px 6px 4px">{ui.slider(name, level)}</div>'
        cards.append(ui.stack(ui.card(head + (bar if c.chance(0.6) else ""))))
    parts = [columns_of(ui, cards)]
    if c.chance(0.4):
        parts.insert(
            0,
            ui.scroller(
                [
                    ui.chip(x, i == 0)
                    for i, x in enumerate(c.some(labels.LOCATIONS, 3, 6))
                ]
            ),
        )
    return ui.page(
        c.pick(("Home", "Devices", "Controls", "Sound")),
        "".join(parts),
        Bars(**frame(c)),
    )
