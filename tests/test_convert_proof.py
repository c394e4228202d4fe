"""What a conversion proves: every tensor accounted for, and a model that runs."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from checkpoints import CONFIG, TOWER, shapes, tensors, write
from mm15_mlx import load
from mm15_mlx.checkpoint import weight_files
from mm15_mlx.config import UserError
from mm15_mlx.convert import proof, run
from mm15_mlx.convert.keys import Keys, keys_of
from mm15_mlx.convert.rules import Rule, plan_rules
from mm15_mlx.convert.sources import open_source
from mm15_mlx.quantize import Quantisation

Cli = Callable[..., tuple[int, str, str]]


def test_every_tensor_is_accounted_for(source: Path, tmp_path: Path, cli: Cli) -> None:
    """The tower's last block and norm are not used, nor are indices of positions."""
    ids = {f"{TOWER}embeddings.position_ids": mx.arange(5)[None].astype(mx.int64)}
    write(source, CONFIG, tensors() | ids)
    status, out, err = cli("convert", "--hf-path", source, "--mlx-path", tmp_path / "o")
    assert (status, err) == (0, "")
    whole = sum(math.prod(shape) for shape in shapes().values())
    unused = (f"{TOWER}post_layernorm", f"{TOWER}encoder.layers.1.")
    left = {n: math.prod(s) for n, s in shapes().items() if n.startswith(unused)}
    names = (
        f"{len(shapes()) + 1} tensors → {len(shapes()) - len(left)} parameters, "
        f"{len(left) + 1} left out"
    )
    rest = whole - sum(left.values())
    numbers = (
        f"{rest:,} parameters = {whole:,} of the source − {sum(left.values()):,} "
        "left out"
    )
    assert f"keys        {names}" in out.splitlines()
    assert f"model       {numbers}" in out.splitlines()
    assert f"\n{names}: {numbers}.\n" in (tmp_path / "o" / "README.md").read_text()
    model, _ = load(tmp_path / "o")
    assert sum(a.size for _, a in tree_flatten(model.parameters())) == rest


def test_a_sum_that_does_not_come_out() -> None:
    keys = Keys(
        tensors=2, parameters=1, left=1, source=30, left_out=10, cut=2, made=1, model=9
    )
    assert keys.numbers() == (
        "9 parameters = 30 of the source − 10 left out − 2 cut off + 1 made here"
    )
    with pytest.raises(UserError, match="a/b does not add up: the model has 9 param.*"):
        keys.check("a/b")
    dataclasses.replace(keys, model=19).check("a/b")


def test_rows_that_are_cut_off_and_numbers_that_come_from_nowhere(
    tmp_path: Path,
) -> None:
    held = {"a": mx.zeros((5, 3)), "b": mx.zeros((2,)), "c": mx.zeros((4,))}
    mx.save_safetensors(str(tmp_path / "model.safetensors"), held)
    source = open_source(tmp_path)
    rules = (
        Rule("a", "a", lambda x: x[1:]), Rule("b", None), Rule("c", "c")
    )  # fmt: skip
    shapes = {"a": (4, 3), "c": (4,)}
    keys = keys_of(source, plan_rules(source.placeholders(), rules, shapes))
    assert keys == Keys(3, 2, 1, source=21, left_out=2, cut=3, made=0, model=16)
    keys.check("a/b")
    more = (*rules[:2], Rule("c", "c", lambda x: mx.concatenate([x, x])))
    plan = plan_rules(source.placeholders(), more, shapes | {"c": (8,)})
    with pytest.raises(UserError, match="a/b does not add up"):
        keys_of(source, plan).check("a/b")


def test_the_proof_holds_one_layer_and_gives_what_the_model_gives(
    source: Path, tmp_path: Path
) -> None:
    """Packed and not; a layer's weights are gone when it has run."""
    said: list[str] = []
    ways = (None, Quantisation(8, 32))
    for i, way in enumerate(ways):
        out = tmp_path / f"out{i}"
        run.convert(source, out, name="a/b", quantisation=way, say=said.append)
        model, processor = load(out)
        size = model.config.tiling.tile_size
        pictures = [proof.ramps(size, size)]
        inputs = processor(proof.QUESTION, images=pictures)
        whole = model(**inputs)
        passing = proof.in_passing(out, weight_files(out))
        assert mx.array_equal(passing(**inputs), whole)
        layers = (*passing.encoder.layers, *passing.decoder.layers)
        tables = (passing.decoder.embed_tokens, passing.decoder.lm_head)
        assert all(isinstance(x, proof.Passing) for x in (*layers, *tables))
        assert not any(
            mx.any(a != 0).item() for x in (*layers, *tables)
            for _, a in tree_flatten(x._layer.parameters())
        )  # fmt: skip
        count = sum(a.size for _, a in tree_flatten(model.parameters()))
        last = int(whole[0, -1].argmax().item())
        length = inputs["input_ids"].shape[1]
        line = [x for x in said if x.startswith("proof ")][-1]
        assert line == (
            f"proof       loaded {count:,} numbers, ran {length} tokens, next would be "
            f"token {last}"
        )
