"""Computed photographs: the same for ever, and with the statistics of light."""

import io
from random import Random

import numpy as np
import pytest
from PIL import Image

from mm15_mlx.screens import photos


def pixels(name: str) -> np.ndarray:
    data = photos.photo_file(name)
    assert data is not None
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)


@pytest.mark.parametrize("kind", photos.MAKERS)
def test_a_photo_is_the_same_for_ever(kind: str) -> None:
    first = photos.photo_file(f"{kind}-0.jpg")
    assert photos.photo_file.__wrapped__(f"{kind}-0.jpg") == first
    assert photos.photo_file(f"{kind}-2.jpg") != first
    assert pixels(f"{kind}-0.jpg").shape == (photos.SIDE, photos.SIDE, 3)


@pytest.mark.parametrize("kind", photos.MAKERS)
def test_power_falls_with_frequency(kind: str) -> None:
    """Photographs have most power in what is large; noise has the same in all."""
    grey = pixels(f"{kind}-2.jpg").mean(2)
    assert grey.std() > 5
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(photos.SIDE), np.fft.fftfreq(photos.SIDE)))
    rings = [power[(f >= low) & (f < 2 * low)].mean() for low in (0.01, 0.04, 0.16)]
    assert rings[0] > rings[1] > 4 * rings[2]


def test_tags_depend_on_the_seed_and_name_what_can_be_made() -> None:
    for kind in photos.KINDS:
        tags = [photos.photo(Random(k), kind) for k in range(60)]
        assert tags == [photos.photo(Random(k), kind) for k in range(60)]
        shown = [tag for tag in tags if tag]
        assert 20 < len(shown) < 58, "some stay drawn"
        for tag in shown:
            name = tag.split("/_photo/")[1].split('"')[0]
            assert name.rsplit("-", 1)[0] in photos.KINDS[kind]
    assert photos.photo(Random(0), "face") == ""


@pytest.mark.parametrize("name", ["moon-1.jpg", "land-1.png", "../land-1.jpg", "land"])
def test_other_names_are_not_ours(name: str) -> None:
    assert photos.photo_file(name) is None
