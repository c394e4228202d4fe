"""Screens of folders that grow while a training runs."""

import json
from pathlib import Path

import pytest

from mm15_mlx.config import PRESETS
from mm15_mlx.convert.mm15_torch.store import Screens

pytestmark = pytest.mark.parity


def line(name: str) -> str:
    row = {"id": name, "image": "x.png", "width": 48, "height": 96, "text": "é"}
    return json.dumps(row, ensure_ascii=False) + "\n"


def test_only_new_rows_are_read(tmp_path: Path) -> None:
    """What was read once may be anything by now; half a line waits for its other."""
    folder, late = tmp_path / "screens", tmp_path / "late"
    folder.mkdir()
    listed = folder / "screens.jsonl"
    written = line("0") + line("1")
    listed.write_text(written + line("2")[:20], encoding="utf-8")
    screens = Screens([folder, late], PRESETS["nano-ui"])
    assert [s.key for s in screens.items] == ["screens-0", "screens-1"]
    assert screens.items[0].row["folder"] == str(folder)
    first, read = list(screens.items), len(written.encode())
    text = "x" * read + line("2") + line("1") + line("3")  # 1 has come before
    listed.write_text(text, encoding="utf-8")
    late.mkdir()
    (late / "screens.jsonl").write_text(line("0"), encoding="utf-8")
    screens.refresh()
    new = ["screens-2", "screens-3", "late-0"]
    assert [s.key for s in screens.items[2:]] == new
    assert all(a is b for a, b in zip(first, screens.items, strict=False))
    screens.refresh()
    assert len(screens.items) == 5
