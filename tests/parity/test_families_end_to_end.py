"""Every family of the README's table: converted, loaded, asked, grounded, evaluated,
trained, and asked in the app.

The weights are random, so what it would answer is put into its mouth: a box in the
form that the family was trained to write, token by token. What is tested is all that
lies between a public layout and a box in pixels of the original picture.
"""

import dataclasses
import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
import torch
from conftest import SPECIAL, small_config
from training import ROWS, write

from mm15_mlx import generate, load
from mm15_mlx.apps.settings import Settings
from mm15_mlx.apps.worker import Answered, Choice, Request, Worker
from mm15_mlx.config import CoordinateConfig
from mm15_mlx.convert import run
from mm15_mlx.convert.families import FAMILIES
from mm15_mlx.convert.mm15_torch.model import MM15 as Reference
from mm15_mlx.processor import Processor

from .references import randomise
from .test_families import saved
from .test_families_original import bee, chat, flat
from .test_prompt_parity import trained

pytestmark = pytest.mark.parity

Cli = Callable[..., tuple[int, str, str]]
# As Granite-Docling and ScreenVLM name the parts of a chat, and places.
GRANITE = frozenset(
    ["<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"]
    + [f"<loc_{i}>" for i in range(501)]
)


def hub(kind: str, more: frozenset[str] = frozenset(), **how: Any) -> Any:
    def make(folder: Path) -> Path:
        saved(kind, folder, more, **how)
        return folder

    return make


def own(folder: Path) -> Path:
    """A checkpoint of this project's trainer, which writes places as `nano-ui` does."""
    tokenizer, config = trained(SPECIAL), small_config()
    text = dataclasses.replace(config.text_config, vocab_size=2048)
    prompt = dataclasses.replace(
        config.prompt, image_token_id=tokenizer.token_to_id(config.prompt.image_token)
    )
    config = dataclasses.replace(
        config, text_config=text, prompt=prompt,
        coordinates=CoordinateConfig(format="tokens"),
    )  # fmt: skip
    folder.mkdir()
    torch.save(randomise(Reference(config)).state_dict(), folder / "screens.pt")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


SOURCES: dict[str, Callable[[Path], Path]] = {
    "idefics3": hub("idefics3"),
    "smolvlm": hub("smolvlm"),
    "smolvlm (Agentic-GUI)": lambda f: hub("smolvlm")(f / "Agentic-GUI"),
    "idefics3 (ScreenVLM)": hub("idefics3", GRANITE, vocabulary=1024),
    "llava": hub("llava"),
    "llava_next": hub("llava_next"),
    "llava_next (Mistral)": hub("llava_next (Mistral)"),
    "internvl": hub("internvl"),
    "internvl (Qwen3)": hub("internvl (Qwen3)"),
    "internvl (Qwen3-MoE)": hub("internvl (Qwen3-MoE)"),
    "llava (its own code)": lambda f: flat("llava (1.5, its own code)", f)[0],
    "llava_llama": lambda f: flat("llava_llama (NeXT)", f)[0],
    "llava_mistral": lambda f: flat("llava_mistral (NeXT)", f)[0],
    "ferret_llama": lambda f: flat("ferret_llama", f)[0],
    "ferret_gemma": lambda f: flat("ferret_gemma", f)[0],
    "mllm": lambda f: bee(True, f)[0],
    "honeybee": lambda f: bee(False, f)[0],
    "internvl_chat (Phi-3)": lambda f: chat("phi3", f)[0],
    "internvl_chat (Qwen2)": lambda f: chat("qwen2", f)[0],
    "internvl_chat (Qwen3)": lambda f: chat("qwen3", f)[0],
    "internvl_chat (Qwen3-MoE)": lambda f: chat("qwen3_moe", f)[0],
    "mm15": own,
}
BOX = (20, 150, 100, 180)  # of `screen`, 120 × 200 pixels
# The same as each family writes it: thousandths, 500ths, or fractions of the picture,
# or of the square that LLaVA-1.5 pads it to (40 pixels on the left).
WRITTEN = {
    "smolvlm (Agentic-GUI)": "[0.1667, 0.7500, 0.8333, 0.9000]",
    "idefics3 (ScreenVLM)": "<loc_83><loc_375><loc_417><loc_450>",
    "llava": "[0.30, 0.75, 0.70, 0.90]",
    "llava (its own code)": "[0.30, 0.75, 0.70, 0.90]",
    "llava_next": "[0.17, 0.75, 0.83, 0.90]",
    "llava_llama": "[0.17, 0.75, 0.83, 0.90]",
    "llava_mistral": "[0.17, 0.75, 0.83, 0.90]",
    "mllm": "[0.167,0.750,0.833,0.900]",
    "honeybee": "[0.167,0.750,0.833,0.900]",
    "internvl": "[[167, 750, 833, 900]]",
    "internvl_chat": "[[167, 750, 833, 900]]",
    "mm15": "<box><loc_167><loc_750><loc_833><loc_900></box>",
}
# What a user reads of it where that is something else.
READ = {"mm15": "[167, 750, 833, 900]"}


def named(table: dict[str, str], name: str) -> str | None:
    """Of a source, or else of its family."""
    return table.get(name) or table.get(name.split(" ")[0])


def test_no_family_is_left_out() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = readme.partition("\n## Import a public model\n")[2].partition("\n## ")[0]
    lists = re.findall(r"\((`[\w`, ]+)\)", section)
    told = {name for names in lists for name in re.findall(r"`(\w+)`", names)}
    tested = {name.split(" ")[0] for name in SOURCES}
    assert tested == set(FAMILIES) and told >= tested


@pytest.fixture(scope="module", params=SOURCES)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A source's name, and the model folder that became of it."""
    folder = tmp_path_factory.mktemp("family")
    torch.manual_seed(0)
    with torch.no_grad():
        source = SOURCES[request.param](folder / "source")
    run.convert(source, folder / "out", name="owner/tiny", say=lambda _: None)
    return request.param, folder / "out"


def say_it(monkeypatch: pytest.MonkeyPatch, processor: Processor, text: str) -> None:
    """Whatever is asked, the answer is `text`."""
    tokenizer = processor.tokenizer
    ids: list[int] = []
    for part in tokenizer.split(text):
        ids += [part] if isinstance(part, int) else tokenizer.encode(part, first=False)
    coming: Iterator[int] = iter([*ids, *list(processor.encoder.stop_ids)[:1]])

    def sampler(*_: Any) -> Callable[[mx.array], mx.array]:
        return lambda logits: mx.array([next(coming)] * logits.shape[0])

    # The package's attribute of that name is a function.
    module = importlib.import_module("mm15_mlx.generate")
    monkeypatch.setattr(module, "make_sampler", sampler)


def test_a_family_from_files_to_boxes(
    made: tuple[str, Path], screen: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, out = made
    model, processor = load(out)
    result = generate(model, processor, "What is on?", [screen], max_tokens=4)
    assert 1 <= len(result.tokens) <= 4 and result.image_tokens > 0

    text = named(WRITTEN, name) or "[167, 750, 833, 900]"
    say_it(monkeypatch, processor, text)
    status, said, err = cli(
        "ground", "--model", out, "--image", screen, "--query", "button", "--json"
    )
    assert status == 0, err
    answer = json.loads(said)
    assert answer["finish_reason"] == "stop"
    assert answer["text"] == (named(READ, name) or text)
    (box,) = answer["boxes"]
    assert box["label"] == "button"
    # Hundredths are of 120 or 200 pixels.
    slack = 1.3 if processor.config.coordinates.decimals == 2 else 0.3
    assert box["px"] == pytest.approx(BOX, abs=slack)
    if name in ("idefics3", "smolvlm", "ferret_llama"):
        assert processor.config.coordinates == CoordinateConfig()


def test_a_family_is_evaluated_trained_and_asked_in_the_app(
    made: tuple[str, Path], screen: Path, cli: Cli, tmp_path: Path
) -> None:
    _, out = made
    data = write(tmp_path / "data", screen, ROWS[:1])
    task = {
        "id": "a", "image": "screen.png", "task": "find_widget", "query": "button",
        "box": BOX,
    }  # fmt: skip
    (data / "tasks.jsonl").write_text(json.dumps(task))
    status, said, err = cli(
        "eval", "--model", out, "--data", data / "tasks.jsonl", "--json"
    )
    assert status == 0, err
    report = json.loads(said)["metrics"]["find_widget"]
    assert report["n"] == 1 and {"acc@0.5", "centre_in_box"} <= set(report)

    adapters = tmp_path / "adapters"
    status, said, err = cli(
        "train", "--model", out, "--data", data, "--iters", "1", "--batch-size", "1",
        "--adapter-path", adapters, "--json",
    )  # fmt: skip
    assert status == 0, err
    assert json.loads(said)["steps"] == 1
    tuned = mx.load(str(adapters / "adapters.safetensors"))
    steps = [mx.abs(tuned[n]).max().item() for n in tuned if n.endswith("lora_b")]
    assert len(steps) and max(steps) > 0  # it begins at 0

    content = [{"type": "image", "image": screen}, {"type": "text", "text": "Is it?"}]
    choice = Choice(str(out), adapters)
    worker = Worker([choice])
    try:
        request = Request(
            choice.label, [{"role": "user", "content": content}], Settings(max_tokens=2)
        )
        *_, last = worker.submit(request).events()
    finally:
        worker.close()
    assert isinstance(last, Answered)
    assert 1 <= last.result.generation_tokens <= 2
    assert last.document["images"][0]["width"] == 120
