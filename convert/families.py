"""Which public model a folder holds, and what becomes of it here: configuration, rules.

What this file is: for every family one short function from the source's own JSON files
to a `Recipe`. What it is not: the tables of tensor names (encoders.py, connectors.py,
decoders.py) or the writing (stream.py). Only names of tensors and JSON are looked at.
Nothing that a configuration names, such as `auto_map`, is ever imported or fetched.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm15_mlx.checkpoint import CONFIG, read_json
from mm15_mlx.config import (
    ConfigError,
    ConnectorConfig,
    CoordinateConfig,
    ModelConfig,
    PromptConfig,
    TilingConfig,
    VisionConfig,
)
from mm15_mlx.convert import connectors, encoders
from mm15_mlx.convert.decoders import DECODERS, text_config
from mm15_mlx.convert.rules import Rule
from mm15_mlx.templates import TEMPLATES

Json = Mapping[str, Any]
ALL_PICTURES = 64  # families that split every picture, however many there are


@dataclass(frozen=True)
class Recipe:
    """A source's family, its configuration here, and the rules for its tensors."""

    family: str
    config: ModelConfig
    rules: tuple[Rule, ...]


# What is asked for often, has another architecture, and runs elsewhere.
_ELSEWHERE = {
    "qwen2_vl": "Qwen2-VL", "qwen2_5_vl": "Qwen2.5-VL", "qwen3_vl": "Qwen3-VL",
    "llava_qwen2": "FastVLM", "moondream1": "Moondream", "idefics2": "Idefics2",
    "granite_docling": "Granite-Docling of 2026", "paligemma": "PaliGemma",
    "mllama": "Llama 3.2 Vision", "gemma3": "Gemma 3", "aimv2": "AIMv2",
    "openelm": "OpenELM", "pixtral": "Pixtral",
}  # fmt: skip


def recognise(folder: Path, names: Collection[str]) -> Recipe:
    """The recipe for a checkpoint's folder, whose tensors have these names.

    The image token's id is left to the tokenizer.

    Raises ConfigError for a family, or a setting of one, that cannot be converted.
    """
    data = read_json(folder / CONFIG)
    kind = data.get("model_type")
    if kind in _ELSEWHERE:
        raise ConfigError(
            f"{folder} holds {_ELSEWHERE[kind]} (model_type {kind!r}), which is not of "
            "MM1.5's architecture; run it with mlx-vlm"
        )
    if kind not in FAMILIES:
        raise ConfigError(
            f"{folder / CONFIG} has model_type {kind!r}; families that can be "
            f"converted are {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[kind](data, folder, names)


# --- what several families share ------------------------------------------------------


def _optional(path: Path) -> Json:
    return read_json(path) if path.is_file() else {}


def _pixels(folder: Path, vision: VisionConfig, defaults: Json) -> VisionConfig:
    """Mean and deviation as `preprocessor_config.json` has them."""
    read = defaults | dict(_optional(folder / "preprocessor_config.json"))
    mean, std = (tuple(map(float, read[k])) for k in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3:
        raise ConfigError(
            f"{folder}: image_mean and image_std must be of three channels"
        )
    return dataclasses.replace(vision, image_mean=mean, image_std=std)


def _decoder_rules(
    data: Json, config: ModelConfig, prefix: str, head: str
) -> tuple[Rule, ...]:
    return DECODERS[data["text_config"]["model_type"]](config.text_config, prefix, head)


def _tied(names: Collection[str]) -> bool:
    """Whether no tensor is an output head."""
    return not any(name.endswith("lm_head.weight") for name in names)


# --- families ---------------------------------------------------------------------


def idefics3(data: Json, folder: Path, names: Collection[str]) -> Recipe:
    """Idefics3 and SmolVLM, with SmolVLM2, Agentic-GUI and ScreenVLM among them."""
    kind = data["model_type"]
    tower = {"model_type": "smolvlm_vision"} | dict(data.get("vision_config", {}))
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    vision = encoders.vision_config(tower, post_norm=True)
    vision = _pixels(folder, vision, half)
    read = _optional(folder / "preprocessor_config.json")
    tile = read.get("max_image_size", {}).get("longest_edge", vision.image_size)
    edge = read.get("size", {}).get("longest_edge", 4 * tile)
    scale = data.get("scale_factor", 2)
    side = tile // vision.patch_size // scale
    template = TEMPLATES["smolvlm" if kind == "smolvlm" else "idefics3"]
    text = text_config(data["text_config"], _tied(names))
    if "<|im_start|>" not in template.bos and text.vocab_size < 100_000:
        template = TEMPLATES["smolvlm"]  # small models under the older name
    config = ModelConfig(
        vision_config=vision,
        connector_config=ConnectorConfig(
            type="pixel_shuffle", scale_factor=scale, mlp_depth=1, mlp_bias=False,
            num_visual_tokens=side**2,
        ),
        text_config=text,
        tiling=TilingConfig(
            tile_size=tile, policy="longest_edge", longest_edge=edge,
            resample="lanczos", max_split_images=ALL_PICTURES, n_min=1,
        ),
        prompt=template,
    )  # fmt: skip
    rules = (
        *encoders.clip(vision, r"(?:model\.)?vision_model\."),
        *connectors.idefics3(),
        *_decoder_rules(data, config, r"(?:model\.)?text_model\.", r"lm_head"),
    )
    return Recipe(kind, config, rules)


def _llava_template(text: Json) -> PromptConfig:
    if text["model_type"] == "mistral":
        return TEMPLATES["mistral_instruct"]
    if text.get("vocab_size", 32000) > 100_000:
        return TEMPLATES["llava_llama_3"]
    return TEMPLATES["llava_v1"]


def _llava_vision(data: Json, folder: Path) -> VisionConfig:
    layer = data.get("vision_feature_layer", -2)
    if data.get("vision_feature_select_strategy", "default") != "default":
        raise ConfigError(
            "vision_feature_select_strategy is "
            f"{data['vision_feature_select_strategy']!r}; only 'default', which drops "
            "the class token, can be converted"
        )
    vision = encoders.vision_config(data["vision_config"], feature_layer=layer)
    clip = VisionConfig()
    return _pixels(
        folder, vision, {"image_mean": clip.image_mean, "image_std": clip.image_std}
    )


def llava(data: Json, folder: Path, names: Collection[str]) -> Recipe:
    """LLaVA-1.5 and LLaVA-NeXT as transformers has them."""
    following = data["model_type"] == "llava_next"
    vision = _llava_vision(data, folder)
    size = vision.image_size
    common: dict[str, Any] = {"tile_size": size, "indicator": "none", "n_min": 1}
    if following:
        grids = tuple(
            (h // size, w // size)
            for h, w in data.get("image_grid_pinpoints") or _NEXT_PINPOINTS
        )
        tiling = TilingConfig(
            **common, policy="pinpoints", pinpoints=grids, overview="before",
            merge="spatial_unpad", pad_side="center", max_split_images=ALL_PICTURES,
        )  # fmt: skip
    else:
        mean = tuple(int(255 * m) for m in vision.image_mean)
        tiling = TilingConfig(
            **common, policy="pad_square", pad_color=mean, overview="none",
        )  # fmt: skip
    template = _llava_template(data["text_config"])
    config = ModelConfig(
        vision_config=vision,
        connector_config=ConnectorConfig(
            type="mlp", num_visual_tokens=vision.grid_size**2,
            hidden_act=data.get("projector_hidden_act", "gelu"),
            mlp_bias=data.get("multimodal_projector_bias", True),
        ),
        text_config=text_config(data["text_config"], _tied(names)),
        tiling=tiling,
        prompt=dataclasses.replace(template, image_token="<image>"),
        coordinates=CoordinateConfig(
            decimals=2, range=100, frame="picture" if following else "square"
        ),
    )  # fmt: skip
    rules = (
        *encoders.clip(vision, r"(?:model\.)?vision_tower\.(?:vision_model\.)?"),
        *connectors.llava(),
        *(connectors.newline() if following else ()),
        *_decoder_rules(
            data, config, r"(?:language_model\.model|model\.language_model)\.",
            r"(?:language_model\.)?lm_head",
        ),
    )  # fmt: skip
    return Recipe(data["model_type"], config, rules)


_NEXT_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


def internvl(data: Json, folder: Path, names: Collection[str]) -> Recipe:
    """InternVL 2.5 to 3.5 as transformers has them; the encoder is InternViT-300M."""
    return _internvl(
        data, folder, names, data,
        encoders.internvl(_internvl_vision(data, folder)),
        connectors.internvl(),
        (
            r"(?:language_model\.model|model\.language_model)\.",
            r"(?:language_model\.)?lm_head",
        ),
    )  # fmt: skip


def internvl_chat(data: Json, folder: Path, names: Collection[str]) -> Recipe:
    """InternVL 2 to 3.5 and OS-Atlas-4B as OpenGVLab publishes them."""
    if data.get("ps_version", "v2") != "v2":
        raise ConfigError(
            f"ps_version is {data['ps_version']!r}; only 'v2' can be converted: v1 "
            "leaves rows and columns exchanged"
        )
    data = dict(data) | {"text_config": data["llm_config"]}
    return _internvl(
        data, folder, names, data,
        encoders.internvit(_internvl_vision(data, folder), r"vision_model\."),
        connectors.internvl_original(),
        (r"language_model\.model\.", r"language_model\.lm_head"),
    )  # fmt: skip


def _internvl_vision(data: Json, folder: Path) -> VisionConfig:
    vision = encoders.vision_config(data["vision_config"])
    return _pixels(
        folder, vision,
        {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)},
    )  # fmt: skip


def _internvl(
    data: Json,
    folder: Path,
    names: Collection[str],
    tiles: Json,
    vision_rules: tuple[Rule, ...],
    connector_rules: tuple[Rule, ...],
    decoder: tuple[str, str],
) -> Recipe:
    vision = _internvl_vision(data, folder)
    scale = round(1 / data.get("downsample_ratio", 0.5))
    side = vision.grid_size // scale
    text = data["text_config"]
    name = "phi3-chat" if text["model_type"] == "phi3" else "internvl2_5"
    name = tiles.get("template", name)
    if name not in TEMPLATES:
        raise ConfigError(f"template is {name!r}; its conversation is not known here")
    template = TEMPLATES[name]
    config = ModelConfig(
        vision_config=vision,
        connector_config=ConnectorConfig(
            type="pixel_shuffle", scale_factor=scale, pre_norm=True,
            num_visual_tokens=side**2,
        ),
        text_config=text_config(text, _tied(names)),
        tiling=TilingConfig(
            tile_size=vision.image_size, policy="aspect", indicator="none",
            n_min=tiles.get("min_dynamic_patch", 1),
            n_max=tiles.get("max_dynamic_patch", 12),
            max_split_images=ALL_PICTURES,
        ),
        prompt=template,
        coordinates=CoordinateConfig(box="[[{x1}, {y1}, {x2}, {y2}]]"),
    )  # fmt: skip
    rules = (
        *vision_rules, *connector_rules, *_decoder_rules(data, config, *decoder)
    )  # fmt: skip
    return Recipe(data["model_type"], config, rules)


Reader = Callable[[Json, Path, Collection[str]], Recipe]
# By the `model_type` of config.json.
FAMILIES: dict[str, Reader] = {
    "idefics3": idefics3,
    "smolvlm": idefics3,
    "llava": llava,
    "llava_next": llava,
    "internvl": internvl,
    "internvl_chat": internvl_chat,
}
