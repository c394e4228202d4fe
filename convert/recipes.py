"""What the readers of families share: the recipe, and what every folder has.

What this file is: `Recipe`, which a family's reader makes of a source's JSON files and
of the names and shapes of its tensors, and the few steps that all readers take. What
it is not: any one family (families.py, llava.py).
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm15_mlx.checkpoint import read_json
from mm15_mlx.config import ConfigError, ModelConfig, VisionConfig
from mm15_mlx.convert.decoders import DECODERS
from mm15_mlx.convert.rules import Rule, Shape

Json = Mapping[str, Any]
Shapes = Mapping[str, Shape]  # of a source's tensors, by name
ALL_PICTURES = 64  # families that split every picture, however many there are


@dataclass(frozen=True)
class Licence:
    name: str  # as the source's card has it
    kind: str  # permissive | non-commercial | research-only | unknown


@dataclass(frozen=True)
class Recipe:
    """A source's family, its configuration here, and the rules for its tensors."""

    family: str
    config: ModelConfig
    rules: tuple[Rule, ...]
    notes: tuple[str, ...] = ()  # what the user must know, a line each
    licence: Licence | None = None  # of the whole family, for sources without a card
    tokenizer: str = ""  # where it comes from, if the family's weights lack it


Reader = Callable[[Json, Path, Shapes], Recipe]


def optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def check(data: Json, key: str, absent: Any, needed: Any, why: str = "") -> None:
    """Raises ConfigError where `data[key]`, or what its absence means, is not as
    needed."""
    if (value := data.get(key, absent)) != needed:
        why = f": {why}" if why else ""
        raise ConfigError(f"{key} is {value!r}; only {needed!r} can be converted{why}")


def pixels(folder: Path, vision: VisionConfig, defaults: Json) -> VisionConfig:
    """Mean and deviation as `preprocessor_config.json` has them."""
    read = dict(defaults) | optional_json(folder / "preprocessor_config.json")
    mean, std = (tuple(map(float, read[k])) for k in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3:
        raise ConfigError(
            f"{folder}: image_mean and image_std must be of three channels"
        )
    return dataclasses.replace(vision, image_mean=mean, image_std=std)


def decoder_rules(
    text: Json, config: ModelConfig, prefix: str, head: str
) -> tuple[Rule, ...]:
    return DECODERS[text["model_type"]](config.text_config, prefix, head)


def tied(names: Collection[str]) -> bool:
    """Whether no tensor is an output head."""
    return not any(name.endswith("lm_head.weight") for name in names)
