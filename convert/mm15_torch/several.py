"""Screens that are shown together, with questions about all of them.

Two screens of any kind, the two of a pair, or the four frames of a flow. As in MM1.5,
three pictures or more are not split.
"""

from collections.abc import Iterable
from random import Random

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.samples import Row, load_views
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.several import Several, about_pair, order, series, which
from mm15_mlx.tiling import plan

SHARES = {"any": 0.3, "pair": 0.5, "flow": 0.2}  # of what there is
FLOWS = 3  # of a batch: what is not split takes little time

Prompt = tuple[list[Screen], list[Several]]


class SeveralScreens:
    """What can be shown together of the screens of some folders."""

    def __init__(self, screens: Iterable[Screen], config: ModelConfig) -> None:
        self.config = config
        by_folder: dict[str, list[Row]] = {}
        self.screens: list[Screen] = []
        for screen in screens:
            by_folder.setdefault(screen.row["folder"], []).append(screen.row)
            self.screens.append(screen)
        self.series = {
            what: [s for rows in by_folder.values() for s in series(rows, what)]
            for what in ("pair", "flow")
        }

    def draw(self, rng: Random, count: int) -> list[Prompt]:
        """Screens, and `count` questions at most about them in this order; several
        such where they are the frames of a flow."""
        kinds = [k for k in SHARES if k == "any" or self.series[k]]
        kind = rng.choices(kinds, [SHARES[k] for k in kinds])[0]
        if kind == "any":
            screens = rng.sample(self.screens, 2)
            return [(screens, self.which(rng, [s.row for s in screens], count))]
        if kind == "pair":
            rows = rng.choice(self.series[kind])
            made = [m for m in about_pair(rng, *rows) if m.images == rows]
            made += self.which(rng, rows, count)
            return [([self.shown(r, 2) for r in rows], made)]
        asked = [order(rng, *rng.choice(self.series[kind])) for _ in range(FLOWS)]
        return [([self.shown(r, len(a.images)) for r in a.images], [a]) for a in asked]

    def which(self, rng: Random, rows: list[Row], count: int) -> list[Several]:
        """On which of two screens something is: `count` questions at most."""
        made = [which(rng, *rows) for _ in range(count)]
        return list({m.question.prompt: m for m in made if m}.values())

    def shown(self, row: Row, count: int) -> Screen:
        """A screen as one of `count` pictures."""
        tiling = plan(row["width"], row["height"], self.config.tiling, count)
        if count <= self.config.tiling.max_split_images:  # as if alone: views are kept
            return Screen(row, tiling)
        return Screen(row, tiling, load_views(row, tiling, self.config))
