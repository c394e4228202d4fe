"""`mm15-mlx quantize`: a smaller model folder, and what getting there cost.

What this file is: the steps in their order, from the source's own answers to a folder
that has been loaded again and measured, and the report of it. What it is not: packing
(quantize.py) or measuring (drift.py).
"""

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mm15_mlx import __version__, distil
from mm15_mlx.checkpoint import (
    CARD,
    Stored,
    WeightsError,
    item_bytes,
    other_files,
    read_config,
    stored_tensors,
)
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.drift import (
    Row,
    allocate,
    divergence,
    log_probs,
    sensitivities,
    task_rows,
    usual_rows,
)
from mm15_mlx.evaluate import Prediction, predictions, read_tasks, task_means
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.mm15 import MM15
from mm15_mlx.quantize import (
    PARTS,
    TEXT_PARTS,
    Choice,
    Quantisation,
    Wanted,
    packed,
    packed_ways,
    part_of,
    stored_parameters,
    unpacked,
)
from mm15_mlx.weights import load_model, new_folder, quantize_like, write_weights

Tensors = Mapping[str, Stored]
Numbers = Mapping[str, int]  # how many each parameter has, by name
NORM = "decoder.norm.weight"  # always there, and never packed


@dataclass(frozen=True)
class Lesson:
    """Tasks whose answers are taught, and how many steps."""

    tasks: Path
    iters: int = 200  # not published: our choice


@dataclass(frozen=True)
class Source:
    """What the source model says, kept when the model itself is gone."""

    rows: list[Row]
    log_probs: list[mx.array]  # (A, V) a row
    done: list[Prediction]  # of tasks, if there are any
    sensitivity: dict[str, float]
    choice: Choice
    targets: list[distil.Target] = dataclasses.field(default_factory=list)


def run(
    name: str,
    target: Path,
    wanted: Wanted,
    data: Path | None = None,
    limit: int | None = None,
    force: bool = False,
    lesson: Lesson | None = None,
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
    taught: list[Any] = []
    if lesson:
        taught = distil.lesson_tasks(lesson.tasks, data, choice.ways)
    source = ask_source(
        folder, wanted, choice, numbers, scale_bytes(before), tasks, taught
    )

    choice = source.choice
    with new_folder(
        target, choice.record(config), files=other_files(folder), force=force
    ) as partial:
        write_packed(folder, partial, choice)
        report: dict[str, Any] = {"model": name, "folder": str(target)}
        if lesson:
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
    scale_bytes: int,
    tasks: list[Any],
    taught: list[Any],
) -> Source:
    """The source's answers, those to be taught and, for a target, how much each layer
    matters to them."""
    processor = load_processor(folder)
    model, _ = load_model(folder)
    _say("the source model answers")
    done = list(predictions(model, processor, tasks))
    rows = task_rows(processor, done) if tasks else usual_rows(model, processor)
    spoken = log_probs(model, processor, rows, {})
    targets = []
    if taught:
        answers = list(predictions(model, processor, taught))
        lesson = task_rows(processor, answers, distil.ANSWERS)
        targets = distil.targets(model, processor, lesson)
    if wanted.target_bpw is None:
        return Source(rows, spoken, done, {}, choice, targets)
    held = packed_ways(model)
    if held:
        from mlx_lm.utils import dequantize_model  # seconds to import

        dequantize_model(model)  # a layer is rounded from floats
    free = {p: w for p, w in choice.ways.items() if wanted.is_free(p)}
    found = sensitivities(model, processor, rows, free, _say)
    sizes = {path: numbers[f"{path}.weight"] for path in free}
    ways = allocate(found, sizes, wanted.ladder, wanted.target_bpw, scale_bytes)
    chosen = Choice({**choice.ways, **ways}, choice.left).beside(held)
    return Source(rows, spoken, done, found, chosen, targets)


def write_packed(folder: Path, partial: Path, choice: Choice) -> None:
    """The weights of `folder` into `partial`, one layer in memory at a time."""
    held = held_ways(read_config(folder), stored_tensors(folder))
    again = {path: way for path, way in held.items() if path in choice.ways}

    def arrays() -> Iterator[tuple[str, mx.array]]:
        floats = dict(stored_parameters(folder))[NORM].dtype
        for name, array in unpacked(stored_parameters(folder), again, floats):
            yield from packed({name: array}, choice.ways).items()

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


# --- what is said ----------------------------------------------------------------


def described(
    before: Tensors, after: Tensors, numbers: Numbers, choice: Choice
) -> dict[str, Any]:
    """Sizes in bytes, bits per weight of parts and of what is quantised, and ways."""
    parts: dict[str, dict[str, float]] = {}
    for part in PARTS:
        count = sum(size for n, size in numbers.items() if part_of(n) == part)
        nbytes = sum(s.nbytes for n, s in after.items() if part_of(n) == part)
        if count:
            bits = round(8 * nbytes / count, 3)
            parts[part] = {"parameters": count, "bytes": nbytes, "bpw": bits}
    layers: dict[str, Counter[str]] = {}
    ways = choice.whole
    for path, way in ways.items():
        label = f"{way.bits} bits, {way.mode}, groups of {way.group_size}"
        layers.setdefault(part_of(path), Counter())[label] += 1
    text = [path for path in ways if part_of(path) in TEXT_PARTS]
    return {
        "bytes_before": sum(s.nbytes for s in before.values()),
        "bytes_after": sum(s.nbytes for s in after.values()),
        "parts": parts,
        "quantized_bpw": mean_bits(numbers, after, ways),
        "text_bpw": mean_bits(numbers, after, text),
        "layers": {part: dict(sorted(c.items())) for part, c in layers.items()},
        "left_floating": list(choice.left),
    }


def mean_bits(numbers: Numbers, after: Tensors, paths: Collection[str]) -> float:
    """Mean bits per weight of some quantised layers, scales included; 0 of none."""
    names = [f"{p}.{kind}" for p in paths for kind in ("weight", "scales", "biases")]
    nbytes = sum(after[name].nbytes for name in names if name in after)
    count = sum(numbers[f"{path}.weight"] for path in paths)
    return round(8 * nbytes / max(count, 1), 3)


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Every metric of every task before and after, and their difference."""
    found: dict[str, Any] = {}
    for task, values in before.items():
        found[task] = {"n": values["n"]}
        for key, value in values.items():
            if key != "n":
                now = after[task][key]
                change = round(now - value, 4)
                found[task][key] = {"before": value, "after": now, "change": change}
    return found


def report_lines(report: dict[str, Any]) -> list[str]:
    """The report as lines of text, for stderr and for the card."""
    before, after = report["bytes_before"] / 1e6, report["bytes_after"] / 1e6
    lines = [f"size        {before:.1f} → {after:.1f} MB"]
    for part, size in report["parts"].items():
        ways = report["layers"].get(part, {})
        shown = "; ".join(f"{n} × {way}" for way, n in ways.items()) or "floating"
        lines.append(
            f"{part:<11} {size['parameters']:,} parameters, {size['bpw']:.2f} bits "
            f"each ({shown})"
        )
    if left := report["left_floating"]:
        lines.append(f"left        no whole groups in a row: {', '.join(left)}")
    if learnt := report.get("dwq"):
        lines.append(
            f"taught      {learnt['answers']} answers, {learnt['best_iter']} of "
            f"{learnt['iters']} steps kept: KL {learnt['kl_before']:.2e} → "
            f"{learnt['kl_after']:.2e} nats on {learnt['apart']} kept apart"
        )
    drift = report["drift"]
    lines.append(
        f"drift       KL {drift['kl_mean']:.2e} nats per answer token, at most "
        f"{drift['kl_max']:.2e}; same token {drift['same_token']:.1%}; "
        f"{drift['tokens']} tokens of {drift['rows']} answers"
    )
    for task, values in report.get("metrics", {}).items():
        lines += [
            f"{task:<13} {key} {value['before']:.3f} → {value['after']:.3f} "
            f"({value['change']:+.3f}, n {values['n']})"
            for key, value in values.items()
            if key != "n"
        ]
    return lines


def card(folder: Path, lines: list[str]) -> str:
    """The source's card, and what quantising it cost."""
    path = folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {folder.name}\n"
    measured = "\n".join(lines)
    return (
        f"{text.rstrip()}\n\n## Quantised\n\nMade by mm15-mlx {__version__} from the "
        "model above; figures above are of its floating-point weights. Measured along "
        f"the answers that those gave:\n\n```text\n{measured}\n```\n"
    )
