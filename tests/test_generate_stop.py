"""An answer that is stopped before its first token: when that takes effect, and what of
the reading is kept."""

import importlib
from typing import Any

import pytest
from decoding import QUESTION, Counter, N, naive

from mm15_mlx import generate
from mm15_mlx.decoding import Options, Stop, Stopped
from mm15_mlx.generate import decode
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor

STEP = 32  # tokens of a chunk
ASKED = [("views", 4), ("views", 1), *[("reads", STEP)] * 3]  # the picture has 5 views


@pytest.fixture(autouse=True)
def four_views_together(monkeypatch: pytest.MonkeyPatch) -> None:
    answering = importlib.import_module("mm15_mlx.generate")
    monkeypatch.setattr(answering, "views_together", lambda config: 4)


def after(times: int) -> Stop:
    """Says no so many times, and then yes."""
    left = [False] * times
    return lambda: left.pop() if left else True


def stopped(
    ui: tuple[MM15, Processor], picture: Any, times: int, **options: Any
) -> None:
    model, processor = ui
    prepared = processor.prepare(QUESTION, [picture])
    with pytest.raises(Stopped):
        next(decode(model, processor, prepared, Options(**options), stop=after(times)))


@pytest.mark.parametrize("times", range(len(ASKED)))
def test_it_ends_before_the_next_part_and_what_is_whole_is_kept(
    ui: tuple[MM15, Processor],
    screen: Any,
    times: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, processor = ui
    expected = naive(model, processor, QUESTION, [screen])
    length = len(processor.prepare(QUESTION, [screen]).ids)
    counted = Counter(model, monkeypatch)
    stopped(ui, screen, times, prefill_step_size=STEP)
    assert counted.views == [n for what, n in ASKED[:times] if what == "views"]
    assert counted.reads == [n for what, n in ASKED[:times] if what == "reads"]
    read = sum(counted.reads)
    counted.clear()
    result = generate(
        model, processor, QUESTION, images=[screen], max_tokens=N,
        prefill_step_size=STEP,
    )  # fmt: skip
    assert result.tokens == expected
    assert counted.views == ([4, 1] if times < 2 else [])
    assert sum(counted.reads) == length - read + len(expected) - 1


def test_a_quantised_cache_is_kept_as_well(
    ui: tuple[MM15, Processor], screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = ui
    options = {
        "kv_bits": 8, "kv_group_size": 32, "quantized_kv_start": 0,
        "prefill_step_size": STEP, "max_tokens": N,
    }  # fmt: skip
    whole = generate(model, processor, QUESTION, images=[screen], **options)
    processor.memory.forget()
    stopped(ui, screen, 4, **options)
    counted = Counter(model, monkeypatch)
    again = generate(model, processor, QUESTION, images=[screen], **options)
    assert again.tokens == whole.tokens
    length = whole.prompt_tokens - 2 * STEP
    assert sum(counted.reads) == length + len(whole.tokens) - 1


def test_the_conversation_before_is_not_lost(
    ui: tuple[MM15, Processor], screen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cache had been handed over to the question that was stopped."""
    model, processor = ui
    earlier = "Where is the button?"
    generate(model, processor, earlier, images=[screen], max_tokens=N)
    stopped(ui, screen, 0)
    counted = Counter(model, monkeypatch)
    generate(model, processor, QUESTION, images=[screen], max_tokens=1)
    old, new = (processor.prepare(q, [screen]).ids for q in (earlier, QUESTION))
    same = next(i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b)
    assert counted.views == [] and counted.reads == [len(new) - same] != [len(new)]


def test_who_never_stops_is_asked_between_all_parts(
    ui: tuple[MM15, Processor], screen: Any
) -> None:
    model, processor = ui
    asked = []
    prepared = processor.prepare(QUESTION, [screen])
    options = Options(max_tokens=N, prefill_step_size=STEP)
    stream = decode(
        model, processor, prepared, options, stop=lambda: bool(asked.append(1))
    )
    assert [r.token for r in stream] == naive(model, processor, QUESTION, [screen])
    assert len(asked) == 2 + -(-len(prepared.ids) // STEP)
