"""Rotary positions beyond the first context: how families stretch their frequencies.

What this file is: that part of a decoder's configuration, and the numbers that it
stands for. What it is not: the rotation itself (decoder.py).
"""

import math
from dataclasses import dataclass

import numpy as np

from mm15_mlx.input_config import ConfigError, check_choice, check_ranges


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies differ from theta^(-2i/d), as Hugging Face names it."""

    rope_type: str = "default"  # default | linear | llama3 | longrope (Phi-3)
    factor: float = 1.0  # how far positions are stretched
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    original_max_position_embeddings: int = 0  # llama3, longrope
    short_factor: tuple[float, ...] = ()  # longrope; one for each pair of a head

    def __post_init__(self) -> None:
        where = "text_config.rope_scaling"
        check_ranges(where, self)
        check_choice(f"{where}.rope_type", self.rope_type, (
            "default", "linear", "llama3", "longrope"
        ))  # fmt: skip
        original = self.original_max_position_embeddings
        if self.rope_type in ("llama3", "longrope") and original < 2:
            raise ConfigError(
                f"{where}.original_max_position_embeddings is {original}; rope_type "
                f"{self.rope_type!r} needs the context that the model began with"
            )
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ConfigError(
                f"{where}.low_freq_factor {self.low_freq_factor} and high_freq_factor "
                f"{self.high_freq_factor} must hold 0 < low < high"
            )


def rope_periods(theta: float, head_dim: int, rope: RopeScaling) -> np.ndarray:
    """Positions for one radian, (head_dim / 2,) float32: theta^(2i/d), then scaled.

    As Hugging Face scales them, and longrope as it does within the first context.
    """
    periods = theta ** (np.arange(0, head_dim, 2) / head_dim)
    if rope.rope_type == "linear":
        periods *= rope.factor
    elif rope.rope_type == "longrope":
        periods *= np.array(rope.short_factor)
    elif rope.rope_type == "llama3":
        # Waves that turn often in the first context stay, slow ones are stretched.
        turns = rope.original_max_position_embeddings / (2 * np.pi * periods)
        low, high = rope.low_freq_factor, rope.high_freq_factor
        kept = np.clip((turns - low) / (high - low), 0, 1)
        periods /= kept + (1 - kept) / rope.factor
    return periods.astype(np.float32)


def rope_temper(rope: RopeScaling) -> float:
    """What attention scores are multiplied by: longrope sharpens them."""
    if rope.rope_type != "longrope":
        return 1.0
    # Hugging Face has its root in queries and in keys.
    return 1 + math.log(rope.factor) / math.log(rope.original_max_position_embeddings)
