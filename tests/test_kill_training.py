"""`kill -9` at random moments, by the script that does it fifty times."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "kill_training.py"


def test_a_killed_training_comes_to_the_same_end(ui_folder: Path) -> None:
    words = [sys.executable, str(SCRIPT), "--kills", "3", "--iters", "5", "--model"]
    done = subprocess.run(
        [*words, str(ui_folder)], capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] == 3 == report["resumed"] + report["begun"]
    assert report["runs_bit_equal"] == report["runs"] >= 1
