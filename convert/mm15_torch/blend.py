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

from mm15_mlx.config import PRESETS, TextConfig
from mm15_mlx.convert.mm15_torch.looking import halving_heads
from mm15_mlx.convert.mm15_torch.optimizing import save
from mm15_mlx.convert.mm15_torch.order_heads import naming_layers, row_of

State = dict[str, Tensor]
STRONGER = 3.0  # times what asks for early frames: the rest is part of the way


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


def with_order(
    blended: State, before: State, after: State, head: int, config: TextConfig
) -> State:
    """The dimension that orders frames (order_heads.py) of one head as the second
    checkpoint has it, or it would vanish; those of the other heads as in the first,
    where they had other work."""
    kept = dict(blended)
    for layer in naming_layers(config):
        for proj, much in (("k_proj", 1.0), ("q_proj", STRONGER)):
            name = f"decoder.layers.{layer}.self_attn.{proj}.weight"
            kept[name] = kept[name].clone()
            for h in halving_heads(config):
                row = row_of(config, h)
                whole = much * after[name][row].float()
                kept[name][row] = whole if h == head else before[name][row].float()
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of `after`")
    parser.add_argument(
        "--order-head", type=int, help="keep what orders frames, in this head alone"
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    before, after = (
        torch.load(path, map_location="cpu", weights_only=True)["model"]
        for path in (args.before, args.after)
    )
    state = blend(before, after, args.share)
    if args.order_head is not None:
        config = PRESETS["nano-ui"].text_config
        state = with_order(state, before, after, args.order_head, config)
    save(args.out, {"model": state})


if __name__ == "__main__":
    main()
