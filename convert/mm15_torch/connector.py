"""Honeybee's C-Abstractor in plain PyTorch, and MM1's two ablations of it.

B views, P patches a side, Q visual tokens a side, D width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.config import ConnectorConfig


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W); eps 1e-5 as timm's RegStage has."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNorm(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False
        )
        self.bn = LayerNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int, reduced: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, reduced, 1)
        self.fc2 = nn.Conv2d(reduced, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.fc2(F.silu(self.fc1(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)


class Bottleneck(nn.Module):
    """RegNet block with a depthwise 3×3; the SE width follows the block's input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, outputs, 1, 1)
        self.conv2 = ConvNorm(outputs, outputs, 3, outputs)
        self.se = SqueezeExcite(outputs, round(inputs * 0.25))
        self.conv3 = ConvNorm(outputs, outputs, 1, 1)
        self.downsample = (
            ConvNorm(inputs, outputs, 1, 1) if inputs != outputs else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.conv1(x))
        y = self.se(F.silu(self.conv2(y)))
        return F.silu(self.conv3(y) + self.downsample(x))


def stage(depth: int, inputs: int, outputs: int) -> nn.Sequential:
    blocks = nn.Sequential()
    for i in range(depth):
        blocks.add_module(f"b{i + 1}", Bottleneck(outputs if i else inputs, outputs))
    return blocks


def readout(depth: int, inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(inputs, outputs)]
    for _ in range(1, depth):
        layers += [nn.SiLU(), nn.Linear(outputs, outputs)]
    return nn.Sequential(*layers)


def square(x: Tensor) -> Tensor:
    """(B, N, D) → (B, D, P, P)."""
    side = round(x.shape[1] ** 0.5)
    return x.transpose(1, 2).reshape(x.shape[0], -1, side, side)


class CAbstractor(nn.Module):
    """Patch features (B, N, D) → visual tokens (B, Q², out)."""

    def __init__(
        self, config: ConnectorConfig, inputs: int, outputs: int, grid: int
    ) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(0.02 * torch.randn(1, grid * grid, inputs))
        self.net = nn.Sequential(
            stage(config.depth, inputs, config.hidden_size),
            nn.AdaptiveAvgPool2d(config.pooled_grid),
            stage(config.depth, config.hidden_size, config.hidden_size),
        )
        self.readout = readout(config.mlp_depth, config.hidden_size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.pooled(x))

    def pooled(self, x: Tensor) -> Tensor:
        """What the readout reads, (B, Q², hidden)."""
        pos = self.pos_emb
        if pos.shape[1] != x.shape[1]:
            side = round(x.shape[1] ** 0.5)
            pos = F.interpolate(
                square(pos.float()), size=(side, side), mode="bicubic", antialias=True
            )
            pos = pos.flatten(2).transpose(1, 2)
        x = self.net(square(x + pos.to(x.dtype)))
        return x.flatten(2).transpose(1, 2)


class AvgPool(nn.Module):
    """Average pooling to Q×Q, then one Linear (MM1 §3.1)."""

    def __init__(self, config: ConnectorConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pooled_grid = config.pooled_grid
        self.readout = nn.Sequential(nn.Linear(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(square(x), self.pooled_grid)
        return self.readout(x.flatten(2).transpose(1, 2))


class MLPConnector(nn.Module):
    """LLaVA's MLP: every patch is a visual token."""

    def __init__(self, config: ConnectorConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Linear(inputs, outputs)]
        for _ in range(1, config.mlp_depth):
            layers += [nn.GELU(), nn.Linear(outputs, outputs)]
        self.readout = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(x)


def build_connector(
    config: ConnectorConfig, inputs: int, outputs: int, grid: int
) -> nn.Module:
    if config.type == "c_abstractor":
        return CAbstractor(config, inputs, outputs, grid)
    if config.type == "avg_pool":
        return AvgPool(config, inputs, outputs)
    return MLPConnector(config, inputs, outputs)
