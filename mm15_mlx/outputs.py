"""Files of lines that are written whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path

from mm15_mlx.config import UserError


def output_file(path: Path, force: bool) -> None:
    """Raise UserError if `path` is not to be written; asked before the work is done."""
    if path.exists() and not force:
        raise UserError(f"{path} exists; give --force to overwrite it")
    if not path.parent.is_dir():
        raise UserError(f"{path}: the folder {path.parent} does not exist")


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """All lines or, where that fails, none."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(partial, path)
