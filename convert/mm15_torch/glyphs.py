"""Pages packed with text, and which character each of their pixels belongs to.

Made for the encoder's dense start: short crops of such pages hold ten times more
labelled characters than screens of the same size. Pages are drawn at three times the
model's scale and reduced, as a Retina screenshot is.

Run: python -m mm15_mlx.convert.mm15_torch.glyphs --out DIR --pages 4000
"""

import argparse
import os
import random
import string
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Class 0 is "no glyph"; characters outside the list count as no glyph.
CHARACTERS = (
    string.ascii_letters + string.digits + ".,:;!?'\"-–—_/\\()[]<>@#$€£%&*+=~|•…’“”°·"
)
CLASS_OF = {c: i + 1 for i, c in enumerate(CHARACTERS)}
NUM_CLASSES = len(CHARACTERS) + 1

# Of Faker's dates: left alone they end now, and a seed draws another with each second.
LAST = datetime(2026, 1, 1)

SIDE = 480
POINT = 1.25  # pixels of a point, as where a tile is as wide as a phone
OVERSAMPLING = 3
FAMILIES = {  # share of lines drawn in each: the two system fonts come first
    "inter/Inter-{}.otf": (35, ("Regular", "Medium", "SemiBold", "Bold")),
    "RobotoTTF/Roboto-{}.ttf": (30, ("Regular", "Medium", "Bold")),
    "LiberationSans-{}.ttf": (10, ("Regular", "Bold")),
    "OpenSans-{}.ttf": (9, ("Regular", "Semibold", "Bold")),
    "Lato-{}.ttf": (8, ("Regular", "Medium", "Bold")),
    "NotoSans-{}.ttf": (8, ("Regular", "Bold")),
}


def find_fonts(root: Path = Path("/usr/share/fonts")) -> list[tuple[Path, float]]:
    """Installed font files of `FAMILIES` with their weights."""
    files = [p for p in root.rglob("*") if p.suffix in (".ttf", ".otf")]
    found = []
    for pattern, (share, faces) in FAMILIES.items():
        for face in faces:
            tail = pattern.format(face)
            path = next((p for p in files if str(p).endswith("/" + tail)), None)
            if path:
                found.append((path, share / len(faces)))
    if not found:
        raise FileNotFoundError(
            f"no font of {', '.join(FAMILIES)} under {root}; on Debian: apt install "
            "fonts-inter fonts-roboto fonts-liberation fonts-open-sans fonts-lato "
            "fonts-noto-core"
        )
    return found


class Words:
    """Text as screens hold it: words, names, prices, times, codes."""

    def __init__(self, seed: int) -> None:
        from faker import Faker  # extra: screens

        self.rng = random.Random(seed)
        fake = Faker("en_US")
        fake.seed_instance(seed)
        self.fake = fake
        self.makers = [
            fake.name, fake.city, fake.company, fake.email, fake.catch_phrase,
            fake.street_address, fake.job, fake.phone_number, fake.user_name,
            fake.bs, fake.country, fake.file_name, fake.domain_name,
        ]  # fmt: skip

    def phrase(self) -> str:
        rng = self.rng
        kind = rng.random()
        if kind < 0.35:
            text = rng.choice(self.makers)()
        elif kind < 0.55:
            text = " ".join(self.fake.words(rng.randint(1, 5)))
        elif kind < 0.65:
            text = self.fake.sentence(rng.randint(3, 8))
        elif kind < 0.8:
            text = rng.choice([
                f"${rng.randint(0, 999)}.{rng.randint(0, 99):02d}",
                f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}",
                f"{rng.randint(1, 12)}:{rng.randint(0, 59):02d} "
                + rng.choice(["AM", "PM"]),
                f"{rng.randint(0, 100)}%", f"{rng.randint(1, 9999):,}",
                f"{rng.randint(1, 999)} "
                + rng.choice(["GB", "MB", "km", "min", "items"]),
                self.fake.date("%b %d, %Y", LAST), self.fake.date("%m/%d/%y", LAST),
                f"+{rng.randint(1, 40)}.{rng.randint(0, 9)}", f"({rng.randint(1, 99)})",
            ])  # fmt: skip
        else:  # letters without a language, so that glyphs and not words are learned
            pool = CHARACTERS if rng.random() < 0.5 else string.ascii_letters
            text = "".join(rng.choice(pool) for _ in range(rng.randint(2, 12)))
        case = rng.random()
        if case < 0.15:
            return text.upper()
        if case < 0.5:
            return text.title() if case < 0.35 else text[:1].upper() + text[1:]
        return text


def colours(rng: random.Random) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Background and text colour with enough contrast to read."""
    while True:
        if rng.random() < 0.6:
            back = (rng.choice([255, 255, 250, 245, 242, 30, 28, 18, 0]),) * 3
        else:
            back = tuple(rng.randrange(256) for _ in range(3))
        if rng.random() < 0.6:
            text = (rng.choice([0, 20, 51, 102, 130, 255, 240, 200, 160]),) * 3
        else:
            text = tuple(rng.randrange(256) for _ in range(3))
        grey = [0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2] for c in (back, text)]
        if abs(grey[0] - grey[1]) > 70:
            return back, text


def make_page(
    seed: int, fonts: list[tuple[Path, float]], words: Words
) -> tuple[np.ndarray, np.ndarray]:
    """One page: picture (S, S, 3) and character class of each pixel (S, S), uint8."""
    rng = random.Random(seed)
    scale = OVERSAMPLING
    side = SIDE * scale
    back, _ = colours(rng)
    image = Image.new("RGB", (side, side), back)
    draw = ImageDraw.Draw(image)
    classes = np.zeros((SIDE, SIDE), np.uint8)
    y = rng.randint(-20, 10)
    while y < side:
        path = rng.choices([f for f, _ in fonts], [w for _, w in fonts])[0]
        size = rng.choices([10.5, 12, 13, 14, 15, 16, 17, 20, 24, 30],
                           [2, 8, 10, 14, 12, 14, 14, 6, 3, 1])[0]  # fmt: skip
        font = ImageFont.truetype(
            str(path), round(size * POINT * scale), layout_engine=ImageFont.Layout.BASIC
        )
        cap = -font.getbbox("H", anchor="ls")[1]
        height = round(cap * rng.uniform(1.6, 2.6))
        band_back, colour = colours(rng)
        if rng.random() < 0.4:
            draw.rectangle((0, y, side, y + height), fill=band_back)
        else:
            while True:  # keep the page's background, draw a colour until it shows
                _, colour = colours(rng)
                if abs(sum(colour) - sum(back)) > 180:
                    break
        baseline = y + (height + cap) // 2
        x = rng.randint(-30, 60)
        while x < side:
            text = words.phrase()
            draw.text((x, baseline), text, font=font, fill=colour, anchor="ls")
            top, bottom = round((baseline - cap) / scale), round(baseline / scale)
            for i, char in enumerate(text):
                left = round((x + font.getlength(text[:i])) / scale)
                right = round((x + font.getlength(text[: i + 1])) / scale)
                if right > 0 and left < SIDE and bottom > 0:
                    classes[max(top, 0) : bottom, max(left, 0) : right] = CLASS_OF.get(
                        char, 0
                    )
            x += round(font.getlength(text)) + rng.randint(10, 50) * scale // 2
        y += height
    reduce = rng.choice(
        [Image.Resampling.BICUBIC, Image.Resampling.BICUBIC, Image.Resampling.BOX]
    )
    small = image.resize((SIDE, SIDE), reduce)
    return np.asarray(small), classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pages", type=int, default=4000)
    parser.add_argument("--shard", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    fonts = find_fonts()
    for start in range(0, args.pages, args.shard):
        target = args.out / f"{start:06d}.npz"
        if target.exists():
            continue
        words = Words(args.seed + start)
        pages = [
            make_page((args.seed + start + k) * 7919 + 1, fonts, words)
            for k in range(args.shard)
        ]
        partial = target.with_suffix(".part")
        with partial.open("wb") as f:
            np.savez(
                f,
                images=np.stack([p for p, _ in pages]),
                classes=np.stack([c for _, c in pages]),
            )
        os.replace(partial, target)


if __name__ == "__main__":
    main()
