"""`compose` at the sizes of MM1.5's views, 378 and 672 pixels, and a pre-training step.

Widths are tiny; positions, views and visual tokens are as many as they really are.
"""

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from composing import clip_folder, llama_folder
from PIL import Image
from training import asked, write

from mm15_mlx import load
from mm15_mlx.lora import ADAPTERS

Cli = Callable[..., tuple[int, str, str]]
POSITIONS = "vision_model.embeddings.position_embedding.weight"


def dfn_sized(folder: Path) -> Path:
    """A CLIP that sees 378 pixels, 27² patches of 14 and the class token."""
    clip_folder(folder)
    weights = dict(mx.load(str(folder / "model.safetensors")).items())
    weights[POSITIONS] = 0.1 * mx.random.normal((1 + 27**2, 64))
    mx.eval(weights)
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["image_size"] = 378
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(("side", "patches"), [(378, 27), (672, 48)])
def test_a_composed_model_of_real_size_is_pre_trained(
    side: int, patches: int, tmp_path: Path, tokenizer_model: bytes, cli: Cli
) -> None:
    clip = dfn_sized(tmp_path / "clip")
    llama_folder(tmp_path / "llama", tokenizer_model)
    out = tmp_path / "out"
    status, _, err = cli(
        "compose", "--encoder", clip, "--decoder", tmp_path / "llama",
        "--tile-size", str(side), "--mlx-path", out,
    )  # fmt: skip
    assert status == 0, err
    model, processor = load(out)
    assert model.config.view_grid == patches
    assert model.config.connector_config.num_visual_tokens == 144
    picture = tmp_path / "screen.png"
    Image.new("RGB", (120, 200), "white").save(picture)
    inputs = processor("What is on?", images=[picture])
    views = inputs["pixel_values"]
    assert views.shape[1:] == (side, side, 3) and len(views) >= 5  # 4 and the overview
    features = model.encoder(views[:1])
    assert features.shape == (1, patches**2, 64)
    assert np.isfinite(np.array(features)).all()

    data = write(
        tmp_path / "data", picture, [asked("What is on?", "Yes", "screen.png")]
    )
    # One row has no mixture, and one step no warm-up of 2000.
    own = {"lr_schedule": None, "mixture": None, "grad_accumulation_steps": 1}
    (tmp_path / "run.yaml").write_text(json.dumps(own))
    status, said, err = cli(
        "train", "--model", out, "--data", data, "--stage", "pretrain", "--iters", "1",
        "--batch-size", "1", "--config", tmp_path / "run.yaml",
        "--adapter-path", tmp_path / "tuned", "--json",
    )  # fmt: skip
    assert status == 0, err
    assert json.loads(said)["steps"] == 1
    before = mx.load(str(out / "model.safetensors"))
    after = mx.load(str(tmp_path / "tuned" / ADAPTERS))
    moved = {
        name.split(".")[0] for name, array in after.items()
        if not mx.array_equal(array, before[name].astype(array.dtype))
    }  # fmt: skip
    assert moved == {"encoder", "connector", "decoder"}
