"""The loss and the loop: what is learnt, what leaks, what stops a run."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from training import ROWS, same_gradients, with_experts, write

from mm15_mlx import trainer
from mm15_mlx.batches import Batches, Pictures, collate
from mm15_mlx.config import ModelConfig
from mm15_mlx.dataset import Sample, read_split
from mm15_mlx.load import load
from mm15_mlx.lora import LoraParameters, Tuning, make_trainable, trained_tensors
from mm15_mlx.mixture import draws_of
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.train_config import TrainConfig, optimizer
from mm15_mlx.trainer import loss_and_gradients, losses, recomputed


@pytest.fixture
def samples(ui_folder: Path, screen: Path, tmp_path: Path) -> list[Sample]:
    _, processor = load(ui_folder)
    return read_split(write(tmp_path / "d", screen, ROWS), "train", processor).samples


def pictures(
    ui: tuple[MM15, Processor],
    parts: tuple[str, ...] = ("decoder",),
    limit: int = 10**9,
) -> Pictures:
    return Pictures(*ui, parts, limit)


def loss_of(ui: tuple[MM15, Processor], samples: list[Sample], **kw: Any) -> float:
    made = pictures(ui, **kw)
    batch = collate(samples)
    text, _ = losses(ui[0], batch, made, made.fetch(batch.pictures))
    return float(text.item())


def test_batches_hold_what_is_learnt(samples: list[Sample]) -> None:
    batch = collate(samples[2:4])
    assert batch.count == sum(int(s.learnt.sum()) for s in samples[2:4])
    flat = batch.ids.reshape(-1).tolist()
    places = batch.places.tolist()
    assert [flat[p + 1] for p in places] == batch.targets.tolist()
    assert batch.length == sum(len(s.ids) for s in samples[2:4])
    first = len(samples[2].ids)
    assert not batch.ids[0, first:].any() if first < batch.ids.shape[1] else True


def test_a_first_token_is_never_predicted() -> None:
    ids = np.array([7, 8, 9], np.int32)
    batch = collate([Sample("r", ids, np.ones(3, bool), (), "all")])
    assert batch.places.tolist() == [0, 1] and batch.targets.tolist() == [8, 9]


def test_rows_do_not_leak_into_each_other(
    ui: tuple[MM15, Processor], samples: list[Sample]
) -> None:
    alone = sum(loss_of(ui, [s]) for s in samples)
    assert loss_of(ui, samples) == pytest.approx(alone, rel=1e-5)
    assert loss_of(ui, samples[::-1]) == pytest.approx(alone, rel=1e-5)


def test_the_loss_is_that_of_the_logits(
    ui: tuple[MM15, Processor], samples: list[Sample], screen: Path
) -> None:
    """By a user's own path: the whole prompt through the model, tokens one by one."""
    model, processor = ui
    sample = samples[0]
    views = processor.pixels(processor.prepare("a", [screen]).images[0])
    logits = model(mx.array(sample.ids)[None], views)[0]
    scores = np.array(nn.log_softmax(logits, axis=-1))
    by_hand = -sum(scores[i - 1, sample.ids[i]] for i in np.flatnonzero(sample.learnt))
    assert loss_of(ui, [sample]) == pytest.approx(float(by_hand), rel=1e-5)


FAMILIES: list[dict[str, Any]] = [
    {},
    {"tie_word_embeddings": True},
    {"num_experts": 4, "moe_intermediate_size": 32},
    {"attention_bias": True, "hidden_act": "gelu", "qk_norm": False},
]


@pytest.mark.parametrize("change", FAMILIES, ids=str)
def test_training_is_causal(change: dict[str, Any], tiny_config: ModelConfig) -> None:
    text = dataclasses.replace(tiny_config.text_config, **change)
    mx.random.seed(0)
    model = MM15(dataclasses.replace(tiny_config, text_config=text))
    make_trainable(model, Tuning())
    model.train()
    ids = mx.random.randint(5, 96, (2, 12))
    other = mx.concatenate([ids[:, :-1], (ids[:, -1:] + 1) % 90 + 5], axis=1)
    (a, _), (b, _) = (
        model.decoder.with_router_logits(x, None, model.embed_inputs(x))
        for x in (ids, other)
    )
    moved = mx.abs(a - b).max(axis=(0, 2))
    assert moved[:-1].max() <= 1e-6 and moved[-1] > 1e-3


def test_router_losses_are_learnt_from(tiny_config: ModelConfig) -> None:
    model = MM15(with_experts(tiny_config))
    ids = np.array([7, 8, 9, 10], np.int32)
    batch = collate([Sample("r", ids, np.ones(4, bool), (), "all")])
    _, extra = losses(model, batch, pictures((model, None)), [])
    assert extra.item() > 0.01  # a perfect balance gives the weight of the loss itself


def test_many_small_batches_are_one_large_one(
    ui: tuple[MM15, Processor], samples: list[Sample]
) -> None:
    model, made = ui[0], pictures(ui)
    make_trainable(model, Tuning())
    whole, expected = loss_and_gradients(model, [collate(samples)], made)
    parts = [collate(samples[:1]), collate(samples[1:4]), collate(samples[4:])]
    loss, found = loss_and_gradients(model, parts, made)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
    same_gradients(found, expected)


@pytest.mark.parametrize("parts", [("decoder",), ("connector",), ("encoder",)])
def test_what_is_kept_of_a_picture_changes_nothing(
    parts: tuple[str, ...], ui: tuple[MM15, Processor], samples: list[Sample]
) -> None:
    chosen = samples[:2]
    assert loss_of(ui, chosen, parts=parts) == pytest.approx(
        loss_of(ui, chosen), rel=1e-5
    )
    made = pictures(ui, parts)
    for _ in range(3):
        made.fetch(samples[0].pictures + samples[1].pictures)
    assert made.computed == 1
    small = pictures(ui, parts, limit=1)
    assert mx.array_equal(
        small.fetch(samples[0].pictures)[0][0], made.fetch(samples[0].pictures)[0][0]
    )


def test_gradients_reach_the_parts_that_train(
    ui: tuple[MM15, Processor], samples: list[Sample]
) -> None:
    model, parts = ui[0], ("connector", "encoder")
    make_trainable(model, Tuning(parts=parts))
    made = pictures(ui, parts)
    _, gradients = loss_and_gradients(model, [collate(samples[:1])], made)
    flat = dict(tree_flatten(gradients))
    assert {n.partition(".")[0] for n in flat} == set(parts)
    assert mx.abs(flat["encoder.layers.0.mlp.fc1.weight"]).max() > 0
    assert mx.abs(flat["connector.readout.0.weight"]).max() > 0


def test_recomputing_changes_no_number(
    ui: tuple[MM15, Processor], samples: list[Sample]
) -> None:
    model, made = ui[0], pictures(ui)
    make_trainable(model, Tuning())
    plain, expected = loss_and_gradients(model, [collate(samples)], made)
    call = type(model.layers[0]).__call__
    with recomputed(model.layers[0]):
        assert type(model.layers[0]).__call__ is not call
        loss, found = loss_and_gradients(model, [collate(samples)], made)
    assert type(model.layers[0]).__call__ is call
    assert loss.item() == plain.item()
    for (_, a), (_, b) in zip(tree_flatten(expected), tree_flatten(found), strict=True):
        assert mx.abs(a - b).max() <= 1e-5


def test_dropout_drops_the_same_when_it_is_recomputed(
    ui: tuple[MM15, Processor], samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradients are those of the very function whose value the loss is."""
    model, made = ui[0], pictures(ui)
    make_trainable(model, Tuning(lora_parameters=LoraParameters(8, dropout=0.5)))
    for layer in model.layers:
        layer.mlp.up_proj.lora_b += 0.1
    model.train()
    found = []
    with recomputed(model.layers[0]):
        for checkpoint in (trainer.mx.checkpoint, lambda f: f):
            monkeypatch.setattr(trainer.mx, "checkpoint", checkpoint)
            mx.random.seed(5)
            loss, gradients = loss_and_gradients(model, [collate(samples)], made)
            found.append((loss.item(), gradients))
    assert found[0][0] == found[1][0]
    same_gradients(found[0][1], found[1][1])


# --- the loop ---------------------------------------------------------------------


def run(
    ui: tuple[MM15, Processor], samples: list[Sample], **settings: Any
) -> tuple[trainer.Trainer, list[dict[str, Any]], list[trainer.Progress]]:
    """A trainer of these rows, what it tells, and what it saves."""
    config = TrainConfig(**{"iters": 12, "steps_per_report": 1} | settings)
    mx.random.seed(0)
    make_trainable(ui[0], config.tuning)
    told: list[dict[str, Any]] = []
    saved: list[trainer.Progress] = []
    draws = draws_of([s.category for s in samples], (), 0)
    batches = Batches(samples, draws, config.batch_size, 0, config.iters)
    made = trainer.Trainer(
        ui[0], optimizer(config), config, pictures(ui, tuple(config.train_parts)),
        batches, [collate(samples)], saved.append, told.append,
    )  # fmt: skip
    trainer.optimizer_like(made.optimizer, ui[0], None)
    return made, told, saved


START = trainer.Progress(0, 0, 0, "", {})


@pytest.mark.parametrize("name", ["adamw", "adafactor", "muon"])
def test_every_optimizer_learns(
    name: str, ui: tuple[MM15, Processor], samples: list[Sample]
) -> None:
    made, told, _ = run(ui, samples, optimizer=name, learning_rate=3e-3)
    frozen = {n: x for n, x in tree_flatten(ui[0].parameters()) if "lora" not in n}
    made.run(START, trainer.Stop())
    seen = [r["loss"] for r in told if "loss" in r]
    assert seen[-1] < seen[0] - 0.1
    after = dict(tree_flatten(ui[0].parameters()))
    assert all(mx.array_equal(x, after[n]) for n, x in frozen.items())


def test_parts_have_their_own_rates(
    ui: tuple[MM15, Processor], samples: list[Sample]
) -> None:
    made, _, _ = run(
        ui, samples[:1], train_parts=["decoder", "connector"], iters=2, batch_size=1,
        part_learning_rates={"connector": 0.0}, learning_rate=1e-2,
    )  # fmt: skip
    before = {n: mx.array(x) for n, x in trained_tensors(ui[0]).items()}
    made.run(START, trainer.Stop())
    moved = {
        n.partition(".")[0]
        for n, x in trained_tensors(ui[0]).items()
        if not mx.array_equal(x, before[n])
    }
    assert moved == {"decoder"}


def test_gradients_are_clipped(
    ui: tuple[MM15, Processor], samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, told, _ = run(ui, samples, iters=1, max_grad_norm=0.25)
    norms = []

    def update(_: MM15, gradients: Any) -> None:
        squares = [x.square().sum().item() for _, x in tree_flatten(gradients)]
        norms.append(math.sqrt(sum(squares)))

    monkeypatch.setattr(made.optimizer, "update", update)
    made.run(START, trainer.Stop())
    assert told[0]["grad_norm"] > 0.25  # that before it was clipped
    assert norms == [pytest.approx(0.25, rel=1e-3)]


def test_what_is_told_and_saved(
    ui: tuple[MM15, Processor], samples: list[Sample]
) -> None:
    made, told, saved = run(
        ui, samples, iters=7, steps_per_report=3, steps_per_eval=5, save_every=4,
        batch_size=1, learning_rate=1e-3,
    )  # fmt: skip
    end, reason = made.run(START, trainer.Stop())
    assert reason == "iters"
    assert [r["step"] for r in told if "loss" in r] == [3, 6, 7]
    assert [r["step"] for r in told if "valid_loss" in r] == [5, 7]
    assert [p.step for p in saved][:2] == [4, 5] and saved[-1].step == 7 == end.step
    assert end.tokens == told[-2]["learnt_tokens"] < end.read
    assert end.best == min(r["valid_loss"] for r in told if "valid_loss" in r)


@pytest.mark.parametrize(
    ("loss", "scale", "message"),
    [(math.nan, 1.0, "the loss is nan at step 3, of"), (2.0, math.inf, "gradient is ")],
)
def test_numbers_that_are_not_finite_stop_the_run(
    loss: float,
    scale: float,
    message: str,
    ui: tuple[MM15, Processor],
    samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, _, saved = run(ui, samples, batch_size=2, learning_rate=1e-3)
    real, calls = trainer.loss_and_gradients, []

    def broken(*arguments: Any) -> Any:
        calls.append(1)
        value, gradients = real(*arguments)
        if len(calls) < 3:
            return value, gradients
        return mx.array(loss), trainer.tree_map(lambda g: g * scale, gradients)

    monkeypatch.setattr(trainer, "loss_and_gradients", broken)
    with pytest.raises(trainer.TrainError, match=message) as error:
        made.run(START, trainer.Stop())
    error.match(r"of the rows train.jsonl, row \d; train.jsonl, row \d; the state")
    error.match("after step 2 is kept: look at those rows, or start again with a lower")
    assert [p.step for p in saved] == [2]
    state = (ui[0].trainable_parameters(), made.optimizer.state)
    assert all(mx.isfinite(x).all() for _, x in tree_flatten(state))


def test_a_model_that_is_not_finite_is_not_kept(
    ui: tuple[MM15, Processor], samples: list[Sample]
) -> None:
    made, _, saved = run(ui, samples)
    ui[0].decoder.layers[0].mlp.up_proj.lora_a *= math.inf
    with pytest.raises(
        trainer.TrainError, match="nan at step 1, .*nothing was trained"
    ):
        made.run(START, trainer.Stop())
    assert saved == []


def test_dropout_is_off_in_validation(
    ui: tuple[MM15, Processor], samples: list[Sample]
) -> None:
    make_trainable(ui[0], Tuning(lora_parameters=LoraParameters(8, dropout=0.5)))
    for layer in ui[0].layers:
        layer.mlp.up_proj.lora_b += 1.0
    ui[0].train()
    batch = collate(samples)
    values = [trainer.evaluate(ui[0], [batch], pictures(ui)) for _ in range(2)]
    assert values[0] == values[1] and ui[0].training
    other = [loss_of(ui, samples) for _ in range(2)]
    assert other[0] != other[1]
