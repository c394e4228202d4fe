"""`mm15-mlx train`: settings and data checked, then a run that can be stopped.

What this file is: the steps in their order, and all that is said on stderr. What it is
not: any of them; see train_data.py, lora.py, trainer.py, best.py, checkpointing.py.
"""

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mm15_mlx import heap
from mm15_mlx.answered import folders_hash
from mm15_mlx.batches import Batches, Pictures
from mm15_mlx.best import Tasks
from mm15_mlx.checkpoint import FLOATS, listed, read_header
from mm15_mlx.checkpointing import BEST, CURVE, Checkpoints, Progress, check_same
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.lora import (
    ADAPTERS,
    adapted,
    adapter_config,
    make_trainable,
    put,
    retiled,
    trained_tensors,
)
from mm15_mlx.metrics import Metrics, Shown, write_curve
from mm15_mlx.mixture import report_lines
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.ranks import Ranks
from mm15_mlx.reporters import check_reporters, open_reporters
from mm15_mlx.train_config import (
    VALID_LOSS,
    TrainConfig,
    TrainError,
    optimizer,
    settings,
)
from mm15_mlx.train_data import Data, described, read_data, valid_batches
from mm15_mlx.trainer import Stop, Trainer, optimizer_like, recomputed
from mm15_mlx.weights import load_model

STOPPED = 130


def run(
    flags: Mapping[str, Any],
    config_file: Path | None = None,
    resume: bool = False,
    force: bool = False,
) -> tuple[dict[str, Any], int]:
    """Train as flags and file say; what came of it, and the exit status.

    130 is a run that was stopped by SIGINT or SIGTERM and can go on. Of several
    processes only the first writes and has something to report. Raises UserError before
    the first step for anything that is wrong with settings, model or data.
    """
    with ExitStack() as held:  # the adapter folder
        return _run(flags, config_file, resume, force, held)


def _run(
    flags: Mapping[str, Any], config_file: Path | None, resume: bool, force: bool,
    held: ExitStack,
) -> tuple[dict[str, Any], int]:  # fmt: skip
    begin = time.perf_counter()
    ranks = Ranks.join()
    say = _say if ranks.first else _silent
    config = settings(flags, config_file, say)
    made = optimizer(config)
    check_processes(config, ranks)
    checkpoints = Checkpoints(Path(config.adapter_path))
    ranks.told_by_first(lambda: check_reporters(config))
    ranks.told_by_first(lambda: check_target(checkpoints, resume, force, held))
    folder = find_model(config.model)
    processor = load_processor(folder)
    processor = Processor(retiled(processor.config, config.tiling), processor.tokenizer)
    data = read_data(config, processor, say)
    check_same_data(data, ranks)
    say(described(data))
    model, _ = load_model(folder)
    heap.keep(heap.TRAINING)
    mx.random.seed(config.seed)  # of the adapters' first values
    make_trainable(model, config.tuning)
    states: list[dict[str, Any] | None] = []

    def first_begins() -> dict[str, Any]:
        fresh = Progress(
            0, 0, 0, data.digest, config.to_dict(),
            valid=data.valid_digest, base=folders_hash([folder]),
        )  # fmt: skip
        found = starting_point(config, model, checkpoints, fresh, resume)
        states.append(found[1])
        if not checkpoints.locked:  # there was no folder; two may begin at once
            checkpoints.make()
            check_target(checkpoints, resume, force, held)
        if not resume:
            checkpoints.set_aside(held)
        checkpoints.begin()
        return asdict(found[0])

    progress = Progress(**ranks.told_by_first(first_begins))
    optimizer_like(made, model, states[0] if states else None)
    if ranks.size > 1:  # the others have no checkpoint
        model.update(ranks.spread(model.trainable_parameters()))
        optimizer_like(made, model, ranks.spread(made.state))
    mx.eval(model.parameters(), made.state)
    say(trained(model))
    with ExitStack() as stack:
        trainer, metrics = prepared(
            config, model, made, processor, data, ranks, checkpoints, progress, stack
        )
        mx.reset_peak_memory()
        if config.grad_checkpoint:
            stack.enter_context(recomputed(model.layers[0]))
        progress, reason = trainer.run(progress, stack.enter_context(Stop()))
    if not metrics:
        return {}, STOPPED if reason == "stopped" else 0
    metrics.add({"step": progress.step, "finish_reason": reason})
    seconds = time.perf_counter() - begin
    trained_on = trainer.batches.taken(progress.step * config.grad_accumulation_steps)
    drawn = data.draws.report(trained_on)
    report = finished(config, progress, reason, drawn, metrics, seconds)
    _say_end(report, checkpoints)
    return report, STOPPED if reason == "stopped" else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _silent(line: str) -> None:
    pass


def prepared(
    config: TrainConfig, model: MM15, made: Any, processor: Processor, data: Data,
    ranks: Ranks, checkpoints: Checkpoints, progress: Progress, stack: ExitStack,
) -> tuple[Trainer, Metrics | None]:  # fmt: skip
    """The trainer of a run; the first process's also saves, tells and has metrics.

    `stack` closes what is shown and reported.
    """
    pictures = Pictures(
        model, processor, config.train_parts, round(config.feature_cache_gb * 1e9)
    )
    share = ranks.rank, ranks.size
    total = config.iters * config.grad_accumulation_steps
    batches = Batches(
        data.train, data.draws, config.batch_size, config.seed, total, share
    )
    means = Tasks(data.tasks, model, processor).means if data.tasks else None
    trainer = Trainer(
        model, made, config, pictures, batches, valid_batches(data.valid, config),
        lambda _: None, lambda _: None, means, ranks,
    )  # fmt: skip
    if not ranks.first:
        return trainer, None
    metrics = Metrics(checkpoints.folder, progress.step)
    reporters = open_reporters(config, checkpoints.folder, progress.step)
    for reporter in reporters:
        stack.callback(reporter.close)
    shown = stack.enter_context(Shown(config.iters, progress.step))

    def save(now: Progress) -> None:
        own = adapter_config(config.tuning, config.to_dict())
        checkpoints.save(now, trained_tensors(model), made.state, own)
        write_curve(metrics.rows, checkpoints.folder / CURVE)

    def tell(row: dict[str, Any]) -> None:
        metrics.add(row)
        shown.add(row)
        for reporter in reporters:
            reporter.add(row)

    trainer.save, trainer.tell, trainer.seen = save, tell, shown.seen
    return trainer, metrics


# --- checks -----------------------------------------------------------------------


def check_target(
    checkpoints: Checkpoints, resume: bool, force: bool, held: ExitStack
) -> None:
    """Raises TrainError where a run would lie over another one's adapters, or cannot
    write; the folder, if there is one, is locked until `held` is closed."""
    folder = checkpoints.folder
    checkpoints.check_place()
    checkpoints.lock(held)
    checkpoints.recover()
    if resume:
        checkpoints.load()
    elif not force and ((folder / ADAPTERS).exists() or checkpoints.steps()):
        raise TrainError(
            f"{folder} holds adapters; go on with --resume, choose another "
            "--adapter-path, or give --force to overwrite them"
        )


def check_processes(config: TrainConfig, ranks: Ranks) -> None:
    """Raises TrainError where a process would have no row of a batch."""
    if config.batch_size < ranks.size:
        raise TrainError(
            f"batch_size is {config.batch_size} for {ranks.size} processes; each needs "
            f"a row of every batch: give {ranks.size} or more"
        )


def check_same_data(data: Data, ranks: Ranks) -> None:
    """Raises TrainError, in every process, where one has other rows than the first."""
    mine = data.digest + data.valid_digest
    if ranks.any(mine != ranks.told_by_first(lambda: mine)):
        raise TrainError(
            "the processes have different training data; copy the same folder to every "
            "machine"
        )


# --- where a run begins -----------------------------------------------------------


def starting_point(
    config: TrainConfig,
    model: MM15,
    checkpoints: Checkpoints,
    fresh: Progress,
    resume: bool,
) -> tuple[Progress, dict[str, Any] | None]:
    """The first step's progress, or the last checkpoint's with its tensors in place."""
    if not resume:
        if config.resume_adapter_file:
            _start_from(Path(config.resume_adapter_file), model)
        return fresh, None
    progress, tensors, state = checkpoints.load()
    check_same(progress, fresh)
    _fit(tensors, model, checkpoints.place(progress.step) / ADAPTERS)
    put(model, tensors)
    checkpoints.publish(progress)  # a kill may have come just before that
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
    reason: str,
    drawn: list[dict[str, Any]],
    metrics: Metrics,
    seconds: float,
) -> dict[str, Any]:
    """What `--json` prints."""
    told = [r["loss"] for r in metrics.rows if "loss" in r]
    return {
        "model": config.model,
        "adapter_path": config.adapter_path,
        "steps": progress.step,
        "iters": config.iters,
        "finish_reason": reason,
        "loss": told[-1] if told else None,
        "save_best": config.save_best,
        "best": progress.best,
        "best_step": progress.best_step,
        "learnt_tokens": progress.tokens,
        "drawn": drawn,
        "seconds": round(seconds, 1),
        "peak_memory_bytes": mx.get_peak_memory(),
    }


def _say_end(report: Mapping[str, Any], checkpoints: Checkpoints) -> None:
    if len(report["drawn"]) > 1:
        for line in report_lines(report["drawn"]):
            _say(line)
    steps, iters = report["steps"], report["iters"]
    if report["finish_reason"] == "stopped":
        _say(f"stopped after step {steps} of {iters}; go on with --resume")
    if report["finish_reason"] == "patience":
        _say(
            f"ended after step {steps} of {iters}: no gain in the last evaluations; a "
            "larger --patience with --resume goes on"
        )
    best = report["best_step"]
    if best is not None:
        name = report["save_best"]
        name = "validation loss" if name == VALID_LOSS else name
        _say(
            f"best {name} {report['best']:.4f} after step {best}: "
            f"{checkpoints.folder / BEST}"
        )
    _say(f"wrote {report['adapter_path']} in {report['seconds']:.0f} s")
