import dataclasses
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from mm15_mlx.checkpoint import WeightsError
from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.mm15 import RULES, convert_mm15, mm15_parameters
from mm15_mlx.convert.rules import (
    Rule,
    RulesError,
    apply_rules,
    conv_to_linear,
)
from mm15_mlx.mm15 import MM15
from mm15_mlx.weights import load_model

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def arrays(*names: str) -> dict[str, mx.array]:
    return {name: mx.array(A) + i for i, name in enumerate(names)}


def fails(tensors: dict[str, mx.array], rules: list[Rule], *problems: str) -> None:
    with pytest.raises(RulesError, match="the source does not fit the model") as caught:
        apply_rules(tensors, rules, {"w": (2, 3)})
    said = str(caught.value).partition("configuration describes:")[2]
    assert said.split("\n  ") == (
        ["", *problems] if problems[1:] else [f" {problems[0]}"]
    )


# --- the machinery -----------------------------------------------------------------


def test_renames_transposes_and_drops() -> None:
    rules = [Rule(r"a\.(\w)", r"b.\1", lambda x: x.T), Rule("ids", None)]
    got = apply_rules(arrays("a.w", "ids"), rules, {"b.w": (3, 2)})
    assert list(got) == ["b.w"] and np.array_equal(np.array(got["b.w"]), A.T)


def test_stacks_slices_in_order() -> None:
    rules = [Rule(r"e\.(\d+)", r"w[\1]")]
    tensors = arrays(*(f"e.{i}" for i in (3, 0, 11, 1, 2, 4, 5, 6, 7, 8, 9, 10)))
    got = apply_rules(tensors, rules, {"w": (12, 2, 3)})["w"]
    assert [int(got[i, 0, 0]) for i in (0, 1, 2, 3, 11)] == [1, 3, 4, 0, 2]


def test_splits_one_tensor_into_several() -> None:
    rules = [Rule(r"(\w+)\.qkv", (r"\1.q", r"\1.k"), lambda x: (x[:1], x[1:]))]
    got = apply_rules(arrays("a.qkv"), rules, {"a.q": (1, 3), "a.k": (1, 3)})
    assert np.array_equal(np.array(got["a.k"]), A[1:])


def test_no_rule_and_two_rules() -> None:
    rules = [Rule("x", "w"), Rule("[xy]", "w")]
    fails(arrays("z"), rules, "z: no rule", "w: missing")
    fails(arrays("x"), rules, "x: rules 'x' and '[xy]'", "w: missing")


def test_a_rule_matches_whole_names_only() -> None:
    fails(arrays("xx"), [Rule("x", "w")], "xx: no rule", "w: missing")


def test_filled_twice() -> None:
    rules = [Rule("[ab]", "w")]
    fails(arrays("a", "b"), rules, "w: filled twice, the second time by b")


def test_unknown_and_misshaped_targets() -> None:
    rules = [Rule("a", "w", lambda x: x.T), Rule("b", "v")]
    fails(
        arrays("a", "b"), rules,
        "w: shape (3, 2), expected (2, 3)", "v: not in the model",
    )  # fmt: skip


def test_slices_with_a_gap() -> None:
    rules = [Rule(r"e\.(\d)", r"w[\1]")]
    message = "w: parts [0, 2] of shapes [(2, 3)] cannot be stacked"
    fails(arrays("e.0", "e.2"), rules, message, "w: missing")


def test_slices_of_different_shapes() -> None:
    tensors = {"e.0": mx.zeros((2,)), "e.1": mx.zeros((3,))}
    message = "w: parts [0, 1] of shapes [(2,), (3,)] cannot be stacked"
    fails(tensors, [Rule(r"e\.(\d)", r"w[\1]")], message, "w: missing")


def test_filled_whole_and_in_parts() -> None:
    rules = [Rule("a", "w"), Rule("b", "w[0]")]
    fails(arrays("a", "b"), rules, "w: filled whole and in parts")


def test_a_transform_that_does_not_apply() -> None:
    with pytest.raises(RulesError, match=r"a: shape \(2, 3\) does not convert"):
        apply_rules(arrays("a"), [Rule("a", "w", conv_to_linear)], {"w": (2, 3)})
    with pytest.raises(RulesError, match="1 arrays for 2 targets"):
        apply_rules(arrays("a"), [Rule("a", ("w", "v"))], {"w": (2, 3)})


def test_at_most_ten_problems() -> None:
    with pytest.raises(RulesError, match="… and 5 more$") as caught:
        apply_rules(arrays(*"abcdefghijklmno"), [], {})
    assert len(str(caught.value).split("\n")) == 12


# --- the rules of the PyTorch layout -----------------------------------------------


def torch_layout(model: MM15, patch: int) -> dict[str, np.ndarray]:
    """The tensors as PyTorch would name and shape them: the rules, backwards."""
    tensors = {}
    for name, array in tree_flatten(model.parameters()):
        x = np.array(array)
        if name == "encoder.patch_embedding.weight":
            x = x.reshape(x.shape[0], patch, patch, 3).transpose(0, 3, 1, 2)
        elif name.endswith("conv2.conv.weight"):
            x = x.transpose(0, 3, 1, 2)
        elif ".conv.weight" in name or (".se." in name and name.endswith("weight")):
            x = x[:, :, None, None]
        if ".switch_mlp." in name:
            layer, _, rest = name.partition(".switch_mlp.")
            tensors |= {f"{layer}.experts.{e}.{rest}": x[e] for e in range(len(x))}
        else:
            tensors[name] = x
    return tensors


@pytest.fixture(params=["dense", "moe", "mlp", "avg_pool"])
def config(request: pytest.FixtureRequest, tiny_config: ModelConfig) -> ModelConfig:
    if request.param == "dense":
        return tiny_config
    if request.param == "moe":
        text = dataclasses.replace(
            tiny_config.text_config, num_experts=12, moe_intermediate_size=32,
            attention_bias=True, tie_word_embeddings=False,
        )  # fmt: skip
        return dataclasses.replace(tiny_config, text_config=text)
    connector = dataclasses.replace(
        tiny_config.connector_config, type=request.param,
        num_visual_tokens=36 if request.param == "mlp" else 16,
    )  # fmt: skip
    return dataclasses.replace(tiny_config, connector_config=connector)


def test_rules_are_a_bijection(config: ModelConfig) -> None:
    model = MM15(config)
    tensors = {n: mx.array(x) for n, x in torch_layout(model, 14).items()}
    got = mm15_parameters(tensors, config)
    for name, array in tree_flatten(model.parameters()):
        assert mx.array_equal(got.pop(name), array).item(), name
    assert not got
    for name in tensors:
        assert sum(rule.targets(name) is not None for rule in RULES) == 1, name


@pytest.mark.parametrize("as_file", [True, False])
def test_convert_writes_a_folder(
    tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig, as_file: bool
) -> None:
    source = torch_layout(tiny_model, 14)
    if as_file:
        tensors = {name: mx.array(x) for name, x in source.items()}
        mx.save_safetensors(str(tmp_path / "nano.safetensors"), tensors)
    convert_mm15(
        tmp_path / "nano.safetensors" if as_file else source,
        tiny_config, tmp_path / "out", files={"tokenizer.json": b"{}"},
    )  # fmt: skip
    model, _ = load_model(tmp_path / "out")
    ids = mx.array([[7] + [4] * 16 + [9]])
    pixels = mx.random.normal((1, 84, 84, 3), key=mx.random.key(2))
    assert mx.array_equal(model(ids, pixels), tiny_model(ids, pixels)).item()
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == b"{}"


def test_convert_stores_in_another_type(
    tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig
) -> None:
    source = torch_layout(tiny_model, 14)
    convert_mm15(source, tiny_config, tmp_path / "out", dtype=mx.float16)
    model, _ = load_model(tmp_path / "out", keep_dtype=True)
    assert {a.dtype for _, a in tree_flatten(model.parameters())} == {mx.float16}


def test_convert_refuses_the_wrong_configuration(
    tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig
) -> None:
    source = torch_layout(tiny_model, 14)
    text = dataclasses.replace(tiny_config.text_config, vocab_size=97)
    config = dataclasses.replace(tiny_config, text_config=text)
    with pytest.raises(RulesError, match=r"embed_tokens.weight: shape \(96, 64\), exp"):
        convert_mm15(source, config, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_convert_refuses_a_file_that_is_none(
    tmp_path: Path, tiny_config: ModelConfig
) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x02}q\x00." * 100)
    with pytest.raises(WeightsError, match="not a safetensors file"):
        convert_mm15(tmp_path / "x.safetensors", tiny_config, tmp_path / "out")
    with pytest.raises(WeightsError, match="there is no checkpoint .*y.safetensors;"):
        convert_mm15(tmp_path / "y.safetensors", tiny_config, tmp_path / "out")
