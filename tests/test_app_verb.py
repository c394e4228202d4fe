"""`mm15-mlx app`: its mistakes, which end before anything is served."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]


def test_missing_extra(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert cli("app") == (
        2, "", "error: app needs gradio: pip install 'mm15-mlx[app]'\n"
    )  # fmt: skip


def test_port_in_use(cli: Cli) -> None:
    pytest.importorskip("gradio")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, out, err = cli("app", "--port", str(port))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: cannot listen on 127.0.0.1 port {port}: ")
    assert err.endswith("; give another --port\n") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--host", "no host"], "error: cannot listen on no host port 7860: "),
        (["--port", "0"], "error: Invalid value for '--port'"),
        (["--model", "no-such"], "error: model 'no-such' is neither bundled"),
        (["--rows", __file__], "error: --rows "),
    ],
)
def test_mistakes(cli: Cli, flags: list[str], message: str) -> None:
    pytest.importorskip("gradio")
    port = [] if "--host" in flags or "--port" in flags else ["--port", "17861"]
    code, out, err = cli("app", *flags, *port)
    assert (code, out) == (2, "") and err.startswith(message) and err.count("\n") == 1


def test_a_model_is_named_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from mm15_mlx.apps import app

    calls: list[tuple] = []
    monkeypatch.setattr(app, "run", lambda *a: calls.append(a))
    assert (
        cli("app", "--model", "a", "--model", "b", "--adapter-path", tmp_path)[0] == 0
    )
    choices, host, port, rows = calls[0]
    assert [c.label for c in choices] == [f"a + {tmp_path.name}", "a", "b"]
    assert (host, port, rows) == ("127.0.0.1", 7860, None)
