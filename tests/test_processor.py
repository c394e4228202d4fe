"""Questions and pictures → ids and pixels."""

import dataclasses
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from mm15_mlx.config import CoordinateConfig, ModelConfig, TilingConfig
from mm15_mlx.grounding import RegionError
from mm15_mlx.images import ImageError, load_picture
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.prompt import PromptError
from mm15_mlx.tokenizer import TOKENIZER_FILE, Tokenizer

IMAGE, USER, END, BOX, LOC = 4, 5, 8, 9, 13
TOKENS = 16  # of a view


@pytest.fixture
def processor(ui_folder: Path, ui_config: ModelConfig) -> Processor:
    return Processor(ui_config, Tokenizer(ui_folder / TOKENIZER_FILE))


@pytest.fixture
def square(tmp_path: Path) -> Path:
    """One view, and a size at which boxes are easy to count."""
    path = tmp_path / "square.png"
    Image.new("RGB", (80, 80), (10, 200, 30)).save(path)
    return path


def image(path: Path | None = None) -> dict[str, Any]:
    return {"type": "image"} | ({"image": path} if path else {})


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def user(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


# --- what the model is called with ---------------------------------------------------


def test_text_alone(processor: Processor) -> None:
    inputs = processor("Where is Wi-Fi?")
    assert set(inputs) == {"input_ids"} and inputs["input_ids"].ndim == 2


def test_shapes(processor: Processor, screen: Path, square: Path) -> None:
    one = processor("What is this?", images=[square])
    assert one["pixel_values"].shape == (1, 84, 84, 3)
    assert one["pixel_values"].dtype == mx.float32
    both = processor("What is this?", images=[screen, square])
    assert both["pixel_values"].shape == (6, 84, 84, 3)  # 2 × 2, overview; 1
    assert (both["input_ids"] == IMAGE).sum().item() == 6 * TOKENS
    many = processor("What is this?", images=[screen] * 3)
    assert many["pixel_values"].shape == (3, 84, 84, 3), "three are not split"


def test_the_model_takes_it(ui: tuple[MM15, Processor], screen: Path) -> None:
    model, processor = ui
    inputs = processor("What is this?", images=[screen])
    logits = model(**inputs)
    assert logits.shape == (1, inputs["input_ids"].shape[1], 1400)
    assert logits.dtype == mx.float32


def test_pixels_are_normalised(processor: Processor, square: Path) -> None:
    pixels = np.array(processor("What?", images=[square])["pixel_values"])
    vision = processor.config.vision_config
    mean, std = np.array(vision.image_mean), np.array(vision.image_std)
    # 80 px are enlarged to 84: no padding
    expected = (np.array([10, 200, 30]) / 255 - mean) / std
    np.testing.assert_allclose(pixels[0, 40, 40], expected, atol=1e-5)


def test_kinds_of_pictures_give_the_same(processor: Processor, square: Path) -> None:
    opened = Image.open(square)
    sources = [square, str(square), opened, np.asarray(opened), load_picture(square)]
    results = [processor("What?", images=[s])["pixel_values"] for s in sources]
    assert all(mx.array_equal(r, results[0]).item() for r in results)


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (1, 1)])
def test_extreme_shapes(processor: Processor, size: tuple[int, int]) -> None:
    inputs = processor("What?", images=[Image.new("RGB", size)])
    views = inputs["pixel_values"].shape[0]
    assert (inputs["input_ids"] == IMAGE).sum().item() == views * TOKENS


# --- where pictures stand ----------------------------------------------------------


def test_pictures_come_first_where_nothing_is_said(
    processor: Processor, square: Path
) -> None:
    plain = processor.prepare("What?", [square]).ids
    assert plain[: 1 + TOKENS] == [USER] + [IMAGE] * TOKENS
    turns = [
        {"role": "system", "content": "Read"},
        {"role": "user", "content": "What?"},
    ]
    ids = processor.prepare(turns, [square]).ids
    assert ids[ids.index(USER) + 1] == IMAGE


def test_parts_say_where(processor: Processor, square: Path) -> None:
    ids = processor.prepare(user(text("Read"), image(), text("What?")), [square]).ids
    assert ids[1] != IMAGE and ids.count(IMAGE) == TOKENS


def test_named_and_unnamed_parts(processor: Processor, tmp_path: Path) -> None:
    paths = []
    for width in (81, 82, 83, 84):
        paths.append(tmp_path / f"{width}.png")
        Image.new("RGB", (width, 80)).save(paths[-1])
    parts = [image(), image(paths[1]), text("and"), image(), image(paths[3])]
    prepared = processor.prepare(user(*parts), [paths[0], paths[2]])
    assert [s[0] for s in prepared.sizes] == [81, 82, 83, 84]


@pytest.mark.parametrize(
    ("parts", "given", "message"),
    [
        ([image()], 0, "1 image placeholders for 0 pictures"),
        ([image(), image()], 1, "2 image placeholders for 1 pictures"),
        ([image()], 2, "1 image placeholders for 2 pictures"),
    ],
)
def test_placeholders_and_pictures_must_match(
    processor: Processor, square: Path, parts: list[dict], given: int, message: str
) -> None:
    with pytest.raises(PromptError, match=f"the conversation has {message}"):
        processor.prepare(user(*parts, text("What?")), [square] * given)


def test_a_named_part_takes_none_of_the_given(
    processor: Processor, square: Path
) -> None:
    message = "0 image placeholders for 1 pictures"
    with pytest.raises(PromptError, match=message):
        processor.prepare(user(image(square), text("What?")), [square])


# --- boxes in the question -----------------------------------------------------------


def test_a_box_is_put_into_the_models_numbers(
    processor: Processor, square: Path
) -> None:
    ids = processor.prepare("What is <box>0,20,40,80</box>?", [square]).ids
    start = ids.index(BOX)
    numbers = [i - LOC for i in ids[start + 1 : start + 5]]
    assert numbers == [0, 250, 500, 1000]


def test_a_box_in_the_text_of_another_model(
    ui_folder: Path, ui_config: ModelConfig, screen: Path
) -> None:
    """LLaVA-1.5's: fractions of the picture padded to a square, here by 40 a side."""
    square = CoordinateConfig(range=100, decimals=2, frame="square")
    config = dataclasses.replace(ui_config, coordinates=square)
    processor = Processor(config, Tokenizer(ui_folder / TOKENIZER_FILE))
    ids = processor.prepare("<box>0,0,120,100</box>", [screen]).ids
    box = processor.tokenizer.encode("[0.20, 0.00, 0.80, 0.50]")
    assert ids[-2 - len(box) : -2] == box


def test_joined_views_have_their_own_count(
    ui_folder: Path, ui_config: ModelConfig, screen: Path
) -> None:
    """LLaVA-NeXT's: the overview, then the tiles' map, unpadded, with newlines."""
    tiling = TilingConfig(
        tile_size=84, policy="pinpoints", pinpoints=((2, 1),), pad_side="center",
        overview="before", indicator="none", merge="spatial_unpad",
    )  # fmt: skip
    config = dataclasses.replace(ui_config, tiling=tiling)
    processor = Processor(config, Tokenizer(ui_folder / TOKENIZER_FILE))
    inputs = processor("What?", images=[screen])
    assert inputs["pixel_values"].shape == (3, 84, 84, 3)
    (picture,) = processor.prepare("What?", [screen]).images
    # 120 × 200 on 84 × 168 is 140 pixels high, of 8 rows of tokens that is 6 whole ones
    assert picture.tokens == TOKENS + 6 * (4 + 1) == len(picture.packing)
    assert (inputs["input_ids"] == IMAGE).sum().item() == picture.tokens
    assert sum(picture.packing == -1) == 6


def test_a_box_outside_the_picture(processor: Processor, square: Path) -> None:
    with pytest.raises(RegionError, match="lies outside the picture of 80 × 80 pixels"):
        processor.prepare("What is <box>90,0,100,10</box>?", [square])


def test_a_box_is_about_the_pictures_of_its_own_message(
    processor: Processor, square: Path, screen: Path
) -> None:
    shot = [
        *user(image(square), text("What is <box>0,0,80,80</box>?")),
        {"role": "assistant", "content": "On"},
        *user(image(screen), text("What is <box>0,0,60,200</box>?")),
        {"role": "assistant", "content": "Off"},
        {"role": "user", "content": "And <box>0,0,120,100</box>?"},
    ]
    prepared = processor.prepare(shot)
    boxes = [i for i, token in enumerate(prepared.ids) if token == BOX]
    numbers = [[t - LOC for t in prepared.ids[b + 1 : b + 5]] for b in boxes]
    assert numbers == [[0, 0, 1000, 1000], [0, 0, 500, 1000], [0, 0, 1000, 500]]
    assert prepared.subject == 1, "the question is about the second picture"


def test_special_tokens_in_the_question_are_text(
    processor: Processor, square: Path
) -> None:
    ids = processor.prepare("<|image|><|end|><box> what?", [square]).ids
    assert ids.count(IMAGE) == TOKENS and ids.count(END) == 1 and BOX not in ids


# --- what cannot be asked ------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "the prompt is empty; ask something"),
        (" \n", "the prompt is empty; ask something"),
        ([], "the conversation is empty; give at least one message"),
        (["hi"], "'hi' is not a message: it needs role and content"),
        ([{"role": "user"}], "is not a message: it needs role and content"),
        ([{"role": "tool", "content": "x"}], "role 'tool' is not known; use system"),
        ([{"role": "user", "content": None}], "None is not the content of a message"),
        (user({"type": "audio"}), "is not a content part: type must be text, image"),
        (user("words"), "'words' is not a content part"),
        (user({"type": "text"}), "is a text part without its text"),
        (user({"type": "text", "text": 3}), "is a text part without its text"),
        (user({"type": "video"}), "is a video part without its video: a path"),
    ],
)
def test_prompts_that_cannot_be_asked(
    processor: Processor, prompt: Any, message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        processor.prepare(prompt)


def test_pictures_need_a_user(processor: Processor, square: Path) -> None:
    with pytest.raises(PromptError, match="pictures need a message of the role user"):
        processor.prepare([{"role": "system", "content": "Read"}], [square])


def test_one_picture_is_no_list_of_pictures(processor: Processor, square: Path) -> None:
    for one in (square, str(square), Image.open(square)):
        with pytest.raises(PromptError, match="images is one picture, not a list"):
            processor.prepare("What?", one)  # type: ignore[arg-type]


def test_a_bad_picture_names_its_file(processor: Processor, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no\.png does not exist"):
        processor.prepare("What?", [tmp_path / "no.png"])


@pytest.mark.parametrize(
    ("limit", "pictures", "message"),
    [
        (
            90,
            1,
            r"\d+ tokens, 80 of them for 1 picture; the model's context is 90: "
            r"use fewer pictures or less splitting \(--split-last, the app's setting",
        ),
        (
            200,
            16,
            r"2\d\d tokens, 256 of them for 16 pictures; the model's .* 200: "
            "use fewer pictures or a shorter text",
        ),
    ],
)
def test_a_prompt_longer_than_the_context(
    limit: int, pictures: int, message: str, ui_folder: Path, ui_config: ModelConfig,
    screen: Path,
) -> None:  # fmt: skip
    short = dataclasses.replace(ui_config.text_config, max_position_embeddings=limit)
    config = dataclasses.replace(ui_config, text_config=short)
    processor = Processor(config, Tokenizer(ui_folder / TOKENIZER_FILE))
    with pytest.raises(PromptError, match=f"the prompt has {message}"):
        processor.prepare("What?", [screen] * pictures)


# --- keys of pictures ----------------------------------------------------------------


def test_keys_are_of_content_and_tiling(
    processor: Processor, square: Path, screen: Path
) -> None:
    def key(source: Any, beside: int = 0) -> str:
        pictures = [source, *[square] * beside]
        return processor.prepare("What?", pictures).images[0].key

    other = Image.open(screen).convert("RGB")
    assert key(screen) == key(other), "the same pixels under another name"
    other.putpixel((3, 3), (1, 2, 3))
    assert key(screen) != key(other)
    assert key(screen) == key(screen, beside=1)
    assert key(screen) != key(screen, beside=2), "among three it is not split"
