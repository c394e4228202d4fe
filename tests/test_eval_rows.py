"""What `eval` finds in rows before it loads any weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mm15_mlx import evaluate
from tests import readers_data as made

Cli = Callable[..., tuple[int, str, str]]
GOOD = {"id": "1", "image": "a.png", "task": "ocr", "box": [0, 0, 9, 9], "text": "x"}
VQA = {"id": "2", "task": "vqa", "question": "Which?", "answers": ["x"],
       "metric": "exact_match"}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a good picture and one that is cut short."""
    Image.effect_noise((90, 160), 50).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_model(*_: object) -> None:
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(evaluate, "load_model", load_model)


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**GOOD, "id": "2", "image": "cut.png"}, "cut.png is damaged or cut"),
        ({**VQA, "images": ["a.png"] * 400}, "for 400 pictures; the model's context"),
        ({**VQA, "image": "a.png", "question": " "}, "the question of 2 is empty; ask"),
        ({**VQA, "image": "a.png", "question": "<image> <image>"},
         "the prompt has 2 placeholders <image> for 1 pictures"),
        ({**VQA, "image": "a.png", "question": "<box>200,0,300,9</box>?"},
         "<box>200,0,300,9</box> lies outside the picture of 90 × 160 pixels"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_asked_is_found_before_weights_load(
    ui_folder: Path,
    folder: Path,
    unloaded: None,
    cli: Cli,
    row: dict[str, Any],
    message: str,
) -> None:
    data, out = write(folder, GOOD, row), folder / "out.jsonl"
    verb = ["eval", "--model", ui_folder, "--data", data]
    status, printed, complaint = cli(*verb, "--predictions", out)
    assert (status, printed) == (2, "")
    assert complaint.startswith(f"error: {data}, line 2: ")
    assert message in complaint and complaint.count("\n") == 1
    assert not out.with_name(".out.jsonl.unfinished").exists()


def test_a_row_of_a_benchmark_is_named_by_its_id(
    ui_folder: Path, tmp_path: Path, unloaded: None, cli: Cli
) -> None:
    made.docvqa(tmp_path)
    (picture,) = (p for p in tmp_path.rglob("*") if p.suffix in (".png", ".jpg"))
    picture.write_bytes(b"not a picture")
    verb = ["eval", "--model", ui_folder, "--data", tmp_path, "--format", "docvqa"]
    status, _, complaint = cli(*verb, "--split", "val")
    assert status == 2
    assert complaint.startswith(f"error: {tmp_path}, ")
    assert f": {picture} is not a picture this program reads" in complaint


def test_examples_are_checked_before_weights_load(
    ui_folder: Path, folder: Path, unloaded: None, cli: Cli
) -> None:
    shots = folder / "shots.jsonl"
    shots.write_text(
        '{"image": "a.png", "question": "?", "answer": "[200, 0, 300, 9]"}'
    )
    verb = ["eval", "--model", ui_folder, "--data", write(folder, GOOD)]
    status, _, complaint = cli(*verb, "--shots", shots)
    assert status == 2 and "shots.jsonl, line 1: <box>200,0,300,9</box>" in complaint


def test_only_rows_that_are_left_are_checked(
    button: Path, folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on does not open again what it has answered."""
    Image.new("RGB", (90, 160), "red").save(folder / "b.png")
    data = write(folder, GOOD, {**GOOD, "id": "2", "image": "b.png"})
    verb = ["eval", "--model", button, "--data", data]
    verb += ["--predictions", folder / "out.jsonl"]
    answer, asked = evaluate.answer_together, []

    def stopping(*arguments: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return answer(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "answer_together", stopping)
        assert cli(*verb)[0] == 130
    opened = []
    load_picture = evaluate.load_picture
    monkeypatch.setattr(
        evaluate,
        "load_picture",
        lambda p: opened.append(Path(p).name) or load_picture(p),
    )
    assert cli(*verb, "--resume")[0] == 0
    assert opened == ["b.png", "b.png"]  # to be checked, to be asked about
