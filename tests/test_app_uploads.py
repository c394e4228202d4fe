"""Bad uploads in a real Chromium: one clear line of ours each, and nothing is lost."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app_browser import User
from PIL import Image

from mm15_mlx.apps.app import READ_BYTES
from mm15_mlx.apps.pictures import MAX_BYTES
from mm15_mlx.apps.state import MAX_PICTURES


@pytest.fixture(scope="module")
def tab(browser: Any, url: str, screen: Path) -> Iterator[User]:
    """One tab for all: each bad file leaves what was there before."""
    user = User(browser, url)
    user.picture(screen)
    yield user
    user.page.context.close()


def big(path: Path, screen: Path) -> None:
    """A sound picture with a tail that makes it too large a file."""
    path.write_bytes(screen.read_bytes() + bytes(MAX_BYTES))


def empty(path: Path, screen: Path) -> None:
    path.touch()


def cut(path: Path, screen: Path) -> None:
    data = screen.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def huge(path: Path, screen: Path) -> None:
    Image.new("1", (10_000, 6_000)).save(path)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (big, "bad.png has 20 MB; the limit is 20 MB: save it as JPEG or make it"),
        (empty, "bad.png is an empty file"),
        (cut, "bad.png is damaged or cut short"),
        (huge, "bad.png has 60 megapixels (10000 × 6000); the limit is 50: make it"),
    ],
)
def test_a_bad_file_is_one_line(
    tab: User, screen: Path, tmp_path: Path, make: Callable, line: str
) -> None:
    bad = tmp_path / "bad.png"
    make(bad, screen)
    tab.upload(bad)
    assert tab.alert().startswith(line)
    assert tab.page.locator(".toast-body").count() == 0  # Gradio says nothing besides
    assert tab.page.locator("#mm-app [data-show]").count() == 1
    tab.page.click("#mm-unpoint")  # and nothing is broken
    tab.page.wait_for_selector("#mm-status [role=status]:empty", state="attached")


def test_the_ninth_picture_is_one_line(
    browser: Any, url: str, screen: Path, tmp_path: Path
) -> None:
    user = User(browser, url)
    names = [f"picture{k}.png" for k in range(MAX_PICTURES + 1)]
    for name in names:
        (tmp_path / name).write_bytes(screen.read_bytes())
    user.upload(*(tmp_path / name for name in names))
    assert user.alert() == (
        f"{names[-1]} is one too many: a conversation takes {MAX_PICTURES} pictures; "
        "begin a new one"
    )
    assert user.page.locator("#mm-app [data-show]").count() == MAX_PICTURES
    assert user.page.locator(".toast-body").count() == 0
    user.page.context.close()


def test_reading_is_bounded_above_our_limit() -> None:
    """What Gradio refuses in words of its own is far more than what we do in ours."""
    assert MAX_BYTES < READ_BYTES < 10 * MAX_BYTES
