"""Sizes of screens in CSS pixels, by form, and how often each is drawn."""

import re
from random import Random

FORMS: dict[str, tuple[str, ...]] = {
    "phone": (
        "390x844",
        "393x852",
        "375x667",
        "375x812",
        "414x896",
        "430x932",
        "360x800",
        "412x915",
    ),
    "tablet": (
        "768x1024",
        "820x1180",
        "1024x1366",
        "800x1280",
        "1024x768",
        "1180x820",
        "1366x1024",
    ),
    "desktop": ("1280x800", "1366x768", "1440x900", "1920x1080"),
}
# Shares and scales are our choice, not published.
SHARES = {"phone": 0.7, "tablet": 0.15, "desktop": 0.15}
SCALES = {"phone": (2, 2, 2, 2, 2, 3, 1), "tablet": (1, 2, 2), "desktop": (1, 1, 2)}
VIEWPORTS = tuple(size for sizes in FORMS.values() for size in sizes)


def parse(size: str) -> tuple[int, int]:
    """Width and height of "390x844"."""
    width, height = map(int, size.split("x"))
    return width, height


def form_of(size: str) -> str:
    """phone, tablet or desktop; sizes that are not ours go by their width."""
    for form, sizes in FORMS.items():
        if size in sizes:
            return form
    width, height = parse(size)
    if min(width, height) < 600:
        return "phone"
    return "desktop" if width >= 1200 else "tablet"


def expand(names: tuple[str, ...]) -> tuple[str, ...]:
    """Sizes for a mixture of forms and sizes; ValueError for anything else."""
    sizes: list[str] = []
    for name in names:
        if name not in FORMS and not re.fullmatch(r"[1-9]\d*x[1-9]\d*", name):
            raise ValueError(
                f"viewport {name!r} is not like 390x844 nor one of {', '.join(FORMS)}"
            )
        sizes += (s for s in FORMS.get(name, (name,)) if s not in sizes)
    return tuple(sizes)


def pick(rng: Random, sizes: tuple[str, ...]) -> str:
    """One size; a form has its share of the screens, whatever its number of sizes."""
    forms = [form_of(size) for size in sizes]
    weights = [SHARES[form] / forms.count(form) for form in forms]
    return rng.choices(sizes, weights)[0]
