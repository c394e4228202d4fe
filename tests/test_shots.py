"""Examples before the question: files, places, mixed resolution, reading them once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from decoding import Counter
from PIL import Image

from mm15_mlx import MM15, generate
from mm15_mlx.batch import Question, answer_together
from mm15_mlx.config import ConfigError, TilingConfig, UserError
from mm15_mlx.decoding import Options
from mm15_mlx.generate import read_beginning
from mm15_mlx.images import load_picture
from mm15_mlx.processor import Processor
from mm15_mlx.shots import (
    ShotError,
    check,
    framed,
    pictures_split,
    read_shots,
    shot_of,
    split_last,
)

Cli = Callable[..., tuple[int, str, str]]
BOX, LOC = 9, 13
ASKED = ["What is on this screen?", "Where is the button?", "Is it On or Off?"]


@pytest.fixture
def file(tmp_path: Path, screen: Path) -> Callable[..., Path]:
    """`file({"image": …}, "not json")`: a file of examples beside two pictures."""
    (tmp_path / "a.png").write_bytes(screen.read_bytes())
    Image.new("RGB", (80, 40), "red").save(tmp_path / "b.png")

    def write(*lines: dict[str, Any] | str, name: str = "shots.jsonl") -> Path:
        texts = [x if isinstance(x, str) else json.dumps(x) for x in lines]
        (tmp_path / name).write_text("\n".join(texts) + "\n")
        return tmp_path / name

    return write


def row(image: str = "a.png", question: str = "On?", answer: str = "Yes") -> dict:
    return {"image": image, "question": question, "answer": answer}


def trained(*turns: str, images: list[str]) -> dict:
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": r, "content": t} for r, t in zip(roles, turns, strict=False)]
    return {"messages": messages, "images": images}


def numbers(ids: list[int]) -> list[list[int]]:
    """The location tokens of every box."""
    starts = [i for i, token in enumerate(ids) if token == BOX]
    return [[t - LOC for t in ids[s + 1 : s + 5]] for s in starts]


# --- reading -------------------------------------------------------------------------


def test_places_are_pixels_of_the_shots_own_picture(
    ui: tuple[MM15, Processor], file: Callable[..., Path]
) -> None:
    """Both forms; 120 × 200 and 80 × 40 pixels."""
    path = file(
        row("a.png", "What is [0, 0, 60, 200]?", "On"),
        row("b.png", "Where?", "<box>40,20,80,40</box> and [0,0,8,4.0]"),
    )
    before, question = framed(
        read_shots(path), None, {"role": "user", "content": "Where?"}, 1
    )
    ids = ui[1].prepare([*before, question]).ids
    assert numbers(ids) == [
        [0, 0, 500, 1000], [500, 500, 1000, 1000], [0, 0, 100, 100],
    ]  # fmt: skip


def test_other_brackets_stay_text(file: Callable[..., Path]) -> None:
    (shot,) = read_shots(file(row(answer="[1, 2] and [1, 2, 3]")))
    assert shot.messages[1]["content"] == "[1, 2] and [1, 2, 3]"


def test_training_rows_are_examples_too(
    ui: tuple[MM15, Processor], file: Callable[..., Path]
) -> None:
    """With several pictures and turns; the ids are those that such a row trains."""
    path = file(
        trained(
            "Is <image>\nlike <image>?", "No", "Where?",
            "<box image=1>0,0,40,40</box>", images=["a.png", "b.png"],
        )
    )  # fmt: skip
    (shot,) = read_shots(path)
    assert [m["role"] for m in shot.messages] == ["user", "assistant"] * 2
    check([shot], ui[1])
    ids = ui[1].prepare(split_last(shot.messages, 0)).ids
    assert numbers(ids) == [[0, 0, 500, 1000]]
    whole = file(json.dumps([trained("A?", "B", images=["a.png"])]), name="rows.json")
    assert len(read_shots(whole)) == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], r"shots.jsonl, line 1: not JSON: "),
        (["[1]"], "line 1: not an object"),
        ([row(), row() | {"imag": 1}], "line 2: the key 'imag' is unknown; use image"),
        ([{"question": "a", "answer": "b"}], "line 1: has no image; an example needs"),
        ([{"image": "a.png", "answer": "b"}], "question is None; it must be a text"),
        ([row(question=" ")], "line 1: an example's question is empty; it must say"),
        ([row(answer="")], "line 1: an example's answer is empty; it must say"),
        ([row("no.png")], r"line 1: .*no.png does not exist"),
        ([row(), "", row("c.png"), "{"], r"line 3: .*c.png does.*; .*line 4: not JSON"),
        ([trained("a", "b", images=[])], "row 1: has no images; an example needs a pi"),
        ([trained("a", "b", "c", images=["a.png"])], "row 1: does not end with an ans"),
        ([trained("<image><image>", "b", images=["a.png"])], "row 1: 2 image placehol"),
        ([trained("a", "b", images=["a.png"]), row()], "row 2: must have either messa"),
        ([trained("a", images=["a.png"])], "row 1: no answer of the assistant"),
        (["", ""], "shots.jsonl holds no examples; leave it out, or write some"),
        (["{"] * 12, "and 2 more"),
    ],
)
def test_bad_rows_are_named(
    file: Callable[..., Path], lines: list[Any], message: str
) -> None:
    with pytest.raises(ShotError, match=message):
        read_shots(file(*lines))


def test_a_system_text_is_given_apart(file: Callable[..., Path]) -> None:
    data = trained("a", "b", images=["a.png"])
    data["messages"].insert(0, {"role": "system", "content": "Read"})
    with pytest.raises(ShotError, match="has a system message; give that with --sys"):
        read_shots(file(data))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ShotError, match="no.jsonl does not exist; give a JSONL file"):
        read_shots(tmp_path / "no.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    with pytest.raises(ShotError, match="latin.jsonl is not UTF-8 text"):
        read_shots(tmp_path / "latin.jsonl")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shot", "::On?::Yes"], "--shot '::On?::Yes' has no picture; it must be IM"),
        (["--shot", "b.png::::Yes"], "--shot b.png: an example's question is empty; "),
        (["--shot", "no.png::On?::Yes"], "--shot no.png: no.png does not exist"),
        (["--shots", "."], ". is a folder; give a JSONL file of examples"),
        (
            ["--shot", "b.png::On?::[90, 0, 99, 9]"],
            "--shot b.png: <box>90,0,99,9</box> lies outside the picture of 80 × 40 pi",
        ),
        (["--shots", "no.jsonl"], "no.jsonl does not exist; give a JSONL file of exa"),
        (["--shots", "shots.jsonl"], "shots.jsonl, line 1: <box>90,0,99,9</box> lies "),
        (["--split-last", "-1"], "Invalid value for '--split-last': "),
    ],
)
def test_mistakes_are_told_before_weights_load(
    cli: Cli, ui_copy: Path, file: Callable[..., Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, flags: list[str], message: str,
) -> None:  # fmt: skip
    (ui_copy / "model.safetensors").unlink()
    file(row("b.png", "On?", "[90,0,99,9]"))
    monkeypatch.chdir(tmp_path)
    code, out, err = cli("generate", "--model", ui_copy, "-p", "Hi", *flags)
    assert (code, out) == (2, "") and err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_an_answer_may_hold_two_colons(file: Callable[..., Path]) -> None:
    path = file(row()).parent / "a.png"
    assert shot_of(f"{path}::What?::std::vector").messages[1] == {
        "role": "assistant", "content": "std::vector",
    }  # fmt: skip


# --- mixed resolution ----------------------------------------------------------------


def views(processor: Processor, shots: list[Any], screen: Path, last: int) -> list[int]:
    parts = [{"type": "image", "image": screen}, {"type": "text", "text": "What?"}]
    before, question = framed(shots, None, {"role": "user", "content": parts}, last)
    images = processor.prepare([*before, question]).images
    return [len(i.tiling.indices) for i in images]


@pytest.mark.parametrize(
    ("last", "expected"),
    [(0, [1, 1, 1, 1]), (1, [1, 1, 1, 5]), (2, [1, 1, 5, 5]), (9, [5, 5, 5, 5])],
)
def test_only_the_last_pictures_are_split(
    ui: tuple[MM15, Processor], file: Callable[..., Path], screen: Path,
    last: int, expected: list[int],
) -> None:  # fmt: skip
    shots = read_shots(file(row(), row(), row()))
    assert views(ui[1], shots, screen, last) == expected


def test_the_command_line_splits_the_last(
    cli: Cli, button: Path, file: Callable[..., Path], screen: Path
) -> None:
    """One, if nobody says; a system text and a shot of each kind stand before it."""
    shots = file(row(), row())
    flags = ["generate", "--model", button, "--image", screen, "-p", "Where?", "--json"]
    flags += ["--shot", f"{screen}::On?::Yes", "--shots", shots, "--system-prompt", "A"]
    document = json.loads(cli(*flags)[1])
    assert [i["views"] for i in document["images"]] == [1, 1, 1, 5]
    assert document["boxes"][0]["image"] == 3
    document = json.loads(cli(*flags, "--split-last", "2")[1])
    assert [i["views"] for i in document["images"]] == [1, 1, 5, 5]


def test_split_last_is_a_field_of_the_configuration() -> None:
    assert TilingConfig().split_last == 1
    with pytest.raises(ConfigError, match="tiling.split_last is -1; it must be 0"):
        TilingConfig(split_last=-1)


def test_the_whole_prompt_of_two_examples(
    ui: tuple[MM15, Processor], file: Callable[..., Path]
) -> None:
    """Every id as its piece, from a system text to where the answer begins: examples
    are whole turns, only the last picture is split (two tiles, then its overview)."""
    path = file(
        row("a.png", "What is <box>0,0,60,200</box>?", "On"),
        row("b.png", "Where is On?", "[40,20,80,40]"),
    )
    processor = ui[1]
    wide = load_picture(Image.new("RGB", (168, 84), "red"))
    content = [{"type": "image", "image": wide}, {"type": "text", "text": "Off?"}]
    before, question = framed(
        read_shots(path), "Read", {"role": "user", "content": content}, 1
    )
    ids = processor.prepare([*before, question]).ids
    pieces = "".join(processor.tokenizer.piece(i) for i in ids)
    assert pieces.replace("<|image|>" * 16, "<view>").replace("▁", " ") == (
        "<|system|>Read<|end|>"
        "<|user|><view>What is <box><loc_0><loc_0><loc_500><loc_1000></box>?<|end|>"
        "<|assistant|>On<|end|>"
        "<|user|><view>Where is On?<|end|>"
        "<|assistant|><box><loc_500><loc_500><loc_1000><loc_1000></box><|end|>"
        "<|user|>(2, 1, 1)<view>(2, 1, 2)<view>(2, 0, 0)<view>Off?<|end|>"
        "<|assistant|>"
    )


# --- read once for many questions ----------------------------------------------------


@pytest.fixture
def counted(ui: tuple[MM15, Processor], monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How many views are encoded and how many tokens are read."""
    return Counter(ui[0], monkeypatch)


def test_many_questions_pay_once(
    ui: tuple[MM15, Processor], file: Callable[..., Path], counted: Counter
) -> None:
    """Each about a picture of its own; the answers are those of separate runs."""
    model, processor = ui
    shots = read_shots(file(row(), row("b.png", "Off?", "No")))
    own = [Image.new("RGB", (120, 200), c) for c in ("red", "green", "blue")]
    before, _ = framed(shots, None, {"role": "user", "content": "Hi"}, 0)

    def asked(k: int) -> list[dict[str, Any]]:
        picture = {"type": "image", "image": load_picture(own[k]), "split": True}
        return [
            {"role": "user", "content": [picture, {"type": "text", "text": ASKED[k]}]}
        ]

    singly = []
    for k in range(3):
        processor.memory.forget()
        messages = [*before, *asked(k)]
        singly.append(generate(model, processor, messages, max_tokens=6).tokens)
    processor.memory.forget()
    start = read_beginning(model, processor, before, Options())
    counted.clear()
    results = [
        answer_together(
            model, processor, [Question(asked(k), 6)], [], Options(), start
        )[0]
        for k in range(3)
    ]
    assert [r.tokens for r in results] == singly
    assert len({tuple(t) for t in singly}) == 3
    assert sum(counted.views) == 3 * 5, "the examples are not encoded again"
    own_tokens = [r.prompt_tokens - len(start.keys) for r in results]
    assert [n for n in counted.reads if n > 1] == own_tokens, "nor read again"


def test_several_questions_about_one_picture_after_examples(
    ui: tuple[MM15, Processor], file: Callable[..., Path], screen: Path
) -> None:
    """Side by side, with the picture given apart."""
    model, processor = ui
    shots = read_shots(file(row(), row("b.png", "Off?", "No")))
    before, _ = framed(shots, "Read", {"role": "user", "content": "Hi"}, 0)
    start = read_beginning(model, processor, before, Options())
    questions = [Question(q, 5) for q in ASKED]
    results = answer_together(model, processor, questions, [screen], Options(), start)
    for question, result in zip(ASKED, results, strict=True):
        processor.memory.forget()
        parts = [{"type": "image", "image": screen}, {"type": "text", "text": question}]
        messages = [*before, {"role": "user", "content": parts}]
        alone = generate(model, processor, messages, max_tokens=5)
        assert result.tokens == alone.tokens and result.subject == alone.subject == 2


def test_a_beginning_is_not_used_up(
    ui: tuple[MM15, Processor], file: Callable[..., Path]
) -> None:
    model, processor = ui
    before, _ = framed(
        read_shots(file(row())), None, {"role": "user", "content": ""}, 0
    )
    start = read_beginning(model, processor, before, Options())
    keys = [mx.array(c.keys_and_values()[0]) for c in start.cache]
    answer_together(
        model, processor, [Question("Hi", 5)] * 2, [], Options(kv_bits=None), start
    )
    kept = [c.keys_and_values()[0] for c in start.cache]
    assert all(mx.array_equal(a, b).item() for a, b in zip(keys, kept, strict=True))
    packed = Options(kv_bits=8, kv_group_size=32, quantized_kv_start=0)
    (result,) = answer_together(
        model, processor, [Question("Hi", 3)], [], packed, start
    )
    assert len(result.tokens) == 3, "a packed cache is made anew"


def test_rows_share_their_examples(
    cli: Cli,
    ui_folder: Path,
    file: Callable[..., Path],
    tmp_path: Path,
    counted: Counter,
) -> None:
    """The answers are those of single calls; every example is encoded once."""
    shots = file(row(), row("b.png", "Off?", "No"))
    lines = [
        {"image": "a.png", "prompt": ASKED[0]}, {"image": "b.png", "prompt": ASKED[1]},
        {"image": "a.png", "prompt": ASKED[2]}, {"prompt": ASKED[1]},
    ]  # fmt: skip
    rows = file(*lines, name="rows.jsonl")
    flags = ["generate", "--model", ui_folder, "--shots", shots, "-m", 5]
    counted.clear()
    code, out, err = cli(*flags, "--input", rows)
    assert code == 0, err
    # Both examples' overviews; a.png and b.png split. Where no picture is asked about,
    # the last example is the last picture and split: b.png once more.
    assert sum(counted.views) == 2 + 5 + 3
    for line, written in zip(lines, map(json.loads, out.splitlines()), strict=True):
        image = ["--image", tmp_path / line["image"]] if "image" in line else []
        single = json.loads(cli(*flags, *image, "-p", line["prompt"], "--json")[1])
        assert written["text"] == single["text"]
        assert written["images"] == single["images"]


def test_counting_what_is_split(screen: Path) -> None:
    image = {"type": "image", "image": screen}
    video = {"type": "video", "video": "a.mp4"}
    messages = [
        {"role": "user", "content": [image, video, image]},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": [image]},
    ]
    marked = split_last(messages, 2)
    assert pictures_split(marked) == 2
    assert [p.get("split") for p in marked[0]["content"]] == [False, None, True]
    assert "split" not in image, "the given parts stay as they are"


def test_shots_are_checked_by_the_model(
    ui: tuple[MM15, Processor], file: Callable[..., Path]
) -> None:
    shots = read_shots(file(row(answer="<box>1,2</box>")))
    with pytest.raises(UserError, match="shots.jsonl, line 1: <box>1,2</box> is not"):
        check(shots, ui[1])
