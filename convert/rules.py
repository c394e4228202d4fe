"""Conversion as data: a table of rules from a source's tensor names to the model's.

What this file is: the only machinery of convert/. A converter is a tuple of rules;
`apply_rules` checks that every source tensor meets exactly one rule and every parameter
is filled exactly once, and reports all that is wrong in one error. What it is not: a
reader of files, or the tables themselves (mm15.py and its neighbours).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import mlx.core as mx

from mm15_mlx.checkpoint import listed

Shape = tuple[int, ...]
Transform = Callable[[mx.array], mx.array | tuple[mx.array, ...]]

_SLOT = re.compile(r"(.+)\[(\d+)\]")


class RulesError(ValueError):
    """A source that the rules do not turn into the model; the message says where."""


def keep(x: mx.array) -> mx.array:
    return x


def conv(x: mx.array) -> mx.array:
    """A convolution, (O, I, y, x) in PyTorch and (O, y, x, I) in MLX."""
    return x.transpose(0, 2, 3, 1)


def conv_to_linear(x: mx.array) -> mx.array:
    """A convolution with stride = kernel, as a Linear over (y, x, channel)."""
    return conv(x).reshape(x.shape[0], -1)


@dataclass(frozen=True)
class Rule:
    """What becomes of the source tensors whose whole name matches `source`.

    `target` is a template for `re.Match.expand`. `name[2]` is the third slice of a
    stacked parameter, which is how experts are joined. Several targets take the several
    arrays that `transform` returns, which is how a fused q, k, v is split. None drops
    the tensor on purpose.
    """

    source: str
    target: str | tuple[str, ...] | None
    transform: Transform = keep

    def targets(self, name: str) -> tuple[str, ...] | None:
        """The parameters that `name` fills, or None where the rule is not meant."""
        match = re.fullmatch(self.source, name)
        if match is None:
            return None
        if self.target is None:
            return ()
        target = (self.target,) if isinstance(self.target, str) else self.target
        return tuple(match.expand(t) for t in target)

    def apply(self, array: mx.array, count: int) -> tuple[mx.array, ...]:
        if not count:
            return ()
        made = self.transform(array)
        arrays = made if isinstance(made, tuple) else (made,)
        if len(arrays) != count:
            raise ValueError(f"{len(arrays)} arrays for {count} targets")
        return arrays


def apply_rules(
    tensors: Mapping[str, mx.array],
    rules: Iterable[Rule],
    expected: Mapping[str, Shape],
) -> dict[str, mx.array]:
    """The model's parameters, lazily computed, from a source's tensors.

    `expected` holds the shape of every parameter. Raises one RulesError with all that
    is wrong: tensors that no rule or two rules want, parameters filled twice or never,
    wrong shapes.
    """
    rules = tuple(rules)
    problems: list[str] = []
    filled: dict[str, mx.array] = {}
    for name, array in tensors.items():
        wanted = [(rule, t) for rule in rules if (t := rule.targets(name)) is not None]
        if len(wanted) != 1:
            which = " and ".join(repr(rule.source) for rule, _ in wanted)
            problems.append(f"{name}: " + (f"rules {which}" if which else "no rule"))
            continue
        rule, targets = wanted[0]
        try:
            arrays = rule.apply(array, len(targets))
        except (ValueError, IndexError) as error:
            problems.append(f"{name}: shape {array.shape} does not convert ({error})")
            continue
        for target, made in zip(targets, arrays, strict=True):
            if target in filled:
                problems.append(f"{target}: filled twice, the second time by {name}")
            filled[target] = made
    parameters = _stack(filled, problems)
    for name, shape in expected.items():
        if name not in parameters:
            problems.append(f"{name}: missing")
        elif parameters[name].shape != shape:
            problems.append(f"{name}: shape {parameters[name].shape}, expected {shape}")
    problems += [f"{n}: not in the model" for n in parameters if n not in expected]
    if problems:
        raise RulesError(
            "the source does not fit the model it should become; check that it is the "
            f"checkpoint its configuration describes:{listed(problems)}"
        )
    return parameters


def _stack(filled: Mapping[str, mx.array], problems: list[str]) -> dict[str, mx.array]:
    """`filled` with the slices `name[0]`, `name[1]`, … joined into `name`."""
    parameters: dict[str, mx.array] = {}
    slices: dict[str, dict[int, mx.array]] = {}
    for name, array in filled.items():
        if match := _SLOT.fullmatch(name):
            slices.setdefault(match[1], {})[int(match[2])] = array
        else:
            parameters[name] = array
    for name, parts in slices.items():
        shapes = sorted({part.shape for part in parts.values()})
        if name in parameters:
            problems.append(f"{name}: filled whole and in parts")
        elif sorted(parts) != list(range(len(parts))) or len(shapes) > 1:
            problems.append(
                f"{name}: parts {sorted(parts)} of shapes {shapes} cannot be stacked"
            )
        else:
            parameters[name] = mx.stack([parts[i] for i in range(len(parts))])
    return parameters
