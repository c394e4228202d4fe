"""Files made to hang or to break their reader: one clear line, at once."""

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pickled import archive

from mm15_mlx.checkpoint import WeightsError, other_files, read_header, read_json
from mm15_mlx.convert import pickles
from mm15_mlx.convert.torch_files import read_torch_file

Cli = Callable[..., tuple[int, str, str]]

# Sixty tuples, each of two of the one before: as text it would have 2⁶⁰ pairs.
DOUBLED = b")q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"h\x00h\x00\x93"
DEEP = b")" + b"\x85" * 200_000


@pytest.mark.parametrize(
    "value", [DOUBLED, DEEP + b"K\x01\x93", b"K\x01K\x02\x93"], ids=range(3)
)
def test_a_name_that_is_no_text(value: bytes, tmp_path: Path) -> None:
    archive(tmp_path / "m.bin", value)
    with pytest.raises(WeightsError, match="something whose name is no text; look for"):
        read_torch_file(tmp_path / "m.bin")


@pytest.mark.parametrize("value", [DEEP, DEEP + b"Q", b"}" + DEEP + b"K\x01s"])
def test_values_nested_too_deep_to_be_looked_at(value: bytes, tmp_path: Path) -> None:
    archive(tmp_path / "m.bin", value)
    with pytest.raises(WeightsError, match="is not a plain state dict: "):
        read_torch_file(tmp_path / "m.bin")


def test_whatever_nests_too_deep_is_said() -> None:
    def make(call: pickles.Call) -> None:
        raise RecursionError

    with pytest.raises(pickles.PickleError, match="its values are nested too deep"):
        pickles.run(b"ca\nb\n)R.", {"a b"}, make)


def test_a_member_beyond_what_a_file_can_have(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.bin")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as held:
        comment = len(held.infolist()[0].filename)
    at = data.index(b"PK\1\2")
    extra = struct.pack("<HHQ", 1, 8, 1 << 63)
    data[at + 30 : at + 32] = struct.pack("<H", len(extra))
    data[at + 42 : at + 46] = b"\xff" * 4
    data[at + 46 + comment : at + 46 + comment] = extra
    end = data.index(b"PK\5\6")
    (size,) = struct.unpack("<I", data[end + 12 : end + 16])
    data[end + 12 : end + 16] = struct.pack("<I", size + len(extra))
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="is not where its table of contents says"):
        read_torch_file(path)


def test_more_axes_than_any_tensor_has(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    entry = {"dtype": "F32", "shape": [1] * 200_000, "data_offsets": [0, 4]}
    header = json.dumps({"x": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(WeightsError, match="x has 200000 axes; 16 are the most: look"):
        read_header(path)


def test_a_configuration_that_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.symlink_to("/dev/zero")
    with pytest.raises(WeightsError, match=r"config\.json is not a file; restore it"):
        read_json(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(WeightsError, match=r"config\.json is not a file; restore it"):
        read_json(path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(WeightsError, match="has 1099511627776 bytes, more than 671088"):
        read_json(path)


def test_links_out_of_a_folder_are_not_copied(ui_copy: Path, cli: Cli) -> None:
    (ui_copy / "LICENSE").write_text("ours")
    (ui_copy / "COPYING").symlink_to("LICENSE")
    assert other_files(ui_copy)["COPYING"] == b"ours"
    secret = ui_copy.parent / "secret"
    secret.write_text("theirs")
    target = ui_copy.parent / "q"
    for name in ("README.md", "notes.txt"):
        (ui_copy / name).unlink(missing_ok=True)
        (ui_copy / name).symlink_to(secret)
        status, _, err = cli("quantize", "--model", ui_copy, "--mlx-path", target)
        assert status == 2 and not target.exists()
        assert f"{name} is a link out of its folder, to {secret}; name that" in err
        (ui_copy / name).unlink()
