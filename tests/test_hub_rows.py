"""Training rows in tables: parquet, saved data sets, and what is said without them."""

import builtins
from pathlib import Path
from typing import Any

import pytest
from training import ROWS, run_settings, write

from mm15_mlx import datacheck, preview, train
from mm15_mlx.config import UserError
from mm15_mlx.dataset import read_split
from mm15_mlx.hub_rows import is_table
from mm15_mlx.load import load_processor

LLAVA = [{"from": "human", "value": "<image>\nWhat is this?"},
         {"from": "gpt", "value": "button"}]  # fmt: skip


def test_what_names_a_table(tmp_path: Path) -> None:
    assert is_table(Path("owner/name")) and not is_table(Path("name"))
    assert not is_table(Path("a/b/c")) and not is_table(Path("../name"))
    assert not is_table(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "validation-00000-of-00001.parquet").touch()
    assert is_table(tmp_path)


@pytest.mark.parametrize("stray", ["train.parquet", "dataset_info.json"])
def test_json_lines_with_a_stray_table_are_json_lines(
    stray: str, ui_folder: Path, screen: Path, tmp_path: Path
) -> None:
    folder = write(tmp_path, screen, ROWS)
    (folder / stray).write_text("{}")
    assert not is_table(folder)
    processor = load_processor(ui_folder)
    assert read_split(folder, "train", processor).read == len(ROWS)
    assert read_split(folder, "valid", processor).read == 0


def test_a_missing_package_is_named(
    tmp_path: Path, ui_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.parquet").touch()
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "datasets":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="reading them needs datasets: pip install"):
        read_split(tmp_path, "train", load_processor(ui_folder))


@pytest.mark.parametrize("saved", [False, True], ids=["parquet", "save_to_disk"])
def test_tables_are_the_same_rows(
    saved: bool, ui_folder: Path, screen: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Pictures as `datasets` stores them give the ids and keys of JSON lines."""
    datasets = pytest.importorskip("datasets", reason="needs the extra data")
    monkeypatch.setattr(
        datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache", raising=False
    )
    processor = load_processor(ui_folder)
    expected = read_split(write(tmp_path / "d", screen, ROWS), "train", processor)
    features = datasets.Features({
        "messages": datasets.List(
            {"role": datasets.Value("string"), "content": datasets.Value("string")}
        ),
        "images": datasets.List(datasets.Image()),
    })  # fmt: skip
    picture = {"bytes": screen.read_bytes(), "path": None}
    rows = [
        {"messages": r["messages"], "images": [picture] * len(r.get("images", ()))}
        for r in ROWS
    ]
    bad = {"messages": ROWS[1]["messages"], "images": [{"bytes": b"x", "path": None}]}
    empty = {"messages": [], "images": []}
    table = datasets.Dataset.from_list([*rows, bad, empty], features=features)
    folder = tmp_path / "t"
    if saved:
        table.save_to_disk(str(folder))
    else:
        folder.mkdir()
        table.to_parquet(str(folder / "train-00000-of-00001.parquet"))
    found = read_split(folder, "train", processor)
    for a, b in zip(expected.samples, found.samples, strict=True):
        assert (
            a.ids.tolist() == b.ids.tolist() and a.learnt.tolist() == b.learnt.tolist()
        )
        assert [p.key for p in a.pictures] == [p.key for p in b.pictures]
    assert sorted(p.partition(": ")[2][:40] for p in found.problems) == [
        "its conversation is empty",
        "picture 1 of t train, row 6 is not a pic",
    ]
    reopened = found.samples[0].pictures[0].open(processor)
    assert reopened.key == expected.samples[0].pictures[0].key
    assert read_split(folder, "valid", processor).read == 0
    assert datacheck.run(folder, str(ui_folder), None, json=False) == 1
    preview.run(folder, tmp_path / "s.png", "train", 9, str(ui_folder), force=False)
    assert (tmp_path / "s.png").exists()


def test_llavas_columns(
    ui_folder: Path, screen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the extra data")
    monkeypatch.setattr(
        datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache", raising=False
    )
    table = datasets.Dataset.from_list(
        [{"conversations": LLAVA, "image": {"bytes": screen.read_bytes()}}]
    )
    (tmp_path / "t").mkdir()
    table.to_parquet(str(tmp_path / "t" / "train.parquet"))
    processor = load_processor(ui_folder)
    found = read_split(tmp_path / "t", "train", processor)
    assert not found.problems and len(found.samples[0].pictures) == 1
    other = datasets.Dataset.from_list([{"text": "a"}])
    (tmp_path / "o").mkdir()
    other.to_parquet(str(tmp_path / "o" / "train.parquet"))
    with pytest.raises(UserError, match="o has the columns text; rows need messages"):
        read_split(tmp_path / "o", "train", processor)
    (tmp_path / "o" / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="o cannot be read as a data set: .*; give a"):
        read_split(tmp_path / "o", "train", processor)


def test_a_hub_id_is_asked_for_by_its_name(
    ui_folder: Path, screen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's own splits, trained on and validated; and what is said without it."""
    datasets = pytest.importorskip("datasets", reason="needs the extra data")
    picture = {"bytes": screen.read_bytes(), "path": None}
    table = datasets.Dataset.from_list([
        {"messages": ROWS[k]["messages"], "images": [picture] * shown}
        for k, shown in ((0, 1), (1, 1), (2, 0))
    ], features=datasets.Features({
        "messages": datasets.List(
            {"role": datasets.Value("string"), "content": datasets.Value("string")}
        ),
        "images": datasets.List(datasets.Image()),
    }))  # fmt: skip
    asked_for: list[str] = []

    def hub(name: str) -> Any:
        asked_for.append(name)
        if name != "owner/name":
            raise ConnectionError(f"Couldn't reach '{name}' on the Hub\nmore")
        short = table.select([1])
        return datasets.DatasetDict({"train": table, "validation": short})

    monkeypatch.setattr(datasets, "load_dataset", hub)
    monkeypatch.chdir(tmp_path)
    processor = load_processor(ui_folder)
    found = read_split(Path("owner/name"), "train", processor)
    local = read_split(write(tmp_path / "d", screen, ROWS[:3]), "train", processor)
    assert [s.ids.tolist() for s in found.samples] == [
        s.ids.tolist() for s in local.samples
    ]
    assert found.samples[1].where == "name train, row 2"
    settings = run_settings(ui_folder, Path("owner/name"), tmp_path / "a")
    report, status = train.run(settings | {"iters": 3})
    assert (status, report["steps"]) == (0, 3) and report["best"] is not None
    assert set(asked_for) == {"owner/name"}
    with pytest.raises(
        UserError, match="owner/none cannot be read as a data set: Couldn't reach 'own"
    ):
        train.run(settings | {"data": "owner/none"}, force=True)
