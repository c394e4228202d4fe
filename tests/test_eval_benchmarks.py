"""The verb `eval` on public benchmarks as users have them, videos among them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mm15_mlx import MM15, evaluate, processor
from mm15_mlx.generate import Result
from mm15_mlx.images import load_picture
from mm15_mlx.processor import Processor
from mm15_mlx.shots import read_shots
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
    seen: list[Result] = []

    def read_clip(source: str, *_: object) -> Clip:
        assert source == str(tmp_path / "a.mp4")
        return Clip(source, frames, [0.0, 1.0], 2.0)

    together = evaluate.answer_together

    def spy(*given: Any) -> list[Result]:
        seen.extend(together(*given))
        return seen[-1:]

    monkeypatch.setattr(processor, "read_clip", read_clip)
    monkeypatch.setattr(evaluate, "answer_together", spy)
    data = tmp_path / "tasks.jsonl"
    row = {"id": "1", "video": "a.mp4", "task": "vqa", "question": "What happens?",
           "answers": ["a"], "metric": "exact_match"}  # fmt: skip
    data.write_text(json.dumps(row))
    status, printed, complaint = cli("eval", "--model", ui_folder, "--data", data)
    assert status == 0, complaint
    assert printed.startswith("vqa ")
    (result,) = seen
    assert [shown.picture for shown in result.images] == frames
    assert result.videos[0].times == [0.0, 1.0]
    data.write_text(json.dumps({**row, "video": "b.mp4"}))
    status, _, complaint = cli("eval", "--model", ui_folder, "--data", data)
    assert status == 2 and "the video " in complaint and "does not exist" in complaint


@pytest.mark.parametrize("shots", [0, 1, 3])
@pytest.mark.parametrize("count", [1, 2])
def test_few_frames_are_not_split(
    count: int, shots: int, ui: tuple[MM15, Processor], tmp_path: Path
) -> None:
    """By their number they would be, and after examples the last one."""
    Image.new("RGB", (90, 160), "white").save(tmp_path / "shot.png")
    shot = {"image": "shot.png", "question": "What?", "answer": "Save"}
    (tmp_path / "shots.jsonl").write_text("\n".join([json.dumps(shot)] * shots))
    examples = read_shots(tmp_path / "shots.jsonl") if shots else []
    frames = [load_picture(Image.new("RGB", (90, 160), c)) for c in ("red", "blue")]
    clip = Clip("a.mp4", frames[:count], [0.0, 1.0][:count], 2.0)
    row = {"id": "1", "video": clip, "task": "vqa", "question": "Is <video> On?",
           "answers": ["a"], "metric": "exact_match"}  # fmt: skip
    (plain,) = evaluate.predictions(*ui, [row], shots=examples)
    (blind,) = evaluate.predictions(*ui, [row], blind=True, shots=examples)
    for done in (plain, blind):
        views = [len(p.tiling.indices) for p in done.result.images]
        assert views[-count:] == [1] * count
        assert [v.first for v in done.result.videos] == [shots]
    assert [p.picture for p in plain.result.images[shots:]] == clip.frames
    grey = blind.result.images[-1].picture.image
    assert grey.getcolors() == [(90 * 160, (128, 128, 128))]


def test_an_empty_question_is_one_line(
    ui_folder: Path, tmp_path: Path, cli: Cli
) -> None:
    Image.new("RGB", (90, 160), "white").save(tmp_path / "a.png")
    row = {"id": "q7", "image": "a.png", "task": "vqa", "question": " ",
           "answers": ["a"], "metric": "exact_match"}  # fmt: skip
    (tmp_path / "tasks.jsonl").write_text(json.dumps(row))
    data = tmp_path / "tasks.jsonl"
    status, _, complaint = cli("eval", "--model", ui_folder, "--data", data)
    assert status == 2
    message = "line 1: the question of q7 is empty; ask something"
    assert complaint == f"error: {data}, {message}\n"


def test_examples_stand_before_every_question(
    ui_folder: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read once, and a resumed run must have the same."""
    for name in ("a", "b", "shot"):
        Image.new("RGB", (90, 160), "white").save(tmp_path / f"{name}.png")
    rows = [
        {"id": f"{name}{k}", "image": f"{name}.png", "task": "ocr", "text": "x",
         "box": [1, 2, 30, 40]}
        for name in "ab" for k in range(2)
    ]  # fmt: skip
    data, shots = tmp_path / "tasks.jsonl", tmp_path / "shots.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    shot = {"image": "shot.png", "question": "What text is this?", "answer": "Save"}
    shots.write_text(json.dumps(shot))
    calls: list[int] = []
    read, together = evaluate.read_beginning, evaluate.answer_together

    def reading(*given: Any) -> Any:
        calls.append(len(given[2]))
        return read(*given)

    def answering(*given: Any) -> list[Result]:
        results = together(*given)
        assert all(len(r.images) == 2 for r in results)  # the example's and its own
        return results

    monkeypatch.setattr(evaluate, "read_beginning", reading)
    monkeypatch.setattr(evaluate, "answer_together", answering)
    out = tmp_path / "out.jsonl"
    arguments = ["eval", "--model", ui_folder, "--data", data, "--shots", shots]
    status, printed, complaint = cli(*arguments, "--predictions", out)
    assert status == 0, complaint
    assert printed.startswith("ocr ") and calls == [2]
    status, _, complaint = cli("eval", "--data", data, "--shots", tmp_path / "no.jsonl")
    assert status == 2 and "no.jsonl does not exist; give a JSONL" in complaint
