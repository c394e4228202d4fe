"""Several processes that train one model together, each on its share of every batch.

What this file is: what they say to each other, by MLX's own backends (`mlx.launch`
starts the processes). The first of them reads and writes files and talks; the others
get from it what they need. Alone, nothing here does anything. What it is not: which
rows are whose (batches.py).
"""

import json
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from mm15_mlx.config import UserError


class Ranks:
    """The processes of one run: this one's `rank`, from 0, and how many, `size`."""

    def __init__(self, group: mx.distributed.Group | None = None) -> None:
        self._group = group
        self.rank = group.rank() if group else 0
        self.size = group.size() if group else 1

    @classmethod
    def join(cls) -> "Ranks":
        """Those that `mlx.launch` started, or this process alone."""
        group = mx.distributed.init()
        return cls(group if group.size() > 1 else None)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def sum(self, values: mx.array) -> mx.array:
        """The sum over all processes, the same on each."""
        return self._all_sum(values) if self._group else values

    def sum_inside(self, values: mx.array) -> mx.array:
        """`sum`, for use while a graph is built: sent when the graph is computed."""
        if not self._group:
            return values
        return mx.distributed.all_sum(values, group=self._group)

    def total(self, *counts: int) -> list[int]:
        """Sums of whole numbers over all processes."""
        if not self._group:
            return list(counts)
        return self._all_sum(mx.array(counts, mx.int64)).tolist()

    def any(self, here: bool) -> bool:
        """Whether it is so in any process, the same answer on each."""
        return self.total(int(here))[0] > 0

    def mean(self, gradients: Any) -> Any:
        """The mean of gradients over all processes."""
        if not self._group:
            return gradients
        return nn.average_gradients(gradients, self._group)

    def spread(self, tree: Any) -> Any:
        """The first process's arrays on all of them; every one has the same names and
        shapes."""
        if not self._group:
            return tree
        # By name: a checkpoint is read in another order than a fresh state has.
        found = sorted(tree_flatten(tree), key=lambda item: item[0])
        sent = [(n, x if self.first else mx.zeros_like(x)) for n, x in found]
        return tree_unflatten([(n, self._all_sum(x)) for n, x in sent])

    def told_by_first(self, call: Callable[[], Any]) -> Any:
        """What `call`, made in the first process alone, returns (JSON) or raises."""
        if not self._group:
            return call()
        said = b""
        if self.first:
            try:
                said = json.dumps({"value": call()}).encode()
            except UserError as e:
                said = json.dumps({"error": str(e)}).encode()
        (length,) = self.total(len(said))
        sent = np.zeros(length, np.uint8)
        if self.first:
            sent[:] = np.frombuffer(said, np.uint8)
        heard = json.loads(np.array(self._all_sum(mx.array(sent))).tobytes())
        if "error" in heard:
            raise UserError(heard["error"])
        return heard["value"]

    def _all_sum(self, array: mx.array) -> mx.array:
        done = mx.distributed.all_sum(array, group=self._group)
        mx.eval(done)  # in the same order everywhere
        return done


ALONE = Ranks()
