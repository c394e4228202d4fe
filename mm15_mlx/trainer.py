"""The loss and the loop: batch by batch, to the last step or to the first thing wrong.

What this file is: next-token cross-entropy on the assistant's tokens, MM1.5's router
losses where there are experts, gradients over several batches as if they were one,
clipping, validation, and a stop that loses nothing: asked for, or because a number is
not finite. What it is not: the data, the settings, or files (checkpointing.py).

B rows, L tokens, T learnt tokens, D decoder width.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map

from mm15_mlx.batches import Batch, Batches, Pictures
from mm15_mlx.best import Means, judged, measured
from mm15_mlx.checkpointing import Progress
from mm15_mlx.config import UserError
from mm15_mlx.decoder import first_choices, router_losses
from mm15_mlx.lora import trained_tensors
from mm15_mlx.mm15 import MM15
from mm15_mlx.pace import Clock, Stop
from mm15_mlx.ranks import ALONE, Ranks
from mm15_mlx.train_config import TrainConfig, TrainError

Kept = Sequence[tuple[mx.array, Any]]


def losses(
    model: MM15, batch: Batch, pictures: Pictures, kept: Kept, ranks: Ranks = ALONE
) -> tuple[mx.array, mx.array]:
    """The summed cross-entropy of a batch's learnt tokens, and its router losses: of
    this process's rows, whose sums over processes are those of all rows.

    Both float32. Only learnt tokens meet the head: of a screenshot's 2000 few are.
    """
    visual = pictures.visual(kept)
    embeddings = model.embed_inputs(batch.ids, visual)  # (B, L, D)
    hidden, routers = model.decoder.with_router_logits(batch.ids, None, embeddings)
    picked = hidden.reshape(-1, hidden.shape[-1])[batch.places]  # (T, D)
    logits = model.decoder.logits(picked).astype(mx.float32)
    text = nn.losses.cross_entropy(logits, batch.targets).sum()
    config = model.config.text_config
    extra = mx.array(0.0)
    if not routers:
        return text, extra
    # Balance is bilinear: (choices of all rows, constant) × (probabilities, a sum over
    # rows). So choices alone are sent, all layers' at once, and gradients stay local.
    chosen = mx.stack([first_choices(router, batch.real) for router in routers])
    for router, counts in zip(routers, ranks.sum_inside(chosen), strict=True):
        balance, z = router_losses(router, batch.real, counts)
        extra = extra + config.router_aux_loss_coef * balance
        extra = extra + config.router_z_loss_coef * z
    return text, extra


def loss_and_gradients(
    model: MM15, batches: Sequence[Batch], pictures: Pictures, ranks: Ranks = ALONE
) -> tuple[mx.array, Any]:
    """The mean cross-entropy of all learnt tokens of `batches`, and its gradients.

    Every token weighs the same, in whichever batch or process it is: several small
    batches give what one large one would. Router losses, which are of a batch with all
    processes' rows, weigh by its tokens.
    """
    counts = ranks.total(*(b.count for b in batches))
    total = sum(counts)
    # The mean over processes of gradients that each has as if it were all of them.
    share = total / ranks.size

    def objective(
        model: MM15, batch: Batch, count: int, kept: Kept
    ) -> tuple[mx.array, mx.array]:
        text, extra = losses(model, batch, pictures, kept, ranks)
        return (text + extra * count) / share, text

    text, gradients = mx.array(0.0), None
    for batch, count in zip(batches, counts, strict=True):
        kept = pictures.of(batch)
        (_, part), new = nn.value_and_grad(model, objective)(model, batch, count, kept)
        text = text + part
        gradients = new if gradients is None else tree_map(mx.add, gradients, new)
        mx.eval(text, gradients)
    return ranks.sum(text) / total, ranks.mean(gradients)


def evaluate(
    model: MM15, batches: Sequence[Batch], pictures: Pictures, ranks: Ranks = ALONE
) -> float:
    """The mean cross-entropy of the learnt tokens, without dropout; each process takes
    its share of the batches."""
    model.eval()
    mine = 0.0
    for batch in batches[ranks.rank :: ranks.size]:
        text, _ = losses(model, batch, pictures, pictures.of(batch))
        mine += float(text.item())
    model.train()
    total = float(ranks.sum(mx.array(mine)).item()) if ranks.size > 1 else mine
    return total / sum(b.count for b in batches)


@contextmanager
def recomputed(layer: nn.Module) -> Iterator[None]:
    """Layers of this class forget what they computed and do it again for gradients.

    As mlx-lm does it, but that dropout drops the same numbers the second time, and only
    while the block runs.
    """
    kind = type(layer)
    call = kind.__call__

    def forgetful(self: nn.Module, x: mx.array, mask: Any, cache: Any) -> Any:
        if not self.training:  # no gradients, and perhaps a cache that is written to
            return call(self, x, mask, cache)
        # MLX's random state cannot be set, only seeded.
        seed = int(mx.random.randint(0, 2**31 - 1, ()).item())

        def inner(parameters: Any, x: mx.array) -> Any:
            mx.random.seed(seed)
            self.update(parameters)
            return call(self, x, mask, cache)

        return mx.checkpoint(inner)(self.trainable_parameters(), x)

    kind.__call__ = forgetful
    try:
        yield
    finally:
        kind.__call__ = call


class Ruined(TrainError):
    """A state that is not good; what was saved before it is."""


@dataclass
class Trainer:
    """One run. `save` writes a checkpoint, `tell` takes a row of metrics, `means` has
    the model in training answer tasks, `seen` is told of every step."""

    model: MM15
    optimizer: optim.Optimizer
    config: TrainConfig
    pictures: Pictures
    batches: Batches
    valid: Sequence[Batch]
    save: Callable[[Progress], None]
    tell: Callable[[dict[str, Any]], None]
    means: Callable[[], Means] | None = None
    ranks: Ranks = ALONE
    seen: Callable[[int], None] = lambda step: None
    _kept: int = field(default=0, init=False)  # the step that was saved last

    def run(self, progress: Progress, stop: Stop) -> tuple[Progress, str]:
        """From `progress` to the end; saved there, and why it is the end: `iters`, no
        gain for so long (`patience`), or a stop that was asked for (`stopped`).

        Raises TrainError, with the last good state saved, where a number is not finite
        or something that a step needs is gone. A state is good when it has given a
        finite loss: none is saved before that.
        """
        self.model.train()
        clock = Clock(progress, self.config.iters)
        self._kept = progress.step
        stopped = proven = False
        while not (reason := self._end(progress, stopped)):
            progress, norm = self._step(progress)
            self.seen(progress.step)
            progress, proven = self._told(progress, norm, clock)
            stopped = self.ranks.any(stop.asked)
            best = progress.best_step == progress.step
            if best or stopped or progress.step % self.config.save_every == 0:
                self._save(progress, proven)
        if self._kept != progress.step:
            self._save(progress, proven)
        return progress, reason

    def _end(self, progress: Progress, stopped: bool) -> str | None:
        """Why there is no further step, if there is none."""
        patience = self.config.patience
        if progress.step >= self.config.iters:
            return "iters"
        if patience is not None and progress.stale >= patience:
            return "patience"
        return "stopped" if stopped else None

    def _step(self, progress: Progress) -> tuple[Progress, float]:
        # Of the step alone, so that a run that goes on drops out the same numbers; and
        # of the process, whose rows are others.
        seed = self.config.seed * 1_000_003 + progress.step
        mx.random.seed(seed + self.ranks.rank * 1_000_000_007)
        numbers = self._numbers(progress.step)
        batches = [self.batches[i] for i in numbers]
        good = self.model.trainable_parameters()
        try:
            loss, gradients = loss_and_gradients(
                self.model, batches, self.pictures, self.ranks
            )
        except UserError as e:  # a picture
            self.model.update(good)  # gradients leave their tracers in the model
            raise self._lost(progress, e) from e
        limit = self.config.max_grad_norm or math.inf
        gradients, norm = optim.clip_grad_norm(gradients, limit)
        value, size = float(loss.item()), float(mx.array(norm).item())
        if not (math.isfinite(value) and math.isfinite(size)):
            self.model.update(good)
            what = f"gradient is {size}" if math.isfinite(value) else f"loss is {value}"
            what = f"{what} at step {progress.step + 1}, of the {self._rows(numbers)}"
            self._rescue(progress)
            raise self._ruined(what, "look at those rows, or start")
        del good
        self.optimizer.update(self.model, gradients)
        del gradients
        state = (self.model.trainable_parameters(), self.optimizer.state)
        sound = finite(state)
        mx.eval(state, sound)
        if not self.ranks.any(not sound.item()):
            tokens, read = self.ranks.total(
                sum(b.count for b in batches), sum(b.length for b in batches)
            )
            after = replace(
                progress,
                step=progress.step + 1,
                tokens=progress.tokens + tokens,
                read=progress.read + read,
                window_loss=progress.window_loss + value * tokens,
                window_tokens=progress.window_tokens + tokens,
            )
            return after, size
        what = f"update of step {progress.step + 1} is not finite"
        raise self._ruined(what, "start")

    def _numbers(self, step: int) -> range:
        """The batches of the step after `step`."""
        count = self.config.grad_accumulation_steps
        return range(step * count, (step + 1) * count)

    def _rows(self, numbers: range) -> str:
        names = [name for i in numbers for name in self.batches.names(i)]
        return f"rows {'; '.join(names)}"

    # --- what is good, and kept ---------------------------------------------------

    def _save(self, progress: Progress, proven: bool) -> None:
        """Raises TrainError where the state gives no finite loss."""
        loss = 0.0 if proven else self._loss_now(progress)
        if self.ranks.any(not math.isfinite(loss)):
            rows = self._rows(self._numbers(progress.step - 1)[-1:])
            what = f"loss is {loss} after step {progress.step}, of the {rows}"
            raise self._ruined(what, "look at those rows, or start")
        self.save(progress)
        self._kept = progress.step

    def _loss_now(self, progress: Progress) -> float:
        """The loss of this process's last batch, with what its step made of it."""
        last = self.batches[self._numbers(progress.step - 1)[-1]]
        return evaluate(self.model, [last], self.pictures)

    def _rescue(self, progress: Progress) -> None:
        """Save what is good before the run ends, if it can be saved."""
        if self._kept == progress.step or not finite(trained_tensors(self.model)):
            return
        try:
            good = math.isfinite(self._loss_now(progress))
        except UserError:  # its picture is gone too; the loss before was finite
            good = True
        if good:
            self.save(progress)
            self._kept = progress.step

    def _lost(self, progress: Progress, error: UserError) -> TrainError:
        """The error of a run that lacks something, with the state saved."""
        try:
            self._rescue(progress)
        except TrainError:  # a full disk fills for the checkpoint as well
            pass
        return TrainError(f"{error} ({self._where()})")

    def _ruined(self, what: str, remedy: str) -> Ruined:
        return Ruined(
            f"the {what}; {self._where()}: {remedy} again with a lower learning_rate"
        )

    def _where(self) -> str:
        if self._kept:
            return f"the state after step {self._kept} is kept"
        return "nothing was trained"

    # --- what is told -------------------------------------------------------------

    def _told(
        self, progress: Progress, norm: float, clock: Clock
    ) -> tuple[Progress, bool]:
        """Progress after what is due: a report, an evaluation; and whether that has
        shown a finite loss of the state."""
        step, config = progress.step, self.config
        last = step == config.iters
        proven = False
        try:
            if last or step % config.steps_per_report == 0:
                progress = self._report(progress, norm, clock)
            if last or step % config.steps_per_eval == 0:
                progress, proven = self._evaluated(progress)
        except UserError as e:
            if isinstance(e, Ruined):
                raise
            raise self._lost(progress, e) from e
        return progress, proven

    def _report(self, progress: Progress, norm: float, clock: Clock) -> Progress:
        self.tell(
            {
                "step": progress.step,
                "loss": progress.window_loss / progress.window_tokens,
                "learning_rate": float(self.optimizer.learning_rate.item()),
                "grad_norm": norm,
                "learnt_tokens": progress.tokens,
                **clock.read(progress),
            }
        )
        return replace(progress, window_loss=0.0, window_tokens=0)

    def _evaluated(self, progress: Progress) -> tuple[Progress, bool]:
        """An evaluation. Raises Ruined where its loss is not finite."""
        loss = means = None
        if self.valid:
            loss = evaluate(self.model, self.valid, self.pictures, self.ranks)
            if not math.isfinite(loss):
                what = f"validation loss is {loss} after step {progress.step}"
                raise self._ruined(what, "start")
            self.tell({"step": progress.step, "valid_loss": loss})
        if self.means:
            means = self.ranks.told_by_first(self.means)
            self.tell({"step": progress.step, "tasks": means})
        value = measured(self.config.save_best, loss, means)
        return judged(progress, self.config.save_best, value), loss is not None


def finite(tree: Any) -> mx.array:
    """Whether all floats of a tree are: one reduction, no number leaves the device."""
    floats = [x for _, x in tree_flatten(tree) if mx.issubdtype(x.dtype, mx.floating)]
    return mx.stack([mx.isfinite(x).all() for x in floats]).all()


def optimizer_like(
    optimizer: optim.Optimizer, model: MM15, state: dict[str, Any] | None
) -> None:
    """Give the optimizer the state of a checkpoint, or a fresh one.

    Raises TrainError where it is that of other tensors.
    """
    optimizer.init(model.trainable_parameters())
    if state is None:
        return
    fresh = dict(tree_flatten(optimizer.state))
    stored = dict(tree_flatten(state))
    wrong = sorted(
        n for n in fresh.keys() | stored.keys()
        if n not in fresh or n not in stored or fresh[n].shape != stored[n].shape
    )  # fmt: skip
    if wrong:
        raise TrainError(
            f"--resume: the optimizer's state does not fit the model ({wrong[0]}); "
            "start a new run in another --adapter-path"
        )
    optimizer.state = state
    optimizer.init(model.trainable_parameters())
