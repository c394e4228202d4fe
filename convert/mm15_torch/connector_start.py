"""The connector's start: every visual token names the characters of its own window.

With the encoder's features given, the C-Abstractor alone is trained: linear heads on
the visual tokens classify 9 × 5 cells of a token's 31.5 px window (character, and at
3 × 3 points element type and icon). It reaches in minutes what answers alone teach the
connector in hours; the heads are thrown away.

Run: python -m mm15_mlx.convert.mm15_torch.connector_start --start tiles.pt …
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.config import PRESETS
from mm15_mlx.convert.mm15_torch.dense import optimizers, schedule
from mm15_mlx.convert.mm15_torch.glyphs import CLASS_OF, NUM_CLASSES
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.samples import dense_labels
from mm15_mlx.convert.mm15_torch.screen_maps import ICON_OF, TYPE_OF
from mm15_mlx.convert.mm15_torch.sft import Screen, Screens

CELLS = {"classes": (5, 9), "types": (3, 3), "icons": (3, 3)}  # rows, columns a token
SIZES = {
    "classes": NUM_CLASSES,
    "types": len(TYPE_OF) + 1,
    "icons": len(ICON_OF) + 1,
}
EMPTY = {"classes": 0.1, "types": 0.2, "icons": 0.05}  # weight of class 0


class Heads(nn.ModuleDict):
    """One linear head for each kind of label, and two for the token's own place.

    Without the latter the visual tokens say what is there but not where: the decoder
    knows only their order, and neither finds nor reads at given coordinates.
    """

    def __init__(self, width: int, side: int) -> None:
        super().__init__(
            {k: nn.Linear(width, r * c * SIZES[k]) for k, (r, c) in CELLS.items()}
        )
        self.place = nn.ModuleList(nn.Linear(width, side) for _ in range(2))

    def place_loss(self, tokens: Tensor) -> Tensor:
        """Row and column of every visual token, tokens (V, Q², D)."""
        side = round(tokens.shape[1] ** 0.5)
        index = torch.arange(side * side)
        total = torch.zeros(())
        for head, target in zip(self.place, (index // side, index % side), strict=True):
            logits = head(tokens).float().flatten(0, 1)
            total = total + F.cross_entropy(logits, target.repeat(len(tokens)))
        return total

    def losses(
        self, tokens: Tensor, labels: dict[str, Tensor]
    ) -> dict[str, tuple[Tensor, float]]:
        """tokens (V, Q², D), labels (V, Q², cells) → loss and accuracy by kind."""
        found = {}
        for kind in CELLS:
            logits = self[kind](tokens).float().reshape(-1, SIZES[kind])
            target = labels[kind].flatten()
            weight = torch.ones(SIZES[kind])
            weight[0] = EMPTY[kind]
            loss = F.cross_entropy(logits, target, weight)
            some = target > 0
            right = (logits.argmax(-1) == target)[some].float().mean().item()
            found[kind] = (loss, right if some.any() else float("nan"))
        return found


def token_labels(maps: np.ndarray, kind: str, side: int) -> Tensor:
    """(V, S, S) class of each pixel → (V, side², cells) at each cell's centre."""
    rows, columns = CELLS[kind]
    size = maps.shape[1]
    ys = ((np.arange(side * rows) + 0.5) * size / (side * rows)).astype(int)
    xs = ((np.arange(side * columns) + 0.5) * size / (side * columns)).astype(int)
    picked = maps[:, ys][:, :, xs].reshape(len(maps), side, rows, side, columns)
    picked = picked.transpose(0, 1, 3, 2, 4).reshape(len(maps), side * side, -1)
    return torch.from_numpy(picked.astype(np.int64))


def batch_of(
    screens: list[Screen], features: Path, side: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Features (V, N, D) and labels of all tiles of some screens."""
    stacks, labels = [], {k: [] for k in CELLS}
    for screen in screens:
        maps = dense_labels(screen.row, screen.tiling, TYPE_OF, ICON_OF, CLASS_OF)
        kept = np.load(features / f"{screen.key}.npy", mmap_mode="r")
        tiles = len(maps["classes"])
        stacks.append(torch.from_numpy(kept[:tiles].copy()))
        for kind in CELLS:
            labels[kind].append(token_labels(maps[kind], kind, side))
    return torch.cat(stacks).to(torch.bfloat16), {
        k: torch.cat(v) for k, v in labels.items()
    }


def plane_waves(grid: int, waves: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """(1, grid², D): channel c is a sine with `waves[:, c]` periods down and across."""
    place = (np.arange(grid) + 0.5) / grid
    angle = place[:, None, None] * waves[0] + place[None, :, None] * waves[1]
    return np.sin(2 * np.pi * angle + phase).reshape(1, grid * grid, -1)


def init_positions(
    model: MM15, screens: list[Screen], features: Path, seed: int = 0
) -> None:
    """Centre the features, and tell each patch where in its token's window it lies.

    The encoder's features have a mean larger than their spread; against them the usual
    0.02 of a position table says nothing, and averaging a window mixes its characters.
    The codes are waves of one to three periods a token, as strong as the features.
    """
    kept = [np.load(features / f"{s.key}.npy") for s in screens]
    sample = np.concatenate([k.reshape(-1, k.shape[-1]) for k in kept]).astype(
        np.float32
    )
    mean, spread = sample.mean(0), sample.std(0)
    grid, tokens = model.config.view_grid, model.config.connector_config.pooled_grid
    rng = np.random.default_rng(seed)
    waves = rng.integers(-3, 4, (2, len(mean))) * tokens
    phase = rng.uniform(0, 2 * np.pi, len(mean))
    code = plane_waves(grid, waves, phase)
    with torch.no_grad():
        model.connector.pos_emb.copy_(torch.from_numpy(spread * code - mean))


def add_places(model: MM15, seed: int = 1) -> None:
    """Slow waves over the whole view on top of the position table: where a patch is."""
    table = model.connector.pos_emb
    grid, width = model.config.view_grid, table.shape[-1]
    rng = np.random.default_rng(seed)
    waves = rng.uniform(-3, 3, (2, width))
    phase = rng.uniform(0, 2 * np.pi, width)
    code = plane_waves(grid, waves, phase)
    with torch.no_grad():
        table += 1.5 * torch.from_numpy(code).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=Path, nargs="+", required=True)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep-connector", action="store_true")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=6, help="screens")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = PRESETS["nano-ui"]
    model = MM15(config)
    state = torch.load(args.start, weights_only=True)["model"]
    if not args.keep_connector:
        state = {k: v for k, v in state.items() if not k.startswith("connector.")}
    model.load_state_dict({**model.state_dict(), **state})
    side = config.connector_config.pooled_grid
    heads = Heads(config.text_config.hidden_size, side)
    trained = nn.ModuleDict({"connector": model.connector, "heads": heads})
    opts = optimizers(trained, args.lr)
    store = Screens(args.screens, config)
    store.refresh()
    known = [s for s in store.items if (args.features / f"{s.key}.npy").exists()]
    if not args.keep_connector:
        init_positions(model, known[:: len(known) // 40], args.features)
    add_places(model)
    mean: dict[str, float] = {}
    started = time.time()
    for step in range(args.steps):
        rng = np.random.default_rng(step)
        picked = [known[k] for k in rng.integers(len(known), size=args.batch)]
        x, labels = batch_of(picked, args.features, side)
        trained.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            tokens = model.connector(x)
            found = heads.losses(tokens, labels)
            place = heads.place_loss(tokens)
        (sum(loss for loss, _ in found.values()) + place).backward()
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = args.lr * schedule(step, args.steps, 50)
            opt.step()
        for kind, (_, right) in found.items():
            mean[kind] = 0.95 * mean.get(kind, right) + 0.05 * right
        if (step + 1) % 20 == 0:
            shown = {k: round(v, 4) for k, v in mean.items()}
            shown["place_loss"] = round(place.item(), 4)
            rate = round((step + 1) / (time.time() - started), 2)
            print(json.dumps({"step": step + 1, **shown, "steps_per_s": rate}))
    partial = args.out.with_suffix(".part")
    torch.save({"model": model.state_dict()}, partial)
    os.replace(partial, args.out)


if __name__ == "__main__":
    main()
