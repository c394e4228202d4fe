"""Twenty steps of training against PyTorch: transformers' Llama, in full and with PEFT.

The same tiny weights, rows, padding, clipping, schedule and optimizer on both sides;
only the losses are compared, and that after every step all before it were right.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from mm15_mlx.batches import Batches, Pictures
from mm15_mlx.config import (
    ConnectorConfig,
    ModelConfig,
    TextConfig,
    TilingConfig,
    VisionConfig,
)
from mm15_mlx.convert.decoders import DECODERS
from mm15_mlx.dataset import Sample
from mm15_mlx.lora import adapted, make_trainable
from mm15_mlx.mixture import draws_of
from mm15_mlx.mm15 import MM15
from mm15_mlx.train_config import TrainConfig, optimizer
from mm15_mlx.trainer import Progress, Stop, Trainer, optimizer_like

from .conftest import Compare
from .references import load_saved, randomise

pytestmark = pytest.mark.parity

STEPS = 20
RANK, SCALE = 4, 8.0
SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 112, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 101,
}  # fmt: skip
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rows() -> list[Sample]:
    """Rows of 9 to 30 tokens without pictures; the last third of each is learnt, and
    in every other row a part before that, as a first answer."""
    rng = np.random.default_rng(0)
    made = []
    for n in range(12):
        length = int(rng.integers(9, 31))
        ids = rng.integers(5, 101, length).astype(np.int32)
        learnt = np.arange(length) >= length - length // 3
        if n % 2:
            learnt[2:5] = True
        made.append(Sample(f"row {n}", ids, learnt, (), "all"))
    return made


@torch.no_grad()
def llama(folder: Path) -> tuple[torch.nn.Module, MM15]:
    """A random Llama, and our model whose decoder has its weights."""
    import transformers

    config = transformers.LlamaConfig(
        **SIZES, head_dim=16, tie_word_embeddings=False, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = randomise(transformers.LlamaForCausalLM(config))
    text = TextConfig(
        **SIZES, head_dim=16, rope_theta=1e4, qk_norm=False, tie_word_embeddings=False
    )
    vision = VisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=1, image_size=28,
    )  # fmt: skip
    connector = ConnectorConfig(num_visual_tokens=4, hidden_size=8, depth=1)
    tiling = TilingConfig(tile_size=28)
    model = MM15(ModelConfig(vision, connector, text, tiling))
    rules = DECODERS["llama"](text, r"model\.", "lm_head")
    load_saved(folder, theirs, rules, decoder=model.decoder)
    return theirs, model


def train_ours(model: MM15, config: TrainConfig) -> tuple[list[float], Batches]:
    told: list[float] = []
    samples = rows()
    batches = Batches(samples, draws_of(["all"] * len(samples), (), 0), 3, 0, STEPS)
    trainer = Trainer(
        model, optimizer(config), config, Pictures(model, None, ("decoder",), 1),
        batches, [], lambda _: None, lambda row: told.append(row["loss"]),
    )  # fmt: skip
    optimizer_like(trainer.optimizer, model, None)
    trainer.run(Progress(0, 0, 0, "", {}), Stop())
    return told, batches


def theirs_step(model: torch.nn.Module, samples: list[Sample]) -> torch.Tensor:
    """transformers' own loss: right padding masked, labels -100 where not learnt."""
    longest = max(len(s.ids) for s in samples)
    ids = torch.zeros(len(samples), longest, dtype=torch.long)
    labels = torch.full((len(samples), longest), -100)
    mask = torch.zeros(len(samples), longest, dtype=torch.long)
    for b, s in enumerate(samples):
        row = torch.from_numpy(s.ids.astype(np.int64))
        ids[b, : len(row)], mask[b, : len(row)] = row, 1
        labels[b, : len(row)] = torch.where(torch.from_numpy(s.learnt), row, -100)
    return model(input_ids=ids, attention_mask=mask, labels=labels).loss


def train_theirs(
    model: torch.nn.Module, batches: Batches, config: TrainConfig
) -> list[float]:
    samples = rows()
    parameters = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.01)
    seen = []
    for step in range(STEPS):
        # mlx-lm's linear warm-up of 5 steps, then constant
        adam.param_groups[0]["lr"] = config.learning_rate * min(step / 5, 1)
        loss = theirs_step(model, [samples[r] for r in batches.rows(step)])
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        adam.step()
        seen.append(loss.item())
    return seen


def settings(kind: str) -> TrainConfig:
    return TrainConfig(
        fine_tune_type=kind, batch_size=3, iters=STEPS, steps_per_report=1,
        learning_rate=5e-3, max_grad_norm=0.5, save_every=99,
        lora_parameters={"rank": RANK, "scale": SCALE, "dropout": 0.0},
        lr_schedule={
            "name": "linear_schedule", "arguments": [5e-3, 5e-3, 99], "warmup": 5
        },
    )  # fmt: skip


def same_losses(
    compare: Compare, what: str, model: MM15, theirs: torch.nn.Module,
    config: TrainConfig,
) -> None:  # fmt: skip
    told, batches = train_ours(model, config)
    theirs.train()
    expected = train_theirs(theirs, batches, config)
    assert expected[-1] < expected[0] - 0.3
    compare(what, mx.array(told), torch.tensor(expected), 1e-4)


@torch.enable_grad()
def test_full_fine_tuning(compare: Compare, tmp_path: Path) -> None:
    theirs, model = llama(tmp_path)
    theirs.requires_grad_(True)
    config = settings("full")
    make_trainable(model, config.tuning)
    same_losses(compare, "training in full: 20 losses of LlamaForCausalLM", model,
                theirs, config)  # fmt: skip


@torch.enable_grad()
def test_lora(compare: Compare, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs peft, the reference of LoRA")
    theirs, model = llama(tmp_path)
    config = settings("lora")
    make_trainable(model, config.tuning)
    # alpha is PEFT's word for scale times rank
    theirs = peft.get_peft_model(theirs, peft.LoraConfig(
        r=RANK, lora_alpha=SCALE * RANK, target_modules=TARGETS, lora_dropout=0.0
    ))  # fmt: skip
    modules = dict(theirs.base_model.model.model.named_modules())
    for path, layer in adapted(model).items():
        reference = modules[path.removeprefix("decoder.")]
        with torch.no_grad():
            a = torch.from_numpy(np.array(layer.lora_a))
            reference.lora_A["default"].weight.copy_(a.T)
    same_losses(compare, "training with LoRA: 20 losses of PEFT on Llama", model,
                theirs, config)  # fmt: skip
