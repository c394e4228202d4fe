"""A stage as it is run: flags from a file, and a run that is stopped and goes on."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.convert.mm15_torch import sft, stages
from mm15_mlx.convert.mm15_torch.optimizing import save

pytestmark = pytest.mark.parity


def tiny() -> ModelConfig:
    nano = PRESETS["nano-ui"]
    return dataclasses.replace(
        nano,
        vision_config=dataclasses.replace(
            nano.vision_config, hidden_size=64, intermediate_size=96,
            num_hidden_layers=1, num_attention_heads=1, image_size=48,
        ),
        connector_config=dataclasses.replace(
            nano.connector_config, hidden_size=32, num_visual_tokens=4, depth=1
        ),
        text_config=dataclasses.replace(
            nano.text_config, hidden_size=64, intermediate_size=96, vocab_size=1400,
            num_hidden_layers=4, head_dim=16,
        ),
        tiling=dataclasses.replace(nano.tiling, tile_size=48),
    )  # fmt: skip


def draw_screens(folder: Path) -> None:
    """Three screens with a line of text and a button each."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for k in range(3):
        Image.new("RGB", (48, 96), (40 * k, 90, 200)).save(folder / f"images/{k}.png")
        text = f"Item {k}"
        edges = [4 + 6 * c for c in range(len(text) + 1)]
        line = {"text": text, "box": [4, 30, 40, 44], "edges": edges}
        button = {"type": "button", "text": text, "label": text,
                  "box": [2, 26, 44, 50], "tappable": True}  # fmt: skip
        rows.append({"id": str(k), "image": f"images/{k}.png", "width": 48,
                     "height": 96, "layout": "settings", "texts": [line],
                     "elements": [button]})  # fmt: skip
    (folder / "screens.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


@torch.enable_grad()
@pytest.mark.parametrize(
    "flags",
    ["", "--whole --read 0.4 --several 0.3 --cropped 0.5"],
    ids=["answers", "everything"],
)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    flags: str, tokenizer_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_screens(tmp_path / "screens")
    (tmp_path / "views").mkdir()
    (tmp_path / "tokenizer.model").write_bytes(tokenizer_model)
    recipe = tmp_path / "tiny.args"
    recipe.write_text(
        f"--steps 6 --batch 2 --questions 6  # small\n--save-every 3 {flags}\n"
    )

    def run(out: Path) -> dict:
        flags = ["--screens", tmp_path / "screens", "--views", tmp_path / "views",
                 "--tokenizer", tmp_path / "tokenizer.model", "--out", out]  # fmt: skip
        args = sft.arguments([f"@{recipe}", *map(str, flags)])
        for _ in stages.train(sft.Trainer(args, tiny())):
            pass
        return torch.load(out, weights_only=True)

    half = tmp_path / "half.pt"

    def keep_half(path: Path, state: dict) -> None:
        save(path, state)
        if state["step"] == 3:
            shutil.copy(path, half)

    monkeypatch.setattr(stages, "save", keep_half)
    whole = run(tmp_path / "whole.pt")
    resumed = run(half)
    assert whole["step"] == resumed["step"] == 6
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, resumed["model"][name]), name
