"""A benchmark's files and their rows: JSON, JSON lines, CSV, TSV, parquet.

What this file is: finding the files of a split and reading them. What it is not: the
fields of a row (records.py). Nothing in a file is executed or fetched.
"""

import ast
import base64
import binascii
import csv
import io
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mm15_mlx.config import UserError
from mm15_mlx.json_lines import numbered, parsed, read_text
from mm15_mlx.readers import pictures

# Words in the names of files and folders that say which part of a data set they hold.
SPLITS = (
    "train", "training", "val", "validation", "dev", "test", "testa", "testb",
    "test1", "test2", "testmini", "lite",
)  # fmt: skip
_SAME = {"validation": "val", "dev": "val", "training": "train"}
_BATCH = 64  # rows of a parquet file in memory at once: they hold whole pictures
_REFERENCE = 64  # characters: a shorter "picture" of a TSV names another row's


def files(path: Path, patterns: Sequence[str], split: str | None) -> list[Path]:
    """The files of a split at or below `path`, sorted.

    patterns: globs of file names, the first that finds anything counts. `split` is
    compared with the words of the files' names and of the folders below `path`; None
    stands for all files, unless they are of several splits. Of what is left the
    highest count: deeper ones are parts of them. Raises UserError.
    """
    if path.is_file():
        if split is not None and _one(split) not in _words(Path(path.name)):
            raise UserError(
                f"{path} is a file, so the split {split!r} chooses nothing; leave "
                "--split out, or give the folder"
            )
        return [path]
    if not path.is_dir():
        raise UserError(f"{path} does not exist; give the benchmark's file or folder")
    found: list[Path] = []
    for pattern in patterns:
        found = sorted(p for p in path.rglob(pattern) if p.is_file())
        found = [p for p in found if not pictures.is_ours(p)]
        if found:
            break
    if not found:
        raise UserError(
            f"{path} holds none of {', '.join(patterns)}; give the benchmark's folder "
            "as it was published, or the file itself"
        )
    words = {p: _words(p.relative_to(path)) for p in found}
    if split is not None:
        mine = [p for p in found if _one(split) in words[p]]
        if not mine:
            names = ", ".join(str(p.relative_to(path)) for p in found[:5])
            raise UserError(
                f"{path} has no file of the split {split!r}; it has {names}"
            )
        return _highest(mine)
    there = sorted(set().union(*words.values()) & {_one(s) for s in SPLITS})
    if len(there) > 1:
        raise UserError(
            f"{path} holds the splits {', '.join(there)}; choose one with --split"
        )
    return _highest(found)


def has_split(path: Path, pattern: str, split: str | None) -> bool:
    """Whether a folder has files of that name in the split; None stands for any."""
    found = (p.relative_to(path) for p in path.rglob(pattern))
    return any(split is None or _one(split) in _words(p) for p in found)


def _highest(paths: Sequence[Path]) -> list[Path]:
    least = min(len(p.parts) for p in paths)
    return [p for p in paths if len(p.parts) == least]


def read_json(file: Path) -> Any:
    """A JSON document, or JSON lines as a list: `.json` does not say which."""
    text = read_text(file)
    try:
        return parsed(text)
    except ValueError as e:
        first = e
    rows = []
    for number, line in numbered(text):
        try:
            rows.append(parsed(line))
        except ValueError as e:
            if not rows:  # not even the first line: it was never meant as lines
                raise UserError(f"{file} is not JSON: {first}") from e
            raise UserError(f"{file}, line {number} is not JSON: {e}") from e
    return rows


def pickled(file: Path) -> UserError:
    return UserError(
        f"{file} is a pickle, which can run code, so it is not read; export it as "
        f"{file.stem}.json by a program that you trust"
    )


def rows_of(file: Path, inside: str) -> Iterator[Any]:
    """The rows of a file, by its ending; `inside` is the key of the list, where a JSON
    file is an object around it. Raises UserError."""
    kind = file.suffix.casefold()
    if kind in (".json", ".jsonl"):
        whole = read_json(file)
        if isinstance(whole, dict):
            whole = whole.get(inside, [whole])
        if not isinstance(whole, list):
            raise UserError(f"{file}: {inside!r} is not a list of rows")
        yield from whole
    elif kind in (".csv", ".tsv"):
        yield from _table(file, "\t" if kind == ".tsv" else ",")
    elif kind == ".parquet":
        yield from _parquet(file)
    elif kind in (".p", ".pkl", ".pickle"):
        raise pickled(file)
    else:
        raise UserError(
            f"{file} is none of JSON, JSONL, CSV, TSV and parquet; name one of those"
        )


def _table(file: Path, delimiter: str) -> Iterator[dict[str, Any]]:
    """Rows of a table with a header. A TSV of VLMEvalKit holds pictures in base64, once
    for several questions: the other rows hold the number of that row."""
    limit = csv.field_size_limit(sys.maxsize)  # global, so put back
    try:
        text = io.StringIO(read_text(file), newline="")
        rows = list(csv.DictReader(text, delimiter=delimiter))
    finally:
        csv.field_size_limit(limit)
    held = {r.get("index"): r.get("image") or "" for r in rows}
    for row in rows:
        image = row.get("image") or ""
        if delimiter == "\t" and image:
            encoded = held.get(image, image) if len(image) <= _REFERENCE else image
            row["image"] = _decoded(encoded) or image
        yield row


def _decoded(text: str) -> Any:
    """Bytes of base64, a list of them for a list, or None for a path."""
    if text.startswith("["):
        found = [_decoded(t) for t in literal(text) if isinstance(t, str)]
        return found if all(found) else None
    if len(text) <= _REFERENCE:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as e:
        raise UserError(
            f"{file} is parquet, which needs pyarrow: pip install pyarrow"
        ) from e
    try:
        opened = parquet.ParquetFile(file)
        for batch in opened.iter_batches(batch_size=_BATCH):
            yield from batch.to_pylist()
    except (ArrowException, OSError) as e:
        raise UserError(f"{file} cannot be read as parquet: {e}") from e


def literal(text: str) -> Any:
    """A list that was written as text: JSON's or Python's, of literals only."""
    try:
        return parsed(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _one(word: str) -> str:
    """A split under one of its names."""
    return _SAME.get(word.casefold(), word.casefold())


def _words(path: Path) -> set[str]:
    words = re.findall(r"[A-Za-z]+\d*", str(path.with_suffix("")))
    return {_one(w) for w in words}
