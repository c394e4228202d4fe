"""`convert --verify`: the source as its own library runs it, beside the new folder.

What this file is: one picture and one question through both, and how far apart their
logits may be. That library is transformers, or for this project's own layout the
PyTorch code that trains it. What it is not: part of any conversion: torch and
transformers are imported here alone, when the flag is given. Nothing of the checkpoint
is executed: its class is named here, its weights have passed our own reader, and of its
configuration all that could name code, a kernel or another place is left out.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mm15_mlx.checkpoint import CONFIG, WeightsError, listed, read_json
from mm15_mlx.config import ModelConfig, UserError
from mm15_mlx.convert.mm15 import FAMILY
from mm15_mlx.convert.proof import QUESTION, ramps
from mm15_mlx.convert.sources import Source
from mm15_mlx.load import load

# Of the largest logit. Both sides compute in float32; what is left is the order of
# sums, and the rounding of weights to a narrower type. Not published: our choice.
TOLERANCES = {None: 1e-4, mx.float16: 1e-2, mx.bfloat16: 5e-2}
_LEFT_OUT = {
    "auto_map", "custom_pipelines", "quantization_config", "attn_implementation",
    "_attn_implementation", "_attn_implementation_internal", "experts_implementation",
    "_name_or_path", "use_kernels",
}  # fmt: skip
Inputs = Callable[[np.ndarray, tuple[int, int]], dict[str, np.ndarray]]


def _views(views: np.ndarray, _: tuple[int, int]) -> dict[str, np.ndarray]:
    return {"pixel_values": views}  # (V, 3, S, S)


def _of_one_picture(views: np.ndarray, _: tuple[int, int]) -> dict[str, np.ndarray]:
    return {"pixel_values": views[None]}  # (1, V, 3, S, S)


def _with_size(views: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """`size` is width, height."""
    return {"pixel_values": views[None], "image_sizes": np.array([size[::-1]])}


_CLASSES: dict[str, tuple[str, Inputs]] = {
    "idefics3": ("Idefics3ForConditionalGeneration", _of_one_picture),
    "smolvlm": ("SmolVLMForConditionalGeneration", _of_one_picture),
    "llava": ("LlavaForConditionalGeneration", _views),
    "llava_next": ("LlavaNextForConditionalGeneration", _with_size),
    "internvl": ("InternVLForConditionalGeneration", _views),
    FAMILY: ("MM15", _views),
}


@dataclass(frozen=True)
class Reference:
    """A class that has been imported, what it is called with, and whose it is."""

    kind: Any
    inputs: Inputs
    package: str  # with its version


def find_reference(folder: Path, quantised: bool) -> Reference:
    """What `folder` can be compared with. Raises UserError, before anything has been
    converted, where there is no such class, torch or transformers."""
    data = read_json(folder / CONFIG)
    family = data.get("model_type")
    if family not in _CLASSES or "mm_projector_type" in data:
        raise UserError(
            f"--verify cannot be done with {folder}: transformers does not load "
            f"model_type {family!r} in this layout, only "
            f"{', '.join(k for k in _CLASSES if k != FAMILY)} as it saves them; leave "
            "the flag out"
        )
    if quantised:
        raise UserError(
            "--verify compares exact weights and -q changes them; convert without -q, "
            "then use mm15-mlx quantize, which measures what it changes"
        )
    name, inputs = _CLASSES[family]
    try:
        import torch

        if family == FAMILY:
            from mm15_mlx.convert.mm15_torch.model import MM15

            return Reference(MM15, inputs, f"mm15_torch with torch {torch.__version__}")
        import transformers

        package = f"transformers {transformers.__version__}"
        return Reference(getattr(transformers, name), inputs, package)
    except ModuleNotFoundError as error:
        if error.name in ("torch", "transformers"):
            raise UserError(
                f"--verify needs {error.name}, which is not installed; run "
                f"pip install torch{' transformers' * (family != FAMILY)}, or leave "
                "the flag out"
            ) from None
        raise _broken(name, error) from error
    # Whatever an installation that does not fit together raises while it is imported.
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> UserError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    whose = "this package" if name == "MM15" else "transformers"
    return UserError(
        f"--verify needs {name} of {whose}, which cannot be imported: {reason}; "
        "install torch and transformers anew, and a torchvision made for that torch or "
        "none"
    )


def verify(
    folder: Path,
    source: Source,
    config: Path,
    reference: Reference,
    dtype: mx.Dtype | None,
) -> str:
    """Compare the model folder with the source, whose JSON files lie in `config`.

    `dtype` is what floats were stored in; None is as the source has them. Memory: four
    bytes for every parameter, once for either side. Raises WeightsError where the
    largest difference of two logits is above `TOLERANCES` of the largest logit.
    """
    ours, inputs, size = _ours(folder)
    theirs = _theirs(source, config, reference, inputs, size)
    if ours.shape != theirs.shape:
        raise WeightsError(
            f"--verify: logits have the shape {ours.shape}, and those of "
            f"{reference.package} {theirs.shape}; nothing has been written"
        )
    error, largest = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    allowed = TOLERANCES.get(_rounded(source, dtype), TOLERANCES[None])
    same = ours.argmax(-1) == theirs.argmax(-1)
    found = (
        f"largest difference {error:.1e} at logits up to {largest:.1e}, relative "
        f"{error / (largest or 1):.1e}, allowed {allowed:.0e}; the same token is "
        f"likeliest at {same.sum()} of {same.size} places"
    )
    if not error <= allowed * largest:  # so written for NaN
        raise WeightsError(
            f"--verify: the model differs from {reference.package}: {found}; nothing "
            "has been written"
        )
    return f"{reference.package} {reference.kind.__name__}: {found}"


def _rounded(source: Source, dtype: mx.Dtype | None) -> mx.Dtype | None:
    """The narrower type that the source's numbers have been rounded to, if any."""
    names = {mx.float16: "F16", mx.bfloat16: "BF16"}
    kinds = {t.stored.dtype for t in source.tensors.values()}
    return None if dtype not in names or kinds <= {names[dtype], "I64"} else dtype


def _ours(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray], tuple[int, int]]:
    """Logits (L, vocabulary), the ids and views (V, S, S, 3), and the picture's
    width and height."""
    model, processor = load(folder)
    model.set_dtype(mx.float32)
    tile = model.config.tiling.tile_size
    inputs = processor(QUESTION, images=[ramps(2 * tile, tile)])
    logits = np.array(model(**inputs)[0].astype(mx.float32))
    return logits, {k: np.array(v) for k, v in inputs.items()}, (2 * tile, tile)


def _theirs(
    source: Source,
    config: Path,
    reference: Reference,
    inputs: dict[str, np.ndarray],
    size: tuple[int, int],
) -> np.ndarray:
    """Logits (L, vocabulary) of the source for the same ids and views."""
    import torch

    views = inputs["pixel_values"].transpose(0, 3, 1, 2)
    given = reference.inputs(np.ascontiguousarray(views), size)
    ids = torch.from_numpy(inputs["input_ids"].astype(np.int64))
    arrays = {k: torch.from_numpy(v) for k, v in given.items()}
    if reference.kind.__name__ == _CLASSES[FAMILY][0]:
        return _ours_in_torch(source, config, reference.kind, ids, arrays)
    with tempfile.TemporaryDirectory() as name:
        _plain_folder(Path(name), source, config)
        model, about = reference.kind.from_pretrained(
            name, local_files_only=True, trust_remote_code=False, dtype=torch.float32,
            attn_implementation="eager", output_loading_info=True,
        )  # fmt: skip
    if lost := sorted(about["missing_keys"]):
        raise WeightsError(
            f"--verify: {reference.package} misses tensors in the source, so there "
            f"is nothing to compare with:{listed(lost)}"
        )
    with torch.no_grad():
        return model.eval()(input_ids=ids, **arrays).logits[0].numpy()


def _ours_in_torch(
    source: Source, config: Path, kind: Any, ids: Any, arrays: dict[str, Any]
) -> np.ndarray:
    """The same of a checkpoint of this project's trainer."""
    import torch

    settings = ModelConfig.from_dict(read_json(config / CONFIG))
    model = kind(settings).eval()
    state = {
        name: torch.from_numpy(np.array(source.read(name).astype(mx.float32)))
        for name in source.tensors
    }
    model.load_state_dict(state)  # their names have met the rules, which are its own
    token = settings.prompt.image_token_id
    with torch.no_grad():
        return model(ids, arrays["pixel_values"], token)[0].numpy()


def _plain_folder(folder: Path, source: Source, config: Path) -> None:
    """The weights by links, an index of our own, and a configuration of plain data."""
    text = json.dumps(_plain(read_json(config / CONFIG)))
    (folder / CONFIG).write_text(text, encoding="utf-8")
    torch_files = any(path.suffix != ".safetensors" for path in source.files)
    usual = "pytorch_model.bin" if torch_files else "model.safetensors"
    if len(source.files) == 1:
        (folder / usual).symlink_to(source.files[0].resolve())
        return
    for path in source.files:
        (folder / path.name).symlink_to(path.resolve())
    index = {
        "metadata": {}, "weight_map": {n: p.name for n, p in source.homes.items()}
    }  # fmt: skip
    (folder / f"{usual}.index.json").write_text(json.dumps(index), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if k not in _LEFT_OUT}
    return [_plain(v) for v in value] if isinstance(value, list) else value
