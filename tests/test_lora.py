"""What is trained of a model, and adapter folders that fit or are refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from training import pack, with_experts

from mm15_mlx.checkpoint import WeightsError
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.load import load
from mm15_mlx.lora import (
    ADAPTER_CONFIG,
    ADAPTERS,
    LoraParameters,
    Tuning,
    adapted,
    adapter_config,
    fuse,
    load_adapters,
    make_trainable,
    read_tuning,
    trained_tensors,
)
from mm15_mlx.mm15 import MM15
from mm15_mlx.weights import load_model

IDS = mx.array([[5, 9, 20, 33, 4, 17]])


def write_adapters(folder: Path, model: MM15, tuning: Tuning) -> dict[str, mx.array]:
    """Adapters for `model` that change it: what starts at zero is moved."""
    make_trainable(model, tuning)
    mx.random.seed(3)
    tensors = {
        name: x + 0.05 * mx.random.normal(x.shape)
        for name, x in trained_tensors(model).items()
    }
    folder.mkdir()
    mx.save_safetensors(str(folder / ADAPTERS), tensors)
    text = json.dumps(adapter_config(tuning, {"model": "somewhere"}))
    (folder / ADAPTER_CONFIG).write_text(text)
    return tensors


@pytest.fixture
def packed_folder(ui_folder: Path, tmp_path: Path) -> Path:
    return pack(ui_folder, tmp_path / "packed")


def test_lora_is_put_into_the_last_layers(tiny_model: MM15) -> None:
    make_trainable(tiny_model, Tuning(num_layers=2))
    found = adapted(tiny_model)
    assert len(found) == 2 * 7  # q, k, v, o, gate, up, down
    assert all(p.startswith(("decoder.layers.1.", "decoder.layers.2.")) for p in found)
    assert all(n.endswith(("lora_a", "lora_b")) for n in trained_tensors(tiny_model))


def test_keys_choose_layers(tiny_model: MM15) -> None:
    keys = ("self_attn.q_proj", "connector.readout.2")
    make_trainable(tiny_model, Tuning(lora_parameters=LoraParameters(4, keys=keys)))
    assert set(adapted(tiny_model)) == {
        *(f"decoder.layers.{i}.self_attn.q_proj" for i in range(3)),
        "connector.readout.2",
    }


def test_dora_has_magnitudes(tiny_model: MM15) -> None:
    make_trainable(tiny_model, Tuning("dora", num_layers=1))
    last = {n.rpartition(".")[2] for n in trained_tensors(tiny_model)}
    assert last == {"lora_a", "lora_b", "m"}


def test_parts_and_full(tiny_model: MM15) -> None:
    make_trainable(tiny_model, Tuning(parts=("connector",)))
    names = set(trained_tensors(tiny_model))
    assert names and all(n.startswith("connector.") for n in names)
    make_trainable(tiny_model, Tuning("full", parts=("decoder", "encoder")))
    names = {n.partition(".")[0] for n in trained_tensors(tiny_model)}
    assert names == {"decoder", "encoder"}
    assert "decoder.embed_tokens.weight" in trained_tensors(tiny_model)
    make_trainable(tiny_model, Tuning("full", num_layers=1))
    assert {n.split(".")[2] for n in trained_tensors(tiny_model)} == {"2"}


def test_full_trains_in_float32(tiny_model: MM15) -> None:
    tiny_model.set_dtype(mx.bfloat16)
    make_trainable(tiny_model, Tuning("full"))
    assert {x.dtype for x in trained_tensors(tiny_model).values()} == {mx.float32}
    assert tiny_model.encoder.layers[0].mlp.fc1.weight.dtype == mx.bfloat16


def test_the_newline_belongs_to_the_connector(tiny_config: ModelConfig) -> None:
    tiling = dataclasses.replace(
        tiny_config.tiling, merge="spatial_unpad", indicator="none", pad_side="center"
    )
    model = MM15(dataclasses.replace(tiny_config, tiling=tiling))
    make_trainable(model, Tuning(parts=("connector",)))
    assert "image_newline" in trained_tensors(model)


def test_experts_are_adapted(tiny_config: ModelConfig) -> None:
    config = with_experts(tiny_config)
    model = MM15(config)
    make_trainable(model, Tuning())
    assert "decoder.layers.1.mlp.switch_mlp.gate_proj" in adapted(model)
    with pytest.raises(UserError, match="no DoRA for mixtures of experts; use"):
        make_trainable(MM15(config), Tuning("dora"))


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        ({"fine_tune_type": "lore"}, "fine_tune_type is 'lore'; it must be one of"),
        ({"parts": ("head",)}, "'head' is to be trained; name decoder, connector"),
        ({"parts": ()}, "nothing is to be trained"),
        ({"num_layers": 4}, "num_layers is 4; the model has 3: give 1 to 3, or -1"),
        ({"num_layers": 0}, "num_layers is 0; the model has 3"),
        (
            {"lora_parameters": LoraParameters(keys=("self_attn.q_prj",))},
            "no layer is called 'self_attn.q_prj'; did you mean 'self_attn.q_proj'",
        ),
        (
            {"lora_parameters": LoraParameters(keys=("mlp",))},
            "lora_parameters: Can't convert layer of type MLP",
        ),
        (
            {"lora_parameters": LoraParameters(keys=())},
            "the keys name no layer that can be adapted",
        ),
    ],
)
def test_what_cannot_be_trained(
    tuning: dict[str, Any], message: str, tiny_model: MM15
) -> None:
    with pytest.raises(UserError, match=message):
        make_trainable(tiny_model, Tuning(**tuning))


def test_parameters_out_of_range() -> None:
    with pytest.raises(
        UserError, match="rank is 0; it must be a whole number, 1 to 8192"
    ):
        LoraParameters(rank=0)
    with pytest.raises(UserError, match=r"dropout is 1; it must be in \[0, 1\)"):
        LoraParameters(dropout=1)


def test_a_quantised_embedding_has_no_dora(tiny_model: MM15) -> None:
    keys = ("decoder.embed_tokens", "self_attn.q_proj")
    tiny_model.decoder.embed_tokens = tiny_model.decoder.embed_tokens.to_quantized(32)
    tuning = Tuning("dora", lora_parameters=LoraParameters(4, keys=keys))
    with pytest.raises(UserError, match="no DoRA for a quantised embedding; use fine"):
        make_trainable(tiny_model, tuning)


def test_a_quantised_part_cannot_be_trained_in_full(packed_folder: Path) -> None:
    model, _ = load_model(packed_folder)
    with pytest.raises(UserError, match="decoder is quantised and cannot be trained"):
        make_trainable(model, Tuning("full"))


# --- files ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lora", "dora", "full"])
def test_adapters_come_back(kind: str, ui_folder: Path, tmp_path: Path) -> None:
    tuning = Tuning(kind, 2, LoraParameters(4), ("decoder", "connector"))
    trained, _ = load_model(ui_folder)
    tensors = write_adapters(tmp_path / "a", trained, tuning)
    trained.load_weights(list(tensors.items()), strict=False)
    plain, _ = load(ui_folder)
    model, _ = load(ui_folder, adapter_path=tmp_path / "a")
    read = read_tuning(tmp_path / "a")
    assert (read.fine_tune_type, read.num_layers) == (kind, 2)
    assert read.parts == tuning.parts
    expected, found = trained(IDS), model(IDS)
    assert mx.array_equal(expected, found)
    assert mx.abs(found - plain(IDS)).max() > 1e-2
    assert trained_tensors(model) == {}


def test_files_are_mlx_lms(ui_folder: Path, tmp_path: Path) -> None:
    """What mlx-lm itself reads of a folder of ours, for the decoder alone."""
    from mlx_lm.tuner.utils import load_adapters as theirs

    tuning = Tuning("lora", -1, LoraParameters(4, 10.0))
    write_adapters(tmp_path / "a", load_model(ui_folder)[0], tuning)
    ours, _ = load(ui_folder, adapter_path=tmp_path / "a")
    model, _ = load_model(ui_folder)
    model.freeze()
    theirs(model, str(tmp_path / "a"))
    assert mx.array_equal(ours(IDS), model(IDS))


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_fused_is_unfused(kind: str, ui_folder: Path, tmp_path: Path) -> None:
    write_adapters(tmp_path / "a", load_model(ui_folder)[0], Tuning(kind))
    model, _ = load_model(ui_folder)
    assert load_adapters(model, tmp_path / "a") == 21
    before = model(IDS)
    assert fuse(model) == 21 and not adapted(model)
    scale = mx.abs(before).max()
    assert mx.abs(model(IDS) - before).max() <= 1e-5 * scale


def test_fused_into_a_quantised_base(packed_folder: Path, tmp_path: Path) -> None:
    write_adapters(tmp_path / "a", load_model(packed_folder)[0], Tuning())
    model, _ = load(packed_folder, adapter_path=tmp_path / "a")
    before = model(IDS)
    expected = {}
    for path, layer in adapted(model).items():
        base = layer.linear
        how = {"group_size": base.group_size, "bits": base.bits}
        whole = mx.dequantize(base.weight, base.scales, base.biases, **how)
        whole = whole + (layer.scale * layer.lora_b.T) @ layer.lora_a.T
        expected[path] = mx.quantize(whole, **how)
    fuse(model)
    found = dict(model.named_modules())
    assert len(expected) == 21
    for path, arrays in expected.items():
        layer = found[path]
        assert (layer.bits, layer.group_size) == (4, 32)
        for name, array in zip(("weight", "scales", "biases"), arrays, strict=True):
            assert mx.array_equal(layer[name], array), (path, name)
    similar = np.corrcoef(np.array(before).ravel(), np.array(model(IDS)).ravel())[0, 1]
    assert similar > 0.9
    model, _ = load(packed_folder, adapter_path=tmp_path / "a")
    fuse(model, dequantize=True)
    assert not any(n.endswith(".scales") for n, _ in tree_flatten(model.parameters()))
    assert mx.abs(model(IDS) - before).max() <= 1e-4 * mx.abs(before).max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("decoder.layers.0.mlp.up_proj.lora_a"), "lora_a: missing"),
        (lambda t: t.update(other=mx.zeros(3)), "other: unknown"),
        (
            lambda t: t.update(
                {"decoder.layers.0.mlp.up_proj.lora_b": mx.zeros((8, 5))}
            ),
            r"up_proj.lora_b: shape \(8, 5\), expected \(8, 96\)",
        ),
        (
            lambda t: t.update(
                {"decoder.layers.0.mlp.up_proj.lora_b": mx.zeros((8, 96), mx.int32)}
            ),
            "up_proj.lora_b: type I32, expected mlx.core.float32",
        ),
    ],
)
def test_adapters_that_do_not_fit(
    change: Any, message: str, ui_folder: Path, tmp_path: Path
) -> None:
    tensors = write_adapters(tmp_path / "a", load_model(ui_folder)[0], Tuning())
    change(tensors)
    mx.save_safetensors(str(tmp_path / "a" / ADAPTERS), tensors)
    with pytest.raises(WeightsError, match="do not fit this model") as error:
        load(ui_folder, adapter_path=tmp_path / "a")
    assert error.match(message)


def given(num_layers: Any = 2, **parameters: Any) -> str:
    """adapter_config.json with something else in it."""
    parameters = {"rank": 4, "scale": 1.0} | parameters
    return json.dumps({"num_layers": num_layers, "lora_parameters": parameters})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "a has no adapter_config.json; give a folder that"),
        ("{", "adapter_config.json cannot be used: Expecting property name"),
        ("{}", "adapter_config.json lacks the key 'num_layers'; train again"),
        ('{"num_layers": 2}', "lacks the key 'rank'"),
        (
            '{"num_layers": 2, "fine_tune_type": "x", "lora_parameters": '
            '{"rank": 1, "scale": 1.0}}',
            "cannot be used: fine_tune_type is 'x'",
        ),
        (given(num_layers="x"), "config.json cannot be used: num_layers is 'x'; it mu"),
        (given(num_layers=None), "cannot be used: num_layers is None; it must be a wh"),
        (given(scale=None), "cannot be used: lora_parameters: scale is None; it must"),
        (given(scale="x"), "cannot be used: lora_parameters: scale is 'x'; it must be"),
        (given(rank=8.0), "cannot be used: lora_parameters: rank is 8.0; it must be a"),
        (given(keys=[1]), "cannot be used: lora_parameters: keys has 1; it must hold"),
    ],
)
def test_bad_adapter_folders(
    text: str | None, message: str, ui_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a"
    with pytest.raises(WeightsError, match="a is no folder; name one of `train`"):
        load(ui_folder, adapter_path=folder)
    folder.mkdir()
    mx.save_safetensors(str(folder / ADAPTERS), {"a": mx.zeros(1)})
    if text is not None:
        (folder / ADAPTER_CONFIG).write_text(text)
    with pytest.raises(WeightsError, match=message):
        load(ui_folder, adapter_path=folder)
