"""How large the numbers of a configuration may be.

What this file is: for each number the least and the most, far beyond any published
model, so that what a file from elsewhere asks for can be built and computed. What it is
not: which numbers go together (config.py, input_config.py).
"""

from collections.abc import Mapping
from typing import Any

MAX_TILES = 256  # of one picture; InternVL 40
MAX_GRID = 512  # patches along a view; 128 at 1792 pixels
# A view this often along the longest edge; Idefics3 12 times.
MAX_ALONG_EDGE = 300
_WIDTH, _WIDER, _LAYERS, _IDS = 1 << 16, 1 << 20, 1000, 1 << 24
_SIDE = 1 << 14  # pixels

Range = tuple[int, int] | tuple[float, float]
# Where the least is a whole number the value must be one too.
RANGES: dict[str, dict[str, Range]] = {
    "vision_config": {
        "hidden_size": (1, _WIDTH), "intermediate_size": (1, _WIDER),
        "num_hidden_layers": (1, _LAYERS), "num_attention_heads": (1, _WIDTH),
        "patch_size": (1, 1024), "image_size": (1, _SIDE), "grid_size": (1, MAX_GRID),
        "layer_norm_eps": (1e-15, 1.0), "image_mean": (-1e3, 1e3),
        "image_std": (1e-6, 1e3),
    },
    "connector_config": {
        "num_visual_tokens": (1, MAX_GRID**2), "hidden_size": (8, _WIDTH),
        "depth": (0, _LAYERS), "mlp_depth": (1, _LAYERS), "scale_factor": (1, 1024),
    },
    "text_config": {
        "hidden_size": (1, _WIDTH), "intermediate_size": (1, _WIDER),
        "num_hidden_layers": (1, _LAYERS), "num_attention_heads": (1, _WIDTH),
        "num_key_value_heads": (1, _WIDTH), "head_dim": (1, 4096),
        "vocab_size": (1, _IDS), "max_position_embeddings": (1, 1 << 31),
        "rms_norm_eps": (1e-15, 1.0), "rope_theta": (1.0, 1e15),
        "embedding_scale": (1e-6, 1e6), "num_experts": (0, 4096),
        "num_experts_per_tok": (1, 4096), "decoder_sparse_step": (1, _LAYERS),
        "moe_intermediate_size": (0, _WIDER), "router_aux_loss_coef": (0.0, 1e6),
        "router_z_loss_coef": (0.0, 1e6),
    },
    "text_config.rope_scaling": {
        "factor": (1.0, 1e6), "low_freq_factor": (1e-6, 1e6),
        "high_freq_factor": (1e-6, 1e6),
        "original_max_position_embeddings": (0, 1 << 31), "short_factor": (1e-6, 1e6),
    },
    "tiling": {
        "tile_size": (1, _SIDE), "n_min": (1, MAX_TILES), "n_max": (1, MAX_TILES),
        "static_grid": (1, MAX_TILES), "max_split_images": (0, _WIDTH),
        "split_last": (0, _WIDTH), "pad_color": (0, 255),
    },
    # An id of -1 stands for one that the tokenizer has yet to give.
    "prompt": {"image_token_id": (-1, _IDS), "video_frames": (1, 10_000)},
    "coordinates": {
        "range": (1, 1_000_000), "decimals": (0, 6), "per_tile": (0, 1_000_000)
    },
}  # fmt: skip


def beyond(where: str, config: Any) -> str | None:
    """What is wrong with the first number of `config` that is not in its range."""
    ranges: Mapping[str, Range] = RANGES[where]
    for name, (least, most) in ranges.items():
        value = getattr(config, name)
        kinds = (int,) if isinstance(least, int) else (int, float)
        for number in value if isinstance(value, tuple) else (value,):
            # So written for NaN; True is an int in Python, but no number here.
            if type(number) not in kinds or not least <= number <= most:
                kind = "whole numbers" if kinds == (int,) else "numbers"
                only = f"{kind} of " if isinstance(value, tuple) else ""
                return (
                    f"{where}.{name} is {value!r:.60}; it must be {only}{least:,} to "
                    f"{most:,}"
                )
    return None
