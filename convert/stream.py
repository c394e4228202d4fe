"""From a plan and a source to a model folder, one parameter at a time.

What this file is: the loop in which a tensor is read, renamed, cast, quantised, written
and dropped, so that a model may be larger than memory. What it is not: the rules
(rules.py), the readers (sources.py) or the files' form (weights.py). Memory holds one
parameter and what it is made of; an output shard is never held.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mm15_mlx.checkpoint import WeightsError
from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.rules import Plan, Rule, plan_rules
from mm15_mlx.mm15 import MM15
from mm15_mlx.weights import SHARD_BYTES, new_folder, write_weights

Read = Callable[[str], mx.array]
_PARTS = ("weight", "scales", "biases")
_SPARE_BYTES = 64 << 20  # config, tokenizer, card, and the file system's own


@dataclass(frozen=True)
class Quantisation:
    """How layers are quantised; the defaults are mlx-lm's."""

    bits: int = 4
    group_size: int = 64
    mode: str = "affine"

    def __call__(self, weight: mx.array) -> tuple[mx.array, ...]:
        """A weight (…, I) packed in 32-bit words, its scales and, if any, biases."""
        made = mx.quantize(
            weight, group_size=self.group_size, bits=self.bits, mode=self.mode
        )
        return tuple(made)


def decoder_layers(model: nn.Module, group_size: int) -> frozenset[str]:
    """The layers that conversion quantises: the decoder's, without expert routers.

    The encoder and the connector stay as they are, being small and sensitive (not
    published: our choice); so do layers whose rows are no whole number of groups.
    """
    return frozenset(
        path
        for path, module in model.named_modules()
        if path.startswith("decoder.")
        and not path.endswith("mlp.gate")
        and hasattr(module, "to_quantized")
        and module.weight.shape[-1] % group_size == 0
    )


def plan_model(
    config: ModelConfig, sources: Mapping[str, mx.array], rules: tuple[Rule, ...]
) -> Plan:
    """How the tensors of a source fill `MM15(config)`; see `plan_rules`."""
    # Its random weights are never computed.
    expected = tree_flatten(MM15(config).parameters())
    return plan_rules(sources, rules, {name: array.shape for name, array in expected})


def write_model(
    folder: str | Path,
    config: ModelConfig,
    plan: Plan,
    read: Read,
    *,
    files: Mapping[str, bytes] | None = None,
    dtype: mx.Dtype | None = None,
    quantisation: Quantisation | None = None,
    force: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the model folder that `plan` makes of the tensors that `read` gives.

    `dtype`, if given, is what floats are stored in; `quantisation` is what happens to
    `decoder_layers` after that. The folder appears whole or not at all. Raises
    WeightsError where it exists and `force` is not given, or the disk is too small.
    """
    layers: frozenset[str] = frozenset()
    if quantisation is not None:
        layers = decoder_layers(MM15(config), quantisation.group_size)

    def finished(parameters: Mapping[str, mx.array]) -> dict[str, mx.array]:
        made: dict[str, mx.array] = {}
        for name, array in parameters.items():
            array = array if dtype is None else array.astype(dtype)
            path, _, last = name.rpartition(".")
            if quantisation is None or last != "weight" or path not in layers:
                made[name] = array
                continue
            parts = quantisation(array)
            made |= {f"{path}.{p}": a for p, a in zip(_PARTS, parts, strict=False)}
        return made

    def arrays() -> Iterator[tuple[str, mx.array]]:
        for name, array in plan.run(read):
            yield from finished({name: array}).items()

    # Only shapes and types are taken from these: zeros, which are never evaluated.
    like = finished(plan.parameters)
    check_room(Path(folder), sum(array.nbytes for array in like.values()))
    with new_folder(folder, config, files=files, force=force) as partial:
        write_weights(partial, like, arrays(), shard_bytes)


def check_room(folder: Path, nbytes: int) -> None:
    """That the disk of `folder`, which need not exist yet, has room for `nbytes`."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free, needed = shutil.disk_usage(place).free, nbytes + _SPARE_BYTES
    if free < needed:
        raise WeightsError(
            f"{folder} needs {needed / 1e9:.1f} GB and {place} has {free / 1e9:.1f} GB "
            "free; choose another disk, or quantise (-q)"
        )
