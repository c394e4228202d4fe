"""What is said of a folder before it gets its name: its bits, and that it runs.

What this file is: the measuring of a model folder that is whole but not yet where the
user wants it. What it is not: the comparison with another library (verify.py).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mm15_mlx.checkpoint import WeightsError, weight_files
from mm15_mlx.load import load

PARTS = ("encoder", "connector", "decoder")
QUESTION = "What is this?"


def bits_per_weight(folder: Path, like: Mapping[str, mx.array]) -> Iterator[str]:
    """Of every part: its parameters, and how many bits each takes on the disk."""
    stored = {n: s for f in weight_files(folder).values() for n, s in f.items()}
    for part in PARTS:
        count = sum(a.size for n, a in like.items() if n.startswith(f"{part}."))
        nbytes = sum(s.nbytes for n, s in stored.items() if n.startswith(f"{part}."))
        bits = 8 * nbytes / max(count, 1)
        yield f"{part:<11} {count:,} parameters, {bits:.2f} bits each"


def ramps(width: int, height: int) -> np.ndarray:
    """A picture (H, W, 3) that is the same everywhere: red grows to the right, green
    downwards, blue upwards."""
    across = np.linspace(0, 255, width, dtype=np.uint8)
    down = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    return np.stack(np.broadcast_arrays(across, down, down[::-1]), axis=-1)


def prove(folder: Path, shown: Path) -> str:
    """Loads `folder`, called `shown`, and runs one view and a few words; raises
    WeightsError where anything that comes out is not finite."""
    model, processor = load(folder)
    size = model.config.tiling.tile_size
    inputs = processor(QUESTION, images=[ramps(size, size)])
    last = model(**inputs)[0, -1]
    if not bool(mx.isfinite(last).all().item()):
        raise WeightsError(
            f"{shown} gives numbers that are not finite; its source is damaged, or "
            "--dtype float16 is too narrow for it: use bfloat16. Nothing is left of it"
        )
    count = sum(a.size for _, a in tree_flatten(model.parameters()))
    token = int(last.argmax().item())
    ids = inputs["input_ids"].shape[1]
    return f"loaded {count:,} numbers, ran {ids} tokens, next would be token {token}"
