"""Decoders in GGUF files: Llama, Mistral, Qwen2, Qwen3 and Gemma 1.

What this file is: from a file's metadata to the decoder's configuration, and rules for
llama.cpp's tensor names. What it is not: reading the file (gguf.py).
"""

import re
from typing import Any

import mlx.core as mx
import numpy as np

from mm15_mlx.checkpoint import MAX_DIMENSION
from mm15_mlx.config import ConfigError, TextConfig
from mm15_mlx.convert.gguf import Gguf
from mm15_mlx.convert.rules import Rule, Transform, keep
from mm15_mlx.rope import RopeScaling, rope_periods

# By general.architecture: whether rows of q and k are permuted (llama.cpp rotates
# neighbours there, all others rotate halves), and what the decoder has besides.
_FAMILIES: dict[str, tuple[bool, dict[str, Any]]] = {
    "llama": (True, {}),  # Mistral too
    "qwen2": (False, {"attention_bias": True}),
    "qwen3": (False, {"qk_norm": True}),
    "gemma": (False, {"hidden_act": "gelu_pytorch_tanh"}),
}
_MAP = (
    ("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm"),
    ("attn_q_norm", "self_attn.q_norm"), ("attn_k_norm", "self_attn.k_norm"),
    ("attn_v", "self_attn.v_proj"), ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
)  # fmt: skip
_PARTS = r"(weight|scales|biases|bias)"


def halves_together(heads: int) -> Transform:
    """Undoes llama.cpp's order of q's and k's rows: halves of a head, not pairs."""

    def undo(x: mx.array) -> mx.array:
        half = x.shape[0] // heads // 2
        pairs = x.reshape(heads, half, 2, *x.shape[1:])
        return pairs.swapaxes(1, 2).reshape(x.shape)

    return undo


def gguf_rules(gguf: Gguf, text: TextConfig) -> tuple[Rule, ...]:
    """From llama.cpp's names, packed parts among them, to those of `decoder`.

    Gemma's norms hold their 1 already, unlike those of its safetensors.
    """
    permuted, _ = _FAMILIES[gguf.metadata["general.architecture"]]
    heads = {"q": text.num_attention_heads, "k": text.num_key_value_heads}
    block, own = r"blk\.(\d+)\.", r"decoder.layers.\1."
    return (
        Rule(rf"token_embd\.{_PARTS}", r"decoder.embed_tokens.\1"),
        Rule(r"output_norm\.weight", "decoder.norm.weight"),
        Rule(rf"output\.{_PARTS}", r"decoder.lm_head.\1"),
        Rule(r"rope_freqs\.weight", None),  # in the configuration
        *(Rule(rf"{block}{a}\.{_PARTS}", rf"{own}{b}.\2") for a, b in _MAP),
        *(
            Rule(
                rf"{block}attn_{p}\.{_PARTS}", rf"{own}self_attn.{p}_proj.\2",
                halves_together(n) if permuted else keep,
            )
            for p, n in heads.items()
        ),
    )  # fmt: skip


def gguf_config(gguf: Gguf) -> TextConfig:
    """The decoder's configuration, from the metadata; raises ConfigError for what the
    decoder cannot express, or where tensors and metadata disagree."""
    path, family = gguf.path, gguf.metadata.get("general.architecture")
    if family not in _FAMILIES:
        raise ConfigError(
            f"{path} has general.architecture {family!r}; GGUF decoders that can be "
            f"taken are {', '.join(_FAMILIES)}"
        )

    def read(key: str, default: float | None = None) -> Any:
        """A whole number, or a fraction where the default is one."""
        value = gguf.metadata.get(f"{family}.{key}", default)
        kind = float if isinstance(default, float) else int
        if isinstance(value, bool) or not isinstance(value, kind):
            raise ConfigError(
                f"{path}: {family}.{key} is {value!r}; it must be one {kind.__name__}"
            )
        if not 0 <= value <= MAX_DIMENSION:
            raise ConfigError(
                f"{path}: {family}.{key} is {value}; it must be 0 to {MAX_DIMENSION}"
            )
        return value

    vocabulary, width = _shape(gguf, "token_embd.weight")
    heads, layers = read("attention.head_count"), read("block_count")
    head_dim = read("attention.key_length", width // max(heads, 1))
    if read("embedding_length") != width or not 1 <= heads <= width or not head_dim:
        raise ConfigError(
            f"{path}: {heads} heads and embedding_length {read('embedding_length')} do "
            f"not fit token_embd.weight {(vocabulary, width)}; fetch it again"
        )
    named = {int(m[1]) for n in gguf.tensors if (m := re.match(r"blk\.(\d{1,6})\.", n))}
    if named != set(range(min(layers, len(gguf.tensors) + 1))):
        raise ConfigError(
            f"{path}: block_count is {layers}, and there are tensors of {len(named)} "
            "blocks; a file in several parts must be joined first"
        )
    fixed = {"attention.value_length": head_dim, "rope.dimension_count": head_dim,
             "expert_count": 0}  # fmt: skip
    for key, needed in fixed.items():
        if read(key, needed) != needed:
            raise ConfigError(
                f"{path}: {family}.{key} is {read(key)}; this model can only have "
                f"{needed}"
            )
    theta, context = read("rope.freq_base", 1e4) or 1e4, read("context_length")
    scaling = _scaling(gguf, family, theta, head_dim, read("rope.scaling.factor", 1.0))
    context = min(context, read("attention.sliding_window", 0) or context)
    return TextConfig(**{
        "hidden_size": width, "intermediate_size": read("feed_forward_length"),
        "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": read("attention.head_count_kv", heads),
        "head_dim": head_dim, "vocab_size": vocabulary, "rope_theta": theta,
        "rms_norm_eps": read("attention.layer_norm_rms_epsilon", 1e-5),
        "rope_scaling": scaling,
        "max_position_embeddings": context, "qk_norm": False,
        "embedding_scale": width**0.5 if family == "gemma" else 1.0,
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
    } | _FAMILIES[family][1])  # fmt: skip


def _shape(gguf: Gguf, name: str) -> tuple[int, int]:
    tensor = gguf.tensors.get(name)
    if tensor is None or len(tensor.shape) != 2:
        raise ConfigError(f"{gguf.path} has no matrix {name}; it is no decoder")
    return tensor.shape[0], tensor.shape[1]


def _scaling(
    gguf: Gguf, family: str, theta: float, head_dim: int, factor: float
) -> RopeScaling:
    """Llama 3.1's stretching is a tensor here: its numbers are found again from it."""
    kind = gguf.metadata.get(f"{family}.rope.scaling.type", "none")
    if kind == "linear":
        return RopeScaling("linear", factor)
    if kind != "none":
        raise ConfigError(
            f"{gguf.path}: {family}.rope.scaling.type is {kind!r}; this model can only "
            "have 'none' or 'linear'"
        )
    if "rope_freqs.weight" not in gguf.tensors:
        return RopeScaling()
    factors = np.array(gguf.read("rope_freqs.weight").astype(mx.float32))
    scaling = RopeScaling("llama3", float(factors.max()), 1.0, 4.0, 8192)
    ratio = np.array(rope_periods(theta, head_dim, scaling)) / np.array(
        rope_periods(theta, head_dim, RopeScaling("linear", 1.0))
    )
    if ratio.shape != factors.shape or not np.allclose(ratio, factors, rtol=1e-3):
        raise ConfigError(
            f"{gguf.path}: rope_freqs.weight is not Llama 3's stretching of a context "
            "of 8192, the only one that is known"
        )
    return scaling
