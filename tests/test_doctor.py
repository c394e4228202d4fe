"""`mm15-mlx doctor`: facts, remedies, exit status."""

import json
import sys
import time

import pytest

from mm15_mlx import __version__, blas, doctor


@pytest.fixture(scope="module")
def facts() -> doctor.Report:
    return doctor.report()


def test_report_is_plain_json(facts: doctor.Report) -> None:
    assert json.loads(json.dumps(facts)) == facts
    assert facts["version"] == __version__
    assert facts["mlx"]["backend"] in ("metal", "cuda", "cpu")
    assert facts["memory"]["physical"] > 2**28
    assert facts["cores"] >= 1


def test_speeds_are_measured(facts: doctor.Report) -> None:
    assert facts["matmul_gflops"] > 0.5
    assert facts["bandwidth_gb_s"] > 0.05


def test_takes_about_a_second() -> None:
    start = time.perf_counter()
    doctor.report()
    assert time.perf_counter() - start < 15  # a busy machine, and a reference BLAS


def test_fused_attention_is_probed(facts: doctor.Report) -> None:
    fused = facts["fused_attention"]
    assert fused["available"] or fused["reason"]
    if facts["mlx"]["backend"] == "cpu":
        assert not fused["available"]


def test_missing_extra_gives_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.EXTRAS, "app", ("no_such_module_here",))
    state = doctor._extras()["app"]
    assert state["missing"] == ["no_such_module_here"]
    assert state["install"] == "pip install 'mm15-mlx[app]'"
    monkeypatch.setitem(doctor.EXTRAS, "app", ("json",))
    assert doctor._extras()["app"] == {"missing": [], "install": None}


def test_slow_blas_is_a_warning(facts: doctor.Report) -> None:
    mlx = facts["mlx"] | {"backend": "cpu"}
    slow = blas.Blas("reference", problem="none was found")
    lines = doctor._warnings(facts | {"mlx": mlx, "blas": vars(slow)})
    assert "no fast BLAS: none was found" in lines


def test_missing_compiler_and_model_are_warnings(facts: doctor.Report) -> None:
    mlx = facts["mlx"] | {"backend": "cpu"}
    model = {"name": "nano-ui", "present": False, "path": None, "bytes": 0}
    changed = facts | {"mlx": mlx, "compiler": None, "bundled_model": model}
    lines = "\n".join(doctor._warnings(changed))
    assert "no g++: mx.compile runs uncompiled" in lines
    assert "the bundled model nano-ui is missing" in lines


def test_run_prints_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.run(json_output=True) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["version"] == __version__
    assert err == ""


def test_run_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.run(json_output=False) == 0
    out = capsys.readouterr().out
    for row in ("mm15-mlx", "backend", "matmul", "BLAS", "memory", "[app]"):
        assert f"\n{row}" in f"\n{out}"


def test_broken_mlx_is_told_not_raised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "mlx.core", None)  # import raises ImportError
    assert doctor.run(json_output=False) == 2
    out = capsys.readouterr().out
    assert "mlx cannot be imported" in out
    assert "pip install --upgrade" in out
