"""RefCOCO's pickles: plain values are read, and nothing in a file is ever run."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import readers_data as made

from mm15_mlx.config import UserError
from mm15_mlx.readers import plain_pickles, read


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


def pickled_refs(folder: Path, name: str, content: bytes) -> Path:
    """The original's two files, the refs as they were published."""
    made.refcoco_original(folder)
    (folder / "refs(unc).json").unlink()
    (folder / name).write_bytes(content)
    return folder / name


REFS = json.loads("""[{"image_id": 7, "ann_id": 70, "ref_id": 3, "split": "testA",
    "sent_ids": [8], "file_name": "c_70.jpg", "category_id": 1, "sentences": [
    {"tokens": ["man"], "raw": "the man", "sent_id": 8, "sent": "man"}]}]""")
# As Python 2 wrote it, in text: byte strings, INT, LIST, DICT, PUT and GET.
PYTHON_2 = b"""(lp1
(dp2
S'image_id'
p3
I7
sS'ann_id'
p4
I70
sS'split'
p5
S'testA'
p6
sS'sentences'
p7
(lp8
(dp9
S'sent'
p10
Vm\\u00e4n
p11
sS'sent_id'
p12
L8L
sS'raw'
p13
g11
sasa."""


@pytest.mark.parametrize(
    ("content", "query"),
    [(PYTHON_2, "män"), *((pickle.dumps(REFS, p), "man") for p in range(6))],
)
def test_refcoco_pickles_of_plain_values(
    tmp_path: Path, content: bytes, query: str
) -> None:
    refs = pickled_refs(tmp_path, "refs(unc).p", content)
    (tmp_path / "refs(google).p").write_bytes(b"not read")
    (row,) = read("refcoco", tmp_path, "testA")
    assert (row["query"], row["box"]) == (query, [1, 2, 11, 22])
    assert read("refcoco", refs) == [row]


def test_refs_need_boxes(tmp_path: Path) -> None:
    (tmp_path / "refs(umd).p").write_bytes(pickle.dumps(REFS))
    with pytest.raises(UserError, match=r"refs\(umd\).p needs instances.json beside"):
        read("refcocog", tmp_path)
    with pytest.raises(UserError, match=r"refs\(umd\).p needs instances.json beside"):
        read("refcocog", tmp_path / "refs(umd).p")
    made.write(tmp_path / "refs(umd).json", REFS)
    with pytest.raises(UserError, match="needs instances.json beside it, which has"):
        read("refcocog", tmp_path / "refs(umd).json")


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for protocol in range(6):
        data = tmp_path / str(protocol)
        content = pickle.dumps(Bomb(trace), protocol)
        pickled_refs(data, "refs(unc).p", content)
        said = r"refs\(unc\).p is a pickle.*asks for code or files: .*refs\(unc\).json"
        with pytest.raises(UserError, match=said):
            read("refcoco", data)
    assert not trace.exists()


DEEP = b"(l" * 100_000 + b"a" * 99_999 + b"."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "code or files: GLOBAL 'os system'"),
        (b"(S'true'\nios\nsystem\n.", "it uses the opcode INST"),
        (b"\x80\x02\x82\x01.", "it uses the opcode EXT1"),
        (b"P1\n.", "it asks for code or files: PERSID '1'"),
        (b"(lp0\ng0\na.", "it has one list or dict in two places"),  # in itself
        (b"(lp0\n(lp1\ng0\na.", "it has one list or dict in two places"),
        (b"(lp0\n2a.", "it uses the opcode DUP"),
        (b"(d(lI1\ns.", "a dict has a key that is neither text nor number"),
        (b"(dI1\n.", "'refs' is not a list of objects"),
        (DEEP, "'refs' is not a list of objects"),
        (b"(lp0\n", "it is damaged"),
        (b"", "it is damaged"),
        (b"aaa.", "it is damaged"),
        (b"g99999999999\n.", "it is damaged"),
        (b"I" + b"9" * 5000 + b"\n.", "it is damaged"),
        (b"S'\\xe9'\n.", "it is damaged"),
        (b"\x8d" + b"\xff" * 8 + b".", "it is damaged"),  # a text of 2 ** 64 bytes
        (pickle.dumps([{}]), "row 1 lacks the key 'image_id'"),
        (pickle.dumps([REFS[0] | {"split": 1}]), "row 1: split must be a text"),
        (pickle.dumps([REFS[0] | {"ann_id": []}]), "row 1: ann_id must be a number"),
        (
            pickle.dumps([REFS[0] | {"sentences": [{"sent": [1]}]}]),
            r"row 1: a sentence is \[1\]; it must be a text",
        ),
    ],
)
def test_hostile_pickles(tmp_path: Path, content: bytes, said: str) -> None:
    pickled_refs(tmp_path, "refs(unc).p", content)
    with pytest.raises(UserError, match=said):
        read("refcoco", tmp_path)


def test_pickles_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = pickled_refs(tmp_path, "refs(unc).p", pickle.dumps(REFS))
    monkeypatch.setattr(plain_pickles, "MAX_OPCODES", 9)
    with pytest.raises(UserError, match="it has more than 9 opcodes"):
        read("refcoco", tmp_path)
    monkeypatch.setattr(plain_pickles, "MAX_BYTES", 9)
    size = refs.stat().st_size
    with pytest.raises(UserError, match=f"it has {size} bytes, and 9 is the limit"):
        read("refcoco", tmp_path)


def test_other_benchmarks_are_no_pickles(tmp_path: Path) -> None:
    (tmp_path / "rows.pkl").write_bytes(pickle.dumps(REFS))
    said = "rows.pkl is a pickle, which can run code, so it is not read; export it as"
    with pytest.raises(UserError, match=said):
        read("docvqa", tmp_path / "rows.pkl")
