"""Conversations as token ids: roles, image placeholders, view indicators, regions.

A conversation is first a list of *pieces* (text, special tokens, images, regions) and
then ids. Nothing of MM1.5's own text format is published; `PromptConfig` holds ours.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mm15_mlx.config import (
    CoordinateConfig,
    ModelConfig,
    PromptConfig,
    TilingConfig,
    UserError,
)
from mm15_mlx.tiling import OVERVIEW, Tiling
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


@dataclass(frozen=True)
class Template:
    """Text of the model's own, in which names of special tokens stand for them."""

    text: str


Content = list[str | Template | ImageSlot | Region]
Piece = str | Special | Template | ImageSlot | Region


@dataclass(frozen=True)
class Turn:
    """One message: role `system`, `user` or `assistant`, and its content."""

    role: str
    content: Content


PICTURE, VIDEO = "<image>", "<video>"  # in a user's text; LLaVA's names


def interleaved(
    text: str, images: Sequence[Any], videos: Sequence[Any] = ()
) -> list[dict[str, Any]]:
    """A user's text as content parts; each `<image>` is the place of the next picture.

    Without any, pictures come first, in their order. So with `<video>`, which is mere
    text where there is no video. As in training rows, line breaks beside a place are
    left out. Raises PromptError where there are more or fewer places than pictures.
    """
    waiting = {
        PICTURE: [{"type": "image", "image": i} for i in images],
        VIDEO: [{"type": "video", "video": v} for v in videos],
    }
    parts: list[dict[str, Any]] = []
    places = [PICTURE, *[VIDEO] * bool(videos)]
    for place, what in zip(places, ("pictures", "videos"), strict=False):
        found, given = text.count(place), len(waiting[place])
        if found not in (0, given) or (found and not given):
            raise PromptError(
                f"the prompt has {found} placeholders {place} for {given} {what}; "
                f"write one for each, or none: then {what} come first"
            )
        if not found:
            parts += waiting[place]
            waiting[place] = []
    pieces = re.split("(" + "|".join(places) + ")", text)
    for k, piece in enumerate(pieces):
        if k % 2:
            parts.append(waiting[piece].pop(0))
            continue
        piece = piece.lstrip("\n") if k else piece
        piece = piece.rstrip("\n") if k < len(pieces) - 1 else piece
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def indicators(
    k: int, tiling: Tiling, config: TilingConfig, prompt: PromptConfig
) -> list[str]:
    """The text before each view of picture `k` (MM1.5 §3.5).

    `index`: the prompt's own texts, by default the tuple (k, row, column) and (k, 0, 0)
    for the overview. `seps`: ':' before the overview, ',' between columns, a line break
    between rows. A picture that is not split has one view.
    """
    if len(tiling.indices) == 1:
        return [prompt.whole_text]
    texts = []
    for v, (i, j) in enumerate(tiling.indices):
        tile = (i, j) != OVERVIEW
        if config.indicator == "none":
            texts.append("")
        elif config.indicator == "seps":
            texts.append(("," if j > 1 else "\n" if i > 1 else "") if tile else ":")
        elif tile:
            end = prompt.row_end if j == 1 and i > 1 else ""
            texts.append(end + prompt.tile_text.format(k=k, i=i, j=j))
        else:
            texts.append(
                (prompt.row_end if v else "") + prompt.overview_text.format(k=k)
            )
    return texts


def turn_pieces(
    turns: Sequence[Turn], config: PromptConfig, of: Sequence[Turn] = ()
) -> Iterator[Piece]:
    """The whole conversation, ending where the assistant is to speak. of: the one that
    `turns` begin, if that is longer; its system message may come later."""
    around = {
        "system": (config.system_start, config.system_end),
        "user": (config.user_start, config.user_end),
        "assistant": (config.assistant_start, config.assistant_end),
    }
    if config.bos:
        yield Template(config.bos)
    if config.system and not any(t.role == "system" for t in (*turns, *of)):
        turns = [Turn("system", [config.system]), *turns]
    for turn in turns:
        if turn.role not in around:
            raise PromptError(
                f"role {turn.role!r} is not known; use system, user or assistant"
            )
        start, end = around[turn.role]
        yield Template(start)
        if config.gap and turn.role != "system" and _needs_gap(turn, start, config.gap):
            yield config.gap
        yield from turn.content
        yield Template(end)
    if not turns or turns[-1].role != "assistant":
        yield Template(config.assistant_start)


def _needs_gap(turn: Turn, start: str, gap: str) -> bool:
    """Answers of some tokenizers begin with the space already."""
    first = turn.content[0] if turn.content else None
    return isinstance(first, str) and not (start.endswith(gap) or first.startswith(gap))


WHOLE = (1.0, 1.0)


def frame_size(config: CoordinateConfig, tiling: Tiling) -> tuple[float, float]:
    """Width and height in the canvas's pixels of what 0…range count over, of frames
    that are the canvas's."""
    if config.frame == "tiles":
        side = tiling.tile_size * config.range / config.per_tile
        return side, side
    return tiling.tiles.canvas


def reach(config: CoordinateConfig, tiling: Tiling) -> tuple[float, float]:
    """How much of the model's frame the picture covers, across and down."""
    if config.frame not in ("canvas", "tiles"):
        return WHOLE
    width, height = frame_size(config, tiling)
    across, down = tiling.tiles.resized
    return across / width, down / height


def region_pieces(
    region: Region, config: CoordinateConfig, covered: tuple[float, float] = WHOLE
) -> Iterator[Piece]:
    """`tokens`: `<box>` and a token per number; `digits`: the text `[x1, y1, …]`.

    covered: the `reach` of the region's picture.
    """
    if config.format == "digits":
        names = "x1 y1 x2 y2" if region.kind == "box" else "x y"
        form = config.box if region.kind == "box" else config.point
        written = (_number(v, config) for v in region.values)
        yield Template(form.format(**dict(zip(names.split(), written, strict=True))))
        return
    yield Special(f"<{region.kind}>")
    for k, value in enumerate(region.values):
        yield Special(f"<loc_{round(value * covered[k % 2])}>")
    yield Special(f"</{region.kind}>")


def _number(value: int, config: CoordinateConfig) -> str:
    if not config.decimals:
        return str(value)
    return f"{value / config.range:.{config.decimals}f}"


class PromptEncoder:
    """Pieces → ids for one model."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.end_id = tokenizer.special(config.prompt.turn_end)
        self.stop_ids = frozenset(map(tokenizer.special, config.prompt.stop))
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
        """The block of picture `k`: texts and the placeholders of each view."""
        return self._ids(self._image(k, tiling))

    def piece_ids(self, piece: Piece, tilings: Sequence[Tiling]) -> list[int]:
        """Ids of one piece that stands alone."""
        return self._ids(self._parts(piece, tilings))

    def encode(
        self, turns: Sequence[Turn], tilings: Sequence[Tiling], of: Sequence[Turn] = ()
    ) -> list[int]:
        """Ids of a conversation over the pictures that `tilings` describe, in order.
        of: see `turn_pieces`."""
        slots = [p.index for t in turns for p in t.content if isinstance(p, ImageSlot)]
        if sorted(slots) != list(range(len(tilings))):
            raise PromptError(
                f"the conversation has {len(slots)} image placeholders "
                f"for {len(tilings)} pictures"
            )
        pieces = turn_pieces(turns, self.config.prompt, of)
        return self._ids(part for p in pieces for part in self._parts(p, tilings))

    def _image(self, k: int, tiling: Tiling) -> Iterator[str | int]:
        split, prompt = self.tokenizer.split, self.config.prompt
        connector = self.config.connector_config
        yield from split(prompt.image_start)
        texts = indicators(k, tiling, self.config.tiling, prompt)
        if tiling.merge == "flat":
            for text in texts:
                yield from split(text)
                yield from [self.image_id] * connector.num_visual_tokens
        else:
            yield from split(texts[0])
            yield from [self.image_id] * tiling.tokens(connector.pooled_grid)
        yield from split(prompt.image_end)

    def _parts(self, piece: Piece, tilings: Sequence[Tiling]) -> Iterator[str | int]:
        """A piece as ids and texts that are still to be tokenised."""
        match piece:
            case str():
                yield piece
            case Special(name):
                yield self.tokenizer.special(name)
            case Template(text):
                yield from self.tokenizer.split(text)
            case ImageSlot(index):
                yield from self._image(index, tilings[index])
            case Region(_, image):
                config = self.config.coordinates
                covered = reach(config, tilings[image]) if tilings else WHOLE
                for part in region_pieces(piece, config, covered):
                    yield from self._parts(part, tilings)

    def _ids(self, parts: Iterable[str | int]) -> list[int]:
        """Texts between special tokens are tokenised together, or each alone."""
        runs: list[str | int] = []
        for part in parts:
            last = runs[-1] if runs and self.config.prompt.joined else None
            if isinstance(part, str) and isinstance(last, str):
                runs[-1] = last + part
            else:
                runs.append(part)
        bos = self.tokenizer.split(self.config.prompt.bos)
        ids: list[int] = []
        for left, run, right in zip(
            [None, *runs[:-1]], runs, [*runs[1:], None], strict=True
        ):
            if isinstance(run, int):
                ids.append(run)
                continue
            if isinstance(left, int) and self.tokenizer.strips(left)[1]:
                run = run.lstrip()
            if isinstance(right, int) and self.tokenizer.strips(right)[0]:
                run = run.rstrip()
            if run:
                ids += self.tokenizer.encode(run, first=ids in ([], bos))
        return ids


class AnswerDecoder:
    """Tokens of an answer → text as they come; regions read `[x1, y1, x2, y2]`.

    They count 0…range over the picture, whose `reach` in the frame is `covered`.
    Text is held back while it ends in the middle of a UTF-8 character. Other special
    tokens are silent, but where places are written with them, as in `<loc_12>`, they
    are the answer's text.
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
        self._as_regions = config.format == "tokens"
        self._shown = config.format == "digits" and "<" in config.box
        self._tokens: list[int] = []  # the last ones, which the next one's text needs
        self._read = 0  # of them: whose text, `_given`, has been given out
        self._given = ""
        self._numbers = 0  # coordinates since the region was opened

    def add(self, token: int) -> str:
        """The text that `token` adds."""
        name = self.tokenizer.name(token)
        if name is None:
            self._tokens.append(token)
            return self._emit(final=False)
        new = self._emit(final=True)
        if self._as_regions and name in ("<box>", "<point>"):
            self._numbers = 0
            new += self._out("[")
        elif self._as_regions and name in ("</box>", "</point>"):
            new += self._out("]")
        elif self._as_regions and name.startswith("<loc_"):
            number = round(int(name[5:-1]) / self.covered[self._numbers % 2])
            comma = ", " if self._numbers else ""
            new += self._out(f"{comma}{min(number, self.limit)}")
            self._numbers += 1
        elif self._shown:
            new += self._out(name)
        return new

    def finish(self) -> str:
        """Whatever was held back."""
        return self._emit(final=True)

    def _emit(self, final: bool) -> str:
        """The new text of `_tokens`. Those of before the last emission stay in front:
        without them a decoder may take the next one's space for the answer's first."""
        text = self.tokenizer.decode(self._tokens) if self._tokens else ""
        broken = text.endswith("\ufffd")
        if broken and not final:
            return ""
        new = text[len(self._given) :]
        if broken:
            self._tokens, self._read, self._given = [], 0, ""
        elif new:
            self._tokens = self._tokens[self._read :]
            self._read = len(self._tokens)
            self._given = self.tokenizer.decode(self._tokens)
        return self._out(new)

    def _out(self, text: str) -> str:
        self.text += text
        return text
