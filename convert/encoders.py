"""Rules for public vision towers: CLIP in three layouts, SigLIP, InternViT in two.

What this file is: tables from a tower's tensor names to those of `encoder`. What it is
not: reading files (sources.py) or the rest of a model (connectors.py, decoders.py).
Every table takes the configuration, because blocks above the feature layer are left
out, and `prefix`, a pattern without capturing groups for what stands before the
tower's own names.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from mm15_mlx.config import ConfigError, VisionConfig
from mm15_mlx.convert.rules import Rule, Shape, Transform, conv_to_linear, keep

AFFINE = r"(weight|bias)"
_Q_K_V = tuple(rf"self_attn.{p}_proj.\2" for p in "qkv")

# What a checkpoint of CLIP or SigLIP has besides the vision tower. Only for those: in a
# model of Idefics3's kind `text_model` is the decoder.
CONTRASTIVE_HEADS = (
    Rule(r"text_model\..*|(?:text|visual)_projection\.weight", None),
    Rule(r"logit_(?:scale|bias)", None),
)
OPEN_CLIP_TEXT = (
    Rule(r"(?:text\.)?transformer\..*|(?:text\.)?ln_final\..*", None),
    Rule(r"(?:text\.)?token_embedding\.weight", None),
    Rule(r"(?:text\.)?(?:positional_embedding|text_projection|attn_mask)", None),
    Rule(r"logit_(?:scale|bias)", None),
)

Part = tuple[str, str | tuple[str, ...], Transform]  # within a block; groups from \2 on


def thirds(x: mx.array) -> tuple[mx.array, ...]:
    """Fused queries, keys and values, one below the other."""
    return tuple(mx.split(x, 3))


def row(x: mx.array) -> mx.array:
    """(1, …, D) → (D,)."""
    return x.reshape(-1)


def rows(x: mx.array) -> mx.array:
    """(1, N, D) → (N, D)."""
    return x.reshape(-1, x.shape[-1])


def clip(
    config: VisionConfig, prefix: str = r"(?:vision_model\.)?"
) -> tuple[Rule, ...]:
    """transformers' CLIP, SigLIP and Idefics3: the same names, some of them absent."""
    names = r"(layer_norm[12]|self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])\."
    return (
        *_embeddings(
            prefix + r"embeddings\.patch_embedding", prefix + r"pre_layrnorm"  # sic
        ),
        Rule(prefix + r"embeddings\.class_embedding", "encoder.class_embedding"),
        Rule(
            prefix + r"embeddings\.position_embedding\.weight",
            "encoder.position_embedding",
        ),
        Rule(prefix + r"embeddings\.position_ids", None),
        *_blocks(config, prefix + r"encoder\.layers", (
            (names + AFFINE, r"\2.\3", keep),
        )),
        _post_norm(config, prefix + "post_layernorm"),
        Rule(prefix + r"head\..*", None),  # SigLIP's pooling
    )  # fmt: skip


def open_clip(config: VisionConfig, prefix: str = r"visual\.") -> tuple[Rule, ...]:
    """open_clip's VisionTransformer, as Apple published DFN5B ViT-H/14."""
    return (
        *_embeddings(prefix + "conv1", prefix + "ln_pre"),
        Rule(prefix + "class_embedding", "encoder.class_embedding"),
        Rule(prefix + "positional_embedding", "encoder.position_embedding"),
        *_blocks(config, prefix + r"transformer\.resblocks", (
            (r"attn\.in_proj_" + AFFINE, _Q_K_V, thirds),
            (r"attn\.out_proj\." + AFFINE, r"self_attn.out_proj.\2", keep),
            (r"ln_([12])\." + AFFINE, r"layer_norm\2.\3", keep),
            (r"mlp\.c_fc\." + AFFINE, r"mlp.fc1.\2", keep),
            (r"mlp\.c_proj\." + AFFINE, r"mlp.fc2.\2", keep),
        )),
        _post_norm(config, prefix + "ln_post"),
        Rule(prefix + "proj", None),
    )  # fmt: skip


def timm(config: VisionConfig, prefix: str = "") -> tuple[Rule, ...]:
    """timm's VisionTransformer, as it repacks CLIP."""
    return (
        *_embeddings(prefix + r"patch_embed\.proj", prefix + "norm_pre"),
        Rule(prefix + "cls_token", "encoder.class_embedding", row),
        Rule(prefix + "pos_embed", "encoder.position_embedding", rows),
        *_blocks(config, prefix + "blocks", _FUSED),
        _post_norm(config, prefix + "norm"),
        Rule(prefix + r"(?:fc_norm|head|attn_pool)\..*", None),
    )


def internvit(
    config: VisionConfig, prefix: str = r"(?:vision_model\.)?"
) -> tuple[Rule, ...]:
    """InternViT-300M as OpenGVLab's own code names it."""
    return (
        *_embeddings(prefix + r"embeddings\.patch_embedding", None),
        Rule(prefix + r"embeddings\.class_embedding", "encoder.class_embedding", row),
        Rule(
            prefix + r"embeddings\.position_embedding",
            "encoder.position_embedding", rows,
        ),
        *_blocks(config, prefix + r"encoder\.layers", _FUSED),
    )  # fmt: skip


def internvl(
    config: VisionConfig, prefix: str = r"(?:model\.)?(?:vision_tower\.)?"
) -> tuple[Rule, ...]:
    """InternViT-300M as transformers names it."""
    return (
        *_embeddings(prefix + r"embeddings\.patch_embeddings\.projection", None),
        Rule(prefix + r"embeddings\.cls_token", "encoder.class_embedding", row),
        Rule(
            prefix + r"embeddings\.position_embeddings",
            "encoder.position_embedding", rows,
        ),
        *_blocks(config, prefix + r"encoder\.layer", (
            (r"attention\.([qkv])_proj\." + AFFINE, r"self_attn.\2_proj.\3", keep),
            (
                r"attention\.projection_layer\." + AFFINE,
                r"self_attn.out_proj.\2", keep,
            ),
            (r"layernorm_before\." + AFFINE, r"layer_norm1.\2", keep),
            (r"layernorm_after\." + AFFINE, r"layer_norm2.\2", keep),
            (r"(mlp\.fc[12])\." + AFFINE, r"\2.\3", keep),
            (r"lambda_([12])", r"ls\2.gamma", keep),
        )),
        # Made and not used, where the class token is not the answer.
        Rule(prefix + r"layernorm\..*", None),
    )  # fmt: skip


_FUSED: tuple[Part, ...] = (  # timm's names, and InternViT's
    (r"attn\.qkv\." + AFFINE, _Q_K_V, thirds),
    (r"attn\.proj\." + AFFINE, r"self_attn.out_proj.\2", keep),
    (r"norm([12])\." + AFFINE, r"layer_norm\2.\3", keep),
    (r"(mlp\.fc[12])\." + AFFINE, r"\2.\3", keep),
    (r"(ls[12])(?:\.gamma)?", r"\2.gamma", keep),
)


def _embeddings(patches: str, norm: str | None) -> tuple[Rule, ...]:
    convolution = (
        Rule(patches + r"\.weight", "encoder.patch_embedding.weight", conv_to_linear),
        Rule(patches + r"\.bias", "encoder.patch_embedding.bias"),
    )
    if norm is None:
        return convolution
    return *convolution, Rule(rf"{norm}\.{AFFINE}", r"encoder.pre_layernorm.\1")


def _blocks(
    config: VisionConfig, path: str, parts: tuple[Part, ...]
) -> tuple[Rule, ...]:
    """The blocks that are used; the others are left out on purpose."""
    layers = [str(i) for i in range(config.num_hidden_layers)]
    used = len(layers) + 1 + config.feature_layer
    rules = []
    for source, targets, transform in parts:
        single = isinstance(targets, str)
        full = tuple(
            rf"encoder.layers.\1.{t}" for t in ((targets,) if single else targets)
        )
        pattern = rf"{path}\.({'|'.join(layers[:used])})\.{source}"
        rules.append(Rule(pattern, full[0] if single else full, transform))
    if layers[used:]:
        rules.append(Rule(rf"{path}\.(?:{'|'.join(layers[used:])})\..*", None))
    return tuple(rules)


def _post_norm(config: VisionConfig, path: str) -> Rule:
    target = r"encoder.post_layernorm.\1" if config.post_norm else None
    return Rule(rf"{path}\.{AFFINE}", target)


_SIZES: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 224,
}  # fmt: skip
_SIGLIP: dict[str, Any] = {
    "class_token": False, "pre_norm": False, "patch_bias": True,
    "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
}  # fmt: skip
_IDEFICS3 = _SIZES | _SIGLIP | {
    "hidden_size": 1152, "num_attention_heads": 16, "patch_size": 32
}  # fmt: skip
_INTERNVIT: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "patch_size": 14, "image_size": 448,
    "hidden_act": "gelu", "layer_norm_eps": 1e-6, "patch_bias": True,
    "pre_norm": False, "layer_scale": True,
}  # fmt: skip
# By `model_type`: what a key means that a configuration lacks (the defaults of
# transformers' classes), and what the tower is that no key says.
_TOWERS: dict[str, dict[str, Any]] = {
    "clip_vision_model": _SIZES | {"patch_size": 32},
    "siglip_vision_model": _SIZES | _SIGLIP | {"patch_size": 16},
    "idefics3_vision": _IDEFICS3,
    "smolvlm_vision": _IDEFICS3,
    "internvl_vision": _INTERNVIT | {"qkv_bias": False},
    "intern_vit_6b": _INTERNVIT,  # of the 300M model too, in OpenGVLab's files
}
_KEYS = (
    "hidden_size intermediate_size num_hidden_layers num_attention_heads patch_size "
    "image_size hidden_act layer_norm_eps"
).split()
# InternViT-6B has these; the 300M model has not.
_FIXED: dict[str, Any] = {
    "use_qk_norm": False, "qk_normalization": False, "norm_type": "layer_norm",
    "use_absolute_position_embeddings": True, "num_channels": 3,
}  # fmt: skip


def vision_config(
    data: Mapping[str, Any], feature_layer: int = -1, post_norm: bool = False
) -> VisionConfig:
    """The tower of a transformers configuration, with CLIP's mean and deviation.

    Those of the pixels stand in another file. Raises ConfigError for what the encoder
    cannot express.
    """
    family = data.get("model_type")
    if family not in _TOWERS:
        names = ", ".join(_TOWERS)
        raise ConfigError(
            f"vision_config.model_type is {family!r}; towers that can be converted "
            f"are {names}"
        )
    for key, needed in _FIXED.items():
        if (value := data.get(key)) not in (None, needed):
            raise ConfigError(
                f"vision_config.{key} is {value!r}; this model can only have {needed!r}"
            )
    read = _TOWERS[family] | {k: _side(k, data[k]) for k in _KEYS if k in data}
    for key in ("attention_bias", "qkv_bias"):
        if key in data and family.startswith("intern"):
            read["qkv_bias"] = data[key]
    read["crop_to_patches"] = read["image_size"] % read["patch_size"] != 0
    read["layer_norm_eps"] = float(read.get("layer_norm_eps", 1e-5))
    return VisionConfig(**read, feature_layer=feature_layer, post_norm=post_norm)


def openai_clip(
    shapes: Mapping[str, Shape], prefix: str, feature_layer: int
) -> VisionConfig:
    """OpenAI's CLIP as its tensors' shapes have it, where no configuration does.

    `prefix` is what stands before the tower's own names. Activation and eps are the
    same in all of its sizes, and heads are 64 wide. Raises ConfigError for shapes that
    are no such tower's.
    """
    names = (
        "embeddings.position_embedding.weight", "embeddings.patch_embedding.weight",
        "encoder.layers.0.mlp.fc1.weight",
    )  # fmt: skip
    positions, patches, mlp = (shapes.get(prefix + name, ()) for name in names)
    layers = {
        match[1] for name in shapes
        if (match := re.match(re.escape(prefix) + r"encoder\.layers\.(\d+)\.", name))
    }  # fmt: skip
    grid = math.isqrt(positions[0] - 1) if positions and positions[0] > 1 else 0
    whole = len(positions) == 2 and grid**2 + 1 == positions[0]
    if not whole or len(patches) != 4 or len(mlp) != 2 or positions[1] % 64:
        raise ConfigError(
            f"the vision tower {prefix}* has shapes {positions}, {patches} and {mlp} "
            "of positions, patches and MLP, which are not those of OpenAI's CLIP"
        )
    return VisionConfig(
        hidden_size=positions[1], intermediate_size=mlp[0],
        num_hidden_layers=len(layers), num_attention_heads=positions[1] // 64,
        image_size=grid * patches[-1], patch_size=patches[-1],
        hidden_act="quick_gelu", layer_norm_eps=1e-5, feature_layer=feature_layer,
    )  # fmt: skip


def _side(key: str, value: Any) -> Any:
    """A size that is given as height and width, of which we have one."""
    if not isinstance(value, list | tuple):
        return value
    if len(set(value)) != 1:
        raise ConfigError(f"vision_config.{key} is {value}; it must be square")
    return value[0]
