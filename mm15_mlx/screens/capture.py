"""One Chromium that shows HTML and returns a picture with measurements.

Nothing is fetched: every address is answered from the kit's folder or refused.
"""

import base64
import json
import mimetypes
import os
import shutil
from pathlib import Path
from typing import Any, Self

from .photos import photo_file

HERE = Path(__file__).parent
ORIGIN = "http://screens.invalid"
# Unmanaged colours and fixed hinting keep pixels equal between runs.
FLAGS = (
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
    "--disable-lcd-text",
    "--hide-scrollbars",
    "--disable-gpu",
    "--no-sandbox",
)

SHEETS = ("base", "overlays", "kits", "wide", "extras")  # ours, after the kit's own

SHELL_JS = """
const glyphs = new Map();
async function fillGlyphs() {
  for (const el of document.querySelectorAll("[data-glyph]")) {
    const path = el.dataset.glyph;
    if (!glyphs.has(path)) glyphs.set(path, await (await fetch("/" + path)).text());
    el.innerHTML = glyphs.get(path);
  }
}
window.showScreen = async (shell, html) => {
  const root = document.documentElement;
  root.className = shell.classes.join(" ");
  root.style.setProperty("--accent", shell.accent);
  root.style.setProperty("--home", shell.bottom + "px");
  for (const side of ["top", "bottom"]) {
    root.style.setProperty(`--${side}`, shell[side] + "px");
    root.style.setProperty(`--f7-safe-area-${side}`, shell[side] + "px");
    root.style.setProperty(`--ion-safe-area-${side}`, shell[side] + "px");
  }
  if (window.applyLook) window.applyLook(shell);
  document.getElementById("app").innerHTML = html;
  await fillGlyphs();
  if (window.settle) await window.settle();
  await document.fonts.ready;
  await Promise.all([...document.images].map((i) => i.decode().catch(() => {})));
  if (shell.scroll) {
    const all = document.querySelectorAll("[data-scroll]");
    for (const pane of window.scrollers ? await window.scrollers() : all)
      pane.scrollTop = Math.round(
        shell.scroll * (pane.scrollHeight - pane.clientHeight));
  }
  return true;
};
"""


def find_chromium() -> str | None:
    """A Chromium on this machine, else None to let playwright use its own."""
    named = os.environ.get("MM15_CHROMIUM")
    if named:
        return named
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    return None


class Camera:
    """Pages by kit, kept open: a kit's styles and scripts load once."""

    def __init__(self, node_modules: Path, executable: str | None = None) -> None:
        self.node_modules = Path(node_modules)
        self.executable = executable or find_chromium()
        self.pages: dict[str, tuple[Any, Any]] = {}

    def __enter__(self) -> Self:
        try:
            from playwright.sync_api import sync_playwright
        except ImportError as error:
            raise RuntimeError(
                "mm15-mlx data screens needs playwright: "
                "pip install 'mm15-mlx[screens]'"
            ) from error
        self.playwright = sync_playwright().start()
        self.browser = self.playwright.chromium.launch(
            executable_path=self.executable, args=list(FLAGS)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.browser.close()
        self.playwright.stop()

    def _answer(self, route: Any) -> None:
        """Serves the kit's files and nothing else."""
        url = route.request.url
        if not url.startswith(ORIGIN):
            route.abort()
            return
        path = url[len(ORIGIN) :].split("?")[0].lstrip("/")
        if path.startswith("_photo/"):
            body = photo_file(path[7:])
            status = 200 if body else 404
            route.fulfill(status=status, body=body or "", content_type="image/jpeg",
                          headers={"cache-control": "max-age=99999"})  # fmt: skip
            return
        file = (
            HERE / path[6:] if path.startswith("_here/") else self.node_modules / path
        )
        if not file.is_file():
            route.fulfill(status=404, body="")
            return
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        headers = {"access-control-allow-origin": "*"}
        route.fulfill(body=file.read_bytes(), content_type=kind, headers=headers)

    def _page(self, kit: Any) -> tuple[Any, Any]:
        """The open page of a kit, made on first use."""
        if kit.name in self.pages:
            return self.pages[kit.name]
        context = self.browser.new_context(offline=False, locale="en-US")
        context.route("**/*", self._answer)
        page = context.new_page()
        fonts = (
            "@fontsource-variable/inter/wght.css",
            "@fontsource-variable/roboto/wght.css",
        )
        links = "".join(
            f'<link rel="stylesheet" href="/{href}">'
            for href in (*fonts, *kit.styles, *(f"_here/{name}.css" for name in SHEETS))
        )
        scripts = "".join(f'<script src="/{src}"></script>' for src in kit.scripts)
        imports = json.dumps({"imports": kit.imports})
        modules = f'<script type="importmap">{imports}</script>' + "".join(
            f'<script type="module" src="/{src}"></script>' for src in kit.modules
        )
        html = (
            '<!doctype html><html lang="en"><head><meta '
            f'charset="utf-8">{links}{scripts}'
            f"{modules}<script>{SHELL_JS}{kit.setup_js}</script>"
            f'<script src="/_here/measure.js"></script>'
            f'<script src="/_here/annotate.js"></script></head>'
            f'<body><div id="app"></div></body></html>'
        )
        start = f"{ORIGIN}/start.html"
        page.route(
            start, lambda route: route.fulfill(body=html, content_type="text/html")
        )
        page.goto(start, wait_until="load")
        page.evaluate(
            """async (fonts) => {
              for (const f of fonts) for (const w of [400, 500, 600, 700])
                await document.fonts.load(`${w} 16px "${f}"`);
            }""",
            ["Inter Variable", "Roboto Variable", *kit.icon_fonts],
        )
        session = context.new_cdp_session(page)
        self.pages[kit.name] = page, session
        return page, session

    def shoot(self, kit: Any, html: str, shell: dict[str, Any], width: int, height: int,
              scale: int, picture: str) -> tuple[bytes, dict[str, Any]]:  # fmt: skip
        """(image file, {"texts", "elements"} in CSS pixels) of one screen."""
        page, session = self._page(kit)
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale}
        session.send("Emulation.setDeviceMetricsOverride", {**metrics, "mobile": False})
        page.evaluate("([s, h]) => window.showScreen(s, h)", [shell, html])
        found = page.evaluate("() => window.annotateScreen()")
        options: dict[str, Any] = {
            "format": picture,
            "optimizeForSpeed": picture == "png",
        }
        if picture == "jpeg":
            options["quality"] = 92
        shot = session.send("Page.captureScreenshot", options)
        return base64.b64decode(shot["data"]), found
