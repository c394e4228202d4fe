"""The OCR self-check of annotated screens, with a reader that only pretends to read."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from mm15_mlx.config import UserError
from mm15_mlx.screens import check

KITS = ("weui", "vant")


class FakeReader:
    """Answers what stands on the screen of that shade, wrong where told."""

    def __init__(self, wrong: Sequence[int] = ()) -> None:
        self.wrong = wrong
        self.sizes: list[tuple[int, int]] = []

    def __call__(self, picture: Image.Image) -> str:
        self.sizes.append(picture.size)
        shade = picture.getpixel((picture.width // 2, picture.height // 2))[0]
        return "zzz" if shade in self.wrong else f" SCREEN {shade}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty grey screens in two kits; screen k has shade k and says so."""
    (tmp_path / "images").mkdir()
    with (tmp_path / "screens.jsonl").open("w") as rows:
        for k in range(40):
            name = f"images/{k}.png"
            Image.new("RGB", (200, 100), (k, k, k)).save(tmp_path / name)
            texts = [
                {"text": f"Screen {k}", "box": [10, 10, 90, 24]},
                {"text": f"screen {k}", "box": [10, 60, 90, 74]},
                {"text": f"Screen {k}", "box": [0, 0, 9, 9], "dimmed": True},
            ]
            row = {"image": name, "kit": KITS[k % 4 == 0], "texts": texts}
            rows.write(json.dumps(row) + "\n")
    return tmp_path


def run(folder: Path, *flags: str, reader: check.Reader | None = None) -> int:
    return check.main(["--screens", str(folder), *flags], reader or FakeReader())


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("OK", True),
        ("36%", True),
        ("a", False),
        ("•••••", False),
        ("— · —", False),
        ("Compact Chargi…", False),
        ("Loading...", False),
        ("  x ", False),
    ],
)
def test_readable(text: str, yes: bool) -> None:
    assert check.readable({"text": text}) is yes
    assert check.readable({"text": text, "dimmed": True}) is False


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Don’t “Stop”", 'don\'t"stop"'),
        ("9–5 · Mon—Fri", "9-5 • Mon-Fri"),
        ("2 × 3", "2x3"),
        ("4:30，now", "4:30,NOW"),
        ("´a`", "'a'"),
    ],
)
def test_folded_alike(a: str, b: str) -> None:
    assert check.folded(a) == check.folded(b)


@pytest.mark.parametrize(("a", "b"), [("Il", "11"), ("O2", "02"), ("Save", "Safe")])
def test_letters_stay_apart(a: str, b: str) -> None:
    assert check.folded(a) != check.folded(b)


def test_pick_takes_kits_in_turn_and_new_screens_first(folder: Path) -> None:
    rows = check.read_rows(folder)
    samples = check.pick(rows, 20, 0)
    assert Counter(s.kit for s in samples) == {"weui": 10, "vant": 10}
    assert len({s.image for s in samples}) == 20
    assert samples == check.pick(rows, 20, 0) != check.pick(rows, 20, 1)
    every = check.pick(rows, 500, 0)
    assert len(every) == 80 and all(s.box[2] > 9 for s in every)


def test_crops_have_a_margin_and_are_enlarged() -> None:
    picture = Image.new("RGB", (200, 100))
    assert check.crop(picture, (10, 10, 90, 20)).size == (313, check.HEIGHT)
    assert check.crop(picture, (0, 0, 200, 100)).size == (200, 100)


def test_everything_agrees(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reader = FakeReader()
    assert run(folder, "--n", "30", reader=reader) == 0
    assert len(reader.sizes) == 30 and {h for _, h in reader.sizes} == {check.HEIGHT}
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split() for line in out.splitlines()] == [
        ["kit", "n", "agree", "exact"],
        ["vant", "15", "100.0", "%", "100.0", "%"],
        ["weui", "15", "100.0", "%", "100.0", "%"],
        ["all", "30", "100.0", "%", "100.0", "%"],
    ]


def test_disagreements_are_listed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, "--n", "80", reader=FakeReader([1, 4])) == 1
    out = capsys.readouterr().out
    assert "all                 80  95.0 %  95.0 %" in out
    worst = (
        "0.00 weui images/1.png [10, 10, 90, 24] annotated 'Screen 1', read 'zzz'",
        "0.00 vant images/4.png [10, 60, 90, 74] annotated 'screen 4', read 'zzz'",
    )
    assert all(line in out.splitlines() for line in worst)
    assert run(folder, "--n", "80", reader=FakeReader([1])) == 0, "97.5 %"


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--n", "80", "--json", reader=FakeReader([1, 4])) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["n"], found["agree"], found["exact"]) == (80, 0.95, 0.95)
    assert found["kits"]["vant"] == {"n": 20, "agree": 0.9, "exact": 0.9}
    assert len(found["disagreements"]) == 4
    assert set(found["disagreements"][0]) == {
        "image", "kit", "text", "box", "read", "similarity",
    }  # fmt: skip


def test_a_small_slip_agrees_but_is_not_exact(folder: Path) -> None:
    samples = check.pick(check.read_rows(folder), 4, 0)
    for reading in check.compare(folder, samples, lambda _: samples[0].text + "."):
        if reading.sample is samples[0]:
            assert reading.agrees and not reading.exact


def test_several_folders_are_one_sample(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.new("RGB", (200, 100), (90, 90, 90)).save(other / "90.png")
    text = {"text": "Screen 91", "box": [10, 10, 90, 24]}
    row = {"image": "90.png", "kit": "ionic", "texts": [text]}
    (other / "screens.jsonl").write_text(json.dumps(row) + "\n")
    flags = ["--screens", str(folder), str(other), "--n", "100", "--json"]
    assert check.main(flags, FakeReader()) == 0
    found = json.loads(capsys.readouterr().out)
    assert {kit: part["n"] for kit, part in found["kits"].items()} == {
        "ionic": 1, "vant": 20, "weui": 60,
    }  # fmt: skip
    (bad,) = found["disagreements"]
    assert bad["image"] == str(other / "90.png") and bad["read"] == " SCREEN 90"


def test_a_sheet_shows_boxes_to_look_at(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "boxes.png"
    flags = "--n", "9", "--sheet", str(target)
    assert run(folder, *flags, reader=FakeReader(range(40))) == 1
    with Image.open(target) as sheet:
        colors = {color for _, color in sheet.convert("RGB").getcolors(1 << 20)}
        assert sheet.width == check.ACROSS * (check.CELL[0] + check.GAP) + check.GAP
        assert sheet.height > 2 * check.CELL[1]
    assert (0xD1, 0x24, 0x2F) in colors  # the outline, and what disagrees


def test_the_outline_is_where_the_box_is() -> None:
    picture = Image.new("RGB", (400, 400), "white")
    picture.paste((0, 0, 255), (100, 200, 200, 220))
    cell = check.surroundings(picture, (100, 200, 200, 220))
    assert cell.size == check.CELL
    red, blue = (0xD1, 0x24, 0x2F), (0, 0, 255)
    middle = [cell.getpixel((x, check.CELL[1] // 2)) for x in range(check.CELL[0])]
    at = [x for x, color in enumerate(middle) if color == red]
    assert len(at) == 2 and sum(at) == pytest.approx(check.CELL[0], abs=2)
    assert at[1] - at[0] == pytest.approx(240, abs=2)
    assert all(color == blue for color in middle[at[0] + 4 : at[1] - 3])
    assert blue not in middle[: at[0] - 3] + middle[at[1] + 4 :]


def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, flags, message in (
        (folder / "no", (), f"error: the folder {folder}/no does not exist\n"),
        (folder, ("--n", "0"), "error: --n must be at least 1\n"),
        (folder, ("--sheet", "x.gif"), "error: --sheet x.gif must end in .png, "),
        (folder / "images", (), f"error: {folder}/images has no screens.jsonl: "),
    ):
        assert run(place, *flags) == 2
        assert capsys.readouterr().err.startswith(message)
    (folder / "screens.jsonl").write_text('{"image": "", "kit": "a", "texts": []}\n')
    assert run(folder) == 2
    assert capsys.readouterr().err.endswith("has no text that OCR could read\n")


@pytest.mark.parametrize("package", ["rapidocr", "onnxruntime"])
def test_a_missing_package_names_the_extra(
    package: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import types

    for name in ("rapidocr", "onnxruntime"):
        fake = types.ModuleType(name)
        fake.RapidOCR = None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError):
        check.rapid_reader()
    assert check.main(["--screens", str(folder)]) == 2
    assert capsys.readouterr().err == (
        f"error: screens.check needs {package}: pip install 'mm15-mlx[check]'\n"
    )
