"""Training of every family: nothing that comes later is seen, and what is learnt.

Each is converted from its own layout and trained on two rows of unlike length, one with
a picture, as `train` does: `read_split`, `collate`, `losses`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from training import asked, write

from mm15_mlx import load, trainer
from mm15_mlx.batches import Pictures, collate
from mm15_mlx.convert import run
from mm15_mlx.dataset import Sample, read_split
from mm15_mlx.lora import Tuning, make_trainable
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor

from .test_families_end_to_end import SOURCES

pytestmark = pytest.mark.parity

ROWS = (asked("What is on?", "Wi-Fi", "screen.png"), asked("Say no", "no"))
# By hand: the letters of both answers, as bytes of GPT-2's alphabet,
ANSWERS = ([54, 72, 12, 37, 72], [77, 78])
SPACE = 220
# and of each template what stands before an answer's text that the question has not
# (… : also a space after it), and the token that ends it.
LEARNT = {
    "idefics3": (" ", "<end_of_utterance>"),
    "smolvlm": (" ", "<end_of_utterance>"),
    "smolvlm (Agentic-GUI)": (" ", "<end_of_utterance>"),
    "idefics3 (ScreenVLM)": ("", "<|end_of_text|>"),
    "llava": (" ", "</s>"),
    "llava_next": (" ", "</s>"),
    "llava_next (Mistral)": (" …", "</s>"),
    "internvl": ("", "<|im_end|>"),
    "internvl (Qwen3)": ("", "<|im_end|>"),
    "internvl (Qwen3-MoE)": ("", "<|im_end|>"),
    "llava (its own code)": (" ", "</s>"),
    "llava_llama": (" ", "</s>"),
    "llava_mistral": (" …", "</s>"),
    "ferret_llama": ("", "<|eot_id|>"),
    "ferret_gemma": ("", "<end_of_turn>"),
    "mllm": ("", "</s>"),
    "honeybee": ("", "</s>"),
    "internvl_chat (Phi-3)": ("", "<|end|>"),
    "internvl_chat (Qwen2)": ("", "<|im_end|>"),
    "internvl_chat (Qwen3)": ("", "<|im_end|>"),
    "internvl_chat (Qwen3-MoE)": ("", "<|im_end|>"),
    "mm15": ("", "<|end|>"),
}


def every_logit(
    model: MM15, pictures: Pictures, samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> mx.array:  # fmt: skip
    """What `losses` hands to the cross-entropy, (T, vocabulary), where all is learnt
    but the first token of each row."""
    seen: list[mx.array] = []
    real = trainer.nn.losses.cross_entropy

    def look(logits: mx.array, targets: mx.array) -> mx.array:
        seen.append(logits)
        return real(logits, targets)

    whole = [dataclasses.replace(s, learnt=np.ones(len(s.ids), bool)) for s in samples]
    batch = collate(whole)
    with monkeypatch.context() as patch:
        patch.setattr(trainer.nn.losses, "cross_entropy", look)
        trainer.losses(model, batch, pictures, pictures.of(batch))
    (logits,) = seen
    return logits


def changed(sample: Sample, place: int, processor: Processor) -> Sample:
    """With another ordinary token at `place`."""
    ids = sample.ids.copy()
    a, b = processor.tokenizer.encode("Wi-Fi no", first=False)[:2]
    ids[place] = b if ids[place] == a else a
    return dataclasses.replace(sample, ids=ids)


@pytest.mark.parametrize("name", SOURCES)
def test_a_family_is_trained_on_the_answer_alone_and_causally(
    name: str, tmp_path: Path, screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.convert(SOURCES[name](tmp_path / "s"), tmp_path / "m", name="owner/tiny",
                say=lambda _: None)  # fmt: skip
    model, processor = load(tmp_path / "m")
    split = read_split(write(tmp_path / "d", screen, ROWS), "train", processor)
    assert not split.problems
    samples: Any = split.samples
    before, stop = LEARNT[name]
    after = [processor.tokenizer.special(stop)]
    if before.endswith("…"):
        before, after = before[:-1], [SPACE, *after]
    start = [SPACE] * len(before)
    for sample, answer in zip(samples, ANSWERS, strict=True):
        assert sample.ids[sample.learnt].tolist() == [*start, *answer, *after]
        # The first question's placeholders are among what is not.
        hidden = sample.ids[~sample.learnt] == model.config.prompt.image_token_id
        assert hidden.sum() == sum(p.tokens for p in sample.pictures)

    make_trainable(model, Tuning())
    model.train()
    pictures = Pictures(model, processor, ("decoder",), 10**9)
    longest = max(samples, key=lambda s: len(s.ids))
    short = min(samples, key=lambda s: len(s.ids))
    assert longest.pictures and len(short.ids) < len(longest.ids)
    plain = every_logit(model, pictures, [longest, short], monkeypatch)
    count = len(longest.ids) - 1
    assert plain.shape[0] == count + len(short.ids) - 1
    limit = 1e-5 * mx.abs(plain).max()

    # The last token moves nothing; one before it moves what follows, and no more.
    last = changed(longest, -1, processor)
    found = every_logit(model, pictures, [last, short], monkeypatch)
    assert mx.abs(found - plain).max() <= limit
    place = len(longest.ids) - 3
    middle = changed(longest, place, processor)
    found = every_logit(model, pictures, [middle, short], monkeypatch)
    moved = mx.abs(found - plain).max(axis=1)
    assert moved[:place].max() <= limit and moved[count:].max() <= limit
    assert moved[place:count].min() > 10 * limit
    # The padded row is what it is alone, and the other does not see its padding.
    alone = [every_logit(model, pictures, [s], monkeypatch) for s in (longest, short)]
    assert mx.abs(mx.concatenate(alone) - plain).max() <= limit
