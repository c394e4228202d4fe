"""InternVL 2 to 3.5, as transformers and as its makers have it, and OS-Atlas-4B.

What this file is: from their JSON files to a `Recipe`. What it is not: tables of tensor
names (encoders.py, connectors.py, decoders.py).
"""

import dataclasses
from pathlib import Path

from mm15_mlx.config import (
    ConfigError,
    ConnectorConfig,
    CoordinateConfig,
    ModelConfig,
    TilingConfig,
    VisionConfig,
)
from mm15_mlx.convert import connectors, encoders
from mm15_mlx.convert.decoders import text_config
from mm15_mlx.convert.recipes import (
    ALL_PICTURES,
    Json,
    Recipe,
    Shapes,
    check,
    check_side,
    decoder_rules,
    image_processor,
    named,
    pixels,
    resampling,
    tied,
)
from mm15_mlx.convert.rules import Rule
from mm15_mlx.templates import OS_ATLAS_GROUND, TEMPLATES

OS_ATLAS = "os-atlas"
_OS_ATLAS_TILES = 6  # in its own code, whatever its configuration has


def internvl(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """InternVL 2.5 to 3.5 as transformers has them; the encoder is InternViT-300M."""
    check(data, "vision_feature_select_strategy", "default", "default")
    vision = _vision(data, folder, data.get("vision_feature_layer", -1))
    return _recipe(
        data, folder, shapes, vision, encoders.internvl(vision), connectors.internvl(),
        (
            r"(?:language_model\.model|model\.language_model)\.",
            r"(?:language_model\.)?lm_head",
        ),
    )  # fmt: skip


def internvl_chat(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """InternVL 2 to 3.5 and OS-Atlas-4B as OpenGVLab publishes them."""
    if data["llm_config"].get("model_type") == "internlm2":
        raise ConfigError(
            f"{folder} has the decoder InternLM2, whose tokenizer is code that is not "
            "run here; take a size of InternVL with Qwen or Phi-3, or run this one "
            "with its makers' own, github.com/OpenGVLab/InternVL"
        )
    check(
        data, "ps_version", "v1", "v2", "the other leaves rows and columns exchanged"
    )  # fmt: skip
    vision = _vision(data, folder, data.get("select_layer", -1))
    return _recipe(
        dict(data) | {"text_config": data["llm_config"]}, folder, shapes, vision,
        encoders.internvit(vision, r"vision_model\."),
        connectors.internvl_original(),
        (r"language_model\.model\.", r"language_model\.lm_head"),
    )  # fmt: skip


def _vision(data: Json, folder: Path, layer: int) -> VisionConfig:
    tower = data["vision_config"]
    for key, needed in (
        ("use_qk_norm", False), ("qk_normalization", False), ("norm_type", "layer_norm")
    ):  # fmt: skip
        if tower.get(key, needed) != needed:
            raise ConfigError(
                f"vision_config.{key} is {tower[key]!r}: the encoder is InternViT-6B, "
                "which is built otherwise; take a size of InternVL with "
                "InternViT-300M, or run this one with mlx-vlm"
            )
    vision = encoders.vision_config(tower, feature_layer=layer)
    return pixels(
        folder, vision,
        {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)},
    )  # fmt: skip


def _recipe(
    data: Json,
    folder: Path,
    shapes: Shapes,
    vision: VisionConfig,
    vision_rules: tuple[Rule, ...],
    connector_rules: tuple[Rule, ...],
    decoder: tuple[str, str],
) -> Recipe:
    read = image_processor(folder)
    check_side(read, vision.image_size)
    scale = round(1 / data.get("downsample_ratio", 0.5))
    side = vision.grid_size // scale
    text = data["text_config"]
    name = "phi3-chat" if text.get("model_type") == "phi3" else "internvl2_5"
    name = data.get("template", name)
    if name not in TEMPLATES:
        names = ", ".join(n for n, t in TEMPLATES.items() if "<IMG" in t.image_token)
        raise ConfigError(
            f"template is {name!r}; conversations that are known are {names}"
        )
    most = read.get("max_patches", data.get("max_dynamic_patch", 12))
    template = TEMPLATES[name]
    if named(folder, data, OS_ATLAS):
        most = min(most, _OS_ATLAS_TILES)
        template = dataclasses.replace(template, ground=OS_ATLAS_GROUND)
    config = ModelConfig(
        vision_config=vision,
        connector_config=ConnectorConfig(
            type="pixel_shuffle", scale_factor=scale, pre_norm=True,
            num_visual_tokens=side**2,
        ),
        text_config=text_config(text, tied(shapes)),
        tiling=TilingConfig(
            tile_size=vision.image_size, policy="aspect", indicator="none",
            n_min=read.get("min_patches", data.get("min_dynamic_patch", 1)),
            n_max=most, resample=resampling(read, "bicubic"),
            max_split_images=ALL_PICTURES,
        ),
        prompt=template,
        coordinates=_OS_ATLAS if name == "phi3-chat" else _BOXES,
    )  # fmt: skip
    rules = (*vision_rules, *connector_rules, *decoder_rules(text, config, *decoder))
    return Recipe(data["model_type"], config, rules)


_BOXES = CoordinateConfig(box="[[{x1}, {y1}, {x2}, {y2}]]")
# OS-Atlas-4B is InternVL2-4B, trained to write points too.
_OS_ATLAS = CoordinateConfig(box=_BOXES.box, point="({x},{y})")
