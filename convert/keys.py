"""The key report: what became of every tensor, counted and added up.

What this file is: tensors and numbers of a source against those of the model, of one
checkpoint (`convert`) and of two with what is made beside them (`compose`). What it is
not: the rules themselves, which have met every tensor by now (rules.py).
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import mlx.core as mx
from mlx.utils import tree_flatten

from mm15_mlx.checkpoint import FLOATS, WeightsError
from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.gguf import Gguf
from mm15_mlx.convert.parts import Part
from mm15_mlx.convert.rules import Plan, Shape, Step
from mm15_mlx.convert.sources import Source
from mm15_mlx.mm15 import MM15


@dataclass(frozen=True)
class Keys:
    """Tensors and parameters by name; then numbers: of the source, left out with their
    tensors, cut off others, made here, and of the model."""

    tensors: int
    parameters: int
    left: int
    source: int
    left_out: int
    cut: int
    made: int
    model: int

    def names(self) -> str:
        return (
            f"{self.tensors:,} tensors → {self.parameters:,} parameters, "
            f"{self.left:,} left out"
        )

    def numbers(self) -> str:
        """The sum, whose zeros are left away."""
        terms = f"{self.source:,} of the source"
        for sign, count, why in (
            ("−", self.left_out, "left out"), ("−", self.cut, "cut off"),
            ("+", self.made, "made here"),
        ):  # fmt: skip
            terms += f" {sign} {count:,} {why}" if count else ""
        return f"{self.model:,} parameters = {terms}"

    def check(self, name: str) -> None:
        """Raises WeightsError where the sum of the source `name` does not come out."""
        if self.source - self.left_out - self.cut + self.made != self.model:
            raise WeightsError(
                f"{name} does not add up: the model has {self.numbers()}; fetch it "
                "again, and report its name if that does not help"
            )


def _is_counted(source: Source | Gguf, name: str) -> bool:
    """Whether `parameters` of the source counts this tensor: tables of indices are no
    parameters."""
    floats = FLOATS | {"F64"}
    return isinstance(source, Gguf) or source.tensors[name].stored.dtype in floats


def _size(source: Source | Gguf, name: str) -> int:
    return math.prod(_shape(source, name)) if _is_counted(source, name) else 0


def _shape(source: Source | Gguf, name: str) -> Shape:
    if isinstance(source, Gguf):
        return source.tensors[name].shape
    return source.tensors[name].stored.shape


def _left(plan: Plan) -> Iterator[Step]:
    return (step for group in plan.groups for step in group if not step.targets)


def keys_of(source: Source, plan: Plan) -> Keys:
    """Of a checkpoint that fills a whole model."""
    left = [step.source for step in _left(plan)]
    return Keys(
        tensors=len(source.tensors), parameters=len(plan.parameters), left=len(left),
        source=source.parameters, left_out=sum(_size(source, n) for n in left),
        cut=_cut(source, plan), made=0,
        model=sum(a.size for a in plan.parameters.values()),
    )  # fmt: skip


def _cut(source: Source, plan: Plan) -> int:
    """Numbers of tensors that are shortened, such as a class token's row of a table."""
    short = 0
    for step in (step for group in plan.groups for step in group if step.targets):
        made = step.rule.apply(mx.zeros(plan.sources[step.source]), len(step.targets))
        short += _size(source, step.source) - sum(a.size for a in made)
    return max(short, 0)


def keys_of_parts(
    config: ModelConfig, parts: Mapping[str, Part], plan: Plan, dense: bool
) -> Keys:
    """Of an encoder and a decoder, by their names, with what is made beside them: the
    connector, rows of the tables of words, and experts where the decoder was `dense`.
    """
    held = {f"{part}/{n}": p.held for part, p in parts.items() for n in p.held.tensors}
    left = [step.source for step in _left(plan) if step.source in held]
    like = _sizes(config)
    made = sum(n for name, n in like.items() if name.startswith("connector."))
    if dense:
        text = dataclasses.replace(config.text_config, num_experts=0)
        once = _sizes(dataclasses.replace(config, text_config=text))
        made += sum(like.values()) - sum(once.values())
    for part in parts.values():
        for name in part.held.tensors:
            rows, *rest = _shape(part.held, name) or (1,)
            grown = part.tensors[name].shape[:1] or (1,)
            made += (grown[0] - rows) * math.prod(rest)
    return Keys(
        tensors=len(held), parameters=len(like), left=len(left),
        source=sum(part.held.parameters for part in parts.values()),
        left_out=sum(_size(held[n], n.partition("/")[2]) for n in left),
        cut=0, made=made, model=sum(like.values()),
    )  # fmt: skip


def _sizes(config: ModelConfig) -> dict[str, int]:
    return {n: a.size for n, a in tree_flatten(MM15(config).parameters())}
