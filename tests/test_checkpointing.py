"""Checkpoints: killed, full, changed, damaged; nothing is lost and nothing mixed up."""

import signal
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from training import ROWS, run_settings, stop_after, write

from mm15_mlx import checkpointing, train
from mm15_mlx.checkpointing import OPTIMIZER, Checkpoints
from mm15_mlx.config import UserError
from mm15_mlx.lora import ADAPTERS

Settings = dict[str, Any]


@pytest.fixture
def data(screen: Path, tmp_path: Path) -> Path:
    folder = write(tmp_path / "data", screen, ROWS)
    return write(folder, screen, ROWS[1:3], "valid")


@pytest.fixture
def settings(ui_folder: Path, data: Path, tmp_path: Path) -> Settings:
    return run_settings(ui_folder, data, tmp_path / "a")


@pytest.mark.parametrize("call", range(0, 16, 3))
def test_killed_while_saving_loses_nothing(
    call: int, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the save was about to do to the disk when the end came."""

    class Killed(BaseException):
        pass

    settings |= {"grad_accumulation_steps": 1, "steps_per_eval": 99, "iters": 4}
    with monkeypatch.context() as patch:
        stop_after(2, signal.SIGINT, patch)
        assert train.run(settings)[1] == 130
    calls: list[str] = []
    with monkeypatch.context() as patch:
        for owner, name in (
            (checkpointing.os, "fsync"), (checkpointing.os, "replace"),
            (checkpointing.Path, "rename"), (checkpointing.shutil, "copyfile"),
        ):  # fmt: skip
            real = getattr(owner, name)

            def deadly(*a: Any, _real: Any = real, _name: str = name) -> Any:
                calls.append(_name)
                if len(calls) > call:
                    raise Killed
                return _real(*a)

            patch.setattr(owner, name, deadly)
        with pytest.raises(Killed):
            train.run(settings, resume=True)
    assert Checkpoints(tmp_path / "a").steps()
    report, status = train.run(settings, resume=True)
    assert status == 0 and report["steps"] == 4
    whole = settings | {"adapter_path": str(tmp_path / "whole")}
    train.run(whole)
    ends = [(tmp_path / f / ADAPTERS).read_bytes() for f in ("a", "whole")]
    assert ends[0] == ends[1]
    assert not [p for p in (tmp_path / "a").rglob("*.partial")]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("Unable to write")]
)
def test_a_full_disk_is_said(
    error: Exception,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpointing.mx, "save_safetensors", full)
        with pytest.raises(UserError, match="cannot be written: .*; make room or choo"):
            train.run(settings)
    assert Checkpoints(tmp_path / "a").steps() == []
    assert not (tmp_path / "a" / ADAPTERS).exists()


def test_a_changed_run_does_not_go_on(
    settings: Settings, screen: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="--resume: .*a has no checkpoint; start with"):
        train.run(settings, resume=True)
    train.run(settings | {"iters": 6})
    with pytest.raises(
        UserError, match="--resume: batch_size was 2 and is 1; give the"
    ):
        train.run(settings | {"batch_size": 1}, resume=True)
    with pytest.raises(
        UserError, match="a holds adapters; go on with --resume, choose"
    ):
        train.run(settings)
    write(data, screen, ROWS[:3])
    with pytest.raises(UserError, match="--resume: the training data have changed"):
        train.run(settings, resume=True)
    place = Checkpoints(tmp_path / "a").place(6)
    (place / OPTIMIZER).write_bytes(b"short")
    with pytest.raises(UserError, match="step-0000006 is damaged .*; delete it to go"):
        train.run(settings, resume=True)
    report, status = train.run(settings | {"iters": 3}, force=True)
    assert status == 0 and report["steps"] == 3
    assert Checkpoints(tmp_path / "a").steps() == [3]


def test_an_optimizer_of_other_tensors_is_refused(
    settings: Settings, tmp_path: Path
) -> None:
    train.run(settings)
    path = Checkpoints(tmp_path / "a").place(6) / OPTIMIZER
    state = mx.load(str(path))
    mx.eval(state)
    state.pop(next(n for n in state if n.endswith("lora_a.m")))
    mx.save_safetensors(str(path), state)
    with pytest.raises(UserError, match="the optimizer's state does not fit the model"):
        train.run(settings, resume=True)


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_every_state_goes_on_bit_for_bit(
    name: str,
    kind: str,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Factored moments, momenta of matrices, and AdamW's beside them."""
    settings |= {
        "optimizer": name, "fine_tune_type": kind, "iters": 3, "steps_per_eval": 99,
        "grad_accumulation_steps": 1, "num_layers": 1, "lr_schedule": None,
    }  # fmt: skip
    train.run(settings | {"adapter_path": str(tmp_path / "whole")})
    with monkeypatch.context() as patch:
        stop_after(2, signal.SIGTERM, patch)
        assert train.run(settings)[1] == 130
    assert train.run(settings, resume=True)[0]["steps"] == 3
    for file in (ADAPTERS, OPTIMIZER):
        one, two = (
            mx.load(str(Checkpoints(tmp_path / f).place(3) / file))
            for f in ("a", "whole")
        )
        assert one.keys() == two.keys()
        assert all(mx.array_equal(x, two[n]) for n, x in one.items()), file


def test_a_run_may_begin_with_weights(settings: Settings, tmp_path: Path) -> None:
    train.run(settings)
    settings |= {"resume_adapter_file": str(tmp_path / "a" / ADAPTERS), "iters": 3,
                 "learning_rate": 0.0, "adapter_path": str(tmp_path / "b")}  # fmt: skip
    train.run(settings)
    first, second = (mx.load(str(tmp_path / f / ADAPTERS)) for f in "ab")
    assert all(mx.array_equal(x, second[n]) for n, x in first.items())
    settings["adapter_path"] = str(tmp_path / "c")
    with pytest.raises(UserError, match="does not hold what these settings train:"):
        train.run(settings | {"lora_parameters": {"rank": 2}})
    with pytest.raises(UserError, match="resume_adapter_file no.safetensors does not"):
        train.run(settings | {"resume_adapter_file": "no.safetensors"})
    mx.save_safetensors(str(tmp_path / "i.safetensors"), {"a": mx.zeros(1, mx.int32)})
    with pytest.raises(UserError, match="i.safetensors: a is no float"):
        train.run(settings | {"resume_adapter_file": str(tmp_path / "i.safetensors")})
