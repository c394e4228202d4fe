"""Coordinates as tokens: near numbers begin alike and are half right."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.convert.mm15_torch.model import MM15


def init_locations(model: MM15, first: int, seed: int = 0) -> None:
    """Near numbers start with near embeddings: random Fourier features of the value.

    Inputs are about as large as the other embeddings, outputs small.
    """
    config = model.config
    count = config.coordinates.range + 1
    rng = np.random.default_rng(seed)
    width = config.text_config.hidden_size
    value = np.arange(count)[:, None] / count
    frequency = np.exp(rng.uniform(np.log(0.5), np.log(80), (1, width)))
    phase = rng.uniform(0, 2 * np.pi, (1, width))
    table = torch.from_numpy(np.sin(2 * np.pi * frequency * value + phase)).float()
    with torch.no_grad():
        model.decoder.embed_tokens.weight[first : first + count] = table
        model.decoder.lm_head.weight[first : first + count] = 0.03 * table


class AnswerLoss(nn.Module):
    """Cross-entropy on answers; a coordinate's target is spread over its neighbours."""

    def __init__(self, first: int, count: int, spread: float) -> None:
        super().__init__()
        d = (torch.arange(count)[:, None] - torch.arange(count)[None]).abs().float()
        self.register_buffer("soft", torch.softmax(-d / spread, dim=-1))
        self.first, self.count = first, count

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """logits (T, vocabulary) float32, target and weight (T,) → mean loss."""
        value = target - self.first
        is_location = (value >= 0) & (value < self.count)
        each = F.cross_entropy(logits, target, reduction="none")
        inside = logits[:, self.first : self.first + self.count]
        soft = self.soft[value.clamp(0, self.count - 1)]
        spread = logits.logsumexp(-1) - (soft * inside).sum(-1)
        each = torch.where(is_location, spread, each)
        return (weight * each).sum() / weight.sum()
