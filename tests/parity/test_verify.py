"""`convert --verify`: the same source through transformers, and how it can fail."""

import builtins
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import torch
from safetensors.torch import load_file, save_file

from mm15_mlx.config import UserError
from mm15_mlx.convert import run, verify

from .test_families import family  # noqa: F401  (a fixture)

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

Cli = Callable[..., tuple[int, str, str]]


def copied(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder))


def verified(source: Path, folder: Path, **how: Any) -> str:
    said: list[str] = []
    run.convert(source, folder, name="a/b", compare=True, say=said.append, **how)
    assert said[-1].startswith(f"verify      transformers {transformers.__version__} ")
    return said[-1]


def relative(line: str) -> float:
    return float(line.partition("relative ")[2].partition(",")[0])


def places(line: str) -> tuple[int, int]:
    same, of = line.partition("likeliest at ")[2].removesuffix(" places").split(" of ")
    return int(same), int(of)


def test_a_family_agrees_with_transformers(
    family: tuple[str, Any, Path, Any],  # noqa: F811
    tmp_path: Path,
    cli: Cli,
) -> None:
    _, model, source, _ = family
    status, out, _ = cli(
        "convert", "--hf-path", source, "--mlx-path", tmp_path / "out", "--verify"
    )
    assert status == 0
    line = out.splitlines()[-1]
    assert f" {type(model).__name__}: largest difference " in line
    assert relative(line) < 1e-5 and "allowed 1e-04" in line
    assert places(line)[0] == places(line)[1] > 20


@pytest.mark.parametrize(
    ("dtype", "allowed"), [(mx.float16, 1e-2), (mx.bfloat16, 5e-2)]
)
def test_rounding_is_allowed_for(
    family: tuple[str, Any, Path, Any],  # noqa: F811
    dtype: mx.Dtype,
    allowed: float,
    tmp_path: Path,
) -> None:
    line = verified(family[2], tmp_path / "out", dtype=dtype)
    assert 1e-5 < relative(line) < allowed / 2
    assert f"allowed {allowed:.0e}" in line


def test_files_of_every_kind(
    family: tuple[str, Any, Path, Any],  # noqa: F811
    tmp_path: Path,
) -> None:
    """A PyTorch file; one of an unusual name; shards whose index is gone; and numbers
    that are half precision from the beginning, which nothing rounds."""
    held = load_file(family[2] / "model.safetensors")
    source = copied(family[2], tmp_path / "source")
    (source / "model.safetensors").unlink()
    torch.save(held, source / "pytorch_model.bin")
    assert relative(verified(source, tmp_path / "bin")) < 1e-5
    save_file(held, source / "other.safetensors", {"format": "pt"})
    assert relative(verified(source, tmp_path / "named")) < 1e-5
    (source / "other.safetensors").unlink()
    half = {n: t.half() for n, t in held.items()}
    for k in (0, 1):
        shard = {n: t for i, (n, t) in enumerate(half.items()) if i % 2 == k}
        name = f"model-{k + 1:05}-of-00002.safetensors"
        save_file(shard, source / name, {"format": "pt"})
    line = verified(source, tmp_path / "shards", dtype=mx.float16)
    assert relative(line) < 1e-4 and "allowed 1e-04" in line


def test_a_configuration_names_no_code(
    family: tuple[str, Any, Path, Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = copied(family[2], tmp_path / "source")
    data = json.loads((source / "config.json").read_text())
    hostile = {
        "auto_map": {"AutoModel": "evil.Model"}, "attn_implementation": "evil/kernel",
        "_attn_implementation": "evil/kernel", "quantization_config": {"a": "b"},
    }  # fmt: skip
    data |= hostile
    data["text_config"] |= hostile
    (source / "config.json").write_text(json.dumps(data))
    (source / "evil.py").write_text("raise SystemExit('executed')")
    (source / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b"}')
    seen: list[dict[str, Any]] = []
    kind = verify.find_reference(source, False).kind
    whole = kind.from_pretrained.__func__

    def watched(cls: Any, name: str, **how: Any) -> Any:
        files = {p.name for p in Path(name).iterdir()}
        assert files == {"config.json", "model.safetensors"}
        seen.append(json.loads((Path(name) / "config.json").read_text()))
        assert how["local_files_only"] and not how["trust_remote_code"]
        return whole(cls, name, **how)

    monkeypatch.setattr(kind, "from_pretrained", classmethod(watched))
    assert relative(verified(source, tmp_path / "out")) < 1e-5
    assert "evil" not in json.dumps(seen)
    assert seen[0]["model_type"] == family[0].split()[0]


def test_a_difference_leaves_nothing(
    family: tuple[str, Any, Path, Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if a weight had come out wrong here."""
    theirs = verify._theirs

    def moved(*arguments: Any) -> Any:
        logits = theirs(*arguments)
        logits[3, 7] += 0.01 * abs(logits).max()
        return logits

    monkeypatch.setattr(verify, "_theirs", moved)
    expected = (
        r"--verify: the model differs from transformers .*relative .*, allowed 1e-04; "
        r"the same token is likeliest at .*; nothing has been written"
    )
    with pytest.raises(UserError, match=expected):
        verified(family[2], tmp_path / "out")
    monkeypatch.setattr(verify, "_theirs", lambda *a: theirs(*a)[:, :-1])
    with pytest.raises(UserError, match=r"logits have the shape .*; nothing has been"):
        verified(family[2], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_reference_without_weights(
    family: tuple[str, Any, Path, Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference = verify.find_reference(family[2], False)
    whole = reference.kind.from_pretrained.__func__

    def lossy(cls: Any, name: str, **how: Any) -> Any:
        model, about = whole(cls, name, **how)
        return model, about | {"missing_keys": {"model.some.weight"}}

    monkeypatch.setattr(reference.kind, "from_pretrained", classmethod(lossy))
    with pytest.raises(UserError, match="misses tensors in the source, so there is no"):
        verified(family[2], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_installation_that_does_not_fit_together(
    family: tuple[str, Any, Path, Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What transformers raises where torchvision was made for another torch."""
    own = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name == "transformers":
            raise ModuleNotFoundError("no such class") from RuntimeError(
                "operator torchvision::nms does not exist"
            )
        return own(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    expected = (
        "of transformers, which cannot be imported: operator torchvision::nms does not "
        "exist; install torch and transformers anew, and a torchvision"
    )
    with pytest.raises(UserError, match=expected):
        verified(family[2], tmp_path / "out")
    assert not list(tmp_path.iterdir())
