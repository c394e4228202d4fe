"""Every family of the README's table: converted, loaded, asked, and grounded.

The weights are random, so what it would answer is put into its mouth: a box in the
form that the family was trained to write, token by token. What is tested is all that
lies between a public layout and a box in pixels of the original picture.
"""

import importlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mm15_mlx import generate, load
from mm15_mlx.config import CoordinateConfig
from mm15_mlx.convert import run
from mm15_mlx.convert.families import FAMILIES

from .test_families import saved
from .test_families_original import bee, chat, flat

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


SOURCES: dict[str, Callable[[Path], Path]] = {
    "idefics3": hub("idefics3"),
    "smolvlm": hub("smolvlm"),
    "idefics3 (ScreenVLM)": hub("idefics3", GRANITE, vocabulary=1024),
    "llava": hub("llava"),
    "llava_next": hub("llava_next"),
    "internvl": hub("internvl"),
    "llava (its own code)": lambda f: flat("llava (1.5, its own code)", f)[0],
    "llava_llama": lambda f: flat("llava_llama (NeXT)", f)[0],
    "llava_mistral": lambda f: flat("llava_mistral (NeXT)", f)[0],
    "ferret_llama": lambda f: flat("ferret_llama", f)[0],
    "ferret_gemma": lambda f: flat("ferret_gemma", f)[0],
    "mllm": lambda f: bee(True, f)[0],
    "honeybee": lambda f: bee(False, f)[0],
    "internvl_chat (Phi-3)": lambda f: chat("phi3", f)[0],
    "internvl_chat (Qwen2)": lambda f: chat("qwen2", f)[0],
}
BOX = (20, 150, 100, 180)  # of `screen`, 120 × 200 pixels
# The same as each family writes it: thousandths, 500ths, or fractions of the picture,
# or of the square that LLaVA-1.5 pads it to (40 pixels on the left).
WRITTEN = {
    "idefics3 (ScreenVLM)": "<loc_83><loc_375><loc_417><loc_450>",
    "llava": "[0.30, 0.75, 0.70, 0.90]",
    "llava (its own code)": "[0.30, 0.75, 0.70, 0.90]",
    "llava_next": "[0.17, 0.75, 0.83, 0.90]",
    "llava_llama": "[0.17, 0.75, 0.83, 0.90]",
    "llava_mistral": "[0.17, 0.75, 0.83, 0.90]",
    "mllm": "[0.167,0.750,0.833,0.900]",
    "honeybee": "[0.167,0.750,0.833,0.900]",
    "internvl": "[[167, 750, 833, 900]]",
    "internvl_chat (Phi-3)": "[[167, 750, 833, 900]]",
    "internvl_chat (Qwen2)": "[[167, 750, 833, 900]]",
}


def test_no_family_is_left_out() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]+\((`[\w`, ]+)\) \|", readme, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    tested = {name.split(" ")[0] for name in SOURCES}
    assert tested == set(FAMILIES) - {"mm15"} and named >= tested


@pytest.mark.parametrize("name", SOURCES)
def test_a_family_from_files_to_boxes(
    name: str, tmp_path: Path, screen: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SOURCES[name](tmp_path / "source")
    out = tmp_path / "out"
    run.convert(source, out, name="owner/tiny", say=lambda _: None)
    model, processor = load(out)
    result = generate(model, processor, "What is on?", [screen], max_tokens=4)
    assert 1 <= len(result.tokens) <= 4 and result.image_tokens > 0

    text = WRITTEN.get(name, "[167, 750, 833, 900]")
    parts = processor.tokenizer.split(text)
    ids = [
        token
        for part in parts
        for token in (
            [part]
            if isinstance(part, int)
            else processor.tokenizer.encode(part, first=False)
        )
    ]
    coming: Iterator[int] = iter([*ids, *list(processor.encoder.stop_ids)[:1]])

    def say_it(*_: Any) -> Callable[[mx.array], mx.array]:
        return lambda logits: mx.array([next(coming)] * logits.shape[0])

    # The package's attribute of that name is a function.
    module = importlib.import_module("mm15_mlx.generate")
    monkeypatch.setattr(module, "make_sampler", say_it)
    status, said, err = cli(
        "ground", "--model", out, "--image", screen, "--query", "button", "--json"
    )
    assert status == 0, err
    answer = json.loads(said)
    assert answer["finish_reason"] == "stop" and answer["text"] == text
    (box,) = answer["boxes"]
    assert box["label"] == "button"
    # Hundredths are of 120 or 200 pixels.
    slack = 1.3 if processor.config.coordinates.decimals == 2 else 0.3
    assert box["px"] == pytest.approx(BOX, abs=slack)
    if name in ("idefics3", "smolvlm", "ferret_llama"):
        assert processor.config.coordinates == CoordinateConfig()
