"""What visual tokens say of the pictures before theirs: where these look otherwise.

What changed between two screens is told by the tokens of the second, which alone can
look at both. Not published: our choice.

n pictures of a prompt, V views each, Q visual tokens of a view, D width.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.looking import mean
from mm15_mlx.convert.mm15_torch.store import Screen, stored_views

CLEAR = 24  # of 255: a pixel that differs less looks the same
SHARE = 0.01  # of a token's pixels that differ, from which on it does


def otherwise(first: np.ndarray, second: np.ndarray, side: int) -> np.ndarray:
    """Which of `side`² tokens of each view differ: uint8 (V, S, S, 3) twice →
    (V · side²) bool."""
    views, size = first.shape[:2]
    apart = np.abs(first.astype(np.int16) - second).max(-1) > CLEAR  # (V, S, S)
    window = size // side
    share = apart.reshape(views, side, window, side, window).mean((2, 4))
    return (share > SHARE).reshape(-1)


def comparing_loss(
    aids: Aids,
    hidden: Tensor,
    prompts: list[list[Screen]],
    kept: Path,
    config: ModelConfig,
) -> Tensor:
    """Tokens name the pictures before theirs that are otherwise in the same place;
    alike and otherwise count half each. 0 for pictures of different sizes.

    hidden (B, n · V · Q, D): states of the visual tokens of each prompt.
    """
    side = config.connector_config.pooled_grid
    alike, other = [], []
    for states, screens in zip(hidden, prompts, strict=True):
        if len({s.size for s in screens}) > 1:
            continue
        views = [np.asarray(stored_views(s, kept, config)) for s in screens]
        logits = aids.otherwise(states).float().unflatten(0, (len(screens), -1))
        for k in range(1, len(screens)):
            for j in range(k):
                there = torch.from_numpy(otherwise(views[j], views[k], side))
                loss = F.binary_cross_entropy_with_logits(
                    logits[k, :, j], there.float(), reduction="none"
                )
                alike.append(loss[~there])
                other.append(loss[there])
    if not alike:
        return hidden.new_zeros((), dtype=torch.float32)
    return (mean(alike) + mean(other)) / 2
