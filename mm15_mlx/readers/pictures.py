"""Where a row's picture lies, or where it is put if the row holds it itself.

A parquet file of the hub and a TSV of VLMEvalKit hold pictures as bytes. The rows of
`eval` name files, so the bytes are written once into a folder beside the data, named
after their content: a second run finds them.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mm15_mlx.config import UserError

_SUFFIX = ".pictures"
_SHOWN = 40  # characters of a path in a message
_ENDINGS = {
    b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp",
    b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif",
}  # fmt: skip


def is_ours(path: Path) -> bool:
    """Whether a file lies in a folder that this module wrote."""
    return any(part.endswith(_SUFFIX) for part in path.parts[:-1])


def path_of(
    value: Any, where: str, folder: Path, file: Path, below: Sequence[str] = ()
) -> str:
    """The absolute path of a picture.

    value: a path, or bytes, or the hub's `{"bytes", "path"}`. A path is looked for in
    `folder`, beside `file`, and in the folders `below` those, whole and by its name
    alone. Raises UserError that begins with `where`.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return _written(value, where, file)
    if not isinstance(value, str) or not value:
        raise UserError(f"{where}: {value!r} is not a picture; give a path or bytes")
    return found(value, where, (folder, file.parent), below)


def found(
    name: str, where: str, folders: Sequence[Path], below: Sequence[str] = ()
) -> str:
    """The absolute path of the file `name`; see `path_of`."""
    for folder in folders:
        for part in ("", *below):
            for spelled in (name, Path(name).name):
                path = folder / part / spelled
                try:
                    if path.is_file():
                        return str(path.absolute())
                except OSError as e:  # a name that is too long is more than missing
                    more = f"… ({len(name)} characters)" if name[_SHOWN:] else ""
                    raise UserError(
                        f"{where}: the file {name[:_SHOWN]}{more} cannot be looked "
                        f"for: {e.strerror}; give a path, or in a TSV whole base64"
                    ) from e
    looked = ", ".join(
        dict.fromkeys(str(f / part) for f in folders for part in ("", *below))
    )
    raise UserError(f"{where}: the file {name} is in none of {looked}")


def size_of(image: str, where: str) -> tuple[int, int]:
    """Width and height in pixels, from the header alone. Raises UserError."""
    try:
        with Image.open(image) as opened:
            return opened.size
    except (OSError, Image.DecompressionBombError) as e:
        raise UserError(f"{where}: {image} is not a picture: {e}") from e


def _written(data: bytes, where: str, file: Path) -> str:
    ending = next((e for magic, e in _ENDINGS.items() if data.startswith(magic)), None)
    if ending is None:
        raise UserError(
            f"{where} holds bytes that are no picture of PNG, JPEG, GIF, WebP, BMP or "
            "TIFF"
        )
    folder = file.with_name(file.name + _SUFFIX)
    path = folder / (hashlib.sha256(data).hexdigest()[:24] + ending)
    if not path.exists():
        try:
            folder.mkdir(exist_ok=True)
            partial = path.with_name("." + path.name)
            partial.write_bytes(data)
            os.replace(partial, path)
        except OSError as e:
            raise UserError(
                f"{where} holds a picture that cannot be written to {folder} "
                f"({e.strerror}); copy the data to a folder where you may write"
            ) from e
    return str(path.absolute())
