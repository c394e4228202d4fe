"""Tiles of annotated screens as dense pages: character, element type, icon per pixel.

Run: python -m mm15_mlx.convert.mm15_torch.screen_maps --screens DIR --out DIR
"""

import argparse
import os
from pathlib import Path

import numpy as np

from mm15_mlx.config import PRESETS
from mm15_mlx.convert.mm15_torch.glyphs import CLASS_OF
from mm15_mlx.convert.mm15_torch.samples import dense_labels, load_views, read_rows
from mm15_mlx.screens.icons import NAMES
from mm15_mlx.ui import ELEMENT_TYPES

TYPE_OF = {name: i + 1 for i, name in enumerate(ELEMENT_TYPES)}
ICON_OF = {name: i + 1 for i, name in enumerate(sorted(NAMES))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shard", type=int, default=100)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config = PRESETS["nano-ui"]
    rows = list(read_rows(args.screens))
    for start in range(0, len(rows) - args.shard + 1, args.shard):
        target = args.out / f"{args.screens.name}-{start:06d}.npz"
        if target.exists():
            continue
        made: dict[str, list[np.ndarray]] = {}
        for row in rows[start : start + args.shard]:
            tiling, views = load_views(row, config)
            labels = dense_labels(row, tiling, TYPE_OF, ICON_OF, CLASS_OF)
            tiles = [i for i, index in enumerate(tiling.indices) if index != (0, 0)]
            for name, stack in {"images": views[tiles], **labels}.items():
                made.setdefault(name, []).append(stack)
        partial = target.with_suffix(".part")
        with partial.open("wb") as f:
            np.savez(f, **{k: np.concatenate(v) for k, v in made.items()})
        os.replace(partial, target)


if __name__ == "__main__":
    main()
