"""CLIP vision transformer in plain PyTorch (reference and trainer of nano-ui).

B views, P patches a side, N = P*P patches, D width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.config import VisionConfig


def quick_gelu(x: Tensor) -> Tensor:
    return F.silu(1.702 * x) / 1.702  # x · sigmoid(1.702 x), in one kernel


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}


class Attention(nn.Module):
    """As two products: on CPU torch's fused kernel has a far slower backward pass."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        d = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.q_proj = nn.Linear(d, d)
        self.k_proj = nn.Linear(d, d)
        self.v_proj = nn.Linear(d, d)
        self.out_proj = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = (
            proj(x).view(b, n, self.num_heads, -1).transpose(1, 2)  # (B, H, N, D/H)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)  # (B, H, N, N)
        out = scores.softmax(-1, dtype=scores.dtype) @ v
        return self.out_proj(out.transpose(1, 2).reshape(b, n, d))


class MLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.act = ACTIVATIONS[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.self_attn = Attention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    """Normalised pixels (B, 3, S, S) → patch features (B, N, D), CLS dropped."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        d = config.hidden_size
        self.class_embedding = nn.Parameter(0.02 * torch.randn(d))
        self.patch_embedding = nn.Conv2d(
            3, d, config.patch_size, config.patch_size, bias=False
        )
        self.position_embedding = nn.Parameter(
            0.02 * torch.randn(config.grid_size**2 + 1, d)
        )
        self.pre_layernorm = nn.LayerNorm(d, config.layer_norm_eps)
        used = config.num_hidden_layers + 1 + config.feature_layer
        self.layers = nn.ModuleList(Block(config) for _ in range(used))

    def positions(self, grid: int) -> Tensor:
        """The position table at `grid` patches a side, (1 + grid², D)."""
        if grid == self.config.grid_size:
            return self.position_embedding
        cls, table = self.position_embedding[:1], self.position_embedding[1:]
        size = self.config.grid_size
        table = table.T.reshape(1, -1, size, size).float()
        table = F.interpolate(table, size=(grid, grid), mode="bicubic", antialias=True)
        return torch.cat([cls, table.flatten(2)[0].T.to(cls.dtype)])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embedding(pixels)  # (B, D, P, P)
        grid = x.shape[-1]
        x = x.flatten(2).transpose(1, 2)  # (B, N, D)
        cls = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([cls, x], dim=1) + self.positions(grid).to(x.dtype)
        x = self.pre_layernorm(x)
        for layer in self.layers:
            x = layer(x)
        return x[:, 1:]
