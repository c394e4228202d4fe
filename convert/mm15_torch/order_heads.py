"""Heads that name the frames of a flow begin with what orders them.

Once visual tokens say how late their frame is (frames.py), the numbers of an order
still have to look at the earliest frame that is left. Keys and queries are normalised,
and the direction in which frames differ is a small part of them: training alone found
nothing of it in 320 steps. So of one dimension of each such head the key becomes the
direction that orders the frames of flows and differs least from token to token, and the
query asks there for early ones where the number of a frame comes next, and for nothing
elsewhere. What this takes from the head, training gives back. Not published: our
choice.

F flows of n frames, m tokens of each, N positions, D width, E head width.
"""

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mm15_mlx.config import TextConfig
from mm15_mlx.convert.mm15_torch.decoder import Attention
from mm15_mlx.convert.mm15_torch.frames import kept_tokens, steps_of
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.lateness import differences, separating
from mm15_mlx.convert.mm15_torch.looking import halving_heads
from mm15_mlx.convert.mm15_torch.packed import States
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET, Batch, collate
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.several import order

if TYPE_CHECKING:
    from mm15_mlx.convert.mm15_torch.sft import Trainer

FLOWS = 200  # that are looked at, so many at a time
AT_A_TIME = 8
OTHERS = 14  # batches about other things, and positions of each
POSITIONS = 400
PENALTY = 0.3  # of what single tokens differ by, in the direction that orders frames
KEY, QUERY = 1.5, 6.0  # of a head's others, root mean square
RIDGE = 1e-3
TINY = 1e-4


@dataclass(frozen=True)
class Inputs:
    """What the attention of a layer is given."""

    frames: Tensor  # (F, n, D), means of their tokens, in the order they were seen
    tokens: Tensor  # (T, D), some of the visual tokens
    asking: Tensor  # (N, D), positions where the number of a frame comes next
    others: Tensor  # (M, D), other positions of answers


def key_row(frames: Tensor, tokens: Tensor) -> Tensor:
    """Weights (D,) of a score that is higher for later frames, alike for the tokens of
    one: a logistic regression on their differences, whitened by `tokens`; root mean
    square 1 over these."""
    middle, spread = tokens.mean(0), torch.cov(tokens.T)
    spread += TINY * spread.diagonal().mean() * torch.eye(len(spread))
    lower = torch.linalg.cholesky(spread)
    apart = differences(frames)
    white = torch.linalg.solve_triangular(lower, apart.T, upper=False).T
    weights = separating(white, PENALTY)
    row = torch.linalg.solve_triangular(lower.T, weights[:, None], upper=True)[:, 0]
    row -= (row @ middle) / (middle @ middle) * middle  # what all have in common
    return row / (tokens @ row).square().mean().sqrt().clamp(min=1e-9)


def query_row(asking: Tensor, others: Tensor) -> Tensor:
    """Weights (D,) of what is -1 at positions that ask and 0 at others, both counted
    alike: a ridge regression."""
    share = (len(others) / max(len(asking), 1)) ** 0.5
    x = torch.cat([share * asking, others])
    y = torch.cat([torch.full((len(asking),), -share), torch.zeros(len(others))])
    gram = x.T @ x
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
    return torch.linalg.solve(gram, x.T @ y)


def row_of(config: TextConfig, head: int) -> int:
    """Of a projection to heads: of the pair that rotary embeddings turn least."""
    return head * config.head_dim + config.head_dim // 2 - 1


def naming_layers(config: TextConfig) -> range:
    """Those whose heads name frames, as looking.py has it."""
    return range(config.num_hidden_layers // 2 + 1, config.num_hidden_layers)


@torch.no_grad()
def begin(attention: Attention, config: TextConfig, given: Inputs) -> None:
    """One dimension of each head that names frames asks for early ones."""
    size = config.head_dim
    key = key_row(given.frames, given.tokens)
    query = query_row(given.asking, given.others)
    for head in halving_heads(config):
        rows = slice(head * size, (head + 1) * size)
        at = row_of(config, head)
        for proj, row, x, much in (
            (attention.k_proj, key, given.tokens, KEY),
            (attention.q_proj, query, given.asking, QUERY),
        ):
            usual = (x @ proj.weight[rows].T).square().mean().sqrt()
            proj.weight[at] = much * usual * row


class Looker:
    """What the layers whose heads name frames are given, of a trainer's own data."""

    def __init__(self, trainer: "Trainer") -> None:
        self.trainer = trainer
        self.layers = naming_layers(trainer.config.text_config)
        kinds = ("frames", "tokens", "asking", "others")
        self.found: dict[int, dict[str, list[Tensor]]] = {
            layer: {kind: [] for kind in kinds} for layer in self.layers
        }

    def add(self, kind: str, states: States, which: int, *at: Tensor) -> None:
        """Inputs of each layer at some places; which: of prefixes, 0, or answers, 1."""
        for layer in self.layers:
            norm = self.trainer.model.decoder.layers[layer].input_layernorm
            x = norm(states[layer - 1][which][at].float()).float()
            self.found[layer][kind].append(x)

    def flows(self, flows: list[list[Screen]], batch: Batch) -> None:
        """The frames of some flows, as they are shown, and the questions about them."""
        trainer, count = self.trainer, len(flows[0])
        prefix, _ = trainer.embedded([s for f in flows for s in f], batch.prefix, count)
        whole = batch.prefix == trainer.image_id
        kept = kept_tokens(whole, count)
        image = whole[kept].nonzero().flatten().view(count, -1)  # (n, m)
        _, states = trainer.answers(prefix[:, kept], batch, kept)
        named = torch.isin(batch.target, torch.tensor(list(trainer.numbers)))
        self.add("asking", states, 1, named)
        self.add("others", states, 1, (batch.target != NO_TARGET) & ~named)
        for b, frames in enumerate(flows):
            seen = image[steps_of(frames).argsort()]
            self.add("tokens", states, 0, torch.tensor(b), seen.flatten())
            for layer in self.layers:
                tokens = self.found[layer]["tokens"][-1]
                means = tokens.view(count, -1, tokens.shape[-1]).mean(1)
                self.found[layer]["frames"].append(means[None])

    def other(self, screens: list[Screen], batch: Batch) -> None:
        """Answers about anything else."""
        trainer = self.trainer
        pictures = len(screens) // len(batch.asked)
        prefix, _ = trainer.embedded(screens, batch.prefix, pictures)
        _, states = trainer.answers(prefix, batch)
        at = (batch.target != NO_TARGET).nonzero()[:POSITIONS]
        self.add("others", states, 1, *at.T)

    def inputs(self, layer: int) -> Inputs:
        return Inputs(**{k: torch.cat(v) for k, v in self.found[layer].items()})


@torch.no_grad()
def begin_heads(trainer: "Trainer") -> None:
    """The heads of a trainer's model that name frames, by the flows that it has."""
    draws, looker = trainer.draws, Looker(trainer)
    several = draws.several
    known = draws.flows("--order-heads")[:FLOWS]
    with autocast():
        for start in range(0, len(known), AT_A_TIME):
            asked = [
                order(Random(start + k), *rows)
                for k, rows in enumerate(known[start : start + AT_A_TIME])
            ]
            shown = [[several.shown(r, len(a.images)) for r in a.images] for a in asked]
            questions = [
                draws.fitting([a.question], screens, POSITIONS)
                for a, screens in zip(asked, shown, strict=True)
            ]
            looker.flows(shown, collate(draws.prefix(shown[0]), questions))
        for k in range(OTHERS):
            looker.other(*draws.batch(Random(k)))
    for layer in looker.layers:
        attention = trainer.model.decoder.layers[layer].self_attn
        begin(attention, trainer.config.text_config, looker.inputs(layer))
