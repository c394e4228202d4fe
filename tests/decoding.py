"""Greedy decoding without any cache, and a count of what is computed."""

from typing import Any

import mlx.core as mx
import pytest

from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor

QUESTION = "What is on this screen?"
N = 12


class Counter:
    """Counts the views that are encoded and the tokens that the decoder reads."""

    def __init__(self, model: MM15, monkeypatch: pytest.MonkeyPatch) -> None:
        self.views: list[int] = []
        self.reads: list[int] = []
        encode, decoder = MM15.encode_image, type(model.decoder).__call__

        def encode_image(model: MM15, pixels: mx.array) -> mx.array:
            self.views.append(pixels.shape[0])
            return encode(model, pixels)

        def read(decoder_: Any, inputs: mx.array, *rest: Any) -> mx.array:
            self.reads.append(inputs.shape[1])
            return decoder(decoder_, inputs, *rest)

        monkeypatch.setattr(MM15, "encode_image", encode_image)
        monkeypatch.setattr(type(model.decoder), "__call__", read)

    def clear(self) -> None:
        self.views.clear()
        self.reads.clear()


def naive(model: MM15, processor: Processor, prompt: Any, images: list) -> list[int]:
    """Greedy decoding without any cache: the yardstick."""
    inputs = processor(prompt, images=images)
    ids, tokens = inputs["input_ids"], []
    for _ in range(N):
        logits = model(ids, inputs.get("pixel_values"))
        tokens.append(int(mx.argmax(logits[0, -1]).item()))
        if tokens[-1] == processor.encoder.end_id:
            break
        ids = mx.concatenate([ids, mx.array([[tokens[-1]]])], axis=1)
    return tokens
