"""Two checkpoints of one line of trainings → the weights between them.

What a training on something new takes from the skills that were there, half of the way
gives back, and keeps most of what was learnt (WiSE-FT, arXiv 2109.01903).

Run: python -m mm15_mlx.convert.mm15_torch.blend before.pt after.pt --share 0.5
     --out blend.pt
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from mm15_mlx.convert.mm15_torch.optimizing import save

State = dict[str, Tensor]


def blend(before: State, after: State, share: float) -> State:
    """`before` and `share` of the way to `after`. Raises ValueError where the two are
    not of one shape."""
    if before.keys() != after.keys():
        name = sorted(before.keys() ^ after.keys())[0]
        raise ValueError(f"{name} is in one of the checkpoints only")
    for name, tensor in before.items():
        if tensor.shape != after[name].shape:
            shapes = f"{tuple(tensor.shape)} and {tuple(after[name].shape)}"
            raise ValueError(f"{name} has the shapes {shapes}")
    pairs = {name: (x.float(), after[name].float()) for name, x in before.items()}
    return {name: x + share * (y - x) for name, (x, y) in pairs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of `after`")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    states = (
        torch.load(path, map_location="cpu", weights_only=True)["model"]
        for path in (args.before, args.after)
    )
    save(args.out, {"model": blend(*states, args.share)})


if __name__ == "__main__":
    main()
