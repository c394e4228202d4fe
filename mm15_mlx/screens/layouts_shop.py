"""Screens that sell: grids of products, one product, a cart."""

from . import labels
from .content import Content
from .kits import Bars, Field, Kit, Row, mark
from .layout_parts import filters, frame, nav


def product_card(ui: Kit, c: Content, height: int) -> str:
    """A picture, a name, a price."""
    name = c.product()
    heart = ""
    if c.chance(0.4):
        icon = c.pick(("heart", "heart-filled"))
        heart = ui.icon_button(
            icon, f"Favorite {name}", 20, style="position:absolute;right:8px;top:8px"
        )
    stars = ui.rating(c.rng.uniform(2, 5), 12) if c.chance(0.3) else ""
    add = ui.button("Add", "tonal", small=True) if c.chance(0.2) else ""
    shot = ui.image(name, "100%", f"{height}px", "product", 10)
    body = (
        f'<div style="position:relative">{shot}'
        f'{heart}</div><div class="x-p x-one" style="margin-top:8px">{name}</div>'
        f'<div class="x-h3">{c.price()}</div>{stars}{add}'
    )
    return ui.card(body, mark("button", name), "padding:8px")


def shop_grid(ui: Kit, c: Content) -> str:
    """Products in two columns."""
    height = c.rng.randint(100, 170)
    cells = [
        product_card(ui, c, height) for _ in range(ui.look.many(c.pick((4, 6, 8)), 2))
    ]
    parts = [ui.searchbar(c.pick(("Search products", "What are you looking for?")))]
    parts = parts if c.chance(0.6) else []
    if c.chance(0.6):
        parts.append(filters(ui, c))
    if c.chance(0.3):
        banner = (
            f'<div class="x-h2" style="color:#fff">{c.rng.randint(10, 70)}% OFF</div>'
            f'<div style="color:#fff;font-size:14px">{c.sentence(3, 5)}</div>'
        )
        parts.append(ui.stack(ui.card(banner, css=f"background:{c.color()}")))
    if c.chance(0.4):
        parts.append(ui.large_title(c.pick(labels.HEADERS)))
    parts.append(ui.grid(cells, 2, c.pick((8, 12, 16))))
    bars = frame(c)
    if c.chance(0.5):
        bars["right"] = [("Cart", c.pick(("cart", "bag")))]
    return ui.page(
        c.pick(("Shop", "Store", c.app, "New In", "Deals")),
        "".join(parts),
        Bars(**bars),
    )


def product_page(ui: Kit, c: Content) -> str:
    """One product with its choices."""
    name = c.product()
    parts = [ui.image(name, "100%", f"{c.rng.randint(240, 340)}px", "product")]
    stars = c.rng.uniform(2.5, 5)
    parts.append(
        ui.stack(
            f'<div class="x-h2">{name}</div>',
            ui.line(
                ui.rating(stars),
                f'<span class="x-s">{stars:.1f} ({c.number()})</span>',
                style="margin:6px 0",
            ),
            f'<div class="x-h1">{c.price()}</div>',
        )
    )
    if c.chance(0.6):
        parts.append(ui.segmented(["S", "M", "L", "XL"], c.rng.randrange(4)))
    if c.chance(0.4):
        colors = c.some(("Black", "White", "Red", "Navy", "Olive", "Sand"), 2, 4)
        parts.append(ui.scroller([ui.chip(x, i == 0) for i, x in enumerate(colors)]))
    parts.append(ui.stack(f'<div class="x-p">{c.paragraph(c.rng.randint(1, 3))}</div>'))
    if c.chance(0.5):
        rows = [
            ui.row(Row("Quantity", control=ui.stepper("Quantity", c.rng.randint(1, 5))))
        ]
        rows += [
            ui.row(Row(n, chevron=True, after=v))
            for n, v in c.some(
                (
                    ("Shipping", "Free"),
                    ("Returns", "30 days"),
                    ("Reviews", c.number(900)),
                    ("Size Guide", ""),
                    ("Material", "Cotton"),
                ),
                1,
                3,
            )
        ]
        parts.append(ui.group(rows))
    key = ui.button(
        c.pick(("Add to Cart", "Buy Now", "Add to Bag")),
        "fill",
        c.pick(("", "cart", "bag")),
        large=True,
    )
    if c.chance(0.5):
        return ui.page(
            "",
            "".join(parts),
            Bars(
                back="",
                right=nav(c),
                footer=f'<div class="x-bottom" data-cover>{key}</div>',
            ),
        )
    return ui.page(
        c.pick(("", name)), "".join(parts) + ui.stack(key), Bars(back="", right=nav(c))
    )


def cart(ui: Kit, c: Content) -> str:
    """Things to buy and the sum."""
    rows = []
    for _ in range(c.rng.randint(2, 4)):
        name = c.product()
        rows.append(
            ui.row(
                Row(
                    name,
                    subtitle=c.price(),
                    control=ui.stepper(name, c.rng.randint(1, 4)),
                    media=ui.image(name, "60px", "60px", "product", 8),
                )
            )
        )
    parts = [ui.group(rows)]
    if c.chance(0.4):
        parts.append(
            ui.group(
                [ui.field(Field("Promo Code", placeholder="Enter code"))], inset=True
            )
        )
    lines = [
        ("Subtotal", c.price(20, 900)),
        ("Shipping", c.pick(("Free", c.price(3, 15)))),
        ("Tax", c.price(1, 60)),
        ("Total", c.price(30, 999)),
    ]
    parts.append(
        ui.group([ui.row(Row(n, after=v)) for n, v in lines], c.pick(("Summary", "")))
    )
    if c.chance(0.3):
        parts.append(
            ui.group(
                [
                    ui.row(
                        Row("Gift wrap", control=ui.switch("Gift wrap", c.chance(0.4)))
                    )
                ]
            )
        )
    parts.append(
        ui.stack(
            ui.button(
                c.pick(("Checkout", "Place Order", "Pay Now")),
                "fill",
                large=True,
                disabled=c.chance(0.1),
            )
        )
    )
    return ui.page(
        c.pick(("Cart", "My Bag", "Your Order")), "".join(parts), Bars(**frame(c))
    )
