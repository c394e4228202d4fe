"""Half precision where this processor is faster with it.

With AMX a product of matrices in bfloat16 takes a fraction of float32's time; without
anything for it, seventy times as long (measured on an AMD EPYC with AVX2).
"""

import time
from functools import cache

import torch

SIDE, TIMES = 512, 3
CLEARLY = 1.5  # times as fast: where both are alike, two trainings must not differ


def _seconds(dtype: torch.dtype) -> float:
    """Of the quickest of some products of two matrices."""
    a = torch.ones(SIDE, SIDE, dtype=dtype)
    taken = []
    for _ in range(TIMES):
        start = time.perf_counter()
        a @ a
        taken.append(time.perf_counter() - start)
    return min(taken)


@cache
def faster() -> bool:
    """Whether bfloat16 is, clearly; measured once."""
    return CLEARLY * _seconds(torch.bfloat16) < _seconds(torch.float32)


def autocast() -> torch.autocast:
    """Forward passes of the trainer run in this."""
    return torch.autocast("cpu", torch.bfloat16, enabled=faster())
