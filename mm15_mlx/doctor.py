"""`mm15-mlx doctor`: what this machine can do, measured in about a second.

What this file is: facts about the machine and the installation, and what to do about
the missing ones. What it is not: a benchmark of a model; that is `mm15-mlx bench`.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import time
import typing
from collections.abc import Callable
from pathlib import Path

import mm15_mlx
from mm15_mlx import blas

Report = dict[str, typing.Any]

BUNDLED = Path(__file__).parent / "models" / "nano-ui"
# extra of pyproject.toml -> the modules it brings
EXTRAS = {
    "app": ("gradio",),
    "video": ("av",),
    "screens": ("playwright", "faker"),
    "check": ("rapidocr", "onnxruntime"),
    "parquet": ("pyarrow",),
    "data": ("datasets",),
    "report": ("tensorboard", "wandb"),
    "convert": ("torch",),
    "test": ("pytest", "pytest_benchmark", "hypothesis", "av"),
    "parity": (
        "torch", "torchvision", "transformers", "peft", "timm", "open_clip",
        "pycocoevalcap", "anls_star",
    ),
}  # fmt: skip
_SLOW_GFLOPS = 20.0  # the reference BLAS reaches 3 to 6, OpenBLAS 40 and more per core


def report() -> Report:
    """Everything doctor knows, as plain JSON values. Takes about a second."""
    facts: Report = {
        "version": mm15_mlx.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": blas.usable_cores(),
        "mlx": _mlx(),
        "blas": vars(blas.preload()).copy(),
        "memory": _memory(),
        "compiler": shutil.which("g++"),
        "extras": _extras(),
        "bundled_model": _bundled_model(),
    }
    if "error" not in facts["mlx"]:
        facts |= _measure()
    facts["warnings"] = _warnings(facts)
    return facts


def run(json_output: bool) -> int:
    """Print the report; 0, or 2 where mlx itself cannot be used."""
    facts = report()
    print(json.dumps(facts, indent=2) if json_output else _text(facts))
    return 2 if "error" in facts["mlx"] else 0


def _mlx() -> Report:
    try:
        import mlx.core as mx
    except ImportError as e:
        return {"error": str(e)}
    backend = "metal" if mx.metal.is_available() else "cpu"
    backend = "cuda" if mx.cuda.is_available() else backend
    return {
        "version": mx.__version__,
        "mlx_lm": _version("mlx-lm"),
        "backend": backend,
        "device": {k: v for k, v in mx.device_info().items() if "size" not in k},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory() -> Report:
    """Bytes: of the machine, of the control group, and what the GPU may wire."""
    sizes: Report = {
        "physical": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "group_limit": None,
        "gpu_working_set": None,
        "mlx_limit": None,
    }
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        sizes["group_limit"] = int(limit) if limit != "max" else None
    except (OSError, ValueError):
        pass
    try:
        import mlx.core as mx

        sizes["gpu_working_set"] = mx.device_info().get(
            "max_recommended_working_set_size"
        )
        sizes["mlx_limit"] = mx.get_memory_limit()
    except (ImportError, AttributeError):
        pass
    return sizes


def _extras() -> Report:
    missing = {
        extra: [m for m in modules if importlib.util.find_spec(m) is None]
        for extra, modules in EXTRAS.items()
    }
    return {
        extra: {
            "missing": modules,
            "install": f"pip install 'mm15-mlx[{extra}]'" if modules else None,
        }
        for extra, modules in missing.items()
    }


def _bundled_model() -> Report:
    weights = list(BUNDLED.glob("*.safetensors"))
    present = (BUNDLED / "config.json").is_file() and bool(weights)
    size = sum(f.stat().st_size for f in BUNDLED.rglob("*") if f.is_file())
    return {
        "name": BUNDLED.name,
        "present": present,
        "path": str(BUNDLED) if present else None,
        "bytes": size,
    }


def _measure() -> Report:
    import mlx.core as mx

    on_cpu = mx.default_device() == mx.cpu
    n = 1024
    side = 4096 if on_cpu else 8192  # past the caches
    a = mx.random.normal((n, n))
    matrix, vector = mx.ones((side, side)), mx.ones((1, side))
    mx.eval(a, matrix, vector)
    seconds = _best(lambda: mx.eval(a @ a), budget=0.4)
    sweep = _best(lambda: mx.eval(vector @ matrix.T), budget=0.2)
    return {
        "matmul_gflops": round(2 * n**3 / seconds / 1e9, 1),
        "bandwidth_gb_s": round(matrix.nbytes / sweep / 1e9, 1),
        "fused_attention": _fused_attention(),
    }


def _best(work: Callable[[], None], budget: float) -> float:
    """Seconds of the fastest try; as many tries as `budget` holds, at least one."""
    times: list[float] = []
    while not times or sum(times) < budget:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _fused_attention() -> Report:
    """Whether attention runs as one kernel, at the widths that the models have."""
    import mlx.core as mx

    q = mx.zeros((1, 2, 16, 64), dtype=mx.float16)
    try:
        mx.eval(
            mx.fast.scaled_dot_product_attention(q, q, q, scale=1.0, force_fused=True)
        )
    except (RuntimeError, ValueError, TypeError) as e:
        return {"available": False, "reason": _reason(e)}
    return {"available": True, "reason": None}


def _reason(error: Exception) -> str:
    line = str(error).strip().splitlines()[0]
    return line.removeprefix("[scaled_dot_product_attention] ")


def _warnings(facts: Report) -> list[str]:
    lines = []
    error = facts["mlx"].get("error")
    if error:
        extra = "mlx" if platform.system() == "Darwin" else "mlx[cpu]"
        lines.append(
            f"mlx cannot be imported ({error}): pip install --upgrade '{extra}'"
        )
    elif facts["mlx"]["backend"] == "cpu":
        if facts["blas"]["name"] == "reference":
            lines.append(f"no fast BLAS: {facts['blas']['problem']}")
        elif facts["matmul_gflops"] < _SLOW_GFLOPS:
            lines.append("matrix products are slow: is the machine busy?")
        if facts["compiler"] is None:
            lines.append("no g++: mx.compile runs uncompiled (apt install g++)")
    if not facts["bundled_model"]["present"]:
        lines.append(
            f"the bundled model {BUNDLED.name} is missing: install mm15-mlx again"
        )
    return lines


def _text(facts: Report) -> str:
    mlx, speed = facts["mlx"], facts["blas"]
    rows = [
        ("mm15-mlx", facts["version"]),
        ("Python", facts["python"]),
        ("platform", f"{facts['platform']}, {facts['cores']} usable cores"),
    ]
    if "error" not in mlx:
        device = mlx["device"].get("device_name", "")
        fused = facts["fused_attention"]
        rows += [
            ("mlx", f"{mlx['version']} (mlx-lm {mlx['mlx_lm']})"),
            ("backend", f"{mlx['backend']}, {device}"),
            ("matmul", f"{facts['matmul_gflops']:,} GFLOP/s (float32, 1024³)"),
            ("bandwidth", f"{facts['bandwidth_gb_s']:,} GB/s (matrix × vector)"),
            (
                "attention",
                "fused" if fused["available"] else f"composed: {fused['reason']}",
            ),
        ]
    rows += [
        (
            "BLAS",
            f"{speed['name']}, {speed['threads']} threads {speed['path']}".strip(),
        ),
        ("memory", _sizes(facts["memory"])),
        ("compiler", facts["compiler"] or "none"),
        ("model", f"{BUNDLED.name} {facts['bundled_model']['path'] or 'missing'}"),
    ]
    for extra, state in facts["extras"].items():
        lack = f"lacks {', '.join(state['missing'])}: {state['install']}"
        rows.append((f"[{extra}]", lack if state["missing"] else "installed"))
    rows += [("warning", line) for line in facts["warnings"]]
    return "\n".join(f"{name:<11} {value}" for name, value in rows)


def _sizes(memory: Report) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {size / 2**30:.1f} GiB"
        for name, size in memory.items()
        if size
    )
