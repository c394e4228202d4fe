"""Rows of training data: what is learnt of them, and every way in which one is bad."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training import ROWS, asked, write

from mm15_mlx.dataset import encode, read_split
from mm15_mlx.load import load_processor
from mm15_mlx.processor import Processor
from mm15_mlx.templates import TEMPLATES
from mm15_mlx.training_rows import DataError, read_rows, row_of


@pytest.fixture
def processor(ui_folder: Path) -> Processor:
    return load_processor(ui_folder)


def learnt(folder: Path, processor: Processor) -> list[list[str]]:
    """The names or pieces of what is learnt, row by row."""
    split = read_split(folder, "train", processor)
    assert split.problems == []
    named = processor.tokenizer
    return [
        [named.name(i) or named.piece(i) for i in s.ids[s.learnt].tolist()]
        for s in split.samples
    ]


def test_only_answers_are_learnt(
    tmp_path: Path, screen: Path, processor: Processor
) -> None:
    row = {
        "messages": [
            {"role": "system", "content": "a"},
            {"role": "user", "content": "What?"},
            {"role": "assistant", "content": "Yes"},
            {"role": "user", "content": "Where is the switch?"},
            {"role": "assistant", "content": "<box>30,50,60,100</box>"},
        ],
        "images": ["screen.png"],
    }
    (found,) = learnt(write(tmp_path, screen, [row]), processor)
    yes = [processor.tokenizer.piece(i) for i in processor.tokenizer.encode("Yes")]
    box = ["<box>", "<loc_250>", "<loc_250>", "<loc_500>", "<loc_500>", "</box>"]
    assert found == [*yes, "<|end|>", *box, "<|end|>"]


@pytest.mark.parametrize("family", ["nano-ui", "llava_v1", "qwen_1_5"])
def test_only_what_the_assistant_says_is_learnt(
    family: str, processor: Processor
) -> None:
    """Not its role, also where it speaks twice or first; nor the questions before a
    system message that comes late."""
    prompt = dataclasses.replace(
        processor.config.prompt,
        system=TEMPLATES[family].system,
        assistant_start=f"{processor.config.prompt.assistant_start}said",
    )
    config = dataclasses.replace(processor.config, prompt=prompt)
    processor = Processor(config, processor.tokenizer)
    roles = ("assistant", "assistant", "user", "assistant", "system", "assistant")
    words = {"user": "What?", "assistant": "Yes", "system": "General"}
    messages = [{"role": role, "content": words[role]} for role in roles]
    row = row_of({"messages": messages}, "a", Path(), None)
    sample = encode(row, [], [], processor, 4096)
    named = processor.tokenizer
    yes = [*named.encode("Yes"), *processor.encoder.stop_ids]
    assert sample.ids[sample.learnt].tolist() == yes * 4


def test_text_that_only_resembles_a_place(tmp_path: Path, processor: Processor) -> None:
    row = asked("What does x < box do?", "<box-shadow> and <pointer> <boxes>")
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    assert read_split(tmp_path, "train", processor).problems == []


def test_counts_by_hand(tmp_path: Path, screen: Path, processor: Processor) -> None:
    """Four coordinates, two brackets and the end; a word's pieces and the end."""
    folder = write(tmp_path, screen, ROWS[:2])
    first, second = read_split(folder, "train", processor).samples
    words = processor.tokenizer.encode("button")
    assert first.learnt.sum() == 7 and second.learnt.sum() == len(words) + 1
    image = processor.encoder.image_id
    assert (first.ids == image).sum() == first.pictures[0].tokens > 0
    assert not first.learnt[first.ids == image].any()


def test_what_stands_before_an_answer_is_what_the_model_is_asked(
    tmp_path: Path, screen: Path, processor: Processor
) -> None:
    (sample,) = read_split(
        write(tmp_path, screen, ROWS[:1]), "train", processor
    ).samples
    prompt = processor.prepare("Where is the switch?", [screen])
    start = int(np.argmax(sample.learnt))
    assert sample.ids[:start].tolist() == prompt.ids


def test_llava_rows_are_the_same(
    tmp_path: Path, screen: Path, processor: Processor
) -> None:
    llava = {
        "id": 7,
        "image": "screen.png",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is this?"},
            {"from": "gpt", "value": "button"},
        ],
    }
    folder = write(tmp_path, screen, [ROWS[1], llava])
    ours, theirs = read_split(folder, "train", processor).samples
    assert ours.ids.tolist() == theirs.ids.tolist()
    (folder / "train.jsonl").rename(folder / "train.json")
    (folder / "train.json").write_text(json.dumps([llava]))
    (again,) = read_split(folder, "train", processor).samples
    assert again.ids.tolist() == ours.ids.tolist()
    assert again.where == "train.json, row 1"


def test_placeholders_stand_where_they_are_written(
    tmp_path: Path, screen: Path, processor: Processor
) -> None:
    row = asked("one <image> two <image>\n", "<box image=1>0,0,60,100</box>",
                "screen.png", "screen.png")  # fmt: skip
    parts = asked("", "Yes", "screen.png")
    parts["messages"][0]["content"] = [
        {"type": "text", "text": "Is "}, {"type": "image"},
    ]  # fmt: skip
    folder = write(tmp_path, screen, [row, parts])
    rows, problems = read_rows(folder / "train.jsonl")
    assert problems == []
    assert rows[0].messages[0] == ("user", ("one ", None, " two ", None))
    assert rows[1].messages[0] == ("user", ("Is ", None))
    first, _ = read_split(folder, "train", processor).samples
    assert len(first.pictures) == 2


def test_null_is_as_if_it_were_not_there(
    tmp_path: Path, screen: Path, processor: Processor
) -> None:
    """As tables export columns that a row has not."""
    nothing = dict.fromkeys(("conversations", "image", "category", "video", "frames"))
    folder = write(tmp_path, screen, [ROWS[0], ROWS[0] | nothing])
    first, second = read_split(folder, "train", processor).samples
    assert first.ids.tolist() == second.ids.tolist()
    assert first.category == second.category


def test_a_placeholder_beside_parts_is_mere_text(
    tmp_path: Path, screen: Path, processor: Processor
) -> None:
    row = asked("", "A tag.", "screen.png")
    text = "What is <image>?"
    row["messages"][0]["content"] = [{"type": "image"}, {"type": "text", "text": text}]
    row |= {"image": None, "video": None}  # as tables export what is not there
    folder = write(tmp_path, screen, [row])
    (sample,) = read_split(folder, "train", processor).samples
    asked_as = [{"role": "user", "content": row["messages"][0]["content"]}]
    ids = processor.prepare(asked_as, [screen]).ids
    assert sample.ids[: len(ids)].tolist() == ids


BAD: list[tuple[Any, str]] = [
    ("{", "row 1: not JSON: "),
    ("[]", "row 1: not an object"),
    ({"image": "screen.png"}, "must have either messages or conversations"),
    ({"messages": []}, "its conversation is empty"),
    ({"messages": ["hi"]}, "'hi' is not a message: it needs role and content"),
    ({"messages": [{"role": "bot", "content": "a"}]}, "role 'bot' is not known; use"),
    ({"messages": [{"role": "user", "content": 3}]}, "3 is not the content of a"),
    (
        {"messages": [{"role": "user", "content": [{"type": "sound"}]}]},
        "is not a content part: text, image or video",
    ),
    (
        {**asked("What?", "A", "screen.png"), "image": "screen.png"},
        "has both image and images; leave one out",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "image": "b.png"},
                        {"type": "text", "text": "What?"},
                    ],
                }
            ]
        },
        "names its own image; give that with the row's key 'images'",
    ),
    (asked("What?", "  "), "an empty answer; there is nothing to learn"),
    (asked("", "Yes"), "an empty user message; there is nothing"),
    (asked("What?", "<image>", "screen.png"), "a picture in an answer"),
    ({"messages": [{"role": "user", "content": "a"}]}, "no answer of the assistant"),
    (
        {
            "messages": [{"role": "assistant", "content": "a"}],
            "images": ["screen.png"],
        },
        "pictures need a message of the role user",
    ),
    (asked("<image> a", "b"), "1 image placeholders for 0 pictures"),
    (asked("<image> a", "b", *["screen.png"] * 2), "1 image placeholders for 2 pict"),
    (asked("a", "b") | {"imges": ["screen.png"]}, "has the key 'imges'; did you mean"),
    (asked("a", "b") | {"images": [3]}, "images must be a list of paths"),
    (asked("a", "b") | {"category": 3}, "category is 3; it must be a name"),
    (asked("a", "b") | {"category": "\ud83d"}, r"category: '\ud83d' is no Unicode tex"),
    (asked("a", "b", "\ud83d.png"), r"images: '\ud83d.png' is no Unicode text; write"),
    (asked("a", "b") | {"video": "\ud83d"}, r"video: '\ud83d' is no Unicode text; w"),
    (asked("a", "b", "no.png"), "no.png does not exist"),
    (asked("a", "b") | {"video": 3}, "video is 3; it must be a path"),
    (asked("a", "b") | {"vidoe": "a.mp4"}, "has the key 'vidoe'; did you mean 'video'"),
    (
        asked("a", "b") | {"video": "a.mp4", "frame": 3},
        "'frame'; did you mean 'frames'",
    ),
    (asked("a", "b") | {"video": "a.mp4", "frames": 1.5}, "it must be a whole number"),
    (asked("a", "b") | {"video": "a.mp4", "frames": 0}, "frames is 0; it must be at"),
    (asked("a", "b") | {"video": "a.mp4", "end": "2"}, "end is '2'; it must be a numb"),
    (
        asked("<video> a <video>", "b") | {"video": "a.mp4"},
        "2 video placeholders for 1 videos; write <video> for each, and name them wit",
    ),
    (
        asked("<image>\na", "b") | {"video": "a.mp4"},
        "1 image placeholders for 0 pictures; write <image> for each, and name them w",
    ),
    (
        asked("", "b")
        | {
            "messages": [
                {"role": "user", "content": [{"type": "video"}]},
                {"role": "assistant", "content": "b"},
            ]
        },
        "1 video placeholders for 0 videos",
    ),
    (asked("a", "<video>") | {"video": "a.mp4"}, "a picture in an answer; the model"),
    (asked("a", "b", "broken.png"), "broken.png is damaged or cut short"),
    (
        asked("a", "<box>0,0,300,20</box>", "screen.png"),
        "<box>0,0,300,20</box> is out of range: the picture has 120 × 200 pixels",
    ),
    (asked("a", "<box>0,0,3</box>", "screen.png"), "is not <box>x1,y1,x2,y2</box>"),
    (asked("a", "<box>9,0,3,5</box>", "screen.png"), "is empty: x1 < x2"),
    (asked("a", "<box>0,0,3,5", "screen.png"), "<box> is not closed; write <box>x1"),
    (
        asked("a", "<box image='1'>1,2,3,4</box>", "screen.png"),
        "is not read as a place",
    ),
    (asked("a", "<box image=-1>1,2,3,4</box>", "screen.png"), "<box image=-1>' is not"),
    (asked("a", "<box >1,2,3,4</box>", "screen.png"), "'<box >' is not read as a pla"),
    (asked("a", "<BOX>1,2,3,4</BOX>", "screen.png"), "'<BOX>' is not read as a place"),
    (asked("a", "< point>1,2</point>", "screen.png"), "'< point>' is not read as a p"),
    (asked("a", "1,2,3,4</box>", "screen.png"), "'</box>' is not read as a place; w"),
    (asked("a", "<box image=1>0,0,3,5</box>", "screen.png"), "names picture 1, but"),
    (asked("a", "<box>0,0,3,5</box>"), "marks a place, but there is no picture"),
    (
        {
            "messages": [
                {"role": "user", "content": "<image> a <box image=1>0,0,9,9</box>"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "<image> c"},
                {"role": "assistant", "content": "d"},
            ],
            "images": ["screen.png"] * 2,
        },
        "a place in picture 1 before that is shown",
    ),
]


@pytest.mark.parametrize(("row", "message"), BAD, ids=lambda v: str(v)[:40])
def test_bad_rows_are_named(
    row: Any, message: str, tmp_path: Path, screen: Path, processor: Processor
) -> None:
    folder = write(tmp_path, screen, [row, ROWS[2]])
    picture = screen.read_bytes()
    (folder / "broken.png").write_bytes(picture[: len(picture) // 2])
    split = read_split(folder, "train", processor)
    assert [s.where for s in split.samples] == ["train.jsonl, row 2"]
    (problem,) = split.problems
    assert problem.startswith("train.jsonl, row 1: ") and message in problem


def test_a_row_that_is_too_long_is_not_cut(
    tmp_path: Path, screen: Path, processor: Processor
) -> None:
    split = read_split(write(tmp_path, screen, ROWS[:1]), "train", processor, 20)
    (problem,) = split.problems
    assert "of them for pictures; the limit is 20: shorten the row" in problem


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.jsonl", b"\xff\xfe", "train.jsonl is not UTF-8 text: .*; save it as"),
        ("train.json", b"{", "train.json is not JSON"),
        ("train.json", b"{}", "train.json is not a list of rows"),
    ],
)
def test_files_that_cannot_be_read(
    name: str, content: bytes, message: str, tmp_path: Path, processor: Processor
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_split(tmp_path, "train", processor)
