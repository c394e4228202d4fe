"""The connector: patch features in, a fixed number of visual tokens out.

What this file is: Honeybee's C-Abstractor, MM1's choice (MM1 §3.1; MM1.5: 144 tokens a
view), the two ablations of it, average pooling and LLaVA's MLP, and the pixel shuffle
of Idefics3 and InternVL. What it is not: reading pixels (encoder.py) or placing tokens
in the text (mm15.py). Neither paper gives depth and width: they are Honeybee's
defaults. Names follow Honeybee and timm.

V views, G patches a side, N = G*G patches, Q visual tokens a side, C channels,
D decoder width.
"""

import functools

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mm15_mlx import fast_cpu
from mm15_mlx.config import ConnectorConfig
from mm15_mlx.encoder import ACTIVATIONS, resize_table


@functools.lru_cache(maxsize=32)
def pool_matrix(size_in: int, size_out: int) -> np.ndarray:
    """Exact adaptive average pooling of one axis as a matrix (size_out, size_in).

    Windows overlap where the sizes do not divide: 27 → 12 has windows of 3, stride 2-3.
    """
    matrix = np.zeros((size_out, size_in), np.float32)
    for i in range(size_out):
        first, last = i * size_in // size_out, -(-(i + 1) * size_in // size_out)
        matrix[i, first:last] = 1 / (last - first)
    return matrix


def square(x: mx.array) -> mx.array:
    """(V, N, C) → (V, G, G, C)."""
    side = round(x.shape[1] ** 0.5)
    return x.reshape(x.shape[0], side, side, x.shape[2])


class AdaptiveAvgPool(nn.Module):
    """(V, G, G, C) → (V, Q, Q, C) for any G."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def __call__(self, x: mx.array) -> mx.array:
        v, g, _, c = x.shape
        q = self.side
        matrix = mx.array(pool_matrix(g, q)).astype(x.dtype)
        x = matrix @ x.reshape(v, g, g * c)  # (V, Q, G * C)
        return matrix @ x.reshape(v, q, g, c)  # (V, Q, Q, C)


class ConvNorm(nn.Module):
    """A convolution and a LayerNorm over the channels of every pixel.

    eps is 1e-5: timm builds its LayerNormAct2d here, not LayerNorm2d with 1e-6.
    """

    def __init__(self, conv: nn.Module, channels: int) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.LayerNorm(channels, eps=1e-5)

    def __call__(self, x: mx.array) -> mx.array:
        return self.bn(self.conv(x))


def pointwise(inputs: int, outputs: int) -> ConvNorm:
    """A 1×1 convolution is a Linear over the channels, so it can be quantised."""
    return ConvNorm(nn.Linear(inputs, outputs, bias=False), outputs)


class Depthwise(nn.Conv2d):
    """A 3×3 convolution of every channel alone."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return fast_cpu.depthwise(x, self.weight)


def depthwise(channels: int) -> ConvNorm:
    return ConvNorm(Depthwise(channels), channels)


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, reduced)
        self.fc2 = nn.Linear(reduced, channels)

    def __call__(self, x: mx.array) -> mx.array:
        mean = x.mean(axis=(1, 2), keepdims=True)  # (V, 1, 1, C)
        return x * mx.sigmoid(self.fc2(silu(self.fc1(mean))))


class Bottleneck(nn.Module):
    """RegNet block with a depthwise 3×3; the SE width follows the block's own input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = pointwise(inputs, outputs)
        self.conv2 = depthwise(outputs)
        self.se = SqueezeExcite(outputs, round(inputs * 0.25))
        self.conv3 = pointwise(outputs, outputs)
        same = inputs == outputs
        self.downsample = nn.Identity() if same else pointwise(inputs, outputs)

    def __call__(self, x: mx.array) -> mx.array:
        y = silu(self.conv1(x))
        y = self.se(silu(self.conv2(y)))
        return silu(self.conv3(y) + self.downsample(x))


class Stage(nn.Module):
    """Blocks b1, b2, … as timm's RegStage names them."""

    def __init__(self, depth: int, inputs: int, outputs: int) -> None:
        super().__init__()
        for i in range(depth):
            setattr(self, f"b{i + 1}", Bottleneck(outputs if i else inputs, outputs))

    def __call__(self, x: mx.array) -> mx.array:
        for block in self.children().values():
            x = block(x)
        return x


class CAbstractor(nn.Module):
    """Patch features (V, N, C) → visual tokens (V, Q², D)."""

    def __init__(
        self, config: ConnectorConfig, inputs: int, outputs: int, grid: int
    ) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.pos_emb = 0.02 * mx.random.normal((1, grid * grid, inputs))
        self.net = [
            Stage(config.depth, inputs, hidden),
            AdaptiveAvgPool(config.pooled_grid),
            Stage(config.depth, hidden, hidden),
        ]
        self.readout: list[nn.Module] = [nn.Linear(hidden, outputs)]
        for _ in range(1, config.mlp_depth):
            self.readout += [nn.SiLU(), nn.Linear(outputs, outputs)]

    def __call__(self, x: mx.array) -> mx.array:
        side = round(x.shape[1] ** 0.5)
        x = square(x + resize_table(self.pos_emb[0], side))  # (V, G, G, C)
        for part in self.net:
            x = part(x)
        x = x.flatten(1, 2)  # (V, Q², hidden)
        for layer in self.readout:
            x = layer(x)
        return x


class AvgPool(nn.Module):
    """Average pooling to Q×Q, then one Linear (MM1 §3.1, an ablation)."""

    def __init__(self, config: ConnectorConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pool = AdaptiveAvgPool(config.pooled_grid)
        self.readout = [nn.Linear(inputs, outputs)]

    def __call__(self, x: mx.array) -> mx.array:
        return self.readout[0](self.pool(square(x)).flatten(1, 2))


silu = fast_cpu.elementwise(fast_cpu.silu, nn.silu)


class Activation(nn.Module):
    """A function in a list of layers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = ACTIVATIONS[name]

    def __call__(self, x: mx.array) -> mx.array:
        return self.function(x)


class MLPConnector(nn.Module):
    """LLaVA's MLP: every patch is a visual token (MM1 §3.1, an ablation)."""

    def __init__(self, config: ConnectorConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        bias = config.mlp_bias
        self.readout: list[nn.Module] = [nn.Linear(inputs, outputs, bias=bias)]
        for _ in range(1, config.mlp_depth):
            self.readout += [
                Activation(config.hidden_act), nn.Linear(outputs, outputs, bias=bias)
            ]  # fmt: skip

    def __call__(self, x: mx.array) -> mx.array:
        for layer in self.readout:
            x = layer(x)
        return x


class PixelShuffle(nn.Module):
    """The patches of a square are one visual token's channels, then an MLP.

    Channels are in the square's reading order, as in Idefics3 and in InternVL since
    its `ps_version` v2; v1 leaves rows and columns exchanged.
    """

    def __init__(self, config: ConnectorConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.side = config.scale_factor
        channels = inputs * self.side**2
        # InternVL: PyTorch's usual eps.
        norm = nn.LayerNorm(channels, 1e-5) if config.pre_norm else nn.Identity()
        self.pre_layernorm = norm
        self.readout = MLPConnector(config, channels, outputs).readout

    def shuffled(self, x: mx.array) -> mx.array:
        """(V, N, C) → (V, N / side², side² · C)."""
        v, _, c = x.shape
        s = self.side
        q = round(x.shape[1] ** 0.5) // s
        x = x.reshape(v, q, s, q, s, c).transpose(0, 1, 3, 2, 4, 5)
        return x.reshape(v, q * q, s * s * c)

    def __call__(self, x: mx.array) -> mx.array:
        x = self.pre_layernorm(self.shuffled(x))
        for layer in self.readout:
            x = layer(x)
        return x


Connector = CAbstractor | AvgPool | MLPConnector | PixelShuffle


def build_connector(
    config: ConnectorConfig, inputs: int, outputs: int, grid: int
) -> Connector:
    """The connector that `config` names, for features of `grid`² patches."""
    if config.type == "c_abstractor":
        return CAbstractor(config, inputs, outputs, grid)
    if config.type == "avg_pool":
        return AvgPool(config, inputs, outputs)
    if config.type == "pixel_shuffle":
        return PixelShuffle(config, inputs, outputs)
    return MLPConnector(config, inputs, outputs)
