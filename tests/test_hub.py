"""A hub of one's own, on this machine: which files are asked for, and what is said."""

import hashlib
import http.server
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import mlx.core as mx
import pytest
from composing import clip_folder, llama_folder
from hub_server import COMMIT, Hub
from huggingface_hub import constants

from checkpoints import CONFIG, TOWER, tensors, write
from mm15_mlx.config import UserError
from mm15_mlx.load import find_model, find_source

Cli = Callable[..., tuple[int, str, str]]
OTHER = "f" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    made = Hub(tmp_path / "hub")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answer(self)

        def do_HEAD(self) -> None:
            made.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
    huggingface_hub.close_session()


@pytest.fixture
def llava(hub: Hub, tokenizer_model: bytes) -> Path:
    """A whole checkpoint, and beside it what nobody needs."""
    folder = write(hub.repo("owner/tiny"), CONFIG)
    (folder / "tokenizer.model").write_bytes(tokenizer_model)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    (folder / "onnx").mkdir()
    for name in (
        "consolidated.safetensors", "onnx/model.safetensors", "onnx/config.json",
        "training_args.bin", "pytorch_model.bin", "modeling.py", "model.gguf",
    ):  # fmt: skip
        (folder / name).write_bytes(b"not to be fetched")
    for name in ("processor_config.json", "preprocessor_config.json"):
        (folder / name).write_text(json.dumps({"name": name}))
    return folder


NEEDED = {
    "config.json", "model.safetensors", "tokenizer.model", "README.md",
    "processor_config.json", "preprocessor_config.json",
}  # fmt: skip


# --- through the verbs ----------------------------------------------------------------


def test_convert_fetches_what_is_needed_and_pins_it(
    llava: Path, hub: Hub, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out"
    status, said, err = cli("convert", "--hf-path", "owner/tiny", "--mlx-path", out)
    assert status == 0, err
    assert set(hub.fetched()) == NEEDED
    assert "Fetching 6 files" in err  # bars of progress
    assert said.splitlines()[-1].startswith("proof       loaded ")
    data = json.loads((out / "config.json").read_text())["provenance"]
    assert (data["source"], data["revision"]) == ("owner/tiny", COMMIT)
    own = hashlib.sha256((llava / "model.safetensors").read_bytes()).hexdigest()
    assert data["sha256"] == own
    card = (out / "README.md").read_text()
    assert f"| `owner/tiny` | {COMMIT} | `{own}` | mit: permissive |" in card
    assert "base_model:\n- owner/tiny\n" in card
    # Whatever was named, a commit is what is pinned; and nothing is fetched twice.
    hub.asked.clear()
    words = ("convert", "--hf-path", "owner/tiny", "--mlx-path", tmp_path / "same")
    assert cli(*words, "--revision", "v1")[0] == 0
    data = json.loads((tmp_path / "same" / "config.json").read_text())
    assert data["provenance"]["revision"] == COMMIT and not hub.fetched()


def test_a_plan_needs_headers_alone(
    llava: Path, hub: Hub, tmp_path: Path, cli: Cli
) -> None:
    big = tensors() | {"model.vision_resampler.x": mx.zeros((500_000,))}
    mx.save_safetensors(str(llava / "model.safetensors"), big)
    status, _, err = cli("convert", "--hf-path", llava, "--dry-run")
    assert status == 2 and "model.vision_resampler.x: no rule" in err
    again = cli("convert", "--hf-path", "owner/tiny", "--dry-run")
    assert again[0] == 2 and "model.vision_resampler.x: no rule" in again[2]
    sent = hub.fetched().pop("model.safetensors")
    assert 0 < sent <= 100_001 < (llava / "model.safetensors").stat().st_size
    hub.asked.clear()
    write(llava, CONFIG)
    local = cli("convert", "--hf-path", llava, "--dry-run")
    (status, said, _) = cli("convert", "--hf-path", "owner/tiny", "--dry-run")
    assert (status, said) == local[:2] and "model.norm.weight (32,) → decoder" in said
    assert not any((tmp_path / "cache").rglob("*.safetensors"))


def test_a_plan_of_shards_and_a_header_that_is_none(
    llava: Path, hub: Hub, cli: Cli
) -> None:
    held = list(tensors().items())
    (llava / "model.safetensors").unlink()
    weight_map = {}
    for k in (0, 1):
        name = f"model-0000{k + 1}-of-00002.safetensors"
        mx.save_safetensors(str(llava / name), dict(held[k::2]))
        weight_map |= dict.fromkeys((n for n, _ in held[k::2]), name)
    text = json.dumps({"weight_map": weight_map})
    (llava / "model.safetensors.index.json").write_text(text)
    words = ("convert", "--hf-path", "owner/tiny", "--dry-run")
    status, said, err = cli(*words)
    assert status == 0 and "lm_head.weight (1400, 32) → " in said, err
    (llava / "model-00002-of-00002.safetensors").write_bytes(b"x" * 4)
    status, said, err = cli(*words)
    assert status == 2 and not said
    assert "owner/tiny is no folder here and could not be fetched" in _error(err)


def test_compose_and_its_plan(
    hub: Hub, tmp_path: Path, tokenizer_model: bytes, cli: Cli
) -> None:
    clip_folder(hub.repo("apple/clip"))
    llama_folder(hub.repo("meta/llama"), tokenizer_model)
    repo = hub.repo("some/words")
    shutil.copytree(hub.root / "meta/llama", repo)
    words = (
        "compose", "--encoder", "apple/clip", "--decoder", "meta/llama",
        "--tile-size", "84",
    )  # fmt: skip
    status, said, err = cli(*words, "--dry-run")
    assert status == 0 and "encoder     apple/clip (apple-amlr)" in said, err
    assert "encoder/logit_scale () is left out" in said
    assert not any((tmp_path / "cache").rglob("*.safetensors"))
    out = tmp_path / "out"
    status, said, err = cli(*words, "--mlx-path", out, "--tokenizer", "some/words")
    assert status == 0, err
    data = json.loads((out / "config.json").read_text())["provenance"]
    for part, name in (
        ("encoder", "apple/clip"), ("decoder", "meta/llama"),
        ("tokenizer", "some/words"),
    ):  # fmt: skip
        assert data[part]["source"] == name and data[part]["revision"] == COMMIT
    card = (out / "README.md").read_text()
    assert f"| tokenizer | `some/words` | {COMMIT} | `" in card


def test_a_tower_of_the_hub_is_pinned_too(
    llava: Path, hub: Hub, tmp_path: Path, cli: Cli
) -> None:
    named = "openai/clip-vit-tiny-patch14-28"
    own = {n: a for n, a in tensors().items() if n.startswith(TOWER)}
    vision = {
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 1, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    repo = hub.repo(named)
    config = {"model_type": "clip", "vision_config": vision}
    write(repo, config, {n.replace(TOWER, "vision_model."): a for n, a in own.items()})
    rest = {n: a for n, a in tensors().items() if n not in own}
    write(llava, CONFIG | {"mm_vision_tower": named}, rest)
    words = ("convert", "--hf-path", "owner/tiny", "--vision-tower", named)
    status, said, err = cli(*words, "--dry-run")
    assert status == 0 and "model       " in said, err
    assert cli(*words, "--mlx-path", tmp_path / "out")[0] == 0
    data = json.loads((tmp_path / "out" / "config.json").read_text())["provenance"]
    assert data["vision_tower"]["source"] == named
    assert data["vision_tower"]["revision"] == COMMIT


# --- what is chosen -------------------------------------------------------------------


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_one_pytorch_file_of_two_copies(hub: Hub) -> None:
    """DFN5B-CLIP's repository has both, of 4 GB each."""
    repo = hub.repo("apple/dfn")
    repo.mkdir(parents=True)
    for name in ("open_clip_pytorch_model.bin", "pytorch_model.bin", "config.json"):
        (repo / name).write_bytes(b"x")
    assert names(find_source("apple/dfn")) == {"pytorch_model.bin", "config.json"}
    (repo / "pytorch_model.bin").rename(repo / "another.bin")
    with pytest.raises(UserError, match=r"2 weight files and no index \(another.bin, "):
        find_source("apple/dfn")


def test_shards_by_their_index_and_by_their_numbers(hub: Hub) -> None:
    repo = hub.repo("a/b")
    repo.mkdir(parents=True)
    shards = {f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
    for name in (*shards, "extra.safetensors", "config.json"):
        (repo / name).write_bytes(name.encode())
    index = repo / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}))
    assert names(find_model("a/b")) == {*shards, "config.json", index.name}
    index.unlink()
    (repo / "extra.safetensors").unlink()
    assert shards < names(find_model("a/b", COMMIT))
    (repo / "model-00001-of-00002.safetensors").rename(repo / "b-1-of-2.safetensors")
    with pytest.raises(UserError, match=r"a/b has 2 weight files .*; fetch the one"):
        find_model("a/b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "model.safetensors.index.json has no weight_map"),
        ("[", "has no weight_map"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "names '/etc/passwd', which is no fi"),
        ('{"weight_map": {"a": "../x.safetensors"}}', "which is no file at the top of"),
    ],
)
def test_an_index_that_leads_elsewhere(hub: Hub, content: str, message: str) -> None:
    repo = hub.repo("a/b")
    repo.mkdir(parents=True)
    (repo / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=message):
        find_source("a/b")
    assert set(hub.fetched()) == {"model.safetensors.index.json"}


def test_a_repository_without_weights(hub: Hub) -> None:
    hub.repo("a/b").mkdir(parents=True)
    (hub.repo("a/b") / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"a/b has no .safetensors.*; give a reposito"):
        find_source("a/b")


# --- what is said ---------------------------------------------------------------------


def _error(err: str) -> str:
    """The one line beside the bars of progress."""
    (line,) = (n for n in re.split(r"[\r\n]+", err) if n.startswith("error: "))
    return line


def test_offline_what_the_cache_has_is_enough(
    llava: Path, hub: Hub, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("convert", "--hf-path", "owner/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    status, said, err = cli(*words, "--mlx-path", tmp_path / "out")
    assert status == 2 and not said and not hub.asked
    assert err == (
        "error: owner/tiny is no folder here, HF_HUB_OFFLINE is set, and the cache has "
        "not all of it; fetch it with a network, or give a folder\n"
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert cli(*words, "--dry-run")[0] == 0  # leaves no weights in the cache
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "the cache has not all of it; fetch" in _error(cli(*words, "--dry-run")[2])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    find_source("owner/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert cli(*words, "--dry-run")[0] == 0
    status, _, err = cli(*words, "--mlx-path", tmp_path / "out")
    assert status == 0 and not hub.asked, err
    data = json.loads((tmp_path / "out" / "config.json").read_text())
    assert data["provenance"]["revision"] == COMMIT
    err = cli(*words, "--revision", OTHER, "--dry-run")[2]
    assert f"the cache has not all of it at revision {OTHER}; fetch it" in _error(err)


def test_a_hub_that_does_not_answer(
    hub: Hub, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    status, said, err = cli("convert", "--hf-path", "a/b", "--dry-run")
    assert status == 2 and not said
    assert "a/b is no folder here, the hub cannot be reached, and the" in _error(err)


def test_terms_that_nobody_has_accepted(hub: Hub) -> None:
    hub.repo("google/gated").mkdir(parents=True)
    expected = "its terms must be accepted on its page first, then run hf auth login"
    with pytest.raises(UserError, match=f"google/gated is no folder .*: {expected}"):
        find_source("google/gated")


def test_a_connection_that_breaks(
    llava: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the hub's library lets through."""

    def broken(*_: Any, **__: Any) -> str:
        raise OSError("No space left on device\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    with pytest.raises(UserError, match="from the hub: No space left on device$"):
        find_source("owner/tiny")

    class Cut(Exception):
        __module__ = "httpx"

    def cut(*_: Any, **__: Any) -> str:
        raise Cut

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cut)
    with pytest.raises(UserError, match="could not be fetched from the hub: Cut$"):
        find_source("owner/tiny")


def test_mistakes_of_ours_are_not_the_hubs(
    llava: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any, **__: Any) -> str:
        raise TypeError("a mistake")

    for place, name in (
        (huggingface_hub, "snapshot_download"), (huggingface_hub.HfApi, "model_info")
    ):  # fmt: skip
        monkeypatch.setattr(place, name, wrong)
        with pytest.raises(TypeError, match="a mistake"):
            find_source("owner/tiny")


@pytest.mark.parametrize("verb", ["convert", "compose"])
def test_no_such_repository_or_revision(
    verb: str, llava: Path, tmp_path: Path, cli: Cli
) -> None:
    out = ("--mlx-path", tmp_path / "out")
    if verb == "convert":
        words = ("convert", "--hf-path", "owner/none", *out)
    else:
        words = ("compose", "--encoder", "owner/none", "--decoder", "a/b", *out)
    status, said, err = cli(*words)
    assert status == 2 and not said and len(err.splitlines()) == 1
    assert "owner/none is no folder here and could not be fetched from the hub: " in err
    assert "there is none of that name, or it is private: check it, or run hf" in err
    flag = "--revision" if verb == "convert" else "--encoder-revision"
    words = tuple("owner/tiny" if w == "owner/none" else w for w in words)
    status, _, err = cli(*words, flag, "v9")
    assert status == 2 and len(err.splitlines()) == 1
    assert "could not be fetched from the hub: it has no revision 'v9'" in err
