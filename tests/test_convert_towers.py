"""Sources that are not whole models: a LLaVA without its vision tower, a part alone;
and this project's own PyTorch layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from composing import clip_folder, llama_folder, open_clip_weights
from mlx.utils import tree_flatten

from checkpoints import CONFIG, SEEN, TOWER, tensors, write
from mm15_mlx import generate, load
from mm15_mlx.config import ConfigError, ModelConfig
from mm15_mlx.convert import families, run
from mm15_mlx.mm15 import MM15

Cli = Callable[..., tuple[int, str, str]]
NAMED = "openai/clip-vit-tiny-patch14-28"
VISION = {
    "hidden_size": SEEN, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 1, "image_size": 28, "patch_size": 14,
}  # fmt: skip


def of_tower(whole: bool) -> dict[str, mx.array]:
    return {n: a for n, a in tensors().items() if n.startswith(TOWER) == whole}


@pytest.fixture
def source(tmp_path: Path, tokenizer_model: bytes) -> Path:
    config = CONFIG | {"mm_vision_tower": NAMED}
    folder = write(tmp_path / "source", config, of_tower(False))
    (folder / "tokenizer.model").write_bytes(tokenizer_model)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    return folder


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    """Both towers of a CLIP, as the hub has OpenAI's."""
    text = {
        "logit_scale": mx.array(1.0), "text_projection.weight": mx.zeros((2, 2)),
        "text_model.encoder.layers.0.mlp.fc1.weight": mx.zeros((2, 2)),
    }  # fmt: skip
    own = {n.replace(TOWER, "vision_model."): a for n, a in of_tower(True).items()} | {
        "vision_model.embeddings.position_ids": mx.arange(5)[None].astype(mx.int64)
    }
    config = {"model_type": "clip", "vision_config": VISION}
    folder = write(tmp_path / "clip", config, own | text)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def answers(folder: Path, picture: Path) -> np.ndarray:
    model, processor = load(folder)
    return np.array(model(**processor("Where is it?", images=[picture])))


# --- --vision-tower ------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["vision_model.", ""])
def test_a_tower_from_elsewhere_is_as_good_as_one_in_the_file(
    prefix: str, source: Path, tower: Path, tmp_path: Path, cli: Cli, screen: Path,
    tokenizer_model: bytes,
) -> None:  # fmt: skip
    if not prefix:  # transformers 5 saves a tower of its own so
        held = {n.replace(TOWER, ""): a for n, a in of_tower(True).items()}
        write(tower, VISION | {"model_type": "clip_vision_model"}, held)
    status, out, err = cli(
        "convert", "--hf-path", source, "--mlx-path", tmp_path / "out",
        "--vision-tower", tower,
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert "licence     non-commercial (cc-by-nc-4.0 + mit)" in out
    whole = write(tmp_path / "whole", CONFIG)
    (whole / "tokenizer.model").write_bytes(tokenizer_model)
    run.convert(whole, tmp_path / "same", name="a/b", say=lambda _: None)
    np.testing.assert_array_equal(
        answers(tmp_path / "out", screen), answers(tmp_path / "same", screen)
    )
    data = json.loads((tmp_path / "out" / "config.json").read_text())["provenance"]
    other = data["vision_tower"]
    assert other["source"] == str(tower) and other["licence"] == "mit"
    assert data["source"] == str(source) and data["sha256"] != other["sha256"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert data["sha256"] in card and other["sha256"] in card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"vision_config": VISION | {"image_size": 56}},
            f"has patches of 14 and pictures of 56 pixels, and {NAMED}, which was used,"
            " of 14 and 28; give that one",
        ),
        (
            {"vision_config": VISION | {"hidden_act": "gelu"}},
            f"has hidden_act 'gelu'; OpenAI's CLIP, {NAMED}, has 'quick_gelu'",
        ),
        (
            {"model_type": "siglip"},
            f"has model_type 'siglip'; it must be OpenAI's CLIP as transformers has it,"
            f" {NAMED}",
        ),
    ],
)  # fmt: skip
def test_another_tower_than_was_used(
    change: dict[str, Any], message: str, source: Path, tower: Path, tmp_path: Path
) -> None:
    data = json.loads((tower / "config.json").read_text())
    (tower / "config.json").write_text(json.dumps(data | change))
    with pytest.raises(ConfigError) as caught:
        run.convert(source, tmp_path / "out", name="a/b", tower=("c/d", tower))
    assert message in str(caught.value) and not (tmp_path / "out").exists()


def test_a_tower_that_is_missing_or_not_needed(
    source: Path, tower: Path, tmp_path: Path, cli: Cli
) -> None:
    words = ("convert", "--hf-path", source, "--mlx-path", tmp_path / "out")
    status, _, err = cli(*words)
    assert status == 2
    assert f"holds no weights of its vision tower {NAMED}: they were frozen" in err
    assert "or give that CLIP's folder or hub id with --vision-tower" in err
    status, _, err = cli(*words, "--vision-tower", tmp_path / "nowhere")
    assert status == 2 and "nowhere' is neither a folder nor a hub id" in err
    write(source, CONFIG | {"mm_vision_tower": NAMED})
    status, _, err = cli(*words, "--vision-tower", tower)
    assert status == 2
    assert "holds its vision tower already; leave out --vision-tower" in err
    write(source, {"model_type": "smolvlm"}, of_tower(False))
    status, _, err = cli(*words, "--vision-tower", tower)
    assert status == 2 and not (tmp_path / "out").exists()
    assert "--vision-tower is for LLaVA in its own layout; " in err
    assert "(model_type 'smolvlm') has a tower of its own: leave the flag out" in err


# --- parts alone ---------------------------------------------------------------------


def test_a_bare_encoder_is_sent_to_compose(tmp_path: Path, cli: Cli) -> None:
    """DFN5B-CLIP as its three publishers have it."""
    folder = tmp_path / "dfn"
    encoder = clip_folder(folder)
    words = ("convert", "--hf-path", folder, "--mlx-path", tmp_path / "out")
    said = "holds one part of a model, its encoder (model_type 'clip'); join it with "
    remedy = f"the other: mm15-mlx compose --encoder {folder} --decoder …"
    status, _, err = cli(*words)
    assert status == 2 and said + remedy in err
    (folder / "config.json").write_text('{"architecture": "vit_huge_patch14_clip_378"}')
    status, _, err = cli(*words)
    assert status == 2 and f"(timm's 'vit_huge_patch14_clip_378'); {remedy}" in (
        err.replace("join it with ", "")
    )
    (folder / "config.json").unlink()
    (folder / "open_clip_config.json").write_text("{}")
    mx.save_safetensors(str(folder / "model.safetensors"), open_clip_weights(encoder))
    status, _, err = cli(*words)
    assert status == 2 and "its encoder (open_clip's); join it with the other" in err
    assert not (tmp_path / "out").exists()


def test_a_bare_decoder_is_sent_to_compose(
    tmp_path: Path, tokenizer_model: bytes
) -> None:
    llama_folder(tmp_path / "llama", tokenizer_model)
    expected = r"its decoder \(model_type 'llama'\); .* compose --decoder .*llama --enc"
    with pytest.raises(ConfigError, match=expected):
        run.convert(tmp_path / "llama", tmp_path / "out", name="a/b")


# --- this project's own layout -------------------------------------------------------


def in_pytorch(folder: Path, model: MM15, config: ModelConfig, words: bytes) -> Path:
    """A folder as the trainer would leave it: its names are ours, its convolutions are
    PyTorch's."""
    held = dict(tree_flatten(model.parameters()))
    for name, array in held.items():
        last = name.rpartition("connector.net.")[2]
        if name == "encoder.patch_embedding.weight":
            patch = config.vision_config.patch_size
            array = array.reshape(-1, patch, patch, 3).transpose(0, 3, 1, 2)
        elif last.endswith("conv2.conv.weight"):
            array = array.transpose(0, 3, 1, 2)
        elif last != name and ".bn." not in name and last.endswith(".weight"):
            array = array[:, :, None, None]
        held[name] = array
    write(folder, config.to_dict() | {"provenance": None}, held)
    (folder / "tokenizer.model").write_bytes(words)
    return folder


def test_our_own_pytorch_layout(
    ui_folder: Path, tmp_path: Path, tokenizer_model: bytes, cli: Cli, screen: Path
) -> None:
    model, processor = load(ui_folder)
    source = in_pytorch(tmp_path / "run", model, model.config, tokenizer_model)
    (source / "README.md").write_text("---\nlicense: mit\n---\n")
    words = ("convert", "--hf-path", source, "--mlx-path", tmp_path / "out")
    status, out, err = cli(*words)
    assert (status, err) == (0, "")
    assert out.splitlines()[:2] == [
        "family      mm15", "licence     permissive (mit)"
    ]  # fmt: skip
    np.testing.assert_array_equal(
        answers(tmp_path / "out", screen), answers(ui_folder, screen)
    )
    made, _ = load(tmp_path / "out")
    assert made.config.coordinates == model.config.coordinates
    assert made.config.provenance["source"] == str(source)
    result = generate(*load(tmp_path / "out"), "Where is it?", [screen], max_tokens=2)
    assert len(result.tokens) == 2
    status, _, err = cli(
        "convert", "--hf-path", tmp_path / "out", "--mlx-path", tmp_path / "again"
    )
    assert status == 2 and "out is a model folder already, not a checkpoint in" in err


def test_our_own_layout_with_mistakes(
    ui_folder: Path, tmp_path: Path, tokenizer_model: bytes
) -> None:
    model, _ = load(ui_folder)
    source = in_pytorch(tmp_path / "run", model, model.config, tokenizer_model)
    data = json.loads((source / "config.json").read_text())
    prompt = data["prompt"] | {"image_token_id": 7}
    (source / "config.json").write_text(json.dumps(data | {"prompt": prompt}))
    with pytest.raises(ConfigError, match=r"has prompt.image_token_id 7, but <\|image"):
        run.convert(source, tmp_path / "out", name="a/b", say=lambda _: None)
    with pytest.raises(ConfigError, match="run: config.json lacks the key 'tiling'"):
        families.recognise(_without(source, data, "tiling"), {})
    assert not (tmp_path / "out").exists()


def _without(folder: Path, data: dict[str, Any], key: str) -> Path:
    kept = {k: v for k, v in data.items() if k != key}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder
