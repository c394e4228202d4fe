"""A checkpoint of this project's own trainer, through the verb."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mm15_mlx import load
from mm15_mlx.config import ModelConfig
from mm15_mlx.convert import run
from mm15_mlx.convert.mm15_torch.model import MM15 as Reference

from .conftest import Compare
from .references import randomise
from .test_families import nchw

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_training_checkpoint(
    wrapped: bool, ui_config: ModelConfig, tokenizer_model: bytes, tmp_path: Path,
    screen: Path, compare: Compare,
) -> None:  # fmt: skip
    """The trainer keeps the weights under `model`."""
    image_id = ui_config.prompt.image_token_id
    reference = randomise(Reference(ui_config))
    state = reference.state_dict()
    source = tmp_path / "run"
    source.mkdir()
    torch.save({"model": state} if wrapped else state, source / "screens.pt")
    (source / "config.json").write_text(json.dumps(ui_config.to_dict()))
    (source / "tokenizer.model").write_bytes(tokenizer_model)
    run.convert(source, tmp_path / "out", name="mine", say=lambda _: None)
    model, processor = load(tmp_path / "out")
    inputs = processor("Where is the button?", images=[screen])
    tokens = torch.from_numpy(np.array(inputs["input_ids"])).long()
    theirs = reference(tokens, nchw(inputs["pixel_values"]), image_id)
    compare("mm15, through the verb", model(**inputs), theirs, 1e-5)
