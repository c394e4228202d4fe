"""The verb `train`: a run, its continuation bit for bit, and mistakes found early."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from PIL import Image
from training import ROWS, asked, pack, run_settings, stop_after, write

from mm15_mlx import train, trainer
from mm15_mlx.checkpoint import weight_files
from mm15_mlx.checkpointing import OPTIMIZER
from mm15_mlx.config import UserError
from mm15_mlx.lora import ADAPTERS
from mm15_mlx.metrics import progress_line, read_metrics, write_curve
from mm15_mlx.weights import load_model, save_model

Cli = Callable[..., tuple[int, str, str]]
Settings = dict[str, Any]


@pytest.fixture
def data(screen: Path, tmp_path: Path) -> Path:
    folder = write(tmp_path / "data", screen, ROWS)
    return write(folder, screen, ROWS[1:3], "valid")


@pytest.fixture
def settings(ui_folder: Path, data: Path, tmp_path: Path) -> Settings:
    return run_settings(ui_folder, data, tmp_path / "a")


def losses(folder: Path) -> list[tuple[int, str, float]]:
    """The losses of a run's metrics, in their order."""
    return [
        (r["step"], key, r[key])
        for r in read_metrics(folder / "metrics.jsonl")
        for key in ("loss", "valid_loss")
        if key in r
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_bit_for_bit(
    number: int, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    report, status = train.run(settings | {"adapter_path": str(whole)})
    assert status == 0 and report["steps"] == 6
    settings["adapter_path"] = str(broken)
    with monkeypatch.context() as patch:
        stop_after(3, number, patch)
        report, status = train.run(settings)
    assert status == 130 and report["steps"] == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    report, status = train.run(settings, resume=True)
    assert status == 0 and losses(broken) == losses(whole)
    for name in (ADAPTERS, OPTIMIZER):
        ends = [mx.load(str(f / f"checkpoints/step-0000006/{name}"))
                for f in (whole, broken)]  # fmt: skip
        assert ends[0].keys() == ends[1].keys()
        assert all(mx.array_equal(x, ends[1][n]) for n, x in ends[0].items()), name


def test_a_second_interrupt_ends_the_run() -> None:
    with trainer.Stop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_a_run_leaves(settings: Settings, tmp_path: Path, cli: Cli) -> None:
    report, _ = train.run(settings)
    folder = tmp_path / "a"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["fine_tune_type"] == "lora" and config["num_layers"] == -1
    assert config["trained_parts"] == ["decoder", "connector"]
    kept = sorted(p.name for p in (folder / "checkpoints").iterdir())
    best = f"step-{report['best_step']:07d}"
    assert kept == sorted({best, "step-0000006"})
    last = folder / "checkpoints" / "step-0000006" / ADAPTERS
    assert last.read_bytes() == (folder / ADAPTERS).read_bytes()
    with Image.open(folder / "loss.png") as curve:
        assert curve.size == (900, 500)
    picture, words = (
        Path(settings["data"]) / "screen.png",
        ("--prompt", "What is this?"),
    )
    given = ("generate", "--model", settings["model"], "--image", picture, *words,
             "--max-tokens", "3")  # fmt: skip
    status, _, err = cli(*given, "--adapter-path", folder)
    # 21 layers of the decoder, and every module of the connector that has numbers
    assert status == 0 and re.search(r"applied (\d\d) modules", err)
    best_one = folder / "checkpoints" / best
    assert cli(*given, "--adapter-path", best_one)[0] == 0


# The random head alone cannot give any token more than a tenth.
KEYS = ["mlp.up_proj", "mlp.down_proj", "decoder.lm_head"]


def test_the_model_learns_what_it_is_told(
    settings: Settings, tmp_path: Path, cli: Cli, screen: Path
) -> None:
    """Sixty steps on one answer: the verb, the adapters, and the fused model say it."""
    write(Path(settings["data"]), screen, [asked("Say one", "Yes"), ROWS[2]])
    settings |= {"iters": 60, "learning_rate": 1e-2, "grad_accumulation_steps": 1,
                 "train_parts": ["decoder"], "steps_per_eval": 99,
                 "lora_parameters": {"scale": 4.0, "keys": KEYS}}  # fmt: skip
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    status, out, err = cli("train", "--config", config, "--json", "--iters", "61")
    report = json.loads(out)
    assert status == 0 and report["iters"] == 61 and report["loss"] < 0.2, err
    asking = ("generate", "--prompt", "Say one", "--model")
    folder = tmp_path / "a"
    assert cli(*asking, settings["model"])[1] != "Yes\n"
    assert cli(*asking, settings["model"], "--adapter-path", folder)[1] == "Yes\n"
    fused = tmp_path / "fused"
    status, _, err = cli("fuse", "--adapter-path", folder, "--save-path", fused)
    assert status == 0 and "applied 7 modules, 7 of them fused" in err
    assert cli(*asking, fused)[1] == "Yes\n"
    card = (fused / "README.md").read_text()
    assert "## Fine-tuned" in card and "Adapters (a) were fused" in card
    status, _, err = cli("fuse", "--adapter-path", folder, "--save-path", fused)
    assert status == 2 and "fused exists; choose another name or give --force" in err


def test_the_quantised_base_is_untouched(
    settings: Settings,
    ui_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Cli,
) -> None:
    packed = pack(ui_folder, tmp_path / "packed")
    real, models = train.load_model, []

    def load(folder: Path) -> Any:
        models.append(real(folder))
        return models[-1]

    monkeypatch.setattr(train, "load_model", load)
    settings |= {"model": str(packed), "iters": 4, "train_parts": ["decoder"]}
    train.run(settings)
    before = dict(tree_flatten(real(packed)[0].parameters()))
    after = {
        name.replace(".linear.", "."): x
        for name, x in tree_flatten(models[0][0].parameters())
        if "lora_" not in name
    }
    assert before.keys() == after.keys()
    assert sum(n.endswith(".scales") for n in after) == 21
    assert all(mx.array_equal(x, after[n]) for n, x in before.items())
    fused = tmp_path / "f"
    status, _, err = cli(
        "fuse", "--adapter-path", tmp_path / "a", "--save-path", fused
    )  # fmt: skip
    assert status == 0, err
    assert json.loads((fused / "config.json").read_text())["quantization"]["bits"] == 4
    assert real(fused)[0].layers[0].mlp.up_proj.bits == 4


def test_a_flag_recomputes_and_changes_no_loss(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[object] = []
    real = trainer.mx.checkpoint
    monkeypatch.setattr(trainer.mx, "checkpoint", lambda f: used.append(f) or real(f))
    settings |= {"iters": 3, "lora_parameters": {"rank": 4, "scale": 8.0}}
    train.run(settings)
    assert used == []
    train.run(settings | {"grad_checkpoint": True, "adapter_path": f"{tmp_path}/b"})
    assert used
    for one, two in zip(losses(tmp_path / "a"), losses(tmp_path / "b"), strict=True):
        assert one[:2] == two[:2] and one[2] == pytest.approx(two[2], rel=1e-5)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_fusing_keeps_the_types_of_the_folder(
    kind: str, settings: Settings, ui_folder: Path, tmp_path: Path, cli: Cli
) -> None:
    """bfloat16 in, bfloat16 out, whatever was trained in float32."""
    model, config = load_model(ui_folder)
    model.set_dtype(mx.bfloat16)
    half = tmp_path / "half"
    files = {"tokenizer.model": (ui_folder / "tokenizer.model").read_bytes()}
    save_model(half, model, config, files=files)
    settings |= {"model": str(half), "fine_tune_type": kind, "iters": 3}
    train.run(settings)
    status, _, err = cli(
        "fuse", "--adapter-path", tmp_path / "a", "--save-path", tmp_path / "f"
    )
    assert status == 0, err
    (before,), (after,) = (weight_files(p).values() for p in (half, tmp_path / "f"))
    assert {n: (s.dtype, s.shape) for n, s in before.items()} == {
        n: (s.dtype, s.shape) for n, s in after.items()
    }
    old, new = (dict(tree_flatten(load_model(p)[0].parameters()))
                for p in (half, tmp_path / "f"))  # fmt: skip
    changed = {n.partition(".")[0] for n in old if not mx.array_equal(old[n], new[n])}
    assert changed == {"decoder", "connector"}


def test_the_mixture_is_drawn_as_it_says(
    settings: Settings, data: Path, screen: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(data, screen, [r | {"category": "ui"} for r in ROWS[:2]])
    write(data, screen, [ROWS[2], ROWS[3] | {"category": "else"}], "words")
    settings["mixture"] = {"ui": 3, "text": {"weight": 1, "files": ["words.jsonl"]}}
    report, _ = train.run(settings | {"iters": 4})
    assert [(r["category"], r["drawn"]) for r in report["drawn"]] == [
        ("ui", 12), ("text", 4),
    ]  # fmt: skip
    assert "text           wanted  25.0%  drawn       4" in capsys.readouterr().err


# --- mistakes and words -----------------------------------------------------------


def test_a_bad_row_is_found_before_the_first_step(
    settings: Settings, data: Path, screen: Path, tmp_path: Path, cli: Cli
) -> None:
    write(data, screen, [*ROWS, asked("a", ""), asked("b", "c", "no.png")])
    status, _, err = cli("train", "--data", data, "--model", settings["model"],
                         "--adapter-path", tmp_path / "a")  # fmt: skip
    assert status == 2 and not (tmp_path / "a").exists()
    assert "error: 2 of 9 rows are bad, and nothing was trained; mend them or" in err
    assert "train.jsonl, row 6: an empty answer" in err and "no.png does not" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": ""}, "there is no training data; give --data DIR"),
        ({"data": "nowhere"}, "--data nowhere is no folder; give one with train.jsonl"),
        ({"data": "."}, r"\. has no rows to train on; put them into train.jsonl"),
        ({"num_layers": 9}, "num_layers is 9; the model has 3"),
    ],
)
def test_mistakes(
    change: Settings, message: str, settings: Settings, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        train.run(settings | change)
    assert not (tmp_path / "a").exists()


def test_progress_is_one_short_line() -> None:
    row = {"step": 20, "loss": 1.25, "tokens_per_s": 812.4, "eta_s": 3723,
           "seconds_per_step": 0.5, "peak_memory_bytes": 812_000_000}  # fmt: skip
    assert progress_line(row, 100) == (
        "step 20/100 · loss 1.2500 · 812 tokens/s · 0.50 s a step · 1 h 02 min left · "
        "812 MB"
    )
    assert "1 min 05 s left" in progress_line(row | {"eta_s": 65}, 100)


def test_the_curve_is_drawn_of_two_steps_or_more(tmp_path: Path) -> None:
    write_curve([{"step": 1, "loss": 2.0}], tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
    rows = [{"step": k, "loss": 2.0 / k} for k in range(1, 9)]
    write_curve([*rows, {"step": 8, "valid_loss": 1.0}], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        colors = {c for _, c in image.getcolors(1 << 16)}
    assert {(10, 132, 255), (230, 25, 75)} <= colors


def test_a_cut_off_row_of_metrics_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_metrics(path) == [{"step": 1}, {"step": 2}]
