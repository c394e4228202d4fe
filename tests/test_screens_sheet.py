"""The contact sheet and the progress of `mm15-mlx data screens`, without a browser."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageColor

from mm15_mlx.config import UserError
from mm15_mlx.screens import build, progress, sheet
from mm15_mlx.screens.__main__ import main

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven screens of 100 × 200 pixels, the last row half-written."""
    out = tmp_path / "screens"
    (out / "images").mkdir(parents=True)
    with (out / "screens.jsonl").open("w") as rows:
        for k in range(7):
            Image.new("RGB", (100, 200), "white").save(out / f"images/{k}.png")
            row = {
                "image": f"images/{k}.png",
                "kit": "weui",
                "layout": "settings",
                "texts": [{"text": "Save", "box": [20, 110, 60, 125]}],
                "elements": [{"type": "button", "box": [10, 20, 90, 60]}],
            }
            rows.write(json.dumps(row) + "\n")
        rows.write('{"image": "images/7.')
    return out


def test_every_type_has_its_own_color() -> None:
    colors = [ImageColor.getrgb(c) for c in (*sheet.COLORS.values(), sheet.TEXT_COLOR)]
    assert len(colors) == len(set(colors)) == 14


def test_boxes_are_drawn_where_they_are(folder: Path) -> None:
    row = sheet.read_rows(folder, 1)[0]
    small = sheet.draw_screen(sheet.open_picture(folder, row), row, 200)
    assert small.size == (200, 400)
    assert small.getpixel((18, 80)) == ImageColor.getrgb(sheet.COLORS["button"])
    assert small.getpixel((100, 80)) == (255, 255, 255)
    red, green, blue = small.getpixel((80, 235))
    assert red == 255 and green < blue < 255, "the text box is tinted"
    row["elements"][0]["type"] = "carousel"
    small = sheet.draw_screen(sheet.open_picture(folder, row), row, 200)
    assert small.getpixel((18, 80)) == (0, 0, 0)


def test_a_sheet_holds_the_first_screens(folder: Path, tmp_path: Path) -> None:
    rows = sheet.read_rows(folder)
    assert len(rows) == 7
    one, two = (sheet.draw_sheet(folder, rows[:n], 5, 100) for n in (5, 6))
    assert one.width == two.width == sheet.GAP + 5 * (100 + sheet.GAP)
    assert 200 < two.height - one.height < 250
    target = tmp_path / "sheet.png"
    assert sheet.write_sheet(folder, target, 3) == 3
    with Image.open(target) as image:
        assert image.width == sheet.GAP + 3 * (sheet.WIDTH + sheet.GAP)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["sheet.png"]


def test_a_long_caption_is_cut() -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=12)
    assert sheet.fitting("kit/layout", 300, font) == "kit/layout"
    cut = sheet.fitting("framework7-ios/search-results", 60, font)
    assert cut.endswith("…") and font.getlength(cut) <= 60


def test_sheet_alone(cli: Cli, folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    flags = ("data", "screens", "--out", folder, "--n", "0", "--sheet", target)
    code, out, err = cli(*flags, "--sheet-of", "2")
    assert (code, out, err) == (0, "", f"wrote {target} (2 screens)\n")
    code, out, err = cli(*flags)
    assert (code, out) == (2, "")
    assert err == f"error: {target} exists; give --force to overwrite it\n"
    assert cli(*flags, "--force")[0] == 0
    with Image.open(target) as image:
        assert image.width == sheet.GAP + 5 * (sheet.WIDTH + sheet.GAP)


def test_sheet_after_rendering(
    cli: Cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple] = []
    monkeypatch.setattr(build, "render_screens", lambda *a: calls.append(a))
    target = tmp_path / "a.webp"
    flags = ("data", "screens", "--out", folder, "--n", "3", "--sheet", target)
    assert cli(*flags)[0] == 0
    assert target.is_file() and len(calls) == 1
    assert cli(*flags)[0] == 2 and len(calls) == 1, "refused before rendering"


@pytest.mark.parametrize(
    ("out", "target", "message"),
    [
        ("screens", "a.gif", "--sheet {tmp}/a.gif must end in .png, .jpg or .webp"),
        ("screens", "no/a.png", "--sheet {tmp}/no/a.png: the folder {tmp}/no does not"),
        ("screens", "dir.png", "--sheet {tmp}/dir.png is a folder; name a file"),
        ("none", "a.png", "the folder {tmp}/none does not exist"),
        ("dir.png", "a.png", "{tmp}/dir.png has no screens.jsonl: render screens"),
    ],
)
def test_sheet_mistakes(
    cli: Cli, folder: Path, tmp_path: Path, out: str, target: str, message: str
) -> None:
    (tmp_path / "dir.png").mkdir()
    code, printed, err = cli(
        "data", "screens", "--out", tmp_path / out, "--n", "0",
        "--sheet", tmp_path / target,
    )  # fmt: skip
    assert (code, printed) == (2, "") and err.count("\n") == 1
    assert err.startswith("error: " + message.format(tmp=tmp_path))
    assert not (tmp_path / "a.png").exists()


def test_no_screens_need_a_sheet(cli: Cli, folder: Path) -> None:
    code, _, err = cli("data", "screens", "--out", folder, "--n", "0")
    assert code == 2
    assert err == "error: Invalid value for '--n': 0 screens need --sheet\n"


def test_damaged_folders(folder: Path, tmp_path: Path) -> None:
    (folder / "images/1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"images/1\.png cannot be read"):
        sheet.write_sheet(folder, tmp_path / "a.png")
    index = folder / "screens.jsonl"
    index.write_text('{"image": 1}\nnonsense\n')
    with pytest.raises(UserError, match=r"screens\.jsonl, line 2 is not JSON"):
        sheet.read_rows(folder)
    index.write_text("")
    with pytest.raises(UserError, match="has no finished row yet"):
        sheet.read_rows(folder)
    with pytest.raises(UserError, match="--sheet-of must be at least 1"):
        sheet.write_sheet(folder, tmp_path / "a.png", 0)


def test_the_module_draws_sheets_too(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["screens", "--out", str(folder), "--n", "0", "--sheet"]
    monkeypatch.setattr(sys, "argv", [*argv, str(tmp_path / "a.jpg")])
    assert main() == 0 and (tmp_path / "a.jpg").is_file()
    assert main() == 2
    assert capsys.readouterr().err.endswith("give --force to overwrite it\n")


# -- progress ----------------------------------------------------------------------


def test_progress_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown(60) as step:
        for _ in range(60):
            step()
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(",")[0] for line in err.splitlines()] == [
        "25/60 screens", "50/60 screens", "60/60 screens",
    ]  # fmt: skip
    assert all(line.endswith("/s") for line in err.splitlines())


def test_progress_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with progress.shown(3) as step:
        for _ in range(3):
            step()
    assert "3/3 screens" in terminal.getvalue() and "━" in terminal.getvalue()
    assert "/s" in terminal.getvalue() and "0:00:" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_a_stopped_run_puts_the_terminal_back(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt), progress.shown(3) as step:
        step()
        raise KeyboardInterrupt
    assert terminal.getvalue().rstrip().endswith("\x1b[?25h"), "the cursor is back"
