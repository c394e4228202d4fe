"""Adapters as PEFT and mlx-lm name them: read as they are, and written for both.

What this file is: names, shapes and scales of three layouts. PEFT's is
`adapter_model.safetensors` with `lora_A` (R, in) and `lora_B` (out, R) under the names
of transformers; mlx-lm's is ours, but that its model is the decoder alone. What it is
not: our own folders (lora.py). Whatever cannot be applied whole is refused by name.

R rank.
"""

import json
import re
from collections.abc import Mapping
from math import sqrt
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from mm15_mlx import __version__
from mm15_mlx.checkpoint import FLOATS, WeightsError, listed, read_header
from mm15_mlx.mm15 import MM15

PEFT_WEIGHTS = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
_OURS_TO_PEFT = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight",
                 "m": "lora_magnitude_vector"}  # fmt: skip
_PEFT_LEAF = re.compile(
    r"(.+)\.(lora_A|lora_B|lora_magnitude_vector)(?:\.default)?(?:\.weight)?"
)
# transformers' names of the decoder: alone, and inside models with pictures.
_LAYER = re.compile(
    r"(?:model\.)?(?:(?:language_model|text_model)\.)?(?:model\.)?(layers\.\d+\..+)"
)
_HEAD = re.compile(r"(?:(?:model\.)?language_model\.)?(lm_head)")
_CONNECTOR = re.compile(r"(?:model\.)?connector\.(.+)")
# Settings whose adapters mean something else than B · A beside a layer.
_OFF = (
    "fan_in_fan_out", "layer_replication", "lora_bias", "target_parameters",
    "trainable_token_indices", "megatron_config", "alora_invocation_tokens",
    "use_qalora", "use_bdlora", "arrow_config", "velora_config", "monteclora_config",
)  # fmt: skip
# These change the base's own weights, which the adapters are then relative to.
_OTHER_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def is_peft(folder: Path) -> bool:
    return (folder / PEFT_WEIGHTS).is_file()


def read_peft_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json` of a PEFT folder; raises WeightsError for what is no LoRA
    or DoRA that these layers can be."""
    path = folder / PEFT_CONFIG
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        kind, r, alpha = data["peft_type"], data["r"], data["lora_alpha"]
        patterns = {**(data.get("rank_pattern") or {}), "r": r}
        alphas = {**(data.get("alpha_pattern") or {}), "lora_alpha": alpha}
        for key in [*patterns, *alphas]:
            re.compile(key)
    except OSError as e:
        raise WeightsError(
            f"{folder} has {PEFT_WEIGHTS} but no readable {PEFT_CONFIG}: {e.strerror}; "
            "copy both files of the PEFT folder"
        ) from e
    except KeyError as e:
        raise WeightsError(f"{path} lacks PEFT's key {e.args[0]!r}") from e
    except (ValueError, TypeError, AttributeError, re.error) as e:
        raise WeightsError(f"{path} cannot be used: {e}") from e
    if kind != "LORA":
        raise WeightsError(f"{path}: peft_type is {kind!r}; only LORA can be read")
    numbers = [*patterns.values(), *alphas.values()]
    if not all(isinstance(v, int | float) and v > 0 for v in numbers):
        raise WeightsError(f"{path}: ranks and alphas must be numbers above 0")
    for key in _OFF:
        if data.get(key):
            raise WeightsError(
                f"{path}: {key} is {data[key]!r}, which cannot be applied here; merge "
                "the adapters with PEFT and convert the result"
            )
    start = data.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_OTHER_BASE):
        raise WeightsError(
            f"{path}: init_lora_weights is {start!r}, whose adapters belong to changed "
            "weights; save them with PEFT's path_initial_model_for_weight_conversion"
        )
    other = [n for n in data.get("modules_to_save") or () if "connector" not in n]
    if other:
        raise WeightsError(
            f"{path}: modules_to_save has {', '.join(map(repr, other))}; besides "
            "adapters only the connector can be applied: merge with PEFT and convert"
        )
    return data


def apply_peft(model: MM15, folder: Path) -> int:
    """Put a PEFT folder's adapters, and its connector if it has one, into a model; how
    many modules that changes. Raises WeightsError, listing them, for tensors that do
    not fit: none of them may be left out in silence."""
    config = read_peft_config(folder)
    stored, _ = read_header(folder / PEFT_WEIGHTS)
    problems = [f"{n}: type {s.dtype}" for n, s in stored.items()
                if s.dtype not in FLOATS]  # fmt: skip
    layers, whole = _grouped(list(stored), problems)
    modules = dict(model.named_modules())
    tensors = mx.load(str(folder / PEFT_WEIGHTS))
    made: list[tuple[str, nn.Module]] = []
    for theirs, found in layers.items():
        path = our_name(theirs)
        layer = modules.get(path or "")
        leaves = {leaf: tensors[name] for leaf, name in found.items()}
        problem = _misfit(layer, leaves, config)
        if problem or path is None:
            problems.append(f"{theirs}: {problem or 'no layer of this model'}")
            continue
        scale = _scale(theirs, leaves["lora_A"].shape[0], config)
        made.append((path, _adapted(layer, leaves, scale)))
    full: list[tuple[str, mx.array]] = []
    parameters = {n: m for n, m in modules.items() if n.startswith("connector")}
    for name in whole:
        match = _CONNECTOR.fullmatch(name.removeprefix("base_model.model."))
        owner, _, leaf = ("connector." + match[1] if match else "").rpartition(".")
        held = parameters.get(owner, {}).get(leaf)
        if not isinstance(held, mx.array) or held.shape != stored[name].shape:
            problems.append(f"{name}: neither an adapter nor of this connector")
            continue
        full.append((f"{owner}.{leaf}", tensors[name].astype(held.dtype)))
    if problems or not (made or full):
        raise WeightsError(
            f"the adapters in {folder} do not fit this model; give the model that they "
            f"were trained on:{listed(problems or ['there are none'])}"
        )
    model.update_modules(tree_unflatten(made))
    model.load_weights(full, strict=False)
    model.freeze()
    model.eval()
    mx.eval(model.parameters())
    return len(made) + len({n.rpartition(".")[0] for n, _ in full})


def _grouped(
    names: list[str], problems: list[str]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Adapter tensors by module and leaf, and those that are no adapter's."""
    layers: dict[str, dict[str, str]] = {}
    whole = []
    for name in names:
        bare = name.removeprefix("base_model.model.")
        if match := _PEFT_LEAF.fullmatch(bare):
            layers.setdefault(match[1], {})[match[2]] = name
        elif ".lora_" in name:
            problems.append(f"{name}: no LoRA of a linear layer")
        else:
            whole.append(name)
    return layers, whole


def our_name(theirs: str) -> str | None:
    """The module that transformers calls so; None where there is none."""
    if match := _LAYER.fullmatch(theirs) or _HEAD.fullmatch(theirs):
        return "decoder." + match[1]
    if match := _CONNECTOR.fullmatch(theirs):
        return "connector." + match[1]
    return None


def _misfit(
    layer: nn.Module | None, leaves: Mapping[str, mx.array], config: Mapping[str, Any]
) -> str | None:
    """Why these cannot be a layer's adapters."""
    if not isinstance(layer, nn.Linear | nn.QuantizedLinear):
        return "no linear layer of this model"
    expected = {"lora_A", "lora_B"}
    if config.get("use_dora"):
        expected.add("lora_magnitude_vector")
    if set(leaves) != expected:
        differing = sorted(expected ^ set(leaves))
        return f"{differing[0]} is {'missing' if differing[0] in expected else 'left'}"
    out, inner = layer.weight.shape
    if isinstance(layer, nn.QuantizedLinear):
        inner = inner * 32 // layer.bits
    a, b = leaves["lora_A"], leaves["lora_B"]
    if a.ndim != 2 or a.shape[1] != inner or b.shape != (out, a.shape[0]):
        return f"A {a.shape} and B {b.shape} do not fit a layer {(out, inner)}"
    m = leaves.get("lora_magnitude_vector")
    return f"magnitude {m.shape}, expected {(out,)}" if (
        m is not None and m.size != out
    ) else None  # fmt: skip


def _scale(theirs: str, rank: int, config: Mapping[str, Any]) -> float:
    """PEFT's scaling of a module: alpha over the rank, or over its root."""
    alpha = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", theirs):
            alpha = value
            break
    return alpha / (sqrt(rank) if config.get("use_rslora") else rank)


def _adapted(
    layer: nn.Module, leaves: Mapping[str, mx.array], scale: float
) -> nn.Module:
    from mlx_lm.tuner.dora import DoRALinear
    from mlx_lm.tuner.lora import LoRALinear

    rank = leaves["lora_A"].shape[0]
    kind = DoRALinear if "lora_magnitude_vector" in leaves else LoRALinear
    made = kind.from_base(layer, r=rank, scale=scale)
    made.lora_a = leaves["lora_A"].T.astype(mx.float32)  # (in, R)
    made.lora_b = leaves["lora_B"].T.astype(mx.float32)  # (R, out)
    if kind is DoRALinear:
        made.m = leaves["lora_magnitude_vector"].reshape(-1).astype(mx.float32)
    return made


# --- written for others -----------------------------------------------------------


def ours_of_mlx_lm(name: str) -> str:
    """mlx-lm's name of a decoder's tensor → ours; ours stay what they are."""
    bare = name.removeprefix("language_model.")
    if bare.startswith("model."):
        return "decoder." + bare.removeprefix("model.")
    return "decoder." + bare if bare.startswith("lm_head.") else name


def for_peft(
    tensors: Mapping[str, mx.array], scale: float, dora: bool, base: str
) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """PEFT's tensors and configuration of our adapters. Raises WeightsError, naming
    them, for tensors that PEFT has no place for."""
    made: dict[str, mx.array] = {}
    problems, targets, rank, saved = [], set(), 1, False
    for name, x in tensors.items():
        path, _, leaf = name.rpartition(".")
        theirs = path.removeprefix("decoder.")
        if path.startswith("decoder.") and theirs.startswith("layers."):
            theirs = "model." + theirs
        if leaf in _OURS_TO_PEFT and x.ndim <= 2 and "embed_tokens" not in path:
            array = x if leaf == "m" else x.T
            made[f"base_model.model.{theirs}.{_OURS_TO_PEFT[leaf]}"] = array
            targets.add(theirs)
            rank = x.shape[1] if leaf == "lora_a" else rank
        elif name.startswith("connector.") and leaf not in _OURS_TO_PEFT:
            made[f"base_model.model.{name}"] = x
            saved = True
        else:
            problems.append(f"{name} {x.shape}")
    if problems:
        raise WeightsError(
            "PEFT has no place for some of these adapters; train lora or dora of "
            f"linear layers, and the connector:{listed(problems)}"
        )
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True,
        "base_model_name_or_path": base, "r": rank, "lora_alpha": scale * rank,
        "lora_dropout": 0.0, "use_dora": dora, "use_rslora": False, "bias": "none",
        "fan_in_fan_out": False, "target_modules": sorted(targets),
        "modules_to_save": ["connector"] if saved else None,
    }  # fmt: skip
    return {n: mx.contiguous(x) for n, x in made.items()}, config


def for_mlx_lm(
    tensors: Mapping[str, mx.array], config: Mapping[str, Any]
) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """mlx-lm's tensors and configuration, for the decoder as a model of its own.

    Raises WeightsError, naming them, for tensors of other parts.
    """
    other = [n for n in tensors if not n.startswith("decoder.")]
    if other:
        raise WeightsError(
            "mlx-lm's model is the decoder alone; train adapters of that only "
            f"(train_parts [decoder]):{listed(other)}"
        )
    made = {}
    for name, x in tensors.items():
        bare = name.removeprefix("decoder.")
        made[bare if bare.startswith("lm_head.") else "model." + bare] = x
    kept = ("fine_tune_type", "num_layers", "lora_parameters")
    settings = {key: config[key] for key in kept}
    parameters = dict(settings["lora_parameters"])
    if "keys" in parameters:
        parameters["keys"] = [ours_to_key(k) for k in parameters["keys"]]
    return made, {**settings, "lora_parameters": parameters, "mm15_mlx": __version__}


def ours_to_key(key: str) -> str:
    """A key of `lora_parameters` as mlx-lm's model has it."""
    if key.startswith("decoder."):
        bare = key.removeprefix("decoder.")
        return bare if bare == "lm_head" else "model." + bare
    return key


def our_key(key: str) -> str:
    """The other way round."""
    if key == "lm_head" or key.startswith(("model.", "language_model.")):
        return ours_of_mlx_lm(key + ".")[:-1]
    return key
