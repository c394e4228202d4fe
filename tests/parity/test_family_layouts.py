"""One model in every layout of names that its family was published in.

A source that transformers saved is renamed and converted again: the weights must be the
same, bit for bit. Logits are tested in test_families.py.
"""

import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import mlx.core as mx
import pytest
from safetensors.torch import load_file, save_file

from mm15_mlx.convert import run

from .test_families import VISION, saved
from .test_families_original import CLIP, FLAT, PADDED, Tensors, as_opengvlab

pytestmark = pytest.mark.parity

Renames = tuple[tuple[str, str], ...]  # patterns and what takes their place, in order
HUB: Renames = ((r"^vision_tower\.", "vision_tower.vision_model."),)
MEMORY: Renames = (  # of transformers 5
    (r"^language_model\.lm_head", "lm_head"),
    (r"^language_model\.model\.", "language_model."),
    (r"^(?!lm_head)", "model."),
)
LLAVA: Renames = (
    (r"^language_model\.(model\.|lm_head)", r"\1"),
    (r"^vision_tower\.", "model.vision_tower.vision_tower.vision_model."),
    (r"^multi_modal_projector\.linear_1", "model.mm_projector.0"),
    (r"^multi_modal_projector\.linear_2", "model.mm_projector.2"),
    (r"^image_newline", "model.image_newline"),
)
BARE: Renames = ((r"^model\.", ""),)  # of the class without a head


def renamed(tensors: Tensors, table: Renames) -> Tensors:
    made: Tensors = {}
    for name, tensor in tensors.items():
        for pattern, text in table:
            name = re.sub(pattern, text, name)
        made[name] = tensor
    assert made.keys() != tensors.keys()
    return made


def as_llava(config: dict[str, Any]) -> dict[str, Any]:
    """The flat configuration of LLaVA's own code."""
    kind = "llava" if config["model_type"] == "llava" else "llava_llama"
    pad = PADDED if kind == "llava" else {}
    return config["text_config"] | FLAT | pad | {"model_type": kind}


def as_internvl_chat(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "internvl_chat", "ps_version": "v2", "select_layer": -1,
        "template": "internvl2_5", "llm_config": config["text_config"],
        "vision_config": VISION | {"model_type": "intern_vit_6b", "qkv_bias": False},
    }  # fmt: skip


LAYOUTS = [
    ("llava", "hub"), ("llava", "memory"), ("llava", "own"),
    ("llava_next", "hub"), ("llava_next", "memory"), ("llava_next", "own"),
    ("internvl", "memory"), ("internvl", "own"), ("internvl (Qwen3-MoE)", "own"),
    ("idefics3", "bare"), ("smolvlm", "bare"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "layout"), LAYOUTS)
def test_every_layout_gives_the_same_weights(
    kind: str, layout: str, tmp_path: Path
) -> None:
    first, other = tmp_path / "saved", tmp_path / layout
    # LLaVA's own files do not say how many heads the tower has: OpenAI's are 64 wide.
    how = {"tower": CLIP} if "llava" in kind else {}
    reference, _ = saved(kind, first, frozenset(["<unk>"]), **how)
    copytree(first, other)
    tensors = load_file(first / "model.safetensors")
    config = json.loads((first / "config.json").read_text())
    if layout != "own":
        tensors = renamed(tensors, {"hub": HUB, "memory": MEMORY, "bare": BARE}[layout])
    elif "llava" in kind:
        tensors, config = renamed(tensors, LLAVA), as_llava(config)
    else:
        tensors, config = as_opengvlab(tensors), as_internvl_chat(config)
    if layout == "memory":
        assert set(tensors) == set(reference.state_dict())
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    (other / "config.json").write_text(json.dumps(config))

    made: list[dict[str, mx.array]] = []
    shapes: list[list[Any]] = []
    for source in (first, other):
        out = tmp_path / f"{source.name}-out"
        run.convert(source, out, name="owner/tiny", say=lambda _: None)
        made.append(dict(mx.load(str(out / "model.safetensors")).items()))
        data = json.loads((out / "config.json").read_text())
        parts = ("vision_config", "connector_config", "text_config")
        shapes.append([data[part] for part in parts])
    assert made[0].keys() == made[1].keys() and shapes[0] == shapes[1]
    unequal = [n for n, a in made[0].items() if not mx.array_equal(a, made[1][n])]
    assert not unequal
