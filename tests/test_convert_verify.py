"""`convert --verify` of this project's own layout, whose reference is here."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.convert import run, verify

torch = pytest.importorskip("torch", reason="needs the parity extra")
pytestmark = pytest.mark.parity

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trained(ui_config: ModelConfig, tokenizer_model: bytes, tmp_path: Path) -> Path:
    """As the trainer leaves it: weights under `model`, the folder's own config."""
    from mm15_mlx.convert.mm15_torch.model import MM15

    torch.manual_seed(0)
    model = MM15(ui_config)
    with torch.no_grad():  # norms and biases start at 1 and 0, where mistakes hide
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path / "run"
    folder.mkdir()
    torch.save({"model": model.state_dict()}, folder / "screens.pt")
    (folder / "config.json").write_text(json.dumps(ui_config.to_dict()))
    (folder / "tokenizer.model").write_bytes(tokenizer_model)
    return folder


def test_our_own_layout_is_compared(trained: Path, tmp_path: Path, cli: Cli) -> None:
    words = ("convert", "--hf-path", trained, "--mlx-path", tmp_path / "out")
    status, said, err = cli(*words, "--verify")
    assert (status, err) == (0, "")
    line = said.splitlines()[-1]
    expected = f"verify      mm15_torch with torch {torch.__version__} MM15: largest "
    assert line.startswith(expected)
    assert float(line.partition("relative ")[2].partition(",")[0]) < 1e-5
    status, _, err = cli(*words, "--force", "--verify", "-q")
    assert status == 2 and "--verify compares exact weights and -q changes them" in err


def test_a_model_of_zeros(trained: Path, tmp_path: Path) -> None:
    held = torch.load(trained / "screens.pt")["model"]
    zeros = {name: torch.zeros_like(tensor) for name, tensor in held.items()}
    torch.save({"model": zeros}, trained / "screens.pt")
    said: list[str] = []
    run.convert(trained, tmp_path / "out", name="a/b", compare=True, say=said.append)
    assert "at logits up to 0.0e+00, relative 0.0e+00, allowed" in said[-1]


def test_a_difference_is_found(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = verify._ours_in_torch
    monkeypatch.setattr(verify, "_ours_in_torch", lambda *a: 1.01 * theirs(*a))
    expected = "--verify: the model differs from mm15_torch with torch .*; nothing has"
    with pytest.raises(UserError, match=expected):
        run.convert(
            trained, tmp_path / "out", name="a/b", compare=True, say=lambda _: None
        )
    assert not (tmp_path / "out").exists()
