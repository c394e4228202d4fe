"""What the readers of families share: the recipe, and what every folder has.

What this file is: `Recipe`, which a family's reader makes of a source's JSON files and
of the names and shapes of its tensors, and the few steps that all readers take. What
it is not: any one family (families.py and the files beside it).
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm15_mlx.checkpoint import CARD, read_json
from mm15_mlx.config import ConfigError, ModelConfig, UserError, VisionConfig
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


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever a configuration's values make go wrong becomes a ConfigError of one
    line that names the file."""
    try:
        yield
    except UserError:
        raise
    except KeyError as error:
        raise ConfigError(f"{path} lacks the key {error}; fetch it again") from None
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as e:
        raise ConfigError(
            f"{path} has a value of the wrong kind ({e!s:.200}); fetch it again"
        ) from None


def optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def check(data: Json, key: str, absent: Any, needed: Any, why: str = "") -> None:
    """Raises ConfigError where `data[key]`, or what its absence means, is not as
    needed."""
    if (value := data.get(key, absent)) != needed:
        why = f": {why}" if why else ""
        raise ConfigError(f"{key} is {value!r}; only {needed!r} can be converted{why}")


def named(folder: Path, data: Json, word: str) -> bool:
    """Whether a source is called `word`, in any case.

    Names are those of the folder, of the repository in the hub's cache, the first
    heading and `model_name` of the card, and `_name_or_path` of `config.json`.
    """
    here = folder.absolute()
    cached = [p.name for p in here.parents if p.name.startswith("models--")]
    card = folder / CARD
    text = card.read_bytes()[:20_000].decode(errors="replace") if card.is_file() else ""
    lines = (re.search(rf"^{p}.*", text, re.MULTILINE) for p in ("# ", "model_name:"))
    titles = [line[0] for line in lines if line]
    names = [here.name, *cached, *titles, str(data.get("_name_or_path"))]
    return any(word.lower() in name.lower() for name in names)


PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"


def image_processor(folder: Path) -> dict[str, Any]:
    """What a source's files say of its pictures; nothing, where they are silent.

    transformers 5 saves it inside `processor_config.json`, and reads that first; older
    files and other layouts have it in a file of its own. Raises ConfigError.
    """
    nested = optional_json(folder / PROCESSOR).get("image_processor")
    if nested is None:
        return optional_json(folder / PREPROCESSOR)
    if not isinstance(nested, dict):
        raise ConfigError(
            f"{folder / PROCESSOR}: image_processor is {nested!r}; it must be an "
            "object: fetch the file again"
        )
    return nested


_FILTERS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # as PIL numbers them


def resampling(read: Json, usual: str) -> str:
    """The filter of an image processor, `usual` where it names none."""
    number = read.get("resample")
    if number is None:
        return usual
    if number not in _FILTERS:
        names = ", ".join(f"{k} ({v})" for k, v in _FILTERS.items())
        raise ConfigError(f"resample is {number!r}; pictures are scaled with {names}")
    return _FILTERS[number]


def check_side(read: Json, side: int) -> None:
    """Raises ConfigError where an image processor's views are not of `side` pixels."""
    key = "crop_size" if read.get("crop_size") else "size"
    size = read.get(key)
    sides = size.values() if isinstance(size, dict) else [size]
    if size is not None and any(s is not None and s != side for s in sides):
        raise ConfigError(
            f"{key} is {size!r}; the vision tower sees {side} pixels, and only views "
            "of that size can be converted"
        )


def pixels(folder: Path, vision: VisionConfig, defaults: Json) -> VisionConfig:
    """Mean and deviation as the image processor has them."""
    read = dict(defaults) | image_processor(folder)
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
