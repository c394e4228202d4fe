"""`mm15-mlx eval`: tasks in JSONL → metrics per task, through a user's own code path.

What this file is: asking a model and the run of the verb. What it is not: the rows
(tasks.py), the metrics (scores.py), their means (summaries.py), what is written
(answered.py, report.py) or the difference from another run (compare.py).
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from mm15_mlx import compare, report, ui
from mm15_mlx.answered import (
    Run,
    check_ids,
    header,
    ordered,
    prediction_row,
    read_predictions,
)
from mm15_mlx.batch import Question, answer_together
from mm15_mlx.config import UserError
from mm15_mlx.decoding import Options
from mm15_mlx.generate import Beginning, Result, read_beginning
from mm15_mlx.images import ImageLike, Picture, load_picture
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.lora import load_adapters
from mm15_mlx.memory import NO_STORE, Store
from mm15_mlx.mm15 import MM15
from mm15_mlx.outputs import left_text, output_file, output_place, progress_bar
from mm15_mlx.processor import Message, Processor
from mm15_mlx.prompt import interleaved
from mm15_mlx.scores import (
    Scores,
    centre_in,
    corpora,
    edit_similarity,
    f1,
    iou,
    matched,
    score,
)
from mm15_mlx.shots import Shot, framed, pictures_split, read_shots
from mm15_mlx.shots import check as check_shots
from mm15_mlx.summaries import (
    Prediction,
    can_slice,
    element_types,
    sliced,
    summary,
    table,
    tables,
    task_means,
)
from mm15_mlx.tasks import (
    CAPTIONS,
    FIELDS,
    MAX_TOKENS,
    Row,
    named_tasks,
    pictures,
    question,
    read_tasks,
)
from mm15_mlx.video import Clip
from mm15_mlx.vqa import folded
from mm15_mlx.weights import load_model

__all__ = [  # the parts that programs need, under one name
    "FIELDS", "MAX_TOKENS", "Prediction", "Row", "Scores", "centre_in",
    "edit_similarity", "element_types", "elements_of", "f1", "folded", "grey", "iou",
    "matched", "message", "opened", "prediction_row", "predictions", "question",
    "read_tasks", "run", "score", "summary", "table", "task_means",
]  # fmt: skip
LINE_EVERY = 50  # tasks, where the progress is lines


@dataclass(frozen=True)
class Wanted:
    """What is asked of one run of the verb, beside model and data."""

    limit: int | None = None
    predictions: Path | None = None
    resume: bool = False
    by: Sequence[str] = ()
    against: Path | None = None
    html: Path | None = None
    failures: int = 20
    force: bool = False
    json: bool = False
    format: str | None = None
    split: str | None = None
    shots: Path | None = None
    options: Options = field(default_factory=Options)  # greedy


def grey(source: ImageLike) -> Image.Image:
    """A picture of the same size that shows nothing: what guessing would score."""
    return Image.new("RGB", load_picture(source).size, (128, 128, 128))


def opened(row: Row, processor: Processor) -> tuple[list[Picture], list[Clip]]:
    """The pictures of a row, or its video."""
    if "video" in row:
        return [], [processor.open_video(row["video"])]
    return [load_picture(path) for path in pictures(row)], []


def message(row: Row, images: Sequence[ImageLike], clips: Sequence[Clip]) -> Message:
    """The question of a row about what `opened` gives: a video's frames are never
    split, however few they are. A `vqa` question may say where its pictures stand; in
    texts of other tasks `<image>` is what the screen says. Raises UserError."""
    asked = question(row)
    if not asked.strip():
        raise UserError(f"the question of {row['id']} is empty; ask something")
    if row["task"] == "vqa":
        return {"role": "user", "content": interleaved(asked, images, clips)}
    shown = interleaved("", images, clips)
    return {"role": "user", "content": [*shown, {"type": "text", "text": asked}]}


def _blind(images: list[Picture]) -> list[Picture]:
    return [load_picture(grey(image)) for image in images]


def predictions(
    model: MM15,
    processor: Processor,
    rows: Sequence[Row],
    blind: bool = False,
    options: Options | None = None,
    corpus: Sequence[Row] = (),
    shots: Sequence[Shot] = (),
) -> Iterator[Prediction]:
    """Answer every task, those about the same pictures together; `seconds` is a share
    of the time that all of those took.

    corpus: the rows whose references weigh the words of captions, instead of `rows`.
    shots: examples before every question, read once.
    """
    options = options or Options()
    ciders = corpora(corpus or rows)
    begun: dict[int, Beginning] = {}  # by how many of the shots' pictures are split
    for mine in ordered(rows):
        images, clips = opened(mine[0], processor)
        if blind:
            images = _blind(images)
            clips = [replace(clip, frames=_blind(clip.frames)) for clip in clips]
        asked = [message(r, images, clips) for r in mine]
        begin = time.perf_counter()
        before = None
        if shots:
            last = processor.config.tiling.split_last
            framings = [framed(shots, None, own, last) for own in asked]
            first, asked = framings[0][0], [own for _, own in framings]
            split = pictures_split(first)
            if split not in begun:
                begun[split] = read_beginning(model, processor, first, options)
            before = begun[split]
        questions = [
            Question([own], MAX_TOKENS[r["task"]])
            for own, r in zip(asked, mine, strict=True)
        ]
        results = answer_together(model, processor, questions, [], options, before)
        seconds = (time.perf_counter() - begin) / len(mine)
        for row, result in zip(mine, results, strict=True):
            listed = elements_of(result, processor) if row["task"] == "widgets" else []
            scores = score(row, result, listed, ciders)
            yield Prediction(row, result, scores, seconds, listed)


def check(
    rows: Sequence[tuple[str, Row]], processor: Processor, shots: Sequence[Shot] = ()
) -> None:
    """Open every picture and prepare every row as `predictions` does, one picture's at
    a time; raises UserError with the row's name."""
    names = {id(row): where for where, row in rows}
    last = processor.config.tiling.split_last if shots else None
    for mine in ordered([row for _, row in rows]):
        row = mine[0]
        try:
            images, clips = opened(row, processor)
            for row in mine:
                before, asked = framed(shots, None, message(row, images, clips), last)
                processor.prepare([*before, asked])
        except UserError as e:
            raise UserError(f"{names[id(row)]}: {e}") from e


def tasks_of(
    data: Path, format: str | None, split: str | None
) -> list[tuple[str, Row]]:
    """The rows of a task file, or of a public benchmark on disk, with their names."""
    if format:
        from mm15_mlx.readers import read

        return [(f"{data}, {row['id']}", row) for row in read(format, data, split)]
    if split:
        raise UserError("--split chooses a part of a benchmark; give --format too")
    return named_tasks(data)


def elements_of(result: Result, processor: Processor) -> list[ui.Element]:
    """What a `widgets` answer lists, read as the verb `widgets` reads it."""
    size, scale = result.images[0].picture.size, processor.config.coordinates
    return ui.parse_elements(result.text, size, scale)


def run(
    name: str,
    data: Path,
    wanted: Wanted,
    store: Store = NO_STORE,
    adapters: Path | None = None,
) -> None:
    """The verb: print the summary, and write what files are asked for. Everything
    that can be wrong with them is found before weights load."""
    _check_outputs(wanted)
    named = tasks_of(data, wanted.format, wanted.split)
    corpus = [row for _, row in named]
    rows = corpus[: wanted.limit]
    for by in wanted.by:
        if not can_slice(rows, by):
            fields = sorted({key for row in rows for key in row} | {"size"})
            raise UserError(
                f"no row of {data} has the field {by!r}: {', '.join(fields)}"
            )
    captions = sum(row["task"] in CAPTIONS for row in corpus)
    if captions == 1:
        print(
            "warning: CIDEr weighs words by how many rows have them: of one it is 0",
            file=sys.stderr,
        )
    shots = read_shots(wanted.shots) if wanted.shots else []
    others = None
    if wanted.against:
        others = compare.paired(rows, read_predictions(wanted.against), wanted.against)
    folder, target = find_model(name), None
    if wanted.predictions:
        check_ids(rows, "--predictions")
        head = header(folder, adapters, rows, corpus, wanted.options, shots)
        target = Run(wanted.predictions, head, wanted.force, wanted.resume)
    elif wanted.resume:
        raise UserError("--resume goes on with a file; give --predictions too")
    done = target.done(ordered(rows)) if target else []
    processor = load_processor(folder, adapters)
    processor.memory.store = store
    check_shots(shots, processor)
    left = {id(row) for row in _without(rows, done)}
    check([pair for pair in named if id(pair[1]) in left], processor, shots)
    model, _ = load_model(folder)
    if adapters:
        load_adapters(model, adapters)
    ask = partial(
        predictions, model, processor, options=wanted.options, corpus=corpus,
        shots=shots,
    )  # fmt: skip
    done = _answered(rows, done, ask, target)
    found = summary(name, done, wanted.by)
    if others is not None:
        found["against"] = compare.differences(done, others)
    _print(found, wanted)  # first: whatever is wrong with a page costs no numbers
    if wanted.html:
        parts = sliced(done, wanted.by[0]) if wanted.by else {"": done}
        report.write(wanted.html, found, parts, wanted.failures)


def _check_outputs(wanted: Wanted) -> None:
    """What can be said of the files to write before anything is read; whether
    `predictions` may be written is for `Run` to say."""
    if wanted.html:
        output_file(wanted.html, wanted.force)
    if not wanted.predictions:
        return
    output_place(wanted.predictions)
    if wanted.html and os.path.realpath(wanted.html) == os.path.realpath(
        wanted.predictions
    ):
        raise UserError(
            f"--predictions and --html are both {wanted.html}; name two files"
        )


def _answered(
    rows: Sequence[Row],
    before: Sequence[Prediction],
    ask: Callable[[Sequence[Row]], Iterator[Prediction]],
    target: Run | None,
) -> list[Prediction]:
    """All answers, in the order of `ordered`; those that a stopped run had `before` are
    not asked for again."""
    done = list(before)
    if done:
        print(f"resuming after {len(done)} of {len(rows)} tasks", file=sys.stderr)
    rest = _without(rows, done)
    with ExitStack() as stack:
        file = stack.enter_context(target.open(done)) if target else None
        progress = stack.enter_context(Progress(len(rows), len(done)))
        group: list[Prediction] = []
        wanted = iter(len(pictured) for pictured in ordered(rest))
        size = next(wanted, 0)
        for p in ask(rest):
            group.append(p)
            if len(group) < size:
                continue
            done += group
            if target and file:
                target.add(file, group)
            progress.add(len(group))
            group, size = [], next(wanted, 0)
    asked = (row for group in ordered(rows) for row in group)
    places = {id(row): place for place, row in enumerate(asked)}
    done.sort(key=lambda p: places[id(p.row)])
    if target:
        target.finish(done)
    return done


def _without(rows: Sequence[Row], done: Sequence[Prediction]) -> list[Row]:
    """The rows that are not answered yet."""
    answered = {id(p.row) for p in done}
    return [row for row in rows if id(row) not in answered]


def _print(found: dict[str, Any], wanted: Wanted) -> None:
    if wanted.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print(tables(found))
    if "against" in found:
        print(f"\n{compare.text(found['against'], str(wanted.against))}")


class Progress:
    """How far a run is and how long it will take, on stderr: a bar in a terminal, else
    a line for every fifty tasks."""

    def __init__(self, total: int, done: int = 0) -> None:
        self._total = total
        self._before = self._done = done
        self._begin = time.perf_counter()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            self._bar = progress_bar()
            self._task = self._bar.add_task("", total=self._total, completed=self._done)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def add(self, number: int) -> None:
        last, self._done = self._done, self._done + number
        if self._bar:
            self._bar.update(self._task, completed=self._done)
        elif self._done == self._total or last // LINE_EVERY < self._done // LINE_EVERY:
            each = (time.perf_counter() - self._begin) / (self._done - self._before)
            left = left_text(each * (self._total - self._done))
            line = f"{self._done}/{self._total} tasks · {each:.2f} s each · {left} left"
            print(line, file=sys.stderr)
