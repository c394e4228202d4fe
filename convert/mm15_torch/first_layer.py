"""What the first layer of a decoder is given of pairs of screens, and what it makes of
it: embeddings are made once, where only that layer is to learn (comparing_head.py).

B pictures, P tokens of a prompt, N visual tokens of one screen, K questions of T
tokens, D width.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from mm15_mlx.config import UserError
from mm15_mlx.convert.mm15_torch.comparing import differing
from mm15_mlx.convert.mm15_torch.decoder import Block
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.packed import Look, attend, packed_rope
from mm15_mlx.convert.mm15_torch.sft import Trainer
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.several import Several, about_pair

# what the layer's neurons are given, the states after them, how its heads look
Inner = tuple[Tensor, Tensor, Look]


@dataclass(frozen=True)
class Pair:
    """Two screens, or the same part of both, as the decoder is given them."""

    x: Tensor  # (P, D) embeddings
    places: Tensor  # (P,)
    image: Tensor  # (2, N), where the visual tokens of each are
    differs: Tensor  # (N,) bool


@dataclass(frozen=True)
class Other:
    """A batch about one screen each: what must stay as it is."""

    prefix: Tensor  # (B, P, D)
    questions: Tensor  # (B, K, T, D)


@torch.no_grad()
def pair_of(trainer: Trainer, screens: list[Screen]) -> Pair | None:
    """None where nothing differs, or where screens are of different sizes."""
    there = differing(screens, trainer.args.views, trainer.config)
    if there is None or not there.any():
        return None
    ids = trainer.draws.prefix(screens)
    with autocast():
        prefix, _ = trainer.embedded(screens, ids, 2)
    image = (ids == trainer.image_id).nonzero().view(2, -1)
    places = trainer.places(screens[0], ids)
    return Pair(prefix[0].bfloat16(), places, image, there)


def shown_pairs(
    trainer: Trainer, parts: int, whole: int
) -> Iterator[tuple[list[Screen], list[Several]]]:
    """Pairs, of each kind of change as many, and what is asked of them; UserError where
    there are none."""
    several = trainer.draws.several
    if not several.series["pair"]:
        raise UserError(
            f"--screens: no pairs in {', '.join(map(str, trainer.args.screens))}; make "
            "some with data screens --pairs"
        )
    rng = Random(trainer.args.seed)
    for k in range(parts + whole):
        if k < parts and several.series["part"]:
            yield several.part(rng, *several.two(rng, "part"))
        else:
            rows = several.two(rng, "pair")
            yield [several.shown(row, 2) for row in rows], about_pair(rng, *rows)


def pairs_of(trainer: Trainer, parts: int, whole: int) -> list[Pair]:
    """Of each kind of change as many; UserError where there are no pairs."""
    shown = (screens for screens, _ in shown_pairs(trainer, parts, whole))
    return [p for p in (pair_of(trainer, screens) for screens in shown) if p]


@torch.no_grad()
def others_of(trainer: Trainer, count: int) -> list[Other]:
    found = []
    for k in range(count):
        screens, batch = trainer.draws.batch(Random(1000 * trainer.args.seed + k))
        with autocast():
            prefix, _ = trainer.embedded(screens, batch.prefix, 1)
        questions = trainer.model.decoder.embed_tokens(batch.ids)
        found.append(Other(prefix.bfloat16(), questions.bfloat16()))
    return found


def one_layer(
    layer: Block, theta: float, x: Tensor, questions: Tensor, places: Tensor
) -> Inner:
    """x (B, P, D), questions (B, K, T, D) → what the layer's neurons are given and the
    states after them, both (B, P + K · T, D), and how the layer looks."""
    b, k, t, d = questions.shape
    rope = packed_rope(layer.self_attn.head_dim, theta, places, k, t)
    x = torch.cat([x, questions.reshape(b, k * t, d)], dim=1).float()
    with autocast():
        sizes = len(places), k, t
        seen, look = attend(layer.self_attn, layer.input_layernorm(x), rope, sizes)
        x = x + seen
        inside = layer.post_attention_layernorm(x)
        return inside.float(), (x + layer.mlp(inside)).float(), look
