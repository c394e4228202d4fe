"""What goes wrong silently when public checkpoints are converted, each with its test.

The table says where; what no other file tests is tested below.
"""

import ast
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from checkpoints import CONFIG, shapes
from mm15_mlx.config import TextConfig
from mm15_mlx.convert import decoders, encoders, families
from mm15_mlx.convert.recipes import Recipe
from mm15_mlx.convert.rules import apply_rules
from mm15_mlx.decoder import Decoder

HERE = Path(__file__).parent

# Trap: what it is, and its tests as file::function.
TRAPS: dict[int, tuple[str, tuple[str, ...]]] = {
    1: (
        "a configuration that does not say its head is untied",
        (
            "test_public_rules::test_a_head_of_its_own_is_not_dropped_silently",
            "test_public_rules::test_smolvlm_has_as_many_parameters_as_published",
            "parity/test_public_decoders::test_logits",
        ),
    ),
    2: (
        "Gemma multiplied visual tokens too, and its gelu is the tanh form",
        (
            "test_public_rules::test_visual_tokens_scaled_in_the_last_linear",
            "test_decoder_families::"
            "test_embeddings_are_scaled_once_and_the_head_is_not",
            "parity/test_families_original::test_llava_and_ferret_ui",
        ),
    ),
    3: (
        "Ferret-UI stores a head beside Gemma's embeddings",
        ("test_traps::test_gemma_may_have_a_head_of_its_own",),
    ),
    4: (
        "one model, three layouts of names",
        (
            "test_traps::test_layouts_of_llava",
            "parity/test_family_layouts::test_every_layout_gives_the_same_weights",
        ),
    ),
    5: (
        "transformers 5 renamed keys of configurations",
        ("test_traps::test_old_and_new_keys_of_a_decoder",),
    ),
    6: (
        "an absent key means the default of a class",
        (
            "test_public_rules::test_a_tower_of_which_little_is_said",
            "test_public_rules::test_keys_that_a_configuration_lacks",
        ),
    ),
    7: (
        "which hidden states are before the last norm",
        (
            "test_encoder::test_post_norm_is_the_last_step",
            "test_encoder::test_feature_layer_minus_two_skips_the_last_block",
            "parity/test_public_encoders::test_clip",
            "parity/test_public_encoders::test_open_clip",
        ),
    ),
    8: (
        "the C-Abstractor's eps, its squeeze, its shortcut, its windows",
        (
            "test_connector::test_norms_have_timms_eps",
            "test_connector::test_squeeze_excite_width_follows_the_block_input",
            "test_connector::test_shortcut_only_where_the_width_changes",
            "test_connector::test_windows_of_27_to_12",
            "parity/test_connector_parity::test_c_abstractor",
        ),
    ),
    9: (
        "one pixel shuffle, and InternVL's first that exchanges rows and columns",
        (
            "test_connector::test_shuffle_by_hand",
            "test_families_errors::test_settings_that_cannot_be_converted",
        ),
    ),
    10: (
        "positions of a square view are as they are stored, 27² too",
        (
            "test_encoder::test_resize_table_same_size_is_the_table_itself",
            "test_traps::test_smolvlm_2b_uses_every_position_once",
            "parity/test_public_encoders::test_siglip",
        ),
    ),
    11: (
        "two roundings of unpadding, two orders of pinpoints",
        (
            "test_tiling::test_rounding_is_of_hugging_face_or_of_llava",
            "test_traps::test_pinpoints_of_both_layouts",
            "parity/test_family_pixels::test_llava_s_own_layout",
        ),
    ),
    12: (
        "InternVL's rule where grids tie",
        (
            "test_tiling::test_internvl_s_grid",
            "parity/test_pictures_parity::test_internvl",
        ),
    ),
    13: (
        "preprocessor_config.json, or processor_config.json, before defaults",
        (
            "test_traps::test_the_preprocessor_has_the_last_word",
            "test_traps::test_the_processor_of_transformers_5_has_it_before_that",
            "parity/test_family_pixels::test_hub_families",
            "test_traps::test_what_else_the_preprocessor_says",
            "test_parts::test_pixels_of_a_clip",
        ),
    ),
    14: (
        "tensors that are no part of the model",
        ("test_traps::test_what_is_left_out",),
    ),
    15: (
        "prompts that are tokenised in pieces, or begin twice",
        (
            "test_templates::test_llava_s_pieces_stand_alone",
            "test_templates::test_honeybee_s_chunks",
            "parity/test_family_ids::test_ferret_ui",
            "parity/test_family_ids::test_honeybee",
            "test_templates::test_chat",
        ),
    ),
    16: (
        "references without torchvision",
        (
            "parity/test_pictures_parity::test_idefics3",
            "parity/test_pictures_parity::test_llava_next",
        ),
    ),
}


@pytest.mark.parametrize("trap", range(1, 17))
def test_every_trap_has_its_tests(trap: int) -> None:
    for name in TRAPS[trap][1]:
        file, _, function = name.partition("::")
        tree = ast.parse((HERE / f"{file}.py").read_text(encoding="utf-8"))
        assert function in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def recipe(folder: Path, config: dict[str, Any], held: Any = None) -> Recipe:
    (folder / "config.json").write_text(json.dumps(config))
    return families.recognise(folder, held or shapes())


def targets(made: Recipe, name: str) -> list[tuple[str, ...]]:
    return [t for rule in made.rules if (t := rule.targets(name)) is not None]


def test_gemma_may_have_a_head_of_its_own() -> None:
    """Equal to the embeddings or not, it is used: nothing is compared or dropped."""
    text = TextConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, vocab_size=32,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, qk_norm=False,
        tie_word_embeddings=False,
    )  # fmt: skip
    ours = {f"decoder.{n}": a for n, a in tree_flatten(Decoder(text).parameters())}
    source = {n.replace("decoder.", "model."): a for n, a in ours.items()}
    head = source.pop("model.lm_head.weight")
    expected = {n: a.shape for n, a in ours.items()}
    filled = apply_rules(
        source | {"lm_head.weight": head}, decoders.gemma(text), expected
    )
    assert mx.array_equal(filled["decoder.lm_head.weight"], head)


SMALL_CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 32, "num_attention_heads": 2,
    "num_hidden_layers": 3, "image_size": 336, "patch_size": 14,
}  # fmt: skip
LLAVA_NEXT = {
    "model_type": "llava_next", "vision_config": SMALL_CLIP,
    "text_config": {"model_type": "llama", "num_hidden_layers": 2},
}  # fmt: skip


@pytest.mark.parametrize(
    ("tower", "projector", "newline", "decoder", "head"),
    [
        ("vision_tower.vision_model.", "", "", "language_model.model.",
         "language_model."),
        ("vision_tower.", "", "", "language_model.model.", "language_model."),
        ("model.vision_tower.", "model.", "model.", "model.language_model.", ""),
    ],
    ids=["the hub's", "saved anew", "in memory"],
)  # fmt: skip
def test_layouts_of_llava(
    tower: str, projector: str, newline: str, decoder: str, head: str, tmp_path: Path
) -> None:
    made = recipe(tmp_path, LLAVA_NEXT)
    assert targets(made, f"{tower}encoder.layers.0.mlp.fc1.bias") == [
        ("encoder.layers.0.mlp.fc1.bias",)
    ]
    assert targets(made, f"{projector}multi_modal_projector.linear_2.weight") == [
        ("connector.readout.2.weight",)
    ]
    assert targets(made, f"{newline}image_newline") == [("image_newline",)]
    assert targets(made, f"{decoder}layers.1.mlp.up_proj.weight") == [
        ("decoder.layers.1.mlp.up_proj.weight",)
    ]
    assert targets(made, f"{head}lm_head.weight") == [("decoder.lm_head.weight",)]


OLD: dict[str, Any] = {
    "model_type": "qwen3_moe", "rope_theta": 5e6, "torch_dtype": "bfloat16",
    "num_experts": 16,
}  # fmt: skip
NEW: dict[str, Any] = {
    "model_type": "qwen3_moe", "dtype": "bfloat16", "num_local_experts": 16,
    "rope_parameters": {"rope_theta": 5e6, "rope_type": "default"},
}  # fmt: skip


def test_old_and_new_keys_of_a_decoder() -> None:
    old, new = (decoders.text_config(data, True) for data in (OLD, NEW))
    assert old == new and new.rope_theta == 5e6 and new.num_experts == 16
    stretched = {"factor": 4.0, "rope_theta": 1e4}
    old, new = (
        decoders.text_config({"model_type": "llama", key: stretched | kind}, True)
        for key, kind in (
            ("rope_scaling", {"type": "linear"}),
            ("rope_parameters", {"rope_type": "linear"}),
        )
    )
    assert old == new and new.rope_scaling.factor == 4


SMOLVLM = {
    "model_type": "smolvlm", "scale_factor": 3,
    "text_config": {"model_type": "llama", "num_hidden_layers": 2},
    "vision_config": {
        "model_type": "smolvlm_vision", "image_size": 384, "patch_size": 14,
        "hidden_size": 1152, "num_hidden_layers": 2,
    },
}  # fmt: skip


def test_smolvlm_2b_uses_every_position_once(tmp_path: Path) -> None:
    """384 pixels are 27 patches of 14 and six pixels more; the table has 27² rows, and
    the rule that earlier code of transformers had would skip some of them."""
    config = recipe(tmp_path, SMOLVLM).config
    assert config.view_grid == config.vision_config.grid_size == 27
    assert config.vision_config.crop_to_patches
    assert config.connector_config.num_visual_tokens == 81


def test_pinpoints_of_both_layouts(tmp_path: Path) -> None:
    """Height first in transformers' files, width first in LLaVA's own."""
    sides = [[672, 336], [336, 1008]]
    theirs = recipe(tmp_path, LLAVA_NEXT | {"image_grid_pinpoints": sides})
    assert theirs.config.tiling.pinpoints == ((2, 1), (1, 3))
    assert theirs.config.tiling.merge == "spatial_unpad"
    for given in ([[56, 28], [28, 84]], "[[56, 28], [28, 84]]"):
        made = recipe(tmp_path, CONFIG | {"image_grid_pinpoints": given})
        assert made.config.tiling.pinpoints == ((1, 2), (3, 1))
        assert made.config.tiling.merge == "spatial_unpad_floor"


def test_the_preprocessor_has_the_last_word(tmp_path: Path) -> None:
    """Agentic-GUI was trained with 1152 pixels, others of its class with 2048."""
    before = recipe(tmp_path, SMOLVLM).config
    assert before.tiling.longest_edge == 4 * 384 and before.tiling.tile_size == 384
    assert before.vision_config.image_mean == (0.5, 0.5, 0.5)
    processor = {
        "size": {"longest_edge": 1152}, "max_image_size": {"longest_edge": 378},
        "image_mean": [0.4, 0.5, 0.6],
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    after = recipe(tmp_path, SMOLVLM).config
    assert (after.tiling.longest_edge, after.tiling.tile_size) == (1152, 378)
    assert after.vision_config.image_mean == (0.4, 0.5, 0.6)
    assert after.vision_config.image_std == (0.5, 0.5, 0.5)


def write(folder: Path, name: str, held: Any) -> None:
    (folder / name).write_text(json.dumps(held))


def test_the_processor_of_transformers_5_has_it_before_that(tmp_path: Path) -> None:
    """It nests the image processor; other keys of the file are not the pictures'."""
    older = {"size": {"longest_edge": 768}, "image_mean": [0.1] * 3}
    write(tmp_path, "preprocessor_config.json", older)
    write(tmp_path, "processor_config.json", {"image_seq_len": 81, "size": 7})
    config = recipe(tmp_path, SMOLVLM).config
    assert config.tiling.longest_edge == 768  # older processors say nothing of pictures
    nested = {
        "size": {"longest_edge": 1152}, "max_image_size": {"longest_edge": 378},
        "image_std": [0.4, 0.5, 0.6], "resample": 3,
    }  # fmt: skip
    write(tmp_path, "processor_config.json", {"image_processor": nested})
    config = recipe(tmp_path, SMOLVLM).config
    tiling = config.tiling
    assert (tiling.longest_edge, tiling.tile_size) == (1152, 378)
    assert config.vision_config.image_mean == (0.5, 0.5, 0.5)
    assert config.vision_config.image_std == (0.4, 0.5, 0.6)
    assert tiling.resample == "bicubic" and tiling.max_split_images > 1
    whole = nested | {"do_image_splitting": False}
    write(tmp_path, "processor_config.json", {"image_processor": whole})
    assert recipe(tmp_path, SMOLVLM).config.tiling.max_split_images == 0


INTERNVL = {
    "model_type": "internvl", "text_config": {"model_type": "qwen2"},
    "vision_config": {"model_type": "internvl_vision", "image_size": [448, 448]},
}  # fmt: skip


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_what_else_the_preprocessor_says(file: str, tmp_path: Path) -> None:
    assert recipe(tmp_path, INTERNVL).config.tiling.n_max == 12
    held: dict[str, Any] = {
        "min_patches": 2, "max_patches": 7, "resample": 2, "image_mean": [0.25] * 3,
        "size": {"height": 448, "width": 448},
    }  # fmt: skip
    nested = file == "processor_config.json"
    write(tmp_path, file, {"image_processor": held} if nested else held)
    config = recipe(tmp_path, INTERNVL).config
    tiling = config.tiling
    assert (tiling.n_min, tiling.n_max, tiling.resample) == (2, 7, "bilinear")
    assert config.vision_config.image_mean == (0.25, 0.25, 0.25)

    held = {
        "image_grid_pinpoints": [[672, 1008]], "resample": 1,
        "size": {"shortest_edge": 336}, "crop_size": {"height": 336, "width": 336},
    }  # fmt: skip
    write(tmp_path, file, {"image_processor": held} if nested else held)
    sides = {"image_grid_pinpoints": [[336, 672]]}
    tiling = recipe(tmp_path, LLAVA_NEXT | sides).config.tiling
    assert (tiling.pinpoints, tiling.resample) == (((2, 3),), "lanczos")
    tiling = recipe(tmp_path, LLAVA_NEXT | {"model_type": "llava"}).config.tiling
    assert (tiling.policy, tiling.resample) == ("pad_square", "lanczos")


@pytest.mark.parametrize(
    "name",
    [
        "language_model.model.layers.1.self_attn.rotary_emb.inv_freq",
        "vision_tower.vision_model.embeddings.position_ids",
        "vision_tower.vision_model.head.probe",
        "vision_tower.vision_model.post_layernorm.weight",
        "vision_tower.vision_model.encoder.layers.2.mlp.fc1.weight",
    ],
)
def test_what_is_left_out(name: str, tmp_path: Path) -> None:
    assert targets(recipe(tmp_path, LLAVA_NEXT), name) == [()]


@pytest.mark.parametrize(
    "name",
    [
        "text_model.encoder.layers.0.mlp.fc1.weight", "visual_projection.weight",
        "text_projection.weight", "logit_scale", "logit_bias",
    ],
)  # fmt: skip
def test_what_contrastive_models_have_besides(name: str) -> None:
    found = [rule.targets(name) for rule in encoders.CONTRASTIVE_HEADS]
    assert [t for t in found if t is not None] == [()]


def test_granite_and_its_places(tmp_path: Path) -> None:
    """ScreenVLM and Granite-Docling are told from SmolVLM by their tokenizer."""
    plain = recipe(tmp_path, SMOLVLM).config
    assert plain.prompt.bos == "<|im_start|>" and plain.coordinates.range == 1000
    names = ["<|start_of_role|>", "<loc_0>", "<loc_500>"]
    added = {"added_tokens": [{"content": name} for name in names]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(added))
    config = recipe(tmp_path, SMOLVLM).config
    assert config.prompt.user_start == "<|start_of_role|>user<|end_of_role|>"
    assert config.prompt.stop == ("<|end_of_text|>",)
    assert config.coordinates.range == 500
    assert config.coordinates.box == "<loc_{x1}><loc_{y1}><loc_{x2}><loc_{y2}>"
