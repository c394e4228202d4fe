"""Every kind of picture that people have, and a clear line for what is none."""

import os
import random
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mm15_mlx import images
from mm15_mlx.images import ImageError, Picture, load_picture

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def halves(mode: str = "RGB") -> Image.Image:
    """20 × 10: the left half red, the right half blue."""
    image = Image.new("RGB", (20, 10), RED)
    image.paste(BLUE, (10, 0, 20, 10))
    return image.convert(mode)


def near(pixel: object, color: tuple[int, int, int], by: int = 12) -> bool:
    return all(abs(a - b) <= by for a, b in zip(pixel, color, strict=True))


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises many pixels and holds none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"")


# --- pictures --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.png", "RGB"), ("a.png", "P"), ("a.png", "RGBA"), ("a.gif", "P"),
        ("a.webp", "RGB"), ("a.bmp", "RGB"), ("a.tiff", "RGB"), ("a.ppm", "RGB"),
        ("a.jpg", "RGB"), ("a.jpg", "CMYK"), ("a.tiff", "CMYK"), ("a.mpo", "RGB"),
    ],
)  # fmt: skip
def test_colours_survive(tmp_path: Path, name: str, mode: str) -> None:
    path = tmp_path / name
    halves(mode).save(path)
    picture = load_picture(path)
    assert picture.image.mode == "RGB" and picture.size == (20, 10)
    assert near(picture.image.getpixel((2, 5)), RED)
    assert near(picture.image.getpixel((17, 5)), BLUE)
    assert picture.path == str(path) and picture.scale is None


def test_the_ending_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    halves().save(path, "PNG")
    assert load_picture(str(path)).image.getpixel((2, 5)) == RED


def test_an_animation_is_its_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [Image.new("RGB", (8, 8), c) for c in (RED, BLUE, WHITE)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert near(load_picture(path).image.getpixel((4, 4)), RED)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (20, 10), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (10, 0, 20, 10))
    source: Path | Image.Image = image.convert(mode)
    if mode != "PA":  # no file holds it
        source = tmp_path / "a.png"
        image.convert(mode).save(source)
    picture = load_picture(source)
    assert picture.image.getpixel((2, 5)) == (0, 0, 0)
    assert picture.image.getpixel((17, 5)) == WHITE


def test_half_transparency_is_half_white() -> None:
    image = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert load_picture(image).image.getpixel((0, 0)) == (127, 127, 127)


def test_a_transparent_palette_colour_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((0, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    picture = load_picture(tmp_path / "a.png")
    assert picture.image.getpixel((2, 2)) == WHITE
    assert picture.image.getpixel((0, 0)) == BLUE


@pytest.mark.parametrize(
    ("value", "grey"), [(0, 0), (200, 1), (32896, 128), (65535, 255)]
)
def test_sixteen_bits_become_eight(tmp_path: Path, value: int, grey: int) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((5, 6), value, np.uint16)).save(path)
    assert load_picture(path).image.getpixel((0, 0)) == (grey,) * 3


def test_other_greys() -> None:
    assert load_picture(Image.new("I", (2, 2), 200)).image.getpixel((0, 0))[0] == 200
    values = np.array([[0.0, 0.5, 1.0, np.nan]], np.float32)
    greys = np.asarray(load_picture(Image.fromarray(values)).image)[0, :, 0]
    assert greys.tolist() == [0, 128, 255, 0]
    assert load_picture(Image.new("1", (2, 2), 1)).image.getpixel((0, 0)) == WHITE


@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (20, 10)), (3, (20, 10)), (6, (10, 20))]
)
def test_a_turned_photo_stands_upright(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    halves().save(tmp_path / "a.jpg", exif=exif, quality=95)
    picture = load_picture(tmp_path / "a.jpg")
    assert picture.size == size
    first = BLUE if orientation == 3 else RED
    assert near(picture.image.getpixel((2, 2)), first, 30)


@pytest.mark.filterwarnings("ignore")
def test_broken_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert load_picture(tmp_path / "a.jpg").size == (20, 10)


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (1, 1)])
def test_extreme_shapes(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert load_picture(tmp_path / "a.png").size == size


@pytest.mark.parametrize(
    ("dpi", "scale"), [(144, 2), (216, 3), (72, None), (300, None), (720, None)]
)
def test_retina_screenshots_say_their_scale(
    tmp_path: Path, dpi: int, scale: float | None
) -> None:
    halves().save(tmp_path / "a.png", dpi=(dpi, dpi))
    assert load_picture(tmp_path / "a.png").scale == scale


# --- not files -----------------------------------------------------------------------


def test_arrays_and_images() -> None:
    array = np.asarray(halves())
    assert load_picture(array).image.getpixel((17, 5)) == BLUE
    assert load_picture(halves()).path == "PIL image"
    opened = load_picture(halves())
    assert load_picture(opened) is opened


def test_the_callers_image_is_not_touched() -> None:
    image = halves()
    load_picture(image).image.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"an array of uint8 \(4, 4\) is not a picture"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\) is not a picture; give uint8"),
        (np.zeros((4, 4, 3), np.float32), r"float32 \(4, 4, 3\) is not a picture"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\) holds no pixels"),
        (Image.new("RGB", (0, 5)), "PIL image is 0 × 5: it holds no pixels"),
        (b"bytes", "bytes is not a picture; give a path, a PIL image or a uint8"),
        (None, "NoneType is not a picture; give a path"),
    ],
)
def test_what_is_no_picture(array: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_picture(array)  # type: ignore[arg-type]


# --- files that cannot be used -----------------------------------------------------


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:3000])


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.png": (lambda p: None, "{} does not exist"),
    "folder.png": (lambda p: p.mkdir(), "{} is a folder; name a picture in it"),
    "empty.png": (lambda p: p.touch(), "{} is an empty file"),
    "text.png": (
        lambda p: p.write_text("hello"),
        "{} is not a picture this program reads; convert it to PNG or JPEG",
    ),
    "drawing.svg": (
        lambda p: p.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"),
        "{} is not a picture this program reads; convert it to PNG or JPEG",
    ),
    "header.png": (
        lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n"),
        "{} is not a picture this program reads; convert it to PNG or JPEG",
    ),
    "cut.png": (
        truncated,
        "{} is damaged or cut short (image file is truncated); save it again",
    ),
    "cut.bmp": (
        truncated,
        "{} is damaged or cut short (image file is truncated (50 bytes not processed))"
        "; save it again",
    ),
    "huge.png": (
        lambda p: p.write_bytes(png_header(20_000, 15_000)),
        "{} has 300 megapixels (20000 × 15000); the limit is 150: make it smaller "
        "first",
    ),
    "pipe.png": (os.mkfifo, "{} is not a file; save the picture to one"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, name: str) -> None:
    make, message = FAULTS[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(ImageError) as error:
        load_picture(path)
    shown = str(error.value)
    if name == "cut.bmp":  # how many bytes are left is Pillow's affair
        shown = shown.split("(")[0]
        message = message.split("(")[0]
    assert shown == message.format(path)


def test_a_limit_below_pillows_own_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow refuses twice its limit; ours alone decides, and its own comes back."""
    halves().save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    assert load_picture(tmp_path / "a.png").size == (20, 10)
    assert Image.MAX_IMAGE_PIXELS == 50


def test_many_threads_leave_pillows_limit_alone(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    before = Image.MAX_IMAGE_PIXELS
    work = [
        threading.Thread(target=load_picture, args=(tmp_path / "a.png",))
        for _ in range(20)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert Image.MAX_IMAGE_PIXELS == before


def test_a_picture_too_large_as_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 150)
    with pytest.raises(ImageError, match="PIL image has 0 megapixels"):
        load_picture(halves())


def test_a_near_name_is_offered(tmp_path: Path) -> None:
    halves().save(tmp_path / "settings.png")
    with pytest.raises(ImageError) as error:
        load_picture(tmp_path / "setings.png")
    assert str(error.value) == (
        f"{tmp_path}/setings.png does not exist; did you mean {tmp_path}/settings.png?"
    )


def test_a_file_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    halves().save(path)

    def refuse(*_: object, **__: object) -> None:  # root may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"a\.png cannot be read: Permission denied"):
        load_picture(path)


def test_a_text_instead_of_a_path() -> None:
    with pytest.raises(ImageError, match=r"^What is .{60,}… cannot be read: File name"):
        load_picture("What is on this screen? " * 20)


@pytest.mark.parametrize(
    "format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO"]
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_end_in_one_line(tmp_path: Path, format: str) -> None:
    """Cut or flipped bytes: a picture or an ImageError, never anything else."""
    rng = random.Random(format)
    path = tmp_path / "a"
    noise = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(noise).save(path, format)
    good = path.read_bytes()
    for k in range(40):
        data = bytearray(good)
        if k % 2:
            del data[rng.randrange(1, len(data)) :]
        else:
            for _ in range(5):
                data[rng.randrange(min(200, len(data)))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            assert isinstance(load_picture(path), Picture)
        except ImageError as e:
            assert "\n" not in str(e) and str(path) in str(e)
