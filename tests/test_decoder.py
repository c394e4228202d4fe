import dataclasses
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mm15_mlx.config import ModelConfig, TextConfig
from mm15_mlx.decoder import (
    Decoder,
    KVCache,
    MoE,
    NoCache,
    first_choices,
    router_losses,
)

IDS = mx.random.randint(5, 96, (2, 23), key=mx.random.key(5))


def build(config: TextConfig) -> Decoder:
    mx.random.seed(0)
    decoder = Decoder(config)
    mx.eval(decoder.parameters())
    return decoder


def close(a: mx.array, b: mx.array, atol: float = 2e-5) -> None:
    np.testing.assert_allclose(np.array(a), np.array(b), atol=atol)


@pytest.fixture(params=["dense", "moe", "bias", "untied"])
def decoder(request: pytest.FixtureRequest, tiny_config: ModelConfig) -> Decoder:
    variants = {
        "dense": {},
        "moe": {"num_experts": 8, "moe_intermediate_size": 48},
        "bias": {"attention_bias": True, "qk_norm": False},
        "untied": {"tie_word_embeddings": False},
    }
    config = dataclasses.replace(tiny_config.text_config, **variants[request.param])
    return build(config)


@pytest.fixture
def moe(tiny_config: ModelConfig) -> Decoder:
    experts = {"num_experts": 8, "moe_intermediate_size": 48}
    return build(dataclasses.replace(tiny_config.text_config, **experts))


def caches(decoder: Decoder) -> list[KVCache]:
    return [KVCache() for _ in decoder.layers]


@pytest.mark.parametrize(
    "cuts", [[23], [22, 23], [1, 2, 23], [7, 16, 23], [9, 10, 11, 23]]
)
def test_chunks_and_cache_give_the_same_logits(
    decoder: Decoder, cuts: list[int]
) -> None:
    whole = decoder.logits(decoder(IDS))
    cache, parts, start = caches(decoder), [], 0
    for end in cuts:
        parts.append(decoder.logits(decoder(IDS[:, start:end], cache)))
        start = end
    close(mx.concatenate(parts, axis=1), whole, atol=1e-4)
    assert [c.offset for c in cache] == [23] * 3


def test_a_batch_gives_the_same_as_its_rows(decoder: Decoder) -> None:
    single = mx.concatenate([decoder(IDS[i : i + 1]) for i in range(2)])
    close(decoder(IDS), single)


def test_greedy_tokens_with_and_without_cache(decoder: Decoder) -> None:
    prompt = IDS[:1, :6]
    cached, cache, step = [], caches(decoder), prompt
    for _ in range(8):
        logits = decoder.logits(decoder(step, cache))[:, -1]
        step = mx.argmax(logits, axis=-1, keepdims=True)
        cached.append(step.item())
    plain, text = [], prompt
    for _ in range(8):
        token = mx.argmax(decoder.logits(decoder(text))[:, -1], axis=-1, keepdims=True)
        plain.append(token.item())
        text = mx.concatenate([text, token], axis=1)
    assert cached == plain


def test_later_tokens_do_not_change_earlier_ones(decoder: Decoder) -> None:
    changed = mx.concatenate([IDS[:, :12], IDS[:, :11]], axis=1)
    close(decoder(changed)[:, :12], decoder(IDS)[:, :12])


def test_embeddings_stand_for_ids(decoder: Decoder) -> None:
    close(decoder(IDS, None, decoder.embed_tokens(IDS)), decoder(IDS), atol=0)


def test_half_precision_is_close(decoder: Decoder) -> None:
    if decoder.config.num_experts and mx.default_device() == mx.Device(mx.cpu):
        pytest.skip("MLX multiplies experts in float32 only on a CPU")
    full = decoder(IDS)
    decoder.set_dtype(mx.float16)
    half = decoder(IDS)
    assert half.dtype == mx.float16
    close(half.astype(mx.float32), full, atol=5e-2)


def test_parameter_names_are_hugging_faces(tiny_config: ModelConfig) -> None:
    config = dataclasses.replace(
        tiny_config.text_config, attention_bias=True, tie_word_embeddings=False,
        num_experts=4, moe_intermediate_size=48,
    )  # fmt: skip
    names = {n for n, _ in tree_flatten(Decoder(config).parameters())}
    assert {n for n in names if not n.startswith("layers.")} == {
        "embed_tokens.weight", "norm.weight", "lm_head.weight",
    }  # fmt: skip
    attention = {f"self_attn.{p}_proj.weight" for p in "qkvo"}
    attention |= {f"self_attn.{p}_proj.bias" for p in "qkv"}
    attention |= {"self_attn.q_norm.weight", "self_attn.k_norm.weight"}
    norms = {"input_layernorm.weight", "post_attention_layernorm.weight"}
    dense = {f"mlp.{p}_proj.weight" for p in ("gate", "up", "down")}
    sparse = {f"mlp.switch_mlp.{p}_proj.weight" for p in ("gate", "up", "down")}
    for layer, own in ((0, dense), (1, sparse | {"mlp.gate.weight"}), (2, dense)):
        prefix = f"layers.{layer}."
        held = {n.removeprefix(prefix) for n in names if n.startswith(prefix)}
        assert held == attention | norms | own


def test_rotary_positions_rotate_halves() -> None:
    """Position 1, head dim 4, theta 100: pairs (0, 2) and (1, 3) turn by 1 and 0.1."""
    config = TextConfig(
        hidden_size=8, num_attention_heads=2, num_key_value_heads=1, head_dim=4,
        rope_theta=100.0,
    )  # fmt: skip
    attention = build(dataclasses.replace(config, num_hidden_layers=1)).layers[0]
    turned = attention.self_attn.rotate(mx.array([1.0, 2, 3, 4]).reshape(1, 1, 1, 4), 1)
    c1, s1, c2, s2 = np.cos(1), np.sin(1), np.cos(0.1), np.sin(0.1)
    expected = [c1 - 3 * s1, 2 * c2 - 4 * s2, 3 * c1 + s1, 4 * c2 + 2 * s2]
    np.testing.assert_allclose(np.array(turned).ravel(), expected, atol=1e-5)


# --- experts -----------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [3, 40])  # SwitchGLU sorts from 64 choices on
def test_experts_are_the_weighted_sum_of_the_chosen(moe: Decoder, tokens: int) -> None:
    layer: MoE = moe.layers[1].mlp
    x = mx.random.normal((1, tokens, 64), key=mx.random.key(0))
    got, (logits,) = layer(x)
    probs = np.exp(np.array(logits[0]))
    probs /= probs.sum(-1, keepdims=True)
    weight = {
        name: np.array(getattr(layer.switch_mlp, f"{name}_proj").weight)
        for name in ("gate", "up", "down")
    }
    for t, row in enumerate(np.array(x[0])):
        chosen = np.argsort(-probs[t])[:2]
        gates = probs[t, chosen] / probs[t, chosen].sum()
        expected = np.zeros(64)
        for e, gate in zip(chosen, gates, strict=True):
            h = weight["gate"][e] @ row
            h = h / (1 + np.exp(-h)) * (weight["up"][e] @ row)
            expected += gate * (weight["down"][e] @ h)
        np.testing.assert_allclose(np.array(got[0, t]), expected, atol=1e-5)


def test_router_logits_come_from_sparse_layers_only(moe: Decoder) -> None:
    hidden, logits = moe.with_router_logits(IDS)
    assert [a.shape for a in logits] == [(2, 23, 8)]
    assert logits[0].dtype == mx.float32
    close(hidden, moe(IDS), atol=0)


def losses_of(logits: mx.array, tokens: mx.array) -> tuple[mx.array, mx.array]:
    return router_losses(logits, tokens, first_choices(logits, tokens))


def test_router_losses_of_an_even_router() -> None:
    """All probabilities 1/E: balance is 1, z is log(E)²."""
    balance, z = losses_of(mx.zeros((3, 5, 8)), mx.ones((3, 5)))
    assert balance.item() == pytest.approx(1)
    assert z.item() == pytest.approx(np.log(8) ** 2, rel=1e-5)


def test_router_losses_of_a_collapsed_router() -> None:
    balance, _ = losses_of(50.0 * mx.eye(8)[:1], mx.ones((1,)))
    assert balance.item() == pytest.approx(8)


def test_router_losses_ignore_padding() -> None:
    logits = mx.random.normal((2, 6, 8), key=mx.random.key(0))
    tokens = mx.array([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    real = mx.concatenate([logits[0, :4], logits[1, :2]])
    got, expected = losses_of(logits, tokens), losses_of(real, mx.ones((6,)))
    close(mx.stack(got), mx.stack(expected), atol=1e-6)


def test_router_losses_of_parts_add_up() -> None:
    """Values, and gradients of each part by itself, where both know all choices."""
    logits = 3 * mx.random.normal((3, 6, 4), key=mx.random.key(1))
    tokens = mx.array([[1] * 6, [1] * 5 + [0], [1] * 2 + [0] * 4])
    chosen = first_choices(logits, tokens)
    assert chosen.sum().item() == 13

    def loss(logits: mx.array, tokens: mx.array) -> mx.array:
        return sum(router_losses(logits, tokens, chosen))

    whole, expected = mx.value_and_grad(loss)(logits, tokens)
    parts = [mx.value_and_grad(loss)(logits[p], tokens[p]) for p in ([0], [1, 2])]
    close(sum(value for value, _ in parts), whole, atol=1e-6)
    close(mx.concatenate([grad for _, grad in parts]), expected, atol=1e-6)


def test_the_router_learns_from_both_losses(moe: Decoder) -> None:
    def loss(model: Decoder) -> mx.array:
        hidden, collected = model.with_router_logits(IDS)
        losses = [losses_of(a, mx.ones(IDS.shape)) for a in collected]
        return hidden.square().mean() + sum(b + z for b, z in losses)

    _, grads = nn.value_and_grad(moe, loss)(moe)
    for name, grad in tree_flatten(grads):
        assert mx.isfinite(grad).all().item(), name
    assert mx.abs(grads["layers"][1]["mlp"]["gate"]["weight"]).max().item() > 0


def test_a_layer_can_be_checkpointed(moe: Decoder) -> None:
    layer = moe.layers[1]
    x = mx.random.normal((1, 12, 64), key=mx.random.key(0))

    def loss(x: mx.array) -> mx.array:
        y, (logits,) = layer(x, "causal", NoCache())
        return y.sum() + logits.sum()

    def kept(x: mx.array) -> tuple[mx.array, list[mx.array]]:
        return layer(x, "causal", NoCache())

    def cheap(x: mx.array) -> mx.array:
        y, (logits,) = mx.checkpoint(kept)(x)
        return y.sum() + logits.sum()

    close(mx.grad(cheap)(x), mx.grad(loss)(x), atol=1e-4)


# --- the cache ---------------------------------------------------------------------


def test_trimmed_cache_is_as_if_never_filled(decoder: Decoder) -> None:
    cache = caches(decoder)
    decoder(IDS[:, :9], cache)
    expected = decoder(IDS[:, 9:12], cache)
    assert [c.trim(3) for c in cache] == [3, 3, 3]
    decoder(IDS[:, 3:7], cache)
    assert [c.trim(100) for c in cache] == [13, 13, 13]
    decoder(IDS[:, :9], cache)
    close(decoder(IDS[:, 9:12], cache), expected)


def test_cache_grows_by_steps() -> None:
    cache = KVCache()
    assert cache.empty() and cache.nbytes == 0 and cache.size() == 0
    one = mx.ones((1, 2, 1, 4))
    for i in range(1, 300):
        keys, values = cache.update_and_fetch(one * i, one * -i)
        assert keys.shape == (1, 2, i, 4)
    assert cache.keys is not None and cache.keys.shape[2] == 512
    assert cache.nbytes == 2 * 2 * 512 * 4 * 4
    assert keys[0, 0, :, 0].tolist() == list(range(1, 300))
    assert values[0, 1, :, 3].tolist() == [-i for i in range(1, 300)]


def test_empty_cache_has_nothing_to_read() -> None:
    with pytest.raises(ValueError, match="this KV cache is empty; run the model"):
        KVCache().keys_and_values()


def test_masks_keep_fused_kernels() -> None:
    assert KVCache().make_mask(5) == "causal"
    assert KVCache().make_mask(1) is None


# --- mlx-lm's caches and tools take the model as it is -----------------------------


def test_mlx_lm_cache_of_the_same_name(decoder: Decoder) -> None:
    from mlx_lm.models.cache import KVCache as Theirs

    ours, theirs = caches(decoder), [Theirs() for _ in decoder.layers]
    for start, end in ((0, 9), (9, 10), (10, 23)):
        a, b = decoder(IDS[:, start:end], ours), decoder(IDS[:, start:end], theirs)
        close(a, b, atol=0)
    for a, b in zip(ours, theirs, strict=True):
        assert a.offset == b.offset and a.nbytes == b.nbytes
        for x, y in zip(a.state[:2], b.state[:2], strict=True):
            close(x, y, atol=0)


def test_cache_survives_mlx_lms_files(decoder: Decoder, tmp_path: Path) -> None:
    from mlx_lm.models.cache import load_prompt_cache, save_prompt_cache

    cache = caches(decoder)
    decoder(IDS[:, :9], cache)
    save_prompt_cache(str(tmp_path / "cache.safetensors"), cache)
    loaded = load_prompt_cache(str(tmp_path / "cache.safetensors"))
    close(decoder(IDS[:, 9:], loaded), decoder(IDS[:, 9:], cache))


def test_quantised_cache_is_close(tiny_config: ModelConfig) -> None:
    decoder = build(dataclasses.replace(tiny_config.text_config, head_dim=64))
    cache = caches(decoder)
    decoder(IDS[:, :12], cache)
    packed = [c.to_quantized(group_size=64, bits=8) for c in cache]
    rest, exact = decoder(IDS[:, 12:], packed), decoder(IDS[:, 12:], cache)
    assert mx.abs(rest - exact).mean().item() < 0.02 * mx.abs(exact).mean().item()


def test_merged_caches_of_different_lengths(decoder: Decoder) -> None:
    rows = [IDS[:1, :9], IDS[1:, :5]]
    single, filled = [], []
    for row in rows:
        cache = caches(decoder)
        decoder(row, cache)
        filled.append(cache)
    merged = [KVCache.merge(list(layer)) for layer in zip(*filled, strict=True)]
    step = IDS[:, 20:21]
    together = decoder(step, merged)
    single = [decoder(step[i : i + 1], filled[i]) for i in range(2)]
    close(together, mx.concatenate(single), atol=1e-4)
