"""Few bits taught to say what their source says: `quantize --dwq`.

What this file is: DWQ, distilled weight quantisation, for questions about pictures.
Packed words stay as they are; the scales and biases that they are read with are
trained until the next token, along answers of the source, is as likely as there. What
it is not: mlx-lm's loop of that name, which learns every token of a text, can be shown
no picture, and writes to stdout.

A answer tokens, K words kept of the vocabulary V, L tokens, D decoder width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim

from mm15_mlx.config import UserError
from mm15_mlx.drift import Row, log_probs
from mm15_mlx.generate import Timings, embed_prompt
from mm15_mlx.load import load_processor
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.quantize import TEXT_PARTS, Quantisation, part_of, stored_parameters
from mm15_mlx.tasks import read_tasks
from mm15_mlx.weights import load_model, write_weights

KEPT = 1024  # words of a distribution, the likeliest: mlx-lm's
BATCH = 4  # answers of a step: mlx-lm's
ANSWERS = 512  # of tasks; mlx-lm takes 2048 texts
APART = 8  # one answer in so many is not learnt but measured on (our choice)
LOOKS = 10  # so often, at even distances
AT_ONCE = 16  # answers whose whole distributions are in memory
# Of a step's change relative to a scale, and of an offset relative to a step of the
# grid, so that it fits weights of every size (not published: our choice). All scales of
# a layer move the same way at first. Measured on nano-ui in 4 bits: five steps take a
# third off the divergence; at 1e-3 the first one makes it ten times as large.
LEARNING_RATE = 5e-5
Say = Callable[[str], None]
Theta = dict[str, dict[str, mx.array]]  # relative changes of scales and biases by path


@dataclass(frozen=True)
class Target:
    """An answer of the source, and the likeliest words at each of its tokens."""

    row: Row
    words: mx.array  # (A, K)
    logs: mx.array  # (A, K), log-probabilities


def targets(model: MM15, processor: Processor, rows: Sequence[Row]) -> list[Target]:
    """What the source says along its answers."""
    found = []
    for start in range(0, len(rows), AT_ONCE):
        part = rows[start : start + AT_ONCE]
        for row, logs in zip(part, log_probs(model, processor, part, {}), strict=True):
            kept = min(KEPT, logs.shape[-1])
            words = mx.argpartition(-logs, kth=kept - 1, axis=-1)[:, :kept]
            found.append(Target(row, words, mx.take_along_axis(logs, words, axis=-1)))
            mx.eval(found[-1].words, found[-1].logs)
    return found


def teachable(ways: Mapping[str, Quantisation]) -> list[str]:
    """The layers of the text that there is something to teach: affine ones below 8
    bits, as in mlx-lm; in 8 bits the scales are not what is wrong."""
    return [
        path
        for path, way in ways.items()
        if way.mode == "affine" and way.bits < 8 and part_of(path) in TEXT_PARTS
    ]


class Pupil:
    """A quantised model whose layers at `paths` are read with changed scales."""

    def __init__(self, model: MM15, processor: Processor, paths: Sequence[str]) -> None:
        self.model = model
        self.processor = processor
        modules = dict(model.named_modules())
        self._layers = {path: modules[path] for path in paths}
        self._first = {p: (m.scales, m.biases) for p, m in self._layers.items()}
        processor.memory.serve(model)

    def zero(self) -> Theta:
        return {
            path: {"scales": mx.zeros(s.shape), "biases": mx.zeros(s.shape)}
            for path, (s, _) in self._first.items()
        }

    def put(self, theta: Theta) -> None:
        for path, (scales, biases) in self._first.items():
            change, layer = theta[path], self._layers[path]
            layer.scales = (scales * (1 + change["scales"])).astype(scales.dtype)
            layer.biases = (biases + scales * change["biases"]).astype(scales.dtype)

    def tensors(self) -> dict[str, mx.array]:
        """What was trained, by the names of a model folder."""
        return {
            f"{path}.{name}": layer[name]
            for path, layer in self._layers.items()
            for name in ("scales", "biases")
        }

    def divergence(self, target: Target) -> mx.array:
        """KL from the source, summed over an answer's tokens and their kept words."""
        prepared, answer = target.row.prepared, target.row.answer
        model = self.model
        whole = embed_prompt(model, self.processor, prepared, 0, Timings())
        ids = mx.array([prepared.ids + answer[:-1]])
        embeddings = [whole]
        if len(answer) > 1:
            embeddings.append(model.decoder.embed(ids[:, len(prepared.ids) :]))
        embeddings = mx.concatenate(embeddings, axis=1)  # (1, L + A - 1, D)
        hidden = model.decoder(ids, None, embeddings)[0, -len(answer) :]  # (A, D)
        logits = model.decoder.logits(hidden).astype(mx.float32)  # (A, V)
        logs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        logs = mx.take_along_axis(logs, target.words, axis=-1)
        return (mx.exp(target.logs) * (target.logs - logs)).sum()

    def mean(self, some: Sequence[Target]) -> float:
        """Nats per answer token."""
        total = sum(float(self.divergence(t).item()) for t in some)
        return total / sum(len(t.row.answer) for t in some)

    def step(self, theta: Theta, batch: Sequence[Target]) -> tuple[float, Theta]:
        """The batch's mean divergence with `theta`, and its gradients."""
        tokens = sum(len(t.row.answer) for t in batch)

        def loss(theta: Theta, target: Target) -> mx.array:
            self.put(theta)
            return self.divergence(target) / tokens

        total, gradients = 0.0, None
        for target in batch:
            value, new = mx.value_and_grad(loss)(theta, target)
            gradients = new if gradients is None else _sum(gradients, new)
            mx.eval(value, gradients)
            total += float(value.item())
        self.put(theta)  # gradients leave their tracers in the model
        return total, gradients


def _sum(one: Theta, other: Theta) -> Theta:
    return {
        path: {name: change[name] + other[path][name] for name in change}
        for path, change in one.items()
    }


def batches(some: Sequence[Target]) -> Iterator[list[Target]]:
    """Without end: all in a new order each time, the same in every run."""
    rng = Random(0)
    while True:
        order = rng.sample(some, len(some))
        for start in range(0, len(order), BATCH):
            yield order[start : start + BATCH]


def teach(
    pupil: Pupil, lesson: Sequence[Target], iters: int, say: Say
) -> dict[str, Any]:
    """Train for `iters` steps, and keep the state that is closest to the source on the
    answers that were kept apart: that of the beginning, if none is closer.

    Needs two targets. Returns counts, and nats per token of what was kept apart.
    """
    apart = lesson[::APART]
    learnt = batches([t for i, t in enumerate(lesson) if i % APART])
    optimizer = optim.Adam(LEARNING_RATE, bias_correction=True)
    theta = best = pupil.zero()
    before = least = pupil.mean(apart)
    best_iter = 0
    for number in range(1, iters + 1):
        loss, gradients = pupil.step(theta, next(learnt))
        theta = optimizer.apply_gradients(gradients, theta)
        mx.eval(theta, optimizer.state)
        if number % max(1, iters // LOOKS) and number < iters:
            continue
        pupil.put(theta)
        now = pupil.mean(apart)
        say(f"step {number} of {iters}: learnt {loss:.2e}, kept apart {now:.2e} nats")
        if now < least:
            best, least, best_iter = theta, now, number
    pupil.put(best)
    mx.eval(pupil.tensors())
    return {
        "answers": len(lesson) - len(apart), "apart": len(apart), "iters": iters,
        "best_iter": best_iter, "kl_before": before, "kl_after": least,
    }  # fmt: skip


# --- what the verb does ----------------------------------------------------------


def lesson_tasks(path: Path, ways: Mapping[str, Quantisation]) -> list[Any]:
    """The tasks of `--dwq`. Raises UserError where they could teach nothing."""
    if not teachable(ways):
        raise UserError(
            "--dwq teaches affine layers of the text below 8 bits, and there would be "
            "none; give --q-bits 4, or leave --dwq out"
        )
    tasks = read_tasks(path)
    if len(tasks) < 2:
        raise UserError(
            f"--dwq {path} has one task; give two at least, as some are kept apart to "
            "see what the others teach"
        )
    return tasks


def write(
    folder: Path,
    ways: Mapping[str, Quantisation],
    lesson: Sequence[Target],
    iters: int,
    say: Say,
) -> dict[str, Any]:
    """Teach the packed model in `folder`, and write its weights anew; see `teach`.
    Nothing is done, and {} returned, where a target chose 8 bits for every layer."""
    paths = teachable(ways)
    if not paths:
        return {}
    model, _ = load_model(folder)
    pupil = Pupil(model, load_processor(folder), paths)
    report = teach(pupil, lesson, iters, say)
    tensors = pupil.tensors()

    def arrays() -> Iterator[tuple[str, mx.array]]:
        for name, array in stored_parameters(folder):
            yield name, tensors.get(name, array).astype(array.dtype)

    new = folder / "taught"  # the old files are read until these are whole
    new.mkdir()
    write_weights(new, dict(arrays()), arrays())
    for path in new.iterdir():
        path.replace(folder / path.name)
    new.rmdir()
    return report
