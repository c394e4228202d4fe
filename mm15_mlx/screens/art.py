"""Pictures drawn as SVG: no photograph is needed, none has to be licensed."""

from random import Random

SKIES = (
    ("#fbc2eb", "#a6c1ee"), ("#84fab0", "#8fd3f4"), ("#fccb90", "#d57eeb"),
    ("#4facfe", "#00f2fe"), ("#30cfd0", "#330867"), ("#f6d365", "#fda085"),
    ("#a1c4fd", "#c2e9fb"), ("#ff9a9e", "#fecfef"), ("#0f2027", "#2c5364"),
    ("#355c7d", "#c06c84"), ("#e0eafc", "#cfdef3"), ("#134e5e", "#71b280"),
)  # fmt: skip
SOLIDS = (
    "#e07a5f", "#3d405b", "#81b29a", "#f2cc8f", "#264653", "#2a9d8f", "#e9c46a",
    "#f4a261", "#e76f51", "#6d597a", "#b56576", "#355070", "#588157", "#bc4749",
)  # fmt: skip
SKIN = ("#f6d7b8", "#e8b98f", "#c98f62", "#9a6440", "#6f4427", "#fbe3cf")


def _svg(body: str, defs: str = "") -> str:
    return (
        '<svg viewBox="0 0 100 100" preserveAspectRatio="xMidYMid slice">'
        f"<defs>{defs}</defs>{body}</svg>"
    )


def _sky(rng: Random) -> tuple[str, str]:
    """A gradient and the rectangle it fills."""
    top, low = rng.choice(SKIES)
    name = f"g{rng.getrandbits(32):x}"
    defs = (
        f'<linearGradient id="{name}" x1="0" y1="0" x2="{rng.random():.2f}" y2="1">'
        f'<stop offset="0" stop-color="{top}"/><stop offset="1" stop-color="{low}"/>'
        "</linearGradient>"
    )
    return defs, f'<rect width="100" height="100" fill="url(#{name})"/>'


def scene(rng: Random) -> str:
    """Hills, a sun, sometimes water or houses."""
    defs, body = _sky(rng)
    x, y, r = rng.randint(15, 85), rng.randint(15, 45), rng.randint(5, 12)
    body += f'<circle cx="{x}" cy="{y}" r="{r}" fill="#fff" opacity="0.8"/>'
    for layer in range(rng.randint(1, 3)):
        base = 55 + layer * 14
        points = [f"{px},{base - rng.randint(0, 25)}" for px in range(0, 101, 20)]
        color = rng.choice(SOLIDS)
        body += (
            f'<polygon points="0,100 {" ".join(points)} 100,100" '
            f'fill="{color}" opacity="0.85"/>'
        )
    if rng.random() < 0.3:
        for _ in range(rng.randint(2, 5)):
            px, h = rng.randint(5, 85), rng.randint(10, 35)
            body += (
                f'<rect x="{px}" y="{100 - h}" width="10" height="{h}" '
                f'fill="{rng.choice(SOLIDS)}"/>'
            )
    return _svg(body, defs)


def abstract(rng: Random) -> str:
    """Record-cover shapes."""
    defs, body = _sky(rng)
    for _ in range(rng.randint(2, 6)):
        x, y, r = rng.randint(0, 100), rng.randint(0, 100), rng.randint(8, 40)
        color, fade = rng.choice(SOLIDS), rng.uniform(0.4, 0.95)
        if rng.random() < 0.5:
            body += (
                f'<circle cx="{x}" cy="{y}" r="{r}" fill="{color}" '
                f'opacity="{fade:.2f}"/>'
            )
        else:
            turn = rng.randint(0, 90)
            body += (
                f'<rect x="{x - r}" y="{y - r}" width="{2 * r}" height="{r}" '
                f'fill="{color}" '
                f'opacity="{fade:.2f}" transform="rotate({turn} {x} {y})"/>'
            )
    return _svg(body, defs)


def product(rng: Random) -> str:
    """One object on a plain ground."""
    ground = rng.choice(
        ("#f2f2f2", "#ececec", "#fdf6ee", "#e8eef5", "#eef5ea", "#f7e9ee")
    )
    color, other = rng.sample(SOLIDS, 2)
    shapes = (
        f'<rect x="32" y="22" width="36" height="58" rx="6" fill="{color}"/>'
        f'<rect x="40" y="12" width="20" height="12" rx="3" fill="{other}"/>',
        f'<path d="M30 30 L44 22 H56 L70 30 L80 46 L70 52 V82 H30 V52 L20 46 Z" '
        f'fill="{color}"/><circle cx="50" cy="50" r="8" fill="{other}"/>',
        f'<rect x="24" y="36" width="44" height="44" rx="8" fill="{color}"/>'
        f'<path d="M68 46 h8 a10 10 0 0 1 0 24 h-8" fill="none" stroke="{color}" '
        f'stroke-width="5"/><rect x="24" y="50" width="44" height="6" fill="{other}"/>',
        f'<circle cx="50" cy="52" r="30" fill="{color}"/>'
        f'<circle cx="50" cy="52" r="18" fill="{other}"/>',
        f'<path d="M18 66 C22 50 44 54 50 40 L62 44 C66 56 82 60 84 70 L84 76 H18 Z" '
        f'fill="{color}"/><rect x="18" y="74" width="66" height="6" fill="{other}"/>',
        f'<path d="M20 80 V56 a30 30 0 0 1 60 0 V80" fill="none" stroke="{color}" '
        f'stroke-width="7"/><rect x="14" y="56" width="14" height="26" rx="5" '
        f'fill="{other}"/><rect x="72" y="56" width="14" height="26" rx="5" '
        f'fill="{other}"/>',
    )
    return _svg(f'<rect width="100" height="100" fill="{ground}"/>{rng.choice(shapes)}')


def face(rng: Random) -> str:
    """A head and shoulders without features."""
    defs, body = _sky(rng)
    skin, shirt, hair = rng.choice(SKIN), rng.choice(SOLIDS), rng.choice(SOLIDS)
    body += f'<circle cx="50" cy="38" r="{rng.randint(20, 24)}" fill="{hair}"/>'
    body += f'<ellipse cx="50" cy="100" rx="38" ry="34" fill="{shirt}"/>'
    body += f'<rect x="42" y="52" width="16" height="20" fill="{skin}"/>'
    body += f'<ellipse cx="50" cy="44" rx="16" ry="19" fill="{skin}"/>'
    return _svg(body, defs)


PICTURES = {"scene": scene, "abstract": abstract, "product": product, "face": face}


def picture(rng: Random, kind: str) -> str:
    """SVG text of one picture of the given kind."""
    return PICTURES[kind](rng)


def status_glyphs(charge: int, theme: str) -> list[tuple[str, str]]:
    """The status bar's own three glyphs, with the battery at `charge` percent."""
    bars = "".join(
        f'<rect x="{5 * i}" y="{9 - 3 * i}" width="3.4" height="{3 * i + 3}" rx="1"/>'
        for i in range(4)
    )
    signal = f'<svg viewBox="0 0 19 12" width="19" height="12">{bars}</svg>'
    arcs = (
        '<path d="M8 12 L5.6 9.4 A3.6 3.6 0 0 1 10.4 9.4 Z"/>'
        '<path d="M2.9 6.6 A7.4 7.4 0 0 1 13.1 6.6 L11.7 8.1 A5.3 5.3 0 0 0 4.3 8.1 '
        'Z"/>'
        '<path d="M0 3.6 A11.6 11.6 0 0 1 16 3.6 L14.6 5.1 A9.6 9.6 0 0 0 1.4 5.1 Z"/>'
    )
    wifi = f'<svg viewBox="0 0 16 12" width="16" height="12">{arcs}</svg>'
    if theme == "md":
        battery = (
            '<svg viewBox="0 0 8 14" width="8" height="14"><rect y="1.5" width="8" '
            'height="12.5" rx="1.5" opacity="0.4"/><rect x="2.5" width="3" '
            'height="1.5"/>'
            f'<rect y="{14 - 12.5 * charge / 100:.1f}" width="8" '
            f'height="{12.5 * charge / 100:.1f}" rx="1.2"/></svg>'
        )
        return [("wifi", wifi), ("signal", signal), ("battery", battery)]
    battery = (
        '<svg viewBox="0 0 26 12" width="26" height="12"><rect x="0.5" y="0.5" '
        'width="22" height="11" rx="3.2" fill="none" stroke="currentColor" '
        'opacity="0.5"/><rect x="24" y="4" width="1.6" height="4" rx="0.8"/>'
        f'<rect x="2" y="2" width="{19 * charge / 100:.1f}" height="8" rx="1.8"/></svg>'
    )
    return [("signal", signal), ("wifi", wifi), ("battery", battery)]
