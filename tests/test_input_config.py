"""What a configuration of tiling, prompt and coordinates must hold."""

from typing import Any

import pytest

from mm15_mlx.config import ConfigError, ModelConfig, PromptConfig, TilingConfig
from mm15_mlx.input_config import CoordinateConfig

PINPOINTS = {"policy": "pinpoints", "pinpoints": ((1, 2),), "indicator": "none"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"policy": "anyres"}, "tiling.policy is 'anyres'; it must be one of dynamic,"),
        ({"merge": "unpad"}, "tiling.merge is 'unpad'; it must be one of flat, spat"),
        ({"resample": "cubic"}, "tiling.resample is 'cubic'; it must be one of bicub"),
        ({"n_min": 5, "n_max": 4}, "n_min 5 and n_max 4 must hold 1 <= n_min <= n_max"),
        ({"policy": "longest_edge"}, "tiling.longest_edge is 0; the policy of that na"),
        (
            {"policy": "longest_edge", "longest_edge": 5000},
            "tiling.longest_edge is 5000; .* needs 1 to 4096 pixels",
        ),
        ({"policy": "pinpoints"}, "tiling.pinpoints is empty; give grids, such as"),
        ({"pinpoints": ((1, 1),)}, r"has the grid \[1, 1\]; give grids of two tiles"),
        ({"pinpoints": ((0, 2),)}, r"has the grid \[0, 2\]; give grids of two tiles"),
        ({"pad_side": "none"}, "use the policy 'squash' or 'aspect'"),
        (
            {"merge": "spatial"},
            "tiling.merge 'spatial' joins the views, .*'index' must be 'none'",
        ),
        (
            {**PINPOINTS, "merge": "spatial_unpad"},
            "takes away padding on both sides; tiling.pad_side must be 'center', not",
        ),
    ],
)
def test_tilings_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TilingConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"tile_text": "<row_{r}>"},
            r"prompt.tile_text is '<row_{r}>'; it may name only {k}, {i}, {j}",
        ),
        ({"tile_text": "{"}, "prompt.tile_text is '{'; it may name only"),
        ({"tile_text": "{i.real}"}, "it may name only"),
        ({"overview_text": "{i}"}, "prompt.overview_text is '{i}'; it may name only"),
        ({"stop": ()}, "prompt.stop is empty; name the token that ends an answer"),
        (
            {"ground": "Where is it?"},
            r"prompt.ground is 'Where is it\?'; it must name once each of {query}",
        ),
    ],
)
def test_prompts_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PromptConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frame": "tile"}, "coordinates.frame is 'tile'; it must be one of picture"),
        (
            {"box": "{x1} {y1} {x2}"},
            "coordinates.box is .* must name once each of {x1}",
        ),
        (
            {"point": "{x} {x}"},
            "coordinates.point is '{x} {x}'; it must name once each",
        ),
        ({"point": "{x:>9} {y}"}, "coordinates.point is .* must name once each of"),
        ({"point": "{x} {y} {"}, "coordinates.point is .* must name once each of"),
        ({"frame": "canvas"}, "frame 'canvas' needs the format 'tokens'"),
        ({"frame": "tiles"}, "frame 'tiles' needs the format 'tokens'"),
        ({"per_tile": 9}, "per_tile is 9 with the frame 'picture'; it must be above"),
        (
            {"frame": "tiles", "format": "tokens"},
            "coordinates.per_tile is 0 with the frame 'tiles'; it must be above 0",
        ),
        (
            {"frame": "square", "format": "tokens"},
            "frame 'square' needs the format 'digits'",
        ),
        ({"decimals": 2}, "coordinates.range is 1000; with 2 decimals it must be 100"),
    ],
)
def test_coordinates_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CoordinateConfig(**fields)


def test_lists_are_read_and_written() -> None:
    tiling = TilingConfig(pinpoints=((1, 2), (3, 1)))
    prompt = PromptConfig(stop=("<|end|>", "</s>"))
    data = ModelConfig(tiling=tiling, prompt=prompt).to_dict()
    data["tiling"]["pinpoints"] = [[1, 2], [3, 1]]
    data["prompt"]["stop"] = ["<|end|>", "</s>"]
    read = ModelConfig.from_dict(data)
    assert read.tiling == tiling and read.prompt == prompt


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("prompt", "stop", "</s>", "prompt: stop must be a list, not '</s>'"),
        ("prompt", "stop", [3], "prompt: stop must be str, not 3"),
        ("tiling", "pinpoints", [[1]], "tiling: pinpoints must be a list of 2 numbers"),
    ],
)
def test_lists_of_other_things(
    section: str, key: str, value: Any, message: str
) -> None:
    data = ModelConfig().to_dict()
    data[section][key] = value
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(data)


def test_numbers_reach_over_all_tiles_in_a_row() -> None:
    numbers = CoordinateConfig(format="tokens", frame="tiles", per_tile=250)
    tiling = TilingConfig(n_max=5)
    message = (
        "tiling.n_max 5 tiles of coordinates.per_tile 250 numbers exceed "
        "coordinates.range 1000"
    )
    with pytest.raises(ConfigError, match=message):
        ModelConfig(tiling=tiling, coordinates=numbers)
