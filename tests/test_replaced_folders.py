"""What `--force` replaces: a model folder of this project, and nothing else."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import composing
import pytest

from checkpoints import CONFIG, tensors, write
from mm15_mlx.config import ModelConfig
from mm15_mlx.weights import WeightsError, new_folder

Cli = Callable[..., tuple[int, str, str]]


def replaced(folder: Path, config: ModelConfig) -> None:
    with new_folder(folder, config, force=True):
        pass


@pytest.fixture
def source(tmp_path: Path, tokenizer_model: bytes) -> Path:
    folder = write(tmp_path / "source", CONFIG, tensors())
    (folder / "tokenizer.model").write_bytes(tokenizer_model)
    return folder


def test_a_source_is_never_its_own_target(source: Path, cli: Cli) -> None:
    held = sorted(source.rglob("*"))
    for target in (source, source.parent):
        status, _, err = cli(
            "convert", "--hf-path", source, "--mlx-path", target, "--force"
        )
        expected = f"{target} is, holds or lies in the source {source}; choose a place"
        assert status == 2 and expected in err
    assert sorted(source.rglob("*")) == held


def test_a_part_is_never_the_target(tmp_path: Path, cli: Cli) -> None:
    composing.clip_folder(tmp_path / "enc")
    tokenizer = composing.plain_tokenizer()
    composing.llama_folder(tmp_path / "dec", tokenizer)
    for target in (tmp_path / "enc", tmp_path / "dec", tmp_path):
        status, _, err = cli(
            "compose", "--encoder", tmp_path / "enc", "--decoder", tmp_path / "dec",
            "--tile-size", "84", "--mlx-path", target, "--force",
        )  # fmt: skip
        assert status == 2 and f"{target} is, holds or lies in the source" in err
    assert (tmp_path / "dec" / "config.json").is_file()


def test_a_model_is_not_quantised_onto_itself(ui_copy: Path, cli: Cli) -> None:
    words = ("--model", ui_copy, "--mlx-path", ui_copy, "--force")
    status, _, err = cli("quantize", *words)
    assert status == 2 and f"{ui_copy} is, holds or lies in the source" in err
    assert (ui_copy / "model.safetensors").is_file()


@pytest.mark.parametrize("kind", ["llama", None])
def test_a_foreign_model_stays(
    kind: str | None, tmp_path: Path, tiny_config: ModelConfig
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    expected = rf"theirs is no model folder of mm15-mlx \(its model_type is {kind!r}\)"
    with pytest.raises(WeightsError, match=expected):
        replaced(folder, tiny_config)
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="theirs is no model folder, so it is not"):
        replaced(folder, tiny_config)
    assert (folder / "config.json").read_text() == "{"


@pytest.mark.parametrize("name", [".git", "notes", ".hidden", "link"])
def test_what_is_not_written_here_stays(
    name: str, tmp_path: Path, tiny_config: ModelConfig
) -> None:
    folder = tmp_path / "model"
    replaced(folder, tiny_config)
    if name == ".hidden":
        (folder / name).touch()
    elif name == "link":
        (folder / name).symlink_to(tmp_path)
    else:
        (folder / name).mkdir()
    expected = f"model holds '{name}', which mm15-mlx did not write, so it is not repl"
    with pytest.raises(WeightsError, match=expected):
        replaced(folder, tiny_config)
    shutil.rmtree(folder)
    replaced(folder, tiny_config)
    (folder / ".DS_Store").touch()
    replaced(folder, tiny_config)
    assert [p.name for p in folder.iterdir()] == ["config.json"]
