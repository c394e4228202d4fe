"""Word pieces of answers that are written as two: the rest of one must be found too."""

import pytest
import torch

from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET, SampleEncoder, halves
from mm15_mlx.screens.questions import Question
from mm15_mlx.tiling import plan

pytestmark = pytest.mark.parity

SIZE = (480, 960)
BOX = [40.0, 100.0, 300.0, 130.0]
LINE = "Display settings"


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return PRESETS["nano-ui"]


@pytest.fixture
def split(samples: SampleEncoder) -> SampleEncoder:
    return SampleEncoder(PRESETS["nano-ui"], samples.encoder, split=1.0)


def test_halves_are_pieces_that_make_the_piece(samples: SampleEncoder) -> None:
    tokenizer = samples.encoder.tokenizer
    found = halves(tokenizer)
    assert len(found) > 50
    for token, ways in found.items():
        assert tokenizer.name(token) is None and ways
        for first, second in ways:
            assert tokenizer.piece(first) + tokenizer.piece(second) == tokenizer.piece(
                token
            )


def test_an_answer_in_halves_reads_the_same(
    samples: SampleEncoder, split: SampleEncoder
) -> None:
    tokenizer = samples.encoder.tokenizer
    ids = tokenizer.encode(LINE)
    torch.manual_seed(0)
    found, firsts = split.written(ids)
    assert tokenizer.decode(found) == tokenizer.decode(ids)
    assert firsts and len(found) == len(ids) + len(firsts)
    for k in firsts:
        assert tokenizer.piece(found[k]) + tokenizer.piece(found[k + 1]) in map(
            tokenizer.piece, ids
        )
    some = SampleEncoder(PRESETS["nano-ui"], samples.encoder, split=0.5)
    assert len({tuple(some.written(ids)[0]) for _ in range(20)}) > 1  # by chance
    assert samples.written(ids) == (ids, [])


def test_first_halves_are_given_and_second_ones_predicted(
    samples: SampleEncoder, split: SampleEncoder
) -> None:
    question = Question(
        "ocr", f"What text is in <box>{','.join(map(str, BOX))}</box>?", LINE,
        lines=(BOX,),
    )  # fmt: skip
    tiling = plan(*SIZE, PRESETS["nano-ui"].tiling)
    asked, plain = (s.ask(question, [SIZE], [tiling], 10_000) for s in (split, samples))
    assert asked is not None and plain is not None
    tokenizer = samples.encoder.tokenizer
    start = (
        len(asked.ids)
        - len(asked.target)
        + plain.target.index(next(t for t in plain.target if t != NO_TARGET))
    )
    assert asked.ids[: start + 1] == plain.ids[: start + 1]
    given = asked.ids[start + 1 :]  # what has been written before each next token
    masked = [
        k for k in range(start, len(asked.target)) if asked.target[k] == NO_TARGET
    ]
    assert masked and len(asked.ids) == len(plain.ids) + len(masked)
    written = ""
    for k, token in enumerate(given):
        if start + k not in masked:
            assert asked.target[start + k] == token
        written += tokenizer.piece(token)
        assert asked.end[start + k] == len(written)  # of a first half too
    assert written == LINE
