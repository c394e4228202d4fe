"""Pictures that come from outside: the limits of an upload, and what the page shows."""

import base64
import io
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from PIL import Image

from mm15_mlx.config import UserError
from mm15_mlx.images import FORMATS, ImageError, Picture, load_picture

# Limits of an upload; not published: our choice.
MAX_BYTES = 20_000_000  # of one file
MAX_PIXELS = 50_000_000  # of one picture
PREVIEW_SIDE = 1600  # pixels of what the page shows


class UploadError(UserError):
    """A picture that the app does not take."""


@dataclass(frozen=True, eq=False)
class Shot:
    """A picture and what the page shows of it."""

    picture: Picture

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.size

    @property
    def name(self) -> str:
        return self.picture.path

    @cached_property
    def preview(self) -> str:
        """A data URI of a JPEG, at most PREVIEW_SIDE pixels long."""
        return _data_uri(self.picture.image, PREVIEW_SIDE)

    @cached_property
    def thumbnail(self) -> str:
        return _data_uri(self.picture.image, 160)


def open_upload(path: Path, name: str) -> Picture:
    """A file that came from outside, within the limits; messages call it `name`."""
    name = " ".join(Path(name).name.split())[:80] or "picture"
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UploadError(
            f"{name} has {size / 1e6:.0f} MB; the limit is {MAX_BYTES / 1e6:.0f} MB: "
            "save it as JPEG or make it smaller"
        )
    width, height = _size(path)
    if width * height > MAX_PIXELS:
        raise UploadError(
            f"{name} has {width * height / 1e6:.0f} megapixels ({width} × {height}); "
            f"the limit is {MAX_PIXELS / 1e6:.0f}: make it smaller first"
        )
    try:
        picture = load_picture(path)
    except ImageError as e:  # the folder of uploads is none of the user's business
        raise UploadError(str(e).replace(str(path), name)) from None
    return replace(picture, path=name)


def _size(path: Path) -> tuple[int, int]:
    """From the header; 0, 0 of what `load_picture` will refuse in its own words."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except Image.DecompressionBombError:
        return MAX_PIXELS, 4  # Pillow's own limit, 179 megapixels
    except Exception:
        return 0, 0


def _data_uri(image: Image.Image, side: int) -> str:
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
