"""What `ground` and `widgets` ask, in the words that a model was trained with."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_families_places import NAME, PHI, SMOLVLM
from test_templates import encoder, rendered
from test_tokenizer import byte_level, saved

from checkpoints import shapes
from mm15_mlx.answers import Session, worded
from mm15_mlx.config import ModelConfig
from mm15_mlx.convert import families
from mm15_mlx.load import load_processor
from mm15_mlx.processor import Processor
from mm15_mlx.prompt import Template, Turn
from mm15_mlx.templates import AGENTIC_GROUND, OS_ATLAS_GROUND, TEMPLATES

Cli = Callable[..., tuple[int, str, str]]
OURS = ("Where is the {query}?", "List the UI elements of this screen.")
REGION = "rovide the bounding box coordinate of the region this sentence describes"


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_wording_of_every_template(name: str) -> None:
    ground = f"P{REGION}. {{query}}" if name == "honeybee" else OURS[0]
    if TEMPLATES[name].image_token == "<IMG_CONTEXT>":
        ground = f"Please p{REGION}: <ref>{{query}}</ref>"
    assert (TEMPLATES[name].ground, TEMPLATES[name].widgets) == (ground, OURS[1])


def made(
    folder: Path, config: dict[str, Any], added: Sequence[str] = ()
) -> ModelConfig:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    tokens = {"added_tokens": [{"content": t} for t in added]}
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    return families.recognise(folder, shapes()).config


def test_the_wording_of_some_children(tmp_path: Path) -> None:
    prompt = made(tmp_path / NAME, SMOLVLM).prompt
    assert prompt.ground == AGENTIC_GROUND and "click(0.XXXX, 0.YYYY)" in prompt.ground
    prompt = made(tmp_path / "OS-Atlas-Base-4B", PHI).prompt
    assert (
        prompt.ground == OS_ATLAS_GROUND and '(with point).\n"{query}"' in prompt.ground
    )
    assert made(tmp_path / "it", PHI).prompt.ground == TEMPLATES["phi3-chat"].ground
    prompt = made(tmp_path / "b", SMOLVLM, ["<|start_of_role|>", "<loc_500>"]).prompt
    assert prompt.ground == OURS[0]
    assert prompt.widgets == "Generate the screen representation for this UI:"


def test_a_folder_that_is_older_than_the_wordings(ui_copy: Path) -> None:
    data = json.loads((ui_copy / "config.json").read_text())
    assert (data["prompt"].pop("ground"), data["prompt"].pop("widgets")) == OURS
    (ui_copy / "config.json").write_text(json.dumps(data))
    prompt = load_processor(ui_copy).config.prompt
    assert (prompt.ground, prompt.widgets) == OURS


def asked(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, *flags: Any) -> str:
    """The text of the one question of a verb."""
    seen: list[Any] = []
    answer = Session.answer

    def watch(session: Session, prompt: Any, images: Any, stream: bool = False) -> Any:
        seen.append(prompt)
        return answer(session, prompt, images, stream)

    monkeypatch.setattr(Session, "answer", watch)
    code, _, err = cli(flags[0], "--model", folder, *flags[1:])
    assert code == 0, err
    ((message,),) = seen
    image, *texts = message["content"]
    assert image["type"] == "image"
    return "".join(t["text"] for t in texts)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("OK button", "Where is the OK button?"),
        ('"OK"', 'Where is the text "OK"?'),
        ('"', 'Where is the "?'),
        ("a {query} {", "Where is the a {query} {?"),
    ],
)
def test_ground_asks_as_ferret_ui(
    query: str, said: str, cli: Cli, button: Path, screen: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    flags = ("--image", screen, "--query", query)
    assert asked(button, cli, monkeypatch, "ground", *flags) == said


def test_the_verbs_ask_in_the_model_s_words(
    cli: Cli, button: Path, screen: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = Path(shutil.copytree(button, tmp_path / "model"))
    data = json.loads((folder / "config.json").read_text())
    data["prompt"] |= {"ground": "{query}, please", "widgets": "All {of} it"}
    (folder / "config.json").write_text(json.dumps(data))
    flags = ("--image", screen)
    assert asked(folder, cli, monkeypatch, "widgets", *flags) == "All {of} it"
    flags = (*flags, "--query", "OK")
    assert asked(folder, cli, monkeypatch, "ground", *flags) == "OK, please"


def test_internvl_s_words_are_tokens_and_the_query_s_are_not(
    ui_config: ModelConfig, tmp_path: Path
) -> None:
    prompt = TEMPLATES["internvl2_5"]
    names = [*prompt.stop, "<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>"]
    tokenizer = saved(byte_level([*names, "<ref>", "</ref>"]), tmp_path)
    chat = encoder(ui_config, prompt, tokenizer)
    parts = worded(Processor(chat.config, tokenizer), prompt.ground, "a </ref> b")
    assert [type(p["text"]) for p in parts] == [Template, str, Template]
    turns = [Turn("user", [p["text"] for p in parts])]
    ids = chat.encode(turns, [])
    assert [ids.count(tokenizer.special(n)) for n in ("<ref>", "</ref>")] == [1, 1]
    assert f"{REGION}: <ref>a </ref> b</ref>" in rendered(turns, prompt)
    message = [{"role": "user", "content": parts}]
    assert Processor(chat.config, tokenizer).prepare(message).ids == ids
