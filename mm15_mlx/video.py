"""Frames of a video file, sampled uniformly: each is then a picture like any other.

What this file is: local files of the usual containers, read with PyAV (extra `video`).
What it is not: sound, streams, playlists; nothing that a file names is opened.
"""

import difflib
import importlib
import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image, ImageOps

from mm15_mlx.config import UserError
from mm15_mlx.images import FORMATS, MAX_PIXELS, Picture

MAX_FRAMES = 512
MAX_TOTAL = 4 * MAX_PIXELS  # of all frames together: 1.8 GB as RGB
# Containers that hold their own data. Playlists (hls, concat, dash) would open others.
CONTAINERS = "mov,matroska,avi,mpegts,mpeg,ogg,flv,asf,gif,mp3,wav,flac,aac"
_CLOSE = 1e-6  # seconds; times are fractions of the stream's unit
_BEFORE = 10.0  # seconds before the first frame: a seek that ends at the beginning
_NEAR = 1000  # packets in which a keyframe is looked for
_LONGEST = 1e9  # seconds, 31 years: what is beyond is no time of a video
_LATE = 32  # packets may follow that are shown before this one: a codec's reordering


# An upright RGB frame → uint8 (S, S, 3), what a model sees of it.
View = Callable[[Image.Image], np.ndarray]


class VideoError(UserError):
    """A video that cannot be used; the message names it and says why."""


class Frame(Picture):
    """A frame of which its view alone is kept, uint8 (S, S, 3) of `maker`: many frames
    of a large video are gigabytes, their views megabytes. `size` is the frame's own;
    `image` decodes it again. Raises VideoError where the file is gone by then."""

    def __init__(self, path: str, time: float, image: Image.Image, maker: View) -> None:
        values = {"path": path, "scale": None, "time": time, "full": image.size,
                  "view": maker(image), "maker": maker}  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)  # a Picture is frozen

    time: float
    full: tuple[int, int]
    view: np.ndarray
    maker: View

    @property
    def image(self) -> Image.Image:  # pyright: ignore
        with _Reader(self.path) as video:
            return video.clip([self.time]).frames[0].image

    @property
    def size(self) -> tuple[int, int]:
        return self.full


@dataclass(frozen=True)
class Clip:
    """Frames in RGB, upright, with square pixels.

    times: when each one begins, in seconds from the first frame of the file.
    duration: seconds of the whole file.
    """

    path: str
    frames: list[Picture]
    times: list[float]
    duration: float


def read_clip(
    source: str | Path,
    frames: int = 24,
    start: float | None = None,
    end: float | None = None,
    view: View | None = None,
) -> Clip:
    """`frames` pictures spread evenly over the clip, or over [start, end) seconds.

    The part is cut into segments of equal length, as MM1.5-Video samples; the frame
    shown at the middle of each is taken (which point: not published: our choice).
    Where one is shown at several middles, others of the part are taken as well. A part
    with fewer frames gives each of them once; a file that is cut short, those up to the
    break. With `view` frames are a `Frame` each. Raises VideoError.
    """
    if not 1 <= frames <= MAX_FRAMES:
        raise VideoError(f"{frames} frames of a video; give 1 to {MAX_FRAMES}")
    for name, value in (("start", start), ("end", end)):
        if value is not None and not 0 <= value < _LONGEST:
            shown = f"{value:g}" if abs(value) < _LONGEST else f"{value!s:.20}"
            raise VideoError(f"the {name} {shown} s is not a time; give 0 or more")
    with _Reader(source) as video:
        first = start or 0.0
        last = video.duration if end is None else min(end, video.duration)
        if end is not None and first >= end:
            raise VideoError(f"the start {first:g} s is not before the end {end:g} s")
        if first >= last > 0:
            raise VideoError(f"{video.lasts()}; the start {first:g} s is beyond it")
        every = video.times_within(first, last, frames)
        step = (last - first) / frames
        middles = [first + (k + 0.5) * step for k in range(frames)]
        clip = video.clip(every or middles, view)
        if len(clip.times) < frames and not every:  # some are shown for long
            every = video.times_within(first, last)
            clip = video.clip(spread(every, middles), view)
        return clip


def spread(times: Sequence[float], middles: Sequence[float]) -> list[float]:
    """When those frames begin that are shown at `middles`, and evenly others, until
    there are as many or there are no more."""
    chosen = {max(bisect_right(times, m + _CLOSE) - 1, 0) for m in middles}
    rest = [k for k in range(len(times)) if k not in chosen]
    lacking = min(len(middles) - len(chosen), len(rest))
    chosen |= {rest[(2 * k + 1) * len(rest) // (2 * lacking)] for k in range(lacking)}
    return [times[k] for k in sorted(chosen)]


def frame_at(source: str | Path, seconds: float) -> Clip:
    """The one frame that is shown `seconds` after the first. Raises VideoError."""
    with _Reader(source) as video:
        if not 0 <= seconds <= video.duration:
            raise VideoError(f"{video.lasts()}; it has no frame at {seconds:g} s")
        return video.clip([seconds])


def _check_file(source: str | Path) -> Path:
    path = Path(source)
    try:
        if path.is_dir():
            raise VideoError(f"{path} is a folder; name a video in it")
        if not path.exists():
            if re.match(r"\w{2,}:", str(source)):
                raise VideoError(f"{source} is not a file here; download it first")
            names = [p.name for p in path.parent.glob("*")]
            near = difflib.get_close_matches(path.name, names, n=1)
            hint = f"; did you mean {path.with_name(near[0])}?" if near else ""
            raise VideoError(f"{path} does not exist{hint}")
        if not path.is_file():  # a pipe or a device might never end
            raise VideoError(f"{path} is not a file; save the video to one")
        if not path.stat().st_size:
            raise VideoError(f"{path} is an empty file; record it again")
    except OSError as e:
        raise VideoError(f"{str(path)[:80]} cannot be read: {e.strerror}") from e
    return path


class _Reader:
    """An open file: one stream decodes, the other looks where keyframes are."""

    def __init__(self, source: str | Path) -> None:
        try:
            self.av: Any = importlib.import_module("av")
        except ImportError as e:
            raise VideoError("a video needs PyAV: pip install 'mm15-mlx[video]'") from e
        self.path = _check_file(source)

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self.video = self._stream(opened.enter_context(self._open()))
            self.probe = self._stream(opened.enter_context(self._open()))
            self.origin = float((self.video.start_time or 0) * self.video.time_base)
            self.duration = self._duration()
            self.opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.close()

    def _open(self) -> Any:
        # The prefix keeps a file called `concat:a` from being read as a protocol.
        options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
        try:
            return self.av.open(f"file:{self.path.absolute()}", options=options)
        except (self.av.FFmpegError, ValueError) as e:
            why = "not a video this program reads, or cut short: save it as MP4"
            with suppress(Exception), Image.open(self.path, formats=FORMATS):
                why = "a picture, not a video: give it as an image"
            raise VideoError(f"{self.path} is {why}") from e

    def _stream(self, container: Any) -> Any:
        """The first stream of moving pictures. The cover of a song is none."""
        cover = self.av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & cover]
        if not streams:
            raise VideoError(f"{self.path} holds no video, only sound; name another")
        codec = streams[0].codec_context
        if codec is None:
            raise VideoError(f"{self.path} is of an unknown codec; save it as H.264")
        self._check_pixels(1, codec.width, codec.height, "make it smaller first")
        codec.options = {"max_pixels": str(MAX_PIXELS)}  # sizes may change on the way
        return streams[0]

    def _check_pixels(self, count: int, width: int, height: int, remedy: str) -> None:
        pixels, limit = count * width * height, MAX_PIXELS if count == 1 else MAX_TOTAL
        if pixels > limit:
            raise VideoError(
                f"{self.path}: {count} × {width} × {height} are {pixels / 1e6:.0f} "
                f"megapixels; the limit is {limit / 1e6:.0f}: {remedy}"
            )

    def _duration(self) -> float:
        """Seconds. Where the stream does not say, as in Matroska, the end of its last
        packet: the file's own duration counts sound and what is before the start."""
        if self.video.duration and self.video.duration > 0:
            return float(self.video.duration * self.video.time_base)
        whole = (self.video.container.duration or 0) * 1e-6
        if whole > 0:  # without an index there may be no packets from there on
            return self._last_end(whole) or whole - self.origin
        return self._last_end(None)

    def _last_end(self, since: float | None) -> float:
        """When the last packet ends, looked for from the keyframe before `since`; 0
        where there is none."""
        with self._open() as container:  # a seek to the end may be one without return
            stream = self._stream(container)
            if since is not None:
                self._seek(stream, since)
            packets = self._packets(stream)
            ends = (self._at(p.pts + (p.duration or 1)) for p in packets)
            return max(ends, default=0.0)

    def lasts(self) -> str:
        return f"{self.path} lasts {self.duration:.2f} s"

    def _at(self, stamp: int) -> float:
        return float(stamp * self.video.time_base) - self.origin

    def _packets(self, stream: Any) -> Iterator[Any]:
        """Those with a time stamp, undecoded."""
        with suppress(self.av.FFmpegError):  # cut short: what came before counts
            yield from (p for p in stream.container.demux(stream) if p.pts is not None)

    def _seek(self, stream: Any, seconds: float) -> bool:
        stamp = math.floor((seconds + self.origin) / stream.time_base + 1e-6)
        try:
            stream.container.seek(stamp, stream=stream, backward=True)
        except self.av.FFmpegError:
            return False  # no index: read on from where it is
        return True

    def times_within(
        self, first: float, last: float, most: float = math.inf
    ) -> list[float]:
        """When the frames of [first, last) begin; nothing where more than `most`."""
        found, late = {first}, 0  # the frame that is being shown at the start
        self._seek(self.probe, self._keyframe(first)[1])
        for packet in self._packets(self.probe):
            time = self._at(packet.pts)
            late += time >= last
            if first < time < last:
                found.add(time)
            if len(found) > most:
                return []
            if late > _LATE:
                break
        return sorted(found)

    def frames(self) -> Iterator[tuple[float, Any]]:
        """(seconds, frame) from where the file is, decoded one after the other."""
        time, step = 0.0, float(1 / (self.video.average_rate or 25))
        with suppress(self.av.FFmpegError):
            for packet in self.video.container.demux(self.video):
                decoded = []
                with suppress(self.av.FFmpegError):  # damaged; a keyframe mends it
                    decoded = packet.decode()
                for frame in decoded:
                    stamp = frame.dts if frame.pts is None else frame.pts
                    time = time + step if stamp is None else self._at(stamp)
                    yield time, frame

    def clip(self, targets: list[float], view: View | None = None) -> Clip:
        """The frame shown at each of the rising times, none of them twice."""
        size = self.video.codec_context.width, self.video.codec_context.height
        if view is None:  # else one is in memory at a time
            self._check_pixels(len(targets), *size, "ask for fewer frames")
        stream, now, ahead = self.frames(), None, None
        found: dict[float, Picture] = {}
        for target in targets:
            target += _CLOSE
            if not ahead or ahead[0] <= target:
                (key, place), reached = self._keyframe(target), ahead or now
                jump = not reached or key > reached[0]
                if jump and self._seek(self.video, place):
                    stream, now, ahead = self.frames(), None, None
            while not ahead or ahead[0] <= target:
                now = ahead or now
                ahead = next(stream, None)
                if not ahead:
                    break
            shown = now or ahead  # the first frame may begin late
            if shown and shown[0] not in found:
                found[shown[0]] = self._picture(*shown, view)
        if not found:
            raise VideoError(f"{self.path} holds no frame to decode; save it again")
        return Clip(str(self.path), list(found.values()), list(found), self.duration)

    def _keyframe(self, target: float) -> tuple[float, float]:
        """When the keyframe begins from which `target` is decoded, and where to seek.

        A file without an index lands a little late: farther back, then.
        """
        back = 0.0
        while self._seek(self.probe, target - back):
            near = islice(self._packets(self.probe), _NEAR)
            key = next((p for p in near if p.is_keyframe), None)
            if key and self._at(key.pts) <= target:
                return self._at(key.pts), target - back
            if back > target:  # before the first one: the beginning
                break
            back = min(target + _BEFORE, 4 * back + 1)
        return -math.inf, -_BEFORE

    def _picture(self, time: float, frame: Any, view: View | None) -> Picture:
        """RGB, the pixels square, turned and mirrored as the display matrix says."""
        image = frame.to_image()
        ratio = float(self.video.sample_aspect_ratio or 1)
        if ratio != 1 and 0.25 < ratio < 4:  # others are not meant
            image = image.resize((max(1, round(image.width * ratio)), image.height))
        upright = _turned(image, frame)
        if view is None:
            return Picture(upright, str(self.path))
        return Frame(str(self.path), time, upright, view)


def _turned(image: Image.Image, frame: Any) -> Image.Image:
    """Of the matrix (a b u, c d v, x y w) the first two rows say what happens to a
    column and a row; a negative determinant mirrors."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5] if matrix else (1, 0, 0, 0, 1)
    if float(a) * float(d) < float(b) * float(c):
        image, a, b = ImageOps.mirror(image), -a, -b
    turn = 90 * round(math.degrees(math.atan2(-float(b), float(a))) / 90)
    return image.rotate(turn, expand=True)  # counter-clockwise, both
