"""`--report-to`: the rows of metrics in TensorBoard's or Weights & Biases' own files.

What this file is: numbers handed on as they are told. Nothing leaves the machine:
W&B runs offline unless the user's own WANDB_MODE says otherwise. What it is not:
`metrics.jsonl`, which every run writes (metrics.py).
"""

import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from mm15_mlx.metrics import Row, task_values, writing
from mm15_mlx.train_config import TrainConfig, TrainError

PROJECT = "mm15-mlx"


class Reporter(Protocol):
    def add(self, row: Row) -> None: ...

    def close(self) -> None: ...


def check_reporters(config: TrainConfig) -> None:
    """Raises TrainError where a reporter's package is missing."""
    for name in config.reporters:
        if importlib.util.find_spec(name) is None:
            raise TrainError(
                f"--report-to {name} needs {name}: pip install 'mm15-mlx[report]', or "
                "leave the flag out: metrics.jsonl is written in any case"
            )


def open_reporters(config: TrainConfig, folder: Path, step: int) -> list[Reporter]:
    """The reporters that are asked for; `step` is where the run begins or goes on."""
    makers = {"tensorboard": TensorBoard, "wandb": WandB}
    return [Checked(makers[n], n, config, folder, step) for n in config.reporters]


class Checked:
    """A reporter that says with a TrainError when the disk is full."""

    def __init__(
        self, make: Callable[[TrainConfig, Path, int], Reporter], name: str,
        config: TrainConfig, folder: Path, step: int,
    ) -> None:  # fmt: skip
        self._path = folder / name
        with writing(self._path):
            self._reporter = make(config, folder, step)

    def add(self, row: Row) -> None:
        with writing(self._path):
            self._reporter.add(row)

    def close(self) -> None:
        with writing(self._path):
            self._reporter.close()


def scalars(row: Row) -> Iterator[tuple[str, float]]:
    """The numbers of a row by name, but for the step."""
    for key, value in row.items():
        if key == "tasks":
            yield from task_values(row)
        elif key != "step" and isinstance(value, int | float):
            yield key, float(value)


class TensorBoard:
    """Event files in `tensorboard/` of the adapters' folder."""

    def __init__(self, config: TrainConfig, folder: Path, step: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._events, self._summaries = event_pb2, summary_pb2
        self._writer = EventFileWriter(str(folder / "tensorboard"))
        # What an earlier, killed run wrote of later steps is hidden by this.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(step + 1, session_log=start)

    def _write(self, step: int, **what: Any) -> None:
        event = self._events.Event(wall_time=time.time(), step=step, **what)
        self._writer.add_event(event)

    def add(self, row: Row) -> None:
        values = [
            self._summaries.Summary.Value(tag=tag, simple_value=value)
            for tag, value in scalars(row)
        ]
        self._write(row["step"], summary=self._summaries.Summary(value=values))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandB:
    """A run in `wandb/` of the adapters' folder; `wandb sync` would send it."""

    def __init__(self, config: TrainConfig, folder: Path, step: int) -> None:
        import wandb

        self._run = wandb.init(
            project=config.project_name or PROJECT,
            name=folder.name,
            dir=str(folder),
            config=config.to_dict(),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def add(self, row: Row) -> None:
        self._run.log(dict(scalars(row)), step=row["step"])

    def close(self) -> None:
        self._run.finish()
