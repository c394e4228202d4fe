"""The vision encoder: a CLIP ViT that turns views into patch features.

What this file is: CLIP's vision transformer as DFN5B ViT-H/14 has it (MM1 §3.1; MM1.5
keeps it), with position embeddings interpolated to any view size (MM1.5 §3.1: 672 px).
Its configuration also makes SigLIP and InternViT of it. What it is not: preparing
pixels (tiling.py), reducing tokens (connector.py), or the towers' heads: CLIP's
projection is not part of the features, and its `post_layernorm` neither.

V views, S pixels a side, G patches a side, N = G*G patches, P pixels of a patch's side,
D width, H heads.
"""

import functools

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mm15_mlx import fast_cpu
from mm15_mlx.config import VisionConfig


@functools.lru_cache(maxsize=32)
def resize_matrix(size_in: int, size_out: int) -> np.ndarray:
    """Bicubic, antialiased resampling of one axis as a matrix (size_out, size_in).

    Torch's `interpolate(mode="bicubic", antialias=True, align_corners=False)`: Keys'
    kernel with a = -0.5, widened when shrinking, cut at the borders and normalised.
    """
    step = size_in / size_out
    widen = max(step, 1.0)
    matrix = np.zeros((size_out, size_in))
    for i in range(size_out):
        center = step * (i + 0.5)
        first = max(int(center - 2 * widen + 0.5), 0)
        last = min(int(center + 2 * widen + 0.5), size_in)
        x = np.abs((np.arange(first, last) + 0.5 - center) / widen)
        near = (1.5 * x - 2.5) * x * x + 1
        far = ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
        matrix[i, first:last] = weights / weights.sum()
    return matrix.astype(np.float32)


def resize_table(table: mx.array, grid: int) -> mx.array:
    """A square table of positions (N, D), interpolated to (grid², D)."""
    size = round(table.shape[0] ** 0.5)
    if size == grid:
        return table
    matrix = mx.array(resize_matrix(size, grid))
    # In float32: a half-precision resize would move every position a little.
    rows = matrix @ table.astype(mx.float32).reshape(size, -1)  # (grid, size * D)
    both = matrix @ rows.reshape(grid, size, -1)  # (grid, grid, D)
    return both.reshape(grid * grid, -1).astype(table.dtype)


@functools.partial(fast_cpu.elementwise, fast_cpu.quick_gelu)
@functools.partial(mx.compile, shapeless=True)
def quick_gelu(x: mx.array) -> mx.array:
    """OpenAI's GELU; DFN5B's weights were trained with it."""
    return x * mx.sigmoid(1.702 * x)


gelu = fast_cpu.elementwise(fast_cpu.gelu, nn.gelu)
gelu_tanh = fast_cpu.elementwise(fast_cpu.gelu_tanh, nn.gelu_approx)
ACTIVATIONS = {
    "quick_gelu": quick_gelu, "gelu": gelu, "gelu_pytorch_tanh": gelu_tanh
}  # fmt: skip


class Attention(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        d = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.scale = config.head_dim**-0.5
        self.q_proj = nn.Linear(d, d, bias=config.qkv_bias)
        self.k_proj = nn.Linear(d, d, bias=config.qkv_bias)
        self.v_proj = nn.Linear(d, d, bias=config.qkv_bias)
        self.out_proj = nn.Linear(d, d)

    def __call__(self, x: mx.array) -> mx.array:
        v, n, d = x.shape
        queries, keys, values = (
            proj(x).reshape(v, n, self.num_heads, -1).transpose(0, 2, 1, 3)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )  # (V, H, N or 1 + N, D / H)
        # No mask: all views have one size, and even an all-true mask would keep Metal
        # from its fastest kernel for head dim 80.
        out = fast_cpu.attention(queries, keys, values, self.scale)
        return self.out_proj(out.transpose(0, 2, 1, 3).reshape(v, n, d))


class MLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        return self.fc2(self.activation(self.fc1(x)))


class LayerScale(nn.Module):
    """A learnt factor for each channel (InternViT); the name is timm's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = mx.full((channels,), 0.1)  # InternViT's first value

    def __call__(self, x: mx.array) -> mx.array:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        d, eps = config.hidden_size, config.layer_norm_eps
        self.layer_norm1 = nn.LayerNorm(d, eps)
        self.self_attn = Attention(config)
        self.layer_norm2 = nn.LayerNorm(d, eps)
        self.mlp = MLP(config)
        self.ls1 = LayerScale(d) if config.layer_scale else nn.Identity()
        self.ls2 = LayerScale(d) if config.layer_scale else nn.Identity()

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.ls1(self.self_attn(self.layer_norm1(x)))
        return x + self.ls2(self.mlp(self.layer_norm2(x)))


class Encoder(nn.Module):
    """Normalised views (V, S, S, 3) → patch features (V, N, D), CLS dropped.

    Raises ValueError where a view is no square, or no whole patches and not to be
    cropped.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        d, p, eps = config.hidden_size, config.patch_size, config.layer_norm_eps
        # The patch convolution has stride = kernel: it is a Linear over unfolded
        # patches, (y, x, channel) fastest last.
        self.patch_embedding = nn.Linear(p * p * 3, d, bias=config.patch_bias)
        if config.class_token:
            self.class_embedding = 0.02 * mx.random.normal((d,))
        rows = len(self.leading()) + config.grid_size**2
        self.position_embedding = 0.02 * mx.random.normal((rows, d))
        self.pre_layernorm = nn.LayerNorm(d, eps) if config.pre_norm else nn.Identity()
        # Blocks above the feature layer would never run: they are not built.
        used = config.num_hidden_layers + 1 + config.feature_layer
        self.layers = [Block(config) for _ in range(used)]
        post = nn.LayerNorm(d, eps) if config.post_norm else nn.Identity()
        self.post_layernorm = post

    def leading(self) -> list[mx.array]:
        """What stands before the patches: the class token (D,), or nothing."""
        return [self.class_embedding] if self.config.class_token else []

    def positions(self, grid: int) -> mx.array:
        """The position table at `grid` patches a side, (grid² or 1 + grid², D)."""
        first = len(self.leading())
        cls, table = self.position_embedding[:first], self.position_embedding[first:]
        return mx.concatenate([cls, resize_table(table, grid)])

    def patches(self, pixel_values: mx.array) -> mx.array:
        """Views (V, S, S, 3) → unfolded patches (V, N, P * P * 3)."""
        v, side, _, _ = pixel_values.shape
        p = self.config.patch_size
        g = side // p
        x = pixel_values[:, : g * p, : g * p]
        x = x.reshape(v, g, p, g, p, 3).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(v, g * g, p * p * 3)

    def __call__(self, pixel_values: mx.array) -> mx.array:
        v, height, width, _ = pixel_values.shape
        p = self.config.patch_size
        whole = height % p == 0 or self.config.crop_to_patches
        if height != width or not whole:
            raise ValueError(
                f"a view is {width} x {height} pixels; "
                f"it must be square and its side a multiple of {p}"
            )
        d = self.config.hidden_size
        x = pixel_values.astype(self.position_embedding.dtype)
        x = self.patch_embedding(self.patches(x))  # (V, N, D)
        cls = [mx.broadcast_to(token, (v, 1, d)) for token in self.leading()]
        x = mx.concatenate([*cls, x], axis=1) + self.positions(height // p)
        x = self.pre_layernorm(x)  # (V, N or 1 + N, D)
        for layer in self.layers:
            x = layer(x)
        return self.post_layernorm(x[:, len(cls) :])  # (V, N, D)
