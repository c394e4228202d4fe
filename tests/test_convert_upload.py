"""`--upload-repo`: what is refused before the conversion, and what is sent after it.
The hub is a stub; nothing here uses the network."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from composing import clip_folder, llama_folder

from mm15_mlx.config import UserError
from mm15_mlx.convert import upload
from mm15_mlx.convert.recipes import Licence

Cli = Callable[..., tuple[int, str, str]]


class Hub:
    """What HfApi is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.files: dict[str, bytes] = {}

    def create_repo(self, **how: Any) -> str:
        self.calls.append(("create_repo", how))
        return f"https://huggingface.co/{how['repo_id']}"

    def upload_folder(self, **how: Any) -> None:
        self.calls.append(("upload_folder", how))
        self.files = {p.name: p.read_bytes() for p in how["folder_path"].iterdir()}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_stub")
    return made


@pytest.fixture
def source(source: Path) -> Path:
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    return source


def words(source: Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    return (
        "convert", "--hf-path", source, "--mlx-path", out, "--upload-repo", "me/tiny",
        *more,
    )  # fmt: skip


def test_a_proven_folder_is_sent(
    source: Path, tmp_path: Path, cli: Cli, hub: Hub
) -> None:
    status, out, err = cli(*words(source, tmp_path / "out"))
    assert (status, err) == (0, "")
    assert out.splitlines()[-2].startswith("proof       loaded ")
    assert out.splitlines()[-1] == "upload      https://huggingface.co/me/tiny"
    assert [name for name, _ in hub.calls] == ["create_repo", "upload_folder"]
    assert hub.calls[0][1] == {"repo_id": "me/tiny", "exist_ok": True}
    assert hub.calls[1][1]["repo_id"] == "me/tiny"
    assert {"config.json", "model.safetensors", "tokenizer.model"} < set(hub.files)
    card = hub.files["README.md"].decode()
    assert "\nlicense: apache-2.0\n" in card and "from `source`" in card
    for content in hub.files.values():  # nobody reads there where it was made
        assert str(source.parent).encode() not in content


def test_a_dry_run_sends_nothing(source: Path, cli: Cli, hub: Hub) -> None:
    status, _, _ = cli(
        "convert", "--hf-path", source, "--dry-run", "--upload-repo", "me/tiny"
    )
    assert status == 0 and not hub.calls


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ("", r"unknown \(none is named\)"),
        ("---\nlicense: gemma\n---\n", r"unknown \(gemma\)"),
        ("---\nlicense: apple-amlr\n---\n", r"research-only \(apple-amlr\)"),
    ],
)
def test_what_may_not_be_passed_on_is_not_converted(
    card: str, why: str, source: Path, tmp_path: Path, cli: Cli, hub: Hub
) -> None:
    (source / "README.md").write_text(card)
    status, out, err = cli(*words(source, tmp_path / "out"))
    assert status == 2 and not out and not hub.calls
    expected = f"licence of these weights is {why}, which lets nobody pass them on, "
    assert re.search(expected, err)
    assert "so they are not uploaded to me/tiny; leave out --upload-repo" in err
    assert not (tmp_path / "out").exists()


def test_no_token_and_no_name(
    source: Path, tmp_path: Path, cli: Cli, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    status, out, err = cli(*words(source, tmp_path / "out"))
    assert status == 2 and not out and not (tmp_path / "out").exists()
    assert "--upload-repo me/tiny needs a token of the hub and there is none" in err
    assert "run hf auth login, or leave the flag out" in err
    for repo in ("tiny", "a/b/c", "-a/b", "a/"):
        with pytest.raises(UserError, match=f"--upload-repo is '{repo}'; it must be o"):
            upload.check_repo(repo)


def test_a_hub_that_refuses(
    source: Path, tmp_path: Path, cli: Cli, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> str:
        raise OSError("403 Forbidden\nlong explanation")

    monkeypatch.setattr(hub, "create_repo", refuse)
    status, _, err = cli(*words(source, tmp_path / "out"))
    assert status == 2 and len(err.splitlines()) == 1
    assert "out is whole, but could not be uploaded to me/tiny: 403 Forbidden; " in err
    assert f"try again with hf upload me/tiny {tmp_path / 'out'}" in err
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_cards_begin_as_the_hub_reads_them(tmp_path: Path) -> None:
    apache, amlr = Licence("apache-2.0", "permissive"), Licence("apple-amlr", "re")
    head = upload.front_matter([apache, apache], ["a/b", str(tmp_path), "c/d"])
    assert "\nlicense: apache-2.0\n" in head and "\nbase_model:\n- a/b\n- c/d\n" in head
    head = upload.front_matter([apache, amlr, Licence("", "unknown")], [str(tmp_path)])
    named = "\nlicense: other\nlicense_name: apache-2.0-and-apple-amlr-and-unknown\n"
    assert named in head and "base_model" not in head
    head = upload.front_matter([Licence("research use only", "research-only")], [])
    assert "\nlicense: other\nlicense_name: research-use-only\n" in head


def test_compose_sends_what_is_free_and_keeps_what_is_not(
    tmp_path: Path, tokenizer_model: bytes, cli: Cli, hub: Hub
) -> None:
    clip_folder(tmp_path / "clip")  # research only, as Apple's is
    llama_folder(tmp_path / "llama", tokenizer_model)
    arguments = (
        "compose", "--encoder", tmp_path / "clip", "--decoder", tmp_path / "llama",
        "--mlx-path", tmp_path / "out", "--tile-size", "84", "--upload-repo", "me/it",
    )  # fmt: skip
    status, out, err = cli(*arguments)
    assert status == 2 and not out and not (tmp_path / "out").exists()
    assert "is research-only (apple-amlr + apache-2.0), which lets nobody" in err
    (tmp_path / "clip" / "README.md").write_text("---\nlicense: mit\n---\n")
    status, out, err = cli(*arguments)
    assert (status, err) == (0, "") and out.endswith("huggingface.co/me/it\n")
    card = hub.files["README.md"].decode()
    assert "\nlicense_name: mit-and-apache-2.0\n" in card and "| `clip` |" in card
    assert all(str(tmp_path).encode() not in c for c in hub.files.values())
