"""From the PyTorch layout of convert/mm15_torch to a model folder.

What this file is: the rules for the layout in which `nano-ui` is trained, and the
function that writes its folder. What it is not: the importers of public checkpoints,
which bring their own rules. Nothing is unpickled: sources are safetensors or arrays.
"""

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mm15_mlx.checkpoint import read_header
from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.rules import Rule, apply_rules, conv, conv_to_linear
from mm15_mlx.mm15 import MM15
from mm15_mlx.weights import save_model

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


def read_tensors(source: str | Path) -> dict[str, mx.array]:
    """The tensors of a safetensors file, lazily, once its header has been checked."""
    read_header(Path(source))
    return mx.load(str(source))


def mm15_parameters(
    tensors: Mapping[str, mx.array], config: ModelConfig
) -> dict[str, mx.array]:
    """The parameters of `MM15(config)` from tensors in the PyTorch layout."""
    expected = tree_flatten(MM15(config).parameters())
    return apply_rules(tensors, RULES, {name: array.shape for name, array in expected})


def convert_mm15(
    source: str | Path | Mapping[str, np.ndarray],
    config: ModelConfig,
    folder: str | Path,
    *,
    files: Mapping[str, bytes] | None = None,
    dtype: mx.Dtype | None = None,
    force: bool = False,
) -> None:
    """Write the model folder of a `.safetensors` file or a state dict of arrays.

    `files` (tokenizer and card) are written beside the weights; `dtype`, if given, is
    what floats are stored in.
    """
    if isinstance(source, str | Path):
        tensors = read_tensors(source)
    else:
        tensors = {name: mx.array(array) for name, array in source.items()}
    parameters = mm15_parameters(tensors, config)
    if dtype is not None:
        parameters = {name: array.astype(dtype) for name, array in parameters.items()}
    model = MM15(config)
    model.load_weights(list(parameters.items()))
    save_model(folder, model, config, files=files, force=force)
