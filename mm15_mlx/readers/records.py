"""One row of a benchmark: its fields, checked, with errors that name file and row.

What this file is: texts, lists, numbers, boxes and pictures of a row. What it is not:
reading files (sources.py) or what a benchmark's fields mean (the files beside this).
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm15_mlx.config import UserError
from mm15_mlx.readers import pictures
from mm15_mlx.readers.sources import files, literal, rows_of

_LARGEST = sys.float_info.max  # JSON has larger integers


@dataclass(frozen=True)
class Record:
    """Row `number` of `file`, from 1; `folder` is what the paths of its pictures are
    relative to."""

    data: dict[str, Any]
    folder: Path
    file: Path
    number: int

    @property
    def where(self) -> str:
        """The row's place, for messages."""
        return f"{self.file}, row {self.number}"

    def get(self, *keys: str) -> Any:
        """The value of the first key that is there and not empty, else None."""
        for key in keys:
            if self.data.get(key) not in (None, "", []):
                return self.data[key]
        return None

    def text(self, *keys: str) -> str:
        """A text, or a number as text. Raises UserError."""
        value = self._needed(keys)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UserError(f"{self.where}: {keys[0]} is {value!r}; it must be a text")
        return str(value).strip()

    def texts(self, *keys: str) -> list[str]:
        """A list of texts; one text is a list of one, and a list that a table holds as
        text is read. Raises UserError."""
        values = self._listed(keys)
        if not all(isinstance(v, str | int | float) for v in values):
            raise UserError(f"{self.where}: {keys[0]} must hold texts, not {values!r}")
        return [str(v).strip() for v in values]

    def four(self, *keys: str) -> list[float]:
        """Four finite numbers. Raises UserError."""
        value = self._needed(keys)
        value = literal(value) if isinstance(value, str) else value
        return numbers(value, 4, f"{self.where}: {keys[0]}")

    def picture(self, *keys: str, below: Sequence[str] = ()) -> str:
        """The absolute path of the row's picture; see `pictures.path_of`."""
        value = self._needed(keys)
        return pictures.path_of(value, self.where, self.folder, self.file, below)

    def pictures(self, *keys: str, below: Sequence[str] = ()) -> list[str]:
        """The absolute paths of the row's pictures, in their order."""
        return [
            pictures.path_of(v, self.where, self.folder, self.file, below)
            for v in self._listed(keys)
        ]

    def _listed(self, keys: Sequence[str]) -> list[Any]:
        value = self._needed(keys)
        table = self.file.suffix.casefold() in (".csv", ".tsv")
        if table and isinstance(value, str) and value.startswith("["):
            value = literal(value)
        return list(value) if isinstance(value, list | tuple) else [value]

    def _needed(self, keys: Sequence[str]) -> Any:
        value = self.get(*keys)
        if value is None:
            named = " or ".join(repr(k) for k in keys)
            raise UserError(f"{self.where} lacks the key {named}")
        return value


def numbers(value: Any, count: int, what: str) -> list[float]:
    """`value` as that many finite numbers; raises UserError that begins with `what`."""
    values = list(value) if isinstance(value, list | tuple) else []
    good = [v for v in values if isinstance(v, int | float) and abs(v) <= _LARGEST]
    if len(values) != count or len(good) != count:
        raise UserError(f"{what} is {value!r:.100}; it must be {count} numbers")
    return [float(v) for v in values]


def upright_box(corners: Sequence[float], where: str) -> list[float]:
    """Corners x1, y1, x2, y2 as a box. Raises UserError where the box is turned over:
    the file then has another convention than this reader thinks."""
    if corners[2] < corners[0] or corners[3] < corners[1]:
        raise UserError(
            f"{where}: the box {[*corners]} is not x1, y1, x2, y2 with x1 ≤ x2 and "
            "y1 ≤ y2; is this the format that --format names?"
        )
    return list(corners)


def records(
    path: Path, patterns: Sequence[str], split: str | None, inside: str = "data"
) -> Iterator[Record]:
    """The rows of the files that `files` finds.

    inside: the key of the list, where a JSON file is an object around it.
    """
    folder = path if path.is_dir() else path.parent
    for file in files(path, patterns, split):
        for number, row in enumerate(rows_of(file, inside), 1):
            if not isinstance(row, dict):
                raise UserError(f"{file}, row {number} is not an object")
            yield Record(row, folder, file, number)
