"""Loading and saving model folders.

What this file is: `load_model` and `save_model` for folders in this project's own
layout: `config.json`, `model.safetensors` or shards with an index. What it is not:
renaming or reshaping, which convert/ does once, nor fetching: nothing here uses the
network. Which layers are quantised, and how, is read from the file's own shapes.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mm15_mlx import fast_cpu, heap
from mm15_mlx.checkpoint import (
    CONFIG,
    FLOATS,
    INDEX,
    WEIGHTS,
    Stored,
    WeightsError,
    listed,
    read_config,
    read_json,
    weight_files,
)
from mm15_mlx.config import ModelConfig
from mm15_mlx.mm15 import MM15

SHARD_BYTES = 5 << 30
_NAMES = {
    mx.float32: "F32", mx.float16: "F16", mx.bfloat16: "BF16", mx.uint32: "U32",
    mx.uint8: "U8",
}  # fmt: skip
# (group size, bits) of the modes whose scales are bytes.
_MODES = {(32, 4): "mxfp4", (32, 8): "mxfp8", (16, 4): "nvfp4"}


def load_model(
    folder: str | Path, *, keep_dtype: bool = False
) -> tuple[MM15, ModelConfig]:
    """The model of a folder, evaluated, with its configuration.

    On a CPU floats become float32: MLX has no fast half precision there, and quantised
    layers would be inaccurate. `keep_dtype` is for tools that write the weights again.
    """
    heap.keep()
    folder = Path(folder)
    config = read_config(folder)
    files = weight_files(folder)
    stored = {name: s for tensors in files.values() for name, s in tensors.items()}
    model = MM15(config)
    problems = quantize_like(model, stored)
    problems += mismatches(dict(tree_flatten(model.parameters())), stored)
    if problems:
        raise WeightsError(
            f"the weights in {folder} do not fit its {CONFIG}; "
            f"fetch or convert the model again:{listed(problems)}"
        )
    cast = mx.default_device() == mx.Device(mx.cpu) and not keep_dtype
    for path in files:
        _fill(model, path, cast)
    # Arrays that are not parameters too: a lazy one cannot be used by another thread.
    mx.eval(_arrays(model))
    model.eval()
    return model, config


def quantize_like(model: nn.Module, stored: Mapping[str, Stored]) -> list[str]:
    """Quantise the layers of `model` that are quantised in `stored`, in the same way.

    Returns what does not fit. The random weights quantised here are never computed.
    """
    modules = dict(model.named_modules())
    problems = []
    ways: dict[str, dict[str, Any]] = {}
    for name in stored:
        path, _, last = name.rpartition(".")
        if last != "scales":
            continue
        layer = modules.get(path)
        if layer is None or not hasattr(layer, "to_quantized"):
            problems.append(f"{path}: quantised in the file, but no such layer")
            continue
        way = _way(layer.weight.shape[-1], stored, path)
        if way is None:
            problems.append(f"{path}: its scales fit no way of quantising its weight")
        else:
            ways[path] = way
    nn.quantize(model, class_predicate=lambda path, _: ways.get(path, False))
    for module in model.modules():
        if type(module) is nn.QuantizedLinear:  # nn.quantize makes no class of ours
            module.__class__ = fast_cpu.QuantizedLinear
    return problems


def _way(width: int, stored: Mapping[str, Stored], path: str) -> dict[str, Any] | None:
    """Bits, group size and mode of a layer whose rows have `width` numbers."""
    packed, scales = stored.get(f"{path}.weight"), stored[f"{path}.scales"]
    if packed is None or not packed.shape or not scales.shape or 0 in scales.shape:
        return None
    bits, rest = divmod(packed.shape[-1] * 32, width)
    group_size, odd = divmod(width, scales.shape[-1])
    if rest or odd:
        return None
    if scales.dtype in FLOATS:
        if group_size not in (32, 64, 128) or bits not in (2, 3, 4, 5, 6, 8):
            return None
        return {"group_size": group_size, "bits": bits, "mode": "affine"}
    if scales.dtype != "U8" or (group_size, bits) not in _MODES:
        return None
    return {"group_size": group_size, "bits": bits, "mode": _MODES[group_size, bits]}


def mismatches(
    expected: Mapping[str, mx.array], stored: Mapping[str, Stored]
) -> list[str]:
    """Every tensor that is missing, unknown, mis-shaped or of a wrong type."""
    problems = []
    for name, array in expected.items():
        if name not in stored:
            problems.append(f"{name}: missing")
        elif stored[name].shape != array.shape:
            problems.append(
                f"{name}: shape {stored[name].shape}, expected {array.shape}"
            )
        elif stored[name].dtype not in _types(array.dtype):
            problems.append(
                f"{name}: type {stored[name].dtype}, expected {array.dtype}"
            )
    problems += [f"{name}: unknown" for name in stored if name not in expected]
    return problems


def _types(dtype: mx.Dtype) -> set[str]:
    """What may stand in a file for a parameter of this type."""
    if mx.issubdtype(dtype, mx.floating):
        return FLOATS
    return {"U8"} if dtype == mx.uint8 else {"U32"}


def _fill(model: nn.Module, path: Path, cast: bool) -> None:
    tensors = mx.load(str(path))
    for name in list(tensors):
        array = tensors.pop(name)
        if cast and mx.issubdtype(array.dtype, mx.floating):
            array = array.astype(mx.float32)
        # One at a time, so that a cast never holds two copies of the whole model.
        mx.eval(array)
        model.load_weights([(name, array)], strict=False)


def _arrays(model: nn.Module) -> Iterable[mx.array]:
    for module in model.modules():
        for value in (*module.values(), *vars(module).values()):
            if isinstance(value, mx.array):
                yield value


def save_model(
    folder: str | Path,
    model: nn.Module,
    config: ModelConfig,
    *,
    files: Mapping[str, bytes] | None = None,
    force: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a model folder: configuration, weights and further `files` by name.

    It appears whole or not at all: it is written beside the target and then renamed.
    """
    weights = dict(tree_flatten(model.parameters()))
    with new_folder(folder, config, files=files, force=force) as partial:
        write_weights(partial, weights, weights.items(), shard_bytes)


@contextmanager
def new_folder(
    folder: str | Path,
    config: ModelConfig,
    *,
    files: Mapping[str, bytes] | None = None,
    force: bool = False,
) -> Iterator[Path]:
    """A model folder with all but its weights, which the block writes into it.

    It lies beside `folder` and takes its name when the block ends well; all of it is
    on the disk by then. Raises WeightsError where `folder` exists, unless `force` and
    it is a model folder: nothing else is ever replaced.
    """
    folder = Path(folder)
    if folder.exists() and not force:
        raise WeightsError(f"{folder} exists; choose another name or give --force")
    if folder.exists() and (why := _irreplaceable(folder)):
        raise WeightsError(
            f"{folder} {why}, so it is not replaced; choose another name"
        )
    for name in files or {}:
        if Path(name).name != name:
            raise WeightsError(f"{name!r} must be a bare file name")
    folder = folder.resolve()  # a link stays one
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its folders are private, and a rename would keep them so.
        partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
        partial.mkdir()
    except OSError as error:
        raise _unwritable(folder, error) from None
    try:
        text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False)
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
        for name, content in (files or {}).items():
            (partial / name).write_bytes(content)
        yield partial
        for path in (*partial.iterdir(), partial):
            to_disk(path)
        _replace(partial, folder)
        to_disk(folder.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise _unwritable(folder, error) from None
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _unwritable(folder: Path, error: OSError) -> WeightsError:
    return WeightsError(
        f"{folder} cannot be written: {error.strerror}; choose another place"
    )


def _irreplaceable(folder: Path) -> str | None:
    """Why what is there may be somebody's work; None for an empty folder, and for a
    model folder with nothing that this project never writes into one."""
    if not folder.is_dir():
        return "is no model folder"
    held = sorted(p for p in folder.iterdir() if p.name != ".DS_Store")
    if not held:
        return None
    try:
        kind = read_json(folder / CONFIG).get("model_type")
    except WeightsError:
        return "is no model folder"
    if kind != "mm15":
        return f"is no model folder of mm15-mlx (its model_type is {kind!r:.100})"
    for path in held:
        if path.is_symlink() or not path.is_file() or path.name.startswith("."):
            return f"holds {path.name!r:.100}, which mm15-mlx did not write"
    return None


def apart(folder: Path, *sources: Path) -> None:
    """Raises WeightsError where replacing `folder` would take a source with it."""
    place = folder.resolve()
    for source in sources if folder.exists() else ():
        held = source.resolve()
        if place.is_relative_to(held) or held.is_relative_to(place):
            raise WeightsError(
                f"{folder} is, holds or lies in the source {source}; choose a place "
                "apart from it"
            )


def to_disk(path: Path) -> None:
    """Until what was written to a file or a folder outlives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    old = partial.with_suffix(".old")
    folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old)


def write_weights(
    folder: Path,
    like: Mapping[str, mx.array],
    arrays: Iterable[tuple[str, mx.array]],
    limit: int = SHARD_BYTES,
) -> None:
    """Write weights in shards of at most `limit` bytes, one array after the other.

    `like` has the name, shape and type of every array, in their order, and is never
    evaluated: headers are written from it. `arrays` are evaluated, written and dropped
    one at a time, so they may be more than memory holds.
    """
    shards: list[dict[str, mx.array]] = [{}]
    room = limit
    for name, array in like.items():
        if shards[-1] and array.nbytes > room:
            shards.append({})
            room = limit
        shards[-1][name] = array
        room -= array.nbytes
    coming = iter(arrays)
    files = [WEIGHTS]
    if len(shards) > 1:
        last = len(shards)
        files = [f"model-{i:05}-of-{last:05}.safetensors" for i in range(1, last + 1)]
    for file, shard in zip(files, shards, strict=True):
        with (folder / file).open("wb") as out:
            out.write(_header(shard))
            for name, expected in shard.items():
                given, array = next(coming)
                _same(name, expected, given, array)
                _finite(name, array)
                _write(out, array)
                # The next one must not find this one in memory, nor its buffers.
                del array
                mx.clear_cache()
    if len(shards) > 1:
        weight_map = {n: f for f, s in zip(files, shards, strict=True) for n in s}
        total = sum(array.nbytes for array in like.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        text = json.dumps(index, indent=2) + "\n"
        (folder / INDEX).write_text(text, encoding="utf-8")


def _header(shard: Mapping[str, mx.array]) -> bytes:
    """What a safetensors file begins with (its format's README)."""
    from mm15_mlx import __version__

    header: dict[str, Any] = {
        "__metadata__": {"format": "mlx", "mm15_mlx": __version__}
    }
    end = 0
    for name, array in shard.items():
        first, end = end, end + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": array.shape,
            "data_offsets": [first, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data are aligned
    return len(text).to_bytes(8, "little") + text


def _same(name: str, expected: mx.array, given: str, array: mx.array) -> None:
    was = (given, array.shape, array.dtype)
    if was != (name, expected.shape, expected.dtype):
        raise RuntimeError(f"{name}: {was} came instead of the planned array")


def _finite(name: str, array: mx.array) -> None:
    if not mx.issubdtype(array.dtype, mx.floating):
        return
    if not mx.isfinite(array).all().item():
        raise WeightsError(
            f"{name} has numbers that are not finite; its source is damaged, or float16"
            " is too narrow for it: use bfloat16. Nothing is left of it"
        )


def _write(out: BinaryIO, array: mx.array) -> None:
    array = mx.contiguous(array)
    mx.eval(array)
    # bfloat16 is not a type of Python's buffers.
    out.write(memoryview(array.view(mx.uint16) if array.itemsize == 2 else array))
