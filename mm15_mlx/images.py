"""Opening pictures: every kind that people have, and a clear line for what is not one.

Nothing in a file is trusted: only raster formats that Pillow reads by itself, a limit
on pixels that is checked before anything is decoded.
"""

import difflib
import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mm15_mlx.config import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF")
MAX_PIXELS = 150_000_000
KEPT_PIXELS = 64_000_000  # that stay decoded, of all pictures asked about: 192 MB
RETINA_DPI = 144
_ORIENTATION = 274  # EXIF; from 5 on, width and height change places
_LIMIT_LOCK = threading.Lock()


class ImageError(UserError):
    """A picture that cannot be used; the message names it and says why."""


@dataclass(frozen=True)
class Picture:
    """An RGB picture the right way up. `scale`: pixels per point, where it says so."""

    image: Image.Image
    path: str
    scale: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    @cached_property
    def digest(self) -> bytes:
        """A hash of the pixels."""
        return hashlib.blake2b(self.image.tobytes(), digest_size=16).digest()


Stamp = tuple[int, ...]
ImageLike = str | Path | Image.Image | np.ndarray | Picture


def load_picture(source: ImageLike) -> Picture:
    """A path, a PIL image or a uint8 array (H, W, 3) → an RGB picture.

    A Picture stays what it is, so that one opened once can be asked about often.
    EXIF orientation is applied, transparency laid on white, 16 bits reduced to 8; of an
    animation the first frame is taken. Raises ImageError.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        return _finish(source, "PIL image")
    if isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8:
            raise ImageError(
                f"an array of {source.dtype} {source.shape} is not a picture; "
                "give uint8 (height, width, 3)"
            )
        if 0 in source.shape:
            raise ImageError(f"an array of shape {source.shape} holds no pixels")
        return _finish(Image.fromarray(source), "array")
    if not isinstance(source, str | Path):
        raise ImageError(
            f"{type(source).__name__} is not a picture; give a path, a PIL image or a "
            "uint8 array"
        )
    path = Path(source)
    try:
        _check_file(path)
    except OSError as e:  # of the path itself: no permission, or far too long a name
        raise ImageError(f"{_short(path)} cannot be read: {e.strerror}") from e
    try:
        image = _open(path)
    except (UnidentifiedImageError, KeyError) as e:  # KeyError: a Pillow without AVIF
        raise ImageError(
            f"{path} is not a picture this program reads; convert it to PNG or JPEG"
        ) from e
    except Exception as e:
        raise _damaged(str(path), e) from e
    with image:
        return _finish(image, str(path))


class PictureFile(Picture):
    """A picture that is decoded anew whenever its pixels are looked at: of many large
    ones no two are in memory. Raises ImageError where the file is another by then."""

    def __init__(self, file: Path, decoded: Picture, stamp: Stamp) -> None:
        values = {"path": decoded.path, "scale": decoded.scale, "full": decoded.size,
                  "file": file, "stamp": stamp}  # fmt: skip
        for name, value in values.items():
            object.__setattr__(self, name, value)  # a Picture is frozen

    full: tuple[int, int]
    file: Path  # absolute
    stamp: Stamp

    @property
    def image(self) -> Image.Image:  # pyright: ignore
        if _stamp(self.file) != self.stamp:
            raise ImageError(
                f"{self.path} was changed or removed while it was in use; ask again"
            )
        return load_picture(self.file).image

    @property
    def size(self) -> tuple[int, int]:
        return self.full


def open_pictures(
    sources: Sequence[ImageLike], kept: int | None = None
) -> list[Picture]:
    """`load_picture` of each. The first `kept` pixels stay decoded, `KEPT_PIXELS` where
    it is None; of files beyond that a `PictureFile` each. Raises ImageError."""
    left = KEPT_PIXELS if kept is None else kept
    opened: list[Picture] = []
    for source in sources:
        stamp = _stamp(source) if isinstance(source, str | Path) else None
        picture = load_picture(source)
        left -= picture.size[0] * picture.size[1]
        if left < 0 and stamp and isinstance(source, str | Path):
            picture = PictureFile(Path(source).absolute(), picture, stamp)
        opened.append(picture)
    return opened


def _stamp(path: str | Path) -> Stamp | None:
    """What tells a file from another, or from itself once it is changed."""
    try:
        s = Path(path).stat()
    except (OSError, ValueError):  # `load_picture` says what is wrong
        return None
    return s.st_dev, s.st_ino, s.st_mtime_ns, s.st_ctime_ns, s.st_size


def _damaged(name: str, error: Exception) -> ImageError:
    """Pillow's decoders raise nearly everything on files that lie."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ImageError(f"{name} is damaged or cut short ({reason}); save it again")


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 80 else text[:77] + "…"


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name a picture in it")
    if not path.exists():
        folder = path.parent.iterdir() if path.parent.is_dir() else []
        names = [p.name for p in folder if p.name != path.name]  # a link to nothing
        near = difflib.get_close_matches(path.name, names, n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ImageError(f"{path} does not exist{hint}")
    if not path.is_file():  # a pipe or a device might never end
        raise ImageError(f"{path} is not a file; save the picture to one")
    with path.open("rb") as f:
        if not f.read(1):
            raise ImageError(f"{path} is an empty file")


def header_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height of a picture the right way up, not decoded; None where it cannot
    be read: `load_picture` says why."""
    try:
        with _open(Path(path)) as image:
            # of a PNG without EXIF Pillow would decode all, to look for it at the end
            known = image.format != "PNG" or "exif" in image.info
            turned = known and image.getexif().get(_ORIENTATION, 1) >= 5
            return (image.height, image.width) if turned else image.size
    except Exception:  # Pillow raises nearly everything on files that lie
        return None


def _open(path: Path) -> Image.Image:
    """Read the header. Pillow's own limit is lower than ours, and global: a lock."""
    with _LIMIT_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _finish(image: Image.Image, name: str) -> Picture:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} has {width * height / 1e6:.0f} megapixels ({width} × {height}); "
            f"the limit is {MAX_PIXELS / 1e6:.0f}: make it smaller first"
        )
    if not width or not height:
        raise ImageError(f"{name} is {width} × {height}: it holds no pixels")
    try:
        scale = _scale(image.info)
        image.load()
        return Picture(_rgb(_upright(image)), name, scale)
    except Exception as e:
        raise _damaged(name, e) from e


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block says nothing about the pixels
        return image


def _scale(info: dict[str, Any]) -> float | None:
    """2.0 for the 144 dpi that macOS writes into Retina screenshots."""
    dpi = info.get("dpi")
    if not dpi or not dpi[0]:
        return None
    scale = 2 * float(dpi[0]) / RETINA_DPI
    return next((s for s in (2.0, 3.0) if abs(scale - s) < 0.02), None)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel, one channel
        values = np.asarray(image, np.float32)
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
        top = 255.0 if image.mode == "I" and values.max() <= 255 else 65535.0
        if image.mode == "F":
            top = max(1.0, float(values.max()))
        grey = np.clip(values / top * 255, 0, 255).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
