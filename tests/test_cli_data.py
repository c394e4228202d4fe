"""`mm15-mlx data`: what its verbs are asked for, without running them."""

from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What `data screens` asks for, without a browser."""
    from mm15_mlx.screens import build

    calls: list[tuple] = []
    monkeypatch.setattr(build, "render_screens", lambda *a: calls.append(a))
    return calls


def test_data_screens(cli: Cli, rendered: list[tuple], tmp_path: Path) -> None:
    from mm15_mlx.screens import build

    code, out, err = cli("data", "screens", "--out", tmp_path / "s")
    assert (code, out, err) == (0, "", "")
    assert rendered == [
        (tmp_path / "s", 500, 0, build.Options(), 0, Path("node_modules"))
    ]
    kits, layouts = list(build.KITS), list(build.LAYOUTS)
    cli(
        "data", "screens", "--out", tmp_path, "--n", "3", "--seed", "9", "--start", "4",
        "--kits", kits[0], "--layouts", ",".join(layouts[:3]), "--scale", "2",
        "--exclude-layouts", layouts[1], "--viewports", "390x844", "--format", "png",
        "--node-modules", tmp_path,
    )  # fmt: skip
    options = build.Options(
        (kits[0],), (layouts[0], layouts[2]), ("390x844",), 2, "png"
    )
    assert rendered[1] == (tmp_path, 3, 9, options, 4, tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "Missing option '--out'."),
        (["--out", "s", "--kits", "nokit"], "unknown kit 'nokit': one of "),
        (["--out", "s", "--words", "new"], "unknown words 'new': usual or kept"),
        (["--out", "s", "--exclude-layouts", "no"], "unknown layout 'no' to exclude"),
        (
            ["--out", "s", "--format", "gif"],
            "unknown picture format 'gif': jpeg or png",
        ),
        (
            ["--out", "s", "--viewports", "wide"],
            "viewport 'wide' is not like 390x844 nor one of",
        ),
        (["--out", "s", "--n", "0"], "Invalid value for '--n': "),
    ],
)
def test_data_screens_mistakes(
    cli: Cli, rendered: list[tuple], flags: list[str], message: str
) -> None:
    code, out, err = cli("data", "screens", *flags)
    assert (code, out, rendered) == (2, "", [])
    assert err.startswith(f"error: {message}") and err.count("\n") == 1


def test_data_screens_without_the_kits(cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli(
        "data", "screens", "--out", tmp_path / "s", "--node-modules", "no"
    )
    assert code == 2 and "npm ci" in err and err.count("\n") == 1
    assert not (tmp_path / "s").exists()
