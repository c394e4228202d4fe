"""The BLAS that MLX uses on Linux: which is found, when, and what it is worth."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mm15_mlx import blas

ROOT = Path(__file__).parent.parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="Macs have Accelerate")


BEFORE = (
    "",
    "import numpy",
    "import mm15_mlx.config, numpy",
    "import mlx.core",
    "import mlx.core as mx; mx.eval(mx.ones((4, 4)) @ mx.ones((4, 4)))",
)


def preload_in_new_process(before: str = "", **env: str) -> dict:
    """What `blas.preload()` says after the code `before`, and the GFLOP/s of MLX."""
    code = f"""
import json
{before}
from mm15_mlx import blas
facts = vars(blas.preload()).copy()
import os, time
import mlx.core as mx
a = mx.random.normal((512, 512)); mx.eval(a)
times = []
for _ in range(4):
    start = time.perf_counter()
    mx.eval(a @ a)
    times.append(time.perf_counter() - start)
facts["gflops"] = 2 * 512**3 / min(times) / 1e9
def spun():
    mx.eval(a @ a)
    used = time.process_time()
    time.sleep(0.02)
    return time.process_time() - used
facts["spun"] = min(spun() for _ in range(5))
names = ("OPENBLAS_NUM_THREADS", "OPENBLAS_THREAD_TIMEOUT")
facts["variables"] = [os.environ.get(name) for name in names]
facts["error"] = float(mx.abs((a @ a)[0] - (a[0][:, None] * a).sum(0)).max())
print(json.dumps(facts))
"""
    drop = ("MM15_BLAS", "LD_PRELOAD", blas._PATIENCE, *blas._THREAD_VARIABLES)
    clean = {k: v for k, v in os.environ.items() if k not in drop}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean | {"PYTHONPATH": str(ROOT)} | env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # a library that prints belongs to doctor
    return json.loads(done.stdout)


def has_fast_blas() -> bool:
    return blas.preload().name != "reference"


@linux
@pytest.mark.parametrize("before", BEFORE)
def test_loads_whatever_was_imported_before(before: str) -> None:
    if not has_fast_blas():
        pytest.skip(f"no fast BLAS here: {blas.preload().problem}")
    facts = preload_in_new_process(before)
    assert facts["name"] != "reference" and facts["problem"] == ""
    assert Path(facts["path"]).is_file()
    assert facts["error"] < 1e-3


@linux
def test_is_faster_than_what_mlx_ships() -> None:
    if not has_fast_blas():
        pytest.skip(f"no fast BLAS here: {blas.preload().problem}")
    threads = {"OPENBLAS_NUM_THREADS": "1"}  # a busy machine disturbs one thread least
    fast = preload_in_new_process(**threads)
    stock = preload_in_new_process(MM15_BLAS="off", **threads)
    assert fast["gflops"] > 3 * stock["gflops"]


@linux
def test_off_is_told() -> None:
    off = preload_in_new_process(MM15_BLAS="off")
    assert (off["name"], off["problem"]) == ("reference", "MM15_BLAS=off asks for none")


@linux
def test_a_wrong_path_falls_back() -> None:
    facts = preload_in_new_process(MM15_BLAS="/no/such/library.so")
    if has_fast_blas():
        assert facts["source"] in ("package", "system")
    else:
        assert "/no/such/library.so" in facts["problem"]


@linux
def test_a_library_that_is_no_blas_is_refused() -> None:
    facts = preload_in_new_process(MM15_BLAS="libm.so.6")
    assert facts["source"] != "MM15_BLAS"


@linux
def test_threads_are_the_usable_cores_unless_the_user_chose() -> None:
    facts = preload_in_new_process()
    if not facts["name"].startswith("OpenBLAS"):
        pytest.skip("no OpenBLAS here")
    assert facts["threads"] == blas.usable_cores()
    assert facts["variables"] == [None, None]  # the environment is left alone
    assert preload_in_new_process(OMP_NUM_THREADS="1")["threads"] == 1


@linux
def test_threads_sleep_between_products_unless_the_user_chose() -> None:
    """Those that spin use the processor while the program waits for 20 ms."""
    facts = preload_in_new_process()
    if facts["threads"] == 1 or not facts["name"].startswith("OpenBLAS"):
        pytest.skip("one thread never waits for another")
    assert facts["spun"] < 0.004
    patient = preload_in_new_process(OPENBLAS_THREAD_TIMEOUT="28")
    assert patient["variables"] == [None, "28"]


def test_usable_cores() -> None:
    assert 1 <= blas.usable_cores() <= (os.cpu_count() or 1)


def test_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> blas.Blas:
        raise RuntimeError("the loader is on strike")

    monkeypatch.setattr(blas, "_preload_linux", broken)
    monkeypatch.setattr(sys, "platform", "linux")
    found = blas.preload.__wrapped__()
    why = "RuntimeError: the loader is on strike"
    assert found == blas.Blas("reference", source="mlx", problem=why)


def test_a_mac_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert blas.preload.__wrapped__() == blas.Blas("Accelerate", source="mlx")


@linux
def test_what_is_not_mlx_own_blas_is_left_alone() -> None:
    """A preloaded library, or a build of mlx linked with another one."""
    if not has_fast_blas():
        pytest.skip(f"no fast BLAS here: {blas.preload().problem}")
    again = blas.preload.__wrapped__()  # the slots hold the fast one by now
    assert again.source == "mlx" and again.name == blas.preload().name


@linux
def test_an_mlx_without_blas_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_folder", lambda package: None)
    found = blas.preload.__wrapped__()
    assert found.problem == "ModuleNotFoundError: mlx is not installed"


@linux
def test_a_folder_named_mlx_beside_the_script_hides_nothing(tmp_path: Path) -> None:
    if not has_fast_blas():
        pytest.skip(f"no fast BLAS here: {blas.preload().problem}")
    (tmp_path / "mlx").mkdir()
    script = tmp_path / "ask.py"
    script.write_text("from mm15_mlx import blas; print(blas.preload().name)")
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    out = subprocess.run(
        [sys.executable, str(script)], env=env, check=True, capture_output=True
    ).stdout
    assert out.decode().strip() == blas.preload().name != "reference"


@linux
@pytest.mark.parity
def test_pytorch_keeps_its_own_blas() -> None:
    """A BLAS in the global scope makes torch's batched products crash."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs the parity extra")
    code = """
import mm15_mlx, torch
a = torch.eye(64).repeat(16, 1, 1)
assert torch.equal(torch.bmm(a, a), a)
"""
    env = dict(os.environ, PYTHONPATH=str(ROOT))
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
