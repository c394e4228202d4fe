"""Pictures with the statistics of photographs, computed: nothing has to be licensed.

Light falls off, edges are soft at different depths, texture is noise with a 1/f
spectrum, and a sensor's grain lies over everything. A picture is named by kind and
number and is the same for ever; the browser asks for it by that name.
"""

import io
import re
from collections.abc import Callable
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 320  # pixels; shown up to 1100 wide, where it looks like a soft photograph
NUMBERS = 24  # pictures of a kind; our choice, so that a run computes each once
SHARE = 0.65  # of the pictures are photographs, the others are drawn
# What each kind of picture may show; faces stay drawn.
KINDS = {
    "scene": ("land", "land", "sea", "city", "bokeh", "food"),
    "product": ("thing", "thing", "food"),
    "abstract": ("bokeh", "cloth", "land", "sea"),
}

Plane = np.ndarray  # (SIDE, SIDE), or (SIDE, SIDE, 3) with colours; 0 to 1
Maker = Callable[[np.random.Generator], Plane]


def photo(rng: Random, kind: str) -> str:
    """An <img> for one picture of `kind`, or nothing where it should be drawn."""
    if kind not in KINDS or rng.random() >= SHARE:
        return ""
    name = f"{rng.choice(KINDS[kind])}-{rng.randrange(NUMBERS)}"
    x, y = rng.randint(20, 80), rng.randint(30, 70)
    flip = "transform:scaleX(-1);" if rng.random() < 0.5 else ""
    turn = rng.randint(-25, 25)
    style = f"{flip}object-position:{x}% {y}%;filter:hue-rotate({turn}deg)"
    return f'<img src="/_photo/{name}.jpg" style="{style}">'


@lru_cache(maxsize=512)
def photo_file(name: str) -> bytes | None:
    """The JPEG file of `land-7.jpg`; None for a name that is not ours."""
    match = re.fullmatch(r"([a-z]+)-(\d+)\.jpg", name)
    if not match or match[1] not in MAKERS:
        return None
    seed = [sorted(MAKERS).index(match[1]), int(match[2])]
    rng = np.random.default_rng(seed)
    pixels = developed(rng, MAKERS[match[1]](rng))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(70, 93)))
    return file.getvalue()


def developed(rng: np.random.Generator, scene: Plane) -> np.ndarray:
    """A camera's view of a scene: white balance, vignette, contrast, grain; uint8."""
    y, x = np.mgrid[-1:1:SIDE * 1j, -1:1:SIDE * 1j]  # fmt: skip
    vignette = 1 - rng.uniform(0.05, 0.3) * (x**2 + y**2) / 2
    warm = 1 + rng.uniform(-0.07, 0.07) * np.array([1, 0, -1])
    view = np.clip(scene * vignette[..., None] * warm, 0, 1) ** rng.uniform(0.8, 1.15)
    grain = rng.normal(0, rng.uniform(0.008, 0.025), (SIDE, SIDE, 1))
    return (np.clip(view + grain, 0, 1) * 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _falloff(slope: float) -> Plane:
    """1/f^slope over the frequencies of a real FFT."""
    fy, fx = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :]
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.inf
    return 1 / radius**slope


def cloudy(rng: np.random.Generator, slope: float = 1.6, stretch: int = 1) -> Plane:
    """Noise with a 1/f^slope spectrum, from 0 to 1; `stretch` widens it."""
    spectrum = np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) * _falloff(slope)
    noise = np.fft.irfft2(spectrum, (SIDE, SIDE))
    if stretch > 1:
        noise = np.repeat(noise[:, : -(-SIDE // stretch)], stretch, axis=1)[:, :SIDE]
    low, high = np.quantile(noise, (0.01, 0.99))
    return np.clip((noise - low) / (high - low), 0, 1)


def color(rng: np.random.Generator, *bounds: tuple[float, float]) -> np.ndarray:
    """Red, green and blue, each between two bounds."""
    return np.array([rng.uniform(low, high) for low, high in bounds])


def mix(first: np.ndarray, second: np.ndarray, share: Plane) -> Plane:
    """From the first colour, or picture, to the second as `share` goes from 0 to 1."""
    return first + (second - first) * share[..., None]


def soft(picture: Plane, radius: float) -> Plane:
    """A picture out of focus."""
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius))) / 255


def mask(draw: Callable[[ImageDraw.ImageDraw], None], radius: float) -> Plane:
    """What `draw` paints with 255, from 0 to 1, with soft edges."""
    image = Image.new("L", (SIDE, SIDE))
    draw(ImageDraw.Draw(image))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius))) / 255


def sky(rng: np.random.Generator) -> Plane:
    """A gradient, clouds in it, and the glow of the sun."""
    height = np.linspace(0, 1, SIDE)[:, None] * np.ones((1, SIDE))
    evening = rng.random() < 0.4
    high = color(rng, (0.05, 0.35), (0.25, 0.55), (0.55, 0.9))
    low = color(rng, (0.7, 0.95), (0.75, 0.93), (0.85, 1.0))
    if evening:
        high = color(rng, (0.1, 0.4), (0.1, 0.3), (0.3, 0.5))
        low = color(rng, (0.9, 1.0), (0.45, 0.75), (0.3, 0.5))
    view = mix(high, low, np.clip(height * rng.uniform(1.2, 1.8), 0, 1))
    edge = rng.uniform(0.35, 0.75)
    clouds = np.clip((cloudy(rng, 1.7, 2) - edge) * 3, 0, 1)
    view = mix(view, mix(low, np.ones(3), height), clouds * 0.8)
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    far = np.hypot(x - rng.uniform(0.1, 0.9) * SIDE, y - rng.uniform(0.1, 0.5) * SIDE)
    glow = np.exp(-far / (SIDE * rng.uniform(0.05, 0.2)))
    return np.clip(view + glow[..., None] * np.array([1.0, 0.85, 0.6]) * 0.6, 0, 1)


def ridge(rng: np.random.Generator, base: float, rough: float) -> np.ndarray:
    """The height of a skyline in pixels from the top, for each column."""
    steps = rng.normal(size=SIDE)
    spectrum = np.fft.rfft(steps)
    spectrum[1:] /= np.arange(1, len(spectrum)) ** 1.3
    spectrum[0] = 0
    line = np.fft.irfft(spectrum, SIDE)
    return (base + rough * line / (np.abs(line).max() + 1e-9)) * SIDE


def land(rng: np.random.Generator) -> Plane:
    """Mountains behind each other, paler the farther, and rough ground in front."""
    view = sky(rng)
    haze = view[SIDE // 3].mean(0)
    rows = np.arange(SIDE)[:, None]
    ground = color(rng, (0.1, 0.45), (0.2, 0.45), (0.05, 0.25))
    layers = int(rng.integers(2, 5))
    for k in range(layers):
        near = (k + 1) / layers
        top = ridge(rng, 0.35 + 0.4 * near, 0.18 * (1.2 - near))
        body = np.clip(rows - top[None, :], 0, 1)
        texture = cloudy(rng, 1.1 if k == layers - 1 else 1.4)
        shade = mix(haze, ground, np.full((SIDE, SIDE), near * 0.9))
        view = mix(view, shade * (0.55 + 0.8 * texture[..., None]), body)
    return view


def sea(rng: np.random.Generator) -> Plane:
    """The sky again in water, torn by waves that grow towards us."""
    view = sky(rng)
    horizon = int(SIDE * rng.uniform(0.4, 0.65))
    depth = SIDE - horizon
    mirror = view[horizon - np.linspace(0, horizon - 1, depth).astype(int)]
    near = np.linspace(0, 1, depth)[:, None]
    waves = cloudy(rng, 1.0, 4)[:depth] - 0.5
    tint = color(rng, (0.0, 0.2), (0.2, 0.45), (0.3, 0.55))
    water = mix(mirror, tint, 0.3 + 0.4 * near * np.ones((1, SIDE)))
    view[horizon:] = np.clip(water + (waves * (0.15 + 0.5 * near))[..., None], 0, 1)
    if rng.random() < 0.5:
        sand = color(rng, (0.7, 0.9), (0.6, 0.8), (0.4, 0.6))
        shore = ridge(rng, rng.uniform(0.8, 0.95), 0.04)
        body = np.clip((np.arange(SIDE)[:, None] - shore[None, :]) / 4, 0, 1)
        view = mix(view, sand * (0.8 + 0.4 * cloudy(rng, 0.7)[..., None]), body)
    return view


def city(rng: np.random.Generator) -> Plane:
    """Houses with windows, by day or lit by night."""
    night = rng.random() < 0.5
    view = sky(rng) * (0.25 if night else 1.0)
    for layer in (0.35, 0.6, 1.0):
        x = 0
        while x < SIDE:
            wide = int(rng.integers(24, 70))
            top = int(SIDE * rng.uniform(0.15, 0.75) * (0.7 + 0.3 * layer))
            wall = color(rng, (0.3, 0.75), (0.3, 0.7), (0.3, 0.7)) * layer
            wall = wall * (0.25 if night else 1) + (1 - layer) * view[0].mean(0) * 0.8
            house = view[top:, x : x + wide]
            house[:] = wall * np.linspace(1.1, 0.75, house.shape[1])[None, :, None]
            step, tall = int(rng.integers(6, 11)), int(rng.integers(8, 14))
            for wy in range(5, house.shape[0] - tall, tall):
                for wx in range(3, house.shape[1] - 4, step):
                    lit = rng.random() < (0.4 if night else 0.1)
                    glass = (1.0, 0.85, 0.5) if lit else wall * 0.5
                    house[wy : wy + tall // 2, wx : wx + step // 2] = glass
            x += wide + int(rng.integers(0, 20) * (1.2 - layer))
        view = soft(view, 1.6 * (1 - layer) + 0.5)
    return view * (0.85 + 0.3 * cloudy(rng, 1.3)[..., None])


def bokeh(rng: np.random.Generator) -> Plane:
    """Lights far out of focus over a dim ground."""
    first, second = rng.uniform(0, 0.6, 3), rng.uniform(0, 0.6, 3)
    view = mix(first, second, cloudy(rng, 2.2))
    for _ in range(int(rng.integers(15, 50))):
        x, y = rng.integers(0, SIDE, 2)
        radius, light = int(rng.integers(6, 34)), rng.uniform(0.4, 1.0, 3)
        rows, cols = (
            slice(max(y - radius, 0), y + radius),
            slice(max(x - radius, 0), x + radius),
        )
        v, u = np.mgrid[0:SIDE, 0:SIDE][:, rows, cols]
        edge = (radius - np.hypot(u - x, v - y)) / rng.uniform(1, 4)
        glow = light * rng.uniform(0.1, 0.5)
        view[rows, cols] += np.clip(edge, 0, 1)[..., None] * glow
    return np.clip(view, 0, 1)


def wood(rng: np.random.Generator) -> Plane:
    """A table top, or cloth: fibres across the picture."""
    dark = color(rng, (0.2, 0.5), (0.12, 0.35), (0.08, 0.25))
    light = np.clip(dark * rng.uniform(1.5, 2.4) + 0.05, 0, 1)
    return mix(dark, light, 0.6 * cloudy(rng, 1.2, 8) + 0.4 * cloudy(rng, 0.9))


def cloth(rng: np.random.Generator) -> Plane:
    """Folds of one colour, lit from the side."""
    folds = cloudy(rng, 2.4)
    light = np.clip(0.65 + 26 * np.gradient(folds, axis=1), 0.15, 1.3)
    threads = 0.95 + 0.1 * cloudy(rng, 0.6)
    return np.clip(rng.uniform(0.15, 0.95, 3) * (light * threads)[..., None], 0, 1)


def ball(
    view: Plane, rng: np.random.Generator, x: float, y: float, size: float,
    tint: np.ndarray, skin: Plane,
) -> Plane:  # fmt: skip
    """A lit lump with a shadow and a highlight, somewhat out of round."""
    reach = int(2.6 * size)  # beyond it not even the shadow is seen
    window = (
        slice(max(int(y) - reach, 0), int(y) + reach),
        slice(max(int(x) - reach, 0), int(x) + reach),
    )
    rows, cols = np.mgrid[0:SIDE, 0:SIDE][:, *window]
    angle = np.arctan2(rows - y, cols - x)
    size = size * (1 + 0.12 * np.sin(3 * angle + rng.uniform(0, 6)))
    u, v = (cols - x) / size, (rows - y) / (size * rng.uniform(0.75, 1.0))
    radius = u**2 + v**2
    depth = np.sqrt(np.clip(1 - radius, 0, 1))
    light = np.clip(0.45 * depth - 0.45 * u - 0.5 * v, 0, 1) + 0.3
    shine = np.clip(depth * 0.62 - 0.5 * u - 0.55 * v, 0, 1) ** 14
    shadow = np.exp(-np.clip(np.hypot(u - 0.25, v - 0.35) - 0.7, 0, 9) * 5) * 0.5
    ground = view[window] * (1 - shadow * (radius > 1))[..., None]
    lit = tint * (light * (0.8 + 0.4 * skin[window]))[..., None]
    lump = np.clip(lit + 0.6 * shine[..., None], 0, 1)
    view = view.copy()
    view[window] = mix(ground, lump, np.clip((1.03 - radius) * 12, 0, 1))
    return view


def food(rng: np.random.Generator) -> Plane:
    """A plate on a table, with things on it."""
    view = wood(rng)
    x, y = SIDE * rng.uniform(0.4, 0.6, 2)
    wide, tall = SIDE * rng.uniform(0.36, 0.46), SIDE * rng.uniform(0.28, 0.42)
    plate = color(rng, (0.8, 0.97), (0.8, 0.96), (0.76, 0.95))
    for share, light, shift in ((1.0, 0.35, 7), (1.0, 1.0, 0), (0.72, 0.9, 0)):
        box = (x - wide * share, y - tall * share + shift,
               x + wide * share, y + tall * share + shift)  # fmt: skip
        disc = mask(lambda d, box=box: d.ellipse(box, fill=255), 4 if shift else 1.2)
        view = mix(view, (plate if light > 0.5 else view) * light, disc)
    tints = [color(rng, (0.5, 1), (0.15, 0.75), (0.05, 0.3)) for _ in range(3)]
    skin = cloudy(rng, 1.0)
    for _ in range(int(rng.integers(6, 13))):
        turn, reach = rng.uniform(0, 6.3), rng.uniform(0, 0.55)
        at = x + wide * reach * np.cos(turn), y + tall * reach * np.sin(turn)
        tint = tints[int(rng.integers(3))]
        view = ball(view, rng, *at, SIDE * rng.uniform(0.05, 0.13), tint, skin)
    return soft(view, 0.6)


def thing(rng: np.random.Generator) -> Plane:
    """A few lit bodies on a plain sweep of paper, as shops show goods."""
    paper = rng.uniform(0.75, 0.97, 3)
    fall = np.linspace(1.05, 0.8, SIDE)[:, None] * np.ones((1, SIDE))
    view = np.clip(paper * fall[..., None], 0, 1)
    tint = rng.uniform(0.05, 0.95, 3)
    wide, tall = SIDE * rng.uniform(0.12, 0.3), SIDE * rng.uniform(0.2, 0.36)
    left, right = SIDE / 2 - wide, SIDE / 2 + wide
    low, top = SIDE * 0.8, SIDE * 0.8 - 2 * tall
    if rng.random() < 0.4:
        return ball(view, rng, SIDE / 2, SIDE * 0.55, SIDE * rng.uniform(0.2, 0.32),
                    tint, cloudy(rng, 1.0))  # fmt: skip
    ground = mask(lambda d: d.ellipse((left, low - 18, right + 50, low + 18),
                                      fill=255), 9)  # fmt: skip
    view = view * (1 - 0.5 * ground)[..., None]
    corner = float(rng.uniform(2, wide))
    body = mask(lambda d: d.rounded_rectangle((left, top, right, low), corner,
                                              fill=255), 0.8)  # fmt: skip
    across = (np.arange(SIDE) - left) / (right - left)
    light = np.clip(1.1 - (across - 0.3) ** 2 * 1.6, 0.2, 1.2)[None, :]
    stripe = np.clip(1 - np.abs(across - 0.28) * 18, 0, 1)[None, :] * 0.35
    skin = 0.92 + 0.16 * cloudy(rng, 1.2)
    lit = tint * (light * skin)[..., None] + stripe[..., None]
    view = mix(view, np.clip(lit, 0, 1), body)
    band = sorted(rng.uniform(top, low, 2))
    label = mask(lambda d: d.rectangle((left, band[0], right, band[1]), fill=255),
                 0.8)  # fmt: skip
    return mix(view, rng.uniform(0.2, 1, 3) * light[..., None], label * body)


MAKERS: dict[str, Maker] = {
    "land": land,
    "sea": sea,
    "city": city,
    "bokeh": bokeh,
    "cloth": cloth,
    "food": food,
    "thing": thing,
}
