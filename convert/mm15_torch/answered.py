"""How well questions about held-out screens are answered, while training goes on.

Every token is predicted from the true ones before it: an answer whose tokens are all
right is the one that greedy decoding gives. A box's numbers are each guessed after the
true ones before them, so that its scores are a little better than a user's. What ships
is measured by `mm15-mlx eval`; this is for comparing trainings with each other.
"""

from collections import defaultdict
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.samples import NO_TARGET, Asked, Row, collate
from mm15_mlx.convert.mm15_torch.sft import Trainer
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.grounding import iou
from mm15_mlx.scores import centre_in
from mm15_mlx.screens import questions

Task = Callable[[Row, Random], list[questions.Question]]
ASKED: dict[Task, int] = {  # how many questions of a screen at most
    questions.ocr: 10,
    questions.find_text: 6,
    questions.find_widget: 6,
    questions.find_icon: 4,
    questions.widget_class: 4,
    questions.icon_class: 4,
    questions.tappable: 4,
}
LIMIT = 64  # tokens of a question with its answer


def asked_about(trainer: Trainer, screen: Screen) -> list[Asked]:
    """The same questions about a screen every time."""
    rng, found = Random(screen.row["id"]), []
    for task, count in ASKED.items():
        pool = task(screen.row, rng)
        found += rng.sample(pool, min(len(pool), count))
    return trainer.draws.fitting(found, [screen], LIMIT)


def scores(logits: Tensor, target: Tensor, first: int, count: int) -> dict[str, float]:
    """Of one answer of T tokens, logits (T, vocabulary): `nats` a token; of text
    whether it is `exact`; of a box `iou` ≥ 0.5 and `centre` in the true one."""
    guess, nats = logits.argmax(-1), F.cross_entropy(logits, target).item()
    located = (target >= first) & (target < first + count)
    if not located.any():
        return {"nats": nats, "exact": float(torch.equal(guess, target))}
    box = [(v - first).tolist() for v in (guess[located], target[located])]
    x1, y1, x2, y2 = box[0]
    there = x1 < x2 and y1 < y2 and max(box[0]) < count and min(box[0]) >= 0
    return {
        "nats": nats,
        "iou": float(there and iou(*box) >= 0.5),
        "centre": float(there and centre_in(*box)),
    }


@torch.no_grad()
def measure(trainer: Trainer) -> dict[str, dict[str, float]]:
    """Means by task over the trainer's screens, and `n`, how many were asked."""
    trainer.model.eval()
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for screen in trainer.draws.screens.items:
        asked = asked_about(trainer, screen)
        if not asked:
            continue
        batch = collate(trainer.draws.prefix([screen]), [asked])
        with autocast():
            prefix, _ = trainer.embedded([screen], batch.prefix, 1)
            out, _ = trainer.answers(prefix, batch)
        lengths = (batch.target[0] != NO_TARGET).sum(1).tolist()
        parts = zip(
            out["logits"].split(lengths), out["target"].split(lengths), strict=True
        )
        for question, (logits, target) in zip(asked, parts, strict=True):
            found[question.task].append(
                scores(logits, target, trainer.first, trainer.count)
            )
    trainer.model.train()
    return {
        task: {k: sum(r[k] for r in rows) / len(rows) for k in rows[0]}
        | {"n": len(rows)}
        for task, rows in found.items()
    }
