"""Rules and helpers that carry PyTorch references into our parts.

The rules are the production engine's (mm15_mlx.convert.rules), so a comparison tests
names, shapes and layouts as well as numbers.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import torch
from mlx.utils import tree_flatten

from mm15_mlx.convert.rules import Rule, apply_rules, conv_to_linear
from mm15_mlx.convert.sources import open_source

SAME = r"\g<0>"


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    """Norms and biases start at 1 and 0, where mistakes hide: move them all."""
    for parameter in module.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def load(model: nn.Module, source: torch.nn.Module, rules: Iterable[Rule]) -> None:
    """Fill all of `model` from all of `source`."""
    tensors = {k: mx.array(v.numpy()) for k, v in source.state_dict().items()}
    expected = {n: a.shape for n, a in tree_flatten(model.parameters())}
    model.load_weights(list(apply_rules(tensors, rules, expected).items()))


def load_saved(
    folder: Path, source: Any, rules: Iterable[Rule], **parts: nn.Module | mx.array
) -> nn.Module:
    """Fill `parts` from the files that a transformers model saves, and nothing else.

    The files, not the model: their names are what users have, and differ from those
    in memory.
    """
    source.save_pretrained(folder)
    checkpoint = open_source(folder)
    tensors = {name: checkpoint.read(name) for name in checkpoint.placeholders()}
    return load_tensors(tensors, rules, **parts)


def load_tensors(
    tensors: dict[str, mx.array], rules: Iterable[Rule], **parts: nn.Module | mx.array
) -> nn.Module:
    """Fill all of `parts`, which the rules know by these names, from all `tensors`."""
    whole = nn.Module()
    for name, part in parts.items():
        setattr(whole, name, part)
    expected = {n: a.shape for n, a in tree_flatten(whole.parameters())}
    whole.load_weights(list(apply_rules(tensors, rules, expected).items()))
    return whole


def unused(feature_layer: int, layers: int) -> str:
    """Names of the layers above the feature layer, which our encoder does not build."""
    return rf"({'|'.join(str(i) for i in range(layers + 1 + feature_layer, layers))})"


def clip_rules(layers: int, feature_layer: int = -1) -> list[Rule]:
    """transformers' CLIPVisionModel."""
    rules = [
        Rule(r"embeddings\.class_embedding", "class_embedding"),
        Rule(
            r"embeddings\.patch_embedding\.weight", "patch_embedding.weight",
            conv_to_linear,
        ),
        Rule(r"embeddings\.position_embedding\.weight", "position_embedding"),
        Rule(r"embeddings\.position_ids", None),
        Rule(r"pre_layrnorm\.(.*)", r"pre_layernorm.\1"),  # their spelling
        Rule(r"post_layernorm\..*", None),
    ]  # fmt: skip
    if feature_layer == -1:
        return [*rules, Rule(r"encoder\.(layers\..*)", r"\1")]
    last = unused(feature_layer, layers)
    return [
        *rules,
        Rule(rf"encoder\.layers\.{last}\..*", None),
        Rule(rf"encoder\.(layers\.(?!{last}\.).*)", r"\1"),
    ]


def open_clip_rules() -> list[Rule]:
    """open_clip's VisionTransformer: fused q, k, v and its own names."""

    def thirds(x: mx.array) -> tuple[mx.array, ...]:
        return tuple(mx.split(x, 3))

    block, out = r"transformer\.resblocks\.(\d+)\.", r"layers.\1."
    q_k_v = [rf"{out}self_attn.{p}_proj" for p in "qkv"]
    return [
        Rule("class_embedding", SAME),
        Rule("positional_embedding", "position_embedding"),
        Rule(r"conv1\.weight", "patch_embedding.weight", conv_to_linear),
        Rule(r"ln_pre\.(.*)", r"pre_layernorm.\1"),
        Rule(r"ln_post\..*|proj", None),
        Rule(block + r"ln_([12])\.(.*)", out + r"layer_norm\2.\3"),
        *(
            Rule(
                block + f"attn.in_proj_{kind}",
                tuple(f"{n}.{kind}" for n in q_k_v),
                thirds,
            )
            for kind in ("weight", "bias")
        ),
        Rule(block + r"attn\.out_proj\.(.*)", out + r"self_attn.out_proj.\2"),
        Rule(block + r"mlp\.c_fc\.(.*)", out + r"mlp.fc1.\2"),
        Rule(block + r"mlp\.c_proj\.(.*)", out + r"mlp.fc2.\2"),
    ]


def decoder_rules(tied: bool) -> list[Rule]:
    """transformers' Llama, Qwen2, Mixtral, Qwen3-MoE; experts fuse gate and up."""

    def halves(x: mx.array) -> tuple[mx.array, ...]:
        return tuple(mx.split(x, 2, axis=1))

    experts, own = r"model\.(layers\.\d+\.mlp)\.experts\.", r"\1.switch_mlp."
    return [
        Rule(r"lm_head\.weight", None if tied else SAME),
        Rule(r"model\.((?!.*\.experts\.).*)", r"\1"),
        Rule(
            experts + "gate_up_proj",
            (own + "gate_proj.weight", own + "up_proj.weight"), halves,
        ),
        Rule(experts + "down_proj", own + "down_proj.weight"),
    ]  # fmt: skip
