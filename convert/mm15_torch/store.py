"""Annotated screens and what is kept of them: views as arrays, tokens once computed.

Run: python -m mm15_mlx.convert.mm15_torch.store --screens DIR --out DIR
"""

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.convert.mm15_torch.samples import Row, Size, load_picture, load_views
from mm15_mlx.screens.crops import crop
from mm15_mlx.tiling import Tiling, cut, plan


@dataclass(frozen=True)
class Screen:
    row: Row
    tiling: Tiling
    views: np.ndarray | None = None  # of a screen that is not kept, uint8 (V, S, S, 3)

    @property
    def key(self) -> str:
        return f"{Path(self.row['folder']).name}-{self.row['id']}"

    @property
    def size(self) -> Size:
        return self.row["width"], self.row["height"]

    @property
    def tiles(self) -> list[int]:
        """The views that are tiles."""
        return [v for v, index in enumerate(self.tiling.indices) if index != (0, 0)]


def cut_out(
    row: Row, box: tuple[int, int, int, int], tiling: Tiling, config: ModelConfig
) -> Screen:
    """A part of a screen, a box in its pixels, as a picture of its own."""
    part, image = crop(row, load_picture(row), box)
    return Screen(part, tiling, cut(image, tiling, config.tiling))


class Screens:
    """Screens of folders that may still be growing."""

    def __init__(self, folders: list[Path], config: ModelConfig) -> None:
        self.folders, self.config = folders, config
        self.items: list[Screen] = []
        self.known: set[str] = set()
        self.read: Counter[Path] = Counter()  # bytes of each folder's list
        self.refresh()

    def refresh(self) -> None:
        """Takes in what was written since; lists only ever grow."""
        for folder in self.folders:
            for row in self._new_rows(folder):
                tiling = plan(row["width"], row["height"], self.config.tiling)
                screen = Screen(row, tiling)
                if screen.key not in self.known:
                    self.known.add(screen.key)
                    self.items.append(screen)

    def _new_rows(self, folder: Path) -> Iterator[Row]:
        path = folder / "screens.jsonl"
        if not path.exists():
            return
        with path.open("rb") as lines:
            lines.seek(self.read[folder])
            for line in lines:
                if not line.endswith(b"\n"):  # the last may still be being written
                    return
                self.read[folder] += len(line)
                yield json.loads(line) | {"folder": str(folder)}


def stored(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array kept at `path`, made once; never half written."""
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        with partial.open("wb") as f:
            np.save(f, make())
        os.replace(partial, path)
    return np.load(path, mmap_mode="r")


def stored_views(screen: Screen, folder: Path, config: ModelConfig) -> np.ndarray:
    """Views of a screen, uint8 (V, S, S, 3)."""
    if screen.views is not None:
        return screen.views
    path = folder / f"{screen.key}.npy"
    return stored(path, lambda: load_views(screen.row, screen.tiling, config))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", type=int, default=0, help="of --parts, from 0")
    parser.add_argument("--parts", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config = PRESETS["nano-ui"]
    for screen in Screens(args.screens, config).items[args.part :: args.parts]:
        stored_views(screen, args.out, config)


if __name__ == "__main__":
    main()
