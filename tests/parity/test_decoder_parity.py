"""The decoder against transformers' Llama, Qwen2, Mixtral and Qwen3-MoE."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from mm15_mlx.config import TextConfig
from mm15_mlx.decoder import Decoder, KVCache, MoE, first_choices, router_losses

from .conftest import Compare
from .references import decoder_rules, load, randomise

pytestmark = pytest.mark.parity

SHAPES = {
    "small": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "vocab_size": 101,
    },
    "wide heads": {
        "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 4,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64,
        "vocab_size": 200,
    },
    "no shared heads": {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32,
        "vocab_size": 64,
    },
}  # fmt: skip
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48}


def agree(
    compare: Compare, what: str, reference: torch.nn.Module, config: TextConfig
) -> None:
    """Logits of two texts of 33 tokens: at once, and in chunks through the cache."""
    decoder = Decoder(config)
    load(decoder, reference, decoder_rules(config.tie_word_embeddings))
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (2, 33))
    theirs = reference(torch.from_numpy(ids)).logits
    compare(what, decoder.logits(decoder(mx.array(ids))), theirs, 1e-5)
    cache = [KVCache() for _ in decoder.layers]
    parts = [
        decoder(mx.array(ids[:, start:end]), cache)
        for start, end in ((0, 20), (20, 32), (32, 33))
    ]
    compare(what, decoder.logits(mx.concatenate(parts, axis=1)), theirs, 1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_llama(compare: Compare, shape: str, theta: float, tied: bool) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = SHAPES[shape] | {"tie_word_embeddings": tied}
    rope = {"rope_theta": theta, "rope_type": "default"}
    config = LlamaConfig(**sizes, rope_parameters=rope, rms_norm_eps=1e-5)
    reference = small(randomise(LlamaForCausalLM(config)))
    ours = TextConfig(**sizes, rope_theta=theta, qk_norm=False)
    agree(compare, "decoder: LlamaForCausalLM", reference, ours)


@pytest.mark.parametrize("shape", ["small", "wide heads", "no shared heads"])
def test_bias_on_q_k_v(compare: Compare, shape: str) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    sizes: dict[str, Any] = SHAPES[shape] | {"tie_word_embeddings": False}
    width = sizes["hidden_size"] // sizes["num_attention_heads"]
    sizes |= {"head_dim": width}  # Qwen2 has no separate one
    reference = small(randomise(Qwen2ForCausalLM(Qwen2Config(**sizes))))
    ours = TextConfig(
        **sizes, rope_theta=10_000.0, rms_norm_eps=1e-6, qk_norm=False,
        attention_bias=True,
    )  # fmt: skip
    agree(compare, "decoder: Qwen2ForCausalLM (bias on q, k, v)", reference, ours)


@pytest.mark.parametrize("shape", SHAPES)
def test_mixtral(compare: Compare, shape: str) -> None:
    """Experts in every layer; no q and k norms."""
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes: dict[str, Any] = SHAPES[shape] | {"tie_word_embeddings": False}
    config = MixtralConfig(
        **sizes, num_local_experts=8, num_experts_per_tok=2,
        rope_parameters={"rope_theta": 10_000.0, "rope_type": "default"},
    )  # fmt: skip
    reference = small(randomise(MixtralForCausalLM(config)))
    experts = EXPERTS | {"moe_intermediate_size": sizes["intermediate_size"]}
    ours = TextConfig(
        **sizes, **experts, decoder_sparse_step=1, rope_theta=10_000.0, qk_norm=False
    )
    agree(compare, "decoder: MixtralForCausalLM", reference, ours)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_qwen3_moe(compare: Compare, shape: str, step: int) -> None:
    """Experts in every layer and in every second, as MM1.5 has them; q and k norms."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    sizes: dict[str, Any] = SHAPES[shape] | {"tie_word_embeddings": False}
    sizes |= EXPERTS | {"decoder_sparse_step": step}
    config = Qwen3MoeConfig(
        **sizes, norm_topk_prob=True, rms_norm_eps=1e-5, mlp_only_layers=[],
        rope_parameters={"rope_theta": 10_000.0, "rope_type": "default"},
    )  # fmt: skip
    reference = small(randomise(Qwen3MoeForCausalLM(config)))
    ours = TextConfig(**sizes, rope_theta=10_000.0)
    agree(compare, f"decoder: Qwen3MoeForCausalLM, step {step}", reference, ours)


@pytest.mark.parametrize("experts", [4, 8, 64])
def test_router_losses(compare: Compare, experts: int) -> None:
    """AXLearn's losses, as the PyTorch trainer of nano-ui's MoE sibling has them."""
    from mm15_mlx.convert.mm15_torch.decoder import MoE as Reference

    config = TextConfig(
        hidden_size=32, num_experts=experts, num_experts_per_tok=2,
        moe_intermediate_size=16,
    )  # fmt: skip
    reference = Reference(config)
    x = torch.randn(2, 40, 32)
    y = reference(x)
    moe = MoE(config)
    tensors = {k: v.numpy() for k, v in reference.state_dict().items()}
    moe.gate.weight = mx.array(tensors["gate.weight"])
    for part in ("gate_proj", "up_proj", "down_proj"):
        stacked = [tensors[f"experts.{e}.{part}.weight"] for e in range(experts)]
        moe.switch_mlp[part].weight = mx.array(np.stack(stacked))
    out, (logits,) = moe(mx.array(x.numpy()))
    compare("experts: mm15_torch", out, y, 1e-5)
    assert reference.losses is not None
    tokens = mx.ones((2, 40))
    losses = mx.stack(router_losses(logits, tokens, first_choices(logits, tokens)))
    compare("router losses: mm15_torch", losses, torch.stack(reference.losses), 1e-5)


def small(reference: torch.nn.Module) -> torch.nn.Module:
    """Head weights that give logits of a usual size, so that 1e-5 means something."""
    head = reference.get_output_embeddings()
    head.weight.mul_(0.5)
    return reference
