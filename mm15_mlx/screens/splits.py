"""Which kits and layouts are for what: scores are on screens that training never saw.

Not published: our choice. AdminLTE is for test because it is built on Bootstrap.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from .layouts import HELD_OUT

TRAIN = "train"
KEPT: dict[str, tuple[str, ...]] = {
    "validation": ("beercss",),  # to choose among trainings
    "test": ("weui", "bootstrap", "adminlte"),  # what is published
}
SPLITS = (TRAIN, *KEPT)


def split_of(kit: str) -> str:
    """train, validation or test; kits that are not ours may be trained on."""
    return next((split for split, kits in KEPT.items() if kit in kits), TRAIN)


def expand(names: Iterable[str], kits: Iterable[str]) -> tuple[str, ...]:
    """Of `kits`, those that `names` ask for: a split stands for all of its kits."""
    known, found = tuple(kits), []
    for name in names:
        whole = [kit for kit in known if split_of(kit) == name]
        found += whole if name in SPLITS else [name]
    return tuple(dict.fromkeys(found))


def held_out(row: Mapping[str, Any]) -> str | None:
    """Why an annotated screen is not to be trained on, if it is not."""
    split = split_of(row.get("kit", ""))
    if split != TRAIN:
        return f"the kit {row['kit']} is kept for {split}"
    if row.get("layout") in HELD_OUT:
        return f"the layout {row['layout']} is kept for test"
    if "words" in row:
        return "its words are kept for test"
    return None
