"""A conversion that was killed, or whose proof fails, leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlx.core as mx
import pytest

from checkpoints import CONFIG, tensors, write
from mm15_mlx.config import UserError
from mm15_mlx.convert import partials, run

# Converts, and stays where the proof would be, with all weights on the disk.
STOPPED = """
import sys, time
from pathlib import Path
from mm15_mlx.convert import run
def wait(folder, shown):
    print(folder, flush=True)
    time.sleep(600)
run.prove = wait
source, out = map(Path, sys.argv[1:])
run.convert(source, out, name="owner/tiny", say=lambda _: None)
"""


def converted(source: Path, folder: Path) -> None:
    run.convert(source, folder, name="owner/tiny", say=lambda _: None)


def test_a_killed_conversion_is_cleared_away_by_the_next(
    source: Path, tmp_path: Path
) -> None:
    place = tmp_path / "models"
    words = [sys.executable, "-c", STOPPED, str(source), str(place / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            partial = Path(process.stdout.readline().strip())
            assert partial.parent == place and list(partial.glob("*.safetensors"))
            partials.remove_stale(place / "out")
            assert partial.is_dir()  # its writer lives
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert [p.name for p in place.iterdir()] == [partial.name]
    converted(source, place / "other")  # another target's is left alone
    assert partial.is_dir()
    converted(source, place / "out")
    assert sorted(p.name for p in place.iterdir()) == ["other", "out"]


def test_only_what_is_surely_left_over_goes(tmp_path: Path) -> None:
    empty, old, full = (tmp_path / f".out.{i}1234567.partial" for i in "abc")
    other = tmp_path / ".out.back.a1234567.partial"
    mine = tmp_path / ".out.mine.partial"
    for folder in (empty, old, full, other, mine):
        folder.mkdir()
    for folder in (full, other, mine):
        (folder / "model.safetensors").touch()
    link = tmp_path / ".out.d1234567.partial"
    link.symlink_to(mine)
    (tmp_path / ".out.e1234567.partial").touch()
    os.utime(old, (time.time() - 120,) * 2)
    partials.remove_stale(tmp_path / "out")
    assert not old.exists() and not full.exists()
    assert empty.is_dir()  # a moment old, its first weight may come
    assert other.is_dir() and mine.is_dir() and link.is_symlink()
    assert (tmp_path / ".out.e1234567.partial").is_file()
    partials.remove_stale(tmp_path / "nowhere" / "out")


def test_a_failed_proof_leaves_nothing_and_replaces_nothing(
    source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "models" / "out"
    converted(source, target)
    before = (target / "model.safetensors").read_bytes()
    write(source, CONFIG, tensors() | {"model.norm.weight": mx.full(32, float("nan"))})
    for folder, force in ((target, True), (target.parent / "new", False)):
        with pytest.raises(UserError, match="not finite; .* Nothing is left of it"):
            run.convert(source, folder, name="a/b", force=force, say=lambda _: None)
    assert [p.name for p in target.parent.iterdir()] == ["out"]
    assert (target / "model.safetensors").read_bytes() == before
