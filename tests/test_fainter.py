"""Pairs of screens with less of what differs: benchmarks/fainter.py."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mm15_mlx.tasks import read_tasks


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("fainter")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pairs of a tab and of a switch, each with two questions."""
    (tmp_path / "images").mkdir()
    screens: list[dict[str, Any]] = []
    tasks: list[dict[str, Any]] = []
    for kind in ("tab", "switch"):
        names = [f"images/{kind}-{k}.jpg" for k in (0, 1)]
        for name, shade in zip(names, (100, 200), strict=True):
            Image.new("RGB", (40, 60), (shade, 50, 50)).save(tmp_path / name)
        change = {"kind": kind, "tapped": {"box": [0, 0, 9, 9]}}
        screens += [
            {"image": names[0], "pair": {"change": None}},
            {"image": names[1], "pair": {"change": change}},
        ]
        tasks += [
            {"id": f"{kind}-{asks}", "task": "vqa", "asks": asks, "images": names,
             "question": "What?", "answers": ["it"], "metric": "contains"}
            for asks in ("tapped", "changed")
        ]  # fmt: skip
    for name, rows in (("screens.jsonl", screens), ("several.jsonl", tasks)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(script: ModuleType, folder: Path, left: float) -> int:
    return script.main(
        [str(folder / "several.jsonl"), "--screens", str(folder), "--left", str(left),
         "--out", str(folder / "out")]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("left", "shades"), [(1, (100, 200)), (0.5, (125, 175)), (0, (150, 150))]
)
def test_a_share_of_the_difference_is_left(
    script: ModuleType, folder: Path, left: float, shades: tuple[int, int]
) -> None:
    assert run(script, folder, left) == 0
    (task,) = read_tasks(folder / "out" / "tasks.jsonl")
    assert task["id"] == "tab-tapped" and task["answers"] == ["it"]
    found = [np.asarray(Image.open(p))[..., 0].mean() for p in task["images"]]
    assert found == pytest.approx(shades, abs=1.5)
    assert [Path(p).name for p in task["images"]] == ["tab-0.jpg", "tab-1.jpg"]


def test_mistakes(
    script: ModuleType, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script, folder, 1.5) == 2
    assert "--left is 1.5; it must be from 0 to 1" in capsys.readouterr().err
    lines = (folder / "several.jsonl").read_text().splitlines()[2:]
    (folder / "several.jsonl").write_text("\n".join(lines))
    assert run(script, folder, 0.5) == 2
    assert "asks about no tab of" in capsys.readouterr().err
