"""A shipped model folder → a checkpoint to go on training from; export's inverse.

Run: python -m mm15_mlx.convert.mm15_torch.restore --model nano-ui --out start.pt
"""

import argparse
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from torch import Tensor

from mm15_mlx.config import PRESETS
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.optimizing import save
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


def floating(arrays: dict[str, mx.array], name: str, columns: int) -> Tensor:
    """A parameter of a folder; tables that are stored in 8 bits are unpacked."""
    stored, path = arrays[name], name.rpartition(".")[0]
    if stored.dtype == mx.uint32:
        scales = arrays[f"{path}.scales"]
        stored = mx.dequantize(
            stored, scales, arrays[f"{path}.biases"],
            group_size=columns // scales.shape[1], bits=stored.shape[1] * 32 // columns,
        )  # fmt: skip
    return torch.from_numpy(np.array(stored.astype(mx.float32)))


def restored(folder: Path, model: MM15) -> dict[str, Tensor]:
    """The state dict of `model` as the folder has it."""
    arrays = mx.load(str(folder / "model.safetensors"))
    return {
        name: in_torch_layout(
            name, floating(arrays, name, like.shape[-1] if like.ndim else 1), like
        ).contiguous()
        for name, like in model.state_dict().items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model = MM15(PRESETS["nano-ui"])
    state = restored(find_model(args.model), model)
    model.load_state_dict(state)
    save(args.out, {"model": state})


if __name__ == "__main__":
    main()
