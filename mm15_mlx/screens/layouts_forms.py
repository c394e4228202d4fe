"""Screens that ask for something: forms, searches, first steps, empty places."""

from . import labels
from .content import Content
from .kits import Bars, Field, Kit, Row
from .layout_parts import choice, filters, frame

FIELDS = (
    "First Name",
    "Last Name",
    "Email",
    "Phone",
    "Username",
    "Password",
    "Company",
    "Address",
    "City",
    "ZIP Code",
    "Birthday",
    "Website",
    "Card Number",
)


def field_value(c: Content, label: str) -> str:
    """A believable entry for a field."""
    makers = {
        "First Name": c.first,
        "Last Name": c.fake.last_name,
        "Email": c.email,
        "Phone": lambda: c.fake.numerify("(###) ###-####"),
        "Username": c.fake.user_name,
        "Password": lambda: "x" * c.rng.randint(6, 14),
        "Company": c.fake.company,
        "Address": c.fake.street_address,
        "City": c.fake.city,
        "ZIP Code": c.fake.postcode,
        "Birthday": c.date,
        "Website": lambda: f"www.{c.fake.domain_name()}",
        "Card Number": lambda: c.fake.numerify("#### #### #### ####"),
        "Name": c.name,
    }
    return makers.get(label, c.first)()


def form_field(
    ui: Kit, c: Content, label: str, hide: bool = False, icons: bool = False
) -> str:
    """One field, filled, empty or focused."""
    kind = {"Password": "password", "Email": "email", "Phone": "tel"}.get(label, "text")
    hint = (
        label
        if hide
        else c.pick(
            (
                f"Enter {label.lower()}",
                f"Your {label.lower()}",
                label,
                "Required",
                "Optional",
            )
        )
    )
    icon = {"Email": "mail", "Password": "lock", "Phone": "phone"}.get(label, "person")
    value = field_value(c, label) if c.chance(0.45) else ""
    return ui.field(
        Field(
            label,
            kind=kind,
            placeholder=hint,
            value=value,
            hide_label=hide,
            icon=icon if icons else "",
            focused=c.chance(0.12),
            disabled=c.chance(0.04),
        )
    )


def login(ui: Kit, c: Content) -> str:
    """Name and password, and other ways in."""
    hide, icons, style = c.chance(0.5), c.chance(0.4), c.pick(("fill", "fill", "tonal"))
    logo = ui.tile(
        c.pick(("bolt", "leaf", "star-filled", "cloud", "chat")), 72, c.color()
    )
    head = (
        "<div "
        f'class="x-h1">{c.pick((c.app, "Welcome Back", "Log In", "Hello Again"))}</div>'
    )
    sub = f'<div class="x-s">{c.pick(("Sign in to continue", c.sentence(4, 7)))}</div>'
    first = c.pick(("Email", "Email", "Username", "Phone"))
    fields = [form_field(ui, c, label, hide, icons) for label in (first, "Password")]
    parts = [
        '<div class="x-pad x-mid" '
        f'style="gap:10px;margin-top:{c.rng.randint(16, 60)}px">'
        f"{logo if c.chance(0.7) else ''}{head}{sub}</div>",
        ui.group(fields, inset=c.chance(0.5)),
    ]
    if c.chance(0.4):
        label = c.pick(("Remember me", "Keep me signed in", "Save password"))
        box = ui.checkbox(label, c.chance(0.5))
        parts.append(ui.stack(ui.line(box, f'<span class="x-p">{label}</span>')))
    label = c.pick(("Sign In", "Log In", "Continue"))
    parts.append(
        ui.stack(
            ui.button(
                label, style, large=True, round_=c.chance(0.5), disabled=c.chance(0.12)
            )
        )
    )
    if c.chance(0.7):
        parts.append(f'<div class="x-mid x-p">{ui.link("Forgot password?")}</div>')
    if c.chance(0.4):
        ways = c.some(("Google", "Apple", "Facebook", "SSO", "Phone"), 1, 3)
        parts.append(
            ui.stack(
                *[
                    ui.button(
                        f"Continue with {way}", "outline", css="margin-bottom:10px"
                    )
                    for way in ways
                ]
            )
        )
    if c.chance(0.6):
        parts.append(
            f'<div class="x-mid x-s" style="display:block;margin-top:20px">'
            f"New here? {ui.link('Create an account')}</div>"
        )
    if c.chance(0.5):
        return ui.page("", "".join(parts), Bars(bare=True))
    return ui.page(
        c.pick(("Sign In", "Log In", c.app)),
        "".join(parts),
        Bars(
            back=c.pick(("", "Back", None)),
        ),
    )


def sign_up(ui: Kit, c: Content) -> str:
    """A longer form with boxes, radios and lists to choose from."""
    hide, icons = c.chance(0.3), c.chance(0.25)
    names = c.some(FIELDS, 2, 5)
    parts = [
        ui.group(
            [form_field(ui, c, n, hide, icons) for n in names],
            c.pick(labels.HEADERS) if c.chance(0.5) else "",
        )
    ]
    if c.chance(0.7):
        rows = [
            ui.select(
                "Country", c.pick(labels.COUNTRIES), list(c.words(labels.COUNTRIES))
            ),
            ui.select(
                "Language",
                c.pick(("English", "French", "Spanish")),
                ["English", "French", "Spanish"],
            ),
            ui.select(
                "Size",
                c.pick(("Small", "Medium", "Large")),
                ["Small", "Medium", "Large"],
            ),
        ]
        parts.append(ui.group(c.some(rows, 1, 2)))
    if c.chance(0.6):
        question, options = c.pick(
            (
                ("Gender", ("Female", "Male", "Other")),
                ("Plan", ("Free", "Basic", "Premium")),
                ("Delivery", ("Standard", "Express", "Pick up in store")),
                ("Frequency", ("Every day", "Once a week", "Once a month", "Never")),
                ("Payment", ("Credit card", "Bank transfer", "Gift card")),
            )
        )
        on = c.rng.randrange(len(options))
        parts.append(
            ui.group(
                [
                    ui.row(Row(o, lead=ui.radio(o, i == on)))
                    for i, o in enumerate(options)
                ],
                question,
            )
        )
    boxes = c.some(
        (
            "I agree to the terms",
            "Send me news",
            "Share usage data",
            "I am over 18",
            "Remember this device",
            "Gift wrap",
            "Use as billing address",
        ),
        1,
        3,
    )
    parts.append(
        ui.group(
            [
                ui.row(Row(b, lead=ui.checkbox(b, c.chance(0.5), c.chance(0.08))))
                for b in boxes
            ]
        )
    )
    label = c.pick(("Create Account", "Sign Up", "Register", "Submit", "Continue"))
    parts.append(
        ui.stack(ui.button(label, "fill", large=True, disabled=c.chance(0.15)))
    )
    if c.chance(0.4):
        parts.append(
            f'<div class="x-mid x-s" style="display:block">Already a member? '
            f"{ui.link('Sign in')}</div>"
        )
    c.rng.shuffle(parts) if c.chance(0.1) else None
    title = c.pick(
        ("Sign Up", "Create Account", "Registration", "Checkout", "Your Details")
    )
    right = [("Save", "")] if c.chance(0.3) else []
    left = [("Cancel", "")] if c.chance(0.3) else []
    return ui.page(
        title,
        "".join(parts),
        Bars(
            left=left,
            right=right,
            back=None if left else c.pick(("", "Back", None)),
        ),
    )


def onboarding(ui: Kit, c: Content) -> str:
    """One step of a welcome tour."""
    title, text = c.pick(labels.ONBOARDING)
    title = title.format(app=c.app)
    steps = c.rng.randint(3, 5)
    on = c.rng.randrange(steps)
    dots = "".join(f'<i class="{"on" if i == on else ""}"></i>' for i in range(steps))
    if c.chance(0.6):
        art = ui.image(
            title,
            "100%",
            f"{c.rng.randint(220, 360)}px",
            c.pick(("scene", "abstract")),
            c.pick((0, 20, 28)),
        )
    else:
        icon = c.pick(
            ("calendar", "heart", "map", "bell", "shield", "moon", "gift", "bolt")
        )
        art = f'<div class="x-mid" style="padding:60px 0">{ui.tile(icon, 128)}</div>'
    points = ""
    if c.chance(0.3):
        points = "".join(
            ui.line(
                ui.icon(icon, 28, "var(--accent)"),
                f'<div class="x-grow"><div class="x-h3">{name}</div>'
                f'<div class="x-s">{c.sentence(5, 9)}</div></div>',
                style="margin:14px 0",
            )
            for name, icon in c.named(labels.SETTINGS, 2, 3)
            if icon
        )
    label = c.pick(("Next", "Continue", "Get Started", "Allow", "Let's Go"))
    low = [ui.button(label, "fill", large=True, round_=c.chance(0.5))]
    if c.chance(0.6):
        low.append(
            ui.button(c.pick(("Skip", "Not Now", "Log In", "Maybe Later")), "plain")
        )
    parts = [
        ui.stack(art),
        f'<div class="x-pad {"x-mid" if c.chance(0.7) else ""}">'
        f'<div class="x-h1">{title}</div><div class="x-p" style="margin-top:8px">{text}'
        f"</div></div>",
        ui.stack(points),
        f'<div class="x-dots">{dots}</div>',
        ui.stack(*low, style="margin-top:26px"),
    ]
    if c.chance(0.6):
        return ui.page("", "".join(parts), Bars(bare=True))
    return ui.page(
        "", "".join(parts), Bars(right=[("Skip", "")], back=c.pick(("", None)))
    )


def empty_state(ui: Kit, c: Content) -> str:
    """Nothing yet: an icon, two lines, a button."""
    title, text, icon = c.pick(labels.EMPTY)
    size = c.rng.randint(56, 110)
    glyph = ui.icon(icon, size, c.pick(("var(--muted)", "var(--accent)", c.color())))
    key = c.button() if c.chance(0.6) else ""
    parts = [
        f'<div class="x-mid" style="gap:12px;padding:{c.rng.randint(60, 180)}px 30px '
        '0">'
        f'{glyph}<div class="x-h2">{title}</div><div class="x-s" '
        'style="font-size:15px">'
        f"{text}</div></div>"
    ]
    if key:
        style = c.pick(("fill", "tonal", "outline", "plain"))
        parts.append(
            ui.stack(
                ui.button(key, style, round_=c.chance(0.5)),
                style=f"padding:0 {c.pick((16, 60, 100))}px",
            )
        )
    if c.chance(0.25):
        parts.insert(0, ui.searchbar("Search", c.fake.word() if c.chance(0.5) else ""))
    bars = frame(c)
    return ui.page(c.pick(labels.TITLES), "".join(parts), Bars(**bars))


def search_results(ui: Kit, c: Content) -> str:
    """A query, filters, and what was found."""
    query = c.pick(labels.PRODUCTS).lower() if c.chance(0.5) else c.fake.city()
    parts = [ui.searchbar("Search", query, focused=c.chance(0.3))]
    if c.chance(0.6):
        parts.append(filters(ui, c))
    if c.chance(0.4):
        parts.append(ui.segmented(*choice(c)))
    if c.chance(0.5):
        found = f"{c.number()} results for “{query}”"
        parts.append(f'<div class="x-pad x-s">{found}</div>')
    rows, kind, price = [], c.pick(("scene", "product", "abstract")), c.chance(0.5)
    for _ in range(ui.look.many(c.rng.randint(4, 8))):
        name = c.pick(
            (c.product(), c.fake.company(), f"{c.fake.city()} {c.pick(labels.TITLES)}")
        )
        rows.append(
            ui.row(
                Row(
                    name,
                    subtitle=c.sentence(3, 6),
                    after=c.price() if price else "",
                    media=ui.image(name, "52px", "52px", kind, 8),
                    chevron=c.chance(0.2),
                    tap=True,
                )
            )
        )
    parts.append(ui.group(rows, inset=c.chance(0.3)))
    return ui.page(
        c.pick(("Search", "Results", "Explore")), "".join(parts), Bars(**frame(c))
    )
