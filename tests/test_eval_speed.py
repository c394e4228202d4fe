"""The benchmark of `eval`: which questions it takes, and that its ways agree."""

import importlib
import json
from pathlib import Path

import pytest
from PIL import Image

from mm15_mlx.config import UserError

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_the_ways_of_asking_agree(
    button: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    script = importlib.import_module("eval_speed")
    Image.new("RGB", (90, 160), "white").save(tmp_path / "a.png")
    one = {"image": "a.png", "task": "find_text", "box": [0, 0, 9, 9]}
    rows = [{"id": str(k), "text": word, **one} for k, word in enumerate("abc")]
    rows.append({"id": "w", "image": "a.png", "task": "widgets", "elements": [
        {"type": "text", "text": "a", "box": [0, 0, 9, 9]}]})  # fmt: skip
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    few = ["--screens", "1", "--questions", "2", "--trials", "1"]
    assert script.main([str(path), "--model", str(button), *few]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [w["same_answers"] for w in report["ways"].values()] == [2] * 4
    assert report["ways"]["together"]["slower"] == 1
    second = tmp_path / "more.jsonl"
    Image.new("RGB", (90, 160), "red").save(tmp_path / "b.png")
    second.write_text("\n".join(json.dumps(r | {"image": "b.png"}) for r in rows))
    both = [str(path), str(second), "--model", str(button), "--screens", "2"]
    two = ["--questions", "2", "--trials", "1", "--ways", "together", "mixed"]
    assert script.main([*both, *two]) == 0
    lines = capsys.readouterr().out.splitlines()
    ways = json.loads(lines[-1])["ways"]
    assert {way: found["same_answers"] for way, found in ways.items()} == {
        "together": 4, "mixed": 4,
    }  # fmt: skip
    assert lines[3].startswith("| one by one, in random order | ")
    assert script.main([str(path), "--questions", "4"]) == 2  # a list does not count
    assert "only 0 screens have 4 questions; ask" in capsys.readouterr().err
    with pytest.raises(UserError, match="ask for fewer with --screens or --questions"):
        script.chosen([], 1, 1)
