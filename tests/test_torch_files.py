"""Files of torch.save, honest and hostile, made by hand: PyTorch is not needed."""

import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from pickled import (
    HOOKS,
    REBUILD,
    W,
    archive,
    call,
    group,
    mapping,
    name,
    number,
    numbers,
    storage,
    tensor,
    text,
)  # fmt: skip

from mm15_mlx.checkpoint import WeightsError
from mm15_mlx.convert import pickles, torch_files
from mm15_mlx.convert.sources import open_source
from mm15_mlx.convert.torch_files import read_torch_file


def fails(path: Path, message: str) -> None:
    """One clear line, and never another exception."""
    with pytest.raises(WeightsError, match=message) as caught:
        read_torch_file(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def values(path: Path) -> dict[str, Any]:
    source = open_source(path)
    return {n: np.array(source.read(n).astype(mx.float32)) for n in source.tensors}


# --- honest files -------------------------------------------------------------------


def test_views_parameters_and_tied_storages(tmp_path: Path) -> None:
    parameter = call(name("torch._utils", "_rebuild_parameter"), W, b"\x88", HOOKS)
    held = mapping(
        w=parameter,
        tied=W,
        turned=tensor(storage(6), numbers(3, 2), numbers(1, 3)),
        tail=tensor(storage(6), numbers(2), numbers(2), number(1)),
        scalar=tensor(storage(6), b")", b")", number(5)),
        empty=tensor(storage(6), numbers(0, 3), numbers(3, 1)),
        epoch=number(3),
        size=call(name("torch", "Size"), numbers(1, 2)),
    )
    got = values(archive(tmp_path / "m.bin", held + mapping(_metadata=b"N") + b"b"))
    six = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = {
        "w": six, "tied": six, "turned": six.T, "tail": six.ravel()[[1, 3]],
        "scalar": six[1, 2], "empty": np.zeros((0, 3)),
    }  # fmt: skip
    assert got.keys() == expected.keys()
    for key, array in expected.items():
        assert got[key].shape == array.shape and np.array_equal(got[key], array), key


@pytest.mark.parametrize(
    ("kind", "code", "stored", "dtype", "expected"),
    [
        ("BFloat16Storage", "<u2", [0x3FC0, 0xC000], mx.bfloat16, [1.5, -2]),
        ("FloatStorage", "<f4", [1.5, -2], mx.float32, [1.5, -2]),
        ("HalfStorage", "<f2", [1.5, -2], mx.float16, [1.5, -2]),
        ("DoubleStorage", "<f8", [1.5, -2], mx.float32, [1.5, -2]),
        ("LongStorage", "<i8", [1, -(2**40)], mx.int64, [1, -(2**40)]),
        ("IntStorage", "<i4", [1, -2], mx.int32, [1, -2]),
        ("ShortStorage", "<i2", [1, -2], mx.int16, [1, -2]),
        ("CharStorage", "<i1", [1, -2], mx.int8, [1, -2]),
        ("ByteStorage", "<u1", [1, 254], mx.uint8, [1, 254]),
        ("BoolStorage", "<u1", [2, 0], mx.bool_, [True, False]),
    ],
)
def test_types(
    tmp_path: Path, kind: str, code: str, stored: Any, dtype: mx.Dtype, expected: Any
) -> None:
    held = storage(2, kind=name("torch", kind))
    value = mapping(w=tensor(held, numbers(2), numbers(1)))
    data = np.array(stored, code).tobytes()
    path = archive(tmp_path / "m.bin", value, {"data/0": data})
    array = open_source(path).read("w")
    assert (array.dtype, array.tolist()) == (dtype, expected)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_wrappers_are_taken_off(tmp_path: Path, wrapper: str) -> None:
    inner = mapping(**{"module.a.w": W, "module.b": W})
    value = mapping(**{"epoch": number(1), wrapper: inner, "optimizer": mapping()})
    path = archive(tmp_path / "m.pt", mapping(model=value))
    assert list(read_torch_file(path)) == ["a.w", "b"]


def test_protocol_4(tmp_path: Path) -> None:
    """FRAME, MEMOIZE, SHORT_BINUNICODE and STACK_GLOBAL, which torch.save may write."""
    rebuild = text("torch._utils") + text("_rebuild_tensor_v2") + b"\x93\x94"
    value = mapping(w=W).replace(REBUILD, rebuild)
    value = value.replace(text("w"), b"\x8c\x01w")
    assert list(read_torch_file(archive(tmp_path / "m.pt", value))) == ["w"]


# --- code in the pickle -------------------------------------------------------------


def os_system(module: str = "os") -> bytes:
    return call(name(module, "system"), text("touch made"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (os_system(), "refers to 'os.system'"),
        (os_system("posix"), "refers to 'posix.system'"),
        (call(name("builtins", "eval"), text("1")), "refers to 'builtins.eval'"),
        (call(name("__builtin__", "getattr"), text("a")), "__builtin__.getattr"),
        (text("os") + text("system") + b"\x93", "refers to 'os.system'"),
        (name("torch", "load"), "refers to 'torch.load'"),
        (name("torch.FloatStorage", "x"), "refers to 'torch.FloatStorage.x'"),
        (call(call(REBUILD), text("a")), "made from something else than a storage"),
        (call(os_system(), text("a")), "refers to 'os.system'"),
        (call(W, text("a")), "it calls something that is no function"),
        (text("a") + b"]R", "it calls something that is no function"),
        (call(REBUILD, b"N", b"N", b"N", b"N", b"N", b"N"), "else than a storage"),
        (call(name("torch", "FloatStorage"), number(9)), "FloatStorage is called"),
        (
            call(name("collections", "OrderedDict"), b"]"),
            "OrderedDict is made from arg",
        ),
        (
            call(name("torch._utils", "_rebuild_parameter"), os_system()),
            "refers to 'os.system'",
        ),
        (
            call(name("torch._utils", "_rebuild_parameter"), text("a")),
            "a parameter is made from something that is no tensor",
        ),
        (REBUILD + mapping(function=b"N") + b"b", "state of something that is no dict"),
        (
            W + mapping(stored=b"N") + b"b",
            "the state of something that is no dict",
        ),
        (REBUILD + b"(" + text("a") + b"Nu", "it fills something that is no dict"),
        (REBUILD + text("a") + b"a", "it appends to something that is no list"),
        (REBUILD + b")\x81", "it uses the opcode NEWOBJ"),
        (b"(" + text("a") + name("os", "system") + b"o", "refers to 'os.system'"),
        (b"(ios\nsystem\n", "it uses the opcode INST"),
        (b"Pid\n", "it uses the opcode PERSID"),
        (b"\x82\x01", "it uses the opcode EXT1"),
        (b"S'a'\n", "it uses the opcode STRING"),
        (text("module") + b"Q", "it refers to something outside that is no storage"),
        (b"})Ns", "a dict has a key that is neither text nor number"),
        (b"})" + b"\x85" * 200_000 + b"Ns", "a dict has a key that is neither text"),
        (b"h\x05", "it is damaged"),
        (b"R", "it is damaged"),
        (b"t", "it is damaged"),
        (b"K\x01(a", "it is damaged"),
        (b"\xff", "it is damaged"),
        (b"X\xff\xff\xff\xffabc", "it is damaged"),
        (b"", "it is damaged"),
        (mapping(model=mapping(model=b"N")), "it holds no tensors, but 'model'"),
        (b"]", "it holds no dict"),
        (b"}", "it holds no tensors, but nothing"),
        (b"}" + number(3) + W + b"s", "a tensor has a name that is no text"),
    ],
)
def test_hostile_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(archive(tmp_path / "m.bin", value), message)
    assert [p.name for p in tmp_path.iterdir()] == ["m.bin"]


def test_a_dict_that_holds_itself(tmp_path: Path) -> None:
    own = b"}q\x01(" + text("model") + b"h\x01u"
    fails(archive(tmp_path / "m.bin", own), "it holds no tensors, but 'model'")


def test_too_long_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "m.bin")
    monkeypatch.setattr(pickles, "MAX_OPCODES", 10)
    fails(path, "it has more than 10 opcodes")
    monkeypatch.setattr(torch_files, "MAX_PICKLE_BYTES", 50)
    fails(path, r"its data.pkl takes \d+ bytes, more than 50")
    monkeypatch.setattr(torch_files, "MAX_MEMBERS", 3)
    fails(path, "it has 4 members, more than 3")


# --- tensors that do not fit --------------------------------------------------------

NAN = b"G" + struct.pack(">d", float("nan"))
TYPED = name("torch._utils", "_rebuild_tensor_v3")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (tensor(storage(6), numbers(2, 4), numbers(4, 1)), "does not fit in its stor"),
        (
            tensor(storage(6), numbers(2), numbers(6)),
            "does not fit in its storage of",
        ),
        (
            tensor(storage(6), numbers(6), numbers(1), number(1)),
            "and offset 1 does no",
        ),
        (tensor(storage(6), numbers(7), numbers(0)), "does not fit in its storage"),
        (tensor(storage(6), numbers(2**31), numbers(0)), "has the shape .2147483648,."),
        (tensor(storage(6), numbers(2**31, 0), numbers(0, 1)), "beyond 2147483647"),
        (tensor(storage(6), numbers(2**62, 2**62), numbers(1, 1)), "has the shape"),
        (tensor(storage(6), numbers(2**70), numbers(1)), "shape is not made of nat"),
        (tensor(storage(6), numbers(-1), numbers(1)), "shape is not made of natural"),
        (tensor(storage(6), group(NAN), numbers(1)), "shape is not made of natural"),
        (tensor(storage(6), group(b"\x88"), numbers(1)), "shape is not made of nat"),
        (tensor(storage(6), group(text("2")), numbers(1)), "shape is not made of nat"),
        (tensor(storage(6), b"]", numbers(1)), "shape is not made of natural numbers"),
        (tensor(storage(6), numbers(2), numbers(-1)), "strides is not made of natural"),
        (tensor(storage(6), numbers(2), numbers(1), number(-1)), "offset is not made"),
        (tensor(storage(6), numbers(2), numbers(1), NAN), "offset is not made of nat"),
        (tensor(storage(6), numbers(2, 3), numbers(1)), "has 2 axes and 1 strides"),
        (tensor(storage(6), numbers(*[1] * 17), numbers(*[1] * 17)), "has 17 axes"),
        (tensor(storage(7), numbers(2), numbers(1)), "has 24 bytes and claims another"),
        (tensor(storage(-6), numbers(2), numbers(1)), "24 bytes and claims another"),
        (tensor(storage(6, "1"), numbers(2), numbers(1)), "the storage 1 is missing"),
        (tensor(storage(6, "../0"), numbers(2), numbers(1)), "key is not made of digi"),
        (tensor(storage(6, "٣"), numbers(2), numbers(1)), "key is not made of digits"),
        (tensor(storage(6, kind=b"N"), numbers(2), numbers(1)), "storage has no type"),
        (tensor(storage(6, kind=REBUILD), numbers(2), numbers(1)), "has no type"),
        (
            tensor(
                storage(24, kind=name("torch.storage", "UntypedStorage")),
                numbers(2),
                numbers(1),
            ),
            "a tensor has a type that is not known here",
        ),
        (
            tensor(
                storage(6, kind=name("torch", "ComplexFloatStorage")),
                numbers(2),
                numbers(1),
            ),
            "refers to 'torch.ComplexFloatStorage'",
        ),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, value: bytes, message: str) -> None:
    fails(archive(tmp_path / "m.bin", mapping(w=value)), message)


def test_float8_is_refused_by_name(tmp_path: Path) -> None:
    held = storage(24, kind=name("torch.storage", "UntypedStorage"))
    kind = name("torch", "float8_e4m3fn")
    args = (held, number(0), numbers(24), numbers(1), b"\x89", HOOKS, kind)
    path = archive(tmp_path / "m.bin", mapping(w=call(TYPED, *args)))
    with pytest.raises(WeightsError, match=": w: type F8_E4M3, which MLX cannot"):
        open_source(path)


# --- the zip around it --------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"../../etc/passwd": b"x"},
            "the odd member 'archive/../../etc/passwd'",
        ),
        ({"a\\b": b""}, "it has the odd member"),
        ({"/abs": b"x"}, "it has the odd member 'archive//abs'"),
        ({"more/data.pkl": b"x"}, "it has 2 data.pkl in 1 folders"),
        ({"byteorder": b"big"}, "its byte order is b'big', not 'little'"),
        ({"constants.pkl": b"x"}, "it is a TorchScript program"),
        ({"code/__torch__.py": b"x"}, "it is a TorchScript program"),
        ({"data/0": b""}, "the storage 0 has 0 bytes and claims another size"),
    ],
)
def test_odd_members(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    fails(archive(tmp_path / "m.bin", members=members), message)


def test_a_zip_bomb(tmp_path: Path) -> None:
    bomb = {"data/0": bytes(50_000_000)}
    path = archive(tmp_path / "m.bin", members=bomb, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    fails(path, r"its members claim more than its own \d+ bytes")


def test_compressed_members(tmp_path: Path) -> None:
    noise = {"data/0": os.urandom(100_000)}
    path = archive(tmp_path / "m.bin", members=noise, compression=zipfile.ZIP_DEFLATED)
    fails(path, "its member 'archive/data.pkl' is compressed or encrypted")


def test_two_top_folders_and_two_members_of_one_name(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.bin")
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("other/data/9", b"x")
    fails(path, "it has 1 data.pkl in 2 folders")
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("other/data/0", b"x")
    fails(path, "it has the odd member 'other/data/0'")


def test_no_pickle(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.bin", "w") as out:
        out.writestr("archive/data/0", b"x")
    fails(tmp_path / "m.bin", "it has 0 data.pkl in 1 folders")


def test_truncated_anywhere(tmp_path: Path) -> None:
    data = archive(tmp_path / "m.bin").read_bytes()
    for size in range(2, len(data), 7):
        (tmp_path / "m.bin").write_bytes(data[:size])
        fails(tmp_path / "m.bin", "is truncated or damaged: .*; fetch it again")


def test_headers_that_the_table_of_contents_misplaces(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.bin")
    data = path.read_bytes()
    at = data.index(b"PK\1\2") + 42  # the first member's place, in the table
    path.write_bytes(data[:at] + struct.pack("<I", 3) + data[at + 4 :])
    fails(path, "'archive/data.pkl' is not where its table of contents says")


def test_every_damaged_byte_ends_in_one_line(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.bin")
    data = path.read_bytes()
    ends: dict[bool, int] = {True: 0, False: 0}
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        try:
            read_torch_file(path)
            ends[True] += 1
        except WeightsError as error:
            assert "\n" not in str(error)
            ends[False] += 1
    assert ends[False] > 200


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch_files._LEGACY + b"..", "the format that PyTorch had before version 1.6"),
        (b"\x80\x02}q\x00.", "it is no file of torch.save, which begins with 'PK'"),
        (b"", "it is no file of torch.save"),
        (json.dumps({"a": 1}).encode(), "it is no file of torch.save"),
    ],
)
def test_other_files(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "m.bin").write_bytes(data)
    fails(tmp_path / "m.bin", message + ".*; look for a .safetensors file")


@pytest.mark.parametrize("file", ["training_args.bin", "optimizer_2.bin"])
def test_a_trainers_state(tmp_path: Path, file: str) -> None:
    path = archive(tmp_path / file)
    fails(path, "holds a trainer's state, not weights; name the file of the weights")


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    fails(tmp_path / "m.bin", "m.bin cannot be read: No such file or directory")
