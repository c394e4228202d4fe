"""What is said of a folder before it gets its name: its bits, and that it runs.

What this file is: the measuring of a model folder that is whole but not yet where the
user wants it. It may be larger than memory, so that it runs a layer at a time. What it
is not: the comparison with another library (verify.py).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mm15_mlx.checkpoint import (
    Stored,
    WeightsError,
    read_config,
    stored_tensors,
    weight_files,
)
from mm15_mlx.load import load_processor
from mm15_mlx.mm15 import MM15
from mm15_mlx.weights import quantize_like

PARTS = ("encoder", "connector", "decoder")
QUESTION = "What is this?"


def bits_per_weight(folder: Path, like: Mapping[str, mx.array]) -> Iterator[str]:
    """Of every part: its parameters, and how many bits each takes on the disk."""
    stored = stored_tensors(folder)
    for part in PARTS:
        count = sum(a.size for n, a in like.items() if n.startswith(f"{part}."))
        nbytes = sum(s.nbytes for n, s in stored.items() if n.startswith(f"{part}."))
        bits = 8 * nbytes / max(count, 1)
        yield f"{part:<11} {count:,} parameters, {bits:.2f} bits each"


def ramps(width: int, height: int) -> np.ndarray:
    """A picture (H, W, 3) that is the same everywhere: red grows to the right, green
    downwards, blue upwards."""
    across = np.linspace(0, 255, width, dtype=np.uint8)
    down = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    return np.stack(np.broadcast_arrays(across, down, down[::-1]), axis=-1)


def prove(folder: Path, shown: Path) -> str:
    """Loads `folder`, called `shown`, and runs one view and a few words; raises
    WeightsError where anything that comes out is not finite.

    Memory holds the weights of one layer; what comes out is what `load` gives.
    """
    processor = load_processor(folder)
    files = weight_files(folder)
    model = in_passing(folder, files)
    size = model.config.tiling.tile_size
    inputs = processor(QUESTION, images=[ramps(size, size)])
    last = model(**inputs)[0, -1]
    if not bool(mx.isfinite(last).all().item()):
        raise WeightsError(
            f"{shown} gives numbers that are not finite; its source is damaged, or "
            "--dtype float16 is too narrow for it: use bfloat16. Nothing is left of it"
        )
    count = sum(
        math.prod(s.shape) for tensors in files.values() for s in tensors.values()
    )
    token = int(last.argmax().item())
    ids = inputs["input_ids"].shape[1]
    return f"loaded {count:,} numbers, ran {ids} tokens, next would be token {token}"


# --- a layer at a time ---------------------------------------------------------------

Files = Mapping[Path, Mapping[str, Stored]]
Weights = list[tuple[str, mx.array]]
_IN_PASSING = (
    "encoder.layers.", "decoder.layers.", "decoder.embed_tokens.", "decoder.lm_head."
)  # fmt: skip


class Passing:
    """A layer whose weights are read when it runs, and dropped when it has run.

    It stands where the layer stood: in MM15's lists of layers and for its tables.
    """

    def __init__(self, layer: nn.Module, read: Callable[[], Weights]) -> None:
        self._layer = layer
        self._read = read

    def __call__(self, *inputs: Any) -> Any:
        return self._with_weights(self._layer, inputs)

    def as_linear(self, x: mx.array) -> mx.array:
        """Of a table of embeddings that is the head too."""
        return self._with_weights(self._layer.as_linear, (x,))

    def _with_weights(self, run: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
        weights = self._read()
        self._layer.load_weights(weights, strict=True)
        made = run(*inputs)
        mx.eval(made)
        empty = [(name, mx.zeros(a.shape, a.dtype)) for name, a in weights]
        self._layer.load_weights(empty, strict=True)  # zeros that are never computed
        del weights
        mx.clear_cache()
        return made


def in_passing(folder: Path, files: Files) -> MM15:
    """The model of a folder with these weight files; its layers and its tables of words
    are `Passing`, and what is left of it, which is small, is read."""
    model = MM15(read_config(folder))
    quantize_like(model, {n: s for held in files.values() for n, s in held.items()})
    model.eval()
    for name, part in (("encoder", model.encoder), ("decoder", model.decoder)):
        part.layers = [
            _passing(layer, files, f"{name}.layers.{i}.")
            for i, layer in enumerate(part.layers)
        ]
    for name in ("embed_tokens", "lm_head"):
        if name in model.decoder:
            layer = _passing(model.decoder[name], files, f"decoder.{name}.")
            setattr(model.decoder, name, layer)
    rest = [(n, a) for n, a in _weights(files, "") if not n.startswith(_IN_PASSING)]
    model.load_weights(rest, strict=True)
    return model


def _passing(layer: nn.Module, files: Files, prefix: str) -> Passing:
    def read() -> Weights:
        weights = []
        for name, array in _weights(files, prefix):
            mx.eval(array)  # one at a time, so that a cast never holds the layer twice
            weights.append((name.removeprefix(prefix), array))
        return weights

    return Passing(layer, read)


def _weights(files: Files, prefix: str) -> Iterator[tuple[str, mx.array]]:
    """Those whose names begin so, lazily read, in the type that `load` gives them."""
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    for path, held in files.items():
        wanted = [name for name in held if name.startswith(prefix)]
        arrays = mx.load(str(path)) if wanted else {}
        for name in wanted:
            array = arrays.pop(name)
            if on_cpu and mx.issubdtype(array.dtype, mx.floating):
                array = array.astype(mx.float32)
            yield name, array
