"""A shipped model folder → a checkpoint to go on training from; export's inverse.

Run: python -m mm15_mlx.convert.mm15_torch.restore --model nano-ui --out start.pt
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mm15_mlx.config import PRESETS
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.load import find_model


def in_torch_layout(name: str, x: Tensor, like: Tensor) -> Tensor:
    """Undo the rules of `convert/mm15.py` for one tensor."""
    x = x.float()
    if x.shape == like.shape:
        return x
    out, channels, height, width = like.shape
    if name == "encoder.patch_embedding.weight":  # (O, y·x·c)
        return x.reshape(out, height, width, channels).permute(0, 3, 1, 2)
    if height == 1:  # a Linear that was a 1×1 convolution
        return x.reshape(like.shape)
    return x.permute(0, 3, 1, 2)  # (O, y, x, I)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = MM15(PRESETS["nano-ui"])
    stored = load_file(find_model(args.model) / "model.safetensors")
    state = {
        name: in_torch_layout(name, stored[name], like).contiguous()
        for name, like in model.state_dict().items()
    }
    model.load_state_dict(state)
    torch.save({"model": state}, args.out)


if __name__ == "__main__":
    main()
