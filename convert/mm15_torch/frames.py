"""Frames of a flow: which came when.

A mean over a frame's tokens tells how late it is, and single tokens hardly do. So the
last token of each frame gathers what all of its frame say, by one head after half of
the layers; there it scores how late its frame is; and in the layers after that the
number that names a frame looks at this token. A part of the visual tokens, at their
places, is enough for that and takes a quarter of the time. Not published: our choice.

n frames of a flow, m of each one's visual tokens, P tokens of the prompt that are kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.looking import halving_heads, lost, mean
from mm15_mlx.convert.mm15_torch.packed import Look, States
from mm15_mlx.convert.mm15_torch.samples import Asked
from mm15_mlx.convert.mm15_torch.store import Screen

KEPT = 0.25  # of a frame's visual tokens
SCALE = 30.0  # of the score: means of frames differ little


def kept_tokens(image: Tensor, frames: int) -> Tensor:
    """Where in a prompt the tokens are that are kept: all text, the last of each frame,
    and so many of its others, chosen by chance. image (P,) bool: visual tokens."""
    places = image.nonzero().flatten().view(frames, -1)
    some = round(KEPT * places.shape[1]) - 1
    kept = ~image
    for mine in places:
        kept[mine[torch.randperm(len(mine) - 1)[:some]]] = True
    kept[places[:, -1]] = True
    return kept.nonzero().flatten()


def steps_of(screens: list[Screen]) -> Tensor:
    """When each was seen, of the frames of one flow."""
    return torch.tensor([s.row["flow"]["step"] for s in screens])


def frame_losses(
    aids: Aids,
    norm: Callable[[Tensor], Tensor],
    states: States,
    flows: list[tuple[list[Screen], Asked]],
    image: Tensor,
    numbers: dict[int, int],
    config: ModelConfig,
) -> dict[str, Tensor]:
    """gathering: a frame's last token looks at all of its frame, each as much.
    ordering: it scores above those of all earlier frames, by a logistic loss of their
    distance. naming_frames: the number of a frame looks at it.

    flows: the frames of each and the question about their order. image (P,) bool:
    visual tokens. numbers: the tokens that name a frame, from 0.
    """
    half = len(states) // 2
    gathering, ordering, looking = [], [], []
    for b, (screens, asked) in enumerate(flows):
        places = image.nonzero().flatten().view(len(screens), -1)  # (n, m)
        last = places[:, -1]
        gathering.append(evenly(states[half][2], b, places))
        late = aids.late(norm(states[half][0][b, last])).float()[:, 0] * SCALE  # (n,)
        steps = steps_of(screens)
        later = steps[:, None] > steps
        ordering.append(F.softplus(late - late[:, None])[later])
        at = [t for t, target in enumerate(asked.target) if target in numbers]
        named = torch.tensor([numbers[asked.target[t]] for t in at])
        place = torch.tensor(at)
        for _, _, look in states[half + 1 :]:
            seen = look.weights(b, torch.zeros_like(place), place)  # (heads, N, P)
            mine = seen[halving_heads(config.text_config)]
            looking.append(lost(mine[:, torch.arange(len(at)), last[named]]).flatten())
    return {
        "gathering": mean(gathering),
        "ordering": mean(ordering),
        "naming_frames": mean(looking),
    }


def evenly(look: Look, picture: int, places: Tensor) -> Tensor:
    """(n · m,) -log of how much the last of each frame's tokens look at it, where 1 is
    as much as at each other; by the last head. places (n, m)."""
    asking = places[:, -1:].expand_as(places).flatten()
    mass = look.own_weights(picture, -1, asking, places.flatten())
    return lost(mass * places.shape[1])
