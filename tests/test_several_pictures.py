"""Several pictures: their places in the text, whose a box is, and memory."""

import json
import os
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from mm15_mlx import MM15, answers, generate, load
from mm15_mlx.config import ModelConfig
from mm15_mlx.generate import Result
from mm15_mlx.images import ImageError, Picture
from mm15_mlx.processor import Processor
from mm15_mlx.prompt import PromptError, interleaved
from mm15_mlx.tokenizer import TOKENIZER_FILE, Tokenizer

Cli = Callable[..., tuple[int, str, str]]
IMAGE = 4
TOKENS = 16  # of a view


@pytest.fixture
def processor(ui_folder: Path, ui_config: ModelConfig) -> Processor:
    return Processor(ui_config, Tokenizer(ui_folder / TOKENIZER_FILE))


@pytest.fixture
def pair(screen: Path, tmp_path: Path) -> list[Path]:
    """Pictures of 120 × 200 and 60 × 60 pixels."""
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    paths[0].write_bytes(screen.read_bytes())
    Image.new("RGB", (60, 60), "red").save(paths[1])
    return paths


# --- places in the text --------------------------------------------------------------


def test_placeholders_say_where_pictures_stand() -> None:
    assert interleaved("Is <image>\nlike\n<image>?", ["a", "b"]) == [
        {"type": "text", "text": "Is "},
        {"type": "image", "image": "a"},
        {"type": "text", "text": "like"},
        {"type": "image", "image": "b"},
        {"type": "text", "text": "?"},
    ]


def test_without_placeholders_pictures_come_first() -> None:
    assert interleaved("What?\n", ["a", "b"], ["v"]) == [
        {"type": "image", "image": "a"},
        {"type": "image", "image": "b"},
        {"type": "video", "video": "v"},
        {"type": "text", "text": "What?\n"},
    ]


def test_the_tag_of_a_video_is_text_where_there_is_none() -> None:
    assert interleaved("What is <video>?", []) == [
        {"type": "text", "text": "What is <video>?"}
    ]


@pytest.mark.parametrize(
    ("text", "images", "videos", "message"),
    [
        ("<image> What?", [], [], "1 placeholders <image> for 0 pictures; write one"),
        ("<image> What?", ["a", "b"], [], "1 placeholders <image> for 2 pictures"),
        ("<image><image> What?", ["a"], [], "2 placeholders <image> for 1 pictures"),
        ("<video><video>", [], ["a"], "2 placeholders <video> for 1 videos; write one"),
    ],
)
def test_placeholders_and_pictures_must_match(
    text: str, images: list[str], videos: list[str], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        interleaved(text, images, videos)


def test_a_string_in_python_has_places_too(
    processor: Processor, pair: list[Path]
) -> None:
    ids = processor.prepare("Read <image> and <image>", pair).ids
    parts = [
        {"type": "text", "text": "Read "}, {"type": "image", "image": pair[0]},
        {"type": "text", "text": " and "}, {"type": "image", "image": pair[1]},
    ]  # fmt: skip
    same = processor.prepare([{"role": "user", "content": parts}]).ids
    assert ids == same and ids[1] != IMAGE and ids[-3] == IMAGE
    message = {"role": "user", "content": "Read <image> and <image>"}
    assert processor.prepare([message], pair).ids == ids
    with pytest.raises(PromptError, match="has 2 image placeholders for 1 pictures"):
        processor.prepare([message], pair[:1])
    assert IMAGE not in processor.prepare([message]).ids, "mere text without pictures"


def test_places_on_the_command_line_and_in_rows(
    cli: Cli, ui_folder: Path, pair: list[Path], tmp_path: Path
) -> None:
    """The same answer as the model gives in Python, and another than without them."""
    model = ["--model", ui_folder, "-m", 6]
    prompt = "Read <image> and <image>"
    _, out, _ = cli("generate", *model, "--image", *pair, "-p", prompt, "--json")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"images": ["a.png", "b.png"], "prompt": prompt}))
    _, line, _ = cli("generate", *model, "--input", rows)
    first = cli("generate", *model, "--image", *pair, "-p", "Read and", "--json")[1]
    by_flag, by_row, plain = map(json.loads, (out, line, first))
    assert by_flag["text"] == by_row["text"] != plain["text"]
    assert [i["path"] for i in by_row["images"]] == list(map(str, pair))


def test_the_command_line_counts_them(
    cli: Cli, ui_copy: Path, pair: list[Path], tmp_path: Path
) -> None:
    (ui_copy / "model.safetensors").unlink()
    flags = ["generate", "--model", ui_copy, "--image", *pair]
    code, out, err = cli(*flags, "-p", "<image> What?")
    assert (code, out) == (2, "") and err == (
        "error: the prompt has 1 placeholders <image> for 2 pictures; write one for "
        "each, or none: then pictures come first\n"
    )
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"image": "a.png", "prompt": "<image><image>"}\n')
    err = cli("generate", "--model", ui_copy, "--input", rows)[2]
    assert err.startswith(f"error: {rows}, line 1: the prompt has 2 placeholders")


# --- splitting -----------------------------------------------------------------------


def test_two_are_split_and_three_are_not(processor: Processor, screen: Path) -> None:
    def grids(n: int) -> list[tuple[int, int]]:
        images = processor.prepare("What?", [screen] * n).images
        return [i.tiling.grid for i in images]

    assert grids(2) == [(2, 2), (2, 2)]
    assert grids(3) == [(1, 1), (1, 1), (1, 1)]


def test_a_part_says_that_it_is_split_or_not(
    processor: Processor, screen: Path
) -> None:
    parts: list[dict[str, Any]] = [
        {"type": "image", "image": screen, "split": k == 3} for k in range(4)
    ]
    parts.append({"type": "text", "text": "What?"})
    prepared = processor.prepare([{"role": "user", "content": parts}])
    assert [len(i.tiling.indices) for i in prepared.images] == [1, 1, 1, 5]
    assert prepared.ids.count(IMAGE) == (3 + 5) * TOKENS


# --- whose box it is -----------------------------------------------------------------


def test_ground_asks_about_each_picture_alone(
    cli: Cli, button: Path, pair: list[Path], screen: Path, tmp_path: Path
) -> None:
    """Boxes are numbered, named, in their own picture's pixels, and drawn on it."""
    drawing = tmp_path / "out.png"
    flags = ["ground", "--model", button, "--image", *pair, screen, "--query", "OK"]
    code, out, err = cli(*flags, "--draw", drawing)
    assert code == 0, err
    assert out.splitlines() == [
        f"{pair[0]}: OK: [12, 40, 72, 140]",
        f"{pair[1]}: OK: [6, 12, 36, 42]",
        f"{screen}: OK: [12, 40, 72, 140]",
    ]
    assert not drawing.exists()
    drawn = [Image.open(tmp_path / f"out-{k}.png") for k in range(3)]
    assert [d.size for d in drawn] == [(120, 200), (60, 60), (120, 200)]
    mark = (0xE6, 0x19, 0x4B)
    assert drawn[1].convert("RGB").getpixel((4, 30)) == mark
    assert drawn[0].convert("RGB").getpixel((10, 100)) == mark

    document = json.loads(cli(*flags, "back", "--json")[1])
    boxes = [(b["image"], b["label"], b["px"]) for b in document["boxes"]]
    assert boxes == [
        (0, "OK", [12, 40, 72, 140]), (0, "back", [12, 40, 72, 140]),
        (1, "OK", [6, 12, 36, 42]), (1, "back", [6, 12, 36, 42]),
        (2, "OK", [12, 40, 72, 140]), (2, "back", [12, 40, 72, 140]),
    ]  # fmt: skip
    images = document["images"]
    assert [i["path"] for i in images] == [str(p) for p in (*pair, screen)]
    assert [i["views"] for i in images] == [5, 1, 5], "each alone, so each is split"
    assert document["usage"]["image_tokens"] == 11 * TOKENS
    assert document["usage"]["generated_tokens"] == 6 * 7
    texts = 0  # a picture is read once, whatever is asked about it
    for path in (*pair, screen):
        for query in ("OK", "back"):
            alone = [*flags[:4], path, "--query", query, "--json"]
            usage = json.loads(cli(*alone)[1])["usage"]
            texts += usage["prompt_tokens"] - usage["image_tokens"]
    usage = document["usage"]
    assert usage["prompt_tokens"] - usage["image_tokens"] == texts


def test_timings_of_many_questions_are_of_all(
    cli: Cli, button: Path, pair: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    answered: list[Result] = []

    def noted(self: answers.Session, *given: Any, **named: Any) -> Result:
        answered.append(answer(self, *given, **named))
        result = answered[-1]
        if len(answered) == 2:
            result = answered[-1] = replace(result, finish_reason="length")
        return result

    answer = answers.Session.answer
    monkeypatch.setattr(answers.Session, "answer", noted)
    flags = ["ground", "--model", button, "--image", *pair, "--query", "OK", "back"]
    document = json.loads(cli(*flags, "--json")[1])
    assert len(answered) == 4 and document["finish_reason"] == "length"
    for key in ("encode_s", "prefill_s"):
        total = sum(getattr(r.timings, key) for r in answered)
        assert document["timings"][key] == pytest.approx(total, abs=2e-3)
    first = answered[0].timings.first_token_s
    assert document["timings"]["first_token_s"] == pytest.approx(first, abs=2e-3)
    paces = [r.timings.decode_tokens_per_s for r in answered]
    pace = document["timings"]["decode_tokens_per_s"]
    assert min(paces) - 1 <= pace <= max(paces) + 1


def test_no_drawing_is_overwritten(
    cli: Cli, button: Path, pair: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "out-1.png").write_text("mine")
    flags = ["ground", "--model", button, "--image", *pair, "--query", "OK"]
    code, out, err = cli(*flags, "--draw", tmp_path / "out.png")
    assert (code, out) == (2, "")
    assert err == f"error: {tmp_path}/out-1.png exists; give --force to overwrite it\n"
    assert not (tmp_path / "out-0.png").exists()


def test_generate_says_which_picture_it_takes(
    cli: Cli, button: Path, pair: list[Path]
) -> None:
    flags = ["generate", "--model", button, "-p", "Where?"]
    warning = (
        "warning: places are taken to be in picture 0, the first of the 2 that were "
        "asked about; `ground` asks about each\n"
    )
    assert warning in cli(*flags, "--image", *pair)[2]
    assert "warning" not in cli(*flags, "--image", pair[0])[2]


def test_ground_needs_something_to_look_at(cli: Cli, button: Path) -> None:
    code, out, err = cli("ground", "--model", button, "--query", "OK")
    assert (code, out) == (2, "")
    assert err == "error: Invalid value for '--image': give it, or --video\n"


def test_the_label_does_not_name_the_place(button: Path, screen: Path) -> None:
    result = generate(*load(button), "<image>\nWhere is OK?", images=[screen])
    assert result.boxes[0].label == "OK"


# --- memory --------------------------------------------------------------------------


def test_views_of_two_pictures_are_never_alive_together(
    ui: tuple[MM15, Processor], encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen pictures, split: all but the last one's views are gone when it is cut."""
    from mm15_mlx import processor as module

    made: list[weakref.ref] = []
    alive: list[int] = []
    cut = module.cut

    def watched(*arguments: Any) -> np.ndarray:
        alive.append(sum(r() is not None for r in made))
        views = cut(*arguments)
        made.append(weakref.ref(views))
        return views

    monkeypatch.setattr(module, "cut", watched)
    rng = np.random.default_rng(0)
    parts: list[dict[str, Any]] = [
        {"type": "image", "split": True,
         "image": rng.integers(0, 255, (200, 120, 3), dtype=np.uint8)}
        for _ in range(16)
    ]  # fmt: skip
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": "Hi"}]}]
    generate(*ui, messages, max_tokens=1)
    assert alive == [0] * 16
    assert encoded == [5] * 16, "one picture at a time"


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures of 60 × 60 pixels are all that stay decoded."""
    monkeypatch.setattr("mm15_mlx.images.KEPT_PIXELS", 2 * 60 * 60)


def test_many_large_files_are_never_decoded_together(
    processor: Processor, tmp_path: Path, large: None
) -> None:
    """Sixteen of them: those beyond the limit are decoded when they are looked at."""
    paths = [tmp_path / f"{k}.png" for k in range(16)]
    for k, path in enumerate(paths):
        Image.new("RGB", (60, 60), (k, 0, 0)).save(path)
    decoded: list[weakref.ref] = []
    prepared = processor.prepare("Hi", paths)
    for k, one in enumerate(prepared.images):
        decoded.append(weakref.ref(one.picture.image))
        assert one.views.shape[0] == 1 and one.picture.size == (60, 60)
        assert one.picture.image.getpixel((0, 0)) == (k, 0, 0)
    assert [one() is not None for one in decoded] == [True] * 2 + [False] * 14
    assert len({one.key for one in prepared.images}) == 16
    assert type(prepared.images[1].picture) is Picture  # as if it had been alone


def test_a_large_file_that_changes_under_way(
    processor: Processor, pair: list[Path], large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the program is by then."""
    monkeypatch.chdir(pair[0].parent)
    names = [path.name for path in pair]
    prepared = processor.prepare("Hi", [names[1], *names])
    monkeypatch.chdir("/")
    assert prepared.images[1].views.shape[0] == 1
    whole = pair[0].read_bytes()
    status = pair[0].stat()
    pair[0].write_bytes(whole[:-1] + b"x")  # no larger, and as old as it was
    os.utime(pair[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(ImageError, match="^a.png was changed or removed while it was"):
        _ = prepared.images[1].views
    pair[0].unlink()
    with pytest.raises(ImageError, match="^a.png was changed or removed while it was"):
        _ = prepared.images[1].picture.image


def test_another_file_of_that_name(
    processor: Processor, pair: list[Path], large: None
) -> None:
    """Of the same size and age, as copies have it: it is looked at again."""
    pictures = [Image.new("RGB", (200, 100), shade) for shade in ("red", "blue")]
    shown = []
    for picture in pictures:
        picture.save(pair[0].with_suffix(".bmp"))
        os.utime(pair[0].with_suffix(".bmp"), ns=(1, 1))
        prepared = processor.prepare("Hi", [pair[1], pair[0].with_suffix(".bmp")])
        shown.append(prepared.images[1].picture.image.getpixel((9, 9)))
    assert shown == [(255, 0, 0), (0, 0, 255)]


def test_groups_are_the_views(processor: Processor, screen: Path) -> None:
    (picture,) = processor.prepare("What?", [screen]).images
    groups = list(processor.groups(picture, 2))
    assert [g.shape[0] for g in groups] == [2, 2, 1]
    assert mx.array_equal(mx.concatenate(groups), processor.pixels(picture)).item()
