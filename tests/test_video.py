"""Frames of video files. The clips are made here, with the codecs of the wheel.

Frame k of a clip has a colour of its own, so that a test sees which frames came back.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mm15_mlx import video
from mm15_mlx.video import VideoError, frame_at, read_clip

av = pytest.importorskip("av")

SIZE = (64, 48)
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n"


def colour(k: int) -> tuple[int, int, int]:
    return (8 * k % 256, 128, 255 - 8 * k % 256)


def which(image: Image.Image) -> int:
    """The number of the frame below 32 that has this colour."""
    red, _, blue = np.asarray(image.convert("RGB"))[4:-4, 4:-4].mean((0, 1))
    return round((red + 255 - blue) / 16)


def make(
    path: Path,
    times: Sequence[float],
    codec: str = "mpeg4",
    size: tuple[int, int] = SIZE,
    gop: int = 5,
    turn: int = 0,
    ratio: Fraction | None = None,
    picture: Callable[[int], Image.Image] | None = None,
) -> Path:
    """A clip whose frames are shown at `times`, in seconds."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size, stream.bit_rate = gop, 4_000_000
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if ratio:
            stream.codec_context.sample_aspect_ratio = ratio
        if turn:
            stream.set_display_rotation(turn)
        for k, time in enumerate(times):
            image = picture(k) if picture else Image.new("RGB", size, colour(k % 32))
            frame = av.VideoFrame.from_image(image)
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds, ten frames a second."""
    return make(tmp_path_factory.mktemp("v") / "a.mp4", [k / 10 for k in range(30)])


def test_the_middle_of_each_segment(clip: Path) -> None:
    found = read_clip(clip, frames=4)  # middles 0.375, 1.125, 1.875, 2.625
    assert found.times == pytest.approx([0.3, 1.1, 1.8, 2.6])
    assert [which(p.image) for p in found.frames] == [3, 11, 18, 26]
    assert found.duration == pytest.approx(3.0, abs=0.11)
    assert found.path == str(clip)
    assert {p.size for p in found.frames} == {SIZE}


def test_a_part_of_the_clip(clip: Path) -> None:
    found = read_clip(str(clip), frames=2, start=1.0, end=2.0)  # middles 1.25, 1.75
    assert found.times == pytest.approx([1.2, 1.7])
    assert read_clip(clip, 1, start=2.5).times == pytest.approx([2.7])


def test_one_frame(clip: Path) -> None:
    found = frame_at(clip, 1.75)
    assert found.times == pytest.approx([1.7])
    assert which(found.frames[0].image) == 17
    assert which(frame_at(clip, 0).frames[0].image) == 0
    assert which(frame_at(clip, 2.9).frames[0].image) == 29


def test_few_frames_come_once_each(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", [0, 0.1, 0.2, 3.0, 3.1])
    found = read_clip(path)
    assert found.times == pytest.approx([0, 0.1, 0.2, 3.0, 3.1])
    assert [which(p.image) for p in found.frames] == [0, 1, 2, 3, 4]
    part = read_clip(path, 24, start=0.15, end=3.05)  # frame 1 is shown at 0.15
    assert part.times == pytest.approx([0.1, 0.2, 3.0])


def test_time_stamps_decide_not_indices(tmp_path: Path) -> None:
    """Twenty frames in the first second, five in the nine that follow."""
    times = [k / 20 for k in range(20)] + [1, 3, 5, 7, 9]
    found = read_clip(make(tmp_path / "a.mkv", times), frames=5)
    assert found.times == pytest.approx([0.9, 1, 3, 5, 7], abs=0.06)
    assert [which(p.image) for p in found.frames] == [18, 20, 21, 22, 23]


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),  # with B-frames: packets are not in the order shown
        ("a.mov", "mpeg4"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mpeg4"),
        ("a.ts", "libx264"),  # begins at 1.4 s
        ("a.flv", "libx264"),
    ],
)
def test_containers(tmp_path: Path, name: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    times = [k / 10 for k in range(30)]
    found = read_clip(make(tmp_path / name, times, codec, gop=12), frames=6)
    # Some headers count a codec's delay as duration.
    assert found.times == pytest.approx([0.2, 0.7, 1.2, 1.7, 2.2, 2.7], abs=0.21)
    numbers = [which(p.image) for p in found.frames]
    assert numbers == [round(10 * t) for t in found.times]


def test_an_animated_gif(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    images = [Image.new("RGB", SIZE, colour(4 * k)) for k in range(6)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=100)
    found = read_clip(path, frames=3)
    assert [which(p.image) for p in found.frames] == [4, 12, 20]
    assert found.times == pytest.approx([0.1, 0.3, 0.5])


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_a_phone_held_otherwise_gives_upright_pictures(
    tmp_path: Path, turn: int
) -> None:
    def corner(_: int) -> Image.Image:
        image = Image.new("RGB", SIZE, "black")
        image.paste("white", (0, 0, 16, 16))
        return image

    if not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a display matrix")
    path = make(tmp_path / "a.mp4", [0, 0.1], turn=turn, picture=corner)
    upright = corner(0).rotate(turn, expand=True)  # counter-clockwise, both
    found = read_clip(path).frames[0].image
    assert found.size == upright.size
    difference = np.abs(np.asarray(found, int) - np.asarray(upright, int))
    assert difference.mean() < 20
    assert difference[:8, :8].mean() < 40 and difference[-8:, -8:].mean() < 40


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", [0, 0.1], ratio=Fraction(4, 3))
    assert read_clip(path).frames[0].size == (85, 48)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times of all frames that were decoded."""
    seen: list[float] = []
    whole = video._Reader.frames

    def counted(self: video._Reader) -> Iterator:
        for time, frame in whole(self):
            seen.append(time)
            yield time, frame

    monkeypatch.setattr(video._Reader, "frames", counted)
    return seen


def test_four_hours_cost_some_short_decodes(
    tmp_path: Path, decoded: list[float]
) -> None:
    """1440 frames, a keyframe every eighth: N decodes of eight and one ahead."""
    path = make(tmp_path / "a.mp4", [10.0 * k for k in range(1440)], gop=8)
    found = read_clip(path, frames=24)
    assert found.duration == pytest.approx(14400, abs=20)
    assert len(found.frames) == 24
    assert len(decoded) <= 24 * 9
    decoded.clear()
    assert frame_at(path, 12345.0).times == pytest.approx([12340.0])
    assert len(decoded) <= 9


def test_a_clip_with_one_keyframe_is_decoded_once(
    tmp_path: Path, decoded: list[float]
) -> None:
    path = make(tmp_path / "a.mp4", [k / 10 for k in range(100)], gop=1000)
    assert len(read_clip(path, frames=20).frames) == 20
    assert len(decoded) <= 100


def test_a_broken_file_gives_what_is_before_the_break(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.mkv", [k / 10 for k in range(30)])
    data = whole.read_bytes()
    cut = tmp_path / "b.mkv"
    cut.write_bytes(data[: len(data) * 6 // 10])
    found = read_clip(cut, frames=6)
    assert 1.2 < found.duration < 2.1 and len(found.frames) == 6
    assert found.times[-1] > 0.8 * found.duration
    numbers = [which(p.image) for p in found.frames]
    assert numbers == [round(10 * t) for t in found.times]


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    """An MP4 whose list of frames comes first, cut in its middle."""
    path = tmp_path / "a.mp4"
    whole = make(tmp_path / "b.mp4", [k / 10 for k in range(30)])
    with (
        av.open(str(whole)) as given,
        av.open(str(path), "w", options={"movflags": "faststart"}) as out,
    ):
        stream = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(given.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    found = read_clip(path, frames=6)
    assert found.duration == pytest.approx(3.0, abs=0.11)
    assert len(found.frames) == 6 and found.times[-1] < 2.1


def test_a_file_without_its_index(clip: Path, tmp_path: Path) -> None:
    """An MP4 lists its frames at the end."""
    cut = tmp_path / "b.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(VideoError, match="is not a video this program reads, or cut"):
        read_clip(cut)


def test_a_file_without_frames(tmp_path: Path) -> None:
    data = make(tmp_path / "a.avi", [0, 1]).read_bytes()
    (tmp_path / "b.avi").write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(VideoError, match=r"b\.avi holds no frame to decode; save it"):
        read_clip(tmp_path / "b.avi")


def test_sound_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        for k in range(8):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 8000, 1024 * k
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with pytest.raises(VideoError, match="holds no video, only sound"):
        read_clip(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "0 frames of a video; give 1 to 512"),
        ({"frames": 513}, "513 frames of a video; give 1 to 512"),
        ({"start": 2.0, "end": 1.0}, "the start 2 s is not before the end 1 s"),
        ({"start": 1.0, "end": 1.0}, "the start 1 s is not before the end 1 s"),
        ({"start": 9.0}, r"lasts 3\.\d\d s; the start 9 s is beyond it"),
        ({"start": -1.0}, "the start -1 s is not a time; give 0 or more"),
        ({"end": float("nan")}, "the end nan s is not a time"),
    ],
)
def test_wrong_parts(clip: Path, options: dict, message: str) -> None:
    with pytest.raises(VideoError, match=message):
        read_clip(clip, **options)


def test_wrong_moments(clip: Path) -> None:
    for seconds in (-1, 9, float("nan")):
        with pytest.raises(VideoError, match=f"it has no frame at {seconds:g} s"):
            frame_at(clip, seconds)


def test_what_is_not_a_video(tmp_path: Path) -> None:
    def fails(path: Path | str, message: str) -> None:
        with pytest.raises(VideoError, match=message):
            read_clip(path)

    (tmp_path / "holiday.mp4").write_bytes(b"")
    fails(tmp_path / "holiday.mp4", r"holiday\.mp4 is an empty file; record it again")
    fails(tmp_path / "holidya.mp4", r"does not exist; did you mean .*holiday\.mp4\?")
    fails(tmp_path / "n" / "a.mp4", r"a\.mp4 does not exist$")
    fails(tmp_path, "is a folder; name a video in it")
    fails("/dev/null", "is not a file; save the video to one")
    fails("a" * 5000, "cannot be read: File name too long")
    (tmp_path / "a.txt").write_text("no video\n" * 100)
    fails(tmp_path / "a.txt", "is not a video this program reads, or cut short: save")
    Image.new("RGB", SIZE).save(tmp_path / "a.png")
    fails(tmp_path / "a.png", "is a picture, not a video: give it as an image")


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:9/a.mp4", "concat:a.mp4|b.mp4", "https:a", "pipe:0", "data:,a"],
)
def test_addresses_are_never_opened(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(av, "open", lambda *a, **k: pytest.fail("was opened"))
    with pytest.raises(VideoError, match=r"is not a file here; download it first"):
        read_clip(address)


def test_a_file_that_is_called_like_a_protocol(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "concat:a.mp4").write_bytes(clip.read_bytes())
    assert len(read_clip("concat:a.mp4", 3).frames) == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.m3u8", HLS),
        ("list.mp4", HLS),
        ("a.ffconcat", "ffconcat version 1.0\nfile '{}'\n"),
        ("a.mpd", "<MPD><Period><AdaptationSet><Representation><BaseURL>{}</BaseURL>"
         "</Representation></AdaptationSet></Period></MPD>"),
        ("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n"),
    ],
)  # fmt: skip
def test_playlists_open_nothing(clip: Path, name: str, text: str) -> None:
    """Each names a file that is there and could be read."""
    inner = clip.with_name("inner.ts")
    if not inner.exists():
        make(inner, [k / 10 for k in range(10)])
    path = clip.with_name(name)
    path.write_text(text.format(inner.name))
    with pytest.raises(VideoError, match="is not a video this program reads"):
        read_clip(path)


def test_pixel_limits(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_TOTAL", 4 * 64 * 48)
    assert len(read_clip(clip, 4).frames) == 4
    limit = re.escape("5 × 64 × 48 are 0 megapixels; the limit is 0: ask for fewer")
    with pytest.raises(VideoError, match=limit):
        read_clip(clip, 5)
    monkeypatch.setattr(video, "MAX_PIXELS", 64 * 48 - 1)
    monkeypatch.setattr(video._Reader, "frames", lambda _: pytest.fail("was decoded"))
    with pytest.raises(VideoError, match="1 × 64 × 48 are .* make it smaller first"):
        read_clip(clip, 1)


def test_an_unknown_codec(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    data = clip.read_bytes().replace(b"mp4v", b"zzzz")
    at = data.index(b"esds") + 4  # it names the codec once more
    path.write_bytes(data[:at] + data[at:].replace(b"\x20\x11", b"\x7f\x11", 1))
    with pytest.raises(VideoError, match="is of an unknown codec; save it as H.264"):
        read_clip(path)


def test_without_pyav(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r"pip install 'mm15-mlx\[video\]'"):
        read_clip(clip)


def test_nothing_is_printed(
    clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    data = bytearray(clip.read_bytes())
    for k in range(300, len(data) // 2, 50):
        data[k] ^= 255
    (tmp_path / "a.mp4").write_bytes(data)
    for path in (clip, tmp_path / "a.mp4"):
        try:
            read_clip(path)
        except VideoError:
            pass
    assert capfd.readouterr() == ("", "")
