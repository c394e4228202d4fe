"""Rows of training data as they are written: JSON lines, or LLaVA's JSON.

What this file is: DIR/train.jsonl and its neighbours read row by row, with one line for
each that cannot be. What it is not: pictures and places, which dataset.py checks.

A row is `{"messages": [{"role", "content"}], "images": ["a.png"], "category"?}` or has
LLaVA's `conversations` and `image`. Pictures lie beside the file; `<image>` in a text
is the place of one; without any they begin the first question. `video` with `frames`,
`start` and `end` is as in the rows of `generate --input`, and `<video>` its place;
without that it stands before the first question, after pictures without a place.
"""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from mm15_mlx.config import UserError
from mm15_mlx.json_lines import numbered, parsed, read_text
from mm15_mlx.prompt import PICTURE, VIDEO

SPLITS = ("train", "valid", "test")
LEAST_TOKENS = 2  # of a row: one that is read and one that is learnt
UNNAMED = "all"  # the category of rows that have none
_PART = ("frames", "start", "end")  # of a video
_KEYS = ("messages", "conversations", "images", "image", "video", "category")
_LLAVA = {"human": "user", "gpt": "assistant"}
_ROLES = ("system", "user", "assistant")

# The role, and texts; None is a picture, or all frames of a video.
Message = tuple[str, tuple[str | None, ...]]


class DataError(UserError):
    """Training data that cannot be used; the message names the row and the remedy."""


def no_rows(folder: Path) -> DataError:
    """The error of a folder that could be trained on, but for its rows."""
    return DataError(
        f"{folder} has no rows to train on; put them into {folder / 'train.jsonl'}"
    )


class Stored(Protocol):
    """A picture that is no file of its own, but lies in a table; see hub_rows.py."""

    def read(self) -> bytes: ...


@dataclass(frozen=True)
class VideoPart:
    """A video, or seconds `start` to `end` of it, of which `frames` are seen; None: as
    `generate` does without the flags of these names."""

    path: str
    frames: int | None = None
    start: float | None = None
    end: float | None = None

    def __str__(self) -> str:
        return self.path


Source = str | Stored | VideoPart


@dataclass(frozen=True)
class Row:
    """One conversation as it is written; `where` is its file and number, from 1.
    `images` are in the order of their places, a video among them."""

    where: str
    messages: tuple[Message, ...]
    images: tuple[Source, ...]
    category: str


class _Place(Enum):
    """Where something is shown; the value is how a text writes it."""

    PICTURE = PICTURE
    VIDEO = VIDEO


_Parts = list[str | _Place]


def split_file(folder: Path, name: str) -> Path | None:
    """`name`.jsonl in a folder, or LLaVA's `name`.json, if there is one."""
    for ending in (".jsonl", ".json"):
        if (folder / (name + ending)).is_file():
            return folder / (name + ending)
    return None


def read_rows(path: Path, category: str | None = None) -> tuple[list[Row], list[str]]:
    """The rows of a file that can be read, and one line for each that cannot.

    category: of all of them, whatever they say.
    """
    rows: list[Row] = []
    problems: list[str] = []
    for where, value in _values(path, problems):
        try:
            rows.append(row_of(value, where, path.parent, category))
        except UserError as e:
            problems.append(f"{where}: {e}")
    return rows, problems


def _values(path: Path, problems: list[str]) -> Iterator[tuple[str, Any]]:
    try:
        text = read_text(path)
    except UserError as e:
        raise DataError(str(e)) from e
    if path.suffix == ".json":
        try:
            values = parsed(text)
        except ValueError as e:
            raise DataError(f"{path} is not JSON: {e}") from e
        if not isinstance(values, list):
            raise DataError(f"{path} is not a list of rows, as LLaVA's files are")
        yield from ((f"{path.name}, row {n}", v) for n, v in enumerate(values, 1))
        return
    for number, line in numbered(text):
        where = f"{path.name}, row {number}"
        try:
            value = parsed(line)
        except ValueError as e:
            problems.append(f"{where}: not JSON: {e}")
            continue
        yield where, value


def row_of(value: Any, where: str, folder: Path, category: str | None) -> Row:
    """A row as JSON has it, its pictures' paths below `folder`; raises DataError."""
    if not isinstance(value, dict):
        raise DataError("not an object")
    value = {k: v for k, v in value.items() if v is not None}  # as tables export them
    known = (*_KEYS, *_PART) if "video" in value else _KEYS
    for key in set(value) - set(known):  # further fields are kept out of the way
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
        if near and near[0] not in value:
            raise DataError(f"has the key {key!r}; did you mean {near[0]!r}?")
    if ("messages" in value) == ("conversations" in value):
        raise DataError("must have either messages or conversations")
    if "image" in value and "images" in value:
        raise DataError("has both image and images; leave one out")
    images = value.get("images", value.get("image", []))
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(i, str) for i in images):
        raise DataError("images must be a list of paths")
    named = category or value.get("category", UNNAMED)
    if not isinstance(named, str) or not named:
        raise DataError(f"category is {named!r}; it must be a name")
    for key, text in (("category", named), *(("images", i) for i in images)):
        _check_text(key, text)
    video = _video(value, folder)
    spoken = [_message(m, video is not None) for m in _turns_of(value)]
    _place(spoken, _Place.VIDEO, int(video is not None))
    _place(spoken, _Place.PICTURE, len(images))  # last, so that they come first
    paths = iter([str(folder / i) for i in images])
    places = [p for _, parts in spoken for p in parts if isinstance(p, _Place)]
    shown = [video if p is _Place.VIDEO else next(paths) for p in places]
    messages = tuple(
        (role, tuple(None if isinstance(p, _Place) else p for p in parts))
        for role, parts in spoken
    )
    return Row(where, messages, tuple(s for s in shown if s is not None), named)


def _check_text(key: str, text: str) -> None:
    """Raises DataError for what can neither be a file's name nor be printed."""
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise DataError(f"{key}: {text!r} is no Unicode text; write it anew") from e


def _video(value: dict[str, Any], folder: Path) -> VideoPart | None:
    """The clip of a row, if it has one. Raises DataError."""
    path = value.get("video")
    if path is None:
        return None
    if not isinstance(path, str) or not path:
        raise DataError(f"video is {path!r}; it must be a path")
    _check_text("video", path)
    given = {key: value[key] for key in _PART if key in value}
    for key, number in given.items():
        kinds, wanted = (int, float), "a number of seconds"
        if key == "frames":
            kinds, wanted = (int,), "a whole number"
        if type(number) not in kinds:
            raise DataError(f"{key} is {number!r}; it must be {wanted}")
    return VideoPart(str(folder / path), **given)


def _turns_of(value: dict[str, Any]) -> list[Any]:
    turns = value.get("messages", value.get("conversations"))
    if not isinstance(turns, list) or not turns:
        raise DataError("its conversation is empty")
    if "messages" in value:
        return turns
    return [
        {
            "role": _LLAVA.get(str(t.get("from")), t.get("from")),
            "content": t.get("value"),
        }
        if isinstance(t, dict)
        else t
        for t in turns
    ]


def _message(message: Any, video: bool) -> tuple[str, _Parts]:
    """Role and parts; `<video>` is mere text without a video, as where one asks, and
    so is `<image>` beside parts that are pictures."""
    if not isinstance(message, dict) or not {"role", "content"} <= set(message):
        raise DataError(f"{message!r} is not a message: it needs role and content")
    role, content = message["role"], message["content"]
    if role not in _ROLES:
        raise DataError(f"role {role!r} is not known; use {', '.join(_ROLES)}")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise DataError(f"{content!r} is not the content of a message: text or parts")
    parts: _Parts = []
    kinds = [part.get("type") if isinstance(part, dict) else None for part in content]
    placed = "image" in kinds or "video" in kinds
    for kind, part in zip(kinds, content, strict=True):
        if kind in ("image", "video") and isinstance(part.get(kind), str):
            key = "images" if kind == "image" else kind
            raise DataError(
                f"{part!r} names its own {kind}; give that with the row's key {key!r}"
            )
        if kind == "image":
            parts.append(_Place.PICTURE)
        elif kind == "video":
            parts.append(_Place.VIDEO)
        elif kind == "text" and isinstance(part.get("text"), str):
            text = part["text"]
            parts += [text] * bool(text) if placed else _split_places(text, video)
        else:
            raise DataError(f"{part!r} is not a content part: text, image or video")
    if not any(isinstance(p, _Place) or p.strip() for p in parts):
        what = "an empty answer" if role == "assistant" else f"an empty {role} message"
        raise DataError(f"{what}; there is nothing to learn from it")
    if role == "assistant" and any(isinstance(p, _Place) for p in parts):
        raise DataError("a picture in an answer; the model writes text only")
    return role, parts


def _split_places(text: str, video: bool) -> Iterator[str | _Place]:
    """LLaVA writes `<image>` on a line of its own; questions asked later have none."""
    places = [PICTURE, VIDEO] if video else [PICTURE]
    pieces = re.split(f"({'|'.join(places)})", text)
    if len(pieces) == 1:
        yield text
        return
    for k, piece in enumerate(pieces):
        if k % 2:
            yield _Place(piece)
            continue
        piece = piece.lstrip("\n") if k else piece
        piece = piece.rstrip("\n") if k < len(pieces) - 1 else piece
        if piece:
            yield piece


def _place(spoken: list[tuple[str, _Parts]], place: _Place, count: int) -> None:
    """Without places the pictures, or the video, begin the first message of the user.
    Raises DataError where there are more or fewer places."""
    if not any(role == "assistant" for role, _ in spoken):
        raise DataError("no answer of the assistant; there is nothing to learn from it")
    name, what = place.value.strip("<>"), f"{place.name.lower()}s"
    places = sum(parts.count(place) for _, parts in spoken)
    if places == 0 and count:
        first = next((parts for role, parts in spoken if role == "user"), None)
        if first is None:
            raise DataError(f"{what} need a message of the role user")
        first[:0] = [place] * count
    elif places != count:
        raise DataError(
            f"{places} {name} placeholders for {count} {what}; write {place.value} for "
            f"each, and name them with the key {'images' if name == 'image' else name}"
        )
