"""Answers: the same tokens by every road, and nothing paid for twice."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from decoding import QUESTION, N, naive
from PIL import Image

from mm15_mlx import generate, load, stream_generate
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.decoding import Options
from mm15_mlx.images import load_picture
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.tokenizer import TOKENIZER_FILE, Tokenizer
from mm15_mlx.weights import save_model

# --- the same tokens by every road ---------------------------------------------------


@pytest.mark.parametrize("step", [2048, 7, 1])
def test_cached_and_chunked_are_as_uncached(
    ui: tuple[MM15, Processor], screen: Path, step: int
) -> None:
    model, processor = ui
    expected = naive(model, processor, QUESTION, [screen])
    result = generate(
        model, processor, QUESTION, images=[screen], max_tokens=N,
        prefill_step_size=step,
    )  # fmt: skip
    assert result.tokens == expected and len(set(expected)) > 6


def test_text_alone(ui: tuple[MM15, Processor]) -> None:
    model, processor = ui
    expected = naive(model, processor, QUESTION, [])
    result = generate(model, processor, QUESTION, max_tokens=N)
    assert result.tokens == expected
    assert result.images == [] and result.image_tokens == 0 and result.boxes == []


def test_several_pictures(
    ui: tuple[MM15, Processor], screen: Path, tmp_path: Path
) -> None:
    model, processor = ui
    images = [screen, Image.new("RGB", (90, 60), "red"), screen]
    expected = naive(model, processor, QUESTION, images)
    result = generate(model, processor, QUESTION, images=images, max_tokens=N)
    assert result.tokens == expected


def test_two_models_live_in_one_process(
    ui: tuple[MM15, Processor], answering: Callable[..., Path], screen: Path
) -> None:
    model, processor = ui
    other, other_processor = load(answering("Yes"))
    expected = naive(model, processor, QUESTION, [screen])
    one = stream_generate(model, processor, QUESTION, [screen], max_tokens=N)
    two = stream_generate(other, other_processor, QUESTION, [screen], max_tokens=N)
    tokens, texts = [], ""
    for a in one:
        tokens.append(a.token)
        texts += next(two).text if "Yes" not in texts else ""
    assert tokens == expected and texts == "Yes"
    # and one processor that serves both confuses neither
    swapped = generate(other, processor, QUESTION, images=[screen])
    assert swapped.text == "Yes"
    back = generate(model, processor, QUESTION, images=[screen], max_tokens=N)
    assert back.tokens == expected


# --- how an answer ends --------------------------------------------------------------


def test_stop(answering: Callable[..., Path], screen: Path) -> None:
    model, processor = load(answering("Yes ", (100, 200, 600, 700)))
    result = generate(model, processor, "Where is the button?", images=[screen])
    assert result.text == "Yes [100, 200, 600, 700]" and result.finish_reason == "stop"
    (box,) = result.boxes
    assert (box.label, box.image) == ("Yes", 0)
    assert box.px == (12, 40, 72, 140) and box.norm == (100, 200, 600, 700)
    assert result.tokens[-1] == processor.encoder.end_id
    assert result.generation_tokens == len(result.tokens)


def test_the_label_is_what_was_asked_for(
    answering: Callable[..., Path], screen: Path
) -> None:
    model, processor = load(answering((100, 200)))
    result = generate(model, processor, "Where is the Wi-Fi switch?", images=[screen])
    assert result.points[0].label == "Wi-Fi switch" and result.points[0].px == (12, 40)
    parts = [{"type": "image"}, {"type": "text", "text": "Where is the icon?"}]
    turns = [{"role": "user", "content": parts}]
    asked = generate(model, processor, turns, images=[screen])
    assert asked.points[0].label == "icon"


def test_boxes_are_in_the_picture_of_the_question(
    answering: Callable[..., Path], screen: Path
) -> None:
    """Not in that of an example before it."""
    model, processor = load(answering((100, 200, 600, 700)))
    example = {"type": "image", "image": Image.new("RGB", (50, 50))}
    asked = {"type": "image", "image": screen}
    turns = [
        {"role": "user", "content": [example, {"type": "text", "text": "Where?"}]},
        {"role": "assistant", "content": "On"},
        {"role": "user", "content": [asked, {"type": "text", "text": "Where?"}]},
    ]
    result = generate(model, processor, turns)
    assert result.subject == 1
    assert result.boxes[0].image == 1 and result.boxes[0].px == (12, 40, 72, 140)


@pytest.mark.parametrize("limit", [1, 2])
def test_length(answering: Callable[..., Path], screen: Path, limit: int) -> None:
    model, processor = load(answering("Yes ", (100, 200, 600, 700)))
    result = generate(model, processor, "Hi", images=[screen], max_tokens=limit)
    assert result.finish_reason == "length" and result.generation_tokens == limit


def test_an_answer_ends_with_the_context(
    ui_folder: Path, ui_config: ModelConfig
) -> None:
    model, whole = load(ui_folder)
    prompt = len(whole.prepare(QUESTION).ids)
    text = dataclasses.replace(
        ui_config.text_config, max_position_embeddings=prompt + 3
    )
    config = dataclasses.replace(ui_config, text_config=text)
    model.config = config
    processor = Processor(config, Tokenizer(ui_folder / TOKENIZER_FILE))
    result = generate(model, processor, QUESTION)
    assert (result.finish_reason, result.generation_tokens) == ("length", 3)


def test_a_stream_is_the_whole_answer(
    answering: Callable[..., Path], screen: Path
) -> None:
    model, processor = load(answering("é設 ", (100, 200, 600, 700)))
    responses = list(stream_generate(model, processor, "Hi", [screen]))
    assert "".join(r.text for r in responses) == "é設 [100, 200, 600, 700]"
    assert [r.finish_reason for r in responses[:-1]] == [None] * (len(responses) - 1)
    last = responses[-1]
    assert last.finish_reason == "stop" and last.generation_tokens == len(responses)
    assert last.prompt_tps > 0 and last.peak_memory > 0 and last.generation_tps > 0
    t = last.timings
    assert t.first_token_s >= t.encode_s > 0 and t.prefill_s > 0


# --- options -------------------------------------------------------------------------


def test_sampling_with_a_seed_is_repeatable(ui: tuple[MM15, Processor]) -> None:
    model, processor = ui

    def sample(seed: int, **more: Any) -> list[int]:
        options = {"max_tokens": N, "temp": 1.5, "seed": seed} | more
        return generate(model, processor, QUESTION, **options).tokens

    first = sample(7)
    assert sample(7) == first != sample(8)
    greedy = generate(model, processor, QUESTION, max_tokens=N).tokens
    assert sample(7, top_k=1) == greedy and sample(7, top_p=1e-6) == greedy
    assert sample(7, top_k=5000) == first, "more than there are: all"
    assert sample(7, min_p=1.0) == greedy
    assert sample(7, temp=1e-20) == sample(7, temp=1e-40) == greedy


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantised_cache(ui: tuple[MM15, Processor], screen: Path, bits: int) -> None:
    model, processor = ui
    packed = {"kv_bits": bits, "kv_group_size": 32, "quantized_kv_start": 0}

    def answer(**options: Any) -> list[int]:
        options = {"max_tokens": N} | options
        return generate(model, processor, QUESTION, images=[screen], **options).tokens

    plain = answer()
    first = answer(**packed)
    assert (
        type(processor.memory._conversations[-1].cache[0]).__name__
        == "QuantizedKVCache"
    )
    assert answer(**packed) == first, "resumed from its own cache"
    assert answer() == plain, "never resumed from a packed one"
    if bits == 8:
        assert first[0] == plain[0]
    late = answer(**packed | {"quantized_kv_start": 5000})
    assert late == plain, "too short to be packed"


def test_a_head_dim_that_cannot_be_packed(ui: tuple[MM15, Processor]) -> None:
    model, processor = ui
    message = "heads of 32 numbers cannot be quantised in groups of 64; give a kv-group"
    with pytest.raises(UserError, match=message):
        generate(model, processor, QUESTION, kv_bits=4, quantized_kv_start=0)
    assert generate(model, processor, QUESTION, max_tokens=2).tokens


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_tokens": 0}, "max-tokens is 0; it must be at least 1"),
        ({"temp": -0.1}, "temp is -0.1; it must be 0 .greedy. or more"),
        ({"temp": float("nan")}, "temp is nan; it must be 0 .greedy. or more"),
        ({"top_p": 0}, "top-p is 0; it must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top-p is 1.1; it must be above 0 and at most 1"),
        ({"min_p": 2}, "min-p is 2; it must be between 0 and 1"),
        ({"top_k": -1}, "top-k is -1; it must be 0 .all. or more"),
        ({"seed": -1}, "seed is -1; it must be between 0 and"),
        ({"kv_bits": 3}, "kv-bits is 3; it must be 2, 4 or 8"),
        ({"kv_group_size": 16}, "kv-group-size is 16; it must be 32, 64 or 128"),
        ({"prefill_step_size": 0}, "prefill-step-size is 0; it must be at least 1"),
    ],
)
def test_options_out_of_range(option: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Options(**option)


def test_nothing_is_printed(
    ui: tuple[MM15, Processor], screen: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, processor = ui
    generate(model, processor, QUESTION, images=[screen], max_tokens=3)
    assert capfd.readouterr() == ("", "")


def test_an_opened_picture_may_change_on_disk(
    ui: tuple[MM15, Processor], screen: Path, tmp_path: Path
) -> None:
    model, processor = ui
    path = tmp_path / "a.png"
    path.write_bytes(screen.read_bytes())
    picture = load_picture(path)
    path.unlink()
    result = generate(model, processor, QUESTION, images=[picture], max_tokens=2)
    assert result.images[0].picture.path == str(path)


def test_tied_words_and_experts(
    tmp_path: Path, ui_config: ModelConfig, tokenizer_model: bytes, screen: Path
) -> None:
    text = dataclasses.replace(
        ui_config.text_config, tie_word_embeddings=True, num_experts=4,
        moe_intermediate_size=32,
    )  # fmt: skip
    config = dataclasses.replace(ui_config, text_config=text)
    files = {TOKENIZER_FILE: tokenizer_model}
    save_model(tmp_path / "moe", MM15(config), config, files=files)
    model, processor = load(tmp_path / "moe")
    expected = naive(model, processor, QUESTION, [screen])
    result = generate(model, processor, QUESTION, images=[screen], max_tokens=N)
    assert result.tokens == expected
