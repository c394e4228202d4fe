"""A checkpoint in 4 bits beside the weights that it began at."""

import json
import sys
from pathlib import Path

import pytest
import torch

from mm15_mlx.config import PRESETS, UserError
from mm15_mlx.convert.mm15_torch import keep
from mm15_mlx.convert.mm15_torch.model import MM15

pytestmark = pytest.mark.parity


@pytest.fixture
def base() -> keep.State:
    torch.manual_seed(0)
    return {"a.weight": torch.randn(8, 128), "b.bias": torch.randn(5),
            "c.weight": torch.randn(64, 2, 3, 3)}  # fmt: skip


def test_what_was_added_comes_back(base: keep.State, tmp_path: Path) -> None:
    added = {k: 0.02 * torch.randn_like(x) for k, x in base.items()}
    after = {k: x + added[k] for k, x in base.items()}
    aids = {"late.0.weight": torch.randn(1, 128)}
    path = tmp_path / "kept.safetensors"
    keep.write(path, {"model": after, "aids": aids, "optimizers": []}, base, "x1")
    again = keep.read(path, base, "x1")
    assert again["heads"] == {}
    for part, wanted in (("model", after), ("aids", aids)):
        assert again[part].keys() == wanted.keys()
        for name, x in wanted.items():
            assert again[part][name].shape == x.shape
            whole = (added if part == "model" else aids)[name]
            step = (whole.max() - whole.min()) / 15  # of 4 bits
            assert (again[part][name] - x).abs().max() < step + 1e-4, name
    size = sum(x.numel() for x in after.values())
    assert path.stat().st_size < 2.5 * size  # 4 bytes each as float32


def test_other_weights_are_not_added_to(base: keep.State, tmp_path: Path) -> None:
    path = tmp_path / "kept.safetensors"
    keep.write(path, {"model": base}, base, "x1")
    with pytest.raises(
        UserError, match="sha256 x1, these have y2; give the model that"
    ):
        keep.read(path, base, "y2")


def test_weights_without_a_digest_are_refused(tmp_path: Path) -> None:
    config = json.loads((keep.find_model("nano-ui") / "config.json").read_text())
    assert keep.digest(keep.find_model("nano-ui")) == config["provenance"]["sha256"]
    del config["provenance"]["sha256"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="names no sha256 of the weights in provenance"):
        keep.digest(tmp_path)


def test_both_ways_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = MM15(PRESETS["nano-ui"])
    start = keep.restored(keep.find_model("nano-ui"), model)
    name = "decoder.layers.0.mlp.up_proj.weight"
    after = {**start, name: start[name] + 0.01 * torch.randn_like(start[name])}
    torch.save({"model": after}, tmp_path / "sft.pt")
    kept, again = tmp_path / "kept.safetensors", tmp_path / "again.pt"
    for given in ((tmp_path / "sft.pt", kept), (kept, again)):
        monkeypatch.setattr(sys, "argv", ["keep", *map(str, given)])
        keep.main()
    assert kept.stat().st_size < 14e6
    found = torch.load(again, weights_only=True)["model"]
    assert found.keys() == after.keys()
    apart = {k: (found[k] - x).abs().max().item() for k, x in after.items()}
    assert 0 < apart.pop(name) < 0.01
    assert max(apart.values()) == 0
