"""What verbs share of writing: files that are whole or not there, and progress."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mm15_mlx.config import UserError

_LONGER = (
    "..unfinished.partial"  # by so much, what stands beside a file until it is done
)


def output_file(path: Path, force: bool) -> None:
    """Raise UserError if `path` is not to be written; asked before the work is done."""
    output_place(path)
    if path.exists() and not force:
        raise UserError(f"{path} exists; give --force to overwrite it")


def output_place(path: Path) -> None:
    """Raise UserError where no file can be written, whatever is there now."""
    folder = path.parent
    try:
        if not folder.is_dir():
            raise UserError(f"{path}: the folder {folder} does not exist")
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file in it")
        if path.exists() and not path.is_file():  # a device would become a file
            raise UserError(f"{path} is not a file; name another")
        path.with_name(path.name + _LONGER).exists()
    except OSError as e:
        raise UserError(
            f"{path} cannot be written: {e.strerror}; name another file"
        ) from e
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            f"{path} cannot be written: the folder {folder} is read-only; name another"
        )


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """All lines or, where that fails, none."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(partial, path)


def progress_bar(*texts: str) -> Any:
    """rich's bar on stderr with the time that is left; texts: rich's, after the count.

    rich is imported here: most runs need none.
    """
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        *map(progress.TextColumn, texts),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(elapsed_when_finished=False),
        console=Console(stderr=True),
    )


def left_text(seconds: float) -> str:
    """`1 h 02 min`, `3 min 05 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
