"""Adapters that PEFT wrote, and those that it reads of ours: the same logits."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import torch

from mm15_mlx.fuse import export
from mm15_mlx.lora import (
    LoraParameters,
    Tuning,
    adapter_config,
    load_adapters,
    make_trainable,
    trained_tensors,
)

from .conftest import Compare
from .test_lora_parity import llama

pytestmark = pytest.mark.parity

IDS = [[5, 9, 20, 33, 4, 17]]
PATTERNS: dict[str, Any] = {
    "rank_pattern": {"v_proj": 2, r"layers\.0\.mlp\.up_proj": 8},
    "alpha_pattern": {"down_proj": 3},
}


@pytest.mark.parametrize(
    "given",
    [{}, {"use_rslora": True}, {"use_dora": True}, PATTERNS],
    ids=["lora", "rslora", "dora", "patterns"],
)
def test_adapters_of_peft(
    given: dict[str, Any], compare: Compare, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft", reason="needs peft, the reference of adapters")
    theirs, model = llama(tmp_path)
    config = peft.LoraConfig(
        r=4, lora_alpha=12, task_type="CAUSAL_LM",
        target_modules=["q_proj", "v_proj", "up_proj", "down_proj"], **given,
    )  # fmt: skip
    adapted = peft.get_peft_model(theirs, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, p in adapted.named_parameters():
            if "lora_" in name:
                p.add_(0.1 * torch.randn_like(p))
    adapted.save_pretrained(tmp_path / "p")
    assert load_adapters(model, tmp_path / "p") == 8
    adapted.eval()
    with torch.no_grad():
        expected = adapted(torch.tensor(IDS)).logits
    found = model(mx.array(IDS))
    name = next(iter(given), "lora").replace("rank_pattern", "rank and alpha patterns")
    compare(f"logits with an adapter of PEFT: {name}", found, expected, 1e-5)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_adapters_for_peft(kind: str, compare: Compare, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="needs peft, the reference of adapters")
    theirs, model = llama(tmp_path)
    tuning = Tuning(kind, -1, LoraParameters(4, 6.0))
    make_trainable(model, tuning)
    mx.random.seed(3)
    moved = {
        n: x + 0.1 * mx.random.normal(x.shape)
        for n, x in trained_tensors(model).items()
    }
    model.load_weights(list(moved.items()), strict=False)
    model.eval()
    (tmp_path / "a").mkdir()
    mx.save_safetensors(str(tmp_path / "a" / "adapters.safetensors"), moved)
    text = json.dumps(adapter_config(tuning, {"model": "here"}))
    (tmp_path / "a" / "adapter_config.json").write_text(text)
    export(tmp_path / "a", tmp_path / "p", "peft", force=False)
    read = peft.PeftModel.from_pretrained(theirs, str(tmp_path / "p")).eval()
    with torch.no_grad():
        expected = read(torch.tensor(IDS)).logits
    compare(f"logits in PEFT with our {kind}", model(mx.array(IDS)), expected, 1e-5)
