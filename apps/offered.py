"""Which models and adapters the page offers: those that were named, those inside the
package, and those that the local Hugging Face cache holds already. No network."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from mm15_mlx.apps.worker import Choice
from mm15_mlx.config import UserError
from mm15_mlx.load import DEFAULT_MODEL, bundled_models
from mm15_mlx.lora import ADAPTER_CONFIG


def offered(models: Sequence[str], adapters: Sequence[Path]) -> list[Choice]:
    """Named ones come first, adapters before the models: the first is loaded at the
    start. Each adapter folder goes with the model that it says it was trained on, if
    that is named; else with the first."""
    names = list(dict.fromkeys(models or [DEFAULT_MODEL]))
    tuned = [Choice(_base(folder, names), folder) for folder in dict.fromkeys(adapters)]
    more = [*map(Choice, bundled_models()), *cached()]
    others = [c for c in more if c.name not in names and _usable(c)]
    return [*tuned, *map(Choice, names), *others]


def _usable(choice: Choice) -> bool:
    """What nobody named is left out where it is none; the start goes on without."""
    try:
        choice.check()
    except (UserError, OSError, ValueError):  # another format, or half of one
        return False
    return True


def _base(adapters: Path, names: Sequence[str]) -> str:
    try:
        told = json.loads((adapters / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        name = str(told.get("model"))
    except (OSError, ValueError, AttributeError):  # told by Choice.check
        return names[0]
    return name if name in names else names[0]


def cached() -> list[Choice]:
    """Models of the hub that were fetched before, as far as names tell."""
    found = []
    for ref in sorted(cache_folder().glob("models--*--*/refs/main")):
        home = ref.parents[1]
        name = "/".join(home.name.split("--", 2)[1:])
        revision = ref.read_text(encoding="utf-8").strip()
        folder = home / "snapshots" / revision
        if any(folder.glob("*.safetensors")):
            found.append(Choice(name, folder=folder))
    return found


def cache_folder() -> Path:
    """Where huggingface_hub keeps what it fetched; it is slow to import."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()
