"""Two processes that train one model: the same numbers as one, and one that writes."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_map
from training import (
    ROWS,
    run_settings,
    same_gradients,
    stop_after,
    with_experts,
    write,
)

from mm15_mlx import train
from mm15_mlx.batches import Pictures, collate
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.dataset import read_split
from mm15_mlx.lora import Tuning, make_trainable
from mm15_mlx.metrics import read_metrics
from mm15_mlx.mixture import draws_of
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.ranks import ALONE, Ranks
from mm15_mlx.tokenizer import TOKENIZER_FILE
from mm15_mlx.train_config import TrainConfig
from mm15_mlx.train_data import Data
from mm15_mlx.trainer import loss_and_gradients
from mm15_mlx.weights import save_model

LAUNCH = Path(sys.executable).with_name("mlx.launch")
EVEN = {"router_aux_loss_coef": 1.0, "router_z_loss_coef": 1.0}
needs_ring = pytest.mark.skipif(
    not mx.distributed.is_available("ring") or not LAUNCH.exists(),
    reason="this MLX has no ring backend or no mlx.launch",
)


def launch(settings: dict[str, Any], folder: Path, *flags: str) -> tuple[int, str, str]:
    """`train` with two processes of this machine."""
    config = folder / "settings.yaml"
    config.write_text(json.dumps(settings))
    words = [
        str(LAUNCH), "-n", "2", "--backend", "ring", "--", sys.executable, "-m",
        "mm15_mlx", "train", "--config", str(config), *flags,
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def experts(ui_config: ModelConfig, tokenizer_model: bytes, tmp_path: Path) -> Path:
    """A model whose router's losses weigh as much as the answers."""
    config = with_experts(ui_config, **EVEN)
    mx.random.seed(0)
    files = {TOKENIZER_FILE: tokenizer_model}
    save_model(tmp_path / "experts", MM15(config), config, files=files)
    return tmp_path / "experts"


@needs_ring
def test_two_processes_are_one(
    experts: Path, screen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same losses, of rows of unlike length, over seven steps of two batches; and
    two go on where one was stopped."""
    data = write(tmp_path / "data", screen, ROWS)
    write(data, screen, ROWS[1:4], "valid")
    settings = run_settings(experts, data, tmp_path / "two") | {
        "batch_size": 3, "grad_accumulation_steps": 2, "steps_per_report": 1,
        "steps_per_eval": 4, "iters": 8, "train_parts": ["decoder"],
        "lora_parameters": {"rank": 4, "scale": 8.0, "dropout": 0.0},
    }  # fmt: skip
    with monkeypatch.context() as patch:
        stop_after(1, signal.SIGTERM, patch)
        assert train.run(settings)[1] == 130
    status, out, err = launch(settings, tmp_path, "--resume", "--json")
    assert status == 0, err
    assert json.loads(out[out.index("{") : out.rindex("}") + 1])["steps"] == 8
    assert (out + err).count("going on after step 1") == 1
    train.run(settings | {"adapter_path": str(tmp_path / "one")})
    rows = [read_metrics(tmp_path / f / "metrics.jsonl") for f in ("one", "two")]
    assert sum("loss" in r for r in rows[0]) == 8
    for a, b in zip(*rows, strict=True):
        assert a.keys() == b.keys() and a["step"] == b["step"]
        assert a.get("learnt_tokens") == b.get("learnt_tokens")
        for key in a.keys() & {"loss", "valid_loss"}:
            assert a[key] == pytest.approx(b[key], rel=1e-6), (a["step"], key)


def test_alone_nothing_is_said_to_anybody() -> None:
    assert (ALONE.rank, ALONE.size, ALONE.first) == (0, 1, True)
    assert ALONE.total(3, 4) == [3, 4] and ALONE.any(True) and not ALONE.any(False)
    assert ALONE.told_by_first(lambda: {"a": 1}) == {"a": 1}
    tree = {"a": mx.ones(2)}
    assert ALONE.mean(tree) is tree and ALONE.spread(tree) is tree
    assert ALONE.sum_inside(tree["a"]) is tree["a"]


class Two(Ranks):
    """One of two processes; the first has the data `theirs`."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 2

    def told_by_first(self, call: Callable[[], Any]) -> Any:
        return "theirs"


def test_what_each_process_needs() -> None:
    with pytest.raises(UserError, match="batch_size is 1 for 2 processes; each needs"):
        train.check_processes(TrainConfig(batch_size=1), Two())
    data = Data([], [], draws_of(["all"], (), 0), [], "mine")
    with pytest.raises(UserError, match="processes have different training data; copy"):
        train.check_same_data(data, Two())


class Told(Ranks):
    """One of several processes, and what they add up to, taken from one with all rows:
    learnt tokens and choices of experts, batch by batch."""

    def __init__(self, size: int, counts: list[int], choices: list[mx.array]) -> None:
        super().__init__()
        self.size, self._counts, self._choices = size, counts, iter(choices)

    def total(self, *counts: int) -> list[int]:
        return self._counts

    def sum_inside(self, values: mx.array) -> mx.array:
        return next(self._choices)


class Noted(Ranks):
    """One process, which keeps what it would have said to others."""

    def __init__(self) -> None:
        super().__init__()
        self.choices: list[mx.array] = []

    def sum_inside(self, values: mx.array) -> mx.array:
        self.choices.append(values)
        return values


def test_experts_are_balanced_over_all_processes(
    ui: tuple[MM15, Processor], screen: Path, tmp_path: Path
) -> None:
    """Rows apart, two batches a step: the mean of the gradients is that of one process
    with all rows. The router's losses weigh as much as the answers here."""
    model, one = MM15(with_experts(ui[0].config, **EVEN)), Noted()
    made = Pictures(model, ui[1], ("decoder",), 10**9)
    data = write(tmp_path / "data", screen, ROWS)
    samples = read_split(data, "train", ui[1]).samples
    make_trainable(model, Tuning("full"))
    batches = [collate(samples[:3]), collate(samples[3:])]
    loss, expected = loss_and_gradients(model, batches, made, one)
    counts = [b.count for b in batches]
    found, parts = mx.array(0.0), []
    for shares in ((samples[:2], samples[3:4]), (samples[2:3], samples[4:])):
        share, gradients = loss_and_gradients(
            model, [*map(collate, shares)], made, Told(2, counts, one.choices)
        )
        found = found + share
        parts.append(gradients)
    assert found.item() == pytest.approx(loss.item(), rel=1e-6)
    same_gradients(tree_map(lambda a, b: (a + b) / 2, *parts), expected)
