"""What visual tokens of a second screen say of the first: where it looks otherwise.

What changed between two screens is told by the tokens of the second, which alone can
look at both. A head of the first layer looks at the same place of the first screen:
deeper in, tokens say what they are about rather than what is drawn there, and their
difference tells less. Not published: our choice.

V views of a picture, Q visual tokens of a view, D width.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.looking import across, lost
from mm15_mlx.convert.mm15_torch.packed import Look
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET, Batch
from mm15_mlx.convert.mm15_torch.store import Screen, stored_views

HEAD = 2  # of the first layer, that looks there: nano-ui misses it least
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


def differing(screens: list[Screen], kept: Path, config: ModelConfig) -> Tensor | None:
    """(V · Q,) bool: visual tokens of the second of two screens that are otherwise
    than those of the first; None where the screens are of different sizes."""
    if len({s.size for s in screens}) > 1:
        return None
    before, after = (np.asarray(stored_views(s, kept, config)) for s in screens)
    side = config.connector_config.pooled_grid
    return torch.from_numpy(otherwise(before, after, side))


def told_apart(differs: Tensor, there: Tensor) -> dict[str, Tensor]:
    """Losses of what the tokens of a second screen say, `differs` (N,), where it is
    otherwise, `there` (N,) bool. comparing: alike and otherwise count half each.
    standing_out: of all tokens those do most that are otherwise, or a switch would
    drown in what is nearly so."""
    each = F.binary_cross_entropy_with_logits(differs, there.float(), reduction="none")
    sides = [each[w].mean() for w in (there, ~there) if w.any()]
    losses = {"comparing": torch.stack(sides).mean()}
    if there.any():
        chances = differs.log_softmax(0)[there]
        losses["standing_out"] = -chances.mean() - math.log(len(chances))
    return losses


def comparing_losses(
    aids: Aids,
    hidden: Tensor,
    prompts: list[list[Screen]],
    kept: Path,
    config: ModelConfig,
) -> dict[str, Tensor]:
    """Those of `told_apart`, means over prompts of two screens; nothing of screens of
    different sizes. hidden (B, 2 · V · Q, D): states of their visual tokens."""
    losses: dict[str, list[Tensor]] = {}
    for states, screens in zip(hidden, prompts, strict=True):
        there = differing(screens, kept, config)
        if there is None:
            continue
        differs = aids.otherwise(states[len(there) :]).float()[:, 0]
        for name, loss in told_apart(differs, there).items():
            losses.setdefault(name, []).append(loss)
    return {name: torch.stack(found).mean() for name, found in losses.items()}


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
    """-log of the attention of some tokens of the second picture of two on the same
    place of the first, of head `HEAD`; nothing of pictures of different sizes.

    image (2 · V · Q,): where visual tokens are in the prompts.
    """
    losses = []
    for b, screens in enumerate(prompts):
        if len({s.size for s in screens}) > 1:
            continue
        there, here = image.view(2, -1)
        some = torch.randperm(len(here))[:SAMPLED]
        losses.append(lost(look.own_weights(b, HEAD, here[some], there[some])))
    return losses
