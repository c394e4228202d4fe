"""What quantising costs, measured: how far answers drift, and which layers do it.

What this file is: questions about a picture with the answers of the source model, the
Kullback-Leibler divergence of another model's next tokens from the source's along those
answers, the same with one layer quantised at a time, and the bits that follow from it.
What it is not: quantising (quantize.py) or the metrics of tasks (evaluate.py).

A answer tokens, V vocabulary, L tokens, D decoder width. Divergences are in nats.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import mlx.core as mx
import numpy as np
from PIL import Image, ImageDraw

from mm15_mlx import tasks, ui
from mm15_mlx.evaluate import Prediction, message, opened
from mm15_mlx.generate import encode_picture, generate
from mm15_mlx.images import ImageLike, Picture, load_picture
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Prepared, Processor
from mm15_mlx.quantize import Quantisation
from mm15_mlx.video import Clip

EXAMPLE = Path(__file__).parent.parent / "examples" / "settings.png"
# Compared at most: a log-probability of every word of the vocabulary is kept of each.
ANSWER_TOKENS = 64  # of an answer; a list of widgets has hundreds
ANSWERS = 64  # of tasks, evenly spread over them
T = TypeVar("T")
Say = Callable[[str], None]
Features = dict[tuple[str, ...], mx.array]  # visual tokens (M, D) by pictures' keys


@dataclass(frozen=True)
class Row:
    """A prepared question and the tokens of its answer, the stop token included."""

    prepared: Prepared
    answer: list[int]

    @property
    def pictures(self) -> tuple[str, ...]:
        return tuple(picture.key for picture in self.prepared.images)


@dataclass(frozen=True)
class Drift:
    """The divergence of every answer token, and where both models say the same."""

    kl: np.ndarray  # (tokens,)
    same: np.ndarray  # bool (tokens,)
    rows: int

    def report(self) -> dict[str, float]:
        return {
            "kl_mean": float(self.kl.mean()),
            "kl_max": float(self.kl.max()),
            "same_token": float(self.same.mean()),
            "tokens": int(self.kl.size),
            "rows": self.rows,
        }


# --- the rows --------------------------------------------------------------------


def drawn_screen() -> Image.Image:
    """A plain screen, 780 × 1688: what is asked about where no example lies nearby."""
    screen = Image.new("RGB", (780, 1688), "white")
    pen = ImageDraw.Draw(screen)
    pen.rectangle((0, 0, 780, 150), fill=(245, 245, 247))
    pen.text((330, 80), "Settings", fill="black", font_size=40)
    for i, name in enumerate(("Wi-Fi", "Bluetooth", "Calendar", "Download", "About")):
        y = 220 + 130 * i
        pen.rectangle((40, y, 100, y + 60), fill=(10, 132, 255))
        pen.text((130, y + 8), name, fill="black", font_size=36)
        pen.rounded_rectangle((640, y, 740, y + 60), 30, fill=(52, 199, 89))
    pen.rounded_rectangle((60, 1500, 720, 1600), 20, fill=(10, 132, 255))
    pen.text((330, 1525), "Sign in", fill="white", font_size=40)
    return screen


def usual_questions(size: tuple[int, int]) -> Iterator[str]:
    """UI questions about any screen of `size` pixels (width, height)."""
    for name in ("back button", "search field", "Wi-Fi switch", "download icon"):
        yield ui.find_prompt(name)
    for text in ("Settings", "Calendar"):
        yield ui.find_text_prompt(text)
    width, height = size
    kinds = (ui.ocr_prompt, ui.widget_class_prompt, ui.tappable_prompt)
    for row, kind in enumerate((*kinds, *kinds)):  # down the screen
        top = height * (0.03 + 0.16 * row)
        yield kind([
            round(v) for v in (0.03 * width, top, 0.6 * width, top + 0.04 * height)
        ])  # fmt: skip
    yield ui.WIDGETS_PROMPT


def usual_rows(model: MM15, processor: Processor) -> list[Row]:
    """Questions about one screen, with `model`'s own greedy answers."""
    picture = load_picture(EXAMPLE if EXAMPLE.is_file() else drawn_screen())
    images: list[ImageLike] = [picture]
    rows = []
    for asked in usual_questions(picture.size):
        result = generate(model, processor, asked, images, max_tokens=ANSWER_TOKENS)
        rows.append(Row(processor.prepare(asked, images), result.tokens))
    return rows


def evenly(values: Sequence[T], most: int) -> Sequence[T]:
    """At most so many of them, from the first on at even distances."""
    return values[:: max(1, -(-len(values) // most))]


def task_rows(
    processor: Processor, done: Sequence[Prediction], most: int = ANSWERS
) -> list[Row]:
    """Some of the tasks that the source has answered, with its answers."""
    shown: dict[tuple[str, ...], tuple[list[Picture], list[Clip]]] = {}
    rows = []
    for p in evenly(done, most):
        # a picture that many are about is in memory once
        seen = tasks.pictures(p.row)
        if seen not in shown:
            shown[seen] = opened(p.row, processor)
        prepared = processor.prepare([message(p.row, *shown[seen])])
        rows.append(Row(prepared, p.result.tokens[:ANSWER_TOKENS]))
    return rows


# --- divergence ------------------------------------------------------------------


def visual_tokens(model: MM15, processor: Processor, prepared: Prepared) -> mx.array:
    """The visual tokens (M, D) of all pictures of a question."""
    return mx.concatenate(
        [encode_picture(model, processor, picture) for picture in prepared.images]
    )


def log_probs(
    model: MM15, processor: Processor, rows: Sequence[Row], seen: Features
) -> list[mx.array]:
    """Of every row the log-probabilities (A, V) at its answer's tokens, in float32.

    `seen` keeps visual tokens by pictures: hand in an empty one for new encoder
    weights. Rows about the same pictures share the prompt's beginning.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.pictures, []).append(i)
    done: dict[int, mx.array] = {}
    for pictures, indices in groups.items():
        visual = None
        if pictures:
            if pictures not in seen:
                first = rows[indices[0]].prepared
                seen[pictures] = visual_tokens(model, processor, first)
                mx.eval(seen[pictures])
            visual = seen[pictures]
        common = shared([rows[i].prepared.ids for i in indices])
        cache = model.make_cache()
        for number, i in enumerate(indices):
            ids, answer = rows[i].prepared.ids, rows[i].answer
            whole = model.embed_inputs(mx.array([ids]), visual)  # (1, L, D)
            if common and not number:
                begun = mx.array([ids[:common]])
                mx.eval(model.decoder(begun, cache, whole[:, :common]))
            rest = mx.array([ids[common:] + answer[:-1]])
            given = model.decoder.embed(rest[:, len(ids) - common :])
            embeddings = mx.concatenate([whole[:, common:], given], axis=1)
            hidden = model.decoder(rest, cache, embeddings)[0, -len(answer) :]  # (A, D)
            logits = model.decoder.logits(hidden).astype(mx.float32)
            done[i] = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
            mx.eval(done[i])
            for layer in cache:
                layer.trim(rest.shape[1])
    return [done[i] for i in range(len(rows))]


def shared(lists: Sequence[Sequence[int]]) -> int:
    """How many first numbers all lists have in common, the last of a list excepted."""
    count = min(map(len, lists)) - 1
    for other in lists[1:]:
        pairs = zip(lists[0][:count], other[:count], strict=True)
        count = next((i for i, (a, b) in enumerate(pairs) if a != b), count)
    return count


def divergence(source: Sequence[mx.array], other: Sequence[mx.array]) -> Drift:
    """KL(source ‖ other) at every answer token, of log-probabilities (A, V) a row."""
    kl, same = [], []
    for p, q in zip(source, other, strict=True):
        # Rounding may leave a hair below zero.
        kl.append(np.maximum(np.array((mx.exp(p) * (p - q)).sum(axis=-1)), 0))
        same.append(np.array(p.argmax(axis=-1) == q.argmax(axis=-1)))
    return Drift(np.concatenate(kl), np.concatenate(same), len(kl))


# --- which layers matter, and the bits that follow -------------------------------


def sensitivities(
    model: MM15,
    processor: Processor,
    rows: Sequence[Row],
    ways: Mapping[str, Quantisation],
    say: Say = lambda _: None,
) -> dict[str, float]:
    """Mean divergence where only one layer is quantised, for every layer in `ways`.

    mlx-lm's dynamic_quant estimates this from a gradient; here it is measured, at one
    run of the decoder a layer. The model is left as it was.
    """
    seen: Features = {}
    source = log_probs(model, processor, rows, seen)
    modules = dict(model.named_modules())
    found = {}
    for path, way in ways.items():
        layer = modules[path]
        weight = layer.weight
        layer.weight = way.rounded(weight)
        try:
            kept = seen if path.startswith("decoder.") else {}
            other = log_probs(model, processor, rows, kept)
        finally:
            layer.weight = weight
        found[path] = float(divergence(source, other).kl.mean())
        say(f"{len(found)}/{len(ways)} {path} {found[path]:.2e}")
    return found


def allocate(
    kl: Mapping[str, float],
    sizes: Mapping[str, int],
    ladder: Sequence[Quantisation],
    target: float,
    scale_bytes: int,
) -> dict[str, Quantisation]:
    """Ways whose mean bits per weight, scales included, reach `target` from below.

    Every layer begins with `ladder[0]`, the way in which `kl` was measured; then the
    layer that gains most for its bits goes up a step, as long as there is room. A bit
    halves the error of a weight, and divergence goes with its square (not published:
    our choice). `ladder` ascends and the target lies within it.
    """

    def step(path: str, level: int) -> tuple[float, float]:
        """What the next step costs in bits, and how much divergence it saves."""
        low, high = ladder[level], ladder[level + 1]
        more = high.bits_per_weight(scale_bytes) - low.bits_per_weight(scale_bytes)
        left = 4.0 ** (ladder[0].bits - low.bits) - 4.0 ** (ladder[0].bits - high.bits)
        return more * sizes[path], left * kl[path]

    def entry(path: str, level: int) -> tuple[float, str, int]:
        cost, gain = step(path, level)
        return (-gain / cost, path, level)

    level = dict.fromkeys(kl, 0)
    room = sum(sizes[p] for p in kl) * (target - ladder[0].bits_per_weight(scale_bytes))
    steps = [entry(path, 0) for path in kl]
    heapq.heapify(steps)
    while steps:
        _, path, at = heapq.heappop(steps)
        cost, _ = step(path, at)
        if cost > room + 1e-6:
            continue  # a smaller layer may still fit
        room -= cost
        level[path] = at + 1
        if at + 2 < len(ladder):
            heapq.heappush(steps, entry(path, at + 1))
    return {path: ladder[i] for path, i in level.items()}
