"""What a page other than ours can ask the app for: nothing of this machine."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")

from mm15_mlx.apps.app import launch  # noqa: E402
from mm15_mlx.apps.page import Page  # noqa: E402
from mm15_mlx.apps.worker import Choice, Worker  # noqa: E402


@pytest.fixture
def url(button: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    worker = Worker([Choice(str(button))])
    blocks = launch(Page(worker), "127.0.0.1", free_port())
    yield blocks.local_url
    blocks.close(verbose=False)
    worker.close()


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
    values: list[Any] = [None, "", str(button), False, True, False, 0, 9, "own", False]
    values.append([{"path": str(screen), "meta": {"_type": "gradio.FileData"}}])
    assert event["inputs"][-1] == drop and len(values) == len(event["inputs"])
    body = {"data": values, "fn_index": event["id"], "session_hash": "forged"}
    ask(f"{url}gradio_api/queue/join", body)
    told = ask(f"{url}gradio_api/queue/data?session_hash=forged")
    assert '"success":false' in told and "base64" not in told
    assert screen.exists()
