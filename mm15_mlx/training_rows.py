"""Rows of training data as they are written: JSON lines, or LLaVA's JSON.

What this file is: DIR/train.jsonl and its neighbours read row by row, with one line for
each that cannot be. What it is not: pictures and places, which dataset.py checks.

A row is `{"messages": [{"role", "content"}], "images": ["a.png"], "category"?}` or has
LLaVA's `conversations` and `image`. Pictures lie beside the file; `<image>` in a text
is the place of one; without any they begin the first question.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mm15_mlx.config import UserError
from mm15_mlx.json_lines import numbered, parsed, read_text

SPLITS = ("train", "valid", "test")
PLACEHOLDER = "<image>"
UNNAMED = "all"  # the category of rows that have none
_KEYS = ("messages", "conversations", "images", "image", "category")
_LLAVA = {"human": "user", "gpt": "assistant"}
_ROLES = ("system", "user", "assistant")

Message = tuple[str, tuple[str | None, ...]]  # the role, and texts; None is a picture


class DataError(UserError):
    """Training data that cannot be used; the message names the row and the remedy."""


class Stored(Protocol):
    """A picture that is no file of its own, but lies in a table; see hub_rows.py."""

    def read(self) -> bytes: ...


@dataclass(frozen=True)
class Row:
    """One conversation as it is written; `where` is its file and number, from 1."""

    where: str
    messages: tuple[Message, ...]
    images: tuple[str | Stored, ...]
    category: str


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
    for key in set(value) - set(_KEYS):  # further fields are kept out of the way
        near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.8)
        if near and near[0] not in value:
            raise DataError(f"has the key {key!r}; did you mean {near[0]!r}?")
    if ("messages" in value) == ("conversations" in value):
        raise DataError("must have either messages or conversations")
    images = value.get("images", value.get("image", []))
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not all(isinstance(i, str) for i in images):
        raise DataError("images must be a list of paths")
    named = category or value.get("category", UNNAMED)
    if not isinstance(named, str) or not named:
        raise DataError(f"category is {named!r}; it must be a name")
    messages = [_message(m) for m in _turns_of(value)]
    messages = _placed(messages, len(images))
    return Row(where, tuple(messages), tuple(str(folder / i) for i in images), named)


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


def _message(message: Any) -> Message:
    if not isinstance(message, dict) or not {"role", "content"} <= set(message):
        raise DataError(f"{message!r} is not a message: it needs role and content")
    role, content = message["role"], message["content"]
    if role not in _ROLES:
        raise DataError(f"role {role!r} is not known; use {', '.join(_ROLES)}")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise DataError(f"{content!r} is not the content of a message: text or parts")
    parts: list[str | None] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image":
            parts.append(None)
        elif kind == "text" and isinstance(part.get("text"), str):
            parts += _split_placeholders(part["text"])
        else:
            raise DataError(f"{part!r} is not a content part: text or image")
    if not any(p is None or p.strip() for p in parts):
        what = "an empty answer" if role == "assistant" else f"an empty {role} message"
        raise DataError(f"{what}; there is nothing to learn from it")
    if role == "assistant" and None in parts:
        raise DataError("a picture in an answer; the model writes text only")
    return role, tuple(parts)


def _split_placeholders(text: str) -> Iterator[str | None]:
    """LLaVA writes `<image>` on a line of its own; questions asked later have none."""
    first, *others = text.split(PLACEHOLDER)
    if not others:
        yield first
        return
    if first.rstrip("\n"):
        yield first.rstrip("\n")
    for k, part in enumerate(others):
        yield None
        part = part.lstrip("\n")
        part = part.rstrip("\n") if k < len(others) - 1 else part
        if part:
            yield part


def _placed(messages: list[Message], images: int) -> list[Message]:
    """Without placeholders the pictures begin the first message of the user."""
    if not any(role == "assistant" for role, _ in messages):
        raise DataError("no answer of the assistant; there is nothing to learn from it")
    places = sum(parts.count(None) for _, parts in messages)
    if places == 0 and images:
        k = next((k for k, (role, _) in enumerate(messages) if role == "user"), None)
        if k is None:
            raise DataError("pictures need a message of the role user")
        messages[k] = ("user", (None,) * images + messages[k][1])
    elif places != images:
        raise DataError(f"{places} image placeholders for {images} pictures")
    return messages
