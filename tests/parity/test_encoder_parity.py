"""The encoder against transformers, open_clip and torch's interpolation."""

import copy
import gc
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mm15_mlx.config import PRESETS, VisionConfig
from mm15_mlx.encoder import Encoder, resize_table

from .conftest import Compare
from .references import clip_rules, load, open_clip_rules, randomise

pytestmark = pytest.mark.parity

SHAPES = {
    "wide patches": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3,
        "num_attention_heads": 4, "patch_size": 14, "image_size": 84,
    },
    "head dim 80": {
        "hidden_size": 160, "intermediate_size": 640, "num_hidden_layers": 2,
        "num_attention_heads": 2, "patch_size": 14, "image_size": 126,
    },
    "nano-ui": {
        "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6,
        "num_attention_heads": 4, "patch_size": 14, "image_size": 378,
    },
}  # fmt: skip


def views(count: int, side: int) -> np.ndarray:
    shape = (count, side, side, 3)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def torch_views(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


@pytest.mark.parametrize("size_in", [6, 24, 27])
@pytest.mark.parametrize("size_out", [12, 16, 27, 48])
def test_interpolated_positions(compare: Compare, size_in: int, size_out: int) -> None:
    table = torch.randn(size_in**2, 20)
    # In float64: torch's own float32 weights are off by up to 6e-6.
    square = table.double().T.reshape(1, 20, size_in, size_in)
    theirs = F.interpolate(
        square, size=(size_out, size_out), mode="bicubic", antialias=True,
        align_corners=False,
    )  # fmt: skip
    ours = resize_table(mx.array(table.numpy()), size_out)
    what = "positions: torch bicubic, antialias"
    compare(what, ours, theirs[0].flatten(1).T.float(), 2e-6)


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("feature_layer", [-1, -2])
@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_clip(
    compare: Compare, shape: str, feature_layer: int, act: str
) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes: dict[str, Any] = SHAPES[shape] | {"hidden_act": act}
    reference = randomise(CLIPVisionModel(CLIPVisionConfig(**sizes)))
    encoder = Encoder(VisionConfig(**sizes, feature_layer=feature_layer))
    load(encoder, reference, clip_rules(sizes["num_hidden_layers"], feature_layer))
    x = views(2, sizes["image_size"])
    theirs = reference(torch_views(x), output_hidden_states=True)
    theirs = theirs.hidden_states[feature_layer][:, 1:]
    # Random weights let the features grow; the errors grow with them.
    unit = max(1.0, float(theirs.abs().max()))
    what = "encoder: transformers CLIPVisionModel"
    compare(what, encoder(mx.array(x)) / unit, theirs / unit, 1e-5)


@pytest.mark.parametrize("side", [84, 112, 168])
@pytest.mark.parametrize("shape", ["wide patches", "head dim 80"])
def test_open_clip_at_any_size(compare: Compare, shape: str, side: int) -> None:
    """Our table stays as it was trained; open_clip resizes its own for the size."""
    from open_clip.model import resize_pos_embed
    from open_clip.transformer import QuickGELU, VisionTransformer

    sizes: dict[str, Any] = SHAPES[shape]

    def tower(image_size: int) -> VisionTransformer:
        return VisionTransformer(
            image_size, sizes["patch_size"], sizes["hidden_size"],
            sizes["num_hidden_layers"], sizes["num_attention_heads"],
            sizes["intermediate_size"] / sizes["hidden_size"], act_layer=QuickGELU,
        )  # fmt: skip

    trained = randomise(tower(sizes["image_size"]))
    encoder = Encoder(VisionConfig(**sizes))
    load(encoder, trained, open_clip_rules())

    whole = torch.nn.Module()
    whole.visual = tower(side).eval()
    state = {f"visual.{k}": v for k, v in trained.state_dict().items()}
    resize_pos_embed(state, whole)
    whole.load_state_dict(state)
    kept: list[torch.Tensor] = []
    whole.visual.transformer.register_forward_hook(lambda *call: kept.append(call[2]))
    x = views(2, side)
    whole.visual(torch_views(x))
    theirs = kept[0][:, 1:]
    unit = max(1.0, float(theirs.abs().max()))
    what = "encoder: open_clip VisionTransformer, positions resized"
    compare(what, encoder(mx.array(x)) / unit, theirs / unit, 1e-5)


@pytest.mark.slow
def test_real_size(compare: Compare) -> None:
    """ViT-H/14 at 378 pixels, as every preset but nano-ui has it; random weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = PRESETS["3b"].vision_config
    sizes = {
        name: getattr(config, name)
        for name in (
            "hidden_size", "intermediate_size", "num_hidden_layers",
            "num_attention_heads", "patch_size", "image_size", "hidden_act",
            "layer_norm_eps",
        )
    }  # fmt: skip
    reference = CLIPVisionModel(CLIPVisionConfig(**sizes)).eval()
    x = views(1, config.image_size)
    theirs = reference(torch_views(x), output_hidden_states=True)
    theirs = copy.deepcopy(theirs.hidden_states[-1][:, 1:])
    encoder = Encoder(config)
    load(encoder, reference, clip_rules(config.num_hidden_layers))
    del reference
    gc.collect()
    ours = encoder(mx.array(x))
    assert ours.shape == (1, 729, 1280)
    compare("encoder: ViT-H/14 at 378 px, transformers", ours, theirs, 1e-4)
