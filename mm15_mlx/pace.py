"""How fast a run goes, how long it has still to go, and whether it is asked to stop.

What this file is: signals and a clock. What it is not: what a stop saves (trainer.py).
"""

import signal
import threading
import time
from types import FrameType
from typing import Any

import mlx.core as mx

from mm15_mlx.checkpointing import Progress


class Stop:
    """SIGINT and SIGTERM ask for a stop after the step; a second SIGINT ends it."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


class Clock:
    """Speed since the last reading, and how long the rest will take."""

    def __init__(self, progress: Progress, iters: int) -> None:
        self._iters = iters
        self._start = self._last = time.perf_counter()
        self._first_step, self._tokens = progress.step, progress.read

    def read(self, progress: Progress) -> dict[str, Any]:
        now = time.perf_counter()
        speed = (progress.read - self._tokens) / max(now - self._last, 1e-9)
        a_step = (now - self._start) / max(progress.step - self._first_step, 1)
        self._last, self._tokens = now, progress.read
        return {
            "tokens_per_s": round(speed, 1),
            "seconds_per_step": round(a_step, 3),
            "eta_s": round((self._iters - progress.step) * a_step),
            "peak_memory_bytes": mx.get_peak_memory(),
        }
