"""What `convert -q` says of the distance to its source, without a public checkpoint."""

import re
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from mm15_mlx.convert.drifted import ANSWER, QUESTION, drifted, from_source
from mm15_mlx.convert.proof import ramps
from mm15_mlx.convert.rules import Rule
from mm15_mlx.convert.stream import plan_model, write_model
from mm15_mlx.drift import divergence
from mm15_mlx.load import load_processor
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.quantize import TEXT_PARTS, Quantisation
from mm15_mlx.tokenizer import TOKENIZER_FILE
from mm15_mlx.weights import load_model

SAME = (Rule(r".+", r"\g<0>"),)
SAID = re.compile(
    r"KL (\S+) nats per token of a fixed answer, at most (\S+); same next token "
    r"(\S+)% of (\d+)"
)


def test_fewer_bits_drift_further(
    ui: tuple[MM15, Processor], ui_folder: Path, tmp_path: Path
) -> None:
    model, _ = ui
    held = dict(tree_flatten(model.parameters()))
    plan = plan_model(model.config, held, SAME)
    files = {TOKENIZER_FILE: (ui_folder / TOKENIZER_FILE).read_bytes()}
    means = []
    for bits in (8, 2):
        parts = dict.fromkeys(TEXT_PARTS, Quantisation(bits, 32))
        folder = tmp_path / str(bits)
        write_model(folder, model.config, plan, held.__getitem__,
                    files=files, parts=parts)  # fmt: skip
        said = drifted(folder, model.config, plan, held.__getitem__)
        found = SAID.fullmatch(said)
        assert found, said
        means.append(float(found[1]))
        assert means[-1] <= float(found[2]) and 0 <= float(found[3]) <= 100
    assert 0 < means[0] < means[1]
    # The same of both models whole in memory.
    processor = load_processor(folder)
    size = model.config.tiling.tile_size
    inputs = dict(processor(QUESTION, images=[ramps(size, size)]))
    answer = processor.tokenizer.encode(ANSWER)
    assert int(found[4]) == len(answer) + 1
    ids = mx.concatenate([inputs.pop("input_ids"), mx.array([answer])], axis=1)
    logs = []
    for whole in (model, load_model(folder)[0]):
        logits = whole(ids, **inputs)[0, -len(answer) - 1 :]
        logs.append(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    assert divergence(logs[:1], logs[1:]).kl.mean() == pytest.approx(means[1], rel=0.01)


def test_the_source_is_read_a_layer_at_a_time(ui: tuple[MM15, Processor]) -> None:
    model, _ = ui
    held = dict(tree_flatten(model.parameters()))
    read: list[str] = []

    def reading(name: str) -> mx.array:
        read.append(name)
        return held[name]

    plan = plan_model(model.config, held, SAME)
    source = from_source(model.config, plan, reading)
    assert read and not any(".layers." in name for name in read)
    read.clear()
    ids = mx.array([[7, 8, 9]])
    expected, logits = model(ids), source(ids)
    assert mx.allclose(logits, expected, atol=1e-5).item()
    assert len(read) == len(set(read)) and "decoder.layers.2.mlp.up_proj.weight" in read
    assert not any(name.startswith("encoder.") for name in read), "there is no picture"
