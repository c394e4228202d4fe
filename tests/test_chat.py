"""The verb `chat`: a talk about pictures, line by line."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

Cli = Callable[..., tuple[int, str, str]]


def test_chat_keeps_its_pictures(
    cli: Cli, button: Path, screen: Path, encoded: list[int], monkeypatch: Any
) -> None:
    from mm15_mlx import answers

    seen = []
    decode = answers.decode

    def watching(model: Any, processor: Any, prepared: Any, options: Any) -> Any:
        seen.append((len(prepared.images), len(prepared.ids)))
        return decode(model, processor, prepared, options)

    monkeypatch.setattr(answers, "decode", watching)
    code, out, err = cli(
        "chat", "--model", button, "--image", screen, stdin="Where?\nAnd now?\n\nno"
    )
    assert code == 0 and out == "[100, 200, 600, 700]\n" * 2
    assert [images for images, _ in seen] == [1, 1] and seen[0][1] < seen[1][1]
    assert sum(encoded) == 5, "encoded once for both turns"


def test_a_slip_in_a_terminal_does_not_end_a_talk(
    cli: Cli, button: Path, screen: Path, monkeypatch: Any
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    lines = "Where?\nAnd <box>1,2</box>?\nAnd now?\n\n"
    flags = ["chat", "--model", button, "--image", screen]
    code, _, err = cli(*flags, stdin=lines)
    assert code == 2 and "error: <box>1,2</box> is not <box>x1,y1" in err
    monkeypatch.setattr(io, "StringIO", Terminal)
    code, out, err = cli(*flags, stdin=lines)
    assert code == 0 and out == "[100, 200, 600, 700]\n" * 2
    assert "error: <box>1,2</box> is not <box>x1,y1" in err


def test_chat_without_anything(cli: Cli, button: Path) -> None:
    assert cli("chat", "--model", button, stdin="")[:2] == (0, "")
