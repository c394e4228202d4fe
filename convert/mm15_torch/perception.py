"""The start of encoder and connector: every patch and visual token names what it shows.

A vision transformer from scratch does not learn to read from answers on a small
machine. With dense targets it does within minutes: linear heads on the patches and on
the visual tokens name the character in every cell, element type, icon, and the boxes of
the line and the element that a patch belongs to. The heads are thrown away afterwards.
Text-dense crops of drawn pages and whole tiles of screens take turns.

Run: python -m mm15_mlx.convert.mm15_torch.perception --pages DIR --screens DIR …
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.config import PRESETS, ModelConfig, VisionConfig
from mm15_mlx.convert.mm15_torch.augment import recolour
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.optimizing import (
    optimizers,
    schedule,
    update,
)
from mm15_mlx.convert.mm15_torch.stages import StageParser, run
from mm15_mlx.convert.mm15_torch.store import Screens, stored_views
from mm15_mlx.convert.mm15_torch.targets import (
    CELLS_X,
    CELLS_Y,
    PATCH,
    SIZES,
    Targets,
    in_tiles,
    page_glyphs,
    screen_targets,
)
from mm15_mlx.tiling import Tiling

OUTPUTS = CELLS_Y * CELLS_X * SIZES["glyphs"], SIZES["types"], SIZES["icons"], 4, 4


class Heads(nn.Module):
    """Features (V, U, D) of units of `side` × `side` patches → logits by patch."""

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, side * side * sum(OUTPUTS))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """glyphs, types, icons, text boxes, element boxes: (V, P, P, outputs)."""
        y = self.out(self.norm(x))
        v, s = y.shape[0], self.side
        units = round(y.shape[1] ** 0.5)
        y = y.view(v, units, units, s, s, -1).transpose(2, 3)
        return y.reshape(v, units * s, units * s, -1).split(OUTPUTS, dim=-1)


class Perception(nn.Module):
    """Encoder and connector with both heads."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        model = MM15(config)
        self.encoder, self.connector = model.encoder, model.connector
        pooled = config.connector_config.pooled_grid
        self.patch_heads = Heads(config.vision_config.hidden_size, 1)
        self.token_heads = Heads(
            config.text_config.hidden_size, config.view_grid // pooled
        )
        # Where a token lies: without it the decoder knows only the tokens' order.
        self.place = nn.Linear(config.text_config.hidden_size, 2 * pooled)

    def patches(self, pixels: Tensor, row: int, column: int) -> Tensor:
        """Features (B, N, D) of crops that lie at patch (row, column) of a view."""
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
        return x[:, 1:]

    def tokens(self, x: Tensor, row: int, column: int) -> Tensor:
        """Visual tokens (B, U, D) of the patches of such crops."""
        con, grid = self.connector, self.config.view_grid
        side = round(x.shape[1] ** 0.5)
        window = con.pos_emb.view(grid, grid, -1)
        window = window[row : row + side, column : column + side].flatten(0, 1)
        x = (x + window.to(x.dtype)).transpose(1, 2).unflatten(2, (side, side))
        x = con.net[0](x)
        x = con.net[2](F.avg_pool2d(x, self.token_heads.side))
        return con.readout(x.flatten(2).transpose(1, 2))

    def place_loss(self, tokens: Tensor) -> Tensor:
        """Row and column of every visual token of whole views."""
        side = round(tokens.shape[1] ** 0.5)
        index = torch.arange(side * side)
        total = torch.zeros(())
        where = (index // side, index % side)
        for logits, target in zip(self.place(tokens).chunk(2, -1), where, strict=True):
            logits = logits.float().flatten(0, 1)
            total = total + F.cross_entropy(logits, target.repeat(len(tokens)))
        return total


def class_loss(logits: Tensor, target: Tensor, empty: float) -> tuple[Tensor, float]:
    """Cross-entropy over what is there and some of what is empty; accuracy on the
    former. `empty`: how many of the latter for each of the former."""
    there = (target > 0).nonzero().flatten()
    nothing = (target == 0).nonzero().flatten()
    count = min(len(nothing), int(empty * len(there)) + 32)
    nothing = nothing[torch.randperm(len(nothing))[:count]]
    picked = torch.cat([there, nothing])
    chosen = logits[picked].float()
    loss = F.cross_entropy(chosen, target[picked])
    right = chosen[: len(there)].argmax(-1) == target[there]
    return loss, right.float().mean().item() if len(there) else float("nan")


def box_loss(out: Tensor, boxes: Tensor) -> tuple[Tensor, float]:
    """Corners relative to the patch's middle, in patches; errors relative to the box.

    out, boxes (V, P, P, 4), NaN where there is none; loss and share of IoU ≥ 0.5.
    """
    some = ~boxes[..., 0].isnan()
    side = boxes.shape[1]
    middle = (torch.arange(side) + 0.5) * PATCH
    y, x = torch.meshgrid(middle, middle, indexing="ij")
    at = torch.stack([x, y, x, y], -1).expand_as(boxes)[some]
    guess, truth = out.float()[some] * PATCH + at, boxes[some]
    if not len(truth):
        return out.sum() * 0, float("nan")
    size = (truth[:, 2:] - truth[:, :2]).repeat(1, 2)
    error = (guess - truth) / (0.5 * size + 4)
    loss = F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.1)
    low = torch.maximum(guess[:, :2], truth[:, :2])
    high = torch.minimum(guess[:, 2:], truth[:, 2:])
    both = (high - low).clamp(min=0).prod(-1)
    total = (guess[:, 2:] - guess[:, :2]).clamp(min=0).prod(-1) + size[:, :2].prod(-1)
    return loss, (both / (total - both + 1e-6) >= 0.5).float().mean().item()


def tile_loss(
    out: tuple[Tensor, ...], targets: dict[str, Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """Of what `Heads` give for tiles, against `tile_targets`; what was right."""
    total, right = torch.zeros(()), {}
    for kind, logits, share in zip(SIZES, out, (1.0, 0.5, 0.5), strict=False):
        flat, target = logits.reshape(-1, SIZES[kind]), targets[kind].long().flatten()
        loss, right[kind] = class_loss(flat, target, 1.0)
        total = total + share * loss
    for kind, boxes in zip(("texts", "elements"), out[3:], strict=True):
        loss, right[kind] = box_loss(boxes, targets[kind])
        total = total + loss
    return total, right


def tile_targets(targets: Targets, tiling: Tiling) -> Targets:
    """Of all tiles of a screen, boxes in pixels of their tile instead of the canvas."""
    return replace(
        targets,
        texts=in_tiles(targets.texts, tiling),
        elements=in_tiles(targets.elements, tiling),
    )


def as_tensors(targets: list[dict[str, np.ndarray]]) -> dict[str, Tensor]:
    """Fields of the `Targets` of several screens, one after the other."""
    return {
        k: torch.from_numpy(np.concatenate([t[k] for t in targets])) for k in targets[0]
    }


class Pages:
    """Shards of drawn pages, held in memory."""

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("*.npz"))
        if not paths:
            raise FileNotFoundError(f"no pages in {folder}: run …mm15_torch.glyphs")
        loaded = [np.load(p) for p in paths]
        self.images = np.concatenate([data["images"] for data in loaded])
        self.classes = np.concatenate([data["classes"] for data in loaded])

    def crops(
        self, rng: np.random.Generator, count: int, side: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pictures (B, S, S, 3) and the class of each pixel (B, S, S)."""
        k = rng.integers(len(self.images), size=count)
        y, x = rng.integers(0, self.images.shape[1] - side + 1, (2, count))
        places = zip(k, y, x, strict=True)
        at = [np.s_[a, b : b + side, c : c + side] for a, b, c in places]
        return (
            np.stack([self.images[i] for i in at]),
            np.stack([self.classes[i] for i in at]),
        )


def normalise(images: np.ndarray, config: VisionConfig) -> Tensor:
    """0…1 (V, S, S, 3) → what the encoder takes, (V, 3, S, S)."""
    x = (images - np.float32(config.image_mean)) / np.float32(config.image_std)
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


# --- a start ------------------------------------------------------------------------


def plane_waves(grid: int, waves: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """(1, grid², D): channel c is a sine with `waves[:, c]` periods down and across."""
    place = (np.arange(grid) + 0.5) / grid
    angle = place[:, None, None] * waves[0] + place[None, :, None] * waves[1]
    return np.sin(2 * np.pi * angle + phase).reshape(1, grid * grid, -1)


def init_positions(model: Perception, features: Tensor, seed: int = 0) -> None:
    """Centre the features, and tell each patch where in its token and view it lies.

    The encoder's features have a mean larger than their spread; against them the usual
    0.02 of a position table says nothing, and averaging a token's patches mixes them.
    Each patch of a token gets signs of its own, as strong as the features, and slow
    waves over the view on top.
    """
    sample = features.float().flatten(0, 1)
    mean, spread = sample.mean(0), sample.std(0)
    grid, side = model.config.view_grid, model.token_heads.side
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (side, side, len(mean)))
    code = np.tile(signs, (grid // side, grid // side, 1)).reshape(1, grid * grid, -1)
    waves = rng.uniform(-2, 2, (2, len(mean)))
    slow = plane_waves(grid, waves, rng.uniform(0, 2 * np.pi, len(mean)))
    table = spread * torch.from_numpy(code + slow).float() - mean
    with torch.no_grad():
        model.connector.pos_emb.copy_(table)


# --- training -----------------------------------------------------------------------


class Trainer:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.config = PRESETS["nano-ui"]
        torch.manual_seed(args.seed)
        self.model = Perception(self.config)
        self.pages = Pages(args.pages)
        self.screens = Screens(args.screens, self.config)
        self.step = 0
        known: set[str] = set()
        if args.start and not args.out.exists():
            state = torch.load(args.start, weights_only=True)["model"]
            own = self.model.state_dict()
            part = {k: v for k, v in state.items() if k in own}
            self.model.load_state_dict({**own, **part})
            known = set(part)
        self.opts = optimizers(self.model, args.lr)
        if args.out.exists():
            state = torch.load(args.out, weights_only=True)
            self.model.load_state_dict(state["model"])
            for opt, kept in zip(self.opts, state["optimizers"], strict=True):
                opt.load_state_dict(kept)
            self.step = state["step"]
        elif "connector.pos_emb" not in known:
            with torch.no_grad():
                pixels, _ = self.tiles(np.random.default_rng(0))
                init_positions(self.model, self.model.patches(pixels, 0, 0))

    def tiles(self, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Pixels and targets of random tiles, the fuller ones more often."""
        views, found = [], []
        while sum(map(len, views)) < self.args.tiles:
            screen = self.screens.items[rng.integers(len(self.screens.items))]
            whole = screen_targets(screen.row, screen.tiling)
            targets = tile_targets(whole, screen.tiling)
            full = (targets.glyphs > 0).mean((1, 2, 3)) + 1e-3
            count = min(2, len(full))
            chosen = rng.choice(len(full), count, replace=False, p=full / full.sum())
            images = stored_views(screen, self.args.views, self.config)
            views.append(images[np.array(screen.tiles)[chosen]])
            found.append({k: v[chosen] for k, v in vars(targets).items()})
        shown = recolour(np.concatenate(views), rng)
        pixels = normalise(shown, self.config.vision_config)
        return pixels, as_tensors(found)

    def page_step(self, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch of crops, each lying somewhere in a view."""
        side = self.args.side
        images, classes = self.pages.crops(rng, self.args.crops, side)
        pixels = normalise(recolour(images, rng), self.config.vision_config)
        unit = self.model.token_heads.side
        span = (self.config.view_grid - side // PATCH) // unit + 1
        row, column = (int(v) * unit for v in rng.integers(span, size=2))
        with autocast():
            x = self.model.patches(pixels, row, column)
            tokens = self.model.tokens(x, row, column)
            heads = self.model.patch_heads(x), self.model.token_heads(tokens)
        target = torch.from_numpy(page_glyphs(classes)).long().flatten()
        total, stats = torch.zeros(()), {}
        for name, out in zip(("patch", "token"), heads, strict=True):
            logits = out[0].reshape(-1, SIZES["glyphs"])
            loss, right = class_loss(logits, target, 0.3)
            total = total + loss
            stats[f"page_{name}"] = right
        return total, stats

    def tile_step(self, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """Loss of a batch of whole tiles of screens."""
        pixels, targets = self.tiles(rng)
        with autocast():
            x = self.model.patches(pixels, 0, 0)
            tokens = self.model.tokens(x, 0, 0)
            heads = self.model.patch_heads(x), self.model.token_heads(tokens)
            total = 0.2 * self.model.place_loss(tokens)
        stats = {}
        for name, out in zip(("patch", "token"), heads, strict=True):
            loss, right = tile_loss(out, targets)
            total = total + loss
            stats.update({f"{kind}_{name}": share for kind, share in right.items()})
        return total, stats

    def train_step(self) -> dict[str, float]:
        """Pages and tiles take turns."""
        args = self.args
        rng = np.random.default_rng((args.seed, self.step))
        torch.manual_seed(self.step)
        loss, stats = (self.page_step if self.step % 2 else self.tile_step)(rng)
        update(loss, self.opts, args.lr * schedule(self.step, args.steps, args.warmup))
        return stats

    def refresh(self) -> None:
        self.screens.refresh()

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.opts],
        }


def main() -> None:
    parser = StageParser(__doc__, steps=3000, lr=2e-3)
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument(
        "--start", type=Path, help="a checkpoint whose parts are taken over"
    )
    parser.add_argument("--crops", type=int, default=48)
    parser.add_argument("--side", type=int, default=144, help="pixels of a crop")
    parser.add_argument("--tiles", type=int, default=8)
    run(lambda: Trainer(parser.parse_args()))


if __name__ == "__main__":
    main()
