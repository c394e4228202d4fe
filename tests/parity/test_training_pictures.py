"""Twenty steps with pictures, every part trained, against convert/mm15_torch.

The same weights, through the production converter, the same rows and views, padding,
clipping and AdamW. Gradients pass the decoder, the connector and the encoder.
"""

from pathlib import Path
from types import SimpleNamespace
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
from mm15_mlx.convert.mm15 import convert_mm15
from mm15_mlx.convert.mm15_torch.model import MM15 as Reference
from mm15_mlx.dataset import Sample
from mm15_mlx.lora import make_trainable, trained_tensors
from mm15_mlx.mixture import draws_of
from mm15_mlx.train_config import TrainConfig, optimizer
from mm15_mlx.trainer import Progress, Stop, Trainer, optimizer_like
from mm15_mlx.weights import load_model

from .conftest import Compare

pytestmark = pytest.mark.parity

STEPS, SIDE, TOKENS = 20, 42, 4
PARTS = ("decoder", "connector", "encoder")
CONFIG = ModelConfig(
    vision_config=VisionConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, image_size=42,
    ),
    connector_config=ConnectorConfig(num_visual_tokens=TOKENS, hidden_size=16, depth=1),
    text_config=TextConfig(
        hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=120,
        rope_theta=10_000.0, tie_word_embeddings=False,
    ),
    tiling=TilingConfig(tile_size=SIDE),
)  # fmt: skip


class Shown:
    """A picture of two views, as `PictureRef` and `TiledPicture` would be."""

    packing = np.arange(2 * TOKENS)
    picture = SimpleNamespace(path="none")

    def __init__(self, number: int) -> None:
        self.key = str(number)
        rng = np.random.default_rng(number)
        self.views = rng.standard_normal((2, SIDE, SIDE, 3)).astype(np.float32)

    def open(self, _: Any) -> "Shown":
        return self


class Views:
    """The processor, whose views are normalised already."""

    def groups(self, picture: Shown, size: int) -> Any:
        return (mx.array(x) for x in np.split(picture.views, len(picture.views)))


def rows() -> list[Sample]:
    """Six rows of unlike length, every other with a picture; answers learnt."""
    rng, made = np.random.default_rng(0), []
    for n in range(6):
        ids = rng.integers(5, 119, int(rng.integers(8, 16)))
        shown: tuple[Any, ...] = (Shown(n),) if n % 2 == 0 else ()
        image = [CONFIG.prompt.image_token_id] * (2 * TOKENS * len(shown))
        ids = np.concatenate([ids[:2], image, ids[2:]]).astype(np.int32)
        learnt = np.arange(len(ids)) >= len(ids) - 5
        made.append(Sample(f"row {n}", ids, learnt, shown, "all"))
    return made


def theirs(model: Reference, batches: Batches, config: TrainConfig) -> list[float]:
    samples = rows()
    parameters = list(model.parameters())
    adam = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.01)
    seen = []
    for step in range(STEPS):
        chosen = [samples[r] for r in batches.rows(step)]
        longest = max(len(s.ids) for s in chosen)
        ids = torch.zeros(len(chosen), longest, dtype=torch.long)
        labels = torch.full((len(chosen), longest), -100)
        for b, s in enumerate(chosen):
            row = torch.from_numpy(s.ids.astype(np.int64))
            ids[b, : len(row)] = row
            labels[b, : len(row)] = torch.where(torch.from_numpy(s.learnt), row, -100)
        views = [p.views for s in chosen for p in s.pictures]
        pixels = None
        if views:
            stacked = np.concatenate(views).transpose(0, 3, 1, 2)
            pixels = torch.from_numpy(stacked.copy())
        logits = model(ids, pixels, CONFIG.prompt.image_token_id)[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten()
        )
        adam.zero_grad()
        loss.backward()
        for parameter in parameters:  # of a batch without pictures: 0, and not skipped
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        adam.step()
        seen.append(loss.item())
    return seen


@torch.enable_grad()
def test_every_part_with_pictures(compare: Compare, tmp_path: Path) -> None:
    reference = Reference(CONFIG)  # as training begins; moved weights are too wild
    state = {k: v.detach().numpy() for k, v in reference.state_dict().items()}
    convert_mm15(state, CONFIG, tmp_path / "m")
    model, _ = load_model(tmp_path / "m")
    config = TrainConfig(
        fine_tune_type="full", train_parts=list(PARTS), batch_size=3, iters=STEPS,
        steps_per_report=1, learning_rate=1e-3, max_grad_norm=0.5, save_every=99,
    )  # fmt: skip
    make_trainable(model, config.tuning)
    before = {n: mx.array(x) for n, x in trained_tensors(model).items()}
    samples, told = rows(), []
    draws = draws_of(["all"] * len(samples), (), 0)
    batches = Batches(samples, draws, 3, 0, STEPS)
    processor: Any = Views()
    trainer = Trainer(
        model, optimizer(config), config, Pictures(model, processor, PARTS, 10**9),
        batches, [], lambda _: None, lambda row: told.append(row["loss"]),
    )  # fmt: skip
    optimizer_like(trainer.optimizer, model, None)
    trainer.run(Progress(0, 0, 0, "", {}), Stop())
    moved = {n for n, x in trained_tensors(model).items()
             if not mx.array_equal(x, before[n])}  # fmt: skip
    assert {n.partition(".")[0] for n in moved} == set(PARTS)
    expected = theirs(reference.train(), batches, config)
    assert expected[-1] < expected[0] - 0.3
    compare("training with pictures, every part: 20 losses of mm15_torch",
            mx.array(told), torch.tensor(expected), 1e-4)  # fmt: skip
