"""Freed memory is kept for the next arrays, unless the environment says otherwise."""

import os
import platform
import subprocess
import sys

import pytest

CODE = """
import sys
import mlx.core as mx
import numpy as np
from mm15_mlx import heap
mx.set_default_device(mx.cpu)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
said = heap.keep(), heap.keep()
if sys.argv[2:]:
    heap.keep(heap.TRAINING)
before = resident()
array = np.ones(int(sys.argv[1]) // 4, np.float32)
del array
print(*said, resident() - before)
"""
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc",
    reason="glibc's malloc only",
)


def run(*words: str, **variables: str) -> tuple[list[str], int]:
    """What `keep` said twice, and the bytes that stay after 100 MB were freed, or as
    many as the first word says, with a second one as in a training."""
    free = {
        name: value
        for name, value in os.environ.items()
        if name != "GLIBC_TUNABLES" and not name.startswith("MALLOC_")
    }
    command = [sys.executable, "-c", CODE, *(words or ["100_000_000"])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=free | variables
    )
    *said, stayed = done.stdout.split()
    return said, int(stayed)


@pytest.mark.skipif(
    [int(n) for n in platform.libc_ver()[1].split(".") if n] < [2, 35],
    reason="an older glibc takes no such threshold",
)
def test_what_is_freed_stays() -> None:
    said, stayed = run()
    assert said == ["True", "True"] and stayed > 80_000_000
    # more than that goes back where answers are given, and stays in a training
    assert run("600_000_000")[1] < 500_000_000
    assert run("600_000_000", "training")[1] > 550_000_000


@pytest.mark.parametrize(
    "variables",
    [
        {"MALLOC_ARENA_MAX": "4"},
        {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"},
    ],
)
def test_settings_of_the_environment_win(variables: dict[str, str]) -> None:
    said, stayed = run(**variables)
    assert said == ["False", "False"] and stayed < 20_000_000
