"""Conversion as data: a table of rules from a source's tensor names to the model's.

What this file is: the only machinery of convert/. A converter is a tuple of rules;
`plan_rules` checks, from names and shapes alone, that every source tensor meets exactly
one rule and every parameter is filled exactly once, and reports all that is wrong in
one error. `Plan.run` then makes one parameter after the other. What it is not: a reader
of files, or the tables themselves (mm15.py and its neighbours).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import mlx.core as mx

from mm15_mlx.checkpoint import listed
from mm15_mlx.config import UserError

Shape = tuple[int, ...]
Transform = Callable[[mx.array], mx.array | tuple[mx.array, ...]]

_SLOT = re.compile(r"(.+)\[(\d+)\]")


class RulesError(UserError):
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


@dataclass(frozen=True)
class Step:
    """One source tensor, the rule that it meets, and what it fills."""

    source: str
    rule: Rule
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """How a source becomes a model, checked, with nothing read yet.

    `parameters` are arrays of the right shapes and types that must never be evaluated:
    zeros that went through the rules. `groups` are steps that share parameters, as the
    experts of a layer do.
    """

    sources: Mapping[str, Shape]
    parameters: Mapping[str, mx.array]
    groups: tuple[tuple[Step, ...], ...]

    def run(self, read: Callable[[str], mx.array]) -> Iterator[tuple[str, mx.array]]:
        """Every parameter, lazily computed, in the order of the sources.

        No source tensor is held for longer than the parameters that it fills need.
        """
        for group in self.groups:
            filled: dict[str, mx.array] = {}
            for step in group:
                if not step.targets:
                    continue  # left out, so not even read
                arrays = step.rule.apply(read(step.source), len(step.targets))
                filled |= zip(step.targets, arrays, strict=True)
            yield from _stack(filled, []).items()

    def lines(self) -> Iterator[str]:
        """The plan for people: a line for each source tensor."""
        for step in (step for group in self.groups for step in group):
            source = f"{step.source} {self.sources[step.source]}"
            if not step.targets:
                yield f"{source} is left out"
            for target in step.targets:
                yield f"{source} → {target} {self.parameters[_whole(target)].shape}"


def plan_rules(
    tensors: Mapping[str, mx.array],
    rules: Iterable[Rule],
    expected: Mapping[str, Shape],
) -> Plan:
    """How a source's tensors fill the model's parameters.

    `tensors` stand for the source's: only their shapes and types are used, so zeros do.
    `expected` holds the shape of every parameter. Raises one RulesError with all that
    is wrong: tensors that no rule or two rules want, parameters filled twice or never,
    wrong shapes, parameters that are no floating-point numbers.
    """
    rules = tuple(rules)
    problems: list[str] = []
    filled: dict[str, mx.array] = {}
    steps: list[Step] = []
    for name, array in tensors.items():
        wanted = [(rule, t) for rule in rules if (t := rule.targets(name)) is not None]
        if len(wanted) != 1:
            which = " and ".join(repr(rule.source) for rule, _ in wanted)
            problems.append(f"{name}: " + (f"rules {which}" if which else "no rule"))
            continue
        rule, targets = wanted[0]
        steps.append(Step(name, rule, targets))
        # Zeros, so that no transform can make the real tensors be read here.
        zeros = mx.zeros(array.shape, array.dtype)
        try:
            arrays = rule.apply(zeros, len(targets))
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
        elif not mx.issubdtype(parameters[name].dtype, mx.floating):
            problems.append(f"{name}: type {parameters[name].dtype}, expected floats")
    problems += [f"{n}: not in the model" for n in parameters if n not in expected]
    if problems:
        raise RulesError(
            "the source does not fit the model it should become; check that it is the "
            f"checkpoint its configuration describes:{listed(problems)}"
        )
    groups = _groups(steps)
    ordered: dict[str, mx.array] = {}  # as `run` will give them
    for group in groups:
        ordered |= _stack({t: filled[t] for s in group for t in s.targets}, [])
    shapes = {name: array.shape for name, array in tensors.items()}
    return Plan(shapes, ordered, groups)


def apply_rules(
    tensors: Mapping[str, mx.array],
    rules: Iterable[Rule],
    expected: Mapping[str, Shape],
) -> dict[str, mx.array]:
    """The model's parameters, lazily computed; raises what `plan_rules` raises."""
    return dict(plan_rules(tensors, rules, expected).run(tensors.__getitem__))


def _whole(target: str) -> str:
    """The parameter that a target is, or is a slice of."""
    return _SLOT.sub(r"\1", target)


def _groups(steps: list[Step]) -> tuple[tuple[Step, ...], ...]:
    """Steps that share parameters, directly or through others, each group once.

    The slices of one parameter belong together, and so do the parameters that one
    source tensor is split into. Groups come in the order of their first step.
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for step in steps:
        for target in step.targets:
            leader[find(_whole(target))] = find(_whole(step.targets[0]))
    groups: dict[tuple[str, bool], list[Step]] = {}
    for step in steps:
        kept = bool(step.targets)
        key = find(_whole(step.targets[0])) if kept else step.source
        groups.setdefault((key, kept), []).append(step)
    return tuple(map(tuple, groups.values()))


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
