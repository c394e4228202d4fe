"""Every setting of a training, from YAML with mlx-lm's keys, checked before use.

What this file is: defaults, stages (the YAML files in stages/), a user's own file and
flags, each overriding the one before it; optimizers and schedules made of them. What it
is not: what is done with them (trainer.py).
"""

import dataclasses
import difflib
import json
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import yaml

from mm15_mlx.config import UserError
from mm15_mlx.lora import PARTS, LoraParameters, Tuning
from mm15_mlx.mm15 import module_of
from mm15_mlx.training_rows import LEAST_TOKENS

VALID_LOSS = "valid_loss"
REPORTERS = ("tensorboard", "wandb")
STAGES = ("lora", "sft", "continual", "pretrain")
OPTIMIZERS = ("adam", "adamw", "adafactor", "muon")
FOLDER = Path(__file__).parent / "stages"
# mlx-lm's switches: the value that a training here has, and why it has no other.
_FIXED = {
    "mask_prompt": (True, "answers alone are learnt; questions hold pictures' places"),
    "test": (False, "`mm15-mlx eval` is what measures"),
    "trust_remote_code": (False, "no code of a model folder is run"),
}
# Of mlx-lm's, what changes no number of a training.
_INERT = ("train", "config", "test_batches", "clear_cache_threshold")
# What may change between a run and its continuation: none of it changes a number.
FREE = (
    "model", "data", "adapter_path", "steps_per_report", "steps_per_eval",
    "val_batches", "save_every", "resume_adapter_file", "feature_cache_gb",
    "eval_data", "patience", "report_to", "project_name",
)  # fmt: skip

_HUGE = 2**1023  # larger whole numbers are no floats
_LAST_SEED = 10**13  # what is made of it and of a step must be a 64-bit number

Schedule = Callable[[mx.array], mx.array]


class TrainError(UserError):
    """A training that cannot be begun or go on; the message says what to do."""


@dataclass(frozen=True)
class TrainConfig:
    """The settings. Names and, unless a comment says so, defaults are mlx-lm's; an
    iteration is one update of the weights (mlx-lm counts batches)."""

    model: str = "nano-ui"
    data: str = ""
    stage: str = "lora"
    fine_tune_type: str = "lora"
    optimizer: str = "adamw"  # mlx-lm: adam
    optimizer_config: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    num_layers: int = -1  # mlx-lm: 16; nano-ui has 5
    batch_size: int = 4
    iters: int = 1000
    val_batches: int = 25
    learning_rate: float = 1e-5
    # Rates of other parts than the decoder; ours. A part without one takes the above.
    part_learning_rates: dict[str, float] = field(default_factory=dict)
    train_parts: list[str] = field(default_factory=lambda: ["decoder"])  # ours
    lr_schedule: dict[str, Any] | None = None
    max_grad_norm: float = 1.0  # ours; 0 does not clip
    steps_per_report: int = 10
    steps_per_eval: int = 200
    save_every: int = 100
    eval_data: str | None = None  # ours; tasks of `eval`, answered at steps_per_eval
    save_best: str = VALID_LOSS  # ours; or TASK.METRIC of eval_data
    patience: int | None = None  # ours; evaluations without a gain that end the run
    adapter_path: str = "adapters"
    report_to: str | None = None
    project_name: str | None = None
    resume_adapter_file: str | None = None
    max_seq_length: int | None = None  # mlx-lm: 2048, which cuts; ours: the context
    grad_checkpoint: bool = False
    grad_accumulation_steps: int = 1
    lora_parameters: dict[str, Any] = field(
        default_factory=lambda: {"rank": 8, "dropout": 0.0, "scale": 20.0}
    )
    mixture: dict[str, Any] | None = None  # ours; see mixture.py
    # Ours: keys of config.json's tiling that the run changes; its adapters keep them.
    tiling: dict[str, Any] = field(default_factory=dict)
    feature_cache_gb: float = 1.0  # ours; visual tokens of a frozen encoder in memory

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise TrainError(f"stage is {self.stage!r}; use {', '.join(STAGES)}")
        if self.optimizer not in OPTIMIZERS:
            raise TrainError(
                f"optimizer is {self.optimizer!r}; use {', '.join(OPTIMIZERS)}"
            )
        least = {"batch_size": 1, "iters": 1, "steps_per_report": 1, "save_every": 1,
                 "steps_per_eval": 1, "grad_accumulation_steps": 1,
                 "max_seq_length": LEAST_TOKENS, "val_batches": -1, "seed": 0,
                 "patience": 1}  # fmt: skip
        for name, limit in least.items():
            value = getattr(self, name)
            if value is not None and value < limit:
                raise TrainError(f"{name} is {value}; it must be {limit} or more")
        if self.seed > _LAST_SEED:
            raise TrainError(f"seed is {self.seed}; it must be {_LAST_SEED} or less")
        for name in ("learning_rate", "feature_cache_gb", "max_grad_norm"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise TrainError(
                    f"{name} is {getattr(self, name)}; it must be 0 or more"
                )
        if self.save_best != VALID_LOSS and "." not in self.save_best:
            raise TrainError(
                f"save_best is {self.save_best!r}; give {VALID_LOSS}, or TASK.METRIC "
                "such as find_text.acc@0.5"
            )
        for name in self.reporters:
            if name not in REPORTERS:
                raise TrainError(
                    f"report_to names {name!r}; use {' or '.join(REPORTERS)}"
                )
        for part, rate in self.part_learning_rates.items():
            if part not in self.train_parts:
                raise TrainError(
                    f"part_learning_rates names {part!r}, which train_parts does not"
                )
            if not isinstance(rate, int | float) or not 0 <= rate < float("inf"):
                raise TrainError(f"part_learning_rates: {part} is {rate!r}")
        if self.patience is not None and self.save_best == VALID_LOSS:
            if self.val_batches == 0:
                raise TrainError(
                    f"patience is {self.patience}, but val_batches is 0, so that "
                    "nothing is validated; raise it, or give --eval-data and "
                    "--save-best TASK.METRIC"
                )
        for part in self.train_parts:
            if not isinstance(part, str):
                raise TrainError(f"train_parts has {part!r}; name {', '.join(PARTS)}")
        for name, given in self.optimizer_config.items():
            _check_optimizer(name, given)
        _ = self.tuning

    @property
    def reporters(self) -> list[str]:
        """The names in `report_to`, which mlx-lm separates by commas."""
        return [n.strip() for n in (self.report_to or "").split(",") if n.strip()]

    @property
    def tuning(self) -> Tuning:
        """What is trained; raises UserError where that cannot be."""
        unknown = sorted(
            set(self.lora_parameters) - {"rank", "scale", "dropout", "keys"}
        )
        if unknown:
            hint = "; mlx-lm's word is scale" if "alpha" in unknown else ""
            raise TrainError(f"lora_parameters has the key {unknown[0]!r}{hint}")
        given = {"rank": 8, "scale": 20.0, "dropout": 0.0} | self.lora_parameters
        keys = given.pop("keys", None)
        if keys is not None and not isinstance(keys, list):
            raise TrainError("lora_parameters: keys must be a list of layers")
        keys = None if keys is None else tuple(keys)
        parameters = LoraParameters(**given, keys=keys)
        parts = tuple(self.train_parts)
        return Tuning(
            self.fine_tune_type, self.num_layers, parameters, parts, self.tiling
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


# --- where settings come from -----------------------------------------------------


class _Loader(yaml.SafeLoader):
    """With 1e-5 as the number that everybody means by it; YAML 1.1 wants 1.0e-5."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?\d[\d_]*(?:\.[\d_]*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a file; raises TrainError for what is not YAML or no mapping."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as e:
        raise TrainError(f"--config {path} cannot be read: {e}") from e
    except yaml.YAMLError as e:
        raise TrainError(f"--config {path} is not YAML: {e}") from e
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise TrainError(f"--config {path} must map settings to values")
    for name, (value, why) in _FIXED.items():
        if name in data and data.pop(name) is not value:
            raise TrainError(
                f"--config {path}: {name} must be {json.dumps(value)} here, because "
                f"{why}; take the line out"
            )
    return data


def settings(
    flags: Mapping[str, Any],
    config: Path | None,
    say: Callable[[str], None] = lambda line: None,
) -> TrainConfig:
    """Defaults, then the stage, then the file, then flags that were given.

    say: told of keys of mlx-lm's in the file that do nothing here.
    """
    given = {k: v for k, v in flags.items() if v is not None}
    own = read_yaml(config) if config else {}
    idle = [name for name in _INERT if own.pop(name, None) is not None]
    if idle:
        say(f"--config {config}: {', '.join(idle)} of mlx-lm's: nothing to do here")
    stage = given.get("stage", own.get("stage", "lora"))
    if stage not in STAGES:
        raise TrainError(f"stage is {stage!r}; use {', '.join(STAGES)}")
    return from_dict(read_yaml(FOLDER / f"{stage}.yaml") | own | given)


def from_dict(data: Mapping[str, Any]) -> TrainConfig:
    """Strict: an unknown or mistyped key is a TrainError naming it."""
    hints = typing.get_type_hints(TrainConfig)
    made: dict[str, Any] = {}
    for key, value in data.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TrainError(f"the training has no setting {key!r}{hint}")
        kinds = typing.get_args(hints[key])
        union = kinds if type(None) in kinds else (hints[key],)
        plain = tuple(typing.get_origin(k) or k for k in union)
        if isinstance(value, int) and not isinstance(value, bool) and float in plain:
            value = float(value) if abs(value) < _HUGE else math.inf
        if not isinstance(value, plain) or (
            isinstance(value, bool) and bool not in plain
        ):
            wanted = " or ".join(k.__name__ for k in plain if k is not type(None))
            raise TrainError(f"{key} is {value!r}; it must be of type {wanted}")
        made[key] = _plain(value, key)
    return TrainConfig(**made)


def _plain(value: Any, where: str) -> Any:
    """As JSON gives it back, which a checkpoint is compared with: names are strings.
    Raises TrainError for what JSON has no word for, such as a date."""
    if isinstance(value, Mapping):
        strange = [k for k in value if type(k) not in (str, int)]
        if strange:
            raise TrainError(f"{where} has the key {strange[0]!r}; write it in quotes")
        names = [str(k) for k in value]
        twice = [n for n in names if names.count(n) > 1]
        if twice:
            raise TrainError(f"{where} has the key {twice[0]!r} twice; take one out")
        return {str(k): _plain(v, f"{where}: {k}") for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v, where) for v in value]
    if value is not None and type(value) not in (bool, int, float, str):
        raise TrainError(
            f"{where} is {value!r}, of the type {type(value).__name__}; write it in "
            "quotes if it is a name"
        )
    return value


# --- optimizers -------------------------------------------------------------------


def schedule(config: TrainConfig, rate: float) -> float | Schedule:
    """The learning rate of a part; `rate` is its peak.

    `lr_schedule` is mlx-lm's; a cosine without `arguments` goes from the learning rate
    to its share `end`, or 0, in the iterations that the warm-up leaves, and a `warmup`
    below 1 is a share of all.
    """
    if config.lr_schedule is None:
        return rate
    from mlx_lm.tuner.utils import build_schedule

    given = dict(config.lr_schedule)
    unknown = sorted(set(given) - {"name", "arguments", "warmup", "warmup_init", "end"})
    warmup, end = given.get("warmup", 0), given.pop("end", 0.0)
    if unknown:
        raise TrainError(
            f"lr_schedule has the key {unknown[0]!r}; it takes name, arguments, "
            "warmup, warmup_init and end"
        )
    if not isinstance(end, int | float) or not 0 <= end <= 1:
        raise TrainError(f"lr_schedule: end is {end!r}; it must be a share, 0 to 1")
    if type(warmup) is float and 0 <= warmup < 1:
        warmup = given["warmup"] = round(warmup * config.iters)
    if type(warmup) is not int or not 0 <= warmup < config.iters:
        raise TrainError(
            f"lr_schedule: warmup is {warmup!r}; it must be in 0 … {config.iters - 1}, "
            "below iters, or a share below 1"
        )
    own = given.get("name") == "cosine_decay" and "arguments" not in given
    if own:
        peak = config.learning_rate
        given["arguments"] = [peak, config.iters - warmup, peak * end]
    try:
        made = build_schedule(given)
        if own and warmup:
            # mlx-lm has the peak twice, and so ends a step before the end.
            cosine = optim.cosine_decay(*given["arguments"])
            made = optim.join_schedules([made, cosine], [warmup])
        made(mx.array(0))
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as e:
        raise TrainError(
            f"lr_schedule cannot be used ({e}); give name, such as cosine_decay, and "
            "its arguments as in mlx-lm"
        ) from e
    share = rate / config.learning_rate if config.learning_rate else 0.0
    return lambda step: made(step) * share


def optimizer(config: TrainConfig) -> optim.Optimizer:
    """One optimizer for each trained part, at its own rate.

    Adam and AdamW have their bias correction, as PyTorch's. Muon takes the matrices,
    AdamW the embeddings, the head and everything that is no matrix, as its authors
    advise.
    """
    optimizers: list[optim.Optimizer] = []
    filters: list[Callable[[str, mx.array], bool]] = []
    for part in config.train_parts:
        rate = config.part_learning_rates.get(part, config.learning_rate)
        if config.optimizer == "muon":
            optimizers.append(_made(config, "muon", schedule(config, rate)))
            filters.append(lambda n, x, p=part: module_of(n) == p and _is_matrix(n, x))
        kind = "adamw" if config.optimizer == "muon" else config.optimizer
        optimizers.append(_made(config, kind, schedule(config, rate)))
        filters.append(lambda n, x, p=part: module_of(n) == p)
    return optim.MultiOptimizer(optimizers, filters[:-1])


def _check_optimizer(name: str, given: Any) -> None:
    """Raises TrainError for what no optimizer could make a step with."""
    if name not in (*OPTIMIZERS, "sgd"):  # mlx-lm's file has that one, too
        near = difflib.get_close_matches(name, OPTIMIZERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use {', '.join(OPTIMIZERS)}"
        raise TrainError(f"optimizer_config has the key {name!r}; {hint}")
    if not isinstance(given, Mapping):
        raise TrainError(
            f"optimizer_config: {name} is {given!r}; it must map settings to values"
        )
    for key, value in given.items():
        numbers = value if isinstance(value, list) else [value]
        numbers = [n for n in numbers if n is not None]
        if not all(isinstance(n, int | float) and abs(n) < math.inf for n in numbers):
            raise TrainError(
                f"optimizer_config: {name}: {key} is {value!r}; it must be a number"
            )


def _made(config: TrainConfig, kind: str, rate: float | Schedule) -> optim.Optimizer:
    given = config.optimizer_config.get(kind, {})
    makers: dict[str, Any] = {
        "adam": lambda: optim.Adam(rate, **({"bias_correction": True} | given)),
        "adamw": lambda: optim.AdamW(rate, **({"bias_correction": True} | given)),
        "adafactor": lambda: optim.Adafactor(
            rate, **({"relative_step": False, "scale_parameter": False} | given)
        ),
        "muon": lambda: optim.Muon(rate, **given),
    }
    try:
        trial = makers[kind]()
        trial.apply_gradients({"a": mx.zeros((2, 2))}, {"a": mx.zeros((2, 2))})
        return makers[kind]()
    except (TypeError, ValueError, IndexError) as e:
        raise TrainError(f"optimizer_config: {kind}: {e}") from e


def _is_matrix(name: str, array: mx.array) -> bool:
    return array.ndim == 2 and "embed" not in name and "lm_head" not in name
