"""A token's step in NumPy is that of the layers, and the layers do all other steps."""

import dataclasses
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mm15_mlx import fast_cpu, one_token
from mm15_mlx.config import ModelConfig
from mm15_mlx.decoder import Decoder, KVCache
from mm15_mlx.lora import Tuning, make_trainable
from mm15_mlx.mm15 import MM15
from mm15_mlx.rope import RopeScaling

here = pytest.mark.skipif(
    not fast_cpu.usable(mx.zeros(1)), reason="NumPy is for MLX on an x86 CPU only"
)
IDS = mx.random.randint(5, 96, (1, 40), key=mx.random.key(5))
LLAMA = RopeScaling("llama3", 8.0, 1.0, 4.0, 64)
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "biases, no norm of queries": {"attention_bias": True, "qk_norm": False},
    "gelu": {"hidden_act": "gelu_pytorch_tanh"},
    "exact gelu": {"hidden_act": "gelu"},
    "stretched": {"rope_scaling": LLAMA},
    "a key head for each": {"num_key_value_heads": 4, "num_attention_heads": 4},
}
Steps = Callable[[Decoder], mx.array]


def build(config: ModelConfig, **changes: Any) -> Decoder:
    mx.random.seed(0)
    decoder = Decoder(dataclasses.replace(config.text_config, **changes))
    for layer in decoder.layers:  # norms that matter
        layer.input_layernorm.weight = mx.random.normal(
            layer.input_layernorm.weight.shape
        )
    mx.eval(decoder.parameters())
    return decoder


def steps(decoder: Decoder) -> mx.array:
    """Hidden states of the tokens after the first ten, one by one."""
    cache = [KVCache() for _ in decoder.layers]
    decoder(IDS[:, :10], cache)
    found = [decoder(IDS[:, i : i + 1], cache) for i in range(10, IDS.shape[1])]
    return mx.concatenate(found, axis=1)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many layers each step in NumPy had."""
    calls: list[int] = []
    hidden = one_token.hidden

    def spy(decoder: Any, x: mx.array, caches: Any) -> mx.array:
        calls.append(len(caches))
        return hidden(decoder, x, caches)

    monkeypatch.setattr(one_token, "hidden", spy)
    return calls


@here
@pytest.mark.parametrize("name", VARIANTS)
def test_it_is_the_layers(
    name: str, tiny_config: ModelConfig, taken: list[int], monkeypatch: Any
) -> None:
    decoder = build(tiny_config, **VARIANTS[name])
    found = steps(decoder)
    assert taken == [len(decoder.layers)] * 30
    whole = decoder(IDS)[:, 10:]
    monkeypatch.setattr(one_token, "fits", lambda *_: False)
    expected = steps(decoder)
    assert len(taken) == 30
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=0, atol=5e-6)
    np.testing.assert_allclose(np.array(found), np.array(whole), rtol=0, atol=2e-5)


@here
def test_a_copy_of_the_cache_keeps_its_own_tokens(
    tiny_config: ModelConfig, taken: list[int]
) -> None:
    """Answers that go on from one beginning share its keys until they differ."""
    decoder = build(tiny_config)
    first = [KVCache() for _ in decoder.layers]
    decoder(IDS[:, :10], first)
    second = [KVCache() for _ in decoder.layers]
    for ours, theirs in zip(second, first, strict=True):
        keys, values, offset = theirs.state
        ours.state = keys[:], values[:], offset  # other objects, the same memory
    decoder(IDS[:, 10:11], first)
    decoder(IDS[:, 20:21], second)
    found = decoder(IDS[:, 11:12], first)
    assert len(taken) == 3
    expected = decoder(IDS[:, :12])[:, -1:]
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=0, atol=2e-5)
    assert first[0].offset == 12 and second[0].offset == 11


def packed(decoder: Decoder) -> None:
    nn.quantize(decoder.layers[1].mlp, group_size=32, bits=8)


def halved(decoder: Decoder) -> None:
    decoder.set_dtype(mx.bfloat16)


@pytest.mark.parametrize("change", [packed, halved])
def test_other_weights_go_through_the_layers(
    change: Callable[[Decoder], None], tiny_config: ModelConfig, taken: list[int]
) -> None:
    decoder = build(tiny_config, intermediate_size=64)
    change(decoder)
    mx.eval(steps(decoder))
    assert taken == []


def test_experts_adapters_and_batches_go_through_the_layers(
    tiny_config: ModelConfig, taken: list[int]
) -> None:
    experts = {"num_experts": 4, "moe_intermediate_size": 48}
    mx.eval(steps(build(tiny_config, **experts)))
    model = MM15(tiny_config)
    make_trainable(model, Tuning())
    mx.eval(steps(model.decoder))
    decoder = build(tiny_config)
    cache = [KVCache() for _ in decoder.layers]
    decoder(mx.repeat(IDS[:, :4], 2, axis=0), cache)
    mx.eval(decoder(mx.repeat(IDS[:, 4:5], 2, axis=0), cache))
    mx.eval(decoder(IDS[:, :1], [KVCache() for _ in decoder.layers]))  # nothing cached
    mx.eval(decoder(IDS[:, :1]))
    assert taken == []
