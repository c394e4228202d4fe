"""Annotated screens as training samples of `nano-ui`: pictures and questions as ids."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mm15_mlx.config import ModelConfig
from mm15_mlx.grounding import split_regions
from mm15_mlx.prompt import ImageSlot, PromptEncoder, Turn, turn_pieces
from mm15_mlx.screens.questions import Box, Question
from mm15_mlx.screens.several import MARKED
from mm15_mlx.tiling import Tiling, cut
from mm15_mlx.tokenizer import Tokenizer

Row = dict[str, Any]
Size = tuple[int, int]  # width, height
NO_TARGET = -100
TEXT_TASKS = ("find_text", "read")  # those that find lines, not elements
QUOTING = ("widgets", "changed", "tapped")  # those that read in quotation marks
BYTE = re.compile(r"<0x..>")


def load_picture(row: Row) -> Image.Image:
    """The screenshot, RGB."""
    with Image.open(Path(row["folder"]) / row["image"]) as image:
        return image.convert("RGB")


def load_views(row: Row, tiling: Tiling, config: ModelConfig) -> np.ndarray:
    """The views of a screen, uint8 (V, S, S, 3)."""
    return cut(load_picture(row), tiling, config.tiling)


@dataclass(frozen=True)
class Asked:
    """One question, or a conversation: ids after the picture, and what each position is
    to predict.

    target: the next token where it belongs to the answer, else `NO_TARGET`. about: the
    box that each answering position is about, in pixels of the picture: the one of
    question and answer, or of a long answer's line. line: the box of the line of text
    that is read there, if any. lined: whether `about` is a line's box, not an
    element's. coordinate: which number of `about` is next, 0…3 for x1,
    y1, x2, y2, or `NO_TARGET`. end: how many characters of `line` have been read with
    the next token, or `NO_TARGET`.
    """

    task: str
    ids: list[int]
    target: list[int]
    about: list[Box | None]
    line: list[Box | None]
    lined: list[bool]
    coordinate: list[int]
    end: list[int]


class SampleEncoder:
    """Questions about pictures → ids, through the library's prompt code.

    sizes and tilings: of every picture, as they are shown.
    """

    def __init__(
        self, config: ModelConfig, encoder: PromptEncoder, split: float = 0.0
    ) -> None:
        """split: share of an answer's word pieces that are written as two, where both
        are pieces too: who has begun with `D` must find `is` next, not `Dis`. The
        first half is not to be predicted."""
        self.config = config
        self.encoder = encoder
        self.split = split
        self.halves = halves(encoder.tokenizer) if split else {}

    def answer_ids(
        self, answer: str, sizes: list[Size], tilings: list[Tiling]
    ) -> list[int]:
        parts = split_regions(answer, sizes, self.config.coordinates.range)
        ids = [i for p in parts for i in self.encoder.piece_ids(p, tilings)]
        return [*ids, self.encoder.end_id]

    def written(self, ids: list[int]) -> tuple[list[int], list[int]]:
        """An answer with some of its pieces in halves, and where the first ones are."""
        if not self.split:
            return ids, []
        rng = Random(int(torch.randint(2**31, ())))  # torch's seed is the step's
        found, firsts = list[int](), list[int]()
        for token in ids:
            ways = self.halves.get(token)
            if ways and rng.random() < self.split:
                firsts.append(len(found))
                found += rng.choice(ways)
            else:
                found.append(token)
        return found, firsts

    def question_ids(
        self, prompt: str, sizes: list[Size], tilings: list[Tiling]
    ) -> tuple[list[int], list[int]]:
        """Prefix (up to the last picture's end, or the first token where there is
        none) and the rest of the user's turn."""
        parts = split_regions(prompt, sizes, self.config.coordinates.range)
        turn = Turn("user", [*(ImageSlot(k) for k in range(len(sizes))), *parts])
        prefix: list[int] = []
        rest: list[int] = []
        seen = 0
        for piece in turn_pieces([turn], self.config.prompt):
            ids = self.encoder.piece_ids(piece, tilings)
            (rest if seen == len(sizes) else prefix).extend(ids)
            seen += isinstance(piece, ImageSlot)
        # What questions share is never empty (packed.py): the template's first token.
        return (prefix, rest) if sizes else (rest[:1], rest[1:])

    def later_ids(
        self, prompt: str, sizes: list[Size], tilings: list[Tiling]
    ) -> list[int]:
        """A user's turn that follows others, to where its answer begins."""
        turn = Turn("user", split_regions(prompt, sizes, self.config.coordinates.range))
        template = replace(self.config.prompt, bos="", system="")
        pieces = turn_pieces([turn], template)
        return [i for p in pieces for i in self.encoder.piece_ids(p, tilings)]

    def ask(
        self,
        question: Question,
        sizes: list[Size],
        tilings: list[Tiling],
        limit: int,
        later: bool = False,
    ) -> Asked | None:
        """The question with its answer, or nothing where they exceed `limit` tokens.
        later: it follows other turns."""
        if later:
            asked = self.later_ids(question.prompt, sizes, tilings)
        else:
            _, asked = self.question_ids(question.prompt, sizes, tilings)
        answer, firsts = self.written(self.answer_ids(question.answer, sizes, tilings))
        if len(asked) + len(answer) - 1 > limit:
            return None
        target = [NO_TARGET] * (len(asked) - 1) + answer
        about, line, coordinate = self.places(question, target)
        end = self.ends(target, line, question.before, question.task in QUOTING)
        if not question.whole:
            target[-1] = NO_TARGET
        for k in firsts:
            target[len(asked) - 1 + k] = NO_TARGET
        ids = [*asked, *answer[:-1]]
        lined = [question.task in TEXT_TASKS] * len(ids)
        return Asked(question.task, ids, target, about, line, lined, coordinate, end)

    def converse(
        self,
        questions: list[Question],
        sizes: list[Size],
        tilings: list[Tiling],
        limit: int,
    ) -> Asked | None:
        """Questions in turn, each after the answers to those before it; those that
        exceed `limit` tokens, or whose answer has no end, are passed over."""
        talk: Asked | None = None
        for question in questions:
            later = talk is not None
            asked = self.ask(question, sizes, tilings, limit, later)
            if asked and question.whole:
                talk = self.joined(talk, asked) if talk else asked
        return talk

    def joined(self, first: Asked, then: Asked) -> Asked:
        """A turn after others; between them the end of an answer, which is to predict
        nothing."""
        return Asked(
            "conversation",
            [*first.ids, self.encoder.end_id, *then.ids],
            [*first.target, NO_TARGET, *then.target],
            [*first.about, None, *then.about],
            [*first.line, None, *then.line],
            [*first.lined, False, *then.lined],
            [*first.coordinate, NO_TARGET, *then.coordinate],
            [*first.end, NO_TARGET, *then.end],
        )

    def ends(
        self, target: list[int], line: list[Box | None], before: int, quoted: bool
    ) -> list[int]:
        """`end` of an `Asked`: each line of its answer reads one of text, `before`
        characters behind its start; itself from its start or in quotation marks: who
        reads the `?` that follows a name would write it too."""
        special = self.encoder.tokenizer.name
        ends, read = [], ""
        for token, box in zip(target, line, strict=True):
            piece = None if token == NO_TARGET or special(token) else self.piece(token)
            if piece is None:
                read = ""
                ends.append(NO_TARGET)
                continue
            read += piece
            start = read.find('"') + 1 if quoted else 0
            within = not quoted or (start > 0 and '"' not in read[start:])
            known = box is not None and within
            ends.append(before + len(read) - start if known else NO_TARGET)
        return ends

    def piece(self, token: int) -> str | None:
        """Its characters; none of a byte, such as the one that ends a line."""
        piece = self.encoder.tokenizer.piece(token)
        return None if BYTE.fullmatch(piece) else piece

    def places(
        self, question: Question, target: list[int]
    ) -> tuple[list[Box | None], list[Box | None], list[int]]:
        """`about`, `line` and `coordinate` of an `Asked`: lines of an answer end in a
        box."""
        given, answered = (
            [[float(v) for v in box.split(",")] for box in MARKED.findall(text)]
            for text in (question.prompt, question.answer)
        )
        first = self.encoder.tokenizer.special("<loc_0>")
        last = first + self.config.coordinates.range
        about: list[Box | None] = []
        line: list[Box | None] = []
        coordinate, seen = [], 0
        for token in target:
            named = first <= token <= last
            reads = seen // 4 < len(question.lines) and token != NO_TARGET
            line.append(question.lines[seen // 4] if reads else None)
            coordinate.append(seen % 4 if named else NO_TARGET)
            if token == NO_TARGET or (given and answered) or len(given) > 1:
                about.append(None)
            elif len(given + answered) == 1:
                about.append([*given, *answered][0])
            else:
                about.append(answered[seen // 4] if seen // 4 < len(answered) else None)
            seen += named
        return about, line, coordinate


def halves(tokenizer: Tokenizer) -> dict[int, list[list[int]]]:
    """Every way to write a piece as two, by its id."""
    pieces = {
        tokenizer.piece(k): k
        for k in range(tokenizer.vocab_size)
        if tokenizer.name(k) is None
    }
    found: dict[int, list[list[int]]] = {}
    for piece, token in pieces.items():
        cuts = [] if BYTE.fullmatch(piece) else range(1, len(piece))
        ways = [(piece[:k], piece[k:]) for k in cuts]
        if known := [[pieces[a], pieces[b]] for a, b in ways if {a, b} <= set(pieces)]:
            found[token] = known
    return found


@dataclass(frozen=True)
class Batch:
    """Pictures of one tiling; K questions about each, padded to T tokens."""

    prefix: Tensor  # (P,)
    ids: Tensor  # (B, K, T)
    target: Tensor  # (B, K, T)
    asked: list[list[Asked]]


def collate(prefix: Tensor, asked: list[list[Asked]]) -> Batch:
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
    return Batch(prefix, ids, target, asked)
