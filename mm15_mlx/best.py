"""Which state of a run is the best, and when no better one is to be expected.

What this file is: `--eval-data`, tasks of `eval` answered by the model in training;
`--save-best`, the measure that decides; `--patience`, how many evaluations may pass
without a gain. What it is not: the metrics (scores.py) or the files (checkpointing.py).
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mm15_mlx.checkpointing import Progress
from mm15_mlx.evaluate import Prediction, Scores, predictions, read_tasks, task_means
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.scores import Said, score
from mm15_mlx.summaries import COUNTS
from mm15_mlx.tasks import Row
from mm15_mlx.train_config import VALID_LOSS, TrainConfig, TrainError

Means = dict[str, Scores]


class Tasks:
    """Tasks that the model in training answers, greedily, as `eval` asks them."""

    def __init__(self, rows: Sequence[Row], model: MM15, processor: Processor) -> None:
        self._rows = rows
        self._model = model
        self._processor = processor

    def means(self) -> Means:
        """Means of every metric by task, without dropout."""
        # What is remembered of pictures and beginnings is another model's by now.
        self._processor.memory.forget()
        self._model.eval()
        done = list(predictions(self._model, self._processor, self._rows))
        self._model.train()
        self._processor.memory.forget()
        return task_means(done)


def read_eval_data(config: TrainConfig) -> list[Row]:
    """The rows of `--eval-data`; none without it. Raises UserError where a row is bad
    or `save_best` names nothing that they measure."""
    rows = read_tasks(Path(config.eval_data)) if config.eval_data else []
    if config.save_best == VALID_LOSS:
        return rows
    if not rows:
        raise TrainError(
            f"save_best is {config.save_best!r}, a metric of tasks; give them with "
            "--eval-data"
        )
    names = measures(rows)
    if config.save_best not in names:
        raise TrainError(
            f"save_best is {config.save_best!r}; {config.eval_data} measures "
            f"{', '.join(names)}"
        )
    return rows


def measures(rows: Sequence[Row]) -> list[str]:
    """`TASK.METRIC` of all that the rows measure."""
    nothing = Said("", ())
    made = [Prediction(r, nothing, score(r, nothing), 0.0) for r in rows]
    return [
        f"{task}.{metric}"
        for task, scores in task_means(made).items()
        for metric in scores
        if metric not in COUNTS
    ]


def measured(
    save_best: str, valid_loss: float | None, means: Means | None
) -> float | None:
    """The value that decides, of one evaluation."""
    if save_best == VALID_LOSS:
        return valid_loss
    task, _, metric = save_best.partition(".")
    return means[task][metric] if means else None


def judged(progress: Progress, save_best: str, value: float | None) -> Progress:
    """Progress after an evaluation: a new best, or one more without a gain.

    A loss is better when it is lower, every metric of tasks when it is higher; what is
    as good as the best is no gain, and a value that is not finite never is one.
    """
    if value is None:
        return progress
    sign = 1 if save_best == VALID_LOSS else -1
    best = progress.best
    if math.isfinite(value) and (best is None or sign * value < sign * best):
        return replace(progress, best=value, best_step=progress.step, stale=0)
    return replace(progress, stale=progress.stale + 1)
