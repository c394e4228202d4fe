"""Rounded so that errors cancel: `quantize --gptq`.

What this file is: GPTQ (arXiv 2210.17323) for questions about pictures. The columns of
a layer's weight are rounded one after the other, and those that are still to come make
good what it does to the layer's outputs, as far as inputs go together in the tasks'
pictures and answers. What it is not: mlx-lm's loop of that name, which can be shown no
picture and packs 2, 4 and 8 bits.

I inputs of a layer, O outputs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from mm15_mlx.drift import Features, Row, log_probs
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.quantize import Quantisation

DAMPING = 0.01  # of the mean square of an input, added to each: the paper's
# Bytes of inputs' products in memory at once. More layers than that take several runs
# over the answers, and the later ones meet what the earlier ones became.
TOGETHER = 2**30
# Of a block: what is given the same as another, whose products serve both.
SAME_INPUT = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
Say = Callable[[str], None]


class Watched(nn.Module):
    """A layer that adds up the products of its inputs, as it is used."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        inputs = layer.weight.shape[1]
        self.products = mx.zeros((inputs, inputs))

    def __call__(self, x: mx.array) -> mx.array:
        rows = x.reshape(-1, x.shape[-1]).astype(mx.float32)
        self.products = self.products + rows.T @ rows
        mx.eval(self.products)  # or else every input of a run would be kept
        return self.layer(x)


def rounded(
    weight: mx.array, root: np.ndarray | None, way: Quantisation
) -> tuple[mx.array, ...]:
    """A weight (O, I) as `way` packs it: words, scales, biases. `root` (I, I) is the
    `inverse_root` of its inputs' products; without any it is rounded as ever."""
    if root is None:
        return way(weight)
    left = np.array(weight.astype(mx.float32))  # later columns change as it goes
    codes = np.empty(left.shape, np.uint8)
    grids = []
    for start in range(0, left.shape[1], way.group_size):
        end = start + way.group_size
        _, *grid = way(mx.array(left[:, start:end]).astype(weight.dtype))
        grids.append(grid)
        scales, biases = (np.array(a.astype(mx.float32))[:, 0] for a in grid)
        errors = np.empty((len(left), way.group_size), np.float32)
        for k in range(start, end):
            code = np.rint((left[:, k] - biases) / scales).clip(0, 2**way.bits - 1)
            error = (left[:, k] - (code * scales + biases)) / root[k, k]
            left[:, k + 1 : end] -= np.outer(error, root[k, k + 1 : end])
            codes[:, k], errors[:, k - start] = code, error
        left[:, end:] -= errors @ root[start:end, end:]
    scales, biases = (mx.concatenate(a, axis=1) for a in zip(*grids, strict=True))
    return packed_words(codes, way.bits), scales, biases


def inverse_root(products: mx.array) -> np.ndarray | None:
    """Of sums of squares and products (I, I): upper U (I, I) with UᵀU the inverse of
    them damped. U[k, k] is what is left of input k when those before it are fixed. None
    where no input was seen."""
    damped = np.array(products, np.float64)
    mean = np.diag(damped).mean()
    if mean == 0:
        return None
    damped /= mean
    damped[np.diag_indices_from(damped)] += DAMPING
    return np.linalg.cholesky(np.linalg.inv(damped)).T.astype(np.float32)


def packed_words(codes: np.ndarray, bits: int) -> mx.array:
    """Codes (O, I) as MLX packs them: one stream of bits a row, the lowest first."""
    stream = np.unpackbits(codes[..., None], axis=-1, count=bits, bitorder="little")
    words = np.packbits(stream.reshape(len(codes), -1), axis=-1, bitorder="little")
    return mx.array(words.view(np.uint32))


def layers(model: nn.Module, ways: Mapping[str, Quantisation]) -> dict[str, nn.Linear]:
    """Those of `ways` that can be rounded so, by path, in the order of the model:
    affine ones, but no experts and no tables of words."""
    found = tree_flatten(model.leaf_modules(), is_leaf=nn.Module.is_module)
    return {
        path: layer
        for path, layer in found
        if path in ways and ways[path].mode == "affine" and isinstance(layer, nn.Linear)
    }


def given(path: str) -> str:
    """The path of the layer whose input a layer is given, its own or a sibling's."""
    block, _, name = path.rpartition(".")
    return f"{block}.{SAME_INPUT.get(name, name)}"


def lots(found: Mapping[str, nn.Linear]) -> Iterator[dict[str, list[str]]]:
    """Paths of layers whose products are in memory together, by what they are given."""
    lot: dict[str, list[str]] = {}
    held = 0
    for path, layer in found.items():
        size = 4 * layer.weight.shape[1] ** 2
        if given(path) not in lot:
            if lot and held + size > TOGETHER:
                yield lot
                lot, held = {}, 0
            held += size
        lot.setdefault(given(path), []).append(path)
    if lot:
        yield lot


def pack(
    model: MM15,
    processor: Processor,
    rows: Sequence[Row],
    ways: Mapping[str, Quantisation],
    dtype: mx.Dtype,
    say: Say = lambda _: None,
) -> dict[str, mx.array]:
    """Packed parameters of the layers in `ways` that can be rounded so, by name, with
    scales of `dtype`; the model, in floats, is left with what these stand for."""
    found = layers(model, ways)
    made: dict[str, mx.array] = {}
    kept: Features = {}
    done = 0
    for lot in lots(found):
        watched = {paths[0]: Watched(found[paths[0]]) for paths in lot.values()}
        model.update_modules(tree_unflatten(list(watched.items())))
        # what the encoder says changes with it: only the text's lots share that
        text = all(path.startswith("decoder.") for path in lot)
        log_probs(model, processor, rows, kept if text else {})
        for paths in lot.values():
            root = inverse_root(watched[paths[0]].products)
            for path in paths:
                layer, way = found[path], ways[path]
                arrays = rounded(layer.weight.astype(dtype), root, way)
                layer.weight = way.unpacked(arrays, layer.weight.dtype)
                mx.eval(arrays, layer.weight)
                names = zip(way.names, arrays, strict=True)
                made |= {f"{path}.{name}": array for name, array in names}
            done += len(paths)
        model.update_modules(tree_unflatten([(p, found[p]) for p in watched]))
        say(f"{done} of {len(found)} layers rounded for their inputs")
    return made
