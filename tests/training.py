"""Small training data for the tests of `train` and its neighbours."""

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mm15_mlx import trainer
from mm15_mlx.config import ModelConfig
from mm15_mlx.quantize import Quantisation, choose
from mm15_mlx.shrink import write_packed
from mm15_mlx.weights import load_model, new_folder

Row = dict[str, Any]


def asked(question: str, answer: str, *images: str) -> Row:
    """A row of one question and one answer."""
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return {"messages": messages} | ({"images": list(images)} if images else {})


ROWS = (
    asked("Where is the switch?", "<box>20,150,100,180</box>", "screen.png"),
    asked("What is this?", "button", "screen.png"),
    asked("Say Yes", "Yes"),
    asked("Read the text of this list", "General Settings About Wi-Fi"),
    asked("Is <point>60,10</point> a button?", "No", "screen.png"),
)


def write(folder: Path, screen: Path, rows: Sequence[Any], name: str = "train") -> Path:
    """`name`.jsonl of rows, or of lines as they are, with the picture beside it."""
    folder.mkdir(exist_ok=True)
    shutil.copy(screen, folder / "screen.png")
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def pack(source: Path, target: Path) -> Path:
    """A copy of a model folder with 4-bit decoder layers."""
    model, config = load_model(source)
    choice = choose(model, {"decoder": Quantisation(4, 32)})
    files = {"tokenizer.model": (source / "tokenizer.model").read_bytes()}
    with new_folder(target, choice.record(config), files=files) as partial:
        write_packed(source, partial, choice, {})
    return target


def run_settings(model: Path, data: Path, target: Path) -> dict[str, Any]:
    """Settings with every source of randomness and state in them: dropout, two parts,
    accumulation, a schedule."""
    return {
        "model": str(model), "data": str(data), "iters": 6, "batch_size": 2,
        "grad_accumulation_steps": 2, "learning_rate": 3e-3, "steps_per_report": 2,
        "steps_per_eval": 3, "save_every": 2, "adapter_path": str(target),
        "lora_parameters": {"rank": 4, "scale": 8.0, "dropout": 0.2},
        "train_parts": ["decoder", "connector"],
        "lr_schedule": {"name": "cosine_decay", "warmup": 2},
    }  # fmt: skip


def same_gradients(found: Any, expected: Any) -> None:
    """Of two trees, within 5e-5 of each tensor's largest number: batches of other sizes
    round otherwise (1e-6 to 1e-5 by processor); a weight forgotten shows at 1e-1."""
    for (name, a), (_, b) in zip(
        tree_flatten(found), tree_flatten(expected), strict=True
    ):
        assert mx.abs(a - b).max() <= 5e-5 * max(mx.abs(b).max().item(), 1e-3), name


def with_experts(config: ModelConfig, **weights: float) -> ModelConfig:
    """With experts in every second layer; `weights` of the router's losses."""
    text = dataclasses.replace(
        config.text_config, num_experts=4, moe_intermediate_size=32, **weights
    )
    return dataclasses.replace(config, text_config=text)


def stop_after(step: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process a signal in the middle of a step."""
    real = trainer.loss_and_gradients
    calls: list[int] = []

    def stopping(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), number)
        return real(*arguments)

    monkeypatch.setattr(trainer, "loss_and_gradients", stopping)
