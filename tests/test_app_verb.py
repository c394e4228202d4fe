"""`mm15-mlx app`: its mistakes, which end before anything is served."""

import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mm15_mlx.apps.offered import cache_folder, offered
from mm15_mlx.apps.settings import Settings
from mm15_mlx.apps.worker import Answered, Choice, Request, Worker
from mm15_mlx.images import load_picture
from mm15_mlx.load import DEFAULT_MODEL, bundled_models

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


def test_models_and_adapters_are_named_again(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is bundled is offered as well; an adapter goes with its own model."""
    from mm15_mlx.apps import app

    calls: list[tuple] = []
    monkeypatch.setattr(app, "run", lambda *a: calls.append(a))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    for name, base in (("one", "elsewhere"), ("two", "b"), ("three", 3)):
        (tmp_path / name).mkdir()
        told = json.dumps({"model": base})
        (tmp_path / name / "adapter_config.json").write_text(told)
    (tmp_path / "three" / "adapter_config.json").write_text("[")
    flags = ["--model", "a", "--model", "b"]
    for name in ("one", "two", "three"):
        flags += ["--adapter-path", str(tmp_path / name)]
    assert cli("app", *flags)[0] == 0
    choices, host, port, rows = calls[0]
    assert [c.label for c in choices] == [
        "a + one", "b + two", "a + three", "a", "b", *bundled_models()
    ]  # fmt: skip
    assert (host, port, rows) == ("127.0.0.1", 7860, None)
    assert cli("app", "--model", DEFAULT_MODEL)[0] == 0
    assert [c.label for c in calls[1][0]].count(DEFAULT_MODEL) == 1
    assert cli("app")[0] == 0
    assert calls[2][0][0] == Choice(DEFAULT_MODEL)


@pytest.fixture
def hub(ui_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the hub: a model of ours, one of another format, and half of one."""
    cache = tmp_path / "hub"
    for name in ("me--ui", "me--tiny--llama", "me--half"):
        home = cache / f"models--{name}"
        shutil.copytree(ui_folder, home / "snapshots" / "abc")
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text("abc\n")
    config = cache / "models--me--tiny--llama/snapshots/abc/config.json"
    config.write_text('{"model_type": "llama"}')
    (cache / "models--me--half/snapshots/abc/model.safetensors").unlink()
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return cache


def test_the_local_cache_is_offered_and_used_without_network(
    hub: Path, ui_folder: Path, screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> Path:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", never)
    choices = offered([str(ui_folder)], [])
    names = [str(ui_folder), "me/ui"]
    assert [c.label for c in choices if c.name in names] == names
    assert {c.name for c in choices}.isdisjoint({"me/tiny--llama", "me/half"})
    worker = Worker([choices[0], choices[-1]])
    try:
        said = {}
        for name in (str(ui_folder), "me/ui"):
            parts = [{"type": "image", "image": load_picture(screen)}]
            parts.append({"type": "text", "text": "What?"})
            asked = [{"role": "user", "content": parts}]
            request = Request(name, asked, Settings(5))
            *_, said[name] = worker.submit(request).events()
        one, other = said.values()
        assert isinstance(one, Answered) and isinstance(other, Answered)
        assert one.result.text == other.result.text
    finally:
        worker.close()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache/huggingface/hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", "~/other")
    assert cache_folder() == Path.home() / "other"


# --- the start -----------------------------------------------------------------------


@pytest.fixture
def page(ui_folder: Path) -> Iterator[Any]:
    pytest.importorskip("gradio")
    from mm15_mlx.apps.page import Page

    worker = Worker([Choice(str(ui_folder))])
    yield Page(worker)
    worker.close()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_a_slow_machine_is_waited_for(
    page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio gives its own page three seconds, and then says share=True."""
    import gradio

    from mm15_mlx.apps.app import answers, launch

    monkeypatch.setattr(gradio.networking, "url_ok", lambda url: False)
    port = free_port()
    blocks = launch(page, "127.0.0.1", port)
    url = f"http://127.0.0.1:{port}/"
    assert answers(url)
    blocks.close(verbose=False)
    assert not answers(url, patience=0.3)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_has_no_part_in_the_start(
    page: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from mm15_mlx.apps.app import launch

    for other in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    blocks = launch(page, "127.0.0.1", free_port())
    blocks.close(verbose=False)
    assert os.environ["NO_PROXY"] == "example.org" and "no_proxy" not in os.environ


@pytest.mark.parametrize(
    ("error", "running", "reason"),
    [
        (OSError("Cannot find\nempty port"), False, "Cannot find empty port"),
        (ValueError("When localhost is not accessible"), True, "When localhost is"),
        (TimeoutError(), False, "TimeoutError"),
    ],
)
def test_a_start_that_fails_is_one_line_and_leaves_nothing(
    cli: Cli,
    ui_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    running: bool,
    reason: str,
) -> None:
    gradio = pytest.importorskip("gradio")
    from mm15_mlx.apps import app

    closed: list[str] = []

    class Watched(Worker):
        def close(self) -> None:
            closed.append("worker")
            super().close()

    def broken(blocks: Any, **_: Any) -> None:
        blocks.is_running, blocks.local_url = running, "http://127.0.0.1:1/"
        raise error

    monkeypatch.setattr(app, "Worker", Watched)
    monkeypatch.setattr(app, "answers", lambda url: False)
    monkeypatch.setattr(gradio.Blocks, "launch", broken)
    monkeypatch.setattr(
        gradio.Blocks, "close", lambda blocks, verbose: closed.append("page")
    )
    port = free_port()
    code, out, err = cli("app", "--model", ui_folder, "--port", port)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert err.startswith(
        f"error: the page at 127.0.0.1 port {port} cannot be reached from this machine "
        f"({reason}"
    )
    assert err.endswith("or give another --host or --port\n")
    assert closed == ["page", "worker"]
