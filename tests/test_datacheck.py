"""The verbs `data check` and `data preview`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from training import ROWS, asked, write

from mm15_mlx import preview
from mm15_mlx.datacheck import histogram
from mm15_mlx.preview import regions
from mm15_mlx.training_rows import read_rows

Cli = Callable[..., tuple[int, str, str]]


def test_good_data(ui_folder: Path, screen: Path, tmp_path: Path, cli: Cli) -> None:
    folder = write(tmp_path / "d", screen, [*ROWS, asked("a", "b") | {"category": "t"}])
    write(folder, screen, [ROWS[2]], "valid")
    status, out, err = cli("data", "check", folder, "--model", ui_folder)
    assert (status, err) == (0, "")
    assert "train: 6 rows, 0 bad, 1 pictures, " in out and "valid: 1 rows" in out
    assert "  categories: all 5, t 1" in out and out.endswith("all good\n")
    assert "warning: valid.jsonl, row 1 is also train.jsonl, row 3" in out


def test_bad_data(ui_folder: Path, screen: Path, tmp_path: Path, cli: Cli) -> None:
    folder = write(tmp_path, screen, [ROWS[0], asked("a", ""), "{"])
    status, out, _ = cli("data", "check", folder, "--model", ui_folder)
    assert status == 1
    assert "bad: train.jsonl, row 2: an empty answer" in out
    assert "2 bad rows; `train` would refuse them" in out
    status, out, _ = cli("data", "check", folder, "--model", ui_folder, "--json")
    report = json.loads(out)
    assert status == 1 and report["bad_rows"] == 2
    tokens = report["splits"]["train"]["tokens"]
    assert tokens["min"] == tokens["max"] == tokens["histogram"][0][0]


def test_histogram() -> None:
    assert histogram([5, 5]) == [(5, 5, 2)]
    bars = histogram([1, 2, 20, 40])
    assert bars[0] == (1, 5, 2) and sum(count for *_, count in bars) == 4
    assert bars[-1][0] <= 40 <= bars[-1][1]


def test_preview(ui_folder: Path, screen: Path, tmp_path: Path, cli: Cli) -> None:
    long = asked("a " * 400, "b")
    folder = write(tmp_path, screen, [*ROWS, long, asked("a", "")])
    out = tmp_path / "sheet.png"
    words = ("data", "preview", folder, "--out", out, "--model", ui_folder)
    status, stdout, err = cli(*words)
    assert (status, stdout) == (0, "")
    assert "warning: 1 bad rows are not shown" in err and f"wrote {out} (6 rows)" in err
    with Image.open(out) as sheet:
        assert sheet.width == 12 + 5 * 312
        colors = {c for _, c in sheet.convert("RGB").getcolors(1 << 20)}
    assert (230, 25, 75) in colors  # the first box's pen
    status, _, err = cli(*words)
    assert status == 2 and "exists; give --force to overwrite it" in err
    assert cli(*words, "--force", "--limit", "1")[0] == 0


@pytest.mark.parametrize(("ending", "most"), [(".webp", 16383), (".jpg", 65500)])
def test_a_sheet_that_its_format_cannot_hold(
    ending: str, most: int, ui_folder: Path, screen: Path, tmp_path: Path, cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = write(tmp_path, screen, ROWS)
    out = tmp_path / f"sheet{ending}"
    high = Image.new("RGB", (10, most + 1))
    monkeypatch.setattr(preview, "sheet", lambda *_: high)
    words = ("data", "preview", folder, "--out", out, "--model", ui_folder)
    status, _, err = cli(*words, "--limit", "4")
    assert status == 2 and f"the sheet has 10 × {most + 1} pixels, and {ending}" in err
    assert f"holds {most} at most; give a --limit below 4, or .png" in err
    assert sorted(p.name for p in tmp_path.glob("*sheet*")) == []
    high = Image.new("RGB", (10, most))
    assert cli(*words)[0] == 0


def test_places_in_answers_are_labelled(screen: Path, tmp_path: Path) -> None:
    folder = write(tmp_path, screen, [ROWS[0], ROWS[4]])
    first, second = read_rows(folder / "train.jsonl")[0]
    boxes, points = regions(first, [1])
    assert [(b.label, b.px) for b in boxes] == [("answer", (20, 150, 100, 180))]
    assert points == []
    boxes, points = regions(second, [1])
    assert boxes == [] and [(p.label, p.px) for p in points] == [("", (60, 10))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("check", "nowhere"), "nowhere is no folder; give one with train.jsonl"),
        (("check", "empty"), "empty has no train.jsonl (or train.json); write one"),
        (("check", "none"), "none has no rows to train on; put them into none/train.j"),
        (
            ("check", "d", "--max-seq-length", "0"),
            "--max-seq-length is 0; it must be 2 or more",
        ),
        (("preview", "d", "--out", "a.gif"), "--out a.gif must end in .png, .jpg or"),
        (("preview", "d", "--out", "x/a.png"), "the folder x does not exist"),
        (("preview", "d", "--out", "a.png", "--split", "dev"), "--split is 'dev'; use"),
        (("preview", "empty", "--out", "a.png"), "empty has no train.jsonl; write one"),
        (("preview", "d", "--out", "a.png"), "d has no good row in train; see"),
    ],
)
def test_mistakes(
    words: tuple[str, ...],
    message: str,
    ui_folder: Path,
    screen: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "d", screen, ["{"])
    write(tmp_path / "none", screen, [])
    status, _, err = cli("data", *words, "--model", ui_folder)
    assert status == 2 and message in err
