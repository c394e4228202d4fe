"""The whole model: views become visual tokens, visual tokens become part of the text.

What this file is: encoder → connector → decoder, joined by splicing (MM1.5 §3.1), in
mlx-lm's own idiom for models that see (`encode_image`, `embed_inputs`). What it is not:
cutting pictures into views (tiling.py) or writing the prompt (prompt.py): here ids hold
one placeholder for every visual token already.

V views, S pixels a side, N patches, Q visual tokens of a view, M visual tokens of the
prompt, B batch, L tokens, D decoder width.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mm15_mlx.config import ModelConfig
from mm15_mlx.connector import build_connector
from mm15_mlx.decoder import Block, Decoder, KVCache
from mm15_mlx.encoder import Encoder

ENCODE_BYTES = 512 * 2**20  # of what is alive while views are encoded together


def patches(config: ModelConfig) -> int:
    """Tokens of one view inside the encoder."""
    return config.view_grid**2 + config.vision_config.class_token


def view_numbers(config: ModelConfig) -> int:
    """Numbers alive at once while one view is encoded."""
    v, c = config.vision_config, config.connector_config
    # Both sides of the activation and what it is made in; the residual and its kin.
    block = patches(config) * (3 * v.intermediate_size + 5 * v.hidden_size)
    wide = 11 * c.hidden_size if c.type == "c_abstractor" else 3 * v.hidden_size
    return max(block, wide * config.view_grid**2, 6 * config.tiling.tile_size**2)


def views_together(config: ModelConfig) -> int:
    """How many views are encoded in one batch: as many as `ENCODE_BYTES` hold."""
    return max(1, ENCODE_BYTES // (4 * view_numbers(config)))


def splice(
    embeddings: mx.array, placeholders: mx.array, features: mx.array
) -> mx.array:
    """Put the rows of `features` (M, D), in order, where `placeholders` (B, L) is true.

    Nothing is counted, so this can be compiled: `embed_inputs` is the checked form.
    """
    shape = placeholders.shape
    order = mx.cumsum(placeholders.flatten().astype(mx.int32)) - 1
    order = mx.clip(order, 0, features.shape[0] - 1).reshape(shape)  # (B, L)
    visual = features[order].astype(embeddings.dtype)  # (B, L, D)
    return mx.where(placeholders[..., None], visual, embeddings)


def module_of(name: str) -> str:
    """The module of `MM15` that a parameter's or layer's path belongs to: LLaVA-NeXT's
    newline embedding stands outside of the three, and counts as the connector's."""
    return name.partition(".")[0].replace("image_newline", "connector")


class MM15(nn.Module):
    """Ids (B, L) and views (V, S, S, 3) → logits (B, L, vocabulary), float32."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.vision_config)
        self.connector = build_connector(
            config.connector_config,
            config.vision_config.hidden_size,
            config.text_config.hidden_size,
            config.view_grid,
        )
        self.decoder = Decoder(config.text_config)
        if config.tiling.merge.startswith("spatial_unpad"):
            # Stands after every row of a picture's visual tokens (LLaVA-NeXT).
            width = config.text_config.hidden_size
            self.image_newline = 0.02 * mx.random.normal((width,))

    @property
    def layers(self) -> list[Block]:
        """The decoder's layers, where mlx-lm looks for them."""
        return self.decoder.layers

    def make_cache(self) -> list[KVCache]:
        return [KVCache() for _ in self.layers]

    def encode_image(self, pixel_values: mx.array) -> mx.array:
        """Normalised views (V, S, S, 3) → visual tokens (V, Q, D)."""
        return self.connector(self.encoder(pixel_values))

    def pack(self, features: mx.array, order: np.ndarray) -> mx.array:
        """A picture's visual tokens (V, Q, D) in the order of its packing, (M, D).

        `order` (M,) has indices into V * Q, and -1 for the newline embedding; see
        `tiling.Tiling.packing`. Raises ValueError where it asks for what is not there.
        """
        features = features.reshape(-1, features.shape[-1])  # (V * Q, D)
        newline = [self.image_newline[None]] if "image_newline" in self else []
        least, most = -len(newline), features.shape[0]
        if order.size and not least <= order.min() <= order.max() < most:
            raise ValueError(
                f"the packing has the indices {order.min()} to {order.max()}; this "
                f"model and these views have {least} to {most - 1} (-1 is the newline "
                "of tiling.merge 'spatial_unpad'); plan it with the model's own tiling"
            )
        places = mx.array(np.ascontiguousarray(order))
        return mx.concatenate([features, *newline])[places]  # -1 takes the last row

    def embed_inputs(
        self, ids: mx.array, image_features: mx.array | None = None
    ) -> mx.array:
        """Embeddings (B, L, D) of ids (B, L), visual tokens at their places.

        `image_features` are views (V, Q, D) or what `pack` made of them, (M, D), in
        reading order: of the first row, then of the second, and so on. Raises
        ValueError where the ids have not as many places.
        """
        embeddings = self.decoder.embed(ids)
        if image_features is None:
            return embeddings
        placeholders = ids == self.config.prompt.image_token_id
        features = image_features.reshape(-1, image_features.shape[-1])  # (M, D)
        places = int(placeholders.sum().item())
        if places != features.shape[0]:
            raise ValueError(
                f"the prompt has {places} image placeholders "
                f"(id {self.config.prompt.image_token_id}) but the pictures give "
                f"{features.shape[0]} visual tokens; "
                "make both with the same processor call"
            )
        return splice(embeddings, placeholders, features)

    def __call__(
        self,
        input_ids: mx.array,
        pixel_values: mx.array | None = None,
        cache: list[Any] | None = None,
        input_embeddings: mx.array | None = None,
        packing: mx.array | None = None,
    ) -> mx.array:
        """Logits of every token. `input_embeddings`, if given, replace the ids.

        Without `packing` (see `pack`) visual tokens stand view by view.
        """
        if input_embeddings is None:
            features = None
            if pixel_values is not None:
                features = self.encode_image(pixel_values)
                if packing is not None:
                    features = self.pack(features, np.asarray(packing))
            input_embeddings = self.embed_inputs(input_ids, features)
        hidden = self.decoder(input_ids, cache, input_embeddings)
        return self.decoder.logits(hidden).astype(mx.float32)
