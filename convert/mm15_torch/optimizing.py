"""Optimizers, schedule and checkpoints, the same for every stage."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def optimizers(model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks, AdamW for everything else."""
    matrices, rest = [], []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        inside = "layers." in name or "net." in name or "readout." in name
        if inside and p.ndim == 2:
            matrices.append(p)
        elif inside and p.ndim == 4 and p.shape[1] > 1:  # a 1×1 convolution
            matrices.append(_as_matrix(p))
        else:
            rest.append(p)
    muon = torch.optim.Muon(
        matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    return [muon, adamw]


def _as_matrix(p: nn.Parameter) -> nn.Parameter:
    """The same memory as (O, I), with the same gradient: Muon takes matrices only."""
    matrix = nn.Parameter(p.data.flatten(1))

    def share(q: Tensor) -> None:
        matrix.grad, q.grad = q.grad.flatten(1), None  # nobody else would clear it

    p.register_post_accumulate_grad_hook(share)
    return matrix


def schedule(step: int, total: int, warmup: int) -> float:
    """Linear warm-up, constant, linear decay to 5 % over the last half."""
    if step < warmup:
        return (step + 1) / warmup
    return min(1.0, 0.05 + 0.95 * (total - step) / (0.5 * total))


def update(loss: Tensor, opts: list[torch.optim.Optimizer], lr: float) -> None:
    """One step. A gradient that is not finite stops the run before it does harm."""
    for opt in opts:
        opt.zero_grad(set_to_none=True)
    loss.backward()
    trained = [p for opt in opts for group in opt.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, 1.0)
    if not torch.isfinite(norm):
        raise FloatingPointError(f"the gradient's norm is {norm.item()}")
    for opt in opts:
        for group in opt.param_groups:
            group["lr"] = lr
        opt.step()


def save(path: Path, state: dict[str, Any]) -> None:
    """Written beside and renamed: a killed run leaves the checkpoint before."""
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)
