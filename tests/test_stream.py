"""A model folder written one parameter at a time, and whole or not at all."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten

from mm15_mlx.checkpoint import WeightsError
from mm15_mlx.config import ModelConfig
from mm15_mlx.convert.rules import Rule, RulesError, plan_rules
from mm15_mlx.convert.stream import plan_model, write_model
from mm15_mlx.mm15 import MM15
from mm15_mlx.quantize import TEXT_PARTS, Quantisation, choose
from mm15_mlx.weights import load_model, new_folder, write_weights

RULES = (Rule(r".*", r"\g<0>"),)
EXPERT = r"(.*\.switch_mlp\.\w+\.weight)\.(\d+)"
EXPERT_RULES = (
    Rule(EXPERT, r"\1[\2]"),
    Rule(r"(?!" + EXPERT + r"$).*", r"\g<0>"),
)


def parameters(model: nn.Module) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))


class Reader:
    """What reads tensors, with a record of the order."""

    def __init__(self, tensors: Mapping[str, mx.array]) -> None:
        self.tensors, self.asked = tensors, list[str]()

    def __call__(self, name: str) -> mx.array:
        self.asked.append(name)
        return self.tensors[name]


def same(folder: Path, model: nn.Module) -> bool:
    left, right = parameters(load_model(folder, keep_dtype=True)[0]), parameters(model)
    return left.keys() == right.keys() and all(
        left[n].dtype == right[n].dtype and mx.array_equal(left[n], right[n]).item()
        for n in left
    )


# --- the plan -----------------------------------------------------------------------


def test_a_plan_reads_nothing_and_says_what_it_does() -> None:
    huge = mx.zeros((2**20, 2**20))  # 4 TB, if it were ever computed
    rules = (Rule("a", "w", lambda x: x.T), Rule(r"e\.(\d)", r"s[\1]"), Rule("i", None))
    like = {"a": huge, "e.0": huge, "e.1": huge, "i": mx.zeros((2,))}
    plan = plan_rules(like, rules, {"w": huge.shape, "s": (2, *huge.shape)})
    side = 2**20
    assert list(plan.lines()) == [
        f"a ({side}, {side}) → w ({side}, {side})",
        f"e.0 ({side}, {side}) → s[0] (2, {side}, {side})",
        f"e.1 ({side}, {side}) → s[1] (2, {side}, {side})",
        "i (2,) is left out",
    ]


def test_integers_are_no_parameters() -> None:
    with pytest.raises(RulesError, match=r"w: type mlx.core.int32, expected floats"):
        plan_rules({"w": mx.zeros((2,), mx.int32)}, RULES, {"w": (2,)})


def test_slices_are_read_together_and_what_is_left_out_never() -> None:
    """Wherever they lie in the source: else a mixture's experts would all be held."""
    rules = (
        Rule(
            r"(\w)\.gate_up\.(\d)", (r"\1g[\2]", r"\1u[\2]"),
            lambda x: (x[:1], x[1:]),
        ),
        Rule(r"(\w)\.down\.(\d)", r"\1d[\2]"),
        Rule("drop", None),
    )  # fmt: skip
    names = "p.gate_up.1 q.gate_up.0 p.down.0 drop q.gate_up.1 p.gate_up.0 p.down.1"
    tensors = {n: mx.full((2,), i) * 1.0 for i, n in enumerate(names.split())}
    shapes = {n: (2, 1) for n in ("pg", "pu", "qg", "qu")} | {"pd": (2, 2)}
    plan, read = plan_rules(tensors, rules, shapes), Reader(tensors)
    made = {name: array.tolist() for name, array in plan.run(read)}
    assert read.asked == (
        "p.gate_up.1 p.gate_up.0 q.gate_up.0 q.gate_up.1 p.down.0 p.down.1".split()
    )
    assert made["pg"] == [[5], [0]] and made["qu"] == [[1], [4]]
    assert made["pd"] == [[2, 2], [6, 6]]


# --- the folder ---------------------------------------------------------------------


class Case(NamedTuple):
    config: ModelConfig
    model: MM15
    tensors: dict[str, mx.array]
    rules: tuple[Rule, ...]


@pytest.fixture
def case(tiny_config: ModelConfig) -> Case:
    """A mixture of experts whose source has every expert apart."""
    text = dataclasses.replace(
        tiny_config.text_config, num_experts=4, moe_intermediate_size=32
    )
    config = dataclasses.replace(tiny_config, text_config=text)
    mx.random.seed(0)
    model = MM15(config)
    tensors = {}
    for name, array in parameters(model).items():
        if ".switch_mlp." in name:
            tensors |= {f"{name}.{e}": array[e] for e in range(4)}
        else:
            tensors[name] = array
    return Case(config, model, tensors, EXPERT_RULES)


def write(folder: Path, case: Case, **options: Any) -> None:
    plan = plan_model(case.config, case.tensors, case.rules)
    write_model(folder, case.config, plan, case.tensors.__getitem__, **options)


def test_what_is_written_is_what_was_read(tmp_path: Path, case: Case) -> None:
    write(tmp_path / "m", case, files={"README.md": b"# card"})
    assert same(tmp_path / "m", case.model)
    assert (tmp_path / "m" / "README.md").read_bytes() == b"# card"


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_shards_and_another_type(tmp_path: Path, case: Case, dtype: mx.Dtype) -> None:
    write(tmp_path / "m", case, dtype=dtype, shard_bytes=100_000)
    shards = sorted((tmp_path / "m").glob("*.safetensors"))
    assert len(shards) > 2
    largest = max(a.nbytes // 2 for a in parameters(case.model).values())
    assert all(p.stat().st_size < max(100_000, largest) + 9000 for p in shards)
    case.model.set_dtype(dtype)
    assert same(tmp_path / "m", case.model)


@pytest.mark.parametrize(
    "way",
    [Quantisation(4, 32), Quantisation(8, 64), Quantisation(4, 32, "mxfp4")],
    ids=str,
)
def test_quantised_like_the_whole_model(
    tmp_path: Path, case: Case, way: Quantisation
) -> None:
    parts = dict.fromkeys(TEXT_PARTS, way)
    write(tmp_path / "m", case, parts=parts)
    layers = choose(case.model, parts).ways
    assert "decoder.layers.1.mlp.switch_mlp.gate_proj" in layers or way.group_size > 32
    assert not any("mlp.gate" == path[-8:] or "encoder" in path for path in layers)
    nn.quantize(
        case.model, way.group_size, way.bits, mode=way.mode,
        class_predicate=lambda path, _: path in layers,
    )  # fmt: skip
    assert same(tmp_path / "m", case.model)


# --- whole or not at all ------------------------------------------------------------


def test_nothing_is_overwritten_without_force(tmp_path: Path, case: Case) -> None:
    write(tmp_path / "m", case)
    (tmp_path / "m" / "notes.txt").write_text("old")
    with pytest.raises(WeightsError, match="m exists; choose another name or give --f"):
        write(tmp_path / "m", case)
    write(tmp_path / "m", case, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert not (tmp_path / "m" / "notes.txt").exists()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_force_replaces_model_folders_only(
    tmp_path: Path, case: Case, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "home")
    if (tmp_path / "home").is_dir():
        (tmp_path / "home" / "thesis.txt").write_text("years")
    with pytest.raises(
        WeightsError, match="home is no model folder, so it is not repl"
    ):
        write(tmp_path / "home", case, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_an_empty_folder_may_be_replaced(tmp_path: Path, case: Case) -> None:
    (tmp_path / "m").mkdir()
    write(tmp_path / "m", case, force=True)
    assert same(tmp_path / "m", case.model)


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, case: Case) -> None:
    plan = plan_model(case.config, case.tensors, case.rules)

    def read(name: str) -> mx.array:
        if name == "decoder.norm.weight":
            raise WeightsError("the disk was pulled out")
        return case.tensors[name]

    with pytest.raises(WeightsError, match="the disk was pulled out"):
        write_model(tmp_path / "m", case.config, plan, read)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be(tmp_path: Path, case: Case) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(WeightsError, match="m cannot be written: .* exists; choose an"):
        write(tmp_path / "f" / "m", case)


def test_a_full_disk(
    tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10**8)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    write(tmp_path / "small", case)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    message = r"m needs 0.1 GB and .* has 0.0 GB free; choose another disk, or quantise"
    with pytest.raises(WeightsError, match=message):
        write(tmp_path / "deep" / "m", case)
    assert [p.name for p in tmp_path.iterdir()] == ["small"]


KILLED = """
import os, signal, sys
from pathlib import Path
import mlx.core as mx
from mm15_mlx.config import PRESETS
from mm15_mlx.weights import new_folder, write_weights

def arrays():
    yield "a", mx.zeros((1000,))
    os.kill(os.getpid(), signal.SIGKILL)

folder, like = Path(sys.argv[1]), {n: mx.zeros((1000,)) for n in "ab"}
with new_folder(folder, PRESETS["nano-ui"], force=True) as partial:
    write_weights(partial, like, arrays())
"""


@pytest.mark.parametrize("before", [False, True])
def test_a_kill_leaves_the_target_as_it_was(
    tmp_path: Path, case: Case, before: bool
) -> None:
    if before:
        write(tmp_path / "m", case)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "m")])
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "m").exists() == before
    assert not before or same(tmp_path / "m", case.model)
    write(tmp_path / "m", case, force=True)  # what was left over is not in the way
    assert same(tmp_path / "m", case.model)


def test_the_disk_has_it_before_the_name_changes(
    tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        assert not (tmp_path / "m").exists() or synced[-1].endswith(".partial")
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", record)
    write(tmp_path / "m", case)
    assert {Path(s).name for s in synced} > {"config.json", "model.safetensors"}
    assert synced[-1] == str(tmp_path.resolve())


def test_what_was_not_planned_is_not_written(
    tmp_path: Path, tiny_config: ModelConfig
) -> None:
    like = {"a": mx.zeros((2,))}
    with pytest.raises(RuntimeError, match="a: .* came instead of the planned array"):
        with new_folder(tmp_path / "m", tiny_config) as partial:
            write_weights(partial, like, [("a", mx.zeros((3,)))])
    assert list(tmp_path.iterdir()) == []
