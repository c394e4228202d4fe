"""`quantize --gptq`: layers rounded for what they are shown."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_unflatten
from test_distil import tasks  # noqa: F401
from test_drift import rows_of

from mm15_mlx import drift, gptq
from mm15_mlx.config import ModelConfig
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.quantize import Quantisation, choose, stored_parameters
from mm15_mlx.weights import load_model

Cli = Callable[..., tuple[int, str, str]]
UI = tuple[MM15, Processor]


def correlated(count: int, inputs: int) -> np.ndarray:
    """Inputs (count, I) that go together, as those of a layer do."""
    rng = np.random.default_rng(0)
    few = rng.normal(size=(count, inputs // 8))
    mixed = few @ rng.normal(size=(inputs // 8, inputs))
    return (mixed + 0.3 * rng.normal(size=(count, inputs))).astype(np.float32)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("size", [32, 64])
def test_words_are_packed_as_mlx_packs_them(bits: int, size: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 2**bits, (5, 128), np.uint8)
    words = gptq.packed_words(codes, bits)
    ones, none = mx.ones((5, 128 // size)), mx.zeros((5, 128 // size))
    way = Quantisation(bits, size)
    assert np.array_equal(way.unpacked((words, ones, none), mx.float32), codes)
    weight = mx.random.normal((5, 128))
    assert words.shape == way(weight)[0].shape and words.dtype == mx.uint32


@pytest.mark.parametrize("bits", [3, 4])
def test_rounding_is_that_of_the_definition(bits: int) -> None:
    """One column after the other, what is left moved to the least squares solution."""
    way = Quantisation(bits, 32)
    x = correlated(400, 64)
    weight = mx.random.normal((6, 64), key=mx.random.key(1))
    products = x.T @ x
    root = gptq.inverse_root(mx.array(products))
    found = np.array(way.unpacked(gptq.rounded(weight, root, way), mx.float32))

    h = products.astype(np.float64)
    h += gptq.DAMPING * np.diag(h).mean() * np.eye(64)
    left = np.array(weight, np.float64)
    for k in range(64):
        if k % 32 == 0:
            group = mx.array(left[:, k : k + 32].astype(np.float32))
            scales, biases = (np.array(a)[:, 0] for a in way(group)[1:])
        code = np.clip(np.rint((left[:, k] - biases) / scales), 0, 2**bits - 1)
        error = left[:, k] - (code * scales + biases)
        after = slice(k + 1, None)
        if k < 63:
            moved = np.linalg.solve(h[after, after], h[after, k])
            left[:, after] += np.outer(error, moved)
        left[:, k] -= error
    # a number half way between two codes may fall on either side
    assert (np.abs(found - left) > 1e-4).mean() < 0.02


def test_errors_of_the_outputs_are_smaller() -> None:
    way = Quantisation(3, 32)
    x = mx.array(correlated(400, 128))
    weight = mx.random.normal((16, 128), key=mx.random.key(2))
    wanted = x @ weight.T

    def error(arrays: tuple[mx.array, ...]) -> float:
        made = x @ way.unpacked(arrays, mx.float32).T
        return mx.square(made - wanted).mean().item()

    root = gptq.inverse_root(x.T @ x)
    assert error(gptq.rounded(weight, root, way)) < 0.4 * error(way(weight))


@pytest.mark.parametrize("products", [mx.zeros((64, 64)), 3 * mx.eye(64)])
def test_without_inputs_that_go_together_it_is_rounded_as_ever(
    products: mx.array,
) -> None:
    way = Quantisation(4, 32)
    weight = mx.random.normal((8, 64)).astype(mx.float16)
    made = gptq.rounded(weight, gptq.inverse_root(products), way)
    for ours, plain in zip(made, way(weight), strict=True):
        assert ours.dtype == plain.dtype
        if plain.dtype == mx.uint32:  # half a step may fall on either side
            assert (ours != plain).mean().item() < 0.1
        else:
            assert mx.array_equal(ours, plain)


def all_ways(model: MM15, way: Quantisation) -> dict[str, Quantisation]:
    parts = ("encoder", "connector", "decoder", "embedding", "head")
    return dict(choose(model, dict.fromkeys(parts, way)).ways)


def test_inputs_are_added_up_over_all_answers(ui: UI, screen: Path) -> None:
    model, processor = ui
    rows = rows_of(model, processor, screen)
    path = "decoder.layers.0.self_attn.q_proj"
    seen: list[np.ndarray] = []
    layer = model.layers[0].self_attn.q_proj
    watch = gptq.Watched(layer)
    normed = model.layers[0].input_layernorm
    model.layers[0].self_attn.q_proj = watch
    plain = type(normed).__call__

    drift.log_probs(model, processor, rows, {})
    model.layers[0].self_attn.q_proj = layer

    for row in rows:  # each by itself, without a cache
        ids = mx.array([[*row.prepared.ids, *row.answer[:-1]]])
        pixels = [processor.pixels(p) for p in row.prepared.images]
        visual = None
        if pixels:
            visual = drift.visual_tokens(model, processor, row.prepared)
        x = plain(normed, model.embed_inputs(ids, visual))
        seen.append(np.array(x)[0])
    together = np.concatenate(seen)
    common = drift.shared([r.prepared.ids for r in rows if r.prepared.images])
    again = seen[0][:common]  # what the three about one picture share is read once
    expected = together.T @ together - 2 * again.T @ again
    assert np.allclose(watch.products, expected, rtol=1e-3, atol=1e-3)
    assert path in gptq.layers(model, all_ways(model, Quantisation(4, 32)))


def test_siblings_are_given_the_same(ui: UI, screen: Path) -> None:
    """Sums are kept once for layers whose inputs are equal, number by number."""
    model, processor = ui
    found = gptq.layers(model, all_ways(model, Quantisation(4, 32)))
    (lot,) = gptq.lots(found)
    watched = {path: gptq.Watched(layer) for path, layer in found.items()}
    model.update_modules(tree_unflatten(list(watched.items())))
    drift.log_probs(model, processor, rows_of(model, processor, screen), {})
    model.update_modules(tree_unflatten(list(found.items())))
    block = "decoder.layers.0.self_attn"
    assert lot[f"{block}.q_proj"] == [f"{block}.{n}_proj" for n in "qkv"]
    assert lot[f"{block}.o_proj"] == [f"{block}.o_proj"]
    for path, siblings in lot.items():
        for sibling in siblings:
            same = mx.array_equal(watched[sibling].products, watched[path].products)
            assert same, sibling


@pytest.mark.parametrize("together", [gptq.TOGETHER, 80_000])
def test_the_model_drifts_less(
    ui: UI, screen: Path, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = ui
    monkeypatch.setattr(gptq, "TOGETHER", together)
    rows = rows_of(model, processor, screen)
    source = drift.log_probs(model, processor, rows, {})
    ways = all_ways(model, Quantisation(3, 32))
    found = gptq.layers(model, ways)
    assert (len(list(gptq.lots(found))) == 1) == (together > 80_000)
    before = {path: layer.weight for path, layer in found.items()}

    def kl() -> float:
        after = drift.log_probs(model, processor, rows, {})
        return drift.divergence(source, after).kl.mean()

    for path, layer in found.items():
        layer.weight = ways[path].rounded(before[path])
    plain = kl()
    for path, layer in found.items():
        layer.weight = before[path]
    said: list[str] = []
    made = gptq.pack(model, processor, rows, ways, mx.float16, said.append)
    assert kl() < 0.5 * plain
    assert gptq.layers(model, ways) == found, "the layers are in their places again"
    assert {n.rpartition(".")[0] for n in made} == set(found)
    assert made["decoder.layers.0.mlp.up_proj.scales"].dtype == mx.float16
    assert said[-1] == f"{len(found)} of {len(found)} layers rounded for their inputs"


def test_experts_and_tables_of_words_are_left(tiny_config: ModelConfig) -> None:
    text = dataclasses.replace(
        tiny_config.text_config, num_experts=4, moe_intermediate_size=32,
        decoder_sparse_step=1,
    )  # fmt: skip
    model = MM15(dataclasses.replace(tiny_config, text_config=text))
    ways = all_ways(model, Quantisation(4, 32))
    left = {p.rpartition(".")[2] for p in ways.keys() - gptq.layers(model, ways).keys()}
    assert left == {"embed_tokens", "gate_proj", "up_proj", "down_proj"}
    mixed = dict.fromkeys(ways, Quantisation(4, 32, "mxfp4"))
    assert gptq.layers(model, mixed) == {}


def test_the_verb(
    ui_folder: Path,
    tasks: Path,  # noqa: F811
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drift, "ANSWER_TOKENS", 4)
    flags = ("--q-bits", "3", "--embedding-bits", "4", "--q-group-size", "32", "--json")
    status, out, err = cli(
        "quantize", "--model", ui_folder, "--mlx-path", tmp_path / "g",
        "--gptq", tasks, *flags,
    )  # fmt: skip
    assert status == 0, err
    report = json.loads(out)
    layers = report["gptq"]["layers"]
    assert report["gptq"] == {"layers": layers, "answers": 4}
    line = f"rounded     {layers} layers for the inputs of 4 answers (GPTQ)"
    assert line in err.splitlines()
    assert line in (tmp_path / "g" / "README.md").read_text()
    status, out, err = cli(
        "quantize", "--model", ui_folder, "--mlx-path", tmp_path / "p", *flags
    )
    assert status == 0, err
    assert "gptq" not in json.loads(out)
    ours, plain = (dict(stored_parameters(tmp_path / f)) for f in ("g", "p"))
    assert ours.keys() == plain.keys()
    kinds = {n: (a.shape, a.dtype) for n, a in ours.items()}
    assert kinds == {n: (a.shape, a.dtype) for n, a in plain.items()}
    changed = {n for n, a in ours.items() if not mx.array_equal(a, plain[n])}
    assert {n.rpartition(".")[0] for n in changed} == {
        n.rpartition(".")[0] for n in ours if ".layers." in n and n.endswith("scales")
    }
    load_model(tmp_path / "g")


def test_what_is_packed_already_is_rounded_from_its_floats(
    ui_folder: Path,
    tasks: Path,  # noqa: F811
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drift, "ANSWER_TOKENS", 4)
    status, _, err = cli(
        "quantize", "--model", ui_folder, "--mlx-path", tmp_path / "8",
        "--q-bits", "8", "--q-group-size", "32",
    )  # fmt: skip
    assert status == 0, err
    status, _, err = cli(
        "quantize", "--model", tmp_path / "8", "--mlx-path", tmp_path / "4",
        "--q-bits", "4", "--q-group-size", "32", "--gptq", tasks,
    )  # fmt: skip
    assert status == 0, err
    model, _ = load_model(tmp_path / "4")
    assert {m.bits for m in model.layers[0].modules() if hasattr(m, "bits")} == {4}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--gptq", "TASKS", "--data", "TASKS"), "--gptq and --data are both "),
        (("--gptq", "TASKS", "--q-mode", "mxfp4"), "--gptq rounds affine linear layers,"
         " and there would be none; use --q-mode affine, or leave --gptq out"),
        (("--gptq", "none.jsonl"), "none.jsonl does not exist"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(
    ui_folder: Path,
    tasks: Path,  # noqa: F811
    tmp_path: Path,
    cli: Cli,
    flags: tuple[str, ...],
    message: str,
) -> None:
    given = [str({"TASKS": tasks}.get(f, f)) for f in flags]
    status, out, err = cli(
        "quantize", "--model", ui_folder, "--mlx-path", tmp_path / "q",
        "--q-group-size", "32", *given,
    )  # fmt: skip
    assert (status, out) == (2, "") and message in err
    assert "the source model answers" not in err and not (tmp_path / "q").exists()
