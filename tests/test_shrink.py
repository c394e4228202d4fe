"""The verb `quantize`: a folder, a report, a card, and mistakes found early."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from PIL import Image

from mm15_mlx import drift, load, shrink, shrunk
from mm15_mlx.checkpoint import read_config, stored_tensors, weight_files
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.load import find_model
from mm15_mlx.mm15 import MM15
from mm15_mlx.quantize import PARTS, Quantisation, Wanted, choose, stored_parameters
from mm15_mlx.weights import load_model, new_folder, save_model

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random model never stops by itself."""
    monkeypatch.setattr(drift, "ANSWER_TOKENS", 3)


def test_the_verb(ui_folder: Path, tmp_path: Path, cli: Cli) -> None:
    status, out, err = cli(
        "quantize", "--model", ui_folder, "--mlx-path", tmp_path / "q", "--q-bits", "4",
        "--q-group-size", "32", "--encoder-bits", "8", "--connector-bits", "8",
        "--json",
    )  # fmt: skip
    assert status == 0, err
    report = json.loads(out)
    before, after = report["bytes_before"], report["bytes_after"]
    stored = weight_files(tmp_path / "q").popitem()[1]
    assert after == sum(s.nbytes for s in stored.values()) < before
    parts = report["parts"]
    assert parts["decoder"]["bpw"] < 7 < parts["encoder"]["bpw"] < 32
    assert parts["head"]["bpw"] == parts["embedding"]["bpw"] == 32
    assert sum(p["bytes"] for p in parts.values()) == after
    # Scales and biases of float32 weights, in groups of 32.
    assert report["text_bpw"] == 6 < report["quantized_bpw"] < 10
    assert report["layers"]["decoder"] == {"4 bits, affine, groups of 32": 21}
    assert "encoder.patch_embedding" in report["left_floating"]
    assert 0 < report["drift"]["kl_mean"] <= report["drift"]["kl_max"]
    assert report["drift"]["rows"] == 13 and report["folder"] == str(tmp_path / "q")
    text = (tmp_path / "q" / "README.md").read_text()
    line = next(x for x in err.splitlines() if x.startswith("drift "))
    assert "## Quantised" in text and line in text and "left  " in text
    assert "21 × 4 bits, affine, groups of 32" in err
    assert read_config(tmp_path / "q").quantization["bits"] in (4, 8)
    model, processor = load(tmp_path / "q")
    assert model.encoder.layers[0].mlp.fc2.bits == 8
    assert model.decoder.layers[2].mlp.down_proj.bits == 4
    assert isinstance(model.decoder.embed_tokens, nn.Embedding)
    assert processor.tokenizer.special("<|end|>")


def test_the_verb_meets_a_target(ui_folder: Path, tmp_path: Path, cli: Cli) -> None:
    status, out, err = cli(
        "quantize", "--model", ui_folder, "--mlx-path", tmp_path / "q",
        "--q-group-size", "32", "--target-bpw", "6.5", "--high-bits", "6", "--json",
    )  # fmt: skip
    assert status == 0, err
    report = json.loads(out)
    assert 6.4 < report["text_bpw"] <= 6.5
    assert len(report["sensitivity"]) == 23 == len(report["bits"])
    assert set(report["bits"].values()) <= {3, 4, 5, 6}
    model, _ = load_model(tmp_path / "q")
    modules = dict(model.named_modules())
    assert all(modules[p].bits == bits for p, bits in report["bits"].items())
    assert "decoder.lm_head" in report["bits"] and "23/23 decoder." in err


def test_the_verb_on_tasks(
    button: Path, screen: Path, tmp_path: Path, cli: Cli
) -> None:
    """A model that knows one answer by heart keeps it at 8 bits, not at 2."""
    Image.open(screen).save(tmp_path / "a.png")
    box = [12, 40, 72, 140]
    rows = [
        {"id": str(i), "image": "a.png", "task": "find_widget", "query": q, "box": box}
        for i, q in enumerate(("button", "switch", "icon"))
    ]
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("\n".join(map(json.dumps, rows)))
    flags = ("--q-group-size", "32", "--data", tasks, "--limit", "2", "--json")
    changed = []
    for bits in ("8", "2"):
        status, out, err = cli(
            "quantize", "--model", button, "--mlx-path", tmp_path / bits,
            "--embedding-bits", bits, "--head-bits", bits, *flags,
        )  # fmt: skip
        assert status == 0, err
        report = json.loads(out)
        found = report["metrics"]["find_widget"]
        assert found["n"] == 2 == report["drift"]["rows"]
        assert found["acc@0.5"]["before"] == 1
        assert "find_widget   acc@0.5 1.000 → " in err
        changed.append(found["acc@0.5"]["change"])
    assert changed[0] == 0 >= changed[1]


def test_a_quantised_model_is_not_quantised_again(
    ui_folder: Path, tmp_path: Path, cli: Cli
) -> None:
    flags = ("--q-group-size", "32", "--model")
    assert cli("quantize", *flags, ui_folder, "--mlx-path", tmp_path / "a")[0] == 0
    status, _, err = cli(
        "quantize", *flags, tmp_path / "a", "--mlx-path", tmp_path / "b"
    )
    assert status == 2 and "a is quantised already (decoder.layers." in err
    assert "give the floating-point model that it was made of" in err
    status, _, err = cli("quantize", *flags, ui_folder, "--mlx-path", tmp_path / "a")
    assert status == 2
    assert "a exists; choose another name or give --force" in err
    again = ("--mlx-path", tmp_path / "a", "--q-bits", "8", "--force")
    assert cli("quantize", *flags, ui_folder, *again)[0] == 0
    assert dict(load_model(tmp_path / "a")[0].named_modules())[
        "decoder.layers.0.mlp.up_proj"
    ].bits == 8  # fmt: skip


@pytest.fixture
def part_packed(ui_folder: Path, tmp_path: Path) -> Path:
    """As nano-ui is: its tables of words in 8 bits, all else floating."""
    config = read_config(ui_folder)
    ways = dict.fromkeys(("embedding", "head"), Quantisation(8, 32))
    choice = choose(MM15(config), ways)
    files = {"tokenizer.model": (ui_folder / "tokenizer.model").read_bytes()}
    folder = tmp_path / "part"
    with new_folder(folder, choice.record(config), files=files) as partial:
        shrink.write_packed(ui_folder, partial, choice, {})
    return folder


def test_what_is_packed_already_stays(
    part_packed: Path, tmp_path: Path, cli: Cli
) -> None:
    status, out, err = cli(
        "quantize", "--model", part_packed, "--mlx-path", tmp_path / "q",
        "--q-group-size", "32", "--embedding-bits", "8", "--json",
    )  # fmt: skip
    assert status == 0, err
    report = json.loads(out)
    assert report["layers"]["decoder"] == {"4 bits, affine, groups of 32": 21}
    assert report["layers"]["head"] == {"8 bits, affine, groups of 32": 1}
    numbers = report["parts"]["embedding"]["parameters"]
    assert numbers == report["parts"]["head"]["parameters"] == 1400 * 64
    assert report["parts"]["head"]["bpw"] == 10  # scales and biases are float32
    assert 6 < report["text_bpw"] == report["quantized_bpw"] < 10
    before, after = (dict(stored_parameters(f)) for f in (part_packed, tmp_path / "q"))
    for name in ("embed_tokens.weight", "lm_head.scales", "lm_head.biases"):
        assert mx.array_equal(before[f"decoder.{name}"], after[f"decoder.{name}"])
    record = read_config(tmp_path / "q").quantization
    assert record["bits"] == 4 and record["decoder.lm_head"]["bits"] == 8
    assert load_model(tmp_path / "q")[0].decoder.lm_head.bits == 8


def test_what_is_packed_already_takes_fewer_bits(
    part_packed: Path, tmp_path: Path, cli: Cli
) -> None:
    """From its floats, as if it had been packed once."""
    status, out, err = cli(
        "quantize", "--model", part_packed, "--mlx-path", tmp_path / "q",
        "--q-group-size", "32", "--head-bits", "4", "--json",
    )  # fmt: skip
    assert status == 0, err
    assert json.loads(out)["layers"]["head"] == {"4 bits, affine, groups of 32": 1}
    parts = (
        dict(stored_parameters(part_packed)),
        dict(stored_parameters(tmp_path / "q")),
    )
    eight, four = (
        [held[f"decoder.lm_head.{n}"] for n in ("weight", "scales", "biases")]
        for held in parts
    )
    floats = Quantisation(8, 32).unpacked(eight, mx.float32)
    expected = Quantisation(4, 32).rounded(floats)
    assert mx.array_equal(Quantisation(4, 32).unpacked(four, mx.float32), expected)


def test_a_target_counts_what_is_packed_already(
    part_packed: Path, tmp_path: Path, cli: Cli
) -> None:
    status, out, err = cli(
        "quantize", "--model", part_packed, "--mlx-path", tmp_path / "q",
        "--q-group-size", "32", "--target-bpw", "6.5", "--json",
    )  # fmt: skip
    assert status == 0, err
    report = json.loads(out)
    assert 6.3 < report["text_bpw"] <= 6.5 and len(report["bits"]) == 23
    modules = dict(load_model(tmp_path / "q")[0].named_modules())
    assert {p: modules[p].bits for p in report["bits"]} == report["bits"]


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(4),
        Wanted(8, part_bits=dict.fromkeys((*PARTS[:2], *PARTS[3:]), 8)),
        Wanted(recipe="mixed_4_6"),
        Wanted(target_bpw=4.5),
    ],
    ids=["4", "all 8", "mixed", "target"],
)
def test_the_bundled_model_can_be_quantised(wanted: Wanted) -> None:
    """The README's commands have something to do, though its tables are packed."""
    folder = find_model("nano-ui")
    config = read_config(folder)
    held = shrink.held_ways(config, stored_tensors(folder))
    layers = {f"decoder.layers.{i}.mlp.up_proj" for i in range(5)}
    assert layers <= set(wanted.choice(MM15(config)).beside(held).ways)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--target-bpw", "2.5", "--q-group-size", "32"),
         "--target-bpw 2.5 is out of reach: 3 to 8 bits in groups of 32 take 5 to 10 "
         "bits per weight with their scales; change it, --low-bits,"),
        (("--limit", "3"), "--limit is about --data; give a JSONL file of tasks"),
        (("--q-bits", "9"), "--q-bits 9 with --q-group-size 64 is not to be had"),
        (("--data", "none.jsonl"), "none.jsonl does not exist"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_runs(
    ui_folder: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(shrink, "load_model", None)
    status, out, err = cli(
        "quantize", "--model", ui_folder, "--mlx-path", tmp_path / "q", *flags
    )
    assert (status, out) == (2, "") and message in err
    assert not (tmp_path / "q").exists()


def test_a_failure_leaves_nothing(
    ui_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise UserError("no")

    monkeypatch.setattr(shrink, "compared", fails)
    with pytest.raises(UserError, match="^no$"):
        shrink.run(str(ui_folder), tmp_path / "q", Wanted(q_group_size=32))
    assert not list(tmp_path.iterdir())


def test_half_precision_weights_keep_half_precision_scales(
    tmp_path: Path, tiny_model: MM15, tiny_config: ModelConfig
) -> None:
    tiny_model.set_dtype(mx.float16)
    save_model(tmp_path / "m", tiny_model, tiny_config)
    choice = choose(tiny_model, {"decoder": Quantisation()})
    with new_folder(tmp_path / "q", tiny_config) as partial:
        shrink.write_packed(tmp_path / "m", partial, choice, {})
    stored = dict(stored_parameters(tmp_path / "q"))
    assert stored["decoder.layers.0.mlp.up_proj.scales"].dtype == mx.float16
    numbers = {n: a.size for n, a in tree_flatten(tiny_model.parameters())}
    after = stored_tensors(tmp_path / "q")
    assert shrunk.mean_bits(numbers, after, choice.ways) == 4.5
    model, _ = load_model(tmp_path / "q")  # on a CPU all floats are float32
    assert model.decoder.layers[0].mlp.up_proj.scales.dtype == mx.float32
    kept = [a for n, a in tree_flatten(model.parameters()) if "norm" in n]
    assert kept and all(a.dtype == mx.float32 for a in kept)


# --- benchmarks/quantization.py --------------------------------------------------


def test_the_benchmark(
    ui_folder: Path,
    screen: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From recipes to the table and its JSON lines, without its fresh processes."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    benchmark = importlib.import_module("quantization")
    timing = {"first_token_s": 1.5, "tokens_per_s": 20.0, "peak_mb": 90.0}
    monkeypatch.setattr(benchmark, "timed", lambda *_: timing)
    ways = Wanted(8, 32, part_bits={"head": 8}), Wanted(2, 32, part_bits={"head": 2})
    recipes = dict(zip(("eight", "two"), ways, strict=True))
    monkeypatch.setattr(benchmark, "recipes", lambda *_: recipes)
    Image.open(screen).save(tmp_path / "a.png")
    rows = [
        {
            "id": q,
            "image": "a.png",
            "task": "find_widget",
            "query": q,
            "box": [0, 0, 9, 9],
        }
        for q in ("button", "icon")
    ]
    (tmp_path / "tasks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "runs" / "rows.jsonl"
    flags = ["--model", str(ui_folder), "--data", str(tmp_path / "tasks.jsonl")]
    flags += ["--out", str(out)]
    assert benchmark.main([*flags, "--only", "eight"]) == 0
    assert [json.loads(x)["name"] for x in out.read_text().splitlines()] == [
        "source", "eight"
    ]  # fmt: skip
    capsys.readouterr()
    quantised: list[Wanted] = []
    real = benchmark.run
    monkeypatch.setattr(
        benchmark, "run", lambda *a, **k: quantised.append(a[2]) or real(*a, **k)
    )
    assert benchmark.main(flags) == 0
    assert quantised == [ways[1]], "only what was missing"
    text, _, lines = capsys.readouterr().out.partition("\n\n")
    source, eight, two = map(json.loads, lines.splitlines())
    assert [r["name"] for r in (source, eight, two)] == ["source", "eight", "two"]
    assert source["mb"] > eight["mb"] > two["mb"] and source["kl"] == 0
    assert 0 < eight["kl"] < two["kl"] and eight["find acc@0.5"] == 0
    assert eight["first_token_s"] == 1.5 and eight["model"] == str(ui_folder)
    head, rule, *body = text.splitlines()
    assert len(body) == 3 and rule.count("|") == head.count("|") == body[1].count("|")
    more = ["--gptq", str(screen.parent / "none.jsonl"), "--only", "two"]
    assert benchmark.main([*flags, *more]) == 2
    assert "none.jsonl does not exist" in capsys.readouterr().err
    other = tmp_path / "other.jsonl"
    other.write_text((tmp_path / "tasks.jsonl").read_text())
    assert benchmark.main([*flags, "--gptq", str(other), "--only", "two"]) == 0
    lines = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    names = [json.loads(x)["name"] for x in lines]
    assert names == ["source", "eight", "two", "two gptq"]
    assert json.loads(lines[3])["kl"] < json.loads(lines[2])["kl"]
    assert benchmark.main([*flags, "--only", "nine"]) == 2
    message = "error: --only has 'nine'; it must be one of eight; two"
    assert message in capsys.readouterr().err
    out.write_text("{}\n")
    assert benchmark.main(flags) == 2
    assert "line 1 is no row of this benchmark; give --out" in capsys.readouterr().err


def test_the_benchmarks_recipes_and_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    benchmark = importlib.import_module("quantization")
    found = benchmark.recipes([8, 4], 4.5)
    names = ["decoder 8", "decoder 4", "all 8", "all 4", "text 4, seeing 8"]
    assert list(found) == [*names, "target 4.5, seeing 8"]
    assert set(found["all 4"].parts()) == {
        "encoder", "connector", "decoder", "embedding", "head"
    }  # fmt: skip
    assert found["text 4, seeing 8"].parts()["encoder"].bits == 8
    metrics = {
        "find_text": {"acc@0.5": {"before": 0.5, "after": 0.25}, "n": 4},
        "find_icon": {"acc@0.5": {"before": 1.0, "after": 1.0}, "n": 12},
    }
    assert benchmark.metric_means(metrics, "after") == {"find acc@0.5": 0.8125}
