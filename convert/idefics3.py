"""Idefics3 and SmolVLM, with Agentic-GUI, ScreenVLM and Granite-Docling among them.

What this file is: from transformers' JSON files to a `Recipe`. What it is not: tables
of tensor names (encoders.py, connectors.py, decoders.py).
"""

import dataclasses
from pathlib import Path

from mm15_mlx.config import (
    ConnectorConfig,
    CoordinateConfig,
    ModelConfig,
    TilingConfig,
)
from mm15_mlx.convert import connectors, encoders
from mm15_mlx.convert.decoders import text_config
from mm15_mlx.convert.recipes import (
    ALL_PICTURES,
    Json,
    Recipe,
    Shapes,
    decoder_rules,
    image_processor,
    named,
    optional_json,
    pixels,
    resampling,
    tied,
)
from mm15_mlx.templates import AGENTIC_GROUND, TEMPLATES
from mm15_mlx.tokenizer import TOKENIZER_JSON


def idefics3(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """Idefics3 and SmolVLM, with SmolVLM2, Agentic-GUI and ScreenVLM among them."""
    kind = data["model_type"]
    tower = {"model_type": "smolvlm_vision"} | dict(data.get("vision_config", {}))
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    vision = encoders.vision_config(tower, post_norm=True)
    vision = pixels(folder, vision, half)
    read = image_processor(folder)
    tile = read.get("max_image_size", {}).get("longest_edge", vision.image_size)
    edge = read.get("size", {}).get("longest_edge", 4 * tile)
    split = read.get("do_image_splitting", True)
    scale = data.get("scale_factor", 2)
    side = tile // vision.patch_size // scale
    text = text_config(data["text_config"], tied(shapes))
    tokens = _added_tokens(folder)
    if "<|start_of_role|>" in tokens:
        template = _GRANITE
    elif kind == "smolvlm" or text.vocab_size < 100_000:
        template = TEMPLATES["smolvlm"]  # small models have the older model_type too
    else:
        template = TEMPLATES["idefics3"]
    # Nothing tells what a model of another name, without such tokens, was trained to
    # write.
    coordinates = CoordinateConfig()
    if "<loc_500>" in tokens:
        coordinates = _PLACES
        template = dataclasses.replace(template, widgets=_SCREEN)
    elif named(folder, data, "agentic-gui"):
        coordinates = _CLICKS
        template = dataclasses.replace(template, ground=AGENTIC_GROUND)
    config = ModelConfig(
        vision_config=vision,
        connector_config=ConnectorConfig(
            type="pixel_shuffle", scale_factor=scale, mlp_depth=1, mlp_bias=False,
            num_visual_tokens=side**2,
        ),
        text_config=text,
        tiling=TilingConfig(
            tile_size=tile, policy="longest_edge", longest_edge=edge,
            resample=resampling(read, "lanczos"), n_min=1,
            max_split_images=ALL_PICTURES if split else 0,
        ),
        prompt=template,
        coordinates=coordinates,
    )  # fmt: skip
    rules = (
        *encoders.clip(vision, r"(?:model\.)?vision_model\."),
        *connectors.idefics3(),
        *decoder_rules(
            data["text_config"], config, r"(?:model\.)?text_model\.", "lm_head"
        ),
    )
    return Recipe(kind, config, rules)


# ScreenVLM and Granite-Docling: numbers of 0…500 that are tokens of their own.
_PLACES = CoordinateConfig(
    range=500,
    box="<loc_{x1}><loc_{y1}><loc_{x2}><loc_{y2}>",
    point="<loc_{x}><loc_{y}>",
)
_SCREEN = "Generate the screen representation for this UI:"  # ScreenVLM's card
# SmolVLM2-…-Agentic-GUI answers with calls of functions, in fractions of the picture.
_CLICKS = CoordinateConfig(range=10_000, decimals=4, point="click({x}, {y})")
# Granite's chat, as Granite-Docling's own template has it.
_GRANITE = dataclasses.replace(
    TEMPLATES["smolvlm"], bos="",
    system_start="<|start_of_role|>system<|end_of_role|>",
    system_end="<|end_of_text|>\n",
    user_start="<|start_of_role|>user<|end_of_role|>", user_end="<|end_of_text|>\n",
    assistant_start="<|start_of_role|>assistant<|end_of_role|>",
    assistant_end="<|end_of_text|>\n", stop=("<|end_of_text|>",), gap="",
)  # fmt: skip


def _added_tokens(folder: Path) -> set[str]:
    added = optional_json(folder / TOKENIZER_JSON).get("added_tokens")
    return {str(t.get("content")) for t in added or () if isinstance(t, dict)}
