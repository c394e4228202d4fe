"""All that a run trains and measures on, read and good before the first step.

What this file is: the rows of the folder and of the mixture's files, the tasks of
`--eval-data`, and a hash of them. What it is not: one row (dataset.py), or the order in
which they come (mixture.py, batches.py).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mm15_mlx.batches import Batch, collate
from mm15_mlx.best import read_eval_data
from mm15_mlx.checkpoint import listed
from mm15_mlx.dataset import Sample, Split, add_rows, read_split
from mm15_mlx.hub_rows import is_table
from mm15_mlx.mixture import Category, Draws, draws_of, read_mixture
from mm15_mlx.processor import Processor
from mm15_mlx.tasks import Row
from mm15_mlx.train_config import VALID_LOSS, TrainConfig, TrainError
from mm15_mlx.training_rows import DataError, no_rows


@dataclass(frozen=True)
class Data:
    """Rows that are all good; the digests are hashes of those to train on, with their
    pictures and the task file, and of those to validate."""

    train: list[Sample]
    valid: list[Sample]
    draws: Draws
    tasks: list[Row]
    digest: str
    valid_digest: str = ""


def read_data(
    config: TrainConfig, processor: Processor, say: Callable[[str], None]
) -> Data:
    """All rows of the folder and of the mixture's files, prepared and good.

    Raises DataError, naming them, where any row is not: none is left out in silence.
    """
    if not config.data:
        raise TrainError("there is no training data; give --data DIR with train.jsonl")
    folder = Path(config.data)
    if not folder.is_dir() and not is_table(folder):
        raise TrainError(f"--data {folder} is no folder; give one with train.jsonl")
    mixture: tuple[Category, ...] = ()
    if config.mixture is not None:
        mixture = read_mixture(config.mixture, folder)
    tasks = read_eval_data(config)
    say("reading the data")
    train = read_split(folder, "train", processor, config.max_seq_length)
    for category in mixture:
        for file in category.files:
            add_rows(train, file, processor, config.max_seq_length, category.name)
    valid = read_split(folder, "valid", processor, config.max_seq_length)
    if not train.read:
        raise no_rows(folder)
    _check_rows([train, valid])
    if config.patience is not None and config.save_best == VALID_LOSS:
        if not valid.samples:
            raise DataError(
                f"patience is {config.patience}, but {folder} has no rows to validate; "
                "add valid.jsonl, or give --eval-data and --save-best TASK.METRIC"
            )
    draws = draws_of([s.category for s in train.samples], mixture, config.seed)
    made = digest(train.samples, config.eval_data), digest(valid.samples)
    return Data(train.samples, valid.samples, draws, tasks, *made)


def _check_rows(splits: Sequence[Split]) -> None:
    problems = [p for s in splits for p in s.problems]
    if problems:
        read = sum(s.read for s in splits)
        raise DataError(
            f"{len(problems)} of {read} rows are bad, and nothing was trained; mend "
            f"them or take them out:{listed(problems)}"
        )


def digest(samples: Sequence[Sample], tasks: str | None = None) -> str:
    """A hash of all that is learnt of rows, in their order, and of the task file, which
    decides what is best."""
    made = hashlib.sha256()
    for s in samples:
        made.update(s.ids.tobytes() + s.learnt.tobytes())
        made.update(repr((s.category, [p.key for p in s.pictures])).encode())
    if tasks:
        made.update(Path(tasks).read_bytes())
    return made.hexdigest()


def valid_batches(samples: Sequence[Sample], config: TrainConfig) -> list[Batch]:
    """The same rows at every validation: all, or as many batches as are wanted."""
    count = len(samples)
    if config.val_batches != -1:
        count = min(count, config.val_batches * config.batch_size)
    chosen = sorted(samples[:count], key=lambda s: len(s.ids))
    size = config.batch_size
    return [collate(chosen[k : k + size]) for k in range(0, count, size)]


def described(data: Data) -> str:
    """The data in one line."""
    learnt = sum(int(s.learnt.sum()) for s in data.train)
    longest = max(len(s.ids) for s in data.train)
    pictures = len({p.key for s in data.train for p in s.pictures})
    tasks = f"{len(data.tasks)} tasks · " if data.tasks else ""
    return (
        f"{len(data.train)} rows to train on, {len(data.valid)} to validate · {tasks}"
        f"{pictures} pictures · {learnt} learnt tokens · longest row {longest} tokens"
    )
