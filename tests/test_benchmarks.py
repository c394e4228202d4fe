"""The benchmarks' arithmetic, pictures and data; nothing here reads a real screen."""

import importlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from mm15_mlx.config import UserError
from mm15_mlx.crops import boxes
from mm15_mlx.evaluate import Prediction, Row, read_tasks, score
from mm15_mlx.screens.tasks import candidates, tasks

FOLDER = Path(__file__).parents[1] / "benchmarks"
DATA = FOLDER / "data"


Loader = Callable[[str], ModuleType]


@pytest.fixture
def benchmark_file(monkeypatch: pytest.MonkeyPatch) -> Loader:
    """Imports a script as `python benchmarks/NAME.py` would."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


@pytest.mark.parametrize("name", ["kill_training", "train_side_by_side", "curves"])
def test_a_script_that_has_no_test_here_is_imported(
    name: str, benchmark_file: Loader
) -> None:
    """They take from one another what may move."""
    assert callable(benchmark_file(name).main)


# --- held-out screens ------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["kits", "crops", "layouts-ten-kits", "new-words", "validation", "wide"]
)
def test_the_tasks_of_a_held_out_screen_are_what_its_annotation_gives(
    name: str,
) -> None:
    """Whatever is added to the maker, tasks with published figures stay the same."""
    index = (DATA / "screens" / name / "screens.jsonl").read_text(encoding="utf-8")
    screens = [json.loads(line) for line in index.split("\n") if line]
    made = [t for row in screens for t in tasks(row, f"screens/{name}", 2, 0)]
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    assert made == [json.loads(line) for line in lines if line]


def test_every_line_of_the_screens_of_unseen_kits_is_read() -> None:
    """`kits.jsonl` asks about two lines a screen, which tells little of reading."""
    index = (DATA / "screens" / "kits" / "screens.jsonl").read_text(encoding="utf-8")
    screens = [json.loads(line) for line in index.split("\n") if line]
    made = [t for row in screens for t in tasks(row, "screens/kits", 1000, 0)]
    rows = read_tasks(DATA / "kits-lines.jsonl")
    found = [{**row, "image": Path(row["image"]).name} for row in rows]
    lines = [{**t, "image": Path(t["image"]).name} for t in made if t["task"] == "ocr"]
    assert found == lines
    assert len(rows) == sum(len(row["texts"]) for row in screens) == 457


def test_every_annotated_screen_has_one_list_of_widgets() -> None:
    rows = read_tasks(DATA / "kits.jsonl")
    lists = [row for row in rows if row["task"] == "widgets"]
    assert len(lists) == len({row["image"] for row in rows}) == 24


def test_the_list_names_elements_as_the_model_does() -> None:
    row = {
        "texts": [],
        "elements": [
            {"type": "button", "icon": "back", "text": "", "box": [0, 0, 9, 9],
             "tappable": True},
            {"type": "switch", "label": "Wi-Fi", "box": [0, 9, 9, 19],
             "tappable": True},
        ],
    }  # fmt: skip
    (task,) = candidates(row, random.Random(0))["widgets"]
    assert task["elements"] == [
        {"type": "button", "text": "back", "box": [0, 0, 9, 9]},
        {"type": "switch", "text": "Wi-Fi", "box": [0, 9, 9, 19]},
    ]
    assert candidates({"texts": [], "elements": []}, random.Random(0))["widgets"] == []


# --- tables ----------------------------------------------------------------------


def done(task: str, image: str, said: str, **fields: str) -> Prediction:
    row = {"task": task, "image": image, "box": [0, 0, 9, 9], **fields}
    result = SimpleNamespace(text=said, boxes=[])
    return Prediction(row, result, score(row, result), 0.1)


def test_an_interval_resamples_screens(benchmark_file: Loader) -> None:
    tables = benchmark_file("tables")
    alike = [done("ocr", "a", "x", text="x"), done("ocr", "a", "y", text="x")]
    # one screen: its mean whatever is drawn, though its answers differ
    assert tables.bootstrap(alike, "exact") == (0.5, 0.5)
    apart = [done("ocr", str(k), "x" if k % 2 else "y", text="x") for k in range(100)]
    low, high = tables.bootstrap(apart, "exact")
    # the normal interval of 50 in 100: 0.5 ± 1.96 · 0.05
    assert low == pytest.approx(0.402, abs=0.02)
    assert high == pytest.approx(0.598, abs=0.02)
    assert tables.bootstrap(apart, "exact") == (low, high)


def test_the_interval_of_f1_is_that_of_its_counts(benchmark_file: Loader) -> None:
    tables = benchmark_file("tables")
    said = [("yes", "Yes"), ("yes", "No"), ("no", "Yes"), ("no", "No")]
    one = [done("tappable", "a", a, answer=t) for t, a in said]
    assert tables.bootstrap(one, "f1") == (0.5, 0.5)
    none = [done("tappable", "a", "No", answer="no")]
    assert tables.bootstrap(none, "f1") == (0.0, 0.0)


def test_tables(benchmark_file: Loader) -> None:
    tables = benchmark_file("tables")
    answers = [
        done("ocr", "a", "x", text="x", kit="weui"),
        done("ocr", "b", "y", text="x", kit="vant"),
        done("widget_class", "a", "button", type="button", kit="weui"),
    ]
    assert tables.main_table(answers, answers, "grey").splitlines() == [
        "| task | metric | screen | 95 % | grey | n |",
        "|---|---|---|---|---|---|",
        "| ocr | exact | 0.500 | 0.000–1.000 | 0.500 | 2 |",
        "| ocr | edit_similarity | 0.500 | 0.000–1.000 | 0.500 | 2 |",
        "| widget_class | accuracy | 1.000 | 1.000–1.000 | 1.000 | 1 |",
    ]
    assert tables.field_table(answers, "kit").splitlines() == [
        "| kit | ocr edit_similarity | widget_class accuracy |",
        "|---|---|---|",
        "| vant | 0.000 (1) | – |",
        "| weui | 1.000 (1) | 1.000 (1) |",
    ]
    assert "| button | 1.000 (1) |" in tables.field_table(answers, "type")
    kind = {"recall@0.5": 0.5, "typed_recall@0.5": 0.25, "precision@0.5": 1.0}
    kinds = tables.type_table({"tab": {**kind, "n": 4, "listed": 2}})
    assert kinds.endswith("| tab | 0.500 | 0.250 | 1.000 | 4 | 2 |")


def test_a_model_beside_its_answers_to_grey(
    benchmark_file: Loader,
    ui_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.new("RGB", (40, 60), "white").save(tmp_path / "a.png")
    row = {"id": "1", "image": "a.png", "task": "widget_class", "box": [0, 0, 30, 10],
           "type": "tab", "kit": "weui"}  # fmt: skip
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(row))
    script = benchmark_file("evaluate_nano_ui")
    assert script.main([str(path), "--model", str(ui_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| kit | widget_class accuracy |" in lines
    assert "| type | widget_class accuracy |" in lines
    report = json.loads(lines[-1])
    assert set(report["screen"]["slices"]) == {"kit", "type"}
    assert set(report["screen"]["intervals"]) == {"widget_class"}
    assert report["grey"]["n"] == 1
    assert script.main([str(path), "--task", "sing"]) == 2
    assert "tasks.jsonl has no task 'sing'" in capsys.readouterr().err


def test_a_model_beside_an_ocr_engine(
    benchmark_file: Loader,
    ui_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.new("RGB", (40, 60), "white").save(tmp_path / "a.png")
    one = {"image": "a.png", "box": [0, 0, 30, 10], "kit": "weui"}
    rows = [
        {"id": "1", "task": "ocr", "text": "Save", **one},
        {"id": "2", "task": "widget_class", "type": "tab", **one},
    ]
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    line = benchmark_file("baseline_ocr").Line("Save", (0, 0, 30, 12))
    script = benchmark_file("evaluate_nano_ui")
    flags = [str(path), "--model", str(ui_folder), "--ocr"]
    assert script.main(flags, lambda picture: [line]) == 0
    printed = capsys.readouterr().out
    asked = printed.split("| task | metric | screen | 95 % | RapidOCR + fuzzy matching")
    first = asked[1].splitlines()[2]
    assert first.startswith("| ocr | exact | 0.000 |")
    assert first.endswith("| 1.000 | 1 |")
    assert "widget_class" not in asked[1].partition("\n\n")[0]
    path.write_text(json.dumps(rows[1]))
    assert script.main(flags, lambda picture: []) == 2
    assert "has no task of find_text or ocr" in capsys.readouterr().err


# --- the baseline ----------------------------------------------------------------


def test_the_nearest_part_of_a_line(benchmark_file: Loader) -> None:
    nearest = benchmark_file("baseline_ocr").nearest_part
    assert nearest("fi", "wi-fi on") == (0, 3, 5)
    assert nearest("wifi", "my wi-fi") == (1, 3, 8)
    assert nearest("a", "") == (1, 0, 0)


def test_a_text_is_found_in_its_line_or_a_part_of_it(benchmark_file: Loader) -> None:
    ocr = benchmark_file("baseline_ocr")
    lines = [
        ocr.Line("17", (0, 0, 20, 10)),
        ocr.Line("7", (50, 0, 60, 10)),
        ocr.Line("Wi-Fi   On", (100, 20, 200, 40)),
    ]
    assert ocr.find("7", lines) == (50, 0, 60, 10)  # the whole line, not half of 17
    assert ocr.find("WI-FI", lines) == (100, 20, 150, 40)
    assert ocr.find("Wi-Fl", lines) == (100, 20, 150, 40)  # one letter misread
    assert ocr.find("Ω", lines) is None
    assert ocr.find("x", []) is None


def test_the_margin_of_a_detected_box(benchmark_file: Loader) -> None:
    ocr = benchmark_file("baseline_ocr")
    assert ocr.without_margin((0, 0, 400, 100)) == pytest.approx((19, 19, 381, 81))
    assert ocr.without_margin((0, 0, 40, 100)) == pytest.approx((10, 19, 30, 81))


def test_the_text_in_a_box_is_cut_from_its_lines(benchmark_file: Loader) -> None:
    ocr = benchmark_file("baseline_ocr")
    lines = [
        ocr.Line("low", (0, 30, 30, 40)),
        ocr.Line("Wi-Fi   On", (100, 20, 200, 40)),
        ocr.Line("top", (0, 0, 30, 10)),
    ]
    assert ocr.read((0, 0, 40, 50), lines) == "top low"
    assert ocr.read((175, 15, 210, 45), lines) == "On"
    assert ocr.read((0, 50, 40, 60), lines) == ""


def test_the_baseline_prints_the_table(
    benchmark_file: Loader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ocr = benchmark_file("baseline_ocr")
    Image.new("RGB", (40, 60), "white").save(tmp_path / "a.png")
    one = {"image": "a.png", "box": [0, 0, 30, 10], "text": "Save", "kit": "weui"}
    rows = [
        {"id": "1", "task": "find_text", **one},
        {"id": "2", "task": "ocr", **one},
        {"id": "3", "task": "widget_class", "type": "button", **one},
    ]
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    read = []

    def fake(picture: str) -> list[object]:
        read.append(picture)
        return [ocr.Line("Save", (0, 0, 30, 12))]

    assert ocr.main([str(path)], fake) == 0
    printed = capsys.readouterr().out
    assert len(read) == 1  # two tasks, one reading
    assert "| find_text | acc@0.5 | 1.000 | 1.000–1.000 | 1 |" in printed
    assert "| ocr | exact | 1.000 | 1.000–1.000 | 1 |" in printed
    report = json.loads(printed.splitlines()[-1])
    assert report["screen"]["n"] == 2
    path.write_text(json.dumps(rows[2]))
    assert ocr.main([str(path)], fake) == 2
    assert "has no task of find_text or ocr" in capsys.readouterr().err


def test_the_baseline_names_its_extra(
    benchmark_file: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnxruntime: pip install 'mm15-mlx"):
        benchmark_file("baseline_ocr").rapid_ocr()


# --- the failures ----------------------------------------------------------------

GREEN, RED = (47, 158, 68), (230, 25, 75)


def find(number: int, box: list[int], right: bool) -> Row:
    return {
        "id": f"{number}", "image": "a.png", "task": "find_text", "text": "Save",
        "box": [30, 30, 90, 60], "prediction": "", "boxes": [box],
        "scores": {"acc@0.5": float(right), "centre_in_box": 1.0},
    }  # fmt: skip


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """A task file and answers: one found text, two missed, one misread text."""
    Image.new("RGB", (150, 300), "white").save(tmp_path / "a.png")
    rows = [find(k, [30, 150, 120, 200], right=k == 0) for k in range(3)]
    ocr = {**rows[0], "id": "ocr", "task": "ocr", "prediction": "Sane"}
    rows.append({**ocr, "scores": {"exact": 0.0, "edit_similarity": 0.75}})
    for name in ("tasks.jsonl", "out.jsonl"):
        text = "\n".join(json.dumps(row) for row in rows)
        (tmp_path / name).write_text(text + "\n")
    return tmp_path


def run(failures: ModuleType, folder: Path, *more: str) -> int:
    files = [str(folder / name) for name in ("out.jsonl", "tasks.jsonl")]
    return failures.main([*files, "--out", str(folder / "sheets"), *more])


def test_sheets_of_failures(benchmark_file: Loader, answered: Path) -> None:
    failures = benchmark_file("failures")
    assert run(failures, answered) == 0
    sheets = answered / "sheets"
    assert {path.name for path in sheets.iterdir()} == {"find_text.png", "ocr.png"}
    with Image.open(sheets / "find_text.png") as sheet:
        # two failures; a screen of 150 × 300 is 300 × 600 there, from (12, 12) on
        assert sheet.width == 12 + 2 * (300 + 12)
        assert sheet.getpixel((12 + 58, 12 + 90)) == GREEN
        assert sheet.getpixel((12 + 58, 12 + 350)) == RED
        assert sheet.getpixel((12 + 10, 12 + 10)) == (255, 255, 255)
        captions = sheet.crop((12, 12 + 602, 312, sheet.height - 12))
        drawn = {color for _, color in captions.getcolors(1 << 20)}
        assert {GREEN, RED} <= drawn
    with Image.open(sheets / "ocr.png") as sheet:
        colors = {color for _, color in sheet.crop((0, 0, 324, 160)).getcolors(1 << 20)}
        assert GREEN in colors and RED not in colors  # the answer is a text


def test_the_same_seed_gives_the_same_sheet(
    benchmark_file: Loader, answered: Path
) -> None:
    failures = benchmark_file("failures")
    target = answered / "sheets" / "find_text.png"
    assert run(failures, answered, "--n", "1") == 0
    first = target.read_bytes()
    assert run(failures, answered, "--n", "1") == 0
    assert target.read_bytes() == first
    rows = [find(k, [0, 0, 1, 1], right=False) for k in range(50)]
    one, same, other = (dict(failures.pick(rows, 5, seed)) for seed in (1, 1, 2))
    assert one == same and one != other
    assert len(one["find_text"]) == 5


def test_captions(benchmark_file: Loader) -> None:
    failures = benchmark_file("failures")
    assert failures.captions(find(1, [0, 1, 2, 3], right=False)) == [
        "find: Save", "expected: 30, 30, 90, 60", "answered: 0, 1, 2, 3",
    ]  # fmt: skip
    kind = {
        "id": "7", "task": "widget_class", "box": [0, 0, 9, 9], "type": "button",
        "accept": ["link"], "prediction": "", "boxes": [],
    }  # fmt: skip
    said = ["7", "expected: button or link", "answered: nothing"]
    assert failures.captions(kind) == said
    listed = {
        "id": "8", "task": "widgets", "scores": {"recall@0.5": 0.5}, "prediction": "",
        "elements": [{"box": [0, 0, 9, 9]}] * 2, "listed": [{"px": [0, 0, 9, 9]}],
    }  # fmt: skip
    assert failures.captions(listed) == [
        "8", "2 elements, 1 listed", "recall@0.5 0.50",
    ]  # fmt: skip
    expected, found = boxes(listed)
    assert (len(expected), len(found)) == (2, 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "out.jsonl, line 1 is not a line of eval --predictions"),
        ('{"id": "1"}', "out.jsonl, line 1 is not a line of eval --predictions"),
        (json.dumps(find(9, [0, 0, 1, 1], False)), "the task file has no '9'; give"),
    ],
)
def test_answers_that_cannot_be_used(
    benchmark_file: Loader,
    answered: Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
    message: str,
) -> None:
    (answered / "out.jsonl").write_text(line + "\n")
    assert run(benchmark_file("failures"), answered) == 2
    assert message in capsys.readouterr().err


def test_mistakes(
    benchmark_file: Loader, answered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = benchmark_file("failures")
    assert run(failures, answered, "--n", "0") == 2
    assert "error: --n is 0; it must be at least 1" in capsys.readouterr().err
    (answered / "out.jsonl").unlink()
    assert run(failures, answered) == 2
    assert "does not exist; give a file of eval --predict" in capsys.readouterr().err
