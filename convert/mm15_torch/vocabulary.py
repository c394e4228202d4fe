"""The sentencepiece vocabulary of `nano-ui`: UI text, and every special token.

Run: python -m mm15_mlx.convert.mm15_torch.vocabulary --out tokenizer.model
"""

import argparse
import inspect
import io
from pathlib import Path

import sentencepiece

from mm15_mlx import ui
from mm15_mlx.config import PRESETS, ModelConfig
from mm15_mlx.convert.mm15_torch.glyphs import CHARACTERS, Words
from mm15_mlx.screens import labels


def special_tokens(config: ModelConfig) -> list[str]:
    """Control symbols in the order of their ids, after unk, bos, eos and pad."""
    p = config.prompt
    return [
        p.image_token, p.user_start, p.assistant_start, p.system_start, p.turn_end,
        "<box>", "</box>", "<point>", "</point>",
        *(f"<loc_{v}>" for v in range(config.coordinates.range + 1)),
    ]  # fmt: skip


def corpus(lines: int, seed: int) -> list[str]:
    words = Words(seed)
    text = [words.phrase() for _ in range(lines)]
    known = [
        entry.split(":")[0]
        for name, value in inspect.getmembers(labels)
        if name.isupper()
        for entry in value
        if isinstance(entry, str)
    ]
    prompts = [
        ui.find_prompt("Wi-Fi switch"), ui.find_text_prompt("General"),
        ui.ocr_prompt([]), ui.widget_class_prompt([]), ui.icon_class_prompt([]),
        ui.tappable_prompt([]), ui.WIDGETS_PROMPT, ui.READ_PROMPT, ui.SUMMARY_PROMPT,
        "(0, 1, 1)", "(0, 2, 1)", "(0, 3, 1)", "(0, 0, 0)", "Yes", "No", "On", "Off",
    ]  # fmt: skip
    listing = [ui.element_line(t, "") for t in ui.ELEMENT_TYPES]
    return text + 20 * known + 400 * (prompts + listing)


def train(config: ModelConfig, out: Path, lines: int = 60_000, seed: int = 5) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus(lines, seed)),
        model_writer=model,
        model_type="bpe",
        vocab_size=config.text_config.vocab_size,
        character_coverage=1.0,
        required_chars=CHARACTERS,
        byte_fallback=True,
        split_digits=True,
        max_sentencepiece_length=8,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        unk_id=0, bos_id=1, eos_id=2, pad_id=3,
        control_symbols=special_tokens(config),
        minloglevel=1,
    )  # fmt: skip
    out.write_bytes(model.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    train(PRESETS["nano-ui"], parser.parse_args().out)


if __name__ == "__main__":
    main()
