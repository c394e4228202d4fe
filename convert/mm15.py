"""From the PyTorch layout of convert/mm15_torch to a model folder.

What this file is: the rules for the layout in which `nano-ui` is trained, the reader of
a folder that holds it, and the function that writes its model folder. What it is not:
the importers of public checkpoints, which bring their own rules.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from mm15_mlx.config import ConfigError, ModelConfig
from mm15_mlx.convert.recipes import Json, Recipe, Shapes
from mm15_mlx.convert.rules import Rule, conv, conv_to_linear
from mm15_mlx.convert.sources import open_source
from mm15_mlx.convert.stream import plan_model, write_model
from mm15_mlx.quantize import Quantisation

FAMILY = "mm15"  # the `model_type` of this project's folders, converted or not
SAME = r"\g<0>"
_AFFINE = r"\.(weight|bias)"


def pointwise(x: mx.array) -> mx.array:
    """A 1×1 convolution (O, I, 1, 1) as a Linear (O, I)."""
    return x.reshape(x.shape[0], x.shape[1])


ENCODER = (
    Rule(r"encoder\.patch_embedding\.weight", SAME, conv_to_linear),
    Rule(r"encoder\.(class_embedding|position_embedding)", SAME),
    Rule(r"encoder\.pre_layernorm" + _AFFINE, SAME),
    Rule(r"encoder\.layers\.\d+\.layer_norm[12]" + _AFFINE, SAME),
    Rule(r"encoder\.layers\.\d+\.self_attn\.(q|k|v|out)_proj" + _AFFINE, SAME),
    Rule(r"encoder\.layers\.\d+\.mlp\.fc[12]" + _AFFINE, SAME),
)

_BLOCK = r"connector\.net\.[02]\.b\d+\."
CONNECTOR = (
    Rule(r"connector\.pos_emb", SAME),
    Rule(_BLOCK + r"(conv1|conv3|downsample)\.conv\.weight", SAME, pointwise),
    Rule(_BLOCK + r"conv2\.conv\.weight", SAME, conv),
    Rule(_BLOCK + r"(conv[123]|downsample)\.bn" + _AFFINE, SAME),
    Rule(_BLOCK + r"se\.fc[12]\.weight", SAME, pointwise),
    Rule(_BLOCK + r"se\.fc[12]\.bias", SAME),
    Rule(r"connector\.readout\.\d+" + _AFFINE, SAME),
)

_LAYER = r"decoder\.layers\.\d+\."
DECODER = (
    Rule(r"decoder\.(embed_tokens|norm|lm_head)\.weight", SAME),
    Rule(_LAYER + r"(input|post_attention)_layernorm\.weight", SAME),
    Rule(_LAYER + r"self_attn\.[qkvo]_proj\.weight", SAME),
    Rule(_LAYER + r"self_attn\.[qkv]_proj\.bias", SAME),
    Rule(_LAYER + r"self_attn\.[qk]_norm\.weight", SAME),
    Rule(_LAYER + r"mlp\.(gate|up|down)_proj\.weight", SAME),
    Rule(_LAYER + r"mlp\.gate\.weight", SAME),
    Rule(
        r"(decoder\.layers\.\d+\.mlp)\.experts\.(\d+)\.(gate|up|down)_proj\.weight",
        r"\1.switch_mlp.\3_proj.weight[\2]",
    ),
)

RULES = ENCODER + CONNECTOR + DECODER


def mm15(data: Json, folder: Path, shapes: Shapes) -> Recipe:
    """A training checkpoint, with the `config.json` of a model folder beside it."""
    if len(shapes.get("encoder.patch_embedding.weight", ())) == 2:  # (D, 3 · P²)
        raise ConfigError(
            f"{folder} is a model folder already, not a checkpoint in PyTorch; use it "
            "as it is with --model"
        )
    try:
        config = ModelConfig.from_dict(data)
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}") from None
    return Recipe(FAMILY, config, RULES)


def mm15_parameters(
    tensors: Mapping[str, mx.array], config: ModelConfig
) -> dict[str, mx.array]:
    """The parameters of `MM15(config)` from tensors in the PyTorch layout."""
    return dict(plan_model(config, tensors, RULES).run(tensors.__getitem__))


def convert_mm15(
    source: str | Path | Mapping[str, np.ndarray],
    config: ModelConfig,
    folder: str | Path,
    *,
    files: Mapping[str, bytes] | None = None,
    dtype: mx.Dtype | None = None,
    parts: Mapping[str, Quantisation] | None = None,
    force: bool = False,
) -> None:
    """Write the model folder of a checkpoint (sources.py) or a state dict of arrays.

    `files` (tokenizer and card) are written beside the weights; `dtype`, if given, is
    what floats are stored in; the layers of `parts` are quantised.
    """
    read: Callable[[str], mx.array]
    if isinstance(source, str | Path):
        checkpoint = open_source(source)
        tensors, read = checkpoint.placeholders(), checkpoint.read
    else:
        tensors = {name: mx.array(array) for name, array in source.items()}
        read = tensors.__getitem__
    plan = plan_model(config, tensors, RULES)
    write_model(
        folder, config, plan, read, files=files, dtype=dtype, parts=parts, force=force
    )
