"""The page of `eval --html`, and the pictures on it."""

import base64
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mm15_mlx.answered import key_of, prediction_row
from mm15_mlx.compare import differences
from mm15_mlx.config import UserError
from mm15_mlx.crops import answered, boxes, draw_crop, expected, failed, view
from mm15_mlx.images import Picture
from mm15_mlx.report import LONGEST, page
from mm15_mlx.scores import Place, Said, score
from mm15_mlx.summaries import Prediction, sliced, summary
from mm15_mlx.video import Clip

EVIL = '<script>alert("1")</script>" onerror="x'
GREEN, RED = (47, 158, 68), (230, 25, 75)


class Page(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data if "style" not in self.open else ""

    def images(self) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


@pytest.fixture
def screen_file(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (200, 400), "white").save(path)
    return path


def done(path: Path, name: str, said: str, **fields: Any) -> Prediction:
    row = {"id": name, "image": str(path), "task": "ocr", "box": [20, 20, 60, 40],
           "text": "Save", **fields}  # fmt: skip
    places = (Place((100.0, 100.0, 150.0, 150.0)),) if said == "box" else ()
    result = Said(said, places)
    return Prediction(row, result, score(row, result), 0.5)


def made(answers: list[Prediction], limit: int = 20, by: str | None = None) -> Page:
    report = summary("tiny", answers, [by] if by else [])
    parts = sliced(answers, by) if by else {"": answers}
    read = Page("\n".join(page(report, parts, limit)))
    assert read.open == []
    return read


def test_a_page_stands_alone(screen_file: Path) -> None:
    read = made([done(screen_file, "1", "Sane"), done(screen_file, "2", "Save")])
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "link", "iframe"})
    links = [v for _, a in read.tags for k, v in a.items() if k in ("src", "href")]
    assert len(links) == 1 and links[0].startswith("data:image/webp;base64,")
    policies = [a["content"] for _, a in read.tags if "http-equiv" in a]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "ocr: 1 of 2 failed" in read.text
    assert "expected: Save" in read.text and "answered: Sane" in read.text
    (image,) = read.images()
    assert image["alt"] == "1: expected Save, answered Sane"
    data = base64.b64decode(str(image["src"]).partition(",")[2])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "WEBP"
        assert (str(picture.width), str(picture.height)) == (
            image["width"], image["height"],
        )  # fmt: skip


def test_each_metric_has_its_number_of_answers(screen_file: Path) -> None:
    def ask(name: str, metric: str) -> Prediction:
        fields = {"question": "?", "answers": ["x"], "metric": metric}
        return done(screen_file, name, "x", task="vqa", **fields)

    answers = [ask("1", "contains"), ask("2", "contains"), ask("3", "anls")]
    report = summary("tiny", answers, ["metric"])
    report["against"] = differences(answers, {key_of(p.row): prediction_row(p)
                                              for p in answers})  # fmt: skip
    html = "\n".join(page(report, {"": answers}, 20))
    rows = re.findall(r"<td>vqa</td>.*</tr>", html)
    counts = [re.findall(r"<td>(.+?)</td>", row)[-1] for row in rows]
    assert counts == ["2", "1", *["2", "1"], "1", "2"]  # all, against, by metric


def test_what_a_model_says_is_only_text(screen_file: Path) -> None:
    """Of rows, too: names of models and values of slices are anybody's."""
    answers = [
        done(screen_file, EVIL, EVIL, text=EVIL + "x", kit=EVIL),
        done(screen_file, "2", EVIL, task="find_text", text=EVIL, kit="weui"),
        done(screen_file, "3", EVIL, task="vqa", question=EVIL, answers=[EVIL + "1"],
             metric="exact_match"),
    ]  # fmt: skip
    report = summary(EVIL, answers, ["kit"])
    lines = [{**p.row, "prediction": "", "boxes": [], "scores": p.scores}
             for p in answers]  # fmt: skip
    others = {(line["task"], line["id"]): line for line in lines[1:]}
    report["against"] = differences(answers, others)
    html = "\n".join(page(report, sliced(answers, "kit"), 20))
    assert "<script" not in html
    read = Page(html)
    assert all(not k.startswith("on") for _, a in read.tags for k in a)
    assert read.text.count(EVIL) > 8
    assert len(read.images()) == 3


def pictured(**fields: Any) -> tuple[dict[str, str | None], Image.Image]:
    """The picture of a failed question on the page, and its attributes."""
    row = {"id": "1", "task": "vqa", "question": "?", "answers": ["a"],
           "metric": "exact_match", **fields}  # fmt: skip
    (image,) = made(
        [Prediction(row, Said("b", ()), {"exact_match": 0.0}, 0.5)]
    ).images()
    data = base64.b64decode(str(image["src"]).partition(",")[2])
    return image, Image.open(io.BytesIO(data)).convert("RGB")


@pytest.mark.parametrize(
    ("count", "size"), [(2, (320, 316)), (3, (320, 208)), (5, (320, 420))]
)
def test_pictures_stand_side_by_side(
    tmp_path: Path, count: int, size: tuple[int, int]
) -> None:
    """Three abreast at most, each in its own shape: 100 × 200 pixels."""
    paths = []
    for k in range(count):
        paths.append(str(tmp_path / f"{k}.png"))
        Image.new("RGB", (100, 200), (40 * k, 200, 255 - 40 * k)).save(paths[-1])
    attributes, sheet = pictured(images=paths)
    assert f"1 ({count} pictures): expected a" in str(attributes["alt"])
    assert sheet.size == size
    across = min(count, 3)
    for k in range(count):
        middle = (320 * (2 * (k % across) + 1) // (2 * across), 100 + k // across * 212)
        red, green, blue = sheet.getpixel(middle)
        assert abs(red - 40 * k) < 12 and abs(blue - 255 + 40 * k) < 12, k
        assert abs(green - 200) < 12


def test_a_video_is_its_middle_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: str, frames: int) -> Clip:
        assert (path, frames) == ("a.mp4", 1)
        frame = Picture(Image.new("RGB", (400, 300), (10, 200, 30)), path)
        return Clip(path, [frame], [5.0], 10.0)

    monkeypatch.setattr("mm15_mlx.report.read_clip", read)
    attributes, frame = pictured(video="a.mp4")
    assert "1 (a video's middle frame): expected a" in str(attributes["alt"])
    assert frame.size == (320, 240)
    assert abs(frame.getpixel((160, 120))[1] - 200) < 12


def test_numbers_are_printed_before_the_page_is_made(
    button: Path,
    tmp_path: Path,
    cli: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise UserError("a.png is gone; put it back")

    monkeypatch.setattr("mm15_mlx.report.write", fails)
    Image.new("RGB", (90, 160), "white").save(tmp_path / "a.png")
    row = {"id": "1", "image": "a.png", "task": "ocr", "box": [0, 0, 9, 9], "text": "x"}
    (tmp_path / "t.jsonl").write_text(json.dumps(row))
    verb = ["eval", "--model", button, "--data", tmp_path / "t.jsonl"]
    status, printed, complaint = cli(*verb, "--html", tmp_path / "a.html")
    assert status == 2 and printed.startswith("ocr            exact 0.000")
    assert complaint.endswith("error: a.png is gone; put it back\n")


def test_failures_are_few_and_in_their_slices(screen_file: Path) -> None:
    answers = [
        done(screen_file, f"{k:02}", "Sane" if k % 3 else "Save", kit="ab"[k % 2])
        for k in range(30)
    ]
    read = made(answers, limit=4, by="kit")
    assert len(read.images()) == 4
    assert "ocr: 20 of 30 failed, 4 shown" in read.text
    again = made(answers, limit=4, by="kit")
    assert [i["alt"] for i in again.images()] == [i["alt"] for i in read.images()]
    assert made(answers, limit=0).images() == []
    assert len([t for t, _ in read.tags if t == "details"]) >= 2 + 1 + 1
    long = made([done(screen_file, "1", "y" * 5000)])
    assert "y" * LONGEST + "…" in long.text and "y" * (LONGEST + 1) not in long.text


def line(task: str, **fields: Any) -> dict[str, Any]:
    return {"id": "1", "task": task, "prediction": "", "boxes": [],
            "scores": {"m": 0.0}, **fields}  # fmt: skip


def test_the_worst_comes_first(screen_file: Path) -> None:
    def listed(name: str, hits: int) -> Prediction:
        elements = [{"type": "text", "text": "", "box": [0, 0, 9, 9]}] * 4
        row = {"id": name, "image": str(screen_file), "task": "widgets",
               "elements": elements}  # fmt: skip
        return Prediction(row, Said("", ()), {"recall@0.5": hits / 4}, 0.5)

    read = made([listed("two", 2), listed("none", 0), listed("all", 4)])
    assert [str(i["alt"]).split(":")[0] for i in read.images()] == ["none", "two"]


def test_words_of_failures() -> None:
    box = [0, 1, 2, 3]
    find = line("find_text", text="A", box=box, boxes=[[4, 5, 6, 7]])
    assert (expected(find), answered(find)) == ("0, 1, 2, 3", "4, 5, 6, 7")
    kind = line("widget_class", box=box, type="tab", accept=["link"])
    assert (expected(kind), answered(kind)) == ("tab or link", "nothing")
    vqa = line("vqa", question="?", answers=["a", "b", "a"], prediction="c")
    assert (expected(vqa), answered(vqa)) == ("a or b", "c")
    caption = line("screen_summary", references=["x", "y"])
    assert expected(caption) == "x / y"
    widgets = line("widgets", elements=[{"box": box}], listed=[{"px": box}] * 2)
    assert (expected(widgets), answered(widgets)) == ("1 elements", "2 listed")
    assert boxes(vqa) == ([], []) and boxes(widgets) == ([box], [box, box])
    assert boxes({**vqa, "box": "left"}) == ([], [])
    assert view(vqa, (40, 60)) == (0, 0, 40, 60)
    assert failed(caption) and not failed({**caption, "scores": {"cider": 1.2}})


def test_truth_is_solid_and_the_answer_dashed() -> None:
    row = line("find_text", text="A", box=[30, 30, 90, 60], boxes=[[30, 100, 90, 190]])
    small = draw_crop(row, Image.new("RGB", (150, 300), "white"), 300)
    assert small.size == (300, 600)
    left = [small.getpixel((58, y)) for y in range(600)]
    assert left[70:110] == [GREEN] * 40
    dashes = left[210:370]
    assert 0.4 < dashes.count(RED) / len(dashes) < 0.7
    assert dashes.count((255, 255, 255)) == len(dashes) - dashes.count(RED)


def test_eval_writes_page_and_differences(
    button: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    Image.new("RGB", (90, 160), "white").save(tmp_path / "a.png")
    one = {"image": "a.png", "task": "ocr", "box": [0, 0, 9, 9], "text": "x"}
    data, out = tmp_path / "tasks.jsonl", tmp_path / "out.jsonl"
    html = tmp_path / "out.html"
    data.write_text("\n".join(json.dumps({"id": str(k), **one}) for k in range(3)))
    verb = ["eval", "--model", button, "--data", data]
    assert cli(*verb, "--predictions", out, "--limit", "2")[0] == 0
    verb += ["--against", out]
    status, printed, _ = cli(*verb, "--html", html, "--by", "task", "--by", "size")
    assert status == 0
    assert "\nocr            exact +0.000 [+0.000, +0.000]" in printed
    assert printed.rstrip().endswith("1 rows only here: ocr 2")
    text = html.read_text(encoding="utf-8")
    assert "Against the other run" in text and "1 rows only here: ocr 2" in text
    assert len(Page(text).images()) == len(re.findall("<figure>", text)) == 3
    status, printed, _ = cli(*verb, "--json")
    found = json.loads(printed)["against"]
    assert found["missing"] == {"here": [], "there": [["ocr", "2"]]}
    assert found["metrics"]["ocr"]["exact"]["p"] == 1
    status, _, complaint = cli(*verb, "--html", html)
    assert status == 2 and "out.html exists; give --force" in complaint
    status, _, complaint = cli(*verb[:-1], tmp_path / "no.jsonl")
    assert status == 2 and "no.jsonl does not exist; give a file of eval" in complaint
