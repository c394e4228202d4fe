"""Pictures as a converted model sees them, against transformers' processors (PIL).

What the converter made of the source's own settings, with mean and deviation. Both
sides are multiplied by the deviation, so that the tolerance is one grey level.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from PIL import Image
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    IMAGENET_STANDARD_MEAN,
    IMAGENET_STANDARD_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from mm15_mlx.convert import run
from mm15_mlx.load import load_processor

from .conftest import Compare
from .processors import (
    GotOcr2ImageProcessorPil,
    Idefics3ImageProcessorPil,
    LlavaImageProcessorPil,
    LlavaNextImageProcessorPil,
    SmolVLMImageProcessorPil,
)
from .test_families import GRIDS, saved
from .test_families_original import SIDES, bee, chat, flat
from .test_pictures_parity import GREY, SIZES, picture

pytestmark = pytest.mark.parity

TILE = 56
Settings = dict[str, Any]
SPLIT: Settings = {
    "size": {"longest_edge": 3 * TILE}, "max_image_size": {"longest_edge": TILE}
}  # fmt: skip
CROP: Settings = {
    "size": {"shortest_edge": TILE}, "crop_size": {"height": TILE, "width": TILE}
}  # fmt: skip
PAD = CROP | {"do_pad": True}  # as LLaVA-1.5 was trained
TILES = CROP | {"image_grid_pinpoints": GRIDS}
# LLaVA's own files have widths before heights, and where two tie the first is taken.
OWN_TILES = CROP | {"image_grid_pinpoints": [side[::-1] for side in SIDES]}
PATCHES: Settings = {
    "size": {"height": TILE, "width": TILE}, "crop_to_patches": True, "max_patches": 12
}  # fmt: skip


def normal(mean: list[float], std: list[float]) -> Settings:
    return {"image_mean": mean, "image_std": std}


HALF = normal(IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD)
CLIP = normal(OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
IMAGENET = normal(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
ODD = normal([0.4, 0.5, 0.6], [0.2, 0.25, 0.3])
# The processor, its published settings, and those of another model of the family.
FAMILIES: dict[str, tuple[type, Settings, Settings]] = {
    "idefics3": (Idefics3ImageProcessorPil, SPLIT | HALF,
                 SPLIT | {"size": {"longest_edge": 2 * TILE}}),
    "smolvlm": (SmolVLMImageProcessorPil, SPLIT | HALF,
                SPLIT | {"size": {"longest_edge": 5 * TILE}}),
    "llava": (LlavaImageProcessorPil, PAD | CLIP, PAD),
    "llava_next": (LlavaNextImageProcessorPil, TILES | CLIP, TILES),
    "internvl": (GotOcr2ImageProcessorPil, PATCHES | IMAGENET,
                 PATCHES | {"max_patches": 4}),
}  # fmt: skip
See = Callable[[Image.Image], torch.Tensor]  # (V, 3, S, S)


def compare_views(
    compare: Compare, what: str, source: Path, see: See, std: list[float]
) -> None:
    out = source.with_name("out")
    run.convert(source, out, name="owner/tiny", say=lambda _: None)
    processor = load_processor(out)
    for name in SIZES:
        image = picture(name)
        (seen,) = processor.prepare("What is on?", [image]).images
        ours = processor.pixels(seen) * mx.array(std)
        theirs = see(image).permute(0, 2, 3, 1) * torch.tensor(std)
        compare(f"pixels of {what}", ours, theirs, GREY)


def through(kind: type, settings: Settings) -> See:
    processor = kind(**settings)

    def see(image: Image.Image) -> torch.Tensor:
        pixels = processor(image, return_tensors="pt")["pixel_values"]
        return pixels[0] if pixels.ndim == 5 else pixels

    return see


@pytest.mark.parametrize(
    "file", ["preprocessor_config.json", "processor_config.json", "another model's"]
)
@pytest.mark.parametrize("name", FAMILIES)
def test_hub_families(name: str, file: str, tmp_path: Path, compare: Compare) -> None:
    kind, settings, others = FAMILIES[name]
    source = tmp_path / "source"
    saved(name, source)
    if file == "another model's":
        settings, file = others | ODD, "preprocessor_config.json"
    (source / "preprocessor_config.json").unlink(missing_ok=True)
    nested = file == "processor_config.json"  # where transformers 5 has it
    data = {"image_processor": settings} if nested else settings
    (source / file).write_text(json.dumps(data))
    compare_views(compare, name, source, through(kind, settings), settings["image_std"])


@pytest.mark.parametrize(
    ("name", "settings"), [("llava", PAD | CLIP), ("llava_next", TILES | CLIP),
                           ("internvl", PATCHES | IMAGENET)]
)  # fmt: skip
def test_hub_families_without_settings(
    name: str, settings: Settings, tmp_path: Path, compare: Compare
) -> None:
    """Where no file says anything, what the family was trained with."""
    source = tmp_path / "source"
    saved(name, source)
    see = through(FAMILIES[name][0], settings)
    compare_views(compare, f"{name}, silent", source, see, settings["image_std"])


# --- the families' own code ---------------------------------------------------------


def as_array(views: list[Image.Image], mean: list[float], std: list[float]) -> Any:
    """Scaled, less the mean, over the deviation."""
    values = np.stack([np.asarray(v, np.float32) / 255 for v in views])
    return torch.from_numpy((values - mean) / std).float().permute(0, 3, 1, 2)


def ferret(image: Image.Image) -> torch.Tensor:
    """Ferret-UI's: the whole picture in a square; then stretched to the best of the
    resolutions, in tiles."""
    width, height = image.size

    def worth(side: list[int]) -> tuple[int, int]:
        scale = min(side[0] / width, side[1] / height)
        used = min(int(width * scale) * int(height * scale), width * height)
        return used, used - side[0] * side[1]

    across, down = max(SIDES, key=worth)
    large = image.resize((across, down), Image.Resampling.BICUBIC)
    corners = [(x, y) for y in range(0, down, TILE) for x in range(0, across, TILE)]
    views = [large.crop((x, y, x + TILE, y + TILE)) for x, y in corners]
    views.insert(0, image.resize((TILE, TILE), Image.Resampling.BICUBIC))
    return as_array(views, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)


@pytest.mark.parametrize("name", ["ferret_llama", "ferret_gemma"])
def test_ferret_ui(name: str, tmp_path: Path, compare: Compare) -> None:
    source, *_ = flat(name, tmp_path / "source")
    compare_views(compare, name, source, ferret, OPENAI_CLIP_STD)


@pytest.mark.parametrize("old", [True, False])
def test_honeybee(old: bool, tmp_path: Path, compare: Compare) -> None:
    """One view, whatever the picture's proportions are."""

    def see(image: Image.Image) -> torch.Tensor:
        view = image.resize((224, 224), Image.Resampling.BICUBIC)
        return as_array([view], OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)

    source, _ = bee(old, tmp_path / "source")
    compare_views(compare, "honeybee", source, see, OPENAI_CLIP_STD)


@pytest.mark.parametrize(
    ("name", "see"),
    [
        ("llava (1.5, its own code)", through(LlavaImageProcessorPil, PAD | CLIP)),
        ("llava_llama (NeXT)", through(LlavaNextImageProcessorPil, OWN_TILES | CLIP)),
        ("llava_mistral (NeXT)", through(LlavaNextImageProcessorPil, OWN_TILES | CLIP)),
    ],
)
def test_llava_s_own_layout(
    name: str, see: See, tmp_path: Path, compare: Compare
) -> None:
    source, *_ = flat(name, tmp_path / "source")
    compare_views(compare, name, source, see, OPENAI_CLIP_STD)


def test_internvl_chat(tmp_path: Path, compare: Compare) -> None:
    """OS-Atlas: at most six tiles."""
    source, _ = chat("phi3", tmp_path / "source")
    settings = PATCHES | IMAGENET | {"max_patches": 6}
    see = through(GotOcr2ImageProcessorPil, settings)
    compare_views(compare, "internvl_chat", source, see, IMAGENET_DEFAULT_STD)
