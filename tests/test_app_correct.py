"""In the browser: boxes put right, earlier turns, settings, and what memory lacks."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app_browser import User

from mm15_mlx.apps import worker

TEXT = "<box>12,40,72,140</box>"  # (100, 200, 600, 700) of 120 × 200 pixels


@pytest.fixture
def user(browser: Any, url: str, screen: Path) -> Iterator[User]:
    made = User(browser, url)
    made.picture(screen)
    made.ask("Where is the button?")
    made.answers(1)
    yield made
    made.page.context.close()


def test_corners_edges_and_the_whole_are_dragged(user: User) -> None:
    user.correct()
    user.drag(72, 140, 100, 180)  # the lower right corner
    user.wait_for_row("<box>12,40,100,180</box>")
    user.drag(12, 100, 20, 100)  # the left edge
    user.wait_for_row("<box>20,40,100,180</box>")
    user.drag(60, 40, 60, 150)  # the upper edge
    user.wait_for_row("<box>20,150,100,180</box>")
    user.drag(60, 165, 70, 105)  # all of it
    user.wait_for_row("<box>30,90,110,120</box>")
    user.drag(70, 105, 120, 199)  # not beyond the picture
    user.wait_for_row("<box>40,170,120,200</box>")
    user.drag(120, 170, 30, 180)  # the upper right corner over to the other side
    user.wait_for_row("<box>30,180,40,200</box>")
    user.drag(60, 20, 110, 60)  # anew
    user.wait_for_row("<box>60,20,110,60</box>")
    assert user.page.locator("#mm-question textarea").input_value() == ""


def test_arrow_keys_move_a_box_and_keep_the_focus(user: User) -> None:
    user.correct()
    user.page.focus("g.mm-edit")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowDown"):
        user.page.keyboard.press(key)
    user.wait_for_row("<box>14,39,74,140</box>")
    user.page.wait_for_function(
        "() => document.activeElement.matches('g.mm-edit[data-px=\"14,39,74,140\"]')"
    )
    user.page.keyboard.press("Shift+ArrowLeft")
    user.wait_for_row("<box>14,39,73,140</box>")


def test_words_and_picture_correct_each_other(user: User) -> None:
    user.correct()
    user.page.fill("#mm-row textarea", "Here: <box>10,10,50,50</box>")
    user.page.press("#mm-row textarea", "!")
    user.page.wait_for_selector("g.mm-edit[data-px='10,10,50,50']")
    user.drag(50, 50, 60, 70)
    user.wait_for_row("Here: <box>10,10,60,70</box>!")
    user.page.fill("#mm-row textarea", "Nothing")  # as pasted: seen on leaving
    user.page.locator("#mm-row textarea").blur()
    user.page.wait_for_selector("svg.mm-canvas[data-edits='0']")
    user.drag(20, 20, 40, 50)
    user.wait_for_row("Nothing <box>20,20,40,50</box>")
    user.page.uncheck("#mm-row input[type=checkbox]")
    user.page.wait_for_selector("g.mm-mark")  # what the model said, as before


def test_corrected_and_saved(
    user: User, rows: Path, ui_folder: Path, cli: Callable
) -> None:
    user.correct()
    user.drag(12, 40, 20, 150)
    user.wait_for_row("<box>20,140,72,150</box>")
    user.drag(72, 150, 100, 180)
    user.wait_for_row("<box>20,140,100,180</box>")
    user.page.click("#mm-row button:has-text('Add to')")
    user.page.wait_for_selector("#mm-row :text('mm15-mlx data check')")
    row = json.loads((rows / "train.jsonl").read_text().splitlines()[-1])
    assert row["messages"][1]["content"] == "<box>20,140,100,180</box>"
    code, out, _ = cli("data", "check", rows, "--model", ui_folder)
    assert code == 0 and "0 bad" in out


def test_boxes_of_an_earlier_turn(user: User, ui_folder: Path) -> None:
    user.choose_model(ui_folder)
    user.ask("What is this?")
    user.answers(2)
    user.page.wait_for_function("!document.querySelector('.mm-chip[data-k=\"0\"]')")
    back = "#mm-talk [data-turn='0']"
    user.page.click(back)
    user.page.wait_for_selector(f"{back}[aria-pressed=true]")
    mark = user.page.locator("rect.mm-line").first
    assert [mark.get_attribute(a) for a in ("x", "y")] == ["12", "40"]
    user.open("row")
    user.wait_for_row(TEXT)


def test_splitting_temperature_and_tokens(user: User, ui_folder: Path) -> None:
    user.choose_model(ui_folder)
    user.page.check("#mm-settings label:has-text('Draw the tiles') input")
    tiles = user.page.locator(".mm-tile")
    user.page.wait_for_selector(".mm-tile")
    many = tiles.count()
    user.choose_splitting("At most 2 tiles")
    user.page.wait_for_function(
        "n => { const k = document.querySelectorAll('.mm-tile').length;"
        " return k && k < n; }",
        arg=many,
    )
    user.choose_splitting("Off: one view")
    user.page.wait_for_function("document.querySelectorAll('.mm-tile').length === 1")
    user.page.fill("#mm-settings input[aria-label*='Temperature'][type=number]", "1")
    user.page.fill("#mm-settings input[aria-label*='tokens'][type=number]", "3")
    user.page.keyboard.press("Tab")
    user.ask("What is this?")
    user.answers(2)
    assert "3 tokens" in user.page.locator("#mm-talk small").last.inner_text()
    user.open("export")
    with user.page.expect_download() as download:
        user.page.click("#mm-export a[download$='.json']")
    told = json.loads(Path(download.value.path()).read_text())
    assert told["images"][0]["views"] == 1
    command = user.page.locator("#mm-export textarea").first.input_value()
    assert "--temp 1" in command or "temp=1," in command


def test_too_little_memory_is_said_and_the_next_answer_comes(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object, **__: object) -> Iterator[None]:
        raise RuntimeError(
            "[metal::malloc] Attempting to allocate 99999999999 bytes which is greater "
            "than the maximum allowed buffer size of 9534832640 bytes."
        )
        yield

    with monkeypatch.context() as patched:
        patched.setattr(worker, "decode", short)
        user.ask("Where is it?")
        told = user.alert()
    assert told.startswith("not enough memory for this question ([metal::malloc]")
    assert "image splitting with fewer tiles or off" in told
    assert user.page.input_value("#mm-question textarea") == "Where is it?"
    assert user.page.locator("#mm-talk article").count() == 1  # nothing half said
    user.page.click("#mm-ask")
    user.answers(2)
    assert user.page.inner_text("#mm-status") == ""
