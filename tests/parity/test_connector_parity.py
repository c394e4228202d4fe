"""The connector against timm's RegStage, of which Honeybee builds its C-Abstractor."""

from functools import partial

import mlx.core as mx
import numpy as np
import pytest
import torch
from torch import nn

from mm15_mlx.config import ConnectorConfig
from mm15_mlx.connector import CAbstractor
from mm15_mlx.convert.connectors import honeybee

from .conftest import Compare
from .references import load_tensors, randomise

pytestmark = pytest.mark.parity


class Honeybee(nn.Module):
    """Honeybee's CAbstractor, from its code: timm's stages and torch's pooling."""

    def __init__(self, inputs: int, hidden: int, outputs: int, grid: int) -> None:
        super().__init__()
        from timm.layers import LayerNorm2d
        from timm.models.regnet import RegStage

        stage = partial(
            RegStage, stride=1, dilation=1, act_layer=nn.SiLU, norm_layer=LayerNorm2d
        )
        self.pos_emb = nn.Parameter(torch.randn(1, grid * grid, inputs))
        self.net = nn.Sequential(
            stage(3, inputs, hidden), nn.AdaptiveAvgPool2d((12, 12)),
            stage(3, hidden, hidden),
        )  # fmt: skip
        self.readout = nn.Sequential(
            nn.Linear(hidden, outputs), nn.SiLU(), nn.Linear(outputs, outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.pos_emb
        side = round(x.shape[1] ** 0.5)
        x = x.transpose(1, 2).reshape(x.shape[0], -1, side, side)
        return self.readout(self.net(x).flatten(2).transpose(1, 2))


@pytest.mark.parametrize("grid", [16, 24, 27, 48])
@pytest.mark.parametrize(("inputs", "hidden"), [(40, 32), (32, 32), (20, 48)])
def test_c_abstractor(compare: Compare, grid: int, inputs: int, hidden: int) -> None:
    reference = randomise(Honeybee(inputs, hidden, 24, grid))
    config = ConnectorConfig(hidden_size=hidden)
    ours = CAbstractor(config, inputs, 24, grid)
    state = reference.state_dict()
    tensors = {f"abstractor.{n}": mx.array(t.numpy()) for n, t in state.items()}
    load_tensors(tensors, honeybee(), connector=ours)
    shape = (2, grid * grid, inputs)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    # In float64, so that the error is ours alone, not theirs and ours.
    theirs = reference.double()(torch.from_numpy(x).double()).float()
    unit = max(1.0, float(theirs.abs().max()))
    what = f"C-Abstractor: timm RegStage, {grid}² → 12²"
    # Products round by the processor: 1.2e-6 on one with AVX2, below 1e-6 with AVX-512.
    compare(what, ours(mx.array(x)) / unit, theirs / unit, 2e-6)
