"""The app without a mouse."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_browser import User


@pytest.fixture
def user(browser: Any, url: str, screen: Path) -> Iterator[User]:
    made = User(browser, url)
    made.picture(screen)
    made.page.keyboard.press("Tab")  # from here on no mouse
    yield made
    made.page.context.close()


FOCUSED = """() => {
    const one = document.activeElement;
    const names = ['data-show', 'data-zoom', 'data-k', 'data-pick', 'data-turn'];
    const own = names.filter((name) => one.hasAttribute(name))[0];
    const part = one.closest('[id^="mm-"]:not(#mm-app)');
    return own ? `${one.localName} ${own}`
        : one.matches('.mm-canvas') ? 'picture' : part?.id ?? one.localName;
}"""


def press(user: User, *keys: str) -> None:
    for key in keys:
        user.page.keyboard.press(key)


def cross(user: User) -> list[str | None]:
    """Its lines, where there is one."""
    return [n.get_attribute("d") for n in user.page.locator(".mm-aim-line").all()]


def test_arrows_and_enter_place_a_point(user: User) -> None:
    user.page.focus("svg.mm-canvas")
    assert cross(user) == ["M0 100H120M60 0V200"]  # the middle, and it is seen
    assert user.page.is_visible(".mm-aim-line") and user.page.is_visible(".mm-hint")
    press(user, "ArrowRight", "ArrowRight", "ArrowDown")
    assert cross(user) == ["M0 101H120M62 0V200"]
    press(user, "Enter")
    assert user.question("<point>") == [62, 101]
    user.page.wait_for_selector("path.mm-region:not(.mm-aim)")
    assert user.page.evaluate("document.activeElement.matches('svg.mm-canvas')")
    press(user, *["ArrowLeft"] * 3, "Enter")  # from where it was
    assert user.question("<point>59") == [59, 101]
    press(user, "Escape")
    assert cross(user) == []


def test_shift_and_arrows_make_a_box(user: User) -> None:
    user.page.focus("svg.mm-canvas")
    press(user, *["Shift+ArrowLeft"] * 5, *["Shift+ArrowDown"] * 3)
    box = user.page.locator("rect.mm-aim")
    sides = [box.get_attribute(a) for a in ("x", "y", "width", "height")]
    assert sides == ["55", "100", "5", "3"]
    press(user, "Enter")
    assert user.question("<box>") == [55, 100, 60, 103]
    read = user.page.locator(".mm-task:has-text('Read this')")
    assert "<box>55,100,60,103</box>" in read.inner_text()
    press(user, "Shift+ArrowUp", "ArrowUp")  # without Shift it is a cross again
    assert box.count() == 0


def test_keys_leave_the_picture_alone_while_boxes_are_corrected(user: User) -> None:
    user.ask("Where is the button?")
    user.answers(1)
    user.correct()
    user.page.focus("svg.mm-canvas")
    press(user, "ArrowRight", "Enter")
    assert cross(user) == []
    assert user.page.input_value("#mm-question textarea") == ""


def test_typed_places_feed_the_tasks(user: User) -> None:
    user.page.fill("#mm-question textarea", "<box>20,150,100,180</box")
    user.page.press("#mm-question textarea", "End")
    user.page.press("#mm-question textarea", ">")  # Gradio tells of keys alone
    read = user.page.locator(".mm-task:has-text('Read this')")
    read.filter(has_text="<box>20,150,100,180</box>").wait_for()
    read.focus()
    press(user, "Enter")
    user.answers(1)
    assert "<box>20,150,100,180</box>" in user.page.inner_text("#mm-talk .mm-q")


def test_tab_reaches_all_and_is_never_caught(user: User) -> None:
    user.ask("Where is the button?")
    user.answers(1)
    user.page.focus("#mm-row button")
    met = []
    for _ in range(80):
        press(user, "Tab")
        met.append(user.page.evaluate(FOCUSED))
        if met[-1] == "mm-row":  # around, over the end of the page
            break
    wanted = [
        "mm-drop", "button data-show", "button data-zoom", "picture", "g data-k",
        "button data-pick", "mm-mode", "mm-unpoint", "button data-k",
        "button data-turn", "mm-question", "mm-ask", "mm-stop", "mm-clear", "mm-task0",
        "mm-task7", "mm-settings", "mm-inside", "mm-export", "mm-row",
    ]  # fmt: skip
    assert [w for w in wanted if w not in met] == []
    order = [met.index(w) for w in wanted]
    assert order == sorted(order)
