"""`quantize --dwq`: scales and biases that learn what the source says."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from PIL import Image
from test_drift import rows_of

from mm15_mlx import distil, drift
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.quantize import Quantisation, choose, stored_parameters
from mm15_mlx.weights import load_model

Cli = Callable[..., tuple[int, str, str]]
UI = tuple[MM15, Processor]


@pytest.fixture
def lesson(ui: UI, screen: Path) -> list[distil.Target]:
    """What the floating model says: eight answers, one of them without a picture."""
    rows = rows_of(*ui, screen)
    return distil.targets(*ui, [*rows, *rows])


@pytest.fixture
def pupil(ui: UI, lesson: list[distil.Target]) -> distil.Pupil:
    """The same model, its text in 2 bits."""
    model, processor = ui
    ways = choose(model, dict.fromkeys(("decoder", "head"), Quantisation(2, 32))).ways
    nn.quantize(
        model, class_predicate=lambda p, _: p in ways and dataclasses.asdict(ways[p])
    )
    return distil.Pupil(model, processor, distil.teachable(ways))


def test_a_target_is_the_likeliest_words(
    ui: UI, screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distil, "KEPT", 5)
    monkeypatch.setattr(distil, "AT_ONCE", 3)  # of four rows
    rows = rows_of(*ui, screen)
    whole = drift.log_probs(*ui, rows, {})
    found = distil.targets(*ui, rows)
    assert [t.row for t in found] == rows
    for target, logs in zip(found, whole, strict=True):
        assert target.words.shape == (logs.shape[0], 5)
        best = mx.sort(logs, axis=-1)[:, -5:]
        assert mx.allclose(mx.sort(target.logs, axis=-1), best, atol=1e-5).item()


def test_a_model_has_nothing_to_learn_from_itself(
    ui: UI, lesson: list[distil.Target]
) -> None:
    pupil = distil.Pupil(*ui, [])
    assert pupil.mean(lesson) == pytest.approx(0, abs=1e-5)


def test_gradients_are_those_of_the_divergence(
    pupil: distil.Pupil, lesson: list[distil.Target]
) -> None:
    theta = pupil.zero()
    batch = lesson[:2]
    value, gradients = pupil.step(theta, batch)
    assert value == pytest.approx(pupil.mean(batch), rel=1e-4)
    path = "decoder.layers.1.mlp.down_proj"
    for name in ("scales", "biases"):
        gradient = gradients[path][name]
        direction = gradient / mx.sqrt(mx.square(gradient).sum())
        means = []
        for side in (1e-2, -1e-2):
            moved = {**theta, path: {**theta[path], name: side * direction}}
            pupil.put(moved)
            means.append(pupil.mean(batch))
        slope = (means[0] - means[1]) / 2e-2
        assert slope == pytest.approx((gradient * direction).sum().item(), rel=0.1)


def test_teaching_brings_it_closer(
    pupil: distil.Pupil,
    lesson: list[distil.Target],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distil, "LEARNING_RATE", 2e-2)  # few steps, large ones
    said: list[str] = []
    words = pupil.model.decoder.lm_head.weight
    before = pupil.tensors()
    report = distil.teach(pupil, lesson, 10, said.append)
    assert report["kl_after"] < 0.9 * report["kl_before"]
    assert (report["answers"], report["apart"], report["iters"]) == (7, 1, 10)
    assert pupil.mean(lesson[::8]) == pytest.approx(report["kl_after"], rel=1e-4)
    assert len(said) == 10 and said[-1].startswith("step 10 of 10: learnt ")
    assert mx.array_equal(pupil.model.decoder.lm_head.weight, words)
    moved = [n for n, a in pupil.tensors().items() if not mx.array_equal(a, before[n])]
    assert "decoder.layers.0.mlp.up_proj.scales" in moved
    assert "decoder.lm_head.biases" in moved


def test_what_makes_it_worse_is_not_kept(
    pupil: distil.Pupil,
    lesson: list[distil.Target],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distil, "LEARNING_RATE", 10.0)
    before = pupil.tensors()
    report = distil.teach(pupil, lesson, 3, lambda _: None)
    assert report["best_iter"] == 0 and report["kl_after"] == report["kl_before"]
    for name, array in pupil.tensors().items():
        assert mx.array_equal(array, before[name]), name


def test_what_is_taught() -> None:
    ways = {
        "decoder.layers.0.mlp.up_proj": Quantisation(4, 64),
        "decoder.layers.0.mlp.down_proj": Quantisation(8, 64),
        "decoder.embed_tokens": Quantisation(4, 32, "mxfp4"),
        "encoder.layers.0.mlp.fc1": Quantisation(4, 64),
    }
    assert distil.teachable(ways) == ["decoder.layers.0.mlp.up_proj"]


@pytest.fixture
def tasks(screen: Path, tmp_path: Path) -> Path:
    Image.open(screen).save(tmp_path / "a.png")
    rows = [
        {"id": q, "image": "a.png", "task": "find_widget", "query": q,
         "box": [0, 0, 9, 9]}
        for q in ("button", "switch", "icon", "list")
    ]  # fmt: skip
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_the_verb(
    ui_folder: Path,
    tasks: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drift, "ANSWER_TOKENS", 4)
    monkeypatch.setattr(distil, "LEARNING_RATE", 1e-2)
    flags = ("--q-bits", "2", "--q-group-size", "32", "--model", ui_folder, "--json")
    status, out, err = cli(
        "quantize", "--mlx-path", tmp_path / "t", "--dwq", tasks, "--dwq-iters", "6",
        *flags,
    )  # fmt: skip
    assert status == 0, err
    report = json.loads(out)["dwq"]
    assert report["answers"] == 3 and report["apart"] == 1 and report["best_iter"] > 0
    assert report["kl_after"] < report["kl_before"]
    line = next(x for x in err.splitlines() if x.startswith("taught  "))
    assert "3 answers, " in line and " of 6 steps kept: KL " in line
    assert line in (tmp_path / "t" / "README.md").read_text()
    assert not [p for p in (tmp_path / "t").iterdir() if p.is_dir()]
    assert cli("quantize", "--mlx-path", tmp_path / "q", *flags)[0] == 0
    taught, plain = (dict(stored_parameters(tmp_path / f)) for f in ("t", "q"))
    assert taught.keys() == plain.keys()
    changed = {n for n, a in taught.items() if not mx.array_equal(a, plain[n])}
    assert changed and all(n.endswith((".scales", ".biases")) for n in changed)
    assert all(n.startswith("decoder.layers.") for n in changed)
    load_model(tmp_path / "t")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dwq-iters", "5"), "--dwq-iters is about --dwq; give a JSONL file of"),
        (("--dwq", "TASKS", "--data", "TASKS"), "what a model was made for measures"),
        (("--dwq", "TASKS", "--q-bits", "8"), "--dwq teaches affine layers of the text"
         " below 8 bits, and there would be none; give --q-bits 4, or leave --dwq out"),
        (("--dwq", "ONE"), "one.jsonl has one task; give two at least, as some are "),
        (("--dwq", "none.jsonl"), "none.jsonl does not exist"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(
    ui_folder: Path,
    tasks: Path,
    tmp_path: Path,
    cli: Cli,
    flags: tuple[str, ...],
    message: str,
) -> None:
    one = tmp_path / "one.jsonl"
    one.write_text(tasks.read_text().splitlines()[0])
    given = [str({"TASKS": tasks, "ONE": one}.get(f, f)) for f in flags]
    status, out, err = cli(
        "quantize", "--model", ui_folder, "--mlx-path", tmp_path / "q",
        "--q-group-size", "32", *given,
    )  # fmt: skip
    assert (status, out) == (2, "") and message in err
    assert "the source model answers" not in err and not (tmp_path / "q").exists()
