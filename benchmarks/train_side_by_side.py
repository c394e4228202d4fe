"""This project's LoRA training and mlx-vlm's, on the same random weights and row.

A model of SmolVLM-256M's shape (fewer layers: `--layers`) learns one question about one
picture again and again: rank 8 on every linear layer of the decoder, AdamW, batch 1.
Every run is a process of its own; MLX has the same fast BLAS in both. Seconds of a step
are the median of all but the first, which for ours encodes the picture: the encoder is
frozen, so its visual tokens are kept. A third process gives the reference: PyTorch's
loss of the same tokens before any step, of the answer alone (what both are asked to
train on), with the line break that the chat template puts after it, of all text, and
what the second of these is without a causal mask, which is mlx-vlm's: it hands its
padding mask over in the place of the causal one. A markdown table on stdout, then one
JSON line.

Run: python benchmarks/train_side_by_side.py --peer-python ../peers/bin/python
     (mlx-vlm in an environment of its own: see side_by_side.py)
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peers import HIDE
from side_by_side import ROOT, environment

QUESTION = "Which rows can be switched?"
ANSWER = "Wi-Fi, Bluetooth and Airplane Mode, each of them by its switch on the right."
RANK, SCALE, RATE = 8, 2.0, 1e-4
TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}:"
    "{% if m.content[0].type == 'text' %} {% endif %}{% for part in m.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)

# Each ends by printing its losses and the seconds of its steps.
BEFORE = """
import json, resource, sys, time
folder, data, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
blas, target = sys.argv[4], sys.argv[5]
RANK, SCALE, RATE = {rank}, {scale}, {rate}
"""
AFTER = """
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
peak = peak if sys.platform == "darwin" else peak * 1024
print(json.dumps({"loss": losses, "step_s": seconds, "peak_rss_bytes": peak}))
"""
OURS = """
from pathlib import Path
from mm15_mlx import metrics
from mm15_mlx.train import run
run({
    "model": folder, "data": data, "iters": steps, "batch_size": 1,
    "learning_rate": RATE, "adapter_path": target, "steps_per_report": 1,
    "optimizer_config": {"adamw": {"weight_decay": 0.0}},
    "lora_parameters": {"rank": RANK, "scale": SCALE, "dropout": 0.0},
})
rows = map(json.loads, (Path(target) / metrics.METRICS).read_text().splitlines())
rows = [r for r in rows if "loss" in r]
losses, seconds = [r["loss"] for r in rows], [r["seconds_per_step"] for r in rows]
"""
FAST = """
import importlib.util
spec = importlib.util.spec_from_file_location("blas", blas)
module = importlib.util.module_from_spec(spec)
sys.modules["blas"] = module
spec.loader.exec_module(module)
print(module.preload(), file=sys.stderr)
"""
MLX_VLM = """
import mlx.optimizers as optim
from mlx_vlm import load
from mlx_vlm.trainer import Trainer, VLMTrainingArgs, prepare_model_for_training
from mlx_vlm.trainer import TrainingCallback
rows = [json.loads(line) for line in open(data + "/train.jsonl")]
model, processor = load(folder)
model = prepare_model_for_training(
    model, train_type="lora", lora_rank=RANK, lora_alpha=RANK * SCALE
)
losses, stamps = [], [time.perf_counter()]
class Report(TrainingCallback):
    def on_train_loss_report(self, info):
        losses.append(info["train_loss"])
        stamps.append(time.perf_counter())
Trainer(
    model, VLMTrainingArgs(
        iters=steps, steps_per_report=1, steps_per_eval=None, steps_per_save=10**6,
        train_on_completions=True, adapter_file=target + "/adapters.safetensors",
    ),
    train_dataset=rows * steps, processing_class=processor,
    optimizer=optim.AdamW(learning_rate=RATE, weight_decay=0.0),
    training_callback=Report(),
).train()
seconds = [b - a for a, b in zip(stamps, stamps[1:])]
"""
REFERENCE = """
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
processor = AutoProcessor.from_pretrained(folder)
model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
row = json.loads(open(data + "/train.jsonl").readline())
asked, answered = (m["content"] for m in row["messages"])
before = f"<|im_start|>User:<image>{asked}<end_of_utterance>\\nAssistant:"
def ids(text):
    made = processor(text=text, images=[Image.open(row["images"][0])],
                     return_tensors="pt")
    return made
given = ids(before + " " + answered + "<end_of_utterance>\\n")
start = ids(before)["input_ids"].shape[1]
with torch.inference_mode():
    logits = model(**given).logits[0, :-1].float()
target = given["input_ids"][0, 1:]
each = torch.nn.functional.cross_entropy(logits, target, reduction="none")
text = target != model.config.image_token_id
answer = each[start - 1:]  # its last token is the line break after its end
losses = [answer[:-1].mean().item(), answer.mean().item(), each[text].mean().item()]
# A mask of four dimensions replaces the causal one: nothing is hidden.
inputs = dict(given, input_ids=given["input_ids"][:, :-1])
length = inputs["input_ids"].shape[1]
inputs["attention_mask"] = torch.zeros(1, 1, length, length)
with torch.inference_mode():
    logits = model(**inputs).logits[0].float()
blind = torch.nn.functional.cross_entropy(logits, target, reduction="none")
losses.append(blind[start - 1:].mean().item())
seconds = [0.0]
"""

# mlx-vlm's model as its trainer calls it, and with a causal mask: how far another last
# token moves what earlier ones predict, and the loss of the answer and its line break.
PROBE = """
import numpy as np
import mlx.core as mx
import mlx.nn as nn
from PIL import Image
from mlx_vlm import load
model, processor = load(folder)
row = json.loads(open(data + "/train.jsonl").readline())
asked, answered = (m["content"] for m in row["messages"])
before = f"<|im_start|>User:<image>{asked}<end_of_utterance>\\nAssistant:"
def ids(text):
    return processor(text=text, images=[Image.open(row["images"][0])],
                     return_tensors="np")
given = ids(before + " " + answered + "<end_of_utterance>\\n")
start = ids(before)["input_ids"].shape[1]
whole = mx.array(given["input_ids"])
inputs, target = whole[:, :-1], whole[0, 1:]
pixels = mx.array(given["pixel_values"])
more = {k: mx.array(given[k]) for k in ("pixel_attention_mask",) if k in given}
text = model.language_model
known = model.get_input_embeddings(inputs, pixels, **more).inputs_embeds
mx.eval(known)
last = text.embed_tokens(inputs[:, -1:] - 1)
other = mx.concatenate([known[:, :-1], last.astype(known.dtype)], axis=1)
losses = {}
for name, mask in (("its own", mx.ones(inputs.shape, mx.int32)), ("causal", None)):
    a, b = (
        text(inputs=inputs, mask=mask, cache=None, inputs_embeds=x).logits[0]
        .astype(mx.float32) for x in (known, other)
    )
    each = nn.losses.cross_entropy(a, target)
    losses[name] = {"loss": each[start - 1:].mean().item(),
                    "moved": mx.abs(a - b)[:-1].max().item()}
seconds = [0.0]
"""


def make(folder: Path, data: Path, image: str, layers: int) -> None:
    """The model with a chat template, and the row."""
    script = ROOT / "benchmarks" / "side_by_side.py"
    command = [sys.executable, str(script), "--make", str(folder)]
    subprocess.run([*command, "--layers", str(layers)], check=True)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": ANSWER},
    ]
    row = {"messages": messages, "images": [str(Path(image).resolve())]}
    data.mkdir()
    (data / "train.jsonl").write_text(json.dumps(row) + "\n")


def process(python: str, code: str, arguments: list[str]) -> dict[str, Any]:
    head = BEFORE.format(rank=RANK, scale=SCALE, rate=RATE)
    done = subprocess.run(
        [python, "-c", head + code + AFTER, *arguments],
        capture_output=True, text=True, env=environment(),
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--image", default=str(ROOT / "examples" / "settings.png"))
    parser.add_argument("--layers", type=int, default=6, help="In each tower.")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--peer-python", help="Of the environment with mlx-vlm.")
    args = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    skipped = {} if args.peer_python else {"mlx-vlm": "no --peer-python"}
    with tempfile.TemporaryDirectory() as scratch:
        source, ours, data = (Path(scratch) / n for n in ("source", "ours", "data"))
        make(source, data, args.image, args.layers)
        convert = ["convert", "--hf-path", str(source), "--mlx-path", str(ours)]
        command = [sys.executable, "-m", "mm15_mlx", *convert]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        ways = {"mm15-mlx": (sys.executable, OURS, ours)}
        if args.peer_python:
            ways["mlx-vlm"] = (args.peer_python, FAST + MLX_VLM, source)
        library = str(ROOT / "mm15_mlx" / "blas.py")
        for name, (python, code, folder) in ways.items():
            for k in range(args.trials):
                target = Path(scratch) / f"{name}-{k}"
                given = [folder, data, args.steps, library, target]
                try:
                    run = process(python, code, list(map(str, given)))
                except RuntimeError as e:
                    skipped[name] = str(e).replace("|", "/")
                    break
                found.setdefault(name, []).append(run)
                print(name, run, file=sys.stderr, flush=True)
        given = list(map(str, [source, data, 0, "", ""]))
        probe: Any = None
        if args.peer_python:
            try:
                probe = process(
                    args.peer_python, FAST + PROBE, [*given[:3], library, ""]
                )["loss"]
            except RuntimeError as e:
                skipped["the probe of mlx-vlm's mask"] = str(e).replace("|", "/")
        losses = process(sys.executable, HIDE + REFERENCE, given)["loss"]
        kinds = (
            "the answer alone", "the answer and its line break", "all text",
            "the answer and its line break, every token seeing all others",
        )  # fmt: skip
        reference = dict(zip(kinds, losses, strict=True))

    rows = {
        name: {
            "step_s": statistics.median(s for run in runs for s in run["step_s"][1:]),
            "first_step_s": statistics.median(run["step_s"][0] for run in runs),
            "peak_rss_mb": statistics.median(r["peak_rss_bytes"] / 1e6 for r in runs),
            "first_loss": runs[0]["loss"][0],
            "last_loss": runs[0]["loss"][-1],
        }
        for name, runs in found.items()
    }
    print("| | a step, s | the first, s | peak RSS, MB | first loss | last loss |")
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        cells = (f"{value:.5g}" for value in row.values())
        print(f"| {name} | {' | '.join(cells)} |")
    for kind, loss in reference.items():
        print(f"| PyTorch, {kind} | | | | {loss:.5g} | |")
    for mask, seen in (probe or {}).items():
        print(
            f"| mlx-vlm, {mask} mask: another last token moves earlier logits by "
            f"{seen['moved']:.2g} | | | | {seen['loss']:.5g} | |"
        )
    for name, why in skipped.items():
        print(f"| {name} | skipped: {why} | | | | |")
    about = {
        "layers": args.layers, "steps": args.steps, "trials": args.trials,
        "machine": platform.processor() or platform.machine(),
        "versions": {p: version(p) for p in ("mlx", "torch", "transformers")},
        "reference": reference, "probe": probe, "skipped": skipped,
    }  # fmt: skip
    print(json.dumps(about | {"figures": rows}))


if __name__ == "__main__":
    main()
