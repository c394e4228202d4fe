"""A picture's visual tokens against LLaVA-NeXT, Idefics3 and InternVL, as whole."""

import dataclasses
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from mm15_mlx.config import (
    ConnectorConfig,
    ModelConfig,
    TextConfig,
    TilingConfig,
    VisionConfig,
)
from mm15_mlx.convert import connectors, decoders, encoders
from mm15_mlx.convert.rules import Rule
from mm15_mlx.mm15 import MM15
from mm15_mlx.tiling import plan

from .conftest import Compare
from .references import load_saved, load_tensors, randomise
from .test_public_encoders import INTERNVIT, SIGLIP

pytestmark = pytest.mark.parity

VISION: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 3,
    "num_attention_heads": 4, "patch_size": 14, "image_size": 84,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
    "vocab_size": 101,
}  # fmt: skip
DECODER = TextConfig(
    **TEXT, qk_norm=False, rope_theta=1e4, rms_norm_eps=1e-6, tie_word_embeddings=False
)
IMAGE = 100


def config(
    vision: VisionConfig, connector: ConnectorConfig, tiling: TilingConfig
) -> ModelConfig:
    whole = ModelConfig(
        vision_config=vision, connector_config=connector, text_config=DECODER,
        tiling=tiling,
    )  # fmt: skip
    prompt = dataclasses.replace(whole.prompt, image_token_id=IMAGE)
    return dataclasses.replace(whole, prompt=prompt)


def loaded(
    folder: Path, reference: Any, whole: ModelConfig, rules: tuple[Rule, ...]
) -> MM15:
    """All of the reference in all of the model, through its own files."""
    model = MM15(whole)
    names = ("encoder", "connector", "decoder", "image_newline")
    parts = {name: model[name] for name in names if name in model}
    model.update(load_saved(folder, reference, rules, **parts).parameters())
    return model


def pixels(count: int) -> tuple[mx.array, torch.Tensor]:
    x = np.random.default_rng(0).standard_normal((count, 84, 84, 3)).astype(np.float32)
    return mx.array(x), torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def agree(
    compare: Compare, what: str, model: MM15, visual: mx.array, theirs: torch.Tensor,
    logits: Any,
) -> None:  # fmt: skip
    unit = max(1.0, float(theirs.abs().max()))
    compare(f"visual tokens: {what}", visual / unit, theirs / unit, 1e-5)
    ids = [7, 8, *[IMAGE] * visual.shape[0], 9, 10, 11]
    embedded = model.embed_inputs(mx.array([ids]), visual)
    ours = model(mx.array([ids]), input_embeddings=embedded)
    reference = logits(torch.tensor([ids]))
    unit = max(1.0, float(reference.abs().max()))
    compare(f"logits: {what}", ours / unit, reference / unit, 1e-5)


@pytest.mark.parametrize("size", [(168, 168), (150, 84), (100, 168), (40, 168)])
def test_llava_next(compare: Compare, tmp_path: Path, size: tuple[int, int]) -> None:
    """CLIP's last layer but one; tiles joined, unpadded, a newline after each row."""
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration

    grids = ((1, 2), (2, 1), (2, 2))
    reference = randomise(LlavaNextForConditionalGeneration(LlavaNextConfig(
        vision_config=VISION | {"model_type": "clip_vision_model"},
        text_config=TEXT | {"model_type": "llama"}, image_token_index=IMAGE,
        image_grid_pinpoints=[[r * 84, c * 84] for r, c in grids],
    )))  # fmt: skip
    whole = config(
        VisionConfig(**VISION, feature_layer=-2),
        ConnectorConfig(type="mlp", num_visual_tokens=36),
        TilingConfig(
            tile_size=84, policy="pinpoints", pinpoints=grids, overview="before",
            indicator="none", merge="spatial_unpad", pad_side="center",
        ),
    )  # fmt: skip
    rules = (
        *encoders.clip(
            whole.vision_config, r"(?:model\.)?vision_tower\.(?:vision_model\.)?"
        ),
        *connectors.llava(), *connectors.newline(),
        *decoders.llama(DECODER, r"(?:model\.)?language_model\.(?:model\.)?",
                        r"(?:language_model\.)?lm_head"),
    )  # fmt: skip
    model = loaded(tmp_path, reference, whole, rules)
    tiling = plan(*size, whole.tiling)
    ours_in, theirs_in = pixels(len(tiling.indices))
    sizes = torch.tensor([size[::-1]])
    theirs = reference.model.get_image_features(theirs_in[None], sizes).pooler_output[0]
    visual = model.pack(model.encode_image(ours_in), tiling.packing(6))

    def logits(ids: torch.Tensor) -> torch.Tensor:
        return reference(ids, pixel_values=theirs_in[None], image_sizes=sizes).logits

    agree(compare, "LlavaNextForConditionalGeneration", model, visual, theirs, logits)


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("family", ["Idefics3", "SmolVLM"])
def test_idefics3(compare: Compare, tmp_path: Path, family: str, factor: int) -> None:
    """SigLIP's last layer with its norm, shuffled."""
    import transformers

    settings = getattr(transformers, f"{family}Config")
    build = getattr(transformers, f"{family}ForConditionalGeneration")
    reference = randomise(build(settings(
        vision_config=VISION, text_config=TEXT | {"model_type": "llama"},
        scale_factor=factor, image_token_id=IMAGE, tie_word_embeddings=False,
    )))  # fmt: skip
    tokens = (6 // factor) ** 2
    whole = config(
        VisionConfig(**VISION, **SIGLIP, post_norm=True),
        ConnectorConfig(
            type="pixel_shuffle", num_visual_tokens=tokens, scale_factor=factor,
            mlp_depth=1, mlp_bias=False,
        ),
        TilingConfig(tile_size=84),
    )  # fmt: skip
    rules = (
        *encoders.clip(whole.vision_config, r"model\.vision_model\."),
        *connectors.idefics3(),
        *decoders.llama(DECODER, r"model\.text_model\."),
    )
    model = loaded(tmp_path, reference, whole, rules)
    ours_in, theirs_in = pixels(3)
    theirs = reference.model.get_image_features(theirs_in[None]).pooler_output
    visual = model.encode_image(ours_in).flatten(0, 1)

    def logits(ids: torch.Tensor) -> torch.Tensor:
        return reference(ids, pixel_values=theirs_in[None]).logits

    what = f"{family}ForConditionalGeneration"
    agree(compare, what, model, visual, torch.cat(list(theirs)), logits)


@pytest.mark.parametrize("original", [True, False])
def test_internvl(compare: Compare, tmp_path: Path, original: bool) -> None:
    """InternViT's last layer, shuffled, a norm and two Linears."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    vision = VISION | {
        "patch_size": [14, 14], "image_size": [84, 84], "attention_bias": True
    }  # fmt: skip
    reference = randomise(InternVLForConditionalGeneration(InternVLConfig(
        vision_config=vision, text_config=TEXT | {"model_type": "llama"},
        image_token_id=IMAGE, downsample_ratio=0.5, tie_word_embeddings=False,
    )))  # fmt: skip
    whole = config(
        VisionConfig(**VISION, **INTERNVIT),
        ConnectorConfig(
            type="pixel_shuffle", num_visual_tokens=9, scale_factor=2, pre_norm=True
        ),
        TilingConfig(tile_size=84),
    )
    rules = (
        *encoders.internvl(whole.vision_config, r"(?:model\.)?vision_tower\."),
        *connectors.internvl(),
        *decoders.llama(DECODER, r"(?:model\.)?language_model\.(?:model\.)?",
                        r"(?:language_model\.)?lm_head"),
    )  # fmt: skip
    model = loaded(tmp_path, reference, whole, rules)
    if original:  # the same projector under OpenGVLab's names
        theirs_names = ("layer_norm", "linear_1", "linear_2")
        names = dict(zip(theirs_names, ("mlp1.0", "mlp1.1", "mlp1.3"), strict=True))
        tensors = {}
        for name, tensor in reference.model.multi_modal_projector.state_dict().items():
            layer, _, kind = name.partition(".")
            tensors[f"{names[layer]}.{kind}"] = mx.array(tensor.numpy())
        load_tensors(tensors, connectors.internvl_original(), connector=model.connector)
    ours_in, theirs_in = pixels(3)
    theirs = reference.model.get_image_features(theirs_in).pooler_output.flatten(0, 1)
    visual = model.encode_image(ours_in).flatten(0, 1)

    def logits(ids: torch.Tensor) -> torch.Tensor:
        return reference(ids, pixel_values=theirs_in).logits

    agree(compare, "InternVLForConditionalGeneration", model, visual, theirs, logits)
