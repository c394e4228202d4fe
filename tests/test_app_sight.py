"""In the browser, at a phone's width: what is new is in sight, wherever one was."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_browser import User, saying

from mm15_mlx.apps import worker

LONG = "word\n" * 60


@pytest.fixture
def user(browser: Any, url: str, screen: Path) -> Iterator[User]:
    made = User(browser, url, width=390)
    made.picture(screen)
    yield made
    made.page.context.close()


def to_the_end(user: User) -> None:
    user.page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")


def test_a_new_question_and_its_answer(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also from an earlier one that was scrolled to, and from the page's end."""
    monkeypatch.setattr(worker, "decode", saying(LONG))
    user.ask("First?")
    user.answers(1)
    user.page.locator("#mm-talk .mm-q").first.scroll_into_view_if_needed()
    user.page.fill("#mm-question textarea", "Second?")
    monkeypatch.setattr(worker, "decode", saying(LONG, 0.2))
    to_the_end(user)
    last = "#mm-talk article:nth-child(2) .mm-caret"
    assert not user.in_sight("#mm-talk")
    user.page.evaluate("document.querySelector('#mm-ask').click()")  # from down there
    user.page.wait_for_function(
        "document.querySelector('.mm-a[aria-busy=true]')?.innerText.length > 150"
    )
    assert user.in_sight("#mm-talk") and user.in_sight(last)
    user.page.click("#mm-stop")
    user.answers(2)


def test_who_scrolls_up_is_left_there(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the answer grows; back at its end, it is followed again."""
    monkeypatch.setattr(worker, "decode", saying(LONG * 3, 0.1))
    user.ask("First?")
    grown = """(least) => document.querySelector('.mm-a[aria-busy=true]')
        ?.innerText.length > least"""
    user.page.wait_for_function(grown, arg=150)
    user.page.locator("#mm-talk .mm-q").first.scroll_into_view_if_needed()
    user.page.wait_for_function(grown, arg=250)
    assert user.in_sight("#mm-talk .mm-q") and not user.in_sight(".mm-caret")
    user.page.locator(".mm-caret").first.scroll_into_view_if_needed()
    user.page.wait_for_function(grown, arg=350)
    assert user.in_sight(".mm-caret")
    user.page.click("#mm-stop")
    user.answers(1)


def test_a_mistake(user: User) -> None:
    to_the_end(user)
    user.page.evaluate("""[...document.querySelectorAll('.mm-task')].find(
        (task) => task.innerText.startsWith('Read this')).click()""")
    assert user.alert().startswith("point at something first")
    assert user.in_sight("#mm-status [role=alert]")


def test_the_chosen_thumbnail(user: User, screen: Path) -> None:
    user.upload(screen, screen, screen)
    user.page.wait_for_selector("[data-show='3'][aria-pressed=true]")
    seen = """(k) => {
        const [mine, whole] = [`[data-show='${k}']`, '.mm-strip'].map(
            (name) => document.querySelector(name).getBoundingClientRect());
        return mine.left >= whole.left - 1 && mine.right <= whole.right + 1;
    }"""
    assert user.page.evaluate(seen, 3) and not user.page.evaluate(seen, 0)
    user.ask("Where is the button?")  # the strip is drawn anew
    user.answers(1)
    assert user.page.evaluate(seen, 3)


def test_the_field_for_more_pictures_is_small(
    user: User, browser: Any, url: str
) -> None:
    """The pictures need the room."""
    empty = User(browser, url, width=390)
    tall = [u.page.locator("#mm-drop").bounding_box()["height"] for u in (empty, user)]
    empty.page.context.close()
    assert tall[1] < 60 < 120 < tall[0]
