import dataclasses
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

import mm15_mlx
from mm15_mlx.checkpoint import WeightsError, read_config, read_header
from mm15_mlx.config import ModelConfig
from mm15_mlx.mm15 import MM15
from mm15_mlx.weights import load_model, save_model

IDS = mx.array([[7, 8] + [4] * 16 + [9]])
PIXELS = mx.random.normal((1, 84, 84, 3), key=mx.random.key(2))
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig) -> Path:
    save_model(tmp_path / "model", tiny_model, tiny_config)
    return tmp_path / "model"


@pytest.fixture
def sharded(tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig) -> Path:
    save_model(tmp_path / "shards", tiny_model, tiny_config, shard_bytes=200_000)
    return tmp_path / "shards"


def flat(model: nn.Module) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))


def same(a: nn.Module, b: nn.Module) -> bool:
    left, right = flat(a), flat(b)
    return left.keys() == right.keys() and all(
        left[n].dtype == right[n].dtype and mx.array_equal(left[n], right[n]).item()
        for n in left
    )


def rewrite(path: Path, change: Callable[[dict[str, mx.array]], Any]) -> None:
    """The file again, with its tensors changed in place by `change`."""
    weights, metadata = mx.load(str(path), return_metadata=True)
    mx.eval(weights)
    change(weights)
    mx.save_safetensors(str(path), weights, metadata)


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


# --- what is written is what is read -----------------------------------------------


def test_round_trip(folder: Path, tiny_model: MM15, tiny_config: ModelConfig) -> None:
    model, config = load_model(folder)
    assert config == tiny_config and same(model, tiny_model) and not model.training
    assert mx.array_equal(model(IDS, PIXELS), tiny_model(IDS, PIXELS)).item()
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", WEIGHTS]
    _, metadata = read_header(folder / WEIGHTS)
    assert metadata == {"format": "mlx", "mm15_mlx": mm15_mlx.__version__}


def test_shards(sharded: Path, tiny_model: MM15) -> None:
    files = sorted(p.name for p in sharded.glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05}.safetensors"
    assert not (sharded / WEIGHTS).exists()
    index = json.loads((sharded / INDEX).read_text())
    assert set(index["weight_map"].values()) == set(files)
    total = sum(a.nbytes for a in flat(tiny_model).values())
    assert index["metadata"]["total_size"] == total
    assert same(load_model(sharded)[0], tiny_model)


def test_experts(tmp_path: Path, tiny_config: ModelConfig) -> None:
    text = dataclasses.replace(
        tiny_config.text_config, num_experts=4, moe_intermediate_size=32
    )
    config = dataclasses.replace(tiny_config, text_config=text)
    model = MM15(config)
    nn.quantize(model.decoder.layers[1].mlp, group_size=32, bits=4)
    save_model(tmp_path / "moe", model, config)
    assert same(load_model(tmp_path / "moe")[0], model)


def test_half_precision_is_cast_on_a_cpu_only(
    tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig
) -> None:
    tiny_model.set_dtype(mx.float16)
    save_model(tmp_path / "half", tiny_model, tiny_config)
    kept, _ = load_model(tmp_path / "half", keep_dtype=True)
    assert same(kept, tiny_model)
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    expected = mx.float32 if on_cpu else mx.float16
    assert {a.dtype for a in flat(load_model(tmp_path / "half")[0]).values()} == {
        expected
    }


@pytest.mark.parametrize(
    "way",
    [
        {"group_size": 32, "bits": 4},
        {"group_size": 64, "bits": 8},
        {"group_size": 32, "bits": 3},
        {"group_size": 32, "bits": 4, "mode": "mxfp4"},
        {"group_size": 32, "bits": 8, "mode": "mxfp8"},
        {"group_size": 16, "bits": 4, "mode": "nvfp4"},
    ],
)
def test_quantisation_is_read_from_the_file(
    tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig, way: dict[str, Any]
) -> None:
    """Bits, group and mode per layer, with nothing about them in config.json."""
    nn.quantize(tiny_model.decoder.layers[0].self_attn, **way)
    nn.quantize(tiny_model.decoder.layers[1], group_size=32, bits=8)
    save_model(tmp_path / "q", tiny_model, tiny_config)
    model, config = load_model(tmp_path / "q")
    assert config.quantization is None and same(model, tiny_model)
    layer = model.decoder.layers[0].self_attn.q_proj
    assert {k: getattr(layer, k) for k in way} == way
    assert model.decoder.layers[1].mlp.gate_proj.bits == 8
    assert isinstance(model.decoder.layers[2].mlp.gate_proj, nn.Linear)
    assert mx.allclose(model(IDS, PIXELS), tiny_model(IDS, PIXELS), atol=1e-4)


def test_quantised_embedding_and_half_scales(
    tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig
) -> None:
    tiny_model.set_dtype(mx.bfloat16)
    exact = tiny_model(IDS, PIXELS)
    nn.quantize(tiny_model.decoder, group_size=32, bits=8)
    save_model(tmp_path / "q", tiny_model, tiny_config)
    model, _ = load_model(tmp_path / "q")
    assert isinstance(model.decoder.embed_tokens, nn.QuantizedEmbedding)
    gap = mx.abs(model(IDS, PIXELS) - exact).mean().item()
    assert gap < 0.05 * mx.abs(exact).mean().item()


def test_another_thread_can_use_a_loaded_model(folder: Path) -> None:
    model, _ = load_model(folder)
    shapes: list[Any] = []

    def use() -> None:
        ids = mx.array([[7, 8, 9]])
        logits = model(ids)
        mx.eval(logits)
        shapes.append(logits.shape)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert shapes == [(1, 3, 96)]


# --- saving ------------------------------------------------------------------------


def test_further_files_are_written(
    tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig
) -> None:
    files = {"tokenizer.json": b"{}", "README.md": b"# card"}
    save_model(tmp_path / "deep" / "model", tiny_model, tiny_config, files=files)
    for name, content in files.items():
        assert (tmp_path / "deep" / "model" / name).read_bytes() == content


def test_nothing_is_overwritten_without_force(
    folder: Path, tiny_model: MM15, tiny_config: ModelConfig
) -> None:
    (folder / "notes.txt").write_text("old")
    with pytest.raises(WeightsError, match=r"model exists; .* --force"):
        save_model(folder, tiny_model, tiny_config)
    assert (folder / "notes.txt").exists()
    save_model(folder, tiny_model, tiny_config, force=True)
    assert not (folder / "notes.txt").exists()
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_a_failed_save_leaves_nothing(
    tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig
) -> None:
    with pytest.raises(WeightsError, match="'../x' must be a bare file name"):
        save_model(tmp_path / "m", tiny_model, tiny_config, files={"../x": b""})
    assert list(tmp_path.iterdir()) == []


def test_a_model_can_be_saved_over_its_own_folder(
    folder: Path, tiny_model: MM15
) -> None:
    save_model(folder, *load_model(folder), force=True)
    assert same(load_model(folder)[0], tiny_model)


# --- every error -------------------------------------------------------------------


def fails(folder: Path, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        load_model(folder)
    first, *rest = str(caught.value).split("\n")
    assert "Error" not in first and len(rest) <= 11


def test_no_folder(tmp_path: Path) -> None:
    fails(tmp_path / "none", "there is no model folder .*none; check the path")


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    fails(folder, "model has no config.json; give a model folder, or .* convert")


@pytest.mark.parametrize("text", ["{", "\xff\xfe", "[" * 100_000, ""])
def test_config_that_is_not_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    fails(folder, "config.json is not valid JSON .*; restore it from the source")


def test_config_that_is_a_folder(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.json").mkdir()
    fails(folder, "config.json is a folder; restore it from the source")


def test_config_of_another_model(folder: Path) -> None:
    (folder / "config.json").write_text("[]")
    fails(folder, "config.json must hold a JSON object, not a list")
    (folder / "config.json").write_text('{"model_type": "llava"}')
    fails(folder, "model_type 'llava', not 'mm15'; run mm15-mlx convert")


def test_config_with_an_unknown_key(folder: Path) -> None:
    edit_json(folder / "config.json", lambda c: c["text_config"].update(hiden_size=1))
    fails(folder, "model: .*unknown key 'hiden_size'; did you mean 'hidden_size'")


def test_read_config_needs_no_weights(folder: Path, tiny_config: ModelConfig) -> None:
    (folder / WEIGHTS).unlink()
    assert read_config(folder) == tiny_config


def test_no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    fails(
        folder, "model lacks the weight file model.safetensors; fetch the model again"
    )


def test_file_of_another_program(folder: Path) -> None:
    weights = mx.load(str(folder / WEIGHTS))
    mx.eval(weights)
    mx.save_safetensors(str(folder / WEIGHTS), weights, {"format": "mlx"})
    fails(folder, "was not written by mm15-mlx; run mm15-mlx convert on its source")


def test_truncated_anywhere(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    header = int.from_bytes(data[:8], "little")
    for size in (0, 7, 8, 9, header, header + 7, header + 8, len(data) - 1):
        (folder / WEIGHTS).write_bytes(data[:size])
        fails(folder, "is truncated or not a safetensors file: .*; fetch it again")
    (folder / WEIGHTS).write_bytes(data + b"\0")
    fails(folder, r"its tensors take \d+ bytes and it has \d+")


def with_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


NAME = "decoder.norm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update({NAME: 3}), "decoder.norm.weight has no description"),
        (lambda h: h[NAME].update(shape=[-64]), "has no valid shape and offsets"),
        (lambda h: h[NAME].update(shape=[64.0]), "has no valid shape and offsets"),
        (lambda h: h[NAME].update(data_offsets=[0]), "has no valid shape and offsets"),
        (lambda h: h[NAME].pop("shape"), "has no valid shape and offsets"),
        (lambda h: h[NAME].update(shape=[65]), "needs 260 bytes and has 256"),
        (lambda h: h[NAME].update(data_offsets=[0, 256]), "leave or share the bytes"),
        (lambda h: h[NAME].update(dtype="F4"), "has the unknown type 'F4'"),
        (lambda h: h[NAME].update(dtype=["F32"]), "has the unknown type"),
        (lambda h: h.update(__metadata__=[1]), "its metadata is not a JSON object"),
    ],
)
def test_damaged_headers(folder: Path, change: Any, message: str) -> None:
    with_header(folder / WEIGHTS, change)
    fails(folder, message)


@pytest.mark.parametrize("text", [b"[]", b"nope", b"\xff\xff", b"[" * 99_999])
def test_headers_that_are_no_object(folder: Path, text: bytes) -> None:
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text)
    fails(folder, "its header is not (a )?JSON")


def test_a_pickle_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\x80\x02}q\x00." * 100)
    fails(folder, "is truncated or not a safetensors file")


def test_all_mismatches_in_one_error(folder: Path) -> None:
    def change(weights: dict[str, mx.array]) -> None:
        del weights["encoder.class_embedding"]
        weights["decoder.norm.weight"] = mx.zeros((65,))
        weights["connector.pos_emb"] = mx.zeros((1, 36, 32), mx.int32)
        weights["decoder.extra"] = mx.zeros((2,))

    rewrite(folder / WEIGHTS, change)
    fails(folder, "do not fit its config.json")
    with pytest.raises(WeightsError) as caught:
        load_model(folder)
    assert str(caught.value).split("\n")[1:] == [
        "  encoder.class_embedding: missing",
        "  connector.pos_emb: type I32, expected mlx.core.float32",
        "  decoder.norm.weight: shape (65,), expected (64,)",
        "  decoder.extra: unknown",
    ]


def test_at_most_ten_mismatches_are_listed(folder: Path) -> None:
    edit_json(folder / "config.json", lambda c: c["text_config"].update(head_dim=32))
    with pytest.raises(WeightsError) as caught:
        load_model(folder)
    assert len(str(caught.value).split("\n")) == 12
    assert re.search(r"… and \d+ more$", str(caught.value))


@pytest.mark.parametrize(
    "scales",
    [
        mx.zeros((64, 3)),
        mx.zeros((64, 0)),
        mx.array(1.0),
        mx.zeros((64, 1), mx.uint8),
        mx.zeros((64, 2), mx.int8),
        mx.zeros((64, 4)),
    ],
)
def test_scales_that_do_not_fit(
    tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig, scales: mx.array
) -> None:
    nn.quantize(tiny_model.decoder, group_size=32, bits=4)
    save_model(tmp_path / "q", tiny_model, tiny_config)
    name = "decoder.layers.0.self_attn.q_proj.scales"
    rewrite(tmp_path / "q" / WEIGHTS, lambda w: w.update({name: scales}))
    fails(tmp_path / "q", "its scales fit no way of quantising its weight")


def test_scales_without_a_weight(folder: Path) -> None:
    def change(weights: dict[str, mx.array]) -> None:
        weights["decoder.layers.9.mlp.gate_proj.scales"] = mx.zeros((2, 2))
        weights["decoder.norm.scales"] = mx.zeros((2, 2))

    rewrite(folder / WEIGHTS, change)
    fails(folder, "layers.9.mlp.gate_proj: quantised in the file, but no such layer")


def test_missing_shard(sharded: Path) -> None:
    next(sharded.glob("model-00002*")).unlink()
    fails(sharded, r"lacks the weight file model-00002-of-\d+.safetensors; fetch")


@pytest.mark.parametrize("file", ["../x.safetensors", "/etc/x.safetensors", "a.bin", 3])
def test_index_with_paths(sharded: Path, file: Any) -> None:
    edit_json(sharded / INDEX, lambda i: i["weight_map"].update({NAME: file}))
    fails(
        sharded, "weight_map sends decoder.norm.weight to .*; it must be the bare name"
    )


@pytest.mark.parametrize("weight_map", [None, {}, []])
def test_index_without_a_map(sharded: Path, weight_map: Any) -> None:
    edit_json(sharded / INDEX, lambda i: i.update(weight_map=weight_map))
    fails(sharded, "index.json has no weight_map; fetch the model again")


def test_index_that_disagrees(sharded: Path) -> None:
    edit_json(sharded / INDEX, lambda i: i["weight_map"].pop(NAME))
    fails(sharded, "and the weight files disagree; fetch the model again")
