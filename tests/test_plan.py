"""`mm15-mlx plan`: what is counted is what is paid, and what is said about it."""

import dataclasses
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mm15_mlx import bench, calibrate, chips, costs, fast_cpu, plan
from mm15_mlx.config import (
    PRESETS,
    ConnectorConfig,
    ModelConfig,
    TextConfig,
    TilingConfig,
    UserError,
    VisionConfig,
)
from mm15_mlx.load import load_processor
from mm15_mlx.mm15 import ENCODE_BYTES, MM15, patches, view_numbers, views_together
from mm15_mlx.quantize import PARTS, Quantisation
from mm15_mlx.tokenizer import TOKENIZER_FILE
from mm15_mlx.weights import load_model, save_model

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast this machine is, is no matter here."""
    monkeypatch.setattr(calibrate, "_BUDGET_S", 0.0)


@pytest.fixture(scope="module")
def mid_config(ui_config: ModelConfig) -> ModelConfig:
    """Fifteen million parameters: weights, activations and KV cache all count."""
    return dataclasses.replace(
        ui_config,
        vision_config=VisionConfig(
            hidden_size=192, intermediate_size=768, num_hidden_layers=4,
            num_attention_heads=3, image_size=224,
        ),
        connector_config=ConnectorConfig(
            num_visual_tokens=64, hidden_size=256, depth=2
        ),
        text_config=TextConfig(
            hidden_size=384, intermediate_size=1024, num_hidden_layers=6,
            num_attention_heads=6, num_key_value_heads=3, head_dim=64,
            vocab_size=1400, tie_word_embeddings=False,
        ),
        tiling=TilingConfig(tile_size=224, n_min=1, n_max=4),
    )  # fmt: skip


@pytest.fixture(scope="module")
def mid_folder(
    mid_config: ModelConfig,
    tokenizer_model: bytes,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("models") / "mid"
    save_model(
        folder, MM15(mid_config), mid_config, files={TOKENIZER_FILE: tokenizer_model}
    )
    return folder


@pytest.fixture
def multiplied(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Operations of every linear layer, as they are called."""
    counted: list[float] = []
    for kind in (nn.Linear, fast_cpu.Linear):

        def counting(
            layer: nn.Linear, x: mx.array, call: Any = kind.__call__
        ) -> mx.array:
            rows = x.size // x.shape[-1]
            counted.append(2 * rows * layer.weight.size)
            return call(layer, x)

        monkeypatch.setattr(kind, "__call__", counting)
    return counted


# --- what is counted ---------------------------------------------------------------


@pytest.mark.parametrize("views", [1, 5])
@pytest.mark.parametrize("kind", ["tiny", "mid"])
def test_memory_is_what_an_answer_takes(
    kind: str, views: int, ui_folder: Path, mid_folder: Path
) -> None:
    """Within 20 % of MLX's peak in a trial of `bench`."""
    if not fast_cpu.usable(mx.zeros(1)):
        pytest.skip("the allowance for activations was measured on an x86 CPU")
    folder = ui_folder if kind == "tiny" else mid_folder
    processor = load_processor(folder)
    processor.encoder.stop_ids = frozenset()
    size = costs.picture_of(processor.config, views)
    wanted = bench.Wanted(max_tokens=8)
    gc.collect()  # what other tests left must not go in the middle of the trial
    before = mx.get_active_memory()  # what they keep
    said = bench.trial(folder, processor, bench.QUESTION, [bench.screen(size)], wanted)
    planned = plan.subject(str(folder), {})
    asked = plan.question(planned.config, size, 24, 8)
    assert asked.views == views
    needs = plan.memory(planned, asked, 4)
    assert needs.mlx == pytest.approx(said["peak_memory_bytes"] - before, rel=0.2)
    assert needs.total == needs.mlx + plan.RUNTIME


@pytest.mark.parametrize(("name", "together"), [("nano-ui", 59), ("1b", 2)])
def test_views_are_encoded_within_a_budget(name: str, together: int) -> None:
    config = PRESETS[name]
    assert views_together(config) == together
    assert 4 * view_numbers(config) * together <= ENCODE_BYTES
    assert 4 * view_numbers(config) * (together + 1) > ENCODE_BYTES


def test_a_view_that_exceeds_the_budget_is_encoded_alone(
    tiny_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mm15_mlx.mm15.ENCODE_BYTES", 1)
    assert views_together(tiny_config) == 1


def test_the_encoders_work(
    tiny_model: MM15, tiny_config: ModelConfig, multiplied: list[float]
) -> None:
    mx.eval(tiny_model.encoder(mx.zeros((2, 84, 84, 3))))
    n = patches(tiny_config)
    assert n == 37
    scores = 2 * 4 * n * n * 32  # per layer and view: two products of N × N × D
    expected = sum(multiplied) + 2 * scores
    assert 2 * costs.encoder_flop(tiny_config) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "c_abstractor"},
        {"type": "avg_pool"},
        {"type": "mlp", "num_visual_tokens": 36},
        {"type": "pixel_shuffle", "num_visual_tokens": 9, "scale_factor": 2},
    ],
    ids=lambda c: c["type"],
)
def test_the_connectors_work(
    changes: dict[str, Any], tiny_config: ModelConfig, multiplied: list[float]
) -> None:
    connector = dataclasses.replace(tiny_config.connector_config, **changes)
    config = dataclasses.replace(tiny_config, connector_config=connector)
    mx.eval(MM15(config).connector(mx.zeros((1, 36, 32))))
    taps = 0
    if connector.type == "c_abstractor":
        taps = 2 * 9 * 32 * connector.depth * (36 + 16)
    # Squeeze-and-excite works on one pixel; it is left out.
    expected = sum(multiplied) + taps
    assert costs.connector_flop(config) == pytest.approx(expected, rel=0.02)


def test_the_prompts_work(
    tiny_model: MM15, tiny_config: ModelConfig, multiplied: list[float]
) -> None:
    numbers = costs.weights(tiny_config, tiny_model, None).numbers
    mx.eval(tiny_model.decoder(mx.zeros((1, 50), mx.int32)))
    scores = 2 * 50 * 50 * 64 * 3  # half of all pairs, two products, three layers
    expected = sum(multiplied) + scores + 2 * 64 * 96  # and the logits of one token
    found = costs.prefill_flop(tiny_config, numbers, 50)
    assert found == pytest.approx(expected, rel=0.01)  # norms are no products


def test_the_kv_cache(tiny_model: MM15, tiny_config: ModelConfig) -> None:
    cache = tiny_model.make_cache()
    mx.eval(tiny_model(mx.zeros((1, 300), mx.int32), cache=cache))
    held = sum(layer.nbytes for layer in cache)
    assert held == costs.capacity(300) * costs.kv_bytes(tiny_config, 4)


def test_weights_are_those_of_the_file(ui_folder: Path) -> None:
    model, config = load_model(ui_folder)
    held = costs.weights(config, model, None)
    stored = sum(f.stat().st_size for f in ui_folder.glob("*.safetensors"))
    assert held.total == pytest.approx(stored, rel=0.02)  # the header is no weight
    packed = costs.lazy_model(config, {"decoder": Quantisation(4, 32)})
    fewer = costs.weights(config, packed, 2)
    assert fewer.numbers == held.numbers
    layers = held.numbers["decoder"]
    # 4 bits, and a scale and a bias of 16 for 32 numbers; norms are not packed
    assert 8 * fewer.nbytes["decoder"] / layers == pytest.approx(5, rel=0.02)
    assert fewer.nbytes["encoder"] == 2 * held.numbers["encoder"]


def test_a_small_model_in_four_bits_is_under_a_third_of_its_half_floats() -> None:
    """SmolVLM-256M's shape; all parts in 4 bits take 0.3 of float16's bytes."""
    config = ModelConfig(
        vision_config=VisionConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12,
            num_attention_heads=12, image_size=512, patch_size=16,
        ),
        connector_config=ConnectorConfig(
            type="pixel_shuffle", num_visual_tokens=64, scale_factor=4, mlp_depth=1
        ),
        text_config=TextConfig(
            hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
            num_attention_heads=9, num_key_value_heads=3, head_dim=64,
            vocab_size=49280, tie_word_embeddings=False,
        ),
        tiling=TilingConfig(tile_size=512, n_min=1, n_max=4),
    )  # fmt: skip
    ways = dict.fromkeys(PARTS, Quantisation(4, 64))
    floats, packed = (
        costs.weights(config, costs.lazy_model(config, w), 2) for w in ({}, ways)
    )
    assert 240e6 < sum(floats.numbers.values()) < 300e6
    assert packed.total < 0.3 * floats.total


def test_a_token_meets_few_experts() -> None:
    assert costs.active_share(PRESETS["3b"]) == 1
    sparse = PRESETS["3b-moe"]
    t = sparse.text_config
    attention = t.hidden_size * t.head_dim * 2 * (24 + 8)
    dense = 3 * t.hidden_size * t.intermediate_size
    active = attention + (dense + 2 * dense) / 2  # every second layer: two experts
    whole = attention + (dense + 64 * dense) / 2
    assert costs.active_share(sparse) == pytest.approx(active / whole)
    assert costs.dense_like(sparse).text_config.intermediate_size == 2 * 8064
    assert costs.dense_like(PRESETS["3b"]) is PRESETS["3b"]


def test_a_picture_of_so_many_views(tiny_config: ModelConfig) -> None:
    for views in (1, 3, 5):
        size = costs.picture_of(tiny_config, views)
        assert plan.question(tiny_config, size, 1, 1).views == views


# --- chips -------------------------------------------------------------------------


def test_chips() -> None:
    published = {"m1": 2.6, "m2": 3.6}  # TFLOPS, Apple's own
    for name, tflops in published.items():
        assert chips.find(name, None).tflops == pytest.approx(tflops, rel=0.03)
    assert chips.find("m4-max", 36).bandwidth == 410
    assert chips.find("m4-max", 64).bandwidth == 546
    assert chips.find("m4-max", None).memory[-1] == 128
    m4, m5 = chips.find("m4", None), chips.find("m5", None)
    assert m5.rates.prefill == 4 * m4.rates.prefill
    assert chips.named("Apple M4 Max") == "m4-max"
    assert chips.named("Apple M1") == "m1" and chips.named("AMD") is None


def test_rates_of_this_machine(tiny_config: ModelConfig) -> None:
    model = costs.lazy_model(tiny_config, {"decoder": Quantisation(8, 32)})
    rates = calibrate.measured(tiny_config, model, 40, 5)
    assert min(dataclasses.astuple(rates)[:4]) > 1e4 and rates.layer_s == 0
    blind = calibrate.measured(tiny_config, model, 40, 0)
    assert blind.encode == blind.connect == 1  # never used: there are no views


def test_speed_is_work_over_rates(ui_folder: Path) -> None:
    planned = plan.subject(str(ui_folder), {})
    asked = plan.question(planned.config, (168, 168), 24, 8)
    rates = chips.Rates(1e9, 2e9, 1e9, 1e9, 0.5)
    s = plan.speed(planned, asked, rates, 4)
    c = planned.config
    encode = costs.encoder_flop(c) / 1e9 + costs.connector_flop(c) / 2e9
    assert s.encode_s == pytest.approx(5 * encode)
    assert s.first_token_s == s.encode_s + s.prefill_s
    held = costs.weights(c, planned.model, 4)
    step = costs.step_bytes(c, held.nbytes, asked.prompt + 4, 4) / 1e9
    assert s.decode_tokens_per_s == pytest.approx(1 / (step + 3 * 0.5))
    # One token's prompt still reads all weights.
    slow = plan.speed(planned, plan.Question(0, 0, 1, 1), rates, 4)
    assert slow.prefill_s == held.nbytes["decoder"] / 1e9


# --- the verb ----------------------------------------------------------------------


def test_the_sum_is_shown(cli: Cli) -> None:
    arguments = ("plan", "--model", "1b", "--q-bits", "4", "--chip", "m4-max")
    code, out, err = cli(*arguments, "--memory-gb", "36", "--json")
    assert code == 0 and err == ""
    facts = json.loads(out)
    m = facts["memory"]
    beside = max(m["encoding"], m["prefilling"], m["answering"])
    assert m["total"] == sum(m["weights"].values()) + beside + m["runtime"]
    assert m["limit"] == 27e9 and facts["fits"] is True
    assert facts["bits_per_weight"]["decoder"] == pytest.approx(4.5, abs=0.01)
    assert facts["bits_per_weight"]["encoder"] == 16
    assert facts["question"]["views"] == 9
    code, out, err = cli(*arguments, "--memory-gb", "36")
    assert code == 0 and err == ""
    assert "of 27.0 GB (0.75 of 36): fits" in out
    for row in ("encoder", "connector", "decoder", "embedding", "program", "sum"):
        assert f"\n  {row}" in out
    for row in ("encode", "prefill", "first token", "decode"):
        assert f"\n{row} " in out
    assert "a prediction, no measurement" in out


def test_the_bundled_model_in_fewer_bits(cli: Cli) -> None:
    """Its tables of words are packed already, and stay as they are."""
    arguments = ("plan", "--model", "nano-ui", "--chip", "m4-max", "--json")
    before, after = (
        json.loads(cli(*arguments, *more)[1])["bits_per_weight"]
        for more in ((), ("--q-bits", "4", "--head-bits", "8"))
    )
    assert after["decoder"] < 4.6 < before["decoder"]
    assert after["head"] == before["head"] < 9


def test_a_mode_alone_has_its_own_bits(cli: Cli) -> None:
    """As `quantize` has it."""
    arguments = ("plan", "--model", "1b", "--chip", "m4-max", "--json")

    def bits(*more: str) -> float:
        return json.loads(cli(*arguments, *more)[1])["bits_per_weight"]["decoder"]

    assert bits("--q-mode", "mxfp4") == bits("--q-mode", "mxfp4", "--q-bits", "4") < 5
    small = ("--q-group-size", "32")
    assert bits(*small) == bits(*small, "--q-bits", "4") > bits("--q-mode", "affine")
    assert bits() > 15


def test_what_does_not_fit(cli: Cli) -> None:
    code, out, _ = cli("plan", "--model", "30b", "--chip", "m1", "--memory-gb", "16")
    assert code == 0 and "of 12.0 GB (0.75 of 16): DOES NOT FIT" in out


def test_on_this_machine(cli: Cli, ui_folder: Path, screen: Path) -> None:
    code, out, err = cli(
        "plan", "--model", ui_folder, "--chip", "cpu", "--image", screen, "--json"
    )
    facts = json.loads(out)
    assert code == 0 and err == ""
    assert facts["question"]["visual"] == 80 and facts["chip"] == "cpu"
    assert min(facts["speed"].values()) > 0 and facts["fits"]
    assert (
        "measured now"
        in cli("plan", "--model", ui_folder, "--chip", "cpu", "--views", "0")[1]
    )


def test_a_gpu_keeps_the_types_of_the_file(ui_copy: Path) -> None:
    assert plan.subject(str(ui_copy), {}).float_bytes == 4
    model, config = load_model(ui_copy)
    model.set_dtype(mx.float16)
    files = {TOKENIZER_FILE: (ui_copy / TOKENIZER_FILE).read_bytes()}
    save_model(ui_copy, model, config, files=files, force=True)
    assert plan.subject(str(ui_copy), {}).float_bytes == 2


def test_mistakes(cli: Cli, ui_folder: Path, ui_copy: Path, screen: Path) -> None:
    def error(*arguments: str | Path) -> str:
        code, out, err = cli("plan", *arguments)
        assert (code, out) == (2, "")
        return err

    assert "--chip is 'm9'; it must be cpu, m1, m1-pro" in error("--chip", "m9")
    assert "--memory-gb is 40; an m4-max is sold with 36, 48, 64, 128 GB" in error(
        "--chip", "m4-max", "--memory-gb", "40"
    )
    assert "--model is '8b'; it must be a size (1b, 3b, 7b, 30b, " in error(
        "--model", "8b", "--chip", "m1"
    )
    here = ("--model", ui_folder, "--chip", "m1")
    assert "--image and --views both choose a picture; give one" in error(
        *here, "--image", screen, "--views", "1"
    )
    assert "--views is 9; this model's pictures have 1, 3, 4, 5 views" in error(
        *here, "--views", "9"
    )
    assert "tokens and the answer 5000; the model's context is 4096" in error(
        *here, "--max-tokens", "5000"
    )
    assert "--head-bits 7 with --q-group-size 64 is not to be had" in error(
        *here, "--head-bits", "7"
    )
    assert "--q-group-size 128 divides the rows of no layer of connector" in error(
        *here, "--connector-bits", "4", "--q-group-size", "128"
    )
    ways = {"decoder": Quantisation(4, 32)}
    config = plan.subject(str(ui_copy), {}).config
    save_model(ui_copy, costs.lazy_model(config, ways), config, force=True)
    assert "is quantised already; leave --q-bits and the like out" in error(
        "--model", ui_copy, "--q-bits", "4", "--q-group-size", "32"
    )
    packed = plan.subject(str(ui_copy), {})
    held = costs.weights(config, packed.model, 2)
    assert 8 * held.nbytes["decoder"] / held.numbers["decoder"] < 6
    with pytest.raises(UserError, match="must be cpu, m1"):
        chips.find("", None)
