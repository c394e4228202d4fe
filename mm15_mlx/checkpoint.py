"""What a model folder holds, read and checked before any weight is used.

What this file is: `config.json`, the safetensors headers and the shard index, each
verified, so that a truncated download, a foreign checkpoint or a damaged file ends in
one error that names the thing and the remedy. What it is not: reading tensors
(weights.py). It needs no MLX, and `info` answers from it alone.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mm15_mlx.config import ConfigError, ModelConfig, UserError
from mm15_mlx.json_lines import fault

CONFIG = "config.json"
CARD = "README.md"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = {"F32", "F16", "BF16"}  # what MLX computes in
MAX_DIMENSION = 2**31 - 1  # MLX's own limit
MAX_AXES = 16
MAX_JSON_BYTES = 64 << 20  # an index of 100,000 tensors takes 10 MB
_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
}  # fmt: skip
_HEADER_LIMIT = 100_000_000  # the format's own
_LISTED = 10


class WeightsError(UserError):
    """A model folder that cannot be used; the message names the remedy."""


@dataclass(frozen=True)
class Stored:
    """One tensor as a file's header describes it, in the words of safetensors."""

    dtype: str
    shape: tuple[int, ...]
    start: int = field(default=0, compare=False)  # its first byte in the file

    @property
    def nbytes(self) -> int:
        return item_bytes(self.dtype) * math.prod(self.shape)


def item_bytes(dtype: str) -> int:
    """Bytes of one number of a safetensors type."""
    return _BYTES[dtype]


def listed(problems: list[str]) -> str:
    """One problem on the same line, several as indented lines, at most ten of them."""
    if len(problems) == 1:
        return f" {problems[0]}"
    lines = [f"\n  {p}" for p in problems[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f"\n  … and {len(problems) - _LISTED} more")
    return "".join(lines)


def at_home(name: str | Path) -> Path:
    """The path, with the home folder of `~` and of `~somebody`."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise WeightsError(
            f"{name}: there is no such user's folder; give the path itself"
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file."""
    why = fault(path)
    if why == "does not exist":
        raise WeightsError(
            f"{path.parent} has no {path.name}; "
            "give a model folder, or make one with mm15-mlx convert"
        )
    if why:  # a device may have no end, and a pipe nobody who writes
        raise WeightsError(f"{path} {why}; restore it from the source")
    try:
        size = path.stat().st_size
        text = path.read_bytes() if size <= MAX_JSON_BYTES else b""
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    if size > MAX_JSON_BYTES:
        raise WeightsError(
            f"{path} has {size} bytes, more than {MAX_JSON_BYTES}; "
            "restore it from the source"
        )
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path} is not valid JSON ({error}); restore it from the source"
        ) from None
    if not isinstance(data, dict):
        raise WeightsError(f"{path} must hold a JSON object, not a {_kind(data)}")
    return data


def _kind(value: object) -> str:
    return type(value).__name__


def read_config(folder: str | Path) -> ModelConfig:
    """A model folder's configuration, before any weight is touched."""
    folder = Path(folder)
    if not folder.is_dir():
        raise WeightsError(f"there is no model folder {folder}; check the path")
    data = read_json(folder / CONFIG)
    if data.get("model_type") != "mm15":
        raise WeightsError(
            f"{folder / CONFIG} has model_type {data.get('model_type')!r}, not 'mm15'; "
            "run mm15-mlx convert on this folder"
        )
    try:
        return ModelConfig.from_dict(data)
    except ConfigError as error:
        raise WeightsError(f"{folder}: {error}") from None


def read_header(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """Tensors and metadata of a safetensors file, every size checked, no data read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            data_bytes = size - 8 - length
            if size < 8 or data_bytes < 0 or length > _HEADER_LIMIT:
                raise _broken(path, f"{size} bytes cannot hold its header")
            header = json.loads(file.read(length))
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror}; fetch the model again"
        ) from None
    except WeightsError:
        raise
    except (ValueError, RecursionError):
        raise _broken(path, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _broken(path, "its header is not a JSON object")
    # MLX itself writes null where it has none.
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise _broken(path, "its metadata is not a JSON object")
    tensors: dict[str, Stored] = {}
    spans: list[tuple[int, int]] = []
    for name, entry in header.items():
        tensors[name], span = _entry(path, name, entry, 8 + length)
        spans.append(span)
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise _broken(path, f"its tensors leave or share the bytes {end}–{first}")
        end = last
    if end != data_bytes:
        raise _broken(path, f"its tensors take {end} bytes and it has {data_bytes}")
    return tensors, metadata


def _broken(path: Path, why: str) -> WeightsError:
    return WeightsError(
        f"{path} is truncated or not a safetensors file: {why}; fetch it again"
    )


def _entry(
    path: Path, name: str, entry: Any, data: int
) -> tuple[Stored, tuple[int, int]]:
    """One header entry, and the bytes that its tensor takes from byte `data` on."""
    if not isinstance(entry, dict):
        raise _broken(path, f"{name} has no description")
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if not _naturals(shape) or not _naturals(entry.get("data_offsets"), length=2):
        raise _broken(path, f"{name} has no valid shape and offsets")
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise WeightsError(
            f"{path}: {name} has the unknown type {dtype!r}; "
            "convert its source with a newer mm15-mlx"
        )
    if len(shape) > MAX_AXES:
        raise WeightsError(
            f"{path}: {name} has {len(shape)} axes; {MAX_AXES} are the most: look for "
            "another copy of the model"
        )
    if max(shape, default=0) > MAX_DIMENSION:
        raise WeightsError(
            f"{path}: {name} has the shape {tuple(shape)}; "
            f"a dimension may be {MAX_DIMENSION} at most"
        )
    first, last = entry["data_offsets"]
    stored = Stored(dtype, tuple(shape), data + first)
    if last - first != stored.nbytes:
        raise _broken(
            path, f"{name} needs {stored.nbytes} bytes and has {last - first}"
        )
    return stored, (first, last)


def _naturals(value: Any, length: int | None = None) -> bool:
    return (
        isinstance(value, list)
        and all(type(n) is int and n >= 0 for n in value)
        and length in (None, len(value))
    )


def weight_files(folder: Path) -> dict[Path, dict[str, Stored]]:
    """The folder's weight files, all present and ours, and the tensors of each."""
    claimed = None
    if (folder / INDEX).exists():
        claimed = _weight_map(folder / INDEX)
        paths = [folder / name for name in sorted(set(claimed.values()))]
    else:
        paths = [folder / WEIGHTS]
    files = {}
    for path in paths:
        if not path.is_file():
            raise WeightsError(
                f"{folder} lacks the weight file {path.name}; fetch the model again"
            )
        files[path], metadata = read_header(path)
        if "mm15_mlx" not in metadata:
            raise WeightsError(
                f"{path} was not written by mm15-mlx; "
                "run mm15-mlx convert on its source"
            )
    if claimed is not None:
        _check_index(folder / INDEX, claimed, files)
    return files


def stored_tensors(folder: Path) -> dict[str, Stored]:
    """What is stored in a folder, by name."""
    return {n: s for file in weight_files(folder).values() for n, s in file.items()}


def _weight_map(path: Path) -> dict[str, str]:
    claimed = read_json(path).get("weight_map")
    if not isinstance(claimed, dict) or not claimed:
        raise WeightsError(f"{path} has no weight_map; fetch the model again")
    for name, file in claimed.items():
        # A bare name: an index must not lead to files outside its folder.
        if (
            not isinstance(file, str)
            or not file.endswith(".safetensors")
            or any(c in file for c in "/\\\0")
        ):
            raise WeightsError(
                f"{path}: weight_map sends {name} to {file!r}; "
                "it must be the bare name of a .safetensors file"
            )
    return claimed


def _check_index(
    path: Path, claimed: dict[str, str], files: dict[Path, dict[str, Stored]]
) -> None:
    held = [(name, file.name) for file, tensors in files.items() for name in tensors]
    wrong = sorted(set(held) ^ set(claimed.items()))
    if wrong:
        problems = [f"{name} in {file}" for name, file in wrong]
        raise WeightsError(
            f"{path} and the weight files disagree; fetch the model again:"
            + listed(problems)
        )


def inside(folder: Path, name: str) -> Path:
    """A file of the folder; links may lead only to where a hub's cache keeps its own.

    There `repository/snapshots/<revision>/x` is a link to `repository/blobs/<hash>`.
    """
    path, home = folder / name, folder.resolve()
    caches = [p.parent for p in home.parents if p.name == "snapshots"]
    allowed = [home, *(cache / "blobs" for cache in caches)]
    target = path.resolve()
    if not any(target.is_relative_to(place) for place in allowed):
        raise WeightsError(
            f"{path} is a link out of its folder, to {target}; name that file itself"
        )
    if not target.is_file():
        raise WeightsError(f"{path} is not a file; fetch the model again")
    return path


def other_files(folder: Path) -> dict[str, bytes]:
    """What lies beside the weights: tokenizer, licence. Cards are written anew.

    Raises WeightsError for links out of the folder: what they lead to is not the
    model's, and would be published with it.
    """
    if (folder / CARD).is_file():
        inside(folder, CARD)  # the new card begins with it
    return {
        path.name: inside(folder, path.name).read_bytes()
        for path in sorted(folder.iterdir())
        if path.is_file()
        and path.name not in (CONFIG, INDEX, CARD)
        and path.suffix != ".safetensors"
        and not path.name.startswith(".")
    }
