"""Runs that are stopped and go on, and the files of answers."""

import json
import os
import re
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mm15_mlx.answered import (
    Run,
    header,
    ordered,
    prediction_row,
    read_predictions,
    said,
)
from mm15_mlx.config import UserError
from mm15_mlx.decoding import Options
from mm15_mlx.evaluate import Progress
from mm15_mlx.scores import score
from mm15_mlx.tasks import read_tasks

Cli = Callable[..., tuple[int, str, str]]
BOX = {"type": "text", "text": "Save", "box": [0, 0, 20, 30]}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Three pictures, two questions about each, in no order."""
    rows = []
    for name in "bac":
        Image.new("RGB", (90, 160), (ord(name), 80, 200)).save(tmp_path / f"{name}.png")
        one = {"image": f"{name}.png", "box": [0, 0, 9, 9], "text": "x"}
        rows.append({"id": f"{name}1", "task": "ocr", **one})
        rows.append({"id": f"{name}2", "task": "find_text", **one})
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return path


# Run as a program of its own: the third picture's questions end it like a power cut.
KILLED = """
import os, signal, sys
from mm15_mlx import cli, evaluate

answer, asked = evaluate.answer_together, []

def killed(*arguments):
    asked.append(1)
    if len(asked) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(*arguments)

evaluate.answer_together = killed
cli.main(sys.argv[1:])
"""


def test_a_killed_run_goes_on(
    button: Path, tasks: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tasks.parent / "whole.jsonl", tasks.parent / "out.jsonl"
    hidden = out.with_name(".out.jsonl.unfinished")
    verb = ["eval", "--model", button, "--data", tasks, "--predictions"]
    assert cli(*verb, whole)[0] == 0
    command = [sys.executable, "-c", KILLED, *map(str, verb), str(out)]
    environment = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[1]))
    assert subprocess.run(command, env=environment, capture_output=True).returncode < 0
    assert not out.exists()  # no half file under the name that was asked for
    assert len(hidden.read_text().splitlines()) == 1 + 4

    status, _, complaint = cli(*verb, out)
    assert status == 2
    assert "has answers of a run that was stopped; give --resume to go on" in complaint
    with hidden.open("a") as file:
        file.write('{"seconds": 0.1, "answer": {"id"')  # a line that was cut off

    asked = []
    from mm15_mlx import evaluate

    answer = evaluate.answer_together
    monkeypatch.setattr(
        evaluate, "answer_together", lambda *a: asked.append(len(a[2])) or answer(*a)
    )
    status, printed, said_so = cli(*verb, out, "--resume", "--json")
    assert status == 0 and asked == [2]  # one picture was left
    resuming, ended = said_so.splitlines()
    assert resuming == "resuming after 4 of 6 tasks"
    assert re.fullmatch(r"6/6 tasks · \d+\.\d\d s each · 0 min 00 s left", ended)
    assert json.loads(printed)["n"] == 6
    assert out.read_bytes() == whole.read_bytes()
    assert not hidden.exists()
    status, _, complaint = cli(*verb, out, "--resume")
    assert status == 2 and "out.jsonl is whole, there is nothing to resume" in complaint


@pytest.fixture
def stopped(button: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a run leaves that was interrupted before its first answer."""
    from mm15_mlx import evaluate

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    out = tasks.parent / "out.jsonl"
    with monkeypatch.context() as patched:
        patched.setattr(evaluate, "answer_together", stop)
        wanted = evaluate.Wanted(predictions=out)
        with pytest.raises(KeyboardInterrupt):
            evaluate.run(str(button), tasks, wanted)
    return out


def test_a_run_goes_on_with_the_same_things_only(
    button: Path, tasks: Path, stopped: Path, cli: Cli, tmp_path: Path
) -> None:
    def resume(*more: str | Path, model: Path = button) -> str:
        verb = ["eval", "--model", model, "--data", tasks, "--predictions", stopped]
        status, _, complaint = cli(*verb, "--resume", *more)
        assert status == 2
        return complaint

    assert "--resume: the stopped run of" in resume("--kv-bits", "8")
    assert "had other options; ask as it did, or give --force" in resume(
        "--kv-bits", "8"
    )
    assert "had other tasks or pictures" in resume("--limit", "2")
    shots = tmp_path / "shots.jsonl"
    shots.write_text('{"image": "a.png", "question": "?", "answer": "Yes"}')
    assert "had other examples; ask as it did" in resume("--shots", shots)
    Image.new("RGB", (90, 160), "black").save(tasks.parent / "a.png")
    assert "had other tasks or pictures" in resume()
    ui_copy = Path(shutil.copytree(button, tmp_path / "model"))
    config = ui_copy / "config.json"
    config.write_text(config.read_text().replace("{", "{ ", 1))
    assert "had another model or other adapters" in resume(model=ui_copy)
    hidden = stopped.with_name(".out.jsonl.unfinished")
    head = {**json.loads(hidden.read_text()), "version": "0"}
    Image.new("RGB", (90, 160), (ord("a"), 80, 200)).save(tasks.parent / "a.png")
    hidden.write_text(json.dumps(head))
    assert "had another version of mm15-mlx" in resume()
    hidden.write_text("nonsense")
    assert ".out.jsonl.unfinished cannot be read; give --force to begin" in resume()


def test_how_long_a_run_will_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line for every fifty tasks; a resumed run counts the time of its own ones."""
    from mm15_mlx import evaluate

    now = [100.0]
    monkeypatch.setattr(evaluate.time, "perf_counter", lambda: now[0])

    def lines(total: int, done: int, *groups: int) -> list[str]:
        with Progress(total, done) as progress:
            for group in groups:
                now[0] += 0.5 * group
                progress.add(group)
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()

    assert lines(130, 0, 30, 30, 30, 30, 10) == [
        "60/130 tasks · 0.50 s each · 0 min 35 s left",
        "120/130 tasks · 0.50 s each · 0 min 05 s left",
        "130/130 tasks · 0.50 s each · 0 min 00 s left",
    ]
    assert lines(1000, 940, 5, 5, 50) == [
        "950/1000 tasks · 0.50 s each · 0 min 25 s left",
        "1000/1000 tasks · 0.50 s each · 0 min 00 s left",
    ]


def test_force_begins_again(button: Path, tasks: Path, stopped: Path, cli: Cli) -> None:
    verb = ["eval", "--model", button, "--data", tasks, "--predictions", stopped]
    assert cli(*verb, "--force")[0] == 0
    assert len(stopped.read_text().splitlines()) == 6


def test_resuming_needs_a_file(button: Path, tasks: Path, cli: Cli) -> None:
    status, _, complaint = cli("eval", "--data", tasks, "--resume")
    assert status == 2
    assert "--resume goes on with a file; give --predictions too" in complaint


def test_half_a_group_is_answered_again(button: Path, tasks: Path) -> None:
    rows = read_tasks(tasks)
    groups = ordered(rows)
    assert [[r["id"] for r in g] for g in groups] == [
        ["a1", "a2"], ["b1", "b2"], ["c1", "c2"],
    ]  # fmt: skip
    head = header(button, None, rows, rows, Options())
    run = Run(tasks.parent / "out.jsonl", head, force=False, resume=True)
    answered = [groups[1][0], groups[0][1], groups[0][0]]  # in another order
    line = {"boxes": [], "scores": {"exact": 1.0}}
    run.lines = [
        {"seconds": 0.25, "answer": {**row, **line, "prediction": row["id"]}}
        for row in answered
    ]
    done = run.done(groups)
    assert [(p.row["id"], p.result.text) for p in done] == [("a1", "a1"), ("a2", "a2")]
    assert done[0].seconds == 0.25
    assert run.done([]) == []


def test_a_run_goes_on_from_another_folder(
    button: Path,
    tasks: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Relative paths stand in another order than absolute ones; every row still gets
    its own answer."""
    from mm15_mlx import evaluate

    picture = tmp_path_factory.mktemp("zz") / "z.png"
    Image.new("RGB", (90, 160), "red").save(picture)
    rows = [json.loads(line) for line in tasks.read_text().splitlines()]
    rows.append({**rows[0], "id": "z1", "image": str(picture)})
    tasks.write_text("\n".join(json.dumps(row) for row in rows))
    answer, asked = evaluate.answer_together, []

    def stopping(*arguments: Any) -> Any:
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return answer(*arguments)

    out = tasks.parent / "out.jsonl"
    verb = ["eval", "--model", button, "--predictions", out]
    monkeypatch.setattr(evaluate, "answer_together", stopping)
    monkeypatch.chdir(tasks.parent)
    assert cli(*verb, "--data", "tasks.jsonl")[0] == 130
    monkeypatch.setattr(evaluate, "answer_together", answer)
    monkeypatch.chdir(picture.parent)
    status, _, complaint = cli(*verb, "--data", tasks, "--resume")
    assert status == 0 and complaint.startswith("resuming after 3 of 7 tasks")
    lines = read_predictions(out)
    asked_for = [row["id"] for group in ordered(read_tasks(tasks)) for row in group]
    assert [line["id"] for line in lines] == asked_for
    own = {row["id"]: row["task"] for row in rows}
    for line in lines:
        assert line["task"] == own[line["id"]]
        assert ("exact" in line["scores"]) == (line["task"] == "ocr")


def test_what_answers_hang_on(button: Path, tasks: Path, tmp_path: Path) -> None:
    rows = read_tasks(tasks)

    def head(rows: Any, corpus: Any = (), adapters: Path | None = None) -> Any:
        return header(button, adapters, rows, corpus or rows, Options())

    same = head(rows)
    assert head(rows) == same
    caption = {"task": "screen_summary", "references": ["a list"]}
    assert head(rows, [*rows, caption])["data"] != same["data"]  # CIDEr's weights
    turned = [{**r, "image": rows[2]["image"]} for r in rows]
    assert head(turned)["data"] != same["data"]
    film = {"id": "1", "task": "vqa", "video": str(tmp_path / "v.mp4")}
    (tmp_path / "v.mp4").write_bytes(b"film")
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "v.mp4").write_bytes(b"film")
    moved = {**film, "video": str(tmp_path / "moved" / "v.mp4")}
    assert head([film])["data"] == head([moved])["data"]  # wherever it lies
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "adapters.safetensors").write_bytes(b"1")
    assert head(rows, (), tmp_path / "adapters")["weights"] != same["weights"]
    # a file that is too large to be read whole still tells
    large = tmp_path / "large"
    large.mkdir()
    (large / "model.safetensors").write_bytes(bytes(20 << 20))
    before = header(large, None, rows, rows, Options())
    (large / "model.safetensors").write_bytes(b"\1" * (20 << 20))
    assert header(large, None, rows, rows, Options())["weights"] != before["weights"]


def test_lines_are_read_back(tmp_path: Path) -> None:
    line = {
        "id": "1", "image": "a.png", "task": "widgets", "elements": [BOX],
        "prediction": 'text "Save" [0, 0, 1, 1]', "boxes": [[0, 0, 9, 9.5]],
        "points": [[4, 4.5]], "scores": {"recall@0.5": 1.0},
        "listed": [{"type": "text", "text": "Save", "px": [0, 0, 9, 9.5],
                    "norm": [0, 0, 1, 1]}],
    }  # fmt: skip
    path = tmp_path / "out.jsonl"
    path.write_text(json.dumps(line) + "\n")
    (read,) = read_predictions(path)
    row = {k: line[k] for k in ("id", "image", "task", "elements")}
    assert prediction_row(said(row, read)) == line
    del line["points"]  # as earlier versions wrote it
    path.write_text(json.dumps(line) + "\n")
    (read,) = read_predictions(path)
    assert prediction_row(said(row, read)) == {**line, "points": []}


def test_a_point_is_an_answer(
    answering: Callable[..., Path], tmp_path: Path, cli: Cli
) -> None:
    """ScreenSpot counts an answer whose point lies in the box; a run says the same of
    a line that it reads back."""
    Image.new("RGB", (100, 200), "white").save(tmp_path / "a.png")
    row = {"image": "a.png", "task": "find_widget", "query": "x"}
    rows = [{**row, "id": "in", "box": [10, 20, 30, 60]},
            {**row, "id": "out", "box": [50, 20, 80, 60]}]  # fmt: skip
    data, out = tmp_path / "tasks.jsonl", tmp_path / "out.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    verb = ["eval", "--model", answering((200, 250)), "--data", data]
    status, printed, _ = cli(*verb, "--json", "--predictions", out)
    found = json.loads(printed)["metrics"]["find_widget"]
    assert status == 0 and found == {"acc@0.5": 0, "centre_in_box": 0.5, "n": 2}
    for line in read_predictions(out):
        assert (line["boxes"], line["points"]) == ([], [[20, 50]])
        assert score(line, said(line, line).result) == line["scores"]


def test_a_video_is_hashed_in_pieces(tmp_path: Path) -> None:
    """It may be larger than memory; every byte counts."""
    path = tmp_path / "a.mp4"
    size = 64 << 20
    path.touch()
    os.truncate(path, size)
    row = {"id": "1", "video": str(path), "task": "vqa", "question": "?",
           "answers": ["a"], "metric": "exact_match"}  # fmt: skip
    (tmp_path / "model").mkdir()

    def data() -> str:
        return header(tmp_path / "model", None, [row], [row], Options())["data"]

    tracemalloc.start()
    before = data()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    with path.open("r+b") as file:
        file.seek(size - 1)
        file.write(b"x")
    assert data() != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "out.jsonl, line 1 is not a line of eval --predictions"),
        ("[]", "out.jsonl, line 1 is not a line of eval --predictions"),
        ('{"id": "1", "task": "ocr", "prediction": "", "boxes": []}', "line 1 is not"),
        ('{"id": "1", "task": "ocr", "prediction": "", "boxes": [], "scores": 1}',
         "line 1 is not"),
        ('{"id": "1", "task": ["x"], "prediction": "", "boxes": [], "scores": {}}',
         "line 1 is not"),
        ('{"id": "1", "task": "ocr", "prediction": null, "boxes": [], "scores": {}}',
         "line 1 is not"),
        ('{"id": "1", "task": "ocr", "prediction": "", "boxes": [[1]], "scores": {}}',
         "line 1 is not"),
        ('{"id": "1", "task": "ocr", "prediction": "", "boxes": [],'
         ' "scores": {"exact": null}}', "line 1 is not"),
        ('{"id": "1", "task": "ocr", "prediction": "", "boxes": [],'
         ' "scores": {"exact": "1"}}', "line 1 is not"),
        ('{"id": "1", "task": "ocr", "prediction": "", "boxes": [],'
         ' "scores": {"exact": NaN}}', "line 1 is not"),
        ('{"id": "\\ud83d", "task": "ocr", "prediction": "", "boxes": [],'
         ' "scores": {}}', "line 1 is not"),
        ('{"id": "1", "task": "ocr", "prediction": "", "boxes": [], "points": [[1]],'
         ' "scores": {}}', "line 1 is not"),
        ('{"id": "1", "task": "sing", "prediction": "", "boxes": [], "scores": {}}',
         "line 1 is not"),
        ('{"id": "1", "task": "ocr", "prediction": "", "boxes": [], "scores": {}}\n'
         '{"id": 1, "task": "ocr", "prediction": "", "boxes": [], "scores": {}}',
         "line 2 has the id 1 of line 1; answers are told apart by id and task"),
    ],
)  # fmt: skip
def test_files_that_are_no_answers(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_predictions(path)


def test_a_file_of_answers_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder; give a file of eval --predicti"):
        read_predictions(tmp_path)
    (tmp_path / "out.jsonl").write_bytes(b'{"id": "\xff"}')
    with pytest.raises(UserError, match=r"out.jsonl is not UTF-8 text: .*save it as"):
        read_predictions(tmp_path / "out.jsonl")


def test_a_missing_file_of_answers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; give a file of eval --pre"):
        read_predictions(tmp_path / "no.jsonl")
