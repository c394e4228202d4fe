"""What is kept of a video's frames: not their pixels, but what a model sees of them."""

import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_video import SIZE, make

from mm15_mlx import video
from mm15_mlx.video import VideoError, read_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds, ten frames a second."""
    return make(tmp_path_factory.mktemp("v") / "a.mp4", [k / 10 for k in range(30)])


def test_only_views_are_kept(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two frames are in memory at once, and a limit on all of them is none."""
    monkeypatch.setattr(video, "MAX_TOTAL", 4 * 64 * 48)
    made: list[weakref.ref] = []
    alive: list[int] = []

    def view(image: Image.Image) -> np.ndarray:
        alive.append(sum(one() is not None for one in made))
        made.append(weakref.ref(image))
        return np.asarray(image.resize((8, 8)))

    found = read_clip(clip, 6, view=view)
    assert alive == [0] * 6
    assert sum(one() is not None for one in made) == 0
    assert sum(f.view.nbytes for f in found.frames) == 6 * 8 * 8 * 3
    assert {f.size for f in found.frames} == {SIZE}
    whole = read_clip(clip, 4)
    again = read_clip(clip, 4, view=view)
    assert again.times == whole.times
    for kept, frame in zip(again.frames, whole.frames, strict=True):
        assert np.array_equal(kept.view, np.asarray(frame.image.resize((8, 8))))
        assert np.array_equal(np.asarray(kept.image), np.asarray(frame.image))


def test_a_frame_whose_file_is_gone(clip: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a.mp4"
    copy.write_bytes(clip.read_bytes())
    (frame,) = read_clip(copy, 1, view=np.asarray).frames
    copy.unlink()
    assert frame.size == SIZE and frame.view.shape == (48, 64, 3)
    with pytest.raises(VideoError, match=r"a\.mp4 does not exist"):
        _ = frame.image
