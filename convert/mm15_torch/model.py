"""The whole model in plain PyTorch: encode views, splice, decode.

B batch, V views, N patches, Q visual tokens a view, L tokens, D width.
"""

from torch import Tensor, nn

from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15_torch.connector import build_connector
from mm15_mlx.convert.mm15_torch.decoder import Decoder
from mm15_mlx.convert.mm15_torch.encoder import Encoder


class MM15(nn.Module):
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

    def encode_image(self, pixel_values: Tensor) -> Tensor:
        """Views (V, 3, S, S) → visual tokens (V, Q, D)."""
        return self.connector(self.encoder(pixel_values))

    def embed_inputs(
        self, ids: Tensor, visual: Tensor | None, image_token_id: int
    ) -> Tensor:
        """Token embeddings (B, L, D) with visual tokens at the image placeholders."""
        x = self.decoder.embed_tokens(ids)
        if visual is None:
            return x
        place = (ids == image_token_id)[..., None].expand_as(x)
        return x.masked_scatter(place, visual.reshape(-1, x.shape[-1]).to(x.dtype))

    def forward(
        self, ids: Tensor, pixel_values: Tensor | None, image_token_id: int
    ) -> Tensor:
        """Logits (B, L, vocabulary)."""
        visual = None if pixel_values is None else self.encode_image(pixel_values)
        x = self.embed_inputs(ids, visual, image_token_id)
        return self.decoder.logits(self.decoder(x))
