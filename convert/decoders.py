"""Rules for public decoders: Llama and its relatives, Qwen, Mixtral, Gemma, Phi-3.

What this file is: tables from a decoder's tensor names, as files have them, to those of
`decoder`. What it is not: reading files (sources.py) or the rest of a model
(encoders.py, connectors.py). Every table takes the configuration, for the shapes of
fused tensors, and two patterns without capturing groups: `prefix`, what stands before
the decoder's own names, and `head`, the output head's name.

A file without a head is a model with tied embeddings; one with a head is never tied
here, even where its configuration says so: both hold then, and nothing is dropped.
"""

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx

from mm15_mlx.config import ConfigError, TextConfig
from mm15_mlx.convert.rules import Rule, keep
from mm15_mlx.rope import RopeScaling

PREFIX, HEAD = r"model\.", r"lm_head"
_NORMS = r"((?:input|post_attention)_layernorm)\.weight"
_ATTENTION = r"(self_attn\.(?:[qkvo]_proj|[qk]_norm))\.(weight|bias)"
_DENSE = r"(mlp\.(?:gate|up|down)_proj)\.weight"
_OWN = r"decoder.layers.\1."


def one_more(x: mx.array) -> mx.array:
    """Gemma stores a norm's weight without the 1 that it adds."""
    return (x.astype(mx.float32) + 1).astype(x.dtype)


def halves(x: mx.array) -> tuple[mx.array, ...]:
    """Fused gate and up, one below the other."""
    return tuple(mx.split(x, 2))


def llama(
    config: TextConfig, prefix: str = PREFIX, head: str = HEAD
) -> tuple[Rule, ...]:
    """Llama; Mistral; Qwen2, with bias on q, k, v; Qwen3, with norms on q and k."""
    return (
        *_outside(prefix, head, keep),
        Rule(_layer(prefix) + _NORMS, _OWN + r"\2.weight"),
        Rule(_layer(prefix) + _ATTENTION, _OWN + r"\2.\3"),
        Rule(_layer(prefix) + _DENSE, _OWN + r"\2.weight"),
    )


def qwen3_moe(
    config: TextConfig, prefix: str = PREFIX, head: str = HEAD
) -> tuple[Rule, ...]:
    """Llama's names, and Qwen's experts."""
    return (
        *llama(config, prefix, head),
        Rule(_layer(prefix) + r"mlp\.gate\.weight", _OWN + "mlp.gate.weight"),
        Rule(
            _layer(prefix) + r"mlp\.experts\.(\d+)\.(gate|up|down)_proj\.weight",
            _OWN + r"mlp.switch_mlp.\3_proj.weight[\2]",
        ),
    )


def mixtral(
    config: TextConfig, prefix: str = PREFIX, head: str = HEAD
) -> tuple[Rule, ...]:
    """Llama's names, and Mixtral's experts: w1 is the gate, w2 goes down, w3 up."""
    moe = _layer(prefix) + r"block_sparse_moe\."
    return (
        *llama(config, prefix, head),
        Rule(moe + r"gate\.weight", _OWN + "mlp.gate.weight"),
        *(
            Rule(
                moe + rf"experts\.(\d+)\.{theirs}\.weight",
                _OWN + rf"mlp.switch_mlp.{ours}_proj.weight[\2]",
            )
            for theirs, ours in (("w1", "gate"), ("w2", "down"), ("w3", "up"))
        ),
    )


def gemma(
    config: TextConfig, prefix: str = PREFIX, head: str = HEAD
) -> tuple[Rule, ...]:
    """Gemma 1: Llama's names, norms without their 1."""
    return (
        *_outside(prefix, head, one_more),
        Rule(_layer(prefix) + _NORMS, _OWN + r"\2.weight", one_more),
        Rule(_layer(prefix) + _ATTENTION, _OWN + r"\2.\3"),
        Rule(_layer(prefix) + _DENSE, _OWN + r"\2.weight"),
    )


def phi3(
    config: TextConfig, prefix: str = PREFIX, head: str = HEAD
) -> tuple[Rule, ...]:
    """Phi-3: q, k and v in one tensor, gate and up in another."""
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim

    def q_k_v(x: mx.array) -> tuple[mx.array, ...]:
        if x.shape[0] != queries + 2 * keys:
            raise ValueError(f"{queries + 2 * keys} rows expected")
        return tuple(mx.split(x, (queries, queries + keys)))

    layer = _layer(prefix)
    return (
        *_outside(prefix, head, keep),
        Rule(layer + _NORMS, _OWN + r"\2.weight"),
        Rule(
            layer + r"self_attn\.qkv_proj\.weight",
            tuple(_OWN + f"self_attn.{p}_proj.weight" for p in "qkv"), q_k_v,
        ),
        Rule(
            layer + r"mlp\.gate_up_proj\.weight",
            (_OWN + "mlp.gate_proj.weight", _OWN + "mlp.up_proj.weight"), halves,
        ),
        Rule(
            layer + r"(self_attn\.o_proj|mlp\.down_proj)\.weight", _OWN + r"\2.weight"
        ),
    )  # fmt: skip


def _layer(prefix: str) -> str:
    return prefix + r"layers\.(\d+)\."


def _outside(
    prefix: str, head: str, norm: Callable[[mx.array], mx.array]
) -> tuple[Rule, ...]:
    return (
        Rule(prefix + r"embed_tokens\.weight", "decoder.embed_tokens.weight"),
        Rule(prefix + r"norm\.weight", "decoder.norm.weight", norm),
        Rule(head + r"\.weight", "decoder.lm_head.weight"),
        # Computed from theta; old files have it.
        Rule(_layer(prefix) + r"self_attn\.rotary_emb\.inv_freq", None),
    )


Table = Callable[[TextConfig, str, str], tuple[Rule, ...]]
# By the `model_type` of a decoder's configuration.
DECODERS: dict[str, Table] = {
    "llama": llama,
    "mistral": llama,
    "qwen2": llama,
    "qwen3": llama,
    "qwen3_moe": qwen3_moe,
    "mixtral": mixtral,
    "gemma": gemma,
    "phi3": phi3,
}


# What a key means that a configuration lacks: the defaults of transformers' classes,
# which leave such keys out when they save.
_COMMON: dict[str, Any] = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": None,
    "head_dim": None, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 1e4,
    "max_position_embeddings": 32768, "sliding_window": None,
}  # fmt: skip
_QWEN: dict[str, Any] = {"vocab_size": 151936, "intermediate_size": 22016}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 11008, "max_position_embeddings": 2048},
    "mistral": {
        "num_key_value_heads": 8, "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "qwen2": _QWEN,
    "qwen3": _QWEN | {"head_dim": 128},
    "qwen3_moe": _QWEN | {
        "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24,
        "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8,
        "moe_intermediate_size": 768, "decoder_sparse_step": 1, "norm_topk_prob": False,
    },
    "mixtral": {
        "num_key_value_heads": 8, "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_local_experts": 8,
        "num_experts_per_tok": 2,
    },
    "gemma": {
        "vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576,
        "num_hidden_layers": 28, "num_attention_heads": 16, "head_dim": 256,
        "max_position_embeddings": 8192,
    },
    "phi3": {
        "vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
        "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
    },
}  # fmt: skip
# Settings that the decoder cannot express, and what they must be.
_FIXED: dict[str, Any] = {
    "mlp_bias": False, "partial_rotary_factor": 1.0, "mlp_only_layers": [],
    "use_bidirectional_attention": False, "rope_interleaved": False,
}  # fmt: skip


def text_config(data: Mapping[str, Any], tied: bool) -> TextConfig:
    """The decoder of a transformers configuration; `tied`: the file has no head.

    Sliding windows become the context's limit: within one, nothing slides. Raises
    ConfigError for what the decoder cannot express.
    """
    family = data.get("model_type")
    if family not in DECODERS:
        names = ", ".join(DECODERS)
        raise ConfigError(
            f"text_config.model_type is {family!r}; decoders that can be converted "
            f"are {names}"
        )
    read = _COMMON | _DEFAULTS[family] | dict(data)
    # Qwen2 has a bias on q, k and v that no key names; elsewhere the key means one on
    # the output too.
    fixed = _FIXED if family == "qwen2" else _FIXED | {"attention_bias": False}
    for key, needed in fixed.items():
        if (value := read.get(key)) not in (None, needed):
            raise ConfigError(
                f"text_config.{key} is {value!r}; this model can only have {needed!r}"
            )
    heads = read["num_attention_heads"]
    rope, context = _rope(read)
    window = read["sliding_window"]
    if window and (not family.startswith("qwen") or read.get("use_sliding_window")):
        context = min(context, window)
    text = {
        "hidden_size": read["hidden_size"],
        "intermediate_size": read["intermediate_size"],
        "num_hidden_layers": read["num_hidden_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": read["num_key_value_heads"] or heads,
        "head_dim": read["head_dim"] or read["hidden_size"] // heads,
        "vocab_size": read["vocab_size"],
        "hidden_act": read["hidden_act"],
        "rms_norm_eps": float(read["rms_norm_eps"]),
        "rope_theta": float(_rope_dict(read).get("rope_theta", read["rope_theta"])),
        "rope_scaling": rope,
        "max_position_embeddings": context,
        "attention_bias": family == "qwen2",
        "qk_norm": family.startswith("qwen3"),
        "tie_word_embeddings": tied,
    }
    if family == "gemma":
        # Where a file says gelu, the tanh form was meant.
        text |= {"hidden_act": "gelu_pytorch_tanh"}
        text |= {"embedding_scale": float(read["hidden_size"] ** 0.5)}
    elif family == "mixtral":
        text |= {
            "num_experts": read["num_local_experts"], "decoder_sparse_step": 1,
            "num_experts_per_tok": read["num_experts_per_tok"],
            "moe_intermediate_size": read["intermediate_size"],
        }  # fmt: skip
    elif family == "qwen3_moe":
        # transformers 5 calls them num_local_experts.
        experts = data.get("num_local_experts", read["num_experts"])
        keys = (
            "num_experts_per_tok moe_intermediate_size decoder_sparse_step "
            "norm_topk_prob"
        ).split()
        text |= {"num_experts": experts, **{key: read[key] for key in keys}}
    return TextConfig(**text)


def _rope_dict(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """transformers 5 writes rope_parameters, 4 wrote rope_scaling."""
    return data.get("rope_parameters") or data.get("rope_scaling") or {}


def _rope(data: Mapping[str, Any]) -> tuple[RopeScaling, int]:
    """How positions are scaled, and the longest context with that."""
    rope, context = _rope_dict(data), data["max_position_embeddings"]
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConfigError(
            "text_config.rope_parameters.partial_rotary_factor is "
            f"{rope['partial_rotary_factor']}; this model can only have 1.0"
        )
    kind = rope.get("rope_type", rope.get("type", "default"))
    keys = ("factor", "low_freq_factor", "high_freq_factor")
    scaling: dict[str, Any] = {k: float(rope[k]) for k in keys if rope.get(k)}
    if kind == "default":
        return RopeScaling(), context
    original = rope.get("original_max_position_embeddings")
    original = original or data.get("original_max_position_embeddings") or context
    if kind in ("longrope", "su"):
        if rope.get("attention_factor") is not None:
            raise ConfigError(
                "text_config.rope_parameters.attention_factor is "
                f"{rope['attention_factor']}; this model can only compute its own"
            )
        factors = tuple(float(f) for f in rope["short_factor"])
        return RopeScaling(
            rope_type="longrope", factor=max(context / original, 1.0),
            original_max_position_embeddings=original, short_factor=factors,
        ), original  # fmt: skip
    if kind == "llama3":
        scaling["original_max_position_embeddings"] = original
    elif kind == "linear":
        # transformers: its max_position_embeddings is what was before the stretching.
        context = int(context * scaling["factor"])
    return RopeScaling(rope_type=kind, **scaling), context
