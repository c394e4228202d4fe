"""What the app copies as a command or as Python does the same again."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from app_data import ANSWER, talk, turn
from test_lora import write_adapters

from mm15_mlx import generate
from mm15_mlx.apps import export
from mm15_mlx.apps.settings import EACH, WHOLE, Settings, split_as
from mm15_mlx.dataset import read_split
from mm15_mlx.load import load
from mm15_mlx.lora import Tuning
from mm15_mlx.processor import Processor
from mm15_mlx.weights import load_model

QUOTED = 'Where\'s the "Sign in" $HOME `x` \\ button?'


@pytest.fixture
def shell(tmp_path: Path, screen: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Beside the picture, `mm15-mlx` and `python3` are those of this Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, words in (("mm15-mlx", "-m mm15_mlx"), ("python3", "")):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(screen.parent)
    return folder


def run(command: str) -> str:
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_copy_as_command(screen: Path) -> None:
    conversation = talk(screen, pictures=2)
    made = export.as_command(turn(QUOTED, scope=(0, 1)), conversation.shots)
    assert shlex.split(made) == [
        "mm15-mlx", "generate", "--model", "nano-ui", "--image", "screen.png",
        "screen1.png", "--max-tokens", "256", "--prompt", QUOTED,
    ]  # fmt: skip
    made = export.as_command(
        turn("And this?", earlier=((QUOTED, "a"),), adapters=Path("/runs of/mine")),
        conversation.shots,
    )
    first, second = made.split(" | ")
    assert shlex.split(first) == ["printf", "%s\\n", QUOTED, "And this?"]
    assert shlex.split(second)[:6] == [
        "mm15-mlx", "chat", "--model", "nano-ui", "--adapter-path", "/runs of/mine"
    ]  # fmt: skip


def test_copied_chat_runs(button: Path, screen: Path, shell: Path) -> None:
    asked = turn(
        QUOTED, model=str(button), earlier=(("What's 'this'?", ANSWER),),
        settings=Settings(20),
    )  # fmt: skip
    command = export.as_command(asked, talk(screen).shots)
    assert "| mm15-mlx chat" in command
    assert run(command) == f"{ANSWER}\n{ANSWER}\n"


def test_copied_adapters_are_found(
    ui_folder: Path, screen: Path, tmp_path: Path, shell: Path
) -> None:
    """By their whole path, as a command and as Python; their answer is another."""
    adapters = tmp_path / "my runs" / "mine"
    adapters.parent.mkdir()
    write_adapters(adapters, load_model(ui_folder)[0], Tuning())
    question = "What is this?"

    def said(path: Path | None) -> str:
        model, processor = load(ui_folder, adapter_path=path)
        images = [str(screen)]
        return generate(model, processor, question, images, max_tokens=8).text

    right = said(adapters)
    assert right != said(None)
    asked = turn(
        question, model=str(ui_folder), adapters=adapters, settings=Settings(8)
    )
    shots = talk(screen).shots
    assert run(export.as_command(asked, shots)) == f"{right}\n"
    assert run(f"python3 - <<'END'\n{export.as_python(asked, shots)}END") == (
        f"{right} []\n"
    )


def test_a_question_about_the_word_image(
    ui_folder: Path, screen: Path, shell: Path
) -> None:
    """The page asks it as it stands; copied, `<image>` would be a picture's place."""
    question = "What does the <image> tag show?"
    asked = turn(question, model=str(ui_folder), settings=Settings(8))
    model, processor = load(ui_folder)
    parts = [{"type": "image"}, {"type": "text", "text": question}]
    message = {"role": "user", "content": parts}
    right = generate(model, processor, [message], [str(screen)], max_tokens=8)
    assert run(export.as_command(asked, talk(screen).shots)) == (
        f"{right.text} {right.boxes}\n"
    )
    dash = export.as_command(turn("-", model=str(ui_folder)), talk(screen).shots)
    assert dash.startswith("python3 - <<'END'\n"), "--prompt - would read stdin"
    row = export.training_row(asked, "A screen.", ["screen.png"])
    assert row["messages"][0]["content"] == parts
    folder = screen.parent / "rows"
    export.save_row(folder, asked, talk(screen).shots, "A screen.")
    (sample,) = read_split(folder, "train", processor).samples
    ids = processor.prepare([message], [str(screen)]).ids
    assert sample.ids[: len(ids)].tolist() == ids


def test_copied_splitting_runs(ui_folder: Path, screen: Path, shell: Path) -> None:
    """No flag limits tiles, or splits pictures of a chat: Python does, in a shell."""
    shots = talk(screen).shots
    asked = turn("What?", model=str(ui_folder), settings=Settings(8, split="2"))
    model, processor = load(ui_folder)
    fewer = Processor(split_as(processor.config, "2"), processor.tokenizer)
    right = generate(model, fewer, "What?", [str(screen)], max_tokens=8)
    assert len(right.images[0].views) == 3
    command = export.as_command(asked, shots)
    assert run(command) == f"{right.text} {right.boxes}\n"
    for split in (WHOLE, EACH):
        later = turn(
            "And?", model=str(ui_folder), settings=Settings(8, split=split),
            earlier=(("What?", "this"),),
        )  # fmt: skip
        assert export.as_command(later, shots).startswith("python3 - <<'END'\n")
