"""A head of the first layer begins with what compares two screens (comparing.py).

Training alone teaches a head of a deep layer to look at the same place of the screen
before, but not to take the difference: what it said differs, the second screen told
alone. So here the first layer is fitted by itself, of embeddings that are made once.
Queries and keys of one head learn to look at the same place. Its values become the
directions in which what changed differs most against what did not, and are written
where states have next to nothing; neurons that do least square what a token has less
what its twin has, and their sum says how much differs. Then the whole layer learns to
say it better, and to give all other tokens what it gave before. Minutes; training of
all of the model comes after. Not published: our choice.

P tokens of a prompt, N visual tokens of one screen, D width, E head width, R rank.

Run: python -m mm15_mlx.convert.mm15_torch.comparing_head, with the flags of sft:
--tokenizer, --screens with pairs, --views, --start, --whole, --out; --steps of the last
part.
"""

import copy
from collections.abc import Iterator
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.comparing import HEAD, told_apart
from mm15_mlx.convert.mm15_torch.decoder import (
    Block,
    Decoder,
    rope_tables,
    rotate,
)
from mm15_mlx.convert.mm15_torch.first_layer import (
    Inner,
    Other,
    Pair,
    one_layer,
    others_of,
    pairs_of,
)
from mm15_mlx.convert.mm15_torch.flags import arguments
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.looking import lost
from mm15_mlx.convert.mm15_torch.optimizing import save_start, schedule
from mm15_mlx.convert.mm15_torch.packed import packed_states
from mm15_mlx.convert.mm15_torch.sft import Trainer

PARTS, WHOLE, OTHERS = 500, 110, 40  # pairs of two kinds; batches about one screen
LOOK_STEPS, AT_A_TIME, LOOK_LR = 1500, 4, 3e-3
SAMPLED = 200  # tokens of a pair that look, and so many of these at least differ:
DIFFERENT = 50
RANK = 64
CLAMP = 12.0  # of a difference, in units of what unchanged tokens differ by
WRITTEN = 0.3  # of a state's length, what the head writes
LOUD = 3.0  # of a state's root mean square, what a token that differs much says
SETTLE_LR = 1e-3
LOGGED = 50
TINY = 1e-3
ALONGSIDE, STANDING_OUT, KEPT = 0.2, 0.3, 3.0  # weights of losses; of comparing 1


class FirstLayer:
    """The first layer of a decoder, and its head that compares."""

    def __init__(self, decoder: Decoder, aids: Aids) -> None:
        self.decoder, self.aids = decoder, aids
        self.layer: Block = decoder.layers[0]
        self.size = decoder.config.head_dim
        self.rows = slice(HEAD * self.size, (HEAD + 1) * self.size)

    def normed(self, pair: Pair) -> Tensor:
        return self.layer.input_layernorm(pair.x.float())

    def beside(self, pair: Pair, query: Tensor, key: Tensor, some: Tensor) -> Tensor:
        """log of the attention of tokens `some` (S,) of the second screen on the same
        place of the first, of a head with weights `query`, `key` (E, D) → (S,)."""
        attention, x = self.layer.self_attn, self.normed(pair)
        theta = self.decoder.config.rope_theta
        cos, sin = (t[0] for t in rope_tables(pair.places[None], self.size, theta))
        there, here = pair.image[:, some]
        q, k = x[here] @ query.T, x @ key.T
        if attention.qk_norm:
            q, k = attention.q_norm(q), attention.k_norm(k)
        q = rotate(q[None], cos[:, here], sin[:, here])[0]
        k = rotate(k[None], cos, sin)[0]
        scores = (q @ k.T) * self.size**-0.5  # (S, P)
        later = torch.arange(len(x)) > here[:, None]
        scores = scores.masked_fill(later, -torch.inf)
        return scores.log_softmax(-1).gather(1, there[:, None])[:, 0]

    def fit_look(self, pairs: list[Pair], steps: int, rng: Random) -> list[float]:
        """Queries and keys of the head look at the same place; each step's loss."""
        start = 0.02 * torch.randn(self.size, self.decoder.config.hidden_size)
        weights = [nn.Parameter(start.clone()) for _ in range(2)]
        opt, losses = torch.optim.Adam(weights), []
        for step in range(steps):
            opt.param_groups[0]["lr"] = LOOK_LR * schedule(step, steps, 0)
            chosen = rng.choices(pairs, k=AT_A_TIME)
            with torch.enable_grad():
                masses = [self.beside(p, *weights, sampled(p)).mean() for p in chosen]
                loss = -torch.stack(masses).mean()
                opt.zero_grad()
                loss.backward()
            opt.step()
            losses.append(loss.item())
        with torch.no_grad():
            self.layer.self_attn.q_proj.weight[self.rows] = weights[0]
            self.layer.self_attn.k_proj.weight[self.rows] = weights[1]
        return losses

    def run(self, of: Pair | Other, layer: Block | None = None) -> Inner:
        """What happens in the layer, or in another."""
        layer, theta = layer or self.layer, self.decoder.config.rope_theta
        if isinstance(of, Pair):
            none = of.x.new_zeros(1, 1, 1, of.x.shape[-1])
            return one_layer(layer, theta, of.x[None], none, of.places)
        places = torch.arange(of.prefix.shape[1])
        return one_layer(layer, theta, of.prefix, of.questions, places)

    @torch.no_grad()
    def begin(self, pairs: list[Pair], others: list[Other]) -> None:
        """Values, outputs and neurons take the difference and say how much it is."""
        layer, attention = self.layer, self.layer.self_attn
        rank = min(RANK, self.size)
        changed = [self.apart(p, p.differs) for p in pairs]
        same = [self.apart(p, ~p.differs) for p in pairs]
        directions = telling(torch.cat(changed), torch.cat(same), rank)  # (R, D)
        quiet, lengths = self.little_used(others)
        written, said = quiet[:, :rank], quiet[:, rank]

        attention.v_proj.weight[self.rows] = 0
        attention.v_proj.weight[self.rows][:rank] = directions
        values = torch.cat([self.normed(p)[p.image[1]] @ directions.T for p in pairs])
        much = WRITTEN * lengths / values.square().sum(-1).mean().sqrt()
        attention.o_proj.weight[:, self.rows] = 0
        attention.o_proj.weight[:, self.rows][:, :rank] = much * written

        given, wanted = [], []
        for pair in pairs:
            some = sampled(pair)
            x, (there, here) = self.normed(pair), pair.image[:, some]
            inside = self.run(pair)[0][0]
            rest = torch.cat(
                [inside[: pair.image[1, 0]], inside[pair.image[1, -1] + 1 :]]
            )
            given += [inside[here], rest]
            apart = ((x[here] - x[there]) @ directions.T).clamp(-CLAMP, CLAMP)
            wanted += [apart, torch.zeros(len(rest), rank)]
        for other in others:
            inside = self.run(other)[0].flatten(0, 1)
            given.append(inside[torch.randperm(len(inside))[:SAMPLED]])
            wanted.append(torch.zeros(len(given[-1]), rank))
        y = torch.cat(given)
        square = least_squares(y, torch.cat(wanted))  # (R, D)
        square = torch.cat([square, -square])
        idle = self.idle_neurons(pairs, others)[: len(square)]
        layer.mlp.gate_proj.weight[idle] = square
        layer.mlp.up_proj.weight[idle] = square
        loud = (y @ square[:rank].T).square().sum(-1).quantile(0.9)
        rms = lengths / len(said) ** 0.5
        layer.mlp.down_proj.weight[:, idle] = (LOUD * rms / loud * said)[:, None]
        self.aids.otherwise.weight.copy_((said / self.decoder.norm.weight)[None])
        self.aids.otherwise.bias.fill_(-1)

    def apart(self, pair: Pair, which: Tensor) -> Tensor:
        """(S, D): some tokens of the second screen less those of the first."""
        x = self.normed(pair)
        there, here = pair.image[:, which.nonzero().flatten()]
        some = torch.randperm(len(here))[:SAMPLED]
        return x[here[some]] - x[there[some]]

    def states(self, other: Other) -> list[Tensor]:
        """(…, D) of all tokens, after each layer."""
        with autocast():
            states = packed_states(
                self.decoder, other.prefix.float(), other.questions.float()
            )
        return [
            torch.cat([p.flatten(0, 1), q.flatten(0, 2)]).float() for p, q, _ in states
        ]

    def little_used(self, others: list[Other]) -> tuple[Tensor, Tensor]:
        """Directions (D, D) of states, those of the smallest first, and how long a
        state is after the first layer."""
        total, length = torch.zeros(()), []
        for other in others[:8]:
            states = self.states(other)
            length.append(states[0].square().sum(-1).mean())
            for x in states:
                x = x / x.square().mean(-1, keepdim=True).sqrt()
                total = total + x.T @ x / len(x)
        return torch.linalg.eigh(total)[1], torch.stack(length).mean().sqrt()

    def idle_neurons(self, pairs: list[Pair], others: list[Other]) -> Tensor:
        """Neurons by how much they add to states, first those that add least: to visual
        tokens or to words, whichever is more."""
        mlp, found = self.layer.mlp, []
        pictures = [self.run(p)[0][0, p.image.flatten()] for p in pairs[:20]]
        words = [
            self.run(o)[0][:, o.prefix.shape[1] :].flatten(0, 1) for o in others[:20]
        ]
        for y in torch.cat(pictures), torch.cat(words):
            active = (F.silu(mlp.gate_proj(y)) * mlp.up_proj(y)).abs().mean(0)
            added = active * mlp.down_proj.weight.norm(dim=0)
            found.append(added / added.mean())
        return torch.stack(found).amax(0).argsort()

    def losses(
        self, pair: Pair, before: Block, other: Other, known: Tensor
    ) -> dict[str, Tensor]:
        """What tokens do not say of a pair; how far states are from those that the
        layer `before` gives, and of `other` from those `known`."""
        _, states, look = self.run(pair)
        norm, (there, here) = self.decoder.norm, pair.image
        differs = self.aids.otherwise(norm(states[0, here]))[:, 0]
        told = told_apart(differs, pair.differs)
        some = torch.randperm(len(here))[:SAMPLED]
        mass = look.own_weights(0, HEAD, here[some], there[some])
        with torch.no_grad():
            were = self.run(pair, before)[1]
        changed = [states_apart(states, were)]
        changed.append(states_apart(self.run(other)[1], known.float()))
        return {
            "comparing": told["comparing"],
            "standing_out": STANDING_OUT * told["standing_out"],
            "alongside": ALONGSIDE * lost(mass).mean(),
            "changed": KEPT * torch.stack(changed).sum(),
        }

    def settle(
        self,
        pairs: list[Pair],
        others: list[Other],
        before: Block,
        steps: int,
        rng: Random,
    ) -> Iterator[dict[str, float]]:
        """The whole layer says better what differs, and leaves other states as they
        were in the layer `before`; each step's losses."""
        with torch.no_grad():
            known = [self.run(other, before)[1].bfloat16() for other in others]
        parameters = [*self.layer.parameters(), *self.aids.otherwise.parameters()]
        opt = torch.optim.AdamW(parameters, weight_decay=0)
        for step in range(steps):
            opt.param_groups[0]["lr"] = SETTLE_LR * schedule(step, steps, 20)
            with torch.enable_grad():
                k = rng.randrange(len(others))
                losses = self.losses(rng.choice(pairs), before, others[k], known[k])
                opt.zero_grad()
                torch.stack(list(losses.values())).sum().backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            opt.step()
            yield {k: round(v.item(), 4) for k, v in losses.items()}


def states_apart(now: Tensor, before: Tensor) -> Tensor:
    """The mean share of a state's square that has changed: (…, D) twice → ()."""
    return ((now - before).square().sum(-1) / before.square().sum(-1)).mean()


def sampled(pair: Pair) -> Tensor:
    """(S,): some tokens of a screen, among them some that differ."""
    different = pair.differs.nonzero().flatten()
    some = torch.randperm(len(pair.differs))[:SAMPLED]
    return torch.cat([some, different[torch.randperm(len(different))[:DIFFERENT]]])


def telling(changed: Tensor, same: Tensor, rank: int) -> Tensor:
    """(R, D): directions in which differences (S, D) of what changed are largest
    against those of what did not, which are 1 at most; the best last."""
    large, small = (x.T @ x / len(x) for x in (changed, same))
    small += TINY * large.diagonal().mean() * torch.eye(len(small))
    lower = torch.linalg.cholesky(small)
    half = torch.linalg.solve_triangular(lower, large, upper=False)
    white = torch.linalg.solve_triangular(lower, half.T, upper=False)
    best = torch.linalg.eigh((white + white.T) / 2)[1][:, -rank:]
    return torch.linalg.solve_triangular(lower.T, best, upper=True).T


def least_squares(given: Tensor, wanted: Tensor) -> Tensor:
    """(R, D) weights that make of (S, D) nearly (S, R)."""
    gram = given.T @ given
    gram += TINY * gram.diagonal().mean() * torch.eye(len(gram))
    return torch.linalg.solve(gram, given.T @ wanted).T


def begin_comparing(
    trainer: Trainer,
    parts: int = PARTS,
    whole: int = WHOLE,
    others: int = OTHERS,
    look: int = LOOK_STEPS,
) -> None:
    """Of a trainer's model and aids, by its pairs and, of other things, batches; look:
    steps of fitting where the head looks, its --steps those of the whole layer."""
    torch.manual_seed(trainer.args.seed)
    rng = Random(trainer.args.seed)
    pairs = pairs_of(trainer, parts, whole)
    batches = others_of(trainer, others)
    first = FirstLayer(trainer.model.decoder, trainer.aids)
    before = copy.deepcopy(first.layer)
    looked = first.fit_look(pairs, look, rng)[-LOGGED:]
    print({"looking": round(sum(looked) / len(looked), 3)}, flush=True)
    first.begin(pairs, batches)
    settled = first.settle(pairs, batches, before, trainer.args.steps, rng)
    for step, losses in enumerate(settled, 1):
        if step % LOGGED == 0:
            print({"step": step, **losses}, flush=True)


def main() -> None:
    trainer = Trainer(arguments(description=__doc__))
    begin_comparing(trainer)
    save_start(trainer.args.out, trainer.state())


if __name__ == "__main__":
    main()
