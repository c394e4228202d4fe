from pathlib import Path

import mlx.core as mx
import pytest
from PIL import Image

from mm15_mlx import MM15, generate, stream_generate
from mm15_mlx.decoder import KVCache
from mm15_mlx.generate import content_keys
from mm15_mlx.load import load_processor
from mm15_mlx.memory import Memory
from mm15_mlx.processor import Processor


def filled(tokens: int) -> list[KVCache]:
    cache = [KVCache(), KVCache()]
    for c in cache:
        c.update_and_fetch(mx.ones((1, 1, tokens, 4)), mx.ones((1, 1, tokens, 4)))
    return cache


def empty() -> list[KVCache]:
    return [KVCache(), KVCache()]


def test_features_are_computed_once() -> None:
    memory, calls = Memory(), []

    def encode() -> mx.array:
        calls.append(1)
        return mx.ones((2, 3))

    first = memory.features("a", encode)
    assert memory.features("a", encode) is first and len(calls) == 1
    memory.features("b", encode)
    assert len(calls) == 2


def test_the_least_recent_features_go_first() -> None:
    memory = Memory(feature_bytes=2 * 400)
    for key in ("a", "b", "a", "c"):  # 400 bytes each: b is the oldest at c
        memory.features(key, lambda: mx.ones((100,)))

    def never() -> mx.array:
        raise AssertionError("encoded again")

    memory.features("a", never)
    memory.features("c", never)
    with pytest.raises(AssertionError, match="encoded again"):
        memory.features("b", never)


def test_the_newest_stays_however_large() -> None:
    memory = Memory(feature_bytes=1)
    memory.features("a", lambda: mx.ones((100,)))
    assert memory.features("a", lambda: mx.zeros((1,))).shape == (100,)


def test_a_common_beginning_is_resumed() -> None:
    memory, cache = Memory(), filled(5)
    memory.keep([1, 2, 3, 4, 5], cache)
    resumed, known = memory.resume([1, 2, 3, 9, 9, 9], empty)
    assert resumed is cache and known == 3
    assert [c.offset for c in cache] == [3, 3]


def test_one_token_is_always_left_to_read() -> None:
    memory, cache = Memory(), filled(3)
    memory.keep([1, 2, 3], cache)
    resumed, known = memory.resume([1, 2, 3], empty)
    assert resumed is cache and known == 2 and cache[0].offset == 2


def test_a_cache_is_handed_over_not_shared() -> None:
    memory = Memory()
    memory.keep([1, 2, 3], filled(3))
    memory.resume([1, 2, 4], empty)
    again, known = memory.resume([1, 2, 4], empty)
    assert known == 0 and again[0].offset == 0


def test_nothing_in_common_is_a_fresh_cache() -> None:
    memory, cache = Memory(), filled(3)
    memory.keep([1, 2, 3], cache)
    fresh, known = memory.resume([2, 3, 4], empty)
    assert fresh is not cache and known == 0


def test_a_cache_of_another_kind_is_not_used() -> None:
    memory = Memory()
    memory.keep([1, 2, 3], filled(3), kind=(4, 32))
    assert memory.resume([1, 2, 4], empty)[1] == 0
    memory.keep([1, 2, 3], filled(3), kind=(4, 32))
    assert memory.resume([1, 2, 4], empty, kind=(4, 32))[1] == 2


def test_a_cache_that_cannot_be_cut_is_not_used() -> None:
    class Fixed(KVCache):
        def is_trimmable(self) -> bool:
            return False

    memory = Memory()
    memory.keep([1, 2, 3], [Fixed()])
    assert memory.resume([1, 2, 4], empty)[1] == 0


def test_another_model_finds_nothing() -> None:
    memory, one, other = Memory(), object(), object()
    memory.serve(one)
    memory.features("a", lambda: mx.ones((1,)))
    memory.keep([1, 2, 3], filled(3))
    memory.serve(one)
    assert memory.features("a", lambda: mx.ones((2,))).shape == (1,)
    memory.serve(other)
    assert memory.features("a", lambda: mx.ones((2,))).shape == (2,)
    assert memory.resume([1, 2, 4], empty)[1] == 0


def test_forget() -> None:
    memory = Memory()
    memory.features("a", lambda: mx.ones((1,)))
    memory.keep([1, 2, 3], filled(3))
    memory.forget()
    assert memory.features("a", lambda: mx.ones((2,))).shape == (2,)
    assert memory.resume([1, 2, 4], empty)[1] == 0


def test_a_shorter_conversation_is_resumed_where_a_longer_would_lose_more() -> None:
    memory = Memory()
    memory.keep([1, 2, 3, 4, *range(20, 40)], filled(24))
    memory.keep([1, 2, 3, 9], filled(4))
    assert memory.resume([1, 2, 3, 4, 5], empty)[1] == 3  # not 4 of the 24


def test_an_answer_that_nobody_waits_for_is_resumed(
    ui: tuple[MM15, Processor], ui_folder: Path
) -> None:
    model, processor = ui
    picture = Image.new("RGB", (90, 60), "red")
    question = "Where is the button?"
    stream = stream_generate(model, processor, question, [picture], max_tokens=8)
    next(stream)
    next(stream)
    stream.close()
    prepared = processor.prepare(question, [picture])
    keys = content_keys(prepared, processor.encoder.image_id)
    _, known = processor.memory.resume(keys, model.make_cache, None)
    assert known >= len(keys) - 1
    again = generate(model, processor, question, [picture], max_tokens=8)
    fresh = generate(
        model, load_processor(ui_folder), question, [picture], max_tokens=8
    )
    assert again.tokens == fresh.tokens
