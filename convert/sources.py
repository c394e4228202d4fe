"""A foreign checkpoint: which tensors it holds, and each of them when it is asked for.

What this file is: finding the weight files of what the user named, checking that they
are whole, agree with their index and hold types that MLX has; then one tensor at a
time, mapped into memory. What it is not: renaming (rules.py), nor fetching. GGUF has
its own reader. Names, types and shapes come from headers alone.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mm15_mlx.checkpoint import (
    FLOATS,
    Stored,
    WeightsError,
    inside,
    item_bytes,
    listed,
    read_header,
    read_json,
)
from mm15_mlx.convert.torch_files import Placed, read_torch_file
from mm15_mlx.hub import SAFETENSORS, TORCH, weights_among

_NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "<u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1",
}  # fmt: skip
_MLX = {
    "F64": mx.float32, "F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16,
    "BOOL": mx.bool_, "I64": mx.int64, "I32": mx.int32, "I16": mx.int16, "I8": mx.int8,
    "U64": mx.uint64, "U32": mx.uint32, "U16": mx.uint16, "U8": mx.uint8,
}  # fmt: skip
_LONGEST_NAME = 500
_BLOCK = 1 << 20


def placeholder(stored: Stored) -> mx.array:
    """An array of the shape and type that a tensor will have, without memory."""
    return mx.zeros(stored.shape, _MLX[stored.dtype])


@dataclass(frozen=True)
class Source:
    """A checkpoint whose files have been checked; tensors in the files' order."""

    files: tuple[Path, ...]
    tensors: dict[str, Placed]
    homes: dict[str, Path]  # the file of each tensor

    @property
    def nbytes(self) -> int:
        return sum(t.stored.nbytes for t in self.tensors.values())

    @property
    def parameters(self) -> int:
        """Numbers in floating-point tensors."""
        kinds = FLOATS | {"F64"}
        held = (t.stored for t in self.tensors.values())
        return sum(math.prod(s.shape) for s in held if s.dtype in kinds)

    def placeholders(self) -> dict[str, mx.array]:
        """Every tensor's name, with an array that stands for it; see `placeholder`."""
        return {name: placeholder(t.stored) for name, t in self.tensors.items()}

    def read(self, name: str) -> mx.array:
        """One tensor, exactly as it is stored; F64 becomes float32."""
        return _read(self.homes[name], self.tensors[name])

    def sha256(self) -> dict[str, str]:
        """The digest of each file by its name, as sha256sum prints it."""
        digests = {}
        for path in self.files:
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
            digests[path.name] = digest.hexdigest()
        return digests


def open_source(path: str | Path) -> Source:
    """The checkpoint in a folder, or the one file or index that is named.

    A folder's safetensors come before its PyTorch files. Raises WeightsError with all
    that is wrong: files that are missing or lead elsewhere, tensors that are missing,
    in no index or in two files, and types that MLX does not have.
    """
    path = Path(path)
    if path.is_dir():
        files, claimed = _in_folder(path)
    elif not path.exists():
        raise WeightsError(f"there is no checkpoint {path}; check the path")
    elif path.name.endswith(".index.json"):
        files, claimed = _indexed(path)
    elif path.suffix in SAFETENSORS + TORCH and path.is_file():
        files, claimed = [path], None
    else:
        raise WeightsError(
            f"{path} is no checkpoint that can be read; give a folder, a .safetensors "
            "file or a .bin, .pt or .pth file (unpack an archive first)"
        )
    tensors: dict[str, Placed] = {}
    homes: dict[str, Path] = {}
    problems = []
    for file in files:
        for name, tensor in _tensors(file).items():
            if name in homes:
                both = f"{homes[name].name} and in {file.name}"
                problems.append(f"{_shown(name)}: in {both}")
            elif claimed is not None and claimed.get(name) != file.name:
                says = claimed.get(name, "nothing of it")
                problems.append(
                    f"{_shown(name)}: in {file.name}, but the index says {says}"
                )
            if why := _unusable(name, tensor.stored):
                problems.append(f"{_shown(name)}: {why}")
            tensors[name], homes[name] = tensor, file
    lost = [name for name in claimed or () if name not in tensors]
    problems += [f"{_shown(name)}: in the index, but in no file" for name in lost]
    if problems:
        raise WeightsError(
            f"the checkpoint {path} cannot be used; fetch it again, or another copy of "
            f"the same model:{listed(problems)}"
        )
    return Source(tuple(files), tensors, homes)


def _tensors(file: Path) -> dict[str, Placed]:
    if file.suffix not in SAFETENSORS:
        return read_torch_file(file)
    header, _ = read_header(file)
    return {name: Placed(s, _row_major(s.shape)) for name, s in header.items()}


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _unusable(name: str, stored: Stored) -> str | None:
    # Names are shown to the user: one with a line break could pretend to be a message.
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        return "not a name of one printable line"
    if stored.dtype not in _NUMPY:
        return f"type {stored.dtype}, which MLX cannot compute in"
    return None


# --- which files --------------------------------------------------------------------

_Files = tuple[list[Path], dict[str, str] | None]


def _in_folder(folder: Path) -> _Files:
    """The weight files of a folder, and what its index says about them."""
    try:
        held = sorted(p.name for p in folder.iterdir())
    except OSError as error:
        raise WeightsError(f"{folder} cannot be read: {error.strerror}") from None
    names = weights_among(
        folder, held, "name the one that is meant", "give the folder of the checkpoint"
    )
    if names[0].endswith(".index.json"):
        return _indexed(folder / names[0])
    return [inside(folder, name) for name in names], None


def _indexed(index: Path) -> _Files:
    """The files of an index, which is a checklist: it leads nowhere else."""
    folder = index.parent
    claimed = read_json(inside(folder, index.name)).get("weight_map")
    if not isinstance(claimed, dict) or not claimed:
        raise WeightsError(f"{index} has no weight_map; fetch the model again")
    problems = []
    files: list[Path] = []
    for name in sorted({str(value) for value in claimed.values()}):
        if not _bare(name) or not name.endswith(SAFETENSORS + (".bin",)):
            problems.append(f"{name[:100]!r}: not the bare name of a weight file")
        elif not (folder / name).is_file():
            problems.append(f"{name}: missing")
        else:
            files.append(inside(folder, name))
    if problems:
        raise WeightsError(
            f"{index} names files that cannot be used; fetch the model again:"
            + listed(problems)
        )
    return files, claimed


def _bare(name: str) -> bool:
    return name.isprintable() and not (set("/\\") & set(name) or name[:1] in ("", "."))


def _shown(name: str) -> str:
    """A name as it may stand in a message: on one line, and not too long."""
    return (name if name.isprintable() else repr(name))[:_LONGEST_NAME]


# --- the data -----------------------------------------------------------------------


def _read(path: Path, tensor: Placed) -> mx.array:
    stored, strides = tensor.stored, tensor.strides
    if 0 in stored.shape:
        return placeholder(stored)
    item = item_bytes(stored.dtype)
    count = 1 + sum((n - 1) * s for n, s in zip(stored.shape, strides, strict=True))
    try:
        raw: np.ndarray[Any, Any] = np.memmap(
            path, mode="r", offset=stored.start, shape=(count * item,)
        )
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read any more ({error}); has it been changed?"
        ) from None
    flat = raw.view(_NUMPY[stored.dtype])
    view = np.lib.stride_tricks.as_strided(
        flat, stored.shape, tuple(s * item for s in strides), writeable=False
    )
    if stored.dtype == "F64":
        return mx.array(view.astype(np.float32))
    if stored.dtype == "BOOL":
        return mx.array(view != 0)
    array = mx.array(view)
    return array.view(mx.bfloat16) if stored.dtype == "BF16" else array
