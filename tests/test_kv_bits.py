"""A quantised KV cache: close to a floating one, packed when mlx-lm packs its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mm15_mlx import generate
from mm15_mlx.config import UserError
from mm15_mlx.decoding import Options, prefill
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor

QUESTION = "What is on this screen?"
Cli = Callable[..., tuple[int, str, str]]


def filled(
    model: MM15, processor: Processor, screen: Path, **options: Any
) -> tuple[mx.array, list[Any]]:
    """Logits of a prompt's end, and the cache that the prompt left."""
    inputs = processor(QUESTION, images=[screen])
    ids = inputs["input_ids"]
    embeddings = model.embed_inputs(ids, model.encode_image(inputs["pixel_values"]))
    cache = model.make_cache()
    logits = prefill(model, ids[0].tolist(), embeddings, cache, Options(**options))
    return logits, cache


@pytest.mark.parametrize(("bits", "most"), [(8, 0.02), (4, 0.3)])
def test_logits_are_close(
    ui: tuple[MM15, Processor], screen: Path, bits: int, most: float
) -> None:
    model, processor = ui
    exact, floating = filled(model, processor, screen)
    logits, packed = filled(
        model, processor, screen, kv_bits=bits, kv_group_size=32, quantized_kv_start=0
    )
    gap = mx.abs(logits - exact).mean() / mx.abs(exact).mean()
    assert 0 < gap.item() < most
    assert all(c.bits == bits and c.group_size == 32 for c in packed)
    # Keys and values of 32 numbers: 32-bit floats, or `bits` and two float32 a group.
    share = (packed[0].nbytes / packed[0].keys[0].shape[2]) / (
        floating[0].nbytes / floating[0].keys.shape[2]
    )
    assert share == pytest.approx((bits + 2) / 32)


@pytest.mark.parametrize("step", [2048, 16])
def test_packed_from_the_start_that_was_asked_for(
    ui: tuple[MM15, Processor], screen: Path, step: int
) -> None:
    model, processor = ui
    length = len(processor.prepare(QUESTION, [screen]).ids)
    sizes = {"kv_bits": 8, "kv_group_size": 32, "prefill_step_size": step}
    for start, expected in ((length, True), (length + 1, False)):
        _, cache = filled(model, processor, screen, quantized_kv_start=start, **sizes)
        assert [hasattr(c, "bits") for c in cache] == [expected] * 3
        assert all(c.offset == length for c in cache)


def test_an_answer_grows_into_it(ui: tuple[MM15, Processor], screen: Path) -> None:
    """As plain as ever up to the start; 2 bits are felt after it."""
    model, processor = ui
    length = len(processor.prepare(QUESTION, [screen]).ids)

    def answer(**options: Any) -> list[int]:
        return generate(
            model, processor, QUESTION, images=[screen], max_tokens=16, **options
        ).tokens

    plain = answer()
    sizes = {"kv_bits": 2, "kv_group_size": 32}
    for grown in (1, 6):
        tokens = answer(quantized_kv_start=length + grown, **sizes)
        # The step that reaches the start packs, and the next one sees it.
        assert tokens[: grown + 1] == plain[: grown + 1] and tokens != plain
    assert answer(quantized_kv_start=length + 16, **sizes) == plain


def test_the_same_question_has_the_same_answer(
    ui: tuple[MM15, Processor], screen: Path
) -> None:
    """Whether its beginning was read or remembered, at however few bits."""
    model, processor = ui
    options = {"kv_bits": 2, "kv_group_size": 32, "quantized_kv_start": 0}
    answers = [
        generate(model, processor, QUESTION, images=[screen], max_tokens=9, **options)
        for _ in range(2)
    ]
    assert answers[0].tokens == answers[1].tokens
    processor.memory.forget()
    fresh = generate(
        model, processor, QUESTION, images=[screen], max_tokens=9, **options
    )
    assert fresh.tokens == answers[0].tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_bits": 3}, "kv-bits is 3; it must be 2, 4 or 8"),
        (
            {"kv_bits": 8, "quantized_kv_start": -1},
            "quantized-kv-start is -1; it must ",
        ),
        (
            {"kv_bits": 8},
            "heads of 32 numbers cannot be quantised in groups of 64; give",
        ),
    ],
)
def test_mistakes(
    ui: tuple[MM15, Processor], options: dict[str, Any], message: str
) -> None:
    """The last of them at once, not when the cache has grown long enough."""
    model, processor = ui
    with pytest.raises(UserError, match=message):
        generate(model, processor, QUESTION, max_tokens=1, **options)


@pytest.mark.parametrize("verb", ["generate", "ground", "chat", "eval"])
def test_every_verb_that_answers_takes_it(
    button: Path,
    screen: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    from mm15_mlx import decoder

    packed = []
    original = decoder.KVCache.to_quantized

    def to_quantized(cache: Any, group_size: int, bits: int) -> Any:
        packed.append((group_size, bits))
        return original(cache, group_size, bits)

    monkeypatch.setattr(decoder.KVCache, "to_quantized", to_quantized)
    tasks = tmp_path / "tasks.jsonl"
    row = {"id": "a", "image": str(screen), "box": [12, 40, 72, 140]}
    tasks.write_text(json.dumps(row | {"task": "find_widget", "query": "button"}))
    own = {
        "generate": ("--image", screen, "--prompt", "Where?"),
        "ground": ("--image", screen, "--query", "button", "--query", "switch"),
        "chat": ("--image", screen),
        "eval": ("--data", tasks),
    }
    flags = ("--kv-bits", "8", "--kv-group-size", "32", "--quantized-kv-start", "0")
    status, out, err = cli(
        verb, "--model", button, *own[verb], *flags, stdin="Where is it?\n"
    )
    assert status == 0, err
    assert packed and set(packed) == {(32, 8)}
    pixels, model_form = "[12, 40, 72, 140]", "[100, 200, 600, 700]"
    said = {"ground": f"switch: {pixels}", "eval": "acc@0.5 1.000"}
    assert said.get(verb, model_form) in out
