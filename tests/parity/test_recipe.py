"""A stage as it is run: flags from a file, and a run that is stopped and goes on."""

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image

from mm15_mlx.config import PRESETS, ModelConfig, UserError
from mm15_mlx.convert.mm15_torch import sft, stages
from mm15_mlx.convert.mm15_torch.draws import mixture
from mm15_mlx.convert.mm15_torch.optimizing import save
from mm15_mlx.prompt import Turn
from mm15_mlx.screens.layouts import HELD_OUT
from mm15_mlx.ui import READ_PROMPT

pytestmark = pytest.mark.parity
RECIPE = Path(stages.__file__).parent / "recipe"
Make = Callable[..., sft.Trainer]


def tiny() -> ModelConfig:
    nano = PRESETS["nano-ui"]
    return dataclasses.replace(
        nano,
        vision_config=dataclasses.replace(
            nano.vision_config, hidden_size=64, intermediate_size=96,
            num_hidden_layers=1, num_attention_heads=1, image_size=48,
        ),
        connector_config=dataclasses.replace(
            nano.connector_config, hidden_size=32, num_visual_tokens=4, depth=1
        ),
        text_config=dataclasses.replace(
            nano.text_config, hidden_size=64, intermediate_size=96, vocab_size=1400,
            num_hidden_layers=4, head_dim=16,
        ),
        tiling=dataclasses.replace(nano.tiling, tile_size=48),
    )  # fmt: skip


def changed_in(model: torch.nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """The names of what is no longer as it was."""
    after = model.state_dict().items()
    return {name for name, now in after if not torch.equal(now, before[name])}


def draw_screens(folder: Path) -> None:
    """Three screens with a line of text and a button each."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for k in range(3):
        Image.new("RGB", (48, 96), (40 * k, 90, 200)).save(folder / f"images/{k}.png")
        text = f"Item {k}"
        edges = [4 + 6 * c for c in range(len(text) + 1)]
        line = {"text": text, "box": [4, 30, 40, 44], "edges": edges}
        button = {"type": "button", "text": text, "label": text,
                  "box": [2, 26, 44, 50], "tappable": True}  # fmt: skip
        rows.append({"id": str(k), "image": f"images/{k}.png", "width": 48,
                     "height": 96, "layout": "settings", "texts": [line],
                     "elements": [button]})  # fmt: skip
    (folder / "screens.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


@pytest.fixture
def make(tokenizer_model: bytes, tmp_path: Path) -> Make:
    """`make(*flags)`: a trainer of the tiny model on the drawn screens."""
    draw_screens(tmp_path / "screens")
    (tmp_path / "views").mkdir()
    (tmp_path / "tokenizer.model").write_bytes(tokenizer_model)

    def trainer(*flags: object) -> sft.Trainer:
        given = ["--screens", tmp_path / "screens", "--views", tmp_path / "views",
                 "--tokenizer", tmp_path / "tokenizer.model",
                 "--out", tmp_path / "out.pt"]  # fmt: skip
        args = sft.arguments([*map(str, flags), *map(str, given)])
        return sft.Trainer(args, tiny())

    return trainer


@torch.enable_grad()
@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--whole --read 0.4 --several 0.3 --cropped 0.5 --turns 0.5",
        "--shares text-only=1",
    ],
    ids=["answers", "everything", "words alone"],
)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    flags: str, tokenizer_model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_screens(tmp_path / "screens")
    (tmp_path / "views").mkdir()
    (tmp_path / "tokenizer.model").write_bytes(tokenizer_model)
    recipe = tmp_path / "tiny.args"
    recipe.write_text(
        f"--steps 6 --batch 2 --questions 6  # small\n--save-every 3 {flags}\n"
    )

    def run(out: Path) -> dict:
        flags = ["--screens", tmp_path / "screens", "--views", tmp_path / "views",
                 "--tokenizer", tmp_path / "tokenizer.model", "--out", out]  # fmt: skip
        args = sft.arguments([f"@{recipe}", *map(str, flags)])
        for _ in stages.train(sft.Trainer(args, tiny())):
            pass
        return torch.load(out, weights_only=True)

    half = tmp_path / "half.pt"

    def keep_half(path: Path, state: dict) -> None:
        save(path, state)
        if state["step"] == 3:
            shutil.copy(path, half)

    monkeypatch.setattr(stages, "save", keep_half)
    whole = run(tmp_path / "whole.pt")
    resumed = run(half)
    assert whole["step"] == resumed["step"] == 6
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, resumed["model"][name]), name


# -- the recipe's files ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("continual", True),
        ("continual-again", True),
        ("sft", True),
        ("sft-paper", True),
        ("several", False),
        ("several-again", True),
        ("changes", False),
        ("pieces", True),
        ("handing", True),
        ("lower", True),
        ("opened", True),
        ("opened-again", True),
    ],
)
def test_a_stage_is_one_file(name: str, whole: bool, make: Make) -> None:
    trainer = make(f"@{RECIPE / name}.args", "--lines", 0)
    assert trainer.args.steps > 100 and trainer.args.whole == whole
    assert trainer.args.out.name == "out.pt"  # what comes later on the line is added


def test_the_papers_mixture_has_every_category(make: Make) -> None:
    draws = make(f"@{RECIPE / 'sft-paper.args'}").draws
    assert set(draws.shares) == {"text-rich", "refer-ground", "general", "text-only"}
    assert draws.text_only == pytest.approx(10 / 81) and draws.args.several == 0.1


def test_continual_pretraining_transcribes_with_boxes(make: Make) -> None:
    """Nothing but transcriptions, each line with its box, and none of bare screens."""
    trainer = make(f"@{RECIPE / 'continual.args'}", "--lines", 0, "--moved", 0)
    screens, batch = trainer.draws.batch(Random(0))
    assert {asked.task for row in batch.asked for asked in row} == {"read"}
    encoder = trainer.draws.samples
    for screen, (asked,) in zip(screens, batch.asked, strict=True):
        (line,) = screen.row["texts"]
        given = encoder.question_ids(READ_PROMPT, [screen.size], [screen.tiling])[1]
        assert asked.ids[: len(given)] == given
        box = "<box>" + ",".join(map(str, line["box"])) + "</box>"
        answer = encoder.answer_ids(
            f"{line['text']} {box}", [screen.size], [screen.tiling]
        )
        assert [t for t in asked.target if t >= 0] == answer


@torch.enable_grad()
def test_a_step_of_continual_pretraining_trains_every_part(make: Make) -> None:
    flags = "--steps", 1, "--lines", 0, "--moved", 0
    trainer = make(f"@{RECIPE / 'continual.args'}", *flags)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    (*_, last) = [trainer.train_step()]
    assert math.isfinite(last["loss"])
    after = trainer.model.state_dict()
    for part in ("encoder", "connector", "decoder"):
        names = [n for n in before if n.startswith(part)]
        assert any(not torch.equal(before[n], after[n]) for n in names), part


def test_screens_with_little_text_are_left_out(make: Make) -> None:
    trainer = make("--lines", 2, "--batch", 2)
    message = "3 screens in .*, but not so many of one grid with --lines 2 lines"
    with pytest.raises(UserError, match=message):
        trainer.draws.batch(Random(0))


# -- conversations -----------------------------------------------------------------


@torch.enable_grad()
def test_short_questions_are_asked_in_turn(make: Make) -> None:
    trainer = make("--turns", 1, "--long-share", 0, "--questions", 9)
    end = trainer.draws.samples.encoder.end_id
    _, batch = trainer.draws.batch(Random(0))
    turns = [[a.target.count(end) for a in row] for row in batch.asked]
    assert all(1 <= count <= 4 for row in turns for count in row)
    assert max(max(row) for row in turns) >= 2
    assert math.isfinite(trainer.train_step()["loss"])


# -- several screens ---------------------------------------------------------------


@torch.enable_grad()
def test_visual_tokens_learn_which_picture_they_are_of(make: Make) -> None:
    trainer = make("--whole", "--several", 1, "--questions", 8, "--warmup", 1,
                   "--lr", 0.01)  # fmt: skip
    figures = [trainer.train_step() for _ in range(20)]
    telling = [f["several_telling"] for f in figures]
    assert telling[0] > 0.6 and max(telling[-3:]) < 0.2  # of ln 2 = 0.69, by chance
    assert all(math.isfinite(f["several_loss"]) for f in figures)


# -- questions without a picture ---------------------------------------------------


def test_a_question_in_words_is_what_a_user_would_ask(make: Make) -> None:
    trainer = make("--shares", "text-only=1")
    encoder = trainer.draws.samples.encoder
    batch = trainer.draws.written(Random(0))
    assert len(batch.prefix) == 1 and len(batch.asked[0]) > 20
    fact = next(a for a in batch.asked[0] if a.task == "fact")
    shown = encoder.encode([Turn("user", ["What are the two numbers of a point?"])], [])
    prompts = [
        batch.prefix.tolist() + a.ids[: len(shown) - 1]
        for a in batch.asked[0]
        if a.task == "fact"
    ]
    assert shown in prompts
    assert [t for t in fact.target if t >= 0][-1] == encoder.end_id
    assert trainer.image_id not in batch.ids


@torch.enable_grad()
def test_answers_in_words_are_learned(make: Make) -> None:
    trainer = make("--shares", "text-only=1", "--warmup", 1, "--lr", 0.01,
                   "--questions", 8)  # fmt: skip
    figures = [trainer.train_step() for _ in range(12)]
    assert all(set(f) == {f"written_{k}" for k in ("loss", "text", "near", "near_y")}
               for f in figures)  # fmt: skip
    losses = [f["written_loss"] for f in figures]
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])


def test_without_a_share_the_draws_are_what_they_were(make: Make) -> None:
    """A category that is not asked for costs no random number."""
    trainer = make()
    assert trainer.draws.text_only == 0
    kinds = []
    trainer.run_written = lambda batch: pytest.fail("asked in words")
    trainer.draws.batch = lambda rng: kinds.append(rng.random()) or ([], None)
    trainer.run = lambda *a: {"reading": torch.zeros((), requires_grad=True)}
    with torch.enable_grad():
        trainer.train_step()
    rng = Random(1_000_003)
    rng.getrandbits(62), rng.random()
    assert kinds == [rng.random()]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["text-rihc=1"], "--shares text-rihc=1: no category 'text-rihc'; one of"),
        (["general"], "--shares general: '' is no share; give a number from 0"),
        (["general=-1"], "--shares general=-1: '-1' is no share; give a number"),
        (["general=nan"], "--shares general=nan: 'nan' is no share; give a number"),
        (["general=0"], "--shares general=0: every share is 0; give one of them more"),
    ],
)
def test_mixtures_that_are_none(pairs: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        mixture(pairs)


# -- what is kept for validation and test ------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kit": "weui"}, "the kit weui is kept for test"),
        ({"kit": "beercss"}, "the kit beercss is kept for validation"),
        ({"layout": HELD_OUT[0]}, f"the layout {HELD_OUT[0]} is kept for test"),
    ],
)
def test_screens_that_are_kept_are_not_trained_on(
    change: dict, why: str, make: Make, tmp_path: Path
) -> None:
    index = tmp_path / "screens" / "screens.jsonl"
    first, *rest = index.read_text().splitlines(keepends=True)
    row = json.dumps(json.loads(first) | {"kit": "vant"} | change)
    index.write_text(f"{row}\n{''.join(rest)}")
    with pytest.raises(UserError, match=f"screen 0: {why}, and scores on it"):
        next(stages.train(make()))


def test_a_mistake_in_a_stage_is_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def wrong() -> stages.Stage:
        raise UserError("no such screens; make some")

    with pytest.raises(SystemExit) as end:
        stages.run(wrong)
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: no such screens; make some\n"
