"""Drawn pages of text: rows as `data screens` writes them, and words never read."""

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("faker")

from mm15_mlx.convert.mm15_torch import pages
from mm15_mlx.convert.mm15_torch.glyphs import find_fonts
from mm15_mlx.screens.sheet import read_rows

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def fonts() -> pages.Fonts:
    try:
        return find_fonts()
    except FileNotFoundError as e:
        pytest.skip(str(e))


def test_a_page_says_where_each_character_is(fonts: pages.Fonts) -> None:
    image, row = pages.make_screen(3, fonts, pages.MixedWords(3))
    again, _ = pages.make_screen(3, fonts, pages.MixedWords(3))
    assert image.size == (row["width"], row["height"])
    assert np.array_equal(np.asarray(image), np.asarray(again))
    assert len(row["texts"]) == len(row["elements"]) > 10
    pixels = np.asarray(image.convert("L")).astype(int)
    for line in row["texts"]:
        x1, y1, x2, y2 = line["box"]
        assert 0 <= x1 < x2 <= row["width"] and 0 <= y1 < y2 <= row["height"]
        edges = line["edges"]
        assert len(edges) == len(line["text"]) + 1 and edges == sorted(edges)
        assert abs(edges[0] - x1) < 12 and abs(edges[-1] - x2) < 12
        inside = pixels[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1]
        assert np.ptp(inside) > 50  # there is something to read


def test_a_seed_says_the_same_next_year(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2031, 5, 17, 9, 30)

    def said() -> list[str]:
        words = pages.MixedWords(5)
        return [words.phrase() for _ in range(400)]

    today = said()
    monkeypatch.setattr("faker.providers.date_time.datetime", Later)
    assert said() == today


def test_half_of_the_words_are_nobodys() -> None:
    words = pages.MixedWords(0)
    known = set(words.fake.words(4000))
    said = [w.strip(".,").lower() for _ in range(300) for w in words.joined().split()]
    strange = sum(w not in known for w in said) / len(said)
    assert strange > 0.7


def test_numbers_and_names_are_never_the_same() -> None:
    words = pages.MixedWords(0)
    numbers = [words.number() for _ in range(400)]
    assert len(set(numbers)) > 350
    assert all(any(c.isdigit() for c in n) for n in numbers)
    assert all(0 < len(n) < 32 and n.isascii() or "€" in n or "£" in n for n in numbers)
    names = {words.name() for _ in range(400)}
    assert len(names) > 350 and all(n.isascii() for n in names)


def test_pages_are_drawn_once(
    tmp_path: Path, fonts: pages.Fonts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["pages", "--out", str(tmp_path), "--count", "2"])
    pages.main()
    first = (tmp_path / "screens.jsonl").read_text()
    with (tmp_path / "screens.jsonl").open("a") as rows:
        rows.write('{"id": "0-00')  # a run that was killed
    monkeypatch.setattr("sys.argv", ["pages", "--out", str(tmp_path), "--count", "3"])
    pages.main()
    rows = read_rows(tmp_path)
    assert json.loads(first.splitlines()[0])["id"] == rows[0]["id"] == "0-000000"
    assert [r["id"] for r in rows] == ["0-000000", "0-000001", "0-000002"]
    assert all((tmp_path / r["image"]).is_file() and r["kit"] == "drawn" for r in rows)
