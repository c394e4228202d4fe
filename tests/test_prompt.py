"""Conversations as ids: literal lists, special tokens, streaming of answers."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mm15_mlx.config import ConnectorConfig, ModelConfig, PromptConfig, TilingConfig
from mm15_mlx.prompt import (
    AnswerDecoder,
    Content,
    ImageSlot,
    PromptEncoder,
    PromptError,
    Region,
    Turn,
    indicators,
    reach,
)
from mm15_mlx.tiling import Tiling, plan
from mm15_mlx.tokenizer import TOKENIZER_FILE, Tokenizer, TokenizerError

IMAGE, USER, ASSISTANT, SYSTEM, END = 4, 5, 6, 7, 8
BOX, BOX_END, POINT, POINT_END, LOC = 9, 10, 11, 12, 13


@pytest.fixture(scope="module")
def tokenizer(ui_folder: Path) -> Tokenizer:
    return Tokenizer(ui_folder / TOKENIZER_FILE)


@pytest.fixture(scope="module")
def encoder(ui_config: ModelConfig, tokenizer: Tokenizer) -> PromptEncoder:
    """One placeholder a view, so that lists stay short."""
    connector = ConnectorConfig(num_visual_tokens=1, hidden_size=32, depth=2)
    config = dataclasses.replace(ui_config, connector_config=connector)
    return PromptEncoder(config, tokenizer)


def tiling(rows: int, columns: int, overview: str = "after") -> Tiling:
    config = TilingConfig(
        tile_size=84, policy="static", static_grid=(rows, columns), overview=overview
    )
    return plan(100, 100, config)


def ask(*content: str | ImageSlot | Region) -> list[Turn]:
    return [Turn("user", list(content))]


# --- conversations as literal ids --------------------------------------------------


def test_one_question(encoder: PromptEncoder, tokenizer: Tokenizer) -> None:
    hi = tokenizer.encode("Where is Wi-Fi?")
    assert encoder.encode(ask("Where is Wi-Fi?"), []) == [
        USER, *hi, END, ASSISTANT,
    ]  # fmt: skip


def test_turns_with_a_system_text(encoder: PromptEncoder, tokenizer: Tokenizer) -> None:
    a, b, c, d = (tokenizer.encode(w) for w in ("Read", "On", "Off", "What"))
    turns = [Turn("system", ["Read"]), Turn("user", ["On"]), Turn("assistant", ["Off"])]
    closed = [SYSTEM, *a, END, USER, *b, END, ASSISTANT, *c, END]
    assert encoder.encode(turns, []) == closed, "a finished row ends with its answer"
    turns.append(Turn("user", ["What"]))
    assert encoder.encode(turns, []) == [*closed, USER, *d, END, ASSISTANT]


def test_default_system_text_and_bos(
    ui_config: ModelConfig, tokenizer: Tokenizer
) -> None:
    prompt = PromptConfig(bos="<s>", system="Read")
    encoder = PromptEncoder(dataclasses.replace(ui_config, prompt=prompt), tokenizer)
    a, b = tokenizer.encode("Read"), tokenizer.encode("On")
    assert encoder.encode(ask("On"), []) == [
        1, SYSTEM, *a, END, USER, *b, END, ASSISTANT,
    ]  # fmt: skip
    own = [Turn("system", ["On"]), *ask("On")]
    assert encoder.encode(own, [])[:3] == [1, SYSTEM, b[0]]


def test_regions_as_tokens(encoder: PromptEncoder, tokenizer: Tokenizer) -> None:
    box, point = Region((1, 20, 300, 1000)), Region((0, 7))
    comma = tokenizer.encode(", ")
    assert encoder.encode(ask(box, ", ", point), []) == [
        USER, BOX, LOC + 1, LOC + 20, LOC + 300, LOC + 1000, BOX_END, *comma,
        POINT, LOC + 0, LOC + 7, POINT_END, END, ASSISTANT,
    ]  # fmt: skip


def test_regions_over_the_canvas_of_the_tiles(
    encoder: PromptEncoder, tokenizer: Tokenizer
) -> None:
    canvas = dataclasses.replace(encoder.config.coordinates, frame="canvas")
    config = dataclasses.replace(encoder.config, coordinates=canvas)
    two = plan(84, 126, TilingConfig(tile_size=84, n_min=1, n_max=2))
    assert reach(canvas, two) == (1.0, 0.75)  # 126 of 168 pixels down
    whole = plan(84, 84, TilingConfig(tile_size=84, n_min=1, n_max=2))
    asked = [
        ImageSlot(0),
        ImageSlot(1),
        Region((100, 200, 300, 1000)),
        Region((5, 8), 1),
    ]
    ids = PromptEncoder(config, tokenizer).encode(ask(*asked), [two, whole])
    assert ids[-12:] == [
        BOX, LOC + 100, LOC + 150, LOC + 300, LOC + 750, BOX_END,
        POINT, LOC + 5, LOC + 8, POINT_END, END, ASSISTANT,
    ]  # fmt: skip
    answer = AnswerDecoder(tokenizer, canvas, reach(canvas, two))
    tokens = [BOX, LOC + 100, LOC + 150, LOC + 300, LOC + 990, BOX_END]
    # what lies below the picture is shown at its lower edge
    assert "".join(answer.add(t) for t in tokens) == "[100, 200, 300, 1000]"


@pytest.mark.parametrize(
    ("size", "box", "numbers"),
    [
        ((84, 84), (100, 200, 300, 1000), (25, 50, 75, 250)),  # one tile
        ((84, 168), (100, 200, 300, 1000), (25, 100, 75, 500)),  # the second below
        ((84, 126), (100, 200, 300, 1000), (25, 75, 75, 375)),  # a part of it
        ((168, 84), (100, 200, 1000, 300), (50, 50, 500, 75)),
    ],
)
def test_regions_over_tiles_are_the_same_whatever_tiles_follow(
    encoder: PromptEncoder, size: tuple[int, int], box: tuple[int, ...],
    numbers: tuple[int, ...],
) -> None:  # fmt: skip
    tiles = dataclasses.replace(encoder.config.coordinates, frame="tiles", per_tile=250)
    config = dataclasses.replace(encoder.config, coordinates=tiles)
    tiling = plan(*size, TilingConfig(tile_size=84, n_min=1, n_max=2))
    asked = ask(ImageSlot(0), Region(box))
    ids = PromptEncoder(config, encoder.tokenizer).encode(asked, [tiling])
    assert ids[-8:] == [BOX, *(LOC + n for n in numbers), BOX_END, END, ASSISTANT]
    answer = AnswerDecoder(encoder.tokenizer, tiles, reach(tiles, tiling))
    said = "".join(answer.add(t) for t in ids[-8:-2])
    assert said == f"[{', '.join(map(str, box))}]"


def test_regions_as_digits(encoder: PromptEncoder, tokenizer: Tokenizer) -> None:
    digits = dataclasses.replace(
        encoder.config,
        coordinates=dataclasses.replace(encoder.config.coordinates, format="digits"),
    )
    ids = PromptEncoder(digits, tokenizer).encode(ask(Region((1, 20, 300, 1000))), [])
    assert ids[1:-2] == tokenizer.encode("[1, 20, 300, 1000]")


# --- pictures ----------------------------------------------------------------------


def test_indices_stand_before_each_view(
    encoder: PromptEncoder, tokenizer: Tokenizer
) -> None:
    turns = ask(ImageSlot(0), "Read", ImageSlot(1))
    ids = encoder.encode(turns, [tiling(1, 2), tiling(2, 1, "before")])
    expected = [USER]
    for name in ("(0, 1, 1)", "(0, 1, 2)", "(0, 0, 0)"):
        expected += [*tokenizer.encode(name), IMAGE]
    expected += tokenizer.encode("Read")
    for name in ("(1, 0, 0)", "(1, 1, 1)", "(1, 2, 1)"):
        expected += [*tokenizer.encode(name), IMAGE]
    assert ids == [*expected, END, ASSISTANT]


def test_a_whole_picture_has_no_indicator(encoder: PromptEncoder) -> None:
    assert encoder.encode(ask(ImageSlot(0)), [tiling(1, 1)]) == [
        USER, IMAGE, END, ASSISTANT,
    ]  # fmt: skip


def test_every_visual_token_has_a_placeholder(
    ui_config: ModelConfig, tokenizer: Tokenizer
) -> None:
    ids = PromptEncoder(ui_config, tokenizer).encode(ask(ImageSlot(0)), [tiling(2, 2)])
    assert ids.count(IMAGE) == 5 * 16


@pytest.mark.parametrize(
    ("kind", "overview", "expected"),
    [
        ("index", "after", ["7:11", "7:12", "7:21", "7:22", "7:00"]),
        ("index", "none", ["7:11", "7:12", "7:21", "7:22"]),
        ("seps", "after", ["", ",", "\n", ",", ":"]),
        ("seps", "before", [":", "", ",", "\n", ","]),
        ("none", "after", [""] * 5),
    ],
)
def test_indicators(kind: str, overview: str, expected: list[str]) -> None:
    config = TilingConfig(indicator=kind)
    prompt = PromptConfig(tile_text="{k}:{i}{j}", overview_text="{k}:00")
    assert indicators(7, tiling(2, 2, overview), config, prompt) == expected


@pytest.mark.parametrize(
    ("content", "pictures", "message"),
    [
        ([ImageSlot(0)], 2, "1 image placeholders for 2 pictures"),
        ([ImageSlot(0), ImageSlot(1)], 1, "2 image placeholders for 1 pictures"),
        (["Read"], 1, "0 image placeholders for 1 pictures"),
        ([ImageSlot(0), ImageSlot(0)], 2, "2 image placeholders for 2 pictures"),
    ],
)
def test_placeholders_and_pictures_must_match(
    encoder: PromptEncoder, content: Content, pictures: int, message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        encoder.encode([Turn("user", content)], [tiling(1, 1)] * pictures)


def test_unknown_role(encoder: PromptEncoder) -> None:
    with pytest.raises(PromptError, match="role 'tool' is not known; use system, user"):
        encoder.encode([Turn("tool", ["x"])], [])


# --- what users write stays what they wrote ------------------------------------------


@pytest.mark.parametrize(
    "text", ["<|image|>", "<box>", "</box><loc_5>", "<|end|><|assistant|>", "<s></s>"]
)
def test_special_tokens_in_text_are_characters(
    encoder: PromptEncoder, tokenizer: Tokenizer, text: str
) -> None:
    ids = encoder.encode(ask(text), [])
    inner = ids[1:-2]
    assert ids[0] == USER and ids[-2:] == [END, ASSISTANT]
    assert all(tokenizer.name(i) is None for i in inner)
    assert tokenizer.decode(inner) == text


@pytest.mark.parametrize(
    "text", [" two  spaces ", "a\nb\tc", "żółw 設定 🙂", "1234567890", "“quotes”", ""]
)
def test_text_comes_back_as_it_was(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


# --- tokenizers ----------------------------------------------------------------------


def test_missing_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="tokenizer.model is missing: the model"):
        Tokenizer(tmp_path / TOKENIZER_FILE)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x0a\xff\xff\xff\xff\x0f"])
def test_foreign_tokenizer(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / TOKENIZER_FILE
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match="is not a sentencepiece model; copy"):
        Tokenizer(path)


def test_truncated_tokenizer(tmp_path: Path, tokenizer_model: bytes) -> None:
    path = tmp_path / TOKENIZER_FILE
    for cut in (10, len(tokenizer_model) // 2, len(tokenizer_model) - 5):
        path.write_bytes(tokenizer_model[:cut])
        with pytest.raises(TokenizerError, match="is not a sentencepiece model; copy"):
            Tokenizer(path)


def test_tokenizer_of_another_model(
    ui_config: ModelConfig, tokenizer: Tokenizer
) -> None:
    prompt = PromptConfig(stop=("<|stop|>",))
    with pytest.raises(TokenizerError, match=r"no special token '<\|stop\|>': it bel"):
        PromptEncoder(dataclasses.replace(ui_config, prompt=prompt), tokenizer)
    prompt = PromptConfig(image_token_id=5)
    message = r"<\|image\|> is token 4 in the tokenizer, 5 in config.json"
    with pytest.raises(PromptError, match=message):
        PromptEncoder(dataclasses.replace(ui_config, prompt=prompt), tokenizer)
    text = dataclasses.replace(ui_config.text_config, vocab_size=1000)
    message = "the tokenizer has 1400 tokens, more than the 1000 of config.json"
    with pytest.raises(PromptError, match=message):
        PromptEncoder(dataclasses.replace(ui_config, text_config=text), tokenizer)


# --- answers -------------------------------------------------------------------------


@pytest.fixture
def stream(
    tokenizer: Tokenizer, ui_config: ModelConfig
) -> Callable[[Sequence[int]], list[str]]:
    def run(tokens: Sequence[int]) -> list[str]:
        decoder = AnswerDecoder(tokenizer, ui_config.coordinates)
        pieces = [decoder.add(t) for t in tokens] + [decoder.finish()]
        assert "".join(pieces) == decoder.text
        return pieces

    return run


def test_text_streams(
    stream: Callable[[Sequence[int]], list[str]], tokenizer: Tokenizer
) -> None:
    text = "Wi-Fi is On, in Settings."
    pieces = stream(tokenizer.encode(text))
    assert "".join(pieces) == text and len([p for p in pieces if p]) > 5


def test_characters_of_many_bytes_are_never_split(
    stream: Callable[[Sequence[int]], list[str]], tokenizer: Tokenizer
) -> None:
    pieces = stream(tokenizer.encode("é設🙂!"))
    assert [p for p in pieces if p] == ["é", "設", "🙂", "!"]


def test_a_broken_character_at_the_end_is_shown_once(
    stream: Callable[[Sequence[int]], list[str]], tokenizer: Tokenizer
) -> None:
    cut = tokenizer.encode("a設")[:-1]
    text = "".join(stream(cut))
    assert text[0] == "a" and set(text[1:]) == {"\ufffd"}
    pieces = stream([*cut, *tokenizer.encode("On")])
    assert "".join(pieces).endswith("On") and "\ufffd" in "".join(pieces)


def test_regions_read_as_brackets(
    stream: Callable[[Sequence[int]], list[str]], tokenizer: Tokenizer
) -> None:
    tokens = [
        *tokenizer.encode("icon "),
        BOX, *(LOC + v for v in (1, 20, 300, 1000)), BOX_END,
        *tokenizer.encode(", 設"), POINT, LOC + 0, LOC + 7, POINT_END,
    ]  # fmt: skip
    pieces = stream(tokens)
    assert "".join(pieces) == "icon [1, 20, 300, 1000], 設[0, 7]"
    assert {"[1", ", 20", ", 300"} <= set(pieces) or "[" in pieces


def test_other_special_tokens_and_unknown_ids_are_silent(
    stream: Callable[[Sequence[int]], list[str]], tokenizer: Tokenizer
) -> None:
    tokens = [USER, *tokenizer.encode("On"), IMAGE, 2, 3, 5000]
    assert "".join(stream(tokens)) == "On"
