"""Families in the layouts of their own code, through `convert` to answers.

The references are made of transformers' and timm's pieces, joined here as each
family's own code joins them; their tensors are renamed into its layout and saved.
Logits in float32, to 1e-5 absolute.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from mm15_mlx import generate, load
from mm15_mlx.convert import run
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.tiling import Tiling

from .conftest import Compare
from .references import randomise
from .test_connector_parity import Honeybee
from .test_families import SIZES, TEXT, VISION, nchw, text_of
from .test_prompt_parity import trained

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

Tensors = dict[str, torch.Tensor]
# OpenAI's CLIP has heads of 64.
CLIP = VISION | {"hidden_size": 128, "num_attention_heads": 2}
SPECIAL = (
    "<unk> <s> </s> <pad> <bos> <eos> <start_of_turn> <end_of_turn> <|begin_of_text|> "
    "<|start_header_id|> <|end_header_id|> <|eot_id|> <|end_of_text|> <|end|> <img> "
    "<|reserved_special_token_0|> <|system|> <|user|> <|assistant|> <|endoftext|> "
    "</img> <IMG_CONTEXT> <|im_start|> <|im_end|>"
).split()
DECODERS = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
    "gemma": "GemmaForCausalLM",
}  # fmt: skip


class Reference(nn.Module):
    """A tower, a connector and a decoder, which every family has."""

    def __init__(self, decoder: str, connector: nn.Module, **clip: Any) -> None:
        super().__init__()
        self.tower = transformers.CLIPVisionModel(
            transformers.CLIPVisionConfig(**(CLIP | clip))
        )
        self.connector = connector
        text = text_of(decoder)
        if decoder == "gemma":
            text |= {"hidden_act": "gelu_pytorch_tanh"}
        kind = getattr(transformers, DECODERS[decoder])
        self.decoder = kind(kind.config_class(**text, tie_word_embeddings=False))
        self.newline = nn.Parameter(torch.randn(TEXT["hidden_size"]))

    def visual(self, views: torch.Tensor, layer: int) -> torch.Tensor:
        """(V, Q, D), of the tower's `layer`, without its class token."""
        states = self.tower(views, output_hidden_states=True).hidden_states
        return self.connector(states[layer][:, 1:])

    def logits(
        self, ids: torch.Tensor, visual: torch.Tensor, image: int, scale: float = 1.0
    ) -> torch.Tensor:
        """`scale` multiplies everything, as transformers 4 did with Gemma."""
        embedded = nn.functional.embedding(ids, self.decoder.model.embed_tokens.weight)
        embedded[ids == image] = visual
        return self.decoder(inputs_embeds=embedded * scale).logits

    def renamed(self, tower: str, connector: str, decoder: str) -> Tensors:
        parts = (
            (self.tower, tower),
            (self.connector, connector),
            (self.decoder, decoder),
        )
        return {
            prefix + name.removeprefix("vision_model."): tensor.clone().contiguous()
            for part, prefix in parts for name, tensor in part.state_dict().items()
        }  # fmt: skip


def mlp(width: int) -> nn.Module:
    text = TEXT["hidden_size"]
    return nn.Sequential(nn.Linear(width, text), nn.GELU(), nn.Linear(text, text))


def packed(
    features: torch.Tensor, tiling: Tiling, size: tuple[int, int],
    newline: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """LLaVA's merge of an overview and tiles (V, N, D) → (M, D): `spatial`, or, with a
    newline, `spatial_unpad` with the rounding of LLaVA's own code."""
    base, tiles = features[0], features[1:]
    (rows, columns), side = tiling.grid, round(features.shape[1] ** 0.5)
    whole = tiles.view(rows, columns, side, side, -1).permute(4, 0, 2, 1, 3)
    whole = whole.flatten(1, 2).flatten(2, 3)  # (D, rows · side, columns · side)
    if newline is not None:
        (width, height), (_, high, wide) = size, whole.shape
        if width / height > wide / high:
            pad = (high - int(height * (wide / width))) // 2
            whole = whole[:, pad : high - pad]
        else:
            pad = (wide - int(width * (high / height))) // 2
            whole = whole[:, :, pad : wide - pad]
        column = newline[:, None, None].expand(-1, whole.shape[1], 1)
        whole = torch.cat((whole, column), dim=2)
    return torch.cat((base, whole.flatten(1).T))


def written(
    folder: Path, config: dict[str, Any], tensors: Tensors, as_bin: bool = False
) -> Path:
    folder.mkdir()
    trained(SPECIAL).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config))
    if as_bin:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def converted(source: Path, folder: Path) -> tuple[list[str], MM15, Processor]:
    said: list[str] = []
    run.convert(source, folder, name="owner/tiny", say=said.append)
    return said, *load(folder)


Theirs = Callable[[torch.Tensor, torch.Tensor, Tiling, Image.Image], torch.Tensor]


def agree(
    compare: Compare, name: str, model: MM15, processor: Processor, theirs: Theirs
) -> None:
    rng = np.random.default_rng(0)
    for width, height in SIZES:
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        inputs = processor("What is on?", images=[picture])
        tiling = processor.prepare("What is on?", [picture]).images[0].tiling
        ids = torch.from_numpy(np.array(inputs["input_ids"])).long()
        reference = theirs(ids, nchw(inputs["pixel_values"]), tiling, picture)
        compare(f"{name}, {width} × {height}", model(**inputs), reference, 1e-5)
    answer = generate(model, processor, "What is on?", [picture], max_tokens=3)
    assert len(answer.tokens) == 3


SIDES = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]  # widths, heights
FLAT: dict[str, Any] = {
    "mm_vision_tower": "/some/where/openai/clip-vit-large-patch14-336",
    "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch", "mm_hidden_size": 128,
    "image_aspect_ratio": "anyres", "image_grid_pinpoints": SIDES,
    "mm_patch_merge_type": "spatial_unpad", "mm_use_im_start_end": False,
}  # fmt: skip
PADDED = {"image_aspect_ratio": "pad", "mm_patch_merge_type": "flat"}
STRETCHED = {"mm_patch_merge_type": "spatial"}
FLAT_MODELS: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    # what: model_type, decoder, settings, in a .bin file
    "llava (1.5, its own code)": ("llava", "llama", PADDED, True),
    "llava_llama (NeXT)": (
        "llava_llama", "llama", {"image_grid_pinpoints": json.dumps(SIDES)}, False
    ),
    "llava_mistral (NeXT)": ("llava_mistral", "mistral", {}, True),
    "ferret_llama": ("ferret_llama", "llama", STRETCHED, False),
    "ferret_gemma": ("ferret_gemma", "gemma", STRETCHED, True),
}  # fmt: skip


def flat(name: str, folder: Path) -> tuple[Path, Reference, torch.Tensor | None]:
    """A source of `FLAT_MODELS`, its reference, and the newline if it has one."""
    kind, decoder, settings, as_bin = FLAT_MODELS[name]
    reference = randomise(Reference(decoder, mlp(CLIP["hidden_size"])))
    tensors = reference.renamed(
        "model.vision_tower.vision_tower.vision_model.", "model.mm_projector.", ""
    )
    merge = (FLAT | settings)["mm_patch_merge_type"]
    newline = reference.newline if merge == "spatial_unpad" else None
    if newline is not None:
        tensors["model.image_newline"] = newline.clone()
    if kind.startswith("ferret"):
        tensors["model.region_geo_sampler.dim_projector.weight"] = torch.ones(4, 4)
    config = reference.decoder.config.to_dict() | FLAT | settings
    source = written(folder, config | {"model_type": kind}, tensors, as_bin)
    return source, reference, newline


@pytest.mark.parametrize("name", FLAT_MODELS)
def test_llava_and_ferret_ui(name: str, tmp_path: Path, compare: Compare) -> None:
    kind, decoder, settings, _ = FLAT_MODELS[name]
    source, reference, newline = flat(name, tmp_path / "source")
    said, model, processor = converted(source, tmp_path / "out")
    assert said[0] == f"family      {kind}"
    assert ("licence     research-only (research use only)" in said) == (
        kind.startswith("ferret")
    )
    image = model.config.prompt.image_token_id
    scale = TEXT["hidden_size"] ** 0.5 if decoder == "gemma" else 1.0

    def theirs(
        ids: torch.Tensor, views: torch.Tensor, tiling: Tiling, picture: Image.Image
    ) -> torch.Tensor:
        visual = reference.visual(views, -2)
        if settings is PADDED:
            return reference.logits(ids, visual[0], image)
        visual = packed(visual, tiling, picture.size, newline)
        return reference.logits(ids, visual, image, scale)

    agree(compare, name, model, processor, theirs)


ABSTRACTOR = {
    "projector_type": "c-abs", "depth": 3, "mlp_depth": 2, "hidden_size": 32,
    "num_eos_tokens": 0, "pos_emb": True, "feature_layer_index": -1, "prenorm": False,
}  # fmt: skip
SEEN = {"encoder_type": "openai.clip", "image_size": 224, "hidden_size": 128}


def bee(old: bool, folder: Path) -> tuple[Path, Reference]:
    """The first release: other names, a row for the class token, a .bin; and Llama's
    own configuration left out."""
    text = {
        "hidden_size": 128, "num_attention_heads": 1, "num_key_value_heads": 1,
        "head_dim": 128,
    }  # fmt: skip
    reference = Reference("llama", Honeybee(128, 32, 128, 16), image_size=224)
    reference.decoder = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**(TEXT | text), tie_word_embeddings=False)
    )
    randomise(reference)
    reference.decoder.lm_head.weight.mul_(0.5)  # wider, not to have larger logits
    tensors = reference.renamed(
        "vision_model.vision_model.", "abstractor.", "language_model."
    )
    lm = {"pretrained_lm_name_or_path": "lmsys/vicuna-7b-v1.5"}
    config: dict[str, Any] = {"vision_config": SEEN, "lm_config": lm}
    if old:
        positions = tensors["abstractor.pos_emb"]
        tensors["abstractor.pos_emb"] = torch.cat((positions[:, :1], positions), dim=1)
        config |= {"model_type": "mllm", "visual_projector_config": ABSTRACTOR}
        config |= {"num_query_tokens": 144}
    else:
        config |= {"model_type": "honeybee"}
        config |= {"projector_config": ABSTRACTOR | {"num_query_tokens": 144}}
        config |= {"text_config": reference.decoder.config.to_dict()}
    return written(folder, config, tensors, as_bin=old), reference


@pytest.mark.parametrize("old", [True, False])
def test_honeybee(old: bool, tmp_path: Path, compare: Compare) -> None:
    source, reference = bee(old, tmp_path / "source")
    said, model, processor = converted(source, tmp_path / "out")
    assert "licence     non-commercial (cc-by-nc-4.0)" in said
    image = model.config.prompt.image_token_id

    def theirs(
        ids: torch.Tensor, views: torch.Tensor, tiling: Tiling, picture: Image.Image
    ) -> torch.Tensor:
        return reference.logits(ids, reference.visual(views, -1)[0], image)

    name = "mllm" if old else "honeybee"
    agree(compare, f"honeybee, {name}", model, processor, theirs)


INTERNVL = (
    ("multi_modal_projector.layer_norm", "mlp1.0"),
    ("multi_modal_projector.linear_1", "mlp1.1"),
    ("multi_modal_projector.linear_2", "mlp1.3"),
    ("embeddings.cls_token", "embeddings.class_embedding"),
    ("patch_embeddings.projection", "patch_embedding"),
    ("position_embeddings", "position_embedding"),
    ("vision_tower.encoder.layer.", "vision_model.encoder.layers."),
    ("vision_tower.", "vision_model."), ("attention.projection_layer", "attn.proj"),
    ("layernorm_before", "norm1"), ("layernorm_after", "norm2"), ("lambda_", "ls"),
)  # fmt: skip


def as_opengvlab(saved: Tensors) -> Tensors:
    """The tensors of an InternVL that transformers saved, as OpenGVLab names them."""
    tensors: Tensors = {}
    for name, tensor in saved.items():
        for theirs, own in INTERNVL:
            name = name.replace(theirs, own)
        tensors[name] = tensor
    for name in [n for n in tensors if ".attention.q_proj." in n]:
        parts = [tensors.pop(name.replace("q_proj", f"{p}_proj")) for p in "qkv"]
        tensors[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    return tensors


CHATS = {
    "phi3": "phi3-chat", "qwen2": "Hermes-2", "qwen3": "internvl2_5",
    "qwen3_moe": "internvl2_5",
}  # fmt: skip


def chat(decoder: str, folder: Path) -> tuple[Path, Any]:
    """OS-Atlas-4B is InternVL 2 with Phi-3, at most six tiles and a template's name."""
    reference = randomise(transformers.InternVLForConditionalGeneration(
        transformers.InternVLConfig(
            vision_config=VISION | {
                "image_size": [56, 56], "patch_size": [14, 14], "attention_bias": True
            },
            text_config=text_of(decoder), image_token_id=500,
            tie_word_embeddings=False,
        )
    ))  # fmt: skip
    saved = folder.with_name(f"{folder.name}-hf")
    reference.save_pretrained(saved)  # in memory experts have other names
    tensors = as_opengvlab(load_file(saved / "model.safetensors"))
    config = {
        "model_type": "internvl_chat", "ps_version": "v2", "select_layer": -1,
        "template": CHATS[decoder],
        "max_dynamic_patch": 6, "llm_config": reference.config.text_config.to_dict(),
        "vision_config": VISION | {"model_type": "intern_vit_6b", "qkv_bias": True},
    }  # fmt: skip
    return written(folder, config, tensors), reference


@pytest.mark.parametrize("decoder", CHATS)
def test_internvl_chat(decoder: str, tmp_path: Path, compare: Compare) -> None:
    source, reference = chat(decoder, tmp_path / "source")
    _, model, processor = converted(source, tmp_path / "out")
    assert model.config.tiling.n_max == 6 and model.config.coordinates.range == 1000
    image = model.config.prompt.image_token_id

    def theirs(
        ids: torch.Tensor, views: torch.Tensor, tiling: Tiling, picture: Image.Image
    ) -> torch.Tensor:
        visual = reference.model.get_image_features(views).pooler_output.flatten(0, 1)
        embedded = reference.get_input_embeddings()(ids)
        embedded[ids == image] = visual
        return reference(inputs_embeds=embedded).logits

    agree(compare, f"internvl_chat, {decoder}", model, processor, theirs)
