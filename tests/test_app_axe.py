"""The app under axe-core, which is not shipped: its file is named by AXE_PATH, or lies
where `npm install axe-core` puts it in a checkout."""

import os
from pathlib import Path
from typing import Any

import pytest
from app_browser import User, saying

from mm15_mlx.apps import worker

AXE = Path(
    os.environ.get("AXE_PATH")
    or Path(__file__).parents[1] / "node_modules/axe-core/axe.min.js"
)
if not AXE.is_file():
    pytest.skip(
        f"no {AXE.name}: npm install --no-save axe-core, or name it by AXE_PATH",
        allow_module_level=True,
    )

LISTED = """switch "Wi-Fi" [50, 50, 450, 150]
button "Delete (3)" [500, 200, 950, 300]
icon [100, 500, 300, 600]
button "OK" [400, 800, 900, 950]"""

# Serious and critical findings in elements of ours: those with a class or id of ours,
# or inside of such; so Gradio's as well, where page.css colours or app.py names them.
RUN = """async () => {
    const told = await axe.run(document, { resultTypes: ['violations'] });
    const found = [];
    for (const rule of told.violations) {
        if (!['serious', 'critical'].includes(rule.impact)) continue;
        for (const node of rule.nodes) {
            const element = document.querySelector(node.target[0]);
            const ours = '[class*="mm-"], [id^="mm-"]:not(#mm-app)';
            found.push([rule.id, !!element?.closest(ours),
                        node.html.slice(0, 200), node.failureSummary]);
        }
    }
    return found;
}"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_no_serious_violation(
    browser: Any,
    url: str,
    screen: Path,
    width: int,
    dark: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = User(browser, url, width, dark=dark)
    user.page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    seen: list[Any] = []

    def look(state: str) -> None:
        user.page.wait_for_timeout(300)  # accordions open slowly
        seen.extend((state, *f) for f in user.page.evaluate(RUN))

    look("empty")
    user.page.click(".mm-task:has-text('Describe')")
    user.alert()
    look("a mistake")
    user.picture(screen)
    user.page.focus("svg.mm-canvas")
    user.page.keyboard.press("Shift+ArrowDown")
    look("aiming")
    user.drag(20, 150, 100, 180)
    user.question("<box>")
    look("a place")
    monkeypatch.setattr(worker, "decode", saying(LISTED))
    user.page.click("#mm-task0")
    user.answers(1)
    user.page.click(".mm-chip >> nth=1")
    look("an answer and its table")
    user.page.select_option("[data-filter]", "button")
    user.page.focus("g.mm-mark[data-k='1']")
    look("filtered, a mark")
    user.upload(screen)
    user.page.wait_for_selector("[data-show='1'][aria-pressed=true]")
    monkeypatch.setattr(worker, "decode", saying("a b c d e f g h i j k l m n", 1))
    user.page.click(".mm-task:has-text('Compare')")
    user.begins()
    look("streaming, several pictures")
    user.page.click("#mm-stop")
    user.answers(2)
    user.page.click("#mm-talk .mm-back")
    user.page.wait_for_selector(".mm-back[aria-pressed=true]")
    look("an earlier turn")
    for name in ("settings", "inside", "export"):
        user.open(name)
    user.page.check("#mm-settings label:has-text('Draw the tiles') input")
    user.page.wait_for_selector(".mm-caption")
    look("tiles, all open")
    user.correct()
    user.page.focus("g.mm-edit")
    look("correcting")
    user.page.context.close()
    assert [s for s in seen if s[2]] == []


def test_axe_would_see_one(browser: Any, url: str) -> None:
    """Otherwise the test above could not fail."""
    user = User(browser, url)
    user.page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    user.page.evaluate(
        "document.querySelector('.mm-top').innerHTML += "
        "'<button></button><p style=\"color:#eee;background:#fff\">pale</p>'"
    )
    rules = {f[0] for f in user.page.evaluate(RUN) if f[1]}
    assert {"button-name", "color-contrast"} <= rules
    user.page.context.close()
