"""`generate --input`: many rows, one JSON document a line for each.

Rows are `{"image" or "images", "prompt", "id"?, "max_tokens"?}`, pictures beside the
file; `<image>` in a prompt is the place of one. `video` with `frames`, `start` and
`end` is as the flags of these names. Rows about the same pictures are answered
together. All are checked before any weights load.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm15_mlx.answers import Session, ask
from mm15_mlx.batch import Question
from mm15_mlx.config import UserError
from mm15_mlx.documents import document
from mm15_mlx.generate import Beginning
from mm15_mlx.images import Picture, open_pictures
from mm15_mlx.json_lines import fault, numbered, parsed, read_text
from mm15_mlx.outputs import output_file, write_lines
from mm15_mlx.processor import Message, Processor
from mm15_mlx.shots import Shot, framed, pictures_split
from mm15_mlx.video import Clip

PART = ("frames", "start", "end")  # of a video
KEYS = ("image", "images", "video", *PART, "prompt", "id", "max_tokens")


@dataclass(frozen=True)
class Shown:
    """What a question is about: pictures, and part of a video."""

    images: tuple[str, ...]
    video: str | None = None
    frames: int | None = None
    start: float | None = None
    end: float | None = None

    def opened(self, processor: Processor) -> tuple[list[Picture], list[Clip]]:
        pictures = open_pictures(self.images)
        if self.video is None:
            return pictures, []
        part = self.frames, self.start, self.end
        return pictures, [processor.open_video(self.video, *part)]


Group = dict[Shown, list[int]]


@dataclass(frozen=True)
class Row:
    """One question; `where` names its line for messages."""

    where: str
    shown: Shown
    prompt: str
    name: dict[str, Any]  # {"id": …} where the row has one
    max_tokens: int


@dataclass(frozen=True)
class Frame:
    """What stands before every row's question, and how many pictures are split: see
    `shots.framed`."""

    shots: Sequence[Shot] = ()
    system: str | None = None
    last: int | None = None

    def around(
        self, row: Row, pictures: Sequence[Picture], clips: Sequence[Clip]
    ) -> tuple[list[Message], Message]:
        asked = ask(row.prompt, pictures, clips)
        return framed(self.shots, self.system, asked, self.last)


def only(flags: dict[str, Any]) -> None:
    """Raise UserError for flags that go with a prompt, not with rows."""
    given = [name for name, value in flags.items() if value not in (None, [])]
    if given:
        raise UserError(
            f"{given[0]} goes with --prompt; the rows of --input have their own "
            "pictures, videos and parts of them, and no drawing"
        )


def read_rows(path: Path, max_tokens: int) -> list[Row]:
    """The rows of a file, checked; `max_tokens` is for rows that do not say."""
    if why := fault(path):
        raise UserError(f"{path} {why}; give a JSONL file of questions")
    rows = []
    for number, line in numbered(read_text(path)):
        where = f"{path}, line {number}"
        rows.append(_row(line, where, path.parent, max_tokens))
    if not rows:
        raise UserError(f"{path} holds no rows")
    return rows


def _row(line: str, where: str, folder: Path, max_tokens: int) -> Row:
    try:
        row = parsed(line)
    except ValueError as e:
        raise UserError(f"{where} is not JSON: {e}") from e
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object")
    try:
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as e:  # found when it is written, after all answers, otherwise
        raise UserError(
            f"{where} holds half a character, or a number that is none ({e}); write it "
            "whole"
        ) from e
    unknown = sorted(set(row) - set(KEYS))
    if unknown:
        raise UserError(
            f"{where} has the unknown key {unknown[0]!r}; known are {', '.join(KEYS)}"
        )
    if "image" in row and "images" in row:
        raise UserError(f"{where} has both image and images; leave one out")
    images = row.get("images", [row["image"]] if "image" in row else [])
    if not isinstance(images, list) or not all(isinstance(i, str) for i in images):
        raise UserError(f"{where}: image must be a path, and images a list of paths")
    shown = Shown(tuple(str(folder / i) for i in images), **_video(row, where, folder))
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where} has no prompt; ask something")
    limit = row.get("max_tokens", max_tokens)
    if type(limit) is not int or limit < 1:
        raise UserError(f"{where}: max_tokens is {limit!r}; it must be at least 1")
    name = {"id": row["id"]} if "id" in row else {}
    return Row(where, shown, prompt, name, limit)


def _video(row: dict[str, Any], where: str, folder: Path) -> dict[str, Any]:
    """The fields of a `Shown` that a row's video gives."""
    given = [key for key in PART if key in row]
    if "video" not in row:
        if given:
            raise UserError(f"{where}: {given[0]} goes with video; name one")
        return {}
    if not isinstance(row["video"], str):
        raise UserError(f"{where}: video is {row['video']!r}; it must be a path")
    for key in given:
        wanted = "a whole number" if key == "frames" else "a number of seconds"
        kinds = (int,) if key == "frames" else (int, float)
        if type(row[key]) not in kinds:
            raise UserError(f"{where}: {key} is {row[key]!r}; it must be {wanted}")
    return {"video": str(folder / row["video"])} | {k: row[k] for k in given}


def grouped(rows: Sequence[Row]) -> Group:
    """The numbers of the rows about the same pictures, in the order of the first."""
    groups: Group = {}
    for number, row in enumerate(rows):
        groups.setdefault(row.shown, []).append(number)
    return groups


def check(session: Session, rows: Sequence[Row], frame: Frame) -> None:
    """Open every picture and prepare every row; raises UserError with its line."""
    for shown, numbers in grouped(rows).items():
        row = rows[numbers[0]]
        try:
            pictures, clips = shown.opened(session.processor)
            for row in (rows[n] for n in numbers):
                before, question = frame.around(row, pictures, clips)
                session.processor.prepare([*before, question])
        except UserError as e:
            raise UserError(f"{row.where}: {e}") from e


def answers(
    session: Session, rows: Sequence[Row], frame: Frame, scale: float | None
) -> Iterator[str]:
    """The rows' JSON documents in their order, each as soon as those before it are."""
    waiting: dict[int, str] = {}
    following = 0
    beginnings: dict[int, Beginning] = {}  # by how many of their pictures are split
    for shown, numbers in grouped(rows).items():
        pictures, clips = shown.opened(session.processor)
        mine = [rows[n] for n in numbers]
        made = [frame.around(r, pictures, clips) for r in mine]
        beginning = None
        if frame.shots:  # read once, for the rows about other pictures too
            before = made[0][0]
            split = pictures_split(before)
            if split not in beginnings:
                beginnings[split] = session.beginning(before)
            beginning = beginnings[split]
            made = [([], asked) for _, asked in made]
        questions = [
            Question([*before, asked], r.max_tokens)
            for (before, asked), r in zip(made, mine, strict=True)
        ]
        results = session.answer_together(questions, [], beginning)
        for number, row, result in zip(numbers, mine, results, strict=True):
            whole = row.name | document(result, session.name, scale)
            del whole["timings"], whole["peak_memory_bytes"]  # those of the group
            waiting[number] = json.dumps(whole, ensure_ascii=False)
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def run(
    session: Session,
    path: Path,
    output: Path | None,
    frame: Frame,
    force: bool,
    scale: float | None,
) -> None:
    """Answer the rows of `path` on stdout, or in the file `output`, written whole."""
    rows = read_rows(path, session.options.max_tokens)
    if output:
        output_file(output, force)
    check(session, rows, frame)
    lines = []
    for done, line in enumerate(answers(session, rows, frame, scale), 1):
        if output:
            lines.append(line)
        else:
            print(line, flush=True)
        if done % 50 == 0 or done == len(rows):
            print(f"{done}/{len(rows)} rows", file=sys.stderr)
    if output:
        write_lines(output, lines)
