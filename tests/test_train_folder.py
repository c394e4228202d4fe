"""The folder of a training: an older run is kept until a new one has saved, one run at
a time, and nothing goes on with other weights or rows."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from training import ROWS, asked, run_settings, write

from mm15_mlx import train
from mm15_mlx.checkpointing import STATE, Checkpoints
from mm15_mlx.lora import ADAPTERS
from mm15_mlx.train_config import TrainError

Settings = dict[str, Any]
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(ui_copy: Path, screen: Path, tmp_path: Path) -> Settings:
    data = write(tmp_path / "data", screen, ROWS)
    write(data, screen, ROWS[1:3], "valid")
    return run_settings(ui_copy, data, tmp_path / "a") | {
        "grad_accumulation_steps": 1, "train_parts": ["decoder"], "iters": 2,
        "lr_schedule": None, "steps_per_eval": 1, "save_every": 1,
    }  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


# --- an older run -----------------------------------------------------------------


def test_force_that_trains_nothing_leaves_the_older_run(
    settings: Settings, tmp_path: Path
) -> None:
    train.run(settings)
    before = content(tmp_path / "a")
    assert "best/" + ADAPTERS in before and "metrics.jsonl" in before
    ruinous = settings | {"learning_rate": 1e30, "max_grad_norm": 0.0}
    with pytest.raises(TrainError, match="nothing was trained"):
        train.run(ruinous, force=True)
    assert content(tmp_path / "a") == before
    assert train.run(settings, resume=True)[0]["steps"] == 2


def test_force_that_trains_replaces_the_older_run(
    settings: Settings, tmp_path: Path
) -> None:
    train.run(settings)
    report, _ = train.run(settings | {"iters": 1}, force=True)
    assert report["steps"] == 1
    assert Checkpoints(tmp_path / "a").steps() == [1]
    assert not (tmp_path / "a" / ".older").exists()


@pytest.mark.parametrize("saved", [True, False])
def test_a_kill_before_the_first_checkpoint(
    saved: bool, settings: Settings, tmp_path: Path
) -> None:
    """What it left is put right by the next run, whichever that is."""
    train.run(settings)
    before = content(tmp_path / "a")
    checkpoints = Checkpoints(tmp_path / "a")
    checkpoints.set_aside(ExitStack())  # never closed, as if killed
    checkpoints.begin()
    (tmp_path / "a" / "metrics.jsonl").write_text("")
    assert checkpoints.steps() == []
    if saved:
        shutil.copytree(tmp_path / "a" / ".older" / "checkpoints" / "step-0000002",
                        checkpoints.place(1))  # fmt: skip
    with pytest.raises(TrainError, match="a holds adapters; go on with --resume"):
        train.run(settings)
    assert not (tmp_path / "a" / ".older").exists()
    assert checkpoints.steps() == ([1] if saved else [2])
    assert (content(tmp_path / "a") == before) is not saved


# --- two runs ---------------------------------------------------------------------


@pytest.mark.parametrize("how", [{"resume": True}, {"force": True}])
def test_a_second_run_is_kept_out(
    how: dict[str, bool], settings: Settings, tmp_path: Path
) -> None:
    train.run(settings | {"iters": 1})
    before = content(tmp_path / "a")
    other = os.open(tmp_path / "a", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(TrainError, match="a: another training is writing there; wait"):
        train.run(settings, **how)
    os.close(other)
    assert content(tmp_path / "a") == before
    train.run(settings | {"iters": 1}, **how)


def test_two_that_begin_at_once(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is not there when either looks."""
    real = train.load_model

    def load(folder: Path) -> Any:
        (tmp_path / "a").mkdir()
        other.append(os.open(tmp_path / "a", os.O_RDONLY))
        fcntl.flock(other[0], fcntl.LOCK_EX)
        return real(folder)

    other: list[int] = []
    monkeypatch.setattr(train, "load_model", load)
    with pytest.raises(TrainError, match="another training is writing there"):
        train.run(settings)
    os.close(other[0])
    assert list((tmp_path / "a").iterdir()) == []


# --- places that cannot be written ------------------------------------------------


def test_a_place_that_cannot_be_written(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before the data are read."""
    (tmp_path / "file").write_text("")
    (tmp_path / "there").mkdir()
    settings["data"] = "nowhere"

    def refused(path: Path, message: str) -> None:
        with pytest.raises(TrainError, match=message):
            train.run(settings | {"adapter_path": str(path)})

    refused(tmp_path / ("a" * 300), "aaa cannot be used: File name too long; choose")
    refused(tmp_path / "file", "file is no folder; choose another")
    refused(tmp_path / "file" / "a", "--adapter-path .*a: .*file is no folder; choose")
    monkeypatch.setattr(os, "access", lambda *_: False)
    refused(tmp_path / "a" / "b", "b cannot be made: the folder .* is read-only; choo")
    refused(tmp_path / "there", "--adapter-path .* the folder .*there is read-only")
    assert not (tmp_path / "a").exists()


# --- going on with something else -------------------------------------------------


def changed_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors, metadata = mx.load(str(path), return_metadata=True)
    name = next(n for n in tensors if n.endswith("norm.weight"))
    mx.eval(tensors)
    mx.save_safetensors(str(path), tensors | {name: tensors[name] * 2}, metadata)


def test_other_weights_or_rows_do_not_go_on(
    settings: Settings, screen: Path, tmp_path: Path
) -> None:
    """A moved model is the same; checkpoints of older versions do not know."""
    train.run(settings | {"iters": 2})
    settings["iters"] = 2
    moved = tmp_path / "moved"
    shutil.move(settings["model"], moved)
    settings["model"] = str(moved)
    train.run(settings, resume=True)
    data = Path(settings["data"])
    write(data, screen, [ROWS[1], asked("Say No", "No")], "valid")
    with pytest.raises(TrainError, match="the rows to validate have changed since"):
        train.run(settings, resume=True)
    write(data, screen, ROWS[1:3], "valid")
    changed_weights(moved)
    with pytest.raises(TrainError, match="moved has other weights than the model of"):
        train.run(settings, resume=True)
    state = tmp_path / "a" / "checkpoints" / "step-0000002" / STATE
    old = json.loads(state.read_text())
    state.write_text(json.dumps({k: old[k] for k in old.keys() - {"base", "valid"}}))
    train.run(settings, resume=True)


# --- exports ----------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--export-peft", "--export-mlx-lm"])
def test_an_export_replaces_no_training(
    flag: str, settings: Settings, tmp_path: Path, cli: Cli
) -> None:
    train.run(settings)
    best, a = tmp_path / "a" / "best", tmp_path / "a"
    before = content(a)

    def refused(source: Path, target: Path, message: str) -> None:
        status, _, err = cli("fuse", "--adapter-path", source, flag, target, "--force")
        assert status == 2 and message in err
        assert content(a) == before

    refused(a, a, "a holds the adapters that are exported; choose another name")
    refused(best, a, "a holds the adapters that are exported; choose another name")
    shutil.copytree(best, tmp_path / "b")
    refused(tmp_path / "b", a, "a is a training's folder, with checkpoints, so it is n")
