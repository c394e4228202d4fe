"""Many questions about one picture in one pass.

The picture's tokens come once; every question attends to them and to itself only, at
the positions that it would have alone. So one pass trains what users ask one at a time.

B pictures, P tokens of the picture's prefix, K questions of T tokens, H query heads,
G query heads to each of the C key/value heads, E head width, D width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.convert.mm15_torch.decoder import (
    Attention,
    Decoder,
    rope_tables,
    rotate,
)

BLOCK = 384  # tokens of the picture that ask at a time: later keys are not computed


class Attend(torch.autograd.Function):
    """softmax(q kᵀ) v and each row's log-sum-exp, so that two can be merged.

    What automatic differentiation would do takes twice the time on a CPU: it turns the
    large weights around for the gradient of v, and passes over them again and again.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """q (N, R, E), k and v (N, S, E), hidden (R, S) true where q must not look →
        (N, R, E) and (N, R, 1), the latter float32."""
        weights = q @ k.transpose(1, 2)  # (N, R, S)
        if hidden is not None:
            weights.masked_fill_(hidden, torch.finfo(weights.dtype).min)
        peak = weights.amax(-1, keepdim=True)
        weights.sub_(peak).exp_()
        total = weights.sum(-1, keepdim=True).float()
        out = (weights @ v / total).to(q.dtype)
        ctx.save_for_backward(q, k, v, weights, total, out)
        return out, total.log() + peak

    @staticmethod
    def backward(
        ctx: Any, d_out: Tensor, d_log: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights, total, out = ctx.saved_tensors
        each = (d_out / total).to(v.dtype)
        row = (d_log - (d_out * out).sum(-1, keepdim=True)) / total
        scores = each @ v.transpose(1, 2)
        scores.add_(row.to(scores.dtype)).mul_(weights)
        d_k = (q.transpose(1, 2) @ scores).transpose(1, 2)
        d_v = (each.transpose(1, 2) @ weights).transpose(1, 2)
        return scores @ k, d_k, d_v, None


def future(length: int, groups: int, start: int = 0) -> Tensor:
    """(G · length, start + length), true where a key comes after the query."""
    later = torch.ones(length, start + length, dtype=torch.bool).triu(start + 1)
    return later.repeat(groups, 1)


@dataclass(frozen=True)
class Look:
    """What the first head of each group makes of the picture, question by question,
    and what the picture's own tokens make of those before them."""

    queries: Tensor  # (B, C, K, T, E)
    keys: Tensor  # (B, C, P, E)
    total: Tensor  # (B, C, K, T), log-sum-exp over picture and question
    own_queries: Tensor  # (B, C, P, E)
    own_total: Tensor  # (B, C, P)

    def weights(self, picture: int, which: Tensor, place: Tensor) -> Tensor:
        """(C, N, P) of N positions: `place` (N,) in questions `which` (N,)."""
        rows = self.queries[picture][:, which, place]  # (C, N, E)
        scores = (rows @ self.keys[picture].transpose(1, 2)).float()
        return (scores - self.total[picture][:, which, place][..., None]).exp()

    def own_weights(self, picture: int, head: int, place: Tensor, of: Tensor) -> Tensor:
        """(N,) of tokens at `place` (N,) on those at `of` (N,), which come before."""
        rows = self.own_queries[picture, head, place]  # (N, E)
        scores = (rows * self.keys[picture, head, of]).sum(-1).float()
        return (scores - self.own_total[picture, head, place]).exp()


# of each layer: the picture's states, the questions' and how these look at it
States = list[tuple[Tensor, Tensor, Look]]


def _norm(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """In the type of `x`: mixed types have no fused kernel."""
    return F.rms_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.eps)


def attend(
    attn: Attention, x: Tensor, rope: tuple[Tensor, Tensor], sizes: tuple[int, int, int]
) -> tuple[Tensor, Look]:
    """x (B, P + K·T, D), sizes P, K, T → the same shape, and how the questions look at
    the picture."""
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
    g, n = q.shape[1] // c, b * c
    q = q.reshape(n, g, length, e)
    keys, values = (y[:, :, :p].reshape(n, p, e) for y in (k, v))

    blocks, totals = [], []
    for i in range(0, p, BLOCK):
        end = min(i + BLOCK, p)
        mine = q[:, :, i:end].reshape(n, -1, e)
        later = future(end - i, g, i)
        seen, total = Attend.apply(mine, keys[:, :end], values[:, :end], later)
        blocks.append(seen.view(b, c * g, end - i, e))
        totals.append(total.view(b, c, g, end - i)[:, :, 0])
    first = torch.cat(blocks, dim=2).transpose(1, 2)  # (B, P, H, E)

    ask = q[:, :, p:].reshape(n, g, k_, t, e).transpose(1, 2)  # (N, K, G, T, E)
    own_k, own_v = (y[:, :, p:].reshape(n * k_, t, e) for y in (k, v))
    seen, total = Attend.apply(ask.reshape(n, -1, e), keys, values, None)
    own, own_total = Attend.apply(
        ask.reshape(n * k_, g * t, e), own_k, own_v, future(t, g)
    )
    total, own_total = (y.view(n, k_, g, t, 1) for y in (total, own_total))
    both = torch.logaddexp(total, own_total)
    seen, own = (y.view(n, k_, g, t, e) for y in (seen, own))
    out = seen * (total - both).exp() + own * (own_total - both).exp()
    out = out.to(x.dtype).view(b, c, k_, g, t, e).permute(0, 2, 4, 1, 3, 5)
    look = Look(
        ask.view(b, c, k_, g, t, e)[:, :, :, 0],
        keys.view(b, c, p, e),
        both.view(b, c, k_, g, t)[:, :, :, 0],
        q[:, 0, :p].view(b, c, p, e),
        torch.cat(totals, dim=-1),
    )
    packed = [first.reshape(b, p, -1), out.reshape(b, k_ * t, -1)]
    return attn.o_proj(torch.cat(packed, dim=1)), look


def packed_rope(
    head_dim: int, theta: float, places: Tensor, k: int, t: int
) -> tuple[Tensor, Tensor]:
    """cos and sin for a prefix at `places` (P,) and `k` questions of `t` tokens, each
    where it would be alone."""
    after = places[-1] + 1 + torch.arange(t).repeat(k)
    return rope_tables(torch.cat([places, after])[None], head_dim, theta)


def packed_states(
    decoder: Decoder,
    prefix: Tensor,
    questions: Tensor,
    depth: int | None = None,
    places: Tensor | None = None,
) -> States:
    """prefix (B, P, D), questions (B, K, T, D) → both after each layer, or each of the
    first `depth`, and how the layer's questions looked at the picture. places (P,):
    where the prefix's tokens are in the whole prompt, where it is not all of it; its
    last is."""
    b, p, d = prefix.shape
    k, t = questions.shape[1:3]
    x = torch.cat([prefix, questions.reshape(b, k * t, d)], dim=1)
    places = torch.arange(p) if places is None else places
    config = decoder.config
    rope = packed_rope(config.head_dim, config.rope_theta, places, k, t)
    states = []
    for layer in decoder.layers[:depth]:
        seen, look = attend(layer.self_attn, layer.input_layernorm(x), rope, (p, k, t))
        x = x + seen
        x = x + layer.mlp(layer.post_attention_layernorm(x))
        states.append((x[:, :p], x[:, p:].view(b, k, t, d), look))
    return states
