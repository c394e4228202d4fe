"""Screens of nothing but text, drawn with Pillow: words that no screen holds.

A model that has read the same few thousand words again and again guesses the rest of
one from its beginning. Half of the words here are halves of two others, joined, or
letters at random, and the rest are numbers, codes and names of many languages: who
reads them must look. Rows are those of `data screens`.

Run: python -m mm15_mlx.convert.mm15_torch.pages --out DIR --count 2000
"""

import argparse
import json
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mm15_mlx.convert.mm15_torch.glyphs import LAST, Words, colours, find_fonts
from mm15_mlx.convert.mm15_torch.samples import Row
from mm15_mlx.screens.build import written

KIT = "drawn"  # what their rows name instead of a kit
Fonts = list[tuple[Path, float]]
# width and height in points, pixels of a point
PHONES = ((390, 844, 3.0), (375, 812, 2.0), (360, 800, 3.0), (412, 915, 2.625))
SIZES = {11: 6, 12: 12, 13: 14, 14: 14, 15: 12, 16: 12, 17: 12, 20: 5, 24: 2, 30: 1}
MARGIN, GAP = 16, 18  # points: at the sides, and between two lines of text in one row


LOCALES = ("en_GB", "en_IN", "de_DE", "fr_FR", "it_IT", "nl_NL", "fi_FI", "es_ES")


class MixedWords(Words):
    """Phrases as screens hold them, and as many that no one can guess."""

    def __init__(self, seed: int) -> None:
        from faker import Faker  # extra: screens

        super().__init__(seed)
        self.others = Faker(list(LOCALES))
        self.others.seed_instance(seed)

    def phrase(self) -> str:
        kind = self.rng.random()
        if kind < 0.35:
            return super().phrase()
        if kind < 0.5:
            return self.number()
        if kind < 0.6:
            return self.name()
        return " ".join(self.joined() for _ in range(self.rng.randint(1, 4)))

    def name(self) -> str:
        """Of a person or a place, in letters that English has."""
        some = self.others
        while True:
            text = self.rng.choice((some.name, some.last_name, some.city))()
            if text.isascii():
                return text

    def number(self) -> str:
        """Figures with what stands around them."""
        rng, fake = self.rng, self.fake
        amount = f"{rng.randint(0, 10 ** rng.randint(1, 6)):,}"
        return rng.choice([
            amount, f"{amount}.{rng.randint(0, 99):02}",
            rng.choice("$€£") + f"{amount}.{rng.randint(0, 99):02}",
            f"{rng.choice('+-')}{rng.randint(0, 99)}.{rng.randint(0, 99)}%",
            fake.numerify("(%##) %##-####"), fake.numerify("+%# ### #######"),
            fake.numerify("%#:##"), self.hour() + " - " + self.hour(),
            *(fake.date(p, LAST) for p in ("%Y-%m-%d", "%d.%m.%Y", "%B %d")),
            fake.bothify("??-####").upper(), fake.bothify("#??##??").upper(),
            fake.numerify("v%.##.#"), fake.numerify("#### #### #### ####"),
            rng.choice(("XS", "S", "M", "L", "XL", "XXL")) + f" / {rng.randint(4, 52)}",
            f"{rng.randint(1, 999)} {rng.choice(('GB', 'km', 'kg', 'min', 'mm', 'h'))}",
            f"#{rng.randint(1, 99999)}", fake.ipv4(), fake.hex_color(),
        ])  # fmt: skip

    def hour(self) -> str:
        return self.fake.time("%H:%M", LAST)

    def joined(self) -> str:
        """The first half of one word and the last of another."""
        rng = self.rng
        first, last = (w.strip(".,") for w in self.fake.words(2))
        word = first[: rng.randint(1, len(first))] + last[rng.randrange(len(last)) :]
        if rng.random() < 0.12:
            word += "-" + self.fake.word()
        if rng.random() < 0.08:
            word += str(rng.randint(0, 99))
        return word.capitalize() if rng.random() < 0.4 else word


def make_screen(seed: int, fonts: Fonts, words: Words) -> tuple[Image.Image, Row]:
    """A picture of a phone's size, and its row without names."""
    rng = random.Random(seed)
    wide, high, scale = rng.choice(PHONES)
    width, height = round(wide * scale), round(high * scale)
    back, ink = colours(rng)
    image = Image.new("RGB", (width, height), back)
    draw = ImageDraw.Draw(image)
    texts: list[Row] = []
    y = rng.uniform(0, 40) * scale
    while y < height:
        path = rng.choices([f for f, _ in fonts], [w for _, w in fonts])[0]
        size = rng.choices(list(SIZES), list(SIZES.values()))[0] * scale
        font = ImageFont.truetype(
            str(path), round(size), layout_engine=ImageFont.Layout.BASIC
        )
        colour = ink
        pitch = size * rng.uniform(1.15, 2)
        rows = rng.choice([1, 1, 1, 2, 4])
        if rng.random() < 0.4:
            ground, colour = colours(rng)
            draw.rectangle((0, y, width, y + rows * pitch), fill=ground)
        for _ in range(rows):
            texts += _draw_row(draw, y + pitch / 2, font, colour, width, scale, words)
            y += pitch
        y += rng.choice([0, 0, 4, 10]) * scale
    texts = [t for t in texts if t["box"][3] < height]
    elements = [
        {"type": "text", "text": t["text"], "label": t["text"], "icon": "",
         "box": t["box"], "tappable": False, "state": {}}
        for t in texts
    ]  # fmt: skip
    return image, {"width": width, "height": height, "scale": scale, "texts": texts,
                   "elements": elements}  # fmt: skip


def _draw_row(
    draw: ImageDraw.ImageDraw,
    middle: float,
    font: ImageFont.FreeTypeFont,
    colour: tuple[int, ...],
    width: int,
    scale: float,
    words: Words,
) -> list[Row]:
    """One line of text, or several with room between them, as high as `middle`."""
    rng = words.rng
    margin, gap = MARGIN * scale, GAP * scale
    x, texts = margin + rng.choice([0, 0, 40, 90]) * scale, []
    while True:
        text = words.phrase()
        room = width - margin - x
        while text and font.getlength(text) > room:
            text = text[:-1].rstrip()
        if len(text) < 2:
            return texts
        length = font.getlength(text)
        if rng.random() < 0.15:  # somewhere in the room that is left
            x += rng.uniform(0, room - length)
        place = (round(x), round(middle))
        draw.text(place, text, font=font, fill=colour, anchor="lm")
        edges = [place[0] + font.getlength(text[:i]) for i in range(len(text) + 1)]
        texts.append({
            "text": text,
            "box": list(map(float, draw.textbbox(place, text, font, anchor="lm"))),
            "edges": [round(e, 1) for e in edges],
        })  # fmt: skip
        x = place[0] + length + gap
        if rng.random() < 0.2:
            return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (args.out / "images").mkdir(parents=True, exist_ok=True)
    fonts = find_fonts()
    listed = args.out / "screens.jsonl"
    known = {row["id"] for row in written(listed)}
    with listed.open("a") as rows:
        for k in range(args.count):
            name, seed = f"{args.seed}-{k:06d}", (args.seed + 1) * 1_000_003 + k
            if name in known:
                continue
            image, row = make_screen(seed, fonts, MixedWords(seed))
            row = {"id": name, "image": f"images/{name}.webp", "kit": KIT,
                   "layout": "page", "dark": False, **row}  # fmt: skip
            image.save(args.out / row["image"], quality=95, method=0)
            rows.write(json.dumps(row, ensure_ascii=False) + "\n")
            rows.flush()


if __name__ == "__main__":
    main()
