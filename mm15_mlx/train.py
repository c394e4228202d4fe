"""`mm15-mlx train`: settings and data checked, then a run that can be stopped.

What this file is: the steps in their order, and all that is said on stderr. What it is
not: any of them; see dataset.py, mixture.py, lora.py, trainer.py, checkpointing.py.
"""

import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mm15_mlx.batches import Batch, Batches, Pictures, collate
from mm15_mlx.checkpoint import FLOATS, listed, read_header
from mm15_mlx.checkpointing import Checkpoints, Progress, check_same
from mm15_mlx.dataset import Sample, Split, add_rows, read_split
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.lora import (
    ADAPTERS,
    adapted,
    adapter_config,
    make_trainable,
    put,
    trained_tensors,
)
from mm15_mlx.metrics import CURVE, Metrics, progress_line, write_curve
from mm15_mlx.mixture import Category, Draws, draws_of, read_mixture, report_lines
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.train_config import TrainConfig, TrainError, optimizer, settings
from mm15_mlx.trainer import Stop, Trainer, optimizer_like, recomputed
from mm15_mlx.training_rows import DataError
from mm15_mlx.weights import load_model

STOPPED = 130


@dataclass(frozen=True)
class Data:
    """Rows that are all good; `digest` is a hash of them and of their pictures."""

    train: list[Sample]
    valid: list[Sample]
    draws: Draws
    digest: str


def run(
    flags: Mapping[str, Any],
    config_file: Path | None = None,
    resume: bool = False,
    force: bool = False,
) -> tuple[dict[str, Any], int]:
    """Train as flags and file say; what came of it, and the exit status.

    130 is a run that was stopped by SIGINT or SIGTERM and can go on. Raises UserError
    before the first step for anything that is wrong with settings, model or data.
    """
    begin = time.perf_counter()
    config = settings(flags, config_file)
    made = optimizer(config)
    checkpoints = Checkpoints(Path(config.adapter_path))
    check_target(checkpoints, resume, force)
    folder = find_model(config.model)
    processor = load_processor(folder)
    data = read_data(config, processor)
    _say(described(data))
    model, _ = load_model(folder)
    mx.random.seed(config.seed)  # of the adapters' first values
    make_trainable(model, config.tuning)
    progress, state = starting_point(config, model, checkpoints, data.digest, resume)
    optimizer_like(made, model, state)
    mx.eval(model.parameters(), made.state)
    _say(trained(model))
    checkpoints.begin()
    metrics = Metrics(checkpoints.folder, progress.step)

    def save(now: Progress) -> None:
        own = adapter_config(config.tuning, config.to_dict())
        checkpoints.save(now, trained_tensors(model), made.state, own)
        write_curve(metrics.rows, checkpoints.folder / CURVE)

    def tell(row: dict[str, Any]) -> None:
        metrics.add(row)
        _say(progress_line(row, config.iters))

    pictures = Pictures(
        model, processor, config.train_parts, round(config.feature_cache_gb * 1e9)
    )
    batches = Batches(data.train, data.draws, config.batch_size, config.seed)
    valid = valid_batches(data.valid, config)
    trainer = Trainer(model, made, config, pictures, batches, valid, save, tell)
    mx.reset_peak_memory()
    less = recomputed(model.layers[0]) if config.grad_checkpoint else nullcontext()
    with Stop() as stop, less:
        progress = trainer.run(progress, stop)
    done = progress.step == config.iters
    report = finished(config, progress, data, metrics, time.perf_counter() - begin)
    _say_end(report, done, checkpoints)
    return report, 0 if done else STOPPED


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def check_target(checkpoints: Checkpoints, resume: bool, force: bool) -> None:
    """Raises TrainError where a run would lie over another one's adapters."""
    folder = checkpoints.folder
    if resume:
        checkpoints.load()
    elif (folder / ADAPTERS).exists() or checkpoints.steps():
        if not force:
            raise TrainError(
                f"{folder} holds adapters; go on with --resume, choose another "
                "--adapter-path, or give --force to overwrite them"
            )
        for step in checkpoints.steps():  # --resume must not find them later
            checkpoints.drop(step)


# --- data -------------------------------------------------------------------------


def read_data(config: TrainConfig, processor: Processor) -> Data:
    """All rows of the folder and of the mixture's files, prepared and good.

    Raises DataError, naming them, where any row is not: none is left out in silence.
    """
    if not config.data:
        raise TrainError("there is no training data; give --data DIR with train.jsonl")
    folder = Path(config.data)
    if not folder.is_dir():
        raise TrainError(f"--data {folder} is no folder; give one with train.jsonl")
    mixture: tuple[Category, ...] = ()
    if config.mixture is not None:
        mixture = read_mixture(config.mixture, folder)
    _say("reading the data")
    train = read_split(folder, "train", processor, config.max_seq_length)
    for category in mixture:
        for file in category.files:
            add_rows(train, file, processor, config.max_seq_length, category.name)
    valid = read_split(folder, "valid", processor, config.max_seq_length)
    if not train.read:
        raise DataError(
            f"{folder} has no rows to train on; put them into {folder / 'train.jsonl'}"
        )
    _check_rows([train, valid])
    draws = draws_of([s.category for s in train.samples], mixture, config.seed)
    return Data(train.samples, valid.samples, draws, digest(train.samples))


def _check_rows(splits: Sequence[Split]) -> None:
    problems = [p for s in splits for p in s.problems]
    if problems:
        read = sum(s.read for s in splits)
        raise DataError(
            f"{len(problems)} of {read} rows are bad, and nothing was trained; mend "
            f"them or take them out:{listed(problems)}"
        )


def digest(samples: Sequence[Sample]) -> str:
    """A hash of all that the model is trained on, in its order."""
    made = hashlib.sha256()
    for s in samples:
        made.update(s.ids.tobytes() + s.learnt.tobytes())
        made.update(repr((s.category, [p.key for p in s.pictures])).encode())
    return made.hexdigest()


def valid_batches(samples: Sequence[Sample], config: TrainConfig) -> list[Batch]:
    """The same rows at every validation: all, or as many batches as are wanted."""
    count = len(samples)
    if config.val_batches != -1:
        count = min(count, config.val_batches * config.batch_size)
    chosen = sorted(samples[:count], key=lambda s: len(s.ids))
    size = config.batch_size
    return [collate(chosen[k : k + size]) for k in range(0, count, size)]


# --- where a run begins -----------------------------------------------------------


def starting_point(
    config: TrainConfig,
    model: MM15,
    checkpoints: Checkpoints,
    data: str,
    resume: bool,
) -> tuple[Progress, dict[str, Any] | None]:
    """The first step's progress, or the last checkpoint's with its tensors in place."""
    if not resume:
        if config.resume_adapter_file:
            _start_from(Path(config.resume_adapter_file), model)
        return Progress(0, 0, 0, data, config.to_dict()), None
    progress, tensors, state = checkpoints.load()
    check_same(progress, config.to_dict(), data)
    _fit(tensors, model, checkpoints.place(progress.step) / ADAPTERS)
    put(model, tensors)
    checkpoints.publish(progress.step)  # a kill may have come just before that
    _say(f"going on after step {progress.step}")
    return progress, state


def _start_from(path: Path, model: MM15) -> None:
    """mlx-lm's resume_adapter_file: weights alone, for a new run."""
    if not path.is_file():
        raise TrainError(f"resume_adapter_file {path} does not exist")
    stored, _ = read_header(path)
    strange = [n for n, s in stored.items() if s.dtype not in FLOATS]
    if strange:
        raise TrainError(f"resume_adapter_file {path}: {strange[0]} is no float")
    tensors = mx.load(str(path))
    _fit(tensors, model, path)
    put(model, tensors)


def _fit(tensors: Mapping[str, mx.array], model: MM15, path: Path) -> None:
    expected = {n: x.shape for n, x in trained_tensors(model).items()}
    found = {n: x.shape for n, x in tensors.items()}
    wrong = sorted(
        n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n)
    )
    if wrong:
        raise TrainError(
            f"{path} does not hold what these settings train:{listed(wrong)}"
        )


# --- what is said -----------------------------------------------------------------


def described(data: Data) -> str:
    learnt = sum(int(s.learnt.sum()) for s in data.train)
    longest = max(len(s.ids) for s in data.train)
    pictures = len({p.key for s in data.train for p in s.pictures})
    return (
        f"{len(data.train)} rows to train on, {len(data.valid)} to validate · "
        f"{pictures} pictures · {learnt} learnt tokens · longest row {longest} tokens"
    )


def trained(model: MM15) -> str:
    mine = sum(x.size for x in trained_tensors(model).values())
    whole = sum(x.size for _, x in tree_flatten(model.parameters()))
    return (
        f"training {mine / 1e6:.3f} M of {whole / 1e6:.3f} M numbers, "
        f"{len(adapted(model))} adapted layers"
    )


def finished(
    config: TrainConfig,
    progress: Progress,
    data: Data,
    metrics: Metrics,
    seconds: float,
) -> dict[str, Any]:
    """What `--json` prints."""
    told = [r["loss"] for r in metrics.rows if "loss" in r]
    rows = progress.step * config.batch_size * config.grad_accumulation_steps
    return {
        "model": config.model,
        "adapter_path": config.adapter_path,
        "steps": progress.step,
        "iters": config.iters,
        "loss": told[-1] if told else None,
        "best_valid_loss": progress.best,
        "best_step": progress.best_step,
        "learnt_tokens": progress.tokens,
        "drawn": data.draws.report(rows),
        "seconds": round(seconds, 1),
        "peak_memory_bytes": mx.get_peak_memory(),
    }


def _say_end(report: Mapping[str, Any], done: bool, checkpoints: Checkpoints) -> None:
    if len(report["drawn"]) > 1:
        for line in report_lines(report["drawn"]):
            _say(line)
    if not done:
        _say(
            f"stopped after step {report['steps']} of {report['iters']}; go on with "
            "--resume"
        )
    best = report["best_step"]
    if best is not None and best != report["steps"]:
        _say(
            f"lowest validation loss {report['best_valid_loss']:.4f} after step "
            f"{best}: {checkpoints.place(best)}"
        )
    _say(f"wrote {report['adapter_path']} in {report['seconds']:.0f} s")
