"""What the tests of the app in a browser import: `benchmarks/app_user.py`, which takes
its pictures as well. Without gradio, playwright or a browser they are skipped.
"""

import sys
from pathlib import Path

import pytest

from mm15_mlx.screens.capture import find_chromium

pytest.importorskip("gradio")
pytest.importorskip("playwright.sync_api")
if find_chromium() is None:
    pytest.skip("no chromium", allow_module_level=True)

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from app_user import (  # noqa: E402
    User,
    chromium,
    free_port,
    saying,
    serving,
)

__all__ = ["User", "chromium", "free_port", "saying", "serving"]
