"""What `convert -q` changed: how far the quantised folder is from its source.

What this file is: the divergence that `mm15-mlx quantize` reports (drift.py), along a
fixed answer about one picture, with both models a layer at a time: neither need fit
into memory. What it is not: the source's own answers, or the metrics of tasks, which
`quantize` measures on a floating model that has been converted.

A tokens of the answer, L tokens, V vocabulary.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from mm15_mlx.checkpoint import weight_files
from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.proof import Passing, in_passing, ramps
from mm15_mlx.convert.rules import Plan
from mm15_mlx.drift import divergence
from mm15_mlx.load import load_processor
from mm15_mlx.mm15 import MM15

QUESTION = "What is in this picture?"
# The picture is proof.ramps (not published: our choice).
ANSWER = (
    "The picture has no things in it, only colours: red grows from left to right, "
    "green from top to bottom, and blue from bottom to top."
)
TABLES = ("embed_tokens", "lm_head")
_IN_PASSING = (
    "encoder.layers.", "decoder.layers.", *(f"decoder.{name}." for name in TABLES)
)  # fmt: skip
Read = Callable[[str], mx.array]


def drifted(folder: Path, config: ModelConfig, plan: Plan, read: Read) -> str:
    """What is said of a quantised `folder` made by `plan` from what `read` gives.

    Reads the source once more. Divergences are in nats.
    """
    processor = load_processor(folder)
    size = config.tiling.tile_size
    inputs = dict(processor(QUESTION, images=[ramps(size, size)]))
    answer = processor.tokenizer.encode(ANSWER)
    inputs["input_ids"] = mx.concatenate(
        [inputs["input_ids"], mx.array([answer])], axis=1
    )  # (1, L + A)
    models = from_source(config, plan, read), in_passing(folder, weight_files(folder))
    spoken = []
    for model in models:
        logits = model(**inputs)[0, -len(answer) - 1 :]  # (A + 1, V)
        spoken.append(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
        mx.eval(spoken[-1])
    found = divergence(spoken[:1], spoken[1:])
    return (
        f"KL {found.kl.mean():.2e} nats per token of a fixed answer, at most "
        f"{found.kl.max():.2e}; same next token {found.same.mean():.1%} of "
        f"{found.kl.size}"
    )


def from_source(config: ModelConfig, plan: Plan, read: Read) -> MM15:
    """The floating model, its layers and tables of words read when they run."""
    model = MM15(config)
    model.eval()
    weights = _Weights(plan, read)
    for name, part in (("encoder", model.encoder), ("decoder", model.decoder)):
        part.layers = [
            _passing(layer, weights, f"{name}.layers.{i}.")
            for i, layer in enumerate(part.layers)
        ]
    for name in TABLES:
        if name in model.decoder:
            layer = _passing(model.decoder[name], weights, f"decoder.{name}.")
            setattr(model.decoder, name, layer)
    rest = weights.where(lambda name: not name.startswith(_IN_PASSING))
    model.load_weights(list(rest), strict=True)
    return model


def _passing(layer: nn.Module, weights: "_Weights", prefix: str) -> Passing:
    def read() -> list[tuple[str, mx.array]]:
        made = []
        for name, array in weights.where(lambda name: name.startswith(prefix)):
            mx.eval(array)  # one at a time, so that a cast never holds the layer twice
            made.append((name.removeprefix(prefix), array))
        return made

    return Passing(layer, read)


class _Weights:
    """Parameters of a plan by name, each made from the source when it is asked for."""

    def __init__(self, plan: Plan, read: Read) -> None:
        self._plan = plan
        self._read = read
        self._cast = mx.default_device() == mx.Device(mx.cpu)

    def where(self, wanted: Callable[[str], bool]) -> Iterator[tuple[str, mx.array]]:
        groups = tuple(
            group
            for group in self._plan.groups
            if any(wanted(target) for step in group for target in step.targets)
        )
        for name, array in dataclasses.replace(self._plan, groups=groups).run(
            self._read
        ):
            if wanted(name):
                yield name, array.astype(mx.float32) if self._cast else array
