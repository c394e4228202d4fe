"""GGUF files written by hand, from the format's definition: for tests."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8}
SIZES = {
    "embedding_length": 64, "feed_forward_length": 96, "block_count": 2,
    "attention.head_count": 4, "attention.head_count_kv": 2, "context_length": 512,
    "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 5e4,
}  # fmt: skip
VOCABULARY = 96


def quantised(x: np.ndarray, kind: str) -> tuple[bytes, np.ndarray]:
    """An array's bytes in a file, and the numbers that they stand for."""
    if kind in ("F32", "F16"):
        stored = x.astype("<f4" if kind == "F32" else "<f2")
        return stored.tobytes(), stored.astype(np.float32)
    blocks = x.reshape(-1, 32).astype(np.float32)
    low, high = blocks.min(1), blocks.max(1)
    widest = np.maximum(-low, high)
    d = {"Q4_0": widest / 7, "Q4_1": (high - low) / 15, "Q8_0": widest / 127}[kind]
    d = np.maximum(d, 1e-6).astype("<f2")
    m = low.astype("<f2") if kind == "Q4_1" else np.zeros_like(d)
    scale, offset = d.astype(np.float32)[:, None], m.astype(np.float32)[:, None]
    q = np.round((blocks - offset) / scale)
    if kind == "Q8_0":
        q = np.clip(q, -128, 127).astype(np.int8)
        data = [d[i].tobytes() + q[i].tobytes() for i in range(len(q))]
        return b"".join(data), (q * scale).reshape(x.shape)
    shift = 8 if kind == "Q4_0" else 0
    q = np.clip(q + shift, 0, 15).astype(np.uint8)
    halves = q[:, :16] | q[:, 16:] << 4  # number i low, number i + 16 high
    heads = [d[i].tobytes() + m[i].tobytes() * (kind == "Q4_1") for i in range(len(q))]
    data = [h + row.tobytes() for h, row in zip(heads, halves, strict=True)]
    values = (q.astype(np.float32) - shift) * scale + offset
    return b"".join(data), values.reshape(x.shape)


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(x: Any) -> bytes:
    if isinstance(x, str):
        return struct.pack("<I", 8) + string(x)
    if isinstance(x, float):
        return struct.pack("<If", 6, x)
    if isinstance(x, list):
        if x and isinstance(x[0], str):
            return struct.pack("<IIQ", 9, 8, len(x)) + b"".join(map(string, x))
        return struct.pack(f"<IIQ{len(x)}i", 9, 5, len(x), *x)
    return struct.pack("<II", 4, x)


def header(
    metadata: dict[str, Any],
    infos: list[tuple[str, tuple[int, ...], int, int]],
    version: int = 3,
) -> bytes:
    """`infos` are name, shape, number of the type, offset."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(infos), len(metadata))
    out += b"".join(string(k) + value(v) for k, v in metadata.items())
    for name, shape, kind, offset in infos:
        axes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        out += string(name) + axes + struct.pack("<IQ", kind, offset)
    return out + bytes(-len(out) % 32)


def write_gguf(
    path: Path, metadata: dict[str, Any], tensors: dict[str, tuple[np.ndarray, str]]
) -> dict[str, np.ndarray]:
    """Writes the file; returns the numbers that stand in it."""
    infos, data, values = [], b"", {}
    for name, (array, kind) in tensors.items():
        stored, values[name] = quantised(array, kind)
        infos.append((name, array.shape, TYPES[kind], len(data)))
        data += stored + bytes(-len(stored) % 32)
    path.write_bytes(header(metadata, infos) + data)
    return values


def metadata(family: str, **other: Any) -> dict[str, Any]:
    named = {f"{family}.{k}": v for k, v in SIZES.items()}
    tokens = {"tokenizer.ggml.tokens": ["a", "b"], "tokenizer.ggml.token_type": [1, 1]}
    general = {"general.architecture": family, "general.license": "apache-2.0"}
    return general | named | tokens | other


def decoder_tensors(
    family: str, kind: str, vocabulary: int = VOCABULARY
) -> dict[str, tuple[np.ndarray, str]]:
    """A tiny decoder's weights under llama.cpp's names; tied where it is Gemma."""
    rng = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> tuple[np.ndarray, str]:
        return rng.normal(0, columns**-0.5, (rows, columns)), kind

    def vector(size: int, mean: float = 1.0) -> tuple[np.ndarray, str]:
        return rng.normal(mean, 0.1, (size,)), "F32"

    d, wide, q, k = 64, 96, 64, 32
    made = {
        "token_embd.weight": matrix(vocabulary, d), "output_norm.weight": vector(d)
    }  # fmt: skip
    if family != "gemma":
        made["output.weight"] = matrix(vocabulary, d)
    for i in range(2):
        layer = {
            "attn_norm": vector(d), "ffn_norm": vector(d), "attn_q": matrix(q, d),
            "attn_k": matrix(k, d), "attn_v": matrix(k, d),
            "attn_output": matrix(d, q), "ffn_gate": matrix(wide, d),
            "ffn_up": matrix(wide, d), "ffn_down": matrix(d, wide),
        }  # fmt: skip
        if family == "qwen3":
            layer |= {"attn_q_norm": vector(16), "attn_k_norm": vector(16)}
        made |= {f"blk.{i}.{n}.weight": a for n, a in layer.items()}
        if family == "qwen2":
            biases = {"attn_q": q, "attn_k": k, "attn_v": k}
            made |= {f"blk.{i}.{n}.bias": vector(s, 0.0) for n, s in biases.items()}
    return made
