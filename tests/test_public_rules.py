"""Tables of public checkpoints: transforms, what is left out, configurations.

Numbers are compared in tests/parity; here is what needs no PyTorch.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mm15_mlx.config import (
    ConfigError,
    ConnectorConfig,
    ModelConfig,
    TextConfig,
    TilingConfig,
    VisionConfig,
)
from mm15_mlx.connector import CAbstractor, MLPConnector
from mm15_mlx.convert import connectors, decoders, encoders
from mm15_mlx.convert.rules import Rule, RulesError, apply_rules
from mm15_mlx.decoder import Decoder
from mm15_mlx.mm15 import MM15

TEXT = TextConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, vocab_size=32, qk_norm=False,
)  # fmt: skip


def parameters(module: Any, prefix: str) -> dict[str, mx.array]:
    return {f"{prefix}.{n}": a for n, a in tree_flatten(module.parameters())}


def converted(
    source: dict[str, mx.array], rules: tuple[Rule, ...], expected: Mapping[str, Any]
) -> dict[str, mx.array]:
    shapes = {name: array.shape for name, array in expected.items()}
    return apply_rules(source, rules, shapes)


def equal(got: dict[str, mx.array], expected: dict[str, mx.array]) -> None:
    assert set(got) == set(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(np.array(got[name]), np.array(array), atol=1e-6)


def hub(name: str) -> str:
    """Our decoder's name as Llama's files have it."""
    name = name.removeprefix("decoder.")
    return name if name.startswith("lm_head") else f"model.{name}"


# --- decoders ------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_llamas_names_are_ours(family: str) -> None:
    config = dataclasses.replace(
        TEXT, attention_bias=family == "qwen2", qk_norm=family == "qwen3",
        tie_word_embeddings=False,
    )  # fmt: skip
    ours = parameters(Decoder(config), "decoder")
    source = {hub(n): a for n, a in ours.items()}
    source["model.layers.0.self_attn.rotary_emb.inv_freq"] = mx.zeros(4)
    rules = decoders.DECODERS[family](config, r"model\.", "lm_head")
    equal(converted(source, rules, ours), ours)


def test_a_head_of_its_own_is_not_dropped_silently() -> None:
    """Else a configuration that forgets to say untied gives a model of nonsense."""
    ours = parameters(Decoder(TEXT), "decoder")
    source = {hub(n): a for n, a in ours.items()} | {"lm_head.weight": mx.zeros((2, 2))}
    with pytest.raises(RulesError, match="decoder.lm_head.weight: not in the model"):
        converted(source, decoders.llama(TEXT), ours)


def test_gemma_adds_one_to_norms_alone() -> None:
    ours = parameters(Decoder(TEXT), "decoder")
    source = {hub(n): a - 1 if "norm" in n else a for n, a in ours.items()}
    equal(converted(source, decoders.gemma(TEXT), ours), ours)


def test_phi3_splits_what_is_fused() -> None:
    ours = parameters(Decoder(TEXT), "decoder")
    source = {}
    for name, array in ours.items():
        parts = {
            "q_proj": ("qkv_proj", ("q_proj", "k_proj", "v_proj")),
            "gate_proj": ("gate_up_proj", ("gate_proj", "up_proj")),
        }
        layer = name.split(".")[-2]
        if layer in parts:
            fused, names = parts[layer]
            arrays = [ours[name.replace(layer, part)] for part in names]
            source[hub(name.replace(layer, fused))] = mx.concatenate(arrays)
        elif layer not in ("k_proj", "v_proj", "up_proj"):
            source[hub(name)] = array
    equal(converted(source, decoders.phi3(TEXT), ours), ours)
    other = dataclasses.replace(TEXT, num_key_value_heads=4)
    with pytest.raises(RulesError, match=r"qkv_proj.weight: shape .*96 rows expected"):
        converted(source, decoders.phi3(other), ours)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_experts_are_stacked(family: str) -> None:
    config = dataclasses.replace(
        TEXT, num_experts=11, decoder_sparse_step=1, moe_intermediate_size=12
    )
    ours = parameters(Decoder(config), "decoder")
    source = {}
    for name, array in ours.items():
        layer, _, rest = name.partition(".mlp.")
        if rest == "gate.weight" and family == "mixtral":
            source[hub(f"{layer}.block_sparse_moe.gate.weight")] = array
        elif not rest or rest == "gate.weight":
            source[hub(name)] = array
        for e in range(11) if rest.startswith("switch_mlp.") else ():
            part = rest.removeprefix("switch_mlp.").removesuffix(".weight")
            own = {"gate_proj": "w1", "down_proj": "w2", "up_proj": "w3"}[part]
            there = f"mlp.experts.{e}.{part}"
            if family == "mixtral":
                there = f"block_sparse_moe.experts.{e}.{own}"
            source[hub(f"{layer}.{there}.weight")] = array[e]
    rules = decoders.DECODERS[family](config, r"model\.", "lm_head")
    equal(converted(source, rules, ours), ours)


# --- encoders and connectors ---------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "block"),
    [
        (encoders.clip, "vision_model.encoder.layers.{}.mlp.fc1.weight"),
        (encoders.open_clip, "visual.transformer.resblocks.{}.mlp.c_fc.weight"),
        (encoders.timm, "blocks.{}.mlp.fc1.weight"),
        (encoders.internvit, "vision_model.encoder.layers.{}.mlp.fc1.weight"),
        (encoders.internvl, "model.vision_tower.encoder.layer.{}.mlp.fc1.weight"),
    ],
)
def test_blocks_above_the_feature_layer_are_left_out(table: Any, block: str) -> None:
    rules = table(VisionConfig(num_hidden_layers=12, feature_layer=-2))
    for layer in range(12):
        targets = [
            t for r in rules if (t := r.targets(block.format(layer))) is not None
        ]
        kept = (f"encoder.layers.{layer}.mlp.fc1.weight",)
        assert targets == [kept if layer < 11 else ()]


def test_the_last_norm_is_kept_only_where_it_is_used() -> None:
    for post, expected in ((True, ("encoder.post_layernorm.bias",)), (False, ())):
        rules = encoders.clip(VisionConfig(post_norm=post))
        name = "vision_model.post_layernorm.bias"
        found = [t for r in rules if (t := r.targets(name)) is not None]
        assert found == [expected]


def test_honeybee_with_and_without_a_class_row() -> None:
    config = ConnectorConfig(num_visual_tokens=4, hidden_size=12, depth=1)
    ours = parameters(CAbstractor(config, 8, 10, grid=4), "connector")
    source = {}
    for name, array in ours.items():
        name = name.replace("connector.", "abstractor.")
        if name.endswith("conv2.conv.weight"):
            array = array.transpose(0, 3, 1, 2)
        elif ".conv." in name or (".se." in name and name.endswith("weight")):
            array = array[:, :, None, None]
        source[name] = array
    equal(converted(source, connectors.honeybee(), ours), ours)
    row = mx.ones((1, 1, 8))
    old = source | {
        "abstractor.pos_emb": mx.concatenate([row, source["abstractor.pos_emb"]], 1)
    }
    equal(converted(old, connectors.honeybee(), ours), ours)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("eos_tokens", "tokens after a view are not supported; num_eos_tokens must be"),
        ("prenorm.weight", "a norm before the C-Abstractor is not supported"),
    ],
)
def test_what_honeybee_has_and_the_connector_has_not(name: str, message: str) -> None:
    source = {f"abstractor.{name}": mx.zeros((1, 2, 8))}
    with pytest.raises(RulesError, match=rf"abstractor.{name}: .*{message}"):
        converted(source, connectors.honeybee(), {})


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (connectors.llava, ("multi_modal_projector.linear_1", "linear_2")),
        (connectors.llava_original, ("model.mm_projector.0", "2")),
    ],
)
def test_visual_tokens_scaled_in_the_last_linear(table: Any, names: Any) -> None:
    """Ferret-UI with Gemma: the tokens come out √hidden_size as large."""
    first, last = names
    last = first.rpartition(".")[0] + "." + last
    mlp = MLPConnector(ConnectorConfig(type="mlp"), 8, 10)
    source = {}
    for name, array in parameters(mlp, "connector").items():
        there = first if "readout.0" in name else last
        source[f"{there}.{name.rpartition('.')[2]}"] = array
    rules = table(scale=4.0)
    filled = converted(source, rules, parameters(mlp, "connector"))
    scaled = MLPConnector(ConnectorConfig(type="mlp"), 8, 10)
    scaled.load_weights([(n.removeprefix("connector."), a) for n, a in filled.items()])
    x = mx.random.normal((1, 4, 8), key=mx.random.key(0))
    np.testing.assert_allclose(np.array(scaled(x)), 4 * np.array(mlp(x)), atol=1e-5)


# --- configurations ------------------------------------------------------------------


def test_keys_that_a_configuration_lacks() -> None:
    """LLaVA-1.5's, which says four things of its Vicuna."""
    data = {
        "model_type": "llama", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
        "vocab_size": 32064,
    }  # fmt: skip
    config = decoders.text_config(data, tied=False)
    assert (config.hidden_size, config.intermediate_size) == (4096, 11008)
    assert (config.num_hidden_layers, config.head_dim) == (32, 128)
    assert config.num_key_value_heads == 32 and config.rope_theta == 10_000
    assert not config.tie_word_embeddings and not config.qk_norm


PHI3_128K = {
    "model_type": "phi3", "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096, "sliding_window": 262144,
    "rope_scaling": {
        "type": "su", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("data", "context"),
    [
        ({"model_type": "mistral"}, 4096),  # the window of the class
        ({"model_type": "mistral", "sliding_window": None}, 131072),
        ({"model_type": "qwen2", "sliding_window": 4096}, 32768),
        (
            {"model_type": "qwen2", "sliding_window": 4096, "use_sliding_window": True},
            4096,
        ),
        ({"model_type": "phi3", "sliding_window": 2047}, 2047),
        (PHI3_128K, 4096),
        (
            {"model_type": "llama", "max_position_embeddings": 4096,
             "rope_scaling": {"type": "linear", "factor": 4.0}},
            16384,
        ),
    ],
)  # fmt: skip
def test_the_context_ends_where_the_decoder_would_differ(
    data: dict[str, Any], context: int
) -> None:
    assert decoders.text_config(data, tied=True).max_position_embeddings == context


def test_longrope_of_phi3() -> None:
    rope = decoders.text_config(PHI3_128K, tied=False).rope_scaling
    assert (rope.rope_type, rope.factor) == ("longrope", 32.0)
    assert rope.short_factor == (1.0,) * 48


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"model_type": "olmoe"}, "model_type is 'olmoe'; decoders that can be conv"),
        ({"model_type": "llama", "attention_bias": True}, "attention_bias is True; th"),
        ({"model_type": "llama", "mlp_bias": True}, "mlp_bias is True; this model can"),
        ({"model_type": "llama", "rope_interleaved": True}, "rope_interleaved is True"),
        (
            {"model_type": "qwen3_moe", "mlp_only_layers": [0]},
            r"mlp_only_layers is \[0\]; this model can only have \[\]",
        ),
        (
            {"model_type": "phi3", "partial_rotary_factor": 0.75},
            "partial_rotary_factor is 0.75; this model can only have 1.0",
        ),
        (
            {"model_type": "phi3", "rope_parameters": {"partial_rotary_factor": 0.5}},
            "rope_parameters.partial_rotary_factor is 0.5; this model can only have",
        ),
        (
            PHI3_128K | {"rope_parameters": {
                "rope_type": "longrope", "attention_factor": 1.2, "short_factor": []
            }},
            "rope_parameters.attention_factor is 1.2; this model can only compute",
        ),
        (
            {"model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 2.0}},
            "rope_scaling.rope_type is 'yarn'; it must be one of default, linear, lla",
        ),
    ],
)  # fmt: skip
def test_decoders_that_cannot_be_converted(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"text_config.{message}"):
        decoders.text_config(data, tied=True)


def test_a_tower_of_which_little_is_said() -> None:
    """SmolVLM's for 500M lacks the depth and the width of its MLP."""
    data = {
        "model_type": "smolvlm_vision", "hidden_size": 768, "num_attention_heads": 12,
        "patch_size": 16, "image_size": 512,
    }  # fmt: skip
    config = encoders.vision_config(data, post_norm=True)
    assert (config.num_hidden_layers, config.intermediate_size) == (12, 3072)
    assert config.hidden_act == "gelu_pytorch_tanh" and config.layer_norm_eps == 1e-6
    assert config.patch_bias and not config.class_token and not config.pre_norm


SMALL = {"hidden_size": 768, "num_attention_heads": 12, "patch_size": 16}
SO400M = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "patch_size": 14,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "vision", "side", "factor", "tokens", "published"),
    [
        ((576, 1536, 30, 9, 3, 49280), SMALL, 512, 4, 64, 256_484_928),
        ((960, 2560, 32, 15, 5, 49280), SMALL, 512, 4, 64, 507_482_304),
        ((2048, 8192, 24, 32, 32, 49280), SO400M, 384, 3, 81, 2_246_784_880),
    ],
)
def test_smolvlm_has_as_many_parameters_as_published(
    text: tuple[int, ...], vision: dict[str, Any], side: int, factor: int, tokens: int,
    published: int,
) -> None:  # fmt: skip
    """256M, 500M and 2.2B; their heads are untied though no key says so."""
    keys = (
        "hidden_size intermediate_size num_hidden_layers num_attention_heads "
        "num_key_value_heads vocab_size"
    ).split()
    decoder = {"model_type": "llama", **dict(zip(keys, text, strict=True))}
    tower = {"model_type": "idefics3_vision", "image_size": side, **vision}
    config = ModelConfig(
        vision_config=encoders.vision_config(tower, post_norm=True),
        connector_config=ConnectorConfig(
            type="pixel_shuffle", num_visual_tokens=tokens, scale_factor=factor,
            mlp_depth=1, mlp_bias=False,
        ),
        text_config=decoders.text_config(decoder, tied=False),
        tiling=TilingConfig(tile_size=side),
    )  # fmt: skip
    arrays = tree_flatten(MM15(config).parameters())  # never computed
    assert sum(array.size for _, array in arrays) == published


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"model_type": "vit"},
            "model_type is 'vit'; towers that can be converted are",
        ),
        (
            {"model_type": "intern_vit_6b", "qk_normalization": True},
            "qk_normalization is True; this model can only have False",
        ),
        (
            {"model_type": "internvl_vision", "norm_type": "rms_norm"},
            "norm_type is 'rms_norm'; this model can only have 'layer_norm'",
        ),
        (
            {"model_type": "internvl_vision", "image_size": [448, 224]},
            r"image_size is \[448, 224\]; it must be square",
        ),
    ],
)
def test_towers_that_cannot_be_converted(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"vision_config.{message}"):
        encoders.vision_config(data)
