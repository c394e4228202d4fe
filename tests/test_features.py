"""Visual tokens on disk: kept by content, bounded, and never trusted."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import pytest
from PIL import Image

from mm15_mlx import MM15, generate, load
from mm15_mlx.config import UserError
from mm15_mlx.features import FeatureStore, model_identity, open_store
from mm15_mlx.processor import Processor

QUESTION = "Where is the button?"
WIDTH = 8
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A model of which the store asks only its width."""
    monkeypatch.setattr("mm15_mlx.features.model_identity", lambda model: model.name)
    text = SimpleNamespace(hidden_size=WIDTH)
    return SimpleNamespace(name="a", config=SimpleNamespace(text_config=text))


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> FeatureStore:
    return FeatureStore(tmp_path, 10**6, warnings.append)


def tokens(n: int = 4, dtype: mx.Dtype = mx.float32) -> mx.array:
    return mx.random.normal((n, WIDTH)).astype(dtype)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime)


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_what_was_saved_is_read(
    store: FeatureStore, stub: SimpleNamespace, dtype: mx.Dtype, warnings: list[str]
) -> None:
    kept = tokens(dtype=dtype)
    assert store.load(stub, "key", 4) is None
    store.save(stub, "key", kept)
    read = store.load(stub, "key", 4)
    assert read is not None and read.dtype == dtype and mx.array_equal(read, kept)
    assert store.load(stub, "other", 4) is None
    other = SimpleNamespace(name="b", config=stub.config)
    assert store.load(other, "key", 4) is None
    assert warnings == []


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda p: p.write_bytes(b""), "truncated or not a safetensors file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-4]), "truncated"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1] + b"x"), "numbers have changed"),
        (lambda p: mx.save_safetensors(str(p), {"x": mx.ones((4, 8))}), "tokens alone"),
        (
            lambda p: mx.save_safetensors(str(p), {"features": mx.ones((3, 8))}),
            r"it holds F32 \(3, 8\), not floats of shape \(4, 8\)",
        ),
        (
            lambda p: mx.save_safetensors(
                str(p), {"features": mx.ones((4, 8), mx.int32)}
            ),
            "it holds I32",
        ),
        (
            lambda p: mx.save_safetensors(str(p), {"features": mx.ones((4, 8))}),
            "numbers have changed",
        ),
        (lambda p: (p.unlink(), p.mkdir()), "cannot be read"),
    ],
)
def test_damaged_and_foreign_files_are_passed_over(
    store: FeatureStore,
    stub: SimpleNamespace,
    warnings: list[str],
    spoil: Callable[[Path], object],
    why: str,
) -> None:
    store.save(stub, "key", tokens())
    spoil(files(store.folder)[0])
    assert store.load(stub, "key", 4) is None
    (line,) = warnings
    assert "is damaged or not ours and is not used: " in line
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(line)


def test_a_damaged_file_is_replaced(store: FeatureStore, stub: SimpleNamespace) -> None:
    store.save(stub, "key", tokens())
    files(store.folder)[0].write_bytes(b"?")
    store.save(stub, "key", tokens())
    assert store.load(stub, "key", 4) is not None


def test_the_least_recently_used_go_first(
    store: FeatureStore, stub: SimpleNamespace
) -> None:
    for k in range(3):
        store.save(stub, str(k), tokens())
        path = next(p for p in files(store.folder) if p.stat().st_mtime > 1000)
        os.utime(path, (k + 1, k + 1))
    assert store.load(stub, "0", 4) is not None  # now the newest
    size = files(store.folder)[0].stat().st_size
    store.limit_bytes = 3 * size
    (store.folder / "notes.txt").write_text("x" * 10 * size)
    store.save(stub, "3", tokens())
    held = [k for k in range(4) if store.load(stub, str(k), 4) is not None]
    assert held == [0, 2, 3]
    assert (store.folder / "notes.txt").exists(), "other files are not ours to delete"


def test_what_is_larger_than_the_limit_is_not_kept(
    store: FeatureStore, stub: SimpleNamespace
) -> None:
    store.limit_bytes = 4 * 4 * WIDTH - 1
    store.save(stub, "key", tokens())
    assert files(store.folder) == []


def test_what_a_killed_run_left_goes_later(
    store: FeatureStore, stub: SimpleNamespace
) -> None:
    old, new = (store.folder / f".{x}.partial.safetensors" for x in "ab")
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    store.save(stub, "key", tokens())
    assert not old.exists() and new.exists()


def test_the_folder_may_go_at_any_time(
    store: FeatureStore, stub: SimpleNamespace, warnings: list[str]
) -> None:
    store.save(stub, "key", tokens())
    shutil.rmtree(store.folder)
    assert store.load(stub, "key", 4) is None and warnings == []
    store.save(stub, "key", tokens())
    (line,) = warnings
    assert line.startswith(f"{store.folder} does not take visual tokens: ")


def test_identity_is_weights_and_their_configuration(
    ui: tuple[MM15, Processor], ui_folder: Path
) -> None:
    model, _ = ui
    again, _ = load(ui_folder)
    before = model_identity(model)
    assert model_identity(again) == before
    model.decoder.norm.weight = model.decoder.norm.weight + 1
    assert model_identity(model) == before, "the decoder has no part in visual tokens"
    model.encoder.class_embedding = model.encoder.class_embedding + 1
    assert model_identity(model) != before


def test_changed_weights_are_another_model(
    ui: tuple[MM15, Processor], screen: Path, tmp_path: Path
) -> None:
    model, processor = ui
    processor.memory.store = open_store(tmp_path, 1, print)
    generate(model, processor, QUESTION, [screen], max_tokens=1)
    model.encoder.class_embedding = model.encoder.class_embedding + 1
    processor.memory.forget()
    generate(model, processor, QUESTION, [screen], max_tokens=1)
    assert len(files(tmp_path)) == 2


# --- opening -------------------------------------------------------------------------


def test_the_folder_is_made_for_its_owner(tmp_path: Path) -> None:
    store = open_store(tmp_path / "a" / "b", 0.5, print)
    assert store.limit_bytes == 500_000_000
    assert store.folder.stat().st_mode & 0o077 == 0
    assert open_store(Path("~"), 1, print).folder == Path.home()


@pytest.mark.parametrize("size", [0, -1, float("nan")])
def test_no_room(tmp_path: Path, size: float) -> None:
    with pytest.raises(UserError, match="--cache-gb is .*; it must be above 0"):
        open_store(tmp_path, size, print)


def test_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="--cache-dir .* is a file; name a folder"):
        open_store(file, 1, print)
    with pytest.raises(UserError, match="cannot be made: Not a directory; name"):
        open_store(file / "below", 1, print)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UserError, match="is not writable; name another folder"):
        open_store(tmp_path, 1, print)


# --- with a model --------------------------------------------------------------------


def test_another_process_encodes_nothing(
    ui_folder: Path, screen: Path, tmp_path: Path, encoded: list[int]
) -> None:
    def ask(picture: object) -> list[int]:
        model, processor = load(ui_folder)
        processor.memory.store = open_store(tmp_path / "cache", 1, print)
        return generate(model, processor, QUESTION, [picture], max_tokens=8).tokens

    first = ask(screen)
    assert sum(encoded) == 5
    encoded.clear()
    assert ask(screen) == first and encoded == []
    with Image.open(screen) as image:
        image.putpixel((0, 0), (31, 30, 30))
        ask(image)
    assert sum(encoded) == 5, "one pixel makes another picture"


def test_the_flag(button: Path, screen: Path, tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "cache"
    arguments = ["ground", "--model", button, "--image", screen, "--query", "x"]
    arguments += ["--cache-dir", folder]
    status, out, _ = cli(*arguments)
    (path,) = files(folder)
    path.write_bytes(b"?")
    status, again, err = cli(*arguments)
    assert status == 0 and again == out
    assert f"warning: {path} is damaged or not ours" in err
    assert cli(*arguments, "--cache-gb", "0")[0] == 2
