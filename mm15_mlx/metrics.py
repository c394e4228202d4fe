"""What a training says of itself: a line for people, JSON lines, and a loss curve."""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mm15_mlx.checkpointing import METRICS, unwritable
from mm15_mlx.outputs import left_text, progress_bar, write_lines
from mm15_mlx.summaries import COUNTS

_SIZE, _LEFT, _TOP, _RIGHT, _BOTTOM = (900, 500), 70, 40, 20, 40
_COLORS = {"loss": "#0a84ff", "valid_loss": "#e6194b"}
_INK, _GRID = "#202124", "#d9dce0"

Row = dict[str, Any]


class Metrics:
    """The rows of one run, in memory and in `metrics.jsonl` of its folder."""

    def __init__(self, folder: Path, step: int) -> None:
        """step: where the run goes on; what was written of later steps is dropped."""
        self.path = folder / METRICS
        self.rows: list[Row] = []
        if step and self.path.is_file():
            self.rows = [
                r
                for r in read_metrics(self.path)
                if r["step"] <= step and "finish_reason" not in r
            ]
        with writing(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            if self.rows:
                write_lines(self.path, [json.dumps(r) for r in self.rows])
            else:
                self.path.write_text("", encoding="utf-8")

    def add(self, row: Row) -> None:
        """Raises TrainError where the disk is full."""
        self.rows.append(row)
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong with the disk, as a TrainError that names the file."""
    try:
        yield
    except OSError as e:
        raise unwritable(path, e) from e


def read_metrics(path: Path) -> list[Row]:
    """The whole rows of a file; the last may have been cut off by a kill."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        rows.append(row)
    return rows


def progress_line(row: Row, iters: int) -> str:
    """A row of metrics as one short line."""
    if "valid_loss" in row:
        return f"step {row['step']}/{iters} · validation loss {row['valid_loss']:.4f}"
    if "tasks" in row:
        shown = (f"{name} {value:.3f}" for name, value in task_values(row))
        return f"step {row['step']}/{iters} · {' · '.join(shown)}"
    return (
        f"step {row['step']}/{iters} · loss {row['loss']:.4f} · "
        f"{row['tokens_per_s']:.0f} tokens/s · "
        f"{row['seconds_per_step']:.2f} s a step · {left_text(row['eta_s'])} left · "
        f"{row['peak_memory_bytes'] / 1e6:.0f} MB"
    )


def task_values(row: Row) -> Iterator[tuple[str, float]]:
    """`TASK.METRIC` and value of a row of `--eval-data`."""
    for task, means in row["tasks"].items():
        for metric, value in means.items():
            if metric not in COUNTS:
                yield f"{task}.{metric}", value


class Shown:
    """What people see on stderr: lines; in a terminal a bar moves below them, which has
    the latest loss instead of a line for each."""

    def __init__(self, iters: int, step: int) -> None:
        """step: where the run begins."""
        self._iters = iters
        self._bar: Any = None
        if sys.stderr.isatty():
            self._bar = progress_bar("{task.description}")
            self._task = self._bar.add_task("", total=iters, completed=step)

    def __enter__(self) -> "Shown":
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def seen(self, step: int) -> None:
        if self._bar:
            self._bar.update(self._task, completed=step)

    def add(self, row: Row) -> None:
        line = progress_line(row, self._iters)
        if self._bar and "loss" in row:
            said = f"loss {row['loss']:.4f} · {row['tokens_per_s']:.0f} tokens/s"
            self._bar.update(self._task, description=said)
        elif self._bar:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


def write_curve(rows: Sequence[Row], target: Path) -> None:
    """A picture of the losses by step; nothing where no two steps were reported.

    Raises TrainError where the disk is full.
    """
    lines = {key: [(r["step"], r[key]) for r in rows if key in r] for key in _COLORS}
    points = [p for line in lines.values() for p in line]
    if len({x for x, _ in points}) < 2:
        return
    image = Image.new("RGB", _SIZE, "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=13)
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    high = high if high > low else low + 1
    width, height = _SIZE[0] - _LEFT - _RIGHT, _SIZE[1] - _TOP - _BOTTOM

    def place(step: float, loss: float) -> tuple[float, float]:
        x = _LEFT + width * (step - first) / (last - first)
        return x, _TOP + height * (high - loss) / (high - low)

    for k in range(6):
        step = first + (last - first) * k / 5
        loss = low + (high - low) * k / 5
        (x, _), (_, y) = place(step, low), place(first, loss)
        pen.line((_LEFT, y, _LEFT + width, y), fill=_GRID)
        pen.text((8, y - 8), f"{loss:.3g}", fill=_INK, font=font)
        pen.text((x - 10, _TOP + height + 8), f"{step:.0f}", fill=_INK, font=font)
    for k, (key, line) in enumerate(lines.items()):
        if not line:
            continue
        drawn = [place(*p) for p in line]
        pen.line(drawn, fill=_COLORS[key], width=2)
        for x, y in drawn if len(drawn) < 60 else []:
            pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_COLORS[key])
        label = key.replace("valid_loss", "validation loss")
        pen.text((_LEFT + 150 * k, 12), label, fill=_COLORS[key], font=font)
    partial = target.with_name(f".{target.stem}.partial.png")
    with writing(target):
        image.save(partial)
        os.replace(partial, target)
