"""The app's worker: one thread owns MLX; queue, stop, failures, several users."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from decoding import Counter
from test_lora import write_adapters

from mm15_mlx import generate, load
from mm15_mlx.apps import worker as module
from mm15_mlx.apps.linking import spans
from mm15_mlx.apps.settings import EACH, OWN, WHOLE, Settings, split_as
from mm15_mlx.apps.worker import (
    Answered,
    BusyError,
    Choice,
    Event,
    Piece,
    Request,
    Ticket,
    Worker,
    mark,
    one_line,
)
from mm15_mlx.config import CoordinateConfig, UserError
from mm15_mlx.images import Picture, load_picture
from mm15_mlx.lora import Tuning
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.weights import load_model

Make = Callable[..., Worker]


@pytest.fixture
def started() -> Iterator[Make]:
    made: list[Worker] = []

    def make(*folders: Path, limit: int = 32) -> Worker:
        made.append(Worker([Choice(str(f)) for f in folders], limit))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


def ask(folder: Path, picture: Path | Picture, text: str, tokens: int = 20) -> Request:
    content = [{"type": "image", "image": picture}, {"type": "text", "text": text}]
    messages = [{"role": "user", "content": content}]
    return Request(str(folder), messages, Settings(tokens))


def finish(events: Iterator[Event]) -> tuple[str, Answered]:
    text = ""
    for event in events:
        text += event.text if isinstance(event, Piece) else ""
    assert isinstance(event, Answered)
    return text, event


def test_answers_as_the_library_does(
    ui_folder: Path, screen: Path, started: Make
) -> None:
    """From another thread than the one that loaded, and the stream is the answer."""
    worker = started(ui_folder)
    text, got = finish(worker.submit(ask(ui_folder, screen, "What is this?")).events())
    model, processor = load(ui_folder)
    same = generate(model, processor, "What is this?", images=[screen], max_tokens=20)
    assert text == got.result.text == same.text
    assert got.result.boxes == same.boxes
    assert got.document["model"] == str(ui_folder)
    assert got.document["images"][0]["width"] == 120
    assert worker.facts[str(ui_folder)]["bytes"] > 0


def test_second_question_reads_only_its_own_words(
    ui_folder: Path, screen: Path, started: Make
) -> None:
    worker = started(ui_folder)
    picture = load_picture(screen)
    first = finish(worker.submit(ask(ui_folder, picture, "What is this?")).events())[1]
    second = finish(worker.submit(ask(ui_folder, picture, "Is it on?")).events())[1]
    assert first.result.timings.encode_s > 0 == second.result.timings.encode_s


def test_second_question_shares_the_prefix(
    ui: tuple[MM15, Processor],
    ui_folder: Path,
    screen: Path,
    started: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The decoder reads the words of the second question alone, and no view of the
    picture is encoded; another user's picture of the same pixels is known as well."""
    worker = started(ui_folder)
    counted = Counter(ui[0], monkeypatch)
    first, second = "What is this?", "Is it on?"
    finish(worker.submit(ask(ui_folder, load_picture(screen), first, 5)).events())
    assert sum(counted.views) == 5 and counted.reads[0] > 80
    counted.clear()
    finish(worker.submit(ask(ui_folder, load_picture(screen), second, 5)).events())
    old, new = (ui[1].prepare(q, [screen]).ids for q in (first, second))
    same = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    assert counted.views == [] and counted.reads[0] == len(new) - same < 20


def test_boxes_are_marked_in_pixels(button: Path, screen: Path, started: Make) -> None:
    worker = started(button)
    got = finish(worker.submit(ask(button, screen, "Where is the button?")).events())[1]
    assert got.result.boxes[0].px == (12.0, 40.0, 72.0, 140.0)
    assert got.marked == "<box>12,40,72,140</box>"


def test_mark_leaves_other_brackets() -> None:
    digits = CoordinateConfig()
    text = "a [1] (b) [0, 0, 500, 500] and [1000, 100]"
    assert mark(text, (100, 200), digits) == (
        "a [1] (b) <box>0,0,50,100</box> and <point>100,20</point>"
    )
    click = CoordinateConfig(
        format="digits", decimals=4, range=10_000, point="click({x}, {y})"
    )
    assert mark("click(x=0.5, y=0.25)", (100, 200), click) == "<point>50,50</point>"


LOCS = "<loc_{x1}><loc_{y1}><loc_{x2}><loc_{y2}>"


@pytest.mark.parametrize(
    ("box", "text", "marked"),
    [
        ("[[{x1},{y1},{x2},{y2}]]", "a [[000,000,500,500]], [[1]] b",
         "a <box>0,0,50,100</box>, [[1]] b"),
        ("[[{x1}, {y1}, {x2}, {y2}]]", "[[0, 0, 500, 500]][[0,0,500,0]]",
         "<box>0,0,50,100</box>[[0,0,500,0]]"),  # the second one is empty
        (LOCS, "<button><loc_0><loc_0><loc_500><loc_500>OK</button>",
         "<button><box>0,0,50,100</box>OK</button>"),
    ],
)  # fmt: skip
def test_places_are_marked_in_every_form(box: str, text: str, marked: str) -> None:
    """CogVLM's and InternVL's double brackets, ScreenVLM's tokens; and the page finds
    them again."""
    assert mark(text, (100, 200), CoordinateConfig(box=box)) == marked
    (span,) = spans(text, marked)
    assert mark(text[span.start : span.end], (100, 200), CoordinateConfig(box=box)) == (
        "<box>0,0,50,100</box>"
    )


def test_stop_keeps_what_was_said(ui_folder: Path, screen: Path, started: Make) -> None:
    worker = started(ui_folder)
    ticket = worker.submit(ask(ui_folder, screen, "What is this?", 2000))
    got = None
    for got in ticket.events():
        if isinstance(got, Piece):
            ticket.stop()
    assert isinstance(got, Answered)
    assert got.document["finish_reason"] == module.STOPPED
    assert 0 < got.result.generation_tokens < 100


def test_a_failure_is_one_line_and_the_next_question_is_answered(
    ui_folder: Path,
    screen: Path,
    started: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    worker = started(ui_folder)
    request = ask(ui_folder, screen, "What is this?", 5)

    def broken(*_: object, **__: object) -> Iterator[None]:
        raise RuntimeError("[metal::malloc] Attempting to allocate\n99 bytes")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(module, "decode", broken)
        with pytest.raises(UserError, match="^not enough memory .* use fewer or smal"):
            finish(worker.submit(request).events())
    assert "Traceback" in capsys.readouterr().err
    bad = ask(ui_folder, screen, "Is <box>900,900,950,950</box> on?")
    with pytest.raises(UserError, match="lies outside the picture of 120 × 200"):
        finish(worker.submit(bad).events())
    assert finish(worker.submit(request).events())[1].result.generation_tokens == 5


def test_one_line() -> None:
    told = str(one_line(ValueError("a\nb")))
    assert told.startswith("the answer failed (ValueError: a b); the conversation is")
    assert str(one_line(MemoryError())).startswith("not enough memory for")
    long = str(one_line(ValueError(f"{'words ' * 30}12345678 {'words ' * 30}")))
    assert "12345678 words …); the conversation" in long  # no half of a number
    mistake = UserError("yours")
    assert one_line(mistake) is mistake


def test_answers_of_many_users_are_not_mixed(ui_folder: Path, started: Make) -> None:
    """Twenty threads, four pictures each told apart by its own answer."""
    rng = np.random.default_rng(0)
    pictures = [
        load_picture(rng.integers(0, 255, (90, 90, 3), dtype=np.uint8))
        for _ in range(4)
    ]
    model, processor = load(ui_folder)
    right = [
        generate(model, processor, "What?", images=[p], max_tokens=12).text
        for p in pictures
    ]
    assert len(set(right)) > 1
    worker = started(ui_folder)
    said: dict[int, str] = {}

    def user(k: int) -> None:
        request = ask(ui_folder, pictures[k % 4], "What?", 12)
        said[k] = finish(worker.submit(request).events())[0]

    threads = [threading.Thread(target=user, args=(k,)) for k in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == {k: right[k % 4] for k in range(20)}


def test_models_are_switched_and_only_offered_ones(
    ui_folder: Path, button: Path, screen: Path, started: Make
) -> None:
    worker = started(ui_folder, button)
    finish(worker.submit(ask(ui_folder, screen, "What?", 3)).events())
    got = finish(worker.submit(ask(button, screen, "Where is the button?")).events())[1]
    assert got.result.boxes and set(worker.facts) == {str(ui_folder), str(button)}
    with pytest.raises(UserError, match="model '/etc' is not offered here; choose"):
        worker.submit(ask(Path("/etc"), screen, "What?"))


def test_an_adapter_and_back(ui_folder: Path, screen: Path, tmp_path: Path) -> None:
    """Each answers as the library does with it; two of one name are told apart."""
    folders = [tmp_path / run / "mine" for run in ("a", "b")]
    for k, folder in enumerate(folders):
        folder.parent.mkdir()
        write_adapters(folder, load_model(ui_folder)[0], Tuning(num_layers=1 + k))

    def right(adapters: Path | None) -> str:
        model, processor = load(ui_folder, adapter_path=adapters)
        return generate(model, processor, "What?", [screen], max_tokens=12).text

    wanted = {None: right(None)} | {f: right(f) for f in folders}
    assert len(set(wanted.values())) == 3
    choices = [Choice(str(ui_folder), f) for f in (*folders, None)]
    worker = Worker(choices)
    try:
        assert list(worker.choices) == [
            *(f"{ui_folder} + {folder}" for folder in folders), str(ui_folder)
        ]  # fmt: skip
        for k in (2, 0, 1, 2, 0):
            label = list(worker.choices)[k]
            request = replace(ask(ui_folder, screen, "What?", 12), model=label)
            text, got = finish(worker.submit(request).events())
            assert text == wanted[choices[k].adapters]
            assert got.document["model"] == label and label in worker.facts
    finally:
        worker.close()


def test_a_model_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="neither bundled"):
        Worker([Choice("no-such-model")])
    with pytest.raises(UserError, match="adapter"):
        Worker([Choice("nano-ui", tmp_path)])


def test_a_broken_first_model_ends_the_start(ui_copy: Path) -> None:
    (ui_copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match="safetensors"):
        Worker([Choice(str(ui_copy))])


def test_nobody_waits_for_a_closed_worker(ui_folder: Path, screen: Path) -> None:
    worker = Worker([Choice(str(ui_folder))])
    worker.close()
    with pytest.raises(BusyError, match="the app is ending; start it again"):
        worker.submit(ask(ui_folder, screen, "What?"))


def test_adapters_are_named() -> None:
    assert Choice("nano-ui").label == "nano-ui"
    assert Choice("nano-ui", Path("runs/mine")).label == "nano-ui + mine"


def test_the_asking_thread_touches_no_mlx(
    ui_folder: Path, screen: Path, started: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes back is text, numbers and pictures; nothing is left to evaluate."""
    worker = started(ui_folder)
    got = finish(worker.submit(ask(ui_folder, screen, "What?", 3)).events())[1]
    held = [*vars(got.result).values(), *got.document.values()]
    assert not any(isinstance(v, mx.array) for v in held)
    assert isinstance(Ticket(ask(ui_folder, screen, "x"), worker).request, Request)


def test_a_program_that_closed_its_worker_ends_well() -> None:
    """MLX aborts at exit where a thread that used it has ended; seen with its compiled
    kernels, which the tests do without, and with real weights."""
    code = (
        "from mm15_mlx.apps.worker import Choice, Worker; "
        "Worker([Choice('nano-ui')]).close()"
    )
    env = {k: v for k, v in os.environ.items() if k != "MLX_DISABLE_COMPILE"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_splitting_is_of_one_question(
    ui_folder: Path, screen: Path, started: Make
) -> None:
    """The tiling goes with the question; the model's own is as before afterwards, and
    what is remembered of a picture is that of its tiling."""
    worker = started(ui_folder)
    picture = load_picture(screen)

    def views(split: str) -> tuple[int, str]:
        asked = replace(
            ask(ui_folder, picture, "What is this?"), settings=Settings(20, split=split)
        )
        got = finish(worker.submit(asked).events())[1]
        return got.document["images"][0]["views"], got.result.text

    first = views(OWN)
    assert first[0] > views("2")[0] > views(WHOLE)[0] == 1
    assert views(OWN) == first == views(EACH)
    model, processor = load(ui_folder)
    alone = Processor(split_as(processor.config, WHOLE), processor.tokenizer)
    same = generate(model, alone, "What is this?", images=[screen], max_tokens=20)
    assert views(WHOLE) == (1, same.text)
    with pytest.raises(UserError, match="image splitting '9' is no choice of this mo"):
        views("9")


def test_three_pictures_are_split_where_that_is_asked_for(
    ui_folder: Path, screen: Path, started: Make
) -> None:
    worker = started(ui_folder)
    parts = [{"type": "image", "image": load_picture(screen)} for _ in range(3)]
    said = [{"role": "user", "content": [*parts, {"type": "text", "text": "What?"}]}]
    for split, split_up in ((OWN, False), (EACH, True)):
        asked = Request(str(ui_folder), said, Settings(3, split=split))
        got = finish(worker.submit(asked).events())[1]
        assert all((i["views"] > 1) == split_up for i in got.document["images"])


@pytest.mark.parametrize(
    "text",
    [
        "[malloc] Unable to allocate 99 bytes.",
        "[metal::malloc] Attempting to allocate 99 bytes which is greater than the "
        "maximum allowed buffer size of 9 bytes.",
        "[METAL] Command buffer execution failed: Insufficient Memory (00000008:"
        "kIOGPUCommandBufferCallbackErrorOutOfMemory)",
        "std::bad_alloc",
        "CUDA error: out of memory",
    ],
)
def test_too_little_memory_in_every_allocators_words(text: str) -> None:
    told = str(one_line(RuntimeError(text)))
    assert told.startswith(f"not enough memory for this question ({text[:-1]}")
    assert told.endswith("fewer tokens, or a smaller model")
