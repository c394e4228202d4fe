"""The command line: what goes to stdout, what is one line of error, what is written."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mm15_mlx

Cli = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent
VERBS = [
    "generate", "ground", "widgets", "chat", "info", "eval", "convert", "compose",
    "quantize", "train", "fuse", "plan", "bench", "doctor", "data",
]  # fmt: skip


def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mm15_mlx", *map(str, arguments)],
        input=stdin, capture_output=True, text=True, env=environment(),
    )  # fmt: skip


def environment() -> dict[str, str]:
    return dict(os.environ, PYTHONPATH=str(ROOT))


# --- in a process of its own -----------------------------------------------------


def test_only_the_answer_goes_to_stdout(
    answering: Callable[..., Path], screen: Path
) -> None:
    model = answering("é設 ", (100, 200, 600, 700))
    done = run("generate", "--model", model, "--image", screen, "-p", "-", stdin="Hi")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "é設 [100, 200, 600, 700]\n"
    assert done.stderr.count("\n") == 1 and "80 image + " in done.stderr
    assert "tokens/s" in done.stderr and "s in all" in done.stderr


def test_a_mistake_is_one_line(screen: Path, button: Path) -> None:
    done = run("ground", "--model", button, "--image", "no.png", "--query", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no.png does not exist\n"


def test_help_is_quick() -> None:
    """Nothing heavy is imported: it takes a tenth of a second on an idle machine."""
    start = time.perf_counter()
    done = run("generate", "--help")
    assert time.perf_counter() - start < 10  # and a busy one
    assert done.returncode == 0 and "--prefill-step-size" in done.stdout
    code = (
        "import sys; from mm15_mlx.cli import main\n"
        "try: main(['generate', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = 'mlx.core', 'numpy', 'PIL', 'sentencepiece', 'mlx_lm', 'rich'\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert done.stderr == "[]\n"


def test_control_c(button: Path, screen: Path) -> None:
    chat = subprocess.Popen(
        [sys.executable, "-m", "mm15_mlx", "chat", "--model", str(button),
         "--image", str(screen)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment(),
    )  # fmt: skip
    assert chat.stdin and chat.stdout
    chat.stdin.write("Where?\n")
    chat.stdin.flush()
    assert chat.stdout.readline() == "[100, 200, 600, 700]\n"
    chat.send_signal(signal.SIGINT)
    out, err = chat.communicate(timeout=60)
    assert chat.returncode == 130 and out == "" and "Traceback" not in err


def test_a_reader_that_leaves() -> None:
    """`mm15-mlx … | head -0`: no traceback."""
    child = subprocess.Popen(
        [sys.executable, "-c",
         "import sys, time; sys.argv[1:] = ['data', '--help']; time.sleep(0.5)\n"
         "from mm15_mlx.cli import main; main()"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert child.stdout and child.stderr
    child.stdout.close()
    assert "Traceback" not in child.stderr.read()
    child.wait(timeout=60)
    child.stderr.close()


# --- help and version ----------------------------------------------------------------


def test_version(cli: Cli) -> None:
    assert cli("--version") == (0, f"mm15-mlx {mm15_mlx.__version__}\n", "")


@pytest.mark.parametrize(
    "verb", [[], *([v] for v in VERBS), ["data", "screens"]], ids=" ".join
)
def test_help_on_every_verb(cli: Cli, verb: list[str]) -> None:
    code, out, err = cli(*verb, "--help")
    assert code == 0 and err == "" and out.startswith("Usage:")


def test_every_verb_is_listed(cli: Cli) -> None:
    out = cli("--help")[1]
    assert all(f"\n  {verb} " in out for verb in VERBS)


def test_no_verb_shows_the_help(cli: Cli) -> None:
    code, out, err = cli()
    assert code == 2 and out == "" and err.startswith("Usage:") and "\n  info " in err


# --- generate ------------------------------------------------------------------------

KEYS = {
    "": {
        "text", "model", "finish_reason", "images", "boxes", "points", "usage",
        "timings", "peak_memory_bytes",
    },
    "images": {"path", "width", "height", "grid", "views", "tokens"},
    "boxes": {"label", "image", "px", "norm"},
    "usage": {"prompt_tokens", "image_tokens", "generated_tokens"},
    "timings": {
        "load_s", "encode_s", "prefill_s", "first_token_s", "decode_tokens_per_s",
    },
}  # fmt: skip


def test_json_has_the_keys_of_the_contract(
    cli: Cli, button: Path, screen: Path
) -> None:
    code, out, err = cli(
        "generate", "--model", button, "--image", screen, "--json",
        "-p", "Where is the Sign in button?",
    )  # fmt: skip
    assert code == 0 and "tokens/s" in err
    document = json.loads(out)
    assert set(document) == KEYS[""]
    assert set(document["images"][0]) == KEYS["images"]
    assert set(document["boxes"][0]) == KEYS["boxes"]
    assert set(document["usage"]) == KEYS["usage"]
    assert set(document["timings"]) == KEYS["timings"]
    assert document["text"] == "[100, 200, 600, 700]"
    assert document["model"] == str(button) and document["finish_reason"] == "stop"
    assert document["images"] == [{
        "path": str(screen), "width": 120, "height": 200, "grid": [2, 2], "views": 5,
        "tokens": 80,
    }]  # fmt: skip
    assert document["boxes"] == [{
        "label": "Sign in button", "image": 0, "px": [12, 40, 72, 140],
        "norm": [100, 200, 600, 700],
    }]  # fmt: skip
    assert document["points"] == [] and document["usage"]["image_tokens"] == 80
    assert document["usage"]["generated_tokens"] == 7
    assert document["timings"]["load_s"] > 0 and document["timings"]["encode_s"] > 0
    assert document["peak_memory_bytes"] > 0


def test_points_and_points_of_the_screen(
    cli: Cli, answering: Callable[..., Path], screen: Path, tmp_path: Path
) -> None:
    model = answering((100, 200))
    args = ["generate", "--model", model, "-p", "Where is it?", "--json"]
    out = cli(*args, "--image", screen, "--scale", "2")[1]
    assert json.loads(out)["points"] == [{
        "label": "it", "image": 0, "px": [12, 40], "norm": [100, 200], "pt": [6, 20],
    }]  # fmt: skip
    retina = tmp_path / "retina.png"
    Image.open(screen).save(retina, dpi=(144, 144))
    assert json.loads(cli(*args, "--image", retina)[1])["points"][0]["pt"] == [6, 20]
    code, _, err = cli(*args, "--image", screen, "--scale", "0")
    assert code == 2 and err.startswith("error: Invalid value for '--scale': ")


def test_text_alone(cli: Cli, button: Path, encoded: list[int]) -> None:
    code, out, err = cli("generate", "--model", button, "-p", "Hi", "--json")
    document = json.loads(out)
    assert code == 0 and document["images"] == [] and document["boxes"] == []
    assert encoded == [] and document["text"] == "[100, 200, 600, 700]"


@pytest.mark.parametrize("form", ["after", "repeated", "equals"])
def test_several_pictures(cli: Cli, button: Path, screen: Path, form: str) -> None:
    flags: list[str | Path] = {
        "after": ["--image", screen, screen],
        "repeated": ["--image", screen, "--image", screen],
        "equals": [f"--image={screen}", screen],
    }[form]
    out = cli("generate", "--model", button, *flags, "-p", "Hi", "--json")[1]
    assert len(json.loads(out)["images"]) == 2


def test_a_shot_and_a_system_text(
    cli: Cli, button: Path, screen: Path, tmp_path: Path
) -> None:
    """The boxes and the drawing belong to the question's picture."""
    example = tmp_path / "example.png"
    Image.new("RGB", (60, 60), "red").save(example)
    drawing = tmp_path / "out.png"
    code, out, err = cli(
        "generate", "--model", button, "--shot", f"{example}::Where is A?::On",
        "--system-prompt", "Read", "--image", screen, "-p", "Where is B?", "--json",
        "--draw", drawing,
    )  # fmt: skip
    assert code == 0, err
    document = json.loads(out)
    assert [i["path"] for i in document["images"]] == [str(example), str(screen)]
    assert document["boxes"][0]["image"] == 1
    assert document["boxes"][0]["px"] == [12, 40, 72, 140]
    assert Image.open(drawing).size == (120, 200)


def test_seed_and_sampling_flags(cli: Cli, ui_folder: Path) -> None:
    flags = ("--temp", "1", "--seed", "3", "--top-p", "0.9", "-m", "4", "-p", "Hi")
    first = cli("generate", "--model", ui_folder, *flags)
    assert (
        first[0] == 0 and first[1] == cli("generate", "--model", ui_folder, *flags)[1]
    )


# --- drawing -------------------------------------------------------------------------


def test_draw(cli: Cli, button: Path, screen: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    args = ["ground", "--model", button, "--image", screen, "--query", "OK", "--draw"]
    code, shown, err = cli(*args, out)
    assert code == 0 and shown == "OK: [12, 40, 72, 140]\n" and f"wrote {out}" in err
    drawn = Image.open(out).convert("RGB")
    assert drawn.size == (120, 200) and drawn.getpixel((10, 100)) == (0xE6, 0x19, 0x4B)
    first = out.read_bytes()
    code, shown, err = cli(*args, out)
    assert (code, shown) == (2, "")
    assert err == f"error: {out} exists; give --force to overwrite it\n"
    assert out.read_bytes() == first
    assert cli(*args, out, "--force")[0] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"], "no partial file"


def test_a_drawing_that_fails_leaves_nothing(
    cli: Cli, button: Path, screen: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    def full(image: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    code, out, err = cli(
        "ground", "--model", button, "--image", screen, "--query", "OK",
        "--draw", tmp_path / "out.png",
    )  # fmt: skip
    assert code == 2 and list(tmp_path.iterdir()) == []
    assert "out.png cannot be written: No space left on device" in err


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("out.txt", "out.txt must end in .png, .jpg or .webp"),
        ("no/out.png", "no/out.png: the folder no does not exist"),
        ("folder.png", "folder.png is a folder; name a file in it"),
        ("x" * 245 + ".png", f"{'x' * 245}.png cannot be written: File name too long"),
    ],
)
def test_drawings_that_cannot_be(
    cli: Cli, button: Path, screen: Path, tmp_path: Path, monkeypatch: Any,
    target: str, message: str, encoded: list[int],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    code, out, err = cli(
        "widgets", "--model", button, "--image", screen, "--draw", target, "--force"
    )
    assert (code, out) == (2, "") and err.startswith(f"error: --draw {message}")
    assert err.count("\n") == 1
    assert encoded == [], "told before the model runs"


def test_a_drawing_needs_a_picture(cli: Cli, button: Path) -> None:
    code, _, err = cli("generate", "--model", button, "-p", "Hi", "--draw", "out.png")
    assert code == 2
    assert err == "error: --draw out.png needs a picture to draw on; give --image\n"


# --- ground, widgets, chat -----------------------------------------------------------


def test_several_queries_encode_once(
    cli: Cli, button: Path, screen: Path, encoded: list[int]
) -> None:
    args = ("ground", "--model", button, "--image", screen)
    code, out, _ = cli(*args, "--query", "Sign in", '"Wi-Fi"', "--query", "back")
    assert code == 0 and sum(encoded) == 5
    assert out == "".join(
        f"{q}: [12, 40, 72, 140]\n" for q in ("Sign in", '"Wi-Fi"', "back")
    )
    code, out, _ = cli(*args, "--query", "Sign in", "back", "--json")
    document = json.loads(out)
    assert set(document) == KEYS[""]
    assert [b["label"] for b in document["boxes"]] == ["Sign in", "back"]
    assert document["text"] == "[100, 200, 600, 700]\n[100, 200, 600, 700]"


def test_not_found(cli: Cli, answering: Callable[..., Path], screen: Path) -> None:
    model = answering("No")
    code, out, _ = cli("ground", "--model", model, "--image", screen, "--query", "x")
    assert (code, out) == (0, "x: not found\n")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--query", " "], "a --query is empty; say what to find"),
        (["--query", "a", "--image", "b.png"], "b.png does not exist"),
    ],
)
def test_ground_mistakes(
    cli: Cli, button: Path, screen: Path, flags: list[str], message: str
) -> None:
    code, out, err = cli("ground", "--model", button, "--image", screen, *flags)
    assert (code, out) == (2, "") and err.startswith(f"error: {message}")


def test_widgets(
    cli: Cli, answering: Callable[..., Path], screen: Path, tmp_path: Path
) -> None:
    model = answering("switch ", (100, 200, 600, 700))
    args = ("widgets", "--model", model, "--image", screen)
    code, out, err = cli(*args, "--draw", tmp_path / "out.png")
    assert (code, out) == (0, "[12, 40, 72, 140] switch\n")
    assert (tmp_path / "out.png").exists() and "warning" not in err
    code, out, _ = cli(*args, "--json", "--scale", "2")
    assert json.loads(out) == {"elements": [{
        "type": "switch", "text": "", "px": [12, 40, 72, 140],
        "norm": [100, 200, 600, 700], "pt": [6, 20, 36, 70],
    }]}  # fmt: skip
    code, out, err = cli(*args, "--json", "--max-tokens", "3")
    assert json.loads(out) == {"elements": []}
    assert "warning: the list was cut at --max-tokens\n" in err
