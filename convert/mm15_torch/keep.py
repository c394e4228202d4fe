"""A checkpoint in a few megabytes: what training added to a shipped model, in 4 bits.

A training that is not done can so be kept beside the code, and go on elsewhere: from
`sft.pt` a file `kept.safetensors` is made, and the other way round. What only training
needs (aids, heads) is kept whole, in 4 bits too; optimizers begin anew.

Run: python -m mm15_mlx.convert.mm15_torch.keep sft.pt kept.safetensors
     python -m mm15_mlx.convert.mm15_torch.keep kept.safetensors sft.pt
"""

import argparse
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import torch
from torch import Tensor

from mm15_mlx.checkpoint import read_config
from mm15_mlx.config import PRESETS, UserError
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.optimizing import WEIGHTS, save
from mm15_mlx.convert.mm15_torch.restore import restored
from mm15_mlx.load import find_model

BITS, GROUP = 4, 64
State = dict[str, Tensor]


def packed(x: Tensor) -> dict[str, mx.array]:
    """One array, by what it is of: in 4 bits where its rows allow it."""
    rows = x.float().reshape(x.shape[0] if x.ndim > 1 else 1, -1)
    plain = mx.array(rows.numpy())
    if rows.shape[1] % GROUP:
        return {"plain": plain.astype(mx.float16)}
    names = ("codes", "scales", "biases")
    found = dict(zip(names, mx.quantize(plain, GROUP, BITS), strict=True))
    return {k: v if k == "codes" else v.astype(mx.float16) for k, v in found.items()}


def unpacked(stored: dict[str, mx.array], shape: list[int]) -> Tensor:
    """What `packed` packed."""
    plain = stored.get("plain")
    if plain is None:
        scales, biases = (stored[k].astype(mx.float32) for k in ("scales", "biases"))
        plain = mx.dequantize(stored["codes"], scales, biases, GROUP, BITS)
    return torch.from_numpy(np.array(plain.astype(mx.float32))).reshape(shape)


def digest(folder: Path) -> str:
    """Of a shipped model's weights, as its configuration has it; UserError where it has
    none: two such folders could not be told apart."""
    found = (read_config(folder).provenance or {}).get("sha256")
    if not isinstance(found, str):
        raise UserError(
            f"{folder}: its config.json names no sha256 of the weights in provenance; "
            "give a model that export made"
        )
    return found


def write(path: Path, states: dict[str, State], base: State, of: str) -> None:
    """The parts of a checkpoint that began at weights `base`, whose digest is `of`."""
    arrays, shapes = {}, {}
    for part in WEIGHTS:
        for name, x in states.get(part, {}).items():
            added = x.float() - base[name] if part == "model" else x
            shapes[f"{part}.{name}"] = list(x.shape)
            arrays |= {f"{part}.{name}:{k}": v for k, v in packed(added).items()}
    mx.save_safetensors(str(path), arrays, {"base": of, "shapes": json.dumps(shapes)})


def read(path: Path, base: State, of: str) -> dict[str, State]:
    """The parts of a checkpoint again; UserError where it began at other weights."""
    arrays, metadata = mx.load(str(path), return_metadata=True)
    if metadata.get("base") != of:
        raise UserError(
            f"{path} was added to weights with sha256 {metadata.get('base')}, these "
            f"have {of}; give the model that it began at"
        )
    states: dict[str, State] = {part: {} for part in WEIGHTS}
    for whole, shape in json.loads(metadata["shapes"]).items():
        part, _, name = whole.partition(".")
        kinds = ("plain", "codes", "scales", "biases")
        stored = {k: arrays[f"{whole}:{k}"] for k in kinds if f"{whole}:{k}" in arrays}
        x = unpacked(stored, shape)
        states[part][name] = base[name] + x if part == "model" else x
    return states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("given", type=Path, help="a checkpoint, or what was kept of it")
    parser.add_argument("out", type=Path, help="the other of the two")
    parser.add_argument("--model", default="nano-ui", help="that training began at")
    args = parser.parse_args()
    folder = find_model(args.model)
    base, of = restored(folder, MM15(PRESETS["nano-ui"])), digest(folder)
    if args.given.suffix == ".safetensors":
        save(args.out, read(args.given, base, of))
    else:
        states = torch.load(args.given, map_location="cpu", weights_only=True)
        write(args.out, states, base, of)


if __name__ == "__main__":
    main()
