"""Scores of a model in training: what greedy decoding would say, task by task."""

from pathlib import Path

import pytest
import torch

from mm15_mlx.convert.mm15_torch import sft
from mm15_mlx.convert.mm15_torch.answered import asked_about, measure, scores
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET

from .test_recipe import draw_screens, tiny

pytestmark = pytest.mark.parity


@pytest.fixture
def trainer(tokenizer_model: bytes, tmp_path: Path) -> sft.Trainer:
    draw_screens(tmp_path / "screens")
    (tmp_path / "views").mkdir()
    (tmp_path / "tokenizer.model").write_bytes(tokenizer_model)
    flags = ["--screens", tmp_path / "screens", "--views", tmp_path / "views",
             "--tokenizer", tmp_path / "tokenizer.model", "--out",
             tmp_path / "none.pt"]  # fmt: skip
    return sft.Trainer(sft.arguments([str(f) for f in flags]), tiny())


def test_the_same_questions_come_every_time(trainer: sft.Trainer) -> None:
    screen = trainer.draws.screens.items[0]
    first, again = (asked_about(trainer, screen) for _ in range(2))
    assert [a.ids for a in first] == [a.ids for a in again]
    assert {a.task for a in first} == {
        "ocr", "find_text", "find_widget", "widget_class", "tappable"
    }  # fmt: skip


def test_what_is_always_right_scores_one_and_what_never_is_zero(
    trainer: sft.Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(shift: int) -> dict[str, dict[str, float]]:
        """Scores where every token is the right one, or one that many ids on."""

        def answers(prefix: torch.Tensor, batch: sft.Batch) -> tuple:
            target = batch.target[batch.target != NO_TARGET]
            size = trainer.config.text_config.vocab_size
            logits = 40 * torch.nn.functional.one_hot((target + shift) % size, size)
            return {"logits": logits.float(), "target": target}, []

        monkeypatch.setattr(trainer, "answers", answers)
        return measure(trainer)

    right, wrong = told(0), told(1)
    assert right["ocr"] == {"nats": pytest.approx(0, abs=1e-6), "exact": 1, "n": 3}
    assert right["find_text"]["iou"] == right["find_text"]["centre"] == 1
    assert wrong["ocr"]["exact"] == wrong["tappable"]["exact"] == 0
    assert wrong["ocr"]["nats"] == pytest.approx(40, abs=1e-3)
    # One thousandth further is still the same box.
    assert wrong["find_text"]["iou"] == 1


@pytest.mark.parametrize(
    ("guess", "iou", "centre"),
    [
        ([100, 100, 200, 200], 1, 1),
        ([160, 160, 260, 260], 0, 0),
        ([140, 140, 240, 240], 0, 1),  # the middle is still inside
        ([200, 100, 100, 200], 0, 0),  # no box
        ([100, 100, 200, 1001], 0, 0),  # no number
    ],
)
def test_a_box_is_scored_as_a_users(guess: list[int], iou: int, centre: int) -> None:
    first, target = 10, torch.tensor([110, 110, 210, 210])
    logits = torch.nn.functional.one_hot(torch.tensor(guess) + first, 2000).float()
    found = scores(logits, target, first, 1001)
    assert (found["iou"], found["centre"]) == (iou, centre)
