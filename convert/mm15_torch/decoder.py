"""Decoder-only transformer in plain PyTorch, dense or mixture-of-experts.

B batch, L tokens, D width, H query heads, K key/value heads, E experts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.config import TextConfig


def rope_tables(
    positions: Tensor, head_dim: int, theta: float
) -> tuple[Tensor, Tensor]:
    """cos and sin (B, 1, L, D) of the rotate-half convention for positions (B, L)."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device) / head_dim
    angles = positions[..., None].float() * theta**-exponents  # (B, L, D/2)
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return x * cos.to(x.dtype) + torch.cat([-b, a], dim=-1) * sin.to(x.dtype)


class Attention(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        d, h = config.hidden_size, config.head_dim
        self.head_dim = h
        bias = config.attention_bias
        self.q_proj = nn.Linear(d, config.num_attention_heads * h, bias=bias)
        self.k_proj = nn.Linear(d, config.num_key_value_heads * h, bias=bias)
        self.v_proj = nn.Linear(d, config.num_key_value_heads * h, bias=bias)
        self.o_proj = nn.Linear(config.num_attention_heads * h, d, bias=False)
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(h, config.rms_norm_eps)
            self.k_norm = nn.RMSNorm(h, config.rms_norm_eps)
        self.qk_norm = config.qk_norm

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        b, length, _ = x.shape
        q, k, v = (
            proj(x).view(b, length, -1, self.head_dim)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, heads, L, D/H)
        q, k = rotate(q, *rope), rotate(k, *rope)
        groups = q.shape[1] // k.shape[1]
        k, v = (t.repeat_interleave(groups, dim=1) for t in (k, v))
        out = F.scaled_dot_product_attention(
            q, k, v.to(q.dtype), attn_mask=mask, is_causal=mask is None
        )
        return self.o_proj(out.transpose(1, 2).reshape(b, length, -1))


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MoE(nn.Module):
    """Top-k experts with gates renormalised from a softmax over all experts.

    `losses` holds the last forward's load-balance and router z-losses (MM1.5: weights
    0.01 and 0.001), as AXLearn defines them.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.top_k = config.num_experts_per_tok
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.experts = nn.ModuleList(
            MLP(config.hidden_size, config.moe_intermediate_size)
            for _ in range(config.num_experts)
        )
        self.losses: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])  # (B·L, D)
        logits = self.gate(flat).float()
        probs = logits.softmax(-1)  # (B·L, E)
        gates, chosen = probs.topk(self.top_k, dim=-1)
        gates = gates / (gates.sum(-1, keepdim=True) + 1e-9)
        out = torch.zeros_like(flat)
        for e, expert in enumerate(self.experts):
            token, slot = torch.where(chosen == e)
            if token.numel():
                gate = gates[token, slot, None].to(flat.dtype)
                out.index_add_(0, token, gate * expert(flat[token]))
        top1 = F.one_hot(chosen[:, 0], len(self.experts)).float().mean(0)
        balance = len(self.experts) * (top1 * probs.mean(0)).sum()
        self.losses = (balance, logits.logsumexp(-1).square().mean())
        return out.view_as(x)


class Block(nn.Module):
    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        d, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = nn.RMSNorm(d, eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(d, eps)
        self.mlp = (
            MoE(config) if config.is_sparse(layer) else MLP(d, config.intermediate_size)
        )

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], mask: Tensor | None
    ) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rope, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embeddings (B, L, D) → hidden states; `logits` gives (…, vocabulary)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, i) for i in range(config.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(
        self, x: Tensor, positions: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """`mask` (B, 1, L, L) True = attend, None = causal; positions default 0…L-1."""
        return self.norm(self.states(x, positions, mask)[-1])

    def states(
        self, x: Tensor, positions: Tensor | None = None, mask: Tensor | None = None
    ) -> list[Tensor]:
        """The residual stream (B, L, D) after each layer."""
        if positions is None:
            positions = torch.arange(x.shape[1], device=x.device)[None]
        rope = rope_tables(positions, self.config.head_dim, self.config.rope_theta)
        states = []
        for layer in self.layers:
            x = layer(x, rope, mask)
            states.append(x)
        return states

    def logits(self, x: Tensor) -> Tensor:
        if self.config.tie_word_embeddings:
            return F.linear(x, self.embed_tokens.weight.to(x.dtype))
        return self.lm_head(x)
