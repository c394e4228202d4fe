"""LLaVA and what was made of its code: LLaVA-1.5, LLaVA-NeXT and Ferret-UI.

What this file is: from a configuration, either as transformers has it (a section for
every part) or as the original code saves it (one flat dictionary with `mm_` keys), to
a `Recipe`. What it is not: tables of tensor names (encoders.py, connectors.py,
decoders.py).
"""

import dataclasses
import json
from pathlib import Path, PurePosixPath
from typing import Any

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
from mm15_mlx.convert.decoders import text_config
from mm15_mlx.convert.recipes import (
    ALL_PICTURES,
    Json,
    Licence,
    Recipe,
    Shapes,
    check,
    check_side,
    decoder_rules,
    image_processor,
    pixels,
    resampling,
    tied,
)
from mm15_mlx.convert.rules import Rule
from mm15_mlx.templates import TEMPLATES

TOWER = "model.vision_tower.vision_tower.vision_model."
# Heights and widths; the class default of transformers.
_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
# Neither vocabulary has a token for pictures; text never gives this one.
_RESERVED = "<|reserved_special_token_0|>"


def llava(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """LLaVA-1.5 and LLaVA-NeXT as transformers has them."""
    if "mm_projector_type" in data:  # the original code's first name for its files
        return llava_original(data, folder, shapes)
    following = data["model_type"] == "llava_next"
    text = data["text_config"]
    check(
        data, "vision_feature_select_strategy", "default", "default",
        "it drops the class token",
    )  # fmt: skip
    layer = data.get("vision_feature_layer", -2)
    vision = encoders.vision_config(data["vision_config"], feature_layer=layer)
    vision = _clip_pixels(folder, vision)
    size = vision.image_size
    read = image_processor(folder)
    if following:
        both = [f.get("image_grid_pinpoints") for f in (read, data)]
        grids = _grids(both[0] or both[1] or _PINPOINTS, size)
        tiling = _tiles(size, grids, "spatial_unpad", "center")
    else:
        tiling = _padded(vision)
    tiling = dataclasses.replace(tiling, resample=resampling(read, "bicubic"))
    config = ModelConfig(
        vision_config=vision,
        connector_config=ConnectorConfig(
            type="mlp", num_visual_tokens=vision.grid_size**2,
            hidden_act=data.get("projector_hidden_act", "gelu"),
            mlp_bias=data.get("multimodal_projector_bias", True),
        ),
        text_config=text_config(text, tied(shapes)),
        tiling=tiling,
        prompt=dataclasses.replace(_template(text), image_token="<image>"),
        coordinates=_fractions(tiling),
    )  # fmt: skip
    rules = (
        *encoders.clip(vision, r"(?:model\.)?vision_tower\.(?:vision_model\.)?"),
        *connectors.llava(),
        *(connectors.newline() if following else ()),
        *decoder_rules(
            text, config, r"(?:language_model\.model|model\.language_model)\.",
            r"(?:language_model\.)?lm_head",
        ),
    )  # fmt: skip
    return Recipe(data["model_type"], config, rules)


def llava_original(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """LLaVA-1.5 and LLaVA-NeXT as LLaVA's own code saves them."""
    decoder = "mistral" if data["model_type"] == "llava_mistral" else "llama"
    text = dict(data) | {"model_type": decoder}
    template = _template(text)
    if template.image_token == "<image>":
        template = dataclasses.replace(template, image_token=_RESERVED)
    tiles = _tiling(data, _tower(data, folder, shapes), "center")
    return _flat(data, text, folder, shapes, tiles, template, _fractions(tiles))


def ferret_ui(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """Ferret-UI with Gemma 2B or Llama 3 8B; free-form regions are left out."""
    gemma = data["model_type"] == "ferret_gemma"
    text = dict(data) | {"model_type": "gemma" if gemma else "llama"}
    template = TEMPLATES["ferret_gemma_instruct" if gemma else "ferret_llama_3"]
    check(data, "image_aspect_ratio", "square", "anyres")
    check(data, "mm_patch_merge_type", "flat", "spatial")
    # Not padded: every tile shows the picture in other proportions.
    tiles = _tiling(data, _tower(data, folder, shapes), "none")
    # transformers 4, which it was trained with, multiplied visual tokens too.
    hidden = text_config(text, True).embedding_scale
    recipe = _flat(
        data, text, folder, shapes, tiles, template, CoordinateConfig(), hidden
    )
    sampler = Rule(r"model\.region_geo_sampler\..*", None)
    return dataclasses.replace(
        recipe,
        rules=(*recipe.rules, sampler),
        notes=(
            "Ferret-UI is for research only, and its language model has terms of its "
            "own",
            "the sampler of free-form regions is left out; write regions as boxes",
        ),
        licence=Licence("research use only", "research-only"),
    )


def _flat(
    data: Json,
    text: Json,
    folder: Path,
    shapes: Shapes,
    tiling: TilingConfig,
    prompt: PromptConfig,
    coordinates: CoordinateConfig,
    scale: float = 1.0,
) -> Recipe:
    """A model of the original code; `scale` as `connectors.llava_original` has it."""
    check(data, "mm_projector_type", "linear", "mlp2x_gelu")
    check(data, "mm_use_im_start_end", False, False)
    vision = _tower(data, folder, shapes)
    config = ModelConfig(
        vision_config=vision,
        connector_config=ConnectorConfig(
            type="mlp", num_visual_tokens=vision.grid_size**2
        ),
        text_config=text_config(text, tied(shapes)),
        tiling=tiling, prompt=prompt, coordinates=coordinates,
    )  # fmt: skip
    newline = tiling.merge == "spatial_unpad_floor"
    rules = (
        *encoders.clip(vision, TOWER.replace(".", r"\.")),
        *connectors.llava_original(scale=scale),
        *(connectors.newline(r"model\.") if newline else ()),
        *decoder_rules(text, config, r"model\.", "lm_head"),
    )
    return Recipe(data["model_type"], config, rules)


def _tower(data: Json, folder: Path, shapes: Shapes) -> VisionConfig:
    """The CLIP that the file holds. Its name may be a path of its makers' machine."""
    name = str(data.get("mm_vision_tower", data.get("vision_tower")))
    if not PurePosixPath(name).name.startswith("clip-vit-"):
        raise ConfigError(
            f"mm_vision_tower is {name!r}; only OpenAI's CLIP, clip-vit-…, can be "
            "converted"
        )
    if TOWER + "embeddings.class_embedding" not in shapes:
        raise ConfigError(
            f"{folder} holds no weights of its vision tower {name}: they were frozen "
            "and left out; fetch a copy that has them, such as llava-hf's of LLaVA, or "
            "give that CLIP's folder or hub id with --vision-tower"
        )
    check(data, "mm_vision_select_feature", "patch", "patch")
    layer = data.get("mm_vision_select_layer", -1)
    return _clip_pixels(folder, encoders.openai_clip(shapes, TOWER, layer))


def _clip_pixels(folder: Path, vision: VisionConfig) -> VisionConfig:
    check_side(image_processor(folder), vision.image_size)
    clip = VisionConfig()
    return pixels(
        folder, vision, {"image_mean": clip.image_mean, "image_std": clip.image_std}
    )


def _tiling(data: Json, vision: VisionConfig, pad_side: str) -> TilingConfig:
    """`image_aspect_ratio`, and how the tiles' tokens are merged."""
    ratio = data.get("image_aspect_ratio", "square")
    if ratio == "pad":
        return _padded(vision)
    if ratio != "anyres":
        raise ConfigError(
            f"image_aspect_ratio is {ratio!r}; only 'pad' and 'anyres' can be converted"
        )
    merges = {
        "flat": "flat", "spatial": "spatial", "spatial_unpad": "spatial_unpad_floor"
    }  # fmt: skip
    merge = data.get("mm_patch_merge_type", "flat")
    if merge not in merges:
        names = ", ".join(map(repr, merges))
        raise ConfigError(
            f"mm_patch_merge_type is {merge!r}; only {names} can be converted"
        )
    sides = data.get("image_grid_pinpoints")
    if isinstance(sides, str):
        try:
            sides = json.loads(sides)
        except ValueError:
            sides = None
    # Widths before heights here.
    grids = tuple(g[::-1] for g in _grids(sides, vision.image_size))
    return _tiles(vision.image_size, grids, merges[merge], pad_side)


def _grids(sides: Any, tile: int) -> tuple[tuple[int, int], ...]:
    """Pairs of pixels as pairs of tiles."""
    pairs = sides if isinstance(sides, list) else []
    good = [
        (p[0] // tile, p[1] // tile)
        for p in pairs
        if isinstance(p, list) and len(p) == 2 and all(type(n) is int for n in p)
        and not any(n % tile or n < tile for n in p)
    ]  # fmt: skip
    if not good or len(good) != len(pairs):
        raise ConfigError(
            f"image_grid_pinpoints is {sides!r}; it must be a list of pairs, each of "
            f"them multiples of the view's side, {tile}"
        )
    return tuple(good)


def _tiles(
    size: int, grids: tuple[tuple[int, int], ...], merge: str, pad_side: str
) -> TilingConfig:
    return TilingConfig(
        tile_size=size, indicator="none", n_min=1, policy="pinpoints",
        pinpoints=grids, overview="before", merge=merge, pad_side=pad_side,
        max_split_images=ALL_PICTURES,
    )  # fmt: skip


def _padded(vision: VisionConfig) -> TilingConfig:
    """One view: the picture padded to a square with the mean colour."""
    red, green, blue = (int(255 * m) for m in vision.image_mean)
    return TilingConfig(
        tile_size=vision.image_size, indicator="none", n_min=1, policy="pad_square",
        pad_color=(red, green, blue), overview="none",
    )  # fmt: skip


def _template(text: Json) -> PromptConfig:
    """The chat of LLaVA with a decoder, which no key names.

    Its makers chose it by the decoder: Vicuna, Mistral, Nous-Hermes-2 on Yi (34B),
    Llama 3 (8B), Qwen 1.5 (72B, 110B).
    """
    kind, size = text["model_type"], text.get("vocab_size", 32_000)
    if kind == "mistral":
        return TEMPLATES["mistral_instruct"]
    if kind == "qwen2":
        return TEMPLATES["qwen_1_5"]
    if kind == "llama" and size > 100_000:
        return TEMPLATES["llava_llama_3"]
    if kind == "llama" and 64_000 <= size < 65_000:
        return TEMPLATES["chatml_direct"]
    if kind == "llama" and size < 33_000:
        return TEMPLATES["llava_v1"]
    raise ConfigError(
        f"the decoder is {kind!r} with a vocabulary of {size}; LLaVA's chats that are "
        "known are those with Vicuna (32000), Yi (64000), Llama 3 (128256), Mistral "
        "and Qwen2: run this one with mlx-vlm"
    )


def _fractions(tiling: TilingConfig) -> CoordinateConfig:
    square = tiling.policy == "pad_square"
    return CoordinateConfig(
        decimals=2, range=100, frame="square" if square else "picture"
    )
