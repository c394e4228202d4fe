"""Ids of the families' published prompts, against one run of the same tokenizer.

Where transformers has a processor, it is asked; elsewhere the text as the family's own
code writes it is tokenised as that code does. In every text <image> is the picture.
"""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from PIL import Image

from mm15_mlx.config import TilingConfig
from mm15_mlx.templates import TEMPLATES

from .processors import (
    LlavaImageProcessorPil,
    LlavaProcessor,
)
from .test_prompt_parity import (
    ASKED,
    PINPOINTS,
    SIDE,
    SIZES,
    TILE,
    ask,
    both,
    ids_of_idefics3,
    processor,
    trained,
    with_llama_s_spaces,
)

pytestmark = pytest.mark.parity

WHOLE = TilingConfig(
    tile_size=TILE, policy="squash", overview="none", indicator="none", n_min=1
)
VICUNA = (
    "A chat between a curious human and an artificial intelligence assistant. The "
    "assistant gives helpful, detailed, and polite answers to the human's questions. "
)
FERRET = (
    "A chat between a human and an AI that understands visuals. In images, [x, y] "
    "denotes points: top-left [0, 0], bottom-right [width-1, height-1]. Increasing x "
    "moves right; y moves down. Bounding box: [x1, y1, x2, y2]. Image size: 1000x1000. "
    "Follow instructions."
)
BEE = (
    "The following is a conversation between a curious human and AI assistant. The "
    "assistant gives helpful, detailed, and polite answers to the user's questions."
)
OS_ATLAS = (
    "你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
    "是一个有用无害的人工智能助手。"
)


def begun(made: Any, bos: str) -> Any:
    """A tokenizer that puts `bos` before every text, as Llama's and Gemma's do."""
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))]
    )
    return made


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ["What is on?", "設定 a\n\nb"])
def test_llava(size: tuple[int, int], text: str, tmp_path: Path) -> None:
    made = begun(with_llama_s_spaces(["<image>"]), "<s>")
    ours, theirs = both(made, tmp_path)
    reference = LlavaProcessor(
        LlavaImageProcessorPil(
            size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE},
            do_pad=True,
        ),
        theirs, patch_size=TILE // SIDE, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip
    image = Image.new("RGB", size)
    chat = f"{VICUNA}USER: <image>\n{text} ASSISTANT:"
    expected = reference(images=[image], text=chat)["input_ids"][0]
    prompt = dataclasses.replace(TEMPLATES["llava_v1"], image_token="<image>")
    tiling = dataclasses.replace(WHOLE, policy="pad_square")
    assert processor(prompt, tiling, ours).prepare(ask(text), [image]).ids == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ASKED)
def test_idefics3_8b(size: tuple[int, int], text: str, tmp_path: Path) -> None:
    """Llama 3's vocabulary has no row and column tokens: they are written as text."""
    special = [
        "<|begin_of_text|>", "<end_of_utterance>", "<fake_token_around_image>",
        "<image>",
    ]  # fmt: skip
    made, expected = ids_of_idefics3(special, "idefics3", size, text, tmp_path)
    assert made == expected


# --- the families' own code ---------------------------------------------------------


def pieces_of_llava(theirs: Any, chat: str, image_id: int, count: int) -> list[int]:
    """LLaVA's `tokenizer_image_token`: every piece by itself, the first id of all but
    the first left out, as the tokenizer puts its own before each."""
    first, *rest = [theirs(piece)["input_ids"] for piece in chat.split("<image>")]
    ids = list(first)
    for piece in rest:
        assert piece[0] == first[0]
        ids += [image_id] * count + piece[1:]
    return ids


FERRETS = {
    "ferret_gemma_instruct": (
        "<bos>",
        FERRET + "<start_of_turn>user\n<image>\n{text}<end_of_turn>\n"
        "<start_of_turn>model\n",
    ),
    "ferret_llama_3": (
        "<|begin_of_text|>",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n" + FERRET
        + "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n<image>\n{text}"
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
}  # fmt: skip
SPECIAL = (
    "<s> </s> <bos> <eos> <pad> <start_of_turn> <end_of_turn> <|begin_of_text|> "
    "<|start_header_id|> <|end_header_id|> <|eot_id|> <|end_of_text|> "
    "<|reserved_special_token_0|>"
).split()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ASKED)
@pytest.mark.parametrize("name", FERRETS)
def test_ferret_ui(name: str, size: tuple[int, int], text: str, tmp_path: Path) -> None:
    bos, chat = FERRETS[name]
    ours, theirs = both(begun(trained(SPECIAL), bos), tmp_path)
    tiling = TilingConfig(
        tile_size=TILE, policy="pinpoints", pinpoints=PINPOINTS, pad_side="none",
        overview="before", indicator="none", merge="spatial",
    )  # fmt: skip
    made = processor(TEMPLATES[name], tiling, ours)
    image = Image.new("RGB", size)
    prepared = made.prepare(ask(text), [image])
    count = prepared.images[0].tokens
    assert count % SIDE**2 == 0 and count > SIDE**2
    image_id = ours.special(TEMPLATES[name].image_token)
    written = chat.replace("{text}", text)
    assert prepared.ids == pieces_of_llava(theirs, written, image_id, count)


@pytest.mark.parametrize("text", ["What is on?", "設定 a\n\nb"])
def test_llava_s_own_code(text: str, tmp_path: Path) -> None:
    """Its picture breaks the text, so that the next piece begins with a space."""
    ours, theirs = both(begun(with_llama_s_spaces([]), "<s>"), tmp_path)
    tiling = dataclasses.replace(WHOLE, policy="pad_square")
    chat = f"{VICUNA}USER: <image>\n{text} ASSISTANT:"
    made = processor(TEMPLATES["llava_v1"], tiling, ours)
    prepared = made.prepare(ask(text), [Image.new("RGB", (60, 60))])
    image_id = ours.special("<unk>")
    assert prepared.ids == pieces_of_llava(theirs, chat, image_id, SIDE**2)


@pytest.mark.parametrize("text", ["What is on?", "設定 a\n\nb"])
def test_honeybee(text: str, tmp_path: Path) -> None:
    """Its code splits at the picture and at both roles, which are chunks themselves,
    and tokenises every chunk alone."""
    ours, theirs = both(with_llama_s_spaces([]), tmp_path)
    chunks = [BEE, "\nHuman: ", "<image>", "\nHuman: ", text, "\nAI: "]
    expected = [ours.special("<s>")]
    for chunk in chunks:
        if chunk == "<image>":
            expected += [ours.special("<unk>")] * SIDE**2
        else:
            expected += theirs(chunk, add_special_tokens=False)["input_ids"]
    made = processor(TEMPLATES["honeybee"], WHOLE, ours)
    prepared = made.prepare(ask(text), [Image.new("RGB", (60, 60))])
    assert prepared.ids == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ASKED)
def test_os_atlas(size: tuple[int, int], text: str, tmp_path: Path) -> None:
    """Phi-3's tokens take the whitespace after them."""
    roles = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    special = ["<s>", "<|endoftext|>", "<img>", "</img>", "<IMG_CONTEXT>"]
    vocabulary = trained(special)
    vocabulary.add_special_tokens(
        [tokenizers.AddedToken(role, rstrip=True, normalized=False) for role in roles]
    )
    ours, theirs = both(begun(vocabulary, "<s>"), tmp_path)
    tiling = TilingConfig(
        tile_size=TILE, policy="aspect", n_min=1, n_max=6, indicator="none"
    )
    made = processor(TEMPLATES["phi3-chat"], tiling, ours)
    image = Image.new("RGB", size)
    prepared = made.prepare(ask(text), [image])
    views = len(prepared.images[0].tiling.indices)
    picture = "<img>" + "<IMG_CONTEXT>" * (SIDE**2 * views) + "</img>"
    chat = (
        f"<|system|>\n{OS_ATLAS}<|end|><|user|>\n{picture}\n{text}<|end|>"
        "<|assistant|>\n"
    )
    assert prepared.ids == theirs(chat)["input_ids"]
    assert ours.strips(ours.special("<|end|>")) == (False, True)
