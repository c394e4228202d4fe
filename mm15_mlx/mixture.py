"""Which row comes next: categories of data in given shares, exactly and reproducibly.

What this file is: MM1.5's data mixture (§3.3) as a rule that needs no chance: after any
number of draws no category is a whole row ahead of or behind its share. Within a
category every row comes once before one comes twice, in an order that the seed gives.
What it is not: a sampler with state. Draw `t` is a function of the weights, the seed
and `t`, so a run that goes on at step `t` sees what an unbroken one would.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mm15_mlx.config import UserError


@dataclass(frozen=True)
class Category:
    """A name, its share of the draws in any unit, and its own files beside DIR's."""

    name: str
    weight: float
    files: tuple[Path, ...] = ()


def read_mixture(value: Any, folder: Path) -> tuple[Category, ...]:
    """The `mixture` of a configuration: name → weight, or {weight, files}.

    Paths are relative to `folder`. Raises UserError, naming the category.
    """
    if not isinstance(value, Mapping) or not value:
        raise UserError("mixture must map names of categories to weights")
    made = []
    for name, entry in value.items():
        entry = entry if isinstance(entry, Mapping) else {"weight": entry}
        unknown = sorted(set(entry) - {"weight", "files"})
        if unknown:
            raise UserError(
                f"mixture: {name} has the key {unknown[0]!r}; it takes weight and files"
            )
        weight, files = entry.get("weight"), entry.get("files", [])
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 < weight < float("inf"):
            raise UserError(f"mixture: {name} has the weight {weight!r}; give above 0")
        if not isinstance(files, list) or not all(isinstance(f, str) for f in files):
            raise UserError(f"mixture: files of {name} must be a list of paths")
        for file in files:
            if not (folder / file).is_file():
                raise UserError(f"mixture: {name}: {folder / file} does not exist")
        paths = tuple(folder / f for f in files)
        made.append(Category(str(name), float(weight), paths))
    return tuple(made)


class Draws:
    """An endless sequence of row numbers."""

    def __init__(
        self, groups: Mapping[str, Sequence[int]], weights: Mapping[str, float],
        seed: int,
    ) -> None:  # fmt: skip
        """groups: the rows of every category, none of them empty."""
        self.names = list(groups)
        self.groups = groups
        total = sum(weights[n] for n in self.names)
        self.shares = np.array([weights[n] / total for n in self.names])
        self._seed = seed
        self._drawn = np.zeros(len(self.names), int)
        self._rows: list[int] = []
        self._orders: dict[tuple[int, int], np.ndarray] = {}

    def __getitem__(self, t: int) -> int:
        while len(self._rows) <= t:
            self._rows.append(self._next())
        return self._rows[t]

    def _next(self) -> int:
        category = self._choose(len(self._rows) + 1)
        k = int(self._drawn[category])
        self._drawn[category] += 1
        rows = self.groups[self.names[category]]
        epoch, place = divmod(k, len(rows))
        if (category, epoch) not in self._orders:
            rng = np.random.default_rng([self._seed, category, epoch])
            self._orders.pop((category, epoch - 1), None)
            self._orders[category, epoch] = rng.permutation(len(rows))
        return int(rows[self._orders[category, epoch][place]])

    def _choose(self, n: int) -> int:
        """The category of draw `n`, from 1 (R. Tijdeman, "The chairman assignment
        problem", 1980): of those far enough behind, the one whose next is due first."""
        k = len(self.shares)
        if k == 1:
            return 0
        room = 1 / (2 * k - 2)
        behind = self.shares * n - self._drawn
        due = np.where(behind >= room - 1e-9, (1 - room - behind) / self.shares, np.inf)
        return int(np.argmin(due))

    def report(self, rows: Iterable[int]) -> list[dict[str, Any]]:
        """What `rows`, which were trained on, were made of, category by category."""
        owner = {r: c for c, n in enumerate(self.names) for r in self.groups[n]}
        counts = [0] * len(self.names)
        for row in rows:
            counts[owner[row]] += 1
        return [
            {
                "category": name,
                "wanted": round(float(self.shares[c]), 6),
                "drawn": counts[c],
                "rows": len(self.groups[name]),
            }
            for c, name in enumerate(self.names)
        ]


def draws_of(
    categories: Sequence[str], mixture: Sequence[Category], seed: int
) -> Draws:
    """Draws of rows whose categories are given, all alike where there is no mixture.

    Raises UserError where a category has no row, or rows have a category that the
    mixture does not name: neither may pass in silence.
    """
    if not mixture:
        return Draws({"all": range(len(categories))}, {"all": 1.0}, seed)
    groups: dict[str, list[int]] = {c.name: [] for c in mixture}
    for row, category in enumerate(categories):
        if category not in groups:
            raise UserError(
                f"the data have rows of the category {category!r}, which the mixture "
                f"does not name; it has {', '.join(groups)}"
            )
        groups[category].append(row)
    empty = [name for name, rows in groups.items() if not rows]
    if empty:
        raise UserError(
            f"the mixture gives {', '.join(empty)} a share, but no row has that "
            "category; add rows or take it out of the mixture"
        )
    return Draws(groups, {c.name: c.weight for c in mixture}, seed)


def report_lines(report: Sequence[Mapping[str, Any]]) -> list[str]:
    """The report as a table for people."""
    total = sum(r["drawn"] for r in report) or 1
    return [
        f"{r['category']:<14} wanted {r['wanted']:6.1%}  drawn {r['drawn']:>7} "
        f"({r['drawn'] / total:6.1%}) of {r['rows']} rows, "
        f"{r['drawn'] / r['rows']:.2f} passes"
        for r in report
    ]
