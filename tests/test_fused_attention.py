"""Every attention call of every preset has a fused kernel on Metal.

Where there is none, MLX falls back to matmul, softmax, matmul, and stores all scores:
for one view of 672 pixels and 16 heads that is 170 MB in half precision.

V views, N patches, H query heads, K key heads.
"""

import dataclasses
import math

import mlx.core as mx
import pytest

from mm15_mlx.config import PRESETS, ModelConfig, TextConfig
from mm15_mlx.decoder import KVCache

FULL = {64, 72, 80, 96, 128}
VECTOR = {64, 96, 128, 256}
PREFILL = 2048  # mlx-lm's default step


@dataclasses.dataclass(frozen=True)
class Call:
    """One attention call: what it is, and what the choice of kernel depends on."""

    what: str
    head_dim: int
    queries: int
    keys: int
    heads: int
    key_heads: int
    mask: str | None


def metal_kernel(call: Call) -> str | None:
    """The kernel that MLX 0.32 takes on Metal for inference, or None: no fused one.

    More than 8 queries: the full kernel, for some head dims. Up to 8: the vector
    kernel, for others, while query heads sharing a key head times queries are ≤ 32.
    Both want at most as many queries as keys, the full one only under a causal mask.
    """
    if call.queries > 8:
        fits = call.mask is None or call.queries <= call.keys
        return "full" if call.head_dim in FULL and fits else None
    shared = call.heads // call.key_heads
    fits = call.queries <= call.keys and call.queries * shared <= 32
    return "vector" if call.head_dim in VECTOR and fits else None


def encoder_calls(config: ModelConfig) -> list[Call]:
    """Views of the model's own size, of the encoder's, and of both MM1.5 sizes."""
    vision = config.vision_config
    sides = {config.tiling.tile_size, vision.image_size, 378, 672}
    heads = vision.num_attention_heads
    return [
        Call(f"encoder at {side} px", vision.head_dim, n, n, heads, heads, None)
        for side in sorted(sides)
        for n in [1 + (side // vision.patch_size) ** 2]
    ]


def decoder_calls(config: TextConfig) -> list[Call]:
    """Prefill of a whole prompt, of a chunk after others, and one token at a time."""
    shapes = {
        "prefill of a short text": (9, 9),
        "prefill of one view": (160, 160),
        "prefill, first chunk": (PREFILL, PREFILL),
        "prefill, second chunk": (PREFILL, 2 * PREFILL),
        "prefill, last chunk": (9, PREFILL + 9),
        "decode after a short text": (1, 10),
        "decode after ten views": (1, 1500),
        "decode at the end": (1, config.max_position_embeddings),
    }
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    return [
        Call(what, config.head_dim, q, k, heads, key_heads, KVCache().make_mask(q))
        for what, (q, k) in shapes.items()
    ]


def calls(preset: str) -> list[Call]:
    config = PRESETS[preset]
    return encoder_calls(config) + decoder_calls(config.text_config)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_call_has_a_fused_kernel(preset: str) -> None:
    unfused = [call for call in calls(preset) if metal_kernel(call) is None]
    assert not unfused, f"no fused kernel on Metal for {unfused}"


def test_the_last_few_tokens_of_a_prompt() -> None:
    """Up to 8 tokens at once have a kernel of their own, up to 32 queries to a key."""
    for preset, config in PRESETS.items():
        text = config.text_config
        heads, key_heads = text.num_attention_heads, text.num_key_value_heads
        unfused = [
            n
            for n in range(1, 9)
            if not metal_kernel(
                Call("", text.head_dim, n, 1000, heads, key_heads, "causal")
            )
        ]
        assert not unfused, preset


@pytest.mark.parametrize(
    ("head_dim", "queries", "keys", "shared", "mask", "kernel"),
    [
        (80, 730, 730, 1, None, "full"),
        (80, 8, 8, 1, None, None),
        (88, 730, 730, 1, None, None),
        (256, 730, 730, 1, "causal", None),
        (256, 1, 730, 1, None, "vector"),
        (128, 1, 4096, 8, None, "vector"),
        (128, 8, 4096, 4, "causal", "vector"),
        (128, 8, 4096, 5, "causal", None),
        (128, 64, 32, 1, "causal", None),
        (64, 64, 32, 1, None, "full"),
    ],
)
def test_the_rule_itself(
    head_dim: int, queries: int, keys: int, shared: int, mask: str | None,
    kernel: str | None,
) -> None:  # fmt: skip
    call = Call("", head_dim, queries, keys, 8 * shared, 8, mask)
    assert metal_kernel(call) == kernel


@pytest.mark.skipif(not mx.metal.is_available(), reason="needs Metal")
@pytest.mark.parametrize("preset", PRESETS)
def test_metal_agrees(preset: str) -> None:
    """`force_fused` raises where MLX has no fused kernel."""
    for call in calls(preset):
        queries = mx.zeros((1, call.heads, call.queries, call.head_dim), mx.float16)
        keys = mx.zeros((1, call.key_heads, call.keys, call.head_dim), mx.float16)
        mx.eval(
            mx.fast.scaled_dot_product_attention(
                queries, keys, keys, scale=1 / math.sqrt(call.head_dim),
                mask=call.mask, force_fused=True,
            )
        )  # fmt: skip
