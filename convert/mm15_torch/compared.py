"""How well a checkpoint compares two screens, on pairs that it may never have seen.

marked: of as many visual tokens of the second screen as differ, those that say most
that they do, and which of them differ; small: where less than one in twenty does.
apart: how far those that differ are from the same place of the first screen, as the
first layer is given both, the median token, in lengths of a token.
beside: the attention of the head that compares on the same place of the first screen.
opening: the attention of positions where answers about both open on tokens that differ,
of the heads of each layer that are taught where to look (looking.py).

Run: python -m mm15_mlx.convert.mm15_torch.compared, with sft's flags --tokenizer,
--screens (with pairs), --views, --start, --steps as many pairs and --out, which is not
written. Prints JSON, of all pairs and of each kind of change.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from random import Random

import torch
from torch import Tensor

from mm15_mlx.convert.mm15_torch.comparing import HEAD
from mm15_mlx.convert.mm15_torch.draws import LONGEST
from mm15_mlx.convert.mm15_torch.first_layer import Pair, pair_of
from mm15_mlx.convert.mm15_torch.flags import arguments
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.looking import halving_heads, openings
from mm15_mlx.convert.mm15_torch.packed import States
from mm15_mlx.convert.mm15_torch.samples import Batch, collate
from mm15_mlx.convert.mm15_torch.sft import Trainer
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.screens.several import about_pair, change_of

SMALL = 0.05  # of a screen's tokens


@dataclass
class Compared:
    """Figures of each pair."""

    marked: list[float] = field(default_factory=list)
    small: list[float] = field(default_factory=list)
    apart: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    opening: list[list[float]] = field(default_factory=list)

    def add(self, trainer: Trainer, pair: Pair, states: States, batch: Batch) -> None:
        (first, _, look), (there, here) = states[0], pair.image
        said = trainer.aids.otherwise(trainer.model.decoder.norm(first[0, here]))
        right = marked(said.float()[:, 0], pair.differs)
        self.marked.append(right)
        if pair.differs.float().mean() < SMALL:
            self.small.append(right)
        self.apart.append(apart(trainer, pair))
        self.beside.append(look.own_weights(0, HEAD, here, there).mean().item())
        heads = halving_heads(trainer.config.text_config)
        where = [(k, t) for k, a in enumerate(batch.asked[0]) for t in openings(a)]
        if not where:
            return
        question, place = torch.tensor(where).T
        differing = here[pair.differs]
        seen = [s[2].weights(0, question, place)[heads][..., differing] for s in states]
        self.opening.append([m.sum(-1).mean().item() for m in seen])

    def means(self) -> dict[str, float | list[float] | int]:
        layers = torch.tensor(self.opening).mean(0).tolist() if self.opening else []
        names = ("marked", "small", "apart", "beside")
        said = {k: v for k in names if (v := getattr(self, k))}
        means = {k: round(sum(v) / len(v), 3) for k, v in said.items()}
        return {**means, "opening": [round(m, 3) for m in layers],
                "pairs": len(self.marked)}  # fmt: skip


def together(found: Iterable[Compared]) -> Compared:
    """The figures of all pairs of some."""
    some = list(found)
    names = [f.name for f in fields(Compared)]
    return Compared(*([x for one in some for x in getattr(one, n)] for n in names))


def marked(said: Tensor, differs: Tensor) -> float:
    """Of as many tokens as differ (N,), those that say most that they do: which share
    of them does."""
    return differs[said.topk(int(differs.sum())).indices].float().mean().item()


def apart(trainer: Trainer, pair: Pair) -> float:
    """How far the tokens that differ have moved, of their length: the median one."""
    seen = trainer.model.decoder.layers[0].input_layernorm(pair.x.float())
    before, after = (seen[here][pair.differs] for here in pair.image)
    return ((after - before).norm(dim=-1) / before.norm(dim=-1)).median().item()


@torch.no_grad()
def compared(trainer: Trainer, count: int) -> dict[str, Compared]:
    """Of `count` pairs at most, those of which something is told, and differs, by kind
    of change."""
    found: dict[str, Compared] = {}
    draws = trainer.draws
    series = list(draws.several.series["pair"])
    Random(0).shuffle(series)
    for rows in series[:count]:
        screens: list[Screen] = [draws.several.shown(r, 2) for r in rows]
        pair = pair_of(trainer, screens)
        made = [m.question for m in about_pair(Random(0), *rows) if m.images == rows]
        asked = [a for q in made for a in draws.fitting([q], screens, LONGEST)]
        change = change_of(rows[1])
        if not pair or not asked or not change:
            continue
        batch = collate(draws.prefix(screens), [asked])
        with autocast():
            _, states = trainer.answers(pair.x[None].float(), batch)
            one = found.setdefault(change["kind"], Compared())
            one.add(trainer, pair, states, batch)
    return found


def main() -> None:
    args = arguments(description=__doc__)
    found = compared(Trainer(args), args.steps)
    kinds = {kind: found[kind].means() for kind in sorted(found)}
    print(json.dumps({"all": together(found.values()).means(), **kinds}))


if __name__ == "__main__":
    main()
