"""Where the positions of an answer are to look: what they find there, they copy.

After half of the layers a position points at the visual tokens that its box is about.
In the two layers after that its heads share the work. Two see the box, its upper and
its lower half, or where the next piece of a line of text ends (pieces.py); four copy
one number of the box each, from the tokens at its edge: in the last layer but one that
of an element, in the last that of a line of text. The overview is left out. Of two
screens, what an answer is about has to be found before a word of it is given: where
such answers open counts as much as all that follows, and of what changed one head of
the second layer looks there as soon as the first has told what differs (comparing.py).

N positions, P tokens of the picture's prefix, V visual tokens of its tiles.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mm15_mlx.config import ModelConfig, TextConfig
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.packed import States
from mm15_mlx.convert.mm15_torch.pieces import Spelling
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET, Asked
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.convert.mm15_torch.targets import edges_in, halves_in
from mm15_mlx.screens.several import Place
from mm15_mlx.tokenizer import Tokenizer

# Until an answer has given its box or read a name, and after.
Places = tuple[Place | None, Place | None]
Losses = dict[tuple[str, bool], list[Tensor]]  # by kind, and whether of a change
COPIED = ("elements", "texts")  # what the last two layers copy
INSIDE = 0.4  # of what the fullest token holds of a box
ACROSS = (
    "which",
    "changed",
    "tapped",
)  # tasks about two screens at once, by their name
CHANGES = ("changed", "tapped", "which_state")  # those about what differs
OPENING = 4  # positions of such an answer: nothing yet says where what it is about is
EARLY = 1  # the layer, from 0, with the head that looks there first


def halving_heads(config: TextConfig) -> list[int]:
    """Two heads that see the box, or the next piece of text."""
    return [0, config.num_key_value_heads // 2]


def copying_heads(config: TextConfig) -> list[int]:
    """Four heads, one for each number of a box."""
    taken = halving_heads(config)
    return [h for h in range(config.num_key_value_heads) if h not in taken][:4]


def finding_head(config: TextConfig) -> int:
    """The one of layer `EARLY`: the last, which nano-ui misses least."""
    return config.num_key_value_heads - 1


@dataclass(frozen=True)
class Sights:
    """What the positions about some box of one picture are to see."""

    question: Tensor  # (N,)
    place: Tensor  # (N,), of the position in its question
    share: Tensor  # (N, V), of the box in each token
    halves: Tensor  # (N, 2, V) bool; one token for a piece of text, or none
    edges: Tensor  # (N, 4, V) bool; all false but for the number that comes next
    line: Tensor  # (N,) bool, whether the box is a line's
    spelled: Tensor  # (N,) bool, whether a piece of a line's text comes next
    opening: Tensor  # (N,) bool, whether an answer about two screens opens there
    changed: Tensor  # (N,) bool, whether it is about what changed


def sights(
    screen: Screen, asked: list[Asked], tokenizer: Tokenizer, side: int
) -> Sights | None:
    """Of the answers about one screen, `side`² tokens a tile."""
    where = [
        (k, t, tuple(box))
        for k, a in enumerate(asked)
        for t, box in enumerate(a.about)
        if box
    ]
    if not where:
        return None
    boxes = {box: i for i, box in enumerate(dict.fromkeys(w[2] for w in where))}
    found = [halves_in(list(box), screen.tiling, side) for box in boxes]
    area = torch.from_numpy(np.stack(found))  # (boxes, 2, V)
    edge = np.stack([edges_in(f, screen.tiling.grid, side, INSIDE) for f in found])
    mine = torch.tensor([boxes[w[2]] for w in where])
    question, place = (torch.tensor([w[i] for w in where]) for i in range(2))

    share = area.sum(1)
    share = share / share.sum(1, keepdim=True).clamp(min=1e-9)
    most = area.amax((1, 2), keepdim=True).clamp(min=1e-9)
    halves = (area >= INSIDE * most)[mine]
    piece, heads = pieces(screen, asked, where, tokenizer, side)
    spelled = piece >= 0
    ends = F.one_hot(piece[spelled], area.shape[-1]).bool()
    halves[spelled] = ends[:, None] & heads[spelled][..., None]
    coordinate = torch.tensor([asked[k].coordinate[t] for k, t, _ in where])
    next_one = coordinate[:, None] == torch.arange(4)
    edges = torch.from_numpy(edge)[mine] & next_one[..., None]
    line = torch.tensor([asked[k].lined[t] for k, t, _ in where])
    opened = [openings(a) for a in asked]
    opening = torch.tensor([t in opened[k] for k, t, _ in where])
    changed = torch.tensor([asked[k].task in CHANGES for k, _, _ in where])
    return Sights(
        question, place, share[mine], halves, edges, line, spelled, opening, changed
    )


def across(task: str) -> bool:
    """Whether a task is about two screens at once."""
    return task.startswith(ACROSS)


def openings(asked: Asked) -> list[int]:
    """Where an answer about two screens opens; nowhere in others."""
    answer = [t for t, token in enumerate(asked.target) if token != NO_TARGET]
    return answer[: OPENING if across(asked.task) else 0]


def pieces(
    screen: Screen,
    asked: list[Asked],
    where: list[tuple[int, int, tuple[float, ...]]],
    tokenizer: Tokenizer,
    side: int,
) -> tuple[Tensor, Tensor]:
    """Of each position the visual token in which the next piece ends, or -1 (N,), and
    which of the two heads hand it over (N, 2)."""
    lines = {tuple(line["box"]): line for line in screen.row["texts"]}
    spelt: dict[tuple[float, ...], Spelling] = {}
    found = []
    for k, t, _ in where:
        box = tuple(asked[k].line[t] or ())
        if box not in lines:
            found.append((-1, False, False))
            continue
        if box not in spelt:
            spelt[box] = Spelling(
                lines[box], tokenizer, screen.tiling, screen.tiles, side
            )
        end = asked[k].end[t]
        found.append((spelt[box].token(end), *spelt[box].heads(end)))
    every = torch.tensor(found)
    return every[:, 0], every[:, 1:].bool()


def lost(mass: Tensor) -> Tensor:
    """-log of attention, bounded where there is none."""
    return -(mass + 1e-3).log()


def missed(seen: Tensor, first: Tensor, target: Tensor) -> Tensor:
    """(N,) -log of the attention `seen` (N, V) on `target` (N, V), bool; where that is
    empty, of what falls on the first token of all, `first` (N,)."""
    mass = (seen * target).sum(1) + first * ~target.any(1)
    return lost(mass)


def mean(losses: list[Tensor]) -> Tensor:
    """Of all numbers together; 0 where there are none."""
    every = torch.cat(losses)
    return every.sum() / max(len(every), 1)


@dataclass(frozen=True)
class Shown:
    """A screen in a prompt, and what is asked as far as it is about this screen."""

    screen: Screen
    asked: list[Asked]
    start: int = 0  # of its first visual token, through the prompt's


def shown_together(
    screens: list[Screen],
    asked: list[Asked],
    there: list[Places],
    side: int,
) -> list[Shown]:
    """Screens of one prompt. there: for each question the places that its answer is
    about."""
    made, start = [], 0
    for k, screen in enumerate(screens):
        mine = []
        for a, places in zip(asked, there, strict=True):
            first, then = (p[1] if p and p[0] == k else None for p in places)
            found = found_by(a)
            about = [
                None if token == NO_TARGET else first if t < found else then
                for t, token in enumerate(a.target)
            ]
            mine.append(replace(a, about=about))
        made.append(Shown(screen, mine, start))
        start += len(screen.tiling.indices) * side * side
    return made


def found_by(asked: Asked) -> int:
    """The position from which an answer is no longer finding what it is about: behind
    its box, or at it where a name was read before."""
    numbers = [t for t, n in enumerate(asked.coordinate) if n >= 0]
    if not numbers:
        return 0
    read = any(end > 0 for end in asked.end[: numbers[0]])
    return numbers[0] if read else numbers[-1] + 1


def nothing_seen(shown: list[Shown], side: int) -> Sights | None:
    """Where answers about changes open that no place shows, such as scrolling; as if on
    the last screen."""
    last = shown[-1]
    where = [
        (k, t)
        for k, asked in enumerate(last.asked)
        if asked.task in CHANGES
        for t in openings(asked)
        if not any(one.asked[k].about[t] for one in shown)
    ]
    if not where:
        return None
    question, place = torch.tensor(where).T
    tokens = len(last.screen.tiles) * side**2
    yes = torch.ones(len(where), dtype=torch.bool)
    none = torch.zeros(len(where), 4, tokens, dtype=torch.bool)
    return Sights(
        question, place, none[:, 0].float(), none[:, :2], none, ~yes, ~yes, yes, yes
    )


def tile_tokens(image: Tensor, screen: Screen, side: int, start: int = 0) -> Tensor:
    """Where in a prompt a screen's tiles are, without its overview. image: where visual
    tokens are; start: of them all, the screen's first."""
    start += screen.tiles[0] * side**2  # behind the overview, where that comes first
    return image[start:][: len(screen.tiles) * side**2]


class LookingLoss:
    """Losses on where the answers of a batch point and look."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.image_token_id = config.prompt.image_token_id
        self.side = config.connector_config.pooled_grid
        self.halving = halving_heads(config.text_config)
        self.copying = copying_heads(config.text_config)
        self.finder = finding_head(config.text_config)

    def __call__(
        self,
        aids: Aids,
        norm: Callable[[Tensor], Tensor],
        states: States,
        prompts: list[list[Shown]],
        prefix: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Means of pointing and of looking. norm: the decoder's last. prompts: the
        screens of each; prefix (P,): the ids of all. Who has nothing to see looks at
        the first token."""
        image = (prefix == self.image_token_id).nonzero().flatten()
        points: Losses = defaultdict(list)
        looks: Losses = defaultdict(list)
        for b, shown in enumerate(prompts):
            tiles = [tile_tokens(image, s.screen, self.side, s.start) for s in shown]
            every = torch.cat(tiles)
            pictures, questions, _ = states[len(states) // 2]
            tokens = norm(pictures[b, every])
            for change, k, see in self.told_apart(shown):
                places = b, see.question, see.place
                chances = aids.pointing(norm(questions[places]), tokens)
                own = torch.isin(every, tiles[k])
                missing = -(see.share * chances[:, own]).sum(1)
                there = see.share.any(1)
                points["opening", change].append(missing[there & see.opening])
                points["later", change].append(missing[there & ~see.opening])
                layers = states[EARLY], *states[-2:]
                weights = [look.weights(*places) for _, _, look in layers]
                found = self.all_seen(see, weights, tiles[k], int(image[0]))
                for name, loss in found:
                    looks[name, change].append(loss)
        # Each counts as one: those that come most often must not drown the rest.
        zero = torch.zeros(())
        pointing, looking = (
            sum(map(mean, losses.values()), zero) for losses in (points, looks)
        )
        return pointing, looking

    def told_apart(self, shown: list[Shown]) -> Iterator[tuple[bool, int, Sights]]:
        """What answers about changes, true, are to see of each screen, from 0, and what
        all others are."""
        for k, one in enumerate(shown):
            for change in (True, False):
                asked = [
                    a if (a.task in CHANGES) == change else replace(a, about=[])
                    for a in one.asked
                ]
                if see := sights(one.screen, asked, self.tokenizer, self.side):
                    yield change, k, see
        if see := nothing_seen(shown, self.side):
            yield True, len(shown) - 1, see

    def all_seen(
        self, see: Sights, weights: list[Tensor], tiles: Tensor, first: int
    ) -> Iterator[tuple[str, Tensor]]:
        """Losses of what positions see, by attention (heads, N, P) of layer `EARLY` and
        of the last two: on a screen's tiles, and on the first visual token."""
        early, *late = weights
        finder = early[self.finder]
        yield "early", found_early(see, finder[:, tiles], finder[:, first])
        for seen, copied in zip(late, COPIED, strict=True):
            yield from self.seen(see, seen[..., tiles], seen[..., first], copied)

    def seen(
        self, see: Sights, seen: Tensor, first: Tensor, copied: str
    ) -> Iterator[tuple[str, Tensor]]:
        """Losses of positions by what they are to see, in a layer that copies `copied`:
        attention of all heads on a screen's tiles, `seen` (heads, N, V), and on the
        first token, `first` (heads, N)."""
        for i, head in enumerate(self.halving):
            loss = missed(seen[head], first[head], see.halves[:, i])
            yield "seeing", loss[~see.spelled & ~see.opening]
            yield "opening", loss[~see.spelled & see.opening]
            yield "spelling", loss[see.spelled]
        copies = see.line if copied == "texts" else ~see.line
        for i, head in enumerate(self.copying):
            target = see.edges[:, i] & copies[:, None]
            loss = missed(seen[head], first[head], target)
            yield "copying", loss[target.any(1)]
            yield "nothing", loss[~target.any(1)]


def found_early(see: Sights, seen: Tensor, first: Tensor) -> Tensor:
    """Losses of where answers about what changed open: attention `seen` (N, V) of the
    head that finds it, and on the first token, `first` (N,)."""
    return missed(seen, first, see.share > 0)[see.opening & see.changed]
