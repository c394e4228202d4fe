"""A first score of how late the frames of flows are, fitted.

The means of a frame's visual tokens differ little and in a few directions only, which
training alone takes hundreds of steps to find. A logistic regression on the differences
of each two frames finds them at once; training goes on from there (frames.py).

F flows of n frames, D width.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.store import Screen

PENALTY = 0.1  # of the weights' squares: with less, other kits are ordered no better
ITERATIONS = 200


@torch.no_grad()
def frame_means(
    visual: Callable[[list[Screen]], Tensor],
    norm: Callable[[Tensor], Tensor],
    flows: Sequence[list[Screen]],
) -> Tensor:
    """(F, n, D): of each frame the mean of its visual tokens, which `visual` gives
    (n, Q, D) and `norm`, the decoder's last, makes alike in size."""
    with autocast():
        means = [norm(visual(frames).float()).float().mean(1) for frames in flows]
    return torch.stack(means)


def differences(means: Tensor) -> Tensor:
    """(F · pairs, D): of each two frames the later less the earlier. means (F, n, D):
    frames in the order in which they were seen."""
    later, earlier = torch.tril_indices(means.shape[1], means.shape[1], -1)
    return (means[:, later] - means[:, earlier]).flatten(0, 1)


@torch.enable_grad()
def separating(apart: Tensor, penalty: float) -> Tensor:
    """Weights (D,) by which differences (N, D) score above 0: a logistic regression,
    with a penalty of the weights' squares."""
    weights = torch.zeros(apart.shape[-1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=ITERATIONS)

    def loss() -> Tensor:
        optimizer.zero_grad()
        wrong = F.softplus(-apart @ weights).mean()
        total = wrong + penalty * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach()


def fitted(means: Tensor) -> Tensor:
    """Weights (D,) of a score that is higher for later frames. means (F, n, D): frames
    in the order in which they were seen."""
    apart = differences(means)
    size = apart.square().mean().sqrt().clamp(min=1e-9)
    return separating(apart / size, PENALTY) / size
