"""A training checkpoint → the model folder that ships.

Run: python -m mm15_mlx.convert.mm15_torch.export --checkpoint screens.pt
     --tokenizer tokenizer.model --card README.md --revision 0.1 --out nano-ui
"""

import argparse
import dataclasses
import hashlib
from pathlib import Path

import mlx.core as mx
import torch

from mm15_mlx import __version__
from mm15_mlx.config import PRESETS
from mm15_mlx.convert.mm15 import convert_mm15
from mm15_mlx.quantize import Quantisation
from mm15_mlx.tokenizer import TOKENIZER_FILE

# The tables of words: a lookup and one product a token, packed no slower on a CPU.
PARTS = dict.fromkeys(("embedding", "head"), Quantisation(bits=8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--card", type=Path, required=True)
    parser.add_argument("--revision", required=True, help="of the training run")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--force", action="store_true")
    args = parser.parse_args()
    state = torch.load(args.checkpoint, weights_only=True)["model"]
    arrays = {k: v.float().numpy() for k, v in state.items()}
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    provenance = {
        "source": "trained by this project from random weights, on its own renders",
        "revision": args.revision,
        "sha256": digest.hexdigest(),
        "licence": "MIT",
        "tool": f"mm15-mlx {__version__}",
    }
    config = dataclasses.replace(PRESETS["nano-ui"], provenance=provenance)
    files = {
        TOKENIZER_FILE: args.tokenizer.read_bytes(),
        "README.md": args.card.read_bytes(),
    }
    convert_mm15(
        arrays, config, args.out, files=files, dtype=mx.float16, parts=PARTS,
        force=args.force,
    )  # fmt: skip


if __name__ == "__main__":
    main()
