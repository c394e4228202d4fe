"""What the comparisons with PyTorch share.

Every comparison goes through `compare`, so that a run ends with a table of the largest
errors: those are the numbers the README quotes.
"""

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
import pytest

from mm15_mlx.config import ModelConfig
from mm15_mlx.prompt import PromptEncoder
from mm15_mlx.tokenizer import TOKENIZER_FILE, Tokenizer

torch = pytest.importorskip("torch", reason="needs the parity extra")

if TYPE_CHECKING:
    from mm15_mlx.convert.mm15_torch.samples import SampleEncoder

Compare = Callable[[str, mx.array, "torch.Tensor", float], None]
_TABLE: dict[str, tuple[float, float, float]] = {}


class _Empty(type):
    """A class whose every attribute is another empty class."""

    def __getattr__(cls, name: str) -> "_Empty":
        if name.startswith("__"):
            raise AttributeError(name)
        return _Empty(name, (), {})


class _EmptyModule(types.ModuleType):
    __path__: list[str] = []
    __getattr__ = _Empty.__getattr__


class _EmptyTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] != "torchvision":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _EmptyModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""


def _stand_in_for_torchvision() -> None:
    """transformers, timm and open_clip import torchvision and use none of it here.

    One built for another torch raises at import ("operator torchvision::nms does not
    exist"), which would take the references away: then empty modules stand in for it.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.meta_path.insert(0, _EmptyTorchvision())


_stand_in_for_torchvision()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """One seed for PyTorch, no graph, and no fused attention module.

    That one multiplies with MKL's batched product. Where an OpenBLAS was loaded
    globally before torch, as mm15_mlx does for MLX, a function of the same name in it
    is called instead, and the process ends.
    """
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def samples(
    config: ModelConfig, tmp_path_factory: pytest.TempPathFactory
) -> "SampleEncoder":
    """Questions as ids, with a small vocabulary; `config` is the test file's."""
    from mm15_mlx.convert.mm15_torch.samples import SampleEncoder
    from mm15_mlx.convert.mm15_torch.vocabulary import train

    path = tmp_path_factory.mktemp("vocabulary") / TOKENIZER_FILE
    train(config, path, lines=6000)
    return SampleEncoder(config, PromptEncoder(config, Tokenizer(path)))


@pytest.fixture
def compare() -> Compare:
    """`compare(what, ours, theirs, tolerance)`: largest error, absolute."""

    def check(
        what: str, ours: mx.array, theirs: "torch.Tensor", tolerance: float
    ) -> None:
        a, b = np.array(ours), theirs.detach().numpy()
        assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
        error, scale = float(np.abs(a - b).max()), float(np.abs(b).max())
        worst = max((error, scale, tolerance), _TABLE.get(what, (0.0, 0.0, 0.0)))
        _TABLE[what] = worst
        assert np.isfinite(a).all() and scale > 1e-3, f"{what}: nothing to compare"
        assert error <= tolerance, f"{what}: error {error:.1e} at scale {scale:.1e}"

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TABLE:
        terminalreporter.section("largest errors (absolute; scale of the reference)")
        for what, (error, scale, tolerance) in _TABLE.items():
            terminalreporter.write_line(
                f"{what:58} {error:.1e} at {scale:.1e}, allowed {tolerance:.0e}"
            )
