"""A pickle's program, carried out on values that can do nothing.

What this file is: an interpreter of the opcodes that a state dict is written with. It
makes numbers, texts, tuples, lists and dicts; a global is only its name, a call goes to
one function that the caller gives. What it is not: Python's unpickler, which imports
and calls what the file names; none of it is used.
"""

import pickletools
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

MAX_OPCODES = 6_000_000  # thirty or so a tensor


class PickleError(ValueError):
    """A pickle that holds something else than tensors and plain values."""


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle refers to: the module, a space, the name in it."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """The bytes behind tensors, as torch.save refers to them; nothing checked yet."""

    kind: Any
    key: Any
    count: Any


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple[Any, ...]


# Opcodes whose argument is the value. The text forms of protocol 0 are not among them.
_VALUES = frozenset(
    "BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINUNICODE".split()
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,  # its members may be such that cannot be hashed
    "EMPTY_DICT": dict,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS = ("BINPUT", "LONG_BINPUT")
_GETS = ("BINGET", "LONG_BINGET")
# Any other key could be a tuple nested so deep that hashing it ends the process.
_KEYS = (str, int, float, bool, type(None))


def run(data: bytes, allowed: AbstractSet[str], make: Callable[[Call], Any]) -> Any:
    """The value that a pickle describes. `make` gives the value of each call.

    Raises PickleError for an opcode or a global that is not allowed, a program that is
    not well formed, and whatever `make` refuses.
    """
    try:
        return Machine(allowed, make).run(data)
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError):
        raise PickleError("it is damaged") from None
    except RecursionError:
        raise PickleError("its values are nested too deep") from None


class Machine:
    def __init__(self, allowed: AbstractSet[str], make: Callable[[Call], Any]) -> None:
        self.allowed, self.make = allowed, make
        self.stack: list[Any] = []
        self.marks: list[int] = []  # the stack's length at each MARK
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MAX_OPCODES:
                raise PickleError(f"it has more than {MAX_OPCODES} opcodes")
            if opcode.name == "STOP":
                return self.pop()
            self.step(opcode.name, argument)
        raise PickleError("it has no end")

    def step(self, name: str, argument: Any) -> None:
        push = self.stack.append
        if name in _VALUES:
            push(argument)
        elif name in _CONSTANTS:
            push(_CONSTANTS[name]())
        elif name in _PUTS:
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in _GETS:
            push(self.memo[argument])
        elif name in _TUPLES:
            push(tuple(self.pop_many(_TUPLES[name])))
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name == "TUPLE":
            push(tuple(self.pop_mark()))
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            self.extend([self.pop()] if name == "APPEND" else self.pop_mark())
        elif name in ("SETITEM", "SETITEMS"):
            self.set(self.pop_many(2) if name == "SETITEM" else self.pop_mark())
        elif name == "GLOBAL":
            push(self.named(argument))
        elif name == "STACK_GLOBAL":
            names = self.pop_many(2)
            if not all(type(name) is str for name in names):
                raise PickleError("it refers to something whose name is no text")
            push(self.named(" ".join(names)))
        elif name == "BINPERSID":
            push(self.storage(self.pop()))
        elif name == "REDUCE":
            push(self.call(*self.pop_many(2)))
        elif name == "BUILD":
            self.build()
        elif name not in ("PROTO", "FRAME"):
            raise PickleError(f"it uses the opcode {name}")

    def pop(self) -> Any:
        return self.pop_many(1)[0]

    def pop_many(self, count: int) -> list[Any]:
        """The uppermost values, lowest first; never any from below a mark."""
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise PickleError("it is damaged")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def pop_mark(self) -> list[Any]:
        first = self.marks.pop()
        values = self.stack[first:]
        del self.stack[first:]
        return values

    def extend(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise PickleError("it appends to something that is no list")
        self.stack[-1].extend(values)

    def set(self, pairs: list[Any]) -> None:
        if type(self.stack[-1]) is not dict or len(pairs) % 2:
            raise PickleError("it fills something that is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in _KEYS:
                raise PickleError("a dict has a key that is neither text nor number")
            self.stack[-1][key] = value

    def named(self, name: str) -> Global:
        if name not in self.allowed:
            raise PickleError(f"it refers to {'.'.join(name.split())!r:.100}")
        return Global(name)

    def storage(self, identity: Any) -> Storage:
        if type(identity) is tuple and len(identity) == 5 and identity[0] == "storage":
            return Storage(identity[1], identity[2], identity[4])
        raise PickleError("it refers to something outside that is no storage")

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Global) or type(arguments) is not tuple:
            raise PickleError("it calls something that is no function")
        return self.make(Call(function.name, arguments))

    def build(self) -> None:
        """A state dict's `_metadata`, which is not needed; no other state is set."""
        self.pop()
        if type(self.stack[-1]) is not dict:
            raise PickleError("it sets the state of something that is no dict")
