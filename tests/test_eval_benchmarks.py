"""The verb `eval` on public benchmarks as users have them, videos among them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mm15_mlx import evaluate, processor
from mm15_mlx.generate import Result
from mm15_mlx.images import Picture, load_picture
from mm15_mlx.video import Clip
from tests import readers_data as made

Cli = Callable[..., tuple[int, str, str]]


def test_a_benchmark_is_read_and_scored_as_the_field_does(
    ui_folder: Path, tmp_path: Path, cli: Cli
) -> None:
    made.docvqa(tmp_path)
    arguments = ["eval", "--model", ui_folder, "--data", tmp_path, "--json"]
    status, printed, _ = cli(*arguments, "--format", "docvqa", "--split", "val")
    assert status == 0
    assert set(json.loads(printed)["metrics"]["vqa"]) == {"anls", "n"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format", "docvqua"], "no format 'docvqua'; did you mean docvqa?"),
        (["--split", "val"], "--split chooses a part of a benchmark; give --format"),
        (["--format", "docvqa", "--split", "tset"], "tset"),
    ],
)
def test_a_benchmark_that_cannot_be_read_is_one_line(
    flags: list[str], message: str, tmp_path: Path, cli: Cli
) -> None:
    made.docvqa(tmp_path)
    status, printed, complaint = cli("eval", "--data", tmp_path, *flags)
    assert (status, printed) == (2, "")
    assert complaint.startswith("error: ") and message in complaint
    assert complaint.count("\n") == 1


def test_a_row_about_a_video_is_asked_about_its_frames(
    ui_folder: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"not opened here")
    frames = [load_picture(Image.new("RGB", (90, 160), c)) for c in ("red", "blue")]
    asked: list[list[Picture]] = []

    def read_clip(source: str, *_: object) -> Clip:
        assert source == str(tmp_path / "a.mp4")
        return Clip(source, frames, [0.0, 1.0], 2.0)

    together = evaluate.answer_together

    def spy(*given: Any) -> list[Result]:
        asked.append(given[3])
        return together(*given)

    monkeypatch.setattr(processor, "read_clip", read_clip)
    monkeypatch.setattr(evaluate, "answer_together", spy)
    data = tmp_path / "tasks.jsonl"
    row = {"id": "1", "video": "a.mp4", "task": "vqa", "question": "What happens?",
           "answers": ["a"], "metric": "exact_match"}  # fmt: skip
    data.write_text(json.dumps(row))
    status, printed, complaint = cli("eval", "--model", ui_folder, "--data", data)
    assert status == 0, complaint
    assert printed.startswith("vqa ") and asked == [frames]
    data.write_text(json.dumps({**row, "video": "b.mp4"}))
    status, _, complaint = cli("eval", "--model", ui_folder, "--data", data)
    assert status == 2 and "the video " in complaint and "does not exist" in complaint
