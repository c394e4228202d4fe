"""Annotated screens as training samples of `nano-ui`.

One sample is one picture and many questions about it. The picture's tokens come once;
every question attends to them and to itself only, at the positions it would have alone,
so that one pass trains what users will ask one at a time.
"""

import json
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
LONG = ("read", "widgets")


def read_rows(folder: Path) -> Iterator[Row]:
    with (folder / "screens.jsonl").open() as lines:
        for line in lines:
            if line.endswith("\n"):  # the last line may still be being written
                row = json.loads(line)
                row["folder"] = str(folder)
                yield row


def load_views(row: Row, config: ModelConfig) -> tuple[Tiling, np.ndarray]:
    """The tiling of a screen and its views, uint8 (V, S, S, 3)."""
    with Image.open(Path(row["folder"]) / row["image"]) as image:
        tiling = plan(*image.size, config.tiling)
        return tiling, cut(image.convert("RGB"), tiling, config.tiling)


def window(row: Row, tiling: Tiling, view: int) -> Row:
    """What lies wholly inside one tile, in pixels of that tile."""
    size = tiling.tile_size

    def moved(item: Row) -> Row | None:
        x1, y1, x2, y2 = item["box"]
        a, b = tiling.to_view(view, x1, y1), tiling.to_view(view, x2, y2)
        if min(a) < 0 or max(b) > size:
            return None
        return {**item, "box": [*a, *b]}

    found: Row = {"width": size, "height": size}
    for kind in ("texts", "elements"):
        found[kind] = [m for m in map(moved, row[kind]) if m]
    return found


@dataclass(frozen=True)
class Sample:
    """Ids and what each position is to predict.

    block: 0 for the picture's prefix, then 1, 2, … for each question. target: the next
    token where it belongs to an answer, else `NO_TARGET`. weight: of each target.
    """

    ids: list[int]
    position: list[int]
    block: list[int]
    target: list[int]
    weight: list[float]
    tasks: list[str]


class SampleEncoder:
    """Questions about a picture → a `Sample`, through the library's prompt code."""

    def __init__(self, config: ModelConfig, encoder: PromptEncoder) -> None:
        self.config = config
        self.encoder = encoder

    def answer_ids(self, answer: str, size: tuple[int, int]) -> list[int]:
        parts = split_regions(answer, [size], self.config.coordinates.range)
        ids = [i for p in parts for i in self.encoder.piece_ids(p, [])]
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

    def encode(
        self,
        questions: list[Question],
        size: tuple[int, int],
        tiling: Tiling,
        limit: int,
    ) -> Sample:
        """`limit`: tokens at most; questions that do not fit are left out."""
        ids, _ = self.question_ids("", size, tiling)
        target = [NO_TARGET] * len(ids)
        weight = [0.0] * len(ids)
        position = list(range(len(ids)))
        block = [0] * len(ids)
        tasks = []
        start = len(ids)
        for question in questions:
            _, asked = self.question_ids(question.prompt, size, tiling)
            answer = self.answer_ids(question.answer, size)
            new = [*asked, *answer[:-1]]
            if len(ids) + len(new) > limit:
                continue
            tasks.append(question.task)
            ids += new
            target += [NO_TARGET] * (len(asked) - 1) + answer
            # a listing has hundreds of tokens and would drown the short answers
            weight += [1.0 if question.task in LONG else 3.0] * len(new)
            position += range(start, start + len(new))
            block += [len(tasks)] * len(new)
        return Sample(ids, position, block, target, weight, tasks)


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


@dataclass(frozen=True)
class Batch:
    ids: Tensor  # (B, L)
    position: Tensor  # (B, L)
    mask: Tensor  # (B, 1, L, L) True = attend
    target: Tensor  # (B, L)
    weight: Tensor  # (B, L)


def collate(samples: list[Sample]) -> Batch:
    length = -(-max(len(s.ids) for s in samples) // 16) * 16
    ids = torch.ones(len(samples), length, dtype=torch.long)
    position = torch.zeros_like(ids)
    target = torch.full_like(ids, NO_TARGET)
    weight = torch.zeros(len(samples), length)
    block = torch.full_like(ids, -1)
    for b, s in enumerate(samples):
        n = len(s.ids)
        ids[b, :n] = torch.tensor(s.ids)
        position[b, :n] = torch.tensor(s.position)
        target[b, :n] = torch.tensor(s.target)
        weight[b, :n] = torch.tensor(s.weight)
        block[b, :n] = torch.tensor(s.block)
    mine, other = block[:, :, None], block[:, None, :]
    seen = (other == 0) | (other == mine)
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return Batch(ids, position, (seen & causal)[:, None], target, weight)


def dense_labels(
    row: Row, tiling: Tiling, types: dict[str, int], icons: dict[str, int],
    classes: dict[str, int],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Character, element type and icon of each pixel of each tile, (V, S, S) uint8."""
    size, (rows, columns) = tiling.tile_size, tiling.grid
    shape = (rows * size, columns * size)
    maps = {k: np.zeros(shape, np.uint8) for k in ("classes", "types", "icons")}

    def fill(name: str, box: list[float], value: int) -> None:
        x1, y1 = tiling.tiles.to_canvas(box[0], box[1])
        x2, y2 = tiling.tiles.to_canvas(box[2], box[3])
        maps[name][round(y1) : round(y2), round(x1) : round(x2)] = value

    def area(e: Row) -> float:
        x1, y1, x2, y2 = e["box"]
        return (x2 - x1) * (y2 - y1)

    for e in sorted(row["elements"], key=area, reverse=True):
        fill("types", e["box"], types[e["type"]])
        fill("icons", e["box"], icons.get(e.get("icon") or "", 0))
    for t in row["texts"]:
        _, y1, _, y2 = t["box"]
        for k, char in enumerate(t["text"]):
            left, right = t["edges"][k : k + 2]
            fill("classes", [left, y1, right, y2], classes.get(char, 0))
    tiles = [i for i, index in enumerate(tiling.indices) if index != (0, 0)]
    return {
        k: m.reshape(rows, size, columns, size)
        .swapaxes(1, 2)
        .reshape(-1, size, size)[: len(tiles)]
        for k, m in maps.items()
    }
