"""Ids of questions about pictures, against transformers' processors.

Both sides use one tokenizer, trained here; ids must be the same.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mm15_mlx.config import PRESETS, PromptConfig, TilingConfig
from mm15_mlx.processor import Processor
from mm15_mlx.templates import TEMPLATES
from mm15_mlx.tokenizer import TOKENIZER_JSON, Tokenizer

from .processors import (
    GotOcr2ImageProcessorPil,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    InternVLProcessor,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
)

tokenizers = pytest.importorskip("tokenizers")
pytestmark = pytest.mark.parity

TILE, SIDE = 56, 4
PINPOINTS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
SIZES = [(60, 60), (50, 130), (400, 90), (9, 4)]
ASKED = ["What is on?", " 設定 🙂 a\n\nb", "<fake> it's  2 tokens "]


def trained(special: list[str]) -> Any:
    """Byte-level, with Llama 3's way of splitting words: line breaks go together."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    parts = tokenizers.pre_tokenizers
    pattern = (
        r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    )
    made.pre_tokenizer = parts.Sequence([
        parts.Split(tokenizers.Regex(pattern), "isolated"),
        parts.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    made.decoder = tokenizers.decoders.ByteLevel()
    lines = ["User: What is on?\n\nAssistant: It's on.\n", "the row col 設定 tokens"]
    made.train_from_iterator(
        lines * 20,
        tokenizers.trainers.BpeTrainer(
            vocab_size=380, show_progress=False,
            initial_alphabet=parts.ByteLevel.alphabet(),
        ),
    )  # fmt: skip
    made.add_special_tokens(special)
    return made


def with_llama_s_spaces(special: list[str]) -> Any:
    """Llama 2's and Mistral's way: `▁` for a space and before every text, and bytes for
    what is not in the vocabulary."""
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(unk_token="<unk>", byte_fallback=True)
    )
    parts = tokenizers.normalizers
    made.normalizer = parts.Sequence([parts.Prepend("▁"), parts.Replace(" ", "▁")])
    names = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    made.train_from_iterator(
        ["[INST] What is on? [/INST] It is."] * 20,
        tokenizers.trainers.BpeTrainer(
            vocab_size=330, show_progress=False, special_tokens=names
        ),
    )
    content = json.loads(made.to_str())
    kept = [t for t in content["added_tokens"] if t["content"][:3] != "<0x"]
    made = tokenizers.Tokenizer.from_str(json.dumps(content | {"added_tokens": kept}))
    made.add_special_tokens(special)
    return made


def both(made: Any, folder: Path, **names: Any) -> tuple[Tokenizer, Any]:
    made.save(str(folder / TOKENIZER_JSON))
    theirs = PreTrainedTokenizerFast(tokenizer_object=made, **names)
    return Tokenizer(folder / TOKENIZER_JSON), theirs


def processor(prompt: PromptConfig, tiling: TilingConfig, ours: Tokenizer) -> Processor:
    nano = PRESETS["nano-ui"]
    config = dataclasses.replace(
        nano,
        prompt=dataclasses.replace(
            prompt, image_token_id=ours.special(prompt.image_token)
        ),
        tiling=tiling,
        vision_config=dataclasses.replace(
            nano.vision_config, patch_size=14, image_size=TILE
        ),
        connector_config=dataclasses.replace(
            nano.connector_config, num_visual_tokens=SIDE**2
        ),
        coordinates=dataclasses.replace(
            nano.coordinates, format="digits", frame="picture", per_tile=0
        ),
    )
    return Processor(config, ours)


def ask(text: str) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}
    ]


def ids_of_idefics3(
    special: list[str], family: str, size: tuple[int, int], text: str, folder: Path
) -> tuple[list[int], list[int]]:
    """Ours and the processor's, of one question about a picture. special: of the
    vocabulary, the first begins a chat."""
    ours, theirs = both(trained(special), folder)
    tiling = TilingConfig(
        tile_size=TILE, policy="longest_edge", longest_edge=3 * TILE,
        resample="lanczos",
    )  # fmt: skip
    reference = Idefics3Processor(
        Idefics3ImageProcessorPil(
            size={"longest_edge": 3 * TILE}, max_image_size={"longest_edge": TILE}
        ),
        theirs, image_seq_len=SIDE**2,
    )  # fmt: skip
    image = Image.new("RGB", size)
    chat = f"{special[0]}User:<image>{text}<end_of_utterance>\nAssistant:"
    expected = reference(images=[image], text=chat)["input_ids"][0]
    made = processor(TEMPLATES[family], tiling, ours).prepare(ask(text), [image])
    return made.ids, expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ASKED)
def test_idefics3(size: tuple[int, int], text: str, tmp_path: Path) -> None:
    special = [
        "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>",
        "<global-img>", *(f"<row_{r}_col_{c}>" for r in (1, 2, 3) for c in (1, 2)),
    ]  # fmt: skip
    made, expected = ids_of_idefics3(special, "smolvlm", size, text, tmp_path)
    assert made == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ASKED)
def test_internvl(size: tuple[int, int], text: str, tmp_path: Path) -> None:
    names = {
        "start_image_token": "<img>", "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>",
    }  # fmt: skip
    special = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", *names.values()]
    ours, theirs = both(trained(special), tmp_path, extra_special_tokens=names)
    tiling = TilingConfig(
        tile_size=TILE, policy="aspect", n_min=1, n_max=12, indicator="none"
    )
    images = GotOcr2ImageProcessorPil(
        size={"height": TILE, "width": TILE}, crop_to_patches=True, max_patches=12
    )
    reference = InternVLProcessor.__new__(InternVLProcessor)
    reference.image_seq_length = SIDE**2
    reference.start_image_token, reference.end_image_token = "<img>", "</img>"
    reference.image_token = "<IMG_CONTEXT>"
    image = Image.new("RGB", size)
    counted = images([image])
    placeholder = InternVLProcessor.replace_image_token(reference, counted, 0)
    prompt = dataclasses.replace(TEMPLATES["internvl2_5"], system="You see.")
    chat = (
        f"<|im_start|>system\nYou see.<|im_end|>\n<|im_start|>user\n{placeholder}\n"
        f"{text}<|im_end|>\n<|im_start|>assistant\n"
    )
    expected = theirs(chat)["input_ids"]
    assert processor(prompt, tiling, ours).prepare(ask(text), [image]).ids == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ["What is on?", "設定 a\n\nb"])
def test_llava_next(size: tuple[int, int], text: str, tmp_path: Path) -> None:
    """With Mistral's kind of tokenizer, which adds `<s>` by itself."""
    made = with_llama_s_spaces(["<image>"])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    ours, theirs = both(made, tmp_path)
    tiling = TilingConfig(
        tile_size=TILE, policy="pinpoints", pinpoints=PINPOINTS, pad_side="center",
        overview="before", indicator="none", merge="spatial_unpad",
    )  # fmt: skip
    reference = LlavaNextProcessor(
        LlavaNextImageProcessorPil(
            size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE},
            image_grid_pinpoints=[[r * TILE, c * TILE] for r, c in PINPOINTS],
        ),
        theirs, patch_size=TILE // SIDE, vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )  # fmt: skip
    image = Image.new("RGB", size)
    expected = reference(images=[image], text=f"[INST] <image>\n{text} [/INST]")
    prompt = dataclasses.replace(TEMPLATES["mistral_instruct"], image_token="<image>")
    prepared = processor(prompt, tiling, ours).prepare(ask(text), [image])
    assert prepared.ids == expected["input_ids"][0]
    assert prepared.images[0].tokens == prepared.ids.count(ours.special("<image>"))
