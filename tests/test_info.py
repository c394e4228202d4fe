"""`mm15-mlx info`: from headers alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from mm15_mlx.info import describe, picture_cost
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.weights import load_model, save_model

Cli = Callable[..., tuple[int, str, str]]


def test_describe(ui: tuple[MM15, Processor], ui_folder: Path) -> None:
    facts = describe(str(ui_folder))
    model, _ = ui
    parameters = dict(tree_flatten(model.parameters()))
    total = sum(a.size for a in parameters.values())
    assert facts["parameters"]["total"] == total
    assert facts["parameters"]["encoder"] == sum(
        a.size for n, a in parameters.items() if n.startswith("encoder.")
    )
    assert facts["bytes"] == sum(a.nbytes for a in parameters.values())
    assert facts["quantized"] is False and facts["licence"] == "unknown"
    assert facts["decoder"]["context"] == 4096
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize(("group_size", "bits"), [(64, 4), (32, 8), (32, 4)])
def test_parameters_of_a_quantised_model_are_those_of_the_plain_one(
    ui_folder: Path, tmp_path: Path, group_size: int, bits: int
) -> None:
    plain = describe(str(ui_folder))
    model, config = load_model(ui_folder, keep_dtype=True)
    nn.quantize(
        model.decoder, group_size, bits,
        class_predicate=lambda _, m: (
            hasattr(m, "to_quantized") and m.weight.shape[-1] % group_size == 0
        ),
    )  # fmt: skip
    save_model(tmp_path / "q", model, config)
    packed = describe(str(tmp_path / "q"))
    assert packed["quantized"] and packed["bytes"] < plain["bytes"]
    assert packed["parameters"] == plain["parameters"]


def test_the_cost_of_a_picture_is_what_is_paid(
    ui: tuple[MM15, Processor], screen: Path
) -> None:
    model, processor = ui
    cost = picture_cost(processor.config, str(screen))
    inputs = processor("Hi", images=[screen])
    assert cost["views"] == inputs["pixel_values"].shape[0] == 5
    assert cost["tokens"] == (inputs["input_ids"] == 4).sum().item() == 80
    assert cost["grid"] == [2, 2] and (cost["width"], cost["height"]) == (120, 200)
    cache = model.make_cache()
    mx.eval(model(**inputs, cache=cache))
    held = sum(2 * c.keys_and_values()[0].nbytes for c in cache)
    per_token = held // inputs["input_ids"].shape[1]
    assert cost["kv_cache_bytes"] == per_token * 80


def test_text_and_json(cli: Cli, ui_folder: Path, screen: Path) -> None:
    code, out, err = cli("info", "--model", ui_folder, "--image", screen)
    assert code == 0 and err == ""
    for row in ("model", "encoder", "connector", "decoder", "licence", "picture"):
        assert f"\n{row} " in f"\n{out}"
    assert "2 × 2 tiles, 5 views, 80 tokens" in out
    code, out, err = cli("info", "--model", ui_folder, "--image", screen, "--json")
    facts = json.loads(out)
    assert code == 0 and err == "" and facts["image"]["tokens"] == 80
    assert "image" not in json.loads(cli("info", "--model", ui_folder, "--json")[1])


def test_provenance_is_shown(
    cli: Cli, ui: tuple[MM15, Processor], ui_copy: Path
) -> None:
    path = ui_copy / "config.json"
    data: dict[str, Any] = json.loads(path.read_text())
    data["provenance"] = {"licence": "MIT", "source": "trained here"}
    path.write_text(json.dumps(data))
    out = cli("info", "--model", ui_copy)[1]
    assert "licence     MIT" in out and "source      trained here" in out


def test_mistakes(cli: Cli, ui_copy: Path, screen: Path, tmp_path: Path) -> None:
    weights = ui_copy / "model.safetensors"
    model, config = load_model(ui_copy)
    model.extra = nn.Linear(2, 2)
    save_model(tmp_path / "odd", model, config)
    code, out, err = cli("info", "--model", tmp_path / "odd")
    assert (code, out) == (2, "")
    assert "holds extra.weight, which is no part of this model" in err
    weights.unlink()
    code, out, err = cli("info", "--model", ui_copy, "--image", tmp_path / "no.png")
    assert code == 2 and "no.png does not exist" in err, "the picture comes first"
    code, out, err = cli("info", "--model", ui_copy, "--image", screen)
    assert code == 2 and "lacks the weight file" in err
    code, out, err = cli("info", "--model", ui_copy, "--image", screen, screen)
    assert err == "error: --image names 2 pictures; this verb takes one\n"
