"""A real Chromium and what a person does in it: for the tests of the app, and for the
pictures that `app_states.py` takes of it. Needs gradio, playwright and a browser.
"""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mm15_mlx.apps.app import launch
from mm15_mlx.apps.page import Page
from mm15_mlx.apps.worker import Choice, Worker
from mm15_mlx.generate import GenerationResponse, Timings
from mm15_mlx.screens.capture import find_chromium

PATIENCE_MS = 90_000  # a busy machine is no failure


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def serving(
    models: tuple[Choice | Path | str, ...], uploads: Path, rows: Path | None = None
) -> Iterator[str]:
    """The app's address."""
    with patch.dict(os.environ, GRADIO_TEMP_DIR=str(uploads)), ExitStack() as ending:
        chosen = [m if isinstance(m, Choice) else Choice(str(m)) for m in models]
        worker = Worker(chosen)
        ending.callback(worker.close)
        port = free_port()
        blocks = launch(Page(worker, rows), "127.0.0.1", port)
        ending.callback(blocks.close, verbose=False)
        yield f"http://127.0.0.1:{port}/"


def saying(
    text: str, pause: float = 0.0
) -> Callable[..., Iterator[GenerationResponse]]:
    """In place of the worker's `decode`: this answer, a word at a time."""
    words = re.findall(r"\S+\s*", text)

    def decode(*_: object, **__: object) -> Iterator[GenerationResponse]:
        for k, word in enumerate(words):
            time.sleep(pause)
            reason = "stop" if k + 1 == len(words) else None
            yield GenerationResponse(
                word, k, 9, 1.0, k + 1, 1.0, 0.1, reason, Timings(first_token_s=0.1)
            )

    return decode


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


# Whether the picture lies where it lay when this was asked before: what is still being
# laid out moves from under a finger.
STILL = """() => {
    const box = document.querySelector('svg.mm-canvas').getBoundingClientRect();
    const now = [box.x, box.y, box.width, document.body.scrollHeight].join();
    const still = now === window.mmWas;
    window.mmWas = now;
    return still;
}"""


class User:
    """A tab of its own, and what a person does in it."""

    def __init__(
        self,
        browser: Any,
        url: str,
        width: int = 1280,
        touch: bool = False,
        dark: bool = False,
        height: int = 900,
    ) -> None:
        self.asked: list[str] = []
        context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True,
            has_touch=touch, is_mobile=touch, color_scheme="dark" if dark else "light",
        )  # fmt: skip
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(url)
        self.page.wait_for_selector("#mm-view .mm-empty")

    def upload(self, *files: Path) -> None:
        self.page.set_input_files("#mm-drop input[type=file]", [str(f) for f in files])

    def drop(self, name: str, file: Path) -> None:
        """As from a folder beside the window."""
        held = self.page.evaluate_handle(
            """([name, bytes]) => {
                const held = new DataTransfer();
                const type = 'image/png';
                held.items.add(new File([new Uint8Array(bytes)], name, { type }));
                return held;
            }""",
            [name, list(file.read_bytes())],
        )
        self.page.dispatch_event("#mm-drop button", "drop", {"dataTransfer": held})

    def take(self, ending: str) -> Path:
        """A file that the page gives away."""
        with self.page.expect_download() as download:
            self.page.click(f"#mm-export a[download$='{ending}']")
        return Path(download.value.path())

    def picture(self, *files: Path) -> None:
        self.upload(*files)
        self.page.wait_for_selector("svg.mm-canvas")
        self.page.wait_for_function(STILL, polling=150)

    def ask(self, question: str) -> None:
        self.page.fill("#mm-question textarea", question)
        self.page.press("#mm-question textarea", "Enter")

    def answers(self, count: int) -> list[str]:
        """The answers, once there are so many."""
        self.page.wait_for_function(
            "n => [...document.querySelectorAll('#mm-talk article small')].filter("
            "s => s.innerText.includes('first token')).length >= n",
            arg=count,
        )
        return self.page.locator("#mm-talk .mm-a").all_inner_texts()

    def begins(self) -> None:
        """Waits for the first words of an answer."""
        self.page.wait_for_function(
            "document.querySelector('#mm-talk .mm-a[aria-busy=true]')?.innerText.trim()"
        )

    def click(self, x: float, y: float) -> None:
        """At pixels of the picture."""
        self.page.mouse.click(*self.at(x, y))

    def drag(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self.page.mouse.move(*self.at(x1, y1))
        self.page.mouse.down()
        self.page.mouse.move(*self.at((x1 + x2) / 2, (y1 + y2) / 2))
        self.page.mouse.move(*self.at(x2, y2))
        self.page.mouse.up()

    def at(self, x: float, y: float) -> tuple[float, float]:
        place = self.page.evaluate(
            """([x, y]) => {
                const svg = document.querySelector('svg.mm-canvas');
                svg.scrollIntoView({ block: 'nearest' });
                const p = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
                return [p.x, p.y];
            }""",
            [x, y],
        )
        return place[0], place[1]

    def in_sight(self, selector: str) -> bool:
        """Whether all of it is seen, in the window and in what scrolls within it."""
        return self.page.evaluate(
            """(selector) => {
                const node = document.querySelector(selector);
                const own = node.getBoundingClientRect();
                for (let at = node.parentElement; at; at = at.parentElement) {
                    if (getComputedStyle(at).overflowY === 'visible') continue;
                    const box = at === document.documentElement
                        ? { top: 0, bottom: innerHeight } : at.getBoundingClientRect();
                    if (own.top < box.top - 1 || own.bottom > box.bottom + 1) {
                        return false;
                    }
                }
                return own.top >= -1 && own.bottom <= innerHeight + 1;
            }""",
            selector,
        )

    def question(self, pattern: str) -> list[float]:
        """The numbers of the place in the question, once it has one like `pattern`."""
        self.page.wait_for_function(
            "p => new RegExp(p).test("
            "document.querySelector('#mm-question textarea')?.value)",
            arg=pattern,
        )
        text = self.page.input_value("#mm-question textarea")
        return [float(v) for v in re.findall(r"-?[\d.]+", text.split(">")[1])]

    def alert(self) -> str:
        alert = self.page.locator("#mm-status [role=alert]:not(:empty)")
        alert.wait_for()
        return alert.inner_text()

    def open(self, name: str) -> None:
        self.page.click(f"#mm-{name} button.label-wrap")

    def choose_model(self, folder: Path) -> None:
        self.open("settings")
        self.page.click("#mm-settings input[aria-label='Model']")
        self.page.click(f"[role=option]:has-text('{folder.name}')")
        self.page.wait_for_timeout(500)

    def row(self) -> str:
        """The answer of the training row."""
        return self.page.input_value("#mm-row textarea")

    def wait_for_row(self, text: str) -> None:
        self.page.wait_for_function(
            "t => document.querySelector('#mm-row textarea')?.value === t", arg=text
        )

    def correct(self) -> None:
        """Open the row and put its places right on the picture."""
        self.open("row")
        self.page.check("#mm-row input[type=checkbox]")
        self.page.wait_for_selector("svg.mm-canvas[data-edits]")

    def choose_splitting(self, name: str) -> None:
        self.page.click("#mm-settings input[aria-label='Image splitting']")
        self.page.click(f"[role=option]:has-text('{name}')")
