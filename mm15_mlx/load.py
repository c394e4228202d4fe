"""A name, a folder or a hub id → model and processor."""

import re
from pathlib import Path

from mm15_mlx.checkpoint import read_config
from mm15_mlx.config import UserError
from mm15_mlx.lora import load_adapters, read_tuning
from mm15_mlx.mm15 import MM15
from mm15_mlx.processor import Processor
from mm15_mlx.tokenizer import Tokenizer, tokenizer_file
from mm15_mlx.weights import load_model

BUNDLED = Path(__file__).parent / "models"
DEFAULT_MODEL = "nano-ui"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = ["config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*"]
_SOURCE = [*_FILES, "preprocessor_config.json", "open_clip_config.json", "README.md"]
_TORCH = ["*.bin", "*.bin.index.json"]


def bundled_models() -> list[str]:
    """Names of the models inside the package."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/config.json"))


def find_model(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a model. Only a hub id, `owner/name`, uses the network."""
    text = str(name)
    if text in bundled_models():
        return BUNDLED / text
    path = Path(name).expanduser()
    if text and path.is_dir():
        return path
    if text and path.exists():
        raise UserError(f"{path} is a file; give the model's folder")
    if _HUB_ID.fullmatch(text) and not text.startswith("."):
        return _download(text, revision, _FILES)
    raise UserError(
        f"model {text!r} is neither bundled ({', '.join(bundled_models())}), "
        "nor a folder, nor a hub id (owner/name)"
    )


def find_source(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a checkpoint to convert. Only a hub id uses the network; PyTorch
    files are fetched only where there are no safetensors."""
    path = Path(name).expanduser()
    if str(name) and path.is_dir():
        return path
    text = str(name)
    if path.exists() or not _HUB_ID.fullmatch(text) or text.startswith("."):
        raise UserError(
            f"checkpoint {text!r} is neither a folder nor a hub id (owner/name); "
            "give the folder with its config.json"
        )
    folder = _download(text, revision, _SOURCE)
    if not any(folder.glob("*.safetensors")):
        folder = _download(text, revision, [*_SOURCE, *_TORCH])
    return folder


def _download(repo: str, revision: str | None, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=files))
    except (HfHubHTTPError, HFValidationError, OSError) as e:
        reason = str(e).strip().splitlines()[0]
        raise UserError(
            f"{repo} is no folder here and could not be fetched from the hub: {reason}"
        ) from e


def load_processor(folder: Path) -> Processor:
    """What needs no weights: configuration and tokenizer, both checked."""
    return Processor(read_config(folder), Tokenizer(tokenizer_file(folder)))


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
    processor = load_processor(folder)
    if adapter_path is not None:
        read_tuning(Path(adapter_path))  # before any weights are read
    model, _ = load_model(folder)
    if adapter_path is not None:
        load_adapters(model, Path(adapter_path))
    return model, processor
