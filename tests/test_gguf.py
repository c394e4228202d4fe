"""GGUF files: the same numbers as their blocks stand for, and errors of one line."""

import struct
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from gguf_files import VOCABULARY, decoder_tensors, header, metadata, write_gguf
from mlx.utils import tree_flatten

from mm15_mlx.checkpoint import Stored, WeightsError
from mm15_mlx.config import ConfigError, TextConfig
from mm15_mlx.convert.gguf import Gguf, open_gguf
from mm15_mlx.convert.gguf_decoders import gguf_config, gguf_rules
from mm15_mlx.decoder import Decoder
from mm15_mlx.rope import RopeScaling, rope_periods
from mm15_mlx.weights import quantize_like

FAMILIES = ("llama", "qwen2", "qwen3", "gemma")
KINDS = ("F32", "F16", "Q4_0", "Q4_1", "Q8_0")


class Holder(nn.Module):
    def __init__(self, text: TextConfig) -> None:
        super().__init__()
        self.decoder = Decoder(text)


def packed(gguf: Gguf, text: TextConfig) -> Decoder:
    """The decoder with the file's own layers, floats as float32, as they are loaded."""
    made = {}
    for name in gguf.placeholders():
        (rule,) = [r for r in gguf_rules(gguf, text) if r.targets(name) is not None]
        (target,) = rule.targets(name) or ()
        (array,) = rule.apply(gguf.read(name), 1)
        floating = mx.issubdtype(array.dtype, mx.floating)
        made[target] = array.astype(mx.float32) if floating else array
    holder = Holder(text)
    stored = {n: Stored("F16" if n.endswith("s") else "U32", a.shape)
              for n, a in made.items()}  # fmt: skip
    assert quantize_like(holder, stored) == []
    holder.load_weights(list(made.items()))
    return holder.decoder


def reference(
    text: TextConfig, values: dict[str, np.ndarray], permuted: bool
) -> Decoder:
    """A float decoder of the numbers in the file, renamed independently."""
    theirs = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v",
        "o_proj": "attn_output", "q_norm": "attn_q_norm", "k_norm": "attn_k_norm",
        "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
        "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output",
    }  # fmt: skip
    decoder = Decoder(text)
    weights = []
    for name, array in tree_flatten(decoder.parameters()):
        *path, module, last = name.split(".")
        block = f"blk.{path[1]}." if path else ""
        x = values[f"{block}{theirs[module]}.{last}"]
        if permuted and module in ("q_proj", "k_proj"):
            # Rows 0, 2, 4, … of a head in the file are its first half.
            heads = x.reshape(-1, text.head_dim, *x.shape[1:])
            x = np.concatenate([heads[:, ::2], heads[:, 1::2]], axis=1).reshape(x.shape)
        assert x.shape == array.shape
        weights.append((name, mx.array(x.astype(np.float32))))
    decoder.load_weights(weights)
    return decoder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_numbers_in_the_file(
    tmp_path: Path, family: str, kind: str
) -> None:
    path = tmp_path / "a.gguf"
    values = write_gguf(path, metadata(family), decoder_tensors(family, kind))
    gguf = open_gguf(path)
    text = gguf_config(gguf)
    assert (text.head_dim, text.num_key_value_heads) == (16, 2)
    assert (text.rope_theta, text.max_position_embeddings) == (5e4, 512)
    assert text.tie_word_embeddings == (family == "gemma")
    ids = mx.array(np.random.default_rng(1).integers(0, VOCABULARY, (2, 17)))
    got, expected = (
        d.logits(d(ids))
        for d in (packed(gguf, text), reference(text, values, family == "llama"))
    )
    unit = float(mx.abs(expected).max())
    assert float(mx.abs(got - expected).max()) / unit < 1e-5


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
def test_values_are_equal(tmp_path: Path, kind: str) -> None:
    """Exactly: scale · q + bias in float32 has no rounding that the format has not."""
    x = np.random.default_rng(0).normal(0, 3, (6, 64))
    values = write_gguf(tmp_path / "a.gguf", {}, {"w.weight": (x, kind)})
    gguf = open_gguf(tmp_path / "a.gguf")
    words, scales, biases = (
        gguf.read(f"w.{part}") for part in ("weight", "scales", "biases")
    )
    like = gguf.placeholders()
    assert [a.dtype for a in like.values()] == [mx.uint32, mx.float16, mx.float16]
    assert [a.shape for a in like.values()] == [
        a.shape for a in (words, scales, biases)
    ]
    bits = 8 if kind == "Q8_0" else 4
    scales, biases = scales.astype(mx.float32), biases.astype(mx.float32)
    got = np.array(mx.dequantize(words, scales, biases, 32, bits))
    np.testing.assert_array_equal(got, values["w.weight"])


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, metadata("llama"), decoder_tensors("llama", "Q8_0"))
    gguf = open_gguf(path)
    assert gguf.metadata["general.license"] == "apache-2.0"
    assert gguf.metadata["tokenizer.ggml.tokens"] is None  # passed, not kept
    # 96 · 64 twice, a norm, and twice: q, k, v, o, three of the MLP, two norms.
    assert gguf.parameters == 2 * 6144 + 64 + 2 * (2 * 4096 + 2 * 2048 + 3 * 6144 + 128)
    assert len(gguf.sha256()["a.gguf"]) == 64


def test_llama_3_positions(tmp_path: Path) -> None:
    """Its factors are found from the tensor that llama.cpp makes of them."""
    scaling = RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)
    factors = rope_periods(5e4, 16, scaling) / rope_periods(5e4, 16, RopeScaling())
    tensors = decoder_tensors("llama", "F32")
    tensors["rope_freqs.weight"] = (factors, "F32")
    write_gguf(tmp_path / "a.gguf", metadata("llama"), tensors)
    assert gguf_config(open_gguf(tmp_path / "a.gguf")).rope_scaling == scaling
    tensors["rope_freqs.weight"] = (factors[::-1].copy(), "F32")
    write_gguf(tmp_path / "b.gguf", metadata("llama"), tensors)
    with pytest.raises(ConfigError, match="rope_freqs.weight is not Llama 3's stretch"):
        gguf_config(open_gguf(tmp_path / "b.gguf"))


def test_linear_positions(tmp_path: Path) -> None:
    other = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    write_gguf(
        tmp_path / "a.gguf", metadata("llama", **other), decoder_tensors("llama", "F16")
    )
    text = gguf_config(open_gguf(tmp_path / "a.gguf"))
    assert text.rope_scaling == RopeScaling("linear", 4.0)


# --- files that are no good ---------------------------------------------------------

ONE = [("a.weight", (2, 32), 0, 0)]
DATA = bytes(256)
LONG = struct.pack("<Q", 1 << 62)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it does not begin with GGUF"),
        (b"PK\x03\x04" + DATA, "it does not begin with GGUF"),
        (b"GGUF\x03\x00", "its header is longer than the file"),
        (b"GGUF" + struct.pack(">I", 3) + DATA, "its version is 50331648, and little"),
        (header({}, ONE, version=1) + DATA, "its version is 1, and little-endian 2"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 0), "claims 1099511627776 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 99999), "claims 99999 values; at most 10"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + LONG, "header is longer than the fi"),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 77),
            "a value of its header has type 77",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k"
            + struct.pack("<II", 9, 9),
            "a value of its header has type 9, 9",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k"
            + struct.pack("<II", 9, 8) + LONG,
            "its header is longer than the file",
        ),
        (
            b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k"
            + struct.pack("<II", 9, 5) + LONG,
            "its header is longer than the file",
        ),
        (header({"general.alignment": 7}, ONE) + DATA, "general.alignment is 7"),
        (header({}, ONE), "a.weight overlaps another tensor or leaves the file"),
        (header({}, [("a", (2, 32), 0, 1 << 63)]) + DATA, "a overlaps another tensor"),
        (
            header({}, [*ONE, ("b", (2,), 0, 128)]) + DATA + DATA,
            "b overlaps another tensor or leaves the file",
        ),
        (
            header({}, [("a", (2,), 0, 0), ("a", (2,), 0, 32)]) + DATA,
            "a is there twice",
        ),
        (header({}, [("a\nb", (2,), 0, 0)]) + DATA, "it has a tensor named 'a\\nb'"),
        (header({}, [("a", (0, 2), 0, 0)]) + DATA, "a has the 2 sizes (2, 0)"),
        (header({}, [("a", (1 << 40,), 0, 0)]) + DATA, "a has the 1 sizes (10995116"),
        (header({}, [("a", (1,) * 9, 0, 0)]) + DATA, "a has the 9 sizes (1, 1, 1, 1"),
        (header({}, [("a.weight", (2, 16), 2, 0)]) + DATA, "rows of 16, no whole blo"),
        (header({}, [("a.bias", (32,), 2, 0)]) + DATA, "a.bias of the type Q4_0 is no"),
    ],
)  # fmt: skip
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        open_gguf(tmp_path / "a.gguf")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'a.gguf'} is no usable GGUF file: ")
    assert message in text and "\n" not in text and text.endswith("fetch it again")


def test_every_cut_of_a_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, metadata("llama"), {"a.weight": (np.ones((2, 32)), "Q8_0")})
    content = path.read_bytes()
    whole = len(content) - (-68 % 32)  # what follows the data may be missing
    for size in range(whole):
        path.write_bytes(content[:size])
        with pytest.raises(WeightsError, match="is no usable GGUF file"):
            open_gguf(path)


def test_other_types_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(header({}, [("a.weight", (2, 256), 14, 0)]) + bytes(2048))
    with pytest.raises(WeightsError, match=r"a\.weight has the type Q6_K; types that"):
        open_gguf(path)
    with pytest.raises(WeightsError, match="there is no GGUF file .*; check the path"):
        open_gguf(tmp_path / "b.gguf")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"general.architecture": "phi3"}, "has general.architecture 'phi3'; GGUF dec"),
        ({"llama.block_count": "two"}, "llama.block_count is 'two'; it must be one i"),
        ({"llama.block_count": [2, 2]}, "llama.block_count is None; it must be one i"),
        ({"llama.block_count": 2**32 - 1}, "is 4294967295; it must be 0 to 2147483647"),
        ({"llama.block_count": 3}, "block_count is 3, and there are tensors of 2 blo"),
        ({"llama.block_count": 2**31 - 1}, "and there are tensors of 2 blocks; a file"),
        ({"llama.embedding_length": 32}, "4 heads and embedding_length 32 do not fit"),
        ({"llama.attention.head_count": 0}, "0 heads and embedding_length 64 do not "),
        ({"llama.expert_count": 8}, "llama.expert_count is 8; this model can only"),
        ({"llama.rope.dimension_count": 8}, "llama.rope.dimension_count is 8; this mo"),
        ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.type is 'yarn'; this mode"),
    ],
)  # fmt: skip
def test_decoders_that_cannot_be_taken(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, metadata("llama", **changed), decoder_tensors("llama", "Q8_0"))
    with pytest.raises(ConfigError) as caught:
        gguf_config(open_gguf(path))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_no_decoder_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    write_gguf(path, metadata("llama"), {"a": (np.ones(3), "F32")})
    with pytest.raises(
        ConfigError, match="has no matrix token_embd.weight; it is no d"
    ):
        gguf_config(open_gguf(path))
