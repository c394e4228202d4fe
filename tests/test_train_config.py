"""Settings of a training: YAML with mlx-lm's keys, stages, flags, optimizers."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mm15_mlx.cli_train import _parts
from mm15_mlx.config import UserError
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
    sft = settings({"stage": "sft"}, None)
    assert (sft.iters, sft.learning_rate, sft.optimizer) == (23000, 2e-5, "adafactor")
    assert sft.batch_size * sft.grad_accumulation_steps == 256
    assert set(sft.train_parts) == {"decoder", "connector", "encoder"}
    rate = schedule(settings({"stage": "pretrain"}, None), 6e-5)
    assert rate(mx.array(2000)).item() == pytest.approx(6e-5)
    assert rate(mx.array(200_000)).item() == pytest.approx(6e-6, rel=1e-3)
    continual = settings({"stage": "continual"}, None)
    assert continual.learning_rate == 1e-5 and len(continual.mixture or {}) == 4


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
        ({"optimizer": "sgd"}, "optimizer is 'sgd'; use adamw, adafactor, muon"),
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"max_seq_length": 1}, "max_seq_length is 1; it must be 2 or more"),
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
        ({"lora_parameters": {"rank": "a"}}, "lora_parameters .* are not numbers"),
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
        (
            {"name": "cosine_decay", "warmup": 1000},
            "warmup is 1000; it must be in 0 … 99",
        ),
    ],
)
def test_bad_schedules(given: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainError, match=message):
        optimizer(TrainConfig(iters=100, lr_schedule=given))


def test_bad_optimizer_config() -> None:
    with pytest.raises(TrainError, match="optimizer_config: adamw: .*beta1"):
        optimizer(TrainConfig(optimizer_config={"adamw": {"beta1": 0.9}}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "c.yaml is not YAML"),
        ("- a", "c.yaml must map settings to values"),
        ("mask_prompt: false", "mask_prompt must be true here; take the line out"),
        ("test: true", "test must be false here"),
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
