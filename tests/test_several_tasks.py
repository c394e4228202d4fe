"""Tasks about several screens: the shipped ones follow from their annotations."""

import re
from collections import Counter
from pathlib import Path

import pytest

from mm15_mlx.screens import several_tasks
from mm15_mlx.tasks import read_tasks

DATA = Path(__file__).parent.parent / "benchmarks" / "data"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    out = tmp_path_factory.mktemp("tasks") / "several.jsonl"
    folders = [str(DATA / "screens" / name) for name in ("kits", "pairs", "flows")]
    with pytest.MonkeyPatch.context() as patch:
        flags = ["--screens", *folders, "--out", str(out), "--which", "72"]
        patch.setattr("sys.argv", ["several_tasks", *flags])
        several_tasks.main()
    return read_tasks(out)


def test_the_shipped_tasks_follow_from_annotations_and_seed(made: list[dict]) -> None:
    shipped = read_tasks(DATA / "several.jsonl")
    for row in (*made, *shipped):
        row["images"] = [Path(p).resolve() for p in row["images"]]
    assert made == shipped


def test_answers_can_be_scored_and_not_be_guessed(made: list[dict]) -> None:
    assert {row["task"] for row in made} == {"vqa"}
    assert len({row["id"] for row in made}) == len(made)
    assert not any("<box" in answer for row in made for answer in row["answers"])
    which = [r for r in made if r["asks"].startswith("which")]
    first = Counter(r["answers"][0] for r in which)
    assert set(first) == {"first", "second"} and min(first.values()) > 30
    order = [r for r in made if r["asks"] == "order"]
    assert all(len(r["images"]) == 4 for r in order) and len(order) >= 40
    for row in order:
        assert re.fullmatch(r"[1-4](, [1-4]){3}", row["answers"][0])
        assert row["answers"] != ["1, 2, 3, 4"]


def test_what_happened_is_asked_again_without_the_names(made: list[dict]) -> None:
    changed = [r for r in made if r["asks"] == "changed"]
    how = [r for r in made if r["asks"] == "changed_how"]
    assert [r["images"] for r in how] == [r["images"] for r in changed]
    for asked, whole in zip(how, changed, strict=True):
        (said,) = asked["answers"]
        assert asked["metric"] == "contains" and said in whole["answers"][0]
        assert re.fullmatch(r"was (turned )?[a-z]+|changed", said)
    assert len({r["answers"][0] for r in how}) > 6
    said = Counter(r["answers"][0] for r in how)
    assert max(said.values()) < 0.4 * len(how)  # nothing to be guessed
    row = {
        "id": "1",
        "asks": "changed",
        "answers": ['"was cut" changed from "a" to "b"'],
    }
    assert [r["answers"] for r in several_tasks.hows([row])] == [["changed"]]
