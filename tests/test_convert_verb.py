"""The verb `convert`: its mistakes, its plan, the licence, the proof."""

import importlib.abc
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from checkpoints import CONFIG, HONEYBEE, TOWER, as_honeybee, shapes, tensors, write
from mm15_mlx import load
from mm15_mlx.config import ConfigError, UserError
from mm15_mlx.convert import run, verify
from mm15_mlx.convert.recipes import Licence
from mm15_mlx.convert.rules import RulesError

Cli = Callable[..., tuple[int, str, str]]


def test_types_and_modes_that_are_not_to_be_had() -> None:
    with pytest.raises(
        UserError, match="--dtype is 'int8'; it must be one of float32,"
    ):
        run.dtype("int8")
    assert run.dtype(None) is None and run.dtype("float16") == mx.float16
    with pytest.raises(
        UserError, match="--q-mode is 'gptq'; it must be one of affine,"
    ):
        run.quantisation(4, 64, "gptq")
    for bits, group in ((7, 64), (4, 16)):
        with pytest.raises(
            UserError, match=f"--q-bits {bits} with --q-group-size {group}"
        ):
            run.quantisation(bits, group, "affine")
    assert run.quantisation(None, None, "nvfp4").group_size == 16


def test_no_tokenizer(tmp_path: Path) -> None:
    source = write(tmp_path / "source", CONFIG)
    with pytest.raises(
        UserError, match="holds no tokenizer; put tokenizer.json or tok"
    ):
        run.convert(source, tmp_path / "out", name="owner/tiny", say=lambda _: None)
    arrays = {name: mx.zeros(shape) for name, shape in as_honeybee(shapes()).items()}
    source = write(tmp_path / "bee", HONEYBEE, arrays)
    expected = (
        "or tokenizer.model, which are lmsys/vicuna-7b-v1.5's, beside the weights"
    )
    with pytest.raises(UserError, match=expected):
        run.convert(source, tmp_path / "out", name="owner/tiny", say=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_model(source: Path, tmp_path: Path) -> None:
    config = CONFIG | {"image_token_id": 7}
    (source / "config.json").write_text(json.dumps(config))
    expected = "has image_token_id 7, but <unk> is 0 in the tokenizer; fetch both from"
    with pytest.raises(ConfigError, match=expected):
        run.convert(source, tmp_path / "out", name="owner/tiny", say=lambda _: None)
    (source / "config.json").write_text(json.dumps(config | {"image_token_id": 0}))
    run.convert(source, tmp_path / "out", name="owner/tiny", say=lambda _: None)


def test_an_existing_target_stays(source: Path, tmp_path: Path, cli: Cli) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("kept")
    words = ("convert", "--hf-path", source, "--mlx-path", target)
    status, out, err = cli(*words)
    assert status == 2 and not out
    assert err.endswith("out exists; choose another name or give --force\n")
    assert (target / "mine.txt").read_text() == "kept"
    status, _, err = cli(*words, "--force")  # for model folders only
    assert status == 2 and "out is no model folder, so it is not replaced" in err
    assert (target / "mine.txt").read_text() == "kept"
    words = (*words[:-1], tmp_path / "other")
    assert [cli(*words)[0], cli(*words)[0], cli(*words, "--force")[0]] == [0, 2, 0]


def test_numbers_that_are_not_finite(source: Path, tmp_path: Path) -> None:
    write(source, CONFIG, tensors() | {"model.norm.weight": mx.full(32, float("nan"))})
    with pytest.raises(
        UserError, match="decoder.norm.weight has numbers that are not finite; its"
    ):
        run.convert(source, tmp_path / "out", name="owner/tiny", say=lambda _: None)


def test_a_model_whose_sums_are_not_finite(source: Path, tmp_path: Path) -> None:
    write(source, CONFIG, tensors() | {"model.norm.weight": mx.full(32, 3e38)})
    expected = "out gives numbers that are not finite; its source is damaged, or"
    with pytest.raises(UserError, match=expected):
        run.convert(source, tmp_path / "out", name="owner/tiny", say=lambda _: None)


def test_a_file_of_another_model(source: Path, tmp_path: Path) -> None:
    write(source, CONFIG | {"intermediate_size": 64})
    with pytest.raises(
        RulesError, match=r"gate_proj.weight: shape \(48, 32\), expected"
    ):
        run.convert(source, tmp_path / "out", name="owner/tiny", say=lambda _: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\n", "permissive (apache-2.0)"),
        ("\ufeff---\r\nlicense: 'MIT'  # ours\r\n---\r\n", "permissive (mit)"),
        (
            "---\nlicense: other\nlicense_name: apple-amlr\n---\n",
            "research-only (apple-amlr)",
        ),
        (
            "---\nlicense_name: apple-amlr\nlicense: other\n---\n",
            "research-only (apple-amlr)",
        ),
        ("---\nlicense: other\n---\n", "unknown (other)"),
        (
            "---\nlicense_name: mit\nlicense: cc-by-nc-4.0\n---\n",
            "non-commercial (cc-by-nc-4.0)",
        ),
        ("---\nlicense_name: mit\n---\n", "unknown"),
        ("---\nlicense: CC-BY-NC-4.0\n---\n", "non-commercial (cc-by-nc-4.0)"),
        ("---\nlicense: gemma\n---\n", "unknown (gemma)"),
        ("---\nlicense:\n- mit\n---\n", "permissive (mit)"),
        ("---\nlicense: [mit]\n---\n", "permissive (mit)"),
        ("---\nlicense:\n- mit\n- cc-by-nc-4.0\n---\n", "unknown"),
        ("---\nlicense: [mit, gemma]\n---\n", "unknown"),
        ("---\nlicense: >\n  mit\n---\n", "unknown"),
        ("---\nlicense: mit\n  but-not-for-sale\n---\n", "unknown"),
        ("---\nlicense: mit\nlicense: gemma\n---\n", "unknown"),
        ("---\nabout: |\n  license: mit\n---\n", "unknown"),
        ("---\nlanguage: en\n---\n# It\nlicense: mit\n", "unknown"),
        ("---\nlicense:mit\n---\n", "unknown"),
        ("---\nabout: it\u2028license: mit\n---\n", "unknown"),
        ("---\nlicense: mit\n", "unknown"),
        ("license: mit\n", "unknown"),
        ("# no such line\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_licence_is_the_cards(
    card: str | None, licence: str, source: Path, tmp_path: Path
) -> None:
    if card:
        (source / "README.md").write_text(card)
    said: list[str] = []
    run.convert(source, None, name="owner/tiny", dry_run=True, say=said.append)
    assert said[1] == f"licence     {licence}"


def test_a_card_made_to_hang() -> None:
    for line in (f"license:{' ' * 200_000}!", "license:\n" * 100_000, "-" * 200_000):
        card = f"---\n{line}\n---\n"
        assert run.licence_in(card) == Licence("", "unknown")


def test_ferret_ui_is_for_research_whoever_copied_it(
    source: Path, tokenizer_model: bytes
) -> None:
    config = CONFIG | {"model_type": "ferret_gemma", "mm_patch_merge_type": "spatial"}
    held = {n: a for n, a in tensors().items() if n != "model.image_newline"}
    extra = {"model.region_geo_sampler.dim_projector.weight": mx.zeros((2, 2))}
    write(source, config | {"head_dim": 16}, held | extra)
    byte_level = pytest.importorskip("test_tokenizer").byte_level
    named = ["<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    byte_level(named).save(str(source / "tokenizer.json"))
    said: list[str] = []
    run.convert(source, None, name="owner/tiny", dry_run=True, say=said.append)
    assert said[:2] == [
        "family      ferret_gemma", "licence     research-only (research use only)"
    ]  # fmt: skip
    assert said[2].startswith("note        Ferret-UI is for research only")
    assert "sampler of free-form regions is left out" in said[3]
    dropped = "model.region_geo_sampler.dim_projector.weight (2, 2) is left out"
    assert dropped in said


# --- --verify: what is refused before anything is converted --------------------------


def test_a_layout_that_transformers_does_not_load(
    source: Path, tmp_path: Path, cli: Cli
) -> None:
    words = ("convert", "--hf-path", source, "--mlx-path", tmp_path / "out", "--verify")
    for kind in ("llava_llama", "llava"):  # the original code's first name is theirs
        write(source, CONFIG | {"model_type": kind})
        status, out, err = cli(*words)
        assert status == 2 and not out and not (tmp_path / "out").exists()
        assert f"transformers does not load model_type '{kind}' in this layout" in err
        assert "only idefics3, smolvlm, llava, llava_next, internvl as it saves" in err


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_a_comparison_needs_torch_and_transformers(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "idefics3"}')
    for name in ("torch", "transformers"):  # neither is imported by this suite
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.delitem(sys.modules, missing)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    expected = (
        f"--verify needs {missing}, which is not installed; run pip install torch "
        "transformers, or leave the flag out"
    )
    with pytest.raises(UserError, match=expected):
        verify.find_reference(tmp_path, False)


def test_our_own_layout_needs_torch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mm15"}')
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    expected = "needs torch, which is not installed; run pip install torch, or leave"
    with pytest.raises(UserError, match=expected):
        verify.find_reference(tmp_path, False)


def test_a_comparison_of_packed_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "idefics3"}')
    expected = "-q changes them; convert without -q, then use mm15-mlx quantize"
    with pytest.raises(UserError, match=expected):
        verify.find_reference(tmp_path, True)


def test_a_transformers_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "idefics3"}')
    for name in ("torch", "transformers"):  # as one that is too old
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    expected = (
        "--verify needs Idefics3ForConditionalGeneration of transformers, which cannot "
        "be imported: .*; install torch and transformers anew"
    )
    with pytest.raises(UserError, match=expected):
        verify.find_reference(tmp_path, False)


class Absent(importlib.abc.MetaPathFinder):
    """Finds torch and transformers nowhere."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name in ("torch", "transformers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


# --- the verb -----------------------------------------------------------------------


def test_help_names_every_flag(cli: Cli) -> None:
    status, out, err = cli("convert", "--help")
    assert status == 0 and not err
    for flag in ("hf-path", "mlx-path", "quantize", "q-bits", "q-group-size", "q-mode",
                 "dtype", "revision", "vision-tower", "verify", "upload-repo",
                 "dry-run", "force"):  # fmt: skip
        assert f"--{flag}" in out


def test_a_dry_run_says_the_plan_on_stdout(
    source: Path, tmp_path: Path, cli: Cli
) -> None:
    before = sorted(tmp_path.rglob("*"))
    status, out, err = cli("convert", "--hf-path", source, "--dry-run")
    assert status == 0 and not err
    lines = out.splitlines()
    assert lines[0] == "family      llava_llama"
    assert "model.norm.weight (32,) → decoder.norm.weight (32,)" in lines
    assert f"{TOWER}post_layernorm.weight (64,) is left out" in lines
    assert len(lines) == 5 + len(shapes())
    assert sorted(tmp_path.rglob("*")) == before


def test_a_conversion_ends_with_its_proof(
    source: Path, tmp_path: Path, cli: Cli, screen: Path
) -> None:
    target = tmp_path / "out"
    words = ("convert", "--hf-path", source, "--mlx-path", target)
    status, out, err = cli(*words, "-q", "--q-bits", "8", "--q-group-size", "32")
    assert status == 0 and not err, err
    proof, drift = out.splitlines()[-2:]
    assert proof.startswith("proof       loaded ")
    assert drift.startswith("drift       KL ") and "same next token" in drift
    model, processor = load(target)
    assert model.config.provenance["source"] == str(source)
    assert model.config.tiling.merge == "spatial_unpad_floor"
    assert processor("Hi", images=[screen])["pixel_values"].shape[1:] == (28, 28, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mlx-path", "out", "--dtype", "int8"), "--dtype is 'int8'; it must be one"),
        (
            ("--mlx-path", "out", "-q", "--q-mode", "gptq"),
            "--q-mode is 'gptq'; it must",
        ),
        (
            ("--mlx-path", "out", "-q", "--q-bits", "7"),
            "--q-bits 7 with --q-group-size",
        ),
        ((), "'--mlx-path': needed without --dry-run"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    words: tuple[str, ...], message: str, source: Path, tmp_path: Path, cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    status, out, err = cli("convert", "--hf-path", source, *words)
    assert status == 2 and not out
    assert err.splitlines()[-1].startswith("error: ") and message in err
    assert not (tmp_path / "out").exists()


def test_the_helper_is_a_whole_checkpoint(source: Path) -> None:
    """Else a message above could come from a hole in it."""
    assert set(tensors()) == set(shapes())
    run.convert(source, None, name="owner/tiny", dry_run=True, say=lambda _: None)


def test_a_number_too_large_for_the_type(source: Path, tmp_path: Path) -> None:
    held = tensors()
    held["model.embed_tokens.weight"][700] = 1e6  # no token of the proof
    write(source, CONFIG, held)
    expected = r"^decoder\.embed_tokens\.weight has numbers that are not finite; its"
    with pytest.raises(UserError, match=expected):
        run.convert(
            source, tmp_path / "out", name="owner/tiny", dtype=mx.float16,
            say=lambda _: None,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags", [["--q-bits", "4"], ["--q-group-size", "32"], ["--q-mode", "mxfp4"]]
)
def test_ways_of_quantising_without_the_flag(
    flags: list[str], source: Path, tmp_path: Path, cli: Cli
) -> None:
    words = ("convert", "--hf-path", source, "--mlx-path", tmp_path / "out")
    status, _, err = cli(*words, *flags)
    assert status == 2 and "it says how to quantise; add -q, or leave it out" in err
