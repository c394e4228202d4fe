"""What ends a run before its time: ruinous updates, pictures that are gone, full disks.

In each case the last good state is on the disk, and `--resume` goes on from it.
"""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image
from training import ROWS, asked, run_settings, write

from mm15_mlx import checkpointing, metrics, train
from mm15_mlx.batches import Batches
from mm15_mlx.checkpointing import OPTIMIZER, Checkpoints
from mm15_mlx.config import UserError
from mm15_mlx.dataset import PictureRef
from mm15_mlx.lora import ADAPTERS
from mm15_mlx.metrics import Metrics, read_metrics
from mm15_mlx.mixture import Draws
from mm15_mlx.train_config import TrainError

Settings = dict[str, Any]
FULL = OSError(28, "No space left on device")


@pytest.fixture
def settings(ui_folder: Path, screen: Path, tmp_path: Path) -> Settings:
    """Plain settings: every row, one picture, four steps."""
    data = write(tmp_path / "data", screen, ROWS)
    return run_settings(ui_folder, data, tmp_path / "a") | {
        "grad_accumulation_steps": 1, "train_parts": ["decoder"], "iters": 4,
        "lr_schedule": None, "steps_per_eval": 99, "save_every": 1,
    }  # fmt: skip


def steps(settings: Settings) -> list[int]:
    return Checkpoints(Path(settings["adapter_path"])).steps()


# --- ruinous updates --------------------------------------------------------------


@pytest.mark.parametrize("iters", [1, 4])
@pytest.mark.parametrize("rate", [1e30, 1e39])
def test_a_ruinous_update_leaves_nothing(
    rate: float, iters: int, settings: Settings, tmp_path: Path
) -> None:
    """Its gradients are finite; its tensors too, but they give no finite loss; or the
    rate itself is infinite in float32."""
    settings |= {"learning_rate": rate, "iters": iters, "max_grad_norm": 0.0}
    with pytest.raises(TrainError, match="nothing was trained: .* a lower learning_r"):
        train.run(settings)
    assert steps(settings) == [] and not (tmp_path / "a" / ADAPTERS).exists()


def test_an_update_that_is_not_finite_is_named(settings: Settings) -> None:
    with pytest.raises(TrainError, match="the update of step 1 is not finite; nothing"):
        train.run(settings | {"learning_rate": 1e39})


def test_a_validation_loss_that_is_not_finite(
    settings: Settings, screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(Path(settings["data"]), screen, ROWS[1:3], "valid")
    values = iter([2.0, math.nan])
    monkeypatch.setattr("mm15_mlx.trainer.evaluate", lambda *_: next(values))
    settings |= {"steps_per_eval": 2, "save_every": 99}
    with pytest.raises(TrainError, match="validation loss is nan after step 4; the st"):
        train.run(settings)
    assert steps(settings) == [2]


def test_the_state_before_a_ruinous_update_is_what_is_kept(
    settings: Settings, tmp_path: Path
) -> None:
    """The rate is ruinous at the third step alone."""
    settings["lr_schedule"] = {"name": "step_decay", "arguments": [1e-3, 1e33, 2]}
    with pytest.raises(TrainError, match="the state after step 2 is kept: .*lower lea"):
        train.run(settings)
    assert steps(settings) == [2]
    tensors = mx.load(str(tmp_path / "a" / ADAPTERS))
    assert all(mx.abs(x).max() < 1 for x in tensors.values())


# --- pictures ---------------------------------------------------------------------


@pytest.mark.parametrize("change", ["gone", "other"])
def test_a_picture_of_a_later_step(
    change: str, settings: Settings, screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone or changed after the check: the row is named, and the state is saved."""
    data = Path(settings["data"])
    Image.new("RGB", (120, 200), "gray").save(data / "b.png")
    rows = [*ROWS[:3], asked("What is this?", "list", "b.png")]
    write(data, screen, rows)
    real, opened = PictureRef.open, []

    def opens(self: PictureRef, processor: Any) -> Any:
        opened.append(Path(str(self.source)))
        if len(opened) == 2 and change == "gone":
            opened[1].unlink()
        elif len(opened) == 2:
            Image.new("RGB", (120, 200), "red").save(opened[1])
        return real(self, processor)

    monkeypatch.setattr(PictureRef, "open", opens)
    expected = {
        "gone": r"train.jsonl, row \d: .*png does not exist",
        "other": r"train.jsonl, row \d: .*png has changed since the rows were checked",
    }[change]
    with pytest.raises(TrainError, match=expected) as error:
        train.run(settings | {"save_every": 99, "batch_size": 1})
    (kept,) = steps(settings)
    error.match(rf"\(the state after step {kept} is kept\)$")


# --- full disks -------------------------------------------------------------------


def full_at(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool]
) -> None:
    real = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            raise FULL
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, call)


def second(what: str) -> Callable[..., bool]:
    """True from the second save on, where the path ends so."""
    return lambda *a: any(what in str(x) and "step-0000002" in str(x) for x in a)


@pytest.mark.parametrize("where", ["adapters", "optimizer", "publish", "curve"])
def test_a_disk_that_fills_up(
    where: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the second save: the first survives, and goes on to the same end."""
    settings["iters"] = 3
    train.run(settings | {"adapter_path": str(tmp_path / "whole")})
    with monkeypatch.context() as patch:
        if where in ("adapters", "optimizer"):
            name = {"adapters": ADAPTERS, "optimizer": OPTIMIZER}[where]
            full_at(patch, checkpointing.mx, "save_safetensors", second(name))
        elif where == "publish":
            full_at(patch, checkpointing.shutil, "copyfile", second(ADAPTERS))
        else:
            full_at(patch, metrics.os, "replace", lambda a, _: "loss" in str(a))
        with pytest.raises(TrainError, match="cannot be written: No space left on dev"):
            train.run(settings)
    if where in ("adapters", "optimizer"):
        assert steps(settings) == [1]
    report, status = train.run(settings, resume=True)
    assert (status, report["steps"]) == (0, 3)
    ends = [(tmp_path / f / ADAPTERS).read_bytes() for f in ("a", "whole")]
    assert ends[0] == ends[1]


def test_a_disk_without_room_for_metrics(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is saved all the same."""
    real = Metrics.add

    def add(self: Metrics, row: dict[str, Any]) -> None:
        if row["step"] == 2:
            full_at(monkeypatch, metrics.Path, "open", lambda p, *_: p == self.path)
        real(self, row)

    settings["save_every"] = 99
    with monkeypatch.context() as patch:
        patch.setattr(Metrics, "add", add)
        with pytest.raises(
            TrainError, match=r"metrics.jsonl cannot be .*step 2 is kep"
        ):
            train.run(settings)
    monkeypatch.undo()
    assert steps(settings) == [2]
    report, _ = train.run(settings, resume=True)
    assert report["steps"] == 4
    assert [r["step"] for r in read_metrics(tmp_path / "a" / "metrics.jsonl")] == [4, 4]


# --- nothing is lost before the first step ----------------------------------------


def test_force_drops_nothing_where_the_run_cannot_begin(
    settings: Settings, screen: Path, tmp_path: Path
) -> None:
    train.run(settings)
    before = sorted(p.name for p in (tmp_path / "a").rglob("*"))
    write(Path(settings["data"]), screen, [*ROWS, asked("a", "")])
    with pytest.raises(UserError, match="1 of 6 rows are bad, and nothing was trained"):
        train.run(settings, force=True)
    assert sorted(p.name for p in (tmp_path / "a").rglob("*")) == before
    assert steps(settings) == [4]


# --- what was drawn ---------------------------------------------------------------


class Row:
    def __init__(self, length: int) -> None:
        self.ids = range(length)


def test_a_report_is_of_what_was_trained_on(
    settings: Settings, screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Categories of unlike length, a window of five batches, steps off it."""
    short = [asked("Say Yes", "Yes") | {"category": "short"}] * 5
    text = "General Settings About Wi-Fi " * 4
    long = [asked(f"Read {k} {text}", text) | {"category": "long"} for k in range(5)]
    write(Path(settings["data"]), screen, [*short, *long])
    settings |= {"mixture": {"short": 4, "long": 1}, "iters": 8}
    real, trained = Batches.__getitem__, Counter()

    def get(self: Batches, i: int) -> Any:
        batch = real(self, i)
        trained.update(
            "short" if int(name.split()[-1]) <= 5 else "long" for name in batch.rows
        )
        return batch

    monkeypatch.setattr(Batches, "__getitem__", get)
    monkeypatch.setattr("mm15_mlx.trainer.Trainer._loss_now", lambda *_: 1.0)
    report, _ = train.run(settings)
    drawn = {r["category"]: r["drawn"] for r in report["drawn"]}
    assert drawn == trained and drawn["short"] == 13


@pytest.mark.parametrize("total", [1, 5, 7, 8, 20])
def test_the_last_window_ends_with_the_run(total: int) -> None:
    """All batches together are the first draws, whatever the windows are."""
    draws = Draws({"a": range(10), "b": range(10, 20)}, {"a": 3, "b": 1}, 0)
    samples: Any = [Row(3 if r < 10 else 40) for r in range(20)]
    batches = Batches(samples, draws, 3, 0, total)
    assert sorted(batches.taken(total)) == sorted(draws[t] for t in range(3 * total))
    with pytest.raises(IndexError, match=f"batch {total} of {total}"):
        batches.rows(total)
