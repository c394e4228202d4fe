"""What Llama, Qwen, Gemma and Phi-3 have otherwise than our own decoder."""

import dataclasses
import math

import mlx.core as mx
import numpy as np
import pytest

from mm15_mlx.config import ConfigError, ModelConfig, TextConfig
from mm15_mlx.decoder import GATES, Attention, Decoder
from mm15_mlx.rope import RopeScaling, rope_periods

IDS = mx.random.randint(5, 96, (2, 9), key=mx.random.key(5))
LLAMA3 = RopeScaling(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)  # fmt: skip
LONGROPE = RopeScaling(
    rope_type="longrope", factor=32.0, original_max_position_embeddings=4096,
    short_factor=tuple(1 + i / 8 for i in range(8)),
)  # fmt: skip


@pytest.fixture
def config(tiny_config: ModelConfig) -> TextConfig:
    return tiny_config.text_config


def close(a: mx.array, b: mx.array, atol: float = 2e-5) -> None:
    np.testing.assert_allclose(np.array(a), np.array(b), atol=atol)


# --- rotary positions ----------------------------------------------------------------


def test_periods_of_default_linear_and_longrope() -> None:
    plain = [100 ** (i / 8) for i in range(8)]
    got = rope_periods(100.0, 16, RopeScaling())
    np.testing.assert_allclose(got, plain, rtol=1e-6)
    linear = RopeScaling(rope_type="linear", factor=4.0)
    np.testing.assert_allclose(rope_periods(100.0, 16, linear), 4 * got, rtol=1e-6)
    expected = [p * (1 + i / 8) for i, p in enumerate(plain)]
    np.testing.assert_allclose(rope_periods(100.0, 16, LONGROPE), expected, rtol=1e-6)


def test_periods_of_llama3() -> None:
    """Fast waves stay, slow ones are 8 times as long, between them a mixture."""
    plain = rope_periods(500_000.0, 128, RopeScaling())
    got = rope_periods(500_000.0, 128, LLAMA3)
    waves = 2 * np.pi * plain
    fast, slow = waves < 8192 / 4, waves > 8192
    assert fast.sum() == 29 and slow.sum() == 29  # so that none of the three is empty
    np.testing.assert_allclose(got[fast], plain[fast], rtol=1e-6)
    np.testing.assert_allclose(got[slow], 8 * plain[slow], rtol=1e-6)
    between = ~(fast | slow)
    smooth = (8192 / waves[between] - 1) / 3
    frequency = (1 - smooth) / (8 * plain[between]) + smooth / plain[between]
    np.testing.assert_allclose(got[between], 1 / frequency, rtol=1e-5)


def test_given_periods_turn_as_theta_does(config: TextConfig) -> None:
    one = RopeScaling(rope_type="linear", factor=1.0)
    plain = Attention(config)
    scaled = Attention(dataclasses.replace(config, rope_scaling=one))
    x = mx.random.normal((1, 4, 9, 16), key=mx.random.key(0))
    close(scaled.rotate(x, 100), plain.rotate(x, 100), atol=1e-4)


def test_linear_scaling_halves_positions(config: TextConfig) -> None:
    two = RopeScaling(rope_type="linear", factor=2.0)
    plain = Attention(config)
    scaled = Attention(dataclasses.replace(config, rope_scaling=two))
    x = mx.random.normal((1, 4, 1, 16), key=mx.random.key(0))
    close(scaled.rotate(x, 10), plain.rotate(x, 5))


def test_longrope_sharpens_the_scores(config: TextConfig) -> None:
    longrope = dataclasses.replace(config, rope_scaling=LONGROPE)
    ratio = Attention(longrope).scale / Attention(config).scale
    assert ratio == pytest.approx(1 + math.log(32) / math.log(4096))


def test_periods_are_no_parameters(config: TextConfig) -> None:
    longrope = dataclasses.replace(config, rope_scaling=LONGROPE)
    assert set(Attention(longrope).parameters()) == set(Attention(config).parameters())


# --- other switches ------------------------------------------------------------------


@pytest.mark.parametrize("name", GATES)
def test_gates(name: str) -> None:
    gate, up = np.random.default_rng(0).standard_normal((2, 50)) * 3
    if name == "silu":
        factor = 1 / (1 + np.exp(-gate))
    elif name == "gelu":
        factor = np.array([(1 + math.erf(g / math.sqrt(2))) / 2 for g in gate])
    else:
        factor = (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3))) / 2
    got = GATES[name](*(mx.array(a.astype(np.float32)) for a in (gate, up)))
    np.testing.assert_allclose(np.array(got), gate * factor * up, atol=1e-5)


def test_embeddings_are_scaled_once_and_the_head_is_not(config: TextConfig) -> None:
    mx.random.seed(0)
    plain = Decoder(config)
    scaled = Decoder(dataclasses.replace(config, embedding_scale=8.0))
    scaled.update(plain.parameters())
    close(scaled.embed(IDS), 8 * plain.embed_tokens(IDS))
    close(scaled(IDS), plain(IDS, None, 8 * plain.embed_tokens(IDS)))
    # Embeddings that are given are taken as they are: visual tokens among them.
    close(scaled(IDS, None, scaled.embed(IDS)), scaled(IDS))
    hidden = plain(IDS)
    close(scaled.logits(hidden), plain.logits(hidden), atol=0)


def test_shares_of_experts_as_the_router_gives_them(config: TextConfig) -> None:
    """With all experts chosen they sum to one already; with two of them to less."""
    for chosen, equal in ((8, True), (2, False)):
        experts = dataclasses.replace(
            config, num_experts=8, num_experts_per_tok=chosen, decoder_sparse_step=1,
            moe_intermediate_size=24,
        )  # fmt: skip
        mx.random.seed(0)
        plain = Decoder(experts)
        other = Decoder(dataclasses.replace(experts, norm_topk_prob=False))
        other.update(plain.parameters())
        gap = mx.abs(plain(IDS) - other(IDS)).max().item()
        assert (gap < 1e-4) == equal


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "text_config.hidden_act is 'relu'; it must be one of"),
        (
            {"embedding_scale": 0.0},
            "text_config.embedding_scale is 0.0; it must be 1e-06 to 1,000,000.0",
        ),
        (
            {"hidden_act": "gelu", "num_experts": 8, "moe_intermediate_size": 9},
            "text_config.hidden_act is 'gelu'; experts have 'silu'",
        ),
        (
            {"rope_scaling": LONGROPE, "head_dim": 32},
            "rope_scaling.short_factor has 8 numbers; head_dim 32 needs 16",
        ),
        (
            {"rope_scaling": LONGROPE, "max_position_embeddings": 4097},
            "max_position_embeddings is 4097; longrope is supported up to original_max",
        ),
    ],
)
def test_what_the_configuration_refuses(
    config: TextConfig, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(config, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rope_type": "yarn"},
            "rope_type is 'yarn'; it must be one of default, linea",
        ),
        ({"factor": 0.5}, "factor is 0.5; it must be 1.0 to 1,000,000.0"),
        (
            {"rope_type": "llama3"},
            "original_max_position_embeddings is 0; rope_type 'llama3' needs the cont",
        ),
        (
            {"low_freq_factor": 4.0},
            "low_freq_factor 4.0 and high_freq_factor 4.0 must hold 0 < low < high",
        ),
    ],
)
def test_what_rope_scaling_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"text_config.rope_scaling.{message}"):
        RopeScaling(**changes)


def test_rope_scaling_in_a_file(tiny_config: ModelConfig) -> None:
    text = dataclasses.replace(tiny_config.text_config, rope_scaling=LONGROPE)
    config = dataclasses.replace(tiny_config, text_config=text)
    assert ModelConfig.from_dict(config.to_dict()) == config
    data = config.to_dict()
    del data["text_config"]["rope_scaling"]["factor"]
    with pytest.raises(ConfigError, match="rope_scaling lacks the key 'factor'"):
        ModelConfig.from_dict(data)
