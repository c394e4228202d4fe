"""`--report-to`: what TensorBoard and W&B are told, and what is said without them."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from mm15_mlx import train
from mm15_mlx.config import UserError
from mm15_mlx.metrics import Shown
from mm15_mlx.reporters import check_reporters, open_reporters, scalars
from mm15_mlx.train_config import TrainConfig

ROWS = (
    {"step": 2, "loss": 1.5, "tokens_per_s": 10.0},
    {"step": 2, "tasks": {"ocr": {"exact": 0.25, "n": 4}}},
)


def test_numbers_by_name() -> None:
    assert dict(scalars(ROWS[0])) == {"loss": 1.5, "tokens_per_s": 10.0}
    assert dict(scalars(ROWS[1])) == {"ocr.exact": 0.25}


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n: None if n == name else real(n)
    )
    with pytest.raises(UserError, match=rf"--report-to {name} needs {name}: pip insta"):
        train.run({"report_to": name, "data": str(tmp_path)})


def test_an_unknown_reporter_is_named() -> None:
    with pytest.raises(UserError, match="names 'swanlab'; use tensorboard or wandb"):
        TrainConfig(report_to="wandb, swanlab")
    assert TrainConfig(report_to="wandb,tensorboard").reporters == [
        "wandb", "tensorboard",
    ]  # fmt: skip
    check_reporters(TrainConfig())


def test_wandb_is_offline_unless_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class Run:
        def log(self, values: dict[str, float], step: int) -> None:
            seen.append((step, values))

        def finish(self) -> None:
            seen.append("finished")

    def init(**given: Any) -> Run:
        seen.append(given["mode"])
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (reporter,) = open_reporters(TrainConfig(report_to="wandb"), tmp_path, 0)
    for row in ROWS:
        reporter.add(row)
    reporter.close()
    assert seen == [
        "offline", (2, {"loss": 1.5, "tokens_per_s": 10.0}), (2, {"ocr.exact": 0.25}),
        "finished",
    ]  # fmt: skip
    monkeypatch.setenv("WANDB_MODE", "online")
    open_reporters(TrainConfig(report_to="wandb"), tmp_path, 0)
    assert seen[-1] == "online"


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs the extra report")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (reporter,) = open_reporters(TrainConfig(report_to="tensorboard"), tmp_path, 0)
    for row in ROWS:
        reporter.add(row)
    reporter.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    found = {
        value.tag: (event.step, value)
        for event in EventFileLoader(str(file)).Load()
        for value in event.summary.value
    }
    assert set(found) == {"loss", "tokens_per_s", "ocr.exact"}
    assert found["loss"][0] == 2
    assert found["loss"][1].tensor.float_val[:] == [1.5]


def test_a_terminal_has_a_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ROWS[0] | {"eta_s": 5, "seconds_per_step": 0.5, "peak_memory_bytes": 1}
    with Shown(4, 0) as plain:
        plain.seen(1)
        plain.add(row)
    assert capsys.readouterr().err.startswith("step 2/4 · loss 1.5000 · 10 tokens/s")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Shown(4, 0) as bar:
        bar.seen(2)
        bar.add(row)
        bar.add({"step": 2, "valid_loss": 1.25})
    said = capsys.readouterr().err
    assert "2/4" in said and "loss 1.5000 · 10 tokens/s" in said
    assert "step 2/4 · validation loss 1.2500" in said
