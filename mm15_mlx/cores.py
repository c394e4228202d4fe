"""NumPy's loops on all cores, beside the threads of MLX's BLAS.

Used where MLX runs on an x86 CPU; see fast_cpu.py.
"""

import functools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from mm15_mlx.blas import usable_cores

Part = TypeVar("Part")


def on_all_cores(compute: Callable[[Part], None], parts: Iterable[Part]) -> None:
    """`compute` of every part, on as many threads as there are cores: NumPy's loops run
    side by side.

    Its products stay on one thread each: more would wait for the cores that these and
    the threads of MLX's BLAS have.
    """

    def quiet(part: Part) -> None:
        with np.errstate(all="ignore"):  # exp may reach infinity, as MLX's does
            compute(part)

    with _libraries().limit(limits=1, user_api="blas"):
        for _ in _threads().map(quiet, parts):
            pass


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="mm15-fast-cpu")


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()
