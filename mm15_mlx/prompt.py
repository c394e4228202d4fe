"""Conversations as token ids: roles, image placeholders, view indicators, regions.

A conversation is first a list of *pieces* (text, special tokens, images, regions) and
then ids. Nothing of MM1.5's own text format is published; `PromptConfig` holds ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mm15_mlx.config import (
    CoordinateConfig,
    ModelConfig,
    PromptConfig,
    TilingConfig,
    UserError,
)
from mm15_mlx.tiling import Tiling
from mm15_mlx.tokenizer import Tokenizer


class PromptError(UserError):
    """A conversation that cannot be put to the model."""


@dataclass(frozen=True)
class ImageSlot:
    """The place of one picture in a conversation; `index` counts from 0."""

    index: int


@dataclass(frozen=True)
class Region:
    """A box (4 values) or a point (2) in picture `image`, in 0…range of it."""

    values: tuple[int, ...]
    image: int = 0

    @property
    def kind(self) -> str:
        return "box" if len(self.values) == 4 else "point"


@dataclass(frozen=True)
class Special:
    """A special token by name."""

    name: str


Content = list[str | ImageSlot | Region]
Piece = str | Special | ImageSlot | Region


@dataclass(frozen=True)
class Turn:
    """One message: role `system`, `user` or `assistant`, and its content."""

    role: str
    content: Content


def indicators(
    k: int, tiling: Tiling, config: TilingConfig, index_format: str
) -> list[str]:
    """The text before each view of picture `k` (MM1.5 §3.5).

    `index`: the tuple (k, row, column); the overview is (k, 0, 0). `seps`: ':' before
    the overview, ',' between columns, a line break between rows. A picture that is not
    split has one view and needs no indicator.
    """
    if len(tiling.indices) == 1 or config.indicator == "none":
        return [""] * len(tiling.indices)
    if config.indicator == "index":
        return [index_format.format(k=k, i=i, j=j) for i, j in tiling.indices]
    texts = []
    for i, j in tiling.indices:
        if (i, j) == (0, 0):
            texts.append(":")
        else:
            texts.append("," if j > 1 else "\n" if i > 1 else "")
    return texts


def turn_pieces(turns: Sequence[Turn], config: PromptConfig) -> Iterator[Piece]:
    """The whole conversation, ending where the assistant is to speak."""
    starts = {
        "system": config.system_start,
        "user": config.user_start,
        "assistant": config.assistant_start,
    }
    if config.bos:
        yield Special(config.bos)
    if config.system and not any(t.role == "system" for t in turns):
        yield Special(config.system_start)
        yield config.system
        yield Special(config.turn_end)
    for turn in turns:
        if turn.role not in starts:
            raise PromptError(
                f"role {turn.role!r} is not known; use system, user or assistant"
            )
        yield Special(starts[turn.role])
        yield from turn.content
        yield Special(config.turn_end)
    if not turns or turns[-1].role != "assistant":
        yield Special(config.assistant_start)


WHOLE = (1.0, 1.0)


def reach(config: CoordinateConfig, tiling: Tiling) -> tuple[float, float]:
    """How much of the model's frame the picture covers, across and down."""
    return tiling.reach if config.frame == "canvas" else WHOLE


def region_pieces(
    region: Region, config: CoordinateConfig, covered: tuple[float, float] = WHOLE
) -> Iterator[Piece]:
    """`tokens`: `<box>` and a token per number; `digits`: the text `[x1, y1, …]`.

    covered: the `reach` of the region's picture.
    """
    if config.format == "digits":
        yield "[" + ", ".join(str(v) for v in region.values) + "]"
        return
    yield Special(f"<{region.kind}>")
    for k, value in enumerate(region.values):
        yield Special(f"<loc_{round(value * covered[k % 2])}>")
    yield Special(f"</{region.kind}>")


class PromptEncoder:
    """Pieces → ids for one model."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.end_id = tokenizer.special(config.prompt.turn_end)
        self.image_id = tokenizer.special(config.prompt.image_token)
        if self.image_id != config.prompt.image_token_id:
            raise PromptError(
                f"{config.prompt.image_token} is token {self.image_id} in the "
                f"tokenizer, {config.prompt.image_token_id} in config.json"
            )
        if tokenizer.vocab_size > config.text_config.vocab_size:
            raise PromptError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, more than the "
                f"{config.text_config.vocab_size} of config.json; copy the model "
                "folder again"
            )

    def image_ids(self, k: int, tiling: Tiling) -> list[int]:
        """The block of picture `k`: an indicator and the placeholders of each view."""
        ids: list[int] = []
        texts = indicators(
            k, tiling, self.config.tiling, self.config.prompt.index_format
        )
        for text in texts:
            ids += self.tokenizer.encode(text) if text else []
            ids += [self.image_id] * self.config.connector_config.num_visual_tokens
        return ids

    def piece_ids(self, piece: Piece, tilings: Sequence[Tiling]) -> list[int]:
        match piece:
            case str():
                return self.tokenizer.encode(piece) if piece else []
            case Special(name):
                return [self.tokenizer.special(name)]
            case ImageSlot(index):
                return self.image_ids(index, tilings[index])
            case Region(_, image):
                config = self.config.coordinates
                covered = reach(config, tilings[image]) if tilings else WHOLE
                return [
                    i
                    for part in region_pieces(piece, config, covered)
                    for i in self.piece_ids(part, tilings)
                ]

    def encode(self, turns: Sequence[Turn], tilings: Sequence[Tiling]) -> list[int]:
        """Ids of a conversation over the pictures that `tilings` describe, in order."""
        slots = [p.index for t in turns for p in t.content if isinstance(p, ImageSlot)]
        if sorted(slots) != list(range(len(tilings))):
            raise PromptError(
                f"the conversation has {len(slots)} image placeholders "
                f"for {len(tilings)} pictures"
            )
        return [
            i
            for piece in turn_pieces(turns, self.config.prompt)
            for i in self.piece_ids(piece, tilings)
        ]


class AnswerDecoder:
    """Tokens of an answer → text as they come; regions read `[x1, y1, x2, y2]`.

    They count 0…range over the picture, whose `reach` in the frame is `covered`.
    Text is held back while it ends in the middle of a UTF-8 character.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: CoordinateConfig,
        covered: tuple[float, float] = WHOLE,
    ) -> None:
        self.tokenizer = tokenizer
        self.limit = config.range
        self.covered = covered
        self.text = ""
        self._pending: list[int] = []
        self._done = 0  # characters of the pending tokens' text already given out
        self._numbers = 0  # coordinates since the region was opened

    def add(self, token: int) -> str:
        """The text that `token` adds."""
        name = self.tokenizer.name(token)
        if name is None:
            self._pending.append(token)
            return self._emit(final=False)
        new = self._emit(final=True)
        self._pending, self._done = [], 0
        if name in ("<box>", "<point>"):
            self._numbers = 0
            new += self._out("[")
        elif name in ("</box>", "</point>"):
            new += self._out("]")
        elif name.startswith("<loc_"):
            number = round(int(name[5:-1]) / self.covered[self._numbers % 2])
            comma = ", " if self._numbers else ""
            new += self._out(f"{comma}{min(number, self.limit)}")
            self._numbers += 1
        return new

    def finish(self) -> str:
        """Whatever was held back."""
        return self._emit(final=True)

    def _emit(self, final: bool) -> str:
        text = self.tokenizer.decode(self._pending) if self._pending else ""
        if text.endswith("\ufffd") and not final:
            return ""
        new, self._done = text[self._done :], len(text)
        return self._out(new)

    def _out(self, text: str) -> str:
        self.text += text
        return text
