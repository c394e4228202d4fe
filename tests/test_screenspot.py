"""ScreenSpot's three benchmarks as rows of `eval`."""

from collections.abc import Callable
from pathlib import Path

import pytest
import readers_data as made

from mm15_mlx.config import UserError
from mm15_mlx.readers import read
from mm15_mlx.summaries import can_slice
from mm15_mlx.tasks import Row, question, read_tasks


def rows(
    name: str, writer: Callable[[Path], None], folder: Path, split: str | None = None
) -> list[Row]:
    writer(folder)
    return read(name, folder, split)


def test_screenspot_boxes_are_corner_and_size(tmp_path: Path) -> None:
    desktop, web = rows("screenspot-v2", made.screenspot, tmp_path)
    assert desktop["box"] == [10, 20, 40, 60]
    assert question(desktop) == 'Where is the element for "close this window"?'
    assert (desktop["platform"], desktop["data_type"]) == ("desktop", "icon")
    assert web["platform"] == "web"
    assert Path(desktop["image"]) == tmp_path / "screenspotv2_image" / "a.png"


def test_screenspot_of_one_platform(tmp_path: Path) -> None:
    (row,) = rows("screenspot-v2", made.screenspot, tmp_path, "web")
    assert row["instruction"] == "search"


def test_screenspot_boxes_of_fractions_are_corners(tmp_path: Path) -> None:
    made.picture(tmp_path / "a.png")
    row = {"image": "a.png", "instruction": "go", "bbox": [0.1, 0.2, 0.3, 0.4]}
    made.write_lines(tmp_path / "test.jsonl", [row])
    (row,) = read("screenspot", tmp_path)
    assert row["box"] == pytest.approx([10, 40, 30, 80])


def test_a_box_that_no_answer_meets_stays_in_a_benchmark(tmp_path: Path) -> None:
    """Published numbers are over all rows; in a user's own file it is a mistake."""
    made.picture(tmp_path / "a.png")
    row = {"image": "a.png", "instruction": "go", "bbox": [0.5, 0.5, 0.5, 0.5]}
    made.write_lines(tmp_path / "test.jsonl", [row])
    (row,) = read("screenspot", tmp_path)
    assert row["box"] == pytest.approx([50, 100, 50, 100])
    made.write_lines(tmp_path / "own.jsonl", [row])
    with pytest.raises(UserError, match="which is empty; x1 < x2 and y1 < y2 must"):
        read_tasks(tmp_path / "own.jsonl")


def test_screenspot_pro_boxes_are_corners(tmp_path: Path) -> None:
    (row,) = rows("screenspot-pro", made.screenspot_pro, tmp_path)
    assert row["box"] == [10, 20, 30, 60]
    assert (row["id"], row["application"], row["ui_type"]) == ("cad_1", "cad", "icon")


@pytest.mark.parametrize(
    ("split", "found"),
    [
        (None, [("cad_1", "en", "zoom")]),
        ("en", [("cad_1", "en", "zoom")]),
        ("cn", [("cad_1-cn", "cn", "缩放")]),
        ("all", [("cad_1", "en", "zoom"), ("cad_1-cn", "cn", "缩放")]),
        ("windows", [("cad_1", "en", "zoom")]),
    ],
)
def test_languages_of_screenspot_pro(
    tmp_path: Path, split: str | None, found: list[tuple[str, str, str]]
) -> None:
    """Two rows about one place; a split that is no language is of the files."""
    made.screenspot_pro(tmp_path)
    read_rows = read("screenspot-pro", tmp_path, split)
    assert [(r["id"], r["language"], r["instruction"]) for r in read_rows] == found
    for row in read_rows:
        assert question(row) == f'Where is the element for "{row["instruction"]}"?'
        assert row["box"] == [10, 20, 30, 60] and can_slice([row], "language")


def test_a_row_without_a_chinese_instruction(tmp_path: Path) -> None:
    made.screenspot_pro(tmp_path)
    file = tmp_path / "annotations" / "cad_windows.json"
    file.write_text(file.read_text().replace("instruction_cn", "else"))
    assert len(read("screenspot-pro", tmp_path)) == 1
    with pytest.raises(UserError, match="row 1 lacks the key 'instruction_cn'"):
        read("screenspot-pro", tmp_path, "all")


def test_a_turned_box_is_another_format(tmp_path: Path) -> None:
    made.picture(tmp_path / "a.png")  # 30 wide is a corner left of the first
    made.write(
        tmp_path / "x.json",
        [{"img_filename": "a.png", "bbox": [50, 20, 30, 40], "instruction": "go"}],
    )
    with pytest.raises(UserError, match=r"x.json, row 1: the box \[50.*x1 ≤ x2.*form"):
        read("screenspot-pro", tmp_path / "x.json")


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    made.screenspot(tmp_path)
    with pytest.raises(
        UserError, match="no file of the split 'tv'; it has screenspot_"
    ):
        read("screenspot-v2", tmp_path, "tv")
    file = tmp_path / "screenspot_web_v2.json"
    with pytest.raises(
        UserError, match="is a file, so the split 'mobile' chooses noth"
    ):
        read("screenspot-v2", file, "mobile")
    assert len(read("screenspot-v2", file, "web")) == 1
