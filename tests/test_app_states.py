"""The sheets of benchmarks/app_states.py; the pictures on them need a browser."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("app_states")


def test_pictures_stand_in_rows_with_captions(states: ModuleType) -> None:
    colours = ["red", "lime", "blue"]
    taken = [(f"state {c}", Image.new("RGB", (40, 80), c)) for c in colours]
    made = states.sheet(taken, 2, 20)
    gap, line = states.GAP, states.LINE
    assert made.size == (gap + 2 * (20 + gap), gap + 2 * (40 + line + gap))
    corners = [(gap, gap), (2 * gap + 20, gap), (gap, 40 + line + 2 * gap)]
    rgb = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert [made.getpixel(c) for c in corners] == rgb
    under = made.crop((gap, gap + 40, gap + 20, gap + 40 + line))
    assert len(under.getcolors() or []) > 1  # a caption


def test_captions_fit(states: ModuleType) -> None:
    font = states.ImageFont.load_default(size=15)
    text = "A region drawn: it is in the question"
    assert states.shortened(text, font, 900) == text
    short = states.shortened(text, font, 100)
    assert short.endswith("…") and font.getlength(short) <= 100
    assert text.startswith(short[:-1])


def test_sheets_are_as_good_as_their_limit_allows(
    states: ModuleType, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    image, path = Image.fromarray(noise), tmp_path / "a.webp"
    assert states.save_small(image, path, 1_000_000) == 90
    whole = path.stat().st_size
    assert states.save_small(image, path, whole - 1) < 90
    assert path.stat().st_size < whole
    with pytest.raises(ValueError, match="a.webp does not fit into 9 bytes; make it"):
        states.save_small(image, path, 9)
    assert not path.exists()
