"""Batches of rows: which go together, and the arrays that the loss is made of.

What this file is: rows of like length side by side, padded on the right, each with
positions and attention of its own, so that nothing leaks from one into another; and the
pictures' part, computed once where the encoder is frozen. What it is not: the loss.

B rows, L tokens, T learnt tokens of the batch, M visual tokens, D decoder width.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mm15_mlx.config import UserError
from mm15_mlx.dataset import PictureRef, Sample
from mm15_mlx.mixture import Draws
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.training_rows import DataError

WINDOW = 16  # batches, at most, whose rows are sorted by length among each other
# One, because a run's peak must not be that of its first pictures; more are no faster.
_VIEWS_AT_ONCE = 1


@dataclass(frozen=True)
class Batch:
    """`ids` (B, L); `places` (T,) of the hidden states, counted through B × L, that are
    to predict `targets` (T,); `real` (B, L) is false for padding."""

    ids: mx.array
    places: mx.array
    targets: mx.array
    real: mx.array
    pictures: tuple[PictureRef, ...]  # in the order of their placeholders
    rows: tuple[str, ...]
    shown: tuple[str, ...]  # the row of each picture

    @property
    def count(self) -> int:
        """How many tokens are learnt."""
        return self.targets.size

    @property
    def length(self) -> int:
        """How many tokens there are, without padding."""
        return int(self.real.sum().item())


def collate(samples: Sequence[Sample]) -> Batch:
    """Rows as one batch. Padding stands behind every row, where causal attention keeps
    it from being seen, and every row's positions begin at 0."""
    length = max(len(s.ids) for s in samples)
    ids = np.zeros((len(samples), length), np.int32)
    learnt = np.zeros((len(samples), length), bool)
    real = np.zeros((len(samples), length), bool)
    for b, s in enumerate(samples):
        ids[b, : len(s.ids)] = s.ids
        learnt[b, : len(s.ids)] = s.learnt
        real[b, : len(s.ids)] = True
    learnt[:, 0] = False  # nothing stands before it
    places = np.flatnonzero(learnt)
    return Batch(
        mx.array(ids),
        mx.array(places - 1),
        mx.array(ids.reshape(-1)[places]),
        mx.array(real),
        tuple(p for s in samples for p in s.pictures),
        tuple(s.where for s in samples),
        tuple(s.where for s in samples for _ in s.pictures),
    )


class Batches:
    """Batch `i` of `total` is a function of the data, the draws, the seed and these
    two alone. Together they hold the first `total` × `batch_size` draws.

    Where several processes train, `share` says which this one is and of how many: it
    has every so-manieth row of the batch, which is the same for all of them.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        draws: Draws,
        batch_size: int,
        seed: int,
        total: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._samples = samples
        self._draws = draws
        self._size = batch_size
        self._seed = seed
        self._total = total
        self._share = share
        # No more than all rows once: a row sorted beside itself would be a batch.
        self._wide = max(1, min(WINDOW, len(samples) // batch_size))
        self._window: tuple[int, list[list[int]]] = (-1, [])

    def rows(self, i: int) -> list[int]:
        """The row numbers of batch `i`, from 0, in all processes."""
        if not 0 <= i < self._total:
            raise IndexError(f"batch {i} of {self._total}")
        window, place = divmod(i, self._wide)
        if self._window[0] != window:
            self._window = window, self._sorted(window)
        return self._window[1][place]

    def _sorted(self, window: int) -> list[list[int]]:
        """The batches of a window: alike in length, in no order of length."""
        begin = window * self._wide
        # The last is as wide as what is left: a run ends with its draws used up.
        wide = min(self._wide, self._total - begin)
        places = range(begin * self._size, (begin + wide) * self._size)
        drawn = [self._draws[t] for t in places]
        drawn.sort(key=lambda r: len(self._samples[r].ids))
        cut = [drawn[k : k + self._size] for k in range(0, len(drawn), self._size)]
        order = np.random.default_rng([self._seed, window]).permutation(wide)
        return [cut[k] for k in order]

    def taken(self, count: int) -> Iterator[int]:
        """The rows of the first `count` batches."""
        for i in range(count):
            yield from self.rows(i)

    def __getitem__(self, i: int) -> Batch:
        rank, size = self._share
        return collate([self._samples[r] for r in self.rows(i)[rank::size]])

    def names(self, i: int) -> list[str]:
        """Where all rows of batch `i` stand, other processes' too."""
        return [self._samples[r].where for r in self.rows(i)]


class Pictures:
    """The pictures' part of a batch, as far as frozen parts make it.

    With encoder and connector frozen that is visual tokens (M, D), with a connector
    that trains the encoder's patches, with an encoder that trains normalised views. The
    least recently used go beyond `limit_bytes`; the same values come back then.
    """

    def __init__(
        self, model: MM15, processor: Processor, parts: Sequence[str], limit_bytes: int
    ) -> None:
        self._model = model
        self._processor = processor
        self._limit = limit_bytes
        self._kept: OrderedDict[str, tuple[mx.array, np.ndarray]] = OrderedDict()
        self._bytes = 0
        self.computed = 0
        self._make, self._finish = self._ways(parts)

    def _ways(
        self, parts: Sequence[str]
    ) -> tuple[Callable[[mx.array], mx.array], Callable[[mx.array], mx.array]]:
        """What is computed once of views (V, S, S, 3), and what at every step."""
        model = self._model
        if "encoder" in parts:
            return (lambda x: x), model.encode_image
        if "connector" in parts:
            return model.encoder, model.connector
        return model.encode_image, lambda x: x

    def fetch(self, refs: Sequence[PictureRef]) -> list[tuple[mx.array, np.ndarray]]:
        """What is kept of each picture, computed where it is not, and its packing.

        Raises UserError where one is gone, or is another than was checked.
        """
        return [self._kept_or_made(ref) for ref in refs]

    def of(self, batch: Batch) -> list[tuple[mx.array, np.ndarray]]:
        """`fetch` of a batch's pictures; the UserError names the row too."""
        made = []
        for ref, where in zip(batch.pictures, batch.shown, strict=True):
            try:
                made.append(self._kept_or_made(ref))
            except UserError as e:
                raise DataError(f"{where}: {e}") from e
        return made

    def _kept_or_made(self, ref: PictureRef) -> tuple[mx.array, np.ndarray]:
        if ref.key in self._kept:
            self._kept.move_to_end(ref.key)
            return self._kept[ref.key]
        picture = ref.open(self._processor)
        if picture.key != ref.key:
            raise DataError(
                f"{picture.picture.path or ref.source} has changed since the rows were "
                "checked; put it back, or start a new run"
            )
        groups = []
        for views in self._processor.groups(picture, _VIEWS_AT_ONCE):
            groups.append(self._make(views))
            mx.eval(groups[-1])
        made = mx.concatenate(groups), picture.packing
        mx.eval(made[0])
        self.computed += 1
        self._kept[ref.key] = made
        self._bytes += made[0].nbytes
        while self._bytes > self._limit and len(self._kept) > 1:
            _, (dropped, _) = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return made

    def visual(self, kept: Sequence[tuple[mx.array, np.ndarray]]) -> mx.array | None:
        """Visual tokens (M, D) of pictures, differentiable in the parts that train."""
        if not kept:
            return None
        return mx.concatenate(
            [self._model.pack(self._finish(x), order) for x, order in kept]
        )
