"""Shared fixtures: a tiny random model. No network, no weights, no PyTorch here."""

import dataclasses
import io
import os
import random
import shutil
import signal
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# On a CPU each compiled graph costs a second of g++; the numbers are the same without.
os.environ.setdefault("MLX_DISABLE_COMPILE", "1")

import hypothesis
import mlx.core as mx
import pytest
import sentencepiece
from PIL import Image

import checkpoints
from mm15_mlx.config import (
    ConnectorConfig,
    CoordinateConfig,
    ModelConfig,
    TextConfig,
    TilingConfig,
    VisionConfig,
)
from mm15_mlx.load import load
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.tokenizer import TOKENIZER_FILE, Tokenizer
from mm15_mlx.weights import save_model

# A busy machine is no failure.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


# What a shell starts in the background ignores Ctrl-C, and so do its children.
signal.signal(signal.SIGINT, signal.default_int_handler)


def small_config() -> ModelConfig:
    """Every part of the real model, small: interpolated positions, pooling with
    overlapping windows (6 → 4), shared key heads."""
    return ModelConfig(
        vision_config=VisionConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=2, image_size=56,
        ),
        connector_config=ConnectorConfig(num_visual_tokens=16, hidden_size=32, depth=2),
        text_config=TextConfig(
            hidden_size=64, intermediate_size=96, num_hidden_layers=3,
            num_attention_heads=4, num_key_value_heads=2, head_dim=16, vocab_size=96,
            rope_theta=10_000.0,
        ),
        tiling=TilingConfig(tile_size=84, n_min=1, n_max=4),
    )  # fmt: skip


@pytest.fixture
def tiny_config() -> ModelConfig:
    return small_config()


@pytest.fixture
def tiny_model(tiny_config: ModelConfig) -> MM15:
    """A random model, the same in every run."""
    mx.random.seed(0)
    model = MM15(tiny_config)
    mx.eval(model.parameters())
    model.eval()
    return model


# --- a model folder with a tokenizer ------------------------------------------------

# What a model with location tokens knows by name; ids from 4 on, after unk to pad.
SPECIAL = (
    "<|image|> <|user|> <|assistant|> <|system|> <|end|> <box> </box> <point> </point>"
).split() + [f"<loc_{v}>" for v in range(1001)]
WORDS = (
    "Where is the button switch icon text list of this screen Wi-Fi General Settings "
    "About Sign in Cancel Read What Yes No On Off and a to for one two three"
).split()


@pytest.fixture(scope="session")
def tokenizer_model() -> bytes:
    """A sentencepiece vocabulary with the options of `nano-ui`'s, trained quickly."""
    rng = random.Random(0)
    lines = [" ".join(rng.choices(WORDS, k=6)) + "?" for _ in range(300)]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, model_type="bpe",
        vocab_size=1400, byte_fallback=True, split_digits=True,
        add_dummy_prefix=False, remove_extra_whitespaces=False,
        normalization_rule_name="identity", required_chars=string.printable[:94],
        unk_id=0, bos_id=1, eos_id=2, pad_id=3, control_symbols=SPECIAL, minloglevel=2,
    )  # fmt: skip
    return out.getvalue()


@pytest.fixture(scope="session")
def ui_config() -> ModelConfig:
    """Like `tiny_config`, with coordinate tokens; its keys can be packed."""
    config = small_config()
    text = dataclasses.replace(
        config.text_config, vocab_size=1400, head_dim=32, tie_word_embeddings=False
    )
    return dataclasses.replace(
        config, text_config=text, coordinates=CoordinateConfig(format="tokens")
    )


@pytest.fixture(scope="session")
def ui_folder(
    tmp_path_factory: pytest.TempPathFactory,
    ui_config: ModelConfig,
    tokenizer_model: bytes,
) -> Path:
    """A model folder with random weights. Not to be changed: see `ui_copy`."""
    mx.random.seed(0)
    folder = tmp_path_factory.mktemp("models") / "random-ui"
    model = MM15(ui_config)
    for layer in model.decoder.layers:  # else it says one token again and again
        layer.self_attn.q_norm.weight *= 4
        layer.self_attn.o_proj.weight *= 8
    files = {TOKENIZER_FILE: tokenizer_model}
    save_model(folder, model, ui_config, files=files)
    return folder


@pytest.fixture
def ui_copy(ui_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, to be damaged."""
    return Path(shutil.copytree(ui_folder, tmp_path / "model"))


@pytest.fixture
def ui(ui_folder: Path) -> tuple[MM15, Processor]:
    """The random model and a fresh processor, which remembers nothing."""
    return load(ui_folder)


@pytest.fixture(scope="session")
def answering(
    tmp_path_factory: pytest.TempPathFactory,
    ui_config: ModelConfig,
    tokenizer_model: bytes,
) -> Callable[..., Path]:
    """`answering("Yes", (100, 200, 600, 700))`: a model folder that answers just that.

    Every layer adds nothing, and the head maps each token to the next one of the
    answer: so no token may come twice.
    """
    root = tmp_path_factory.mktemp("answering")
    made: dict[Any, Path] = {}

    def make(*parts: str | tuple[int, ...]) -> Path:
        if parts not in made:
            made[parts] = root / f"answer-{len(made)}"
            files = {TOKENIZER_FILE: tokenizer_model}
            (root / TOKENIZER_FILE).write_bytes(tokenizer_model)
            model = parrot(ui_config, Tokenizer(root / TOKENIZER_FILE), parts)
            save_model(made[parts], model, ui_config, files=files)
        return made[parts]

    return make


@pytest.fixture
def button(answering: Callable[..., Path]) -> Path:
    """A model that always answers with one box."""
    return answering((100, 200, 600, 700))


def parrot(
    config: ModelConfig, tokenizer: Tokenizer, parts: tuple[str | tuple[int, ...], ...]
) -> MM15:
    ids = [tokenizer.special("<|assistant|>")]
    for part in parts:
        if isinstance(part, str):
            ids += tokenizer.encode(part)
        else:
            kind = "box" if len(part) == 4 else "point"
            names = [f"<{kind}>", *(f"<loc_{v}>" for v in part), f"</{kind}>"]
            ids += [tokenizer.special(name) for name in names]
    ids.append(tokenizer.special("<|end|>"))
    assert len(set(ids)) == len(ids), "a token comes twice"
    mx.random.seed(1)
    model = MM15(config)
    for layer in model.decoder.layers:
        layer.self_attn.o_proj.weight *= 0
        layer.mlp.down_proj.weight *= 0
    table = model.decoder.embed_tokens.weight
    head = mx.zeros_like(table)
    head[mx.array(ids[1:])] = table[mx.array(ids[:-1])]
    model.decoder.lm_head.weight = head
    return model


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many views each call of the encoder got."""
    views: list[int] = []
    encode = MM15.encode_image

    def counting(model: MM15, pixels: mx.array) -> mx.array:
        views.append(pixels.shape[0])
        return encode(model, pixels)

    monkeypatch.setattr(MM15, "encode_image", counting)
    return views


@pytest.fixture(scope="session")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 120 × 200 pixels: a dark bar on white, and a blue button."""
    image = Image.new("RGB", (120, 200), "white")
    image.paste((30, 30, 30), (0, 0, 120, 20))
    image.paste((10, 132, 255), (20, 150, 100, 180))
    path = tmp_path_factory.mktemp("pictures") / "screen.png"
    image.save(path)
    return path


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """`cli("info", "--json", stdin="")`: exit status, stdout and stderr."""
    from mm15_mlx.cli import main

    def run(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as status:
            main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return int(status.value.code or 0), out, err

    return run


@pytest.fixture
def source(tmp_path: Path, tokenizer_model: bytes) -> Path:
    """A checkpoint to convert: a tiny LLaVA, with a tokenizer beside it."""
    folder = checkpoints.write(tmp_path / "source", checkpoints.CONFIG)
    (folder / "tokenizer.model").write_bytes(tokenizer_model)
    return folder


# --- the renderer of screens, where its extra, a browser and the kits are there ------


@pytest.fixture(scope="module")
def faker() -> None:
    pytest.importorskip("faker")


@pytest.fixture(scope="module")
def kits(faker: None) -> Path:
    """The node_modules with all kits."""
    pytest.importorskip("playwright")
    from mm15_mlx.screens.build import KITS, find_node_modules
    from mm15_mlx.screens.capture import find_chromium

    if find_chromium() is None:
        pytest.skip("no Chromium on this machine")
    try:
        return find_node_modules(None, tuple(KITS))
    except FileNotFoundError as error:
        pytest.skip(str(error))


# --- the app in a browser; the files that use these import `app_browser`, or skip -----


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app saves training rows; not there yet."""
    return tmp_path_factory.mktemp("rows") / "mine"


@pytest.fixture(scope="module")
def url(
    answering: Callable[..., Path],
    ui_folder: Path,
    rows: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The app's address, with a model that always answers with one box, and a random
    one."""
    from app_browser import serving

    models = (answering((100, 200, 600, 700)), ui_folder)
    with serving(models, tmp_path_factory.mktemp("uploads"), rows) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from app_browser import chromium

    with chromium() as started:
        yield started
