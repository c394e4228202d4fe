"""Files that verbs write: where none can be is said before anything runs."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mm15_mlx import evaluate, outputs
from mm15_mlx.config import UserError
from mm15_mlx.outputs import output_file

Cli = Callable[..., tuple[int, str, str]]


def test_what_exists_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    output_file(path, force=False)
    path.touch()
    output_file(path, force=True)
    with pytest.raises(UserError, match="out.jsonl exists; give --force to overwrite"):
        output_file(path, force=False)


@pytest.mark.parametrize("force", [False, True])
def test_where_no_file_can_be(
    tmp_path: Path, force: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(UserError) as error:
            output_file(path, force)
        return str(error.value)

    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path) == f"{tmp_path} is a folder; name a file in it"
    assert refused(tmp_path / "pipe") == f"{tmp_path}/pipe is not a file; name another"
    missing = f"{tmp_path}/no/out: the folder {tmp_path}/no does not exist"
    assert refused(tmp_path / "no" / "out") == missing
    for length in (300, 250):  # what stands beside it has a longer name
        complaint = refused(tmp_path / ("a" * length))
        assert "a cannot be written: File name too long; name another" in complaint
    monkeypatch.setattr(outputs.os, "access", lambda *_: False)  # root may do all
    readonly = f"out cannot be written: the folder {tmp_path} is read-only; name anoth"
    assert readonly in refused(tmp_path / "out")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--predictions", "."], ". is a folder; name a file in it"),
        (["--predictions", ".", "--resume"], ". is a folder; name a file in it"),
        (["--html", "."], ". is a folder; name a file in it"),
        (["--predictions", "a" * 250, "--resume"], "cannot be written: File name too"),
        (["--html", "a" * 250], "cannot be written: File name too long; name another"),
        (["--predictions", "o", "--html", "./o"],
         "--predictions and --html are both o; name two files"),
        (["--predictions", "o", "--data", "twice.jsonl"],
         "--predictions tells rows apart by task and id, and ocr "
         "'1' comes twice in the tasks; make ids unique"),
        (["--data", "."], "error: . is a folder; give a JSONL file of tasks"),
        (["--against", "."], "error: . is a folder; give a file of eval --predictions"),
    ],
)  # fmt: skip
def test_eval_says_so_before_anything_runs(
    ui_folder: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "load_processor", None)
    Image.new("RGB", (90, 160), "white").save("a.png")
    row = {"id": "1", "image": "a.png", "task": "ocr", "box": [0, 0, 9, 9], "text": "x"}
    Path("tasks.jsonl").write_text(json.dumps(row))
    Path("twice.jsonl").write_text("\n".join([json.dumps(row)] * 2))
    verb = ["eval", "--model", ui_folder, "--data", "tasks.jsonl", "--force"]
    status, printed, complaint = cli(*verb, *flags)
    assert (status, printed) == (2, "")
    assert complaint.startswith("error: ") and complaint.count("\n") == 1
    assert message in complaint
    assert sorted(os.listdir()) == ["a.png", "tasks.jsonl", "twice.jsonl"]
