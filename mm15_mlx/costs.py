"""What a question costs, counted from the configuration alone.

What this file is: floating-point operations (two for a product and its sum) of the
encoder, the connector and the decoder, the bytes of weights and of the KV cache, and
the numbers that are alive at once. What it is not: seconds, which need a machine:
calibrate.py measures this one, chips.py lists Apple's.

V views, N patches of a view, L tokens of the prompt, T tokens in the KV cache.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.decoder import KVCache
from mm15_mlx.mm15 import MM15, patches, view_numbers, views_together
from mm15_mlx.quantize import PARTS, Quantisation, choose, part_of
from mm15_mlx.tiling import plan


@dataclass(frozen=True)
class Weights:
    """Numbers and bytes of each part (encoder, connector, decoder, embedding, head)."""

    numbers: Mapping[str, int]
    nbytes: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.nbytes.values())


def lazy_model(
    config: ModelConfig,
    ways: Mapping[str, Quantisation],
    held: Mapping[str, Quantisation] | None = None,
) -> MM15:
    """A random model with the parts in `ways` packed, beside the layers in `held` that
    are packed already; nothing of it is computed yet: one may count it, or evaluate a
    layer. Raises UserError where no layer can be packed."""
    model = MM15(config)
    choice = choose(model, ways)
    chosen = choice.beside(held or {}).whole
    if ways and not choice.ways:
        sizes = ", ".join(sorted({str(way.group_size) for way in ways.values()}))
        raise UserError(
            f"--q-group-size {sizes} divides the rows of no layer of "
            f"{', '.join(ways)}; choose a smaller group"
        )
    nn.quantize(
        model,
        class_predicate=lambda path, _: path in chosen and asdict(chosen[path]),
    )
    return model


def weights(config: ModelConfig, model: MM15, float_bytes: int | None) -> Weights:
    """Of `model`, whose packed layers `config` does not tell; its floats take
    `float_bytes` each, or what they take in it."""
    numbers = dict.fromkeys(PARTS, 0)
    nbytes = dict.fromkeys(PARTS, 0)
    for name, array in tree_flatten(MM15(config).parameters()):
        numbers[part_of(name)] += math.prod(array.shape)
    for name, array in tree_flatten(model.parameters()):
        floating = float_bytes and mx.issubdtype(array.dtype, mx.floating)
        size = array.size * float_bytes if floating else array.nbytes
        nbytes[part_of(name)] += size
    return Weights(numbers, nbytes)


def encoder_flop(config: ModelConfig) -> float:
    """Of one view."""
    v = config.vision_config
    n, d = patches(config), v.hidden_size
    used = v.num_hidden_layers + 1 + v.feature_layer
    layer = 2 * n * (4 * d * d + 2 * d * v.intermediate_size) + 4 * n * n * d
    return 2 * config.view_grid**2 * 3 * v.patch_size**2 * d + used * layer


def connector_flop(config: ModelConfig) -> float:
    """Of one view."""
    c, inputs = config.connector_config, config.vision_config.hidden_size
    out, tokens = config.text_config.hidden_size, c.num_visual_tokens
    if c.type == "c_abstractor":
        h = c.hidden_size
        seen = config.view_grid**2
        flop = (c.depth - 1) * _block(seen, h, h) + _block(seen, inputs, h)
        inputs = h
        flop += c.depth * _block(tokens, h, h)
    else:
        flop = 0
        inputs *= c.scale_factor**2 if c.type == "pixel_shuffle" else 1
    depth = 1 if c.type == "avg_pool" else c.mlp_depth
    return flop + 2 * tokens * (inputs * out + (depth - 1) * out * out)


def _block(pixels: int, inputs: int, outputs: int) -> int:
    """A bottleneck: two or three products of channels, and nine depthwise taps."""
    products = inputs * outputs * (1 + (inputs != outputs)) + outputs * outputs
    return 2 * pixels * (products + 9 * outputs)


def decoder_weights(config: ModelConfig, active: bool) -> int:
    """Weights of the decoder's layers; `active`: those that one token uses."""
    t = config.text_config
    heads = 2 * t.num_attention_heads + 2 * t.num_key_value_heads
    total = 0
    for layer in range(t.num_hidden_layers):
        total += t.hidden_size * t.head_dim * heads
        if t.is_sparse(layer):
            experts = t.num_experts_per_tok if active else t.num_experts
            total += 3 * t.hidden_size * t.moe_intermediate_size * experts
        else:
            total += 3 * t.hidden_size * t.intermediate_size
    return total


def active_share(config: ModelConfig) -> float:
    """Of the weights of the decoder's layers, those that one token uses."""
    return decoder_weights(config, True) / decoder_weights(config, False)


def prefill_flop(config: ModelConfig, numbers: Mapping[str, int], tokens: int) -> float:
    """Of L tokens and the logits of the last; `numbers` are those of `Weights`."""
    t = config.text_config
    layers = numbers["decoder"] * active_share(config)
    # Causal: a token sees half of the others, on average.
    attention = 2 * tokens * t.num_attention_heads * t.head_dim * t.num_hidden_layers
    return tokens * (2 * layers + attention) + 2 * t.hidden_size * t.vocab_size


def head_bytes(config: ModelConfig, held: Mapping[str, int]) -> int:
    """The table that makes the logits: a tied one is the embedding."""
    tied = config.text_config.tie_word_embeddings
    return held["embedding" if tied else "head"]


def kv_bytes(config: ModelConfig, float_bytes: float) -> float:
    """Of one token in the KV cache."""
    t = config.text_config
    return 2 * t.num_hidden_layers * t.num_key_value_heads * t.head_dim * float_bytes


def step_bytes(
    config: ModelConfig, held: Mapping[str, int], tokens: int, float_bytes: int
) -> float:
    """What one decoding step reads with T tokens in the cache."""
    layers = held["decoder"] * active_share(config)
    cache = tokens * kv_bytes(config, float_bytes)
    return layers + head_bytes(config, held) + cache


def capacity(tokens: int) -> int:
    """Tokens that the KV cache has room for once `tokens` are in it."""
    return -(-tokens // KVCache.step) * KVCache.step


@dataclass(frozen=True)
class Alive:
    """Numbers alive at once beside the weights, in the two phases before an answer."""

    encoding: int
    prefilling: int

    @property
    def most(self) -> int:
        return max(self.encoding, self.prefilling)


def alive(config: ModelConfig, views: int, tokens: int, chunk: int = 2048) -> Alive:
    """With V views and a prompt of L tokens, read `chunk` tokens at a time."""
    c, t = config.connector_config, config.text_config
    pixels = 3 * config.tiling.tile_size**2
    features = views * c.num_visual_tokens * t.hidden_size
    encoding = views * pixels + features
    encoding += min(views, views_together(config)) * view_numbers(config)
    width = dense_like(config).text_config.intermediate_size
    layer = min(tokens, chunk) * (3 * width + 6 * t.hidden_size)
    cache = capacity(tokens) * kv_bytes(config, 1)
    prefilling = features + 2 * tokens * t.hidden_size + layer + t.vocab_size
    return Alive(encoding, prefilling + round(cache))


def dense_like(config: ModelConfig) -> ModelConfig:
    """The same without experts, its layers as wide as the experts of one token."""
    t = config.text_config
    if not t.num_experts:
        return config
    width = t.moe_intermediate_size * t.num_experts_per_tok
    text = dataclasses.replace(t, num_experts=0, intermediate_size=width)
    return dataclasses.replace(config, text_config=text)


def picture_of(config: ModelConfig, views: int) -> tuple[int, int]:
    """Width and height of a picture that is split into so many views. Raises UserError
    with the possible numbers where there is none."""
    tile, most = config.tiling.tile_size, config.tiling.n_max + 1
    found: dict[int, tuple[int, int]] = {}
    for rows in range(1, most):
        for columns in range(1, most):
            size = columns * tile, rows * tile
            found.setdefault(len(plan(*size, config.tiling).indices), size)
    if views not in found:
        counts = ", ".join(map(str, sorted(found)))
        raise UserError(
            f"--views is {views}; this model's pictures have {counts} views"
        )
    return found[views]
