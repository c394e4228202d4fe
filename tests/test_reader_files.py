"""What the readers of benchmarks share: files, errors, pictures in the data."""

import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import readers_data as made

from mm15_mlx.config import UserError
from mm15_mlx.readers import READERS, read
from mm15_mlx.readers.records import numbers
from mm15_mlx.tasks import checked, question

WRITERS: dict[str, tuple[Callable[[Path], None], str | None]] = {
    "screenspot": (made.screenspot, None),
    "screenspot-v2": (made.screenspot, None),
    "screenspot-pro": (made.screenspot_pro, None),
    "refcoco": (made.refcoco_original, "testA"),
    "refcoco+": (made.refcoco_mdetr, "testA"),
    "refcocog": (made.refcoco_exported, "val"),
    "flickr30k-entities": (made.flickr30k, "test"),
    "screen2words": (made.screen2words, "test"),
    "widget-captioning": (made.widget_captioning, "test"),
    "ferret-ui": (made.ferret_ui, None),
    "textvqa": (made.textvqa, "val"),
    "docvqa": (made.docvqa, "val"),
    "infovqa": (made.infovqa, "val"),
    "chartqa": (made.chartqa, "test"),
    "ocrbench": (made.ocrbench, None),
    "nlvr2": (made.nlvr2, "dev"),
    "muirbench": (made.muirbench, "test"),
    "vl-icl": (made.vl_icl, None),
    "nextqa": (made.nextqa, "val"),
}


@pytest.mark.parametrize("name", READERS)
def test_rows_can_be_evaluated(tmp_path: Path, name: str) -> None:
    writer, split = WRITERS[name]
    writer(tmp_path)
    found = read(name, tmp_path / "open_mi" if name == "vl-icl" else tmp_path, split)
    assert len({r["id"] for r in found}) == len(found)
    for row in found:
        assert question(row)
        if "video" not in row:
            assert checked(row, "row", Path("/")) == row


def test_the_paper_table_names_every_format_and_no_other() -> None:
    page = Path(__file__).parents[1] / "benchmarks" / "paper_table.md"
    named = re.findall(r"--format ([\w+-]+)", page.read_text(encoding="utf-8"))
    assert set(named) == set(READERS)


def test_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="no format 'docqa'; did you mean docvqa. There"
    ):
        read("docqa", tmp_path)
    with pytest.raises(UserError, match="no format 'x'; there are screenspot, screens"):
        read("x", tmp_path)


def test_folders_that_are_something_else(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"gone does not exist; give the benchmark's fi"
    ):
        read("docvqa", tmp_path / "gone")
    with pytest.raises(
        UserError, match=r"holds none of \*_v1.0\*.json, .*as it was pub"
    ):
        read("docvqa", tmp_path)
    made.write(tmp_path / "val_v1.0.json", {"data": []})
    with pytest.raises(UserError, match="holds no rows of docvqa"):
        read("docvqa", tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{", r"a.json is not JSON: "),
        ("a.jsonl", '{"image": "p.png"}\n{', r"a.jsonl, line 2 is not JSON: "),
        ("a.json", "[3]", "a.json, row 1 is not an object"),
        ("a.json", '{"data": 3}', "a.json: 'data' is not a list of rows"),
        ("a.json", '[{"question": "?"}]', "row 1 lacks the key 'image'"),
        (
            "a.json",
            '[{"image": "q.png"}]',
            r"row 1: the file q.png is in none of .*doc",
        ),
        ("a.json", '[{"image": 3}]', "row 1: 3 is not a picture; give a path or bytes"),
        (
            "a.json",
            '[{"image": "p.png", "question": true}]',
            "row 1: question is True; it must be a text",
        ),
        (
            "a.json",
            '[{"image": "p.png", "question": "?", "answers": [{}]}]',
            "row 1: answers must hold texts, not",
        ),
        ("a.zip", "PK", "is none of JSON, JSONL, CSV, TSV and parquet; name one"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    made.picture(tmp_path / "p.png")
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        read("docvqa", tmp_path / name)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"instances.json": {}}, "holds instances.json without refs.*.json; add it"),
        (
            {"instances.json": {"annotations": 3}, "refs.json": []},
            r"instances.json: 'annotations' is not a list of objects",
        ),
        (
            {
                "instances.json": {"annotations": [], "images": []},
                "refs.json": [{"ann_id": 1, "image_id": 1, "split": "val"}],
            },
            "refs.json, row 1 lacks the key 'sentences'",
        ),
        (
            {
                "instances.json": {
                    "annotations": [{"id": 1, "bbox": [1, 2, 3, 4]}],
                    "images": [],
                },
                "refs.json": [
                    {"ann_id": 1, "image_id": 5, "split": "val", "sentences": []}
                ],
            },
            "refs.json, row 1: .*instances.json has no image 5",
        ),
        (
            {"finetune_refcoco_val.json": {"images": [{"id": 1}], "annotations": []}},
            "finetune_refcoco_val.json, image 1 lacks the key 'file_name'",
        ),
    ],
)
def test_refcoco_files_that_do_not_fit(
    tmp_path: Path, files: dict[str, Any], said: str
) -> None:
    for name, data in files.items():
        made.write(tmp_path / name, data)
    with pytest.raises(UserError, match=said):
        read("refcoco", tmp_path)


@pytest.mark.parametrize(
    ("part", "changed", "said"),
    [
        ("annotations", {"id": None}, "annotation 1: id is None; it must be a number"),
        ("annotations", {"id": [7]}, r"annotation 1: id is \[7\]; it must be a number"),
        ("annotations", {}, "instances.json, annotation 1 lacks the key 'id'"),
        ("images", {"id": {}}, "image 1: id is {}; it must be a number or a text"),
        ("images", {}, "instances.json, image 1 lacks the key 'id'"),
        ("images", {"id": 7, "file_name": 3}, "row 1: .*image 7: file_name is 3; it m"),
    ],
)
def test_refcoco_objects_without_a_use(
    tmp_path: Path, part: str, changed: dict[str, Any], said: str
) -> None:
    made.refcoco_original(tmp_path)
    data = json.loads((tmp_path / "instances.json").read_text())
    made.write(tmp_path / "instances.json", data | {part: [changed]})
    with pytest.raises(UserError, match=said):
        read("refcoco", tmp_path)


@pytest.mark.parametrize(
    ("part", "changed", "said"),
    [
        (
            "annotations",
            {"bbox": [1, 2, 3, 4]},
            "annotation 1 lacks the key 'image_id'",
        ),
        (
            "annotations",
            {"image_id": []},
            r"annotation 1: image_id is \[\]; it must be",
        ),
        ("images", {"caption": 5}, "image 1: caption is 5; it must be a text"),
        ("images", {"file_name": None}, "image 1: file_name is None; it must be a te"),
        ("images", {"id": [1]}, r"image 1: id is \[1\]; it must be a number or a text"),
    ],
)
def test_mdetr_objects_without_a_use(
    tmp_path: Path, part: str, changed: dict[str, Any], said: str
) -> None:
    made.refcoco_mdetr(tmp_path)
    file = tmp_path / "finetune_refcoco_testA.json"
    data = json.loads(file.read_text())
    kept = data[part][0] if part == "images" else {}
    made.write(file, data | {part: [kept | changed]})
    with pytest.raises(UserError, match=said):
        read("refcoco", tmp_path)


def test_a_picture_in_base64_where_a_path_belongs(tmp_path: Path) -> None:
    row = {"image": "iVBOR" * 60, "instruction": "go", "bbox": [1, 2, 3, 4]}
    made.write_lines(tmp_path / "a.jsonl", [row])
    with pytest.raises(UserError) as caught:
        read("screenspot", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'a.jsonl'}, row 1: the file {'iVBOR' * 8}… (300 characters) "
        "cannot be looked for: File name too long; give a path, or in a TSV whole "
        "base64"
    )


def test_flickr_boxes_without_numbers(tmp_path: Path) -> None:
    made.flickr30k(tmp_path)
    file = tmp_path / "Annotations" / "36.xml"
    file.write_text(file.read_text().replace("<xmin>11</xmin>", ""))
    with pytest.raises(UserError, match="36.xml: a bndbox lacks a number"):
        read("flickr30k-entities", tmp_path, "test")


def test_a_picture_whose_size_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    row = {"image": "a.png", "instruction": "go", "bbox": [0.1, 0.2, 0.3, 0.4]}
    made.write_lines(tmp_path / "a.jsonl", [row])
    with pytest.raises(UserError, match="row 1: .*a.png is not a picture: cannot"):
        read("screenspot", tmp_path)


def test_vl_icl_without_its_questions(tmp_path: Path) -> None:
    made.vl_icl(tmp_path)
    (tmp_path / "open_mi" / "query.json").unlink()
    with pytest.raises(UserError, match="query.json does not exist; give the benchm"):
        read("vl-icl", tmp_path / "open_mi")
    (tmp_path / "operator_induction" / "support.json").unlink()
    with pytest.raises(UserError, match="support.json cannot be read: No such file"):
        read("vl-icl", tmp_path / "operator_induction")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'["\xff"]')
    with pytest.raises(
        UserError, match=r"a.json is not UTF-8 text: invalid start byte"
    ):
        read("docvqa", tmp_path / "a.json")


def test_numbers() -> None:
    assert numbers((1, 2.5), 2, "size") == [1, 2.5]
    for bad in ([1], [1, "2"], [1, float("nan")], None, [1, 2, 3], [1, -(10**400)]):
        with pytest.raises(UserError, match=r"size is .*; it must be 2 numbers"):
            numbers(bad, 2, "size")


# --- pictures inside the data ------------------------------------------------------


def parquet_row(data: bytes) -> dict[str, Any]:
    image = {"bytes": data, "path": None}
    return {"questionId": "1", "question": "?", "image": image, "answers": ["a"]}


def fake_parquet(monkeypatch: pytest.MonkeyPatch, *row: dict[str, Any]) -> None:
    """A pyarrow of which every file holds these rows."""

    class File:
        def __init__(self, path: Path) -> None:
            self.path = path

        def iter_batches(self, batch_size: int) -> list[Any]:
            return [types.SimpleNamespace(to_pylist=lambda: list(row))]

    module = types.ModuleType("pyarrow")
    module.ArrowException = RuntimeError
    module.parquet = types.SimpleNamespace(ParquetFile=File)
    monkeypatch.setitem(sys.modules, "pyarrow", module)


def test_pictures_in_parquet_are_put_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_parquet(monkeypatch, parquet_row(made.picture_bytes()))
    file = tmp_path / "data" / "validation-00000-of-00001.parquet"
    file.parent.mkdir()
    file.write_bytes(b"PAR1")
    (row,) = read("docvqa", tmp_path, "val")
    assert Path(row["image"]).parent.name == file.name + ".pictures"
    assert Path(row["image"]).read_bytes() == made.picture_bytes()
    assert not list(Path(row["image"]).parent.glob(".*"))


def test_bytes_that_are_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_parquet(monkeypatch, parquet_row(b"<svg/>"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="row 1 holds bytes that are no picture of PNG"):
        read("docvqa", tmp_path)


def test_pictures_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_parquet(monkeypatch, parquet_row(made.picture_bytes()))
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "a.parquet.pictures").write_text("in the way")
    with pytest.raises(
        UserError, match=r"row 1 holds a picture that cannot be written "
    ):
        read("docvqa", tmp_path)


def test_parquet_without_pyarrow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        UserError, match=r"a.parquet is parquet, which needs pyarrow: pip"
    ):
        read("docvqa", tmp_path)


def test_real_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [parquet_row(made.picture_bytes(k)) for k in (0, 90)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "val-0.parquet")
    found = read("docvqa", tmp_path, "val")
    assert len({r["image"] for r in found}) == 2
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(UserError, match=r"bad.parquet cannot be read as parquet: "):
        read("docvqa", tmp_path / "bad.parquet")
