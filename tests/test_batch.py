"""Questions asked together: the tokens of one after the other, and files of rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from PIL import Image

from mm15_mlx import MM15, generate
from mm15_mlx.batch import (
    Question,
    SharedKVCache,
    _common,
    _next_rows,
    answer_together,
)
from mm15_mlx.config import UserError
from mm15_mlx.decoder import KVCache
from mm15_mlx.decoding import Options
from mm15_mlx.generate import Result
from mm15_mlx.processor import Processor
from mm15_mlx.rows import read_rows

Cli = Callable[..., tuple[int, str, str]]
ASKED = [
    "What is on this screen?",
    "Where is the button?",
    "Where?",
    "Read the text of this icon and list one two three for General Settings.",
    "Is the switch On or Off?",
]
LIMITS = [12, 7, 12, 1, 9]


def together(
    model: MM15, processor: Processor, images: list[Any], **options: Any
) -> list[Result]:
    questions = [Question(q, n) for q, n in zip(ASKED, LIMITS, strict=True)]
    return answer_together(model, processor, questions, images, Options(**options))


@pytest.fixture
def reads(ui: tuple[MM15, Processor], monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """The shapes (B, L) that the decoder reads."""
    shapes: list[tuple] = []
    decoder = type(ui[0].decoder)
    call = decoder.__call__

    def read(self: Any, inputs: mx.array, *rest: Any) -> mx.array:
        shapes.append(inputs.shape)
        return call(self, inputs, *rest)

    monkeypatch.setattr(decoder, "__call__", read)
    return shapes


# --- one after the other, and together ------------------------------------------------


@pytest.mark.parametrize("step", [2048, 7])
def test_together_is_as_one_by_one(
    ui: tuple[MM15, Processor], screen: Path, step: int
) -> None:
    model, processor = ui
    singly = []
    for question, limit in zip(ASKED, LIMITS, strict=True):
        processor.memory.forget()
        singly.append(
            generate(model, processor, question, images=[screen], max_tokens=limit)
        )
    processor.memory.forget()
    results = together(model, processor, [screen], prefill_step_size=step)
    assert [r.tokens for r in results] == [r.tokens for r in singly]
    assert [r.text for r in results] == [r.text for r in singly]
    assert [r.finish_reason for r in results] == [r.finish_reason for r in singly]
    assert [r.prompt_tokens for r in results] == [r.prompt_tokens for r in singly]
    assert len({tuple(r.tokens) for r in results}) == len(ASKED)


def test_several_pictures_and_none(ui: tuple[MM15, Processor], screen: Path) -> None:
    model, processor = ui
    for images in ([screen, Image.new("RGB", (90, 60), "red")], []):
        results = together(model, processor, images)
        singly = [
            generate(model, processor, q, images=images, max_tokens=n).tokens
            for q, n in zip(ASKED, LIMITS, strict=True)
        ]
        assert [r.tokens for r in results] == singly


def test_the_picture_is_read_once_and_ended_rows_no_more(
    ui: tuple[MM15, Processor], screen: Path, reads: list[tuple]
) -> None:
    model, processor = ui
    together(model, processor, [screen])
    lengths = [len(processor.prepare(q, [screen]).ids) for q in ASKED]
    shared, own, *steps = reads
    assert shared[0] == 1 and shared[1] > 80
    assert own == (5, max(lengths) - shared[1])
    assert len(steps) == max(LIMITS) - 1 and {n for _, n in steps} == {1}
    assert [b for b, _ in steps] == [sum(n > k + 1 for n in LIMITS) for k in range(11)]
    reads.clear()
    together(model, processor, [screen])
    assert reads[0] == own, "the beginning is remembered"


def test_the_picture_is_remembered_for_a_single_question(
    ui: tuple[MM15, Processor], screen: Path, reads: list[tuple]
) -> None:
    model, processor = ui
    together(model, processor, [screen])
    reads.clear()
    generate(model, processor, "Where is the list?", images=[screen], max_tokens=2)
    assert reads[0][1] < 20


def test_answers_end_by_themselves(
    answering: Callable[..., Path], screen: Path
) -> None:
    from mm15_mlx import load

    model, processor = load(answering("Yes ", (100, 200, 600, 700)))
    questions = [
        Question(q, n) for q, n in zip(ASKED, [20, 20, 20, 2, 20], strict=True)
    ]
    results = answer_together(model, processor, questions, [screen], Options())
    reasons = [r.finish_reason for r in results]
    assert reasons == ["stop", "stop", "stop", "length", "stop"]
    assert results[0].text == "Yes [100, 200, 600, 700]"
    assert results[1].boxes[0].px == (12, 40, 72, 140)
    assert results[0].timings.encode_s > 0 and results[0].peak_memory > 0


def test_many_and_long_questions_are_answered_in_parts(
    ui: tuple[MM15, Processor], reads: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = ui
    monkeypatch.setattr("mm15_mlx.batch.OWN_TOKENS", 30)
    results = together(model, processor, [])
    assert max(b * n for b, n in reads if b > 1) <= 30
    singly = [
        generate(model, processor, q, max_tokens=n).tokens
        for q, n in zip(ASKED, LIMITS, strict=True)
    ]
    assert [r.tokens for r in results] == singly


def test_the_same_question_twice(ui: tuple[MM15, Processor], screen: Path) -> None:
    model, processor = ui
    questions = [Question(ASKED[0], 6)] * 2
    one, two = answer_together(model, processor, questions, [screen], Options())
    assert one.tokens == two.tokens and len(one.tokens) == 6


def test_sampling_with_a_seed_is_repeatable(ui: tuple[MM15, Processor]) -> None:
    model, processor = ui

    def sample(seed: int) -> list[list[int]]:
        results = together(model, processor, [], temp=1.5, seed=seed)
        return [r.tokens for r in results]

    first = sample(7)
    assert sample(7) == first != sample(8)


def test_a_quantised_cache_is_for_one_after_the_other(
    ui: tuple[MM15, Processor], reads: list[tuple]
) -> None:
    model, processor = ui
    packed = {"kv_bits": 8, "kv_group_size": 32, "quantized_kv_start": 0}
    results = together(model, processor, [], **packed)
    assert {b for b, _ in reads} == {1}
    processor.memory.forget()
    first = generate(model, processor, ASKED[2], max_tokens=LIMITS[2], **packed)
    assert results[2].tokens == first.tokens


def test_what_all_begin_with() -> None:
    assert _common([[1, 2, 3, 4], [1, 2, 5], [1, 2, 3]]) == 2
    assert _common([[1, 2], [1, 2, 3]]) == 1, "each has a token of its own"
    assert _common([[1, 2]]) == 1
    assert _common([[1], [2]]) == 0


def test_rows_are_few_where_they_are_long() -> None:
    own = [1, 1, 200, 300]
    assert _next_rows([0, 1, 2, 3], own) == [0, 1]
    assert _next_rows([2, 3], own) == [2]
    assert _next_rows(range(40), [1] * 40) == list(range(32))


def test_shared_attention_is_attention() -> None:
    """Against plain attention over each row's keys, without padding."""
    mx.random.seed(0)
    b, h, k, t, d = 3, 4, 2, 9, 8
    padding, length = [2, 0, 1], 4
    common = KVCache()
    ahead = [mx.random.normal((1, k, t, d)) for _ in range(2)]
    common.update_and_fetch(*ahead)
    cache = SharedKVCache(common, padding)
    q = mx.random.normal((b, h, length, d))
    own = [mx.random.normal((b, k, length, d)) for _ in range(2)]
    mask = cache.make_mask(length)
    assert cache.offset.tolist() == [7, 9, 8]
    out = cache.attend(q, *cache.update_and_fetch(*own), 0.5, mask)
    assert out.shape == q.shape and cache.offset.tolist() == [11, 13, 12]
    for row, pad in enumerate(padding):
        keys, values = (
            mx.concatenate([a, o[row : row + 1, :, pad:]], axis=2)
            for a, o in zip(ahead, own, strict=True)
        )
        expected = mx.fast.scaled_dot_product_attention(
            q[row : row + 1, :, pad:], keys, values, scale=0.5, mask="causal"
        )
        assert mx.allclose(out[row, :, pad:], expected[0], atol=1e-5)
        alone = cache.only(row)
        assert mx.array_equal(alone.keys_and_values()[0], keys)
        assert mx.array_equal(alone.keys_and_values()[1], values)


# --- rows ----------------------------------------------------------------------------


@pytest.fixture
def rows(tmp_path: Path, screen: Path) -> Callable[..., Path]:
    """`rows({"prompt": …}, "not json")`: a file of them beside two pictures."""
    (tmp_path / "a.png").write_bytes(screen.read_bytes())
    Image.new("RGB", (90, 60), "red").save(tmp_path / "b.png")

    def write(*lines: dict[str, Any] | str) -> Path:
        path = tmp_path / "rows.jsonl"
        texts = [x if isinstance(x, str) else json.dumps(x) for x in lines]
        path.write_text("\n".join(texts) + "\n")
        return path

    return write


MIXED = [
    {"image": "a.png", "prompt": ASKED[0], "id": "one", "max_tokens": 4},
    {"image": "b.png", "prompt": ASKED[1], "id": 2},
    {"prompt": ASKED[2]},
    {"images": ["a.png"], "prompt": ASKED[3]},
    {"images": ["a.png", "b.png"], "prompt": ASKED[4]},
]


def test_rows_come_out_in_their_order(
    ui: tuple[MM15, Processor], ui_folder: Path, rows: Callable[..., Path], cli: Cli
) -> None:
    path = rows(*MIXED[:2], "", *MIXED[2:])
    arguments = ["generate", "--model", ui_folder, "--input", path, "-m", 6]
    status, out, err = cli(*arguments)
    assert status == 0 and err == "5/5 rows\n"
    written = [json.loads(line) for line in out.splitlines()]
    assert [w.get("id") for w in written] == ["one", 2, None, None, None]
    for row, w in zip(MIXED, written, strict=True):
        names = row.get("images", [row["image"]] if "image" in row else [])
        images = [path.parent / n for n in names]
        limit = row.get("max_tokens", 6)
        fresh = generate(*ui, row["prompt"], images=images, max_tokens=limit)
        assert w["text"] == fresh.text
        assert w["usage"]["generated_tokens"] == len(fresh.tokens)
        assert [i["path"] for i in w["images"]] == [str(i) for i in images]
        assert "timings" not in w and "boxes" in w


def test_output_is_written_whole(
    ui_folder: Path, rows: Callable[..., Path], cli: Cli, tmp_path: Path
) -> None:
    target = tmp_path / "out.jsonl"
    arguments = ["generate", "--model", ui_folder, "--input", rows(*MIXED), "-m", 3]
    arguments += ["--output", target]
    assert cli(*arguments)[:2] == (0, "")
    text = target.read_text()
    assert (
        text.count("\n")
        == len(MIXED)
        == len(list(map(json.loads, text.split("\n")[:-1])))
    )
    assert (
        cli(*arguments)[2] == f"error: {target} exists; give --force to overwrite it\n"
    )
    assert cli(*arguments, "--force")[0] == 0 and target.read_text() == text
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON: "),
        ("[1]", "line 2 is not an object"),
        ('{"prompt": "Hi", "id": "\\ud83d"}', "line 2 holds half a character, or a nu"),
        ('{"prompt": "Hi", "id": NaN}', "line 2 "),
        ('{"prompt": "Hi", "image": "a\\u0000.png"}', "line 2: .* does not exist"),
        ({"prompt": "Hi", "imag": "a.png"}, "line 2 has the unknown key 'imag'; known"),
        ({"prompt": "Hi", "image": "a.png", "images": []}, "both image and images"),
        ({"prompt": "Hi", "image": 3}, "line 2: image must be a path, and images a"),
        ({"prompt": "Hi", "images": "a.png"}, "images a list of paths"),
        ({"image": "a.png"}, "line 2 has no prompt; ask something"),
        ({"prompt": "  "}, "line 2 has no prompt; ask something"),
        ({"prompt": "Hi", "max_tokens": 0}, "line 2: max_tokens is 0; it must be at"),
        ({"prompt": "Hi", "max_tokens": True}, "line 2: max_tokens is True; it must"),
        ({"prompt": "Hi", "image": "c.png"}, r"line 2: .*c.png does not exist"),
        ({"prompt": "a <box>1,2</box>", "image": "a.png"}, "line 2: "),
        ({"prompt": "Hi", "video": 3}, "line 2: video is 3; it must be a path"),
        ({"prompt": "Hi", "end": 3}, "line 2: end goes with video; name one"),
        ({"prompt": "Hi", "video": "v.mp4", "frames": 2.5}, "frames is 2.5; it must be "
         "a whole number"),
        ({"prompt": "Hi", "video": "v.mp4", "start": "1"}, "start is '1'; it must be a "
         "number of seconds"),
        ({"prompt": "Hi", "video": "v.mp4"}, "line 2: "),
    ],
)  # fmt: skip
def test_a_bad_row_is_found_before_weights_load(
    ui_copy: Path,
    rows: Callable[..., Path],
    cli: Cli,
    line: dict[str, Any] | str,
    message: str,
) -> None:
    (ui_copy / "model.safetensors").unlink()
    path = rows({"prompt": "Hi"}, line, {"prompt": "Hi"})
    status, out, err = cli("generate", "--model", ui_copy, "--input", path)
    assert (status, out) == (2, "") and err.startswith(f"error: {path}, line 2")
    assert err.count("\n") == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(err)


def test_a_text_may_hold_what_other_files_end_lines_with(
    rows: Callable[..., Path],
) -> None:
    path = rows('{"prompt": "one\u2028two\u0085three"}', {"prompt": "four"})
    found = read_rows(path, 5)
    assert [r.prompt for r in found] == ["one\u2028two\u0085three", "four"]
    assert found[1].where == f"{path}, line 2"


def test_no_rows(tmp_path: Path, rows: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="holds no rows"):
        read_rows(rows(""), 5)
    with pytest.raises(UserError, match="no.jsonl does not exist; give a JSONL file"):
        read_rows(tmp_path / "no.jsonl", 5)
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(UserError, match="latin.jsonl is not UTF-8 text"):
        read_rows(tmp_path / "latin.jsonl", 5)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give it, or --input"),
        (["--prompt", "Hi", "--input", "rows.jsonl"], "give it, or --input"),
        (["--prompt", "Hi", "--output", "out.jsonl"], "is for --input"),
        (["--input", "rows.jsonl", "--image", "a.png"], "--image goes with --prompt"),
        (["--input", "rows.jsonl", "--draw", "a.png"], "--draw goes with --prompt"),
    ],
)
def test_flags_that_do_not_go_together(
    button: Path, cli: Cli, flags: list[str], message: str
) -> None:
    status, out, err = cli("generate", "--model", button, *flags)
    assert (status, out) == (2, "") and message in err
