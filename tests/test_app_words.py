"""In the browser: the words of an answer and the things on the picture show each other,
and what the page shows while an answer is being written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_browser import User, saying

from mm15_mlx.apps import worker

LISTED = """switch "Wi-Fi" [50, 50, 450, 150]
button "Delete (3)" [500, 200, 950, 300]
icon [100, 500, 300, 600]
button "OK" [400, 800, 900, 950]"""
LINES = LISTED.splitlines()
SETTLED_MS = 1800  # scrolling is smooth, and goes again after a redraw


@pytest.fixture
def user(browser: Any, url: str, screen: Path) -> Iterator[User]:
    made = User(browser, url)
    made.picture(screen)
    yield made
    made.page.context.close()


def listed(user: User, monkeypatch: pytest.MonkeyPatch, text: str = LISTED) -> None:
    monkeypatch.setattr(worker, "decode", saying(text))
    user.page.click("#mm-task0")
    user.answers(1)
    user.page.wait_for_selector("g.mm-mark")


def lit(user: User, name: str) -> list[str]:
    """Which chips, marks and rows have a class: `chip 0`."""
    return user.page.evaluate(
        """name => [...document.querySelectorAll(`#mm-app .${name}`)].map(n =>
            `${n.localName.replace('button', 'chip')} ${n.dataset.k}`).sort()""",
        name,
    )


def three(k: int) -> list[str]:
    return [f"chip {k}", f"g {k}", f"tr {k}"]


def test_a_clicked_phrase_lights_its_box_and_it_stays(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(user, monkeypatch)
    chips = user.page.locator(".mm-chip")
    assert chips.all_inner_texts() == [f"{k + 1} {t}" for k, t in enumerate(LINES)]
    for _ in range(5):  # box and label still fit into the frame
        user.page.click("#mm-view [data-zoom='1']")
    chips.nth(3).click()
    user.page.wait_for_timeout(SETTLED_MS)
    assert lit(user, "mm-picked") == three(3)
    assert user.in_sight("g.mm-mark[data-k='3'] rect.mm-line")
    chips.nth(0).click()
    user.page.mouse.move(1, 1)
    user.page.wait_for_timeout(SETTLED_MS)
    assert lit(user, "mm-picked") == three(0)
    assert user.in_sight("g.mm-mark[data-k='0'] rect.mm-line")
    assert not user.in_sight("g.mm-mark[data-k='3'] rect.mm-line")


def test_a_clicked_box_lights_its_phrase_and_scrolls_to_it(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(user, monkeypatch, "word\n" * 80 + LISTED + "\nword" * 80)
    assert not user.in_sight(".mm-chip[data-k='1']")
    user.click(87, 50)
    assert user.question("^<box>") == [60, 40, 114, 60]
    user.page.mouse.move(1, 1)
    user.page.wait_for_timeout(SETTLED_MS)
    assert lit(user, "mm-picked") == three(1)
    assert user.in_sight(".mm-chip[data-k='1']")
    user.page.focus("g.mm-mark[data-k='3']")
    user.page.keyboard.press("Enter")
    assert user.question("^<box>48,160") == [48, 160, 108, 190]
    user.page.wait_for_timeout(SETTLED_MS)
    assert lit(user, "mm-picked") == three(3)
    assert user.in_sight(".mm-chip[data-k='3']")
    assert user.page.evaluate("document.activeElement.matches('[data-k=\"3\"]')")


def test_points_are_linked(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(user, monkeypatch, "Here: [500, 250] or here: [250, 500]")
    user.page.click(".mm-chip[data-k='1']")
    assert user.page.inner_text(".mm-chip[data-k='1']").startswith("2 ")
    assert lit(user, "mm-picked") == three(1)
    assert user.page.get_attribute("g.mm-mark.mm-picked circle", "cx") == "30"


def test_a_phrase_about_the_other_picture_shows_it(
    user: User, screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.upload(screen)
    user.page.wait_for_selector("[data-show='1'][aria-pressed=true]")
    monkeypatch.setattr(worker, "decode", saying(f"In the first: {LINES[1]}"))
    user.page.click(".mm-task:has-text('Compare')")
    user.answers(1)
    chip = user.page.locator(".mm-chip")
    assert chip.inner_text().endswith("on picture 1")
    assert user.page.locator("g.mm-mark").count() == 0
    chip.click()
    user.page.wait_for_selector("[data-show='0'][aria-pressed=true]")
    user.page.wait_for_selector("g.mm-mark.mm-picked")
    user.page.wait_for_selector(".mm-chip.mm-picked[data-k='0']")


def test_table_and_boxes(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filter by type, a row under the pointer, and the number of a row."""
    listed(user, monkeypatch)
    user.page.hover("tr[data-k='2'] td:nth-child(2)")
    user.page.wait_for_selector("g.mm-mark.mm-hot[data-k='2']")
    assert lit(user, "mm-hot") == three(2)
    user.page.hover("g.mm-mark[data-k='0'] rect.mm-line")
    user.page.wait_for_selector("tr.mm-hot[data-k='0']")
    seen = user.page.locator("tr[data-k]:visible, g.mm-mark:visible")
    assert seen.count() == 8
    user.page.select_option("[data-filter]", "button")
    assert lit(user, "mm-mark") == [f"g {k}" for k in range(4)]
    kept = [n.get_attribute("data-k") for n in seen.all()]
    assert sorted(kept, key=str) == ["1", "1", "3", "3"]
    user.page.click("tr[data-k='3'] [data-pick]")
    assert user.question("^<box>") == [48, 160, 108, 190]
    assert lit(user, "mm-picked") == three(3)
    assert seen.count() == 4  # still only buttons
    user.page.select_option("[data-filter]", "")
    assert seen.count() == 8
    user.page.click("tr[data-k='0'] td:nth-child(3)")
    assert lit(user, "mm-picked") == three(0)


def test_labels_are_on_the_picture(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(user, monkeypatch)
    labels = user.page.locator(".mm-label:visible text")
    assert labels.all_text_contents()[0].startswith('switch "Wi')
    assert labels.count() == 4
    many = "\n".join(f"icon [{k * 50}, 100, {k * 50 + 40}, 200]" for k in range(18))
    monkeypatch.setattr(worker, "decode", saying(many))
    user.page.click("#mm-task0")
    user.answers(2)
    user.page.wait_for_selector("svg.mm-many")
    user.page.mouse.move(1, 1)
    assert labels.count() == 0
    user.page.hover("tr[data-k='7'] td:nth-child(2)")
    user.page.wait_for_selector("g.mm-hot[data-k='7'] .mm-label", state="visible")
    assert labels.count() == 1


# --- while it is written -----------------------------------------------------------


def test_the_answer_grows_before_its_end(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "decode", saying("one two three four five six", 0.4))
    user.ask("Count")
    seen = []
    for count in (1, 3, 5):
        user.page.wait_for_function(
            "n => document.querySelector('.mm-a[aria-busy=true]')?.innerText.trim()"
            ".split(/\\s+/).filter(Boolean).length >= n",
            arg=count,
        )
        seen.append(user.page.inner_text(".mm-a[aria-busy=true]").strip())
    assert "one two three four five six".startswith(seen[0])
    assert (
        len(seen[0]) < len(seen[1]) < len(seen[2]) < len("one two three four five si")
    )
    assert user.answers(1) == ["one two three four five six"]


def test_who_waits_sees_the_place_in_the_queue(
    user: User, browser: Any, url: str, screen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "decode", saying("a b c d e f g h", 0.5))
    other = User(browser, url)
    other.picture(screen)
    user.ask("First?")
    user.page.wait_for_selector(".mm-a[aria-busy=true]")
    other.ask("Second?")
    other.page.wait_for_selector("#mm-status :text('waiting: 1 before you')")
    assert user.answers(1) == other.answers(1) == ["a b c d e f g h"]
    assert other.page.inner_text("#mm-status") == ""
    other.page.context.close()
