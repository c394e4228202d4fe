"""Sources made to do harm, through the verb: one clear line, and nothing is run."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pickled
import pytest

from checkpoints import CONFIG, tensors, write

Cli = Callable[..., tuple[int, str, str]]


def raw(path: Path, header: dict[str, Any], data: bytes = b"") -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(dtype: str, shape: list[int], last: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, last]}


def an_index(folder: Path) -> None:
    index = {"weight_map": {"a": "/etc/passwd", "b": "/etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def a_pickle(value: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        pickled.archive(folder / "pytorch_model.bin", value)

    return damage


def safetensors(header: dict[str, Any], data: bytes = b"") -> Callable[[Path], None]:
    return lambda folder: raw(folder / "model.safetensors", header, data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (an_index, "fetch the model again: '/etc/passwd': not the bare name of a wei"),
        (
            safetensors({"w": entry("F8_E4M3", [4], 4)}, bytes(4)),
            "of the same model: w: type F8_E4M3, which MLX cannot compute in",
        ),
        (
            safetensors({"a\nerror: b": entry("F32", [1], 4)}, bytes(4)),
            "'a\\nerror: b': not a name of one printable line",
        ),
        (
            safetensors({"w": entry("F32", [2**31], 0)}),
            "w has the shape (2147483648,); a dimension may be 2147483647 at most",
        ),
        (
            safetensors(
                {"v": entry("F32", [2], 8), "w": entry("F32", [2], 8)}, bytes(8)
            ),
            "its tensors leave or share the bytes 8",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"\x80\x02}q\x00."),
            "model.safetensors is truncated or not a safetensors file",
        ),
        (
            a_pickle(
                pickled.call(pickled.name("os", "system"), pickled.text("touch bad"))
            ),
            "os.system",
        ),
        (
            a_pickle(
                pickled.call(pickled.name("builtins", "eval"), pickled.text("1 / 0"))
            ),
            "builtins.eval",
        ),
    ],
)
def test_a_hostile_source_is_one_line(
    damage: Callable[[Path], Any], message: str, source: Path, tmp_path: Path, cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    damage(source)
    status, out, err = cli("convert", "--hf-path", source, "--mlx-path", "out")
    assert status == 2 and not out
    assert err.startswith("error: ") and len(err.splitlines()) == 1 and message in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["source"]


def test_tensors_that_do_not_fit_are_named_on_the_same_line(
    source: Path, tmp_path: Path, cli: Cli
) -> None:
    write(source, CONFIG, tensors() | {"model.extra": mx.zeros(2)})
    words = ("convert", "--hf-path", source, "--mlx-path", tmp_path / "out")
    status, _, err = cli(*words)
    assert status == 2 and err.endswith("describes: model.extra: no rule\n")
    assert len(err.splitlines()) == 1
    write(source, CONFIG, tensors() | {f"model.x{i}": mx.zeros(2) for i in (0, 1)})
    status, _, err = cli(*words)
    assert status == 2 and len(err.splitlines()) == 1
    assert "model.x0: no rule" in err and "model.x1: no rule" in err


def test_code_that_a_checkpoint_names_is_not_run(
    source: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto_map` is transformers' way to a repository's code, `model_file` mlx-lm's."""
    (source / "evil.py").write_text(
        "import pathlib\npathlib.Path('executed').touch()\nraise SystemExit(3)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(source)
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    words = ("convert", "--hf-path", source, "--mlx-path", tmp_path / "out", "--force")
    assert cli(*words)[0] == 0
    plain = (tmp_path / "out" / "model.safetensors").read_bytes()
    code = {
        "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
        "model_file": "evil.py", "custom_pipelines": {"x": {"impl": "evil.Pipeline"}},
    }  # fmt: skip
    (source / "config.json").write_text(json.dumps(CONFIG | code))
    for name in ("tokenizer_config.json", "processor_config.json"):
        (source / name).write_text(json.dumps(code))
    status, _, err = cli(*words)
    assert (status, err) == (0, "")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == plain
    assert not (tmp_path / "executed").exists() and "evil" not in sys.modules
    assert "evil" not in (tmp_path / "out" / "config.json").read_text()
    assert not (tmp_path / "out" / "evil.py").exists()
