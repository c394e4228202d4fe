"""The app under a finger, at a phone's width: real touches, as Chromium gets them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app_browser import User, chromium, serving

STEPS = 8


@pytest.fixture(scope="module")
def url(
    answering: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    models = (answering((100, 200, 600, 700)),)
    with serving(models, tmp_path_factory.mktemp("uploads")) as address:
        yield address


class Phone(User):
    """390 px wide, with fingers."""

    def __init__(self, browser: Any, url: str) -> None:
        super().__init__(browser, url, width=390, touch=True)
        self.fingers = self.page.context.new_cdp_session(self.page)

    def touch(self, kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(places)]
        self.fingers.send(
            "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points}
        )

    def swipe(self, a: tuple[float, float], b: tuple[float, float]) -> None:
        self.touch("Start", a)
        for k in range(1, STEPS + 1):
            self.touch("Move", _between(a, b, k / STEPS))
            self.page.wait_for_timeout(20)
        self.touch("End")
        self.page.wait_for_timeout(300)  # a scroll would go on

    def scrolled(self) -> float:
        return self.page.evaluate("window.scrollY")

    def magnified(self) -> float:
        return self.page.evaluate("window.visualViewport.scale")


def _between(
    a: tuple[float, float], b: tuple[float, float], t: float
) -> tuple[float, float]:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


@pytest.fixture
def phone(url: str, screen: Path) -> Iterator[Phone]:
    with chromium() as browser:
        made = Phone(browser, url)
        made.picture(screen)
        made.at(60, 100)  # scrolls the picture into view
        yield made


def test_a_finger_draws_a_box_and_the_page_stays(phone: Phone) -> None:
    before = phone.scrolled()
    phone.swipe(phone.at(20, 180), phone.at(100, 60))
    assert phone.question("<box>") == pytest.approx([20, 60, 100, 180], abs=1)
    assert phone.scrolled() == before
    x, y = phone.at(60, 100)
    phone.page.touchscreen.tap(x, y)  # and a tap is still a click
    assert phone.question("<point>") == pytest.approx([60, 100], abs=1)


def test_beside_the_picture_a_finger_scrolls(phone: Phone) -> None:
    """The same swipe scrolls where it should: the test above could have failed."""
    drop = phone.page.locator("#mm-task0")
    drop.scroll_into_view_if_needed()
    before = phone.scrolled()
    x, y = drop.bounding_box()["x"] + 40, drop.bounding_box()["y"] + 10
    phone.swipe((x, y), (x, y + 200))
    assert phone.scrolled() < before


def test_boxes_by_two_clicks_leave_swiping_to_the_page(phone: Phone) -> None:
    phone.page.click("#mm-mode label:has-text('two clicks')")
    a, b = phone.at(60, 190), phone.at(60, 90)
    before = phone.scrolled()
    phone.swipe(a, b)
    assert phone.scrolled() > before
    assert phone.page.locator(".mm-corner, .mm-region").count() == 0


def test_two_fingers_zoom_and_draw_nothing(phone: Phone) -> None:
    assert phone.magnified() == 1
    middle = phone.at(60, 100)
    phone.touch("Start", middle)
    phone.touch("Start", middle, (middle[0] + 20, middle[1] + 20))
    for k in range(1, STEPS + 1):
        x, y = middle
        phone.touch("Move", (x - 9 * k, y - 9 * k), (x + 20 + 9 * k, y + 20 + 9 * k))
        phone.page.wait_for_timeout(20)
    phone.touch("End")
    phone.page.wait_for_timeout(300)
    assert phone.magnified() > 1.1
    assert phone.page.locator(".mm-region").count() == 0
    assert phone.page.input_value("#mm-question textarea") == ""


def test_a_finger_corrects_a_box(phone: Phone) -> None:
    phone.ask("Where is the button?")
    phone.answers(1)
    phone.correct()
    before = phone.at(72, 140), phone.scrolled()
    phone.swipe(before[0], phone.at(100, 180))
    phone.wait_for_row("<box>12,40,100,180</box>")
    assert phone.scrolled() == before[1]
