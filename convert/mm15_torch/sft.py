"""Trains `nano-ui`: single tiles first, then whole screens.

Stage `tiles` (the paper's pre-training: one view, no splitting): questions and
transcriptions about one tile. Stage `screens` (SFT): dynamic splitting with the
overview, and still some single tiles. The encoder rests, so its features are computed
once and kept on disk, unless `--train-encoder` is given. Stage `features` only fills
that store, beside a training.

Run: python -m mm15_mlx.convert.mm15_torch.sft tiles --screens DIR … --out tiles.pt
"""

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.convert.mm15_torch.dense import augment, normalise, optimizers, schedule
from mm15_mlx.convert.mm15_torch.losses import AnswerLoss, init_locations
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.samples import (
    NO_TARGET,
    Batch,
    Row,
    Sample,
    SampleEncoder,
    collate,
    load_views,
    read_rows,
    visual_words,
    window,
)
from mm15_mlx.prompt import PromptEncoder
from mm15_mlx.screens.questions import list_widgets, read_screen, short_questions
from mm15_mlx.tiling import Tiling, plan
from mm15_mlx.tokenizer import Tokenizer


@dataclass(frozen=True)
class Screen:
    row: Row
    tiling: Tiling

    @property
    def key(self) -> str:
        return f"{Path(self.row['folder']).name}-{self.row['id']}"


class Screens:
    """Screens of folders that may still be growing."""

    def __init__(self, folders: list[Path], config: ModelConfig) -> None:
        self.folders, self.config = folders, config
        self.items: list[Screen] = []
        self.known: set[str] = set()

    def refresh(self) -> None:
        for folder in self.folders:
            if not (folder / "screens.jsonl").exists():
                continue
            for row in read_rows(folder):
                tiling = plan(row["width"], row["height"], self.config.tiling)
                screen = Screen(row, tiling)
                if screen.key not in self.known:
                    self.known.add(screen.key)
                    self.items.append(screen)


class Trainer:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.config = PRESETS["nano-ui"]
        tokenizer = Tokenizer(args.tokenizer)
        self.samples = SampleEncoder(self.config, PromptEncoder(self.config, tokenizer))
        first = tokenizer.special("<loc_0>")
        count = self.config.coordinates.range + 1
        self.first_location = first
        self.loss = AnswerLoss(first, count, args.spread)
        torch.manual_seed(args.seed)
        self.model = MM15(self.config)
        with torch.no_grad():
            self.model.decoder.embed_tokens.weight.mul_(0.02)
        init_locations(self.model, first)
        self.step = 0
        self._start_from()
        self.model.encoder.requires_grad_(args.train_encoder)
        self.model.connector.requires_grad_(not args.freeze_connector)
        self.opts = optimizers(self.model, args.lr)
        if args.out.exists():
            state = torch.load(args.out, weights_only=True)
            self.model.load_state_dict(state["model"])
            for opt, saved in zip(self.opts, state["optimizers"], strict=True):
                opt.load_state_dict(saved)
            self.step = state["step"]

    def _start_from(self) -> None:
        if self.args.encoder:
            state = torch.load(self.args.encoder, weights_only=True)["model"]
            prefix = "encoder."
            part = {
                k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)
            }
            self.model.encoder.load_state_dict(part)
        if self.args.start:
            state = torch.load(self.args.start, weights_only=True)["model"]
            self.model.load_state_dict(state)

    def tile_sample(self, screen: Screen, rng: Random) -> tuple[Sample, list[int]]:
        """A sample about one tile, and the view it is about."""
        size = self.config.tiling.tile_size
        windows = [
            (view, window(screen.row, screen.tiling, view))
            for view, index in enumerate(screen.tiling.indices)
            if index != (0, 0)
        ]
        # Tiles with much on them teach more; empty ones nothing.
        shares = [len(row["texts"]) + len(row["elements"]) for _, row in windows]
        view, row = rng.choices(windows, [n + 0.01 for n in shares])[0]
        tiling = plan(size, size, self.config.tiling)
        questions = short_questions(row, rng, self.args.questions)
        if rng.random() < 0.9:  # every line of it: nothing teaches reading faster
            questions.insert(0, read_screen(row))
        sample = self.samples.encode(questions, (size, size), tiling, self.args.length)
        return sample, [view]

    def screen_sample(self, screen: Screen, rng: Random) -> tuple[Sample, list[int]]:
        """A sample about a whole screen, and all its views."""
        row = screen.row
        questions = short_questions(row, rng, self.args.questions)
        kind = rng.random()
        if kind < 0.15:
            questions.insert(0, read_screen(row))
        elif kind < 0.35:
            questions.insert(0, list_widgets(row))
        sample = self.samples.encode(
            questions, (row["width"], row["height"]), screen.tiling, self.args.length
        )
        return sample, list(range(len(screen.tiling.indices)))

    @torch.no_grad()
    def stored_features(self, screen: Screen) -> np.ndarray:
        """Patch features (V, N, D) of a screen, float16, computed once."""
        path = self.args.features / f"{screen.key}.npy"
        if not path.exists():
            images = load_views(screen.row, self.config)[1].astype(np.float32) / 255
            pixels = normalise(images, self.config.vision_config)
            with torch.autocast("cpu", torch.bfloat16):
                features = self.model.encoder(pixels)
            partial = path.with_suffix(f".{os.getpid()}")
            with partial.open("wb") as f:
                np.save(f, features.half().numpy())
            os.replace(partial, path)
        return np.load(path, mmap_mode="r")

    def features(self, screen: Screen, views: list[int], rng: Random) -> Tensor:
        """Patch features (V, N, D) of some views."""
        if not self.args.train_encoder:
            kept = self.stored_features(screen)[views]
            return torch.from_numpy(kept).to(torch.bfloat16)
        images = load_views(screen.row, self.config)[1][views]
        shown = augment(images, np.random.default_rng(rng.getrandbits(32)))
        pixels = normalise(shown, self.config.vision_config)
        return self.model.encoder(pixels)

    def run_batch(
        self, screens: list[Screen], rng: Random, tiles: bool
    ) -> tuple[Tensor, Tensor, Tensor, list[Sample], Tensor]:
        """Logits (T, vocabulary), targets and weights (T,) of a batch's answers."""
        make = self.tile_sample if tiles else self.screen_sample
        made = [make(s, rng) for s in screens]
        batch = collate([m[0] for m in made])
        with torch.autocast("cpu", torch.bfloat16):
            pairs = zip(screens, made, strict=True)
            features = torch.cat([self.features(s, m[1], rng) for s, m in pairs])
            visual = self.model.connector(features)
            x = self.model.embed_inputs(
                batch.ids, visual, self.config.prompt.image_token_id
            )
            states = self.model.decoder.states(x, batch.position, batch.mask)
            picked = batch.target != NO_TARGET
            hidden = self.model.decoder.norm(states[-1][picked])
            logits = self.model.decoder.logits(hidden).float()
            reading = self.reading_loss(
                states[len(states) // 2 - 1], batch, screens, made
            )
        weight = batch.weight[picked]
        return logits, batch.target[picked], weight, [m[0] for m in made], reading

    def reading_loss(
        self, states: Tensor, batch: Batch, screens: list[Screen], made: list
    ) -> Tensor:
        """Half-way through the decoder, visual tokens are to name the words in them.

        Answers alone teach this very slowly; once it holds, reading is copying and
        finding is matching.
        """
        side = self.config.connector_config.pooled_grid
        image_id = self.config.prompt.image_token_id
        rows, places, words = [], [], []
        for b, (screen, (_, views)) in enumerate(zip(screens, made, strict=True)):
            slots = (batch.ids[b] == image_id).nonzero().flatten()
            tokenizer = self.samples.encoder.tokenizer
            pairs = visual_words(screen.row, screen.tiling, tokenizer, views, side)
            rows += [b] * len(pairs)
            places += [int(slots[k]) for k, _ in pairs]
            words += [w for _, w in pairs]
        if not words:
            return torch.zeros(())
        hidden = self.model.decoder.norm(states[rows, places])
        logits = self.model.decoder.logits(hidden).float()
        return F.cross_entropy(logits, torch.tensor(words))

    def train_step(
        self, screens: list[Screen], rng: Random, tiles: bool
    ) -> dict[str, float]:
        logits, target, weight, _, reading = self.run_batch(screens, rng, tiles)
        loss = self.loss(logits, target, weight) + 0.5 * reading
        factor = schedule(self.step, self.args.steps, self.args.warmup)
        for opt in self.opts:
            for group in opt.param_groups:
                group["lr"] = self.args.lr * factor
            opt.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"gradient is {norm} at step {self.step}")
        for opt in self.opts:
            opt.step()
        with torch.no_grad():
            guess = logits.argmax(-1)
            loc = (target >= self.first_location) & (
                target <= self.first_location + self.config.coordinates.range
            )
            near = (guess[loc] - target[loc]).abs() <= 10
            return {
                "loss": loss.item(),
                "reading": reading.item(),
                "text": (guess[~loc] == target[~loc]).float().mean().item(),
                "near": near.float().mean().item(),
            }

    @torch.no_grad()
    def evaluate(self, screens: list[Screen]) -> dict[str, float]:
        """Teacher-forced: share of text answers all right, of boxes with IoU ≥ 0.5."""
        self.model.eval()
        rng = Random(1)
        hits: dict[str, list[float]] = defaultdict(list)
        tiles = self.args.stage == "tiles"
        for screen in screens:
            logits, target, _, samples, _ = self.run_batch([screen], rng, tiles)
            guess = logits.argmax(-1)
            start = 0
            # answers follow one another in the order of the sample's tasks
            ends = (target == self.samples.encoder.end_id).nonzero().flatten().tolist()
            for task, end in zip(samples[0].tasks, ends, strict=True):
                want, got = target[start : end + 1], guess[start : end + 1]
                start = end + 1
                if task.startswith("find"):
                    hits[task].append(self._iou(want, got) >= 0.5)
                elif task in ("read", "widgets"):
                    hits[task].append((want == got).float().mean().item())
                else:
                    hits[task].append(bool((want == got).all()))
        self.model.train()
        return {k: round(float(np.mean(v)), 4) for k, v in sorted(hits.items())}

    def _iou(self, want: Tensor, got: Tensor) -> float:
        a = (want[1:5] - self.first_location).tolist()
        b = (got[1:5] - self.first_location).tolist()
        w = min(a[2], b[2]) - max(a[0], b[0])
        h = min(a[3], b[3]) - max(a[1], b[1])
        if w <= 0 or h <= 0 or b[2] <= b[0] or b[3] <= b[1]:
            return 0.0
        total = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
        return w * h / (total - w * h)

    def save(self) -> None:
        partial = self.args.out.with_suffix(".part")
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.opts],
            "step": self.step,
        }
        torch.save(state, partial)
        os.replace(partial, self.args.out)

    def train(self) -> Iterator[dict[str, float]]:
        args = self.args
        store, test = (
            Screens(args.screens, self.config),
            Screens(args.test, self.config),
        )
        store.refresh()
        test.refresh()
        every = max(1, len(test.items) // args.test_limit)
        held_out = test.items[::every][: args.test_limit]
        yield {"screens": len(store.items), "test": len(test.items)}
        if args.stage == "features":
            for screen in (*held_out, *store.items):
                self.stored_features(screen)
            return
        mean: dict[str, float] = {}
        started, since = time.time(), self.step
        while self.step < args.steps:
            rng = Random((args.seed + 1) * 1_000_003 + self.step)
            tiles = args.stage == "tiles" or rng.random() < args.tile_share
            # a tile has a quarter of a screen's visual tokens
            count = 2 * args.batch if tiles else args.batch
            picked = [rng.choice(store.items) for _ in range(count)]
            stats = self.train_step(picked, rng, tiles)
            self.step += 1
            for k, v in stats.items():
                mean[k] = 0.95 * mean[k] + 0.05 * v if k in mean else v
            if self.step % 20 == 0:
                rate = (self.step - since) * args.batch / (time.time() - started)
                yield {"step": self.step, **{k: round(v, 4) for k, v in mean.items()},
                       "samples_per_s": round(rate, 2)}  # fmt: skip
                store.refresh()
            if self.step % args.save_every == 0 or self.step == args.steps:
                self.save()
                yield {"step": self.step, "test": self.evaluate(held_out)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("features", "tiles", "screens"))
    parser.add_argument("--screens", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, help="a dense-start checkpoint")
    parser.add_argument("--start", type=Path, help="a checkpoint of the stage before")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train-encoder", action="store_true")
    parser.add_argument("--freeze-connector", action="store_true")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--length", type=int, default=800)
    parser.add_argument(
        "--tile-share", type=float, default=0.25, help="of the batches of `screens`"
    )
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--spread", type=float, default=4.0)
    parser.add_argument("--features", type=Path, help="where they are kept")
    parser.add_argument("--test-limit", type=int, default=40)
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.features:
        args.features.mkdir(parents=True, exist_ok=True)
    with args.out.with_suffix(".jsonl").open("a") as log:
        for row in Trainer(args).train():
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(row, flush=True)


if __name__ == "__main__":
    main()
