"""Which public model a folder holds, and what becomes of it here: configuration, rules.

What this file is: for every family one short function from the source's own JSON files
to a `Recipe`, of which most are in files of their own (idefics3.py, internvl.py,
llava.py, mm15.py). What it is not: the tables of tensor names (encoders.py,
connectors.py, decoders.py) or the writing (stream.py). Only JSON and the names and
shapes of tensors are looked at.
Nothing that a configuration names, such as `auto_map`, is ever imported or fetched.
"""

import re
from pathlib import Path
from typing import Any

from mm15_mlx.checkpoint import CONFIG, read_json
from mm15_mlx.config import (
    ConfigError,
    ConnectorConfig,
    CoordinateConfig,
    ModelConfig,
    TilingConfig,
)
from mm15_mlx.convert import connectors, encoders
from mm15_mlx.convert.decoders import DECODERS, text_config
from mm15_mlx.convert.idefics3 import idefics3
from mm15_mlx.convert.internvl import internvl, internvl_chat
from mm15_mlx.convert.llava import ferret_ui, llava, llava_original
from mm15_mlx.convert.mm15 import FAMILY, mm15
from mm15_mlx.convert.parts import OPEN_CLIP
from mm15_mlx.convert.recipes import (
    Json,
    Licence,
    Reader,
    Recipe,
    Shapes,
    check,
    decoder_rules,
    pixels,
    reading,
    tied,
)
from mm15_mlx.templates import TEMPLATES

# What is asked for often and has another architecture; mlx-vlm 0.7 runs all of these.
_ELSEWHERE = {
    "qwen2_vl": "Qwen2-VL", "qwen2_5_vl": "Qwen2.5-VL", "qwen3_vl": "Qwen3-VL",
    "qwen3_vl_moe": "Qwen3-VL with experts", "llava_qwen2": "FastVLM",
    "llava_onevision": "LLaVA-OneVision", "moondream1": "Moondream",
    "idefics2": "Idefics2", "paligemma": "PaliGemma", "mllama": "Llama 3.2 Vision",
    "gemma3": "Gemma 3", "gemma3n": "Gemma 3n", "mistral3": "Mistral Small 3",
    "florence2": "Florence-2", "openelm": "OpenELM", "pixtral": "Pixtral",
}  # fmt: skip
# Those that it does not run, and what does.
_BY_OTHERS = {
    "fast_vlm": ("FastVLM in transformers' layout", "transformers, or take Apple's own "
                 "layout (model_type 'llava_qwen2') and run it with mlx-vlm"),
    "llava_next_video": ("LLaVA-NeXT-Video", "transformers"),
    "llava_qwen": ("LLaVA-NeXT or LLaVA-OneVision with Qwen in LLaVA's own layout",
                   "its makers' own code, or take llava-hf's copy"),
    "granite_docling": ("Granite-Docling of 2026", "transformers"),
    "aimv2": ("AIMv2", "transformers"),
    "ferret": ("Ferret", "its makers' own code, github.com/apple/ml-ferret"),
}  # fmt: skip


def recognise(folder: Path, shapes: Shapes) -> Recipe:
    """The recipe for a checkpoint's folder, whose tensors have these shapes.

    The image token's id is left to the tokenizer.

    Raises ConfigError for a family, or a setting of one, that cannot be converted.
    """
    if not (folder / CONFIG).is_file() and (folder / OPEN_CLIP).is_file():
        raise _alone(folder, "encoder", "open_clip's")
    data = read_json(folder / CONFIG)
    kind = data.get("model_type")
    if kind is None and str(data.get("architecture")).startswith("vit_"):
        raise _alone(folder, "encoder", f"timm's {data['architecture']!r}")
    if kind in _ENCODERS:
        raise _alone(folder, "encoder", f"model_type {kind!r}")
    if isinstance(kind, str) and kind in DECODERS and kind not in FAMILIES:
        raise _alone(folder, "decoder", f"model_type {kind!r}")
    if not isinstance(kind, str):
        raise ConfigError(
            f"{folder / CONFIG} has model_type {kind!r}, not a family's name; give the "
            "folder as its makers published it"
        )
    other = _BY_OTHERS.get(kind.lower())
    if kind in _ELSEWHERE:
        other = (_ELSEWHERE[kind], "mlx-vlm")
    if other:
        raise ConfigError(
            f"{folder} holds {other[0]} (model_type {kind!r}), which is not of MM1.5's "
            f"architecture; run it with {other[1]}"
        )
    if kind not in FAMILIES:
        raise ConfigError(
            f"{folder / CONFIG} has model_type {kind!r}; families that can be "
            f"converted are {', '.join(sorted(FAMILIES))}; mlx-vlm runs many others"
        )
    with reading(folder / CONFIG):
        recipe = FAMILIES[kind](data, folder, shapes)
    _check_sizes(recipe.config, len(shapes))
    return recipe


# Encoders that `compose` takes, by their model_type in transformers.
_ENCODERS = ("clip", "clip_vision_model", "siglip", "siglip_vision_model")


def _alone(folder: Path, part: str, what: str) -> ConfigError:
    """`part` is encoder or decoder; `what` says by what it was recognised."""
    other = "decoder" if part == "encoder" else "encoder"
    return ConfigError(
        f"{folder} holds one part of a model, its {part} ({what}); join it with the "
        f"other: mm15-mlx compose --{part} {folder} --{other} …"
    )


def _check_sizes(config: ModelConfig, tensors: int) -> None:
    """What a hostile configuration must not make us build."""
    parts = (config.vision_config, config.text_config)
    layers = max(part.num_hidden_layers for part in parts)
    if max(layers, config.connector_config.depth) > tensors:
        raise ConfigError(
            f"the source's configuration asks for {layers} layers, and its files hold "
            f"{tensors} tensors; fetch both again"
        )


# --- families ---------------------------------------------------------------------


def honeybee(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """Honeybee with the C-Abstractor, of its first release or a later one."""
    projector = data.get("projector_config", data.get("visual_projector_config"))
    if not isinstance(projector, dict):
        raise ConfigError(
            f"{folder / CONFIG} has neither projector_config nor "
            "visual_projector_config; take the folder that holds the weights, …/last"
        )
    check(
        projector, "projector_type", None, "c-abs",
        "take a checkpoint named C-Abs, or run this one with Honeybee's own code, "
        "github.com/kakaobrain/honeybee",
    )  # fmt: skip
    check(projector, "pos_emb", True, True)
    check(projector, "prenorm", False, False)
    check(projector, "num_eos_tokens", 0, 0)
    seen = data.get("vision_config") or {}
    check(seen, "encoder_type", "openai.clip", "openai.clip")
    vision = encoders.openai_clip(
        shapes, _HONEYBEE_TOWER, projector.get("feature_layer_index", -1)
    )
    size = vision.image_size
    check(seen, "image_size", size, size, "positions are of that many patches")
    clip = {"image_mean": vision.image_mean, "image_std": vision.image_std}
    kept = {k: seen[k] for k in clip if k in seen}
    text = _vicuna(shapes) | dict(data.get("text_config") or {})
    queries = projector.get("num_query_tokens", data.get("num_query_tokens", 144))
    config = ModelConfig(
        vision_config=pixels(folder, vision, clip | kept),
        connector_config=ConnectorConfig(
            num_visual_tokens=queries, hidden_size=projector.get("hidden_size", 1024),
            depth=projector.get("depth", 3), mlp_depth=projector.get("mlp_depth", 2),
        ),
        text_config=text_config(text, tied(shapes)),
        tiling=TilingConfig(
            tile_size=size, policy="squash", overview="none", indicator="none", n_min=1
        ),
        prompt=TEMPLATES["honeybee"],
        coordinates=CoordinateConfig(
            decimals=3, range=1000, box="[{x1},{y1},{x2},{y2}]", point="[{x},{y}]"
        ),
    )  # fmt: skip
    rules = (
        *encoders.clip(vision, _HONEYBEE_TOWER.replace(".", r"\.")),
        *connectors.honeybee(),
        *decoder_rules(
            text, config, r"language_model\.model\.", r"language_model\.lm_head"
        ),
    )
    name = (data.get("lm_config") or {}).get("pretrained_lm_name_or_path")
    return Recipe(
        data["model_type"], config, rules,
        licence=Licence("cc-by-nc-4.0", "non-commercial"),
        tokenizer=str(name or "lmsys/vicuna-7b-v1.5"),
    )  # fmt: skip


_HONEYBEE_TOWER = "vision_model.vision_model."


def _vicuna(shapes: Shapes) -> dict[str, Any]:
    """Llama 2's configuration from shapes, for files that leave it out; its heads are
    128 wide with 7B and 13B."""
    vocabulary, width = _matrix(shapes, "embed_tokens.weight")
    inner, _ = _matrix(shapes, "layers.0.mlp.gate_proj.weight")
    pattern = r"language_model\.model\.layers\.(\d+)\.mlp\.gate_proj\.weight"
    layers = sum(re.fullmatch(pattern, name) is not None for name in shapes)
    return {
        "model_type": "llama", "vocab_size": vocabulary, "hidden_size": width,
        "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 128), "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096,
    }  # fmt: skip


def _matrix(shapes: Shapes, name: str) -> tuple[int, int]:
    shape = shapes.get(f"language_model.model.{name}", ())
    if len(shape) != 2:
        raise ConfigError(
            f"language_model.model.{name} has shape {shape}, not rows and columns; the "
            "file holds no Honeybee"
        )
    return shape[0], shape[1]


# By the `model_type` of config.json.
FAMILIES: dict[str, Reader] = {
    "idefics3": idefics3,
    "smolvlm": idefics3,
    "llava": llava,
    "llava_next": llava,
    "llava_llama": llava_original,
    "llava_mistral": llava_original,
    "ferret_llama": ferret_ui,
    "ferret_gemma": ferret_ui,
    FAMILY: mm15,
    "honeybee": honeybee,
    "mllm": honeybee,
    "internvl": internvl,
    "internvl_chat": internvl_chat,
}
