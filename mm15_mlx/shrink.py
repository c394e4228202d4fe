"""`mm15-mlx quantize`: a smaller model folder, and what getting there cost.

What this file is: the steps in their order, from the source's own answers to a folder
that has been loaded again and measured. What it is not: packing (quantize.py, gptq.py),
measuring (drift.py), or the report's words (shrunk.py).
"""

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mm15_mlx import distil, gptq
from mm15_mlx.checkpoint import (
    CARD,
    WeightsError,
    item_bytes,
    other_files,
    read_config,
    stored_tensors,
)
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.drift import (
    ANSWERS,
    Row,
    allocate,
    divergence,
    evenly,
    log_probs,
    sensitivities,
    task_rows,
    usual_rows,
)
from mm15_mlx.evaluate import Prediction, predictions, read_tasks, task_means
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.mm15 import MM15
from mm15_mlx.quantize import (
    PACKED,
    Choice,
    Quantisation,
    Wanted,
    packed,
    packed_ways,
    stored_parameters,
    unpacked,
)
from mm15_mlx.shrunk import Numbers, Tensors, card, changes, described, report_lines
from mm15_mlx.weights import (
    apart,
    load_model,
    new_folder,
    quantize_like,
    write_weights,
)

NORM = "decoder.norm.weight"  # always there, and never packed


@dataclass(frozen=True)
class Lesson:
    """Files of tasks that layers are rounded for, and whose answers are taught."""

    gptq: Path | None = None
    dwq: Path | None = None
    iters: int = 200  # of dwq; not published: our choice


NOTHING = Lesson()


@dataclass(frozen=True)
class Source:
    """What the source model says, kept when the model itself is gone."""

    rows: list[Row]
    log_probs: list[mx.array]  # (A, V) a row
    done: list[Prediction]  # of tasks, if there are any
    sensitivity: dict[str, float]
    choice: Choice
    rounded: dict[str, mx.array] = dataclasses.field(default_factory=dict)
    targets: list[distil.Target] = dataclasses.field(default_factory=list)


def run(
    name: str,
    target: Path,
    wanted: Wanted,
    data: Path | None = None,
    limit: int | None = None,
    force: bool = False,
    lesson: Lesson = NOTHING,
) -> dict[str, Any]:
    """Write the quantised folder `target`; return what it cost, also said on stderr.

    The folder takes its name when everything has been measured. Raises UserError where
    the flags do not fit the model, `target` exists, or every layer that they are about
    is packed in as few bits already; such layers stay as they are.
    """
    begin = time.perf_counter()
    folder = find_model(name)
    before = stored_tensors(folder)
    if target.exists() and not force:
        raise WeightsError(f"{target} exists; choose another name or give --force")
    apart(target, folder)
    config = read_config(folder)
    model = MM15(config)  # its random weights are never computed
    choice = wanted.choice(model).beside(held_ways(config, before))
    if not choice.ways:
        scales = next(n for n in before if n.endswith(".scales"))
        raise WeightsError(
            f"{folder} is quantised already ({scales}); give the floating-point "
            "model that it was made of"
        )
    numbers = {name: array.size for name, array in tree_flatten(model.parameters())}
    check_target(wanted, before)
    tasks = read_tasks(data)[:limit] if data else []
    lessons = lesson_tasks(lesson, data, model, choice)
    source = ask_source(folder, wanted, choice, numbers, before, tasks, lessons)

    choice = source.choice
    with new_folder(
        target, choice.record(config), files=other_files(folder), force=force
    ) as partial:
        write_packed(folder, partial, choice, source.rounded)
        report: dict[str, Any] = {"model": name, "folder": str(target)}
        if source.rounded:
            report["gptq"] = {
                "layers": sum(n.endswith(".scales") for n in source.rounded),
                "answers": len(lessons.gptq),
            }
        if lesson.dwq:
            _say("the quantised model is taught")
            ways, targets = choice.ways, source.targets
            report["dwq"] = distil.write(partial, ways, targets, lesson.iters, _say)
        _say("the quantised model answers")
        after = stored_tensors(partial)
        report |= described(before, after, numbers, choice)
        report |= compared(partial, source, tasks)
        lines = report_lines(report)
        (partial / CARD).write_text(card(folder, lines), encoding="utf-8")
    for line in lines:
        _say(line)
    _say(f"wrote {target} in {time.perf_counter() - begin:.0f} s")
    return report


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- before anything is loaded ---------------------------------------------------


def held_ways(config: ModelConfig, stored: Tensors) -> dict[str, Quantisation]:
    """The ways of the layers that are packed in a folder, by path."""
    model = MM15(config)
    quantize_like(model, stored)  # what does not fit is said when it is loaded
    return packed_ways(model)


def check_target(wanted: Wanted, stored: Tensors) -> None:
    """Raises UserError where no choice of bits gives `--target-bpw`."""
    if wanted.target_bpw is None:
        return
    first, last = wanted.ladder[0], wanted.ladder[-1]
    low, high = (w.bits_per_weight(scale_bytes(stored)) for w in (first, last))
    if not low <= wanted.target_bpw <= high:
        raise UserError(
            f"--target-bpw {wanted.target_bpw:g} is out of reach: {first.bits} to "
            f"{last.bits} bits in groups of {first.group_size} take {low:g} to "
            f"{high:g} bits per weight with their scales; change it, --low-bits, "
            "--high-bits or --q-group-size"
        )


@dataclass(frozen=True)
class Lessons:
    """The tasks of a `Lesson`, as many as are answered."""

    gptq: Sequence[Any]
    dwq: Sequence[Any]


def lesson_tasks(
    lesson: Lesson, data: Path | None, model: MM15, choice: Choice
) -> Lessons:
    """Raises UserError where they could change nothing, or the tasks of `--data` could
    not measure it."""
    for flag, path in (("--gptq", lesson.gptq), ("--dwq", lesson.dwq)):
        if data and path and data.resolve() == path.resolve():
            raise UserError(
                f"{flag} and --data are both {data}; what a model was made for "
                "measures nothing: give tasks about other pictures"
            )
    if lesson.gptq and not gptq.layers(model, choice.ways):
        raise UserError(
            "--gptq rounds affine linear layers, and there would be none; use --q-mode "
            "affine, or leave --gptq out"
        )
    rounded = read_tasks(lesson.gptq) if lesson.gptq else []
    taught = distil.lesson_tasks(lesson.dwq, choice.ways) if lesson.dwq else []
    return Lessons(evenly(rounded, ANSWERS), evenly(taught, distil.ANSWERS))


def scale_bytes(stored: Tensors) -> int:
    """Bytes of an affine scale: its type is that of the weights."""
    kinds = Counter(s.dtype for n, s in stored.items() if n.endswith(".weight"))
    return item_bytes(kinds.most_common(1)[0][0])


# --- the two models --------------------------------------------------------------


def ask_source(
    folder: Path,
    wanted: Wanted,
    choice: Choice,
    numbers: Numbers,
    before: Tensors,
    tasks: list[Any],
    lessons: Lessons,
) -> Source:
    """The source's answers, those to be taught, for a target how much each layer
    matters to them, and layers rounded for its inputs."""
    processor = load_processor(folder)
    model, _ = load_model(folder)
    _say("the source model answers")
    done = list(predictions(model, processor, tasks))
    rows = task_rows(processor, done) if tasks else usual_rows(model, processor)
    spoken = log_probs(model, processor, rows, {})
    answers = list(predictions(model, processor, lessons.dwq))
    lesson = task_rows(processor, answers, distil.ANSWERS)
    targets = distil.targets(model, processor, lesson)
    answers = list(predictions(model, processor, lessons.gptq))
    inputs = task_rows(processor, answers)
    held = packed_ways(model)
    if held and (wanted.target_bpw is not None or inputs):
        from mlx_lm.utils import dequantize_model  # seconds to import

        dequantize_model(model)  # a layer is rounded from floats
    found = {}
    if wanted.target_bpw is not None:
        free = {p: w for p, w in choice.ways.items() if wanted.is_free(p)}
        found = sensitivities(model, processor, rows, free, _say)
        sizes = {path: numbers[f"{path}.weight"] for path in free}
        per_scale = scale_bytes(before)
        ways = allocate(found, sizes, wanted.ladder, wanted.target_bpw, per_scale)
        choice = Choice({**choice.ways, **ways}, choice.left).beside(held)
    rounded = {}
    if inputs:
        rounded = gptq.pack(
            model, processor, inputs, choice.ways, float_type(folder), _say
        )
    return Source(rows, spoken, done, found, choice, rounded, targets)


def float_type(folder: Path) -> mx.Dtype:
    """Of the numbers of a folder that are not packed."""
    return dict(stored_parameters(folder))[NORM].dtype


def write_packed(
    folder: Path, partial: Path, choice: Choice, rounded: Mapping[str, mx.array]
) -> None:
    """The weights of `folder` into `partial`, one layer in memory at a time but for
    those that are packed already, `rounded`."""
    held = held_ways(read_config(folder), stored_tensors(folder))
    again = {path: way for path, way in held.items() if path in choice.ways}
    made = {name.rpartition(".")[0] for name in rounded}
    ways = {path: way for path, way in choice.ways.items() if path not in made}

    def arrays() -> Iterator[tuple[str, mx.array]]:
        yield from rounded.items()
        floats = float_type(folder)
        for name, array in unpacked(stored_parameters(folder), again, floats):
            path, _, last = name.rpartition(".")
            if path not in made or last not in PACKED:
                yield from packed({name: array}, ways).items()

    write_weights(partial, dict(arrays()), arrays())  # the first are never computed


def compared(partial: Path, source: Source, tasks: list[Any]) -> dict[str, Any]:
    """The written model, loaded as a user loads it, against what the source said."""
    processor = load_processor(partial)
    model, _ = load_model(partial)
    spoken = log_probs(model, processor, source.rows, {})
    report: dict[str, Any] = {"drift": divergence(source.log_probs, spoken).report()}
    if source.sensitivity:
        report["sensitivity"] = source.sensitivity
        ways = source.choice.whole
        report["bits"] = {path: ways[path].bits for path in source.sensitivity}
    if tasks:
        again = list(predictions(model, processor, tasks))
        report["metrics"] = changes(task_means(source.done), task_means(again))
    return report
