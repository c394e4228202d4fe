"""Heads that look begin with finding what changed between two screens.

Training alone finds it too slowly: of two screens it learns what kind of thing happens,
and names a neighbour of what it happened to. But the first layer says what differs
(comparing.py). So one layer after the other, on states that are made once, queries and
keys alone are fitted: those of the head of the second layer that finds what changed,
then all of the two layers that see and copy (looking.py), for answers about changes;
where others look is held. Minutes; training of all of the model comes after, and keeps
it. Not published: our choice.

H heads, P tokens of a prompt before its K questions of T tokens, N positions, V visual
tokens of a screen's tiles, D width, E head width.

Run: python -m mm15_mlx.convert.mm15_torch.looking_heads, with the flags of sft:
--tokenizer, --screens with pairs, --views, --start, --whole, --out; --steps of each
layer.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.config import UserError
from mm15_mlx.convert.mm15_torch.decoder import Decoder, rotate
from mm15_mlx.convert.mm15_torch.draws import LONGEST
from mm15_mlx.convert.mm15_torch.first_layer import one_layer, others_of, shown_pairs
from mm15_mlx.convert.mm15_torch.flags import arguments
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.looking import (
    CHANGES,
    COPIED,
    EARLY,
    LookingLoss,
    Sights,
    finding_head,
    found_early,
    nothing_seen,
    shown_together,
    sights,
    tile_tokens,
)
from mm15_mlx.convert.mm15_torch.optimizing import save_start, schedule
from mm15_mlx.convert.mm15_torch.packed import packed_rope
from mm15_mlx.convert.mm15_torch.samples import collate
from mm15_mlx.convert.mm15_torch.sft import Trainer
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.several import Several

PARTS, WHOLE, OTHERS = 1000, 160, 40  # pairs of two kinds; batches about one screen
AT_A_TIME, LR, WARMUP = 3, 5e-4, 50
SAMPLED = 24  # positions of which it is held where they look
LOGGED = 200

Weights = tuple[Tensor, Tensor]  # of queries and of keys, (H · E, D) each


@dataclass(frozen=True)
class Prompt:
    """Embeddings of what comes before some questions, and of these."""

    x: Tensor  # (1, P, D)
    questions: Tensor  # (1, K, T, D)
    places: Tensor  # (P,)


@dataclass(frozen=True)
class Pair:
    """Two screens: of each what answers about changes are to see on it, and where its
    tiles are (V,); where the first visual token is."""

    prompt: Prompt
    seen: list[tuple[Sights, Tensor]]
    first: int


@dataclass(frozen=True)
class Given:
    """What a layer is given of a prompt, with norms; cos and sin of all of it."""

    picture: Tensor  # (P, D)
    questions: Tensor  # (K, T, D)
    rope: tuple[Tensor, Tensor]  # (1, P + T, E) each


# attention (H, N, V) on a screen's tiles, and (H, N) on the first visual token
Goal = Callable[[Sights, Tensor, Tensor], list[tuple[str, Tensor]]]


class Heads:
    """Some heads of a layer, and what it is given."""

    def __init__(self, decoder: Decoder, layer: int, heads: list[int]) -> None:
        self.decoder, self.layer = decoder, layer
        self.attention = decoder.layers[layer].self_attn
        self.size, self.count = decoder.config.head_dim, len(heads)
        rows = [torch.arange(h * self.size, (h + 1) * self.size) for h in heads]
        self.rows = torch.cat(rows)

    def weights(self) -> Weights:
        attention = self.attention
        projections = attention.q_proj, attention.k_proj
        query, key = (p.weight.detach()[self.rows] for p in projections)
        return query, key

    @torch.no_grad()
    def given(self, prompt: Prompt) -> Given:
        theta, places = self.decoder.config.rope_theta, prompt.places
        x, questions = prompt.x, prompt.questions
        for layer in self.decoder.layers[: self.layer]:
            _, states, _ = one_layer(layer, theta, x, questions, places)
            x = states[:, : len(places)]
            questions = states[:, len(places) :].view(questions.shape)
        norm = self.decoder.layers[self.layer].input_layernorm
        cos, sin = packed_rope(self.size, theta, places, 1, questions.shape[2])
        rope = cos.view(1, -1, self.size), sin.view(1, -1, self.size)
        picture, asked = (norm(y[0].float()).bfloat16() for y in (x, questions))
        return Given(picture, asked, rope)

    def turned(
        self, x: Tensor, weight: Tensor, norm: nn.Module, rope: tuple[Tensor, ...]
    ) -> Tensor:
        """x (…, L, D) at places with cos and sin (1, L, E) → (H, …, L, E)."""
        x = (x.float() @ weight.T).unflatten(-1, (self.count, self.size))
        if self.attention.qk_norm:
            x = F.rms_norm(x, norm.normalized_shape, norm.weight.detach(), norm.eps)
        return rotate(x.movedim(-2, 0), *rope)

    def of_questions(
        self, of: Given, weights: Weights, question: Tensor, place: Tensor
    ) -> Tensor:
        """Where positions of questions look: (H, N, P + T) log of attention."""
        (query, key), attention, p = weights, self.attention, len(of.picture)
        before, behind = (
            tuple(t[:, some] for t in of.rope) for some in (slice(p), slice(p, None))
        )
        picture = self.turned(of.picture, key, attention.k_norm, before)
        known, which = question.unique(return_inverse=True)
        own = self.turned(of.questions[known], key, attention.k_norm, behind)
        at = tuple(t[:, place] for t in behind)
        asking = of.questions[question, place]
        rows = self.turned(asking, query, attention.q_norm, at)  # (H, N, E)
        later = torch.arange(own.shape[2]) > place[:, None]
        mine = (own[:, which] @ rows[..., None])[..., 0].masked_fill(later, -torch.inf)
        scores = torch.cat([rows @ picture.transpose(1, 2), mine], dim=2)
        return (scores * self.size**-0.5).log_softmax(-1)

    def of_picture(self, of: Given, weights: Weights, some: Tensor) -> Tensor:
        """Where tokens of what comes before questions look: (H, N, P)."""
        (query, key), attention, p = weights, self.attention, len(of.picture)
        rope = tuple(t[:, :p] for t in of.rope)
        keys = self.turned(of.picture, key, attention.k_norm, rope)
        at = tuple(t[:, some] for t in rope)
        rows = self.turned(of.picture[some], query, attention.q_norm, at)
        later = torch.arange(p) > some[:, None]
        scores = (rows @ keys.transpose(1, 2)).masked_fill(later, -torch.inf)
        return (scores * self.size**-0.5).log_softmax(-1)

    def missed(
        self, pair: Pair, given: Given, weights: Weights, goal: Goal
    ) -> dict[str, list[Tensor]]:
        """Losses of where the answers about a pair look, by kind."""
        found: dict[str, list[Tensor]] = defaultdict(list)
        for see, mine in pair.seen:
            chances = self.of_questions(given, weights, see.question, see.place).exp()
            for kind, loss in goal(see, chances[..., mine], chances[..., pair.first]):
                found[kind].append(loss)
        return found

    def moved(self, of: Given, weights: Weights, before: Weights) -> Tensor:
        """How far some tokens of a picture look elsewhere than they did."""
        some = torch.randint(len(of.picture), (SAMPLED,))
        return apart(*(self.of_picture(of, w, some) for w in (before, weights)))

    def asked_elsewhere(self, of: Given, weights: Weights, before: Weights) -> Tensor:
        """The same of some positions of questions about one screen."""
        many, long = of.questions.shape[:2]
        which, place = torch.randint(many, (SAMPLED,)), torch.randint(long, (SAMPLED,))
        return apart(
            *(self.of_questions(of, w, which, place) for w in (before, weights))
        )

    def fit(
        self,
        pairs: list[Pair],
        others: list[Prompt],
        goal: Goal,
        steps: int,
        rng: Random,
    ) -> list[dict[str, float]]:
        """Fits them; each step's losses."""
        known = [(pair, self.given(pair.prompt)) for pair in pairs]
        held = [self.given(other) for other in others]
        before = self.weights()
        query, key = (nn.Parameter(w.clone()) for w in before)
        weights, log = (query, key), []
        opt = torch.optim.AdamW(weights, weight_decay=0)
        for step in range(steps):
            opt.param_groups[0]["lr"] = LR * schedule(step, steps, WARMUP)
            chosen, other = rng.choices(known, k=AT_A_TIME), rng.choice(held)
            kinds: dict[str, list[Tensor]] = defaultdict(list)
            with torch.enable_grad():
                for pair, given in chosen:
                    for kind, some in self.missed(pair, given, weights, goal).items():
                        kinds[kind] += some
                every = {kind: torch.cat(some) for kind, some in kinds.items()}
                losses = {kind: x.mean() for kind, x in every.items() if len(x)}
                losses["one"] = self.moved(other, weights, before)
                losses["asked"] = self.asked_elsewhere(other, weights, before)
                losses["pair"] = self.moved(chosen[0][1], weights, before)
                opt.zero_grad()
                torch.stack(list(losses.values())).sum().backward()
            opt.step()
            log.append({kind: loss.item() for kind, loss in losses.items()})
        with torch.no_grad():
            self.attention.q_proj.weight[self.rows] = query
            self.attention.k_proj.weight[self.rows] = key
        return log


def apart(before: Tensor, now: Tensor) -> Tensor:
    """Divergence of attentions (H, N, L), logs: the mean of positions, of all heads
    together. Where there is none before there is none now."""
    gone = torch.where(before.isinf(), 0.0, before.exp() * (before - now))
    return gone.sum(-1).mean(1).sum()


@torch.no_grad()
def pair_in(
    trainer: Trainer, screens: list[Screen], several: list[Several]
) -> Pair | None:
    """None where nothing that changed is asked for, or screens differ in size."""
    draws, side = trainer.draws, trainer.config.connector_config.pooled_grid
    shown = [s.row for s in screens]
    about = [
        (asked, m.places)
        for m in several
        if m.question.task in CHANGES and m.images == shown
        for asked in draws.fitting([m.question], screens, LONGEST)
    ]
    if not about or len({s.size for s in screens}) > 1:
        return None
    asked, there = (list(x) for x in zip(*about, strict=True))
    ids = draws.prefix(screens)
    batch = collate(ids, [asked])
    with autocast():
        prefix, _ = trainer.embedded(screens, ids, 2)
    questions = trainer.model.decoder.embed_tokens(batch.ids)
    prompt = Prompt(prefix.bfloat16(), questions, trainer.places(screens[0], ids))
    image = (ids == trainer.image_id).nonzero().flatten()
    together = shown_together(screens, asked, there, side)
    tiles = [tile_tokens(image, one.screen, side, one.start) for one in together]
    seen = [
        (see, mine)
        for one, mine in zip(together, tiles, strict=True)
        if (see := sights(one.screen, one.asked, trainer.tokenizer, side))
    ]
    if see := nothing_seen(together, side):
        seen.append((see, tiles[-1]))
    return Pair(prompt, seen, int(image[0]))


def pairs_in(trainer: Trainer, parts: int, whole: int) -> list[Pair]:
    """Of each kind of change as many; UserError where nothing is told of any."""
    shown = shown_pairs(trainer, parts, whole)
    found = [pair for some in shown if (pair := pair_in(trainer, *some))]
    if not found:
        raise UserError(
            f"--screens: what changed is told of none of {parts + whole} pairs of "
            f"{', '.join(map(str, trainer.args.screens))}; make some with data screens "
            "--pairs"
        )
    return found


def prompts_of(trainer: Trainer, count: int) -> list[Prompt]:
    """Each of a batch about one screen by itself."""
    return [
        Prompt(prefix[None], questions[None], torch.arange(len(prefix)))
        for other in others_of(trainer, count)
        for prefix, questions in zip(other.prefix, other.questions, strict=True)
    ]


def stages(trainer: Trainer) -> list[tuple[Heads, Goal]]:
    """Layers in order, with their heads, and what these are to see."""
    decoder = trainer.model.decoder
    config, looking = decoder.config, LookingLoss(trainer.config, trainer.tokenizer)

    def finds(see: Sights, seen: Tensor, first: Tensor) -> list[tuple[str, Tensor]]:
        return [("early", found_early(see, seen[0], first[0]))]

    def copies(copied: str) -> Goal:
        return lambda see, seen, first: list(looking.seen(see, seen, first, copied))

    found = [(Heads(decoder, EARLY, [finding_head(config)]), finds)]
    every, depth = list(range(config.num_key_value_heads)), config.num_hidden_layers
    for layer, copied in enumerate(COPIED, depth - len(COPIED)):
        found.append((Heads(decoder, layer, every), copies(copied)))
    return found


def begin_looking(
    trainer: Trainer, parts: int = PARTS, whole: int = WHOLE, others: int = OTHERS
) -> None:
    """Of a trainer's model, by its pairs and, of other things, batches."""
    torch.manual_seed(trainer.args.seed)
    rng, steps = Random(trainer.args.seed), trainer.args.steps
    pairs, held = pairs_in(trainer, parts, whole), prompts_of(trainer, others)
    for heads, goal in stages(trainer):
        log = heads.fit(pairs, held, goal, steps, rng)
        report(heads.layer, log)


def report(layer: int, log: list[dict[str, float]]) -> None:
    """Prints means of what steps of fitting a layer logged, as many at a time."""
    for end in range(LOGGED, len(log) + 1, LOGGED):
        some = log[end - LOGGED : end]
        means = {k: mean_of([x[k] for x in some if k in x]) for k in some[-1]}
        print({"layer": layer, "step": end, **means}, flush=True)


def mean_of(values: list[float]) -> float:
    return round(sum(values) / len(values), 3) + 0.0  # not -0


def main() -> None:
    trainer = Trainer(arguments(description=__doc__))
    begin_looking(trainer)
    save_start(trainer.args.out, trainer.state())


if __name__ == "__main__":
    main()
