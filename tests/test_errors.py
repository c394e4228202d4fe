"""A mistake that a user can make: one line, status 2, before any weights load."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Cli = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gnerate"], "No such command 'gnerate'"),
        (["generate", "-p", "x", "--imge", "a"], "No such option: --imge"),
        (["generate"], "Invalid value for '--prompt': give it, or --input"),
        (["generate", "-p", "x", "stray"], "Got unexpected extra argument"),
        (["generate", "-p", "x", "--temp", "hot"], "Invalid value for '--temp': "),
        (
            ["generate", "-p", "x", "--temp", "-1"],
            "temp is -1.0; it must be 0 (greedy)",
        ),
        (["generate", "-p", ""], "the prompt is empty; ask something"),
        (["generate", "-p", "-"], "the prompt is empty; ask something"),
        (["generate", "-p", "x", "--shot", "a::b"], "--shot 'a::b' is not IMG::QUEST"),
        (["generate", "-p", "x", "--image", "no.png"], "no.png does not exist"),
        (
            ["generate", "-p", "x", "--shot", "no.png::a::b"],
            "--shot no.png: no.png does not exist",
        ),
        (
            ["generate", "-p", "<box>1,2,3,4</box>"],
            "<box>1,2,3,4</box> marks a place, ",
        ),
        (["chat", "--image", "no.png"], "no.png does not exist"),
        (["widgets", "--image", "no.png"], "no.png does not exist"),
        (["widgets"], "Missing option '--image'."),
        (["ground", "--image", "a.png"], "Missing option '--query'."),
        (["generate", "-p", "x", "--kv-bits", "3"], "kv-bits is 3; it must be 2, 4 or"),
        (["info", "--image", "no.png"], "no.png does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_status_2(
    cli: Cli, ui_copy: Path, monkeypatch: Any, arguments: list[str], message: str
) -> None:
    """Told although the weights are missing: inputs are checked before they load."""
    (ui_copy / "model.safetensors").unlink()
    monkeypatch.setattr("sys.argv", ["mm15-mlx"])
    model = ["--model", str(ui_copy)] if arguments[0] != "gnerate" else []
    code, out, err = cli(arguments[0], *model, *arguments[1:])
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("verb", "long"),
    [
        (["generate", "-p", "x"], "model 'yyy"),
        (["info"], "model 'yyy"),
        (["plan", "--chip", "m1"], "--model is 'yyy"),
    ],
)
def test_models_that_cannot_be_paths(cli: Cli, verb: list[str], long: str) -> None:
    for name, message in (
        ("y" * 300, long),
        ("~nosuchuser/x", "~nosuchuser/x: there is no such user's folder; give the"),
    ):
        code, out, err = cli(*verb, "--model", name)
        assert (code, out) == (2, "") and err.startswith(f"error: {message}")
        assert err.count("\n") == 1


def test_missing_weights(cli: Cli, ui_copy: Path, screen: Path) -> None:
    (ui_copy / "model.safetensors").unlink()
    code, out, err = cli("generate", "--model", ui_copy, "--image", screen, "-p", "Hi")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "lacks the weight file model.safetensors; fetch the model again" in err


def test_many_problems_are_still_one_line(cli: Cli, ui_copy: Path) -> None:
    config = ui_copy / "config.json"
    config.write_text(
        config.read_text().replace('"hidden_size": 64', '"hidden_size": 32')
    )
    code, _, err = cli("generate", "--model", ui_copy, "-p", "Hi")
    assert code == 2 and err.count("\n") == 1 and "do not fit its config.json" in err


def test_debug_shows_the_traceback(cli: Cli, ui_folder: Path) -> None:
    args = ("generate", "--model", ui_folder, "-p", "x", "--image", "no.png")
    code, out, err = cli(*args, "--debug")
    assert (code, out) == (2, "") and err.startswith("Traceback")
    assert err.endswith("error: no.png does not exist\n")


def test_a_fault_of_ours_is_no_mistake(
    cli: Cli, ui_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("mm15_mlx.info.describe", broken)
    with pytest.raises(ZeroDivisionError):
        cli("info", "--model", ui_folder)


def test_a_prompt_longer_than_the_context(cli: Cli, ui_folder: Path) -> None:
    code, _, err = cli("generate", "--model", ui_folder, "-p", "-", stdin="ab " * 9000)
    assert code == 2 and "the model's context is 4096: use a shorter text" in err


def test_pictures_of_every_kind_are_seen(
    cli: Cli, button: Path, screen: Path, tmp_path: Path
) -> None:
    """From the file to the answer, through the program."""
    image = Image.open(screen)
    for name, mode in (("a.gif", "P"), ("b.jpg", "CMYK"), ("c.png", "RGBA")):
        image.convert(mode).save(tmp_path / name)
    Image.new("RGB", (1, 10_000)).save(tmp_path / "d.png")
    for path in sorted(tmp_path.iterdir()):
        code, out, err = cli("generate", "--model", button, "--image", path, "-p", "Hi")
        assert (code, out) == (0, "[100, 200, 600, 700]\n"), err
