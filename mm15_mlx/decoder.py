"""The decoder: a causal transformer, dense or with experts in every k-th layer.

What this file is: rotary positions, grouped-query attention, gated MLPs, the KV cache,
and MM1.5's mixture of experts (64 experts, top-2, in every second layer; losses as
AXLearn defines them). Its configuration also makes Llama, Qwen, Mixtral, Gemma and
Phi-3 of it. What it is not: sampling (generate.py) or images (mm15.py). The shapes are
not published; names follow Hugging Face's Llama and Qwen3-MoE.

Experts are drop-free here: AXLearn drops tokens above a capacity factor of 2, which
makes an answer depend on what else is in the batch.

B batch, L tokens, T tokens cached so far, D width, H query heads, K key/value heads,
E experts, k experts of a token.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn

from mm15_mlx import fast_cpu, one_token
from mm15_mlx.config import GELUS, TextConfig
from mm15_mlx.encoder import ACTIVATIONS
from mm15_mlx.rope import rope_periods, rope_temper

Mask = str | mx.array | None


class Cache(Protocol):
    """What attention asks of a cache: ours, and any of mlx-lm's."""

    offset: Any  # int, or one per row in mlx-lm's batched cache

    def update_and_fetch(
        self, keys: mx.array, values: mx.array
    ) -> tuple[mx.array, mx.array]: ...

    def make_mask(
        self, N: int, return_array: bool = False, window_size: int | None = None
    ) -> Mask: ...


class NoCache:
    """The whole sequence at once: training, and scoring a text."""

    offset = 0

    def update_and_fetch(
        self, keys: mx.array, values: mx.array
    ) -> tuple[mx.array, mx.array]:
        return keys, values

    def make_mask(
        self, N: int, return_array: bool = False, window_size: int | None = None
    ) -> Mask:
        # "causal" and None, unlike an array, keep Metal's fused kernels.
        return "causal" if N > 1 else None


class KVCache(NoCache):
    """Keys and values of one layer, grown in steps.

    mlx-lm's KVCache under the same name and with the same state, so its saving,
    trimming, quantising and batching take it. Our own, because importing mlx-lm's costs
    seconds: it brings transformers.
    """

    step = 256

    def __init__(self) -> None:
        self.keys: mx.array | None = None  # (B, K, capacity, head_dim)
        self.values: mx.array | None = None
        self.offset = 0

    def update_and_fetch(
        self, keys: mx.array, values: mx.array
    ) -> tuple[mx.array, mx.array]:
        start, self.offset = self.offset, self.offset + keys.shape[2]
        self.keys = self._grown(self.keys, keys, start)
        self.values = self._grown(self.values, values, start)
        self.keys[..., start : self.offset, :] = keys
        self.values[..., start : self.offset, :] = values
        return self.keys_and_values()

    def _grown(self, stored: mx.array | None, new: mx.array, start: int) -> mx.array:
        """`stored` with room for `new` after its first `start` tokens."""
        if stored is not None and self.offset <= stored.shape[2]:
            return stored
        b, heads, length, head_dim = new.shape
        # A whole number of steps: writing into free room is far cheaper than
        # concatenating at every token.
        room = -(-length // self.step) * self.step
        free = mx.zeros((b, heads, room, head_dim), new.dtype)
        if stored is None:
            return free
        return mx.concatenate([stored[..., :start, :], free], axis=2)

    def keys_and_values(self) -> tuple[mx.array, mx.array]:
        if self.keys is None or self.values is None:
            raise ValueError("this KV cache is empty; run the model with it first")
        return self.keys[..., : self.offset, :], self.values[..., : self.offset, :]

    @property
    def state(self) -> tuple[mx.array | None, mx.array | None, int]:
        return self.keys, self.values, self.offset

    @state.setter
    def state(self, state: tuple[mx.array | None, mx.array | None, int]) -> None:
        self.keys, self.values, self.offset = state

    @property
    def nbytes(self) -> int:
        if self.keys is None or self.values is None:
            return 0
        return self.keys.nbytes + self.values.nbytes

    def size(self) -> int:
        return self.offset

    def empty(self) -> bool:
        return self.keys is None

    def is_trimmable(self) -> bool:
        return True

    def trim(self, n: int) -> int:
        """Forget the last `n` tokens; returns how many there were to forget."""
        n = min(self.offset, n)
        self.offset -= n
        return n

    def to_quantized(self, group_size: int = 64, bits: int = 4) -> Any:
        from mlx_lm.models.cache import KVCache as MLXKVCache

        cache = MLXKVCache()
        cache.state = self.state
        return cache.to_quantized(group_size, bits)

    @classmethod
    def merge(cls, caches: list["KVCache"]) -> Any:
        from mlx_lm.models.cache import BatchKVCache

        return BatchKVCache.merge(caches)


def attend(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    cache: Cache,
    scale: float,
    mask: Mask,
) -> mx.array:
    """Attention over dense keys, or as the cache has it: quantised, or shared."""
    if hasattr(cache, "attend"):
        return cache.attend(queries, keys, values, scale, mask)
    if hasattr(cache, "bits"):
        # Only mlx-lm makes such a cache, so here it is loaded already.
        from mlx_lm.models.base import scaled_dot_product_attention

        return scaled_dot_product_attention(queries, keys, values, cache, scale, mask)
    if mask is None and queries.shape[2] == 1 and mx.default_device() == mx.cpu:
        return attend_once(queries, keys, values, scale)
    # Fewer key than query heads are fine: the kernel shares them without copies.
    return fast_cpu.attention(queries, keys, values, scale, mask)


def attend_once(
    queries: mx.array, keys: mx.array, values: mx.array, scale: float
) -> mx.array:
    """Attention of one query (B, H, 1, head_dim) to all keys, on a CPU.

    There MLX multiplies every query head by itself; those of one key head at once take
    two thirds of the time.
    """
    b, heads, _, head_dim = queries.shape
    # (B, K, H / K, head_dim)
    grouped = (queries * scale).reshape(b, keys.shape[1], -1, head_dim)
    scores = grouped @ keys.swapaxes(-1, -2)  # (B, K, H / K, T)
    weights = mx.softmax(scores, axis=-1, precise=True)
    return (weights @ values).reshape(b, heads, 1, head_dim)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        d, h = config.hidden_size, config.head_dim
        self.head_dim = h
        self.scale = h**-0.5 * rope_temper(config.rope_scaling)
        # Either theta or all periods, as mx.fast.rope takes them.
        self.theta: float | None = config.rope_theta
        self._periods: mx.array | None = None
        if config.rope_scaling.rope_type != "default":
            periods = rope_periods(config.rope_theta, h, config.rope_scaling)
            self.theta, self._periods = None, mx.array(periods)
        bias = config.attention_bias
        self.q_proj = fast_cpu.Linear(d, config.num_attention_heads * h, bias=bias)
        self.k_proj = fast_cpu.Linear(d, config.num_key_value_heads * h, bias=bias)
        self.v_proj = fast_cpu.Linear(d, config.num_key_value_heads * h, bias=bias)
        self.o_proj = fast_cpu.Linear(config.num_attention_heads * h, d, bias=False)
        norm = config.qk_norm
        self.q_norm = nn.RMSNorm(h, config.rms_norm_eps) if norm else nn.Identity()
        self.k_norm = nn.RMSNorm(h, config.rms_norm_eps) if norm else nn.Identity()

    def rotate(self, x: mx.array, offset: Any) -> mx.array:
        # Not `traditional`: pairs are (i, i + head_dim / 2), as Hugging Face has them.
        return mx.fast.rope(
            x, self.head_dim, traditional=False, base=self.theta, scale=1.0,
            offset=offset, freqs=self._periods,
        )  # fmt: skip

    def __call__(self, x: mx.array, mask: Mask, cache: Cache) -> mx.array:
        b, length, _ = x.shape
        queries, keys, values = (
            proj(x).reshape(b, length, -1, self.head_dim)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, L, H or K, head_dim)
        queries = self.q_norm(queries).transpose(0, 2, 1, 3)  # (B, H, L, head_dim)
        keys = self.k_norm(keys).transpose(0, 2, 1, 3)  # (B, K, L, head_dim)
        values = values.transpose(0, 2, 1, 3)
        queries = self.rotate(queries, cache.offset)
        keys = self.rotate(keys, cache.offset)
        keys, values = cache.update_and_fetch(keys, values)  # (B, K, T + L, head_dim)
        out = attend(queries, keys, values, cache, self.scale, mask)
        return self.o_proj(out.transpose(0, 2, 1, 3).reshape(b, length, -1))


@functools.partial(fast_cpu.elementwise, fast_cpu.swiglu)
def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    return nn.silu(gate) * up


def geglu(name: str, gate: mx.array, up: mx.array) -> mx.array:
    return ACTIVATIONS[name](gate) * up


Gate = Callable[[mx.array, mx.array], mx.array]
GATES: dict[str, Gate] = {
    "silu": swiglu,
    **{name: functools.partial(geglu, name) for name in GELUS},
}


class MLP(nn.Module):
    """SwiGLU or GeGLU. Returns no router logits, so that it stands where MoE does."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        hidden_size, intermediate_size = config.hidden_size, config.intermediate_size
        self.activation = GATES[config.hidden_act]
        self.gate_proj = fast_cpu.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = fast_cpu.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = fast_cpu.Linear(intermediate_size, hidden_size, bias=False)

    def __call__(self, x: mx.array) -> tuple[mx.array, list[mx.array]]:
        return self.down_proj(self.activation(self.gate_proj(x), self.up_proj(x))), []


def summing_to_one(shares: mx.array) -> mx.array:
    return shares / (shares.sum(axis=-1, keepdims=True) + 1e-9)


class MoE(nn.Module):
    """Top-k experts. Returns the router's logits too, for `router_losses`."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        # Here, not above: it costs seconds that a dense model need not wait for.
        from mlx_lm.models.switch_layers import SwitchGLU

        self.top_k = config.num_experts_per_tok
        self.shares = summing_to_one if config.norm_topk_prob else nn.Identity()
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.switch_mlp = SwitchGLU(
            config.hidden_size, config.moe_intermediate_size, config.num_experts
        )

    def __call__(self, x: mx.array) -> tuple[mx.array, list[mx.array]]:
        logits = self.gate(x).astype(mx.float32)  # (B, L, E)
        # Softmax over all experts, then (MM1.5) renormalised over the chosen ones.
        probs = mx.softmax(logits, axis=-1)
        chosen = mx.argpartition(-probs, kth=self.top_k - 1, axis=-1)
        chosen = mx.stop_gradient(chosen[..., : self.top_k])  # (B, L, k)
        gates = self.shares(mx.take_along_axis(probs, chosen, axis=-1))
        y = self.switch_mlp(x, chosen)  # (B, L, k, D)
        y = (y * gates[..., None].astype(y.dtype)).sum(axis=-2)  # (B, L, D)
        return y, [logits]


def first_choices(logits: mx.array, tokens: mx.array) -> mx.array:
    """How many tokens prefer each expert, (E,) float32, without gradients.

    `logits` (…, E); `tokens` (…) is 1 for a real token and 0 for padding.
    """
    experts = logits.shape[-1]
    top1 = mx.argmax(logits, axis=-1, keepdims=True) == mx.arange(experts)
    counts = (top1 * tokens[..., None]).sum(axis=tuple(range(logits.ndim - 1)))
    return mx.stop_gradient(counts.astype(mx.float32))


def router_losses(
    logits: mx.array, tokens: mx.array, chosen: mx.array
) -> tuple[mx.array, mx.array]:
    """Load-balance and router z-loss of one layer, as AXLearn defines them.

    `logits` (…, E) float32 and `tokens` (…) as `first_choices` has them; `chosen` (E,)
    are these choices, of the whole batch: where `logits` are of a part of it, the
    losses of all parts add up to its own. MM1.5 weighs them 0.01 and 0.001; the sum
    over layers is the trainer's.
    """
    total = chosen.sum()  # each token has one first choice
    weight = tokens.astype(mx.float32)[..., None] / total
    probs = mx.softmax(logits, axis=-1)
    shares = (probs * weight).sum(axis=tuple(range(logits.ndim - 1)))  # (E,)
    balance = logits.shape[-1] * (chosen / total * shares).sum()
    z = mx.logsumexp(logits, axis=-1, keepdims=True)
    return balance, (z.square() * weight).sum()


class Block(nn.Module):
    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        d, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = nn.RMSNorm(d, eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(d, eps)
        self.mlp = MoE(config) if config.is_sparse(layer) else MLP(config)

    def __call__(
        self, x: mx.array, mask: Mask, cache: Cache
    ) -> tuple[mx.array, list[mx.array]]:
        x = x + self.self_attn(self.input_layernorm(x), mask, cache)
        y, router_logits = self.mlp(self.post_attention_layernorm(x))
        return x + y, router_logits


class Decoder(nn.Module):
    """Token ids (B, L), or their embeddings (B, L, D), → hidden states (B, L, D)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = fast_cpu.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [Block(config, i) for i in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        if not config.tie_word_embeddings:
            self.lm_head = fast_cpu.Linear(
                config.hidden_size, config.vocab_size, bias=False
            )

    def embed(self, ids: mx.array) -> mx.array:
        """Embeddings (…, D) of ids (…), at the size that the layers expect."""
        # A table packed as mxfp4 and the like gives bfloat16, whatever the rest is.
        rows = self.embed_tokens(ids).astype(self.norm.weight.dtype)
        return rows * self.config.embedding_scale

    def __call__(
        self,
        inputs: mx.array,
        cache: list[Any] | None = None,
        input_embeddings: mx.array | None = None,
    ) -> mx.array:
        return self.with_router_logits(inputs, cache, input_embeddings)[0]

    def with_router_logits(
        self,
        inputs: mx.array,
        cache: list[Any] | None = None,
        input_embeddings: mx.array | None = None,
    ) -> tuple[mx.array, list[mx.array]]:
        """Hidden states, and the router logits (B, L, E) of every layer with experts.

        For training. They cost nothing elsewhere: what is not used is not computed.
        """
        x = self.embed(inputs) if input_embeddings is None else input_embeddings
        caches = cache or [NoCache()] * len(self.layers)
        own = all(type(c) is KVCache for c in caches)
        if own and one_token.fits(self, x, caches):
            return one_token.hidden(self, x, caches), []
        mask = caches[0].make_mask(x.shape[1], return_array=False, window_size=None)
        collected = []
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            x, router_logits = layer(x, mask, layer_cache)
            collected += router_logits
        return self.norm(x), collected

    def logits(self, hidden: mx.array) -> mx.array:
        """Hidden states (…, D) → logits (…, vocabulary)."""
        if self.config.tie_word_embeddings:
            return self.embed_tokens.as_linear(hidden)
        return self.lm_head(hidden)
