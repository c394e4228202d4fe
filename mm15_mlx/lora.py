"""What of a model is trained, and adapters: mlx-lm's layers and mlx-lm's files.

What this file is: LoRA and DoRA layers put into the decoder (on a quantised base that
is QLoRA), whole parts set free, and `adapters.safetensors` + `adapter_config.json`
written, read strictly, and fused. What it is not: training itself (trainer.py), or the
names of PEFT and mlx-lm (peft_adapters.py).

The decoder is adapted, or trained in full; connector and encoder, where they train, do
so in full, and their tensors lie in the adapter file under their own names.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from mm15_mlx.checkpoint import WeightsError, listed, read_header
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.encoder import resize_table
from mm15_mlx.mm15 import MM15
from mm15_mlx.peft_adapters import (
    apply_peft,
    is_peft,
    our_key,
    ours_of_mlx_lm,
    read_peft_config,
)
from mm15_mlx.weights import mismatches

ADAPTERS = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
TYPES = ("lora", "dora", "full")
PARTS = ("decoder", "connector", "encoder")
_MOST = 8192  # no layer has so high a rank
_LEAVES = ("lora_a", "lora_b", "m")  # of mlx-lm's layers


@dataclass(frozen=True)
class LoraParameters:
    """mlx-lm's keys and defaults. `keys`: paths in a layer, such as self_attn.q_proj,
    or in the model; without them every linear layer and expert of the layers."""

    rank: int = 8
    scale: float = 20.0
    dropout: float = 0.0
    keys: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if type(self.rank) is not int or not 1 <= self.rank <= _MOST:
            raise UserError(
                f"lora_parameters: rank is {self.rank!r}; it must be a whole number, 1 "
                f"to {_MOST}"
            )
        if not _is_number(self.scale) or not abs(self.scale) < inf:
            raise UserError(
                f"lora_parameters: scale is {self.scale!r}; it must be a finite number"
            )
        if not _is_number(self.dropout) or not 0 <= self.dropout < 1:
            raise UserError(
                f"lora_parameters: dropout is {self.dropout!r}; it must be in [0, 1)"
            )
        strange = [k for k in self.keys or () if not isinstance(k, str)]
        if strange:
            raise UserError(
                f"lora_parameters: keys has {strange[0]!r}; it must hold names of "
                "layers, such as self_attn.q_proj"
            )

    def to_dict(self) -> dict[str, Any]:
        """As mlx-lm reads it: no keys, rather than null ones."""
        made = {"rank": self.rank, "scale": self.scale, "dropout": self.dropout}
        return made | ({"keys": list(self.keys)} if self.keys is not None else {})


@dataclass(frozen=True)
class Tuning:
    """How a model is made trainable. `num_layers`: the last ones, -1 for all.
    `tiling`: keys of that name in config.json which the training has otherwise."""

    fine_tune_type: str = "lora"
    num_layers: int = -1
    lora_parameters: LoraParameters = field(default_factory=LoraParameters)
    parts: tuple[str, ...] = ("decoder",)
    tiling: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fine_tune_type not in TYPES:
            raise UserError(
                f"fine_tune_type is {self.fine_tune_type!r}; it must be one of "
                f"{', '.join(TYPES)}"
            )
        if type(self.num_layers) is not int:
            raise UserError(
                f"num_layers is {self.num_layers!r}; it must be a whole number, -1 for "
                "all"
            )
        unknown = [p for p in self.parts if p not in PARTS]
        if unknown or not self.parts:
            given = repr(unknown[0]) if unknown else "nothing"
            raise UserError(f"{given} is to be trained; name {', '.join(PARTS)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def make_trainable(model: MM15, tuning: Tuning) -> None:
    """Freeze the model but for what `tuning` names; adapters are put in at random.

    Raises UserError where the model has no such layers, or cannot train them.
    """
    model.config = retiled(model.config, tuning.tiling)
    model.freeze()
    count = len(model.layers)
    if tuning.num_layers != -1 and not 1 <= tuning.num_layers <= count:
        raise UserError(
            f"num_layers is {tuning.num_layers}; the model has {count}: give 1 to "
            f"{count}, or -1 for all"
        )
    if "decoder" in tuning.parts and tuning.fine_tune_type == "full":
        _unfreeze_decoder(model, tuning.num_layers)
    elif "decoder" in tuning.parts:
        _adapt_decoder(model, tuning)
    for part in ("connector", "encoder"):
        if part in tuning.parts:
            _unfreeze(model[part], part)
    if "connector" in tuning.parts and "image_newline" in model:
        model.unfreeze(recurse=False, keys=["image_newline"])


def retiled(config: ModelConfig, tiling: Mapping[str, Any]) -> ModelConfig:
    """A model's configuration with other keys of `tiling`; raises UserError for what
    its parts cannot see."""
    if not tiling:
        return config
    data = config.to_dict()
    try:
        made = ModelConfig.from_dict(data | {"tiling": data["tiling"] | dict(tiling)})
    except UserError as e:
        raise UserError(
            f"the training's tiling does not suit the model: {e}; write tiling: {{}} "
            "into --config to keep the model's own"
        ) from e
    if made.tiling.merge != config.tiling.merge:  # it may need a newline embedding
        raise UserError(
            f"the training's tiling has merge {made.tiling.merge!r}; the model has "
            f"{config.tiling.merge!r}, which a training cannot change"
        )
    return made


def _unfreeze_decoder(model: MM15, num_layers: int) -> None:
    """The last layers; with all of them embedding, norm and head as well."""
    if num_layers in (-1, len(model.layers)):
        _unfreeze(model.decoder, "decoder")
        return
    for layer in model.layers[-num_layers:]:
        _unfreeze(layer, "decoder")


def _unfreeze(module: nn.Module, part: str) -> None:
    if any("scales" in m for m in module.modules()):
        raise UserError(
            f"the {part} is quantised and cannot be trained in full; train adapters "
            "(fine_tune_type lora), or a model with floating-point weights"
        )
    module.unfreeze()
    # In half precision most updates would be smaller than a number's last bit.
    floats = tree_map(lambda x: x.astype(mx.float32), module.trainable_parameters())
    module.update(floats)


def _adapt_decoder(model: MM15, tuning: Tuning) -> None:
    from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
    from mlx_lm.tuner.utils import linear_to_lora_layers  # seconds to import

    last = 0 if tuning.num_layers == -1 else -tuning.num_layers
    names = dict(model.named_modules())
    in_layers = {p: m for x in model.layers[last:] for p, m in x.named_modules()}
    keys = tuning.lora_parameters.keys
    for key in keys or ():
        if key not in in_layers and key not in names:
            near = difflib.get_close_matches(key, [*in_layers, *names], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"lora_parameters: no layer is called {key!r}{hint}")
    chosen = [in_layers.get(k, names.get(k)) for k in keys or in_layers]
    experts = any(isinstance(m, SwitchLinear | QuantizedSwitchLinear) for m in chosen)
    if tuning.fine_tune_type == "dora" and experts:
        raise UserError(
            "mlx-lm has no DoRA for mixtures of experts; use fine_tune_type lora, or "
            "lora_parameters with the keys of the attention alone"
        )
    packed = any(isinstance(m, nn.QuantizedEmbedding) for m in chosen)
    if tuning.fine_tune_type == "dora" and packed:
        raise UserError(
            "mlx-lm has no DoRA for a quantised embedding; use fine_tune_type lora, or "
            "take the embedding out of the keys of lora_parameters"
        )
    try:
        linear_to_lora_layers(
            model,
            len(model.layers) if tuning.num_layers == -1 else tuning.num_layers,
            tuning.lora_parameters.to_dict(),
            use_dora=tuning.fine_tune_type == "dora",
        )
    except ValueError as e:  # a key that names a whole block, say
        raise UserError(f"lora_parameters: {e}") from e
    if not adapted(model):
        raise UserError("lora_parameters: the keys name no layer that can be adapted")


def adapted(model: nn.Module) -> dict[str, nn.Module]:
    """The adapted layers by path."""
    return {path: m for path, m in model.named_modules() if "lora_a" in m}


def trained_tensors(model: nn.Module) -> dict[str, mx.array]:
    """What training changes, by name: the contents of an adapter file."""
    return dict(tree_flatten(model.trainable_parameters()))


# --- adapter folders --------------------------------------------------------------


def adapter_config(tuning: Tuning, rest: Mapping[str, Any]) -> dict[str, Any]:
    """`adapter_config.json` as mlx-lm reads it, with our parts beside its keys."""
    from mm15_mlx import __version__

    return {
        **rest,
        "fine_tune_type": tuning.fine_tune_type,
        "num_layers": tuning.num_layers,
        "lora_parameters": tuning.lora_parameters.to_dict(),
        "trained_parts": list(tuning.parts),
        "mm15_mlx": __version__,
    }


def read_tuning(folder: Path) -> Tuning:
    """What `adapter_config.json` of an adapter folder says; raises WeightsError. Of a
    PEFT folder that is its kind and rank: `load_adapters` looks at the tensors."""
    path = folder / ADAPTER_CONFIG
    if not folder.is_dir():
        raise WeightsError(f"--adapter-path {folder} is no folder; name one of `train`")
    if is_peft(folder):
        found = read_peft_config(folder)
        kind = "dora" if found.get("use_dora") else "lora"
        return Tuning(kind, lora_parameters=LoraParameters(found["r"]))
    for name in (ADAPTER_CONFIG, ADAPTERS):
        if not (folder / name).is_file():
            raise WeightsError(
                f"{folder} has no {name}; give a folder that `train`, mlx-lm or PEFT "
                "wrote"
            )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        layers = data["num_layers"]
        kind = data.get("fine_tune_type", "lora")
        given = data.get("lora_parameters") or {}
        parameters = LoraParameters()
        if kind != "full":
            keys = given.get("keys")
            parameters = LoraParameters(
                given["rank"],
                given["scale"],
                given.get("dropout", 0.0),
                None if keys is None else tuple(map(_our_key, keys)),
            )
        parts = tuple(data.get("trained_parts", ("decoder",)))
        return Tuning(kind, layers, parameters, parts, dict(data.get("tiling", {})))
    except KeyError as e:
        raise WeightsError(f"{path} lacks the key {e.args[0]!r}; train again") from e
    except (UserError, ValueError, TypeError, AttributeError) as e:
        raise WeightsError(f"{path} cannot be used: {e}; train again") from e


def _our_key(key: Any) -> Any:
    return our_key(key) if isinstance(key, str) else key  # LoraParameters refuses it


def load_adapters(model: MM15, folder: Path) -> int:
    """Apply an adapter folder to the model that it was trained on; how many modules it
    changes. Raises WeightsError, listing them, where tensors are missing, unknown or of
    another shape: none of them may be left out in silence."""
    tuning = read_tuning(folder)
    if is_peft(folder):
        return apply_peft(model, folder)
    path = folder / ADAPTERS
    read, _ = read_header(path)
    stored = {ours_of_mlx_lm(name): s for name, s in read.items()}
    make_trainable(model, tuning)
    problems = mismatches(trained_tensors(model), stored)
    if problems:
        raise WeightsError(
            f"the adapters in {folder} do not fit this model; give the model that they "
            f"were trained on:{listed(problems)}"
        )
    put(model, {ours_of_mlx_lm(n): x for n, x in mx.load(str(path)).items()})
    model.freeze()
    model.eval()
    return len({name.rpartition(".")[0] for name in stored})


def put(model: nn.Module, tensors: Mapping[str, mx.array]) -> None:
    """Set trained tensors, which are float32 wherever a CPU would be slow without."""
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    cast = [(n, x.astype(mx.float32) if on_cpu else x) for n, x in tensors.items()]
    mx.eval([x for _, x in cast])
    model.load_weights(cast, strict=False)


def fuse(model: MM15, dequantize: bool = False) -> int:
    """Put the adapters into the layers that they adapt; how many there were.

    A quantised layer is quantised again, in the same way, unless `dequantize`. The
    model is then one of its `config`, whatever tiling the adapters were trained with.
    """
    found = adapted(model)
    fused = [(p, m.fuse(dequantize=dequantize)) for p, m in found.items()]
    if fused:
        model.update_modules(tree_unflatten(fused))
    if dequantize:
        from mlx_lm.utils import dequantize_model

        dequantize_model(model)
    if "pos_emb" in model.connector:  # of the tiles before; see `retiled`
        table = resize_table(model.connector.pos_emb[0], model.config.view_grid)
        model.connector.pos_emb = table[None]
    mx.eval(model.parameters())
    return len(fused)
