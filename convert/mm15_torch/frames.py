"""Frames of a flow: which came when.

What tells how late a frame is lies in all of it, and single tokens hardly show it; the
decoder, which reads lines, does not sum it up. The encoder looks at whole frames. So
every visual token is taught to score how late its frame is, above the token in the same
place of each earlier frame, and to keep that half-way through the decoder; and the
number that names a frame looks at any of its tokens. In the decoder a part of the
tokens, at their places, is enough and takes a quarter of the time. Not published: our
choice.

n frames of a flow, Q visual tokens of each, m of them kept, P tokens of the prompt that
are kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.looking import halving_heads, lost, mean
from mm15_mlx.convert.mm15_torch.packed import States
from mm15_mlx.convert.mm15_torch.samples import Asked
from mm15_mlx.convert.mm15_torch.store import Screen

KEPT = 0.25  # of a frame's visual tokens
SCALE = 16.0  # of the score: frames differ little, and its weights grow by the rate


def kept_tokens(image: Tensor, frames: int) -> Tensor:
    """Where in a prompt the tokens are that are kept: all text, the last of each frame,
    and so many of its others, chosen by chance and the same in every frame: else their
    means would differ by what was chosen. image (P,) bool: visual tokens."""
    places = image.nonzero().flatten().view(frames, -1)
    count = places.shape[1]
    some = torch.randperm(count - 1)[: round(KEPT * count) - 1]
    kept = ~image
    kept[places[:, [*some, count - 1]].flatten()] = True
    return kept.nonzero().flatten()


def steps_of(screens: list[Screen]) -> Tensor:
    """When each was seen, of the frames of one flow."""
    return torch.tensor([s.row["flow"]["step"] for s in screens])


def late_losses(late: Tensor, steps: Tensor) -> list[Tensor]:
    """How badly frames are ordered by their scores: a logistic loss of the distance of
    each two of them, by the means of their tokens and by tokens in the same place.
    late (n, Q), steps (n,)."""
    later = steps[:, None] > steps
    return [
        F.softplus(SCALE * (scores - scores[:, None])[later]).flatten()
        for scores in (late.mean(1), late)
    ]


def frame_losses(
    aids: Aids,
    norm: Callable[[Tensor], Tensor],
    visual: Tensor,
    states: States,
    flows: list[tuple[list[Screen], Asked]],
    image: Tensor,
    numbers: dict[int, int],
    config: ModelConfig,
) -> dict[str, Tensor]:
    """ordering: visual tokens say how late their frame is, together; each_ordering:
    each of them; half_way: together, those in the decoder that the numbers find.
    naming_frames: the number of a frame looks at it.

    norm: the decoder's last. visual (B · n, Q, D): visual tokens. flows: the frames of
    each and the question about their order. image (P,) bool: visual tokens. numbers:
    the tokens that name a frame, from 0.
    """
    ordering, each, half_way, looking = [], [], [], []
    half = len(states) // 2
    within = states[half][0][:, image]  # (B, n · m, D)
    first, then = (
        score(norm(x)).float()[..., 0]
        for score, x in zip(aids.late, (visual, within), strict=True)
    )
    for b, (screens, asked) in enumerate(flows):
        count = len(screens)
        steps = steps_of(screens)
        together, alone = late_losses(first[b * count :][:count], steps)
        ordering.append(together)
        each.append(alone)
        half_way.append(late_losses(then[b].view(count, -1), steps)[0])
        places = image.nonzero().flatten().view(count, -1)  # (n, m)
        at = [t for t, target in enumerate(asked.target) if target in numbers]
        named = torch.tensor([numbers[asked.target[t]] for t in at])
        place = torch.tensor(at)
        for _, _, look in states[half + 1 :]:
            seen = look.weights(b, torch.zeros_like(place), place)  # (heads, N, P)
            mine = seen[halving_heads(config.text_config)]
            theirs = places[named].expand(len(mine), -1, -1)  # (2, N, m)
            looking.append(lost(mine.gather(2, theirs).sum(2)).flatten())
    return {
        "ordering": mean(ordering),
        "each_ordering": mean(each),
        "half_way": mean(half_way),
        "naming_frames": mean(looking),
    }
