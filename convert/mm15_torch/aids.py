"""What helps a decoder to learn where and what, and is thrown away afterwards."""

from torch import Tensor, nn

BOXES = ("texts", "elements")
PICTURES = 4  # of a prompt, at most


class Aids(nn.Module):
    """What reads the decoder's inner states in training only.

    Boxes: from a visual token, those of its line and of its element. The coordinates
    are read by the decoder's own location embeddings, so that an answer can take them
    over as they are. Later: the word pieces that a token holds after its first.
    Pointing: a product of queries and keys. Pictures: which of the prompt's a visual
    token belongs to, whether the one before is otherwise there, and how late in a flow
    its picture is.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.maps = nn.ModuleDict({k: nn.Linear(width, 4 * width) for k in BOXES})
        self.later = nn.Linear(width, width)
        nn.init.eye_(self.later.weight)  # at first what it names as the first
        nn.init.zeros_(self.later.bias)
        self.query, self.key = (nn.Linear(width, 128) for _ in range(2))
        self.picture = nn.Linear(width, PICTURES)
        self.otherwise = nn.Linear(width, 1)
        scores = [nn.Linear(width, 1, bias=False) for _ in range(2)]
        self.late = nn.ModuleList(scores)  # of visual tokens, and of them half-way
        for score in scores:
            nn.init.zeros_(score.weight)  # what a token shows says nothing of it

    def boxes(self, kind: str, hidden: Tensor) -> Tensor:
        """hidden (N, D) → what four coordinates read (N, 4, D)."""
        return self.maps[kind](hidden).unflatten(-1, (4, -1))

    def pointing(self, asking: Tensor, tokens: Tensor) -> Tensor:
        """asking (N, D), tokens (Q, D) → log-probabilities (N, Q)."""
        scores = self.query(asking).float() @ self.key(tokens).float().T
        return (scores * 128**-0.5).log_softmax(-1)
