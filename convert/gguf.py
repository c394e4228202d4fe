"""A GGUF file: llama.cpp's form of a decoder, read without dequantising.

What this file is: the header, with every count and offset checked before it is used;
the tensors, whose Q4_0, Q4_1 and Q8_0 blocks become MLX's affine groups of 32 with the
same values. What it is not: the decoder in it (gguf_decoders.py), or a tokenizer. The
file's own is not built; the model's tokenizer.json or tokenizer.model is asked for.

Source: the format's description in ggml's repository, docs/gguf.md. `mx.load` reads
such files too, but all at once and with little checking of what it is given.
"""

import hashlib
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mm15_mlx.checkpoint import MAX_DIMENSION, WeightsError

GROUP = 32  # numbers in a block, and in a group here
_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_HEADER_LIMIT = 100_000_000  # bytes; that of safetensors. Gemma's tokens take 10 MB
_MOST = {"values": 10_000, "tensors": 100_000}
_LONGEST_NAME = 200
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
    10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
# Name, bytes of a block, numbers in it.
_TYPES = {
    0: ("F32", 4, 1), 1: ("F16", 2, 1), 30: ("BF16", 2, 1),
    2: ("Q4_0", 18, 32), 3: ("Q4_1", 20, 32), 8: ("Q8_0", 34, 32),
}  # fmt: skip
_OTHERS = {
    6: "Q5_0", 7: "Q5_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K",
    15: "Q8_K", 20: "IQ4_NL", 23: "IQ4_XS", 39: "MXFP4",
}  # fmt: skip
_FLOATS = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
_BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Tensor:
    """One tensor as the header has it: its type's name, shape (…, I), first byte."""

    type: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


class _Cursor:
    """Reads forward in the header; raises WeightsError rather than leave it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.data = file.read(_HEADER_LIMIT)
        self.at = 0

    def take(self, size: int) -> bytes:
        if size > len(self.data) - self.at:
            raise damaged(
                self.path, "its header is longer than the file, or than 100 MB"
            )
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self, what: str) -> int:
        number: int = self.number("<Q")
        if number > _MOST[what]:
            raise damaged(
                self.path, f"it claims {number} {what}; at most {_MOST[what]}"
            )
        return number

    def string(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8", errors="replace")

    def value(self) -> Any:
        """A number, a truth value or a text; None for a list, which is only passed."""
        kind = self.number("<I")
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        inner = self.number("<I") if kind == _ARRAY else -1
        if inner != _STRING and inner not in _SCALARS:
            raise damaged(self.path, f"a value of its header has type {kind}, {inner}")
        length = self.number("<Q")
        if inner in _SCALARS:
            self.take(length * struct.calcsize(_SCALARS[inner]))
            return None
        for _ in range(length):  # ends at the header's end at the latest
            self.take(self.number("<Q"))
        return None


def damaged(path: Path, why: str) -> WeightsError:
    return WeightsError(f"{path} is no usable GGUF file: {why}; fetch it again")


@dataclass(frozen=True)
class Gguf:
    """A GGUF file whose header has been checked.

    A packed tensor `x.weight` is given as three, `x.weight` (…, I · bits / 32) of
    32-bit words and `x.scales` and `x.biases` (…, I / 32), as MLX's layers hold them.
    """

    path: Path
    metadata: dict[str, Any]  # lists are None
    tensors: dict[str, Tensor]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in self.tensors.values())

    @property
    def parameters(self) -> int:
        return sum(math.prod(t.shape) for t in self.tensors.values())

    def placeholders(self) -> dict[str, mx.array]:
        """Arrays of the shape and type that every tensor will have, without memory."""
        made = {}
        for name, t in self.tensors.items():
            if t.type in _FLOATS:
                made[name] = mx.zeros(t.shape, _FLOATS[t.type])
                continue
            *rows, width = t.shape
            base, groups = name.removesuffix("weight"), (*rows, width // GROUP)
            made[name] = mx.zeros((*rows, width * _BITS[t.type] // 32), mx.uint32)
            made[f"{base}scales"] = mx.zeros(groups, mx.float16)
            made[f"{base}biases"] = mx.zeros(groups, mx.float16)
        return made

    def read(self, name: str) -> mx.array:
        """One of `placeholders`, with its data."""
        base, _, last = name.rpartition(".")
        stored = name if name in self.tensors else f"{base}.weight"
        tensor = self.tensors[stored]
        raw = np.memmap(
            self.path, mode="r", offset=tensor.start, shape=(tensor.nbytes,)
        )
        if tensor.type == "BF16":
            return mx.array(raw.view("<u2").reshape(tensor.shape)).view(mx.bfloat16)
        if tensor.type in _FLOATS:
            form = "<f4" if tensor.type == "F32" else "<f2"
            return mx.array(raw.view(form).reshape(tensor.shape))
        return mx.array(_packed(raw, tensor, last))

    def sha256(self) -> dict[str, str]:
        """The file's digest by its name, as sha256sum prints it."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return {self.path.name: digest.hexdigest()}


def _packed(raw: np.ndarray, tensor: Tensor, part: str) -> np.ndarray:
    """Words, scales or biases of a tensor in blocks: scale · q + bias is the value."""
    *rows, width = tensor.shape
    groups = (*rows, width // GROUP)
    blocks = raw.reshape(math.prod(groups), -1)
    head = blocks[:, : 4 if tensor.type == "Q4_1" else 2]
    scale = np.ascontiguousarray(head).view("<f2")
    if part == "scales":
        return scale[:, 0].reshape(groups)
    if part == "biases":
        if tensor.type == "Q4_1":
            return scale[:, 1].reshape(groups)
        # q is stored as 0…15 or −128…127. A power of two: exact.
        return (
            scale[:, 0] * np.float16(-8 if tensor.type == "Q4_0" else -128)
        ).reshape(groups)
    quants = blocks[:, head.shape[1] :]
    if tensor.type == "Q8_0":
        packed = quants ^ np.uint8(0x80)  # −128…127 → 0…255
    else:  # a byte's halves are numbers i and i + 16; here they are neighbours
        halves = np.concatenate([quants & 15, quants >> 4], axis=1)
        packed = halves[:, ::2] | halves[:, 1::2] << 4
    words = np.ascontiguousarray(packed).view("<u4")
    return words.reshape(*rows, -1)


def open_gguf(path: str | Path) -> Gguf:
    """The header of a GGUF file; raises WeightsError with what is wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"there is no GGUF file {path}; check the path")
    cursor = _Cursor(path)
    if cursor.data[:4] != _MAGIC:
        raise damaged(path, "it does not begin with GGUF")
    cursor.take(4)
    if (version := cursor.number("<I")) not in _VERSIONS:
        raise damaged(
            path, f"its version is {version}, and little-endian 2 and 3 are read"
        )
    count, values = cursor.count("tensors"), cursor.count("values")
    metadata = {}
    for _ in range(values):
        key = cursor.string()
        metadata[key] = cursor.value()
    infos = [_info(cursor) for _ in range(count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment not in [
        1 << i for i in range(3, 17)
    ]:
        raise damaged(path, f"general.alignment is {alignment!r}")
    first = -(-cursor.at // alignment) * alignment
    size, end = path.stat().st_size, first
    tensors: dict[str, Tensor] = {}
    for name, kind, shape, offset in sorted(infos, key=lambda info: info[3]):
        tensor = _tensor(path, name, kind, shape, first + offset)
        if tensor.start < end or tensor.start + tensor.nbytes > size:
            raise damaged(path, f"{name} overlaps another tensor or leaves the file")
        if name in tensors:
            raise damaged(path, f"{name} is there twice")
        end = tensor.start + tensor.nbytes
        tensors[name] = tensor
    return Gguf(path, metadata, tensors)


def _info(cursor: _Cursor) -> tuple[str, int, tuple[int, ...], int]:
    name = cursor.string()
    if not name.isprintable() or not 0 < len(name) <= _LONGEST_NAME:
        raise damaged(cursor.path, f"it has a tensor named {name[:50]!r}")
    axes = cursor.number("<I")
    shape = tuple(cursor.number("<Q") for _ in range(min(axes, 5)))
    if not 1 <= axes <= 4 or not all(1 <= n <= MAX_DIMENSION for n in shape):
        raise damaged(cursor.path, f"{name} has the {axes} sizes {shape}")
    kind: int = cursor.number("<I")
    return name, kind, shape[::-1], cursor.number("<Q")  # the fastest axis is first


def _tensor(
    path: Path, name: str, kind: int, shape: tuple[int, ...], start: int
) -> Tensor:
    if kind not in _TYPES:
        known = ", ".join(t[0] for t in _TYPES.values())
        raise WeightsError(
            f"{path}: {name} has the type {_OTHERS.get(kind, kind)}; types that are "
            f"taken over exactly are {known}: fetch a file of one of them, such as Q8_0"
        )
    label, size, numbers = _TYPES[kind]
    if label in _BITS and not (name.endswith(".weight") and len(shape) > 1):
        raise damaged(path, f"{name} of the type {label} is no matrix of weights")
    if shape[-1] % numbers:
        raise damaged(
            path, f"{name} has rows of {shape[-1]}, no whole blocks of {label}"
        )
    return Tensor(label, shape, start, math.prod(shape) // numbers * size)
