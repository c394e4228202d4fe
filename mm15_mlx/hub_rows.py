"""Training rows in tables: parquet and arrow files, and data sets of the hub.

What this file is: the columns of `datasets` → the rows of training_rows.py, with
pictures that stay in the table until they are needed. Only a hub id uses the network.
What it is not: what a row may hold (training_rows.py, dataset.py).

A folder has parquet files whose names begin with the split's, in it or in `data/`, as
the hub lays them, or is what `save_to_disk` wrote.
"""

import dataclasses
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mm15_mlx.config import UserError
from mm15_mlx.training_rows import DataError, Row, row_of, split_file

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_NAMES = {  # what others call our splits
    "train": ("train",),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test",),
}
_SAVED = ("dataset_dict.json", "dataset_info.json")
_COLUMNS = ("messages", "conversations", "category")


@dataclass(frozen=True)
class TablePicture:
    """A picture in a column of a table, read when it is needed."""

    where: str
    row: int
    column: str
    place: int  # in the row's list
    table: Any = field(compare=False, repr=False)

    def read(self) -> bytes:
        value = self.table[self.row][self.column]
        value = value[self.place] if isinstance(value, list) else value
        return _bytes(value)

    def __str__(self) -> str:
        return f"picture {self.place + 1} of {self.where}"


def is_table(source: Path) -> bool:
    """Whether `--data` names a hub id, or a folder of tables and not of JSON lines."""
    if not source.is_dir():
        return not source.exists() and bool(_HUB_ID.fullmatch(str(source)))
    if split_file(source, "train"):
        return False
    if any((source / name).is_file() for name in _SAVED):
        return True
    return any(_parquet(source, names) for names in _NAMES.values())


def _parquet(folder: Path, names: tuple[str, ...]) -> list[Path]:
    found = [*folder.glob("*.parquet"), *folder.glob("data/*.parquet")]
    mark = re.compile(rf"(?:{'|'.join(names)})(?![a-z]).*", re.IGNORECASE)
    return sorted(p for p in found if mark.fullmatch(p.name))


def table_rows(source: Path, name: str) -> tuple[list[Row], list[str]]:
    """The rows of a split that can be read, and one line for each that cannot; both
    empty where there is no such split. Raises DataError, also for a missing package."""
    table = _table(source, _NAMES[name])
    if table is None:
        return [], []
    columns = set(table.column_names)
    if not columns & {"messages", "conversations"}:
        raise DataError(
            f"{source} has the columns {', '.join(sorted(columns))}; rows need "
            "messages or conversations"
        )
    if "video" in columns:
        raise DataError(
            f"{source} has a column video, which is not read from tables; write such "
            "rows as JSONL"
        )
    column = next((c for c in ("images", "image") if c in columns), None)
    plain = table.select_columns([c for c in _COLUMNS if c in columns])
    rows: list[Row] = []
    problems: list[str] = []
    for n, value in enumerate(plain):
        where = f"{source.name} {name}, row {n + 1}"
        try:
            rows.append(_row(value, where, n, column, table, source))
        except UserError as e:
            problems.append(f"{where}: {e}")
    return rows, problems


def _row(
    value: dict[str, Any], where: str, n: int, column: str | None, table: Any,
    source: Path,
) -> Row:  # fmt: skip
    shown = table[n][column] if column else None
    listed = shown if isinstance(shown, list) else [] if shown is None else [shown]
    given = {k: v for k, v in value.items() if v is not None}
    names = [v if isinstance(v, str) else str(k) for k, v in enumerate(listed)]
    row = row_of(given | {"images": names}, where, source, None)
    images = tuple(
        path if isinstance(v, str) else TablePicture(where, n, column or "", k, table)
        for k, (path, v) in enumerate(zip(row.images, listed, strict=True))
    )
    return dataclasses.replace(row, images=images)


def _bytes(value: Any) -> bytes:
    """The file of a picture: bytes, a path, both as `datasets` keeps them, or PIL."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        try:
            return Path(value).read_bytes()
        except OSError as e:
            raise DataError(f"the picture {value} cannot be read: {e.strerror}") from e
    if isinstance(value, bytes):
        return value
    if hasattr(value, "save"):
        made = io.BytesIO()
        value.save(made, "PNG")
        return made.getvalue()
    raise DataError(f"a {type(value).__name__} is not a picture; use bytes or Image")


def _table(source: Path, names: tuple[str, ...]) -> Any:
    """The table of a split, its pictures not decoded; None where there is none."""
    try:
        import datasets
    except ImportError as e:
        raise DataError(
            f"{source} holds tables, and reading them needs datasets: pip install "
            "'mm15-mlx[data]'"
        ) from e
    datasets.disable_progress_bars()
    try:
        if not source.is_dir():
            found = datasets.load_dataset(str(source))
        elif any((source / name).is_file() for name in _SAVED):
            found = datasets.load_from_disk(str(source))
        else:
            files = [str(p) for p in _parquet(source, names)]
            if not files:
                return None
            found = datasets.load_dataset("parquet", data_files=files, split="train")
    except Exception as e:  # whatever pyarrow and the hub's client raise
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise DataError(
            f"{source} cannot be read as a data set: {reason}; give a folder with "
            "train.jsonl or parquet files, or a hub id (owner/name)"
        ) from e
    if isinstance(found, dict):
        found = next((found[n] for n in names if n in found), None)
    elif any((source / name).is_file() for name in _SAVED) and "train" not in names:
        return None  # a single saved table is what is trained on
    return _undecoded(found, datasets) if found is not None else None


def _undecoded(table: Any, datasets: Any) -> Any:
    """Pictures as the bytes that are stored."""
    plain = datasets.Image(decode=False)
    for name, kind in table.features.items():
        if isinstance(kind, datasets.Image):
            table = table.cast_column(name, plain)
        elif isinstance(kind, datasets.List | datasets.LargeList):
            if isinstance(kind.feature, datasets.Image):
                table = table.cast_column(name, datasets.List(plain))
    return table
