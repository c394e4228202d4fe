"""Files that PyTorch saved, against the reader that does without it: every bit."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import torch

from mm15_mlx.checkpoint import WeightsError
from mm15_mlx.convert.sources import open_source

pytestmark = pytest.mark.parity

BASE = torch.arange(-12, 12).reshape(4, 6)
DTYPES = (
    "float32 float16 bfloat16 float64 int64 int32 int16 int8 uint8 bool uint16 uint32"
).split()


def state() -> dict[str, torch.Tensor]:
    real = torch.randn(4, 6)
    return {
        **{dtype: BASE.to(getattr(torch, dtype)) for dtype in DTYPES},
        "transposed": real.T,
        "offset": real[1:3, ::2],
        "tied": real,
        "tied_too": real,
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(real.to(torch.bfloat16)),
        "expanded": torch.ones(1, 6).expand(1, 6),
    }


def check(path: Path, expected: dict[str, torch.Tensor]) -> None:
    source = open_source(path)
    assert source.tensors.keys() == expected.keys()
    for name, theirs in expected.items():
        ours, theirs = source.read(name), theirs.detach()
        assert ours.shape == tuple(theirs.shape), name
        if theirs.dtype == torch.float64:
            theirs = theirs.float()
        assert str(ours.dtype).split(".")[-1].strip("_") == str(theirs.dtype)[6:], name
        if theirs.dtype == torch.bfloat16:
            ours, theirs = ours.view(mx.int16), theirs.contiguous().view(torch.int16)
        assert np.array_equal(np.array(ours), theirs.numpy()), name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_type_and_view(tmp_path: Path, protocol: int, wrapped: bool) -> None:
    tensors = state()
    whole = {"epoch": 3, "state_dict": tensors, "dtype": torch.float16, "s": {1, 2}}
    path = tmp_path / "m.pt"
    torch.save(whole if wrapped else tensors, path, pickle_protocol=protocol)
    check(path, tensors)


def test_a_training_checkpoint(tmp_path: Path) -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 4)
    )
    optimizer = torch.optim.AdamW(model.parameters())
    with torch.enable_grad():
        model(torch.randn(2, 3, 6, 6)[..., :6]).sum().backward()
    optimizer.step()
    held = {"module." + n: t for n, t in model.state_dict().items()}
    both = {"optimizer": optimizer.state_dict(), "epoch": 1, "model": held}
    torch.save(both, tmp_path / "epoch_1.pt")
    check(tmp_path / "epoch_1.pt", dict(model.state_dict()))


def test_a_large_storage_is_read_in_part(tmp_path: Path) -> None:
    big = torch.randn(1000, 100)
    torch.save({"w": big[990:]}, tmp_path / "m.bin")
    check(tmp_path / "m.bin", {"w": big[990:]})


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
def test_float8(tmp_path: Path, dtype: str) -> None:
    torch.save({"w": torch.zeros(2).to(getattr(torch, dtype))}, tmp_path / "m.bin")
    with pytest.raises(WeightsError, match="w: type F8_E[45]M[32], which MLX cannot"):
        open_source(tmp_path / "m.bin")


def test_what_is_refused(tmp_path: Path) -> None:
    linear = torch.nn.Linear(2, 2)
    old, whole = tmp_path / "old.bin", tmp_path / "whole.bin"
    torch.save(linear.state_dict(), old, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match="the format that PyTorch had before"):
        open_source(old)
    torch.save(linear, whole)
    with pytest.raises(WeightsError, match="refers to 'torch.nn.modules.linear"):
        open_source(whole)
