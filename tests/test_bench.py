"""`mm15-mlx bench`: trials of the production path, and how they are shown."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mm15_mlx import bench, calibrate
from mm15_mlx.load import load_processor

Cli = Callable[..., tuple[int, str, str]]
FIGURES = {
    "load_s", "picture_s", "encode_s", "prefill_s", "first_token_s",
    "decode_tokens_per_s", "peak_memory_bytes",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of small matrices: what they are is no matter here."""
    monkeypatch.setattr(bench, "_SWEEP", 1_000_000)
    monkeypatch.setattr(bench, "_ROWS", 8)
    monkeypatch.setattr(calibrate, "_BUDGET_S", 0.0)


def test_the_document(cli: Cli, button: Path, screen: Path) -> None:
    """`button` would stop after seven tokens; a trial's answer does not."""
    code, out, err = cli(
        "bench", "--model", button, "--image", screen, "--trials", "3",
        "--max-tokens", "12", "--json",
    )  # fmt: skip
    assert code == 0, err
    facts: dict[str, Any] = json.loads(out)
    assert facts["views"] == 5 and facts["image_tokens"] == 80
    assert facts["prompt_tokens"] > 80 and facts["trials"] == 3
    assert set(facts["figures"]) == FIGURES
    for figure in facts["figures"].values():
        assert 0 < figure["min"] <= figure["median"] <= figure["max"]
    shares = facts["share_of_limit"]
    assert set(shares) == {"encode_s", "prefill_s", "decode_tokens_per_s"}
    assert min(shares.values()) > 0 and min(facts["limits"].values()) > 0
    weights = (button / "model.safetensors").stat().st_size
    assert facts["figures"]["peak_memory_bytes"]["min"] > 0.95 * weights
    assert facts["process_peak_bytes"] > facts["figures"]["peak_memory_bytes"]["max"]
    assert err.count("first token") == 4 and err.startswith("warm-up: ")


def test_the_table(cli: Cli, button: Path) -> None:
    code, out, err = cli(
        "bench", "--model", button, "--views", "0", "--trials", "1",
        "--max-tokens", "4", "--prompt-tokens", "60", "--batch", "2",
    )  # fmt: skip
    assert code == 0, err
    lines = out.splitlines()
    assert lines[1].startswith("0 views, prompt ") and "(0 visual)" in lines[1]
    assert int(lines[1].split()[3]) >= 60
    assert lines[2].split() == ["median", "min", "max", "of", "limit"]
    (decode,) = [line for line in lines if line.startswith("decode  ")]
    median, low, high = decode.split()[1:4]
    assert median == low == high  # one trial
    assert decode.endswith("%") and "tokens/s" in decode
    (batch,) = [line for line in lines if line.startswith("decode, batch")]
    assert float(batch.split()[2]) > 0
    assert "GFLOP/s at the encoder's sizes" in out and " GB/s" in out


def test_every_trial_starts_from_nothing(
    button: Path, screen: Path, encoded: list[int]
) -> None:
    processor = load_processor(button)
    for _ in range(2):
        said = bench.trial(
            button, processor, bench.QUESTION, [bench.load_picture(screen)],
            bench.Wanted(max_tokens=2),
        )  # fmt: skip
        assert set(said) == FIGURES
        assert said["first_token_s"] >= said["encode_s"] + said["prefill_s"]
    assert encoded == [5, 5]  # five views, twice


def test_a_drawn_screen() -> None:
    picture = bench.screen((120, 200))
    assert picture.size == (120, 200)
    assert len(set(picture.image.tobytes())) > 10  # not one flat colour


def test_a_rate_counts_every_product() -> None:
    calls: list[int] = []

    def work() -> mx.array:
        calls.append(1)
        return mx.ones(1)

    assert calibrate.seconds(work) > 0
    assert len(calls) == 4  # a warm-up, and three tries of no budget
    assert calibrate.matmul_rate(8, 16, 32, mx.float32) > 0
    assert calibrate.bandwidth(1, mx.float32) > 0  # one matrix at least


def test_mistakes(cli: Cli, button: Path, screen: Path, tmp_path: Path) -> None:
    code, out, err = cli("bench", "--model", button, "--image", tmp_path / "no.png")
    assert (code, out) == (2, "") and "no.png does not exist" in err
    code, out, err = cli("bench", "--model", button, "--image", screen, "--views", "1")
    assert (code, out) == (2, "")
    assert "--image and --views both choose a picture; give one" in err
    code, out, err = cli("bench", "--model", button, "--views", "2")
    assert (code, out) == (2, "")
    assert "--views is 2; this model's pictures have 1, 3, 4, 5 views" in err
    code, out, err = cli("bench", "--model", button, "--prompt-tokens", "5000")
    assert (code, out) == (2, "") and "the model's context is 4096" in err
