"""Visual tokens on disk: a screenshot that was encoded once is not encoded again.

What this file is: one safetensors file for each picture, named by what its tokens
depend on: pixels, tiling, weights, version. What it is not: trusted, or needed. A file
that is damaged or foreign is passed over with a warning, and the whole folder may be
deleted at any time.
"""

import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mm15_mlx import __version__
from mm15_mlx.checkpoint import FLOATS, WeightsError, at_home, read_header
from mm15_mlx.config import UserError
from mm15_mlx.mm15 import MM15

_NAME = re.compile(r"[0-9a-f]{64}\.safetensors")
_PARTIAL = ".partial.safetensors"
_STALE_S = 3600.0  # a partial file this old was left by a run that was killed
_FEATURES = "features"
_DTYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}


class FeatureStore:
    """A folder of visual tokens (M, D), at most `limit_bytes` of them.

    The least recently used go first. Nothing that fails here stops an answer: `warn`
    gets a line, and the picture is encoded.
    """

    def __init__(
        self, folder: Path, limit_bytes: int, warn: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self.warn = warn
        self._model: MM15 | None = None
        self._identity = ""

    def load(self, model: MM15, key: str, tokens: int) -> mx.array | None:
        """The visual tokens (M, D) of the picture `key`, if they are here and whole."""
        path = self._path(model, key)
        try:
            features = _read(path, (tokens, model.config.text_config.hidden_size))
            os.utime(path)  # the least recently used go first
        except FileNotFoundError:
            return None
        except (WeightsError, OSError) as e:
            if path.exists():
                self.warn(f"{path} is damaged or not ours and is not used: {e}")
            return None
        return features

    def save(self, model: MM15, key: str, features: mx.array) -> None:
        """Keep `features` (M, D) under the picture's `key`."""
        if features.nbytes > self.limit_bytes:
            return
        partial = self.folder / f".{secrets.token_hex(8)}{_PARTIAL}"
        try:
            digest = hashlib.sha256(_bytes(features)).hexdigest()
            metadata = {"mm15_mlx": __version__, "sha256": digest}
            mx.save_safetensors(str(partial), {_FEATURES: features}, metadata)
            os.replace(partial, self._path(model, key))
            self._shrink()
        except (OSError, RuntimeError) as e:  # RuntimeError is MLX's for a full disk
            self.warn(f"{self.folder} does not take visual tokens: {e}")
        finally:
            partial.unlink(missing_ok=True)

    def forget(self) -> None:
        """The model's weights may have changed; what is on disk stays true."""
        self._model = None

    def _path(self, model: MM15, key: str) -> Path:
        if model is not self._model:
            self._model, self._identity = model, model_identity(model)
        name = hashlib.sha256(f"{self._identity} {key}".encode()).hexdigest()
        return self.folder / f"{name}.safetensors"

    def _shrink(self) -> None:
        """Delete the least recently used beyond the limit; other files are not ours."""
        held = []
        for path in self.folder.iterdir():
            try:
                stat = path.stat()
            except OSError:  # another run deleted it
                continue
            if _NAME.fullmatch(path.name):
                held.append((stat.st_mtime, stat.st_size, path))
            elif path.name.endswith(_PARTIAL):
                if time.time() - stat.st_mtime > _STALE_S:
                    path.unlink(missing_ok=True)
        total = sum(size for _, size, _ in held)
        for _, size, path in sorted(held):
            if total <= self.limit_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size


def open_store(
    folder: Path, gigabytes: float, warn: Callable[[str], None]
) -> FeatureStore:
    """The store in `folder`, which is made if need be, for its owner alone: visual
    tokens tell what was on the screen. Raises UserError where that cannot be."""
    if not gigabytes > 0:  # so written for NaN
        raise UserError(f"--cache-gb is {gigabytes:g}; it must be above 0")
    folder = at_home(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--cache-dir {folder} is a file; name a folder")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(
            f"--cache-dir {folder} cannot be made: {e.strerror}; name another folder"
        ) from e
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--cache-dir {folder} is not writable; name another folder")
    return FeatureStore(folder, round(min(gigabytes, 1e9) * 1e9), warn)


def model_identity(model: MM15) -> str:
    """A hash of all that makes visual tokens of a picture's pixels."""
    config = asdict(model.config)
    parts = [config[k] for k in ("vision_config", "connector_config", "tiling")]
    digest = hashlib.sha256(json.dumps([__version__, parts]).encode())
    weights = {k: v for k, v in model.parameters().items() if k != "decoder"}
    for name, array in sorted(tree_flatten(weights)):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(_bytes(array))
    return digest.hexdigest()


def _bytes(array: mx.array) -> memoryview:
    return memoryview(array.reshape(-1).view(mx.uint8))


def _read(path: Path, shape: tuple[int, int]) -> mx.array:
    """The array of a file, checked; read at once, as the file may go at any time."""
    if not path.exists():
        raise FileNotFoundError(path)
    tensors, metadata = read_header(path)
    stored = tensors.get(_FEATURES)
    if stored is None or len(tensors) > 1:
        raise WeightsError("it does not hold visual tokens alone")
    if stored.shape != shape or stored.dtype not in FLOATS:
        raise WeightsError(
            f"it holds {stored.dtype} {stored.shape}, not floats of shape {shape}"
        )
    data = path.read_bytes()[stored.start :]
    if hashlib.sha256(data).hexdigest() != metadata.get("sha256"):
        raise WeightsError("its numbers have changed since they were written")
    numbers = mx.array(np.frombuffer(data, np.uint8))
    return numbers.view(_DTYPES[stored.dtype]).reshape(shape)
