"""Loading and saving model folders.

What this file is: `load_model` and `save_model` for folders in this project's own
layout: `config.json`, `model.safetensors` or shards with an index. What it is not:
renaming or reshaping, which convert/ does once, nor fetching: nothing here uses the
network. Which layers are quantised, and how, is read from the file's own shapes.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mm15_mlx.checkpoint import (
    CONFIG,
    FLOATS,
    INDEX,
    WEIGHTS,
    Stored,
    WeightsError,
    listed,
    read_config,
    weight_files,
)
from mm15_mlx.config import ModelConfig
from mm15_mlx.mm15 import MM15

SHARD_BYTES = 5 << 30
# (group size, bits) of the modes whose scales are bytes.
_MODES = {(32, 4): "mxfp4", (32, 8): "mxfp8", (16, 4): "nvfp4"}


def load_model(
    folder: str | Path, *, keep_dtype: bool = False
) -> tuple[MM15, ModelConfig]:
    """The model of a folder, evaluated, with its configuration.

    On a CPU floats become float32: MLX has no fast half precision there, and quantised
    layers would be inaccurate. `keep_dtype` is for tools that write the weights again.
    """
    folder = Path(folder)
    config = read_config(folder)
    files = weight_files(folder)
    stored = {name: s for tensors in files.values() for name, s in tensors.items()}
    model = MM15(config)
    problems = quantize_like(model, stored)
    problems += _mismatches(model, stored)
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


def _mismatches(model: nn.Module, stored: Mapping[str, Stored]) -> list[str]:
    """Every parameter that is missing, unknown, mis-shaped or of a wrong type."""
    problems = []
    expected = dict(tree_flatten(model.parameters()))
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
    folder = Path(folder)
    if folder.exists() and not force:
        raise WeightsError(f"{folder} exists; choose another name or give --force")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its folders are private, and a rename would keep them so.
    partial = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False)
        (partial / CONFIG).write_text(text + "\n", encoding="utf-8")
        for name, content in (files or {}).items():
            if Path(name).name != name:
                raise WeightsError(f"{name!r} must be a bare file name")
            (partial / name).write_bytes(content)
        _save_weights(partial, dict(tree_flatten(model.parameters())), shard_bytes)
        _replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _save_weights(folder: Path, weights: dict[str, mx.array], limit: int) -> None:
    from mm15_mlx import __version__

    metadata = {"format": "mlx", "mm15_mlx": __version__}
    shards: list[dict[str, mx.array]] = [{}]
    room = limit
    for name, array in weights.items():
        if shards[-1] and array.nbytes > room:
            shards.append({})
            room = limit
        shards[-1][name] = array
        room -= array.nbytes
    if len(shards) == 1:
        mx.save_safetensors(str(folder / WEIGHTS), weights, metadata)
        return
    weight_map = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        mx.save_safetensors(str(folder / file), shard, metadata)
        weight_map.update(dict.fromkeys(shard, file))
    total = sum(array.nbytes for array in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _replace(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    old = partial.with_suffix(".old")
    folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old)
