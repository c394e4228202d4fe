"""Which tensors a PyTorch `.bin`, `.pt` or `.pth` file holds, and where they lie.

What this file is: a reader of the zip files of PyTorch 1.6 and later, without PyTorch.
Nothing is unpickled: the stream is taken apart by pickletools, and the thirty opcodes
that a state dict needs are carried out here, on values that can do nothing. Any other
opcode, any global that is not in the list below, and every size that does not add up
end in one error. What it is not: a reader of the tensors' data (sources.py).
"""

import math
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mm15_mlx.checkpoint import (
    MAX_AXES,
    MAX_DIMENSION,
    Stored,
    WeightsError,
    item_bytes,
)
from mm15_mlx.convert.pickles import Call, Global, PickleError, Storage, run

MAX_PICKLE_BYTES = 64 << 20  # names and shapes only; 100,000 tensors take 15 MB
MAX_MEMBERS = 200_000
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # its magic number, pickled
_STATE = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state).*")
# Where training scripts put the state dict, in the order of preference.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_DEEPEST_WRAPPER = 4
_STORAGES = {
    "torch FloatStorage": "F32",
    "torch HalfStorage": "F16",
    "torch BFloat16Storage": "BF16",
    "torch DoubleStorage": "F64",
    "torch LongStorage": "I64",
    "torch IntStorage": "I32",
    "torch ShortStorage": "I16",
    "torch CharStorage": "I8",
    "torch ByteStorage": "U8",
    "torch BoolStorage": "BOOL",
    "torch.storage UntypedStorage": None,  # the tensor itself says its type
}
_DTYPES = {
    "torch uint16": "U16",
    "torch uint32": "U32",
    "torch uint64": "U64",
    "torch float8_e4m3fn": "F8_E4M3",
    "torch float8_e5m2": "F8_E5M2",
}
_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_TYPED_TENSOR = "torch._utils _rebuild_tensor_v3"
_PARAMETERS = (
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_parameter_with_state",
)
# Beside the weights in training checkpoints; what they make is never looked at.
_IGNORED = (
    "torch Size",
    "torch device",
    "__builtin__ set",
    "builtins set",
    *(f"torch {t}" for t in "float32 float16 bfloat16 float64 int64 int32".split()),
    *(f"torch {t}" for t in "int16 int8 uint8 bool".split()),
)
_GLOBALS = frozenset(
    (_DICT, _TENSOR, _TYPED_TENSOR, *_PARAMETERS, *_IGNORED, *_STORAGES, *_DTYPES)
)


@dataclass(frozen=True)
class Placed:
    """A tensor in a file: `stored.start` is its first element's byte."""

    stored: Stored
    strides: tuple[int, ...]  # elements from one index of each axis to the next


def read_torch_file(path: Path) -> dict[str, Placed]:
    """The state dict of a file, by tensor name; no tensor's data is read.

    Wrappers (`state_dict`, `model`, `module`) are taken off, and so is the `module.`
    that data-parallel training puts before every name. What is no tensor is left out.
    Raises WeightsError where the file is not exactly what torch.save writes.
    """
    if _STATE.match(path.name):
        raise WeightsError(
            f"{path} holds a trainer's state, not weights; name the file of the weights"
        )
    try:
        with path.open("rb") as file:
            members = _members(path, file)
            pickle = members.pop("data.pkl")
            file.seek(pickle[0])
            data = file.read(pickle[1])
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    try:
        top = run(data, _GLOBALS, lambda call: _make(call, members))
        return _state_dict(top)
    except PickleError as error:
        raise _refused(
            path, f"its data.pkl is not a plain state dict: {error}"
        ) from None


def _refused(path: Path, why: str) -> WeightsError:
    return WeightsError(
        f"{path} is refused: {why}; look for a .safetensors file of the same model, or "
        "save its state dict again with a current PyTorch"
    )


# --- the zip file -------------------------------------------------------------------


def _members(path: Path, file: BinaryIO) -> dict[str, tuple[int, int]]:
    """First byte and size of each member, by its name below the one top folder."""
    head = file.read(len(_LEGACY))
    if head == _LEGACY:
        raise _refused(path, "it has the format that PyTorch had before version 1.6")
    if head[:2] != b"PK":
        raise _refused(path, "it is no file of torch.save, which begins with 'PK'")
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error):
        raise WeightsError(
            f"{path} is truncated or damaged: its table of contents cannot be read; "
            "fetch it again"
        ) from None
    if len(infos) > MAX_MEMBERS:
        raise _refused(path, f"it has {len(infos)} members, more than {MAX_MEMBERS}")
    if any(re.match(r"[^/]*/(code/|constants\.pkl)", i.filename) for i in infos):
        raise _refused(path, "it is a TorchScript program")
    size = file.seek(0, 2)
    if sum(info.file_size for info in infos) > size:
        raise _refused(path, f"its members claim more than its own {size} bytes")
    members: dict[str, tuple[int, int]] = {}
    tops = set()
    for info in infos:
        top, _, name = info.orig_filename.partition("/")
        tops.add(top)
        if not name or not _plain(info.orig_filename) or name in members:
            raise _refused(path, f"it has the odd member {info.orig_filename!r:.100}")
        if info.compress_type or info.flag_bits & 1:
            raise _refused(
                path, f"its member {info.filename!r:.100} is compressed or encrypted"
            )
        members[name] = (_start(path, file, info, size), info.file_size)
    pickles = [name for name in members if Path(name).name == "data.pkl"]
    if pickles != ["data.pkl"] or len(tops) > 1:
        raise _refused(path, f"it has {len(pickles)} data.pkl in {len(tops)} folders")
    if members["data.pkl"][1] > MAX_PICKLE_BYTES:
        raise _refused(
            path,
            f"its data.pkl takes {members['data.pkl'][1]} bytes, more than "
            f"{MAX_PICKLE_BYTES}",
        )
    if "byteorder" in members:
        file.seek(members["byteorder"][0])
        if (order := file.read(min(members["byteorder"][1], 100))) != b"little":
            raise _refused(path, f"its byte order is {order!r}, not 'little'")
    return members


def _plain(name: str) -> bool:
    parts = name.split("/")
    return not ({"", ".", ".."} & set(parts) or "\\" in name or "\0" in name)


def _start(path: Path, file: BinaryIO, info: zipfile.ZipInfo, size: int) -> int:
    """Where a member's data begin: its own header says how long that header is."""
    file.seek(min(max(info.header_offset, 0), size))
    header = file.read(30)
    if len(header) == 30 and header[:4] == b"PK\3\4":
        name_length, extra_length = struct.unpack("<26xHH", header)
        start = info.header_offset + 30 + name_length + extra_length
        if start + info.file_size <= size and info.file_size == info.compress_size:
            return start
    raise WeightsError(
        f"{path} is truncated or damaged: {info.filename!r:.100} is not where its "
        "table of contents says; fetch it again"
    )


# --- what the pickle calls ----------------------------------------------------------


def _make(call: Call, members: Mapping[str, tuple[int, int]]) -> Any:
    """The value of a call that a pickle asks for, of a global in the list."""
    name, args = call.function, call.arguments
    if name == _DICT:
        if args:
            raise PickleError("an OrderedDict is made from arguments")
        return {}
    if name in (_TENSOR, _TYPED_TENSOR):
        return _tensor(args, members, typed=name == _TYPED_TENSOR)
    if name in _PARAMETERS:
        if not args or not isinstance(args[0], Placed):
            raise PickleError("a parameter is made from something that is no tensor")
        return args[0]
    if name in _IGNORED:
        return None
    raise PickleError(f"{name.replace(' ', '.')} is called")


def _tensor(
    args: tuple[Any, ...], members: Mapping[str, tuple[int, int]], *, typed: bool
) -> Placed:
    """A tensor of _rebuild_tensor_v2 or _v3, once it is sure to lie in its storage."""
    if len(args) < (7 if typed else 6) or not isinstance(args[0], Storage):
        raise PickleError("a tensor is made from something else than a storage")
    storage, offset, shape, strides = args[:4]
    if not isinstance(storage.kind, Global) or storage.kind.name not in _STORAGES:
        raise PickleError("a storage has no type")
    dtype = _STORAGES[storage.kind.name]
    if typed:
        dtype = isinstance(args[6], Global) and _DTYPES.get(args[6].name)
    if not dtype:
        raise PickleError("a tensor has a type that is not known here")
    shape, strides = _naturals("shape", shape), _naturals("strides", strides)
    (offset,) = _naturals("offset", (offset,))
    if len(shape) != len(strides) or len(shape) > MAX_AXES:
        raise PickleError(f"a tensor has {len(shape)} axes and {len(strides)} strides")
    if max(shape, default=0) > MAX_DIMENSION:
        raise PickleError(f"a tensor has the shape {shape}, beyond {MAX_DIMENSION}")
    start, size = _extent(storage, members)
    item = item_bytes(dtype)
    room, count = size // item, math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    # More elements than the storage has would be copies of each other, without bound.
    if count and (last >= room or count > room):
        raise PickleError(
            f"a tensor of shape {shape}, strides {strides} and offset {offset} does "
            f"not fit in its storage of {room} elements"
        )
    return Placed(Stored(dtype, shape, start + offset * item), strides)


def _naturals(what: str, values: Any) -> tuple[int, ...]:
    if isinstance(values, tuple) and len(values) <= 2 * MAX_AXES:
        if all(type(n) is int and 0 <= n < 1 << 63 for n in values):
            return values
    raise PickleError(f"a tensor's {what} is not made of natural numbers")


def _extent(
    storage: Storage, members: Mapping[str, tuple[int, int]]
) -> tuple[int, int]:
    """First byte and size of a storage, which is the member `data/<key>`."""
    key = storage.key
    if not (isinstance(key, str) and re.fullmatch(r"[0-9]{1,18}", key)):
        raise PickleError("a storage's key is not made of digits")
    if f"data/{key}" not in members:
        raise PickleError(f"the storage {key} is missing")
    start, size = members[f"data/{key}"]
    dtype = _STORAGES[storage.kind.name]
    item = item_bytes(dtype) if dtype else 1
    if type(storage.count) is not int or storage.count * item != size:
        raise PickleError(f"the storage {key} has {size} bytes and claims another size")
    return start, size


# --- the state dict -----------------------------------------------------------------


def _state_dict(top: Any) -> dict[str, Placed]:
    for _ in range(_DEEPEST_WRAPPER):
        inner = [
            w for w in _WRAPPERS if isinstance(top, dict) and type(top.get(w)) is dict
        ]
        if not inner:
            break
        top = top[inner[0]]
    if not isinstance(top, dict):
        raise PickleError("it holds no dict")
    tensors = {n: t for n, t in top.items() if isinstance(t, Placed)}
    if not tensors:
        held = ", ".join(repr(key)[:40] for key in list(top)[:5])
        raise PickleError(f"it holds no tensors, but {held or 'nothing'}")
    if not all(isinstance(name, str) for name in tensors):
        raise PickleError("a tensor has a name that is no text")
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): t for name, t in tensors.items()}
    return tensors
