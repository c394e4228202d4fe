"""Checkpoints: a training can be killed at any moment and goes on as if it had not.

What this file is: one folder for each checkpoint, written beside its place, brought to
the disk and then renamed: trained tensors, adapter configuration, the optimizer's
state, and the step, of which data and randomness are functions. The last and the best
are kept. What it is not: the training.

    ADAPTERS/adapters.safetensors, adapter_config.json  the last, for use
    ADAPTERS/best/                              the best so far, for use
    ADAPTERS/checkpoints/step-0000200/          the same, and what --resume needs
"""

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from mm15_mlx import __version__
from mm15_mlx.checkpoint import WeightsError, read_header
from mm15_mlx.config import UserError
from mm15_mlx.lora import ADAPTER_CONFIG, ADAPTERS
from mm15_mlx.outputs import output_place
from mm15_mlx.train_config import FREE, TrainError
from mm15_mlx.weights import to_disk

CHECKPOINTS = "checkpoints"
BEST = "best"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
METRICS = "metrics.jsonl"
CURVE = "loss.png"
# An older run, until the first checkpoint of the one that replaces it.
_OLDER = ".older"
# Checkpoints go first and come back last: while there are none, the rest is not whole.
_OF_RUN = (CHECKPOINTS, BEST, METRICS, CURVE)
_NAME = re.compile(r"step-\d{7,}")
_PARTIAL = ".partial"


@dataclass(frozen=True)
class Progress:
    """Where a training stands. `data` is a hash of all rows and pictures to train on,
    `valid` of those to validate, `base` of the model's folder; checkpoints of older
    versions lack the last two."""

    step: int
    tokens: int  # learnt so far
    read: int  # tokens of all kinds so far
    data: str
    config: dict[str, Any]
    best: float | None = None  # the value of save_best, and where it was
    best_step: int | None = None
    stale: int = 0  # evaluations since then
    # Since the last report: the sum of the losses of all learnt tokens, and how many.
    window_loss: float = 0.0
    window_tokens: int = 0
    valid: str | None = None
    base: str | None = None


class Checkpoints:
    """The checkpoints of one adapter folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parent = folder / CHECKPOINTS
        self._older = folder / _OLDER
        self.locked = False

    def check_place(self) -> None:
        """Raises TrainError where the folder cannot be made or written."""
        folder = self.folder
        try:
            with suppress(FileNotFoundError, NotADirectoryError):
                os.lstat(folder)  # raises for a name that cannot be one
            if folder.is_dir():
                output_place(folder / ADAPTERS)
                return
            there = next(p for p in folder.absolute().parents if p.exists())
        except (OSError, ValueError) as e:
            reason = getattr(e, "strerror", None) or e
            raise TrainError(
                f"--adapter-path {folder} cannot be used: {reason}; choose another"
            ) from e
        except UserError as e:
            raise TrainError(f"--adapter-path {folder}: {e}") from e
        file = next((p for p in (folder, there) if p.exists() and not p.is_dir()), None)
        if file:
            raise TrainError(
                f"--adapter-path {folder}: {file} is no folder; choose another"
            )
        if not os.access(there, os.W_OK | os.X_OK):
            raise TrainError(
                f"--adapter-path {folder} cannot be made: the folder {there} is "
                "read-only; choose another"
            )

    def lock(self, held: ExitStack) -> None:
        """Keep other runs out of the folder, if it is there, until `held` is closed.

        Raises TrainError where one is at work. The system lets go of a lock when its
        process dies, so none is left behind.
        """
        if self.locked or not self.folder.is_dir():
            return
        try:
            file = os.open(self.folder, os.O_RDONLY)
        except OSError as e:
            raise unwritable(self.folder, e) from e
        held.callback(os.close, file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            if e.errno not in (errno.EAGAIN, errno.EACCES):
                return  # some network file systems have no locks
            raise TrainError(
                f"{self.folder}: another training is writing there; wait for its end, "
                "stop it, or choose another --adapter-path"
            ) from e
        self.locked = True

    def make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise unwritable(self.folder, e) from e

    def begin(self) -> None:
        """Make the folders; what a killed run left half-written goes."""
        try:
            self.parent.mkdir(parents=True, exist_ok=True)
            for path in self.parent.iterdir():
                if path.name.endswith(_PARTIAL):
                    shutil.rmtree(path)
        except OSError as e:
            raise unwritable(self.folder, e) from e

    def steps(self) -> list[int]:
        """The steps that have a whole checkpoint, in order."""
        if not self.parent.is_dir():
            return []
        names = [p.name for p in self.parent.iterdir() if _NAME.fullmatch(p.name)]
        return sorted(int(name.removeprefix("step-")) for name in names)

    def place(self, step: int) -> Path:
        return self.parent / f"step-{step:07d}"

    def save(
        self,
        progress: Progress,
        tensors: Mapping[str, mx.array],
        optimizer: Mapping[str, Any],
        adapter_config: Mapping[str, Any],
    ) -> Path:
        """Write a checkpoint, then the adapters for use, then drop what is not needed.

        Raises TrainError where that fails; what was there before is untouched then.
        """
        place = self.place(progress.step)
        partial = place.with_name(place.name + _PARTIAL)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            metadata = {"format": "mlx", "mm15_mlx": __version__}
            mx.save_safetensors(str(partial / ADAPTERS), dict(tensors), metadata)
            state = dict(tree_flatten(optimizer))
            mx.save_safetensors(str(partial / OPTIMIZER), state, metadata)
            _write_json(partial / ADAPTER_CONFIG, adapter_config)
            _write_json(partial / STATE, asdict(progress))
            for path in (*partial.iterdir(), partial):
                to_disk(path)
            if place.exists():  # the same step again, after a --resume
                self.drop(progress.step)
            partial.rename(place)
            to_disk(self.parent)
            self.publish(progress)
            self._prune({progress.step, progress.best_step})
            shutil.rmtree(self._older, ignore_errors=True)
        except (OSError, RuntimeError) as e:  # RuntimeError is MLX's for a full disk
            shutil.rmtree(partial, ignore_errors=True)
            raise unwritable(place, e) from e
        return place

    def publish(self, progress: Progress) -> None:
        """Put a checkpoint's adapters where they are looked for."""
        targets = [self.folder]
        if progress.best_step == progress.step:
            targets.append(self.folder / BEST)
        try:
            for target in targets:
                target.mkdir(exist_ok=True)
                for name in (ADAPTER_CONFIG, ADAPTERS):
                    partial = target / f".{name}{_PARTIAL}"
                    shutil.copyfile(self.place(progress.step) / name, partial)
                    to_disk(partial)
                    os.replace(partial, target / name)
        except OSError as e:
            raise unwritable(self.folder, e) from e

    def set_aside(self, held: ExitStack) -> None:
        """Hide an older run, which --resume must not find, until the first checkpoint
        is saved; where `held` is closed before that, it is put back."""
        there = [name for name in _OF_RUN if (self.folder / name).exists()]
        if not there:
            return
        held.callback(self.recover)
        try:
            self._older.mkdir()
            for name in there:
                (self.folder / name).rename(self._older / name)
        except OSError as e:
            raise unwritable(self.folder, e) from e

    def recover(self) -> None:
        """Put an older run back if none has taken its place; also after a kill."""
        if not self._older.is_dir():
            return
        try:
            if not self.steps():
                for name in reversed(_OF_RUN):
                    if (self._older / name).exists():
                        self._remove(self.folder / name)
                        (self._older / name).rename(self.folder / name)
            shutil.rmtree(self._older)
        except OSError as e:
            raise unwritable(self.folder, e) from e

    def _remove(self, path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _prune(self, keep: set[int | None]) -> None:
        for step in self.steps():
            if step not in keep:
                self.drop(step)

    def drop(self, step: int) -> None:
        """Renamed first: a half deleted folder must not look like a whole one."""
        gone = self.place(step).with_name(f"old-{step}{_PARTIAL}")
        self.place(step).rename(gone)
        shutil.rmtree(gone)

    def load(self) -> tuple[Progress, dict[str, mx.array], dict[str, Any]]:
        """The last checkpoint: progress, trained tensors, the optimizer's state.

        Raises TrainError where there is none, or a file of it is damaged.
        """
        steps = self.steps()
        if not steps:
            raise TrainError(
                f"--resume: {self.folder} has no checkpoint; start without --resume"
            )
        place = self.place(steps[-1])
        try:
            state = json.loads((place / STATE).read_text(encoding="utf-8"))
            progress = Progress(**state)
            for name in (ADAPTERS, OPTIMIZER):
                read_header(place / name)
            tensors = mx.load(str(place / ADAPTERS))
            optimizer = mx.load(str(place / OPTIMIZER))
            mx.eval(tensors, optimizer)
        except (OSError, ValueError, TypeError, WeightsError) as e:
            raise TrainError(
                f"--resume: the checkpoint {place} is damaged ({e}); delete it to go "
                "on from the one before"
            ) from e
        return progress, tensors, tree_unflatten(list(optimizer.items()))


def check_same(progress: Progress, now: Progress) -> None:
    """Raise TrainError where a run could not go on as the one that was stopped.

    now: that of a run which begins with the same settings, data and model.
    """
    config, data = now.config, now.data
    for key, value in config.items():
        was = progress.config.get(key)
        if key not in FREE and was != value:
            raise TrainError(
                f"--resume: {key} was {was!r} and is {value!r}; give the same "
                "settings, or start a new run in another --adapter-path"
            )
    if progress.data != data:
        raise TrainError(
            "--resume: the training data have changed since the checkpoint, or the "
            "tasks of --eval-data; restore them, or start a new run in another "
            "--adapter-path"
        )
    if progress.valid is not None and progress.valid != now.valid:
        raise TrainError(
            "--resume: the rows to validate have changed since the checkpoint; restore "
            "them, or start a new run in another --adapter-path"
        )
    if progress.base is not None and progress.base != now.base:
        raise TrainError(
            f"--resume: {config['model']} has other weights than the model of the "
            "checkpoint; give that one, or start a new run in another --adapter-path"
        )


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def unwritable(path: Path, error: Exception) -> TrainError:
    """The error of a file or folder of a run that cannot be written."""
    reason = getattr(error, "strerror", None) or error
    return TrainError(
        f"{path} cannot be written: {reason}; make room or choose another "
        "--adapter-path, then go on with --resume"
    )
