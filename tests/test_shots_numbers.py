"""Which picture `<box image=1>` names where examples stand before a question."""

import json
from pathlib import Path

import pytest
from PIL import Image
from test_shots import numbers, trained

from mm15_mlx import MM15
from mm15_mlx.config import UserError
from mm15_mlx.images import load_picture
from mm15_mlx.processor import Message, Processor
from mm15_mlx.shots import Shot, framed, read_shots

MARK = "<box image=1>0,0,40,40</box>"
HALF, THIRD = [0, 0, 500, 1000], [0, 0, 333, 200]  # of b.png, and of a.png


@pytest.fixture
def shots(tmp_path: Path, screen: Path) -> list[Shot]:
    """Two examples about the same pictures of 120 × 200 and 80 × 40 pixels, in turn."""
    (tmp_path / "a.png").write_bytes(screen.read_bytes())
    Image.new("RGB", (80, 40), "red").save(tmp_path / "b.png")
    rows = (
        trained(f"Like {MARK}?", MARK, images=["a.png", "b.png"]),
        trained(f"Like {MARK}?", "No.", images=["b.png", "a.png"]),
    )
    (tmp_path / "shots.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return read_shots(tmp_path / "shots.jsonl")


def asked(folder: Path, text: str) -> Message:
    pictures = [load_picture(folder / name) for name in ("a.png", "b.png")]
    parts = [{"type": "image", "image": p} for p in pictures]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def test_it_counts_within_its_own_example(
    ui: tuple[MM15, Processor], shots: list[Shot], tmp_path: Path
) -> None:
    before, question = framed(shots, None, asked(tmp_path, MARK), 1)
    ids = ui[1].prepare([*before, question]).ids
    assert numbers(ids) == [HALF, HALF, THIRD, HALF]


def test_a_question_has_no_more_pictures_than_its_own(
    ui: tuple[MM15, Processor], shots: list[Shot], tmp_path: Path
) -> None:
    far = asked(tmp_path, MARK.replace("image=1", "image=2"))
    before, question = framed(shots, "Be brief.", far, None)
    with pytest.raises(UserError, match="names picture 2, but there are 2"):
        ui[1].prepare([*before, question])


def test_a_question_without_pictures_counts_those_of_the_examples(
    ui: tuple[MM15, Processor], shots: list[Shot]
) -> None:
    before, question = framed(shots, None, {"role": "user", "content": MARK}, None)
    assert numbers(ui[1].prepare([*before, question]).ids)[-1] == HALF
