"""Adapters of PEFT and mlx-lm: read, written, and refused by name. The numbers are
compared with PEFT itself in tests/parity."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from test_lora import IDS, write_adapters

from mm15_mlx.checkpoint import WeightsError
from mm15_mlx.load import load
from mm15_mlx.lora import LoraParameters, Tuning, adapted
from mm15_mlx.peft_adapters import PEFT_CONFIG, PEFT_WEIGHTS, our_name
from mm15_mlx.weights import load_model

Cli = Callable[..., tuple[int, str, str]]
Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("model.layers.3.mlp.up_proj", "decoder.layers.3.mlp.up_proj"),
        ("model.language_model.layers.0.a", "decoder.layers.0.a"),
        ("language_model.model.layers.0.a", "decoder.layers.0.a"),
        ("model.text_model.layers.0.a", "decoder.layers.0.a"),
        ("lm_head", "decoder.lm_head"),
        ("connector.readout.0", "connector.readout.0"),
        ("model.vision_tower.layers.0.a", None),
        ("vision_model.encoder.layers.0.a", None),
    ],
)
def test_names(theirs: str, ours: str | None) -> None:
    assert our_name(theirs) == ours


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_written_for_peft_and_read_again(
    kind: str, ui_folder: Path, tmp_path: Path, cli: Cli
) -> None:
    """The adapted layers and the connector that was trained with them."""
    keys = ("self_attn.q_proj", "mlp.down_proj", "decoder.lm_head")
    tuning = Tuning(kind, 2, LoraParameters(4, 10.0, keys=keys),
                    ("decoder", "connector"))  # fmt: skip
    write_adapters(tmp_path / "a", load_model(ui_folder)[0], tuning)
    words = ("fuse", "--adapter-path", tmp_path / "a", "--export-peft")
    status, _, err = cli(*words, tmp_path / "p")
    assert status == 0 and "tensors to" in err, err
    assert not (tmp_path / "fused_model").exists()
    config = json.loads((tmp_path / "p" / PEFT_CONFIG).read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 40.0)
    assert config["use_dora"] == (kind == "dora")
    assert config["modules_to_save"] == ["connector"]
    assert "model.layers.1.self_attn.q_proj" in config["target_modules"]
    expected, _ = load(ui_folder, adapter_path=tmp_path / "a")
    found, _ = load(ui_folder, adapter_path=tmp_path / "p")
    assert mx.array_equal(expected(IDS), found(IDS)) and len(adapted(found)) == 5
    readout = [m.connector.readout[0].weight for m in (expected, found)]
    assert mx.array_equal(*readout)
    assert cli(*words, tmp_path / "p")[0] == 2
    assert cli(*words, tmp_path / "p", "--force")[0] == 0
    (tmp_path / "other").mkdir()
    status, _, err = cli(*words, tmp_path / "other", "--force")
    assert status == 2 and "other is no adapter folder, so it is not replaced" in err


def test_a_peft_folder_is_fused(ui_folder: Path, tmp_path: Path, cli: Cli) -> None:
    write_peft(tmp_path / "p", q_proj())
    words = ("fuse", "--adapter-path", tmp_path / "p", "--save-path", tmp_path / "f")
    status, _, err = cli(*words)
    assert status == 2 and "does not say which model folder it belongs to; give" in err
    status, _, err = cli(*words, "--model", ui_folder)
    assert status == 0 and "applied 1 modules, 1 of them fused" in err
    expected, _ = load(ui_folder, adapter_path=tmp_path / "p")
    found, _ = load(tmp_path / "f")
    scale = mx.abs(expected(IDS)).max()
    assert mx.abs(expected(IDS) - found(IDS)).max() <= 1e-5 * scale
    status, _, err = cli("fuse", "--adapter-path", tmp_path / "p", "--export-peft", "x")
    assert status == 2 and "p is PEFT's own already; copy the folder" in err


# --- what is refused --------------------------------------------------------------


def q_proj(rank: int = 2) -> dict[str, mx.array]:
    """Adapters of one layer of the fixture's model: 64 → 4 heads of 32."""
    mx.random.seed(1)
    return {f"{Q}.lora_A.weight": mx.random.normal((rank, 64)),
            f"{Q}.lora_B.weight": mx.random.normal((128, rank))}  # fmt: skip


def write_peft(folder: Path, tensors: dict[str, mx.array], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    mx.save_safetensors(str(folder / PEFT_WEIGHTS), tensors)
    made = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / PEFT_CONFIG).write_text(json.dumps(made | config))
    return folder


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 2.0),
        ({"use_rslora": True}, 4 / 2**0.5),
        ({"alpha_pattern": {"k_proj": 9, r"layers\.0\.self_attn\.q_proj": 16}}, 8.0),
        ({"rank_pattern": {"q_proj": 2}, "r": 8}, 2.0),
        ({"modules_to_save": None, "layer_replication": None}, 2.0),
    ],
)
def test_scales(
    config: dict[str, Any], scale: float, ui_folder: Path, tmp_path: Path
) -> None:
    write_peft(tmp_path / "p", q_proj(), **config)
    model, _ = load(ui_folder, adapter_path=tmp_path / "p")
    layer = model.decoder.layers[0].self_attn.q_proj
    assert layer.scale == pytest.approx(scale) and layer.lora_a.shape == (64, 2)


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        ({}, {"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA can be read"),
        ({}, {"r": 0}, "ranks and alphas must be numbers above 0"),
        ({}, {"rank_pattern": {"(": 1}}, "adapter_config.json cannot be used: "),
        ({}, {"lora_bias": True}, "lora_bias is True, which cannot be applied here"),
        ({}, {"init_lora_weights": "pissa_niter_4"}, "belong to changed weights; save"),
        (
            {"base_model.model.lm_head.weight": mx.zeros((3, 3))},
            {"modules_to_save": ["lm_head"]},
            "modules_to_save has 'lm_head'; besides adapters only the connector can",
        ),
        (
            {"base_model.model.model.norm.weight": mx.zeros(64)}, {},
            "model.norm.weight: neither an adapter nor of this connector",
        ),
        (
            {"base_model.model.model.embed_tokens.lora_embedding_A": mx.zeros((2, 9))},
            {}, "embed_tokens.lora_embedding_A: no LoRA of a linear layer",
        ),
        (
            {Q.replace("q_proj", "qkv_proj") + ".lora_A.weight": mx.zeros((2, 64))}, {},
            "qkv_proj: no linear layer of this model",
        ),
        ({f"{Q}.lora_B.weight": mx.zeros((9, 2))}, {}, r"A \(2, 64\) and B \(9, 2\) d"),
        ({}, {"use_dora": True}, "q_proj: lora_magnitude_vector is missing"),
        ({f"{Q}.lora_magnitude_vector": mx.zeros(128)}, {}, "magnitude_vector is left"),
        (
            {f"{Q}.lora_magnitude_vector": mx.zeros(9)}, {"use_dora": True},
            r"magnitude \(9,\), expected \(128,\)",
        ),
        ({f"{Q}.lora_B.weight": mx.zeros((128, 2), mx.int32)}, {}, "weight: type I32"),
    ],
)  # fmt: skip
def test_what_cannot_be_applied(
    change: dict[str, mx.array], config: dict[str, Any], message: str,
    ui_folder: Path, tmp_path: Path,
) -> None:  # fmt: skip
    write_peft(tmp_path / "p", q_proj() | change, **config)
    with pytest.raises(WeightsError, match=message):
        load(ui_folder, adapter_path=tmp_path / "p")


def test_half_a_peft_folder(ui_folder: Path, tmp_path: Path) -> None:
    folder = write_peft(tmp_path / "p", q_proj())
    (folder / PEFT_CONFIG).write_text('{"peft_type": "LORA"}')
    with pytest.raises(WeightsError, match="json lacks PEFT's key 'r'"):
        load(ui_folder, adapter_path=folder)
    (folder / PEFT_CONFIG).unlink()
    with pytest.raises(WeightsError, match="but no readable adapter_config.json: .*; "):
        load(ui_folder, adapter_path=folder)


# --- mlx-lm -----------------------------------------------------------------------


def mlx_llama(config: Any) -> nn.Module:
    """mlx-lm's Llama of a decoder's shape."""
    from mlx_lm.models.llama import Model, ModelArgs

    return Model(ModelArgs(
        model_type="llama", hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        intermediate_size=config.intermediate_size,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads, head_dim=config.head_dim,
        rms_norm_eps=config.rms_norm_eps, vocab_size=config.vocab_size,
        rope_theta=config.rope_theta, tie_word_embeddings=False,
    ))  # fmt: skip


def test_adapters_go_both_ways_between_mlx_lm_and_here(
    ui_folder: Path, tmp_path: Path, cli: Cli
) -> None:
    """The same decoder in both; what mlx-lm's tuner puts into a model and saves is
    read here, and what is written here is read by mlx-lm's own loader."""
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters

    from mm15_mlx.mm15 import MM15

    _, config = load_model(ui_folder)
    text = dataclasses.replace(config.text_config, qk_norm=False)
    config = dataclasses.replace(config, text_config=text)
    mx.random.seed(0)
    model, theirs = MM15(config), mlx_llama(text)
    weights = dict(tree_flatten(model.decoder.parameters()))
    theirs.load_weights([
        (n if n.startswith("lm_head") else f"model.{n}", x) for n, x in weights.items()
    ])  # fmt: skip
    theirs.freeze()
    parameters = {"rank": 4, "scale": 10.0, "dropout": 0.0,
                  "keys": ["self_attn.v_proj", "lm_head"]}  # fmt: skip
    linear_to_lora_layers(theirs, 2, parameters)
    moved = {n: x + 0.1 * mx.random.normal(x.shape)
             for n, x in tree_flatten(theirs.trainable_parameters())}  # fmt: skip
    theirs.load_weights(list(moved.items()), strict=False)
    source = tmp_path / "theirs"
    source.mkdir()
    mx.save_safetensors(str(source / "adapters.safetensors"), moved)
    written = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}
    (source / "adapter_config.json").write_text(json.dumps(written))

    from mm15_mlx.lora import load_adapters as ours

    plain = model(IDS)
    assert ours(model, source) == 3
    expected = theirs(IDS)
    size = mx.abs(expected).max()
    assert mx.abs(model(IDS) - expected).max() <= 1e-5 * size
    assert mx.abs(model(IDS) - plain).max() > 1e-2 * size

    status, _, err = cli("fuse", "--adapter-path", source, "--export-mlx-lm",
                         tmp_path / "back")  # fmt: skip
    assert status == 0, err
    again = mlx_llama(text)
    again.load_weights([
        (n if n.startswith("lm_head") else f"model.{n}", x) for n, x in weights.items()
    ])  # fmt: skip
    load_adapters(again, str(tmp_path / "back"))
    assert mx.array_equal(again(IDS), expected)


def test_mlx_lm_has_no_connector(ui_folder: Path, tmp_path: Path, cli: Cli) -> None:
    tuning = Tuning("lora", 1, LoraParameters(2), ("decoder", "connector"))
    write_adapters(tmp_path / "a", load_model(ui_folder)[0], tuning)
    status, _, err = cli("fuse", "--adapter-path", tmp_path / "a", "--export-mlx-lm",
                         tmp_path / "b")  # fmt: skip
    assert status == 2 and "mlx-lm's model is the decoder alone; train adapters" in err
    assert "connector." in err and not (tmp_path / "b").exists()
    write_adapters(tmp_path / "f", load_model(ui_folder)[0], Tuning("full", 1))
    status, _, err = cli("fuse", "--adapter-path", tmp_path / "f", "--export-peft",
                         tmp_path / "b")  # fmt: skip
    assert status == 2 and "trained in full and holds no adapters; fuse it" in err
    encoder = Tuning("lora", 1, LoraParameters(2), ("decoder", "encoder"))
    write_adapters(tmp_path / "e", load_model(ui_folder)[0], encoder)
    status, _, err = cli("fuse", "--adapter-path", tmp_path / "e", "--export-peft",
                         tmp_path / "b")  # fmt: skip
    assert status == 2 and "PEFT has no place for some of these adapters; train" in err
