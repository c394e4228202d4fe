"""Something over a page: questions, sheets, menus, short messages."""

from . import labels
from .content import Content
from .kits import Bars, Kit, Row
from .layout_parts import frame, nav, tabs


def dialog(ui: Kit, c: Content) -> str:
    """A question over a page of settings or a picture."""
    title, text, yes = (c.fill(part) for part in c.pick(labels.DIALOGS))
    no = c.pick(("Cancel", "Cancel", "Not Now", "No", "Later", "Don't Allow"))
    keys = [no, yes]
    if c.chance(0.2):
        keys = ["OK"]
    elif c.chance(0.2):
        keys = [yes, c.pick(("Remind Me Later", "Learn More", "Settings")), no]
    over = ui.dialog(title, text, keys, tall=len(keys) > 2)
    return beneath(ui, c, over)


def beneath(ui: Kit, c: Content, over: str) -> str:
    """A plain page with something modal over it."""
    if c.chance(0.5):
        rows = [
            ui.row(Row(n, after=c.pick(labels.VALUES), chevron=True))
            for n, _ in c.named(labels.SETTINGS, 5, 10)
        ]
        body = ui.group(rows, c.pick(labels.HEADERS))
    else:
        photo = ui.image(c.pick(("Photo", "Cover")), "100%", "260px", "scene")
        body = photo + ui.stack(
            f'<div class="x-h2">{c.product()}</div>',
            f'<div class="x-p">{c.paragraph(3)}</div>',
        )
    return ui.page(c.pick(labels.TITLES), body, Bars(overlay=over, **frame(c)))


def action_sheet(ui: Kit, c: Content) -> str:
    """Choices from the bottom edge."""
    actions = c.named(labels.ACTIONS, 2, 6)
    caption = c.sentence(3, 8) if c.chance(0.4) else ""
    danger = c.pick(labels.DANGER) if c.chance(0.5) else ""
    return beneath(ui, c, ui.sheet(actions, danger, caption, c.chance(0.5)))


def popover_menu(ui: Kit, c: Content) -> str:
    """A small menu from the navigation bar."""
    actions = c.named(labels.ACTIONS, 3, 6)
    if c.chance(0.4):
        actions = [(text, "") for text, _ in actions]
    return beneath(ui, c, ui.menu(actions))


def toast_page(ui: Kit, c: Content) -> str:
    """Settings with a short message at the foot."""
    text = c.pick(
        (
            "Message archived",
            "Link copied",
            "Saved to Photos",
            "No connection",
            "Added to cart",
            "Draft saved",
            "Settings updated",
            "1 item deleted",
        )
    )
    over = ui.toast(text, c.pick(("Undo", "Retry", "View", "", "")))
    rows = [
        ui.row(Row(n, control=ui.switch(n, c.chance(0.5))))
        for n, _ in c.named(labels.SETTINGS, 4, 9)
    ]
    bars = {"right": nav(c), **tabs(c)}
    return ui.page(c.pick(labels.TITLES), ui.group(rows), Bars(overlay=over, **bars))
