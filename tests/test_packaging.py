"""The shape of the code base: imports, reading order, style, and what is shipped."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = ("mm15_mlx", "convert", "apps", "tests", "benchmarks")
# The reading order. A file here imports only from files before it; modules that are not
# named are helpers of the later ones and come after `load`.
ORDER = (
    "blas heap limits input_config json_lines rope config templates grids tiling cores "
    "fast_cpu one_token encoder connector decoder mm15 tokenizer prompt grounding "
    "images video memory "
    "processor decoding generate batch checkpoint features weights quantize "
    "peft_adapters lora "
    "hub load ui outputs training_rows shots vqa captions tasks scores summaries "
    "answered compare crops report evaluate drift gptq distil shrunk shrink costs info "
    "chips "
    "calibrate plan bench "
    "documents answers rows hub_rows dataset datacheck preview mixture "
    "train_config batches checkpointing best ranks pace trainer metrics reporters "
    "train_data train fuse cli_convert cli_quantize cli_measure cli_train cli_app "
    "cli_eval cli_ask cli"
).split()
LAST = ("cli", "__main__")
MAX_COLUMNS, MAX_LINES = 88, 400
# Extras of pyproject.toml; what `pip install mm15-mlx` does not bring.
NOT_INSTALLED = (
    "torch torchvision timm open_clip gradio av playwright faker rapidocr onnxruntime "
    "pytest hypothesis datasets pyarrow tensorboard wandb"
).split()


def python_files() -> Iterator[Path]:
    for folder in CODE:
        yield from sorted((ROOT / folder).rglob("*.py"))  # does not follow the links


def text_files() -> Iterator[Path]:
    kinds = {".py", ".md", ".toml", ".yml", ".yaml", ".css", ".js", ".html", ".json"}
    for folder in (*CODE, "examples", ".ci", ".github"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and (path.suffix in kinds or folder == ".ci"):
                yield path
    yield from (p for p in ROOT.iterdir() if p.is_file() and p.suffix in kinds)


def modules() -> list[str]:
    """Every module of the installed package, by its import name."""
    names = []
    for folder in ("mm15_mlx", "convert", "apps"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if folder == "mm15_mlx" else ("mm15_mlx", *parts)
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [n for n in names if not n.endswith("__main__")]


def run_python(code: str) -> str:
    env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def imported_modules(path: Path) -> Iterator[str]:
    """Names below `mm15_mlx` that a file imports at its top level."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module == "mm15_mlx":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module.startswith("mm15_mlx."):
                yield node.module.removeprefix("mm15_mlx.")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("mm15_mlx."):
                    yield alias.name.removeprefix("mm15_mlx.")


def test_importing_the_package_is_light() -> None:
    heavy = ("mlx.core", "mlx_lm", "numpy", "PIL", "transformers", *NOT_INSTALLED)
    code = f"import sys, mm15_mlx; print([m for m in {heavy!r} if m in sys.modules])"
    assert run_python(code).strip() == "[]"


def test_every_module_imports_without_extras() -> None:
    """Without torch, gradio and the rest; only convert/mm15_torch is made of torch."""
    names = [n for n in modules() if ".mm15_torch" not in n]
    assert "mm15_mlx.config" in names and "mm15_mlx.convert" in names
    run_python(
        f"""
import importlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NOT_INSTALLED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
broken = {{}}
for name in {names!r}:
    try:
        importlib.import_module(name)
    except Exception as e:
        broken[name] = repr(e)
assert not broken, broken
"""
    )


@pytest.mark.parametrize("first", ["mm15_mlx.generate", "mm15_mlx.weights"])
def test_public_names_are_what_they_say(first: str) -> None:
    """`generate` stays the function, whichever module was imported before."""
    run_python(
        f"""
import importlib
importlib.import_module({first!r})
from mm15_mlx import MM15, ModelConfig, generate, load, stream_generate
from mm15_mlx.generate import generate as same
assert generate is same and callable(load) and callable(stream_generate)
assert MM15.__name__ == "MM15" and ModelConfig.__name__ == "ModelConfig"
"""
    )


def test_unknown_attribute() -> None:
    import mm15_mlx

    with pytest.raises(AttributeError, match="'mm15_mlx' has no attribute 'genrate'"):
        _ = mm15_mlx.genrate
    assert set(mm15_mlx.__all__) <= set(dir(mm15_mlx))


@pytest.mark.parametrize("name", ORDER)
def test_reading_order(name: str) -> None:
    earlier = {"__version__", *ORDER[: ORDER.index(name)]}
    late = set(imported_modules(ROOT / "mm15_mlx" / f"{name}.py")) - earlier
    assert not late, f"{name}.py imports {sorted(late)}, which the reader meets later"


def test_nothing_imports_the_command_line() -> None:
    for path in python_files():
        if path.parent.name == "mm15_mlx" and path.stem not in LAST:
            assert not set(imported_modules(path)) & set(LAST), path


def test_no_import_cycles() -> None:
    files = {
        n: ROOT / Path(*n.split(".")).with_suffix(".py")
        for n in modules()
        if n.count(".") == 1
    }
    edges = {
        name: [f"mm15_mlx.{m}" for m in imported_modules(path)]
        for name, path in files.items()
        if path.is_file()
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail, name))
        if name not in done:
            for other in edges.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_lines_and_files_are_short() -> None:
    faults = []
    for path in python_files():
        lines = path.read_text(encoding="utf-8").splitlines()
        where = path.relative_to(ROOT)
        if len(lines) > MAX_LINES:
            faults.append(f"{where}: {len(lines)} lines")
        faults += [
            f"{where}:{n}: {len(line)} columns"
            for n, line in enumerate(lines, 1)
            if len(line) > MAX_COLUMNS
        ]
    assert not faults, "\n".join(faults)


def test_no_machine_paths() -> None:
    private = re.compile(r"(?<![\w.~}])/(?:work|root|Users|home)/[\w.-]+")
    faults = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for path in text_files()
        if (found := private.search(path.read_text(encoding="utf-8")))
    ]
    assert not faults, "\n".join(faults)


def test_links_stand_for_convert_and_apps() -> None:
    for name in ("convert", "apps"):
        link = ROOT / "mm15_mlx" / name
        if not link.exists():
            pytest.skip(
                "an unpacked sdist has no links; the wheel built from it has both"
            )
        assert link.is_symlink() and link.resolve() == (ROOT / name).resolve()


def test_wheel_takes_convert_and_apps() -> None:
    hatch = pyproject()["tool"]["hatch"]["build"]["targets"]
    assert hatch["wheel"]["force-include"] == {
        "convert": "mm15_mlx/convert",
        "apps": "mm15_mlx/apps",
    }
    assert {"convert", "apps", "mm15_mlx"} <= set(hatch["sdist"]["only-include"])


def test_doctor_knows_the_extras() -> None:
    from mm15_mlx.doctor import EXTRAS

    extras = pyproject()["project"]["optional-dependencies"]
    assert set(EXTRAS) <= set(extras)


def test_lock_holds_every_dependency_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    project = pyproject()["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["app"]
    for requirement in wanted:
        name = re.match(r"[\w-]+", requirement)
        assert name and re.search(rf"^{name[0]}==", lock, re.MULTILINE), requirement
    pins = re.findall(r"^[a-z].*==.*$", lock, re.MULTILINE)
    assert all(pin.endswith("\\") for pin in pins), "a pin without a hash"
    assert not re.search(r"\w://|--(find-links|(extra-)?index-url)", lock)


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())
