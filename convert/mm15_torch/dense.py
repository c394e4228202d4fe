"""The encoder's start: name the character under every cell of text-dense crops.

A vision transformer from scratch does not learn to read from whole screens on a small
machine; with one label per 3.5 × 7 px cell it does within minutes. The heads are thrown
away afterwards. Crops use a random window of the position table, so that the whole
table is trained.

Run: python -m mm15_mlx.convert.mm15_torch.dense --pages DIR --out encoder.pt
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.config import PRESETS, VisionConfig
from mm15_mlx.convert.mm15_torch.encoder import Encoder
from mm15_mlx.convert.mm15_torch.glyphs import NUM_CLASSES

CELLS_Y, CELLS_X = 2, 4  # cells in one patch
IGNORE = 255


class DenseEncoder(nn.Module):
    """Encoder with linear heads; `types` and `icons` are numbers of classes."""

    def __init__(self, config: VisionConfig, types: int, icons: int) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        d = config.hidden_size
        self.norm = nn.LayerNorm(d)
        self.glyph_head = nn.Linear(d, CELLS_Y * CELLS_X * NUM_CLASSES)
        self.type_head = nn.Linear(d, types)
        self.icon_head = nn.Linear(d, icons)

    def features(self, pixels: Tensor, row: int, column: int) -> Tensor:
        """Patch features of crops that lie at patch (row, column) of a view."""
        enc = self.encoder
        x = enc.patch_embedding(pixels)  # (B, D, P, P)
        side, grid = x.shape[-1], enc.config.grid_size
        x = x.flatten(2).transpose(1, 2)
        table = enc.position_embedding
        window = table[1:].view(grid, grid, -1)
        window = window[row : row + side, column : column + side].flatten(0, 1)
        cls = (enc.class_embedding + table[0]).to(x.dtype).expand(x.shape[0], 1, -1)
        x = enc.pre_layernorm(torch.cat([cls, x + window.to(x.dtype)], dim=1))
        for layer in enc.layers:
            x = layer(x)
        return self.norm(x[:, 1:])


def cells(labels: np.ndarray, patch: int) -> np.ndarray:
    """(B, S, S) class of each pixel → (B, N, cells) class at each cell's centre."""
    b, side, _ = labels.shape
    dy, dx = patch / CELLS_Y, patch / CELLS_X
    ys = ((np.arange(side // patch * CELLS_Y) + 0.5) * dy).astype(int)
    xs = ((np.arange(side // patch * CELLS_X) + 0.5) * dx).astype(int)
    picked = labels[:, ys][:, :, xs]  # (B, P·cy, P·cx)
    p = side // patch
    picked = picked.reshape(b, p, CELLS_Y, p, CELLS_X).transpose(0, 1, 3, 2, 4)
    return picked.reshape(b, p * p, CELLS_Y * CELLS_X)


class Pages:
    """Shards of pages that may still be growing while training reads them."""

    def __init__(self, folder: Path, held_out: int = 0) -> None:
        self.folder, self.held_out = folder, held_out
        self.seen: set[Path] = set()
        self.shards: list[dict[str, np.ndarray]] = []
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(self.folder.glob("*.npz"))[self.held_out :]:
            if path not in self.seen:
                self.seen.add(path)
                with np.load(path) as data:
                    self.shards.append({k: data[k] for k in data.files})

    def crops(
        self, rng: np.random.Generator, count: int, side: int
    ) -> dict[str, np.ndarray]:
        picked: list[dict[str, np.ndarray]] = []
        for _ in range(count):
            shard = self.shards[rng.integers(len(self.shards))]
            k = rng.integers(len(shard["images"]))
            height, width = shard["images"].shape[1:3]
            y = rng.integers(0, height - side + 1)
            x = rng.integers(0, width - side + 1)
            picked.append(
                {n: a[k, y : y + side, x : x + side] for n, a in shard.items()}
            )
        return {n: np.stack([p[n] for p in picked]) for n in picked[0]}


def augment(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Inversion, gain, offset and noise, each picture its own; float32 in 0…1."""
    x = images.astype(np.float32) / 255
    n = len(x)
    shape = (n, 1, 1, 1)
    x = np.where(rng.random(shape) < 0.25, 1 - x, x)
    gain = rng.uniform(0.75, 1.1, (n, 1, 1, 3)).astype(np.float32)
    offset = rng.uniform(-0.08, 0.12, shape).astype(np.float32)
    noise = rng.uniform(0, 0.03, shape).astype(np.float32)
    grain = rng.standard_normal((*x.shape[:3], 1), np.float32)
    return np.clip(x * gain + (offset + noise * grain), 0, 1)


def normalise(images: np.ndarray, config: VisionConfig) -> Tensor:
    x = (images - np.float32(config.image_mean)) / np.float32(config.image_std)
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


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
        matrix.grad = q.grad.flatten(1)

    p.register_post_accumulate_grad_hook(share)
    return matrix


def schedule(step: int, total: int, warmup: int) -> float:
    """Linear warm-up, constant, linear decay to 5 % over the last 30 %."""
    if step < warmup:
        return (step + 1) / warmup
    return min(1.0, 0.05 + 0.95 * (total - step) / (0.3 * total))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--screens", type=Path, help="pages with types and icons")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=126)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--types", type=int, default=16)
    parser.add_argument("--icons", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    config = PRESETS["nano-ui"].vision_config
    model = DenseEncoder(config, args.types, args.icons)
    opts = optimizers(model, args.lr)
    step = 0
    if args.out.exists():
        state = torch.load(args.out, weights_only=True)
        model.load_state_dict(state["model"])
        for opt, saved in zip(opts, state["optimizers"], strict=True):
            opt.load_state_dict(saved)
        step = state["step"]
    pages = Pages(args.pages)
    screens = Pages(args.screens) if args.screens else None
    log = args.out.with_suffix(".jsonl").open("a")
    for row in train(model, opts, pages, screens, args, step):
        log.write(json.dumps(row) + "\n")
        log.flush()
        print(row, flush=True)


def train(
    model: DenseEncoder,
    opts: list[torch.optim.Optimizer],
    pages: Pages,
    screens: Pages | None,
    args: argparse.Namespace,
    step: int,
) -> Iterator[dict[str, float]]:
    config = model.encoder.config
    weight = torch.ones(NUM_CLASSES)
    weight[0] = 0.2
    sums: dict[str, float] = {}
    started, since = time.time(), step
    while step < args.steps:
        rng = np.random.default_rng((args.seed, step))
        store = screens if screens and screens.shards and step % 2 else pages
        batch = store.crops(rng, args.batch, args.side)
        pixels = normalise(augment(batch["images"], rng), config)
        span = config.grid_size - args.side // config.patch_size + 1
        row, column = int(rng.integers(span)), int(rng.integers(span))
        labels = torch.from_numpy(cells(batch["classes"], config.patch_size)).long()
        with torch.autocast("cpu", torch.bfloat16):
            x = model.features(pixels, row, column)
            logits = model.glyph_head(x).float().view(-1, NUM_CLASSES)
        loss = F.cross_entropy(logits, labels.flatten(), weight)
        right = logits.argmax(-1) == labels.flatten()
        glyph = labels.flatten() > 0
        name = "screen_" if store is screens else ""
        stats = {name + "accuracy": right[glyph].float().mean().item()}
        if store is screens:
            for kind, head in (("types", model.type_head), ("icons", model.icon_head)):
                half = config.patch_size // 2
                target = batch[kind][
                    :, half :: config.patch_size, half :: config.patch_size
                ]
                target = torch.from_numpy(target.reshape(-1)).long()
                keep = target != IGNORE
                out = head(x.float()).flatten(0, 1)
                rare = torch.ones(out.shape[-1])
                rare[0] = 0.05  # most patches hold no icon, many no element
                loss = loss + 0.5 * F.cross_entropy(out[keep], target[keep], rare)
                some = keep & (target > 0)
                if some.any():
                    right = out.argmax(-1) == target
                    stats[kind] = right[some].float().mean().item()
        stats[name + "loss"] = loss.item()
        factor = schedule(step, args.steps, 100)
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = args.lr * factor
            opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
        step += 1
        for k, v in stats.items():
            sums.setdefault(k, 0.0)
            sums[k] = 0.9 * sums[k] + 0.1 * v if sums[k] else v
        if step % 25 == 0:
            rate = (step - since) * args.batch / (time.time() - started)
            yield {"step": step, **{k: round(v, 4) for k, v in sums.items()},
                   "crops_per_s": round(rate, 1)}  # fmt: skip
        if step % 100 == 0 or step == args.steps:
            pages.refresh()
            if screens:
                screens.refresh()
            partial = args.out.with_suffix(".part")
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizers": [o.state_dict() for o in opts],
                    "step": step,
                },
                partial,
            )
            os.replace(partial, args.out)


if __name__ == "__main__":
    main()
