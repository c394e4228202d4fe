"""The README is true: its Python runs, and its command lines are understood."""

import importlib
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import mm15_mlx
from mm15_mlx.cli import app, spread
from mm15_mlx.load import BUNDLED

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""

pytestmark = pytest.mark.skipif(not TEXT, reason="there is no README.md yet")


def blocks(*languages: str) -> list[str]:
    fences = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    return [body for language, body in fences if language in languages]


def commands() -> Iterator[list[str]]:
    """The words after `mm15-mlx` of every command, in blocks and within sentences."""
    lines = re.findall(r"`(mm15-mlx [^`]*--[^`]*)`", TEXT.replace("```", ""))
    for block in blocks("bash", "sh", "shell", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            lines += re.split(r"&&|\|\||;|\|", line.removeprefix("$ "))
    for line in lines:
        words = shlex.split(line, comments=True)
        for k, word in enumerate(words):
            if word.rpartition("/")[2] == "mm15-mlx" and words[k - 1] != "install":
                yield words[k + 1 :]
                break


@pytest.mark.parametrize("block", blocks("python", "py"))
def test_python_runs(
    block: str,
    answering: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With nano-ui, or a model that answers with a box while that is not bundled."""
    module = importlib.import_module("mm15_mlx.load")
    if not (BUNDLED / "nano-ui" / "config.json").exists():
        load = module.load
        folder = answering((100, 200, 600, 700))
        monkeypatch.setattr(module, "load", lambda *_, **__: load(folder))
        monkeypatch.setattr(mm15_mlx, "load", module.load, raising=False)
    for name in ("examples", "README.md"):
        if (ROOT / name).exists():
            os.symlink(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)  # what it writes is not left in the checkout
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_command_lines_are_understood(
    words: list[str],
) -> None:
    """Every verb and flag exists and takes its value; nothing is run."""
    group: Any = typer.main.get_command(app)
    words = [w for w in spread(words) if w != "--debug"]
    path = []
    while hasattr(group, "commands") and words and not words[0].startswith("-"):
        assert words[0] in group.commands, f"no verb {words[0]}"
        path.append(words.pop(0))
        group = group.commands[path[-1]]
    try:
        group.make_context(" ".join(path), words)
    except Exception as e:
        if type(e).__name__ != "Exit":  # --help and --version leave so
            raise


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"(?<![\w/])examples/[\w./-]+\.\w+", TEXT)))
)
def test_named_pictures_exist(name: str) -> None:
    assert (ROOT / name).exists()
