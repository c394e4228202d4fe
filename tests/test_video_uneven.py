"""Videos whose frames are shown for unequal times, that hold more than the pictures,
or that a camera mirrored."""

import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mm15_mlx.video import VideoError, read_clip, spread
from tests.test_video import make, which

av = pytest.importorskip("av")

TENTHS = [k / 10 for k in range(20)]


def with_sound(path: Path, seconds: int, begin: float = 0.0) -> Path:
    """Two seconds of pictures, that begin at `begin`, and a longer sound."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size = 5
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        sound = out.add_stream("aac", rate=8000, layout="mono")
        for time in TENTHS:
            frame = av.VideoFrame.from_image(Image.new("RGB", (64, 48), "grey"))
            frame.pts = round(1000 * (time + begin))
            frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        for k in range(seconds):
            quiet = np.zeros((1, 8000), np.float32)
            part = av.AudioFrame.from_ndarray(quiet, "fltp", "mono")
            part.sample_rate, part.pts = 8000, 8000 * k
            part.time_base = Fraction(1, 8000)
            out.mux(sound.encode(part))
        out.mux(sound.encode())
    return path


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_sound_that_lasts_longer_is_no_part_of_the_video(
    tmp_path: Path, name: str
) -> None:
    path = with_sound(tmp_path / name, 10)
    found = read_clip(path, 4)  # middles 0.25, 0.75, 1.25, 1.75
    assert found.duration == pytest.approx(2.0, abs=0.11)
    assert found.times == pytest.approx([0.2, 0.7, 1.2, 1.7])
    with pytest.raises(VideoError, match=r"lasts [12]\.\d+ s; the start 3 s is beyond"):
        read_clip(path, 4, start=3)


def test_what_is_before_the_first_frame_is_no_part_of_it(tmp_path: Path) -> None:
    found = read_clip(with_sound(tmp_path / "a.mkv", 8, begin=5.0), 4)
    assert found.duration == pytest.approx(2.0, abs=0.11)
    assert found.times == pytest.approx([0.2, 0.7, 1.2, 1.7])


def test_where_one_frame_is_shown_for_long_others_are_taken_too(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", [*TENTHS, 60.0])
    found = read_clip(path, 8)
    assert len(found.times) == 8 and 1.9 in [round(t, 3) for t in found.times]
    assert found.times == sorted(found.times)
    assert max(b - a for a, b in pairwise(found.times[:7])) < 0.5  # evenly
    assert [which(p.image) for p in found.frames[:7]] == [
        round(10 * t) for t in found.times[:7]
    ]
    part = read_clip(path, 8, start=1.55, end=3)  # five frames are in it
    assert part.times == pytest.approx([1.5, 1.6, 1.7, 1.8, 1.9])


RISING = st.lists(
    st.integers(0, 10**6).map(lambda ms: ms / 1000), min_size=1, unique=True
).map(sorted)


@given(RISING, st.integers(1, 30))
def test_as_many_frames_as_there_are(times: list[float], wanted: int) -> None:
    step = times[-1] / wanted
    middles = [(k + 0.5) * step for k in range(wanted)]
    found = spread(times, middles)
    assert found == sorted(set(found)) and set(found) <= set(times)
    assert len(found) == min(wanted, len(times))
    shown = {max((t for t in times if t <= m), default=times[0]) for m in middles}
    assert shown <= set(found)


TURN = {  # rows of a display matrix, and what it does to a picture
    "mirrored": ((-1, 0, 0, 1), ImageOps.mirror),
    "upside down": ((1, 0, 0, -1), ImageOps.flip),
    "turned": ((0, 1, -1, 0), lambda i: i.transpose(Image.Transpose.ROTATE_270)),
    "turned and mirrored": ((0, 1, 1, 0), lambda i: i.transpose(
        Image.Transpose.TRANSPOSE
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", TURN)
def test_a_camera_that_mirrors(tmp_path: Path, name: str) -> None:
    def corner(_: int) -> Image.Image:
        image = Image.new("RGB", (64, 48), "black")
        image.paste("white", (0, 0, 32, 12))
        return image

    path = make(tmp_path / "a.mp4", [0, 0.1], picture=corner)
    (a, b, c, d), done = TURN[name]
    one = 1 << 16
    was = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    own = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    data = path.read_bytes()
    at = data.rindex(was)  # the movie's is before the track's
    path.write_bytes(data[:at] + own + data[at + len(own) :])
    found, upright = read_clip(path).frames[0].image, done(corner(0))
    assert found.size == upright.size
    apart = np.abs(np.asarray(found, int) - np.asarray(upright, int))
    assert apart.mean() < 20


def test_times_that_no_video_has(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", [0, 0.1])
    with pytest.raises(VideoError, match="the start 1000.* s is not a time"):
        read_clip(path, 2, start=10**400)
