"""A start for the copying heads (looking.py): what half-way reads, they hand over.

From random weights the path from a token's box to the answer's numbers takes hundreds
of steps to form, as long as no head looks and nothing that is handed over is right. But
the linear map that reads boxes half-way is already there. Here each head's values and
outputs are fitted to it, at the place of the head: least squares for the map, then the
part of it of the head's width that matters most to the location embeddings.

Run: python -m mm15_mlx.convert.mm15_torch.copying --fitted OUT.pt
     and the flags of sft, with `--start` the checkpoint.
"""

import argparse
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from mm15_mlx.convert.mm15_torch import sft
from mm15_mlx.convert.mm15_torch.boxes import marked
from mm15_mlx.convert.mm15_torch.looking import COPIED, copying_heads
from mm15_mlx.convert.mm15_torch.packed import packed_states
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET
from mm15_mlx.convert.mm15_torch.targets import screen_targets

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


@torch.no_grad()
def fit(trainer: sft.Trainer, batches: int = BATCHES) -> None:
    """Sets the copying heads' weights in the trainer's model."""
    rng, decoder = Random(trainer.args.seed), trainer.model.decoder
    image_id = trainer.config.prompt.image_token_id
    inputs: dict[str, list[Tensor]] = {k: [] for k in COPIED}
    wanted: dict[str, list[Tensor]] = {k: [] for k in COPIED}
    sizes = []
    for _ in range(batches):
        screens, batch = trainer.draws.batch(rng)
        with torch.autocast("cpu", torch.bfloat16):
            visual, _ = trainer.visual(screens, rng)
            ids = batch.prefix.expand(len(screens), -1)
            prefix = trainer.model.embed_inputs(ids, visual, image_id)
            questions = decoder.embed_tokens(batch.ids).to(prefix.dtype)
            states = packed_states(decoder, prefix, questions)
            image = batch.prefix == image_id
            middle = decoder.norm(states[len(states) // 2 - 1][0][:, image])
            targets = [screen_targets(s.row, s.tiling) for s in screens]
            found = marked(screens, targets, TOKENS, trainer.count - 1, rng)
            for kind, place in zip(COPIED, (-2, -1), strict=True):
                m = found[kind]
                x = decoder.layers[place].input_layernorm(
                    states[place - 1][0][:, image]
                )
                inputs[kind].append(x[m.picture, m.token].double())
                read = trainer.aids.boxes(kind, middle[m.picture, m.token])
                wanted[kind].append(read.double())
                nothing = x[:, 0].double() * SINK  # where heads look that copy nothing
                inputs[kind].append(nothing)
                wanted[kind].append(nothing.new_zeros(len(nothing), *read.shape[1:]))
        last = states[-1][1][batch.target != NO_TARGET].float()
        sizes.append(last.square().mean().sqrt().item())

    first, width = trainer.first, decoder.config.head_dim
    table = decoder.lm_head.weight[first : first + trainer.count].double()
    gain = SHARE * sum(sizes) / len(sizes) / decoder.norm.weight[:, None].double()
    for kind, place in zip(COPIED, (-2, -1), strict=True):
        x, read = torch.cat(inputs[kind]), torch.cat(wanted[kind])
        attn = decoder.layers[place].self_attn
        for number, head in enumerate(copying_heads(decoder.config)):
            o, v = reduced(x, read[:, number], table, width)
            o = o * gain
            even = (o.square().mean() / v.square().mean()) ** 0.25
            mine = slice(head * width, (head + 1) * width)
            attn.v_proj.weight[mine] = (v * even).float()
            attn.o_proj.weight[:, mine] = (o / even).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fitted", type=Path, required=True)
    own, given = parser.parse_known_args()
    args = sft.arguments(given)
    torch.set_num_threads(args.threads)
    trainer = sft.Trainer(args)
    fit(trainer)
    torch.save(
        {"model": trainer.model.state_dict(), "aids": trainer.aids.state_dict()},
        own.fitted,
    )


if __name__ == "__main__":
    main()
