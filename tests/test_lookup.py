"""Guessed tokens: the same answer in fewer passes, and a cache that holds it."""

from pathlib import Path

import mlx.core as mx
import pytest
from decoding import QUESTION, Counter, naive

from mm15_mlx import generate, stream_generate
from mm15_mlx.config import UserError
from mm15_mlx.decoding import Guesses, Options, Steps, prefill
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor

LONG = 40


@pytest.mark.parametrize("lookup", [1, 3, 15])
@pytest.mark.parametrize("prompt", [QUESTION, "icon icon icon icon text icon icon"])
def test_the_answer_is_the_same(
    ui: tuple[MM15, Processor], screen: Path, prompt: str, lookup: int
) -> None:
    model, processor = ui
    plain = generate(model, processor, prompt, images=[screen], max_tokens=LONG)
    guessed = generate(
        model, processor, prompt, images=[screen], max_tokens=LONG, lookup=lookup
    )
    assert guessed.tokens == plain.tokens
    assert (guessed.text, guessed.finish_reason) == (plain.text, plain.finish_reason)


def steps_of(
    model: MM15, ids: list[int], guess: list[int] | None, lookup: int = 4
) -> Steps:
    options = Options(lookup=lookup)
    cache = model.make_cache()
    embeddings = model.embed_inputs(mx.array([ids]))
    logits = prefill(model, ids, embeddings, cache, options)
    token = mx.argmax(logits, axis=-1)
    if guess is None:
        return Steps(model, token, cache, lambda x: mx.argmax(x, axis=-1), options)
    return Guesses(model, token, cache, options, guess)


def walk(steps: Steps, count: int) -> list[int]:
    values = [steps.value()]
    for _ in range(count - 1):
        steps.go_on()
        values.append(steps.value())
    return values


@pytest.mark.parametrize("wrong", [None, 0, 1, 2, 5])
def test_right_guesses_save_passes_and_wrong_ones_cost_nothing_else(
    ui: tuple[MM15, Processor], monkeypatch: pytest.MonkeyPatch, wrong: int | None
) -> None:
    """The text to guess from is the answer itself, with one token changed."""
    model, processor = ui
    ids = processor.prepare(QUESTION, []).ids
    plain = steps_of(model, ids, None)
    answer = walk(plain, 12)
    text = list(answer)
    if wrong is not None:
        text[wrong] = (text[wrong] + 1) % 50 + 300
    counter = Counter(model, monkeypatch)
    guesses = steps_of(model, ids, text)
    counter.clear()
    assert walk(guesses, 12) == answer
    assert len(counter.reads) <= (4 if wrong is None else 8)
    guesses.settle()
    for mine, theirs in zip(guesses.cache, plain.cache, strict=True):
        # Steps reads one token further: it has begun with the next
        assert mine.offset == len(ids) + 11 and theirs.offset == mine.offset
        for a, b in zip(mine.state[:2], theirs.state[:2], strict=True):
            a, b = a[..., : mine.offset, :], b[..., : mine.offset, :]
            assert mx.allclose(a, b, atol=1e-4)


def test_another_question_goes_on_from_a_guessed_answer(
    ui: tuple[MM15, Processor], screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = ui
    options = {"images": [screen], "max_tokens": LONG, "lookup": 4}
    first = generate(model, processor, QUESTION, **options)
    turns = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": first.text},
        {"role": "user", "content": "Where?"},
    ]
    fresh = naive(model, processor, turns, [screen])
    counter = Counter(model, monkeypatch)
    again = generate(model, processor, turns, **options)
    assert again.tokens[: len(fresh)] == fresh and counter.views == []


def test_who_stops_listening_loses_nothing(
    ui: tuple[MM15, Processor], screen: Path
) -> None:
    model, processor = ui
    fresh = naive(model, processor, QUESTION, [screen])
    for heard in (1, 2, 5):
        stream = stream_generate(
            model, processor, QUESTION, images=[screen], max_tokens=LONG, lookup=4
        )
        for _ in range(heard):
            next(stream)
        stream.close()
        again = generate(model, processor, QUESTION, images=[screen], max_tokens=12)
        assert again.tokens == fresh


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lookup": -1}, "lookup is -1; it must be 0 .off. or more"),
        ({"lookup": 4, "temp": 0.5}, "the cache: leave temp or lookup out"),
        ({"lookup": 4, "kv_bits": 8}, "the cache: leave kv-bits or lookup out"),
    ],
)
def test_what_cannot_be_guessed_is_said(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Options(**options)
