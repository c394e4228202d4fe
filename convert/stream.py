"""From a plan and a source to a model folder, one parameter at a time.

What this file is: the loop in which a tensor is read, renamed, cast, quantised, written
and dropped, so that a model may be larger than memory. What it is not: the rules
(rules.py), the readers (sources.py) or the files' form (weights.py). Memory holds one
parameter and what it is made of; an output shard is never held.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from mm15_mlx.checkpoint import WeightsError
from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.partials import held, remove_stale
from mm15_mlx.convert.rules import Plan, Rule, plan_rules
from mm15_mlx.mm15 import MM15
from mm15_mlx.quantize import Quantisation, choose, packed
from mm15_mlx.weights import SHARD_BYTES, new_folder, write_weights

Read = Callable[[str], mx.array]
_SPARE_BYTES = 64 << 20  # config, tokenizer, card, and the file system's own


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
    parts: Mapping[str, Quantisation] | None = None,
    check: Callable[[Path], None] | None = None,
    force: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write the model folder that `plan` makes of the tensors that `read` gives.

    `dtype`, if given, is what floats are stored in; after that the layers of `parts`
    are quantised, each part in its own way. `check` sees the whole folder before it has
    its name. The folder appears whole or not at all: nothing is left where `check`
    raises. Raises WeightsError where the folder exists and `force` is not given, or the
    disk is too small.
    """
    choice = choose(MM15(config), parts or {})
    config = choice.record(config)

    def finished(parameters: Mapping[str, mx.array]) -> dict[str, mx.array]:
        if dtype is not None:
            parameters = {n: array.astype(dtype) for n, array in parameters.items()}
        return packed(parameters, choice.ways)

    def arrays() -> Iterator[tuple[str, mx.array]]:
        for name, array in plan.run(read):
            yield from finished({name: array}).items()

    # Only shapes and types are taken from these: zeros, which are never evaluated.
    like = finished(plan.parameters)
    remove_stale(Path(folder))
    check_room(Path(folder), sum(array.nbytes for array in like.values()))
    with ExitStack() as locks:  # kept until the folder has been renamed
        with new_folder(folder, config, files=files, force=force) as partial:
            locks.enter_context(held(partial))
            write_weights(partial, like, arrays(), shard_bytes)
            if check:
                check(partial)


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
