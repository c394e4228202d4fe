"""Files of JSON, one value or one a line, as people have them.

What this file is: reading, in one way for tasks, rows, examples and training data, with
what is wrong said in words. What it is not: what the values must be.
"""

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mm15_mlx.input_config import UserError


def fault(path: Path) -> str | None:
    """What keeps a path from being a file to read, in words; None where nothing does,
    as far as can be seen from outside."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except (OSError, ValueError) as e:  # far too long a name, or a NUL in it
        return f"cannot be read: {getattr(e, 'strerror', None) or e}"
    if stat.S_ISDIR(mode):
        return "is a folder"
    return None if stat.S_ISREG(mode) else "is not a file"


def read_text(path: Path) -> str:
    """UTF-8, with or without a mark at its beginning. Raises UserError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not UTF-8 text: {e.reason}; save it as such") from e
    except OSError as e:
        raise UserError(f"{path} cannot be read: {e.strerror}") from e


def numbered(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, from 1. Only line feeds end one: what else ends
    lines elsewhere, such as U+2028, may stand in a JSON text."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def parsed(text: str) -> Any:
    """The value. Raises ValueError that says why there is none."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as e:
        raise ValueError(f"{e.msg} (character {e.pos + 1})") from e
    except RecursionError as e:
        raise ValueError("nested too deep") from e
