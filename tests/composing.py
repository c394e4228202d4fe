"""Tiny sources for `compose`: a CLIP in three layouts, a decoder, a plain tokenizer."""

import functools
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import sentencepiece
from mlx.utils import tree_flatten

from mm15_mlx.config import TextConfig, VisionConfig
from mm15_mlx.convert.compose import compose, join
from mm15_mlx.decoder import Decoder
from mm15_mlx.encoder import Encoder

VISION = VisionConfig(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=1,
    image_size=56,
)  # fmt: skip
TEXT = TextConfig(
    hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, vocab_size=1400, qk_norm=False,
    rope_theta=10_000.0, max_position_embeddings=2048, tie_word_embeddings=False,
)  # fmt: skip
HUB = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "vocab_size": 1400, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048,
}  # fmt: skip


def evaluated(module: Any) -> dict[str, mx.array]:
    mx.eval(module.parameters())
    return dict(tree_flatten(module.parameters()))


def convolution(x: mx.array) -> mx.array:
    """(O, y · x · I) → (O, I, y, x)."""
    return x.reshape(-1, 14, 14, 3).transpose(0, 3, 1, 2)


def clip_folder(folder: Path) -> Encoder:
    """A CLIP as transformers saves both towers of it."""
    mx.random.seed(3)
    encoder = Encoder(VISION)
    weights = {
        "logit_scale": mx.array(1.0), "text_model.final_layer_norm.weight": mx.ones(4)
    }  # fmt: skip
    names = {
        "class_embedding": "embeddings.class_embedding",
        "position_embedding": "embeddings.position_embedding.weight",
        "patch_embedding.weight": "embeddings.patch_embedding.weight",
        "pre_layernorm.weight": "pre_layrnorm.weight",
        "pre_layernorm.bias": "pre_layrnorm.bias",
    }
    for name, array in evaluated(encoder).items():
        array = convolution(array) if name.startswith("patch") else array
        theirs = names.get(name, f"encoder.{name}")
        weights[f"vision_model.{theirs}"] = array
    write(folder, weights, {
        "model_type": "clip",
        "vision_config": {
            "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 1, "image_size": 56, "patch_size": 14,
        },
    }, "apple-amlr")  # fmt: skip
    return encoder


def open_clip_weights(encoder: Encoder) -> dict[str, mx.array]:
    held = evaluated(encoder)
    weights = {
        "visual.class_embedding": held["class_embedding"],
        "visual.positional_embedding": held["position_embedding"],
        "visual.conv1.weight": convolution(held["patch_embedding.weight"]),
        "visual.proj": mx.zeros((64, 8)), "positional_embedding": mx.zeros((4, 8)),
    }  # fmt: skip
    return weights | blocks(
        held, "visual.ln_pre", "visual.transformer.resblocks", "attn.in_proj_",
        ("ln_1", "ln_2", "attn.out_proj", "mlp.c_fc", "mlp.c_proj"),
    )  # fmt: skip


def timm_weights(encoder: Encoder) -> dict[str, mx.array]:
    held = evaluated(encoder)
    weights = {
        "cls_token": held["class_embedding"][None, None],
        "pos_embed": held["position_embedding"][None],
        "patch_embed.proj.weight": convolution(held["patch_embedding.weight"]),
        "norm.weight": mx.ones(64), "head.weight": mx.zeros((8, 64)),
    }  # fmt: skip
    return weights | blocks(
        held, "norm_pre", "blocks", "attn.qkv.",
        ("norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2"),
    )  # fmt: skip


def blocks(
    held: dict[str, mx.array], norm: str, name: str, q_k_v: str, others: Sequence[str]
) -> dict[str, mx.array]:
    """The first norm and two blocks, whose queries, keys and values are one tensor."""
    weights = {}
    own = "layer_norm1", "layer_norm2", "self_attn.out_proj", "mlp.fc1", "mlp.fc2"
    for last in ("weight", "bias"):
        weights[f"{norm}.{last}"] = held[f"pre_layernorm.{last}"]
        for i in range(2):
            apart = [held[f"layers.{i}.self_attn.{p}_proj.{last}"] for p in "qkv"]
            weights[f"{name}.{i}.{q_k_v}{last}"] = mx.concatenate(apart)
            for a, b in zip(own, others, strict=True):
                weights[f"{name}.{i}.{b}.{last}"] = held[f"layers.{i}.{a}.{last}"]
    return weights


def write(
    folder: Path, weights: dict[str, mx.array], config: dict, licence: str
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n")


def llama_folder(folder: Path, tokenizer: bytes, **config: Any) -> Decoder:
    """A dense decoder as transformers saves it."""
    mx.random.seed(4)
    decoder = Decoder(TEXT)
    weights = {
        n if n.startswith("lm_head") else f"model.{n}": a
        for n, a in evaluated(decoder).items()
    }
    write(folder, weights, HUB | config, "apache-2.0")
    (folder / "tokenizer.model").write_bytes(tokenizer)
    return decoder


@functools.cache
def plain_tokenizer() -> bytes:
    """A base model's: nothing special but `<s>` and `</s>`; without its own `<unk>`."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one two three four five six seven"] * 50),
        model_writer=out, model_type="bpe", vocab_size=300, byte_fallback=True,
        minloglevel=2,
    )  # fmt: skip
    return out.getvalue()


def logits(decoder: Decoder, ids: list[int]) -> np.ndarray:
    return np.array(decoder.logits(decoder(mx.array([ids]))).astype(mx.float32))


def made(encoder: Path, decoder: Path, out: Path, **how: Any) -> None:
    options = {"tile_size": 84} | how
    joined = join(str(encoder), str(decoder), **options)
    compose(str(encoder), str(decoder), out, joined, say=lambda _: None)
