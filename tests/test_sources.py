"""Foreign folders: which files are taken, what is read, and what is refused."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from pickled import archive, mapping, number, numbers, storage, tensor

from mm15_mlx.checkpoint import WeightsError
from mm15_mlx.convert.sources import open_source

A = mx.arange(6, dtype=mx.float32).reshape(2, 3)
INDEX = "model.safetensors.index.json"


def save(path: Path, **tensors: mx.array) -> Path:
    mx.save_safetensors(str(path), tensors)
    return path


def raw(path: Path, data: bytes, **header: Any) -> Path:
    """A safetensors file with any header."""
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[int], first: int, last: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


def index(folder: Path, weight_map: Any, name: str = INDEX) -> None:
    (folder / name).write_text(json.dumps({"weight_map": weight_map}))


def fails(path: Path, message: str) -> list[str]:
    with pytest.raises(WeightsError, match=message) as caught:
        open_source(path)
    first, *problems = str(caught.value).split("\n")
    assert len(problems) <= 11
    if not problems:  # a single one stands on the same line
        problems = re.split(r"(?:again|same model): ", first, maxsplit=1)[1:]
    return [p.strip() for p in problems]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    save(tmp_path / "model-00001-of-00002.safetensors", a=A, b=A + 1)
    save(tmp_path / "model-00002-of-00002.safetensors", c=A + 2)
    first, second = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    index(tmp_path, {"a": first, "b": first, "c": second})
    return tmp_path


# --- what is read -------------------------------------------------------------------


def test_shards_and_their_figures(shards: Path) -> None:
    source = open_source(shards)
    assert sorted(source.tensors) == ["a", "b", "c"] and source.parameters == 18
    assert source.nbytes == 72
    for i, name in enumerate("abc"):
        assert mx.array_equal(source.read(name), A + i).item()
    assert source.sha256() == {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(shards.glob("*.safetensors"))
    }


def test_shards_without_an_index(shards: Path) -> None:
    (shards / INDEX).unlink()
    assert len(open_source(shards).tensors) == 3
    (shards / "model-00002-of-00002.safetensors").rename(shards / "x.safetensors")
    fails(shards, r"has 2 weight files and no index \(model-.*\); name the one")
    assert list(open_source(shards / "x.safetensors").tensors) == ["c"]


def test_the_index_itself_may_be_named(shards: Path) -> None:
    assert len(open_source(shards / INDEX).tensors) == 3


def test_safetensors_come_first_and_trainers_files_never(tmp_path: Path) -> None:
    archive(tmp_path / "pytorch_model.bin")
    archive(tmp_path / "training_args.bin")
    archive(tmp_path / "optimizer.pt")
    (tmp_path / ".hidden.safetensors").write_bytes(b"x")
    assert [p.name for p in open_source(tmp_path).files] == ["pytorch_model.bin"]
    save(tmp_path / "model.safetensors", a=A)
    save(tmp_path / "other.safetensors", a=A)
    assert [p.name for p in open_source(tmp_path).files] == ["model.safetensors"]


def test_torch_shards(tmp_path: Path) -> None:
    for i, name in enumerate("ab"):
        data = np.full(6, i, "<f4").tobytes()
        w = tensor(storage(6), numbers(2, 3), numbers(3, 1), number(0))
        archive(tmp_path / f"p{i}.bin", mapping(**{name: w}), {"data/0": data})
    weight_map = {"a": "p0.bin", "b": "p1.bin"}
    index(tmp_path, weight_map, "pytorch_model.bin.index.json")
    source = open_source(tmp_path)
    assert [int(source.read(n)[1, 2]) for n in "ab"] == [0, 1]


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16, mx.int32])
def test_types_are_kept(tmp_path: Path, dtype: mx.Dtype) -> None:
    """At an odd place too: a byte comes first."""
    held = {"a": mx.array([1], mx.uint8), "b": A.astype(dtype), "c": mx.array(2.0)}
    source = open_source(save(tmp_path / "m.safetensors", **held))
    for name, array in held.items():
        got, like = source.read(name), source.placeholders()[name]
        assert got.dtype == like.dtype == array.dtype and got.shape == like.shape
        assert mx.array_equal(got, array).item()


def test_float64_becomes_float32(tmp_path: Path) -> None:
    data = np.array([1.5, -2e30]).tobytes()
    path = raw(tmp_path / "m.safetensors", data, a=entry("F64", [2], 0, 16))
    source = open_source(path)
    assert source.placeholders()["a"].dtype == mx.float32 and source.parameters == 2
    got = source.read("a")
    assert got.dtype == mx.float32
    assert np.array_equal(np.array(got), np.float32([1.5, -2e30]))


def test_empty_tensors(tmp_path: Path) -> None:
    source = open_source(save(tmp_path / "m.safetensors", a=mx.zeros((0, 3)), b=A))
    assert source.read("a").shape == (0, 3)


def test_links_of_a_hubs_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "f00"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    save(tmp_path / "x.safetensors", a=A).rename(blobs / "abc")
    (snapshot / "model.safetensors").symlink_to("../../blobs/abc")
    assert list(open_source(snapshot).tensors) == ["a"]


def test_a_file_that_changes_after_the_check(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", a=A)
    source = open_source(path)
    path.write_bytes(b"x")
    with pytest.raises(
        WeightsError, match=r"cannot be read any more .* been changed\?"
    ):
        source.read("a")


# --- what is refused ----------------------------------------------------------------


def test_nothing_to_read(tmp_path: Path) -> None:
    fails(tmp_path, "has no .safetensors, .bin, .pt or .pth file; give the folder of")
    fails(tmp_path / "no", "there is no checkpoint .*no; check the path")
    for name in ("model.tar.gz", "model.zip", "model.gguf"):
        (tmp_path / name).write_bytes(b"x")
        fails(tmp_path / name, r"no checkpoint that can be read; .*unpack an archive")


@pytest.mark.parametrize(
    "file",
    [
        "/etc/passwd", "../model.safetensors", "a/b.safetensors", "a\\b.safetensors",
        ".hidden.safetensors", "passwd", "x.pkl", "a\nb.safetensors", "", 3, None, [],
    ],
)  # fmt: skip
def test_an_index_leads_nowhere_else(shards: Path, file: Any) -> None:
    index(shards, {"a": file})
    problems = fails(shards, "index.json names files that cannot be used; fetch the")
    assert problems == [f"{str(file)!r}: not the bare name of a weight file"]


def test_missing_shards_are_all_named(shards: Path) -> None:
    index(shards, {"a": "x.safetensors", "b": "y.bin"})
    problems = fails(shards, "names files that cannot be used")
    assert problems == ["x.safetensors: missing", "y.bin: missing"]


@pytest.mark.parametrize("weight_map", [None, {}, [], 3])
def test_an_index_without_a_map(shards: Path, weight_map: Any) -> None:
    index(shards, weight_map)
    fails(shards, "index.json has no weight_map; fetch the model again")


def test_all_disagreements_in_one_error(shards: Path) -> None:
    first, second = sorted(p.name for p in shards.glob("*.safetensors"))
    save(shards / second, a=A, c=A, d=A)
    index(shards, {"a": first, "b": second, "c": second, "e": first})
    assert fails(shards, "the checkpoint .* cannot be used; fetch it again") == [
        f"b: in {first}, but the index says {second}",
        f"a: in {first} and in {second}",
        f"d: in {second}, but the index says nothing of it",
        "e: in the index, but in no file",
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", INDEX])
def test_links_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder, outside = tmp_path / "model", tmp_path / "private"
    folder.mkdir()
    outside.write_text("{}")
    (folder / name).symlink_to("../private")
    fails(folder, "is a link out of its folder, to .*private; name that file itself")


def test_a_shard_that_is_a_link_out(shards: Path, tmp_path: Path) -> None:
    name = "model-00002-of-00002.safetensors"
    (shards / name).unlink()
    (shards / name).symlink_to("/etc/passwd")
    fails(shards, "is a link out of its folder, to /etc/passwd")


def test_weights_that_are_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    fails(tmp_path, "model.safetensors is not a file; fetch the model again")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"a": entry("F32", [4], 0, 16), "b": entry("F32", [4], 0, 16)}, "leave or sh"),
        (
            {"a": entry("F32", [2], 0, 8), "b": entry("F32", [3], 4, 16)},
            "share the byt",
        ),
        ({"a": entry("F32", [3], 0, 12)}, "its tensors take 12 bytes and it has 16"),
        ({"a": entry("F32", [5], 0, 20)}, "its tensors take 20 bytes and it has 16"),
        ({"a": entry("F32", [4], 16, 32)}, "leave or share the bytes"),
        ({"a": entry("F32", [-4], 0, 16)}, "a has no valid shape and offsets"),
        ({"a": entry("F32", [4.0], 0, 16)}, "a has no valid shape and offsets"),
        ({"a": entry("F32", [float("nan")], 0, 16)}, "a has no valid shape and offse"),
        ({"a": entry("F32", [True], 0, 16)}, "a has no valid shape and offsets"),
        ({"a": entry("F32", [2**31], 0, 16)}, "dimension may be 2147483647 at most"),
        ({"a": entry("F32", [2**31, 0], 0, 0)}, "dimension may be 2147483647 at most"),
        ({"a": entry("F16", [4], 0, 16)}, "a needs 8 bytes and has 16"),
        ({"a": entry("F4", [4], 0, 16)}, "a has the unknown type 'F4'"),
    ],
)
def test_hostile_headers(tmp_path: Path, header: dict[str, Any], message: str) -> None:
    assert not fails(raw(tmp_path / "m.safetensors", bytes(16), **header), message)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_float8_is_refused_by_name(tmp_path: Path, dtype: str) -> None:
    held = {"a": entry(dtype, [8], 0, 8), "b": entry(dtype, [8], 8, 16)}
    problems = fails(
        raw(tmp_path / "m.safetensors", bytes(16), **held), "cannot be used"
    )
    assert problems == [f"{n}: type {dtype}, which MLX cannot compute in" for n in "ab"]


@pytest.mark.parametrize("name", ["", "a\nerror: b", "\x1b[31m", "x" * 501])
def test_names_that_would_spoil_a_message(tmp_path: Path, name: str) -> None:
    path = raw(tmp_path / "m.safetensors", bytes(4), **{name: entry("F32", [1], 0, 4)})
    (problem,) = fails(path, "cannot be used")
    assert problem.endswith(": not a name of one printable line")
    assert problem.isprintable() and len(problem) < 550


def test_a_truncated_shard(shards: Path) -> None:
    path = shards / "model-00002-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    fails(shards, "00002-of-00002.safetensors is truncated or not a safetensors file")
