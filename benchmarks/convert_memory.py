"""Peak memory and speed of streaming a checkpoint into a model folder, against `cp`.

A synthetic checkpoint of two shards (random bfloat16, one tensor a layer) goes through
rules that rename and transpose, as they are and quantised. `verb` is all of `mm15-mlx
convert`, with digest, reload and proof, on a LLaVA of LLaVA-1.5-7B's shapes, bfloat16,
with as many layers as make the size, and pictures of 112 pixels. Each way is a process
of its own, so that its peak is its own; files that are only mapped count in it too.

Run: python benchmarks/convert_memory.py --gb 2
"""

import argparse
import json
import math
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

from mm15_mlx import __version__
from mm15_mlx.config import PRESETS
from mm15_mlx.convert.rules import Rule, plan_rules
from mm15_mlx.convert.run import convert as verb
from mm15_mlx.convert.sources import open_source
from mm15_mlx.convert.stream import Quantisation
from mm15_mlx.load import find_model
from mm15_mlx.tokenizer import TOKENIZER_FILE
from mm15_mlx.weights import new_folder, write_weights

SIDE = 4096  # 32 MB a tensor, like a 7B decoder's attention
WAYS = ("start", "cp", "keep", "quantise", "turn", "verb")
TOWER = "model.vision_tower.vision_tower.vision_model."
WIDTH, WIDE, WORDS = 4096, 11008, 32000  # LLaVA-1.5-7B's decoder
SEEN, BLOCKS, PATCHES = 1024, 24, 64  # CLIP ViT-L/14, at 112 pixels
LLAVA = {
    "model_type": "llava_llama", "hidden_size": WIDTH, "intermediate_size": WIDE,
    "num_attention_heads": 32, "vocab_size": WORDS, "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5, "mm_hidden_size": SEEN, "mm_projector_type": "mlp2x_gelu",
    "mm_vision_tower": "openai/clip-vit-large-patch14-112",
    "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch",
    "image_aspect_ratio": "pad",
}  # fmt: skip


def make(folder: Path, gigabytes: float) -> None:
    count = round(gigabytes * 1e9 / (2 * SIDE * SIDE))
    noise = mx.random.normal((SIDE, SIDE)).astype(mx.bfloat16)
    for shard in range(2):
        names = [f"layers.{i}.weight" for i in range(shard, count, 2)]
        tensors = {n: mx.roll(noise, i, axis=0) for i, n in enumerate(names)}
        path = folder / f"model-{shard + 1:05}-of-00002.safetensors"
        mx.save_safetensors(str(path), tensors)


def llava_layer(i: int) -> dict[str, tuple[int, ...]]:
    name = f"model.layers.{i}."
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}self_attn.{p}_proj.weight": (WIDTH, WIDTH) for p in "qkvo"
    }
    shapes |= {f"{name}mlp.{p}_proj.weight": (WIDE, WIDTH) for p in ("gate", "up")}
    shapes[f"{name}mlp.down_proj.weight"] = (WIDTH, WIDE)
    norms = ("input_layernorm", "post_attention_layernorm")
    return shapes | {f"{name}{norm}.weight": (WIDTH,) for norm in norms}


def llava_rest() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (WORDS, WIDTH), "model.norm.weight": (WIDTH,),
        "lm_head.weight": (WORDS, WIDTH),
        f"{TOWER}embeddings.class_embedding": (SEEN,),
        f"{TOWER}embeddings.patch_embedding.weight": (SEEN, 3, 14, 14),
        f"{TOWER}embeddings.position_embedding.weight": (PATCHES + 1, SEEN),
    }  # fmt: skip
    linears = {
        "model.mm_projector.0": (WIDTH, SEEN), "model.mm_projector.2": (WIDTH, WIDTH)
    }  # fmt: skip
    norms = [f"{TOWER}pre_layrnorm", f"{TOWER}post_layernorm"]
    for i in range(BLOCKS):
        block = f"{TOWER}encoder.layers.{i}."
        linears |= {f"{block}self_attn.{p}_proj": (SEEN, SEEN) for p in "qkv"}
        linears[f"{block}self_attn.out_proj"] = (SEEN, SEEN)
        linears |= {
            f"{block}mlp.fc1": (4 * SEEN, SEEN),
            f"{block}mlp.fc2": (SEEN, 4 * SEEN),
        }
        norms += [f"{block}layer_norm{k}" for k in (1, 2)]
    for name, shape in linears.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.weight": (SEEN,), f"{name}.bias": (SEEN,)}
    return shapes


def make_llava(folder: Path, gigabytes: float) -> None:
    """A shard of the tower and the tables, and one of every four layers."""

    def size(shapes: dict[str, tuple[int, ...]]) -> float:
        return sum(2e-9 * math.prod(shape) for shape in shapes.values())

    layers = max(round((gigabytes - size(llava_rest())) / size(llava_layer(0))), 1)
    shards = [llava_rest()]
    for first in range(0, layers, 4):
        some = range(first, min(first + 4, layers))
        shards.append({n: s for i in some for n, s in llava_layer(i).items()})
    for i, shapes in enumerate(shards, 1):
        tensors = {}
        for name, shape in shapes.items():
            rows = 0.02 * mx.random.normal((min(shape[0], 256), *shape[1:]))
            rows = mx.tile(rows, (-(-shape[0] // 256), *[1] * (len(shape) - 1)))
            tensors[name] = rows[: shape[0]].astype(mx.bfloat16)
        name = f"model-{i:05}-of-{len(shards):05}.safetensors"
        mx.save_safetensors(str(folder / name), tensors)
        mx.clear_cache()
    text = json.dumps(LLAVA | {"num_hidden_layers": layers})
    (folder / "config.json").write_text(text)
    words = (find_model("nano-ui") / TOKENIZER_FILE).read_bytes()
    (folder / TOKENIZER_FILE).write_bytes(words)


def timed_verb(source: Path, out: Path) -> dict[str, float]:
    """CPU seconds until the folder was written, its source hashed; and of the proof.

    Not of the clock: on a machine that does other work too, those tell of that work.
    """
    begin = time.process_time()
    at: dict[str, float] = {}

    def say(line: str) -> None:
        print(line, file=sys.stderr)
        at.setdefault(line.split()[0], time.process_time() - begin)

    verb(source, out, name="a/llava", say=say)
    return {"written": at["encoder"], "proof": at["proof"] - at["decoder"]}


def convert(source: Path, out: Path, way: str) -> None:
    """What stream.write_model does, for tensors that are no MM15."""
    checkpoint = open_source(source)
    like = checkpoint.placeholders()
    turned = Rule(r".*", r"\g<0>", lambda x: x.T)
    rules = [Rule(r".*", r"\g<0>") if way == "keep" else turned]
    plan = plan_rules(like, rules, {name: (SIDE, SIDE) for name in like})
    quantise = Quantisation()

    def parts(name: str, array: mx.array) -> list[tuple[str, mx.array]]:
        if way != "quantise":
            return [(name, array)]
        made = quantise(array)
        return [(f"{name}.{i}", part) for i, part in enumerate(made)]

    planned = dict(p for item in plan.parameters.items() for p in parts(*item))
    made = (p for item in plan.run(checkpoint.read) for p in parts(*item))
    with new_folder(out, PRESETS["nano-ui"]) as partial:
        write_weights(partial, planned, made)


def run(
    way: str, source: Path, out: Path, gigabytes: float
) -> tuple[float, int, dict[str, float]]:
    """Seconds, peak bytes and parts of one way, in a process of its own."""
    command = [sys.executable, __file__, "--one", way, source, out]
    done = subprocess.run(
        [*command, "--gb", str(gigabytes)], check=True, stdout=subprocess.PIPE
    )
    seconds, peak, parts = json.loads(done.stdout)
    return seconds, peak, parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="where there is room for 3 copies")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        way, source, out = args.one
        begin = time.perf_counter()
        parts: dict[str, float] = {}
        if way == "make":
            make(Path(source), args.gb)
        elif way == "make-llava":
            make_llava(Path(source), args.gb)
        elif way == "verb":
            parts = timed_verb(Path(source), Path(out))
        elif way != "start":
            convert(Path(source), Path(out), way)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peak *= 1 if sys.platform == "darwin" else 1024
        # Parsed by `run`.
        print(json.dumps([time.perf_counter() - begin, peak, parts]))
        return
    report = {"machine": platform.machine(), "mlx": version("mlx"), "gb": args.gb}
    report["mm15-mlx"] = __version__
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        source, out = Path(place) / "source", Path(place) / "out"
        source.mkdir()
        # Elsewhere, because a process inherits the peak of the one that starts it.
        run("make", source, out, args.gb)
        for way in args.ways:
            if way == "verb":  # never two sources on the disk
                subprocess.run(["rm", "-rf", str(source)], check=True)
                source.mkdir()
                run("make-llava", source, out, args.gb)
                subprocess.run(["sync", "-f", str(source)], check=True)
            parts: dict[str, float] = {}
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            if way == "cp":
                begin = time.perf_counter()
                subprocess.run(["cp", "-r", str(source), str(out)], check=True)
                subprocess.run(["sync", "-f", str(out)], check=True)
                seconds, peak = time.perf_counter() - begin, 0
            else:
                seconds, peak, parts = run(way, source, out, args.gb)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            report[way] = {
                "seconds": round(seconds, 2),
                "cpu_seconds": round(cpu, 2),
                "peak_mb": round(peak / 1e6),
            } | {f"{part}_cpu": round(s, 2) for part, s in parts.items()}
            took = f"{seconds:7.2f} s  CPU {cpu:6.2f} s"
            print(f"{way:9} {took}  peak {peak / 1e6:5.0f} MB", flush=True)
            for part, s in parts.items():
                print(f"  {part:7} CPU {s:7.2f} s", flush=True)
            subprocess.run(["rm", "-rf", str(out)], check=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
