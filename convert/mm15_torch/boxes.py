"""What visual tokens say of the box they lie in: half-way, and to those who copy it.

Half-way a linear map reads the four numbers. Later every copying head (looking.py) is
to hand over one: what its values and outputs make of a token names that number.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mm15_mlx.config import CoordinateConfig
from mm15_mlx.convert.mm15_torch.aids import BOXES, Aids
from mm15_mlx.convert.mm15_torch.decoder import Decoder
from mm15_mlx.convert.mm15_torch.looking import COPIED, copying_heads
from mm15_mlx.convert.mm15_torch.losses import AnswerLoss
from mm15_mlx.convert.mm15_torch.packed import States
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.convert.mm15_torch.targets import Targets, in_model


@dataclass(frozen=True)
class Marked:
    """Some visual tokens with a line or an element in them."""

    picture: Tensor  # (N,)
    token: Tensor  # (N,), through the picture's tiles
    target: Tensor  # (N, 4), its box in the model's numbers


def marked(
    screens: list[Screen],
    targets: list[Targets],
    count: int,
    coordinates: CoordinateConfig,
    rng: Random,
) -> dict[str, Marked]:
    """For each kind of box, `count` tokens of each screen at most. targets: of each
    screen, `screen_targets`."""
    found = {}
    for kind in BOXES:
        pictures, tokens, boxes = [], [], []
        for b, (screen, target) in enumerate(zip(screens, targets, strict=True)):
            canvas = getattr(target, kind)  # (V, P, P, 4)
            places = np.flatnonzero(~np.isnan(canvas[..., 0]))
            some = np.array(rng.sample(range(len(places)), min(len(places), count)))
            places = places[some.astype(int)]
            pictures += [b] * len(places)
            tokens.append(places)
            some_boxes = canvas.reshape(-1, 4)[places]
            boxes.append(in_model(some_boxes, screen.tiling, coordinates))
        found[kind] = Marked(
            torch.tensor(pictures, dtype=torch.long),
            torch.from_numpy(np.concatenate(tokens)),
            torch.from_numpy(np.concatenate(boxes)),
        )
    return found


class BoxLoss:
    """Losses on what tokens name and hand over; a token is as large as a patch."""

    def __init__(self, answers: AnswerLoss) -> None:
        self.answers = answers

    def named(self, decoder: Decoder, read: Tensor, target: Tensor) -> Tensor:
        """What reads as location embeddings (N, 4, D), against numbers (N, 4)."""
        if not len(target):
            return read.sum()
        first, count = self.answers.first, self.answers.count
        table = decoder.lm_head.weight[first : first + count]
        logits = F.linear(read, table.to(read.dtype)).float()
        soft = self.answers.soft[target]
        return (logits.logsumexp(-1) - (soft * logits).sum(-1)).mean()

    def read(
        self, aids: Aids, decoder: Decoder, tokens: Tensor, found: dict[str, Marked]
    ) -> Tensor:
        """tokens: normed states half-way (B, V·Q, D)."""
        losses = [
            self.named(decoder, aids.boxes(k, tokens[m.picture, m.token]), m.target)
            for k, m in found.items()
        ]
        return torch.stack(losses).mean()

    def handed(
        self,
        decoder: Decoder,
        states: States,
        image: Tensor,
        found: dict[str, Marked],
        size: Tensor,
    ) -> Tensor:
        """Arguments as `hand_over`'s."""
        heads, losses = copying_heads(decoder.config), []
        for place, kind in enumerate(COPIED, start=-len(COPIED)):
            m = found[kind]
            where = (m.picture, m.token)
            given = hand_over(decoder, states, place, heads, image, where, size)
            losses.append(self.named(decoder, given, m.target))
        return torch.stack(losses).mean()


def hand_over(
    decoder: Decoder,
    states: States,
    place: int,
    heads: list[int],
    image: Tensor,
    where: tuple[Tensor, Tensor],
    size: Tensor,
) -> Tensor:
    """What some heads of layer `place` (from the end: -1) hand to a position that looks
    at one visual token only, as the last norm will leave it: (N, heads, D).

    image (P,): where visual tokens are. where: picture (N,) and token (N,). size: of
    the last states, by which the last norm divides.
    """
    layer = decoder.layers[place]
    tokens = layer.input_layernorm(states[place - 1][0][:, image])[where]  # (N, D)
    return handed_by(decoder, place, heads, tokens, size)


def handed_by(
    decoder: Decoder, place: int, heads: list[int], tokens: Tensor, size: Tensor
) -> Tensor:
    """The same of tokens (N, D) as the layer's values are given them."""
    attention = decoder.layers[place].self_attn
    split = (decoder.config.num_key_value_heads, decoder.config.head_dim, -1)
    v = attention.v_proj.weight.view(split)[heads]  # (H, E, D)
    o = attention.o_proj.weight.view(-1, *split[:2])[:, heads]  # (D, H, E)
    values = torch.einsum("nd,hed->nhe", tokens, v.to(tokens.dtype))
    given = torch.einsum("nhe,dhe->nhd", values, o.to(tokens.dtype))
    return given * decoder.norm.weight.to(given.dtype) / size
