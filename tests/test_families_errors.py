"""Families and settings of them that `convert` refuses, and in which words."""

import json
from pathlib import Path
from typing import Any

import pytest

from checkpoints import BEE_TOWER, CONFIG, HONEYBEE, TOWER, as_honeybee, shapes
from mm15_mlx.config import ConfigError
from mm15_mlx.convert import families

Shapes = dict[str, tuple[int, ...]]


def recognised(folder: Path, config: Any, held: Shapes | None = None) -> Any:
    (folder / "config.json").write_text(json.dumps(config))
    return families.recognise(folder, shapes() if held is None else held)


# --- families --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("qwen2_vl", "Qwen2-VL"), ("qwen2_5_vl", "Qwen2.5-VL"),
        ("qwen3_vl", "Qwen3-VL"), ("llava_qwen2", "FastVLM"),
        ("moondream1", "Moondream"), ("idefics2", "Idefics2"),
        ("paligemma", "PaliGemma"), ("mllama", "Llama 3.2 Vision"),
        ("gemma3", "Gemma 3"), ("openelm", "OpenELM"), ("pixtral", "Pixtral"),
        ("qwen3_vl_moe", "Qwen3-VL with experts"), ("gemma3n", "Gemma 3n"),
        ("llava_onevision", "LLaVA-OneVision"), ("mistral3", "Mistral Small 3"),
        ("florence2", "Florence-2"),
    ],
)  # fmt: skip
def test_other_architectures_by_their_names(
    kind: str, name: str, tmp_path: Path
) -> None:
    expected = rf"holds {name} \(model_type '{kind}'\), .*; run it with mlx-vlm"
    with pytest.raises(ConfigError, match=expected):
        recognised(tmp_path, {"model_type": kind})


@pytest.mark.parametrize(
    ("kind", "name", "way"),
    [
        ("fast_vlm", "FastVLM in transformers' layout", "transformers, or take Apple'"),
        ("llava_next_video", "LLaVA-NeXT-Video", "transformers"),
        ("llava_qwen", "LLaVA-NeXT or LLaVA-OneVision with Qw", "its makers' own code"),
        ("granite_docling", "Granite-Docling of 2026", "transformers"),
        ("aimv2", "AIMv2", "transformers"),
        ("ferret", "Ferret", "its makers' own code, github.com/apple/ml-ferret"),
        ("FERRET", "Ferret", "its makers' own code, github.com/apple/ml-ferret"),
    ],
)  # fmt: skip
def test_what_mlx_vlm_does_not_run_either(
    kind: str, name: str, way: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        recognised(tmp_path, {"model_type": kind})
    assert f"holds {name}" in str(caught.value) and f"{kind!r}" in str(caught.value)
    assert f"; run it with {way}" in str(caught.value)


def test_an_unknown_family_and_a_nameless_one(tmp_path: Path) -> None:
    for kind in (None, ["llava"]):
        with pytest.raises(ConfigError, match="has model_type .*, not a family's name"):
            recognised(tmp_path, {"model_type": kind})
    for kind in ("bert", "resnet"):
        with pytest.raises(ConfigError) as caught:
            recognised(tmp_path, {"model_type": kind})
        assert f"has model_type {kind!r}; families that" in str(caught.value)
        for name in ("ferret_gemma", "honeybee", "llava_mistral", "smolvlm"):
            assert name in str(caught.value)
        assert str(caught.value).endswith("; mlx-vlm runs many others")


CLIP = {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14}
LLAVA = {
    "model_type": "llava_next", "text_config": {"model_type": "llama"},
    "vision_config": CLIP,
}  # fmt: skip
FULL = {"vision_feature_select_strategy": "full"}
INTERNVL: dict[str, Any] = {
    "model_type": "internvl_chat", "ps_version": "v2", "template": "internvl2_5",
    "llm_config": {"model_type": "qwen2"},
    "vision_config": {"model_type": "intern_vit_6b", "image_size": 448},
}  # fmt: skip
OLD = HONEYBEE["visual_projector_config"]
SMOLVLM = {"model_type": "smolvlm", "text_config": {"model_type": "llama"}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llava"}, "config.json lacks the key 'text_config'; fetch it"),
        (LLAVA | {"text_config": 7}, "has a value of the wrong kind .*; fetch it"),
        (
            LLAVA | FULL,
            "vision_feature_select_strategy is 'full'; only 'default' can be converted"
            ": it drops the class token",
        ),
        (LLAVA | {"vision_feature_layer": -3}, "feature_layer is -3; use -1 or -2"),
        (
            LLAVA | {"image_grid_pinpoints": [[336, 700]]},
            r"image_grid_pinpoints is \[\[336, 700\]\]; it must be .* side, 336",
        ),
        (LLAVA | {"image_grid_pinpoints": "all"}, "image_grid_pinpoints is 'all'; it"),
        (CONFIG | {"image_grid_pinpoints": "(1x1),...,(6x6)"}, "pinpoints is None; it"),
        (
            CONFIG | {"image_aspect_ratio": "square"},
            "image_aspect_ratio is 'square'; only 'pad' and 'anyres' can be converted",
        ),
        (
            CONFIG | {"mm_patch_merge_type": "unpad"},
            "mm_patch_merge_type is 'unpad'; only 'flat', 'spatial', 'spatial_unpad'",
        ),
        (
            CONFIG | {"mm_projector_type": "linear"},
            "mm_projector_type is 'linear'; only 'mlp2x_gelu' can be converted",
        ),
        (CONFIG | {"mm_use_im_start_end": True}, "mm_use_im_start_end is True; only F"),
        (
            CONFIG | {"mm_vision_tower": "google/siglip-so400m-patch14-384"},
            "mm_vision_tower is 'google/siglip-so400m-patch14-384'; only OpenAI's CLIP",
        ),
        (
            CONFIG | {"mm_vision_select_feature": "cls_patch"},
            "mm_vision_select_feature is 'cls_patch'; only 'patch' can be converted",
        ),
        (
            CONFIG | {"model_type": "ferret_llama", "image_aspect_ratio": "pad"},
            "image_aspect_ratio is 'pad'; only 'anyres' can be converted",
        ),
        (
            CONFIG | {"model_type": "ferret_gemma"},
            "mm_patch_merge_type is 'spatial_unpad'; only 'spatial' can be converted",
        ),
        (
            INTERNVL | {"ps_version": "v1"},
            "ps_version is 'v1'; only 'v2' can be converted: the other leaves rows and",
        ),
        (
            INTERNVL | {"template": "internlm2-chat"},
            "template is 'internlm2-chat'; conversations that are known are internvl2",
        ),
        (INTERNVL | {"downsample_ratio": 0}, "has a value of the wrong kind"),
        (
            INTERNVL | FULL | {"model_type": "internvl"},
            "vision_feature_select_strategy is 'full'; only 'default'",
        ),
        (
            INTERNVL | {"llm_config": {"model_type": "internlm2"}},
            "has the decoder InternLM2, .*; take a size of InternVL with Qwen or Phi-3,"
            " or run this one with its makers' own, github.com/OpenGVLab/InternVL",
        ),
        *(
            (
                INTERNVL | {"vision_config": INTERNVL["vision_config"] | {key: value}},
                f"vision_config.{key} is {value!r}: the encoder is InternViT-6B, .*; "
                "take a size of InternVL with InternViT-300M, or run this one with mlx",
            )
            for key, value in (
                ("use_qk_norm", True), ("qk_normalization", True),
                ("norm_type", "rms_norm"),
            )
        ),
        *(
            (
                LLAVA | {"text_config": {"model_type": kind, "vocab_size": size}},
                f"the decoder is '{kind}' with a vocabulary of {size}; LLaVA's chats "
                "that are known are .* run this one with mlx-vlm",
            )
            for kind, size in (("llama", 50_000), ("gemma", 256_000))
        ),
        ({"model_type": "mllm"}, "has neither projector_config nor visual_projector_"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_converted(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        recognised(tmp_path, config)


@pytest.mark.parametrize(
    ("config", "held", "message"),
    [
        (
            {"visual_projector_config": OLD | {"projector_type": "d-abs"}}, {},
            "projector_type is 'd-abs'; only 'c-abs' can be converted: take a "
            "checkpoint named C-Abs, or run this one with Honeybee's own code, github",
        ),
        (
            {"visual_projector_config": OLD | {"pos_emb": False}}, {},
            "pos_emb is False; only True can be converted",
        ),
        (
            {"visual_projector_config": OLD | {"prenorm": True}}, {},
            "prenorm is True; only False can be converted",
        ),
        (
            {"visual_projector_config": OLD | {"num_eos_tokens": 1}}, {},
            "num_eos_tokens is 1; only 0 can be converted",
        ),
        (
            {"vision_config": {"encoder_type": "eva"}}, {},
            "encoder_type is 'eva'; only 'openai.clip' can be converted",
        ),
        (
            {"vision_config": {"image_size": 224}}, {},
            "image_size is 224; only 28 can be converted: positions are of that many p",
        ),
        (
            {}, {"language_model.model.embed_tokens.weight": (7,)},
            r"embed_tokens.weight has shape \(7,\), not rows and columns; the file hol",
        ),
        (
            {}, {f"{BEE_TOWER}embeddings.position_embedding.weight": (7, 64)},
            r"tower vision_model.vision_model.\* has shapes \(7, 64\), .*CLIP",
        ),
    ],
)  # fmt: skip
def test_a_honeybee_that_cannot_be_converted(
    config: dict[str, Any], held: Shapes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        recognised(tmp_path, HONEYBEE | config, as_honeybee(shapes()) | held)


def test_a_tower_that_was_left_out(tmp_path: Path) -> None:
    """LLaVA-1.5's own files hold the language model and the projector alone."""
    held = {n: s for n, s in shapes().items() if not n.startswith(TOWER)}
    expected = (
        "no weights of its vision tower openai/clip-vit-large-patch14-336: they were "
        "frozen and left out; fetch a copy that has them, such as llava-hf's"
    )
    with pytest.raises(ConfigError, match=expected):
        recognised(tmp_path, CONFIG, held)


def test_a_configuration_that_asks_for_too_much(tmp_path: Path) -> None:
    expected = "asks for 999 layers, and its files hold 56 tensors; fetch both"
    with pytest.raises(ConfigError, match=expected):
        recognised(tmp_path, CONFIG | {"num_hidden_layers": 999})
    expected = "text_config.hidden_size is 1073741824; it must be 1 to 65,536"
    with pytest.raises(ConfigError, match=expected):
        recognised(tmp_path, CONFIG | {"hidden_size": 1 << 30, "head_dim": 16})


@pytest.mark.parametrize("value", [0, -1, 2.5, "x", None, [], {}, True, 10**400])
def test_a_size_that_is_none(tmp_path: Path, value: Any) -> None:
    for key in ("hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers"):
        with pytest.raises(ConfigError, match=f"{key} is|value of the wrong kind"):
            recognised(tmp_path, CONFIG | {key: value})
    for key in ("num_attention_heads", "rms_norm_eps", "rope_theta"):
        if value not in (2.5, True):
            with pytest.raises(ConfigError, match=f"{key} is|value of the wrong kind"):
                recognised(tmp_path, CONFIG | {key: value})


def test_pixels_of_four_channels(tmp_path: Path) -> None:
    processor = {"image_mean": [0.5] * 4, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(ConfigError, match="image_mean and image_std must be of three"):
        recognised(tmp_path, SMOLVLM)


@pytest.mark.parametrize(
    ("config", "file", "held", "message"),
    [
        (
            SMOLVLM, "processor_config.json", {"image_processor": [7]},
            r"processor_config.json: image_processor is \[7\]; it must be an object",
        ),
        (
            SMOLVLM, "preprocessor_config.json", {"resample": 0},
            r"resample is 0; pictures are scaled with 1 \(lanczos\), 2 \(bilinear\), 3",
        ),
        (
            LLAVA, "preprocessor_config.json", {"crop_size": {"height": 224}},
            r"crop_size is \{'height': 224\}; the vision tower sees 336 pixels, and",
        ),
        (
            LLAVA, "preprocessor_config.json", {"size": 448},
            "size is 448; the vision tower sees 336 pixels, and only views of that si",
        ),
        (
            INTERNVL, "processor_config.json",
            {"image_processor": {"size": {"height": 384, "width": 448}}},
            r"size is \{.*\}; the vision tower sees 448 pixels, and only views of that",
        ),
    ],
)  # fmt: skip
def test_pictures_that_cannot_be_made(
    config: dict[str, Any], file: str, held: Any, message: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(json.dumps(held))
    with pytest.raises(ConfigError, match=message):
        recognised(tmp_path, config)
