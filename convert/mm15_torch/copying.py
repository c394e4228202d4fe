"""A start for heads that copy (looking.py): what half-way reads, they hand over.

From random weights the path from a token's box to the answer's numbers takes hundreds
of steps to form, as long as no head looks and nothing that is handed over is right. But
the linear map that reads boxes half-way is already there, and so is what names word
pieces. Here values and outputs of heads are fitted to it, at their place: least squares
for the map, then the part of it of the heads' width that matters most to the embeddings
of what is named.

Run: python -m mm15_mlx.convert.mm15_torch.copying --fitted OUT.pt --what pieces
     and the flags of sft, with `--start` the checkpoint.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from mm15_mlx.convert.mm15_torch import sft
from mm15_mlx.convert.mm15_torch.boxes import marked
from mm15_mlx.convert.mm15_torch.decoder import Decoder
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.looking import COPIED, copying_heads, halving_heads
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET
from mm15_mlx.convert.mm15_torch.targets import screen_targets
from mm15_mlx.convert.mm15_torch.words import words_of

BATCHES = 12
TOKENS = 400  # of a screen
SHARE = 0.4  # of the size at which a head alone would name the number
SINK = 30.0  # weight of the token that is to hand over nothing
RIDGE = 1e-4


def reduced(inputs: Tensor, wanted: Tensor, table: Tensor, rank: int) -> list[Tensor]:
    """Output (D, rank) and value (rank, D) matrices whose product takes inputs (N, D)
    to wanted (N, D), as near as can be in what `table` (numbers, D) reads."""
    eye = torch.eye(inputs.shape[1], dtype=inputs.dtype)
    gram = inputs.T @ inputs
    gram = gram + RIDGE * gram.diagonal().mean() * eye
    full = torch.linalg.solve(gram, inputs.T @ wanted).T  # (D, D)
    metric = table.T @ table
    metric = metric + 1e-6 * metric.diagonal().mean() * eye
    root = torch.linalg.cholesky(metric)  # root rootᵀ = metric
    read = inputs @ full.T @ root
    best = torch.linalg.svd(read.T @ read)[0][:, :rank]
    return [torch.linalg.solve(root.T, best), best.T @ root.T @ full]


def factored(product: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Values (width, D) and outputs (D, width), as large as each other in every
    direction, whose product is what is given (D, D), or as near as can be."""
    left, sizes, right = torch.linalg.svd(product)
    root = sizes[:width].sqrt()
    return root[:, None] * right[:width], left[:, :width] * root


@torch.no_grad()
def even(decoder: Decoder, layer: int, heads: list[int]) -> None:
    """Values and outputs of each head as large as each other in every direction: what
    they make of a token together stays as it is, and both can learn."""
    attention, width = decoder.layers[layer].self_attn, decoder.config.head_dim
    for head in heads:
        mine = slice(head * width, (head + 1) * width)
        v, o = attention.v_proj.weight[mine], attention.o_proj.weight[:, mine]
        values, outputs = factored(o.double() @ v.double(), width)
        v.copy_(values)
        o.copy_(outputs)


@dataclass
class Fitted:
    """What some heads of one layer are to make of tokens: lists of (N, D)."""

    place: int  # of the layer, from the end
    heads: list[int]
    inputs: list[Tensor] = field(default_factory=list)
    wanted: list[Tensor] = field(default_factory=list)

    def add(self, inputs: Tensor, wanted: Tensor) -> None:
        self.inputs.append(inputs.double())
        self.wanted.append(wanted.double())

    def set(self, decoder: Decoder, table: Tensor, gain: Tensor) -> None:
        """Sets the heads' weights; gain (D, 1): of the outputs."""
        attn, width = decoder.layers[self.place].self_attn, decoder.config.head_dim
        inputs, wanted = torch.cat(self.inputs), torch.cat(self.wanted)
        o, v = reduced(inputs, wanted, table, width * len(self.heads))
        o = o * gain
        for k, head in enumerate(self.heads):
            ours, mine = (slice(n * width, (n + 1) * width) for n in (k, head))
            attn.v_proj.weight[mine] = v[ours].float()
            attn.o_proj.weight[:, mine] = o[:, ours].float()
        even(decoder, self.place, self.heads)


@torch.no_grad()
def fit(trainer: sft.Trainer, what: list[str], batches: int = BATCHES) -> None:
    """Sets weights in the trainer's model; what: `numbers` of boxes, `pieces`."""
    rng, decoder = Random(trainer.args.seed), trainer.model.decoder
    side = trainer.config.connector_config.pooled_grid
    numbers = {
        kind: [Fitted(place, [head]) for head in copying_heads(decoder.config)]
        for kind, place in zip(COPIED, (-2, -1), strict=True)
    }
    pieces = Fitted(-1, halving_heads(decoder.config))
    sizes = []
    for _ in range(batches):
        screens, batch = trainer.draws.batch(rng)
        with autocast():
            prefix, _ = trainer.embedded(screens, batch.prefix, 1, rng)
            _, states = trainer.answers(prefix, batch)
            image = trainer.tile_tokens(screens, batch.prefix)
            middle = decoder.norm(states[len(states) // 2 - 1][0][:, image])
            targets = [screen_targets(s.row, s.tiling) for s in screens]
            found = marked(screens, targets, TOKENS, trainer.config.coordinates, rng)
            words = words_of(screens, trainer.tokenizer, side)
            x = {
                place: decoder.layers[place].input_layernorm(
                    states[place - 1][0][:, image]
                )
                for place in (-2, -1)
            }
            nothing = {k: SINK * y[:, 0] for k, y in x.items()}  # handed over: nothing
            for kind, heads in numbers.items():
                m = found[kind]
                read = trainer.aids.boxes(kind, middle[m.picture, m.token])
                for number, head in enumerate(heads):
                    head.add(x[head.place][m.picture, m.token], read[:, number])
                    rest = nothing[head.place]
                    head.add(rest, torch.zeros_like(rest))
            where = words.picture, words.token
            pieces.add(x[pieces.place][where], middle[where])
            rest = nothing[pieces.place]
            pieces.add(rest, torch.zeros_like(rest))
        last = states[-1][1][batch.target != NO_TARGET].float()
        sizes.append(last.square().mean().sqrt().item())

    table = decoder.lm_head.weight.double()
    located = table[trainer.first : trainer.first + trainer.count]
    gain = SHARE * sum(sizes) / len(sizes) / decoder.norm.weight[:, None].double()
    if "numbers" in what:
        for head in (h for heads in numbers.values() for h in heads):
            head.set(decoder, located, gain)
    if "pieces" in what:
        words = torch.cat(
            [table[: trainer.first], table[trainer.first + trainer.count :]]
        )
        pieces.set(decoder, words, gain)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fitted", type=Path, required=True)
    parser.add_argument(
        "--what", nargs="+", choices=("numbers", "pieces"), default=["numbers"]
    )
    own, given = parser.parse_known_args()
    args = sft.arguments(given)
    torch.set_num_threads(args.threads)
    trainer = sft.Trainer(args)
    fit(trainer, own.what)
    torch.save(
        {"model": trainer.model.state_dict(), "aids": trainer.aids.state_dict()},
        own.fitted,
    )


if __name__ == "__main__":
    main()
