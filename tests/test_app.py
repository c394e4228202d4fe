"""The app end to end, in a real Chromium; needs gradio, playwright and a browser.

A model that always answers with one box, and a random one that talks long.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_browser import User, free_port
from PIL import Image

from mm15_mlx.apps.marks import COLOURS

BOX = [12.0, 40.0, 72.0, 140.0]  # (100, 200, 600, 700) of 120 × 200 pixels


@pytest.fixture
def user(browser: Any, url: str) -> Iterator[User]:
    made = User(browser, url)
    yield made
    made.page.context.close()


def test_upload_ask_and_boxes_at_the_right_pixels(user: User, screen: Path) -> None:
    user.picture(screen)
    user.ask("Where is the button?")
    assert user.answers(1) == ["1 [100, 200, 600, 700]"]
    user.open("export")
    told = json.loads(user.take(".json").read_text())
    assert told["boxes"][0]["px"] == BOX and told["images"][0]["path"] == "screen.png"
    drawn = user.page.evaluate(
        """() => {  // of the picture as it lies on the page, in its own pixels
            const frame = (s) =>
                document.querySelector(`svg.mm-canvas ${s}`).getBoundingClientRect();
            const svg = document.querySelector('svg.mm-canvas');
            const scale = svg.getScreenCTM().a;
            const image = frame('image'), box = frame('rect.mm-line');
            return [box.left - image.left, box.top - image.top,
                    box.right - image.left, box.bottom - image.top].map(v => v / scale);
        }"""
    )
    assert drawn == pytest.approx(BOX, abs=0.5)


def test_all_that_can_be_taken_away(user: User, screen: Path, button: Path) -> None:
    user.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    user.picture(screen)
    user.ask("Where is the button?")
    user.answers(1)
    user.open("export")
    with Image.open(user.take(".png")) as image, Image.open(screen) as before:
        assert image.size == before.size
        paint = tuple(bytes.fromhex(COLOURS[0][0][1:]))
        x1, y1, x2, y2 = map(int, BOX)
        for pixel in ((x1, y2), (x2, y2), (x2, (y1 + y2) // 2), ((x1 + x2) // 2, y2)):
            assert image.getpixel(pixel) == paint != before.getpixel(pixel)
        inside = ((x1 + x2) // 2, (y1 + y2) // 2)
        assert image.getpixel(inside) == before.getpixel(inside)
    told = user.take(".md").read_text()
    assert "- picture 1: `screen.png`" in told
    assert "Where is the button?" in told and "[100, 200, 600, 700]" in told
    for k, words in enumerate(("mm15-mlx generate --model", "from mm15_mlx import")):
        field = user.page.locator("#mm-export .mm-code").nth(k)
        shown = field.locator("textarea").input_value()
        field.locator("button").click()
        user.page.wait_for_function(
            "async (text) => await navigator.clipboard.readText() === text", arg=shown
        )
        assert shown.startswith(words) and str(button) in shown


def test_two_pictures_are_compared_and_asked_about(user: User, screen: Path) -> None:
    user.picture(screen)
    user.drop("dropped.png", screen)
    user.page.wait_for_selector("svg.mm-canvas[aria-label^='dropped.png']")
    thumbnails = user.page.locator(".mm-strip [data-show]")
    assert thumbnails.all_inner_texts() == ["1. screen.png", "2. dropped.png"]
    user.page.click(".mm-task:has-text('Compare')")
    user.answers(1)
    about = user.page.locator("#mm-talk small")
    assert about.last.inner_text().endswith("picture 1, 2")
    user.ask("And this one?")
    user.answers(2)
    assert about.last.inner_text().endswith("picture 2")
    thumbnails.first.click()
    user.page.wait_for_selector("svg.mm-canvas[aria-label^='screen.png']")
    user.open("settings")
    user.page.check("#mm-settings label:has-text('all pictures') input")
    user.click(60, 165)
    assert user.question("image=0") == [60, 165]
    user.ask("Where is the button in both?")
    user.answers(3)
    assert about.last.inner_text().endswith("picture 1, 2")
    assert user.page.locator("rect.mm-line").count() == 1  # on the first


def test_click_drag_and_two_clicks_refer(user: User, screen: Path) -> None:
    user.picture(screen)
    user.page.fill("#mm-question textarea", "What is this?")
    user.click(60, 165)
    assert user.question("^What is this. <point>") == pytest.approx([60, 165], abs=1)
    user.drag(20, 150, 100, 180)
    found = user.question("^What is this. <box>")
    assert found == pytest.approx([20, 150, 100, 180], abs=1)
    read = user.page.locator(".mm-task:has-text('Read this')")
    assert "<box>" in read.inner_text() and "…" not in read.inner_text()
    user.page.click("#mm-mode label:has-text('two clicks')")
    user.click(30, 40)
    user.page.wait_for_selector(".mm-corner")
    user.click(10, 20)
    assert user.question("<box>") == pytest.approx([10, 20, 30, 40], abs=1)
    read.click()
    user.answers(1)
    assert "What text is displayed" in user.page.inner_text("#mm-talk .mm-q")


def test_second_turn_keeps_the_picture_and_is_quick(user: User, screen: Path) -> None:
    user.picture(screen)
    user.ask("Where is the button?")
    user.answers(1)
    user.ask("And now?")
    user.answers(2)
    times = user.page.locator("#mm-talk small").all_inner_texts()
    assert "picture remembered" in times[1]
    assert user.page.locator("rect.mm-line").count() == 1
    assert user.page.input_value("#mm-question textarea") == ""


def test_found_things_and_words_show_each_other(user: User, screen: Path) -> None:
    user.picture(screen)
    user.ask("Where is the button?")
    user.answers(1)
    user.page.hover(".mm-chip")
    user.page.wait_for_selector("g.mm-mark.mm-hot")
    user.page.mouse.move(0, 0)
    user.page.focus("g.mm-mark")  # by keyboard
    user.page.wait_for_selector(".mm-chip.mm-hot")
    user.page.keyboard.press("Enter")
    assert user.question("^<box>") == BOX
    user.page.click("#mm-view [data-zoom='1']")
    width = user.page.evaluate("document.querySelector('svg.mm-canvas').style.width")
    assert width == "150%"


def test_stop_keeps_what_was_said(user: User, screen: Path, ui_folder: Path) -> None:
    user.picture(screen)
    user.choose_model(ui_folder)
    user.page.click("#mm-task0")  # a long list
    user.begins()
    user.page.click("#mm-stop")
    user.answers(1)
    assert "stopped by you" in user.page.inner_text("#mm-talk small")


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("bad.png", b"no picture at all", "bad.png is not a picture this program"),
        ("page.svg", b"<svg/>", "page.svg is not a picture this program"),
    ],
)
def test_bad_upload_is_one_line(
    user: User, screen: Path, tmp_path: Path, name: str, data: bytes, line: str
) -> None:
    (tmp_path / name).write_bytes(data)
    user.upload(tmp_path / name)
    assert user.alert().startswith(line)
    user.picture(screen)  # and nothing is broken
    assert user.page.inner_text("#mm-status") == ""


def test_mistakes_are_one_line(user: User, screen: Path) -> None:
    user.page.click(".mm-task:has-text('Describe')")
    assert user.alert().startswith("there is no picture yet")
    user.picture(screen)
    user.page.click(".mm-task:has-text('Read this')")
    user.page.wait_for_selector("#mm-status :text('point at something first')")
    user.ask("Is <box>900,900,950,950</box> a button?")
    user.page.wait_for_selector("#mm-status :text('lies outside the picture')")
    kept = user.page.input_value("#mm-question textarea")
    assert kept == "Is <box>900,900,950,950</box> a button?"


def test_two_users_at_once(browser: Any, url: str, screen: Path) -> None:
    """Each has its own pictures, turns and place."""
    one, two = User(browser, url), User(browser, url)
    one.picture(screen)
    two.page.click("#mm-app [data-example='0']")
    two.page.wait_for_selector("svg.mm-canvas")
    one.ask("Where is the button?")
    two.ask("Where is the other one?")
    one.answers(1)
    two.answers(1)
    assert one.page.locator("#mm-talk .mm-q").all_inner_texts() == [
        "Where is the button?"
    ]
    assert two.page.locator("#mm-talk .mm-q").all_inner_texts() == [
        "Where is the other one?"
    ]
    sides = [u.page.get_attribute("svg.mm-canvas", "data-width") for u in (one, two)]
    assert sides[0] == "120" != sides[1]
    for user in (one, two):
        user.page.context.close()


def test_training_row(user: User, screen: Path, rows: Path) -> None:
    user.picture(screen)
    user.ask("Where is the button?")
    user.answers(1)
    user.open("row")
    field = "#mm-row textarea"
    assert user.page.input_value(field) == "<box>12,40,72,140</box>"
    user.page.fill(field, "<box>20,150,100,180</box>")
    user.page.click("#mm-row button:has-text('Add to')")
    user.page.wait_for_selector("#mm-row :text('mm15-mlx data check')")
    row = json.loads((rows / "train.jsonl").read_text().splitlines()[-1])
    assert row["messages"][1]["content"] == "<box>20,150,100,180</box>"


def test_paste(user: User, screen: Path) -> None:
    user.page.evaluate(
        """async (bytes) => {
            const file = new File([new Uint8Array(bytes)], 'pasted.png');
            const clipboardData = new DataTransfer();
            clipboardData.items.add(file);
            document.body.dispatchEvent(
                new ClipboardEvent('paste', { clipboardData, bubbles: true }));
        }""",
        list(screen.read_bytes()),
    )
    user.page.wait_for_selector("svg.mm-canvas[aria-label^='pasted.png']")


def test_phone_has_no_sideways_scroll(browser: Any, url: str, screen: Path) -> None:
    user = User(browser, url, width=390)
    user.picture(screen)
    user.ask("Where is the button?")
    user.answers(1)
    wide = user.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    user.page.context.close()


def test_nothing_is_sent_elsewhere(user: User, url: str, screen: Path) -> None:
    user.picture(screen)
    user.ask("Where is the button?")
    user.answers(1)
    others = [a for a in user.asked if not a.startswith((url, "data:", "blob:"))]
    assert others == []


def test_uploads_do_not_stay_on_the_disk(user: User, screen: Path) -> None:
    user.picture(screen)
    left = [*Path(os.environ["GRADIO_TEMP_DIR"]).rglob("screen.png")]
    assert left == []


def test_verb_serves_and_ends_with_ctrl_c(button: Path) -> None:
    port = free_port()
    program = subprocess.Popen(
        [sys.executable, "-m", "mm15_mlx", "app", "--model", str(button),
         "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert program.stderr
        told = program.stderr.readline()
        assert told == f"http://127.0.0.1:{port}/ (Ctrl-C ends)\n"
        page = urllib.request.urlopen(told.split()[0]).read()
        assert b"mm15-mlx" in page
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    finally:
        program.kill()
    assert (program.returncode, out, err) == (130, "", "")
