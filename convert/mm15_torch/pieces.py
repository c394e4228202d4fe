"""Where the word pieces of a line of text end: in which visual token, and which of two
heads is to hand a piece over.

A token is three letters wide, and often two pieces end in it: "1" and "0" of "10:05".
Who looks there is given both alike and cannot tell which comes first. So one head hands
over the first piece that ends in a token and the other those after it; where only one
does, both hand it over.
"""

from collections import Counter
from typing import Any

from mm15_mlx.tiling import Tiling
from mm15_mlx.tokenizer import Tokenizer

Row = dict[str, Any]
Heads = tuple[bool, bool]  # which of the two hand a piece over
FIRST, LATER, ONLY = (True, False), (False, True), (True, True)


def token_at(tiling: Tiling, views: list[int], side: int, x: float, y: float) -> int:
    """The visual token, of side² each through `views`, that holds a point of the
    picture; -1 where no tile does."""
    for k, view in enumerate(views):
        if tiling.indices[view] == (0, 0):
            continue
        vx, vy = tiling.to_view(view, x, y)
        cx, cy = (int(v * side // tiling.tile_size) for v in (vx, vy))
        if 0 <= cx < side and 0 <= cy < side:
            return k * side * side + cy * side + cx
    return -1


def piece_at(line: Row, end: int, tiling: Tiling, views: list[int], side: int) -> int:
    """The visual token where the first `end` characters of a line end, or -1.

    A piece belongs to the window that holds its end: what precedes it has been seen by
    then.
    """
    if not 0 < end < len(line["edges"]):
        return -1
    _, y1, _, y2 = line["box"]
    return token_at(tiling, views, side, line["edges"][end] - 1, (y1 + y2) / 2)


class Spelling:
    """The pieces of one line. views: the screen's tiles, of `side`² tokens each."""

    def __init__(
        self,
        line: Row,
        tokenizer: Tokenizer,
        tiling: Tiling,
        views: list[int],
        side: int,
    ) -> None:
        self.line, self.where = line, (tiling, views, side)
        self.pieces: list[tuple[int, int, int]] = []  # visual token, end, piece
        end = 0
        for piece in tokenizer.encode(line["text"]):
            end += len(tokenizer.piece(piece))
            if end >= len(line["edges"]):
                break
            if (token := self.token(end)) >= 0:
                self.pieces.append((token, end, piece))
        self.count = Counter(token for token, _, _ in self.pieces)
        self.first = {token: end for token, end, _ in reversed(self.pieces)}

    def token(self, end: int) -> int:
        """The visual token in which the first `end` characters end, or -1."""
        return piece_at(self.line, end, *self.where)

    def heads(self, end: int) -> Heads:
        """Which hand over the piece that ends there, or of which a half does."""
        token = self.token(end)
        if self.count[token] < 2:
            return ONLY
        return FIRST if end <= self.first[token] else LATER


def visual_words(
    row: Row, tiling: Tiling, tokenizer: Tokenizer, views: list[int], side: int
) -> list[tuple[int, int, Heads]]:
    """(visual token, text token, heads): where each word piece of the screen ends."""
    lines = [Spelling(line, tokenizer, tiling, views, side) for line in row["texts"]]
    return [
        (token, piece, line.heads(end))
        for line in lines
        for token, end, piece in line.pieces
    ]
