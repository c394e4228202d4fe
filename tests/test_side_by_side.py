"""benchmarks/side_by_side.py: runs that are split and go on, and what is joined.

No program is started: a trial's process is replaced by figures.
"""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

FOLDER = Path(__file__).parents[1] / "benchmarks"
FIGURES = {
    "cold_start_s": 2.0, "first_token_s": 1.0, "second_question_s": 0.5,
    "more_questions_s": 4.0, "decode_tokens_per_s": 50.0, "peak_rss_bytes": 2e8,
    "prompt_tokens": 600, "cpu_share": 1.9,
}  # fmt: skip
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("side_by_side")


@pytest.fixture
def asked(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which program was asked how many questions, trial by trial."""
    calls: list[tuple[str, int]] = []

    def fake(way: Any, args: Any, questions: int, tokens: int) -> dict[str, Any]:
        name = "mlx-vlm" if "mlx_vlm" in way[1] else "ours"
        name = "torch" if "import torch" in way[1] else name
        calls.append((name, questions))
        if name == "torch":
            raise RuntimeError("no torch here")
        slow = 4 if name == "mlx-vlm" else 1
        figures = {key: slow * value for key, value in FIGURES.items()}
        return {**figures, "versions": {name: "1"}}

    monkeypatch.setattr(script, "trial", fake)
    monkeypatch.setattr(script, "models", lambda work, *_: (work, work))
    return calls


@pytest.fixture
def run(script: ModuleType, asked: Any, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        status = script.main([str(a) for a in arguments])
        return status, *capsys.readouterr()

    return run


def test_a_run_in_parts(run: Run, asked: list[tuple[str, int]], tmp_path: Path) -> None:
    out = tmp_path / "runs" / "beside.jsonl"
    ours = ("--out", out, "--only", "mm15-mlx")
    assert run(*ours, "--trials", "2")[0] == 0
    # the first is a short one that warms the disk
    assert asked == [("ours", 1), ("ours", 10), ("ours", 10)]
    asked.clear()
    assert run(*ours, "--trials", "3")[0] == 0
    assert asked == [("ours", 1), ("ours", 10)], "only what was missing"
    asked.clear()
    assert run(*ours, "--trials", "3")[0] == 0 and asked == []
    peer = ("--only", "mlx-vlm", "--peer-python", "python", "--trials", "1")
    assert run("--out", out, *peer)[0] == 0
    asked.clear()
    status, printed, _ = run("--table", out)
    assert status == 0 and asked == []
    lines = printed.splitlines()
    assert lines[2] == "| mm15-mlx | 2 | 1 | 0.5 | 4 | 50 | 200 | 600 | 1.9 | 3 |"
    assert lines[3].startswith("| mlx-vlm | 8 | 4 | 2 | 16 | 200 | 800 |")
    assert "| mlx-vlm | 0.25 | 0.25 | 0.25 | 0.25 | 0.25 | 0.25 |" in lines
    report = json.loads(lines[-1])
    assert report["figures"]["mm15-mlx"]["first_token_s"] == [1, 1, 1]
    assert report["questions"] == 8 and report["versions"]["mlx-vlm"] == "1"


def test_what_fails_is_said_and_the_rest_goes_on(run: Run) -> None:
    status, out, err = run("--trials", "1")
    assert status == 0 and out.startswith("| | cold start, s |")
    assert "transformers float32 failed: no torch here" in err
    assert "| mm15-mlx |" in out and "| transformers" not in out


def test_the_slowest_runs_where_it_is_named(script: ModuleType) -> None:
    found = script.ways("python", Path("a"), Path("b"))
    assert "mlx-vlm, as installed" not in script.chosen(found, None)
    ((name, way),) = script.chosen(found, "mlx-vlm, as installed").items()
    assert "blas.preload" not in way[1] and "blas.preload" in found["mlx-vlm"][1]
    for _, code, _ in found.values():
        compile(code, "trial", "exec")


def test_text_alone_has_a_row_of_llama_cpp(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "llama.cpp" not in script.ways("python", Path("a"), Path("b"))
    found = script.ways("python", Path("runs/a/source"), Path("b"), words=3)
    python, code, folder = found["llama.cpp"]
    compile(code, "trial", "exec")
    assert python == "python" and folder == Path("runs/a")
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return type("Done", (), {"returncode": 0, "stdout": "{}"})

    monkeypatch.setattr(script.subprocess, "run", run)
    args = script.parsed(["--words", "3"])
    script.trial(found["mm15-mlx"], args, 2, 5)
    image, questions, chat, tokens = commands[0][4:8]
    first, second = json.loads(questions)
    assert image == "" and "<image>" not in chat and tokens == "5"
    assert first.split()[:3] == second.split()[:3] and first != second
    assert script.settings(args)["words"] == 3 and "image" not in script.settings(args)
    assert "words" not in script.settings(script.parsed([]))


def test_names_of_llama_cpp(script: ModuleType) -> None:
    name_of = importlib.import_module("llama_peer").name_of
    assert name_of("model.text_model.layers.7.mlp.up_proj.weight") == (
        "blk.7.ffn_up.weight"
    )
    assert name_of("model.language_model.embed_tokens.weight") == "token_embd.weight"
    assert name_of("lm_head.weight") == "output.weight"
    assert name_of("model.vision_model.encoder.layers.0.mlp.fc1.weight") is None


def test_names_as_they_are_published(script: ModuleType, tmp_path: Path) -> None:
    peers = importlib.import_module("peers")
    path = tmp_path / "model.safetensors"
    tower = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file({"vision_tower.norm.weight": tower, "head.weight": tower + 1}, path)
    peers.rename(path, *peers.SHAPES["llava-next-7b"].published)
    found = load_file(path)
    assert set(found) == {"vision_tower.vision_model.norm.weight", "head.weight"}
    assert np.array_equal(found["vision_tower.vision_model.norm.weight"], tower)
    before = path.read_bytes()
    peers.rename(path, *peers.SHAPES["smolvlm-256m"].published)
    assert path.read_bytes() == before


def test_a_single_question_is_a_whole_trial(script: ModuleType) -> None:
    """The code that every trial ends with, run with an answer of our own."""
    peers = importlib.import_module("peers")
    said: list[str] = []
    space: dict[str, Any] = {
        "questions": json.dumps(["a"]), "tokens": 2, "together": None, "started": 0.0,
        "packages": ("mlx",), "print": said.append,
        "answer": lambda *_: iter([type("R", (), {"prompt_tokens": 7})] * 2),
    }  # fmt: skip
    exec(peers.MEASURE, space)
    times = json.loads(said[0])
    assert times["prompt_tokens"] == 7 and "second_question_s" not in times
    space["questions"] = json.dumps(["a", "b", "c"])
    exec(peers.MEASURE, space)
    assert {"second_question_s", "more_questions_s"} <= set(json.loads(said[1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--only", "mlx"),
            "--only has 'mlx'; it must be one of mm15-mlx; transformer",
        ),
        (("--only", "mlx-vlm"), "bfloat16 (mlx-vlm needs --peer-python)"),
        (
            ("--words", "3", "--only", "llama.cpp"),
            "bfloat16 (mlx-vlm needs --peer-python)",
        ),
        (
            ("--words", "3", "--only", "llama.cpp", "--peer-python", "false"),
            "false could not write text.gguf; llama.cpp's row needs gguf and lla",
        ),
        (
            ("--table", "none.jsonl"),
            "there are no trials yet; run them with --out FILE",
        ),
        (("--table", "bad.jsonl"), "bad.jsonl, line 1 is no trial; name a file of --o"),
        (
            ("--table", "two.jsonl"),
            "are of other settings ({'layers': 2}) than the fir",
        ),
    ],
)
def test_mistakes(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.jsonl").write_text("{}\n")
    line = {"name": "a", "figures": {}, "settings": {"layers": 1}}
    rows = [line, line | {"settings": {"layers": 2}}]
    Path("two.jsonl").write_text("\n".join(map(json.dumps, rows)))
    status, out, err = run(*arguments)
    assert (status, out) == (2, "") and message in err
