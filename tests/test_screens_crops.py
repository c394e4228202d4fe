"""Parts of annotated screens: boxes go where the pixels go."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from black_box import BOX, screen
from PIL import Image

from mm15_mlx.screens import crops
from mm15_mlx.screens.crops import crop, part_of, part_size
from mm15_mlx.screens.tasks import main as write_tasks
from mm15_mlx.tasks import read_tasks


def test_a_part_is_a_picture_of_its_own() -> None:
    row, part = crop(*screen(), (30, 100, 130, 200))
    assert part.size == (row["width"], row["height"]) == (100, 100)
    ys, xs = np.nonzero(np.asarray(part.convert("L")) < 128)
    seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    assert row["texts"][0]["box"] == seen == [10, 20, 60, 50]
    assert row["texts"][0]["edges"] == [10, 35, 60]
    assert [e["box"] for e in row["elements"]] == [seen]  # the whole is cut too much
    row, _ = crop(*screen(), (50, 0, 150, 200))
    assert row["texts"] == [] and row["elements"][0]["box"] == [0, 120, 40, 150]


def test_the_screen_is_not_changed() -> None:
    row, image = screen()
    crop(row, image, (10, 10, 50, 130))
    assert row == screen()[0] and image.size == (200, 400)


@pytest.mark.parametrize("seed", range(20))
def test_a_part_lies_within_its_screen(seed: int) -> None:
    rng = Random(seed)
    part = part_size((390, 844), rng)
    assert 195 <= part[0] <= 390 and 168 <= part[1] <= 676
    x1, y1, x2, y2 = part_of((390, 844), part, rng)
    assert 0 <= x1 and 0 <= y1 and x2 <= 390 and y2 <= 844
    assert (x2 - x1, y2 - y1) == part


def test_parts_of_a_folder_are_asked_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, image = screen()
    line = {"text": "Save", "box": BOX, "edges": [40, 50, 60, 75, 90]}
    button = {"type": "button", "text": "Save", "label": "Save", "icon": "", "box": BOX,
              "tappable": True, "state": {}}  # fmt: skip
    row |= {"id": "1", "image": "a.png", "texts": [line], "elements": [button],
            "kit": "weui", "layout": "form", "dark": False, "seed": 0}  # fmt: skip
    screens, parts = tmp_path / "screens", tmp_path / "parts"
    screens.mkdir()
    image.save(screens / "a.png")
    rows = [json.dumps(row | {"id": str(k)}) for k in range(12)]
    (screens / "screens.jsonl").write_text("\n".join(rows) + "\n")
    arguments = ["crops", "--screens", str(screens), "--out", str(parts)]
    monkeypatch.setattr("sys.argv", arguments)
    crops.main()
    written = (parts / "screens.jsonl").read_text()
    crops.main()
    assert (parts / "screens.jsonl").read_text() == written  # by seed and name alone
    made = [json.loads(line) for line in written.splitlines()]
    assert [m["id"] for m in made] == [f"{k}-part" for k in range(12)]
    for m in made:
        with Image.open(parts / m["image"]) as part:
            assert part.size == (m["width"], m["height"]) != (200, 400)
            for e in m["elements"]:
                x1, y1, x2, y2 = map(round, e["box"])
                inside = np.asarray(part.convert("L"))[y1:y2, x1:x2]
                assert inside.mean() < 60  # the black button
    target = str(tmp_path / "parts.jsonl")
    monkeypatch.setattr("sys.argv", ["tasks", "--screens", str(parts), "--out", target])
    write_tasks()
    assert {t["task"] for t in read_tasks(Path(target))} >= {"find_text", "ocr"}
