"""Renders numbered screens into a folder: images/ and one JSON row per screen.

Screen k is a function of (seed, k) and the options only, so a stopped run goes on
where it was and two machines can share one data set.
"""

import json
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from .capture import HERE, Camera
from .content import USUAL, WORDS, Content
from .fonts import LOCAL, note_absent
from .kit_adminlte import AdminLTE
from .kit_antd import AntdMobile
from .kit_beer import Beer
from .kit_bootstrap import Bootstrap
from .kit_framework7 import Framework7IOS, Framework7MD
from .kit_ionic import IonicIOS, IonicMD
from .kit_material import MaterialWeb
from .kit_mdui import Mdui
from .kit_onsen import OnsenIOS, OnsenMD
from .kit_vant import Vant
from .kit_weui import WeUI
from .kits import Kit
from .layouts import LAYOUTS
from .look import Look
from .progress import shown
from .splits import expand as expand_kits
from .viewports import SCALES, VIEWPORTS, expand, form_of, parse, pick
from .wide import choose

KITS: dict[str, type[Kit]] = {
    kit.name: kit
    for kit in (
        Framework7IOS,
        Framework7MD,
        IonicIOS,
        IonicMD,
        WeUI,
        Bootstrap,
        Beer,
        MaterialWeb,
        OnsenIOS,
        OnsenMD,
        Vant,
        AntdMobile,
        Mdui,
        AdminLTE,
    )
}

OTHER_FONTS = ("Roboto Variable", "Inter Variable", *LOCAL)


@dataclass(frozen=True)
class Options:
    """What may be drawn. The lists are part of what decides screen k.

    kits: names, or train, validation and test for those of a split (splits.py). words:
    usual, or kept for test (labels_kept.py); words of the layouts themselves stay.
    """

    kits: tuple[str, ...] = tuple(KITS)
    layouts: tuple[str, ...] = tuple(LAYOUTS)
    viewports: tuple[str, ...] = VIEWPORTS
    scale: int | None = None  # None: by the form of the screen
    picture: str = "jpeg"
    words: str = USUAL

    def __post_init__(self) -> None:
        object.__setattr__(self, "kits", expand_kits(self.kits, KITS))
        for name, known in (("kits", KITS), ("layouts", LAYOUTS)):
            for value in getattr(self, name):
                if value not in known:
                    raise ValueError(
                        f"unknown {name[:-1]} {value!r}: one of {', '.join(known)}"
                    )
        if not (self.kits and self.layouts and self.viewports):
            raise ValueError("kits, layouts and viewports need at least one entry each")
        if not self.sizes():
            raise ValueError(
                f"no kit of {', '.join(self.kits)} is made for a viewport of "
                f"{', '.join(self.viewports)}: they are made for "
                f"{', '.join(sorted({f for k in self.kits for f in KITS[k].forms}))}"
            )
        if self.picture not in ("jpeg", "png"):
            raise ValueError(f"unknown picture format {self.picture!r}: jpeg or png")
        if self.words not in WORDS:
            raise ValueError(f"unknown words {self.words!r}: {' or '.join(WORDS)}")

    def kits_for(self, form: str) -> list[str]:
        """Those of the kits that are made for phone, tablet or desktop."""
        return [name for name in self.kits if form in KITS[name].forms]

    def sizes(self) -> tuple[str, ...]:
        """The viewports that one of the kits is made for."""
        sizes = expand(self.viewports)
        return tuple(size for size in sizes if self.kits_for(form_of(size)))


@dataclass(frozen=True)
class Plan:
    """One screen before it is rendered."""

    seed: int
    index: int
    kit: Kit
    html: str
    shell: dict[str, Any]
    layout: str
    viewport: str
    width: int
    height: int
    scale: int


def as_it_is(kit: type[Kit]) -> type[Kit]:
    return kit


def plan_screen(
    seed: int,
    index: int,
    options: Options,
    dress: Callable[[type[Kit]], type[Kit]] = as_it_is,
) -> Plan:
    """Everything about screen `index`, without a browser.

    `dress` makes of the kit one that draws some things otherwise: see edits.py.
    """
    rng = Random(f"{seed}:{index}")
    viewport = pick(rng, options.sizes())
    form = form_of(viewport)
    kit_class = KITS[rng.choice(options.kits_for(form))]
    layout = rng.choice(options.layouts)
    width, height = parse(viewport)
    scale = options.scale or rng.choice(SCALES[form])
    content = Content(rng, options.words)
    font = kit_class.fonts[0] if rng.random() < 0.85 else rng.choice(OTHER_FONTS)
    look = Look(
        dark=rng.random() < 0.35,
        accent=content.color(),
        font=f'"{font}", "Liberation Sans", sans-serif',
        phone_bar=rng.random() < 0.7 and form != "desktop",
        notch=form == "phone" and height > 700,
        width=width,
        height=height,
        form=form,
        breadth=width,
        classes=[] if form == "phone" else ["wide"],
    )
    kit = dress(kit_class)(content, look)
    if form != "phone":
        kit.arrange = choose(content, look, layout, kit.own_frame)
        look.breadth = kit.arrange.breadth(width - kit.own_frame)
    html = LAYOUTS[layout](kit, content)
    shell = kit.shell()
    # A share of what there is to scroll; 1 is the end.
    scroll = round(rng.random(), 2) if rng.random() < 0.25 else 0
    shell["scroll"] = scroll if kit.scrolls else 0
    return Plan(seed, index, kit, html, shell, layout, viewport, width, height, scale)


def scaled(box: list[float], scale: int, width: int, height: int) -> list[float]:
    """A CSS box in picture pixels, inside the picture."""
    limits = (width * scale, height * scale) * 2
    return [
        round(min(max(value * scale, 0), limit), 1)
        for value, limit in zip(box, limits, strict=True)
    ]


def in_pixels(
    found: dict[str, Any], scale: int, width: int, height: int
) -> dict[str, list[dict[str, Any]]]:
    """`texts` and `elements` of a page, CSS → picture pixels."""
    texts = []
    for line in found["texts"]:
        edges = [round(x * scale, 1) for x in line["edges"]]
        box = scaled(line["box"], scale, width, height)
        text = {"text": line["text"], "box": box, "edges": edges}
        if line["dimmed"]:
            text["dimmed"] = True
        texts.append(text)
    elements = [
        {**e, "box": scaled(e["box"], scale, width, height)} for e in found["elements"]
    ]
    return {"texts": texts, "elements": elements}


def make_row(plan: Plan, found: dict[str, Any], name: str) -> dict[str, Any]:
    """The JSON row of a rendered screen."""
    return {
        "id": f"{plan.seed}-{plan.index:06d}",
        "image": name,
        "width": plan.width * plan.scale,
        "height": plan.height * plan.scale,
        "scale": plan.scale,
        "kit": plan.kit.name,
        "theme": plan.kit.theme,
        "layout": plan.layout,
        "viewport": plan.viewport,
        "dark": plan.kit.look.dark,
        "seed": plan.seed,
        "index": plan.index,
        **in_pixels(found, plan.scale, plan.width, plan.height),
    }


def finished(path: Path) -> set[tuple[int, int]]:
    """(seed, index) of the screens already written, those of pairs and flows aside."""
    return {
        (row["seed"], row["index"])
        for row in written(path)
        if "pair" not in row and "flow" not in row
    }


def written(path: Path) -> list[dict[str, Any]]:
    """The rows already written; a half-written last line is cut."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n"):
        path.write_bytes(b"".join(lines[:-1]))
        lines = lines[:-1]
    return [json.loads(line) for line in lines]


def find_node_modules(folder: str | Path | None, kits: tuple[str, ...]) -> Path:
    """The folder with the kits: as given, $MM15_NODE_MODULES, or the usual places."""
    named = folder or os.environ.get("MM15_NODE_MODULES")
    places = [named] if named else [HERE / "node_modules", "node_modules"]
    needed = [
        file
        for kit in (KITS[name] for name in kits)
        for file in (*kit.styles, *kit.scripts, *kit.modules)
    ]
    for place in map(Path, places):
        if all((place / file).is_file() for file in needed):
            return place
    raise FileNotFoundError(
        f"no UI kits in {' or '.join(map(str, places))}: run `npm ci` in a copy of "
        f"{HERE / 'package.json'} and its lock file, then pass --node-modules"
    )


def render_screens(
    out: str | Path,
    n: int,
    seed: int = 0,
    options: Options | None = None,
    start: int = 0,
    node_modules: str | Path | None = None,
    progress: bool = True,
) -> int:
    """Renders screens `start` to `start + n - 1` and returns how many were new."""
    options = options or Options()
    out = Path(out)
    index_path = out / "screens.jsonl"
    done = finished(index_path)
    todo = [k for k in range(start, start + n) if (seed, k) not in done]
    if not todo:
        return 0
    kits = find_node_modules(node_modules, options.kits)
    (out / "images").mkdir(parents=True, exist_ok=True)
    show = shown(len(todo)) if progress else nullcontext(lambda: None)
    with (
        Camera(kits) as camera,
        index_path.open("a", encoding="utf-8") as rows,
        show as step,
    ):
        note_absent(camera.browser)
        for index in todo:
            row = render_one(camera, plan_screen(seed, index, options), out, options)
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")
            rows.flush()
            step()
    return len(todo)


def render_one(
    camera: Camera, plan: Plan, out: Path, options: Options
) -> dict[str, Any]:
    """Writes the picture of one screen and returns its row."""
    image, row = shoot(camera, plan, options, f"{plan.seed}-{plan.index:06d}")
    (out / row["image"]).write_bytes(image)
    return row


def shoot(
    camera: Camera, plan: Plan, options: Options, name: str
) -> tuple[bytes, dict[str, Any]]:
    """The picture of one screen and its row, with `name` as its id."""
    size = plan.width, plan.height, plan.scale
    image, found = camera.shoot(plan.kit, plan.html, plan.shell, *size, options.picture)
    ending = "jpg" if options.picture == "jpeg" else "png"
    row = make_row(plan, found, f"images/{name}.{ending}") | {"id": name}
    return image, row if options.words == USUAL else row | {"words": options.words}
