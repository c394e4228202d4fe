"""Settings of a training: YAML with mlx-lm's keys, stages, flags, optimizers."""

import dataclasses
import json
from datetime import date
from math import cos, nan, pi
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import yaml

from mm15_mlx.cli_train import _parts
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.lora import retiled
from mm15_mlx.train_config import (
    STAGES,
    TrainConfig,
    TrainError,
    from_dict,
    optimizer,
    schedule,
    settings,
)


def written(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_the_file_and_that_over_the_stage(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "batch_size: 2\nlearning_rate: 2e-4\ntrain: true\ntest: false\n",
    )
    config = settings({"batch_size": 8, "iters": None}, path)
    assert (config.batch_size, config.learning_rate) == (8, 2e-4)
    assert config.iters == 300 and config.lora_parameters["rank"] == 8
    assert settings({}, None).learning_rate == 1e-4
    assert settings({}, written(tmp_path, "")).learning_rate == 1e-4


@pytest.mark.parametrize("stage", STAGES)
def test_stages_can_be_used(stage: str) -> None:
    config = settings({"stage": stage}, None)
    assert config.stage == stage
    optimizer(config)


def test_the_papers_stages() -> None:
    """Steps, rows of a step, peak, tiles (facts of MM1 and MM1.5), and what trains."""
    found = {name: settings({"stage": name}, None) for name in STAGES[1:]}
    for name, steps, rows, peak, kind, tiling in (
        ("pretrain", 200_000, 512, 6e-5, "adamw",
         {"policy": "none", "tile_size": 378}),
        ("continual", 30_000, 256, 1e-5, "adafactor",
         {"policy": "static", "static_grid": [2, 2], "overview": "after",
          "tile_size": 672}),
        ("sft", 23_000, 256, 2e-5, "adafactor",
         {"policy": "dynamic", "n_min": 4, "n_max": 9, "overview": "after",
          "tile_size": 672}),
    ):  # fmt: skip
        config = found[name]
        assert (config.iters, config.learning_rate) == (steps, peak)
        assert config.batch_size * config.grad_accumulation_steps == rows
        assert (config.optimizer, config.fine_tune_type) == (kind, "full")
        assert set(config.train_parts) == {"decoder", "connector", "encoder"}
        assert config.tiling == tiling
        assert retiled(ModelConfig(), config.tiling).tiling.tile_size in (378, 672)
    pretrain = found["pretrain"]
    assert pretrain.max_seq_length == 4096
    assert pretrain.optimizer_config["adamw"] == {"weight_decay": 0.1}
    assert pretrain.mixture == {"image_text": 50, "interleaved": 10, "text": 40}
    rate = schedule(pretrain, 6e-5)
    assert rate(mx.array(1000)).item() == pytest.approx(3e-5)
    assert rate(mx.array(2000)).item() == pytest.approx(6e-5)
    assert rate(mx.array(200_000)).item() == pytest.approx(6e-6, rel=1e-3)
    shares = found["continual"].mixture or {}
    assert len(shares) == 4 and len(set(shares.values())) == 1
    for name in ("continual", "sft"):  # cosine to 0, and no warm-up in the text
        rate, peak = schedule(found[name], 1e-5), found[name].learning_rate
        assert rate(mx.array(0)).item() == pytest.approx(1e-5)
        assert rate(mx.array(found[name].iters)).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("iters", [1, 3, 1000, 2000])
def test_a_shorter_stage_has_the_same_curve(iters: int) -> None:
    """With another rate too: a tenth of it at the end."""
    given = {"stage": "pretrain", "iters": iters, "learning_rate": 4e-5}
    rate = schedule(settings(given, None), 4e-5)
    seen = [rate(mx.array(k)).item() for k in range(iters + 1)]
    assert max(seen) == pytest.approx(4e-5, rel=1e-3)
    assert seen[-1] == pytest.approx(4e-6, rel=1e-3)
    warmup = round(iters * 0.01)
    assert seen[warmup] == pytest.approx(4e-5)
    assert seen[0] == (0 if warmup else seen[warmup])


def test_mlx_lms_defaults_are_understood(tmp_path: Path) -> None:
    """Its whole set but for `mask_prompt`, which would mean something else here."""
    from mlx_lm.lora import CONFIG_DEFAULTS

    given = CONFIG_DEFAULTS | {"mask_prompt": True}
    said: list[str] = []
    config = settings({}, written(tmp_path, yaml.safe_dump(given)), said.append)
    assert said == [
        f"--config {tmp_path / 'c.yaml'}: train, test_batches, clear_cache_threshold "
        "of mlx-lm's: nothing to do here"
    ]
    fields = set(given) & set(config.to_dict())
    assert all(getattr(config, k) == given[k] for k in fields) and len(fields) > 20
    assert config.optimizer == "adam" and optimizer(config)
    own = {"train", "config", "test_batches", "clear_cache_threshold"}
    assert set(given) - fields == own | {"mask_prompt", "test", "trust_remote_code"}


def test_warm_up_and_cosine() -> None:
    config = TrainConfig(
        learning_rate=1.0,
        iters=100,
        lr_schedule={"name": "cosine_decay", "warmup": 0.1},
    )
    rate = schedule(config, 0.5)  # of a part whose peak is half
    seen = [rate(mx.array(k)).item() for k in (0, 5, 10, 55, 100)]
    assert seen == pytest.approx([0, 0.25, 0.5, 0.25, 0], abs=0.01)
    assert schedule(TrainConfig(), 0.5) == 0.5


def test_muon_leaves_embeddings_and_vectors_to_adamw() -> None:
    made = optimizer(TrainConfig(optimizer="muon"))
    grads = {"decoder": {
        "embed_tokens": {"weight": mx.zeros((4, 4))},
        "norm": {"weight": mx.zeros(4)}, "q_proj": {"weight": mx.zeros((4, 4))},
    }}  # fmt: skip
    matrices, others = made._split_dictionary(grads)
    assert set(matrices["decoder"]) == {"q_proj"}
    assert set(others["decoder"]) == {"embed_tokens", "norm"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage": "rlhf"}, "stage is 'rlhf'; use lora, sft"),
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; use adam, adamw, adafactor, muon"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"max_seq_length": 1}, "max_seq_length is 1; it must be 2 or more"),
        ({"learning_rate": 10**400}, "learning_rate is inf; it must be 0 or more"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0; it must be 0 or more"),
        (
            {"learning_rate": "fast"},
            "learning_rate is 'fast'; it must be of type float",
        ),
        ({"iters": True}, "iters is True; it must be of type int"),
        ({"iter": 3}, "the training has no setting 'iter'; did you mean 'iters'?"),
        (
            {"part_learning_rates": {"encoder": 1.0}},
            "names 'encoder', which train_parts",
        ),
        (
            {"part_learning_rates": {"decoder": "a"}},
            "part_learning_rates: decoder is 'a'",
        ),
        (
            {"lora_parameters": {"alpha": 16}},
            "has the key 'alpha'; mlx-lm's word is sc",
        ),
        ({"lora_parameters": {"rank": "a"}}, "rank is 'a'; it must be a whole number"),
        ({"lora_parameters": {"rank": 4.5}}, "rank is 4.5; it must be a whole numb"),
        ({"lora_parameters": {"rank": 10**12}}, "a whole number, 1 to 8192"),
        ({"lora_parameters": {"scale": "x"}}, "scale is 'x'; it must be a finite num"),
        ({"lora_parameters": {"scale": nan}}, "scale is nan; it must be a finite num"),
        ({"lora_parameters": {"dropout": "x"}}, "dropout is 'x'; it must be in"),
        (
            {"lora_parameters": {"keys": [1]}},
            "keys has 1; it must hold names of layers",
        ),
        ({"train_parts": [["a"]]}, r"train_parts has \['a'\]; name decoder, connector"),
        (
            {"seed": 10**13 + 1},
            "seed is 10000000000001; it must be 10000000000000 or l",
        ),
        ({"optimizer_config": {"adamww": {}}}, "key 'adamww'; did you mean 'adamw'"),
        ({"optimizer_config": {"x": {}}}, "key 'x'; use adam, adamw, adafactor, muon"),
        ({"optimizer_config": {"adamw": 3}}, "adamw is 3; it must map settings to va"),
        (
            {"optimizer_config": {"adamw": {"weight_decay": "x"}}},
            "adamw: weight_decay is 'x'; it must be a number",
        ),
        (
            {"patience": 2, "val_batches": 0},
            "patience is 2, but val_batches is 0, so that nothing is validated; raise",
        ),
        ({5: 6}, "the training has no setting 5"),
        ({"tiling": {"a": date(2024, 1, 2)}}, "tiling: a is .*of the type date; write"),
        ({"mixture": {True: 1}}, "mixture has the key True; write it in quotes"),
        ({"mixture": {1: 1, "1": 2}}, "mixture has the key '1' twice; take one out"),
        ({"lora_parameters": {"keys": "a"}}, "keys must be a list of layers"),
        ({"train_parts": []}, "nothing is to be trained"),
        ({"fine_tune_type": "qlora"}, "fine_tune_type is 'qlora'; it must be one of"),
    ],
)
def test_bad_settings(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_dict(change)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"warmup": 5}, "lr_schedule cannot be used"),
        ({"name": "nothing", "arguments": [1.0]}, "lr_schedule cannot be used"),
        ({"name": "cosine_decay", "steps": 5}, "lr_schedule has the key 'steps'"),
        ({"name": "cosine_decay", "end": 2}, "end is 2; it must be a share, 0 to 1"),
        (
            {"name": "cosine_decay", "warmup": 1000},
            "warmup is 1000; it must be in 0 … 99",
        ),
    ],
)
def test_bad_schedules(given: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        optimizer(TrainConfig(iters=100, lr_schedule=given))


@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
def test_the_peak_comes_once_and_the_end_is_reached(warmup: int) -> None:
    """A cosine without arguments takes the iterations that the warm-up leaves; with
    them it is mlx-lm's, which begins a step later."""
    given = {"name": "cosine_decay", "warmup": warmup, "end": 0.1}
    config = TrainConfig(learning_rate=1.0, iters=10, lr_schedule=given)
    rate = schedule(config, 1.0)
    seen = [rate(mx.array(k)).item() for k in range(11)]
    left = 10 - warmup
    cosine = [0.1 + 0.45 * (1 + cos(pi * k / left)) for k in range(left + 1)]
    expected = [k / warmup for k in range(warmup)] + cosine
    assert seen == pytest.approx(expected, abs=1e-6)
    own = {"name": "cosine_decay", "warmup": 2, "arguments": [1.0, 8, 0.1]}
    theirs = schedule(dataclasses.replace(config, lr_schedule=own), 1.0)
    assert theirs(mx.array(3)).item() == pytest.approx(1.0)


def test_names_of_categories_may_be_numbers(tmp_path: Path) -> None:
    """As a checkpoint gives them back, which --resume compares with."""
    config = settings({}, written(tmp_path, "mixture: {2024: 1, b: {weight: 2}}"))
    assert config.mixture == {"2024": 1, "b": {"weight": 2}}
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()


def test_what_no_step_could_be_made_with() -> None:
    for name, given in (("adamw", {"weight_decay": [0.1, 0.2, 0.3]}),
                        ("adam", {"betas": 0.9})):  # fmt: skip
        config = TrainConfig(optimizer=name, optimizer_config={name: given})
        with pytest.raises(TrainError, match=f"optimizer_config: {name}: "):
            optimizer(config)


def test_bad_optimizer_config() -> None:
    with pytest.raises(TrainError, match="optimizer_config: adamw: .*beta1"):
        optimizer(TrainConfig(optimizer_config={"adamw": {"beta1": 0.9}}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "c.yaml is not YAML"),
        ("- a", "c.yaml must map settings to values"),
        ("mask_prompt: false", "mask_prompt must be true here, because answers alone"),
        ("test: true", "test must be false here, because `mm15-mlx eval` i"),
        ("trust_remote_code: true", "must be false here, because no code of a model f"),
        ("stage: x", "stage is 'x'; use lora"),
    ],
)
def test_bad_files(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=message):
        settings({}, written(tmp_path, text))
    with pytest.raises(TrainError, match="--config .*no.yaml cannot be read"):
        settings({}, tmp_path / "no.yaml")


def test_parts_of_the_command_line() -> None:
    assert _parts(None) == {}
    assert _parts(["decoder", "connector=1e-5"]) == {
        "train_parts": ["decoder", "connector"],
        "part_learning_rates": {"connector": 1e-5},
    }
    with pytest.raises(UserError, match="connector=a: 'a' is no learning rate; write"):
        _parts(["connector=a"])
