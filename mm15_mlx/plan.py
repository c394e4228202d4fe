"""`mm15-mlx plan`: whether a model fits a machine, and how fast it would be.

What this file is: a prediction from the configuration alone, before anything is fetched
or made. What it is not: a measurement; that is bench.py, which prints the same numbers.
For Apple's chips it rests on the table of chips.py; for `cpu`, on a second's measuring
of single layers here.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import mlx.core as mx

from mm15_mlx import chips, costs
from mm15_mlx.calibrate import measured
from mm15_mlx.checkpoint import at_home, item_bytes, read_config, stored_tensors
from mm15_mlx.chips import Chip, Rates
from mm15_mlx.config import PRESETS, ModelConfig, UserError
from mm15_mlx.images import load_picture
from mm15_mlx.json_lines import fault
from mm15_mlx.load import bundled_models, find_model
from mm15_mlx.mm15 import MM15, views_together
from mm15_mlx.quantize import Quantisation, packed_ways
from mm15_mlx.tiling import Tiling
from mm15_mlx.tiling import plan as plan_tiling
from mm15_mlx.weights import quantize_like

SCREEN = (1170, 2532)  # a phone's screenshot, where no picture is named
# Of the text "(0, 1, 1)" before a view, about: the tokenizer is not asked.
_INDICATOR = 8
# Python, libraries, pixels and freed buffers: what a process takes beside MLX's peak,
# measured with nano-ui on Linux.
RUNTIME = 200_000_000
_HALF = 2  # bytes of a size's floats: float16 or bfloat16
GB = 1e9


@dataclass(frozen=True)
class Subject:
    """What is planned for: a lazy model, packed as it will be."""

    name: str
    config: ModelConfig
    model: MM15
    float_bytes: int  # of what is not packed, on a GPU; a CPU has float32


@dataclass(frozen=True)
class Question:
    """Views of the picture, its visual tokens, text tokens, and the answer's."""

    views: int
    visual: int
    text: int
    answer: int

    @property
    def prompt(self) -> int:
        return self.visual + self.text


@dataclass(frozen=True)
class Memory:
    """Bytes: weights by part, what is alive beside them at worst, and the program."""

    weights: Mapping[str, int]
    encoding: int
    prefilling: int
    answering: int
    runtime: int = RUNTIME

    @property
    def mlx(self) -> int:
        """What MLX reports as its peak."""
        beside = max(self.encoding, self.prefilling, self.answering)
        return sum(self.weights.values()) + beside

    @property
    def total(self) -> int:
        return self.mlx + self.runtime


@dataclass(frozen=True)
class Speed:
    """Seconds from the cut picture on, and tokens per second of the answer."""

    encode_s: float
    prefill_s: float
    first_token_s: float
    decode_tokens_per_s: float


def subject(name: str, ways: Mapping[str, Quantisation]) -> Subject:
    """A size of config.PRESETS, a bundled model or a folder; nothing is fetched.

    Raises UserError for other names, and where a packed folder is to be packed again in
    no fewer bits.
    """
    if name in PRESETS and name not in bundled_models():
        config = PRESETS[name]
        return Subject(name, config, costs.lazy_model(config, ways), _HALF)
    if name not in bundled_models() and fault(at_home(name)) != "is a folder":
        sizes = ", ".join(n for n in PRESETS if n not in bundled_models())
        raise UserError(
            f"--model is {name!r}; it must be a size ({sizes}), a bundled model "
            f"({', '.join(bundled_models())}) or a model folder"
        )
    folder = find_model(name)
    config = read_config(folder)
    tensors = stored_tensors(folder)
    stored = MM15(config)
    quantize_like(stored, tensors)
    held = packed_ways(stored)
    model = costs.lazy_model(config, ways, held)
    if ways and packed_ways(model) == held:
        raise UserError(f"{name} is quantised already; leave --q-bits and the like out")
    return Subject(
        name, config, model, item_bytes(tensors["decoder.norm.weight"].dtype)
    )


def question(
    config: ModelConfig, size: tuple[int, int] | None, text: int, answer: int
) -> Question:
    """About a picture of `size` (width, height), or about none.

    Raises UserError where the context is too short for it.
    """
    views = visual = 0
    if size:
        tiling: Tiling = plan_tiling(*size, config.tiling)
        views = len(tiling.indices)
        visual = len(tiling.packing(config.connector_config.pooled_grid))
        text += _INDICATOR * views * (config.tiling.indicator == "index")
    asked = Question(views, visual, text, answer)
    limit = config.text_config.max_position_embeddings
    if asked.prompt + answer > limit:
        raise UserError(
            f"the prompt takes about {asked.prompt} tokens and the answer {answer}; "
            f"the model's context is {limit}: use fewer views or tokens"
        )
    return asked


def memory(subject: Subject, asked: Question, float_bytes: int) -> Memory:
    """What answering takes, by part; floats have `float_bytes`."""
    config = subject.config
    held = costs.weights(config, subject.model, float_bytes)
    alive = costs.alive(config, asked.views, asked.prompt)
    end = costs.capacity(asked.prompt + asked.answer)
    text = config.text_config
    answering = end * costs.kv_bytes(config, 1) + text.vocab_size
    answering += asked.visual * text.hidden_size  # kept for the next question
    return Memory(
        held.nbytes,
        alive.encoding * float_bytes if asked.views else 0,
        alive.prefilling * float_bytes,
        round(answering) * float_bytes,
    )


def speed(subject: Subject, asked: Question, rates: Rates, float_bytes: int) -> Speed:
    """What a machine of these rates takes."""
    config = subject.config
    held = costs.weights(config, subject.model, float_bytes)
    encode = costs.encoder_flop(config) / rates.encode
    encode += costs.connector_flop(config) / rates.connect
    prefill = costs.prefill_flop(config, held.numbers, asked.prompt) / rates.prefill
    # All weights are read once, those of every expert too.
    prefill = max(prefill, held.nbytes["decoder"] / rates.step_bytes)
    seen = asked.prompt + asked.answer // 2
    step = costs.step_bytes(config, held.nbytes, seen, float_bytes) / rates.step_bytes
    step += config.text_config.num_hidden_layers * rates.layer_s
    views = asked.views * encode
    return Speed(views, prefill, views + prefill, 1 / step)


def rates_here(
    subject: Subject, ways: Mapping[str, Quantisation], asked: Question
) -> Rates:
    """This machine's, measured with the subject's own layers, experts as one."""
    config = costs.dense_like(subject.config)
    same = config is subject.config
    model = subject.model if same else costs.lazy_model(config, ways)
    return measured(config, model, asked.prompt + asked.answer // 2, asked.views)


def own_chip() -> tuple[str, float | None]:
    """The machine's chip and memory (GB) as the flags name them; `cpu` without GPU."""
    if not mx.metal.is_available():
        return "cpu", None
    device = mx.device_info()
    name = chips.named(str(device["device_name"]))
    return name or "cpu", round(int(device["memory_size"]) / 2**30)


def run(
    name: str,
    ways: Mapping[str, Quantisation],
    chip_name: str | None,
    memory_gb: float | None,
    image: str | None,
    views: int | None,
    text: int,
    answer: int,
    json_output: bool,
) -> None:
    """Print the plan, as text or as one JSON document."""
    if chip_name is None:
        chip_name, own = own_chip()
        memory_gb = own if memory_gb is None else memory_gb
    chip = None if chip_name == "cpu" else chips.find(chip_name, memory_gb)
    planned = subject(name, ways)
    size = _size(planned.config, image, views)
    asked = question(planned.config, size, text, answer)
    on_cpu = chip is None and mx.default_device() == mx.cpu
    float_bytes = 4 if on_cpu else planned.float_bytes
    rates = chip.rates if chip else rates_here(planned, ways, asked)
    facts = _facts(planned, asked, chip, memory_gb, rates, float_bytes)
    print(json.dumps(facts, indent=2) if json_output else _text(facts))


def _size(
    config: ModelConfig, image: str | None, views: int | None
) -> tuple[int, int] | None:
    if image:
        return load_picture(image).size
    if views is None:
        return SCREEN
    return costs.picture_of(config, views) if views else None


def _limit(chip: Chip | None, memory_gb: float | None) -> tuple[float, float]:
    """GB of the machine, and the share of them that the model may take."""
    if chip:
        return memory_gb or chip.memory[-1], chips.GPU_SHARE
    own = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GB
    return memory_gb or round(own, 1), 1.0


def _facts(
    planned: Subject,
    asked: Question,
    chip: Chip | None,
    memory_gb: float | None,
    rates: Rates,
    float_bytes: int,
) -> dict[str, Any]:
    needs = memory(planned, asked, float_bytes)
    whole, share = _limit(chip, memory_gb)
    held = costs.weights(planned.config, planned.model, float_bytes)
    kv = costs.kv_bytes(planned.config, float_bytes)
    room = costs.capacity(asked.prompt + asked.answer)
    return {
        "model": planned.name,
        "parameters": dict(held.numbers),
        "bits_per_weight": {
            part: round(8 * held.nbytes[part] / n, 2)
            for part, n in held.numbers.items()
            if n
        },
        "chip": chip.name if chip else "cpu",
        "bandwidth_gb_s": chip.bandwidth if chip else None,
        "tflops": round(chip.tflops, 1) if chip else None,
        "question": {
            **asdict(asked),
            "prompt": asked.prompt,
            "views_together": min(asked.views, views_together(planned.config)),
        },
        "memory": {
            "weights": dict(held.nbytes),
            "encoding": needs.encoding,
            "prefilling": needs.prefilling,
            "answering": needs.answering,
            "kv_cache": round(kv * room),
            "kv_cache_tokens": room,
            "kv_cache_per_token": round(kv),
            "mlx_peak": needs.mlx,
            "runtime": needs.runtime,
            "total": needs.total,
            "machine": round(whole * GB),
            "share": share,
            "limit": round(whole * share * GB),
        },
        "fits": needs.total <= whole * share * GB,
        "rates": asdict(rates),
        "speed": asdict(speed(planned, asked, rates, float_bytes)),
    }


def _text(facts: dict[str, Any]) -> str:
    asked, m, s = facts["question"], facts["memory"], facts["speed"]
    bits, numbers = facts["bits_per_weight"], facts["parameters"]
    total = sum(numbers.values())
    chip = f"{facts['chip']}: measured now, one layer of each kind"
    if facts["tflops"]:
        chip = (
            f"{facts['chip']}: {facts['bandwidth_gb_s']:g} GB/s, "
            f"{facts['tflops']} TFLOPS; a prediction, no measurement"
        )
    lines = [
        f"model       {facts['model']}, {total / 1e6:,.1f} M parameters",
        f"chip        {chip}",
        f"question    {asked['views']} views, {asked['visual']} visual tokens and "
        f"{asked['text']} of text; an answer of {asked['answer']}",
    ]
    rows = [
        (part, nbytes, f"{numbers[part] / 1e6:,.1f} M of {bits[part]:g} bits")
        for part, nbytes in m["weights"].items()
        if nbytes
    ]
    cache = (
        f"KV cache of {m['kv_cache_tokens']} tokens: {m['kv_cache'] / GB:.3f} GB, "
        f"{m['kv_cache_per_token'] / 1e3:g} kB each"
    )
    phases = ("encoding", "prefilling", "answering")
    worst = max(phases, key=lambda p: m[p])
    together = asked["views_together"]
    notes = {"encoding": f"activations of {together} views at once", "answering": cache}
    notes["prefilling"] = "the prompt's activations and KV cache"
    for phase in phases:
        counted = "" if phase == worst else " (not at once)"
        rows.append((phase, m[phase], notes[phase] + counted))
    rows.append(("program", m["runtime"], "Python and libraries, allowed for"))
    lines += [f"  {n:<10}{b / GB:>8.3f} GB  {note}" for n, b, note in rows]
    verdict = "fits" if facts["fits"] else "DOES NOT FIT"
    lines += [
        f"  {'sum':<10}{m['total'] / GB:>8.3f} GB  of {m['limit'] / GB:.1f} GB "
        f"({m['share']:g} of {m['machine'] / GB:g}): {verdict}",
        f"encode      {s['encode_s']:.3f} s",
        f"prefill     {s['prefill_s']:.3f} s",
        f"first token {s['first_token_s']:.3f} s, after the picture is cut",
        f"decode      {s['decode_tokens_per_s']:.1f} tokens/s",
    ]
    return "\n".join(lines)
