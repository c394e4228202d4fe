"""Examples before the question: pictures with a question and the answer to it.

What this file is: `--shot` and files of examples as messages, and MM1's mixed
resolution, in which only the last pictures are split. What it is not: reading the
examples once for many questions, which is `generate.Beginning`.

A file holds rows `{"image", "question", "answer"}` or training rows, pictures beside
it. Places are pixels of the example's own picture: `<box>x1,y1,x2,y2</box>`, and in
rows of the first kind and in `--shot` also `[x1, y1, x2, y2]`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm15_mlx.config import UserError
from mm15_mlx.images import KEPT_PIXELS, ImageLike, open_pictures
from mm15_mlx.json_lines import fault, numbered, parsed, read_text
from mm15_mlx.processor import FIRST, Message, Processor, content_parts
from mm15_mlx.prompt import interleaved
from mm15_mlx.training_rows import Row, VideoPart, read_rows

FORM = "IMG::QUESTION::ANSWER"
KEYS = ("image", "question", "answer")
_KEPT = KEPT_PIXELS // 16  # of an example: there may be many
_SHOWN = 10  # bad rows that a message names
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_BRACKETS = re.compile(r"\[" + ",".join([_NUMBER] * 4) + r"\]")


class ShotError(UserError):
    """Examples that cannot be used; the message names flag or line and the remedy."""


@dataclass(frozen=True)
class Shot:
    """One example as messages, whose image parts hold open pictures."""

    where: str
    messages: list[Message]


def shot_of(flag: str) -> Shot:
    """The example of a `--shot`, cut at its first two `::`; raises UserError."""
    fields = flag.split("::", 2)
    if len(fields) != 3:
        raise ShotError(f"--shot {flag!r} is not {FORM}")
    if not fields[0].strip():
        raise ShotError(f"--shot {flag!r} has no picture; it must be {FORM}")
    where = f"--shot {fields[0]}"
    try:
        return Shot(where, _example(*fields))
    except UserError as e:
        raise ShotError(f"{where}: {e}") from e


def _example(image: ImageLike, question: str, answer: str) -> list[Message]:
    """Both sides of an example; raises UserError."""
    for name, text in (("question", question), ("answer", answer)):
        if not text.strip():
            raise ShotError(f"an example's {name} is empty; it must say something")
    (picture,) = open_pictures([image], _KEPT)
    return [
        {"role": "user", "content": interleaved(_marked(question), [picture])},
        {"role": "assistant", "content": _marked(answer)},
    ]


def _marked(text: str) -> str:
    """`[1, 2, 3, 4]` → `<box>1,2,3,4</box>`."""
    return _BRACKETS.sub(lambda m: f"<box>{','.join(m.groups())}</box>", text)


def read_shots(path: Path) -> list[Shot]:
    """The examples of a file. Raises UserError that names every bad row's line."""
    if why := fault(path):
        raise ShotError(f"{path} {why}; give a JSONL file of examples")
    if path.suffix == ".json" or _is_training(path):
        shots, problems = _training_shots(path)
    else:
        shots, problems = _simple_shots(path)
    if problems:
        more = len(problems) - _SHOWN
        rest = [f"and {more} more"] if more > 0 else []
        raise ShotError("; ".join([*problems[:_SHOWN], *rest]))
    if not shots:
        raise ShotError(f"{path} holds no examples; leave it out, or write some")
    return shots


def _is_training(path: Path) -> bool:
    """By the first row that is an object; the others must be of the same kind."""
    for _, line in numbered(_text(path)):
        try:
            row = parsed(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            return "messages" in row or "conversations" in row
    return False


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except UserError as e:
        raise ShotError(str(e)) from e


def _simple_shots(path: Path) -> tuple[list[Shot], list[str]]:
    shots: list[Shot] = []
    problems: list[str] = []
    for number, line in numbered(_text(path)):
        where = f"{path}, line {number}"
        _add(where, lambda text=line: _simple(text, path.parent), shots, problems)
    return shots, problems


def _simple(line: str, folder: Path) -> list[Message]:
    try:
        row = parsed(line)
    except ValueError as e:
        raise ShotError(f"not JSON: {e}") from e
    if not isinstance(row, dict):
        raise ShotError("not an object")
    unknown = sorted(set(row) - set(KEYS))
    if unknown:
        raise ShotError(f"the key {unknown[0]!r} is unknown; use {', '.join(KEYS)}")
    if not row.get("image"):
        raise ShotError("has no image; an example needs a picture")
    for key in KEYS:
        if not isinstance(row.get(key), str):
            raise ShotError(f"{key} is {row.get(key)!r}; it must be a text")
    return _example(folder / row["image"], row["question"], row["answer"])


def _training_shots(path: Path) -> tuple[list[Shot], list[str]]:
    rows, problems = read_rows(path)
    shots: list[Shot] = []
    for row in rows:
        _add(row.where, lambda row=row: _conversation(row), shots, problems)
    return shots, problems


def _conversation(row: Row) -> list[Message]:
    """A training row with its pictures opened; raises UserError."""
    if not row.images:
        raise ShotError("has no images; an example needs a picture")
    if any(role == "system" for role, _ in row.messages):
        raise ShotError("has a system message; give that with --system-prompt")
    if row.messages[-1][0] != "assistant":
        raise ShotError("does not end with an answer; an example must")
    if any(isinstance(source, VideoPart) for source in row.images):
        raise ShotError("shows a video; give its frames as pictures")
    pictures = iter(open_pictures(row.images, _KEPT))
    return [
        {"role": role, "content": [
            {"type": "image", "image": next(pictures)} if p is None
            else {"type": "text", "text": p}
            for p in parts
        ]}
        for role, parts in row.messages
    ]  # fmt: skip


def _add(
    where: str,
    make: Callable[[], list[Message]],
    shots: list[Shot],
    problems: list[str],
) -> None:
    try:
        shots.append(Shot(where, make()))
    except UserError as e:
        problems.append(f"{where}: {e}")


def check(shots: Sequence[Shot], processor: Processor) -> None:
    """Raise UserError for examples whose places lie outside their picture, or that the
    model cannot be given."""
    for shot in shots:
        try:
            processor.prepare(split_last(shot.messages, 0))
        except UserError as e:
            raise ShotError(f"{shot.where}: {e}") from e


def split_last(messages: Sequence[Message], last: int) -> list[Message]:
    """The same messages in which only the last so many pictures are split into tiles;
    the others are one overview each. Frames of videos never are, and do not count."""
    left = last
    marked: list[Message] = []
    for message in reversed(messages):
        parts: list[dict[str, Any]] = []
        for part in reversed(content_parts(message)):
            if part["type"] == "image":
                part = {**part, "split": left > 0}
                left -= 1
            parts.insert(0, part)
        marked.insert(0, {**message, "content": parts})
    return marked


def framed(
    shots: Sequence[Shot], system: str | None, question: Message, last: int | None
) -> tuple[list[Message], Message]:
    """What stands before the question, and the question.

    last: how many pictures of all are split; None: as MM1.5 does it, by their number.
    """
    before: list[Message] = [{"role": "system", "content": system}] if system else []
    shown = 0  # each example counts pictures by itself, and so does the question
    for shot in shots:
        before += [{**message, FIRST: shown} for message in shot.messages]
        shown += sum(map(places, shot.messages))
    if places(question):
        question = {**question, FIRST: shown}
    if last is None:
        return before, question
    whole = split_last([*before, question], last)
    return whole[:-1], whole[-1]


def places(message: Message) -> int:
    """How many pictures and videos a message shows."""
    return sum(p["type"] != "text" for p in content_parts(message))


def pictures_split(messages: Sequence[Message]) -> int:
    """How many pictures of `messages` are marked to be split."""
    return sum(p.get("split", False) for m in messages for p in content_parts(m))
