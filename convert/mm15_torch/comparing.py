"""What visual tokens say of the pictures before theirs: where these look otherwise.

What changed between two screens is told by the tokens of the second, which alone can
look at both: a head for each picture before theirs looks at the same place there.
Not published: our choice.

n pictures of a prompt, V views each, Q visual tokens of a view, D width.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.looking import across, lost, mean
from mm15_mlx.convert.mm15_torch.packed import Look
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET, Batch
from mm15_mlx.convert.mm15_torch.store import Screen, stored_views

CLEAR = 24  # of 255: a pixel that differs less looks the same
SAMPLED = 256  # tokens of a picture that are taught where to look
SHARE = 0.01  # of a token's pixels that differ, from which on it does
MOST = 8.0  # what a token of an answer about both screens weighs


def otherwise(first: np.ndarray, second: np.ndarray, side: int) -> np.ndarray:
    """Which of `side`² tokens of each view differ: uint8 (V, S, S, 3) twice →
    (V · side²) bool."""
    views, size = first.shape[:2]
    apart = np.abs(first.astype(np.int16) - second).max(-1) > CLEAR  # (V, S, S)
    window = size // side
    share = apart.reshape(views, side, window, side, window).mean((2, 4))
    return (share > SHARE).reshape(-1)


def comparing_losses(
    aids: Aids,
    hidden: Tensor,
    prompts: list[list[Screen]],
    kept: Path,
    config: ModelConfig,
) -> dict[str, Tensor]:
    """comparing: tokens name the pictures before theirs that are otherwise in the same
    place; alike and otherwise count half each. standing_out: of all tokens those do
    most that are otherwise, or a switch would drown in what is nearly so. Nothing of
    pictures of different sizes.

    hidden (B, n · V · Q, D): states of the visual tokens of each prompt.
    """
    side = config.connector_config.pooled_grid
    alike, other, most = [], [], []
    for states, screens in zip(hidden, prompts, strict=True):
        if len({s.size for s in screens}) > 1:
            continue
        views = [np.asarray(stored_views(s, kept, config)) for s in screens]
        differs = aids.otherwise(states).float().unflatten(0, (len(screens), -1))
        for k in range(1, len(screens)):
            for j in range(k):
                there = torch.from_numpy(otherwise(views[j], views[k], side))
                loss = F.binary_cross_entropy_with_logits(
                    differs[k, :, j], there.float(), reduction="none"
                )
                alike.append(loss[~there])
                other.append(loss[there])
                if there.any():
                    chances = differs[k, :, j].log_softmax(0)[there]
                    most.append(-chances.mean()[None] - math.log(len(chances)))
    if not alike:
        return {}
    both = {"comparing": (mean(alike) + mean(other)) / 2}
    return {**both, "standing_out": mean(most)} if most else both


def shares(batch: Batch) -> Tensor:
    """(N,) weights of the answers' tokens: those about two screens at once, which are
    few, together as much as those about one of them, or `MOST` times each."""
    both = torch.zeros_like(batch.target, dtype=torch.bool)
    for b, questions in enumerate(batch.asked):
        for k, asked in enumerate(questions):
            both[b, k] = across(asked.task)
    both = both[batch.target != NO_TARGET]
    few, many = int(both.sum()), int((~both).sum())
    much = min(max(many / few, 1.0), MOST) if few else 1.0
    return torch.where(both, much, 1.0)


def alongside_losses(
    look: Look, prompts: list[list[Screen]], image: Tensor
) -> list[Tensor]:
    """-log of the attention of some tokens on the same place of each picture before
    theirs, of its own head each; nothing of pictures of different sizes.

    image (n · V · Q,): where visual tokens are in the prompts.
    """
    losses = []
    for b, screens in enumerate(prompts):
        if len({s.size for s in screens}) > 1:
            continue
        places = image.view(len(screens), -1)
        for k in range(1, len(screens)):
            some = torch.randperm(places.shape[1])[:SAMPLED]
            for j in range(k):
                mass = look.own_weights(b, j, places[k, some], places[j, some])
                losses.append(lost(mass))
    return losses
