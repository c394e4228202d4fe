"""What `side_by_side.py` compares: models of public shapes, and each program's code.

What this file is: a random model of a public shape in transformers' layout with a
tokenizer of its own (`make`), and the lines of Python that each program runs in a
process of its own (llama.cpp's in llama_peer.py). What it is not: the trials, or what
is printed of them.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTIONS = (
    "Where is the Wi-Fi switch?", "Where is the back button?", "What is on this page?",
    "Read the title.", "Where is Bluetooth?", "Which row is the last?",
    "Is it dark?", "How many switches are there?", "Where is the battery?",
    "What can be tapped?",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A public model's towers, its special tokens by role, and how it is asked."""

    text: dict[str, Any]
    vision: dict[str, Any]
    bos: str
    eos: str
    pad: str
    more: tuple[str, ...]  # further special tokens
    chat: str
    model: Callable[[dict[str, Any], dict[str, Any], int, int], Any]
    processor: Callable[[Any], Any]
    # Beginnings of names: as transformers 5 saves them, and as they are published.
    published: tuple[str, str] = ("", "")


def idefics3(text: dict[str, Any], vision: dict[str, Any], image: int, pad: int) -> Any:
    import transformers

    return transformers.Idefics3ForConditionalGeneration(
        transformers.Idefics3Config(
            vision_config=vision, text_config=text, scale_factor=4,
            image_token_id=image, pad_token_id=pad, tie_word_embeddings=False,
        )
    )  # fmt: skip


def idefics3_processor(tokenizer: Any) -> Any:
    import transformers
    from transformers.models.idefics3.image_processing_pil_idefics3 import (
        Idefics3ImageProcessorPil,
    )

    pictures = Idefics3ImageProcessorPil(
        size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}
    )
    return transformers.Idefics3Processor(pictures, tokenizer, image_seq_len=64)


def llava_next(
    text: dict[str, Any], vision: dict[str, Any], image: int, pad: int
) -> Any:
    import transformers

    return transformers.LlavaNextForConditionalGeneration(
        transformers.LlavaNextConfig(
            vision_config=vision, text_config=text, image_token_index=image,
            pad_token_id=pad, tie_word_embeddings=False,
        )
    )  # fmt: skip


def llava_next_processor(tokenizer: Any) -> Any:
    import transformers
    from transformers.models.llava_next.image_processing_pil_llava_next import (
        LlavaNextImageProcessorPil,
    )

    grids = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    pictures = LlavaNextImageProcessorPil(
        size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336},
        image_grid_pinpoints=grids,
    )  # fmt: skip
    return transformers.LlavaNextProcessor(
        pictures, tokenizer, patch_size=14, vision_feature_select_strategy="default",
        image_token="<image>", num_additional_image_tokens=1,
    )  # fmt: skip


# From their published configurations: SmolVLM-256M-Instruct, llava-v1.6-mistral-7b-hf.
SHAPES = {
    "smolvlm-256m": Shape(
        text={
            "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "head_dim": 64, "vocab_size": 49280,
            "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
            "rope_theta": 100_000.0,
        },
        vision={
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
        },
        bos="<|im_start|>", eos="<end_of_utterance>", pad="<|im_end|>",
        more=(
            "<|endoftext|>", "<fake_token_around_image>", "<global-img>",
            *(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)),
        ),
        chat="<|im_start|>User:<image>{}<end_of_utterance>\nAssistant:",
        model=idefics3, processor=idefics3_processor,
    ),
    "llava-next-7b": Shape(
        text={
            "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336,
            "num_hidden_layers": 32, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 32064,
            "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
            "rope_theta": 1_000_000.0, "sliding_window": None,
        },
        vision={
            "model_type": "clip_vision_model", "hidden_size": 1024,
            "intermediate_size": 4096, "num_hidden_layers": 24,
            "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
            "projection_dim": 768,
        },
        bos="<s>", eos="</s>", pad="<pad>", more=(),
        chat="<s>[INST] <image>\n{} [/INST]",
        model=llava_next, processor=llava_next_processor,
        published=("vision_tower.", "vision_tower.vision_model."),
    ),
}  # fmt: skip


def drawn_words(count: int) -> list[str]:
    """What the tokenizer learns, and what `--words` begins a question with."""
    rng = random.Random(0)
    return [
        "".join(rng.choices("etaoinshrdlu", k=rng.randint(3, 9))) for _ in range(count)
    ]


def rename(path: Path, old: str, new: str) -> None:
    """Give the tensors of a file whose names begin with `old` their published names."""
    from safetensors.numpy import load_file, save_file

    if old == new:
        return
    named = {
        new + name.removeprefix(old) if name.startswith(old) else name: tensor
        for name, tensor in load_file(path).items()
    }
    save_file(named, path, metadata={"format": "pt"})


def make(folder: Path, name: str, layers: int | None) -> None:
    """Random weights and a tokenizer in transformers' layout. Needs PyTorch."""
    exec(HIDE, {})
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    shape = SHAPES[name]
    special = [shape.bos, shape.eos, shape.pad, "<image>", *shape.more]
    words = drawn_words(120_000)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.text["vocab_size"] - len(special), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([*words, *QUESTIONS * 50], trainer)
    tokenizer.add_special_tokens(special)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=shape.bos, eos_token=shape.eos,
        pad_token=shape.pad,
    )  # fmt: skip
    ends = {
        f"{role}_token_id": tokenizer.token_to_id(getattr(shape, role))
        for role in ("bos", "eos", "pad")
    }
    text, vision = shape.text | ends, dict(shape.vision)
    if layers:
        text["num_hidden_layers"] = min(layers, text["num_hidden_layers"])
        vision["num_hidden_layers"] = min(layers, vision["num_hidden_layers"])
    torch.manual_seed(0)
    image = tokenizer.token_to_id("<image>")
    model = shape.model(text, vision, image, ends["pad_token_id"])
    model.save_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        rename(path, *shape.published)
    shape.processor(fast).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")


# What every trial ends with; `answer(question, tokens)` yields once for each token.
MEASURE = """
import json, resource, sys, time
from importlib.metadata import version
times = {}
def asked(question):
    begin, stamps = time.perf_counter(), []
    for response in answer(question, tokens):
        times.setdefault("prompt_tokens", response.prompt_tokens)
        if not stamps and "cold_start_s" not in times:
            times["cold_start_s"] = time.time() - started
        stamps.append(time.perf_counter())
    return begin, stamps
first, *others = json.loads(questions)
begin, stamps = asked(first)
times["first_token_s"] = stamps[0] - begin
times["decode_tokens_per_s"] = (len(stamps) - 1) / (stamps[-1] - stamps[0])
if others:
    second, *more = others
    begin, stamps = asked(second)
    times["second_question_s"] = stamps[0] - begin
    if more:
        begin = time.perf_counter()
        together(more) if together else [asked(q) for q in more]
        times["more_questions_s"] = time.perf_counter() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
times["peak_rss_bytes"] = peak if sys.platform == "darwin" else peak * 1024
times["cpu_share"] = time.process_time() / (time.time() - started)
times["versions"] = {p: version(p) for p in packages}
print(json.dumps(times))
"""
BEFORE = """
import sys
folder, image, questions, CHAT = sys.argv[1:5]
tokens, started = int(sys.argv[5]), float(sys.argv[6])
pictures, together = [image] if image else [], None
"""
OURS = """
packages = "mm15-mlx", "mlx"
from mm15_mlx import load, stream_generate
from mm15_mlx.batch import Question, answer_together
from mm15_mlx.decoding import Options
model, processor = load(folder)
processor.encoder.stop_ids = frozenset()
def answer(question, tokens):
    yield from stream_generate(
        model, processor, question, images=pictures, max_tokens=tokens
    )
def together(asked):
    asked = [Question(q, tokens) for q in asked]
    answer_together(model, processor, asked, pictures, Options())
"""
# As ours does it by itself; as it is installed on Linux, mlx-vlm has a slow one.
FAST_BLAS = """
import importlib.util
spec = importlib.util.spec_from_file_location("blas", sys.argv[7])
blas = importlib.util.module_from_spec(spec)
sys.modules["blas"] = blas
spec.loader.exec_module(blas)
print(blas.preload(), file=sys.stderr)
"""
MLX_VLM = """
packages = "mlx-vlm", "mlx"
from mlx_vlm import load, stream_generate
from mlx_vlm.generate.common import PromptCacheState
from mlx_vlm.vision_cache import VisionFeatureCache
model, processor = load(folder)
caches = {}
def answer(question, tokens):
    yield from stream_generate(
        model, processor, CHAT.format(question), image=image or None,
        max_tokens=tokens, temperature=0.0, **caches,
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
packages = "transformers", "torch"
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
        text=CHAT.format(question), return_tensors="pt",
        images=[Image.open(image)] if image else None,
    )
    times.setdefault("prompt_tokens", inputs["input_ids"].shape[1])
    if image:
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
    with torch.inference_mode():
        model.generate(
            **inputs, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False,
            streamer=stamps,
        )
    return begin, stamps.at
"""
