"""A name, a folder or a hub id → model and processor; and what is wrong with one."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from mm15_mlx import hub, load
from mm15_mlx.config import UserError
from mm15_mlx.load import bundled_models, find_model

MODULE = importlib.import_module("mm15_mlx.load")  # the package shows the function


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise AssertionError("the network was used")

    monkeypatch.setattr(hub, "fetch", refuse)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)


# --- names -----------------------------------------------------------------------


def test_a_folder(ui_folder: Path, offline: None) -> None:
    for name in (ui_folder, str(ui_folder)):
        model, processor = load(name)
        assert model.config == processor.config and not model.training


def test_a_bundled_name(
    ui_folder: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    monkeypatch.setattr(MODULE, "BUNDLED", ui_folder.parent)
    assert ui_folder.name in bundled_models()
    assert find_model(ui_folder.name) == ui_folder


def test_a_home_folder(
    ui_folder: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    monkeypatch.setenv("HOME", str(ui_folder.parent))
    assert find_model(f"~/{ui_folder.name}") == ui_folder


def test_an_unknown_name(offline: None) -> None:
    with pytest.raises(
        UserError, match=r"model 'nono' is neither bundled \(.*\), nor a"
    ):
        load("nono")
    for name in ("./no/folder", "../a", "/no/where", "a/b/c", ""):
        with pytest.raises(UserError, match="is neither bundled"):
            find_model(name)


def test_a_file(screen: Path, offline: None) -> None:
    with pytest.raises(
        UserError, match=r"screen\.png is a file; give the model's fold"
    ):
        load(screen)


# --- the hub: see test_hub.py ---------------------------------------------------------


def test_an_id_that_the_hub_does_not_allow() -> None:
    message = "owner--x/y is no folder here and could not be fetched from the hub: "
    with pytest.raises(UserError, match=message):
        load("owner--x/y")


# --- damaged folders -----------------------------------------------------------------


def edit(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in data.items() if v is not ...}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json; give a"),
    "cut config": (lambda f: cut(f / "config.json"), "config.json is not valid JSON"),
    "foreign config": (
        lambda f: edit(f / "config.json", model_type="llava"),
        "has model_type 'llava', not 'mm15'; run mm15-mlx convert on this folder",
    ),
    "unknown key": (
        lambda f: edit(f / "config.json", tilling={}),
        "config.json has an unknown key 'tilling'; did you mean 'tiling'",
    ),
    "missing key": (
        lambda f: edit(f / "config.json", coordinates=...),
        "config.json lacks the key 'coordinates'",
    ),
    "no tokenizer": (
        lambda f: (f / "tokenizer.model").unlink(),
        "tokenizer.model is missing: the model folder holds no tokenizer",
    ),
    "cut tokenizer": (
        lambda f: cut(f / "tokenizer.model"),
        "tokenizer.model is not a sentencepiece model; copy the model folder again",
    ),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        "lacks the weight file model.safetensors; fetch the model again",
    ),
    "cut weights": (
        lambda f: cut(f / "model.safetensors"),
        "model.safetensors is truncated or not a safetensors file",
    ),
    "foreign weights": (
        lambda f: (f / "model.safetensors").write_bytes(b"GGUF" * 100),
        "model.safetensors is truncated or not a safetensors file",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_folder(ui_copy: Path, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(ui_copy)
    with pytest.raises(UserError, match=message):
        load(ui_copy)


def test_the_tokenizer_is_checked_before_weights_are_read(
    ui_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(MODULE, "load_model", never)
    (ui_copy / "tokenizer.model").unlink()
    with pytest.raises(UserError, match=r"tokenizer\.model is missing"):
        load(ui_copy)
