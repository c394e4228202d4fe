"""Rules for public connectors: Honeybee's, LLaVA's, Idefics3's and InternVL's.

What this file is: tables from a connector's tensor names to those of `connector`, and
of LLaVA-NeXT's `image_newline`. What it is not: reading files (sources.py) or the rest
of a model (encoders.py, decoders.py). `prefix` is a pattern without capturing groups
for what stands before the connector's own names.
"""

import math

import mlx.core as mx

from mm15_mlx.convert.mm15 import pointwise
from mm15_mlx.convert.rules import Rule, Transform, conv

_AFFINE = r"\.(weight|bias)"


def refuse(reason: str) -> Transform:
    """A tensor that no setting of the model can stand for."""

    def fail(x: mx.array) -> mx.array:
        raise ValueError(reason)

    return fail


def without_class_token(x: mx.array) -> mx.array:
    """A table (1, 1 + N, C) of old Honeybee releases as (1, N, C); others as is."""
    rows = x.shape[1]
    square = math.isqrt(rows) ** 2 == rows
    return x if square else x[:, 1:]


def honeybee(prefix: str = r"abstractor\.") -> tuple[Rule, ...]:
    """Honeybee's C-Abstractor."""
    block = prefix + r"(net\.[02]\.b\d+)\."
    own = r"connector.\1."
    return (
        Rule(prefix + "pos_emb", "connector.pos_emb", without_class_token),
        Rule(
            block + r"(conv1|conv3|downsample)\.conv\.weight",
            own + r"\2.conv.weight", pointwise,
        ),
        Rule(block + r"conv2\.conv\.weight", own + "conv2.conv.weight", conv),
        Rule(block + r"(conv[123]|downsample)\.bn" + _AFFINE, own + r"\2.bn.\3"),
        Rule(block + r"se\.(fc[12])\.weight", own + r"se.\2.weight", pointwise),
        Rule(block + r"se\.(fc[12])\.bias", own + r"se.\2.bias"),
        Rule(prefix + r"readout\.(\d+)" + _AFFINE, r"connector.readout.\1.\2"),
        Rule(
            prefix + "eos_tokens", "connector.eos_tokens",
            refuse("tokens after a view are not supported; num_eos_tokens must be 0"),
        ),
        Rule(
            prefix + rf"prenorm{_AFFINE}", r"connector.prenorm.\1",
            refuse("a norm before the C-Abstractor is not supported"),
        ),
    )  # fmt: skip


def llava(
    prefix: str = r"(?:model\.)?multi_modal_projector\.", scale: float = 1.0
) -> tuple[Rule, ...]:
    """LLaVA's MLP of two Linears, as transformers names them.

    `scale` is what visual tokens are multiplied by before the decoder: √hidden_size
    with Gemma as transformers 4 computed it, which Ferret-UI was trained with.
    """
    return (
        Rule(prefix + "linear_1" + _AFFINE, r"connector.readout.0.\1"),
        Rule(prefix + "linear_2" + _AFFINE, r"connector.readout.2.\1", times(scale)),
    )


def llava_original(
    prefix: str = r"model\.mm_projector\.", scale: float = 1.0
) -> tuple[Rule, ...]:
    """LLaVA's MLP of two Linears, as its own code names them; `scale` as above."""
    return (
        Rule(prefix + "0" + _AFFINE, r"connector.readout.0.\1"),
        Rule(prefix + "2" + _AFFINE, r"connector.readout.2.\1", times(scale)),
    )


def newline(prefix: str = r"(?:model\.)?") -> tuple[Rule, ...]:
    """What LLaVA-NeXT puts after each row of visual tokens."""
    return (Rule(prefix + "image_newline", "image_newline"),)


def idefics3(prefix: str = r"(?:model\.)?connector\.") -> tuple[Rule, ...]:
    """One Linear without bias after the pixel shuffle: Idefics3, SmolVLM."""
    return (
        Rule(
            prefix + r"modality_projection\.proj\.weight", "connector.readout.0.weight"
        ),
    )


def internvl(prefix: str = r"(?:model\.)?multi_modal_projector\.") -> tuple[Rule, ...]:
    """A norm and two Linears after the pixel shuffle, as transformers names them."""
    return (
        Rule(prefix + "layer_norm" + _AFFINE, r"connector.pre_layernorm.\1"),
        *llava(prefix),
    )


def internvl_original(prefix: str = r"mlp1\.") -> tuple[Rule, ...]:
    """A norm and two Linears after the pixel shuffle, as OpenGVLab names them."""
    return (
        Rule(prefix + "0" + _AFFINE, r"connector.pre_layernorm.\1"),
        Rule(prefix + "1" + _AFFINE, r"connector.readout.0.\1"),
        Rule(prefix + "3" + _AFFINE, r"connector.readout.2.\1"),
    )


def times(scale: float) -> Transform:
    return lambda x: x * scale
