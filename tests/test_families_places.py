"""How each family writes places and is spoken to, as `convert` finds it out."""

import json
from pathlib import Path
from typing import Any

import pytest

from checkpoints import CONFIG, shapes
from mm15_mlx.config import CoordinateConfig, ModelConfig
from mm15_mlx.convert import families
from mm15_mlx.grounding import parse_answer
from mm15_mlx.templates import TEMPLATES

SIZE = (1000, 500)
CLIP = {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14}
SMOLVLM = {
    "model_type": "smolvlm", "scale_factor": 3, "text_config": {"model_type": "llama"},
    "vision_config": {"image_size": 384, "patch_size": 14},
}  # fmt: skip
PHI: dict[str, Any] = {
    "model_type": "internvl_chat", "ps_version": "v2", "template": "phi3-chat",
    "llm_config": {"model_type": "phi3"}, "max_dynamic_patch": 12,
    "vision_config": {"model_type": "intern_vit_6b", "image_size": 448},
}  # fmt: skip


def made(folder: Path, config: dict[str, Any], card: str = "") -> ModelConfig:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if card:
        (folder / "README.md").write_text(card)
    return families.recognise(folder, shapes()).config


# --- Agentic-GUI ------------------------------------------------------------------

NAME = "SmolVLM2-2.2B-Instruct-Agentic-GUI"


@pytest.mark.parametrize(
    ("folder", "more", "card"),
    [
        (NAME, {}, ""), (NAME.lower(), {}, ""),
        (f"models--smolagents--{NAME}/snapshots/6f1e2d", {}, ""),
        ("it", {"_name_or_path": f"smolagents/{NAME}"}, ""),
        ("it", {}, f"---\nlicense: apache-2.0\nmodel_name: {NAME}\n---\nWords.\n"),
        ("it", {}, f"---\nlicense: apache-2.0\n---\n\n# {NAME}\n\nWords.\n"),
    ],
)  # fmt: skip
def test_agentic_gui_clicks(
    folder: str, more: dict[str, Any], card: str, tmp_path: Path
) -> None:
    config = made(tmp_path / folder, SMOLVLM | more, card)
    for text in (
        "<think>x</think><code>\nclick(x=0.25, y=0.5)\n</code>",
        "Action: click(0.25, 0.5)",
    ):
        boxes, (point,) = parse_answer(text, [SIZE], config.coordinates)
        assert point.px == (250, 250) and point.norm == (250, 500) and boxes == []


def test_other_smolvlms_do_not_click(tmp_path: Path) -> None:
    """A card that compares itself with the other one is not the other one's."""
    card = f"# SmolVLM2-2.2B-Instruct\n\nSee also {NAME}.\n\n# {NAME}\n\n# {NAME}\n"
    config = made(tmp_path / "agentic-gui" / "smolvlm", SMOLVLM, card)
    assert config.coordinates == CoordinateConfig()


# --- OS-Atlas ---------------------------------------------------------------------


@pytest.mark.parametrize(("folder", "tiles"), [("OS-Atlas-Base-4B", 6), ("it", 12)])
def test_os_atlas_s_places(folder: str, tiles: int, tmp_path: Path) -> None:
    """InternVL2-4B has its decoder too, and is not told from it by its files."""
    config = made(tmp_path / folder, PHI)
    assert config.tiling.n_max == tiles
    for text in ("(250,500)", "( 250, 500 )", "[[250,500]]"):
        boxes, (point,) = parse_answer(text, [SIZE], config.coordinates)
        assert point.px == (250, 250) and boxes == []
    (box,), points = parse_answer("[[100, 200, 300, 400]]", [SIZE], config.coordinates)
    assert box.px == (100, 100, 300, 200) and points == []


def test_internvl_s_places(tmp_path: Path) -> None:
    qwen = {"template": "Hermes-2", "llm_config": {"model_type": "qwen2"}}
    config = made(tmp_path, PHI | qwen)
    assert parse_answer("(250,500)", [SIZE], config.coordinates) == ([], [])
    (box,), _ = parse_answer("[[100, 200, 300, 400]]", [SIZE], config.coordinates)
    assert box.px == (100, 100, 300, 200)


# --- LLaVA's chats ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("decoder", "template"),
    [
        ({"model_type": "llama"}, "llava_v1"),
        ({"model_type": "llama", "vocab_size": 32_064}, "llava_v1"),
        ({"model_type": "mistral", "vocab_size": 32_064}, "mistral_instruct"),
        ({"model_type": "llama", "vocab_size": 64_064}, "chatml_direct"),
        ({"model_type": "llama", "vocab_size": 128_320}, "llava_llama_3"),
        ({"model_type": "qwen2", "vocab_size": 152_064}, "qwen_1_5"),
    ],
)  # fmt: skip
def test_llava_is_spoken_to_as_its_decoder_is(
    decoder: dict[str, Any], template: str, tmp_path: Path
) -> None:
    llava = {"model_type": "llava_next", "vision_config": CLIP, "text_config": decoder}
    prompt, expected = made(tmp_path, llava).prompt, TEMPLATES[template]
    assert prompt.image_token == "<image>"
    assert (prompt.system, prompt.user_start) == (expected.system, expected.user_start)
    assert (prompt.user_end, prompt.stop) == (expected.user_end, expected.stop)


def test_yi_in_llava_s_own_layout(tmp_path: Path) -> None:
    """Its vocabulary has no token for pictures."""
    prompt = made(tmp_path, CONFIG | {"vocab_size": 64_000}).prompt
    assert prompt == TEMPLATES["chatml_direct"] and prompt.image_token == "<unk>"
