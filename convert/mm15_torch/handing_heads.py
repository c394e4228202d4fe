"""Heads that look hand over what tokens name, as well as they can.

What a head hands over is a linear map of a visual token, and training of all of the
model leaves it far behind the best one. So values and outputs alone of the heads that
hand over pieces and numbers (looking.py) are fitted, one layer after the other, on
states that are made once; what other tokens hand over is held. Minutes; training of all
of the model comes after. Not published: our choice.

P tokens of a prompt, N of them with something in them, D width, H heads.

Run: python -m mm15_mlx.convert.mm15_torch.handing_heads, with the flags of sft:
--tokenizer, --screens, --views, --start, --whole, --out; --steps of each layer.
"""

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from mm15_mlx.convert.mm15_torch.boxes import Marked, handed_by, marked
from mm15_mlx.convert.mm15_torch.copying import even
from mm15_mlx.convert.mm15_torch.decoder import Decoder
from mm15_mlx.convert.mm15_torch.flags import arguments
from mm15_mlx.convert.mm15_torch.half import autocast
from mm15_mlx.convert.mm15_torch.looking import COPIED, copying_heads, halving_heads
from mm15_mlx.convert.mm15_torch.looking_heads import Heads, Prompt, report
from mm15_mlx.convert.mm15_torch.optimizing import save_start, schedule
from mm15_mlx.convert.mm15_torch.sft import Trainer
from mm15_mlx.convert.mm15_torch.targets import screen_targets
from mm15_mlx.convert.mm15_torch.telling import size_of
from mm15_mlx.convert.mm15_torch.words import Words, named_by_own, words_of

BATCHES = 160
LR, WARMUP = 1e-3, 20
RESTING = 20.0  # weight of what the tokens hand over at which idle heads look
PIECES, NUMBERS, PLAIN = 1024, 512, 256  # tokens of a step, by what is in them


@dataclass(frozen=True)
class Told:
    """A screen's prompt and what its visual tokens say; image: where its tiles are."""

    prompt: Prompt
    image: Tensor
    words: Words
    boxes: dict[str, Marked]


@dataclass(frozen=True)
class Given:
    """Normed tokens, as a layer's values are given them, and what they name."""

    pieces: Tensor  # (N, D)
    words: Words
    marks: Tensor  # (M, D)
    numbers: Tensor  # (M, 4)
    plain: Tensor  # (K, D), in which no piece ends
    resting: Tensor  # (S, D), first visual tokens: who has nothing to see looks there


@torch.no_grad()
def told_by(trainer: Trainer, batches: int) -> tuple[list[Told], Tensor]:
    """The screens of some batches, and the size of the last states."""
    rng, found, sizes = Random(trainer.args.seed), [], []
    side, config = trainer.config.connector_config.pooled_grid, trainer.config
    for _ in range(batches):
        screens, batch = trainer.draws.batch(rng)
        image = trainer.tile_tokens(screens, batch.prefix)
        with autocast():
            prefix, _ = trainer.embedded(screens, batch.prefix, 1, rng)
            _, states = trainer.answers(prefix, batch)
        sizes.append(size_of(states, batch))
        questions = trainer.model.decoder.embed_tokens(batch.ids[0, :1])
        for k, screen in enumerate(screens):
            prompt = Prompt(
                prefix[k : k + 1].bfloat16(), questions[None].bfloat16(),
                torch.arange(len(batch.prefix)),
            )  # fmt: skip
            targets = [screen_targets(screen.row, screen.tiling)]
            boxes = marked(
                [screen], targets, trainer.args.patches, config.coordinates, rng
            )
            words = words_of([screen], trainer.tokenizer, side)
            found.append(Told(prompt, image, words, boxes))
    return found, torch.stack(sizes).mean()


@torch.no_grad()
def given_to(decoder: Decoder, layer: int, told: list[Told], kind: str) -> Given:
    """What a layer that copies boxes of a kind is given of all screens together."""
    heads, pieces, marks, plain = Heads(decoder, layer, [0]), [], [], []
    resting = []
    for one in told:
        given = heads.given(one.prompt)
        tokens = given.picture[one.image]
        pieces.append(tokens[one.words.token])
        marks.append(tokens[one.boxes[kind].token])
        other = torch.ones(len(given.picture), dtype=torch.bool)
        other[one.image[one.words.token]] = False
        plain += [given.picture[other], given.questions.flatten(0, 1)]
        resting.append(tokens[0])
    words = Words(*(torch.cat([getattr(one.words, name) for one in told])
                    for name in ("picture", "token", "piece", "heads")))  # fmt: skip
    numbers = torch.cat([one.boxes[kind].target for one in told])
    return Given(
        torch.cat(pieces), words, torch.cat(marks), numbers, torch.cat(plain),
        torch.stack(resting),
    )  # fmt: skip


def some_of(count: int, most: int) -> Tensor:
    return torch.randint(count, (min(count, most),))


def missed(
    trainer: Trainer, layer: int, given: Given, size: Tensor
) -> dict[str, Tensor]:
    """Losses of some tokens in which there is something."""
    decoder, losses = trainer.model.decoder, {}
    spelling, copying = (f(decoder.config) for f in (halving_heads, copying_heads))
    if len(given.pieces):
        some = some_of(len(given.pieces), PIECES)
        mine = handed_by(decoder, layer, spelling, given.pieces[some].float(), size)
        words = Words(*(x[some] for x in vars(given.words).values()))
        losses["pieces"] = named_by_own(decoder, mine, words)
    if len(given.marks):
        some = some_of(len(given.marks), NUMBERS)
        mine = handed_by(decoder, layer, copying, given.marks[some].float(), size)
        boxes = trainer.telling.boxes
        losses["numbers"] = boxes.named(decoder, mine, given.numbers[some])
    return losses


def fit(
    trainer: Trainer, layer: int, given: Given, size: Tensor, steps: int
) -> list[dict[str, float]]:
    """Evens and fits values and outputs of a layer's heads; each step's losses."""
    decoder = trainer.model.decoder
    attention = decoder.layers[layer].self_attn
    weights = attention.v_proj.weight, attention.o_proj.weight
    every = list(range(decoder.config.num_key_value_heads))
    even(decoder, layer, every)
    some = given.plain[torch.randperm(len(given.plain))[: 64 * PLAIN]].float()
    resting = given.resting.float()
    with torch.no_grad():
        before = handed_by(decoder, layer, every, some, size)
        rested = handed_by(decoder, layer, every, resting, size)
        large = before.square().mean((0, 2), keepdim=True)
    log, opt = [], torch.optim.AdamW(weights, weight_decay=0)
    for step in range(steps):
        opt.param_groups[0]["lr"] = LR * schedule(step, steps, WARMUP)
        with torch.enable_grad():
            losses = missed(trainer, layer, given, size)
            few = some_of(len(some), PLAIN)
            now = handed_by(decoder, layer, every, some[few], size)
            losses["held"] = ((now - before[few]).square() / large).mean()
            rests = handed_by(decoder, layer, every, resting, size)
            losses["rests"] = RESTING * ((rests - rested).square() / large).mean()
            opt.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
        opt.step()
        log.append({kind: loss.item() for kind, loss in losses.items()})
    return log


def begin_handing(trainer: Trainer, batches: int = BATCHES) -> None:
    """Of a trainer's model, by its batches about one screen."""
    torch.manual_seed(trainer.args.seed)
    decoder, steps = trainer.model.decoder, trainer.args.steps
    told, size = told_by(trainer, batches)
    depth = decoder.config.num_hidden_layers
    for layer, kind in enumerate(COPIED, depth - len(COPIED)):
        given = given_to(decoder, layer, told, kind)
        report(layer, fit(trainer, layer, given, size, steps))


def main() -> None:
    trainer = Trainer(arguments(description=__doc__))
    begin_handing(trainer)
    save_start(trainer.args.out, trainer.state())


if __name__ == "__main__":
    main()
