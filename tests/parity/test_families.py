"""Whole models of every family, saved by transformers, through `convert` to answers.

Logits in float32, to 1e-5 absolute; both sides see the pixels and the ids of our
processor, whose own parity is tested in test_family_pixels.py and test_family_ids.py.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from PIL import Image

from mm15_mlx import generate, load
from mm15_mlx.convert import run
from mm15_mlx.templates import TEMPLATES

from .conftest import Compare
from .processors import Idefics3ImageProcessorPil  # noqa: F401  (mends the stand-in)
from .references import randomise
from .test_prompt_parity import trained

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

TEXT: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 112,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 512, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "head_dim": 16,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 4, "image_size": 56, "patch_size": 14,
}  # fmt: skip
# Heights and widths of LLaVA-NeXT's tiles.
GRIDS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
# What decoders need beside TEXT.
MORE: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},
    "qwen3_moe": {
        "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 48,
        "norm_topk_prob": True,
    },
}  # fmt: skip
Inputs = Callable[[mx.array, Image.Image], dict[str, Any]]


def text_of(decoder: str) -> dict[str, Any]:
    """The configuration of a tiny decoder by its model_type."""
    return TEXT | {"model_type": decoder} | MORE.get(decoder, {})


def nchw(views: mx.array) -> torch.Tensor:
    return torch.from_numpy(np.array(views).transpose(0, 3, 1, 2).copy())


def idefics3(
    image_id: int, name: str = "Idefics3", vocabulary: int = TEXT["vocab_size"]
) -> tuple[Any, dict, Inputs]:
    config = getattr(transformers, f"{name}Config")(
        vision_config=VISION, text_config=TEXT | {"vocab_size": vocabulary},
        scale_factor=2, image_token_id=image_id, pad_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    pixels = {
        "size": {"longest_edge": 168}, "max_image_size": {"longest_edge": 56},
        "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
    }  # fmt: skip
    return model, pixels, lambda v, _: {"pixel_values": nchw(v)[None]}


def smolvlm(image_id: int) -> tuple[Any, dict, Inputs]:
    return idefics3(image_id, "SmolVLM")


def llava(image_id: int, tower: dict[str, Any] = VISION) -> tuple[Any, dict, Inputs]:
    config = transformers.LlavaConfig(
        vision_config=tower | {"model_type": "clip_vision_model"}, text_config=TEXT,
        image_token_index=image_id, image_seq_length=16, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlavaForConditionalGeneration(config)
    return model, {}, lambda v, _: {"pixel_values": nchw(v)}


def llava_next(
    image_id: int, decoder: str = "llama", tower: dict[str, Any] = VISION
) -> tuple[Any, dict, Inputs]:
    config = transformers.LlavaNextConfig(
        vision_config=tower | {"model_type": "clip_vision_model"},
        text_config=text_of(decoder), image_token_index=image_id,
        image_grid_pinpoints=GRIDS, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlavaNextForConditionalGeneration(config)

    def inputs(views: mx.array, picture: Image.Image) -> dict[str, Any]:
        size = torch.tensor([[picture.height, picture.width]])
        return {"pixel_values": nchw(views)[None], "image_sizes": size}

    return model, {}, inputs


def internvl(image_id: int, decoder: str = "qwen2") -> tuple[Any, dict, Inputs]:
    config = transformers.InternVLConfig(
        vision_config=VISION | {"image_size": [56, 56], "patch_size": [14, 14]},
        text_config=text_of(decoder), image_token_id=image_id, image_seq_length=4,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.InternVLForConditionalGeneration(config)
    return model, {}, lambda v, _: {"pixel_values": nchw(v)}


# Where a family has several decoders, the name says which in brackets.
MODELS: dict[str, tuple[Callable[..., tuple[Any, dict, Inputs]], str]] = {
    "idefics3": (idefics3, "smolvlm"), "smolvlm": (smolvlm, "smolvlm"),
    "llava": (llava, "llava_v1"), "llava_next": (llava_next, "llava_v1"),
    "llava_next (Mistral)": (partial(llava_next, decoder="mistral"),
                             "mistral_instruct"),
    "internvl": (internvl, "internvl2_5"),
    "internvl (Qwen3)": (partial(internvl, decoder="qwen3"), "internvl2_5"),
    "internvl (Qwen3-MoE)": (partial(internvl, decoder="qwen3_moe"), "internvl2_5"),
}  # fmt: skip


def saved(
    kind: str, folder: Path, more: frozenset[str] = frozenset(), **how: Any
) -> tuple[Any, Inputs]:
    """A random reference of a family, saved with a tokenizer that has `more` tokens;
    and what it is called with."""
    build, template = MODELS[kind]
    prompt = TEMPLATES[template]
    token = "<image>" if "llava" in kind else prompt.image_token
    names = {token, *prompt.stop, "<s>", "</s>", "<|im_start|>", *more}
    names |= {"<fake_token_around_image>", "<global-img>", "<img>", "</img>"}
    names |= {f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)}
    tokenizer = trained(sorted(names))
    torch.manual_seed(0)
    with torch.no_grad():
        model, pixels, inputs = build(tokenizer.token_to_id(token), **how)
        randomise(model)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    if pixels:
        (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return model, inputs


@pytest.fixture(scope="module", params=list(MODELS))
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Any, Path, Inputs]:
    """Name, reference, source folder, and what the reference is called with."""
    folder = tmp_path_factory.mktemp(request.param)
    model, inputs = saved(request.param, folder)
    return request.param, model, folder, inputs


SIZES = [(120, 120), (100, 230), (230, 60), (20, 12)]


def test_a_family_converts_reloads_answers_and_has_the_same_logits(
    family: tuple[str, Any, Path, Inputs], tmp_path: Path, compare: Compare
) -> None:
    name, reference, source, inputs_of = family
    said: list[str] = []
    run.convert(source, tmp_path / "out", name="owner/tiny", say=said.append)
    assert said[0] == f"family      {name.split(' ')[0]}"
    assert said[1] == "licence     permissive (apache-2.0)"
    assert said[-1].startswith("proof       loaded ")
    model, processor = load(tmp_path / "out")
    rng = np.random.default_rng(0)
    for width, height in SIZES:
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        inputs = processor("What is on?", images=[picture])
        ours = model(**inputs)
        ids = torch.from_numpy(np.array(inputs["input_ids"])).long()
        with torch.no_grad():
            given = inputs_of(inputs["pixel_values"], picture)
            theirs = reference(input_ids=ids, **given).logits
        compare(f"{name}, whole, {width} × {height}", ours, theirs, 1e-5)
    answer = generate(model, processor, "What is on?", [picture], max_tokens=3)
    assert len(answer.tokens) == 3


def test_a_quantised_conversion_says_its_bits(
    family: tuple[str, Any, Path, Inputs], tmp_path: Path
) -> None:
    said: list[str] = []
    run.convert(
        family[2], tmp_path / "out", name="owner/tiny", say=said.append,
        quantisation=run.quantisation(8, 32, "affine"),
    )  # fmt: skip
    (decoder,) = [line for line in said if line.startswith("decoder")]
    assert 9 < float(decoder.split()[-3]) < 14  # 8 bits, scales, and the norms whole
    (encoder,) = [line for line in said if line.startswith("encoder")]
    assert encoder.endswith("32.00 bits each")


def test_a_plan_writes_nothing(
    family: tuple[str, Any, Path, Inputs], tmp_path: Path
) -> None:
    said: list[str] = []
    run.convert(family[2], None, name="owner/tiny", dry_run=True, say=said.append)
    assert any("decoder.embed_tokens.weight" in line for line in said)
    assert not list(tmp_path.iterdir())
