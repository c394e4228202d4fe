"""What visual tokens say of the word pieces in them: half-way, and to those who spell.

Half-way a token names the pieces that end in it, the first as it is and later ones by a
map. The heads of the last layers that look where the next piece of a line ends
(looking.py) are to hand over its name, one the first in a token and one the later ones
(pieces.py): otherwise an answer is spelled by habit, and words that no screen held
before come out as known ones.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.boxes import hand_over
from mm15_mlx.convert.mm15_torch.decoder import Decoder
from mm15_mlx.convert.mm15_torch.looking import COPIED, halving_heads
from mm15_mlx.convert.mm15_torch.packed import States
from mm15_mlx.convert.mm15_torch.pieces import visual_words
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.tokenizer import Tokenizer


@dataclass(frozen=True)
class Words:
    """Every word piece of some screens, and the visual token that holds its end."""

    picture: Tensor  # (N,)
    token: Tensor  # (N,), through the picture's tiles
    piece: Tensor  # (N,), its id
    heads: Tensor  # (N, 2) bool, which of the heads that spell hand it over


def words_of(screens: list[Screen], tokenizer: Tokenizer, side: int) -> Words:
    """`side`² visual tokens a tile."""
    found = [
        (b, token, piece, *heads)
        for b, s in enumerate(screens)
        for token, piece, heads in visual_words(
            s.row, s.tiling, tokenizer, s.tiles, side
        )
    ]
    every = torch.tensor(found, dtype=torch.long).view(-1, 5)
    return Words(*every[:, :3].unbind(1), every[:, 3:].bool())


def named(decoder: Decoder, read: Tensor, words: Words) -> Tensor:
    """What reads as word embeddings (N, D), against the pieces."""
    if not len(words.piece):
        return read.sum()
    return F.cross_entropy(decoder.logits(read).float(), words.piece)


def named_by_own(decoder: Decoder, given: Tensor, words: Words) -> Tensor:
    """The same of what both heads hand over (N, 2, D), each piece by those that are
    to."""
    return named(decoder, (given * words.heads[..., None]).sum(1), words)


def half_way(aids: Aids, tokens: Tensor, words: Words) -> Tensor:
    """What tokens (B, V, D) half-way say of the pieces (N, D)."""
    own = tokens[words.picture, words.token]
    return torch.where(words.heads[:, :1], own, aids.later(own))


def handed(
    decoder: Decoder, states: States, image: Tensor, words: Words, size: Tensor
) -> Tensor:
    """Either of the last two layers names the pieces; arguments as `hand_over`'s."""
    heads, where = halving_heads(decoder.config), (words.picture, words.token)
    losses = []
    for place in range(-len(COPIED), 0):
        given = hand_over(decoder, states, place, heads, image, where, size)
        losses.append(named_by_own(decoder, given, words))
    return torch.stack(losses).mean()
