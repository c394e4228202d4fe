"""What the stages share: their command line, and the loop over steps.

`@file` stands for the flags in a file: `python -m …sft @convert/mm15_torch/recipe/
sft.args --screens DIR … --out sft.pt`: one file per stage of the recipe; what comes
later on the line wins.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch

from mm15_mlx.config import UserError
from mm15_mlx.convert.mm15_torch.mates import PATIENCE, meet
from mm15_mlx.convert.mm15_torch.optimizing import save
from mm15_mlx.convert.mm15_torch.store import Screen, Screens
from mm15_mlx.screens.layouts import HELD_OUT
from mm15_mlx.screens.splits import held_out

REPORT = 20  # steps
LATEST = 0.03  # weight of a step in the running means


class StageParser(argparse.ArgumentParser):
    """With the flags of every stage."""

    def __init__(self, description: str | None, steps: int, lr: float) -> None:
        super().__init__(description=description, fromfile_prefix_chars="@")
        self.add_argument("--screens", type=Path, nargs="+", required=True)
        self.add_argument("--views", type=Path, required=True, help="where kept")
        self.add_argument("--out", type=Path, required=True)
        self.add_argument("--steps", type=int, default=steps)
        self.add_argument("--warmup", type=int, default=60)
        self.add_argument("--lr", type=float, default=lr)
        self.add_argument("--save-every", type=int, default=200)
        self.add_argument("--seed", type=int, default=0)
        self.add_argument("--threads", type=int, default=2)
        self.add_argument(
            "--mate", type=Path,
            help="the checkpoint of a training beside this one, with another seed: at "
            "each --save-every the weights become the mean of both",
        )  # fmt: skip

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """Any number of flags and values a line; `#` begins a comment."""
        return shlex.split(arg_line, comments=True)


class Stage(Protocol):
    """A training, after `step` steps."""

    args: argparse.Namespace
    step: int
    screens: Screens

    def train_step(self) -> dict[str, float]:
        """One step; its figures, NaN for what it has none of."""

    def refresh(self) -> None:
        """Takes in screens that were written since."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the step."""


def check(screens: Iterable[Screen]) -> None:
    """UserError where one of them is kept for validation or test."""
    for screen in screens:
        why = held_out(screen.row)
        if why:
            raise UserError(
                f"{screen.row['folder']}, screen {screen.row['id']}: {why}, and scores "
                "on it would mean nothing; leave it out, or train on screens made with "
                "--kits train --exclude-layouts " + ",".join(HELD_OUT)
            )


def train(stage: Stage) -> Iterator[dict[str, float]]:
    """Running means of the figures, now and then; checkpoints at `args.out`."""
    args, checked = stage.args, len(stage.screens.items)
    check(stage.screens.items)
    mean = last_means(log_of(args.out), stage.step)
    started, since = time.time(), stage.step
    while stage.step < args.steps:
        if args.mate and stage.step and stage.step % args.save_every == 0:
            meet(stage.state(), args.mate, stage.step, PATIENCE)
        stats = stage.train_step()
        stage.step += 1
        for k, v in stats.items():
            if v == v:
                mean[k] = (1 - LATEST) * mean[k] + LATEST * v if k in mean else v
        if stage.step % REPORT == 0:
            pace = (time.time() - started) / (stage.step - since)
            shown = {k: round(v, 4) for k, v in mean.items()}
            yield {"step": stage.step, **shown, "seconds_per_step": round(pace, 3)}
        if stage.step % args.save_every == 0 or stage.step == args.steps:
            save(args.out, {**stage.state(), "step": stage.step})
            stage.refresh()
            check(stage.screens.items[checked:])
            checked = len(stage.screens.items)


def log_of(checkpoint: Path) -> Path:
    return checkpoint.with_suffix(".jsonl")


def last_means(log: Path, step: int) -> dict[str, float]:
    """The running means a training logged last up to `step`: one that goes on from its
    checkpoint goes on with them. None where there is no such row."""
    mean: dict[str, float] = {}
    for line in log.read_text().splitlines() if step and log.exists() else []:
        row = json.loads(line)
        if row.pop("step") <= step:
            mean = row
    mean.pop("seconds_per_step", None)
    return mean


def run(make: Callable[[], Stage]) -> None:
    """The training that `make` gives; its rows on stdout and in a log beside the
    checkpoint. A mistake ends with one line and status 2."""
    try:
        follow(make())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def follow(stage: Stage) -> None:
    torch.set_num_threads(stage.args.threads)
    with log_of(stage.args.out).open("a") as log:
        for row in train(stage):
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(row, flush=True)
