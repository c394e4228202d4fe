"""This project, mlx-vlm and transformers on one machine, with the same random weights.

A model of SmolVLM-256M's shape (or fewer layers: `--layers`) is made once in
transformers' layout and converted for ours. Every trial is a process of its own; each
asks about the same picture: a first question, a second, then `--questions` more, with
answers of `--max-tokens`. MLX has the same fast BLAS in both programs. Ours answers
the further questions side by side, the others one after the other, as their
documentation shows; mlx-vlm also with the caches that it leaves off. In float32,
PyTorch also in bfloat16. Medians; a markdown table on stdout, then one JSON line with
the spread. The last columns are checks: the first prompt has the same number of tokens
in every row, and a row whose CPU time falls well behind the clock was disturbed.

mlx-vlm wants other versions than ours, so it lives in an environment of its own:

    python -m venv ../peers && ../peers/bin/pip install mlx-vlm==0.7.10 'mlx[cpu]'
    python benchmarks/side_by_side.py --peer-python ../peers/bin/python

transformers comes with the extra `parity`. llama.cpp has no row: its Python package is
on PyPI as source only, which needs a compiler and half an hour.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mm15_mlx import blas

ROOT = Path(__file__).parents[1]
SKIPPED = {"llama.cpp": "PyPI has llama-cpp-python as source only"}
QUESTIONS = (
    "Where is the Wi-Fi switch?", "Where is the back button?", "What is on this page?",
    "Read the title.", "Where is Bluetooth?", "Which row is the last?",
    "Is it dark?", "How many switches are there?", "Where is the battery?",
    "What can be tapped?",
)  # fmt: skip
# SmolVLM-256M, from its published configuration.
TEXT: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "head_dim": 64, "vocab_size": 49280, "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5, "rope_theta": 100_000.0, "pad_token_id": 2,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
VISION: dict[str, Any] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
}  # fmt: skip
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>",
    "<image>", "<global-img>", "<end_of_utterance>",
    *(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)),
)  # fmt: skip

# What every trial ends with; `answer(question, tokens)` yields once for each token.
MEASURE = """
import json, resource, sys, time
times = {}
def asked(question):
    begin, stamps = time.perf_counter(), []
    for response in answer(question, tokens):
        times.setdefault("prompt_tokens", response.prompt_tokens)
        if not stamps and "cold_start_s" not in times:
            times["cold_start_s"] = time.time() - started
        stamps.append(time.perf_counter())
    return begin, stamps
first, second, *more = json.loads(questions)
begin, stamps = asked(first)
times["first_token_s"] = stamps[0] - begin
times["decode_tokens_per_s"] = (len(stamps) - 1) / (stamps[-1] - stamps[0])
begin, stamps = asked(second)
times["second_question_s"] = stamps[0] - begin
begin = time.perf_counter()
together(more) if together else [asked(q) for q in more]
times["more_questions_s"] = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
times["peak_rss_bytes"] = peak if sys.platform == "darwin" else peak * 1024
times["cpu_share"] = time.process_time() / (time.time() - started)
print(json.dumps(times))
"""
BEFORE = """
import sys
folder, image, questions = sys.argv[1:4]
tokens, started = int(sys.argv[4]), float(sys.argv[5])
together = None
CHAT = "<|im_start|>User:<image>{}<end_of_utterance>\\nAssistant:"
"""
OURS = """
from mm15_mlx import load, stream_generate
from mm15_mlx.batch import Question, answer_together
from mm15_mlx.decoding import Options
model, processor = load(folder)
processor.encoder.stop_ids = frozenset()
def answer(question, tokens):
    yield from stream_generate(
        model, processor, question, images=[image], max_tokens=tokens
    )
def together(asked):
    asked = [Question(q, tokens) for q in asked]
    answer_together(model, processor, asked, [image], Options())
"""
MLX_VLM = """
import importlib.util
spec = importlib.util.spec_from_file_location("blas", sys.argv[6])
blas = importlib.util.module_from_spec(spec)
sys.modules["blas"] = blas
spec.loader.exec_module(blas)
print(blas.preload(), file=sys.stderr)
from mlx_vlm import load, stream_generate
from mlx_vlm.generate.common import PromptCacheState
from mlx_vlm.vision_cache import VisionFeatureCache
model, processor = load(folder)
caches = {}
def answer(question, tokens):
    yield from stream_generate(
        model, processor, CHAT.format(question), image=image, max_tokens=tokens,
        temperature=0.0, **caches,
    )
"""
# torchvision is hidden: pictures go through Pillow in every program, and the build of
# it that does not fit PyTorch's cannot be imported.
HIDE = """
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name == "torchvision" else find_spec(name, package)
)
"""
# It has caches, off unless they are handed over.
CACHES = """
caches["vision_cache"] = VisionFeatureCache()
caches["prompt_cache_state"] = PromptCacheState()
"""
TORCH = """
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
torch.set_num_threads({threads})
processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.{dtype}).eval()
class Stamps:
    def __init__(self):
        self.at, self.prompt = [], True
    def put(self, value):
        if self.prompt:
            self.prompt = False
            return
        if not self.at and "cold_start_s" not in times:
            times["cold_start_s"] = time.time() - started
        self.at.append(time.perf_counter())
    def end(self):
        pass
def asked(question):
    begin, stamps = time.perf_counter(), Stamps()
    inputs = processor(
        text=CHAT.format(question), images=[Image.open(image)], return_tensors="pt"
    )
    times.setdefault("prompt_tokens", inputs["input_ids"].shape[1])
    inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    with torch.inference_mode():
        model.generate(
            **inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
            streamer=stamps,
        )
    return begin, stamps.at
"""
COLUMNS = {
    "cold_start_s": "cold start, s", "first_token_s": "first token, s",
    "second_question_s": "second question, s", "more_questions_s": "{n} questions, s",
    "decode_tokens_per_s": "decode, tokens/s", "peak_rss_bytes": "peak RSS, MB",
    "prompt_tokens": "prompt tokens",
    "cpu_share": "CPU / wall",
}  # fmt: skip


def make(folder: Path, layers: int | None) -> None:
    """Random weights and a tokenizer in transformers' layout. Needs PyTorch."""
    import random

    exec(HIDE, {})
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers.models.idefics3.image_processing_pil_idefics3 import (
        Idefics3ImageProcessorPil,
    )

    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(3, 9)))
             for _ in range(120_000)]  # fmt: skip
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TEXT["vocab_size"] - len(SPECIAL), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([*words, *QUESTIONS * 50], trainer)
    tokenizer.add_special_tokens(list(SPECIAL))
    processor = transformers.Idefics3Processor(
        Idefics3ImageProcessorPil(
            size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}
        ),
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="<end_of_utterance>",
            bos_token="<|im_start|>", pad_token="<|im_end|>",
        ),
        image_seq_len=64,
    )  # fmt: skip
    ends = {
        f"{name}_token_id": tokenizer.token_to_id(token)
        for name, token in (
            ("bos", "<|im_start|>"), ("eos", "<end_of_utterance>"),
            ("pad", "<|im_end|>"),
        )
    }  # fmt: skip
    text, vision = TEXT | ends, dict(VISION)
    if layers:
        text["num_hidden_layers"] = min(layers, text["num_hidden_layers"])
        vision["num_hidden_layers"] = min(layers, vision["num_hidden_layers"])
    torch.manual_seed(0)
    model = transformers.Idefics3ForConditionalGeneration(
        transformers.Idefics3Config(
            vision_config=vision, text_config=text, scale_factor=4,
            image_token_id=tokenizer.token_to_id("<image>"),
            pad_token_id=ends["pad_token_id"], tie_word_embeddings=False,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")


def trial(
    python: str, code: str, folder: Path, args: argparse.Namespace
) -> dict[str, float]:
    """One process; raises CalledProcessError with its last words."""
    asked = json.dumps(QUESTIONS[: 2 + args.questions])
    command = [
        python, "-c", code, str(folder), args.image, asked, str(args.max_tokens),
        repr(time.time()), str(ROOT / "mm15_mlx" / "blas.py"),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=args.timeout
    )
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def environment() -> dict[str, str]:
    """One BLAS for both programs on MLX; nobody is fetching anything."""
    env = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    package = importlib.util.find_spec("scipy_openblas32")
    if package and package.origin:
        found = sorted((Path(package.origin).parent / "lib").glob("libscipy_open*.so*"))
        env.setdefault("MM15_BLAS", str(found[0]))
    return env


def ways(args: argparse.Namespace, source: Path, ours: Path) -> dict[str, Any]:
    """Name → interpreter, code and folder of each program that can run here."""
    python, threads = sys.executable, blas.usable_cores()
    found: dict[str, Any] = {"mm15-mlx": (python, BEFORE + OURS + MEASURE, ours)}
    if args.peer_python:
        for name, more in (("mlx-vlm", ""), ("mlx-vlm, its caches", CACHES)):
            code = BEFORE + MLX_VLM + more + MEASURE
            found[name] = (args.peer_python, code, source)
    else:
        SKIPPED["mlx-vlm"] = "no --peer-python"
    # PyTorch's generate calls back, so its `asked` stands for the common one.
    head, tail = MEASURE.split("first, second")
    head = head[: head.index("def asked")]
    for dtype in ("float32", "bfloat16"):
        code = TORCH.format(threads=threads, dtype=dtype)
        code = BEFORE + HIDE + head + code + "first, second" + tail
        found[f"transformers {dtype}"] = (python, code, source)
    wanted = args.only.split(";") if args.only else list(found)
    return {name: way for name, way in found.items() if name in wanted}


def table(report: dict[str, dict[str, list[float]]], questions: int) -> str:
    """Medians as markdown; what did not run has its reason."""
    heads = [title.format(n=questions) for title in COLUMNS.values()]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, figures in report.items():
        scales = [1e-6 if key.endswith("bytes") else 1 for key in COLUMNS]
        medians = [statistics.median(figures[key]) for key in COLUMNS]
        cells = [f"{m * k:.4g}" for m, k in zip(medians, scales, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        f"| {n} | skipped: {why}" + " |" * len(heads) for n, why in SKIPPED.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--image", default=str(ROOT / "examples" / "settings.png"))
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--layers", type=int, help="At most so many in each tower.")
    parser.add_argument("--peer-python", help="Of the environment with mlx-vlm.")
    parser.add_argument("--only", help="Names of rows, with semicolons.")
    parser.add_argument("--timeout", type=float, default=3600, help="s, of a trial.")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make(args.make, args.layers)
        return
    report: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        source, ours = Path(scratch) / "source", Path(scratch) / "ours"
        # Elsewhere, because a process inherits the peak of the one that starts it.
        command = [sys.executable, __file__, "--make", str(source)]
        command += ["--layers", str(args.layers)] if args.layers else []
        subprocess.run(command, check=True)
        convert = ["convert", "--hf-path", str(source), "--mlx-path", str(ours)]
        subprocess.run(
            [sys.executable, "-m", "mm15_mlx", *convert], check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        for name, way in ways(args, source, ours).items():
            try:
                trial(*way, args)  # warms the disk cache
                runs = [trial(*way, args) for _ in range(args.trials)]
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                SKIPPED[name] = str(e).replace("|", "/")
                continue
            report[name] = {key: [run[key] for run in runs] for key in COLUMNS}
            print(name, runs, file=sys.stderr, flush=True)
    print(table(report, args.questions), end="\n\n")
    about = {
        "layers": args.layers or "all", "questions": args.questions,
        "max_tokens": args.max_tokens, "trials": args.trials,
        "machine": platform.processor() or platform.machine(),
        "cores": blas.usable_cores(), "skipped": SKIPPED,
        "versions": {p: version(p) for p in ("mlx", "torch", "transformers")},
    }  # fmt: skip
    spread = {
        name: {
            key: [min(v), statistics.median(v), max(v)] for key, v in figures.items()
        }
        for name, figures in report.items()
    }
    print(json.dumps(about | {"figures": spread}))


if __name__ == "__main__":
    main()
