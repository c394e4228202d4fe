"""Configurations whose numbers nothing could be built of, from files of any kind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import composing
import gguf_files
import pytest

from mm15_mlx.config import PRESETS, ConfigError, ModelConfig
from mm15_mlx.convert.compose import join
from mm15_mlx.input_config import TilingConfig
from mm15_mlx.limits import RANGES, beyond

Cli = Callable[..., tuple[int, str, str]]


def test_every_size_of_the_paper_is_within() -> None:
    for config in PRESETS.values():
        for where in RANGES:
            part: Any = config
            for name in where.split("."):
                part = getattr(part, name)
            assert beyond(where, part) is None


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("text_config.num_hidden_layers", 10**9, "is 1000000000; it must be 1 to"),
        ("vision_config.num_hidden_layers", 10**9, "it must be 1 to 1,000"),
        ("connector_config.mlp_depth", 10**9, "it must be 1 to 1,000"),
        ("connector_config.hidden_size", 1, "hidden_size is 1; it must be 8 to 65,536"),
        ("text_config.head_dim", 3, "head_dim 3 is not a multiple of a rotated pair's"),
        ("connector_config.num_visual_tokens", -1, "is -1; it must be 1 to 262,144"),
        ("text_config.hidden_size", 0, "hidden_size is 0; it must be 1 to 65,536"),
        ("text_config.vocab_size", -1, "vocab_size is -1; it must be 1 to 16,777,216"),
        ("text_config.intermediate_size", 10**12, "it must be 1 to 1,048,576"),
        ("text_config.rms_norm_eps", 0.0, "rms_norm_eps is 0.0; it must be 1e-15 to 1"),
        ("text_config.rms_norm_eps", float("nan"), "rms_norm_eps is nan; it must be"),
        ("text_config.rope_theta", 10**400, "rope_theta is 1000.*; it is too large"),
        ("text_config.decoder_sparse_step", 0, "is 0; it must be 1 to 1,000"),
        ("vision_config.patch_size", 0, "patch_size is 0; it must be 1 to 1,024"),
        ("vision_config.patch_size", 1, "grid_size is 672; it must be 1 to 512"),
        (
            "vision_config.image_std", [0.0, 1.0, 1.0],
            r"image_std is \(0.0, 1.0, 1.0\); it must be numbers of 1e-06 to 1,000.0",
        ),
        ("vision_config.image_std", [1.0, float("nan"), 1.0], "image_std is .*nan"),
        ("vision_config.image_mean", [float("inf"), 0, 0], "image_mean is .inf"),
        ("tiling.n_max", 10**6, "tiling.n_max is 1000000; it must be 1 to 256"),
        ("tiling.tile_size", 14 * 1000, "has 1000 patches of vision_config.patch_size"),
        ("prompt.video_frames", 0, "video_frames is 0; it must be 1 to 10,000"),
        ("coordinates.decimals", 10**9, "decimals is 1000000000; it must be 0 to 6"),
        ("text_config.rope_scaling.factor", float("inf"), "factor is inf; it must be"),
    ],
)  # fmt: skip
def test_numbers_beyond_what_can_be_built(
    where: str, value: Any, message: str, ui_copy: Path, cli: Cli
) -> None:
    data = ModelConfig().to_dict()
    if where == "vision_config.patch_size":
        data["vision_config"]["image_size"] = 672
    *parts, key = where.split(".")
    place = data
    for part in parts:
        place = place[part]
    place[key] = value
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(data)
    (ui_copy / "config.json").write_text(json.dumps(data))
    status, out, err = cli("info", "--model", ui_copy)
    assert (status, out) == (2, "") and err.startswith(f"error: {ui_copy}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"policy": "pinpoints", "pinpoints": ((1, 10**9),)},
            r"tiling has the grid \[1, 1000000000\]; grids may have 256 tiles, and",
        ),
        ({"static_grid": (20, 20)}, r"tiling has the grid \[20, 20\]; grids may have"),
        ({"static_grid": (0, 2)}, r"is \(0, 2\); it must be whole numbers of 1 to 256"),
        ({"pinpoints": ((1, 2),) * 257}, "tiling has too many pinpoints; grids may"),
        (
            {"policy": "longest_edge", "longest_edge": 4096, "tile_size": 1},
            "longest_edge 4096 has 4096 tiles of tile_size 1; 300 are the most",
        ),
        ({"split_last": -1}, "tiling.split_last is -1; it must be 0 to 65,536"),
    ],
)
def test_more_tiles_than_any_picture_needs(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        TilingConfig(**fields)


# --- parts that are joined ----------------------------------------------------------


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    composing.clip_folder(tmp_path / "encoder")
    composing.llama_folder(tmp_path / "decoder", composing.plain_tokenizer())
    return tmp_path


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("decoder", {"hidden_size": 10**9}, "hidden_size is 1000000000; it must be"),
        ("decoder", {"hidden_size": None, "head_dim": None}, "of the wrong kind"),
        (
            "decoder", {"rope_scaling": {"rope_type": "longrope"}},
            r"decoder/config\.json lacks the key 'short_factor'; fetch it again",
        ),
        ("decoder", {"rope_scaling": {"rope_type": "linear"}}, "the key 'factor'"),
        ("decoder", {"rope_scaling": 3}, r"config\.json has a value of the wrong kind"),
        ("decoder", {"num_attention_heads": 0, "head_dim": None}, "division .*by zero"),
        ("decoder", {"rms_norm_eps": "x"}, "could not convert string to float: 'x'"),
        ("decoder", {"rms_norm_eps": 10**400}, "int too large to convert to float"),
        ("encoder", {"vision_config": 3}, r"encoder/config\.json has a value of the"),
        ("encoder", {"patch_size": 0}, r"\(integer modulo by zero\); fetch it"),
        ("encoder", {"hidden_size": "x"}, "vision_config.hidden_size is 'x'; it must"),
    ],
)  # fmt: skip
def test_parts_with_values_of_a_wrong_kind(
    part: str, change: dict[str, Any], message: str, parts: Path
) -> None:
    path = parts / part / "config.json"
    data = json.loads(path.read_text())
    inner = part == "encoder" and "vision_config" not in change
    (data["vision_config"] if inner else data).update(change)
    path.write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=message):
        join(str(parts / "encoder"), str(parts / "decoder"), tile_size=84)


def test_a_gguf_without_a_width(parts: Path) -> None:
    facts = gguf_files.metadata("llama", **{"llama.feed_forward_length": 0})
    tensors = gguf_files.decoder_tensors("llama", "Q8_0")
    gguf_files.write_gguf(parts / "m.gguf", facts, tensors)
    with pytest.raises(ConfigError, match="intermediate_size is 0; it must be 1 to"):
        join(
            str(parts / "encoder"), str(parts / "m.gguf"), tile_size=84,
            tokenizer=str(parts / "decoder"),
        )  # fmt: skip


def test_a_seed_that_is_too_large(parts: Path, cli: Cli) -> None:
    status, _, err = cli(
        "compose", "--encoder", parts / "encoder", "--decoder", parts / "decoder",
        "--dry-run", "--seed", str(2**64),
    )  # fmt: skip
    assert status == 2 and "be less than or equal to 9223372036854775807" in err
