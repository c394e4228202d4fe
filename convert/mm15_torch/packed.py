"""Many questions about one picture in one pass.

The picture's tokens come once; every question attends to them and to itself only, at
the positions that it would have alone. So one pass trains what users ask one at a time.

B pictures, P tokens of the picture's prefix, K questions of T tokens, H query heads,
G query heads to each of the C key/value heads, E head width, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.convert.mm15_torch.decoder import (
    Attention,
    Decoder,
    rope_tables,
    rotate,
)


def _causal(scores: Tensor, length: int, groups: int) -> Tensor:
    """Scores (…, G · length, length) without the keys that come after their query."""
    future = torch.ones(length, length, dtype=torch.bool).triu(1).repeat(groups, 1)
    return scores.masked_fill(future, torch.finfo(scores.dtype).min)


def _norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """In the type of `x`: mixed types have no fused kernel."""
    return F.rms_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.eps)


def attend(
    attn: Attention, x: Tensor, rope: tuple[Tensor, Tensor], sizes: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """x (B, P + K·T, D), sizes P, K, T → the same shape, and how much the questions
    look at the picture (B, C, K, G, T, P)."""
    p, k_, t = sizes
    b, length, _ = x.shape
    q, k, v = (
        proj(x).view(b, length, -1, attn.head_dim)
        for proj in (attn.q_proj, attn.k_proj, attn.v_proj)
    )
    if attn.qk_norm:
        q, k = _norm(attn.q_norm, q), _norm(attn.k_norm, k)
    q, k, v = (y.transpose(1, 2) for y in (q, k, v))  # (B, heads, L, E)
    q, k = rotate(q, *rope), rotate(k, *rope)
    q = q * attn.head_dim**-0.5
    c, e = k.shape[1], attn.head_dim
    g = q.shape[1] // c
    q = q.view(b, c, g, length, e)
    keys, values = k[:, :, :p], v[:, :, :p]  # (B, C, P, E)

    mine = q[:, :, :, :p].reshape(b, c, g * p, e)
    scores = _causal(mine @ keys.transpose(2, 3), p, g)
    weights = scores.softmax(-1, dtype=scores.dtype)
    first = (weights @ values).view(b, c * g, p, e).transpose(1, 2)

    ask = q[:, :, :, p:].reshape(b, c, g, k_, t, e).transpose(2, 3)
    ask = ask.reshape(b, c, k_, g * t, e)
    own_k, own_v = (y[:, :, p:].reshape(b, c, k_, t, e) for y in (k, v))
    to_picture = ask.view(b, c, k_ * g * t, e) @ keys.transpose(2, 3)
    to_self = _causal(ask @ own_k.transpose(3, 4), t, g)  # (B, C, K, G·T, T)
    scores = torch.cat([to_picture.view(b, c, k_, g * t, p), to_self], dim=-1)
    weights = scores.softmax(-1, dtype=scores.dtype)
    seen = (weights[..., :p].reshape(b, c, k_ * g * t, p) @ values).view_as(ask)
    seen = seen + weights[..., p:] @ own_v
    seen = seen.view(b, c, k_, g, t, e).permute(0, 2, 4, 1, 3, 5)  # (B, K, T, C, G, E)
    out = torch.cat([first.reshape(b, p, -1), seen.reshape(b, k_ * t, -1)], dim=1)
    return attn.o_proj(out), weights[..., :p].view(b, c, k_, g, t, p)


def packed_states(
    decoder: Decoder, prefix: Tensor, questions: Tensor
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """prefix (B, P, D), questions (B, K, T, D) → both after each layer, and how much
    the layer's questions looked at the picture (B, C, K, G, T, P)."""
    b, p, d = prefix.shape
    k, t = questions.shape[1:3]
    x = torch.cat([prefix, questions.reshape(b, k * t, d)], dim=1)
    positions = torch.cat([torch.arange(p), p + torch.arange(t).repeat(k)])[None]
    config = decoder.config
    rope = rope_tables(positions, config.head_dim, config.rope_theta)
    states = []
    for layer in decoder.layers:
        seen, look = attend(layer.self_attn, layer.input_layernorm(x), rope, (p, k, t))
        x = x + seen
        x = x + layer.mlp(layer.post_attention_layernorm(x))
        states.append((x[:, :p], x[:, p:].view(b, k, t, d), look))
    return states
