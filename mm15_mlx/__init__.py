"""MM1.5-shaped multimodal models on MLX.

    from mm15_mlx import load, generate
    model, processor = load("nano-ui")
    answer = generate(model, processor, "What is selected?", images=["screen.png"])

What this file is: the public names, imported when first used, so that `--help` stays
fast. It also gives MLX a fast BLAS on Linux.
"""

import importlib
import sys
import types
import typing

from mm15_mlx import blas

__version__ = "0.1.0"
__all__ = ["MM15", "ModelConfig", "generate", "load", "stream_generate"]

_HOME = {
    "MM15": "mm15_mlx.mm15",
    "ModelConfig": "mm15_mlx.config",
    "generate": "mm15_mlx.generate",
    "load": "mm15_mlx.load",
    "stream_generate": "mm15_mlx.generate",
}

if typing.TYPE_CHECKING:
    from mm15_mlx.config import ModelConfig
    from mm15_mlx.generate import generate, stream_generate
    from mm15_mlx.load import load
    from mm15_mlx.mm15 import MM15


def __getattr__(name: str) -> typing.Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mm15_mlx' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(types.ModuleType):
    """Keeps `generate` and `load` functions when the modules of those names come."""

    def __setattr__(self, name: str, value: typing.Any) -> None:
        if not (name in _HOME and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
blas.preload()
