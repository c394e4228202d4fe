"""What helps a decoder to learn where and what, and is thrown away afterwards."""

import torch
from torch import Tensor, nn

BOXES = ("texts", "elements")


class Aids(nn.Module):
    """What reads the decoder's inner states in training only.

    Boxes: from a visual token, for each row of its patches, that of the line and of the
    element. The coordinates are read by the decoder's own location embeddings, so that
    an answer can take them over as they are. Pointing: a product of queries and keys.
    """

    def __init__(self, width: int, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.maps = nn.ModuleDict(
            {k: nn.Linear(width, rows * 4 * width) for k in BOXES}
        )
        self.query, self.key = (nn.Linear(width, 128) for _ in range(2))

    def boxes(self, kind: str, hidden: Tensor, row: Tensor) -> Tensor:
        """hidden (N, D), row (N,) of each → what four coordinates read (N, 4, D)."""
        out = self.maps[kind](hidden).view(len(hidden), self.rows, 4, -1)
        return out[torch.arange(len(hidden)), row]

    def pointing(self, asking: Tensor, tokens: Tensor) -> Tensor:
        """asking (N, D), tokens (Q, D) → log-probabilities (N, Q)."""
        scores = self.query(asking).float() @ self.key(tokens).float().T
        return (scores * 128**-0.5).log_softmax(-1)
