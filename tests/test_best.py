"""The best state of a run: tasks answered in training, and an end where none gain."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training import ROWS, run_settings, stop_after, write

from mm15_mlx import best, train, trainer
from mm15_mlx.best import Tasks, judged, measured, measures
from mm15_mlx.checkpointing import BEST, Checkpoints, Progress
from mm15_mlx.config import UserError
from mm15_mlx.evaluate import predictions, read_tasks, task_means
from mm15_mlx.load import load
from mm15_mlx.lora import ADAPTERS, Tuning, make_trainable
from mm15_mlx.metrics import progress_line, read_metrics
from mm15_mlx.trainer import recomputed

Cli = Callable[..., tuple[int, str, str]]
Settings = dict[str, Any]

TASKS = (
    {"id": 1, "image": "screen.png", "task": "ocr", "box": [0, 0, 9, 9], "text": "Yes"},
    {"id": 2, "image": "screen.png", "task": "tappable", "box": [20, 150, 100, 180],
     "answer": "yes"},
)  # fmt: skip


@pytest.fixture
def tasks(screen: Path, tmp_path: Path) -> Path:
    shutil.copy(screen, tmp_path / "screen.png")
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(t) + "\n" for t in TASKS))
    return path


@pytest.fixture
def settings(ui_folder: Path, screen: Path, tmp_path: Path) -> Settings:
    data = write(tmp_path / "data", screen, ROWS[2:4])
    return run_settings(ui_folder, data, tmp_path / "a") | {
        "batch_size": 1, "grad_accumulation_steps": 1, "train_parts": ["decoder"],
        "steps_per_eval": 1, "save_every": 99, "iters": 9,
    }  # fmt: skip


def test_a_gain_is_strict() -> None:
    progress = Progress(3, 0, 0, "", {})
    for value, expected in (
        (2.0, (2.0, 3, 0)), (2.0, (2.0, 3, 1)), (float("nan"), (2.0, 3, 2)),
        (1.5, (1.5, 3, 0)), (None, (1.5, 3, 0)),
    ):  # fmt: skip
        progress = judged(progress, "valid_loss", value)
        assert (progress.best, progress.best_step, progress.stale) == expected
    assert judged(progress, "ocr.exact", 1.6).best == 1.6  # of a metric more is better
    assert judged(progress, "ocr.exact", 1.4).stale == 1


def test_the_measure_may_have_dots(tasks: Path) -> None:
    assert measures(read_tasks(tasks)) == [
        "ocr.exact", "ocr.edit_similarity", "tappable.accuracy", "tappable.f1",
    ]  # fmt: skip
    means = {"find_text": {"acc@0.5": 0.25, "n": 4}}
    assert measured("find_text.acc@0.5", 3.0, means) == 0.25
    assert measured("valid_loss", 3.0, means) == 3.0
    line = progress_line({"step": 5, "tasks": means}, 10)
    assert line == "step 5/10 · find_text.acc@0.5 0.250"


def test_tasks_are_answered_by_the_model_as_it_is_now(
    ui_folder: Path, tasks: Path
) -> None:
    """Though the processor remembers pictures; without dropout; nothing of the
    recomputing of layers gets into the cache; and the model goes on training."""
    rows = read_tasks(tasks)
    model, processor = load(ui_folder)
    make_trainable(model, Tuning(parts=("decoder", "connector")))
    model.train()
    asked = Tasks(rows, model, processor)
    with recomputed(model.layers[0]):
        asked.means()
        for layer in model.layers:
            layer.mlp.up_proj.lora_b += 0.3
        model.connector.readout[0].weight *= -2
        found = asked.means()
    assert model.training
    model.eval()
    _, fresh = load(ui_folder)
    assert found == task_means(list(predictions(model, fresh, rows)))


def test_a_run_ends_where_nothing_is_gained(
    settings: Settings, tmp_path: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a stopped one resumes with the same patience and the same best."""
    scores = {1: 0.1, 2: 0.5, 3: 0.5, 4: 0.2, 5: 0.4, 6: 0.9}
    steps: list[int] = []

    def means(self: Tasks) -> best.Means:
        return {"ocr": {"exact": scores[steps[-1]], "n": 1}}

    real = trainer.Trainer._evaluated

    def evaluated(self: trainer.Trainer, progress: Progress) -> Progress:
        steps.append(progress.step)
        return real(self, progress)

    monkeypatch.setattr(Tasks, "means", means)
    monkeypatch.setattr(trainer.Trainer, "_evaluated", evaluated)
    settings |= {"eval_data": str(tasks), "save_best": "ocr.exact", "patience": 3}
    report, status = train.run(settings)
    assert status == 0 and report["finish_reason"] == "patience"
    assert (report["steps"], report["best"], report["best_step"]) == (5, 0.5, 2)
    folder = tmp_path / "a"
    assert read_metrics(folder / "metrics.jsonl")[-1] == {
        "step": 5, "finish_reason": "patience"
    }  # fmt: skip
    at_best = folder / "checkpoints" / "step-0000002" / ADAPTERS
    assert (folder / BEST / ADAPTERS).read_bytes() == at_best.read_bytes()
    assert at_best.read_bytes() != (folder / ADAPTERS).read_bytes()
    load(settings["model"], adapter_path=folder / BEST)

    broken = tmp_path / "b"
    settings["adapter_path"] = str(broken)
    with monkeypatch.context() as patch:
        stop_after(3, 15, patch)
        again, status = train.run(settings)
    assert status == 130 and again["finish_reason"] == "stopped"
    again, _ = train.run(settings, resume=True)
    same = ("steps", "finish_reason", "best", "best_step", "loss")
    assert [again[k] for k in same] == [report[k] for k in same]
    for name in (ADAPTERS, f"{BEST}/{ADAPTERS}"):
        assert (broken / name).read_bytes() == (folder / name).read_bytes()
    kinds = ("valid_loss", "tasks", "finish_reason")
    rows = [
        [{k: r[k] for k in ("step", *kinds) if k in r}
         for r in read_metrics(f / "metrics.jsonl") if "loss" not in r]
        for f in (folder, broken)
    ]  # fmt: skip
    assert rows[0] == rows[1] and sum("tasks" in r for r in rows[0]) == 5

    # What has ended stays ended; more patience goes on.
    assert train.run(settings, resume=True)[0]["steps"] == 5
    more, _ = train.run(settings | {"patience": 4, "iters": 6}, resume=False,
                        force=True)  # fmt: skip
    assert (more["finish_reason"], more["best"], more["best_step"]) == ("iters", 0.9, 6)
    assert Checkpoints(broken).steps() == [6]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"save_best": "ocr"}, "save_best is 'ocr'; give valid_loss, or TASK.METRIC"),
        ({"save_best": "ocr.exact"}, "a metric of tasks; give them with --eval-data"),
        ({"patience": 0}, "patience is 0; it must be 1 or more"),
        ({"patience": 2}, "patience is 2, but .*data has no rows to validate; add"),
        ({"eval_data": "no.jsonl"}, "no.jsonl does not exist; give a JSONL file"),
        ({"eval_data": "tasks.jsonl", "save_best": "ocr.exakt"},
         "save_best is 'ocr.exakt'; tasks.jsonl measures ocr.exact, ocr.edit_simil"),
    ],
)  # fmt: skip
def test_mistakes(
    change: Settings, message: str, settings: Settings, tasks: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        train.run(settings | change)
    assert not (tmp_path / "a").exists()


def test_other_tasks_are_other_data(settings: Settings, tasks: Path) -> None:
    settings |= {"eval_data": str(tasks), "iters": 1, "lr_schedule": None}
    train.run(settings)
    tasks.write_text(tasks.read_text().replace("Yes", "No"))
    with pytest.raises(UserError, match="have changed since the checkpoint, or the ta"):
        train.run(settings, resume=True)
