"""Which public model a folder holds, and what becomes of it here: configuration, rules.

What this file is: for every family one short function from the source's own JSON files
to a `Recipe`; LLaVA's children have a file of their own (llava.py). What it is not: the
tables of tensor names (encoders.py, connectors.py, decoders.py) or the writing
(stream.py). Only JSON and the names and shapes of tensors are looked at.
Nothing that a configuration names, such as `auto_map`, is ever imported or fetched.
"""

import dataclasses
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
    UserError,
    VisionConfig,
)
from mm15_mlx.convert import connectors, encoders
from mm15_mlx.convert.decoders import DECODERS, text_config
from mm15_mlx.convert.llava import ferret_ui, llava, llava_original
from mm15_mlx.convert.mm15 import FAMILY, mm15
from mm15_mlx.convert.parts import OPEN_CLIP
from mm15_mlx.convert.recipes import (
    ALL_PICTURES,
    Json,
    Licence,
    Reader,
    Recipe,
    Shapes,
    check,
    decoder_rules,
    optional_json,
    pixels,
    tied,
)
from mm15_mlx.convert.rules import Rule
from mm15_mlx.templates import TEMPLATES
from mm15_mlx.tokenizer import TOKENIZER_JSON

# What is asked for often, has another architecture, and runs elsewhere.
_ELSEWHERE = {
    "qwen2_vl": "Qwen2-VL", "qwen2_5_vl": "Qwen2.5-VL", "qwen3_vl": "Qwen3-VL",
    "llava_qwen2": "FastVLM", "moondream1": "Moondream", "idefics2": "Idefics2",
    "granite_docling": "Granite-Docling of 2026", "paligemma": "PaliGemma",
    "mllama": "Llama 3.2 Vision", "gemma3": "Gemma 3", "aimv2": "AIMv2",
    "openelm": "OpenELM", "pixtral": "Pixtral",
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
    try:
        recipe = FAMILIES[kind](data, folder, shapes)
    except UserError:
        raise
    except KeyError as error:
        raise ConfigError(
            f"{folder / CONFIG} lacks the key {error}; fetch it again"
        ) from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ConfigError(
            f"{folder / CONFIG} has a value of the wrong kind ({error}); fetch it again"
        ) from None
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


_LARGEST = 1 << 24  # any one size; the largest vocabularies have 2¹⁸ tokens


def _check_sizes(config: ModelConfig, tensors: int) -> None:
    """What a hostile configuration must not make us build."""
    parts = (config.vision_config, config.connector_config, config.text_config)
    sizes = {k: v for part in parts for k, v in dataclasses.asdict(part).items()}
    layers = max(part.num_hidden_layers for part in (parts[0], parts[2]))
    wide = [k for k, v in sizes.items() if isinstance(v, int) and v > _LARGEST]
    if wide or max(layers, config.connector_config.depth) > tensors:
        what = f"a {wide[0]} of {sizes[wide[0]]}" if wide else f"{layers} layers"
        raise ConfigError(
            f"the source's configuration asks for {what}, and its files hold {tensors} "
            "tensors; fetch both again"
        )


# --- families ---------------------------------------------------------------------


def idefics3(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """Idefics3 and SmolVLM, with SmolVLM2, Agentic-GUI and ScreenVLM among them."""
    kind = data["model_type"]
    tower = {"model_type": "smolvlm_vision"} | dict(data.get("vision_config", {}))
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    vision = encoders.vision_config(tower, post_norm=True)
    vision = pixels(folder, vision, half)
    read = optional_json(folder / "preprocessor_config.json")
    tile = read.get("max_image_size", {}).get("longest_edge", vision.image_size)
    edge = read.get("size", {}).get("longest_edge", 4 * tile)
    scale = data.get("scale_factor", 2)
    side = tile // vision.patch_size // scale
    text = text_config(data["text_config"], tied(shapes))
    named = _added_tokens(folder)
    if "<|start_of_role|>" in named:
        template = _GRANITE
    elif kind == "smolvlm" or text.vocab_size < 100_000:
        template = TEMPLATES["smolvlm"]  # small models have the older model_type too
    else:
        template = TEMPLATES["idefics3"]
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
        # Nothing tells what a model without such tokens was trained to write.
        coordinates=_PLACES if "<loc_500>" in named else CoordinateConfig(),
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


def internvl(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """InternVL 2.5 to 3.5 as transformers has them; the encoder is InternViT-300M."""
    check(data, "vision_feature_select_strategy", "default", "default")
    vision = _internvl_vision(data, folder, data.get("vision_feature_layer", -1))
    return _internvl(
        data, shapes, vision, encoders.internvl(vision), connectors.internvl(),
        (
            r"(?:language_model\.model|model\.language_model)\.",
            r"(?:language_model\.)?lm_head",
        ),
    )  # fmt: skip


def internvl_chat(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """InternVL 2 to 3.5 and OS-Atlas-4B as OpenGVLab publishes them."""
    check(
        data, "ps_version", "v1", "v2", "the other leaves rows and columns exchanged"
    )  # fmt: skip
    vision = _internvl_vision(data, folder, data.get("select_layer", -1))
    return _internvl(
        dict(data) | {"text_config": data["llm_config"]}, shapes, vision,
        encoders.internvit(vision, r"vision_model\."),
        connectors.internvl_original(),
        (r"language_model\.model\.", r"language_model\.lm_head"),
    )  # fmt: skip


def _internvl_vision(data: Json, folder: Path, layer: int) -> VisionConfig:
    vision = encoders.vision_config(data["vision_config"], feature_layer=layer)
    return pixels(
        folder, vision,
        {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)},
    )  # fmt: skip


def _internvl(
    data: Json,
    shapes: Shapes,
    vision: VisionConfig,
    vision_rules: tuple[Rule, ...],
    connector_rules: tuple[Rule, ...],
    decoder: tuple[str, str],
) -> Recipe:
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
    template = TEMPLATES[name]
    config = ModelConfig(
        vision_config=vision,
        connector_config=ConnectorConfig(
            type="pixel_shuffle", scale_factor=scale, pre_norm=True,
            num_visual_tokens=side**2,
        ),
        text_config=text_config(text, tied(shapes)),
        tiling=TilingConfig(
            tile_size=vision.image_size, policy="aspect", indicator="none",
            n_min=data.get("min_dynamic_patch", 1),
            n_max=data.get("max_dynamic_patch", 12),
            max_split_images=ALL_PICTURES,
        ),
        prompt=template,
        coordinates=CoordinateConfig(box="[[{x1}, {y1}, {x2}, {y2}]]"),
    )  # fmt: skip
    rules = (*vision_rules, *connector_rules, *decoder_rules(text, config, *decoder))
    return Recipe(data["model_type"], config, rules)


def honeybee(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """Honeybee with the C-Abstractor, of its first release or a later one."""
    projector = data.get("projector_config", data.get("visual_projector_config"))
    if not isinstance(projector, dict):
        raise ConfigError(
            f"{folder / CONFIG} has neither projector_config nor "
            "visual_projector_config; take the folder that holds the weights, …/last"
        )
    check(projector, "projector_type", None, "c-abs")
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
