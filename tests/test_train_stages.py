"""The paper's stages from end to end, on a tiny model: rows of their own categories,
their own tiling, and a folder that can be used with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from training import asked, write

from mm15_mlx import load, train
from mm15_mlx.config import UserError
from mm15_mlx.lora import read_tuning
from mm15_mlx.train_config import FOLDER, read_yaml

Cli = Callable[..., tuple[int, str, str]]


def rows(stage: str, folder: Path, screen: Path) -> Path:
    """A row of every category of the stage's mixture, all but one with a picture."""
    names = list(read_yaml(FOLDER / f"{stage}.yaml")["mixture"])
    made = [asked("What is this?", "button", "screen.png") | {"category": n}
            for n in names[:-1]]  # fmt: skip
    return write(folder, screen, [*made, asked("Say Yes", "Yes") | {
        "category": names[-1]}])  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "views"), [("pretrain", 1), ("continual", 5), ("sft", 7)]
)
def test_a_stage_from_end_to_end(
    stage: str, views: int, ui_folder: Path, screen: Path, tmp_path: Path, cli: Cli
) -> None:
    """Only the counts are smaller; of continual and sft the sides of a tile are too."""
    own = read_yaml(FOLDER / f"{stage}.yaml")["tiling"]
    tiling = own if stage == "pretrain" else own | {"tile_size": 84}
    report, status = train.run({
        "stage": stage, "model": str(ui_folder), "iters": 3, "batch_size": 1,
        "data": str(rows(stage, tmp_path / "data", screen)), "tiling": tiling,
        "grad_accumulation_steps": 1, "adapter_path": str(tmp_path / "a"),
    })  # fmt: skip
    assert (status, report["steps"]) == (0, 3) and report["loss"] > 0
    assert sum(r["drawn"] for r in report["drawn"]) == 3

    model, processor = load(ui_folder, adapter_path=tmp_path / "a")
    assert read_tuning(tmp_path / "a").tiling == tiling
    assert model.config == processor.config
    inputs = processor("What is this?", images=[screen])
    side = tiling["tile_size"]
    assert inputs["pixel_values"].shape == (views, side, side, 3)
    expected = model(**inputs)

    fused = tmp_path / "fused"
    words = ("fuse", "--adapter-path", tmp_path / "a", "--save-path", fused)
    status, _, err = cli(*words)
    assert status == 0, err
    model, processor = load(fused)
    assert processor.config.tiling.tile_size == side
    assert processor.config.tiling.policy == tiling["policy"]
    again = processor("What is this?", images=[screen])
    assert mx.array_equal(inputs["input_ids"], again["input_ids"])
    assert mx.abs(model(**again) - expected).max() <= 1e-5 * mx.abs(expected).max()


def test_the_program_cuts_as_the_adapters_were_trained(
    ui_folder: Path, screen: Path, tmp_path: Path, cli: Cli
) -> None:
    data = write(tmp_path / "d", screen, [asked("a", "b", "screen.png")])
    train.run({"model": str(ui_folder), "data": str(data), "iters": 1, "tiling": {
        "policy": "none"}, "adapter_path": str(tmp_path / "a")})  # fmt: skip
    words = ("generate", "--model", ui_folder, "--image", screen, "-p", "What?",
             "--max-tokens", "1", "--json")  # fmt: skip
    before, after = cli(*words), cli(*words, "--adapter-path", tmp_path / "a")
    assert '"views": 1' not in before[1] and '"views": 1' in after[1], after[2]


@pytest.mark.parametrize(
    ("tiling", "message"),
    [
        ({"tile_side": 84}, "has an unknown key 'tile_side'; did you mean 'tile_siz"),
        ({"tile_size": 85}, r"tile_size 85 is not a multiple of .* 14; write tiling: "),
        ({"merge": "spatial", "indicator": "none"}, "has merge 'spatial'; the model h"),
    ],
)  # fmt: skip
def test_a_tiling_that_does_not_suit_the_model(
    tiling: dict[str, Any], message: str, ui_folder: Path, screen: Path, tmp_path: Path
) -> None:
    data = write(tmp_path / "d", screen, [asked("a", "b")])
    with pytest.raises(UserError, match=message):
        train.run({"model": str(ui_folder), "data": str(data), "tiling": tiling,
                   "adapter_path": str(tmp_path / "a")})  # fmt: skip
    assert not (tmp_path / "a").exists()
