"""The whole model against convert/mm15_torch, through the production converter."""

import dataclasses
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch

from mm15_mlx.config import (
    PRESETS,
    ConnectorConfig,
    ModelConfig,
    TextConfig,
    TilingConfig,
    VisionConfig,
)
from mm15_mlx.convert.mm15 import convert_mm15
from mm15_mlx.convert.mm15_torch.model import MM15 as Reference
from mm15_mlx.weights import load_model

from .conftest import Compare
from .references import randomise

pytestmark = pytest.mark.parity

VISION = VisionConfig(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
    image_size=126,
)  # fmt: skip
TEXT = TextConfig(
    hidden_size=96, intermediate_size=160, num_hidden_layers=4, num_attention_heads=6,
    num_key_value_heads=2, head_dim=32, vocab_size=120, rope_theta=10_000.0,
)  # fmt: skip
BASE = ModelConfig(
    vision_config=VISION,
    connector_config=ConnectorConfig(num_visual_tokens=36, hidden_size=48, depth=2),
    text_config=TEXT,
    tiling=TilingConfig(tile_size=126),
)


def changed(part: str, **values: object) -> ModelConfig:
    held = dataclasses.replace(getattr(BASE, part), **values)
    return dataclasses.replace(BASE, **{part: held})


CONFIGS = {
    "dense": BASE,
    "interpolated": changed("tiling", tile_size=224),
    "experts": changed("text_config", num_experts=8, moe_intermediate_size=64),
    "untied with bias": changed(
        "text_config", attention_bias=True, tie_word_embeddings=False, qk_norm=False
    ),
    "second last layer": changed(
        "vision_config", feature_layer=-2, hidden_act="gelu", num_hidden_layers=3
    ),
    "same width": changed("connector_config", hidden_size=64, depth=3, mlp_depth=3),
    "avg_pool": changed("connector_config", type="avg_pool"),
    "mlp": changed("connector_config", type="mlp", num_visual_tokens=81),
    "nano-ui": PRESETS["nano-ui"],
}


@pytest.mark.parametrize("name", CONFIGS)
def test_whole_model(compare: Compare, tmp_path: Path, name: str) -> None:
    config = CONFIGS[name]
    reference = Reference(config).eval()
    if name != "nano-ui":  # its depth lets moved weights grow without bound
        randomise(reference)
    state = {k: v.numpy() for k, v in reference.state_dict().items()}
    convert_mm15(state, config, tmp_path / "model")
    model, _ = load_model(tmp_path / "model")

    side, tokens = config.tiling.tile_size, config.connector_config.num_visual_tokens
    rng = np.random.default_rng(0)
    pixels = rng.standard_normal((2, side, side, 3)).astype(np.float32)
    image, text = config.prompt.image_token_id, rng.integers(5, 119, 12).tolist()
    ids = [*text[:4], *[image] * tokens, *text[4:6], *[image] * tokens, *text[6:]]
    theirs_in = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())

    visual = reference.encode_image(theirs_in)
    unit = max(1.0, float(visual.abs().max()))
    ours = model.encode_image(mx.array(pixels)) / unit
    compare("visual tokens: mm15_torch", ours, visual / unit, 1e-4)

    logits = reference(torch.tensor([ids]), theirs_in, image)
    unit = max(1.0, float(logits.abs().max()))
    ours = model(mx.array([ids]), mx.array(pixels)) / unit
    compare("whole model: mm15_torch, converted", ours, logits / unit, 1e-4)
