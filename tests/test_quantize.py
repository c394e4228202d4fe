"""Quantising: legal ways through the disk, parts, recipes, targets, drift, the verb."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mm15_mlx import shrink
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.fast_cpu import QuantizedLinear
from mm15_mlx.mm15 import MM15
from mm15_mlx.quantize import (
    DEFAULTS,
    MODES,
    PARTS,
    RECIPES,
    TEXT_PARTS,
    Choice,
    Quantisation,
    Wanted,
    choose,
    mixed,
    packed,
    part_of,
    quantisation,
)
from mm15_mlx.weights import load_model, new_folder, save_model, write_weights

IDS = mx.array([[7, 8] + [4] * 16 + [9]])
PIXELS = mx.random.normal((1, 84, 84, 3), key=mx.random.key(2))
LEGAL = [
    Quantisation(bits, group, mode)
    for mode, (all_bits, groups) in MODES.items()
    for bits in all_bits
    for group in groups
]


@pytest.fixture(scope="module")
def wide() -> MM15:
    """A random model whose decoder's rows every group size divides."""
    from conftest import small_config

    config = small_config()
    text = dataclasses.replace(
        config.text_config, hidden_size=128, intermediate_size=256, head_dim=32,
        num_hidden_layers=2, tie_word_embeddings=False,
    )  # fmt: skip
    mx.random.seed(0)
    model = MM15(dataclasses.replace(config, text_config=text))
    mx.eval(model.parameters())
    return model


def way_of(layer: Any) -> Quantisation:
    return Quantisation(layer.bits, layer.group_size, layer.mode)


# --- ways ------------------------------------------------------------------------


@pytest.mark.parametrize("way", LEGAL, ids=str)
def test_every_legal_way_goes_through_the_disk_and_runs(
    tmp_path: Path, wide: MM15, way: Quantisation
) -> None:
    save_model(tmp_path / "m", wide, wide.config)
    choice = choose(wide, {"decoder": way, "embedding": way, "head": way})
    with new_folder(tmp_path / "q", choice.record(wide.config)) as partial:
        shrink.write_packed(tmp_path / "m", partial, choice, {})
    model, config = load_model(tmp_path / "q")
    assert config.quantization == dataclasses.asdict(way)
    for path, layer in model.named_modules():
        if path in choice.ways:
            assert way_of(layer) == way
    layer = model.decoder.layers[1].mlp.down_proj
    exact = wide.decoder.layers[1].mlp.down_proj.weight
    read = mx.dequantize(
        layer.weight, layer.scales, layer.get("biases"), group_size=way.group_size,
        bits=way.bits, mode=way.mode, dtype=mx.float32,
    )  # fmt: skip
    assert mx.array_equal(read, way.rounded(exact)).item()
    # A grid's error: half of its widest step. mxfp8's numbers have four digits.
    digits = 5 if way.mode == "mxfp8" else way.bits
    error = mx.abs(read - exact).max().item() / mx.abs(exact).max().item()
    assert 2.0 ** -(digits + 4) < error < 2.7 * 2.0**-digits
    logits = model(IDS, PIXELS)
    assert logits.dtype == mx.float32 and mx.isfinite(logits).all().item()
    rounded = dict(wide.named_modules())
    kept = {path: rounded[path].weight for path in choice.ways}
    try:
        for path in kept:
            rounded[path].weight = way.rounded(kept[path])
        assert mx.allclose(logits, wide(IDS, PIXELS), atol=2e-4).item()
    finally:
        for path, weight in kept.items():
            rounded[path].weight = weight


@pytest.mark.parametrize("rows", [1, 8, 9])
@pytest.mark.parametrize("bias", [False, True])
def test_few_rows_and_many_give_the_same(rows: int, bias: bool) -> None:
    """Above eight rows a CPU dequantises the matrix first."""
    linear = nn.Linear(64, 48, bias=bias)
    packed_linear = linear.to_quantized(32, 4)
    expected = packed_linear(x := mx.random.normal((rows, 64), key=mx.random.key(0)))
    packed_linear.__class__ = QuantizedLinear
    assert mx.allclose(packed_linear(x), expected, atol=1e-5).item()
    gradient = mx.grad(lambda x: packed_linear(x).sum())(x)
    weight = Quantisation(4, 32).rounded(linear.weight)
    assert mx.allclose(gradient, mx.ones((rows, 48)) @ weight, atol=1e-4).item()


def test_loaded_layers_are_quick_on_a_cpu(tmp_path: Path, wide: MM15) -> None:
    choice = choose(wide, {"encoder": Quantisation(8, 32)})
    with new_folder(tmp_path / "q", wide.config) as partial:
        arrays = packed(dict(nn.utils.tree_flatten(wide.parameters())), choice.ways)
        write_weights(partial, arrays, arrays.items())
    model, _ = load_model(tmp_path / "q")
    assert type(model.encoder.layers[0].mlp.fc1) is QuantizedLinear


def test_defaults_are_mlx_lms() -> None:
    assert Quantisation() == quantisation(None, None, "affine") == Quantisation(4, 64)
    for mode, sizes in DEFAULTS.items():
        assert quantisation(None, None, mode) == Quantisation(*sizes, mode)


@pytest.mark.parametrize(
    ("bits", "group", "mode", "message"),
    [
        (7, 64, "affine", "--q-bits 7 with --q-group-size 64 is not to be had: "
         "--q-mode affine has 2, 3, 4, 5, 6 or 8 bits in groups of 32, 64 or 128"),
        (4, 16, "affine", "--q-bits 4 with --q-group-size 16 is not to be had"),
        (8, None, "mxfp4", "--q-mode mxfp4 has 4 bits in groups of 32"),
        (4, None, "mxfp8", "--q-mode mxfp8 has 8 bits in groups of 32"),
        (None, 64, "nvfp4", "--q-mode nvfp4 has 4 bits in groups of 16"),
        (4, 64, "gptq", "--q-mode is 'gptq'; it must be one of affine, mxfp4, mxfp8,"),
    ],
)  # fmt: skip
def test_ways_that_are_not_to_be_had(
    bits: int | None, group: int | None, mode: str, message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        quantisation(bits, group, mode)


@pytest.mark.parametrize(
    ("way", "bits"),
    [(Quantisation(4, 64), 4.5), (Quantisation(2, 128), 2.25),
     (Quantisation(4, 32, "mxfp4"), 4.25), (Quantisation(4, 16, "nvfp4"), 4.5)],
    ids=str,
)  # fmt: skip
def test_bits_per_weight_are_what_is_stored(way: Quantisation, bits: float) -> None:
    assert way.bits_per_weight() == bits
    stored = way(mx.zeros((32, 256), mx.float16))
    assert 8 * sum(a.nbytes for a in stored) == bits * 32 * 256


# --- layers ----------------------------------------------------------------------


def test_each_part_in_its_own_way(wide: MM15) -> None:
    parts = {part: Quantisation(8 - i, 32) for i, part in enumerate(PARTS) if i != 1}
    parts["connector"] = Quantisation(2, 32)
    choice = choose(wide, parts)
    assert {part_of(p) for p in choice.ways} == set(PARTS)
    assert all(choice.ways[p] == parts[part_of(p)] for p in choice.ways)
    assert choice.ways["decoder.embed_tokens"].bits == 5
    assert choice.ways["decoder.lm_head"].bits == 4
    assert part_of("image_newline") == "connector"
    # Rows of 588 and 8 numbers are no whole groups.
    assert "encoder.patch_embedding" in choice.left
    assert all(
        ".se." in path for path in set(choice.left) - {"encoder.patch_embedding"}
    )
    every = [p for p, m in wide.named_modules() if hasattr(m, "to_quantized")]
    assert sorted([*choice.ways, *choice.left]) == sorted(every)


def test_routers_are_never_quantised(tiny_config: ModelConfig) -> None:
    text = dataclasses.replace(
        tiny_config.text_config, num_experts=4, moe_intermediate_size=32
    )
    model = MM15(dataclasses.replace(tiny_config, text_config=text))
    ways = choose(model, {"decoder": Quantisation(4, 32)}).ways
    assert "decoder.layers.1.mlp.switch_mlp.up_proj" in ways
    assert "decoder.layers.1.mlp.gate" not in ways


def test_what_convert_quantises(wide: MM15) -> None:
    layers = choose(wide, dict.fromkeys(TEXT_PARTS, Quantisation())).ways
    assert "decoder.lm_head" in layers and "decoder.embed_tokens" in layers
    assert all(path.startswith("decoder.") for path in layers) and len(layers) == 16


def eight_layers(tiny_config: ModelConfig) -> MM15:
    text = dataclasses.replace(
        tiny_config.text_config, num_hidden_layers=8, tie_word_embeddings=False
    )
    return MM15(dataclasses.replace(tiny_config, text_config=text))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_mlx_lms(tiny_config: ModelConfig, recipe: str) -> None:
    """Of eight layers 0, 7 and every third from 3 have more bits, and the head."""
    model = eight_layers(tiny_config)
    low, high = int(recipe[6]), int(recipe[8])
    wanted = Wanted(q_group_size=32, recipe=recipe, part_bits={"encoder": 8})
    ways = wanted.choice(model).ways
    for i in range(8):
        layer = f"decoder.layers.{i}"
        more = high if i in (0, 3, 6, 7) else low
        for name in ("self_attn.v_proj", "mlp.down_proj"):
            assert ways[f"{layer}.{name}"] == Quantisation(more, 32)
        for name in ("self_attn.q_proj", "mlp.up_proj"):
            assert ways[f"{layer}.{name}"] == Quantisation(low, 32)
    assert ways["decoder.lm_head"].bits == high
    assert ways["decoder.embed_tokens"].bits == low
    assert ways["encoder.layers.0.self_attn.v_proj"] == Quantisation(8, 32)
    own = dataclasses.replace(wanted, part_bits={"head": 8}).choice(model).ways
    assert own["decoder.lm_head"].bits == 8 and "encoder.patch_embedding" not in own


def test_the_record_is_the_usual_way_and_the_others(tiny_config: ModelConfig) -> None:
    four, eight = Quantisation(4, 32), Quantisation(8, 32)
    choice = Choice({"decoder.a": four, "decoder.b": four, "encoder.c": eight})
    assert choice.record(tiny_config).quantization == {
        "bits": 4, "group_size": 32, "mode": "affine",
        "encoder.c": {"bits": 8, "group_size": 32, "mode": "affine"},
    }  # fmt: skip


def test_unknown_recipes(wide: MM15) -> None:
    with pytest.raises(
        UserError, match="--q-recipe is 'best'; it must be one of mixed"
    ):
        Wanted(recipe="best")
    with pytest.raises(
        UserError, match="--q-recipe is 'best'; it must be one of mixed"
    ):
        mixed(wide, "best", 32, Choice({}))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"part_bits": {"encoder": 7}}, "--encoder-bits 7 with --q-group-size 64 "),
        ({"q_mode": "mxfp4", "part_bits": {"head": 8}}, "--head-bits 8 with --q-grou"),
        ({"recipe": "mixed_3_6", "target_bpw": 4}, "both choose bits; give one"),
        ({"recipe": "mixed_3_6", "q_mode": "nvfp4"}, "--q-recipe mixes bits, and "),
        ({"target_bpw": 4.5, "q_bits": 4}, "--target-bpw chooses the decoder's bits; le"
         "ave --q-bits out"),
        ({"recipe": "mixed_2_6", "part_bits": {"decoder": 4}}, "leave --decoder-bits"),
        ({"target_bpw": 4.5, "low_bits": 7}, "--low-bits 7 with --q-group-size 64"),
        ({"target_bpw": 4.5, "low_bits": 8, "high_bits": 4}, "--low-bits 8 is not below"
         " --high-bits 4"),
    ],
)  # fmt: skip
def test_flags_that_do_not_fit(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Wanted(**flags)


def test_flags_that_do_not_fit_the_model(tiny_config: ModelConfig) -> None:
    model = MM15(tiny_config)  # its head is its embedding
    with pytest.raises(
        UserError, match="this model's head is its embedding; give --em"
    ):
        Wanted(q_group_size=32, part_bits={"head": 8}).choice(model)
    message = "--q-group-size 128 divides the rows of no layer of decoder; choose a sma"
    with pytest.raises(UserError, match=message):
        Wanted(q_group_size=128).choice(model)
