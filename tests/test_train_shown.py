"""Training rows with several pictures, with examples and with a clip: they hold what
the model is asked, and a step is taken on them.

A reader of our own stands for PyAV's.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from PIL import Image
from training import Row, asked, run_settings, write

from mm15_mlx import MM15, preview, train
from mm15_mlx.answers import ask
from mm15_mlx.batches import Pictures, collate
from mm15_mlx.dataset import Sample, Split, read_split
from mm15_mlx.grounding import Box
from mm15_mlx.images import Picture
from mm15_mlx.load import load_processor
from mm15_mlx.metrics import read_metrics
from mm15_mlx.preview import cell
from mm15_mlx.processor import Message, Processor
from mm15_mlx.shots import framed, read_shots
from mm15_mlx.trainer import losses
from mm15_mlx.video import Clip

Cli = Callable[..., tuple[int, str, str]]
SIZE = (120, 200)


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What a video of ten seconds is asked for: (frames, start, end)."""
    given: list[tuple] = []

    def read(
        source: Any, frames: int, start: float | None, end: float | None, *_: Any
    ) -> Clip:
        given.append((frames, start, end))
        times = [10 * (k + 0.5) / frames for k in range(frames)]
        return made(str(source), times)

    monkeypatch.setattr("mm15_mlx.processor.read_clip", read)
    return given


def made(path: str, times: list[float]) -> Clip:
    """Frames that differ."""
    shades = [int(20 * t) for t in times]
    frames = [Picture(Image.new("RGB", SIZE, (s, 0, 99)), path) for s in shades]
    return Clip(path, frames, times, 10.0)


@pytest.fixture
def processor(ui_folder: Path) -> Processor:
    return load_processor(ui_folder)


def folder(tmp_path: Path, screen: Path, *rows: Row) -> Path:
    """`train.jsonl` with screen.png (120 × 200) and b.png (80 × 40) beside it."""
    made = write(tmp_path / "d", screen, rows)
    Image.new("RGB", (80, 40), "red").save(made / "b.png")
    return made


def read(folder: Path, processor: Processor) -> Split:
    split = read_split(folder, "train", processor)
    assert split.problems == []
    return split


def before_answer(sample: Sample) -> list[int]:
    """The ids before the row's last answer."""
    starts = np.flatnonzero(sample.learnt[1:] & ~sample.learnt[:-1]) + 1
    return sample.ids[: starts[-1]].tolist()


def same(sample: Sample, messages: list[Message], processor: Processor) -> None:
    """The row holds the ids and pictures of this prompt; its pictures open again."""
    prepared = processor.prepare(messages)
    assert before_answer(sample) == prepared.ids
    assert [p.key for p in sample.pictures] == [p.key for p in prepared.images]
    for ref in reversed(sample.pictures):
        assert ref.open(processor).key == ref.key


# --- several pictures ----------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3])
def test_pictures_of_one_question(
    count: int, tmp_path: Path, screen: Path, processor: Processor
) -> None:
    """Two are split and three are not, as where one asks."""
    images = ["screen.png", "b.png", "screen.png"][:count]
    data = folder(tmp_path, screen, asked("What is this?", "Yes", *images))
    (sample,) = read(data, processor).samples
    same(sample, [ask("What is this?", [data / i for i in images])], processor)


# --- examples ------------------------------------------------------------------------


@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize("shots", [1, 2, 3])
def test_rows_of_examples_are_what_shots_make(
    shots: int, last: int, tmp_path: Path, screen: Path, processor: Processor
) -> None:
    """A picture in each of several questions: the last ones are split."""
    tiling = dataclasses.replace(processor.config.tiling, split_last=last)
    config = dataclasses.replace(processor.config, tiling=tiling)
    processor = Processor(config, processor.tokenizer)
    one = [*asked("<image> On?", "Yes")["messages"]]
    end = asked("Where is <image>?", "<box>0,0,60,100</box>")["messages"]
    system = {"role": "system", "content": "Read"}
    images = [*["b.png", "screen.png", "b.png"][:shots], "screen.png"]
    row = {"messages": [system, *one * shots, *end], "images": images}
    data = folder(tmp_path, screen, row)
    (sample,) = read(data, processor).samples
    examples = "\n".join(
        f'{{"image": "{i}", "question": "<image> On?", "answer": "Yes"}}'
        for i in images[:-1]
    )
    (data / "shots.jsonl").write_text(examples)
    question = ask("Where is <image>?", [screen])
    before, question = framed(read_shots(data / "shots.jsonl"), "Read", question, last)
    same(sample, [*before, question], processor)
    views = [len(p.open(processor).tiling.indices) for p in sample.pictures]
    assert (views[-1] > 1) == (last > 0) and (views[-2] > 1) == (last > 1)


def test_later_questions_without_pictures_are_no_examples(
    tmp_path: Path, screen: Path, processor: Processor
) -> None:
    row = asked("What?", "Yes", "screen.png", "screen.png")
    row["messages"] += asked("And now?", "No")["messages"]
    (sample,) = read(folder(tmp_path, screen, row), processor).samples
    views = [len(p.open(processor).tiling.indices) for p in sample.pictures]
    assert views == [5, 5]


# --- clips ---------------------------------------------------------------------------

PART = {"frames": 4, "start": 2, "end": 6.5}


@pytest.mark.parametrize(
    ("text", "images"),
    [
        ("What?", []),
        ("What is\n<video>\non now?", []),
        ("What?", ["screen.png", "b.png"]),
        ("Is <image> in this?", ["screen.png"]),
        ("Is <image> in <video> or <image>?", ["screen.png", "b.png"]),
    ],
)
def test_a_clip_stands_where_asking_has_it(
    text: str, images: list[str], tmp_path: Path, screen: Path, processor: Processor
) -> None:
    row = asked(text, "Yes", *images) | {"video": "a.mp4", **PART}
    data = folder(tmp_path, screen, row)
    (sample,) = read(data, processor).samples
    clip = processor.open_video(data / "a.mp4", *PART.values())
    same(sample, [ask(text, [data / i for i in images], [clip])], processor)


def test_the_clip_of_a_part(
    tmp_path: Path, screen: Path, processor: Processor, reads: list[tuple]
) -> None:
    """As many frames as the model's configuration says, none of them split; the clip
    is read once for all of them, and once more when they are opened again."""
    row = asked("", "Yes") | {"video": "a.mp4"}
    row["messages"][0]["content"] = [{"type": "video"}, {"type": "text", "text": "Is"}]
    llava = {"video": "a.mp4", "frames": 1, "conversations": [
        {"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "On"},
    ]}  # fmt: skip
    data = folder(tmp_path, screen, row, llava)
    many, one = read(data, processor).samples
    assert len(many.pictures) == processor.config.prompt.video_frames == 24
    assert len(one.pictures) == 1 and one.pictures[0].tokens == 16
    assert reads == [(24, None, None), (1, None, None)]
    opened = [ref.open(processor) for ref in (*many.pictures, *one.pictures)]
    assert {len(o.tiling.indices) for o in opened} == {1}
    assert len({o.key for o in opened[:24]}) == 24
    assert reads == [(24, None, None), (1, None, None)] * 2


def test_a_place_in_a_frame(tmp_path: Path, screen: Path, processor: Processor) -> None:
    """Frames count among the pictures."""
    row = asked("What?", "<box image=2>0,0,60,100</box>") | {"video": "a.mp4", **PART}
    same_place = asked("What?", "<box>0,0,60,100</box>") | {"video": "a.mp4", **PART}
    beyond = asked("What?", "<box image=4>0,0,6,9</box>") | {"video": "a.mp4", **PART}
    split = read_split(
        folder(tmp_path, screen, row, same_place, beyond), "train", processor
    )
    first, second = split.samples
    assert first.ids.tolist() == second.ids.tolist()
    (problem,) = split.problems
    assert problem.startswith("train.jsonl, row 3: ") and "picture 4" in problem


def test_a_clip_that_cannot_be_read_is_a_bad_row(
    tmp_path: Path, screen: Path, ui_folder: Path, cli: Cli, reads: list[tuple]
) -> None:
    """And good ones are counted by `data check` and shown by `data preview`."""
    good = asked("What?", "Yes") | {"video": "a.mp4", **PART}
    data = folder(tmp_path, screen, good, good | {"frames": 9999})
    check = ("data", "check", data, "--model", ui_folder)
    status, out, _ = cli(*check)
    assert status == 1
    assert "2 rows, 1 bad, 4 pictures (frames of 1 videos among them)" in out
    assert "bad: train.jsonl, row 2: 9999 video frames of 16 tokens are" in out
    processor = load_processor(ui_folder)
    split = read_split(data, "train", processor)
    assert cell(split.rows[0], split.samples[0].pictures, processor).width == 300


@pytest.mark.parametrize(
    ("answer", "drawn", "height"),
    [
        ("No", [((25, 0, 99), []), ((255, 0, 0), [])], 15 * 3),
        (
            "<box image=4>0,0,40,20</box>, <box image=2>0,0,60,100</box>",
            [((125, 0, 99), [(0, 0, 60, 100)]), ((255, 0, 0), [(0, 0, 40, 20)])],
            15 * 4,
        ),
    ],
    ids=["no place", "in the third frame and in the picture after it"],
)
def test_places_are_drawn_in_the_frames_that_they_name(
    answer: str,
    drawn: list[tuple],
    height: int,
    tmp_path: Path,
    screen: Path,
    processor: Processor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clip of four frames is four pictures, of which those with places are shown."""
    seen = []

    def draw(picture: Image.Image, boxes: list[Box], points: list) -> Image.Image:
        seen.append((picture.getpixel((0, 0)), [b.px for b in boxes]))
        return picture

    monkeypatch.setattr(preview, "draw", draw)
    row = asked("Is <video> like <image>?", answer, "b.png") | {"video": "a", **PART}
    split = read(folder(tmp_path, screen, row), processor)
    shown = cell(split.rows[0], split.samples[0].pictures, processor)
    assert seen == drawn
    # A frame of 120 × 200 with a line under it, a picture of 80 × 40, the texts.
    assert shown.size == (300, 500 + 4 + 15 + 150 + 4 + height + 4)


# --- a step --------------------------------------------------------------------------


def rows() -> list[Row]:
    shot = asked("<image> On?", "Yes")["messages"] * 2
    return [
        asked("Is <image> like <image>?", "No", "screen.png", "b.png"),
        {
            "messages": [*shot, *asked("<image> On?", "No")["messages"]],
            "images": ["b.png", "b.png", "screen.png"],
        },
        asked("What?", "Yes") | {"video": "a.mp4", **PART},
    ]


@pytest.mark.parametrize("k", range(3), ids=["two", "examples", "clip"])
def test_the_loss_is_that_of_the_logits(
    k: int, ui: tuple[MM15, Processor], tmp_path: Path, screen: Path
) -> None:
    """By a user's own path: the prompt's arrays through the model, token by token."""
    model, processor = ui
    data = folder(tmp_path, screen, rows()[k])
    (sample,) = read(data, processor).samples
    made = Pictures(model, processor, ("decoder",), 10**9)
    batch = collate([sample])
    found, _ = losses(model, batch, made, made.fetch(batch.pictures))
    shown = [p.open(processor) for p in sample.pictures]
    views = mx.concatenate([processor.pixels(p) for p in shown])
    logits = model(mx.array(sample.ids)[None], views)[0]
    scores = np.array(nn.log_softmax(logits, axis=-1))
    by_hand = -sum(scores[i - 1, sample.ids[i]] for i in np.flatnonzero(sample.learnt))
    assert float(found.item()) == pytest.approx(float(by_hand), rel=1e-5)
    turned = made.fetch(batch.pictures[::-1])
    other, _ = losses(model, batch, made, turned)
    assert float(other.item()) != pytest.approx(float(by_hand), rel=1e-6)


def test_train_steps_on_such_rows(
    ui_folder: Path, tmp_path: Path, screen: Path
) -> None:
    data = folder(tmp_path, screen, *rows())
    settings = run_settings(ui_folder, data, tmp_path / "a") | {
        "iters": 4, "batch_size": 3, "grad_accumulation_steps": 1,
        "lora_parameters": {"rank": 4, "scale": 8.0, "dropout": 0.0},
        "steps_per_report": 1, "save_every": 4, "learning_rate": 1e-2,
        "lr_schedule": None,
    }  # fmt: skip
    report, status = train.run(settings)
    assert status == 0 and report["steps"] == 4
    lines = read_metrics(tmp_path / "a" / "metrics.jsonl")
    seen = [r["loss"] for r in lines if "loss" in r]
    assert len(seen) == 4 and seen[-1] < seen[0] - 0.1
