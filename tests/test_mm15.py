import dataclasses
import math
import subprocess
import sys

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mm15_mlx.config import PRESETS, ModelConfig, TextConfig, TilingConfig
from mm15_mlx.decoder import KVCache
from mm15_mlx.mm15 import MM15, splice

IMAGE = 4
TOKENS = 16


def prompt(views: int) -> mx.array:
    """`views` views with text before, between and after."""
    row = [7, 8]
    for view in range(views):
        row += [IMAGE] * TOKENS + [10 + view, 11]
    return mx.array([row])


def pixels(count: int) -> mx.array:
    return mx.random.normal((count, 84, 84, 3), key=mx.random.key(2))


def close(a: mx.array, b: mx.array, atol: float = 5e-5) -> None:
    np.testing.assert_allclose(np.array(a), np.array(b), atol=atol)


def test_splice_by_hand() -> None:
    embeddings = mx.zeros((2, 4, 1)) - mx.arange(1, 5)[None, :, None]
    places = mx.array([[False, True, True, False], [True, False, False, False]])
    got = splice(embeddings, places, mx.array([[10.0], [20.0], [30.0]]))
    assert got[..., 0].tolist() == [[-1, 10, 20, -4], [30, -2, -3, -4]]


def test_splice_without_placeholders_changes_nothing() -> None:
    embeddings = mx.random.normal((1, 4, 3))
    close(
        splice(embeddings, mx.zeros((1, 4), mx.bool_), mx.ones((2, 3))), embeddings, 0
    )


def test_visual_tokens_stand_at_their_places(tiny_model: MM15) -> None:
    ids, features = prompt(2), tiny_model.encode_image(pixels(2))
    assert features.shape == (2, TOKENS, 64)
    embedded = tiny_model.embed_inputs(ids, features)
    close(embedded[0, 2:18], features[0], 0)
    close(embedded[0, 20:36], features[1], 0)
    text = tiny_model.decoder.embed_tokens(ids)
    for place in (0, 1, 18, 19, 36, 37):
        close(embedded[0, place], text[0, place], 0)


UNPADDED = TilingConfig(
    tile_size=84, policy="pinpoints", pinpoints=((1, 2),), overview="before",
    indicator="none", merge="spatial_unpad", pad_side="center",
)  # fmt: skip


def test_pack_by_hand(tiny_config: ModelConfig) -> None:
    model = MM15(dataclasses.replace(tiny_config, tiling=UNPADDED))
    features = mx.arange(2 * 3 * 64).reshape(2, 3, 64).astype(mx.float32)
    packed = model.pack(features, np.array([5, 0, -1, 4, -1]))
    rows = [features[1, 2], features[0, 0], model.image_newline, features[1, 1]]
    close(packed, mx.stack([*rows, model.image_newline]), 0)


def test_packed_tokens_stand_at_their_places(tiny_config: ModelConfig) -> None:
    model = MM15(dataclasses.replace(tiny_config, tiling=UNPADDED))
    features = model.encode_image(pixels(1))
    packed = model.pack(features, np.array([*range(16), -1]))
    ids = mx.array([[7, *[IMAGE] * 17, 8]])
    embedded = model.embed_inputs(ids, packed)
    close(embedded[0, 1:17], features[0], 0)
    close(embedded[0, 17], model.image_newline, 0)
    with pytest.raises(ValueError, match="has 17 image placeholders .* give 16 visual"):
        model.embed_inputs(ids, features)


def test_a_newline_is_there_only_if_the_tiling_has_one(tiny_model: MM15) -> None:
    assert "image_newline" not in tiny_model
    features = tiny_model.encode_image(pixels(1))
    order = np.arange(16)[::-1]
    close(tiny_model.pack(features, order), features[0, ::-1], 0)
    for wrong in ([0, -1], [0, 16]):
        with pytest.raises(ValueError, match=r"the packing has the indices .* 0 to 15"):
            tiny_model.pack(features, np.array(wrong))


def test_rows_of_a_batch_take_views_in_order(tiny_model: MM15) -> None:
    ids, features = prompt(1), tiny_model.encode_image(pixels(2))
    both = tiny_model.embed_inputs(mx.concatenate([ids, ids]), features)
    for row in range(2):
        alone = tiny_model.embed_inputs(ids, features[row : row + 1])
        close(both[row : row + 1], alone, 0)


@pytest.mark.parametrize(("views", "given"), [(1, 2), (2, 1), (0, 1)])
def test_placeholders_and_tokens_must_be_as_many(
    tiny_model: MM15, views: int, given: int
) -> None:
    message = (
        rf"the prompt has {views * TOKENS} image placeholders \(id 4\) but the "
        rf"pictures give {given * TOKENS} visual tokens"
    )
    with pytest.raises(ValueError, match=message):
        tiny_model(prompt(views), pixels(given))


def test_logits_are_float32_in_any_precision(tiny_model: MM15) -> None:
    full = tiny_model(prompt(1), pixels(1))
    assert full.shape == (1, 20, 96) and full.dtype == mx.float32
    tiny_model.set_dtype(mx.float16)
    half = tiny_model(prompt(1), pixels(1))
    assert half.dtype == mx.float32
    assert mx.abs(half - full).max().item() < 0.03 * mx.abs(full).max().item()


@pytest.mark.parametrize("cuts", [[38], [1, 38], [10, 30, 38], [36, 37, 38]])
def test_chunked_prefill_and_decode_give_the_same(
    tiny_model: MM15, cuts: list[int]
) -> None:
    """Cuts fall inside a view as well as between."""
    ids, x = prompt(2), pixels(2)
    whole = tiny_model(ids, x)
    embedded = tiny_model.embed_inputs(ids, tiny_model.encode_image(x))
    cache, parts, start = tiny_model.make_cache(), [], 0
    for end in cuts:
        chunk = {"cache": cache, "input_embeddings": embedded[:, start:end]}
        parts.append(tiny_model(ids[:, start:end], **chunk))
        start = end
    close(mx.concatenate(parts, axis=1), whole, 1e-4)


def test_a_second_turn_needs_no_picture_again(tiny_model: MM15) -> None:
    first, second = prompt(1), mx.array([[20, 21, 22]])
    cache = tiny_model.make_cache()
    tiny_model(first, pixels(1), cache)
    turn = tiny_model(second, cache=cache)
    whole = tiny_model(mx.concatenate([first, second], axis=1), pixels(1))
    close(turn, whole[:, -3:], 1e-4)


def test_text_alone(tiny_model: MM15) -> None:
    ids = mx.array([[7, 8, 9]])
    close(tiny_model(ids), tiny_model.decoder.logits(tiny_model.decoder(ids)), 0)


def test_mlx_lm_finds_its_layers_and_cache(tiny_model: MM15) -> None:
    assert tiny_model.layers is tiny_model.decoder.layers
    cache = tiny_model.make_cache()
    assert len(cache) == 3 and all(isinstance(c, KVCache) for c in cache)
    assert cache[0] is not cache[1]


def test_mlx_lm_generates_with_it(tiny_model: MM15) -> None:
    """mlx-lm's own loop, with chunked prefill, takes the same tokens as ours."""
    from mlx_lm.generate import generate_step

    ids = prompt(1)
    embedded = tiny_model.embed_inputs(ids, tiny_model.encode_image(pixels(1)))
    mx.eval(embedded)
    steps = generate_step(
        ids[0], tiny_model, max_tokens=5, prefill_step_size=8,
        input_embeddings=embedded[0],
    )  # fmt: skip
    theirs = [int(token) for token, _ in steps]
    ours, cache = [], tiny_model.make_cache()
    logits = tiny_model(ids, pixels(1), cache)
    for _ in range(5):
        token = mx.argmax(logits[:, -1:], axis=-1)
        ours.append(token.item())
        logits = tiny_model(token, cache=cache)
    assert ours == theirs


def test_gradients_reach_every_part(tiny_model: MM15) -> None:
    ids, x = prompt(1), pixels(1)
    places = ids == IMAGE

    def loss(model: MM15) -> mx.array:
        features = model.encode_image(x).flatten(0, 1)
        embedded = splice(model.decoder.embed_tokens(ids), places, features)
        logits = model(ids, input_embeddings=embedded)
        return nn.losses.cross_entropy(logits[:, :-1], ids[:, 1:]).mean()

    tiny_model.train()
    _, grads = nn.value_and_grad(tiny_model, loss)(tiny_model)
    for name, grad in tree_flatten(grads):
        # A key's bias moves all scores of a query alike: the softmax ignores it.
        if not name.endswith("k_proj.bias"):
            assert mx.abs(grad).max().item() > 0, name


@pytest.mark.parametrize("kind", ["mlp", "avg_pool"])
def test_other_connectors(tiny_config: ModelConfig, kind: str) -> None:
    tokens = 36 if kind == "mlp" else 16
    connector = dataclasses.replace(
        tiny_config.connector_config, type=kind, num_visual_tokens=tokens
    )
    model = MM15(dataclasses.replace(tiny_config, connector_config=connector))
    ids = mx.array([[7] + [IMAGE] * tokens + [8]])
    assert model(ids, pixels(1)).shape == (1, tokens + 2, 96)


@pytest.mark.parametrize(
    ("preset", "billions"),
    [("1b", 1.0), ("3b", 2.7), ("7b", 7.2), ("30b", 29), ("3b-moe", 64)],
)
def test_presets_have_the_size_of_their_names(preset: str, billions: float) -> None:
    decoder = parameters(PRESETS[preset].text_config)
    assert decoder / 1e9 == pytest.approx(billions, rel=0.1)


def parameters(config: TextConfig) -> int:
    d, h = config.hidden_size, config.head_dim
    attention = d * h * 2 * (config.num_attention_heads + config.num_key_value_heads)
    total = config.vocab_size * d * (1 if config.tie_word_embeddings else 2)
    for layer in range(config.num_hidden_layers):
        total += attention + 3 * d * (
            config.num_experts * config.moe_intermediate_size
            if config.is_sparse(layer)
            else config.intermediate_size
        )
    return total


@pytest.mark.parametrize("preset", ["3b", "nano-ui"])
def test_parameters_of_a_preset_are_the_sum(preset: str) -> None:
    config = PRESETS[preset]
    decoder = MM15(config).decoder
    built = sum(math.prod(a.shape) for _, a in tree_flatten(decoder.parameters()))
    norms = built - parameters(config.text_config)
    assert 0 < norms < 1e-3 * built + 10_000


def test_dense_models_do_not_import_mlx_lm() -> None:
    """mlx-lm brings transformers, which takes seconds: dense start-up goes without."""
    code = (
        "import sys; from mm15_mlx.config import PRESETS;"
        "from mm15_mlx.mm15 import MM15;"
        "m = MM15(PRESETS['nano-ui']); m.make_cache();"
        "print([x for x in ('mlx_lm', 'transformers', 'torch') if x in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
