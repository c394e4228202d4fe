"""What visual tokens say of what they show: of characters, words and boxes.

Patches and tokens go on naming what perception.py taught them. Half-way through the
decoder a token names the words that end in it and the boxes of its line and element; in
the end it hands that over to those who look at it.
"""

from random import Random

import torch
from torch import Tensor, nn

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.boxes import BoxLoss, Marked, States, marked
from mm15_mlx.convert.mm15_torch.looking import tile_tokens
from mm15_mlx.convert.mm15_torch.losses import AnswerLoss
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.perception import as_tensors, tile_loss, tile_targets
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET, Batch
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.convert.mm15_torch.targets import Targets, screen_targets
from mm15_mlx.convert.mm15_torch.words import Words, half_way, handed, named, words_of
from mm15_mlx.tokenizer import Tokenizer

Losses = dict[str, Tensor]
Seen = tuple[Tensor, Tensor]  # visual tokens (V, Q, D) of some views, and their patches


def size_of(states: States, batch: Batch) -> Tensor:
    """Of the last states where answers are, by which the last norm divides."""
    last = states[-1][1][batch.target != NO_TARGET]
    return last.detach().float().square().mean().sqrt()


class Telling:
    """Losses of a model on what its tokens say; patches: with boxes, a screen; whole:
    whether encoder and connector are trained."""

    def __init__(
        self,
        model: MM15,
        aids: Aids,
        heads: nn.ModuleDict,
        tokenizer: Tokenizer,
        answers: AnswerLoss,
        config: ModelConfig,
        patches: int,
        whole: bool,
    ) -> None:
        self.model, self.aids, self.heads = model, aids, heads
        self.tokenizer, self.config = tokenizer, config
        self.boxes = BoxLoss(answers)
        self.patches, self.whole = patches, whole
        self.side = config.connector_config.pooled_grid

    def naming(self, screens: list[Screen], whole: list[Targets], seen: Seen) -> Tensor:
        """What patches and visual tokens of the tiles name, where they are trained."""
        visual, patches = seen
        if not self.whole:
            return visual.new_zeros(())
        tiles, start = [], 0
        for screen in screens:
            tiles += [start + v for v in screen.tiles]
            start += len(screen.tiling.indices)
        targets = as_tensors([
            vars(tile_targets(w, s.tiling))
            for w, s in zip(whole, screens, strict=True)
        ])  # fmt: skip
        given = {"patch_heads": patches, "token_heads": visual}
        losses = [
            tile_loss(self.heads[k](x[tiles]), targets)[0] for k, x in given.items()
        ]
        return torch.stack(losses).mean()

    def half_way(
        self, screens: list[Screen], middle: Tensor, seen: Seen, rng: Random
    ) -> tuple[Losses, dict[str, Marked], Words]:
        """Losses of what the visual tokens' states half-way, `middle` (B, V·Q, D), and
        what they come from name; and the tokens that were marked for it."""
        decoder = self.model.decoder
        tokens = decoder.norm(middle)
        words = words_of(screens, self.tokenizer, self.side)
        targets = [screen_targets(s.row, s.tiling) for s in screens]
        found = marked(screens, targets, self.patches, self.config.coordinates, rng)
        losses = {
            "reading": named(decoder, half_way(self.aids, tokens, words), words),
            "boxes": self.boxes.read(self.aids, decoder, tokens, found),
            "naming": self.naming(screens, targets, seen),
        }
        return losses, found, words

    def __call__(
        self,
        screens: list[Screen],
        image: Tensor,
        states: States,
        seen: Seen,
        size: Tensor,
        rng: Random,
    ) -> Losses:
        """Also of what they hand over. image (T,): where in each screen's prompt its
        tiles are; size: `size_of`."""
        decoder, middle = self.model.decoder, states[len(states) // 2 - 1][0][:, image]
        losses, found, words = self.half_way(screens, middle, seen, rng)
        given = self.boxes.handed(decoder, states, image, found, size)
        spelt = handed(decoder, states, image, words, size)
        return {**losses, "handed": given, "spelt": spelt}

    def together(
        self,
        screens: list[Screen],
        batch: Batch,
        states: States,
        seen: Seen,
        rng: Random,
    ) -> Losses:
        """The means of one prompt's screens: what is read on one that is alone is as
        well read beside another. None for prompts whose pictures are not split."""
        if len(batch.asked) > 1 or len(screens) > self.config.tiling.max_split_images:
            return {}
        image = (batch.prefix == self.config.prompt.image_token_id).nonzero().flatten()
        size, losses, view = size_of(states, batch), [], 0
        for screen in screens:
            mine = tile_tokens(image, screen, self.side, view * self.side**2)
            end = view + len(screen.tiling.indices)
            own = seen[0][view:end], seen[1][view:end]
            losses.append(self([screen], mine, states, own, size, rng))
            view = end
        means = {k: torch.stack([each[k] for each in losses]).mean() for k in losses[0]}
        return {f"several_{k}": v for k, v in means.items()}
