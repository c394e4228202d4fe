"""Training data: rows of conversations with pictures → token ids, and what to learn.

What this file is: every row with its pictures opened and its places checked, whole,
before the first step of a training. What it is not: the files (training_rows.py), the
order in which rows are trained on (mixture.py, batches.py), or a report for people
(datacheck.py).

Places are pixels of the original picture. Only what the assistant says is learnt, and
never a placeholder of a picture.
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
from mm15_mlx.tiling import plan
from mm15_mlx.training_rows import DataError, Row, Stored, read_rows, split_file

_OPEN = re.compile(r"<(?:box|point)(?:\s+image=\d+)?>")
_MARK = re.compile(r"<(box|point)(?:\s+image=(\d+))?>([^<]*)</\1>")
_SLACK = 1.0  # pixels beyond the edge that rounding may have made


@dataclass(frozen=True)
class PictureRef:
    """A picture of a row, to be opened again when its visual tokens are needed."""

    path: str | Stored
    key: str  # hash of pixels and tiling: see TiledPicture.key
    tokens: int
    of: int  # how many pictures the row has: few are split into tiles

    def open(self, processor: Processor) -> TiledPicture:
        return _tiled(self.path, self.of, processor)


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


def turns(row: Row, sizes: Sequence[Size], processor: Processor) -> list[Turn]:
    """The row's turns; markup without a number is about the first picture of its own
    message, or of the last one before it that has any. Raises UserError."""
    coordinates = processor.config.coordinates
    made: list[Turn] = []
    shown = subject = 0
    for role, parts in row.messages:
        if None in parts:
            subject = shown
        content: Content = []
        for part in parts:
            if part is None:
                content.append(ImageSlot(shown))
                shown += 1
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
    """Raises DataError for markup that is not closed, and for places beyond the edge:
    a question may be clipped to the picture, but data like that are a mistake."""
    marks = list(marked(text, subject))
    opened = _OPEN.findall(text)
    if len(opened) != len(marks):
        raise DataError(f"{opened[-1]} is not closed; write <box>x1,y1,x2,y2</box>")
    for shown, image, values in marks:
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
    row: Row, pictures: Sequence[TiledPicture], processor: Processor, limit: int
) -> Sample:
    """Ids of the whole conversation, and which of them the assistant said.

    Everything up to an answer is tokenised as it is when the model is asked; what
    follows it, to the token that ends it, is learnt. Raises UserError.
    """
    encoder = processor.encoder
    tilings = [p.tiling for p in pictures]
    spoken = turns(row, [p.picture.size for p in pictures], processor)
    ids = encoder.encode(spoken, tilings)
    if len(ids) > limit:
        visual = sum(p.tokens for p in pictures)
        raise DataError(
            f"{len(ids)} tokens, {visual} of them for pictures; the limit is {limit}: "
            "shorten the row, use fewer pictures, or raise max_seq_length"
        )
    learnt = np.zeros(len(ids), bool)
    shown = 0
    for k, turn in enumerate(spoken):
        if turn.role == "assistant":
            asked = encoder.encode(spoken[:k], tilings[:shown])
            answered = encoder.encode(spoken[: k + 1], tilings[:shown])
            start, end = _same(asked, ids), _same(answered, ids)
            stops = [i for i in range(start, end) if ids[i] in encoder.stop_ids]
            learnt[start : stops[0] + 1 if stops else end] = True
        shown += sum(isinstance(p, ImageSlot) for p in turn.content)
    refs = tuple(
        PictureRef(path, p.key, p.tokens, len(pictures))
        for path, p in zip(row.images, pictures, strict=True)
    )
    return Sample(row.where, np.array(ids, np.int32), learnt, refs, row.category)


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


def _tiled(path: str | Stored, of: int, processor: Processor) -> TiledPicture:
    picture = opened(path)
    tiling = plan(*picture.size, processor.config.tiling, of)
    return TiledPicture(picture, tiling, processor.config)


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
    tiled: dict[str | Stored, TiledPicture] = {}
    for row in rows:
        try:
            needed = dict.fromkeys(row.images)
            of = len(row.images)
            tiled = {
                p: tiled[p]
                if p in tiled and same_tiling(tiled[p], of, processor)
                else _tiled(p, of, processor)
                for p in needed
            }
            pictures = [tiled[p] for p in row.images]
            sample = encode(row, pictures, processor, min(limit or context, context))
        except UserError as e:
            split.problems.append(f"{row.where}: {e}")
            continue
        split.rows.append(row)
        split.samples.append(sample)


def same_tiling(picture: TiledPicture, of: int, processor: Processor) -> bool:
    """Whether a picture is cut the same way where it is one of `of`."""
    return picture.tiling == plan(*picture.picture.size, processor.config.tiling, of)
