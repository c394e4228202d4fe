"""Every state of the app's page, as pictures: what a person sees at a phone's and at a
desk's width, in light and dark.

Drives the real app with `nano-ui` in headless Chromium, as its tests do. Writes one PNG
for each state into --shots, and into --out the sheets of all (`states-390.webp`,
`states-1280.webp`, at most 400 KB each) and the README's picture, `app.png`. Says on
stderr where a state scrolls sideways or cuts words off.

    python benchmarks/app_states.py --shots build/states
"""

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from app_user import User, chromium, serving
from PIL import Image, ImageDraw, ImageFont

from mm15_mlx.apps import worker
from mm15_mlx.generate import GenerationResponse, decode

ROOT = Path(__file__).parents[1]
SCREENS = ROOT / "apps" / "examples"
WIDTHS = {390: 844, 1280: 900}  # of the window, and its height
SHEET = {390: (7, 260), 1280: (3, 600)}  # columns, and pixels of each one's width
SHEET_BYTES = 400_000
README_WIDTH = 1160
PATIENCE_MS = 600_000  # a busy machine is no failure
SETTLED_MS = 900  # accordions and scrolling are smooth
# States that dark paints with other colours of our own.
DARK = ("empty", "answer", "widgets", "tiles", "correcting", "memory")
GAP, LINE = 16, 30
MEMORY = (  # as Metal says it
    "[metal::malloc] Attempting to allocate 12884901888 bytes which is greater than "
    "the maximum allowed buffer size of 9534832640 bytes."
)

# What of the page is broken: it scrolls sideways, or letters are cut without an
# ellipsis (which has a title or the whole text elsewhere).
LOOK = """() => {
    const found = [];
    const wide = document.documentElement.scrollWidth;
    if (wide > innerWidth) found.push(`the page is ${wide} px wide`);
    for (const node of document.querySelectorAll('#mm-app *')) {
        const style = getComputedStyle(node);
        if (!node.checkVisibility() || !node.innerText?.trim()) continue;
        if (style.overflowX !== 'hidden' || style.textOverflow === 'ellipsis') continue;
        if (node.clientWidth > 1 && node.scrollWidth > node.clientWidth + 1) {
            found.push(`cut: ${node.innerText.trim().slice(0, 60)}`);
        }
    }
    return [...new Set(found)];
}"""


class Held:
    """The model's own answers, each held before its token `count` until `go`."""

    def __init__(self, count: int) -> None:
        self.go = threading.Event()
        self._count = count

    def __call__(self, *asked: Any, **options: Any) -> Iterator[GenerationResponse]:
        for k, response in enumerate(decode(*asked, **options)):
            if k == self._count:
                self.go.wait()
            yield response


def failing(*_: Any, **__: Any) -> Iterator[GenerationResponse]:
    raise RuntimeError(MEMORY)
    yield


@dataclass
class Camera:
    """Takes the states of one width and theme."""

    user: User
    width: int
    dark: bool
    folder: Path
    taken: list[tuple[str, Path]] = field(default_factory=list)

    def take(self, name: str, caption: str, phone: str = "", desk: str = "") -> None:
        """The window, if this theme has this state. `phone` and `desk`: the element in
        sight at each width; "" is the top of the page, "." leaves it where it is."""
        if self.dark and name not in DARK:
            return
        page = self.user.page
        page.mouse.move(1, 1)
        at = phone if self.phone else desk
        if not at:
            page.evaluate("scrollTo(0, 0)")
        elif at != ".":
            block = "start" if self.phone else "nearest"
            page.locator(at).first.evaluate(
                "(node, block) => node.scrollIntoView({ block })", block
            )
        page.wait_for_timeout(SETTLED_MS)
        theme = "dark" if self.dark else "light"
        path = self.folder / f"{self.width}-{theme}-{name}.png"
        page.screenshot(path=path, animations="disabled")
        self.taken.append((caption + ", dark" * self.dark, path))
        for problem in page.evaluate(LOOK):
            print(f"{path.stem}: {problem}", file=sys.stderr)

    @property
    def phone(self) -> bool:
        return self.width < 600


def story(camera: Camera, other: User, bad: Path) -> None:
    """One person's visit, from the empty page on; each state is taken as it comes."""
    user, take = camera.user, camera.take
    take("empty", "Nothing yet: examples to click")
    user.upload(bad)
    user.alert()
    take("upload", "A bad upload: one line", ".", ".")
    user.picture(SCREENS / "settings.webp")
    take("picture", "A picture", "#mm-view")
    user.drag(60, 1410, 1110, 1560)
    user.question("<box>")
    take("region", "A region drawn: it is asked about", "#mm-view")
    if camera.phone:
        take("tasks", "… in the question and the tasks", "#mm-question")
    user.page.click("#mm-unpoint")
    user.page.wait_for_selector("rect.mm-region", state="detached")

    held = Held(0)
    with patch.object(worker, "decode", held):
        other.ask("Where is the switch?")
        other.page.wait_for_selector(".mm-a[aria-busy=true]")
        user.ask("Where is the Wi-Fi switch?")
        user.page.wait_for_selector("#mm-status :text('waiting: 1 before you')")
        take("queue", "The queue: who waits sees his place", "#mm-talk")
        held.go.set()
        user.answers(1)
        other.answers(1)
    user.page.click(".mm-chip")
    take("answer", "An answer: its box and words", "#mm-view")
    if camera.phone:
        take("phrase", "… and the words", "#mm-talk")

    user.open("inside")
    user.open("settings")
    user.page.check("#mm-settings label:has-text('Draw the tiles') input")
    user.page.wait_for_selector(".mm-caption")
    take("settings", "Settings of the next question", "#mm-settings", "#mm-settings")
    user.open("settings")
    take("tiles", "Look inside: the tiles", "#mm-view")
    take("inside", "Look inside: tokens, speed, memory", "#mm-inside", "#mm-inside")
    user.open("inside")
    user.open("settings")
    user.page.uncheck("#mm-settings label:has-text('Draw the tiles') input")
    user.page.wait_for_selector(".mm-caption", state="detached")
    user.open("settings")

    held = Held(60)
    with patch.object(worker, "decode", held):
        user.page.click("#mm-task0")
        user.page.wait_for_function(
            "document.querySelector('.mm-a[aria-busy=true]')"
            "?.innerText.trim().split('\\n').length > 2"
        )
        take("streaming", "Streaming: words as they come", ".", ".")
        held.go.set()
        user.answers(2)
    user.page.click("tr[data-k='4'] td:nth-child(2)")
    take("widgets", "List widgets: table and boxes", "#mm-view", ".mm-scroll")

    user.page.click("#mm-talk .mm-back >> nth=0")
    user.page.wait_for_selector(".mm-back[data-turn='0'][aria-pressed=true]")
    user.correct()
    user.page.focus("g.mm-edit")
    take("correcting", "Correcting a box by its corners", "#mm-view")
    take("row", "… for a training row", "#mm-row", "#mm-row")
    user.page.uncheck("#mm-row input[type=checkbox]")
    user.open("row")
    user.open("export")
    user.page.wait_for_selector("#mm-export a[download]")
    take("export", "Export: files, command, Python", "#mm-export", "#mm-export")
    user.open("export")

    user.upload(SCREENS / "sign-in.webp")
    user.page.wait_for_selector("[data-show='1'][aria-pressed=true]")
    if camera.phone:
        take("strip", "Several pictures", ".mm-strip")
    user.page.click(".mm-task:has-text('Compare')")
    user.answers(3)
    take("several", "Several pictures in one question", ".", ".")
    with patch.object(worker, "decode", failing):
        user.ask("What can I do here?")
        user.alert()
        take("memory", "Too little memory: what to do", ".", ".")


def visitor(
    browser: Any, url: str, width: int, height: int, dark: bool = False
) -> User:
    user = User(browser, url, width, dark=dark, height=height)
    user.page.set_default_timeout(PATIENCE_MS)
    return user


def readme(user: User, path: Path) -> None:
    """The README's picture: an answer whose phrase and box were clicked."""
    user.picture(SCREENS / "settings.webp")
    user.ask("Where is the Wi-Fi switch?")
    user.answers(1)
    user.page.click(".mm-chip")
    user.page.mouse.move(1, 1)
    user.page.evaluate("scrollTo(0, 0)")
    user.page.wait_for_timeout(2 * SETTLED_MS)
    user.page.screenshot(path=path, animations="disabled")


# --- sheets --------------------------------------------------------------------------


def sheet(
    taken: Sequence[tuple[str, Image.Image]], columns: int, width: int
) -> Image.Image:
    """Pictures `width` pixels wide in rows of `columns`, a caption under each."""
    small = [
        (text, p.resize((width, round(p.height * width / p.width)), Image.LANCZOS))
        for text, p in taken
    ]
    tall = max(p.height for _, p in small) + LINE + GAP
    rows = -(-len(small) // columns)
    size = GAP + columns * (width + GAP), GAP + rows * tall
    made = Image.new("RGB", size, "#e4e4e7")
    pen, font = ImageDraw.Draw(made), ImageFont.load_default(size=15)
    for k, (text, picture) in enumerate(small):
        x, y = GAP + k % columns * (width + GAP), GAP + k // columns * tall
        made.paste(picture, (x, y))
        words = shortened(text, font, width)
        pen.text((x, y + picture.height + 6), words, fill="#18181b", font=font)
    return made


def shortened(text: str, font: Any, width: int) -> str:
    """A caption that fits under its picture."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip(" ,:") + "…"


def save_small(image: Image.Image, path: Path, limit: int) -> int:
    """As WebP of the best quality within `limit` bytes; that quality. Raises ValueError
    where none is."""
    for quality in range(90, 20, -5):
        image.save(path, "WEBP", quality=quality, method=6)
        if path.stat().st_size <= limit:
            return quality
    path.unlink()
    raise ValueError(f"{path.name} does not fit into {limit} bytes; make it smaller")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--shots", type=Path, required=True, help="folder of PNGs")
    parser.add_argument("--out", type=Path, default=ROOT / "examples")
    asked = parser.parse_args()
    for made in (asked.shots, asked.out):
        made.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        folder = Path(name)
        bad = folder / "notes.png"
        bad.write_text("no picture at all")
        with serving(("nano-ui",), folder / "uploads", Path("my-data")) as url:
            for width, height in WIDTHS.items():
                taken = []
                for dark in (False, True):
                    user = visitor(browser, url, width, height, dark)
                    other = visitor(browser, url, width, height, dark)
                    other.picture(SCREENS / "sign-in.webp")
                    camera = Camera(user, width, dark, asked.shots)
                    story(camera, other, bad)
                    taken += camera.taken
                    user.page.context.close()
                    other.page.context.close()
                opened = [(text, Image.open(path)) for text, path in taken]
                path = asked.out / f"states-{width}.webp"
                quality = save_small(sheet(opened, *SHEET[width]), path, SHEET_BYTES)
                print(f"{path.name}: {len(taken)} states, quality {quality}")
            user = visitor(browser, url, README_WIDTH, 900)
            readme(user, asked.out / "app.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
