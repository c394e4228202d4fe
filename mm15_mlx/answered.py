"""Answers on disk: the lines of `eval --predictions`, and a run that was stopped.

What this file is: one JSON object a line, the task with its `prediction`, `boxes`,
`points` and `scores`. Until a run is whole its answers stand in a hidden file beside
the target, whose first line says what they hang on, and `--resume` goes on from there.
What it is not: the answering (evaluate.py).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from math import isfinite
from pathlib import Path
from typing import Any, TextIO

from mm15_mlx import __version__
from mm15_mlx.config import UserError
from mm15_mlx.decoding import Options
from mm15_mlx.images import load_picture
from mm15_mlx.json_lines import fault, parsed, read_text
from mm15_mlx.outputs import output_file, write_lines
from mm15_mlx.processor import content_parts
from mm15_mlx.scores import Place, Said
from mm15_mlx.shots import Shot
from mm15_mlx.summaries import Prediction
from mm15_mlx.tasks import FIELDS, SHOWN, Row, are_numbers, is_box, pictures
from mm15_mlx.ui import Element

# What a run hangs on, as a refusal names it.
HEADER = {
    "weights": "another model or other adapters",
    "data": "other tasks or pictures",
    "shots": "other examples",
    "options": "other options",
    "version": "another version of mm15-mlx",
}
_OF_MODEL = (".json", ".safetensors", ".model")
_CHUNK = 1 << 20
_SAMPLES, _SAMPLE = 256, 1 << 16  # of a weight file too large to be read whole


# --- lines -----------------------------------------------------------------------


def prediction_row(p: Prediction) -> Row:
    """One line of `--predictions`: the task, the answer and its scores."""
    row = {
        **p.row,
        "prediction": p.result.text,
        "boxes": [list(b.px) for b in p.result.boxes],
        "points": [list(b.px) for b in p.result.points],
        "scores": p.scores,
    }
    if p.row["task"] == "widgets":
        row["listed"] = [asdict(element) for element in p.listed]
    return row


def said(row: Row, line: Row, seconds: float = 0.0) -> Prediction:
    """The answer to `row` that a line of `--predictions` holds."""
    boxes = tuple(Place(tuple(box)) for box in line["boxes"])
    points = tuple(Place(tuple(point)) for point in line.get("points", ()))
    listed = [Element(**element) for element in line.get("listed", ())]
    result = Said(line["prediction"], boxes, points)
    return Prediction(row, result, line["scores"], seconds, listed)


def read_predictions(path: Path) -> list[Row]:
    """The lines of a file of `--predictions`. Raises UserError with the line for
    anything else, and for an id that comes twice in a task."""
    if why := fault(path):
        raise UserError(f"{path} {why}; give a file of eval --predictions")
    rows: dict[tuple[str, str], int] = {}
    lines = []
    for number, line in enumerate(read_text(path).rstrip("\n").split("\n"), 1):
        where = f"{path}, line {number}"
        try:
            row = parsed(line)
            _check_line(row)
            said(row, row)
        except (ValueError, KeyError, TypeError, RecursionError) as e:
            raise UserError(f"{where} is not a line of eval --predictions") from e
        first = rows.setdefault(key_of(row), number)
        if first != number:
            raise UserError(
                f"{where} has the id {row['id']!r} of line {first}; answers are told "
                "apart by id and task: make them unique"
            )
        lines.append(row)
    return lines


def _check_line(row: Row) -> None:
    """Raise ValueError, KeyError or TypeError for what `prediction_row` does not make,
    so that nothing is wrong with it once a run is done."""
    json.dumps(row, ensure_ascii=False).encode()
    scores = row["scores"]
    if not (
        "id" in row
        and row["task"] in FIELDS
        and isinstance(row["prediction"], str)
        and isinstance(scores, dict)
        and all(type(v) in (int, float) and isfinite(v) for v in scores.values())
        and all(map(is_box, row["boxes"]))
        and all(are_numbers(point, 2) for point in row.get("points", ()))
    ):
        raise ValueError("not what prediction_row makes")


def key_of(row: Row) -> tuple[str, str]:
    """What tells rows apart."""
    return row["task"], str(row["id"])


def check_ids(rows: Sequence[Row], flag: str) -> None:
    """Raise UserError where rows of a file cannot be told apart."""
    seen: set[tuple[str, str]] = set()
    for row in rows:
        key = key_of(row)
        if key in seen:
            raise UserError(
                f"{flag} tells rows apart by task and id, and {key[0]} {key[1]!r} "
                "comes twice in the tasks; make ids unique"
            )
        seen.add(key)


# --- runs ------------------------------------------------------------------------


def ordered(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows in the order in which they are answered: those about the same pictures
    together."""
    groups = groupby(sorted(rows, key=pictures), key=pictures)
    return [list(group) for _, group in groups]


def header(
    model: Path,
    adapters: Path | None,
    rows: Sequence[Row],
    corpus: Sequence[Row],
    options: Options,
    shots: Sequence[Shot] = (),
) -> Row:
    """What the answers hang on: hashes of weights, tasks and examples, the options.
    `corpus`: all rows of the file, whose references weigh the words of captions."""
    folders = [model, *([adapters] if adapters else [])]
    return {
        "weights": folders_hash(folders),
        "data": _tasks_hash(rows, corpus),
        "shots": _shots_hash(shots),
        "options": asdict(options),
        "version": __version__,
    }


def _shots_hash(shots: Sequence[Shot]) -> str:
    digest = hashlib.sha256()
    for shot in shots:
        for message in shot.messages:
            for part in content_parts(message):
                if part["type"] == "image":
                    digest.update(load_picture(part["image"]).image.tobytes())
                else:
                    digest.update(part["text"].encode() + b"\0")
    return digest.hexdigest()


class Run:
    """The answers of a run as they come, whole groups at a time."""

    def __init__(self, target: Path, head: Row, force: bool, resume: bool) -> None:
        """Raises UserError where the target, which can be a file, or what a stopped run
        left forbids it; writes nothing yet."""
        self.target = target
        self.head = head
        self.path = target.with_name(f".{target.name}.unfinished")
        self.lines: list[Row] = []
        if resume and target.exists() and not self.path.exists() and not force:
            raise UserError(
                f"{target} is whole, there is nothing to resume; "
                "give --force to answer again"
            )
        output_file(target, force or (resume and self.path.exists()))
        if not self.path.exists():
            return
        if resume:
            self.lines = self._read()
        elif not force:
            raise UserError(
                f"{target} has answers of a run that was stopped; give --resume to go "
                "on with it, or --force to begin again"
            )

    def done(self, groups: Sequence[Sequence[Row]]) -> list[Prediction]:
        """What is answered already, of whole groups; the rest is dropped. Lines are
        found by their keys: the groups' order is that of paths, which may be written
        in another way than when the run was stopped."""
        lines = {key_of(line["answer"]): line for line in self.lines}
        found: list[Prediction] = []
        for group in groups:
            mine = [lines[key] for key in map(key_of, group) if key in lines]
            if len(mine) == len(group):
                found += [
                    said(row, line["answer"], line["seconds"])
                    for row, line in zip(group, mine, strict=True)
                ]
        return found

    def open(self, done: Sequence[Prediction]) -> TextIO:
        """The hidden file, holding what is done and ready for more."""
        write_lines(self.path, [json.dumps(self.head), *map(_line, done)])
        return self.path.open("a", encoding="utf-8")

    def add(self, file: TextIO, group: Sequence[Prediction]) -> None:
        file.write("".join(f"{_line(p)}\n" for p in group))
        file.flush()  # so that a killed process leaves it

    def finish(self, done: Sequence[Prediction]) -> None:
        """The target, at once; the hidden file goes."""
        rows = [json.dumps(prediction_row(p), ensure_ascii=False) for p in done]
        write_lines(self.target, rows)
        self.path.unlink(missing_ok=True)

    def _read(self) -> list[Row]:
        found = list(_whole_lines(self.path))
        if not found or not isinstance(found[0], dict):
            raise UserError(f"{self.path} cannot be read; give --force to begin again")
        for key, what in HEADER.items():
            if found[0].get(key) != self.head[key]:
                raise UserError(
                    f"--resume: the stopped run of {self.target} had {what}; ask as "
                    "it did, or give --force without --resume to begin again"
                )
        return found[1:]


def _line(p: Prediction) -> str:
    line = {"seconds": p.seconds, "answer": prediction_row(p)}
    return json.dumps(line, ensure_ascii=False)


def _whole_lines(path: Path) -> Iterator[Any]:
    """The JSON of every line before the first that a kill cut off."""
    for line in path.read_text("utf-8", errors="replace").split("\n"):
        try:
            yield json.loads(line)
        except ValueError:
            return


def _tasks_hash(rows: Sequence[Row], corpus: Sequence[Row]) -> str:
    """Of the rows and their pictures' bytes, wherever these lie."""
    paths = {p: k for k, p in enumerate({p: 0 for r in rows for p in pictures(r)})}
    digest = hashlib.blake2b(digest_size=16)
    for row in rows:
        rest = {k: v for k, v in row.items() if k not in SHOWN}
        asked = [rest, [paths[p] for p in pictures(row)]]
        digest.update(json.dumps(asked, sort_keys=True).encode())
    references = [[r["task"], r["references"]] for r in corpus if "references" in r]
    digest.update(json.dumps(references).encode())
    for path in paths:
        with Path(path).open("rb") as file:
            while chunk := file.read(_CHUNK):  # a video may be larger than memory
                digest.update(chunk)
    return digest.hexdigest()


def folders_hash(folders: Sequence[Path]) -> str:
    """Of what makes the answers: configuration, tokenizer, weights. A large file's
    content is sampled, as training changes every part of it."""
    digest = hashlib.blake2b(digest_size=16)
    for folder in folders:
        for path in sorted(p for p in folder.iterdir() if p.suffix in _OF_MODEL):
            size = path.stat().st_size
            digest.update(f"{path.name} {size} ".encode())
            with path.open("rb") as file:
                if size <= _SAMPLES * _SAMPLE:
                    digest.update(file.read())
                    continue
                for k in range(_SAMPLES):
                    file.seek((size - _SAMPLE) * k // (_SAMPLES - 1))
                    digest.update(file.read(_SAMPLE))
    return digest.hexdigest()
