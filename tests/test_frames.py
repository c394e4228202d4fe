"""benchmarks/frames.py: what it asks, and that nothing is remembered between."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor

av = pytest.importorskip("av")
FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    made = importlib.import_module("frames")
    monkeypatch.setattr(made, "SECONDS", 2)
    return made


def test_a_prompt_has_each_frames_tokens_and_every_time_anew(
    frames: ModuleType,
    ui: tuple[MM15, Processor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, processor = ui
    each = model.config.connector_config.num_visual_tokens
    frames.recording(tmp_path / "r.mp4")
    encoded: list[int] = []
    encode = MM15.encode_image

    def counted(self: MM15, pixels: object) -> object:
        encoded.append(pixels.shape[0])
        return encode(self, pixels)

    monkeypatch.setattr(MM15, "encode_image", counted)
    found = frames.measured(model, processor, tmp_path / "r.mp4", [1, 2], trials=2)
    assert [found[n]["image_tokens"] for n in (1, 2)] == [each, 2 * each]
    assert sum(encoded) == 3 * (1 + 2)  # the first round too
    assert all(row["read_s"] > 0 and row["encode_s"] > 0 for row in found.values())


def test_more_frames_than_the_context_holds_are_an_error(
    frames: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert frames.main(["--frames", "99", "--trials", "1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: 99 video frames of 400 tokens are 39600 tokens")
