"""What a second question about the same picture need not pay for."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from decoding import QUESTION, Counter, N, naive
from PIL import Image

from mm15_mlx import generate, stream_generate
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor


@pytest.fixture
def counted(ui: tuple[MM15, Processor], monkeypatch: pytest.MonkeyPatch) -> Counter:
    model, _ = ui
    return Counter(model, monkeypatch)


def test_a_second_question_reads_only_its_own_words(
    ui: tuple[MM15, Processor], counted: Counter, screen: Path
) -> None:
    model, processor = ui
    second = "Where is the button?"
    fresh = naive(model, processor, second, [screen])
    counted.clear()
    first = generate(model, processor, QUESTION, images=[screen], max_tokens=N)
    assert sum(counted.views) == 5
    counted.clear()
    again = generate(model, processor, second, images=[screen], max_tokens=N)
    assert counted.views == [], "nothing is encoded"
    new = processor.prepare(second, [screen]).ids
    old = processor.prepare(QUESTION, [screen]).ids
    same = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    assert counted.reads[0] == len(new) - same < 20
    assert again.tokens == fresh and again.timings.encode_s == 0
    assert again.prompt_tokens == len(new) and first.image_tokens == again.image_tokens


def test_a_second_turn_reads_only_its_own_words(
    ui: tuple[MM15, Processor], counted: Counter, screen: Path
) -> None:
    model, processor = ui
    turns: list[dict[str, Any]] = [{"role": "user", "content": QUESTION}]
    generate(model, processor, turns, images=[screen], max_tokens=N)
    turns += [
        {"role": "assistant", "content": "a list of icons"},
        {"role": "user", "content": "Where?"},
    ]
    counted.clear()
    result = generate(model, processor, turns, images=[screen], max_tokens=N)
    assert counted.views == [] and counted.reads[0] < 30
    assert result.tokens == naive(model, processor, turns, [screen])


def test_the_same_question_again(
    ui: tuple[MM15, Processor], counted: Counter, screen: Path
) -> None:
    model, processor = ui
    first = generate(model, processor, QUESTION, images=[screen], max_tokens=N)
    counted.clear()
    again = generate(model, processor, QUESTION, images=[screen], max_tokens=N)
    assert again.tokens == first.tokens
    assert counted.views == [] and counted.reads[0] == 1


@pytest.mark.parametrize("limit", [1, N])
def test_a_step_ahead_of_its_token_changes_nothing(
    ui: tuple[MM15, Processor], counted: Counter, screen: Path, limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What a GPU does: the step in vain at the end is remembered like the others."""
    model, processor = ui
    first = generate(model, processor, QUESTION, images=[screen], max_tokens=limit)
    after: list[dict[str, Any]] = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "Where?"},
    ]
    then = generate(model, processor, after, images=[screen], max_tokens=limit)
    processor.memory.forget()
    answering = importlib.import_module("mm15_mlx.generate")
    monkeypatch.setattr(answering, "runs_ahead", lambda: True)
    counted.clear()
    ahead = generate(model, processor, QUESTION, images=[screen], max_tokens=limit)
    assert ahead.tokens == first.tokens
    assert ahead.finish_reason == first.finish_reason
    assert counted.reads[1:] == [1] * limit  # one more than tokens were wanted
    again = generate(model, processor, after, images=[screen], max_tokens=limit)
    assert again.tokens == then.tokens


def test_another_picture_of_the_same_size_is_another(
    ui: tuple[MM15, Processor], counted: Counter, screen: Path
) -> None:
    model, processor = ui
    other = Image.effect_mandelbrot((120, 200), (-2, -1, 1, 1), 50).convert("RGB")
    fresh = naive(model, processor, QUESTION, [other])
    first = generate(model, processor, QUESTION, images=[screen], max_tokens=N)
    counted.clear()
    second = generate(model, processor, QUESTION, images=[other], max_tokens=N)
    assert sum(counted.views) == 5 and second.tokens == fresh != first.tokens


def test_two_pictures_alternately(
    ui: tuple[MM15, Processor], counted: Counter, screen: Path
) -> None:
    model, processor = ui
    other = Image.new("RGB", (120, 200), "red")
    for picture in (screen, other):
        generate(model, processor, QUESTION, images=[picture], max_tokens=2)
    for question in ("Where is the button?", "What is the list?"):
        for picture in (screen, other):
            fresh = naive(model, processor, question, [picture])
            counted.clear()
            result = generate(
                model, processor, question, images=[picture], max_tokens=N
            )
            assert counted.views == [] and counted.reads[0] < 30
            assert result.tokens == fresh


def test_a_picture_is_not_encoded_again_where_its_keys_are_gone(
    ui: tuple[MM15, Processor], counted: Counter, screen: Path
) -> None:
    model, processor = ui
    processor.memory.kv_bytes = 1
    other = Image.new("RGB", (80, 80), "red")
    for picture in (screen, other):
        generate(model, processor, QUESTION, images=[picture], max_tokens=2)
    counted.clear()
    result = generate(model, processor, QUESTION, images=[screen], max_tokens=N)
    assert counted.views == [] and counted.reads[0] > 80
    assert result.tokens == naive(model, processor, QUESTION, [screen])


def test_ground_reads_each_query_alone(
    counted: Counter, button: Path, screen: Path, cli: Callable[..., Any]
) -> None:
    queries = ["button", '"Wi-Fi"', "General icon"]
    cli("ground", "--model", button, "--image", screen, "--query", *queries)
    assert counted.views == [5]
    picture, *others = (n for n in counted.reads if n > 1)
    assert picture > 80 and len(others) == 2 and max(others) < 20


def test_chat_reads_each_turn_alone(
    counted: Counter, button: Path, screen: Path, cli: Callable[..., Any]
) -> None:
    turns = "Where?\nAnd the icon?\nAnd two?\n"
    cli("chat", "--model", button, "--image", screen, stdin=turns)
    assert counted.views == [5]
    picture, *others = (n for n in counted.reads if n > 1)
    assert picture > 80 and len(others) == 2 and max(others) < 40


def test_a_stream_that_is_left_harms_nothing(
    ui: tuple[MM15, Processor], screen: Path
) -> None:
    model, processor = ui
    expected = naive(model, processor, QUESTION, [screen])
    for response in stream_generate(model, processor, QUESTION, [screen]):
        if response.generation_tokens == 3:
            break
    result = generate(model, processor, QUESTION, images=[screen], max_tokens=N)
    assert result.tokens == expected


def test_a_stream_is_kept_once_its_last_piece_is_out(
    ui: tuple[MM15, Processor], counted: Counter, screen: Path
) -> None:
    model, processor = ui
    stream = stream_generate(model, processor, QUESTION, [screen], max_tokens=2)
    next(stream), next(stream)
    counted.clear()
    generate(model, processor, QUESTION, images=[screen], max_tokens=2)
    assert counted.reads[0] == 1


def test_the_number_of_rows_that_a_step_reads(
    ui: tuple[MM15, Processor], counted: Counter
) -> None:
    """One token at a time, and only the last one's logits."""
    model, processor = ui
    asked: list[int] = []
    logits = type(model.decoder).logits

    def count(decoder: Any, hidden: mx.array) -> mx.array:
        asked.append(hidden.size // hidden.shape[-1])
        return logits(decoder, hidden)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.decoder), "logits", count)
        generate(model, processor, QUESTION, max_tokens=4)
    assert set(asked) == {1} and counted.reads[1:] == [1, 1, 1]
