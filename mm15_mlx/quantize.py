"""Smaller weights: which layers are packed into few bits, and in which way.

What this file is: MLX's modes with their legal sizes, the parts of a model, mlx-lm's
mixed recipes, and the packing of one parameter after the other, for `mm15-mlx quantize`
and for `convert -q`. What it is not: measuring what it costs (drift.py), the verb
(shrink.py), or reading packed layers again (weights.py, which trusts the file alone).

The connector's convolutions of single channels, norms, biases, position tables and the
routers of experts always stay as they are.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mm15_mlx.checkpoint import weight_files
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.mm15 import module_of

# Of each mode the bits, then the group sizes: MLX's own limits (mx.quantize).
MODES = {
    "affine": ((2, 3, 4, 5, 6, 8), (32, 64, 128)),
    "mxfp4": ((4,), (32,)),
    "mxfp8": ((8,), (32,)),
    "nvfp4": ((4,), (16,)),
}
DEFAULTS = {
    "affine": (4, 64),
    "mxfp4": (4, 32),
    "mxfp8": (8, 32),
    "nvfp4": (4, 16),
}  # mlx-lm's
PARTS = ("encoder", "connector", "decoder", "embedding", "head")
TEXT_PARTS = ("decoder", "embedding", "head")
RECIPES = ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")  # mlx-lm's
PACKED = ("weight", "scales", "biases")


@dataclass(frozen=True)
class Quantisation:
    """How a layer is quantised; the defaults are mlx-lm's."""

    bits: int = 4
    group_size: int = 64
    mode: str = "affine"

    def __call__(self, weight: mx.array) -> tuple[mx.array, ...]:
        """A weight (…, I) packed in 32-bit words, its scales and, if any, biases."""
        made = mx.quantize(
            weight, group_size=self.group_size, bits=self.bits, mode=self.mode
        )
        return tuple(made)

    def rounded(self, weight: mx.array) -> mx.array:
        """The weight (…, I) that a layer quantised so computes with."""
        return self.unpacked(self(weight), weight.dtype)

    def unpacked(self, arrays: Sequence[mx.array], dtype: mx.Dtype) -> mx.array:
        """The weight (…, I) of words, scales and, if any, biases."""
        sizes = {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}
        return mx.dequantize(*arrays, dtype=dtype, **sizes)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arrays that a packed layer has in place of its weight."""
        return PACKED if self.mode == "affine" else PACKED[:2]

    def bits_per_weight(self, scale_bytes: int = 2) -> float:
        """With scales and biases, which affine keeps in the weights' own type."""
        extra = 16 * scale_bytes if self.mode == "affine" else 8
        return self.bits + extra / self.group_size


def quantisation(
    bits: int | None, group_size: int | None, mode: str, flag: str = "--q-bits"
) -> Quantisation:
    """What the flags mean; None is mlx-lm's default of the mode.

    Raises UserError, naming what the mode has, where MLX has no such quantisation.
    """
    if mode not in MODES:
        raise UserError(
            f"--q-mode is {mode!r}; it must be one of {', '.join(sorted(MODES))}"
        )
    usual_bits, usual_group = DEFAULTS[mode]
    bits = usual_bits if bits is None else bits
    group_size = usual_group if group_size is None else group_size
    legal_bits, legal_groups = MODES[mode]
    if bits not in legal_bits or group_size not in legal_groups:
        raise UserError(
            f"{flag} {bits} with --q-group-size {group_size} is not to be had: "
            f"--q-mode {mode} has {_either(legal_bits)} bits in groups of "
            f"{_either(legal_groups)}"
        )
    return Quantisation(bits, group_size, mode)


def _either(numbers: tuple[int, ...]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}" if first else last


def part_of(name: str) -> str:
    """The part that a layer's path, or a parameter's name, belongs to."""
    if name.startswith("decoder.embed_tokens"):
        return "embedding"
    if name.startswith("decoder.lm_head"):
        return "head"
    return module_of(name)


@dataclass(frozen=True)
class Choice:
    """Layers to be quantised, by path; those that no group size divides; and those that
    stay packed as they are."""

    ways: Mapping[str, Quantisation]
    left: tuple[str, ...] = ()
    kept: Mapping[str, Quantisation] = dataclasses.field(default_factory=dict)

    @property
    def whole(self) -> dict[str, Quantisation]:
        """The ways of all layers that are packed in the end."""
        return {**self.kept, **self.ways}

    def beside(self, held: Mapping[str, Quantisation]) -> "Choice":
        """What is left to do where the layers in `held` are packed already: such a
        layer is packed again only if it takes fewer bits then."""
        ways = {
            path: way
            for path, way in self.ways.items()
            if path not in held or way.bits_per_weight() < held[path].bits_per_weight()
        }
        kept = {path: way for path, way in held.items() if path not in ways}
        return Choice(ways, tuple(p for p in self.left if p not in held), kept)

    def record(self, config: ModelConfig) -> ModelConfig:
        """`config` with `quantization` as mlx-lm writes it: the way of most layers, and
        the others by path. A record: loading reads the file itself."""
        if not (whole := self.whole):
            return config
        most = Counter(whole.values()).most_common(1)[0][0]
        others = {p: dataclasses.asdict(w) for p, w in whole.items() if w != most}
        return dataclasses.replace(
            config, quantization=dataclasses.asdict(most) | others
        )


def packed_ways(model: nn.Module) -> dict[str, Quantisation]:
    """The ways of the layers of `model` that are packed already, by path."""
    return {
        path: Quantisation(module.bits, module.group_size, module.mode)
        for path, module in model.named_modules()
        if hasattr(module, "bits")
    }


def quantisable(model: nn.Module) -> dict[str, nn.Module]:
    """Every layer that can be quantised, by path; experts' routers cannot.

    A router chooses: a small change of it is another expert (mlx-lm keeps it too).
    """
    return {
        path: module
        for path, module in model.named_modules()
        if hasattr(module, "to_quantized") and not path.endswith("mlp.gate")
    }


def choose(model: nn.Module, parts: Mapping[str, Quantisation]) -> Choice:
    """All layers of the named parts, each part in its own way.

    A layer whose rows are no whole number of groups is left as it is.
    """
    ways, left = {}, []
    for path, module in quantisable(model).items():
        way = parts.get(part_of(path))
        if way is None:
            continue
        if module.weight.shape[-1] % way.group_size:
            left.append(path)
        else:
            ways[path] = way
    return Choice(ways, tuple(left))


def mixed(model: Any, recipe: str, group_size: int, choice: Choice) -> Choice:
    """`choice` with the bits that mlx-lm's recipe gives the text's layers in it.

    Values and down projections of the outer eighths and of every third layer, and the
    head, have the higher bits. Raises UserError for an unknown name.
    """
    if recipe not in RECIPES:
        raise UserError(
            f"--q-recipe is {recipe!r}; it must be one of {', '.join(RECIPES)}"
        )
    from mlx_lm.convert import mixed_quant_predicate_builder  # seconds to import

    predicate = mixed_quant_predicate_builder(recipe, model, group_size)
    modules = dict(model.named_modules())
    ways = {
        path: Quantisation(**predicate(path, modules[path]))
        if path.startswith("decoder.")
        else way
        for path, way in choice.ways.items()
    }
    return dataclasses.replace(choice, ways=ways)


@dataclass(frozen=True)
class Wanted:
    """What the verb's flags ask for, checked; None is a flag that was not given."""

    q_bits: int | None = None
    q_group_size: int | None = None
    q_mode: str = "affine"
    part_bits: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    recipe: str | None = None
    target_bpw: float | None = None
    low_bits: int = 3
    high_bits: int = 8

    def __post_init__(self) -> None:
        given = {p: b for p, b in self.part_bits.items() if b is not None}
        way = quantisation(self.q_bits, self.q_group_size, self.q_mode)
        for part, bits in given.items():
            quantisation(bits, way.group_size, self.q_mode, f"--{part}-bits")
        if not self.automatic:
            return
        flag = "--q-recipe" if self.recipe else "--target-bpw"
        if self.recipe and self.target_bpw is not None:
            raise UserError("--q-recipe and --target-bpw both choose bits; give one")
        if self.q_mode != "affine":
            raise UserError(
                f"{flag} mixes bits, and --q-mode {self.q_mode} has one kind; "
                "use --q-mode affine"
            )
        if self.q_bits is not None or "decoder" in given:
            own = "--q-bits" if self.q_bits is not None else "--decoder-bits"
            raise UserError(f"{flag} chooses the decoder's bits; leave {own} out")
        if self.recipe and self.recipe not in RECIPES:
            raise UserError(
                f"--q-recipe is {self.recipe!r}; it must be one of {', '.join(RECIPES)}"
            )
        self._check_target()

    def _check_target(self) -> None:
        if self.target_bpw is None:
            return
        for flag, bits in (("low", self.low_bits), ("high", self.high_bits)):
            quantisation(bits, self.q_group_size, self.q_mode, f"--{flag}-bits")
        if self.low_bits >= self.high_bits:
            raise UserError(
                f"--low-bits {self.low_bits} is not below --high-bits {self.high_bits}"
            )

    @property
    def automatic(self) -> bool:
        """Whether the text's bits are chosen layer by layer."""
        return self.recipe is not None or self.target_bpw is not None

    @property
    def ladder(self) -> tuple[Quantisation, ...]:
        """What `--target-bpw` chooses from, the smallest first."""
        return tuple(
            quantisation(bits, self.q_group_size, self.q_mode)
            for bits in MODES["affine"][0]
            if self.low_bits <= bits <= self.high_bits
        )

    def parts(self) -> dict[str, Quantisation]:
        """The way of every part that is quantised. Where bits are chosen layer by
        layer, embedding and head take part, as in mlx-lm, unless they have their own.
        """
        bits = {p: b for p, b in self.part_bits.items() if b is not None}
        if self.automatic:
            bits = dict.fromkeys(TEXT_PARTS, self.low_bits) | bits
        else:
            bits = {"decoder": self.q_bits} | bits
        return {
            part: quantisation(b, self.q_group_size, self.q_mode)
            for part, b in bits.items()
        }

    def choice(self, model: Any) -> Choice:
        """The layers of `model` and their ways; with `target_bpw` all are at the bottom
        of the ladder. Raises UserError where a part has no layer to quantise."""
        if self.part_bits.get("head") is not None and "lm_head" not in model.decoder:
            raise UserError(
                "--head-bits: this model's head is its embedding; give --embedding-bits"
            )
        parts = self.parts()
        choice = choose(model, parts)
        if not choice.ways:
            group_size = next(iter(parts.values())).group_size
            raise UserError(
                f"--q-group-size {group_size} divides the rows of no layer of "
                f"{', '.join(parts)}; choose a smaller group"
            )
        if self.recipe is None:
            return choice
        free = {p: w for p, w in choice.ways.items() if self.is_free(p)}
        group_size = next(iter(parts.values())).group_size
        made = mixed(model, self.recipe, group_size, Choice(free))
        return Choice(dict(choice.ways) | dict(made.ways), choice.left)

    def is_free(self, path: str) -> bool:
        """Whether a recipe or a target may choose the bits of this layer."""
        part = part_of(path)
        return part in TEXT_PARTS and self.part_bits.get(part) is None


def packed(
    parameters: Mapping[str, mx.array], ways: Mapping[str, Quantisation]
) -> dict[str, mx.array]:
    """Parameters as a folder has them, those of the layers in `ways` quantised."""
    made: dict[str, mx.array] = {}
    for name, array in parameters.items():
        path, _, last = name.rpartition(".")
        if last != "weight" or path not in ways:
            made[name] = array
            continue
        arrays = ways[path](array)
        made |= {f"{path}.{p}": a for p, a in zip(PACKED, arrays, strict=False)}
    return made


def unpacked(
    parameters: Iterable[tuple[str, mx.array]],
    ways: Mapping[str, Quantisation],
    dtype: mx.Dtype,
) -> Iterator[tuple[str, mx.array]]:
    """Parameters as they come, the layers in `ways` not packed but in floats."""
    begun: dict[str, dict[str, mx.array]] = {}
    for name, array in parameters:
        path, _, last = name.rpartition(".")
        if path not in ways or last not in ways[path].names:
            yield name, array
            continue
        parts = begun.setdefault(path, {})
        parts[last] = array
        if len(parts) == len(ways[path].names):
            arrays = [parts[n] for n in ways[path].names]
            del begun[path], parts, array
            yield f"{path}.weight", ways[path].unpacked(arrays, dtype)


def stored_parameters(folder: Path) -> Iterator[tuple[str, mx.array]]:
    """A folder's parameters, none of them read before it is evaluated."""
    for path, tensors in weight_files(folder).items():
        arrays = mx.load(str(path))
        for name in tensors:
            yield name, arrays.pop(name)
