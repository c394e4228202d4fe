"""The mean of several checkpoints."""

import sys
from pathlib import Path

import pytest
import torch

from mm15_mlx.config import UserError
from mm15_mlx.convert.mm15_torch import soup
from mm15_mlx.convert.mm15_torch.copying import even
from mm15_mlx.convert.mm15_torch.decoder import Decoder
from tests.parity.test_recipe import tiny

pytestmark = pytest.mark.parity
CONFIG = tiny().text_config


def decoder(seed: int) -> Decoder:
    torch.manual_seed(seed)
    return Decoder(CONFIG)


def state_of(model: Decoder) -> soup.State:
    return {f"decoder.{k}": v.clone() for k, v in model.state_dict().items()}


def products(state: soup.State) -> torch.Tensor:
    return torch.stack([o @ v for v, o in soup.handing(state, CONFIG)])


def test_evened_heads_do_not_spoil_the_mean() -> None:
    """One model, evened in between: the mean of both is what both are."""
    model = decoder(0)
    before = state_of(model)
    for layer in (2, 3):
        even(model, layer, list(range(CONFIG.num_key_value_heads)))
    after = state_of(model)
    assert len(products(before)) == 2 * CONFIG.num_key_value_heads
    mean = soup.soup([before, after], CONFIG)
    assert torch.allclose(products(mean).float(), products(before), atol=1e-6)
    plain = soup.mean_of([before, after])
    assert not torch.allclose(products(plain).float(), products(before), atol=1e-6)


def test_the_rest_is_the_plain_mean() -> None:
    states = [state_of(decoder(seed)) for seed in range(3)]
    mean = soup.soup(states, CONFIG)
    name = "decoder.layers.0.self_attn.v_proj.weight"
    expected = sum(s[name] for s in states) / 3
    assert torch.allclose(mean[name].float(), expected, atol=1e-6)
    assert mean.keys() == states[0].keys()


def test_what_only_some_have_is_their_mean() -> None:
    one, two = torch.zeros(2), torch.ones(2)
    mean = soup.mean_of([{"a": one}, {"a": two, "b": two}])
    assert mean["a"].tolist() == [0.5, 0.5] and mean["b"].tolist() == [1.0, 1.0]


def test_checkpoints_of_other_shapes_are_named() -> None:
    some = [{"a": torch.zeros(2)}, {"a": torch.zeros(3)}]
    with pytest.raises(UserError, match=r"a has the shapes \(2,\), \(3,\); take"):
        soup.mean_of(some)


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(soup.PRESETS, "nano-ui", tiny())
    paths = [tmp_path / f"{k}.pt" for k in range(2)]
    for k, path in enumerate(paths):
        model, aids = state_of(decoder(k)), {"x": torch.tensor([float(k)])}
        torch.save({"model": model, "aids": aids, "heads": {}}, path)
    out = tmp_path / "out.pt"
    monkeypatch.setattr(sys, "argv", ["soup", *map(str, paths), "--out", str(out)])
    soup.main()
    found = torch.load(out, weights_only=True)
    assert set(found) == {"model", "aids", "heads"}
    assert found["aids"]["x"].tolist() == [0.5]
    assert all(x.dtype == torch.float32 for x in found["model"].values())
