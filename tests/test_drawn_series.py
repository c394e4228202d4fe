"""Pairs and flows of screens, drawn by a browser: it needs what that of test_screens.py
needs."""

import json
from collections import Counter
from pathlib import Path
from random import Random

from mm15_mlx.screens import series, several
from mm15_mlx.screens.build import Options
from mm15_mlx.screens.capture import Camera
from mm15_mlx.screens.changes import found, steps


def test_pairs_and_flows_are_drawn(kits: Path, tmp_path: Path) -> None:
    options = Options(("weui",), ("settings", "toast"), ("390x844",), 1)
    draw = series.render_series
    assert draw(tmp_path, "pair", 1, 3, options, 1, kits, progress=False) == 1
    assert draw(tmp_path, "flow", 1, 3, options, 0, kits, progress=False) == 1
    assert draw(tmp_path, "flow", 1, 3, options, 0, kits, progress=False) == 0
    rows = [json.loads(line) for line in (tmp_path / "screens.jsonl").open()]
    assert len({row["id"] for row in rows}) == len(rows) == 6
    for row in rows:
        assert row["image"].endswith(f"{row['id']}.jpg")
        assert (tmp_path / row["image"]).is_file()
    pairs, flows = several.series(rows, "pair"), several.series(rows, "flow")
    assert (len(pairs), len(flows)) == (1, 1)
    for before, after in pairs:
        assert before["pair"]["change"] is None
        assert (tmp_path / before["image"]).read_bytes() != (
            tmp_path / after["image"]
        ).read_bytes()
        change = after["pair"]["change"]
        question = several.changed(Random(0), before, after).question
        assert question.answer.endswith(change["words"])
        if change["box"]:
            x1, y1, x2, y2 = change["box"]
            assert 0 <= x1 < x2 <= 390 and 0 <= y1 < y2 <= 844
    made = several.about_flow(Random(0), flows[0])
    assert Counter(m.question.task for m in made)["changed"] == 3
    again = tmp_path / "again"
    draw(again, "pair", 1, 3, options, 1, kits, progress=False)
    same = [json.loads(line) for line in (again / "screens.jsonl").open()]
    assert same == pairs[0]


def test_a_switch_is_turned(kits: Path) -> None:
    options = Options(("ionic-ios",), ("toast",), ("390x844",), 1)
    with Camera(kits) as camera:
        plan, calls = series.plan_edited(3, 0, options, frozenset())
        _, before = series.shoot(camera, plan, options, "a")
        turned = [s for s in steps(calls, before, Random(0)) if s.kind == "switch"]
        edits = frozenset(turned[1].add)
        plan, _ = series.plan_edited(3, 0, options, edits)
        _, after = series.shoot(camera, plan, options, "b")
    change = found(turned[1], before, after)
    assert change and change["words"].startswith(f'the switch "{turned[1].name}" was')
    differ = [(a, b) for a, b in zip(before["elements"], after["elements"], strict=True)
              if a["state"] != b["state"]]  # fmt: skip
    assert [a["label"] for a, _ in differ] == [turned[1].name]
    assert before["texts"] == after["texts"]
