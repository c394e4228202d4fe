"""A tiny LLaVA in the layout of its own code, and the beginning of a Honeybee."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

TOWER = "model.vision_tower.vision_tower.vision_model."
WIDTH, SEEN, VOCABULARY = 32, 64, 1400  # of the decoder, the tower, the tokenizer

CONFIG: dict[str, Any] = {
    "model_type": "llava_llama", "hidden_size": WIDTH, "intermediate_size": 48,
    "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": VOCABULARY,
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "mm_hidden_size": SEEN,
    "mm_vision_tower": "openai/clip-vit-large-patch14-336",
    "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch", "image_aspect_ratio": "anyres",
    "image_grid_pinpoints": [[28, 56], [56, 28]],
    "mm_patch_merge_type": "spatial_unpad",
}  # fmt: skip


def shapes() -> dict[str, tuple[int, ...]]:
    """Views of 28 pixels, 2² patches; two blocks, of which one is used."""
    linears = {
        "model.mm_projector.0": (WIDTH, SEEN), "model.mm_projector.2": (WIDTH, WIDTH)
    }  # fmt: skip
    weights: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,),
        "model.embed_tokens.weight": (VOCABULARY, WIDTH),
        "model.image_newline": (WIDTH,),
        f"{TOWER}embeddings.class_embedding": (SEEN,),
        f"{TOWER}embeddings.patch_embedding.weight": (SEEN, 3, 14, 14),
        f"{TOWER}embeddings.position_embedding.weight": (5, SEEN),
    }  # fmt: skip
    layer = "model.layers.0."
    for name in ("input_layernorm", "post_attention_layernorm"):
        weights[f"{layer}{name}.weight"] = (WIDTH,)
    for name in "qkvo":
        weights[f"{layer}self_attn.{name}_proj.weight"] = (WIDTH, WIDTH)
    for name in ("gate", "up"):
        weights[f"{layer}mlp.{name}_proj.weight"] = (48, WIDTH)
    weights[f"{layer}mlp.down_proj.weight"] = (WIDTH, 48)
    for i in range(2):
        block = f"{TOWER}encoder.layers.{i}."
        linears |= {f"{block}self_attn.{n}_proj": (SEEN, SEEN) for n in "qkv"}
        linears[f"{block}self_attn.out_proj"] = (SEEN, SEEN)
        linears |= {f"{block}mlp.fc1": (96, SEEN), f"{block}mlp.fc2": (SEEN, 96)}
    norms = [f"{TOWER}{n}" for n in ("pre_layrnorm", "post_layernorm")]
    norms += [
        f"{TOWER}encoder.layers.{i}.layer_norm{k}" for i in (0, 1) for k in (1, 2)
    ]
    for name, shape in linears.items():
        weights |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        weights |= {f"{name}.weight": (SEEN,), f"{name}.bias": (SEEN,)}
    return weights


BEE_TOWER = "vision_model.vision_model."
HONEYBEE: dict[str, Any] = {
    "model_type": "mllm", "num_query_tokens": 4,
    "visual_projector_config": {"projector_type": "c-abs", "num_eos_tokens": 0},
}  # fmt: skip


def as_honeybee(held: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Its names for the tower and the decoder; the connector is not there."""
    return {
        name.replace(TOWER, BEE_TOWER)
        if name.startswith(TOWER) else f"language_model.{name}": shape
        for name, shape in held.items()
    }  # fmt: skip


def tensors() -> dict[str, mx.array]:
    mx.random.seed(0)
    return {name: 0.1 * mx.random.normal(shape) for name, shape in shapes().items()}


def write(
    folder: Path, config: dict[str, Any], arrays: dict[str, mx.array] | None = None
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    made = tensors() if arrays is None else arrays
    mx.save_safetensors(str(folder / "model.safetensors"), made, {"format": "pt"})
    return folder
