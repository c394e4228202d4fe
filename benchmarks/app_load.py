"""Many users of the app at once: do answers stay apart, does memory stay flat?

Every user has a picture and a question of his own, whose answer is known from
`generate`; he asks it again and again. Most speak HTTP as the page does, some are real
pages in Chromium. Prints one JSON line, and ends with 1 where an answer was wrong, the
program has ended, or memory grew by more than GROWTH_MB in the second half. In the
first it grows until all pictures and conversations are remembered; that has limits of
its own (256 MB of each).

    python benchmarks/app_load.py --users 20 --pages 2 --seconds 60
"""

import argparse
import html
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from mm15_mlx import generate, load
from mm15_mlx.screens.capture import find_chromium

SCREEN = Path(__file__).parents[1] / "apps/examples/settings.webp"
SIZE = (390, 844)  # pixels of a picture
WORDS = "Home Mail Save Send Edit Play Stop Open Copy Move".split()
PATIENCE_S = 300
PARTS = 8  # of the time; memory is read between them
# Our choice: above the allocator's noise, and far below what a minute would take were a
# picture (1 MB) kept with each question.
GROWTH_MB = 64


@dataclass(frozen=True)
class Case:
    """A picture, a question about it, and what must be answered."""

    picture: Path
    question: str
    answer: str


@dataclass
class Load:
    """What happened: seconds of each answer, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def draw(folder: Path, k: int) -> tuple[Path, str]:
    """The k-th user's picture: a screen with a button of his in a place of his own."""
    word = WORDS[k % len(WORDS)]
    x, y = 20 + 55 * (k % 5), 90 + 150 * (k // 5 % 5)
    image = Image.open(SCREEN).convert("RGB").resize(SIZE)
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((x, y, x + 110, y + 40), 8, fill=(10, 100, 60 + 5 * k % 150))
    font = ImageFont.load_default(size=22)
    pen.text((x + 55, y + 20), word, fill="white", font=font, anchor="mm")
    path = folder / f"user{k}.png"
    image.save(path)
    return path, f'Where is the text "{word}"?'


def make_cases(model: str, users: int, folder: Path, tokens: int) -> list[Case]:
    """Asked alone, by the library, before anybody else does."""
    loaded, processor = load(model)
    cases = []
    for k in range(users):
        path, question = draw(folder, k)
        said = generate(
            loaded, processor, question, images=[path], max_tokens=tokens
        ).text
        cases.append(Case(path, question, said))
    return cases


class Visitor:
    """A session without a browser: it sends what the page would."""

    def __init__(self, url: str, model: str, tokens: int) -> None:
        self.url = url.rstrip("/")
        self.session = uuid.uuid4().hex[:12]
        # Without the questions before: each answer is that of the question alone.
        self.form = ["", model, False, False, False, 0, tokens, "own", False]
        config = json.loads(self._get("/config"))
        self.names = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
        self.events = config["dependencies"]

    def _get(self, path: str, data: bytes | None = None, kind: str = "") -> bytes:
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.read()

    def send(self, name: str, event: str, values: Sequence[Any]) -> list[Any]:
        """One event of one component, to its end; its outputs."""
        target = [self.names[name], event]
        one = next(d for d in self.events if target in d["targets"])
        body = {
            "data": [*values], "fn_index": one["id"],
            "session_hash": self.session, "trigger_id": target[0],
        }  # fmt: skip
        self._get("/gradio_api/queue/join", json.dumps(body).encode(),
                  "application/json")  # fmt: skip
        told = self._get(f"/gradio_api/queue/data?session_hash={self.session}")
        last = [json.loads(m) for m in re.findall(rb"data: (\{.*\})", told)]
        done = next(m for m in last if m["msg"] == "process_completed")
        if not done["success"]:
            raise RuntimeError(f"{name} {event}: {done['output']}")
        if done["output"].get("is_generating"):
            return []
        self.outputs = one["outputs"]
        return done["output"]["data"]

    def upload(self, picture: Path) -> None:
        edge = uuid.uuid4().hex
        body = (
            (
                f'--{edge}\r\nContent-Disposition: form-data; name="files"; '
                f'filename="{picture.name}"\r\nContent-Type: image/png\r\n\r\n'
            ).encode()
            + picture.read_bytes()
            + f"\r\n--{edge}--\r\n".encode()
        )
        kind = f"multipart/form-data; boundary={edge}"
        path = json.loads(self._get("/gradio_api/upload", body, kind))[0]
        held = {"path": path, "orig_name": picture.name,
                "meta": {"_type": "gradio.FileData"}}  # fmt: skip
        self.send("mm-drop", "upload", [*self.form, [held]])

    def ask(self, question: str) -> str:
        """The last answer of the conversation, as the page shows it."""
        self.send("mm-ask", "click", [question, *self.form[1:]])
        shown = self.send("mm-unpoint", "click", self.form)  # the whole page, anew
        talk = shown[self.outputs.index(self.names["mm-talk"])]["value"]
        said = re.findall(r'<p class="mm-a">(.*?)</p>', talk, re.DOTALL)[-1]
        return plain(said)


def plain(answer: str) -> str:
    """The text of an answer's HTML: numbers of its places are the page's."""
    return html.unescape(re.sub(r"<b>\d+</b>|<[^>]+>", "", answer)).strip()


class Tab:
    """The same in a page of a browser."""

    def __init__(self, url: str) -> None:
        from playwright.sync_api import sync_playwright

        self.playwright = sync_playwright().start()
        self.browser = self.playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"]
        )
        self.page = self.browser.new_page()
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.page.goto(url)
        self.page.wait_for_selector("#mm-view .mm-empty")
        self.page.click("#mm-settings button.label-wrap")
        self.page.uncheck("#mm-settings label:has-text('questions before') input")
        self.count = 0

    def upload(self, picture: Path) -> None:
        self.page.set_input_files("#mm-drop input[type=file]", str(picture))
        self.page.wait_for_selector("svg.mm-canvas")

    def ask(self, question: str) -> str:
        self.count += 1
        self.page.fill("#mm-question textarea", question)
        # Until the field is empty: while the last answer's end is on its way, Gradio
        # takes no other question.
        for _ in range(60):
            self.page.press("#mm-question textarea", "Enter")
            self.page.wait_for_timeout(1000)
            if not self.page.input_value("#mm-question textarea"):
                break
        self.page.wait_for_function(
            "n => document.querySelectorAll('#mm-talk article').length === n && "
            "!document.querySelector('#mm-talk [aria-busy=true]')",
            arg=self.count,
        )
        return plain(self.page.locator("#mm-talk .mm-a").last.inner_html())

    def close(self) -> None:
        self.browser.close()
        self.playwright.stop()


def visit(
    make: Callable[[], Any],
    case: Case,
    ready: threading.Barrier,
    seconds: float,
    found: Load,
) -> None:
    """One user's minute, from when all have their pictures on the page, and at least
    one question; every answer must be his own."""
    try:
        user = make()
        user.upload(case.picture)
        ready.wait()
        until = time.monotonic() + seconds
        asked = 0
        while not asked or time.monotonic() < until:
            asked += 1
            begin = time.monotonic()
            said = user.ask(case.question)
            found.seconds.append(time.monotonic() - begin)
            if said != case.answer.strip():
                found.wrong.append(
                    f"{case.picture.name}: {said!r}, not {case.answer!r}"
                )
        if isinstance(user, Tab):
            user.close()
    except Exception as e:
        ready.abort()
        found.wrong.append(f"{case.picture.name}: {type(e).__name__}: {e}")


def run(
    url: str, model: str, cases: Sequence[Case], seconds: float, tokens: int, pages: int
) -> Load:
    """All users at once; the first `pages` of them in browsers."""
    found = Load()
    ready = threading.Barrier(len(cases))
    threads = []
    for k, case in enumerate(cases):
        make = (lambda: Tab(url)) if k < pages else lambda: Visitor(url, model, tokens)
        threads.append(
            threading.Thread(target=visit, args=(make, case, ready, seconds, found))
        )
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def resident(process: int) -> float:
    """MB of a process in memory."""
    told = subprocess.check_output(["ps", "-o", "rss=", "-p", str(process)])
    return int(told) / 1024


def growth(memory: Sequence[float]) -> float:
    """MB by which memory grew in the second half of its readings: the least at that
    half's end less the most at its beginning, so that one peak is no growth."""
    half = memory[len(memory) // 2 :]
    part = max(1, len(half) // 3)
    return max(0.0, min(half[-part:]) - max(half[:part]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--pages", type=int, default=2, help="users in a browser")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--max-tokens", type=int, default=256)
    asked = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(asked.model, asked.users, Path(folder), asked.max_tokens)
        program = subprocess.Popen(
            [sys.executable, "-m", "mm15_mlx", "app", "--model", asked.model,
             "--port", str(port)], stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert program.stderr and program.stderr.readline().startswith("http")
        memory = [resident(program.pid)]
        for k in range(1, PARTS):
            threading.Timer(
                k * asked.seconds / PARTS,
                lambda: memory.append(resident(program.pid)),
            ).start()
        url = f"http://127.0.0.1:{port}"
        found = run(url, asked.model, cases, asked.seconds, asked.max_tokens,
                    asked.pages)  # fmt: skip
        alive = program.poll() is None
        memory.append(resident(program.pid))
        program.terminate()
        program.wait(60)
    times = sorted(found.seconds)
    grown = growth(memory)
    print(json.dumps({
        "users": asked.users, "pages": asked.pages, "seconds": asked.seconds,
        "answers": len(times), "different_answers": len({c.answer for c in cases}),
        "wrong": len(found.wrong), "alive": alive,
        "median_s": round(times[len(times) // 2], 2) if times else None,
        "longest_s": round(times[-1], 2) if times else None,
        "rss_mb": [round(m) for m in memory], "grown_mb": round(grown),
    }))  # fmt: skip
    for line in found.wrong[:10]:
        print(line, file=sys.stderr)
    if grown > GROWTH_MB:
        print(f"memory grew by {grown:.0f} MB in the second half; the bound is "
              f"{GROWTH_MB} MB", file=sys.stderr)  # fmt: skip
    return int(bool(found.wrong) or not alive or grown > GROWTH_MB)


if __name__ == "__main__":
    sys.exit(main())
