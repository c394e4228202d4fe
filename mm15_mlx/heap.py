"""Keeps freed memory for the next arrays, where MLX runs on a Linux CPU.

What this file is: two settings of glibc's malloc. By itself it asks the kernel for
every large array and gives it back at once, and the kernel clears all of its pages
again: a sixth of the time of nine views' encoding, measured. The peak stays the same.
What it is not: MLX's own memory on Metal or CUDA, which keeps it anyway; nor in force
where the environment has settings of its own (MALLOC_…, GLIBC_TUNABLES).
"""

import ctypes
import functools
import os
import platform

import mlx.core as mx

_TRIM, _MMAP = -1, -3  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_KEPT = 512 << 20  # bytes: more than this at the end of the heap goes back
_APART = 256 << 20  # bytes: larger arrays come from the kernel, and go back to it


@functools.cache
def keep() -> bool:
    """Keep what is freed, for the rest of the process; whether it was done."""
    own = any(n == "GLIBC_TUNABLES" or n.startswith("MALLOC_") for n in os.environ)
    glibc = platform.libc_ver()[0] == "glibc"
    if own or not glibc or mx.default_device().type != mx.cpu:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP, _APART) and mallopt(_TRIM, _KEPT))
