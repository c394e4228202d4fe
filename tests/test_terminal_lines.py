"""Paths that cannot be looked at, and words that a terminal must not obey."""

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from mm15_mlx.input_config import visible

Cli = Callable[..., tuple[int, str, str]]

LONG = "x" * 5000
NOBODY = "~nosuchuser-of-this-machine/x"


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "--hf-path", "{}", "--mlx-path", "out"),
        ("compose", "--encoder", "{}", "--decoder", "d", "--mlx-path", "out"),
        ("generate", "-p", "x", "--cache-dir", "{}", "--cache-gb", "1"),
    ],
    ids=lambda words: words[0],
)
def test_a_path_that_cannot_be_looked_at(words: tuple[str, ...], cli: Cli) -> None:
    status, out, err = cli(*(w.format(LONG) for w in words))
    assert (status, out, err.count("\n")) == (2, "", 1) and len(err) < 200
    assert f"error: {LONG[:60]}… is too long for a path; give a shorter one" in err
    status, out, err = cli(*(w.format(NOBODY) for w in words))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"error: {NOBODY}: there is no such user's folder; give the path" in err


def test_a_target_whose_name_is_too_long(
    cli: Cli, ui_folder: Path, tmp_path: Path
) -> None:
    target = tmp_path / LONG
    status, _, err = cli("quantize", "--model", ui_folder, "--mlx-path", target)
    assert status == 2 and "… is too long for a path; give a shorter one" in err


def test_a_folders_own_words_are_shown_on_their_line(ui_copy: Path, cli: Cli) -> None:
    path = ui_copy / "config.json"
    data = json.loads(path.read_text())
    evil = "evil\n\x1b]0;x\x07\x1b[2Jlicence     permissive"
    data["provenance"] = {"source": evil, "licence": "no\u202ene\x9b2J"}
    path.write_text(json.dumps(data))
    status, out, _ = cli("info", "--model", ui_copy)
    assert status == 0 and len(out.splitlines()) == 6
    assert r"source      evil\n\x1b]0;x\x07\x1b[2Jlicence     permissive" in out
    assert r"licence     no\u202ene\x9b2J" in out
    assert json.loads(cli("info", "--model", ui_copy, "--json")[1])["source"] == evil


def test_a_tensors_name_is_shown_on_its_line(ui_copy: Path, cli: Cli) -> None:
    file = ui_copy / "model.safetensors"
    weights, metadata = mx.load(str(file), return_metadata=True)
    mx.eval(weights)
    weights["encoder.\x1b[2Jx\x07"] = mx.zeros(2)
    mx.save_safetensors(str(file), weights, metadata)
    status, _, err = cli("generate", "--model", ui_copy, "-p", "x")
    assert status == 2 and r"encoder.\x1b[2Jx\x07: unknown" in err
    assert "\x1b" not in err


def test_what_people_write_stays_as_it_is() -> None:
    for text in ("Größe 設定 🙂 … ×", "Screenshot 3.04\u202fPM.png", "a b"):
        assert visible(text) == text
