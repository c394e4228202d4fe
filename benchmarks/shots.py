"""Many questions after the same examples: read once, beside one run after the other.

Every single run begins with nothing remembered: it encodes and reads the examples
again. Two cases: all questions about one picture, and each about a picture of its own,
which must then be encoded and read in both ways. Times are of the wall and, for busy
machines, of this process's CPU. With `--random` the model is a small one of random
weights. The last line of stdout is one JSON document.

Run: python benchmarks/shots.py examples/settings.png --questions 10
"""

import argparse
import dataclasses
import json
import platform
import time
from collections.abc import Sequence
from importlib.metadata import version

import mlx.core as mx
import numpy as np
from PIL import Image, ImageChops

from mm15_mlx import MM15, __version__, generate, load
from mm15_mlx.batch import Question, answer_together
from mm15_mlx.config import ModelConfig
from mm15_mlx.decoding import Options
from mm15_mlx.generate import read_beginning
from mm15_mlx.images import Picture, load_picture
from mm15_mlx.processor import Message, Processor
from mm15_mlx.shots import Shot, framed

WORDS = (
    "menu back search close more add heart star share camera map clock lock mail phone "
    "trash user home"
).split()


def small(config: ModelConfig) -> ModelConfig:
    """The same prompt and tiling, with little to compute."""
    return dataclasses.replace(
        config,
        vision_config=dataclasses.replace(
            config.vision_config, hidden_size=32, intermediate_size=64,
            num_hidden_layers=2, num_attention_heads=2,
        ),
        connector_config=dataclasses.replace(
            config.connector_config, hidden_size=32, depth=1
        ),
        text_config=dataclasses.replace(
            config.text_config, hidden_size=64, intermediate_size=96,
            num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
            head_dim=32,
        ),
        quantization=None,
    )  # fmt: skip


def moved(image: Image.Image, k: int) -> Picture:
    """Another picture of the same kind, so that nothing is remembered of it."""
    return Picture(ImageChops.offset(image, 0, 7 * k), f"moved by {7 * k}")


def asked(word: str, picture: Picture) -> Message:
    parts = [{"type": "image", "image": picture}]
    return {
        "role": "user",
        "content": [*parts, {"type": "text", "text": f"Where is the {word} icon?"}],
    }


def examples(image: Image.Image, count: int) -> list[Shot]:
    return [
        Shot(f"example {k}", [
            asked(WORDS[k], moved(image, k + 1)),
            {"role": "assistant", "content": f"<box>10,{20 + k},90,{120 + k}</box>"},
        ])
        for k in range(count)
    ]  # fmt: skip


def now() -> np.ndarray:
    """Seconds of the wall and of the CPU."""
    return np.array([time.perf_counter(), time.process_time()])


def singly(
    model: MM15, processor: Processor, prompts: Sequence[list[Message]], tokens: int
) -> tuple[np.ndarray, list[list[int]]]:
    begin, answers = now(), []
    for messages in prompts:
        processor.memory.forget()
        answers.append(generate(model, processor, messages, max_tokens=tokens).tokens)
    return now() - begin, answers


def at_once(
    model: MM15, processor: Processor, before: list[Message],
    groups: Sequence[list[Message]], tokens: int,
) -> tuple[np.ndarray, list[list[int]]]:  # fmt: skip
    """Each group is about one picture."""
    processor.memory.forget()
    begin, answers = now(), []
    start = read_beginning(model, processor, before, Options())
    for group in groups:
        questions = [Question([m], tokens) for m in group]
        results = answer_together(model, processor, questions, [], Options(), start)
        answers += [r.tokens for r in results]
    return now() - begin, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--model", default="nano-ui")
    parser.add_argument("--random", action="store_true")
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--split-last", type=int, default=1)
    args = parser.parse_args()
    model, processor = load(args.model)
    if args.random:
        mx.random.seed(0)
        config = small(processor.config)
        model, processor = MM15(config), Processor(config, processor.tokenizer)
        model.eval()
        mx.eval(model.parameters())
    image = load_picture(args.image).image
    shots = examples(image, args.shots)
    words = [WORDS[k % len(WORDS)] for k in range(args.questions)]
    one = moved(image, 0)
    cases = {
        "one_picture": [[asked(w, one) for w in words]],
        "own_pictures": [[asked(w, moved(image, 20 + k))] for k, w in enumerate(words)],
    }
    generate(model, processor, "Where?", images=[one], max_tokens=2)  # warm
    report = {
        "model": args.model, "random": args.random, "shots": args.shots,
        "questions": args.questions, "split_last": args.split_last,
        "machine": platform.processor() or platform.machine(),
        "mlx": version("mlx"), "mm15-mlx": __version__,
    }  # fmt: skip
    for name, groups in cases.items():
        made = [
            [framed(shots, None, m, args.split_last) for m in group] for group in groups
        ]
        before = made[0][0][0]
        own = [[question for _, question in group] for group in made]
        whole = [[*before, question] for group in own for question in group]
        alone, expected = singly(model, processor, whole, args.max_tokens)
        together, answers = at_once(model, processor, before, own, args.max_tokens)
        same = sum(a == b for a, b in zip(answers, expected, strict=True))
        ratio = together / alone
        print(
            f"{name:13} one by one {alone[0]:7.2f} s  together {together[0]:7.2f} s  "
            f"ratio {ratio[0]:.3f} (CPU {ratio[1]:.3f})  "
            f"same answers {same}/{len(expected)}"
        )
        report[name] = {
            "singly_s": round(alone[0], 3), "together_s": round(together[0], 3),
            "ratio": round(ratio[0], 3), "cpu_ratio": round(ratio[1], 3), "same": same,
        }  # fmt: skip
    print(json.dumps(report))


if __name__ == "__main__":
    main()
