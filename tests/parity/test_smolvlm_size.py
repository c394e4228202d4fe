"""Random weights of SmolVLM-256M's published size, converted and run: takes minutes.

Names and shapes are those of transformers' class, built without memory; no PyTorch
tensor is made.
"""

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlx.utils import tree_flatten
from PIL import Image

from mm15_mlx import generate, load
from mm15_mlx.convert import run

from .test_prompt_parity import trained

transformers = pytest.importorskip("transformers")

VOCABULARY, PARAMETERS = 49280, 256_484_928
SHARD = 200_000_000  # bytes, so that there are three
ROWS = [f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)]
SPECIAL = [
    "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>",
    "<image>", *ROWS,
]  # fmt: skip
TEXT: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "head_dim": 64, "vocab_size": VOCABULARY, "max_position_embeddings": 8192,
    "rope_theta": 100_000, "rms_norm_eps": 1e-5,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
}  # fmt: skip
Shapes = dict[str, tuple[int, ...]]


def shards(shapes: Shapes) -> Iterator[Shapes]:
    """In the order of names, each of at most SHARD bytes where a tensor allows it."""
    shard: Shapes = {}
    for name, shape in sorted(shapes.items()):
        held = sum(2 * math.prod(s) for s in shard.values())
        if shard and held + 2 * math.prod(shape) > SHARD:
            yield shard
            shard = {}
        shard[name] = shape
    yield shard


def write_shard(path: Path, shapes: Shapes, rng: np.random.Generator) -> None:
    """bfloat16 of deviation 0.02, a tensor at a time; norms are about 1."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {
            "dtype": "BF16", "shape": shape, "data_offsets": [begin, end]
        }  # fmt: skip
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = 0.02 * rng.standard_normal(math.prod(shape), np.float32)
            values += "norm" in name and name.endswith("weight")
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


@pytest.mark.slow
def test_smolvlm_256m(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    tokenizer = trained(SPECIAL)
    image_id = tokenizer.token_to_id("<image>")
    config = transformers.SmolVLMConfig(
        vision_config=VISION, text_config=TEXT, scale_factor=4,
        image_token_id=image_id, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = transformers.SmolVLMForConditionalGeneration(config)
    shapes = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    assert sum(map(math.prod, shapes.values())) == PARAMETERS
    config.save_pretrained(source)
    tokenizer.save(str(source / "tokenizer.json"))
    settings = {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}}
    (source / "preprocessor_config.json").write_text(json.dumps(settings))
    rng, index, written = np.random.default_rng(0), {}, list(shards(shapes))
    for number, shard in enumerate(written, 1):
        name = f"model-{number:05}-of-{len(written):05}.safetensors"
        write_shard(source / name, shard, rng)
        index |= dict.fromkeys(shard, name)
    assert len(written) > 2
    whole = {"metadata": {"total_size": 2 * PARAMETERS}, "weight_map": index}
    (source / "model.safetensors.index.json").write_text(json.dumps(whole))

    said: list[str] = []
    begin = time.perf_counter()
    run.convert(source, out, name="owner/smolvlm-256m", say=said.append)
    taken = time.perf_counter() - begin
    assert any(line.startswith("proof ") for line in said)
    made, processor = load(out)
    held = sum(array.size for _, array in tree_flatten(made.parameters()))
    assert held == PARAMETERS
    picture = Image.new("RGB", (1024, 256), "white")  # four tiles and the overview
    result = generate(made, processor, "What is on?", [picture], max_tokens=2)
    assert len(result.tokens) == 2 and result.image_tokens == 5 * 64
    with capsys.disabled():
        print(
            "\n".join(["", *said, f"converted in {taken:.0f} s", f"{result.timings}"])
        )
