"""What `compose` joins: encoders in three layouts, and a decoder's vocabulary."""

import dataclasses
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from composing import (
    VISION,
    clip_folder,
    evaluated,
    llama_folder,
    logits,
    made,
    open_clip_weights,
    plain_tokenizer,
    timm_weights,
    write,
)

from mm15_mlx import load
from mm15_mlx.config import ConfigError, VisionConfig
from mm15_mlx.convert import parts
from mm15_mlx.convert.parts import open_encoder
from mm15_mlx.convert.rules import apply_rules
from mm15_mlx.convert.vocabulary import read_vocabulary
from mm15_mlx.encoder import Encoder
from mm15_mlx.tokenizer import Tokenizer

# --- encoders -----------------------------------------------------------------------


def open_clip(folder: Path) -> None:
    (folder / "open_clip_config.json").write_text(json.dumps({
        "model_cfg": {
            "quick_gelu": True, "embed_dim": 8, "text_cfg": {},
            "vision_cfg": {
                "image_size": 56, "layers": 2, "width": 64, "head_width": 64,
                "patch_size": 14, "mlp_ratio": 1.5,
            },
        },
        "preprocess_cfg": {"mean": [0.4, 0.4, 0.4], "std": [0.2, 0.2, 0.2]},
    }))  # fmt: skip


def test_open_clip_layout(tmp_path: Path) -> None:
    mx.random.seed(3)
    encoder = Encoder(VISION)
    write(tmp_path, open_clip_weights(encoder), {}, "mit")
    with pytest.raises(
        ConfigError, match="has tensors of open_clip and no open_clip_c"
    ):
        open_encoder(str(tmp_path))
    open_clip(tmp_path)
    same_weights(str(tmp_path / "model.safetensors"), encoder, (0.4, 0.2), VISION)
    text = (tmp_path / "open_clip_config.json").read_text()
    (tmp_path / "open_clip_config.json").write_text(text.replace("width", "w"))
    with pytest.raises(ConfigError, match="only a plain ViT of"):
        open_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("architecture", "tag", "act"),
    [
        ("vit_base_patch14_clip_56", "dfn5b", "quick_gelu"),
        ("vit_base_patch14_clip_quickgelu_56", "x", "quick_gelu"),
        ("vit_base_patch14_clip_56", "laion2b", "gelu"),
    ],
)
def test_timm_layout(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    tag: str,
    act: str,
) -> None:
    monkeypatch.setitem(parts.TIMM_HEADS, "base", 1)  # none of theirs is so small
    mx.random.seed(3)
    encoder = Encoder(VISION)
    config = {
        "architecture": architecture,
        "pretrained_cfg": {"tag": tag, "mean": [0.4] * 3, "std": [0.2] * 3},
    }
    write(tmp_path, timm_weights(encoder), config, "mit")
    expected = dataclasses.replace(VISION, hidden_act=act)
    same_weights(str(tmp_path), encoder, (0.4, 0.2), expected)


def same_weights(
    name: str, encoder: Encoder, pixels: tuple[float, float], config: VisionConfig
) -> None:
    vision, part = open_encoder(name)
    mean, std = pixels
    expected = dataclasses.replace(config, image_mean=(mean,) * 3, image_std=(std,) * 3)
    assert vision == expected
    held = {f"encoder.{n}": a for n, a in evaluated(encoder).items()}
    tensors = {n: part.read(n) for n in part.tensors}
    got = apply_rules(tensors, part.rules, {n: a.shape for n, a in held.items()})
    assert all(np.array_equal(np.array(got[n]), np.array(a)) for n, a in held.items())


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_pixels_of_a_clip(file: str, tmp_path: Path) -> None:
    clip_folder(tmp_path)
    held = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5] * 3}
    nested = {"image_processor": held} if file.startswith("processor") else held
    (tmp_path / file).write_text(json.dumps(nested))
    vision, _ = open_encoder(str(tmp_path))
    assert vision.image_mean == (0.1, 0.2, 0.3) and vision.image_std == (0.5,) * 3


def test_encoders_that_cannot_be_taken(tmp_path: Path, ui_folder: Path) -> None:
    with pytest.raises(
        ConfigError, match="model_type 'mm15'; encoders that can be tak"
    ):
        open_encoder(str(ui_folder))
    mx.random.seed(3)
    config = {"architecture": "vit_so400m_patch14_siglip_384"}
    write(tmp_path / "a", timm_weights(Encoder(VISION)), config, "mit")
    with pytest.raises(
        ConfigError, match="has the architecture 'vit_so400m_patch14_si"
    ):
        open_encoder(str(tmp_path / "a"))
    weights = {"patch_embed.proj.weight": mx.zeros((4, 3, 14, 14))}
    config = {"architecture": "vit_base_patch14_clip_224"}
    write(tmp_path / "b", weights, config, "mit")
    with pytest.raises(
        ConfigError, match="lacks timm's tensors pos_embed and blocks.0"
    ):
        open_encoder(str(tmp_path / "b"))
    clip_folder(tmp_path / "c")
    (tmp_path / "c/preprocessor_config.json").write_text('{"image_mean": [0.5]}')
    with pytest.raises(
        ConfigError, match=r"image_mean is \[0.5\]; it must be of three"
    ):
        open_encoder(str(tmp_path / "c"))


# --- the vocabulary -----------------------------------------------------------------


def test_tokens_are_added_to_sentencepiece(tmp_path: Path) -> None:
    """Five more than its 300; the table has 1400 rows, so that it need not grow."""
    own = llama_folder(tmp_path / "llama", plain_tokenizer())
    clip_folder(tmp_path / "clip")
    made(tmp_path / "clip", tmp_path / "llama", tmp_path / "out")
    model, processor = load(tmp_path / "out")
    config = model.config
    assert config.text_config.vocab_size == 1400 and config.prompt.bos == "<s>"
    assert (config.prompt.image_token, config.prompt.image_token_id) == (
        "<|image|>", 300
    )  # fmt: skip
    before, after = Tokenizer(tmp_path / "llama/tokenizer.model"), processor.tokenizer
    assert after.vocab_size == 305 and after.special("<|end|>") == 304
    text = "one two <|end|> three"
    assert after.encode(text) == before.encode(text)  # text is never special
    table, old = model.decoder.embed_tokens.weight, own.embed_tokens.weight
    assert np.array_equal(np.array(table[:300]), np.array(old[:300]))
    assert np.array_equal(np.array(table[305:]), np.array(old[305:]))
    new, mean = np.array(table[300:305]), np.array(old[:300].mean(axis=0))
    assert len({row.tobytes() for row in new}) == 5
    off = np.abs(new - mean).mean() / np.array(old[:300]).std(axis=0).mean()
    assert 0.04 < off < 0.2  # a tenth of the deviation, more or less
    # The head is a table too, with a noise of its own.
    assert not np.array_equal(np.array(model.decoder.lm_head.weight[300]), new[0])
    ids = processor.prepare("one two").ids
    known = [i for i in ids if i < 300]
    got, expected = logits(model.decoder, known), logits(own, known)
    np.testing.assert_allclose(got[..., :300], expected[..., :300], atol=1e-5)


def tokenizer_json(path: Path, special: list[str]) -> Path:
    pytest.importorskip("tokenizers")
    words = {w: i for i, w in enumerate("a b c d e".split())}
    added = [
        {"id": 5 + i, "content": t, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False, "special": True}
        for i, t in enumerate(special)
    ]  # fmt: skip
    data = {
        "version": "1.0", "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None,
        "decoder": None, "truncation": None, "padding": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "a"},
    }  # fmt: skip
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize(
    ("special", "start", "stop", "added", "reserved"),
    [
        (["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "<|im_start|>user\n",
         ("<|im_end|>", "<|endoftext|>"), 1, 0),
        (["<|im_start|>", "<|im_end|>", "<|image|>"], "<|im_start|>user\n",
         ("<|im_end|>",), 0, 0),
        (["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
          "<|reserved_special_token_0|>"],
         "<|start_header_id|>user<|end_header_id|>\n\n", ("<|eot_id|>",), 0, 1),
        (["<bos>", "<start_of_turn>", "<end_of_turn>", "<unused7>"],
         "<start_of_turn>user\n", ("<end_of_turn>",), 0, 1),
        (["<s>", "<|user|>", "<|assistant|>", "<|end|>"], "<|user|>\n", ("<|end|>",),
         1, 0),
        (["<s>", "[control_8]", "[control_9]"], "[control_9]", ("<|end|>",), 3, 2),
    ],
    ids=["chatml", "its own image", "llama 3", "gemma", "phi-3", "mistral"],
)  # fmt: skip
def test_chats_are_kept(
    tmp_path: Path, special: list[str], start: str, stop: tuple, added: int,
    reserved: int,
) -> None:  # fmt: skip
    words = read_vocabulary(tokenizer_json(tmp_path / "tokenizer.json", special))
    assert (words.prompt.user_start, words.prompt.stop) == (start, stop)
    assert (len(words.added), len(words.reserved)) == (added, reserved)
    assert len(words.fresh) == added + reserved
    assert words.prompt.tile_text == "({k}, {i}, {j})" and not words.prompt.system
    (tmp_path / "tokenizer.json").write_bytes(words.content)
    tokenizer = Tokenizer(tmp_path / "tokenizer.json")
    prompt = words.prompt
    assert tokenizer.special(prompt.image_token) == prompt.image_token_id
    assert tokenizer.vocab_size == words.size == words.known + added
    assert all(map(tokenizer.special, prompt.stop))
