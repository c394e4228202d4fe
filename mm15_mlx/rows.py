"""`generate --input`: many rows, one JSON document a line for each.

Rows are `{"image" or "images", "prompt", "id"?, "max_tokens"?}`, pictures beside the
file; those about the same pictures are answered together. All are checked before any
weights load.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm15_mlx.answers import Session, conversation, document
from mm15_mlx.batch import Question
from mm15_mlx.config import UserError
from mm15_mlx.images import load_picture
from mm15_mlx.outputs import output_file, write_lines
from mm15_mlx.processor import Message

KEYS = ("image", "images", "prompt", "id", "max_tokens")
Group = dict[tuple[str, ...], list[int]]


@dataclass(frozen=True)
class Row:
    """One question; `where` names its line for messages."""

    where: str
    images: tuple[str, ...]
    prompt: str
    name: dict[str, Any]  # {"id": …} where the row has one
    max_tokens: int

    def messages(self, system: str | None) -> list[Message]:
        """The question; its pictures come first and are given apart."""
        return conversation(self.prompt, [], [], system)


def only(flags: dict[str, Any]) -> None:
    """Raise UserError for flags that go with a prompt, not with rows."""
    given = [name for name, value in flags.items() if value]
    if given:
        raise UserError(
            f"{given[0]} goes with --prompt; "
            "the rows of --input have their own pictures and no drawing"
        )


def read_rows(path: Path, max_tokens: int) -> list[Row]:
    """The rows of a file, checked; `max_tokens` is for rows that do not say."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a JSONL file of questions")
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is not UTF-8 text: {e.reason}") from e
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{path}, line {number}"
            rows.append(_row(line, where, path.parent, max_tokens))
    if not rows:
        raise UserError(f"{path} holds no rows")
    return rows


def _row(line: str, where: str, folder: Path, max_tokens: int) -> Row:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as e:
        raise UserError(f"{where} is not JSON: {e}") from e
    if not isinstance(row, dict):
        raise UserError(f"{where} is not an object")
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
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where} has no prompt; ask something")
    limit = row.get("max_tokens", max_tokens)
    if type(limit) is not int or limit < 1:
        raise UserError(f"{where}: max_tokens is {limit!r}; it must be at least 1")
    name = {"id": row["id"]} if "id" in row else {}
    return Row(where, tuple(str(folder / i) for i in images), prompt, name, limit)


def grouped(rows: Sequence[Row]) -> Group:
    """The numbers of the rows about the same pictures, in the order of the first."""
    groups: Group = {}
    for number, row in enumerate(rows):
        groups.setdefault(row.images, []).append(number)
    return groups


def check(session: Session, rows: Sequence[Row], system: str | None) -> None:
    """Open every picture and prepare every row; raises UserError with its line."""
    for images, numbers in grouped(rows).items():
        row = rows[numbers[0]]
        try:
            pictures = [load_picture(i) for i in images]
            for row in (rows[n] for n in numbers):
                session.processor.prepare(row.messages(system), pictures)
        except UserError as e:
            raise UserError(f"{row.where}: {e}") from e


def answers(
    session: Session, rows: Sequence[Row], system: str | None, scale: float | None
) -> Iterator[str]:
    """The rows' JSON documents in their order, each as soon as those before it are."""
    waiting: dict[int, str] = {}
    following = 0
    for images, numbers in grouped(rows).items():
        pictures = [load_picture(i) for i in images]
        mine = [rows[n] for n in numbers]
        questions = [Question(r.messages(system), r.max_tokens) for r in mine]
        results = session.answer_together(questions, pictures)
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
    system: str | None,
    force: bool,
    scale: float | None,
) -> None:
    """Answer the rows of `path` on stdout, or in the file `output`, written whole."""
    rows = read_rows(path, session.options.max_tokens)
    if output:
        output_file(output, force)
    check(session, rows, system)
    lines = []
    for done, line in enumerate(answers(session, rows, system, scale), 1):
        if output:
            lines.append(line)
        else:
            print(line, flush=True)
        if done % 50 == 0 or done == len(rows):
            print(f"{done}/{len(rows)} rows", file=sys.stderr)
    if output:
        write_lines(output, lines)
