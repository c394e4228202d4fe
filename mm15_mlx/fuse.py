"""`mm15-mlx fuse`: a model folder with the adapters in its weights; or adapters as
PEFT or mlx-lm have them.

What this file is: reading both, joining them, and writing a folder that needs no
adapters any more. A quantised layer is quantised again in its own way, unless
`--dequantize`; every other number keeps its type. What it is not: quantising.
"""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from mm15_mlx import __version__
from mm15_mlx.checkpoint import CARD, WeightsError, other_files
from mm15_mlx.checkpointing import CHECKPOINTS, METRICS
from mm15_mlx.load import DEFAULT_MODEL, find_model
from mm15_mlx.lora import (
    ADAPTER_CONFIG,
    ADAPTERS,
    adapter_config,
    fuse,
    load_adapters,
    read_tuning,
)
from mm15_mlx.peft_adapters import (
    PEFT_WEIGHTS,
    for_mlx_lm,
    for_peft,
    is_peft,
    ours_of_mlx_lm,
)
from mm15_mlx.weights import load_model, save_model, to_disk


def run(
    name: str | None, adapters: Path, target: Path, dequantize: bool, force: bool
) -> None:
    """Write `target`; raises UserError where adapters and model do not fit.

    name: the model; the one that the adapters were trained on unless told.
    """
    read_tuning(adapters)
    if name is None and is_peft(adapters):
        raise WeightsError(
            f"{adapters} is PEFT's and does not say which model folder it belongs to; "
            "give --model"
        )
    name = name or trained_on(adapters)
    folder = find_model(name)
    if target.exists() and not force:
        raise WeightsError(f"{target} exists; choose another name or give --force")
    model, config = load_model(folder, keep_dtype=True)
    kinds = {name: x.dtype for name, x in tree_flatten(model.parameters())}
    applied = load_adapters(model, adapters)
    # What was trained in full, in float32, goes back to the type of the model's folder.
    trained = dict(tree_flatten(model.parameters()))
    back = [(n, trained[n].astype(kinds[n])) for n in kinds if n in trained]
    model.load_weights(back, strict=False)
    fused = fuse(model, dequantize)
    config = dataclasses.replace(config, tiling=model.config.tiling)
    if dequantize:
        config = dataclasses.replace(config, quantization=None)
    source = (config.provenance or {}).get("source", name)
    provenance = (config.provenance or {}) | {
        "source": f"{source}, fine-tuned with adapters",
        "tool": f"mm15-mlx {__version__}",
    }
    provenance.pop("sha256", None)  # of the weights before
    config = dataclasses.replace(config, provenance=provenance)
    files = other_files(folder)
    files[CARD] = card(folder, name, adapters).encode()
    save_model(target, model, config, files=files, force=force)
    print(
        f"applied {applied} modules, {fused} of them fused; wrote {target}",
        file=sys.stderr,
    )


def export(adapters: Path, target: Path, layout: str, force: bool) -> None:
    """Write adapters of `train` as a folder of PEFT's (`peft`) or mlx-lm's (`mlx-lm`).

    No weights of the model are read. Raises WeightsError for what has no place there.
    """
    if is_peft(adapters):
        raise WeightsError(f"{adapters} is PEFT's own already; copy the folder")
    tuning = read_tuning(adapters)
    if target.exists() and not force:
        raise WeightsError(f"{target} exists; choose another name or give --force")
    if target.exists() and not (target / ADAPTER_CONFIG).is_file():
        raise WeightsError(
            f"{target} is no adapter folder, so it is not replaced; choose another name"
        )
    _check_kept(adapters, target)
    tensors = mx.load(str(adapters / ADAPTERS))
    tensors = {ours_of_mlx_lm(n): x for n, x in tensors.items()}
    if layout == "peft":
        if tuning.fine_tune_type == "full":
            raise WeightsError(
                f"{adapters} was trained in full and holds no adapters; fuse it instead"
            )
        scale = tuning.lora_parameters.scale
        dora = tuning.fine_tune_type == "dora"
        made, config = for_peft(tensors, scale, dora, trained_on(adapters))
    else:
        made, config = for_mlx_lm(tensors, adapter_config(tuning, {}))
    file = PEFT_WEIGHTS if layout == "peft" else ADAPTERS
    metadata = {"format": "pt" if layout == "peft" else "mlx"}
    partial = target.with_name(f".{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        mx.save_safetensors(str(partial / file), made, metadata)
        text = json.dumps(config, indent=2, ensure_ascii=False)
        (partial / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")
        for path in (*partial.iterdir(), partial):
            to_disk(path)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    except OSError as e:
        shutil.rmtree(partial, ignore_errors=True)
        raise WeightsError(f"{target} cannot be written: {e.strerror}") from e
    print(f"wrote {len(made)} tensors to {target}", file=sys.stderr)


def _check_kept(adapters: Path, target: Path) -> None:
    """Raises WeightsError where replacing `target` would take a training with it."""
    if adapters.resolve().is_relative_to(target.resolve()):
        raise WeightsError(
            f"{target} holds the adapters that are exported; choose another name"
        )
    for name in (CHECKPOINTS, METRICS):
        if (target / name).exists():
            raise WeightsError(
                f"{target} is a training's folder, with {name}, so it is not replaced; "
                "choose another name"
            )


def trained_on(adapters: Path) -> str:
    """The model that `adapter_config.json` names."""
    data = json.loads((adapters / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    name = data.get("model", DEFAULT_MODEL)
    return name if isinstance(name, str) else DEFAULT_MODEL


def card(folder: Path, name: str, adapters: Path) -> str:
    """The source's card, and that it is no longer that model."""
    path = folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {folder.name}\n"
    return (
        f"{text.rstrip()}\n\n## Fine-tuned\n\nAdapters ({adapters.name}) were fused "
        f"into {Path(name).name} by mm15-mlx {__version__}. Figures above are of the "
        "model before; measure this one with `mm15-mlx eval`.\n"
    )
