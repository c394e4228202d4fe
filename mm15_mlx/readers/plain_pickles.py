"""Pickles of plain values, such as RefCOCO's refs: texts, numbers, lists and dicts.

What this file is: the interpreter of `convert/pickles.py` without a single global, with
the text forms that Python 2 wrote and caps on size. What it is not: Python's unpickler.
A file can make nothing but plain values, none of them twice in different places.
"""

import pickletools
from pathlib import Path
from typing import Any

from mm15_mlx.config import UserError
from mm15_mlx.convert import pickles

# RefCOCO's are some 40 MB and 6 million opcodes: 50,000 objects, 142,000 sentences.
MAX_BYTES = 160 << 20
MAX_OPCODES = 24_000_000
_VALUES = frozenset(
    "STRING BINSTRING SHORT_BINSTRING UNICODE INT LONG FLOAT".split()
)  # beside those of newer protocols
_OUTSIDE = frozenset("PERSID BINPERSID REDUCE BUILD GLOBAL STACK_GLOBAL".split())


class _Plain(pickles.Machine):
    def __init__(self) -> None:
        super().__init__(frozenset(), lambda call: call)

    def run(self, data: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise pickles.PickleError(f"it has more than {MAX_OPCODES} opcodes")
            if opcode.name == "STOP":
                return self.pop()
            self.step(opcode.name, argument)
        raise pickles.PickleError("it has no end")

    def step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name == "LIST":
            self.stack.append(self.pop_mark())
        elif name == "DICT":
            pairs = self.pop_mark()
            self.stack.append({})
            self.set(pairs)
        elif name in ("PUT", "GET"):
            super().step(f"BIN{name}", int(argument))
        elif name in _OUTSIDE:
            what = f" {argument!r:.100}" if isinstance(argument, str) else ""
            raise pickles.PickleError(f"it asks for code or files: {name}{what}")
        else:
            super().step(name, argument)
        # One list in many places can stand for more than any memory holds.
        if name.endswith("GET") and isinstance(self.stack[-1], list | dict | tuple):
            raise pickles.PickleError("it has one list or dict in two places")


def read_plain(file: Path) -> Any:
    """The value of a pickle of plain values. Raises UserError for anything else."""
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise refused(file, f"it has {size} bytes, and {MAX_BYTES} is the limit")
    try:
        return _Plain().run(file.read_bytes())
    except pickles.PickleError as e:
        raise refused(file, str(e)) from e
    except (ValueError, IndexError, KeyError) as e:
        raise refused(file, "it is damaged") from e


def refused(file: Path, reason: str) -> UserError:
    return UserError(
        f"{file} is a pickle that cannot be read as plain values: {reason}; export it "
        f"as {file.stem}.json by a program that you trust"
    )
