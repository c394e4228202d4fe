"""Optimizers, schedule and checkpoints, the same for every stage."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mm15_mlx.convert.mm15_torch import half

WEIGHTS = ("model", "heads", "aids")  # parts of a checkpoint
STEADY = 0.1  # size of most matrices' weights


class Muon(torch.optim.Muon):
    """PyTorch's, in float32: its own orthogonalises in bfloat16, on a processor without
    such products a minute a step. With Nesterov momentum and the steps of AdamW's size
    only; the state is the same."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                kept = state["momentum_buffer"].lerp_(p.grad, 1 - momentum)
                direction = orthogonal(
                    p.grad.lerp(kept, momentum), group["ns_coefficients"],
                    group["ns_steps"], group["eps"],
                )  # fmt: skip
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(direction, alpha=-0.2 * lr * max(p.shape) ** 0.5)


def orthogonal(
    matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """The matrix with singular values near 1: Newton–Schulz iterations of degree 5."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def optimizers(model: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks, AdamW for everything else. Matrices of large
    weights take larger steps: heads that were fitted once stood still otherwise."""
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
    adamw = torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    if not matrices:  # aids alone
        return [adamw]
    kind = torch.optim.Muon if half.faster() else Muon
    groups = [{"params": [m], "pace": max(1.0, scale_of(m) / STEADY)} for m in matrices]
    muon = kind(groups, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return [muon, adamw]


def scale_of(matrix: Tensor) -> float:
    """The deviation of its weights, were they normal; a few large ones do not count."""
    return matrix.detach().abs().median().item() / 0.6745


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
            group["lr"] = lr * group.get("pace", 1.0)
        opt.step()


def save(path: Path, state: dict[str, Any]) -> None:
    """Written beside and renamed: a killed run leaves the checkpoint before."""
    partial = path.with_suffix(".part")
    torch.save(state, partial)
    os.replace(partial, path)


def save_start(path: Path, state: dict[str, Any]) -> None:
    """A checkpoint that another training starts from: its optimizers begin anew."""
    save(path, {part: state[part] for part in WEIGHTS})
