"""Drift: what the source model says, how far others are from it, and bits by need."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mm15_mlx import drift
from mm15_mlx.evaluate import predictions
from mm15_mlx.mm15 import MM15
from mm15_mlx.quantize import Quantisation


def rows_of(model: MM15, processor: Any, screen: Path) -> list[drift.Row]:
    questions = ["Where is the button?", "What is on this screen?", "Read the text."]
    rows = [
        drift.Row(processor.prepare(q, [screen]), [20 + i, 31, 42, 53][: 4 - i])
        for i, q in enumerate(questions)
    ]
    return [*rows, drift.Row(processor.prepare("Hi", []), [60, 61])]


def test_log_probs_are_those_of_the_whole_model(
    ui: tuple[MM15, Any], screen: Path
) -> None:
    """Row by row without a cache, and answers fed to the model itself."""
    model, processor = ui
    rows = rows_of(model, processor, screen)
    found = drift.log_probs(model, processor, rows, {})
    for row, logs in zip(rows, found, strict=True):
        ids = mx.array([[*row.prepared.ids, *row.answer[:-1]]])
        pixels = [processor.pixels(p) for p in row.prepared.images]
        logits = model(ids, mx.concatenate(pixels) if pixels else None)
        expected = nn.log_softmax(logits[0, -len(row.answer) :], axis=-1)
        assert logs.shape == expected.shape == (len(row.answer), 1400)
        assert mx.allclose(logs, expected, atol=1e-4).item()


def test_a_model_does_not_drift_from_itself(ui: tuple[MM15, Any], screen: Path) -> None:
    model, processor = ui
    rows = rows_of(model, processor, screen)
    first = drift.log_probs(model, processor, rows, {})
    found = drift.divergence(first, drift.log_probs(model, processor, rows, {}))
    assert found.kl.shape == (4 + 3 + 2 + 2,) and found.kl.max() == 0
    assert found.report() == {
        "kl_mean": 0.0, "kl_max": 0.0, "same_token": 1.0, "tokens": 11, "rows": 4,
    }  # fmt: skip


def test_divergence_by_hand() -> None:
    p, q = mx.log(mx.array([[0.5, 0.5]])), mx.log(mx.array([[0.25, 0.75]]))
    found = drift.divergence([p, q], [q, q])
    assert np.allclose(found.kl, [0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0])
    backwards = drift.divergence([q], [p])
    assert np.allclose(backwards.kl, [0.25 * np.log(0.5) + 0.75 * np.log(1.5)])
    assert found.same.tolist() == [False, True] and backwards.rows == 1


def test_fewer_bits_drift_further(ui: tuple[MM15, Any], screen: Path) -> None:
    model, processor = ui
    rows = rows_of(model, processor, screen)
    source = drift.log_probs(model, processor, rows, {})
    modules = dict(model.named_modules())
    path = "decoder.layers.1.self_attn.o_proj"
    means = []
    for bits in (8, 5, 2):
        way = {path: Quantisation(bits, 32)}
        before = modules[path].weight
        means.append(drift.sensitivities(model, processor, rows, way)[path])
        assert modules[path].weight is before
    assert 0 < means[0] < means[1] < means[2]
    again = drift.log_probs(model, processor, rows, {})
    assert drift.divergence(source, again).kl.max() == 0, "left as it was"


def test_an_encoder_layer_is_measured_with_fresh_features(
    ui: tuple[MM15, Any], screen: Path
) -> None:
    model, processor = ui
    rows = rows_of(model, processor, screen)[:1]
    way = {"encoder.layers.0.mlp.fc1": Quantisation(2, 32)}
    assert drift.sensitivities(model, processor, rows, way).popitem()[1] > 0


def test_shared_beginnings() -> None:
    assert drift.shared([[1, 2, 3, 4], [1, 2, 5, 6], [1, 2, 3]]) == 2
    assert drift.shared([[1, 2, 3]]) == 2 and drift.shared([[1], [1]]) == 0


def test_the_usual_questions_need_no_example(
    ui: tuple[MM15, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = ui
    monkeypatch.setattr(drift, "EXAMPLE", tmp_path / "none.png")
    monkeypatch.setattr(drift, "ANSWER_TOKENS", 3)
    rows = drift.usual_rows(model, processor)
    assert len(rows) == 13 and all(0 < len(r.answer) <= 3 for r in rows)
    size = rows[0].prepared.images[0].picture.size
    assert size == drift.drawn_screen().size == (780, 1688)
    assert len({r.pictures for r in rows}) == 1


# --- the allocation --------------------------------------------------------------

LADDER = tuple(Quantisation(bits) for bits in (3, 4, 5, 6, 8))


@pytest.mark.parametrize("target", [3.5, 3.7, 4.5, 5.2, 6.6, 8.5])
def test_the_target_is_met_from_below(target: float) -> None:
    rng = np.random.default_rng(0)
    kl = {f"layer{i}": float(10 ** rng.uniform(-4, 0)) for i in range(40)}
    sizes = {path: int(rng.integers(1, 5)) * 64_000 for path in kl}
    ways = drift.allocate(kl, sizes, LADDER, target, 2)
    bits = sum(w.bits_per_weight() * sizes[p] for p, w in ways.items())
    assert target - 0.1 < bits / sum(sizes.values()) <= target + 1e-9


def test_what_matters_more_has_more_bits() -> None:
    kl = {"little": 1e-6, "some": 1e-3, "much": 1.0}
    ways = drift.allocate(kl, dict.fromkeys(kl, 64), LADDER, 5.5, 2)
    assert ways["little"].bits < ways["some"].bits < ways["much"].bits
    # Of two that matter alike, the smaller is cheaper to improve.
    sizes = {"big": 4096, "small": 64}
    ways = drift.allocate(dict.fromkeys(sizes, 0.1), sizes, LADDER, 4.0, 2)
    assert ways["small"].bits > ways["big"].bits


def test_tasks_are_spread_evenly(
    ui: tuple[MM15, Any], screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = ui
    monkeypatch.setattr(drift, "ANSWER_TOKENS", 3)
    tasks = [
        {"id": q, "image": str(screen), "task": "find_widget", "query": q,
         "box": [0, 0, 9, 9]}
        for q in ("button", "switch", "icon", "list")
    ]  # fmt: skip
    done = list(predictions(model, processor, tasks))
    rows = drift.task_rows(processor, done, 2)
    assert [r.answer for r in rows] == [done[i].result.tokens[:3] for i in (0, 2)]
    expected = processor.prepare("Where is the icon?", [str(screen)]).ids
    assert rows[1].prepared.ids == expected
    first, second = (row.prepared.images[0].picture for row in rows)
    assert first is second, "a picture is in memory once"
