"""DFN5B-CLIP's three layouts, saved by their own libraries, through `compose`.

Apple's two are CLIPModel of transformers and open_clip's, the latter a pickle; timm has
the tower alone. Features are those of the last block, before the norm.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from composing import llama_folder
from PIL import Image
from safetensors.torch import save_file

from mm15_mlx import generate, load
from mm15_mlx.convert.compose import compose, join

from .conftest import Compare
from .references import randomise
from .test_families_end_to_end import BOX, say_it

pytestmark = pytest.mark.parity

Cli = Callable[..., tuple[int, str, str]]
See = Callable[[torch.Tensor], torch.Tensor]  # (V, 3, S, S) → (V, N, D)
SIDE = 84
# timm's files do not say how many heads there are; those of a "huge" have 16.
WIDTH, DEPTH, HEADS, INNER = 64, 3, 16, 112
MEAN, STD = [0.48, 0.45, 0.4], [0.26, 0.25, 0.27]


def transformers_clip(folder: Path) -> See:
    from transformers import CLIPConfig, CLIPModel

    tower = {
        "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS, "patch_size": 14, "image_size": SIDE,
    }  # fmt: skip
    text = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 50,
    }  # fmt: skip
    model = randomise(CLIPModel(CLIPConfig(text_config=text, vision_config=tower)))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": MEAN, "image_std": STD})
    )

    def see(views: torch.Tensor) -> torch.Tensor:
        states = model.vision_model(views, output_hidden_states=True).hidden_states
        return states[-1][:, 1:]

    return see


def open_clip(folder: Path) -> See:
    from open_clip.model import CLIP

    vision = {
        "image_size": SIDE, "layers": DEPTH, "width": WIDTH,
        "head_width": WIDTH // HEADS, "patch_size": 14, "mlp_ratio": INNER / WIDTH,
    }  # fmt: skip
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    model = randomise(CLIP(24, vision, text, quick_gelu=True))
    folder.mkdir()
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    described = {
        "model_cfg": {
            "embed_dim": 24, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text
        },
        "preprocess_cfg": {"mean": MEAN, "std": STD, "resize_mode": "squash"},
    }  # fmt: skip
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    blocks: list[torch.Tensor] = []
    last = model.visual.transformer.resblocks[-1]
    last.register_forward_hook(lambda *call: blocks.append(call[2]))

    def see(views: torch.Tensor) -> torch.Tensor:
        model.visual(views)
        return blocks[-1][:, 1:]

    return see


def timm(folder: Path) -> See:
    from timm.layers import get_act_layer
    from timm.models.vision_transformer import VisionTransformer

    model = randomise(VisionTransformer(
        img_size=SIDE, patch_size=14, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS,
        mlp_ratio=INNER / WIDTH, pre_norm=True, num_classes=24,
        norm_layer=torch.nn.LayerNorm, act_layer=get_act_layer("quick_gelu"),
    ))  # fmt: skip
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
    described = {
        "architecture": "vit_huge_patch14_clip_quickgelu_378",
        "pretrained_cfg": {"tag": "dfn5b", "mean": MEAN, "std": STD},
    }
    (folder / "config.json").write_text(json.dumps(described))
    model.norm = torch.nn.Identity()
    return lambda views: model.forward_features(views)[:, 1:]


@pytest.mark.parametrize("layout", [transformers_clip, open_clip, timm])
def test_a_composed_model_sees_what_the_reference_sees(
    layout: Callable[[Path], See], tokenizer_model: bytes, tmp_path: Path,
    screen: Path, compare: Compare, cli: Cli, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    see = layout(tmp_path / "clip")
    llama_folder(tmp_path / "llama", tokenizer_model)
    parts = (str(tmp_path / "clip"), str(tmp_path / "llama"))
    joined = join(*parts, tile_size=SIDE)
    said: list[str] = []
    compose(*parts, tmp_path / "out", joined, say=said.append)
    model, processor = load(tmp_path / "out")
    vision = model.config.vision_config
    assert vision.hidden_act == "quick_gelu" and vision.num_attention_heads == HEADS
    assert [*vision.image_mean, *vision.image_std] == MEAN + STD
    noise = np.random.default_rng(0).integers(0, 256, (200, 120, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    views: mx.array = processor("What is on?", images=[picture])["pixel_values"]
    theirs = see(torch.from_numpy(np.array(views).transpose(0, 3, 1, 2).copy()))
    compare(f"compose, {layout.__name__}", model.encoder(views), theirs, 1e-5)

    answer = generate(model, processor, "What is on?", [picture], max_tokens=3)
    assert 1 <= len(answer.tokens) <= 3
    say_it(monkeypatch, processor, "[167, 750, 833, 900]")
    words: tuple[Any, ...] = ("--image", screen, "--query", "button", "--json")
    status, out, err = cli("ground", "--model", tmp_path / "out", *words)
    assert status == 0, err
    (box,) = json.loads(out)["boxes"]
    assert box["px"] == pytest.approx(BOX, abs=0.3)
