"""A vision encoder by itself and a decoder by itself: what `compose` joins.

What this file is: from the folder or file that the user named to a `Part`: tensors, and
the rules for them. What it is not: the tables (encoders.py, decoders.py, gguf.py) or
the joining (compose.py).
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from mm15_mlx.checkpoint import CONFIG, at_home, read_json
from mm15_mlx.config import ConfigError, TextConfig, UserError, VisionConfig
from mm15_mlx.convert import encoders
from mm15_mlx.convert.decoders import DECODERS, HEAD, PREFIX, text_config
from mm15_mlx.convert.gguf import Gguf, open_gguf
from mm15_mlx.convert.gguf_decoders import gguf_config, gguf_rules
from mm15_mlx.convert.recipes import image_processor, reading
from mm15_mlx.convert.rules import Rule
from mm15_mlx.convert.sources import Source, open_source
from mm15_mlx.load import find_source
from mm15_mlx.tokenizer import tokenizer_file

OPEN_CLIP = "open_clip_config.json"
GGUF = ".gguf"


@dataclass(frozen=True)
class Part:
    """Tensors that are renamed by `rules`; `held` is the checkpoint they are from."""

    held: Source | Gguf
    tensors: Mapping[str, mx.array]  # stand for shapes and types, never evaluated
    read: Callable[[str], mx.array]
    rules: tuple[Rule, ...]
    folder: Path  # of the configuration, the card and the tokenizer


def _part(held: Source | Gguf, rules: tuple[Rule, ...], folder: Path) -> Part:
    return Part(held, held.placeholders(), held.read, rules, folder)


def _found(name: str, revision: str | None) -> tuple[Path, Path]:
    """A file or folder that is named, and the folder of what belongs to it."""
    path = at_home(name)
    if path.is_file():
        return path, path.parent
    folder = find_source(name, revision)
    return folder, folder


# --- encoders -----------------------------------------------------------------------


def open_encoder(name: str, revision: str | None = None) -> tuple[VisionConfig, Part]:
    """A CLIP in the layout of transformers, open_clip or timm, or a SigLIP.

    Features are those of the last block, without the norm after it (not published: our
    choice). Raises UserError for what is no such encoder.
    """
    path, folder = _found(name, revision)
    held = open_source(path)
    names = held.tensors
    wrapped = any(n.startswith("visual.") for n in names)
    with reading(folder / (OPEN_CLIP if wrapped else CONFIG)):
        if wrapped:
            vision, rules = _open_clip(folder)
        elif "patch_embed.proj.weight" in names:
            vision, rules = _timm(folder, held)
        else:
            vision, rules = _transformers(folder)
    return vision, _part(held, rules, folder)


def _transformers(folder: Path) -> tuple[VisionConfig, tuple[Rule, ...]]:
    data = read_json(folder / CONFIG)
    kind = str(data.get("model_type"))
    if kind in ("clip", "siglip"):  # both towers; the text's is left out
        kind = f"{kind}_vision_model"
        data = {"model_type": kind} | dict(data.get("vision_config") or {})
    if kind not in ("clip_vision_model", "siglip_vision_model"):
        raise ConfigError(
            f"{folder / CONFIG} has model_type {kind!r}; encoders that can be taken "
            "are CLIP (of transformers, open_clip or timm) and SigLIP"
        )
    vision = encoders.vision_config(data)
    usual: dict[str, Any] = {}
    if kind.startswith("siglip"):
        usual = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    vision = _pixels(vision, usual | image_processor(folder), "")
    return vision, (*encoders.clip(vision), *encoders.CONTRASTIVE_HEADS)


def _open_clip(folder: Path) -> tuple[VisionConfig, tuple[Rule, ...]]:
    if not (folder / OPEN_CLIP).is_file():
        raise ConfigError(
            f"{folder} has tensors of open_clip and no {OPEN_CLIP}, which says how "
            "many heads they have; fetch that file from the same place"
        )
    data = read_json(folder / OPEN_CLIP)
    model = data.get("model_cfg") or {}
    tower = model.get("vision_cfg") or {}
    known = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}
    odd = {k for k, v in tower.items() if k not in known and v not in (None, False)}
    if odd or not known - {"head_width", "mlp_ratio"} <= set(tower):
        raise ConfigError(
            f"{folder / OPEN_CLIP}: vision_cfg has {sorted(tower)}; only a plain "
            f"ViT of {sorted(known)} can be taken"
        )
    width = tower["width"]
    vision = VisionConfig(
        hidden_size=width, intermediate_size=int(width * tower.get("mlp_ratio", 4.0)),
        num_hidden_layers=tower["layers"],
        num_attention_heads=width // tower.get("head_width", 64),
        patch_size=tower["patch_size"], image_size=tower["image_size"],
        hidden_act="quick_gelu" if model.get("quick_gelu") else "gelu",
    )  # fmt: skip
    vision = _pixels(vision, data.get("preprocess_cfg") or {}, "image_")
    return vision, (*encoders.open_clip(vision), *encoders.OPEN_CLIP_TEXT)


# No tensor says how many heads there are.
TIMM_HEADS = {
    "small": 6,
    "medium": 8,
    "base": 12,
    "large": 16,
    "huge": 16,
    "giant": 16,
}
_QUICK_GELU = ("openai", "dfn", "metaclip")  # timm's tags of weights trained with it


def _timm(folder: Path, held: Source) -> tuple[VisionConfig, tuple[Rule, ...]]:
    data = read_json(folder / CONFIG)
    name = str(data.get("architecture"))
    match = re.fullmatch(r"vit_([a-z]+)_patch\d+_clip_(?:quickgelu_)?\d+", name)
    if match is None or match[1] not in TIMM_HEADS:
        raise ConfigError(
            f"{folder / CONFIG} has the architecture {name!r}; of timm's, "
            f"vit_SIZE_patchN_clip_N can be taken, SIZE one of {', '.join(TIMM_HEADS)}"
        )
    shapes = {n: t.stored.shape for n, t in held.tensors.items()}
    try:
        width, _, patch, _ = shapes["patch_embed.proj.weight"]
        rows = shapes["pos_embed"][-2]
        wide = shapes["blocks.0.mlp.fc1.weight"][0]
    except (KeyError, ValueError, IndexError):
        raise ConfigError(
            f"{folder} lacks timm's tensors pos_embed and blocks.0.mlp.fc1.weight; "
            "fetch it again"
        ) from None
    layers = {m[1] for n in shapes if (m := re.match(r"blocks\.(\d+)\.", n))}
    read = data.get("pretrained_cfg") or {}
    quick = "quickgelu" in name or str(read.get("tag")).startswith(_QUICK_GELU)
    vision = VisionConfig(
        hidden_size=width, intermediate_size=wide, num_hidden_layers=len(layers),
        num_attention_heads=TIMM_HEADS[match[1]], patch_size=patch,
        image_size=patch * int((rows - 1) ** 0.5),
        hidden_act="quick_gelu" if quick else "gelu",
    )  # fmt: skip
    return _pixels(vision, read, "image_"), encoders.timm(vision)


def _pixels(vision: VisionConfig, data: Mapping[str, Any], added: str) -> VisionConfig:
    """With mean and deviation, CLIP's where there are none; `added` is what the names
    of their keys lack of `image_mean` and `image_std`."""
    read = {f"{added}{k}": v for k, v in data.items()}
    chosen = {k: read[k] for k in ("image_mean", "image_std") if read.get(k)}
    for key, value in chosen.items():
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise ConfigError(f"{key} is {value!r}; it must be of three channels")
    return dataclasses.replace(
        vision, **{k: tuple(map(float, v)) for k, v in chosen.items()}
    )


# --- decoders -----------------------------------------------------------------------


def open_decoder(
    name: str, revision: str | None = None, tokenizer: str | None = None
) -> tuple[TextConfig, Part, Path]:
    """A decoder as transformers saves it, or a GGUF file; and its tokenizer's file.

    `tokenizer` names a folder that has one; by default it lies beside the weights.
    """
    if name.endswith(GGUF):
        gguf = open_gguf(at_home(name))
        with reading(gguf.path):
            text = gguf_config(gguf)
        part = _part(gguf, gguf_rules(gguf, text), gguf.path.parent)
    else:
        path, folder = _found(name, revision)
        held = open_source(path)
        data = read_json(folder / CONFIG)
        tied = not any(n.endswith("lm_head.weight") for n in held.tensors)
        with reading(folder / CONFIG):
            text = text_config(data, tied)
            rules = DECODERS[data["model_type"]](text, PREFIX, HEAD)
        part = _part(held, rules, folder)
    home = find_source(tokenizer) if tokenizer else part.folder
    file = tokenizer_file(home)
    if not file.is_file():
        why = (
            " (the one inside a GGUF file is not built)" if name.endswith(GGUF) else ""
        )
        raise UserError(
            f"{home} has no tokenizer.json or tokenizer.model{why}; name the folder of "
            "the decoder's own with --tokenizer"
        )
    return text, part, file
