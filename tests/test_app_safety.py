"""What a page other than ours can ask the app for: nothing of this machine."""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from mm15_mlx.apps.app import launch  # noqa: E402
from mm15_mlx.apps.page import Page  # noqa: E402
from mm15_mlx.apps.settings import Settings  # noqa: E402
from mm15_mlx.apps.worker import Choice, Request, Ticket, Worker  # noqa: E402


@pytest.fixture
def served(
    button: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Page, Any]]:
    """The page, and Gradio's blocks."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    worker = Worker([Choice(str(button))])
    page = Page(worker)
    blocks = launch(page, "127.0.0.1", free_port())
    yield page, blocks
    blocks.close(verbose=False)
    worker.close()


@pytest.fixture
def url(served: tuple[Page, Any]) -> str:
    return served[1].local_url


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(url: str, body: Any = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("path", ["/etc/passwd", str(Path(__file__)), "README.md"])
def test_no_file_is_served(url: str, path: str) -> None:
    for start in ("gradio_api/file=", "file="):
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask(f"{url}{start}{path}")
        assert refused.value.code in (403, 404)


def test_a_forged_upload_neither_reads_nor_deletes(
    url: str, screen: Path, button: Path
) -> None:
    config = json.loads(ask(f"{url}config"))
    drop = next(
        c["id"] for c in config["components"] if c["props"].get("elem_id") == "mm-drop"
    )
    event = next(d for d in config["dependencies"] if [drop, "upload"] in d["targets"])
    values: list[Any] = ["", str(button), False, True, False, 0, 9, "own", False]
    values.append([{"path": str(screen), "meta": {"_type": "gradio.FileData"}}])
    assert event["inputs"][-1] == drop and len(values) == len(event["inputs"])
    body = {"data": values, "fn_index": event["id"], "session_hash": "forged"}
    ask(f"{url}gradio_api/queue/join", body)
    told = ask(f"{url}gradio_api/queue/data?session_hash=forged")
    assert '"success":false' in told and "base64" not in told
    assert screen.exists()


# --- users who left ------------------------------------------------------------------


def test_a_closed_tab_is_forgotten(
    served: tuple[Page, Any], url: str, screen: Path
) -> None:
    """Its answer is stopped at once, its pictures go after a while; neither the page
    nor Gradio has anything of it then."""
    page, blocks = served
    page.sessions.grace = 3600
    config = json.loads(ask(f"{url}config"))
    button = next(
        c["id"] for c in config["components"] if c["props"].get("elem_id") == "mm-stop"
    )
    stop = next(d for d in config["dependencies"] if [button, "click"] in d["targets"])
    body = {"data": [], "fn_index": stop["id"], "session_hash": "tab"}
    mine, other = page.sessions.of("tab"), page.sessions.of("other")
    mine.add(screen, "screen.png")
    with urllib.request.urlopen(f"{url}gradio_api/heartbeat/tab", timeout=30) as alive:
        assert alive.readline() == b"data: ALIVE\n"
        mine.ticket = ticket = Ticket(Request("m", [], Settings()), page.worker)
        ask(f"{url}gradio_api/run/predict", body)  # the page's own Stop
        assert ticket.stopped
        mine.ticket = ticket = Ticket(Request("m", [], Settings()), page.worker)
        held = blocks.state_holder.session_data
        assert "tab" in held
    until = time.monotonic() + 60
    while ("tab" in held or not ticket.stopped) and time.monotonic() < until:
        time.sleep(0.1)
    assert ticket.stopped and "tab" not in held and mine.shots
    page.sessions.grace = 0
    page.sessions.sweep()
    assert mine.shots == [] and len(page.sessions) == 1
    assert page.sessions.of("other") is other


# --- nothing is sent anywhere --------------------------------------------------------

GUARD = """
import os, sys

LOG = open(sys.argv.pop(1), "a", buffering=1)

def look(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "unix"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0] or "localhost"
        host = host.decode() if isinstance(host, bytes) else host
    elif event == "import" and arguments[0] == "gradio":
        LOG.write(f"analytics {os.environ.get('GRADIO_ANALYTICS_ENABLED')}\\n")
        return
    else:
        return
    here = host in ("127.0.0.1", "::1", "localhost", "unix")
    LOG.write(f"{'here' if here else 'elsewhere'} {event} {host}\\n")
    if not here:
        raise OSError(f"{event} {host}")

sys.addaudithook(look)
"""
APP = GUARD + "from mm15_mlx.cli import main; main()\n"


def test_the_guard_sees_what_is_sent(tmp_path: Path) -> None:
    code = GUARD + "import socket; socket.create_connection(('192.0.2.1', 9), 1)"
    log = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True)
    assert done.returncode == 1
    assert log.read_text().splitlines()[0].startswith("elsewhere socket.")


def test_the_program_talks_to_this_machine_alone(
    button: Path, screen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its start through an upload and a question to its end."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    load = importlib.import_module("app_load")
    log, port = tmp_path / "log", free_port()
    env = {k: v for k, v in os.environ.items() if not k.startswith("GRADIO")}
    program = subprocess.Popen(
        [sys.executable, "-c", APP, str(log), "app", "--model", str(button),
         "--port", str(port)], stderr=subprocess.PIPE, text=True, env=env,
    )  # fmt: skip
    try:
        assert program.stderr
        told = program.stderr.readline()
        assert told.startswith("http://"), told + program.stderr.read()
        visitor = load.Visitor(told.split()[0], str(button), 20)
        visitor.upload(screen)
        assert visitor.ask("Where is the button?") == "[100, 200, 600, 700]"
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=120)
    finally:
        program.kill()
    assert program.returncode == 130
    lines = log.read_text().splitlines()
    assert [line for line in lines if line.startswith("elsewhere")] == []
    assert any(line.startswith("here socket.") for line in lines)
    assert [line for line in lines if line.startswith("analytics")] == [
        "analytics False"
    ]
