"""Several users of the app at once; benchmarks/app_load.py is the longer run."""

import importlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path

import pytest

pytest.importorskip("gradio")

from mm15_mlx.apps.app import launch  # noqa: E402
from mm15_mlx.apps.page import Page  # noqa: E402
from mm15_mlx.apps.worker import Choice, Worker  # noqa: E402

FOLDER = Path(__file__).parents[1] / "benchmarks"


def pages(components: Iterable[object]) -> int:
    """How many hold a part of the page, and with it a picture."""
    return sum(type(c).__name__ == "HTML" for c in components)


def test_five_users_for_ten_seconds(
    ui_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each gets the answers about his own picture; the app goes on."""
    monkeypatch.syspath_prepend(FOLDER)
    load = importlib.import_module("app_load")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    cases = load.make_cases(str(ui_folder), 5, tmp_path, 12)
    assert len({c.answer for c in cases}) > 1
    worker = Worker([Choice(str(ui_folder))])
    blocks = launch(Page(worker), "127.0.0.1", load.free_port())
    memory, done = [load.resident(os.getpid())], threading.Event()

    def look() -> None:
        while not done.wait(1):
            memory.append(load.resident(os.getpid()))

    watching = threading.Thread(target=look)
    watching.start()
    try:
        found = load.run(blocks.local_url, str(ui_folder), cases, 10, 12, pages=0)
        done.set()
        watching.join()
        assert found.wrong == [] and len(found.seconds) >= len(cases)
        assert load.growth(memory) < load.GROWTH_MB, memory
        for session in blocks.state_holder.session_data.values():
            kept = session.blocks_config.blocks.values()
            assert pages(kept) == pages(blocks.blocks.values()) > 0
        mixed = [load.Case(c.picture, c.question, "another's") for c in cases[:1]]
        found = load.run(blocks.local_url, str(ui_folder), mixed, 0.1, 12, pages=0)
        assert len(found.wrong) == len(found.seconds)  # it would have been seen
    finally:
        done.set()
        blocks.close(verbose=False)
        worker.close()


def test_growth_is_of_the_second_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    load = importlib.import_module("app_load")
    flat = [100, 300, 390, 400, 401, 400, 480, 400]  # one peak is no growth
    assert load.growth(flat) == 0
    leaking = [100 + 20 * k for k in range(9)]
    assert load.growth(leaking) == 80 > load.GROWTH_MB
    assert load.growth([7]) == 0
