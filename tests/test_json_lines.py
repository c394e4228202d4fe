"""Reading JSON lines: one way, and what is wrong in words."""

import os
from pathlib import Path

import pytest

from mm15_mlx.input_config import UserError
from mm15_mlx.json_lines import fault, numbered, parsed, read_text


def test_only_line_feeds_end_a_line() -> None:
    text = '\n{"a": "one\u2028two\x85three"}\r\n  \n2'
    assert [(n, parsed(line)) for n, line in numbered(text)] == [
        (2, {"a": "one\u2028two\x85three"}),
        (4, 2),
    ]
    assert list(numbered("")) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", r"Expecting property name .* \(character 2\)"),
        ("", r"Expecting value \(character 1\)"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_no_value(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parsed(text)


def test_what_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.touch()
    os.mkfifo(tmp_path / "pipe")
    assert fault(path) is None
    assert fault(tmp_path) == "is a folder"
    assert fault(tmp_path / "pipe") == "is not a file"
    assert fault(tmp_path / "no") == fault(path / "no") == "does not exist"
    assert fault(tmp_path / ("a" * 300)) == "cannot be read: File name too long"
    assert str(fault(tmp_path / "\0")).startswith("cannot be read: embedded null")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes("\ufeff{}\n".encode())
    assert read_text(path) == "{}\n"  # without the mark that some editors write
    path.write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(UserError, match=r"a\.jsonl is not UTF-8 text: .*; save it as"):
        read_text(path)
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
