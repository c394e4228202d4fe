"""benchmarks/lmms_task.py: a task folder as lmms-eval reads it."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / "benchmarks"
KITS = FOLDER / "data" / "kits.jsonl"


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("lmms_task")


def test_the_folder(
    task: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert task.main([str(KITS), "--out", str(tmp_path / "t"), "--limit", "3"]) == 0
    assert capsys.readouterr().out == f"3 rows in {tmp_path / 't'}\n"
    text = (tmp_path / "t" / "mm15_ocr.yaml").read_text()
    made = yaml.safe_load(text.replace("!function ", ""))
    lines = Path(made["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 3 and rows[0]["answer"] == "1:48"
    assert "<box>952.3,1721.1,1047.3,1758.9</box>?" in rows[0]["question"]
    monkeypatch.syspath_prepend(tmp_path / "t")
    shown = importlib.import_module("shown")
    assert made["doc_to_visual"] == "shown.pictures"
    assert shown.question(rows[0]) == rows[0]["question"]
    (picture,) = shown.pictures(rows[0])
    assert picture.mode == "RGB" and min(picture.size) > 300


def test_a_file_without_texts(
    task: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = json.loads(KITS.read_text().splitlines()[0])
    assert row["task"] != "ocr"
    data = tmp_path / "t.jsonl"
    data.write_text(json.dumps(row | {"image": str(KITS.parent / row["image"])}))
    assert task.main([str(data), "--out", str(tmp_path / "o")]) == 2
    message = f"error: {data} has no task ocr; give a file that has"
    assert message in capsys.readouterr().err
