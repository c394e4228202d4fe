"""The encoder against every tower whose files convert/encoders.py reads."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from mm15_mlx.config import VisionConfig
from mm15_mlx.convert import encoders
from mm15_mlx.convert.rules import Rule
from mm15_mlx.encoder import Encoder

from .conftest import Compare
from .references import load_saved, load_tensors, randomise

pytestmark = pytest.mark.parity

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3,
    "num_attention_heads": 4, "patch_size": 14, "image_size": 84,
}  # fmt: skip
SIGLIP: dict[str, Any] = {
    "class_token": False, "patch_bias": True, "pre_norm": False,
    "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
}  # fmt: skip
INTERNVIT: dict[str, Any] = {
    "patch_bias": True, "pre_norm": False, "layer_scale": True, "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
}  # fmt: skip


def views(side: int = 84) -> tuple[mx.array, torch.Tensor]:
    shape = (2, side, side, 3)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return mx.array(x), torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def agree(
    compare: Compare, what: str, encoder: Encoder, theirs: torch.Tensor, side: int = 84
) -> None:
    unit = max(1.0, float(theirs.abs().max()))
    ours = encoder(views(side)[0])
    compare(f"encoder: {what}", ours / unit, theirs / unit, 1e-5)


def check_config(folder: Path, config: VisionConfig, *section: str) -> None:
    """Our configuration is what the converter reads in the saved one."""
    data = json.loads((folder / "config.json").read_text())
    for key in section:
        data = data[key]
    read = encoders.vision_config(data, config.feature_layer, config.post_norm)
    assert read == config


def load_dict(
    encoder: Encoder, state: dict[str, torch.Tensor], rules: tuple[Rule, ...]
) -> None:
    tensors = {k: mx.array(v.numpy()) for k, v in state.items()}
    load_tensors(tensors, rules, encoder=encoder)


@pytest.mark.parametrize("layer", [-1, -2])
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_clip(compare: Compare, tmp_path: Path, act: str, layer: int) -> None:
    """CLIP with its text tower, as OpenAI's and Apple's repositories hold it."""
    from transformers import CLIPConfig, CLIPModel

    text = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 50,
    }  # fmt: skip
    model = CLIPModel(
        CLIPConfig(text_config=text, vision_config=SIZES | {"hidden_act": act})
    )
    encoder = Encoder(VisionConfig(**SIZES, hidden_act=act, feature_layer=layer))
    rules = encoders.clip(encoder.config) + encoders.CONTRASTIVE_HEADS
    load_saved(tmp_path, randomise(model), rules, encoder=encoder)
    check_config(tmp_path, encoder.config, "vision_config")
    theirs = model.vision_model(views()[1], output_hidden_states=True)
    agree(compare, "CLIPModel", encoder, theirs.hidden_states[layer][:, 1:])


@pytest.mark.parametrize("layer", [-1, -2])
def test_open_clip(compare: Compare, layer: int) -> None:
    from open_clip.model import CLIP

    vision = {
        "layers": 3, "width": 64, "head_width": 16, "mlp_ratio": 112 / 64,
        "patch_size": 14, "image_size": 84,
    }  # fmt: skip
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    model = randomise(CLIP(24, vision, text, quick_gelu=True))
    encoder = Encoder(VisionConfig(**SIZES, feature_layer=layer))
    rules = encoders.open_clip(encoder.config) + encoders.OPEN_CLIP_TEXT
    load_dict(encoder, model.state_dict(), rules)
    blocks: list[torch.Tensor] = []
    for block in model.visual.transformer.resblocks:
        block.register_forward_hook(lambda *call: blocks.append(call[2]))
    model.visual(views()[1])
    agree(compare, "open_clip's CLIP", encoder, blocks[layer][:, 1:])


def test_timm(compare: Compare) -> None:
    from timm.layers import get_act_layer
    from timm.models.vision_transformer import VisionTransformer

    model = randomise(VisionTransformer(
        img_size=84, patch_size=14, embed_dim=64, depth=3, num_heads=4,
        mlp_ratio=112 / 64, pre_norm=True, num_classes=24,
        norm_layer=torch.nn.LayerNorm, act_layer=get_act_layer("quick_gelu"),
    ))  # fmt: skip
    encoder = Encoder(VisionConfig(**SIZES))
    load_dict(encoder, model.state_dict(), encoders.timm(encoder.config))
    model.norm = torch.nn.Identity()
    theirs = model.forward_features(views()[1])[:, 1:]
    agree(compare, "timm's VisionTransformer", encoder, theirs)


@pytest.mark.parametrize("side", [84, 90])  # 90: 6 patches of 14 and a rest
@pytest.mark.parametrize(("layer", "post"), [(-1, True), (-1, False), (-2, False)])
def test_siglip(
    compare: Compare, tmp_path: Path, layer: int, post: bool, side: int
) -> None:
    """The last block with its norm is what Idefics3 sees, the others LLaVA's."""
    from transformers import SiglipConfig, SiglipModel

    text = {
        "hidden_size": 64, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 50,
    }  # fmt: skip
    sizes = SIZES | {"image_size": side}
    model = randomise(SiglipModel(SiglipConfig(text_config=text, vision_config=sizes)))
    encoder = Encoder(VisionConfig(
        **sizes, **SIGLIP, feature_layer=layer, post_norm=post,
        crop_to_patches=side == 90,
    ))  # fmt: skip
    rules = encoders.clip(encoder.config) + encoders.CONTRASTIVE_HEADS
    load_saved(tmp_path, model, rules, encoder=encoder)
    check_config(tmp_path, encoder.config, "vision_config")
    theirs = model.vision_model(views(side)[1], output_hidden_states=True)
    features = theirs.last_hidden_state if post else theirs.hidden_states[layer]
    agree(compare, "SiglipModel", encoder, features, side)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("original", [True, False])
def test_internvit(
    compare: Compare, tmp_path: Path, original: bool, bias: bool
) -> None:
    from transformers import InternVLVisionConfig, InternVLVisionModel

    sizes = SIZES | {"patch_size": [14, 14], "image_size": [84, 84]}
    model = randomise(InternVLVisionModel(
        InternVLVisionConfig(**sizes, attention_bias=bias)
    ))  # fmt: skip
    encoder = Encoder(VisionConfig(**SIZES, **INTERNVIT, qkv_bias=bias))
    if original:
        state = as_published(model.state_dict(), bias)
        load_dict(encoder, state, encoders.internvit(encoder.config))
    else:
        rules = encoders.internvl(encoder.config)
        load_saved(tmp_path, model, rules, encoder=encoder)
        check_config(tmp_path, encoder.config)
    theirs = model(views()[1]).last_hidden_state[:, 1:]
    agree(compare, "InternVLVisionModel", encoder, theirs)


def as_published(state: dict[str, torch.Tensor], bias: bool) -> dict[str, torch.Tensor]:
    """The names of OpenGVLab's files for transformers' tensors; q, k, v are one."""
    names = {
        "embeddings.cls_token": "embeddings.class_embedding",
        "embeddings.position_embeddings": "embeddings.position_embedding",
        "patch_embeddings.projection": "patch_embedding",
        "encoder.layer.": "encoder.layers.", "layernorm_before": "norm1",
        "layernorm_after": "norm2", "attention.projection_layer": "attn.proj",
        "lambda_": "ls",
    }  # fmt: skip
    made = {}
    for name, tensor in state.items():
        if "attention.q_proj" in name:
            parts = [state[name.replace("q_proj", f"{p}_proj")] for p in "qkv"]
            name, tensor = (
                name.replace("attention.q_proj", "attn.qkv"),
                torch.cat(parts),
            )
        elif "k_proj" in name or "v_proj" in name:
            continue
        for theirs, published in names.items():
            name = name.replace(theirs, published)
        made[f"vision_model.{name}"] = tensor
    assert any(name.endswith("qkv.bias") for name in made) == bias
    return made
