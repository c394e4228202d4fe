"""Where answers are to look: at the box, at its edges, at the next piece of text."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.convert.mm15_torch.aids import Aids
from mm15_mlx.convert.mm15_torch.boxes import BoxLoss, marked
from mm15_mlx.convert.mm15_torch.copying import reduced
from mm15_mlx.convert.mm15_torch.looking import (
    EARLY,
    LookingLoss,
    Shown,
    copying_heads,
    finding_head,
    halving_heads,
    missed,
    shown_together,
    sights,
    tile_tokens,
)
from mm15_mlx.convert.mm15_torch.losses import AnswerLoss
from mm15_mlx.convert.mm15_torch.model import MM15
from mm15_mlx.convert.mm15_torch.packed import packed_states
from mm15_mlx.convert.mm15_torch.samples import (
    NO_TARGET,
    Asked,
    SampleEncoder,
    collate,
)
from mm15_mlx.convert.mm15_torch.store import Screen
from mm15_mlx.convert.mm15_torch.targets import (
    edges_in,
    halves_in,
    screen_targets,
)
from mm15_mlx.screens.questions import (
    Question,
    find_text,
    list_widgets,
    ocr,
    read_screen,
)
from mm15_mlx.tiling import plan

pytestmark = pytest.mark.parity

SIZE = (480, 960)  # two tiles of 20 x 20 tokens, 24 px each
SAVE = {
    "text": "Save", "box": [30.5, 484, 90, 500], "edges": [30, 45, 60, 75, 91],
}  # fmt: skip
BACK = {"text": "Go", "box": [400, 10, 440, 30], "edges": [400, 420, 441]}
ROW = {
    "id": "1", "width": 480, "height": 960, "texts": [BACK, SAVE], "elements": [],
}  # fmt: skip


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return PRESETS["nano-ui"]


@pytest.fixture(scope="module")
def screen(config: ModelConfig) -> Screen:
    return Screen(ROW, plan(*SIZE, config.tiling))


def test_halves_of_visual_tokens_share_a_box(screen: Screen) -> None:
    areas = halves_in([12, 495, 48, 503], screen.tiling, 20)
    assert areas.shape == (2, 800)
    # 12 px of the first token and 24 of the next; rows 492 to 504 are their lower half
    assert np.argwhere(areas).tolist() == [[1, 400], [1, 401]]
    assert areas[1, 400:402].tolist() == [96, 192]
    both = halves_in([0, 485, 24, 495], screen.tiling, 20)[:, 400]
    assert both.tolist() == [7 * 24, 3 * 24]
    assert not halves_in([5, 5, 5, 9], screen.tiling, 20).any()


def test_edges_are_the_outermost_tokens_of_a_box(screen: Screen) -> None:
    halves = halves_in([0, 456, 96, 504], screen.tiling, 20)  # 4 x 2, over two tiles
    left, top, right, bottom = edges_in(halves, screen.tiling.grid, 20, 0.4)
    assert np.flatnonzero(left).tolist() == [380, 400]
    assert np.flatnonzero(right).tolist() == [383, 403]
    assert np.flatnonzero(top).tolist() == [380, 381, 382, 383]
    assert np.flatnonzero(bottom).tolist() == [400, 401, 402, 403]
    none = halves_in([5, 5, 5, 9], screen.tiling, 20)
    assert not edges_in(none, screen.tiling.grid, 20, 0.4).any()


def ask(
    samples: SampleEncoder, screen: Screen, question: Question
) -> tuple[Asked, list[int]]:
    found = samples.ask(question, [SIZE], [screen.tiling], 10_000)
    assert found is not None
    answered = [t for t, v in enumerate(found.target) if v != NO_TARGET]
    assert not any(found.about[: answered[0]])
    return found, answered


def test_a_found_text_knows_its_box_and_the_number_that_is_next(
    samples: SampleEncoder, screen: Screen
) -> None:
    question = Question("find_text", "Where?", "<box>30.5,484,90,500</box>")
    found, answered = ask(samples, screen, question)
    assert all(found.about[t] == SAVE["box"] for t in answered)
    numbers = [found.coordinate[t] for t in answered]
    assert [n for n in numbers if n != NO_TARGET] == [0, 1, 2, 3]
    assert set(found.end) == {NO_TARGET}
    two = Question("x", "<box>1,2,3,4</box> or <box>1,2,3,5</box>?", "Yes")
    assert not any(ask(samples, screen, two)[0].about)


def test_a_read_text_knows_how_far_it_has_come(
    samples: SampleEncoder, screen: Screen
) -> None:
    question = ocr({"texts": [SAVE]}, None)[0]
    found, answered = ask(samples, screen, question)
    ends = [found.end[t] for t in answered]
    assert ends[-1] == NO_TARGET and ends[-2] == len("Save")
    assert ends[:-1] == sorted(ends[:-1])
    assert set(found.coordinate) == {NO_TARGET}


def test_each_line_of_a_transcription_has_its_box(
    samples: SampleEncoder, screen: Screen
) -> None:
    found, answered = ask(samples, screen, read_screen(ROW))
    numbers = [(found.coordinate[t], found.about[t]) for t in answered]
    assert [n for n in numbers if n[0] != NO_TARGET] == [
        (i, line["box"]) for line in (BACK, SAVE) for i in range(4)
    ]
    texts = [(found.end[t], found.about[t]) for t in answered]
    assert (len("Go"), BACK["box"]) in texts and (len("Save"), SAVE["box"]) in texts


def test_a_list_of_widgets_reads_each_caption(
    samples: SampleEncoder, screen: Screen
) -> None:
    """From its quotation mark on; an icon's name is not read."""
    element = {"type": "button", "text": "Save", "box": [20, 470, 120, 520]}
    icon = {"type": "button", "icon": "add", "text": "", "box": [1, 2, 30, 40]}
    row = {**ROW, "elements": [element, icon]}
    question = list_widgets(row)
    assert question.whole and question.lines == (None, SAVE["box"])
    found, answered = ask(samples, screen, question)
    ends = [(found.line[t], found.end[t]) for t in answered if found.line[t]]
    read = [n for box, n in ends if box == SAVE["box"] and n != NO_TARGET]
    assert len("Save") in read and min(read) >= 0 and read == sorted(read)
    assert found.target[-1] == samples.encoder.end_id


def test_a_list_that_breaks_off_does_not_teach_to_end(
    samples: SampleEncoder, screen: Screen
) -> None:
    cut = read_screen(ROW, 1)
    assert not cut.whole and read_screen(ROW, 2).whole
    found, answered = ask(samples, screen, cut)
    assert samples.encoder.end_id not in found.target
    assert len(found.target) == len(found.ids) == answered[-1] + 2


def test_positions_see_box_edges_and_pieces(
    samples: SampleEncoder, screen: Screen
) -> None:
    questions = [*find_text({"texts": [SAVE]}, None), *ocr({"texts": [SAVE]}, None)]
    asked = [ask(samples, screen, q)[0] for q in questions]
    see = sights(screen, asked, samples.encoder.tokenizer, 20)
    assert see is not None and see.share.shape == (len(see.place), 800)
    assert torch.allclose(see.share.sum(1), torch.ones(len(see.place)))
    numbers = see.edges.any(2)  # (N, 4)
    assert numbers.sum(1).max() == 1 and numbers.any(0).all()
    assert see.line.tolist() == (see.question == 0).tolist()
    left, right = (see.edges[numbers[:, i], i][0].nonzero() for i in (0, 2))
    assert left.flatten().tolist() == [401] and right.flatten().tolist() == [403]
    assert see.spelled.tolist() == [q == 1 for q in see.question][:-1] + [False]
    read = see.halves[see.question == 1]
    assert read[:-1].sum((1, 2)).tolist() == [2] * (len(read) - 1)  # both heads: one
    assert read[-1].sum() > 2  # the end of the answer is about the whole line
    assert (
        sights(
            screen,
            [ask(samples, screen, Question("x", "?", "No"))[0]],
            samples.encoder.tokenizer,
            20,
        )
        is None
    )


@pytest.mark.parametrize("overview", ["after", "before"])
def test_tiles_are_found_in_the_prompt_wherever_the_overview_is(
    config: ModelConfig, overview: str
) -> None:
    tiling = plan(*SIZE, replace(config.tiling, overview=overview))
    image = 7 + torch.arange(3 * 4)  # a prompt's places of three views, 2² tokens each
    found = tile_tokens(image, Screen(ROW, tiling), 2)
    assert len(tiling.indices) == 3
    expected = image[:8] if overview == "after" else image[4:]
    assert torch.equal(found, expected)


def test_looking_where_it_should_costs_nothing() -> None:
    seen = torch.tensor([[0.0, 0.7, 0.3], [0.5, 0.2, 0.1]])
    target = torch.tensor([[False, True, True], [False, False, False]])
    lost = missed(seen, torch.tensor([0.0, 0.2]), target)
    assert lost[0].item() == pytest.approx(0, abs=2e-3)
    assert lost[1].item() == pytest.approx(-np.log(0.201), abs=1e-4)


@torch.enable_grad()
def test_looking_can_be_learned(
    config: ModelConfig, samples: SampleEncoder, screen: Screen
) -> None:
    """A few steps on one screen bring the attention of every head to its place."""
    torch.manual_seed(0)
    model, aids = MM15(config), Aids(config.text_config.hidden_size)
    decoder, loss = model.decoder, LookingLoss(config, samples.encoder.tokenizer)
    questions = [*find_text(ROW, None), *ocr(ROW, None)]
    asked = [ask(samples, screen, q)[0] for q in questions]
    prefix, _ = samples.question_ids("", [SIZE], [screen.tiling])
    batch = collate(torch.tensor(prefix), [asked])
    visual = torch.randn(
        len(screen.tiling.indices), 400, config.text_config.hidden_size
    )
    parameters = [*decoder.parameters(), *aids.parameters()]
    opt = torch.optim.AdamW(parameters, lr=2e-3)
    losses = []
    for _ in range(12):
        x = model.embed_inputs(batch.prefix[None], visual, config.prompt.image_token_id)
        states = packed_states(decoder, x, decoder.embed_tokens(batch.ids))
        shown = [[Shown(screen, asked)]]
        pointing, looking = loss(aids, decoder.norm, states, shown, batch.prefix)
        losses.append((pointing.item(), looking.item()))
        opt.zero_grad()
        (pointing + looking).backward()
        opt.step()
    assert losses[-1][0] < losses[0][0] - 1 and losses[-1][1] < losses[0][1] - 1


@torch.enable_grad()
@pytest.mark.parametrize(("task", "early"), [("which_text", 0), ("which_state", 1)])
def test_of_two_screens_the_one_that_has_it_is_found(
    config: ModelConfig, samples: SampleEncoder, screen: Screen, task: str, early: int
) -> None:
    """The same screen twice: a few steps bring pointing and heads to the second, and,
    of what changed, a head of the second layer."""
    torch.manual_seed(0)
    model, aids = MM15(config), Aids(config.text_config.hidden_size)
    decoder, loss, box = (
        model.decoder,
        LookingLoss(config, samples.encoder.tokenizer),
        SAVE["box"],
    )
    sizes, tilings = [SIZE] * 2, [screen.tiling] * 2
    question = Question(task, "Which screen has it?", "second")
    asked = [samples.ask(question, sizes, tilings, 100)]
    nowhere = shown_together([screen] * 2, asked, [(None, None)], 20)
    shown = shown_together([screen] * 2, asked, [((1, box),) * 2], 20)
    assert shown[1].start == len(screen.tiling.indices) * 400
    assert set(map(str, shown[0].asked[0].about)) == {"None"}
    answering = [t != NO_TARGET for t in asked[0].target]
    assert [b == box for b in shown[1].asked[0].about] == answering

    prefix = torch.tensor(samples.question_ids("", sizes, tilings)[0])
    batch = collate(prefix, [asked])
    views = 2 * len(screen.tiling.indices)
    visual = torch.randn(views, 400, config.text_config.hidden_size)
    opt, losses = (
        torch.optim.AdamW([*decoder.parameters(), *aids.parameters()], 2e-3),
        [],
    )
    for _ in range(12):
        x = model.embed_inputs(prefix[None], visual, config.prompt.image_token_id)
        states = packed_states(decoder, x, decoder.embed_tokens(batch.ids))
        assert loss(aids, decoder.norm, states, [nowhere], prefix)[0] == 0
        pointing, looking = loss(aids, decoder.norm, states, [shown], prefix)
        losses.append(pointing.item())
        opt.zero_grad()
        (pointing + looking).backward()
        opt.step()
    assert losses[0] > 6  # of 1600 tokens
    tiles = (prefix == config.prompt.image_token_id).nonzero().flatten()
    tiles = tiles[shown[1].start :][: len(screen.tiles) * 400]
    place = torch.tensor([answering.index(True)])
    looks = [states[k][2].weights(0, torch.tensor([0]), place) for k in (-2, -1)]
    second = torch.stack([w[halving_heads(config.text_config)] for w in looks])
    assert losses[-1] < losses[0] - 1
    assert second[..., tiles].sum(-1).mean() > 0.4
    (there,) = (
        sights(screen, shown[1].asked, samples.encoder.tokenizer, 20).share[:1] > 0
    )
    early_look = states[EARLY][2].weights(0, torch.tensor([0]), place)[:, 0]
    mass = early_look[finding_head(config.text_config), tiles[there]].sum()
    assert (mass > 0.05) == bool(early)  # 12 of 1,600 tokens, before the first step


@torch.no_grad()
def test_what_a_copying_head_hands_over_is_what_it_would_add(
    config: ModelConfig, samples: SampleEncoder, screen: Screen
) -> None:
    """The loss on values is that of a last layer which looks at one token only."""
    torch.manual_seed(0)
    decoder = MM15(config).decoder
    first = samples.encoder.tokenizer.special("<loc_0>")
    answers = AnswerLoss(first, 1001, 2.0)
    width = config.text_config.hidden_size
    image = torch.tensor([False] + [True] * 800)
    states = [(torch.randn(1, 801, width), torch.randn(1, 1, 1, width), None)] * 5
    targets = [screen_targets(screen.row, screen.tiling)]
    found = marked([screen], targets, 4, config.coordinates, Random(0))
    lines, some = found["texts"], found["elements"]
    assert len(lines.token) == 4 and len(some.token) == 0
    targets = {tuple(t) for t in lines.target.tolist()}
    assert targets <= {(208, 5, 229, 16), (16, 252, 47, 260)}  # 250 a tile
    found = {"texts": lines, "elements": lines}
    size = torch.tensor(3.0)
    loss = BoxLoss(answers).handed(decoder, states, image, found, size)

    losses = []
    for place in (3, 4):
        layer = decoder.layers[place]
        x = layer.input_layernorm(states[0][0][0, 1:][lines.token])
        values = layer.self_attn.v_proj(x).view(4, 6, 64)
        for number, head in enumerate(copying_heads(config.text_config)):
            alone = torch.zeros(4, 6, 64)
            alone[:, head] = values[:, head]
            added = layer.self_attn.o_proj(alone.flatten(1))
            logits = decoder.logits(added * decoder.norm.weight / size)
            inside = logits[:, first : first + 1001]
            soft = answers.soft[lines.target[:, number]]
            losses.append((inside.logsumexp(-1) - (soft * inside).sum(-1)).mean())
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-4)


def test_a_map_of_the_width_of_a_head_is_found_again() -> None:
    """Exactly where it exists; else the part that the table reads."""
    torch.manual_seed(0)
    x = torch.randn(500, 24).double()
    low = torch.randn(24, 6).double() @ torch.randn(6, 24).double()
    table = torch.randn(80, 24).double()
    o, v = reduced(x, x @ low.T, table, 6)
    assert o.shape == (24, 6) and v.shape == (6, 24)
    assert torch.allclose(o @ v, low, atol=1e-2)
    full = torch.randn(24, 24).double()
    blind = table.clone()
    blind[:, 12:] = 0  # half of the wanted numbers are never read
    o, v = reduced(x, x @ full.T, blind, 12)
    assert torch.allclose(blind @ o @ v, blind @ full, atol=1e-1)
