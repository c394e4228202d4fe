"""A head of the second layer begins with finding what changed between two screens.

Training alone finds it too slowly: of two screens it learns what kind of thing happens,
and names a neighbour of what it happened to. But the first layer says what differs
(comparing.py), and a head of the next can look there from where an answer opens: its
queries and keys alone are fitted to that, on states that are made once. Where others
look is left as it was. Minutes; training of all of the model comes after, and keeps it
(looking.py). Not published: our choice.

P tokens of a prompt, K questions of T tokens, N positions that ask, D width, E head
width.

Run: python -m mm15_mlx.convert.mm15_torch.finding_head, with the flags of sft:
--tokenizer, --screens with pairs, --views, --start, --whole, --out; --steps of fitting.
"""

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.config import UserError
from mm15_mlx.convert.mm15_torch.decoder import Decoder, rotate
from mm15_mlx.convert.mm15_torch.draws import LONGEST
from mm15_mlx.convert.mm15_torch.first_layer import (
    Other,
    one_layer,
    others_of,
    shown_pairs,
)
from mm15_mlx.convert.mm15_torch.flags import arguments
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.looking import (
    CHANGES,
    EARLY,
    finding_head,
    lost,
    shown_together,
    sights,
    tile_tokens,
)
from mm15_mlx.convert.mm15_torch.optimizing import save, schedule
from mm15_mlx.convert.mm15_torch.packed import packed_rope
from mm15_mlx.convert.mm15_torch.samples import collate
from mm15_mlx.convert.mm15_torch.sft import Trainer
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.several import Several

PARTS, WHOLE, OTHERS = 2000, 300, 24  # pairs of two kinds; batches about one screen
AT_A_TIME, LR, WARMUP = 4, 1e-3, 50
SAMPLED = 24  # positions that do not ask, of a picture and of questions
LOGGED = 200

Weights = tuple[Tensor, Tensor]  # of queries and of keys, (E, D) each


@dataclass(frozen=True)
class Given:
    """What the layer is given of a prompt, with norms; cos and sin of all of it."""

    picture: Tensor  # (P, D)
    questions: Tensor  # (K, T, D)
    rope: tuple[Tensor, Tensor]  # (1, P + T, E) each

    @property
    def length(self) -> int:
        return len(self.picture)


@dataclass(frozen=True)
class Found:
    """A pair of screens: which positions ask, and where what they ask for is."""

    given: Given
    question: Tensor  # (N,)
    place: Tensor  # (N,)
    there: Tensor  # (N, P) bool


class FindingHead:
    """The head, and what its layer is given."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.attention = decoder.layers[EARLY].self_attn
        self.size = decoder.config.head_dim
        head = finding_head(decoder.config)
        self.rows = slice(head * self.size, (head + 1) * self.size)

    def weights(self) -> Weights:
        attention = self.attention
        projections = attention.q_proj, attention.k_proj
        query, key = (p.weight[self.rows].detach().clone() for p in projections)
        return query, key

    @torch.no_grad()
    def given(self, prefix: Tensor, questions: Tensor, places: Tensor) -> Given:
        """prefix (1, P, D), questions (1, K, T, D), places (P,): embeddings."""
        theta, p = self.decoder.config.rope_theta, len(places)
        for layer in self.decoder.layers[:EARLY]:
            _, states, _ = one_layer(layer, theta, prefix, questions, places)
            prefix, questions = states[:, :p], states[:, p:].view(questions.shape)
        norm = self.decoder.layers[EARLY].input_layernorm
        cos, sin = packed_rope(self.size, theta, places, 1, questions.shape[2])
        rope = cos.view(1, -1, self.size), sin.view(1, -1, self.size)
        picture, asked = (norm(x[0].float()).bfloat16() for x in (prefix, questions))
        return Given(picture, asked, rope)

    def turned(self, x: Tensor, norm: nn.Module, rope: tuple[Tensor, ...]) -> Tensor:
        """x (…, L, E) at places with cos and sin (1, L, E)."""
        if self.attention.qk_norm:
            x = F.rms_norm(x, norm.normalized_shape, norm.weight.detach(), norm.eps)
        return rotate(x[None], *rope)[0]

    def of_questions(
        self, of: Given, weights: Weights, question: Tensor, place: Tensor
    ) -> Tensor:
        """Where N positions of questions look: (N, P + T) log of attention."""
        (query, key), attention, p = weights, self.attention, of.length
        own = tuple(t[:, p:] for t in of.rope)
        picture = self.turned(
            of.picture.float() @ key.T, attention.k_norm,
            tuple(t[:, :p] for t in of.rope),
        )  # fmt: skip
        asking = of.questions[question].float()  # (N, T, D)
        keys = self.turned(asking @ key.T, attention.k_norm, own)
        n = torch.arange(len(place))
        rows = self.turned(
            asking[n, place] @ query.T, attention.q_norm,
            tuple(t[:, place] for t in own),
        )  # fmt: skip
        later = torch.arange(keys.shape[1]) > place[:, None]
        behind = (keys @ rows[..., None])[..., 0].masked_fill(later, -torch.inf)
        scores = torch.cat([rows @ picture.T, behind], dim=1)
        return (scores * self.size**-0.5).log_softmax(-1)

    def of_picture(self, of: Given, weights: Weights, some: Tensor) -> Tensor:
        """Where N tokens of what comes before questions look: (N, P)."""
        (query, key), attention, p = weights, self.attention, of.length
        x, rope = of.picture.float(), tuple(t[:, :p] for t in of.rope)
        keys = self.turned(x @ key.T, attention.k_norm, rope)
        rows = self.turned(
            x[some] @ query.T, attention.q_norm, tuple(t[:, some] for t in rope)
        )
        later = torch.arange(p) > some[:, None]
        scores = (rows @ keys.T).masked_fill(later, -torch.inf)
        return (scores * self.size**-0.5).log_softmax(-1)

    def seen(self, found: Found, weights: Weights) -> Tensor:
        """(N,): attention of positions that ask on where that is."""
        chances = self.of_questions(
            found.given, weights, found.question, found.place
        ).exp()
        return (chances[:, : found.given.length] * found.there).sum(1)

    def moved(self, of: Given, weights: Weights, before: Weights) -> Tensor:
        """How far some tokens of a picture look elsewhere than they did."""
        some = torch.randint(of.length, (SAMPLED,))
        return apart(*(self.of_picture(of, w, some) for w in (before, weights)))

    def asked_elsewhere(self, of: Given, weights: Weights, before: Weights) -> Tensor:
        """The same of some positions of questions about one screen."""
        many, long = of.questions.shape[:2]
        which, place = torch.randint(many, (SAMPLED,)), torch.randint(long, (SAMPLED,))
        return apart(
            *(self.of_questions(of, w, which, place) for w in (before, weights))
        )

    def fit(
        self, pairs: list[Found], others: list[Given], steps: int, rng: Random
    ) -> list[dict[str, float]]:
        """Fits the head; each step's losses."""
        before = self.weights()
        query, key = (nn.Parameter(w.clone()) for w in before)
        weights, log = (query, key), []
        opt = torch.optim.AdamW(weights, weight_decay=0)
        for step in range(steps):
            opt.param_groups[0]["lr"] = LR * schedule(step, steps, WARMUP)
            chosen = rng.choices(pairs, k=AT_A_TIME)
            with torch.enable_grad():
                masses = [lost(self.seen(pair, weights)).mean() for pair in chosen]
                other = rng.choice(others)
                losses = {
                    "finding": torch.stack(masses).mean(),
                    "one": self.moved(other, weights, before)
                    + self.asked_elsewhere(other, weights, before),
                    "pair": self.moved(chosen[0].given, weights, before),
                }
                opt.zero_grad()
                torch.stack(list(losses.values())).sum().backward()
            opt.step()
            log.append({k: v.item() for k, v in losses.items()})
        with torch.no_grad():
            self.attention.q_proj.weight[self.rows] = query
            self.attention.k_proj.weight[self.rows] = key
        return log


def apart(before: Tensor, now: Tensor) -> Tensor:
    """Mean divergence of attentions (N, P), logs; where both have none there is none"""
    gone = torch.where(before.isinf(), 0.0, before.exp() * (before - now))
    return gone.sum(-1).mean()


@torch.no_grad()
def found_in(
    trainer: Trainer, head: FindingHead, screens: list[Screen], several: list[Several]
) -> Found | None:
    """None where nothing that changed is asked for, or screens differ in size."""
    draws, side = trainer.draws, trainer.config.connector_config.pooled_grid
    about = [
        (asked, m.there)
        for m in several
        if m.there and m.question.task in CHANGES
        and m.images == [s.row for s in screens]
        for asked in draws.fitting([m.question], screens, LONGEST)
    ]  # fmt: skip
    if not about or len({s.size for s in screens}) > 1:
        return None
    asked, there = zip(*about, strict=True)
    ids = draws.prefix(screens)
    batch = collate(ids, [list(asked)])
    with autocast():
        prefix, _ = trainer.embedded(screens, ids, 2)
    questions = trainer.model.decoder.embed_tokens(batch.ids)
    given = head.given(prefix, questions, trainer.places(screens[0], ids))
    image = (ids == trainer.image_id).nonzero().flatten()
    parts = []
    for shown in shown_together(screens, list(asked), list(there), side):
        see = sights(shown.screen, shown.asked, side)
        if see is None:
            continue
        opening = see.opening
        where = torch.zeros(int(opening.sum()), len(ids), dtype=torch.bool)
        mine = tile_tokens(image, shown.screen, side, shown.start)
        where[:, mine] = see.share[opening] > 0
        parts.append((see.question[opening], see.place[opening], where))
    return Found(given, *(torch.cat(p) for p in zip(*parts, strict=True)))


def pairs_found(
    trainer: Trainer, head: FindingHead, parts: int, whole: int
) -> list[Found]:
    """Of each kind of change as many; UserError where none is told of a box."""
    shown = shown_pairs(trainer, parts, whole)
    found = [f for pair in shown if (f := found_in(trainer, head, *pair))]
    if not found:
        raise UserError(
            f"--screens: a box says what changed in none of {parts + whole} pairs of "
            f"{', '.join(map(str, trainer.args.screens))}; make some with data screens "
            "--pairs"
        )
    return found


def others_given(head: FindingHead, others: list[Other]) -> list[Given]:
    """What the layer is given of questions about one screen."""
    return [
        head.given(prefix[None], questions[None], torch.arange(len(prefix)))
        for other in others
        for prefix, questions in zip(other.prefix, other.questions, strict=True)
    ]


def begin_finding(
    trainer: Trainer,
    parts: int = PARTS,
    whole: int = WHOLE,
    others: int = OTHERS,
) -> None:
    """Of a trainer's model, by its pairs and, of other things, batches."""
    torch.manual_seed(trainer.args.seed)
    head = FindingHead(trainer.model.decoder)
    pairs = pairs_found(trainer, head, parts, whole)
    given = others_given(head, others_of(trainer, others))
    log = head.fit(pairs, given, trainer.args.steps, Random(trainer.args.seed))
    for end in range(LOGGED, len(log) + 1, LOGGED):
        some = log[end - LOGGED : end]
        means = {k: round(sum(x[k] for x in some) / len(some), 3) for k in some[0]}
        print({"step": end, **means}, flush=True)


def main() -> None:
    trainer = Trainer(arguments(description=__doc__))
    begin_finding(trainer)
    kept = {k: v for k, v in trainer.state().items() if k != "optimizers"}
    save(trainer.args.out, kept)


if __name__ == "__main__":
    main()
