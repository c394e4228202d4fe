"""The paper's findings, checked with many short trainings of a smaller `nano-ui`.

Pictures are small parts of screens, one to four views of 144 px, 36 visual tokens each.
As in MM1.5, models are first trained without splitting: a decoder from scratch, beside
the encoder and connector of --start, on parts of one view, once for each seed. Every
variant starts from it, differs from the base in one thing, and answers the same
questions about parts of screens of a kit that none was trained on. Runs that are in
--work are not repeated, so the script can be stopped at any time.

Run: python benchmarks/findings.py --screens DIR … --test DIR --start restored.pt
     --tokenizer mm15_mlx/models/nano-ui/tokenizer.model --work DIR
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.screens.crops import crop, part_of
from mm15_mlx.screens.sheet import read_rows

TILE, PATCHES = 144, 6  # of a view: its side in pixels and in patches
RANGE = 100  # numbers of a side: 1000 would be finer than pixels
POINT = 1.25  # pixels of a point, as in a phone's tiles
Kind = tuple[tuple[tuple[int, int], ...], int]  # of parts: shapes in views, and tries
ANY: Kind = ((1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (1, 3)), 4
ONE_VIEW: Kind = ((1, 1),), 16  # few show enough
FEWEST = 3  # lines and elements in a part
Result = dict[str, Any]
PAPER = {"text-rich": 37.2, "refer-ground": 22.5, "general": 11.3}  # MM1.5 §3.2


@dataclass(frozen=True)
class Finding:
    """What MM1.5 reports: in `columns`, answers that are right and nats, the variant is
    better (1) or worse (-1) than the variant number `than`."""

    columns: tuple[str, str]
    sign: int
    than: int = 0
    figures: str = ""  # the paper's: the other's, then this one's


@dataclass(frozen=True)
class Variant:
    """tiling: what it changes of the model's; asked: of the trained model's tiling,
    where it is asked. long: steps of continual pre-training before."""

    name: str
    tiling: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    refer_ground: float = 2  # weight beside general data: the paper's
    long: int = 0
    more: int = 0  # steps of fine-tuning beyond the others'
    findings: tuple[Finding, ...] = ()

    def shares(self) -> list[str]:
        shares = PAPER | {"refer-ground": PAPER["refer-ground"] * self.refer_ground / 2}
        return [f"{k}={v}" for k, v in shares.items()]


LONG = 60
FOUR = {"n_min": 4, "n_max": 4}
OCR = "ocr exact", "ocr nats"  # what text-rich is in the paper
GROUND = "ground centre", "ground nats"  # few boxes of such small models reach IoU 0.5
VARIANTS = [
    Variant("base: dynamic 1 to 4 tiles, overview after, index, weight 2"),
    Variant("continual pre-training on transcriptions before", long=LONG,
            findings=(Finding(OCR, 1, 0, "58.8 → 60.3, all tasks"),
                      Finding(OCR, 1, 2))),
    Variant("as many steps more of fine-tuning instead", more=LONG),
    Variant("static splitting, 2 × 2", {"policy": "static"},
            findings=(Finding(OCR, -1),)),
    Variant("no splitting", {"policy": "none"}, findings=(Finding(OCR, -1),)),
    Variant("overview before", {"overview": "before"},
            findings=(Finding(OCR, -1, figures="59.2 → 58.6"),)),
    Variant("no indicators", {"indicator": "none"},
            findings=(Finding(GROUND, -1, figures="74.8 → 74.0"),)),
    Variant("refer & ground weight 0", refer_ground=0,
            findings=(Finding(GROUND, -1),)),
    Variant("refer & ground weight 1", refer_ground=1,
            findings=(Finding(GROUND, -1),)),
    Variant("dynamic, 4 tiles", FOUR),
    Variant("dynamic, 4 tiles, asked with n_min 1", FOUR, {"n_min": 1},
            findings=(Finding(GROUND, -1, 9, "74.0 → 24.5"),)),
]  # fmt: skip
COLUMNS = {  # name → tasks and score
    "ocr exact": (("ocr",), "exact"),
    "ocr nats": (("ocr",), "nats"),
    "refer": (("widget_class", "icon_class", "tappable"), "exact"),
    "ground IoU": (("find_text", "find_widget", "find_icon"), "iou"),
    "ground centre": (("find_text", "find_widget", "find_icon"), "centre"),
    "ground nats": (("find_text", "find_widget", "find_icon"), "nats"),
}


def tiled(**changes: object) -> ModelConfig:
    """The base's model with another tiling."""
    nano = PRESETS["nano-ui"]
    return replace(
        nano,
        vision_config=replace(nano.vision_config, image_size=TILE),
        connector_config=replace(nano.connector_config, num_visual_tokens=PATCHES**2),
        text_config=replace(
            nano.text_config,
            num_hidden_layers=4,
            hidden_size=256,
            intermediate_size=688,
        ),
        tiling=replace(nano.tiling, tile_size=TILE, **changes),
        coordinates=replace(nano.coordinates, range=RANGE, per_tile=RANGE // 4),
    )


def parts(folder: Path, kind: Kind = ANY) -> Iterator[tuple[Result, Image.Image]]:
    """Small parts of the screens in a folder, with their rows."""
    shapes, tries = kind
    for row in read_rows(folder):
        rng = Random(row["id"])
        with Image.open(folder / row["image"]) as image:
            screen = image.convert("RGB")
        for k in range(tries):
            unit = TILE / POINT * row["scale"]
            shape = rng.choice(shapes)
            width, height = (
                min(round(n * unit * rng.uniform(0.8, 1)), whole)
                for n, whole in zip(shape, screen.size, strict=True)
            )
            box = part_of(screen.size, (width, height), rng)
            made, picture = crop(row, screen, box)
            if len(made["texts"]) + len(made["elements"]) >= FEWEST and made["texts"]:
                yield {**made, "id": f"{row['id']}-{k}"}, picture


def write_parts(folders: list[Path], out: Path, kind: Kind = ANY) -> Path:
    """Parts of screens as a folder of screens, made once."""
    if not (out / "screens.jsonl").exists():
        (out / "images").mkdir(parents=True, exist_ok=True)
        rows = []
        for folder in folders:
            for row, picture in parts(folder, kind):
                name = f"{folder.name}-{row['id']}"
                row |= {"id": name, "image": f"images/{name}.webp"}
                picture.save(out / row["image"], quality=95)
                rows.append(json.dumps(row) + "\n")
        (out / "screens.jsonl").write_text("".join(rows))
    return out


def common(args: argparse.Namespace, seed: int) -> list[object]:
    """Flags of every training."""
    return [
        "--tokenizer", args.tokenizer, "--seed", seed, "--threads", args.threads,
        "--batch", args.batch, "--warmup", 20, "--save-every", 1000, "--spread", 1,
        "--patches", 48, "--long-share", 0, "--questions", args.questions,
        "--lengths", 28,
    ]  # fmt: skip


def pretrained(args: argparse.Namespace, seed: int) -> Path:
    """The checkpoint that every variant starts from."""
    kept, tiling = args.work / f"one-view-{seed}.pt", {"policy": "none"}
    screens = write_parts(args.screens, args.work / "one-view", ONE_VIEW)
    flags = ["--screens", screens, "--views", views_of(args, tiling, "one-view"),
             "--start", eyes(args), "--balance", "--lr", 2 * args.lr, "--steps",
             args.before, "--shares", *VARIANTS[0].shares()]  # fmt: skip
    run([*common(args, seed), *flags], kept, tiling)
    return kept


def train(args: argparse.Namespace, variant: Variant, seed: int, start: Path) -> Path:
    """The checkpoint of a variant that begins with another."""
    kept = args.work / f"{slug_of(variant, seed)}.pt"
    flags = [*common(args, seed), "--lr", args.lr, "--views",
             views_of(args, variant.tiling, "train"),
             "--screens", write_parts(args.screens, args.work / "train")]  # fmt: skip
    if variant.long:
        before = kept.with_suffix(".before.pt")
        run([*flags, "--start", start, "--steps", variant.long, "--long-share", 1,
             "--long", "read"], before, variant.tiling)  # fmt: skip
        start = before
    run([*flags, "--start", start, "--steps", args.steps + variant.more, "--shares",
         *variant.shares()], kept, variant.tiling)  # fmt: skip
    return kept


def run(flags: list[object], out: Path, tiling: dict[str, Any]) -> None:
    """One training, its curve on stderr; one that was stopped goes on."""
    from mm15_mlx.convert.mm15_torch import sft, stages  # extra: pretrain

    args = sft.arguments([str(f) for f in [*flags, "--out", out]])
    for row in stages.train(sft.Trainer(args, tiled(**tiling))):
        print(json.dumps(row), file=sys.stderr, flush=True)


def eyes(args: argparse.Namespace) -> Path:
    """A checkpoint of encoder and connector alone, without what makes tokens as wide as
    the decoder; positions are those of a corner of the view."""
    import torch  # extra: pretrain

    path = args.work / "eyes.pt"
    if not path.exists():
        whole = torch.load(args.start, weights_only=True)["model"]
        names = ("encoder.", "connector.")
        kept = {
            k: v
            for k, v in whole.items()
            if k.startswith(names) and not k.startswith("connector.readout.")
        }
        side = PRESETS["nano-ui"].vision_config.grid_size

        def corner(table: torch.Tensor) -> torch.Tensor:
            return table.view(side, side, -1)[:PATCHES, :PATCHES].flatten(0, 1)

        places = kept["encoder.position_embedding"]
        places = torch.cat([places[:1], corner(places[1:])])  # the first: no patch's
        kept["encoder.position_embedding"] = places
        kept["connector.pos_emb"] = corner(kept["connector.pos_emb"])[None]
        torch.save({"model": kept}, path)
    return path


def slug_of(variant: Variant, seed: int) -> str:
    """Of what it is trained on: how it is asked is no other training."""
    bare: dict[str, Any] = {"asked": {}, "name": "", "findings": ()}
    trained = replace(variant, **bare)
    first = next(v for v in VARIANTS if replace(v, **bare) == trained)
    return f"{VARIANTS.index(first)}-{seed}"


def views_of(args: argparse.Namespace, changes: dict[str, Any], of: str) -> Path:
    """Where views of some pictures are kept that are tiled so."""
    name = "-".join(["views", of, *(f"{k}-{v}" for k, v in sorted(changes.items()))])
    path = args.work / name
    path.mkdir(exist_ok=True)
    return path


def measured(
    args: argparse.Namespace, variant: Variant, seed: int, checkpoint: Path
) -> Result:
    from mm15_mlx.convert.mm15_torch import sft  # extra: pretrain
    from mm15_mlx.convert.mm15_torch.answered import measure

    changes = variant.tiling | variant.asked
    test = write_parts(args.test, args.work / "test")
    flags = ["--screens", test, "--views", views_of(args, changes, "test"),
             "--tokenizer", args.tokenizer, "--start", checkpoint, "--out",
             args.work / "none.pt", "--threads", args.threads]  # fmt: skip
    trainer = sft.Trainer(sft.arguments([str(f) for f in flags]), tiled(**changes))
    return {"variant": variant.name, "seed": seed, "tasks": measure(trainer)}


def value(result: Result, column: str) -> float:
    """The mean over a column's tasks."""
    tasks, score = COLUMNS[column]
    return statistics.mean(result["tasks"][t][score] for t in tasks)


def shown(values: list[float], score: str) -> str:
    """Mean and, of several, standard deviation: per cent, or nats."""
    scale, digits = (1, 2) if score == "nats" else (100, 1)
    mean = f"{scale * statistics.mean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {scale * statistics.stdev(values):.{digits}f}"


def table(results: list[Result]) -> str:
    """Markdown: a row for each variant, means over its seeds."""
    lines = [
        "| variant | seeds | " + " | ".join(COLUMNS) + " |",
        "|---|---" + "|---" * len(COLUMNS) + "|",
    ]
    for variant in VARIANTS:
        mine = [r for r in results if r["variant"] == variant.name]
        if mine:
            cells = [
                shown([value(r, c) for r in mine], score)
                for c, (_, score) in COLUMNS.items()
            ]
            lines.append(
                f"| {variant.name} | {len(mine)} | " + " | ".join(cells) + " |"
            )
    return "\n".join(lines)


def verdict(gains: list[tuple[float, float]]) -> str:
    """Whether the paper's direction is found: by every seed of two or more, in answers
    that are right and in nats. gains: along that direction, of each seed."""
    if len(gains) < 2:
        return "one seed"
    every = [g for both in gains for g in both]
    if all(g > 0 for g in every):
        return "yes"
    return "no" if all(g < 0 for g in every) else "unclear"


def directions(results: list[Result]) -> str:
    """Markdown: each finding's differences and whether it reproduces."""
    found = {(r["variant"], r["seed"]): r for r in results}
    titles = ["variant", "against", "task", "MM1.5", "points", "nats", "seeds",
              "reproduces"]  # fmt: skip
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for variant in VARIANTS:
        for finding in variant.findings:
            other = VARIANTS[finding.than]
            pairs = [
                (found[variant.name, seed], found[other.name, seed])
                for seed in sorted(s for v, s in found if v == variant.name)
                if (other.name, seed) in found
            ]
            if not pairs:
                continue
            right, nats = (
                [value(a, column) - value(b, column) for a, b in pairs]
                for column in finding.columns
            )
            gains = [
                (finding.sign * r, -finding.sign * n)
                for r, n in zip(right, nats, strict=True)
            ]
            paper = "better" if finding.sign > 0 else "worse"
            cells = (
                variant.name, other.name.partition(":")[0], finding.columns[0],
                f"{paper} ({finding.figures})" if finding.figures else paper,
                shown(right, "exact"), shown(nats, "nats"), str(len(pairs)),
                verdict(gains),
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--before", type=int, default=1000, help="steps on one view")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(given)


def main() -> None:
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    kept = args.work / "results.jsonl"
    results = read_results(kept)
    done = {(r["variant"], r["seed"]) for r in results}
    for seed in args.seeds:
        todo = [v for v in VARIANTS if (v.name, seed) not in done]
        if not todo:
            continue
        start = pretrained(args, seed)
        for variant in todo:
            print(f"# {variant.name}, seed {seed}", file=sys.stderr, flush=True)
            result = measured(args, variant, seed, train(args, variant, seed, start))
            results.append(result)
            with kept.open("a") as log:
                log.write(json.dumps(result) + "\n")
    print(f"{table(results)}\n\n{directions(results)}")


def read_results(path: Path) -> list[Result]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
