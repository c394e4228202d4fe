"""Annotated screens as training samples of `nano-ui`: pictures and questions as ids."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mm15_mlx.config import ModelConfig
from mm15_mlx.grounding import split_regions
from mm15_mlx.prompt import ImageSlot, PromptEncoder, Turn, turn_pieces
from mm15_mlx.screens.questions import Question
from mm15_mlx.tiling import Tiling, cut, plan
from mm15_mlx.tokenizer import Tokenizer

Row = dict[str, Any]
NO_TARGET = -100
BOX = re.compile(r"<box>(.*?)</box>")


def read_rows(folder: Path) -> Iterator[Row]:
    with (folder / "screens.jsonl").open() as lines:
        for line in lines:
            if line.endswith("\n"):  # the last line may still be being written
                row = json.loads(line)
                row["folder"] = str(folder)
                yield row


def load_views(row: Row, config: ModelConfig) -> np.ndarray:
    """The views of a screen, uint8 (V, S, S, 3)."""
    with Image.open(Path(row["folder"]) / row["image"]) as image:
        tiling = plan(*image.size, config.tiling)
        return cut(image.convert("RGB"), tiling, config.tiling)


@dataclass(frozen=True)
class Asked:
    """One question: ids after the picture, and what each position is to predict.

    target: the next token where it belongs to the answer, else `NO_TARGET`. box: the
    one box that question and answer are about, in pixels of the picture.
    """

    task: str
    ids: list[int]
    target: list[int]
    box: list[float] | None


class SampleEncoder:
    """Questions about a picture → ids, through the library's prompt code."""

    def __init__(self, config: ModelConfig, encoder: PromptEncoder) -> None:
        self.config = config
        self.encoder = encoder

    def answer_ids(
        self, answer: str, size: tuple[int, int], tiling: Tiling
    ) -> list[int]:
        parts = split_regions(answer, [size], self.config.coordinates.range)
        ids = [i for p in parts for i in self.encoder.piece_ids(p, [tiling])]
        return [*ids, self.encoder.end_id]

    def question_ids(
        self, prompt: str, size: tuple[int, int], tiling: Tiling
    ) -> tuple[list[int], list[int]]:
        """Prefix (up to the picture's end) and the rest of the user's turn."""
        parts = split_regions(prompt, [size], self.config.coordinates.range)
        turn = Turn("user", [ImageSlot(0), *parts])
        prefix: list[int] = []
        rest: list[int] = []
        seen = False
        for piece in turn_pieces([turn], self.config.prompt):
            (rest if seen else prefix).extend(self.encoder.piece_ids(piece, [tiling]))
            seen = seen or isinstance(piece, ImageSlot)
        return prefix, rest

    def ask(
        self, question: Question, size: tuple[int, int], tiling: Tiling, limit: int
    ) -> Asked | None:
        """The question with its answer, or nothing where they exceed `limit` tokens."""
        _, asked = self.question_ids(question.prompt, size, tiling)
        answer = self.answer_ids(question.answer, size, tiling)
        if len(asked) + len(answer) - 1 > limit:
            return None
        target = [NO_TARGET] * (len(asked) - 1) + answer
        boxes = BOX.findall(question.prompt + question.answer)
        box = [float(v) for v in boxes[0].split(",")] if len(boxes) == 1 else None
        return Asked(question.task, [*asked, *answer[:-1]], target, box)


@dataclass(frozen=True)
class Batch:
    """Pictures of one tiling; K questions about each, padded to T tokens."""

    prefix: Tensor  # (P,)
    ids: Tensor  # (B, K, T)
    target: Tensor  # (B, K, T)
    asked: list[list[Asked]]


def collate(prefix: list[int], asked: list[list[Asked]]) -> Batch:
    """Questions about B pictures; a picture with fewer of them is filled up with one
    that has no target."""
    count = max(map(len, asked))
    length = max(len(a.ids) for row in asked for a in row)
    ids = torch.zeros(len(asked), count, length, dtype=torch.long)
    target = torch.full_like(ids, NO_TARGET)
    for b, row in enumerate(asked):
        for k, a in enumerate(row):
            ids[b, k, : len(a.ids)] = torch.tensor(a.ids)
            target[b, k, : len(a.target)] = torch.tensor(a.target)
    return Batch(torch.tensor(prefix), ids, target, asked)


def visual_words(
    row: Row, tiling: Tiling, tokenizer: Tokenizer, views: list[int], side: int
) -> list[tuple[int, int]]:
    """(visual token, text token) pairs: where each word piece of the screen ends.

    Visual tokens count through `views`, side² each. A piece belongs to the window that
    holds its end: what precedes it has been seen by then.
    """
    pairs = []
    for line in row["texts"]:
        _, y1, _, y2 = line["box"]
        end = 0
        for token in tokenizer.encode(line["text"]):
            end += len(tokenizer.piece(token))
            if end >= len(line["edges"]):
                break
            x = line["edges"][end] - 1
            for k, view in enumerate(views):
                if tiling.indices[view] == (0, 0):
                    continue
                vx, vy = tiling.to_view(view, x, (y1 + y2) / 2)
                cx, cy = (int(v * side // tiling.tile_size) for v in (vx, vy))
                if 0 <= cx < side and 0 <= cy < side:
                    pairs.append((k * side * side + cy * side + cx, token))
    return pairs
