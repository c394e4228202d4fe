"""A name, a folder or a hub id → model and processor."""

import re
from pathlib import Path

from mm15_mlx.checkpoint import at_home, read_config
from mm15_mlx.config import UserError
from mm15_mlx.json_lines import fault
from mm15_mlx.lora import load_adapters, read_tuning, retiled
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.tokenizer import Tokenizer, tokenizer_file
from mm15_mlx.weights import load_model

BUNDLED = Path(__file__).parent / "models"
DEFAULT_MODEL = "nano-ui"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def bundled_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/config.json"))


def find_model(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a model. Only a hub id, `owner/name`, uses the network."""
    text = str(name)
    if text in bundled_models():
        return BUNDLED / text
    path = at_home(name)
    why = fault(path) if text else None
    if why == "is a folder":
        return path
    if text and why is None:
        raise UserError(f"{path} is a file; give the model's folder")
    if _HUB_ID.fullmatch(text) and not text.startswith("."):
        from mm15_mlx import hub  # it and what it needs, for hub ids alone

        return hub.fetch(text, revision, hub.MODEL_FILES)
    shown = text if len(text) <= 80 else text[:77] + "…"  # a prompt, by mistake
    raise UserError(
        f"model {shown!r} is neither bundled ({', '.join(bundled_models())}), "
        "nor a folder, nor a hub id (owner/name)"
    )


def find_source(
    name: str | Path, revision: str | None = None, headers: Path | None = None
) -> Path:
    """The folder of a checkpoint to convert. Only a hub id uses the network; PyTorch
    files are fetched only where there are no safetensors.

    With `headers`, the path of a folder to be made, only what a plan needs is fetched,
    and put there: of safetensors their headers.
    """
    path = at_home(name)
    if str(name) and path.is_dir():
        return path
    text = str(name)
    if path.exists() or not _HUB_ID.fullmatch(text) or text.startswith("."):
        raise UserError(
            f"checkpoint {text!r} is neither a folder nor a hub id (owner/name); "
            "give the folder with its config.json"
        )
    from mm15_mlx import hub

    if headers is not None:
        return hub.fetch_headers(text, revision, hub.SOURCE_FILES, headers)
    return hub.fetch(text, revision, hub.SOURCE_FILES)


def load_processor(folder: Path, adapters: Path | None = None) -> Processor:
    """What needs no weights: configuration and tokenizer, both checked; pictures are
    cut as `adapters` were trained."""
    config = read_config(folder)
    if adapters is not None:
        config = retiled(config, read_tuning(adapters).tiling)
    return Processor(config, Tokenizer(tokenizer_file(folder)))


def load(
    name: str | Path,
    revision: str | None = None,
    adapter_path: str | Path | None = None,
) -> tuple[MM15, Processor]:
    """Model and processor of a bundled name, a folder, or a hub id.

    adapter_path: a folder of `mm15-mlx train`, whose adapters are applied. Raises
    UserError for anything that keeps the model from being used.
    """
    folder = find_model(name, revision)
    adapters = None if adapter_path is None else Path(adapter_path)
    processor = load_processor(folder, adapters)  # before any weights are read
    model, _ = load_model(folder)
    if adapters is not None:
        load_adapters(model, adapters)
    return model, processor
