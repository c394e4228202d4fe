"""The mean of several checkpoints of one line of trainings.

Each has learnt something that the others have not, and where they only waver the mean
is nearer to what is right (arXiv 2203.05482). The values and outputs of heads that hand
over what they see may have been evened in between (copying.py): what is the same thing
in all checkpoints is their product, so of these the mean is that of the products.

Run: python -m mm15_mlx.convert.mm15_torch.soup one.pt two.pt three.pt --out mean.pt
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mm15_mlx.config import PRESETS, TextConfig, UserError
from mm15_mlx.convert.mm15_torch.copying import factored
from mm15_mlx.convert.mm15_torch.looking import COPIED
from mm15_mlx.convert.mm15_torch.optimizing import WEIGHTS, save

State = dict[str, Tensor]


def mean_of(states: list[State]) -> State:
    """Of what only some have the mean of these; UserError where shapes differ."""
    known: dict[str, list[Tensor]] = {}
    for state in states:
        for name, weights in state.items():
            known.setdefault(name, []).append(weights.double())
    for name, some in known.items():
        shapes = {tuple(weights.shape) for weights in some}
        if len(shapes) > 1:
            raise UserError(
                f"{name} has the shapes {', '.join(map(str, sorted(shapes)))}; take "
                "checkpoints of one line of trainings"
            )
    return {name: torch.stack(some).mean(0) for name, some in known.items()}


def handing(state: State, config: TextConfig) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of the values (E, D) and outputs (D, E) of every head that hands over."""
    width, depth = config.head_dim, config.num_hidden_layers
    for layer in range(depth - len(COPIED), depth):
        name = f"decoder.layers.{layer}.self_attn"
        v, o = (state[f"{name}.{x}_proj.weight"] for x in "vo")
        yield from zip(v.split(width), o.split(width, 1), strict=True)


def soup(models: list[State], config: TextConfig) -> State:
    """The mean of models of one configuration, each key and value head of one query."""
    mean = mean_of(models)
    theirs = zip(*(list(handing(model, config)) for model in models), strict=True)
    for (v, o), some in zip(handing(mean, config), theirs, strict=True):
        products = [outputs.double() @ values.double() for values, outputs in some]
        values, outputs = factored(torch.stack(products).mean(0), config.head_dim)
        v.copy_(values)
        o.copy_(outputs)
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    stored = [
        torch.load(path, map_location="cpu", weights_only=True)
        for path in args.checkpoints
    ]
    parts = {part: mean_of([one.get(part, {}) for one in stored]) for part in WEIGHTS}
    text_config = PRESETS["nano-ui"].text_config
    parts["model"] = soup([one["model"] for one in stored], text_config)
    every = parts.items()
    save(args.out, {k: {n: x.float() for n, x in p.items()} for k, p in every})


if __name__ == "__main__":
    main()
