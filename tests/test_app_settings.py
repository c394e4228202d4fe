"""The app's settings of one question, earlier turns, and answers put right."""

import dataclasses
import json
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest
from app_data import BOX, turn
from app_data import talk as conversation

from mm15_mlx.apps import drawing, export
from mm15_mlx.apps.correcting import moved, places
from mm15_mlx.apps.settings import EACH, OWN, WHOLE, Settings, split_as, splittings
from mm15_mlx.apps.state import Region
from mm15_mlx.config import ModelConfig, TilingConfig, UserError
from mm15_mlx.dataset import read_split
from mm15_mlx.grounding import Box
from mm15_mlx.load import load_processor
from mm15_mlx.tiling import plan

# --- splitting -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tiling", "values"),
    [
        (TilingConfig(), [OWN, "8", "7", "6", "5", "4", EACH, WHOLE]),
        (TilingConfig(n_min=1, n_max=3), [OWN, "2", EACH, WHOLE]),
        (TilingConfig(policy="static"), [OWN, EACH, WHOLE]),
        (TilingConfig(policy="longest_edge", longest_edge=2048, n_min=1,
                      max_split_images=64), [OWN, WHOLE]),
        (TilingConfig(policy="pinpoints", pinpoints=((1, 2),)), [OWN, EACH, WHOLE]),
        (TilingConfig(policy="squash"), [OWN]),
    ],
)  # fmt: skip
def test_a_model_offers_what_its_configuration_has(
    tiny_config: ModelConfig, tiling: TilingConfig, values: list[str]
) -> None:
    made = splittings(tiling)
    assert [value for _, value in made] == values
    config = dataclasses.replace(tiny_config, tiling=tiling)
    side = 10 * tiling.tile_size
    for value in values:
        split = split_as(config, value).tiling
        tiles = plan(2 * side, side, split).grid
        if value.isdigit():
            assert tiles[0] * tiles[1] <= int(value)
        elif value == WHOLE:
            assert tiles == (1, 1)
        elif value == EACH:
            assert plan(2 * side, side, split, images=9).grid == tiles != (1, 1)
    assert config.tiling == tiling
    assert split_as(config, OWN) is config


def test_splitting_says_what_it_is(tiny_config: ModelConfig) -> None:
    names = [name for name, _ in splittings(TilingConfig())]
    assert names[0] == "As the model does: up to 9 tiles"
    assert names[1] == "At most 8 tiles" and names[-1] == "Off: one view"
    assert splittings(TilingConfig(policy="none"))[0][0] == "This model does not split"
    with pytest.raises(UserError, match="splitting 'x' is no choice of this model; ch"):
        split_as(tiny_config, "x")


def test_settings_are_in_the_command_and_in_python(
    button: Path,
    screen: Path,
    cli: Callable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shots = conversation(screen).shots
    monkeypatch.chdir(screen.parent)

    def asked(settings: Settings, **changes: object) -> str:
        made = turn(model=str(button), settings=settings, **changes)
        exec(compile(export.as_python(made, shots), "copied", "exec"), {})
        assert capsys.readouterr().out.startswith("[100, 200, 600, 700]")
        return export.as_command(made, shots)

    whole = shlex.split(asked(Settings(9, temp=0.5, split=WHOLE)))
    at = whole.index("--max-tokens")
    assert whole[at : at + 6] == [
        "--max-tokens", "9", "--temp", "0.5", "--split-last", "0"
    ]  # fmt: skip
    assert cli(*whole[1:], "--json")[0] == 0
    assert "--split-last 1" in asked(Settings(9, split=EACH))
    for settings, changes in (
        (Settings(9, split="2"), {}),
        (Settings(9, split=WHOLE), {"earlier": (("What?", "This"),)}),
    ):  # no flag says that: the command runs Python
        told = asked(settings, **changes)
        assert told.startswith("python3 - <<'END'\n") and told.endswith("\nEND")
        assert f"split_as(processor.config, {settings.split!r})" in told


# --- answers put right ---------------------------------------------------------------

TEXT = 'Two: <box>1,2,30,40</box> "a", <point image=1>5,6.5</point> and <box>x</box>.'


def test_places_of_an_answer() -> None:
    found = places(TEXT, (2, 0))
    assert [p.region for p in found] == [
        Region(2, (1.0, 2.0, 30.0, 40.0)),
        Region(0, (5.0, 6.5)),
    ]
    assert [TEXT[p.start : p.end] for p in found] == [
        "<box>1,2,30,40</box>",
        "<point image=1>5,6.5</point>",
    ]
    assert len(places(TEXT, (2,))) == 1  # picture 1 is none of the question's


@pytest.mark.parametrize(
    ("k", "px", "text"),
    [
        (0, (3.2, 4, 50.6, 60), TEXT.replace("1,2,30,40", "3,4,51,60")),
        (1, (7, 8), TEXT.replace("5,6.5", "7,8")),
        (1, (7, 8, 9, 10), TEXT.replace(
            "<point image=1>5,6.5</point>", "<box image=1>7,8,9,10</box>")),
        (2, (7, 8, 9, 10), TEXT + " <box image=1>7,8,9,10</box>"),
    ],
)  # fmt: skip
def test_one_place_is_moved_and_nothing_else(
    k: int, px: tuple[float, ...], text: str
) -> None:
    assert moved(TEXT, k, Region(2 if k == 0 else 0, px), (2, 0)) == text


def test_corrected_places_are_drawn_instead_of_found_ones(screen: Path) -> None:
    made = conversation(screen, turn())
    html = drawing.view(
        made, None, places("<box>1,2,3,4</box> <point>5,6</point>", (0,))
    )
    root = ET.fromstring(f"<div>{html}</div>")
    edits = root.findall(".//g[@class='mm-edit']")
    assert [e.get("data-px") for e in edits] == ["1,2,3,4", "5,6"]
    assert "Arrow keys move it" in edits[0].get("aria-label", "")
    assert root.find(".//g[@class='mm-mark']") is None
    svg = root.find(".//svg")
    assert svg is not None and svg.get("data-edits") == "2"


def test_a_corrected_row_is_checked_and_read(
    ui_folder: Path, screen: Path, tmp_path: Path, cli: Callable
) -> None:
    """From the model's answer to what `train` learns."""
    made = conversation(screen)
    made.finish(turn("Where is the switch?"))
    made.draft = moved(made.draft, 0, made.place([100.4, 180, 20, 150]), (0,))
    export.save_row(tmp_path / "rows", made.current(), made.shots, made.draft)
    code, out, _ = cli("data", "check", tmp_path / "rows", "--model", ui_folder)
    assert code == 0 and "train: 1 rows, 0 bad, 1 pictures" in out
    processor = load_processor(ui_folder)
    sample = read_split(tmp_path / "rows", "train", processor, 512).samples[0]
    learnt = [i for i, yes in zip(sample.ids, sample.learnt, strict=True) if yes]
    special = processor.tokenizer.special
    pixels = [20 / 120, 150 / 200, 100 / 120, 180 / 200]
    wanted = [special(f"<loc_{round(1000 * v)}>") for v in pixels]
    assert [i for i in learnt if i in wanted] == wanted


# --- earlier turns -------------------------------------------------------------------


def test_an_earlier_turn_is_called_back(screen: Path) -> None:
    other = Box("switch", 1, (20.0, 50.0, 30.0, 60.0), (0, 0, 1, 1))
    made = conversation(screen, pictures=2)
    made.finish(turn("One?"))
    made.finish(turn("Two?", scope=(0, 1), boxes=(other,), marked="<box>2</box>"))
    made.finish(turn("Three?", boxes=(), marked="no"))
    assert made.found() == [] and made.current().question == "Three?"
    made.choose(0)
    assert made.found() == [BOX] and made.shown == 0
    assert made.current().question == "One?" and made.draft == "<box>12,40,72,140</box>"
    made.choose(1)  # its box is on the other picture
    assert made.shown == 1 and made.found() == [other]
    made.show(0)  # which it was about as well
    assert made.found() == [] and made.marking() is made.turns[1]
    made.choose(0)
    made.show(1)
    assert made.chosen is None and made.found() == [other]
    made.finish(turn("Four?"))
    assert made.current().question == "Four?"
    with pytest.raises(UserError, match="there is no turn 9; there are 4"):
        made.choose(8)


def test_turns_with_places_have_a_button(screen: Path) -> None:
    made = conversation(screen, turn("One?"), turn("Two?", boxes=()), turn("Three?"))
    made.choose(0)
    root = ET.fromstring(drawing.talk(made))
    buttons = root.findall(".//button[@data-turn]")
    assert [(b.get("data-turn"), b.get("aria-pressed")) for b in buttons] == [
        ("0", "true"),
        ("2", "false"),
    ]
    assert json.loads(export.as_json(made.current())) == made.turns[0].document
