"""Where a model's weights are from: the digest and the revision of its sources.

What this file is: the facts that tell one copy of a checkpoint from another, and their
place in a finished folder. What it is not: licences (run.py), or reading tensors.
"""

import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from mm15_mlx.checkpoint import CARD, CONFIG, read_config
from mm15_mlx.convert.gguf import Gguf
from mm15_mlx.convert.sources import Source

_COMMIT = re.compile(r"[0-9a-f]{40}")


class Digest:
    """The SHA-256 of a checkpoint, taken while the checkpoint is converted.

    On a thread of its own: hashing releases Python's lock, and what one of the two has
    read from the disk the other finds in memory. A conversion that fails does not wait.
    """

    def __init__(self, held: Source | Gguf) -> None:
        self._found: Future[str] = Future()
        threading.Thread(target=self._take, args=(held,), daemon=True).start()

    def _take(self, held: Source | Gguf) -> None:
        try:
            self._found.set_result(one_digest(held.sha256()))
        except BaseException as error:
            self._found.set_exception(error)

    def __str__(self) -> str:
        return self._found.result()


def one_digest(digests: Mapping[str, str]) -> str:
    """Of one file its own digest, of several that of the list sha256sum prints."""
    if len(digests) == 1:
        return next(iter(digests.values()))
    listing = "".join(f"{d}  {n}\n" for n, d in sorted(digests.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def commit_of(folder: Path) -> str | None:
    """The commit that a folder of the hub's cache holds; it is the folder's name."""
    named = folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name)
    return folder.name if named else None


def sign(folder: Path, provenance: dict[str, Any], card: str) -> None:
    """Put a model folder's provenance and card beside its weights."""
    config = dataclasses.replace(read_config(folder), provenance=provenance)
    text = json.dumps(config.to_dict(), indent=2, ensure_ascii=False)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    (folder / CARD).write_text(card, encoding="utf-8")
