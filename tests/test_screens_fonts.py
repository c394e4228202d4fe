"""Fonts that screens ask for and a machine may lack."""

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from mm15_mlx.screens.build import OTHER_FONTS
from mm15_mlx.screens.capture import Camera, find_chromium
from mm15_mlx.screens.fonts import LOCAL, absent, note_absent


def browser(*missing: str) -> Any:
    """A browser that lacks these fonts."""
    page = SimpleNamespace(
        evaluate=lambda js, names: [n for n in names if n in missing],
        close=lambda: None,
    )
    return SimpleNamespace(new_page=lambda: page)


def test_missing_fonts_are_named_with_what_brings_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    note_absent(browser("Lato", "Open Sans"))
    assert capsys.readouterr().err == (
        "note: Open Sans, Lato not installed: screens that ask for it show another "
        "font; on Debian: apt install fonts-open-sans fonts-lato\n"
    )
    note_absent(browser())
    assert capsys.readouterr().err == ""
    assert set(LOCAL) < set(OTHER_FONTS)


def test_a_browser_tells_which_fonts_it_has() -> None:
    pytest.importorskip("playwright")
    if not find_chromium():
        pytest.skip("no chromium")
    listed = subprocess.run(["fc-list", ":", "family"], capture_output=True, text=True)
    installed = [line.split(",")[0] for line in listed.stdout.splitlines() if line]
    there = next((f for f in installed if f.replace(" ", "").isalnum()), None)
    with Camera(".") as camera:
        none = "No Such Family 9"
        names = [none] if there is None else [there, none]
        assert absent(camera.browser, names) == [none]
