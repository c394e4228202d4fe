"""Training data: rows of conversations with pictures → token ids, and what to learn.

What this file is: every row with its pictures opened and its places checked, whole,
before the first step of a training. What it is not: the files (training_rows.py), the
order in which rows are trained on (mixture.py, batches.py), or a report for people
(datacheck.py).

Places are pixels of the original picture. Only what the assistant says is learnt, and
never a placeholder of a picture. Pictures are split as they are where one asks; where
several messages have some, as `--shot` has it: the last ones alone. Frames of a video
never are.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from mm15_mlx.config import UserError
from mm15_mlx.grounding import Size, split_regions
from mm15_mlx.hub_rows import is_table, table_rows
from mm15_mlx.images import FORMATS, Picture, load_picture
from mm15_mlx.processor import Processor, TiledPicture
from mm15_mlx.prompt import Content, ImageSlot, Region, Turn
from mm15_mlx.tiling import Tiling
from mm15_mlx.training_rows import (
    DataError,
    Row,
    Source,
    Stored,
    VideoPart,
    read_rows,
    split_file,
)
from mm15_mlx.video import Clip

_OPEN = re.compile(r"<(?:box|point)(?:\s+image=\d+)?>")
# Whatever was meant as markup; "a < box" is not.
_MEANT = re.compile(
    r"</?(?:box|point)\b(?!-)[^<>]*>?|<\s*/?\s*(?:box|point)\b(?!-)[^<>]*>",
    re.IGNORECASE,
)
_MARK = re.compile(r"<(box|point)(?:\s+image=(\d+))?>([^<]*)</\1>")
_SLACK = 1.0  # pixels beyond the edge that rounding may have made


class Videos:
    """Opens videos, and keeps the last one: its frames are wanted one after another."""

    def __init__(self) -> None:
        self._last: tuple[VideoPart, Clip] | None = None

    def open(self, part: VideoPart, processor: Processor) -> Clip:
        """Raises UserError."""
        if self._last is None or self._last[0] != part:
            wanted = part.frames, part.start, part.end
            self._last = part, processor.open_video(part.path, *wanted)
        return self._last[1]


@dataclass(frozen=True)
class FrameOf:
    """Frame `number`, from 0, of a row's video."""

    part: VideoPart
    number: int
    videos: Videos = field(compare=False, repr=False)


@dataclass(frozen=True)
class PictureRef:
    """A picture of a row, to be opened again when its visual tokens are needed."""

    source: str | Stored | FrameOf
    key: str  # hash of pixels and tiling: see TiledPicture.key
    tokens: int
    of: int  # how many pictures the row has: few are split into tiles
    split: bool | None  # whatever their number is; see Processor.plan_picture

    def open(self, processor: Processor) -> TiledPicture:
        if isinstance(self.source, FrameOf):
            clip = self.source.videos.open(self.source.part, processor)
            picture = clip.frames[self.source.number]
        else:
            picture = opened(self.source)
        return tiled(picture, self.of, self.split, processor)


@dataclass(frozen=True)
class Sample:
    """A row as the model is trained on it.

    `ids` (L,) int32; `learnt` (L,) bool, true where a token is to be predicted.
    """

    where: str
    ids: np.ndarray
    learnt: np.ndarray
    pictures: tuple[PictureRef, ...]
    category: str


@dataclass
class Split:
    """The good rows of one file and what is wrong with the others."""

    name: str
    rows: list[Row] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        return len(self.samples) + len(self.problems)


def turns(
    row: Row, shown_at: Sequence[Sequence[Size]], processor: Processor
) -> list[Turn]:
    """The row's turns; markup without a number is about the first picture of its own
    message, or of the last one before it that has any. Raises UserError.

    shown_at: the sizes at each of the row's places: of a picture, or of all frames.
    """
    coordinates = processor.config.coordinates
    sizes = [size for place in shown_at for size in place]
    places = iter(shown_at)
    made: list[Turn] = []
    shown = subject = 0
    for role, parts in row.messages:
        if None in parts:
            subject = shown
        content: Content = []
        for part in parts:
            if part is None:
                end = shown + len(next(places))
                content += [ImageSlot(k) for k in range(shown, end)]
                shown = end
                continue
            check_marks(part, sizes, subject)
            content += split_regions(part, sizes, coordinates, subject)
        ahead = [p for p in content if isinstance(p, Region) and p.image >= shown]
        if ahead:
            raise DataError(
                f"a place in picture {ahead[0].image} before that is shown; "
                "put its placeholder first"
            )
        made.append(Turn(role, content))
    return made


def check_marks(text: str, sizes: Sequence[Size], subject: int) -> None:
    """Raises DataError for markup that is not closed or not written as it is read, and
    for places beyond the edge: a question may be clipped to the picture, but data like
    that are a mistake."""
    if rest := _MEANT.search(_MARK.sub("", text)):
        if _OPEN.fullmatch(rest[0]):
            raise DataError(f"{rest[0]} is not closed; write <box>x1,y1,x2,y2</box>")
        raise DataError(
            f"{rest[0]!r} is not read as a place; write <box>x1,y1,x2,y2</box> or "
            "<point>x,y</point>, of another picture <box image=1>…</box>"
        )
    for shown, image, values in marked(text, subject):
        if image >= len(sizes) or not values:
            continue  # split_regions says what is wrong
        width, height = sizes[image]
        xs, ys = values[0::2], values[1::2]
        inside = min(*xs, *ys) >= -_SLACK
        if not (inside and max(xs) <= width + _SLACK and max(ys) <= height + _SLACK):
            raise DataError(
                f"{shown} is out of range: the picture has {width} × {height} pixels"
            )


def marked(text: str, subject: int) -> Iterator[tuple[str, int, list[float]]]:
    """Places in a text: as written, the picture, and the numbers, if they are some."""
    for match in _MARK.finditer(text):
        image = subject if match[2] is None else int(match[2])
        try:
            values = [float(v) for v in match[3].split(",")]
        except ValueError:
            values = []
        yield match[0], image, values if len(values) in (2, 4) else []


def encode(
    row: Row,
    shown_at: Sequence[Sequence[TiledPicture]],
    refs: Sequence[PictureRef],
    processor: Processor,
    limit: int,
) -> Sample:
    """Ids of the whole conversation, and which of them the assistant said.

    Everything up to an answer is tokenised as it is when the model is asked; what
    follows it, to the token that ends it, is learnt. Raises UserError.
    """
    encoder = processor.encoder
    pictures = [p for place in shown_at for p in place]
    tilings = [p.tiling for p in pictures]
    sizes = [[p.picture.size for p in place] for place in shown_at]
    spoken = turns(row, sizes, processor)
    ids = encoder.encode(spoken, tilings)
    if len(ids) > limit:
        visual = sum(p.tokens for p in pictures)
        context = processor.config.text_config.max_position_embeddings
        more = ", or raise max_seq_length" if limit < context else ""
        raise DataError(
            f"{len(ids)} tokens, {visual} of them for pictures; the limit is {limit}: "
            f"shorten the row or use fewer pictures{more}"
        )
    learnt = np.zeros(len(ids), bool)
    shown = 0
    for k, turn in enumerate(spoken):
        if turn.role == "assistant":
            before = spoken[:k]
            if before and before[-1].role == "assistant":  # it is not asked to speak
                before = [*before, Turn("assistant", [])]
            asked = encoder.encode(before, tilings[:shown], spoken)
            answered = encoder.encode(spoken[: k + 1], tilings[:shown], spoken)
            start, end = _same(asked, ids), _same(answered, ids)
            stops = [i for i in range(start, end) if ids[i] in encoder.stop_ids]
            learnt[start : stops[0] + 1 if stops else end] = True
        shown += sum(isinstance(p, ImageSlot) for p in turn.content)
    return Sample(row.where, np.array(ids, np.int32), learnt, tuple(refs), row.category)


def _same(a: list[int], b: list[int]) -> int:
    """How many ids both begin with."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def opened(source: str | Stored) -> Picture:
    """A picture of a row; raises UserError where it cannot be read."""
    if isinstance(source, str):
        return load_picture(source)
    data = source.read()
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (UnidentifiedImageError, Image.DecompressionBombError, KeyError) as e:
        raise DataError(f"{source} is not a picture this program reads") from e
    return load_picture(image)


def tiled(
    picture: Picture, of: int, split: bool | None, processor: Processor
) -> TiledPicture:
    tiling = processor.plan_picture(picture, of, split)
    return TiledPicture(picture, tiling, processor.config)


def splits(row: Row, last: int) -> list[bool | None]:
    """For each of the row's places, whether it is split whatever there is beside it:
    frames never; in a row of examples, which has pictures in several messages, the
    last `last` pictures, as `shots.framed` has it. None: as their number says.
    """
    videos = [isinstance(source, VideoPart) for source in row.images]
    where = [k for k, (_, parts) in enumerate(row.messages) for p in parts if p is None]
    messages = {k for k, video in zip(where, videos, strict=True) if not video}
    if len(messages) < 2:
        return [False if video else None for video in videos]
    left = videos.count(False) - last  # overviews alone
    made: list[bool | None] = []
    for video in videos:
        made.append(not video and left <= 0)
        left -= not video
    return made


def read_split(
    folder: Path, name: str, processor: Processor, limit: int | None = None
) -> Split:
    """One split of a folder, every row prepared as for training.

    folder: with JSON lines, or parquet or arrow tables, or a hub id. limit: most tokens
    of a row; the model's context unless told. A split that is not there is empty.
    Raises DataError where a file cannot be read at all.
    """
    split = Split(name)
    path = split_file(folder, name)
    if path is not None:
        add_rows(split, path, processor, limit)
    elif is_table(folder):
        _add(split, *table_rows(folder, name), processor, limit)
    return split


def add_rows(
    split: Split,
    path: Path,
    processor: Processor,
    limit: int | None = None,
    category: str | None = None,
) -> None:
    """The rows of one file into `split`. Rows about one picture should follow each
    other: then it is opened once."""
    _add(split, *read_rows(path, category), processor, limit)


def _add(
    split: Split,
    rows: Sequence[Row],
    problems: Sequence[str],
    processor: Processor,
    limit: int | None,
) -> None:
    split.problems += problems
    context = processor.config.text_config.max_position_embeddings
    opener = _Opener(processor)
    for row in rows:
        try:
            shown_at, refs = opener.open(row)
            most = min(limit or context, context)
            sample = encode(row, shown_at, refs, processor, most)
        except UserError as e:
            split.problems.append(f"{row.where}: {e}")
            continue
        split.rows.append(row)
        split.samples.append(sample)


class _Opener:
    """Opens the pictures of row after row; those of the last one are remembered."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self._videos = Videos()
        self._pictures: dict[Source, list[Picture]] = {}
        self._tiled: dict[tuple[Source, int, Tiling], TiledPicture] = {}

    def open(self, row: Row) -> tuple[list[list[TiledPicture]], list[PictureRef]]:
        """What is shown at each of the row's places, and how to open it again. Raises
        UserError."""
        before = self._pictures
        self._pictures = {s: before.get(s) or self._read(s) for s in row.images}
        of = sum(len(self._pictures[source]) for source in row.images)
        known, self._tiled = self._tiled, {}
        shown_at: list[list[TiledPicture]] = []
        refs: list[PictureRef] = []
        last = self._processor.config.tiling.split_last
        for source, split in zip(row.images, splits(row, last), strict=True):
            shown_at.append([])
            for k, picture in enumerate(self._pictures[source]):
                one = tiled(picture, of, split, self._processor)
                name = source, k, one.tiling
                one = self._tiled.setdefault(name, known.get(name, one))  # hashed once
                shown_at[-1].append(one)
                video = isinstance(source, VideoPart)
                place = FrameOf(source, k, self._videos) if video else source
                refs.append(PictureRef(place, one.key, one.tokens, of, split))
        return shown_at, refs

    def _read(self, source: Source) -> list[Picture]:
        if isinstance(source, VideoPart):
            return self._videos.open(source, self._processor).frames
        return [opened(source)]
