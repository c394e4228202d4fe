"""The curves of trainings of `nano-ui`, as a picture.

A log is the JSONL that a stage of `convert/mm15_torch` writes beside its checkpoint.
Every figure of a log gets a line; logs stand side by side.

Run: python benchmarks/curves.py perception.jsonl sft.jsonl --out curves.png
"""

import argparse
import json
from pathlib import Path

FIGURES = {  # figure of a log → what the picture calls it
    "glyphs_patch": "characters, patches",
    "glyphs_token": "characters, visual tokens",
    "texts_token": "text boxes, visual tokens",
    "elements_token": "element boxes, visual tokens",
    "icons_token": "icons, visual tokens",
    "types_token": "types, visual tokens",
    "loss": "answers (nats)",
    "reading": "word pieces half-way (nats)",
    "boxes": "boxes half-way (nats)",
    "handed": "boxes as handed over (nats)",
    "spelt": "word pieces as handed over (nats)",
    "looking": "looking (nats)",
    "near_y": "upright numbers within 8",
    "several_loss": "answers about several screens (nats)",
    "several_comparing": "where a screen looks otherwise (nats)",
    "several_alongside": "looking at the same place (nats)",
    "frames_loss": "answers about the order of frames (nats)",
    "frames_ordering": "how late frames are (nats)",
    "frames_half_way": "how late frames are, half-way (nats)",
    "frames_naming_frames": "numbers look at their frames (nats)",
}


def read_log(path: Path) -> list[dict[str, float]]:
    """Rows by step; a resumed run's later rows replace those that it repeats."""
    rows = [json.loads(line) for line in path.read_text().splitlines() if line]
    return [r for _, r in sorted({r["step"]: r for r in rows if "step" in r}.items())]


def main() -> None:
    import matplotlib  # extra: pretrain

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    figure, panels = pyplot.subplots(
        1, len(args.logs), figsize=(6 * len(args.logs), 4), squeeze=False
    )
    for panel, path in zip(panels[0], args.logs, strict=True):
        rows = read_log(path)
        for key, name in FIGURES.items():
            points = [(r["step"], r[key]) for r in rows if key in r]
            if points:
                panel.plot(*zip(*points, strict=True), label=name)
        panel.set(title=path.stem, xlabel="step")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    figure.savefig(args.out, dpi=110)


if __name__ == "__main__":
    main()
