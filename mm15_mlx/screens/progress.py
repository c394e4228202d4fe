"""How far a run is, on stderr: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY = 25  # screens between two lines


@contextmanager
def shown(total: int, what: str = "screens") -> Iterator[Callable[[], None]]:
    """A function to call after every screen, or whatever is counted."""
    with (_bar if sys.stderr.isatty() else _lines)(total, what) as step:
        yield step


@contextmanager
def _lines(total: int, what: str) -> Iterator[Callable[[], None]]:
    began, count = time.perf_counter(), 0

    def step() -> None:
        nonlocal count
        count += 1
        if count % EVERY == 0 or count == total:
            rate = count / (time.perf_counter() - began)
            print(f"{count}/{total} {what}, {rate:.1f}/s", file=sys.stderr)

    yield step


@contextmanager
def _bar(total: int, what: str) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.completed}/{task.total} " + what),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    console = Console(file=sys.stderr)
    began = time.perf_counter()
    with Progress(*columns, console=console, redirect_stdout=False) as progress:
        task = progress.add_task("", total=total, rate="")

        def step() -> None:
            progress.advance(task)
            rate = progress.tasks[0].completed / (time.perf_counter() - began)
            progress.update(task, rate=f"{rate:.1f}/s")

        yield step
