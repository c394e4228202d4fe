"""MiniWoB++ pages as a foreign test of UI tasks: pages that nobody here has drawn.

Photographs task pages of the package `miniwob` (MIT; OpenAI, Stanford, Farama) in
Chromium and asks about what is seen. A page measures 160 × 210 CSS pixels with 10 px
text; at scale 3 that text is as high as a phone's 15 points at scale 2. The picture is
the page and nothing more: no phone is drawn around it, reward and timer are hidden.

Where exactly one click earns the whole reward, the page's own instruction becomes a
`find_widget` query, with the box of the element that earns it (`asks: instruction`).

With `--screens DIR` it writes annotated screens instead, as `data screens` does: an app
style to fine-tune on (worked_example.py), of other episodes than the tasks.

Run: pip install --no-deps miniwob; python benchmarks/miniwob.py
"""

import argparse
import importlib.metadata
import io
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from mm15_mlx.config import UserError
from mm15_mlx.screens.build import in_pixels, scaled
from mm15_mlx.screens.capture import ORIGIN, Camera
from mm15_mlx.screens.tasks import candidates, typed

Row = dict[str, Any]

WIDTH, HEIGHT, SCALE = 160, 210, 3
SEEDS = 8  # of the tasks that are kept in data/
OUT = Path(__file__).parent / "data" / "miniwob.jsonl"

# Forms, lists, dialogs, menus and small apps. No games, shapes or drawing, which are
# not interfaces; no copies of airlines' sites, and no page with icons of Flaticon
# (email-*, social-media*, order-food), because those are not MIT.
PAGES = tuple(
    """
    buy-ticket choose-list click-button click-checkboxes click-checkboxes-large
    click-collapsible click-collapsible-2 click-dialog click-dialog-2 click-link
    click-menu click-option click-tab click-tab-2 click-test-2 click-widget
    enter-password find-word focus-text-2 form-sequence-2 login-user multi-layouts
    navigate-tree phone-book read-table search-engine text-editor use-spinner
    """.split()
)

# Runs before the page's own scripts: loading draws no true chance, and who listens for
# clicks is noted, because many of these pages make buttons of plain <div>s.
INIT_JS = """
let state = 1;
Math.random = () => (state = (state * 16807) % 2147483647) / 2147483647;
window.listening = new WeakSet();
const add = EventTarget.prototype.addEventListener;
EventTarget.prototype.addEventListener = function (type, ...rest) {
  if (type === "click") window.listening.add(this);
  return add.call(this, type, ...rest);
};
"""

# The looks of a page that is photographed; then episodes, each a function of its seed.
SETUP_JS = """
() => {
  if (window.jQuery) jQuery.fx.off = true;
  core.EPISODE_MAX_TIME = 1e9;
  const style = document.createElement("style");
  style.textContent =
    "#reward-display, #click-canvas { display: none !important }" +
    "html, body { overflow: hidden; background: white }" +
    "* { caret-color: transparent !important; transition: none !important }";
  document.head.append(style);
}
"""
BEGIN_JS = """
(seed) => {
  Math.seedrandom(seed);
  core.startEpisodeReal();
  document.activeElement.blur();
  return [core.getUtterance(), document.body.innerText];
}
"""

# Gives interactive elements the attribute that annotate.js reads, then calls it.
ANNOTATE_JS = """
() => {
  const FRAME = "html, body, #wrap, #area, #query";
  const NATIVE = "a, button, input, textarea, select";
  const FORM = { checkbox: "checkbox", radio: "radio", range: "slider",
                 button: "button", submit: "button" };
  const words = (node) => (node?.textContent || "").replace(/\\s+/g, " ").trim();
  const hears = (el) =>
    !el.matches(FRAME) && (window.listening.has(el) || Boolean(el.onclick));
  const pointer = (el) =>
    getComputedStyle(el).cursor === "pointer" &&
    getComputedStyle(el.parentElement).cursor !== "pointer";

  // [type, other types that are as right]
  function typeOf(el) {
    const { tagName: tag } = el;
    if (tag === "INPUT" && el.type === "hidden") return null;
    if (tag === "INPUT") return [FORM[el.type] || "input"];
    if (tag === "TEXTAREA") return ["input"];
    if (tag === "SELECT") return el.size > 1 ? null : ["select"];
    if (tag === "BUTTON" || el.matches("[role=button], .ui-button")) return ["button"];
    if (el.matches(".ui-tabs-tab")) return ["tab"];
    if (el.matches(".ui-accordion-header") && !el.querySelector(NATIVE))
      return ["button", "tab", "menuitem"];
    if (el.matches(".ui-menu-item > div")) return ["menuitem"];
    if (el.matches(".ui-slider")) return ["slider"];
    if (tag === "A" || el.matches(".alink")) return ["link"];
    if (tag === "IMG") return ["image"];
    if (el.matches(FRAME) || !(hears(el) || pointer(el))) return null;
    if (!pointer(el) && el.querySelector(`${NATIVE}, li`)) return null; // for parts
    const style = getComputedStyle(el);
    if (!words(el)) return ["button", "icon"];
    if (!/, 0\\)$/.test(style.backgroundColor)) return ["button", "menuitem", "link"];
    if (style.display.startsWith("inline")) return ["link", "button", "menuitem"];
    return ["menuitem", "link", "button"];
  }

  // What stands before a field, where no <label> says so.
  function labelOf(el) {
    if (el.labels?.length) return words(el.labels[0]);
    if (el.placeholder) return el.placeholder;
    for (const node of [el, el.parentElement]) {
      let before = node.previousSibling;
      while (before && before.nodeType === 3 && !words(before))
        before = before.previousSibling;
      if (!before || node.matches(FRAME)) continue;
      if (before.nodeType === 1 && before.matches(`${NATIVE}, br`)) return "";
      if (before.nodeType === 1 && before.querySelector(NATIVE)) return "";
      if (words(before) && words(before).length < 30) return words(before);
    }
    return "";
  }

  for (const el of document.body.querySelectorAll("*")) {
    if (el.closest("#reward-display, #query, #sync-task-cover, svg")) continue;
    const kind = typeOf(el);
    const outer = el.parentElement.closest("[data-el]");
    const row = outer && JSON.parse(outer.dataset.el).type === "menuitem";
    if (!kind || (outer && !(row && kind[0] !== "menuitem"))) continue;
    const [type, ...accept] = kind;
    const field = /INPUT|TEXTAREA|SELECT/.test(el.tagName) && type !== "button";
    const spec = { type, label: field ? labelOf(el).replace(/:$/, "") : "" };
    if (type === "button" && el.tagName === "INPUT") spec.text = el.value;
    if (type === "link") spec.box = "ink";
    spec.state = { accept };
    el.dataset.el = JSON.stringify(spec);
  }
  const found = window.annotateScreen();
  for (const item of found.elements) {
    const [x1, y1, x2, y2] = item.box;
    let at = document.elementFromPoint((x1 + x2) / 2, (y1 + y2) / 2);
    // A label's words, or a part of what listens: a tap there may do something.
    for (; item.type === "text" && at; at = at.parentElement)
      if (at.tagName === "LABEL" || hears(at)) item.state.unsure = true;
  }
  return found;
}
"""

OUTCOME_JS = "() => (WOB_DONE_GLOBAL ? WOB_RAW_REWARD_GLOBAL : 0)"


def html_folder() -> Path:
    """The folder of the installed package that holds `miniwob/*.html` and `core/`.

    It is asked of the distribution: this file has the name that an import would find.
    """
    try:
        found = importlib.metadata.distribution("miniwob")
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            "the pages come from the package miniwob, which is not installed; "
            "pip install --no-deps miniwob"
        ) from error
    return Path(str(found.locate_file("miniwob/html")))


class Stage:
    """One browser page on which episodes are played."""

    def __init__(self, camera: Camera) -> None:
        context = camera.browser.new_context(
            viewport={"width": WIDTH, "height": HEIGHT},
            device_scale_factor=SCALE,
            locale="en-US",
        )
        context.route("**/*", camera._answer)
        context.add_init_script(INIT_JS)
        self.page = context.new_page()

    def begin(self, name: str, seed: int) -> tuple[str, str]:
        """Start an episode: (instruction, all words of the page)."""
        self.page.mouse.move(0, 0)  # hovers over the instruction, which has no effects
        self.page.goto(f"{ORIGIN}/miniwob/{name}.html", wait_until="load")
        self.page.evaluate(SETUP_JS)
        return tuple(self.page.evaluate(BEGIN_JS, str(seed)))

    def picture(self) -> Image.Image:
        return Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")

    def annotate(self) -> dict[str, Any]:
        """{"texts", "elements"} of what is seen, in CSS pixels."""
        for script in ("measure", "annotate"):
            self.page.add_script_tag(url=f"/_here/{script}.js")
        return self.page.evaluate(ANNOTATE_JS)

    def reward(self, name: str, seed: int, words: str, box: list[float]) -> float:
        """What one click in the middle of `box` earns; 0 if it ends nothing."""
        # Loading takes longest, so it is left out where the page starts over cleanly.
        if self.page.evaluate(BEGIN_JS, str(seed))[1] != words:
            self.begin(name, seed)
        x1, y1, x2, y2 = box
        self.page.mouse.click((x1 + x2) / 2, (y1 + y2) / 2)
        return self.page.evaluate(OUTCOME_JS)

    def target(
        self, name: str, seed: int, words: str, elements: list[Row]
    ) -> Row | None:
        """The one element whose click earns the whole reward."""
        hits = [
            e
            for e in elements
            if e["type"] != "text" and self.reward(name, seed, words, e["box"]) == 1
        ]
        return hits[0] if len(hits) == 1 else None


def screen_row(name: str, seed: int, found: dict[str, Any]) -> Row:
    """A page as `data screens` writes a screen."""
    return {
        "id": f"miniwob-{name}-{seed}",
        "image": f"images/{name}-{seed}.webp",
        "width": WIDTH * SCALE,
        "height": HEIGHT * SCALE,
        "scale": SCALE,
        "kit": "miniwob",
        "theme": "",
        "layout": name,
        "viewport": f"{WIDTH}x{HEIGHT}",
        "dark": False,
        "seed": seed,
        **in_pixels(found, SCALE, WIDTH, HEIGHT),
    }


def tasks(name: str, seed: int, instruction: str, found: dict[str, Any],
          target: Row | None) -> Iterator[Row]:  # fmt: skip
    """At most one task of each kind about one page, boxes in its picture's pixels."""
    rng = Random(f"{name} {seed}")
    size = SCALE, WIDTH, HEIGHT
    screen = in_pixels(found, *size)
    pools = candidates(screen, rng)
    chosen = {
        task: rng.choice(pools[task])
        for task in ("find_text", "find_widget", "ocr")
        if pools[task]
    }
    if "find_widget" in chosen:
        chosen["find_widget"] |= {"asks": "name"}
    elements = screen["elements"]
    # Types and answers in equal shares; else most questions would be about plain text.
    if elements:
        kind = rng.choice(sorted({e["type"] for e in elements}))
        element = rng.choice([e for e in elements if e["type"] == kind])
        chosen["widget_class"] = typed(element)
    sure = [e for e in elements if "unsure" not in e["state"]]
    if sure:
        tappable = rng.choice(sorted({e["tappable"] for e in sure}))
        element = rng.choice([e for e in sure if e["tappable"] == tappable])
        answer = "yes" if tappable else "no"
        chosen["tappable"] = {"box": element["box"], "answer": answer}
    rows = [(task, task, fields) for task, fields in chosen.items()]
    if target:
        fields = {
            "query": instruction.rstrip(" ."),
            "box": scaled(target["box"], *size),
            "type": target["type"],
            "asks": "instruction",
        }
        rows.append(("instruction", "find_widget", fields))
    for label, task, fields in rows:
        yield {
            "id": f"miniwob-{name}-{seed}-{label}",
            "image": f"miniwob/{name}-{seed}.webp",
            "task": task,
            **fields,
            "kit": "miniwob",
            "page": name,
        }


def build(
    out: Path, pages: Sequence[str] = PAGES, seeds: Sequence[int] = range(SEEDS)
) -> int:
    """Write `out` and, beside it, miniwob/PAGE-SEED.webp; returns the count of tasks.

    Rows go seed by seed, so that the first N are about many pages.
    """
    folder = checked_folder(pages)
    pictures = out.parent / "miniwob"
    pictures.mkdir(parents=True, exist_ok=True)
    count = 0
    with Camera(folder) as camera, out.open("w", encoding="utf-8") as lines:
        stage = Stage(camera)
        for seed in seeds:
            for name in pages:
                instruction, words = stage.begin(name, seed)
                found = stage.annotate()
                shot = stage.picture()
                target = stage.target(name, seed, words, found["elements"])
                shot.save(pictures / f"{name}-{seed}.webp", quality=55, method=6)
                for row in tasks(name, seed, instruction, found, target):
                    lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
            print(f"seed {seed}: {count} tasks", file=sys.stderr)
    return count


def build_screens(out: Path, pages: Sequence[str], seeds: Sequence[int]) -> int:
    """Write screens.jsonl and images into a folder; returns the count of screens."""
    folder = checked_folder(pages)
    (out / "images").mkdir(parents=True, exist_ok=True)
    with (
        Camera(folder) as camera,
        (out / "screens.jsonl").open("w", encoding="utf-8") as lines,
    ):
        stage = Stage(camera)
        for seed in seeds:
            for name in pages:
                stage.begin(name, seed)
                row = screen_row(name, seed, stage.annotate())
                stage.picture().save(out / row["image"], quality=80)
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
            print(f"episode {seed}", file=sys.stderr)
    return len(pages) * len(seeds)


def checked_folder(pages: Sequence[str]) -> Path:
    """`html_folder`; UserError where it lacks one of the pages."""
    folder = html_folder()
    for name in pages:
        if not (folder / "miniwob" / f"{name}.html").is_file():
            raise UserError(f"the package miniwob has no page {name!r}; see {folder}")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--pages", nargs="+", default=PAGES)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="episodes of a page")
    parser.add_argument("--screens", type=Path, help="folder of annotated screens")
    args = parser.parse_args()
    try:
        if args.screens:  # episodes that no task of ours is about
            seeds = range(SEEDS, SEEDS + args.seeds)
            print(build_screens(args.screens, args.pages, seeds))
        else:
            print(build(args.out, args.pages, range(args.seeds)))
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
