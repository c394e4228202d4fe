"""Two trainings side by side, whose weights become their mean now and then.

Two cores make one training a quarter faster, but run two of them, with a seed each, at
almost the pace of one: together they see more than half as much again in the same time.
Optimizers stay each one's own (local SGD, arXiv 1805.09767).
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mm15_mlx.config import UserError
from mm15_mlx.convert.mm15_torch.optimizing import WEIGHTS

PATIENCE = 900.0  # seconds
POLL = 5.0


def checkpoint_of(mate: Path, step: int, patience: float) -> Mapping[str, Any]:
    """The mate's checkpoint after so many steps or more; UserError where it does not
    come."""
    until = time.monotonic() + patience
    while True:
        # Written beside and renamed: what is there is whole.
        state = torch.load(mate, weights_only=True) if mate.exists() else {"step": -1}
        if state["step"] >= step:
            return state
        if time.monotonic() > until:
            raise UserError(
                f"--mate {mate}: no checkpoint of step {step} there after "
                f"{patience:.0f} s; start the other training too, with the same "
                "--save-every, or leave the flag out"
            )
        time.sleep(POLL)


@torch.no_grad()
def meet(own: dict[str, Any], mate: Path, step: int, patience: float) -> None:
    """Weights become the mean of one's own and the mate's, in place."""
    theirs = checkpoint_of(mate, step, patience)
    for part in WEIGHTS:
        mine: dict[str, Tensor] = own.get(part, {})
        for name, weights in mine.items():
            weights.lerp_(theirs[part][name].to(weights.dtype), 0.5)
