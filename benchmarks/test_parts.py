"""Parts of an answer with pytest-benchmark, on nano-ui's shape with random weights.

What each part costs alone, to see which of them a change made slower. Not collected by
the suite: run `pytest benchmarks/test_parts.py --benchmark-only` on an idle machine,
and compare with `--benchmark-autosave` and `--benchmark-compare`.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import pytest

from mm15_mlx.bench import SCREEN, screen
from mm15_mlx.config import PRESETS
from mm15_mlx.decoder import KVCache
from mm15_mlx.fast_cpu import product
from mm15_mlx.load import find_model, load_processor
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.tiling import cut, plan

Benchmark = Callable[..., Any]
CONFIG = PRESETS["nano-ui"]
PROMPT = 512


@pytest.fixture(scope="module")
def model() -> MM15:
    mx.random.seed(0)
    made = MM15(CONFIG)
    made.eval()
    mx.eval(made.parameters())
    return made


@pytest.fixture(scope="module")
def processor() -> Processor:
    return load_processor(find_model("nano-ui"))


@pytest.fixture(scope="module")
def view() -> mx.array:
    side = CONFIG.tiling.tile_size
    pixels = mx.random.normal((1, side, side, 3))
    mx.eval(pixels)
    return pixels


def prefilled(model: MM15) -> list[KVCache]:
    """The cache after a prompt of 512 tokens."""
    cache = model.make_cache()
    hidden = model.decoder(mx.zeros((1, PROMPT), mx.int32), cache)
    mx.eval(model.decoder.logits(hidden[:, -1]), [c.state[:2] for c in cache])
    return cache


def test_cut_a_phones_screenshot(benchmark: Benchmark) -> None:
    picture = screen(SCREEN)
    tiling = plan(*picture.size, CONFIG.tiling)
    views = benchmark(cut, picture.image, tiling, CONFIG.tiling)
    assert len(views) == len(tiling.indices) > 1


def test_tokenise(benchmark: Benchmark, processor: Processor) -> None:
    text = "Where is the Wi-Fi switch? " * 20
    prepared = benchmark(processor.prepare, text)
    assert len(prepared.ids) > 100


def test_encode_one_view(benchmark: Benchmark, model: MM15, view: mx.array) -> None:
    def encode() -> mx.array:
        features = model.encoder(view)
        mx.eval(features)
        return features

    features = benchmark(encode)
    assert features.shape == (1, CONFIG.view_grid**2, CONFIG.vision_config.hidden_size)


def test_connector(benchmark: Benchmark, model: MM15, view: mx.array) -> None:
    features = model.encoder(view)
    mx.eval(features)

    def connect() -> mx.array:
        tokens = model.connector(features)
        mx.eval(tokens)
        return tokens

    assert benchmark(connect).shape[1] == CONFIG.connector_config.num_visual_tokens


def test_prefill_512(benchmark: Benchmark, model: MM15) -> None:
    cache = benchmark(prefilled, model)
    assert cache[0].offset == PROMPT


def test_decode_step(benchmark: Benchmark, model: MM15) -> None:
    cache = prefilled(model)

    def step() -> mx.array:
        for layer in cache:
            layer.offset = PROMPT  # each step has the same tokens before it
        logits = model.decoder.logits(model.decoder(mx.array([[7]]), cache)[:, -1])
        mx.eval(logits)
        return logits

    logits = benchmark(step)
    assert logits.shape == (1, CONFIG.text_config.vocab_size)
    assert cache[0].offset == PROMPT + 1


def products(model: MM15, rows: int, names: tuple[str, ...]) -> tuple[Any, Any]:
    """The products of one block's input with `names`, apart and as one."""
    block = model.decoder.layers[0]
    layers = [getattr(block.self_attn, n, None) or getattr(block.mlp, n) for n in names]
    x = mx.random.normal((1, rows, CONFIG.text_config.hidden_size))
    joined = mx.concatenate([layer.weight for layer in layers])
    mx.eval(x, joined)
    bounds = [0]
    for layer in layers:
        bounds.append(bounds[-1] + layer.weight.shape[0])

    def apart() -> list[mx.array]:
        made = [layer(x) for layer in layers]
        mx.eval(made)
        return made

    def as_one() -> list[mx.array]:
        made = mx.split(product(x, joined), bounds[1:-1], axis=-1)
        mx.eval(made)
        return made

    return apart, as_one


@pytest.mark.parametrize("rows", [1, PROMPT])
@pytest.mark.parametrize("way", ["apart", "as one"])
@pytest.mark.parametrize(
    "names",
    [("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")],
    ids=["qkv", "gate and up"],
)
def test_products_of_one_input(
    benchmark: Benchmark, model: MM15, names: tuple[str, ...], way: str, rows: int
) -> None:
    """Whether joining the weights of a block's first products would be faster."""
    apart, as_one = products(model, rows, names)
    made = benchmark(apart if way == "apart" else as_one)
    for one, other in zip(made, apart(), strict=True):
        assert mx.allclose(one, other, atol=1e-3).item()


@pytest.mark.parametrize("rows", [1, PROMPT])
@pytest.mark.parametrize("way", ["plain", "compiled"])
def test_gate(benchmark: Benchmark, way: str, rows: int) -> None:
    """SwiGLU's formula in MLX, and the same through mx.compile."""
    run = mx.compile(formula, shapeless=True) if way == "compiled" else formula
    shape = (1, rows, CONFIG.text_config.intermediate_size)
    gate, up = mx.random.normal(shape), mx.random.normal(shape)
    mx.eval(gate, up)

    def gated() -> mx.array:
        made = run(gate, up)
        mx.eval(made)
        return made

    assert benchmark(gated).shape == shape


def formula(gate: mx.array, up: mx.array) -> mx.array:
    return gate * mx.sigmoid(gate) * up
