"""The decoder against every family whose files convert/decoders.py reads."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from mm15_mlx.config import TextConfig
from mm15_mlx.convert.decoders import DECODERS, text_config
from mm15_mlx.decoder import Decoder, KVCache
from mm15_mlx.rope import RopeScaling

from .conftest import Compare
from .references import load_saved, randomise

pytestmark = pytest.mark.parity

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 101,
}  # fmt: skip
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 48}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0,
    "short_factor": [1 + i / 4 for i in range(8)], "long_factor": [9.0] * 8,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def scaled(rope: dict[str, Any]) -> RopeScaling:
    kept = {k: v for k, v in rope.items() if k not in ("rope_theta", "long_factor")}
    if "short_factor" in kept:
        kept["short_factor"] = tuple(kept["short_factor"])
    return RopeScaling(**kept)


# model_type: the reference's own settings, and ours.
FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("Llama", {}, {"rms_norm_eps": 1e-6}),
    "llama, linear rope": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
        {
            "rms_norm_eps": 1e-6,
            "rope_scaling": RopeScaling(rope_type="linear", factor=4.0),
        },
    ),
    "llama, llama3 rope": (
        "Llama",
        {"rope_parameters": LLAMA3, "rms_norm_eps": 1e-5},
        {"rope_theta": 5e5, "rope_scaling": scaled(LLAMA3)},
    ),
    "llama, exact gelu": (
        "Llama", {"hidden_act": "gelu"}, {"hidden_act": "gelu", "rms_norm_eps": 1e-6}
    ),
    "mistral": ("Mistral", {"sliding_window": 64}, {"rms_norm_eps": 1e-6}),
    "qwen2": ("Qwen2", {}, {"attention_bias": True, "rms_norm_eps": 1e-6}),
    "qwen3": ("Qwen3", {}, {"qk_norm": True, "rms_norm_eps": 1e-6}),
    "qwen3_moe": (
        "Qwen3Moe",
        EXPERTS | {"decoder_sparse_step": 1, "norm_topk_prob": True},
        EXPERTS | {"decoder_sparse_step": 1, "qk_norm": True, "rms_norm_eps": 1e-6},
    ),
    "qwen3_moe, shares as they are": (
        "Qwen3Moe",
        EXPERTS | {"decoder_sparse_step": 1, "norm_topk_prob": False},
        EXPERTS | {
            "decoder_sparse_step": 1, "qk_norm": True, "rms_norm_eps": 1e-6,
            "norm_topk_prob": False,
        },
    ),
    "mixtral": (
        "Mixtral",
        {"num_local_experts": 8, "num_experts_per_tok": 2},
        EXPERTS | {
            "decoder_sparse_step": 1, "moe_intermediate_size": 112,
            "num_experts_per_tok": 2,
        },
    ),
    "gemma": (
        "Gemma",
        {"hidden_act": "gelu_pytorch_tanh"},
        {
            "hidden_act": "gelu_pytorch_tanh", "embedding_scale": 8.0,
            "rms_norm_eps": 1e-6,
        },
    ),
    "gemma, old name of its gelu": (
        "Gemma",
        {"hidden_act": "gelu"},
        {
            "hidden_act": "gelu_pytorch_tanh", "embedding_scale": 8.0,
            "rms_norm_eps": 1e-6,
        },
    ),
    "phi3": ("Phi3", {"pad_token_id": 0}, {}),
    "phi3, longrope": (
        "Phi3",
        {"pad_token_id": 0, "rope_parameters": LONGROPE,
         "max_position_embeddings": 256, "original_max_position_embeddings": 64},
        {"rope_scaling": scaled(LONGROPE), "max_position_embeddings": 64},
    ),
}  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_logits(compare: Compare, tmp_path: Path, name: str, tied: bool) -> None:
    """Two texts of 33 tokens: at once, and in chunks through the cache."""
    import transformers

    family, theirs, ours = FAMILIES[name]
    # Phi-3 has no head_dim of its own.
    sizes = SIZES | ({} if family == "Phi3" else {"head_dim": 32})
    rope = {"rope_type": "default", "rope_theta": 1e4}
    config = getattr(transformers, f"{family}Config")(
        **({"rope_parameters": rope} | sizes | theirs), tie_word_embeddings=tied
    )
    model = randomise(getattr(transformers, f"{family}ForCausalLM")(config))
    model.get_output_embeddings().weight.mul_(0.3)  # logits of a usual size
    text = TextConfig(**(
        {"rope_theta": 1e4, "qk_norm": False} | SIZES
        | {"head_dim": sizes.get("head_dim", 16), "tie_word_embeddings": tied} | ours
    ))  # fmt: skip
    decoder = Decoder(text)
    rules = DECODERS[name.partition(",")[0]](text, r"model\.", "lm_head")
    load_saved(tmp_path, model, rules, decoder=decoder)
    data = json.loads((tmp_path / "config.json").read_text())
    context = text.max_position_embeddings
    read = dataclasses.replace(text_config(data, tied), max_position_embeddings=context)
    assert read == text

    ids = np.random.default_rng(0).integers(1, text.vocab_size, (2, 33))
    theirs_out = model(torch.from_numpy(ids)).logits
    unit = max(1.0, float(theirs_out.abs().max()))
    what = f"decoder: {family}ForCausalLM, from its file"
    out = decoder.logits(decoder(mx.array(ids)))
    compare(what, out / unit, theirs_out / unit, 1e-5)
    cache = [KVCache() for _ in decoder.layers]
    parts = [
        decoder(mx.array(ids[:, start:end]), cache)
        for start, end in ((0, 20), (20, 32), (32, 33))
    ]
    out = decoder.logits(mx.concatenate(parts, axis=1))
    compare(what, out / unit, theirs_out / unit, 1e-5)
