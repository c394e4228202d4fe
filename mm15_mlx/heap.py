"""Keeps freed memory for the next arrays, where MLX runs on a Linux CPU.

What this file is: settings of glibc's malloc. By itself it asks the kernel for every
large array and gives it back at once, and the kernel clears all of its pages again: a
sixth of the time of nine views' encoding, measured, and a quarter of a training step.
The peak stays the same. What it is not: MLX's own memory on Metal or CUDA, which keeps
it anyway; nor in force where the environment has settings of its own (MALLOC_…,
GLIBC_TUNABLES).
"""

import ctypes
import functools
import os
import platform

import mlx.core as mx

# malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX
_TRIM, _MMAP, _ARENAS = -1, -3, -8
# Bytes: more than the first at the end of the heap goes back; arrays larger than the
# second come from the kernel, and go back to it. A program that answers shares the
# machine with others; a training needs all of it again at its next step.
ANSWERS = (512 << 20, 256 << 20)
TRAINING = (-1, -1)  # no limits


@functools.cache
def keep(most: tuple[int, int] = ANSWERS) -> bool:
    """Keep what is freed, for the rest of the process; whether it was done. Once for
    each of `most`: what is asked for last is in force."""
    own = any(n == "GLIBC_TUNABLES" or n.startswith("MALLOC_") for n in os.environ)
    glibc = platform.libc_ver()[0] == "glibc"
    if own or not glibc or mx.default_device().type != mx.cpu:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim, apart = most
    # one arena: those of threads give whole parts of themselves back
    given = ((_ARENAS, 1), (_MMAP, apart), (_TRIM, trim))
    return all([mallopt(name, value) for name, value in given])
