"""Trains `nano-ui` on questions about whole screens, encoder and connector given.

First the decoder and the connector's readout alone; then, with `--whole`, every part,
and patches and visual tokens go on naming what they show as in perception.py.
Three more losses, on states inside the decoder, teach what
answers alone teach too slowly. Visual tokens are to name the words that end in them,
and the boxes of the line and the element that they belong to; and an answer's positions
are to point and look at the visual tokens that the question is about (looking.py).
After that reading is copying and finding is matching.

Run: python -m mm15_mlx.convert.mm15_torch.sft --screens DIR … --start perception.pt …
"""

import argparse
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.convert.mm15_torch.aids import PICTURES, Aids
from mm15_mlx.convert.mm15_torch.augment import spoilt
from mm15_mlx.convert.mm15_torch.boxes import States
from mm15_mlx.convert.mm15_torch.comparing import (
    alongside_losses,
    comparing_losses,
    shares,
)
from mm15_mlx.convert.mm15_torch.draws import Draws
from mm15_mlx.convert.mm15_torch.flags import arguments
from mm15_mlx.convert.mm15_torch.frames import SCALE, frame_losses, kept_tokens
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.lateness import fitted, frame_means
from mm15_mlx.convert.mm15_torch.looking import (
    LookingLoss,
    Places,
    Shown,
    mean,
    shown_together,
    tile_tokens,
)
from mm15_mlx.convert.mm15_torch.losses import AnswerLoss, init_locations
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.optimizing import optimizers, schedule, update
from mm15_mlx.convert.mm15_torch.order_heads import begin_heads
from mm15_mlx.convert.mm15_torch.packed import packed_states
from mm15_mlx.convert.mm15_torch.perception import Heads, normalise
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET, Batch, SampleEncoder
from mm15_mlx.convert.mm15_torch.stages import run
from mm15_mlx.convert.mm15_torch.store import Screen, Screens, stored_views
from mm15_mlx.convert.mm15_torch.telling import Seen, Telling, size_of
from mm15_mlx.prompt import PromptEncoder
from mm15_mlx.tiling import plan
from mm15_mlx.tokenizer import Tokenizer

ANSWERS = ("logits", "target", "weight")  # the rest of a step's tensors are losses


def by_prompt(screens: list[Screen], batch: Batch) -> list[list[Screen]]:
    """The screens of each prompt of a batch, as many to each."""
    count = len(screens) // len(batch.asked)
    return [screens[k : k + count] for k in range(0, len(screens), count)]


class Trainer:
    def __init__(
        self, args: argparse.Namespace, config: ModelConfig = PRESETS["nano-ui"]
    ) -> None:
        self.args, self.config = args, config
        self.tokenizer = Tokenizer(args.tokenizer)
        encoder = PromptEncoder(self.config, self.tokenizer)
        samples = SampleEncoder(self.config, encoder, args.split)
        self.image_id = self.config.prompt.image_token_id
        self.first = self.tokenizer.special("<loc_0>")
        self.count = self.config.coordinates.range + 1
        self.loss = AnswerLoss(self.first, self.count, args.spread)
        torch.manual_seed(args.seed)
        self.model = MM15(self.config)
        init_locations(self.model, self.first)
        self.aids = Aids(self.config.text_config.hidden_size)
        self.looking = LookingLoss(self.config, self.tokenizer)
        self.numbers = {
            self.tokenizer.encode(str(k + 1))[0]: k for k in range(PICTURES)
        }
        vision, text = self.config.vision_config, self.config.text_config
        pooled = self.config.connector_config.pooled_grid
        side = self.config.view_grid // pooled
        self.heads = nn.ModuleDict({
            "patch_heads": Heads(vision.hidden_size, 1),
            "token_heads": Heads(text.hidden_size, side),
        })  # fmt: skip
        self.telling = Telling(
            self.model, self.aids, self.heads, self.tokenizer, self.loss, config,
            args.patches, args.whole,
        )  # fmt: skip
        self.step = 0
        for path in args.start:
            self._load(torch.load(path, weights_only=True))
        if not args.whole:
            self.model.encoder.requires_grad_(False)
            self.model.connector.requires_grad_(False)
            self.model.connector.readout.requires_grad_(True)
        self.heads.requires_grad_(args.whole)
        if args.aids_only:
            self.model.requires_grad_(False)
        parts = {"model": self.model, "aids": self.aids, "heads": self.heads}
        self.opts = optimizers(nn.ModuleDict(parts), args.lr)
        if args.out.exists():
            state = torch.load(args.out, weights_only=True)
            self._load(state)
            for opt, kept in zip(self.opts, state["optimizers"], strict=True):
                opt.load_state_dict(kept)
            self.step = state["step"]
        self.draws = Draws(args, self.config, samples)
        if args.balance and not self.step:
            self.balance()
        if args.fit_late and not self.step:
            self.fit_late()
        if args.order_heads and not self.step:
            begin_heads(self)

    def _load(self, state: dict) -> None:
        """What a checkpoint of an earlier stage holds of this model."""
        given = {**state["model"], **state.get("heads", {})}
        parts = (self.model, given), (self.heads, given), (self.aids, state.get("aids"))
        for part, stored in parts:
            own = part.state_dict()
            own.update({k: v for k, v in (stored or {}).items() if k in own})
            part.load_state_dict(own)

    @torch.no_grad()
    def balance(self) -> None:
        """Visual tokens as large as word embeddings: neither drowns in the other."""
        screens = [s for found in self.draws.ready.values() for s in found[:8]]
        last = self.model.connector.readout[-1]
        size = self.visual(screens)[0].float().square().mean().sqrt()
        last.weight /= size
        last.bias /= size

    @torch.no_grad()
    def fit_late(self) -> None:
        """The first score of how late frames are, by the flows that there are."""
        several = self.draws.several
        known = self.draws.flows("--fit-late")
        flows = [[several.shown(r, len(f)) for r in f] for f in known]
        means = frame_means(
            lambda shown: self.visual(shown)[0], self.model.decoder.norm, flows
        )
        self.aids.late[0].weight.copy_(fitted(means)[None] / SCALE)

    def visual(
        self, screens: list[Screen], rng: Random | None = None, pictures: int = 1
    ) -> Seen:
        """Visual tokens (V, Q, D) of all views of some screens, and their patches;
        the screens as they are, or as `rng` changes colours and sharpness, alike for
        so many in a row."""
        views = [stored_views(s, self.args.views, self.config) for s in screens]
        size = self.config.tiling.tile_size  # all views of a screen as one picture
        tall = [v.reshape(-1, size, 3) for v in views]
        if rng:
            changes = [rng.getrandbits(32) for _ in tall[::pictures]]
            seeds = np.repeat(changes, pictures)
            shown = np.concatenate([
                spoilt(v, np.random.default_rng(seed))
                for v, seed in zip(tall, seeds, strict=True)
            ])  # fmt: skip
        else:
            shown = np.concatenate(tall).astype(np.float32) / 255
        shown = shown.reshape(-1, size, size, 3)
        pixels = normalise(shown, self.config.vision_config)
        with torch.set_grad_enabled(self.args.whole and torch.is_grad_enabled()):
            patches = self.model.encoder(pixels)
            pooled = self.model.connector.pooled(patches)
        return self.model.connector.readout(pooled), patches

    def tile_tokens(self, screens: list[Screen], ids: Tensor) -> Tensor:
        """Where the tiles of one screen are in a prefix `ids` (P,); all are tiled
        alike."""
        image = (ids == self.image_id).nonzero().flatten()
        return tile_tokens(image, screens[0], self.config.connector_config.pooled_grid)

    # -- one step --------------------------------------------------------------------

    def embedded(
        self,
        screens: list[Screen],
        ids: Tensor,
        pictures: int,
        rng: Random | None = None,
    ) -> tuple[Tensor, Seen]:
        """Embeddings (B, P, D) of prefixes of so many pictures each, all with `ids`
        (P,); the visual tokens in them, and their patches."""
        seen = self.visual(screens, rng, pictures)
        prefix = self.model.embed_inputs(
            ids.expand(len(screens) // pictures, -1), seen[0], self.image_id
        )
        return prefix, seen

    def answers(
        self, prefix: Tensor, batch: Batch, places: Tensor | None = None
    ) -> tuple[dict[str, Tensor], States]:
        """Logits (N, vocabulary) and targets (N,) of the answers; the states. places:
        of what there is of the prefix, where it is not all."""
        decoder = self.model.decoder
        questions = decoder.embed_tokens(batch.ids).to(prefix.dtype)
        states = packed_states(decoder, prefix, questions, places=places)
        picked = batch.target != NO_TARGET
        logits = decoder.logits(decoder.norm(states[-1][1][picked])).float()
        return {"logits": logits, "target": batch.target[picked]}, states

    def run(
        self, screens: list[Screen], batch: Batch, rng: Random
    ) -> dict[str, Tensor]:
        """Logits and targets of the answers, and the losses of all aids."""
        image = self.tile_tokens(screens, batch.prefix)
        with autocast():
            prefix, seen = self.embedded(screens, batch.prefix, 1, rng)
            out, states = self.answers(prefix, batch)
            size = size_of(states, batch)
            told = self.telling(screens, image, states, seen, size, rng)
            shown = [[Shown(s, a)] for s, a in zip(screens, batch.asked, strict=True)]
            pointing, looking = self.looking(
                self.aids, self.model.decoder.norm, states, shown, batch.prefix
            )
        return {**out, **told, "pointing": pointing, "looking": looking}

    def read(
        self, screens: list[Screen], ids: Tensor, rng: Random
    ) -> dict[str, Tensor]:
        """What visual tokens name half-way, of screens of which nothing is asked: a
        third of a step's time."""
        decoder, image = self.model.decoder, self.tile_tokens(screens, ids)
        with autocast():
            prefix, seen = self.embedded(screens, ids, 1, rng)
            none = prefix.new_zeros(len(screens), 1, 1, prefix.shape[-1])
            states = packed_states(decoder, prefix, none, len(decoder.layers) // 2)
            middle = states[-1][0][:, image]
            return self.telling.half_way(screens, middle, seen, rng)[0]

    def run_several(self, rng: Random) -> tuple[dict[str, Tensor], str]:
        """What several screens together give, and what the log calls it."""
        screens, batch, there = self.draws.together(rng)
        if batch.asked[0][0].task == "order":
            return self.run_frames(screens, batch, rng), "frames_"
        return self.run_together(screens, batch, there, rng), "several_"

    def run_together(
        self,
        screens: list[Screen],
        batch: Batch,
        there: list[list[Places]],
        rng: Random,
    ) -> dict[str, Tensor]:
        """Logits and targets of answers about several screens, and the losses of where
        they point and look, and of what the screens' tokens say of each other."""
        side = self.config.connector_config.pooled_grid
        prompts = by_prompt(screens, batch)
        count = len(prompts[0])
        shown = [
            shown_together(mine, asked, places, side)
            for mine, asked, places in zip(prompts, batch.asked, there, strict=True)
        ]
        norm = self.model.decoder.norm
        with autocast():
            prefix, seen = self.embedded(screens, batch.prefix, count, rng)
            places = self.places(screens[0], batch.prefix)
            out, states = self.answers(prefix, batch, places)
            told = self.telling.together(screens, batch, states, seen, rng)
            pointing, looking = self.looking(
                self.aids, norm, states, shown, batch.prefix
            )
            image = batch.prefix == self.image_id
            views = torch.tensor([len(s.tiling.indices) for s in prompts[0]])
            which = torch.arange(count).repeat_interleave(views * side**2)
            telling = self.pictures_named(states, image, which)
            compared = comparing_losses(
                self.aids, norm(states[0][0][:, image]), prompts,
                self.args.views, self.config,
            )  # fmt: skip
            at = image.nonzero().flatten()
            if beside := alongside_losses(states[0][2], prompts, at):
                compared["alongside"] = mean(beside)
        losses = {"pointing": pointing, "looking": looking, "telling": telling,
                  **compared}  # fmt: skip
        named = {f"several_{k}": v for k, v in losses.items()}
        return {**out, "weight": shares(batch), **told, **named}

    def places(self, part: Screen, ids: Tensor) -> Tensor:
        """Where the tokens of a prompt are; two parts of screens are as far from each
        other as the screens themselves would be."""
        places = torch.arange(len(ids))
        if whole := part.row.get("whole"):
            shown = Screen(whole, plan(*whole.values(), self.config.tiling, 2))
            image = (ids == self.image_id).nonzero().flatten()
            second = image[len(image) // 2 :]
            places[second] += len(self.draws.prefix([shown] * 2)) // 2 - len(second)
        return places

    def run_frames(
        self, screens: list[Screen], batch: Batch, rng: Random
    ) -> dict[str, Tensor]:
        """Logits and targets of the orders of flows, and the losses of what frames say
        of when they came; of a part of the visual tokens."""
        prompts = by_prompt(screens, batch)
        count = len(prompts[0])
        flows = [(f, asked) for f, (asked,) in zip(prompts, batch.asked, strict=True)]
        whole = batch.prefix == self.image_id
        kept = kept_tokens(whole, count)
        image = whole[kept]
        with autocast():
            prefix, (visual, _) = self.embedded(screens, batch.prefix, count, rng)
            out, states = self.answers(prefix[:, kept], batch, kept)
            losses = frame_losses(
                self.aids, self.model.decoder.norm, visual, states, flows, image,
                self.numbers, self.config,
            )  # fmt: skip
            which = torch.arange(count).repeat_interleave(int(image.sum()) // count)
            losses["telling"] = self.pictures_named(states, image, which)
        return {**out, **{f"frames_{k}": v for k, v in losses.items()}}

    def pictures_named(self, states: States, image: Tensor, which: Tensor) -> Tensor:
        """How badly visual tokens, where `image` (P,) is true, name the picture of the
        prompt that they are of, `which` (T,)."""
        middle = states[len(states) // 2 - 1][0][:, image]
        named = self.aids.picture(self.model.decoder.norm(middle)).float()
        return F.cross_entropy(named.flatten(0, 1), which.repeat(len(middle)))

    def run_written(self, batch: Batch) -> dict[str, Tensor]:
        """Logits and targets of answers to questions without a picture."""
        with autocast():
            prefix = self.model.embed_inputs(batch.prefix[None], None, self.image_id)
            return self.answers(prefix, batch)[0]

    def train_step(self) -> dict[str, float]:
        rng = Random((self.args.seed + 1) * 1_000_003 + self.step)
        torch.manual_seed(rng.getrandbits(62))  # empty patches are picked by torch
        kind, name = rng.random(), ""
        if kind < self.args.read:
            out = self.read(*self.draws.pictures(rng), rng)
        elif kind < self.args.read + self.args.several:
            out, name = self.run_several(rng)
        elif self.draws.text_only and rng.random() < self.draws.text_only:
            out, name = self.run_written(self.draws.written(rng)), "written_"
        else:
            out = self.run(*self.draws.batch(rng), rng)
        answers = {k: out.pop(k) for k in ANSWERS if k in out}
        total = self.args.aid * sum(out.values())
        stats = {k: v.item() for k, v in out.items()}
        if answers:
            loss, right = self.answered(**answers)
            total = total + loss
            stats |= {name + k: v for k, v in {"loss": loss.item(), **right}.items()}
        factor = schedule(self.step, self.args.steps, self.args.warmup)
        update(total, self.opts, self.args.lr * factor)
        return stats

    def answered(
        self, logits: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> tuple[Tensor, dict[str, float]]:
        """The loss of answers, and the shares of text that was right and of
        coordinates (and of y) that were near."""
        weight = torch.ones(len(target)) if weight is None else weight
        loss = self.loss(logits, target, weight)
        guess = logits.argmax(-1)
        located = (target >= self.first) & (target < self.first + self.count)
        near = ((guess[located] - target[located]).abs() <= 8).float()
        same = (guess[~located] == target[~located]).float()
        means = {"text": same, "near": near, "near_y": near[1::2]}
        return loss, {k: v.mean().item() for k, v in means.items()}

    @property
    def screens(self) -> Screens:
        return self.draws.screens

    def refresh(self) -> None:
        self.draws.refresh()

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "aids": self.aids.state_dict(),
            "optimizers": [o.state_dict() for o in self.opts],
        }


def main() -> None:
    run(lambda: Trainer(arguments(description=__doc__)))


if __name__ == "__main__":
    main()
