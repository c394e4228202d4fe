"""Text to token ids and back, over a sentencepiece model.

Special tokens are sentencepiece control symbols: text never produces them, whatever a
user writes, and they are reached by name only.
"""

from pathlib import Path

import sentencepiece

from mm15_mlx.config import UserError

TOKENIZER_FILE = "tokenizer.model"


class TokenizerError(UserError):
    """A tokenizer that cannot be used; the message names the file."""


class Tokenizer:
    """A sentencepiece model whose control symbols are the special tokens."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise TokenizerError(
                f"{self.path} is missing: the model folder holds no tokenizer"
            )
        try:
            self._sp = sentencepiece.SentencePieceProcessor(model_file=str(self.path))
        except (RuntimeError, OSError) as e:
            raise TokenizerError(
                f"{self.path} is not a sentencepiece model; copy the model folder again"
            ) from e
        self._special = {
            self._sp.id_to_piece(i): i
            for i in range(self._sp.get_piece_size())
            if self._sp.is_control(i)
        }
        self._names = {i: name for name, i in self._special.items()}

    @property
    def vocab_size(self) -> int:
        return self._sp.get_piece_size()

    def special(self, name: str) -> int:
        """The id of a special token; TokenizerError if the model has none so named."""
        if name not in self._special:
            raise TokenizerError(
                f"{self.path} has no special token {name!r}: it belongs to another "
                "model; copy the model folder again"
            )
        return self._special[name]

    def name(self, token: int) -> str | None:
        """The special token's name, None for ordinary tokens."""
        return self._names.get(token)

    def piece(self, token: int) -> str:
        """The characters of one ordinary token."""
        return self._sp.id_to_piece(token).replace("▁", " ")

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; `<box>` or `<|image|>` in it are just characters."""
        return self._sp.encode(text)

    def decode(self, tokens: list[int]) -> str:
        """Plain text of ordinary tokens; ids beyond the vocabulary have none."""
        known = [t for t in tokens if t < self.vocab_size]
        return self._sp.decode(known) if known else ""
