"""What the settings panel says of one question, and what of it a model can do.

What this file is: plain values, which travel with the question; nothing is kept in the
model or its processor. What it is not: the panel (app.py).
"""

from dataclasses import dataclass, replace

from mm15_mlx.config import ModelConfig, TilingConfig, UserError

OWN = "own"  # as the model's configuration has it
WHOLE = "whole"  # never split
EACH = "each"  # split, however many pictures there are
_COUNTED = ("dynamic", "aspect")  # policies whose tiles n_max limits
_MANY = 64  # pictures; more than any question has, and what converters write for all


@dataclass(frozen=True)
class Settings:
    """split: OWN, WHOLE, EACH, or the most tiles of a picture as a number."""

    max_tokens: int = 256
    temp: float = 0.0
    split: str = OWN


def splittings(tiling: TilingConfig) -> list[tuple[str, str]]:
    """The choices of one model: what each is called, and its `Settings.split`."""
    most, few = most_tiles(tiling), tiling.max_split_images
    if most == 1:
        return [("This model does not split", OWN)]
    rule = f"up to {most} tiles" if most else "by size"
    made = [(f"As the model does: {rule}", OWN)]
    if tiling.policy in _COUNTED:
        counts = range(tiling.n_max - 1, max(tiling.n_min, 2) - 1, -1)
        made += [(f"At most {n} tiles", str(n)) for n in counts]
    made += [("Every picture, however many", EACH)] if few < _MANY else []
    return [*made, ("Off: one view", WHOLE)]


def most_tiles(tiling: TilingConfig) -> int | None:
    """Tiles of a picture at most; None where its size alone decides."""
    if tiling.policy in _COUNTED:
        return tiling.n_max
    if tiling.policy == "static":
        return tiling.static_grid[0] * tiling.static_grid[1]
    if tiling.policy == "pinpoints":
        return max(rows * columns for rows, columns in tiling.pinpoints)
    return None if tiling.policy == "longest_edge" else 1


def split_as(config: ModelConfig, split: str) -> ModelConfig:
    """A model's configuration with the tiling of one question. Raises UserError where
    the model has no such choice."""
    tiling = config.tiling
    known = [value for _, value in splittings(tiling)]
    if split not in known:
        raise UserError(
            f"image splitting {split!r} is no choice of this model; choose one of "
            f"{', '.join(known)}"
        )
    if split == OWN:
        return config
    if split in (WHOLE, EACH):
        changed = replace(tiling, max_split_images=_MANY if split == EACH else 0)
    else:
        changed = replace(tiling, n_max=int(split))
    return replace(config, tiling=changed)
