"""What a killed conversion leaves beside its target, and its removal by the next one.

A folder is written under a hidden name, `.NAME.xxxxxxxx.partial`, and renamed when it
is whole. Its writer holds a lock on it, which the system takes back however the process
ends, so a number that another process has by now is never mistaken for a living writer.
"""

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

_YOUNG_SECONDS = 60


@contextlib.contextmanager
def held(partial: Path) -> Iterator[None]:
    """The lock on a folder that is being written.

    Where the file system has no locks there is none, and nothing is removed later.
    """
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_stale(folder: Path) -> None:
    """Removes what killed conversions to `folder` left."""
    folder = folder.resolve()
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}\.partial")
    if not folder.parent.is_dir():
        return
    for path in sorted(folder.parent.iterdir()):
        if pattern.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            if _is_stale(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_stale(partial: Path) -> bool:
    """Whether nobody writes it. Its writer takes the lock before the first weight, so
    one without weights and a lock may be a moment old."""
    try:
        young = time.time() - partial.stat().st_mtime < _YOUNG_SECONDS
        if young and not any(partial.glob("*.safetensors")):
            return False
        descriptor = os.open(partial, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # its writer lives, or the file system has no locks
        return False
    finally:
        os.close(descriptor)
    return True
