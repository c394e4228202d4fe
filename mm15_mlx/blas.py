"""Gives MLX a fast BLAS on Linux.

What this file is: the search for an OpenBLAS, and the change of three pointers that
makes MLX call it. mlx's Linux wheel ships the reference BLAS, twenty and more times
slower. The order of imports does not matter, and nobody else is affected: NumPy and
PyTorch keep their own. What it is not: needed on a Mac, which has Accelerate.

MM15_BLAS=/path/to/libopenblas.so chooses a library; MM15_BLAS=off changes nothing.
"""

import ctypes
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PRODUCTS = ("cblas_sgemm", "cblas_dgemm", "cblas_cgemm")  # all that mlx calls
_PREFIXES = ("scipy_", "")  # of the names in scipy-openblas32, and in any other
_BUNDLED = "mlx_cpu.libs"  # where mlx's wheel keeps the reference BLAS
_PATIENCE = "OPENBLAS_THREAD_TIMEOUT"
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Blas:
    """What answers MLX's matrix products on the CPU."""

    name: str  # "OpenBLAS 0.3.34", "Accelerate", "reference"
    path: str = ""
    threads: int = 1
    source: str = ""  # mlx (as it came) | MM15_BLAS | package | system
    problem: str = ""  # why there is nothing better, in one line


@functools.cache
def preload() -> Blas:
    """Give MLX the best BLAS there is; the first call does it. Never raises."""
    if sys.platform != "linux":
        return Blas(
            "Accelerate" if sys.platform == "darwin" else "unknown", source="mlx"
        )
    try:
        return _preload_linux()
    except Exception as e:  # a slow BLAS is better than no program
        return Blas("reference", source="mlx", problem=f"{type(e).__name__}: {e}")


def usable_cores() -> int:
    """Cores this process may use: affinity, and the quota of its control group."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota == "max":
            return cores
        return max(1, min(cores, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        return cores


def _preload_linux() -> Blas:
    slots = _jump_slots()
    if "cblas_sgemm" not in slots:
        raise LookupError("this build of mlx calls no cblas_sgemm")
    present = _file_of(slots["cblas_sgemm"].value)
    if _BUNDLED not in Path(present).parts:  # LD_PRELOAD, or another build of mlx
        return _describe(ctypes.CDLL(present), "mlx")
    wish = os.environ.get("MM15_BLAS", "")
    if wish.lower() in ("off", "none", "0"):
        why = f"MM15_BLAS={wish} asks for none"
        return Blas("reference", present, source="mlx", problem=why)
    problems = []
    for source, path in _candidates(wish):
        try:
            library = _open(path)
            products = {name: _function(library, name) for name in _PRODUCTS}
        except (OSError, AttributeError) as e:
            problems.append(str(e))
            continue
        for name, slot in slots.items():
            slot.value = ctypes.cast(products[name], ctypes.c_void_p).value
        return _describe(library, source)
    return Blas("reference", present, source="mlx", problem="; ".join(problems))


def _open(path: str) -> ctypes.CDLL:
    """OpenBLAS whose threads sleep soon after a product: it reads the wish once.

    They spin for 2^26 cycles otherwise and take the cores from what comes between two
    products (measured on two cores: 2.4 s for a first token instead of 1.5 s).
    """
    wished = os.environ.get(_PATIENCE)
    os.environ[_PATIENCE] = wished or "14"  # 2^14 cycles, some microseconds
    try:
        return ctypes.CDLL(path)
    finally:
        if wished is None:
            del os.environ[_PATIENCE]


def _candidates(wish: str) -> Iterator[tuple[str, str]]:
    if wish:
        yield "MM15_BLAS", wish
    package = _folder("scipy_openblas32")
    for path in sorted(package.glob("lib/libscipy_openblas*.so*")) if package else ():
        yield "package", str(path)
    yield "system", "libopenblas.so.0"


def _folder(package: str) -> Path | None:
    """Where `package` lies, without importing it.

    mlx is a namespace: a folder of that name beside a user's script is part of it too.
    """
    spec = importlib.util.find_spec(package)
    places = [Path(p) for p in (spec and spec.submodule_search_locations) or ()]
    return next((p for p in places if (p / "lib").is_dir()), None)


def _function(library: ctypes.CDLL, name: str) -> ctypes._CFuncPtr:
    for prefix in _PREFIXES:
        if hasattr(library, prefix + name):
            return getattr(library, prefix + name)
    raise AttributeError(f"{library._name} has no {name}")


def _describe(library: ctypes.CDLL, source: str) -> Blas:
    path = _file_of(
        ctypes.cast(_function(library, "cblas_sgemm"), ctypes.c_void_p).value
    )
    try:
        config = _function(library, "openblas_get_config")
        get_threads = _function(library, "openblas_get_num_threads")
        set_threads = _function(library, "openblas_set_num_threads")
    except AttributeError:
        return Blas(Path(path).name, path, source=source)
    if not any(v in os.environ for v in _THREAD_VARIABLES):
        set_threads(usable_cores())
    config.restype = ctypes.c_char_p
    words = config().decode().split()  # "OpenBLAS 0.3.34 DYNAMIC_ARCH …"
    return Blas(" ".join(words[:2]), path, get_threads(), source)


class _LinkMap(ctypes.Structure):
    """The head of what dlopen returns (link.h)."""

    _fields_ = [
        ("base", ctypes.c_size_t), ("name", ctypes.c_char_p),
        ("dynamic", ctypes.c_size_t),
    ]  # fmt: skip


class _DlInfo(ctypes.Structure):
    """What dladdr fills (dlfcn.h)."""

    _fields_ = [
        ("path", ctypes.c_char_p), ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p), ("address", ctypes.c_void_p),
    ]  # fmt: skip


def _jump_slots() -> dict[str, ctypes.c_void_p]:
    """The pointers through which libmlx calls its BLAS, writable.

    An ELF library calls others through a table that the loader has filled. Its dynamic
    section leads to the relocations, and each of them names a function and its place in
    the table (System V ABI, 64 bit; the numbers are DT_ tags of elf.h).
    """
    folder = _folder("mlx")
    if folder is None:
        raise ModuleNotFoundError("mlx is not installed")
    handle = ctypes.CDLL(str(folder / "lib" / "libmlx.so"), mode=os.RTLD_NOW)._handle
    image = ctypes.cast(handle, ctypes.POINTER(_LinkMap)).contents
    tags: dict[int, int] = {}
    at = image.dynamic
    while (entry := (ctypes.c_uint64 * 2).from_address(at))[0]:
        tags[entry[0]] = entry[1]
        at += 16
    strings, symbols = tags[5], tags[6]
    slots = {}
    for table, size in ((tags[23], tags[2]), (tags[7], tags[8])):  # JMPREL, RELA
        for at in range(table, table + size, 24):
            offset, info, _ = (ctypes.c_uint64 * 3).from_address(at)
            name_at = ctypes.c_uint32.from_address(symbols + 24 * (info >> 32)).value
            name = ctypes.string_at(strings + name_at).decode()
            if name in _PRODUCTS:
                slots[name] = _writable(image.base + offset)
    return slots


def _writable(address: int) -> ctypes.c_void_p:
    page = os.sysconf("SC_PAGE_SIZE")
    start = ctypes.c_void_p(address - address % page)
    if ctypes.CDLL(None).mprotect(start, ctypes.c_size_t(page), 3):  # read and write
        raise OSError("the table of functions of libmlx cannot be changed")
    return ctypes.c_void_p.from_address(address)


def _file_of(address: int | None) -> str:
    info = _DlInfo()
    ctypes.CDLL(None).dladdr(ctypes.c_void_p(address), ctypes.byref(info))
    return (info.path or b"").decode()
