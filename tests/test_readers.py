"""Public benchmarks' files → rows of `eval`, and what is said of files that are not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import readers_data as made
from PIL import Image

from mm15_mlx.config import UserError
from mm15_mlx.readers import read
from mm15_mlx.tasks import question
from mm15_mlx.vqa import METRICS

Writer = Callable[[Path], None]


def rows(name: str, writer: Writer, folder: Path, split: str | None = None) -> list:
    writer(folder)
    return read(name, folder, split)


# --- expressions -----------------------------------------------------------------


def test_refcoco_of_the_original_files(tmp_path: Path) -> None:
    man, hat = rows("refcoco", made.refcoco_original, tmp_path, "testA")
    assert man["box"] == hat["box"] == [1, 2, 11, 22]
    assert question(man) == "Where is the man?"
    assert (hat["query"], hat["id"], hat["split"]) == ("hat", "3-9", "testA")
    with pytest.raises(
        UserError, match=r"no ref of the split 'dev'; it has testA, val"
    ):
        read("refcoco", tmp_path, "dev")


@pytest.mark.parametrize("name", ["refcoco", "refcoco+"])
def test_refcoco_of_mdetr_reads_its_own_benchmark(tmp_path: Path, name: str) -> None:
    (row,) = rows(name, made.refcoco_mdetr, tmp_path, "testA")
    assert row["query"] == name
    assert row["box"] == [5, 6, 12, 14]


def test_refcoco_exports_have_a_row_for_each_expression(tmp_path: Path) -> None:
    found = rows("refcocog", made.refcoco_exported, tmp_path, "validation")
    assert [r["query"] for r in found] == ["man", "left one"]
    assert [r["id"] for r in found] == ["q1-0", "q1-1"]


def test_flickr_phrases_have_the_box_around_all_of_theirs(tmp_path: Path) -> None:
    (row,) = rows("flickr30k-entities", made.flickr30k, tmp_path, "test")
    assert row["box"] == [10, 10, 60, 40]  # counted from 0
    assert (row["query"], row["type"]) == ("Two men", "people")


def test_flickr_xml_without_entities(tmp_path: Path) -> None:
    made.flickr30k(tmp_path, '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>')
    with pytest.raises(
        UserError, match=r"36.xml declares a document type, so it is no"
    ):
        read("flickr30k-entities", tmp_path, "test")
    made.flickr30k(tmp_path, "<broken>")
    with pytest.raises(UserError, match=r"36.xml is not XML: "):
        read("flickr30k-entities", tmp_path, "test")
    with pytest.raises(UserError, match="several splits; choose one with --split test"):
        read("flickr30k-entities", tmp_path)
    with pytest.raises(
        UserError, match=r"dev.txt does not exist; it lists the picture"
    ):
        read("flickr30k-entities", tmp_path, "dev")


# --- captions --------------------------------------------------------------------


def test_screen2words_collects_the_summaries_of_a_screen(tmp_path: Path) -> None:
    (row,) = rows("screen2words", made.screen2words, tmp_path, "test")
    assert row["references"] == ["a page, for login", "sign in"]
    assert row["task"] == "screen_summary" and row["id"] == "12"


def test_widget_captions_find_their_box_in_the_hierarchy(tmp_path: Path) -> None:
    (row,) = rows("widget-captioning", made.widget_captioning, tmp_path, "test")
    assert row["box"] == [50, 100, 150, 200]  # the screenshot is half the canvas
    assert row["references"] == ["go back", "return"]


def test_widget_captions_of_a_missing_node(tmp_path: Path) -> None:
    made.widget_captioning(tmp_path, "0.1.5")
    with pytest.raises(
        UserError, match=r"12.json, node 0.1.5 is not in the view hiera"
    ):
        read("widget-captioning", tmp_path, "test")
    with pytest.raises(
        UserError, match="holds several splits; choose one with --split"
    ):
        read("widget-captioning", tmp_path)
    with pytest.raises(
        UserError, match="has no split/lite.txt; it has train, dev, test"
    ):
        read("widget-captioning", tmp_path, "lite")


# --- Ferret-UI -------------------------------------------------------------------


def test_ferret_ui_tasks_follow_the_file_names(tmp_path: Path) -> None:
    found = {r["task"]: r for r in rows("ferret-ui", made.ferret_ui, tmp_path)}
    assert found["ocr"]["text"] == "Reminders" and found["ocr"]["box"] == [1, 2, 30, 40]
    assert found["icon_class"]["icon"] == "launch"
    assert found["widget_class"]["type"] == "Toggle"
    assert found["widget_class"]["accept"] == ["switch"]
    assert found["tappable"]["answer"] == "yes"
    assert found["widget_caption"]["references"] == ["open the app"]
    assert found["screen_summary"]["references"] == ["a shop"]
    assert found["find_widget"]["query"] == "Games Tab"
    assert found["find_widget"]["box"] == [10, 100, 20, 120]  # thousandths, in pixels
    assert (found["find_text"]["text"], found["find_text"]["box"]) == (
        "Get", [5, 6, 7, 8],
    )  # fmt: skip
    assert question(found["find_icon"]) == "Where is the back icon?"
    assert len(found) == 9
    android = read("ferret-ui", tmp_path, "android")
    assert [r["task"] for r in android] == ["find_icon"]


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("chat", {}, "does not name its task; its name must hold one of ocr, icon"),
        ("ocr", {"label": "x"}, r"row 1 lacks the box box_x1y1x2y2\[0\]\[0\]"),
        (
            "ocr",
            {"box_x1y1x2y2": [[[1, 2, 3, 4]]]},
            "row 1 has no answer: neither a lab",
        ),
        ("find_icon", {"label": "x"}, "asks ''; it must be \"Where is the …"),
        (
            "find_icon",
            {"label": "x", "conversations": [{"value": "Where is the dot?"}]},
            r"row 1 has no box: neither box_x1y1x2y2\[1\]\[0\] nor",
        ),
    ],
)
def test_ferret_ui_rows_that_say_too_little(
    tmp_path: Path, name: str, row: dict[str, Any], said: str
) -> None:
    made.picture(tmp_path / "s.png")
    made.write(tmp_path / f"{name}.json", [{"image": "s.png"} | row])
    with pytest.raises(UserError, match=said):
        read("ferret-ui", tmp_path)


# --- questions about one picture ---------------------------------------------------


def test_textvqa_compares_ten_people(tmp_path: Path) -> None:
    (row,) = rows("textvqa", made.textvqa, tmp_path, "val")
    assert row["question"].startswith("What brand is it?\nAnswer the question using a")
    assert row["metric"] == "vqa_accuracy" and len(row["answers"]) == 10
    assert METRICS["vqa_accuracy"]("Nokia", row["answers"]) == 1
    with pytest.raises(UserError, match="row 1 has no answers; those of a test split"):
        read("textvqa", tmp_path, "test")
    with pytest.raises(UserError, match="holds the splits test, val; choose one with"):
        read("textvqa", tmp_path)


def test_docvqa(tmp_path: Path) -> None:
    (row,) = rows("docvqa", made.docvqa, tmp_path, "dev")  # val by another name
    assert (row["id"], row["metric"], row["answers"]) == ("9", "anls", ["1/2/98"])
    assert row["question_types"] == "form, layout"


@pytest.mark.parametrize(("types", "said"), [(5, "5"), ("form", "form")])
def test_docvqa_types_that_are_no_list(tmp_path: Path, types: Any, said: str) -> None:
    made.docvqa(tmp_path)
    file = tmp_path / "val_v1.0_withQT.json"
    (row,) = json.loads(file.read_text())["data"]
    made.write(file, {"data": [row | {"question_types": types}]})
    assert read("docvqa", tmp_path)[0]["question_types"] == said
    made.write(file, {"data": [row | {"question_types": {"form": 1}}]})
    with pytest.raises(UserError, match="row 1: question_types must hold texts, not"):
        read("docvqa", tmp_path)


def test_ids_are_made_unique(tmp_path: Path) -> None:
    made.docvqa(tmp_path)
    file = tmp_path / "val_v1.0_withQT.json"
    row = json.loads(file.read_text())["data"][0]
    made.write(file, {"data": [row, row, row]})
    assert [r["id"] for r in read("docvqa", tmp_path)] == ["9", "9~2", "9~3"]
    given = [row | {"questionId": i} for i in ("1", "1~2", "1", "1~2", "1", "1~4")]
    made.write(file, {"data": given})
    found = [r["id"] for r in read("docvqa", tmp_path)]
    assert found == ["1", "1~2", "1~3", "1~2~2", "1~5", "1~4"]


def test_infovqa(tmp_path: Path) -> None:
    (row,) = rows("infovqa", made.infovqa, tmp_path)
    assert row["answers"] == ["3", "three"] and row["metric"] == "anls"


def test_chartqa_has_two_halves(tmp_path: Path) -> None:
    human, augmented = rows("chartqa", made.chartqa, tmp_path, "test")
    assert (human["type"], human["answers"]) == ("human", ["12"])
    assert (augmented["type"], augmented["answers"]) == ("augmented", ["14%"])
    assert human["metric"] == "relaxed_accuracy"
    assert human["question"] == "How much?\nAnswer the question with a single word."
    assert human["id"] != augmented["id"]


def test_chartqa_of_one_half(tmp_path: Path) -> None:
    made.chartqa(tmp_path)
    (tmp_path / "test" / "test_augmented.json").unlink()
    (row,) = read("chartqa", tmp_path, "test")
    assert row["type"] == "human"
    assert len(read("chartqa", tmp_path, "val")) == 2
    with pytest.raises(UserError, match="has no file of the split 'dev1'; it has"):
        read("chartqa", tmp_path, "dev1")


@pytest.mark.parametrize(
    ("said", "half"),
    [
        ({}, None), ({"split": "test"}, None), ({"type": "bar"}, None),
        ({"type": "human_test"}, "human"), ({"split": "test_augmented"}, "augmented"),
        ({"human_or_machine": 0}, "human"), ({"human_or_machine": "1"}, "augmented"),
        ({"type": "machine"}, "augmented"), ({"type": "Human"}, "human"),
        ({"type": 0}, "human"),
    ],
)  # fmt: skip
def test_chartqa_rows_say_their_half_or_nothing(
    tmp_path: Path, said: dict[str, Any], half: str | None
) -> None:
    made.picture(tmp_path / "k.png")
    row = {"imgname": "k.png", "query": "How much?", "label": "12"}
    made.write_lines(tmp_path / "test.jsonl", [row | said])
    (found,) = read("chartqa", tmp_path)
    assert found.get("type") == half


def test_ocrbench_asks_as_it_stands(tmp_path: Path) -> None:
    (row,) = rows("ocrbench", made.ocrbench, tmp_path)
    assert row["question"] == "what is written in the image?"
    assert row["category"] == "Regular Text Recognition"
    assert METRICS[row["metric"]]("It says Centre.", row["answers"]) == 1


def test_ocrbench_compares_formulas_in_another_way(tmp_path: Path) -> None:
    made.ocrbench(tmp_path)
    file = tmp_path / "OCRBench" / "OCRBench.json"
    (row,) = json.loads(file.read_text())
    kind = "Handwritten Mathematical Expression Recognition"
    formula = row | {"type": kind, "answers": ["x + Y"], "dataset_name": "HME100k"}
    made.write(file, [row, formula])
    text, formula = read("ocrbench", tmp_path)
    assert (text["metric"], formula["metric"]) == ("contains", "contains_formula")
    assert METRICS[formula["metric"]]("It is x+Y", formula["answers"]) == 1


def test_a_table_of_vlmevalkit_holds_its_pictures(tmp_path: Path) -> None:
    what, who = rows("docvqa", made.vlmevalkit, tmp_path, "val")
    assert what["answers"] == ["a", "b"]
    assert what["image"] == who["image"]
    assert Path(what["image"]).parent == tmp_path / "DocVQA_VAL.tsv.pictures"
    with Image.open(what["image"]) as image:
        assert image.size == made.SIZE
    table = tmp_path / "DocVQA_VAL.tsv"
    for answer, answers in (("[12]", ["[12]"]), ("['12', '3']", ["12", "3"])):
        table.write_text(table.read_text().replace("['a', 'b']", answer))
        assert read("docvqa", tmp_path, "val")[0]["answers"] == answers
        table.write_text(table.read_text().replace(answer, "['a', 'b']"))
    before = Path(what["image"]).stat().st_mtime_ns
    assert read("docvqa", tmp_path, "val") == [what, who]
    assert Path(what["image"]).stat().st_mtime_ns == before


# --- several pictures --------------------------------------------------------------


def test_nlvr2_takes_the_highest_file_of_a_split(tmp_path: Path) -> None:
    true, false = rows("nlvr2", made.nlvr2, tmp_path, "dev")
    assert [Path(p).name for p in true["images"]] == [
        "dev-850-0-img0.png", "dev-850-0-img1.png",
    ]  # fmt: skip
    score = METRICS[true["metric"]]
    assert score("Yes.", true["answers"]) == 1 == score("no", false["answers"])
    assert score("No.", true["answers"]) == 0


def test_nlvr2_labels(tmp_path: Path) -> None:
    made.nlvr2(tmp_path)
    row = {"identifier": "dev-850-0-0", "sentence": "A dog.", "label": "maybe"}
    made.write_lines(tmp_path / "dev.json", [row])
    with pytest.raises(UserError, match="row 1: label is 'maybe'; it must be True or"):
        read("nlvr2", tmp_path, "dev")


def test_muirbench_has_options_and_places(tmp_path: Path) -> None:
    row, odd = rows("muirbench", made.muirbench, tmp_path)
    assert row["question"] == (
        "In <image> and <image>: how many?\nA. one\nB. two\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert row["category"] == "Counting" and len(row["images"]) == 2
    assert METRICS[row["metric"]]("B. two", row["answers"]) == 1
    assert row["options"] == 2
    # one place for two pictures is none
    assert odd["question"].startswith("Which of picture 1?")


def test_vl_icl_shows_examples_before_the_question(tmp_path: Path) -> None:
    made.vl_icl(tmp_path)
    found = read("vl-icl", tmp_path / "open_mi")
    assert [r["shots"] for r in found] == [0, 1, 2, 4, 8]
    assert [len(r["images"]) for r in found] == [1, 3, 5, 9, 17]
    assert all(r["question"].count("<image>") == len(r["images"]) for r in found)
    assert found == read("vl-icl", tmp_path / "open_mi")
    (one,) = read("vl-icl", tmp_path / "open_mi", "1")
    assert one == found[1]
    assert one["question"].endswith("<image>\nThis is a\nAnswer:")
    assert {"Answer: dax", "Answer: wug"} <= set(one["question"].split("\n"))
    assert METRICS[one["metric"]]("Dax\nThis is", one["answers"]) == 1


def test_vl_icl_examples_follow_the_operator(tmp_path: Path) -> None:
    made.vl_icl(tmp_path)
    (row,) = read("vl-icl", tmp_path / "operator_induction", "4")
    assert row["question"].count("2 ? 3 =\nAnswer: 6\n") == 4
    assert METRICS[row["metric"]]("2 x 3 = 6", row["answers"]) == 0  # the first number
    assert METRICS[row["metric"]]("It is 6.", row["answers"]) == 1


def test_vl_icl_errors(tmp_path: Path) -> None:
    made.vl_icl(tmp_path)
    with pytest.raises(UserError, match="--split 3 of vl-icl is a number of examples"):
        read("vl-icl", tmp_path / "open_mi", "3")
    with pytest.raises(
        UserError, match="is no data set of VL-ICL; the folder's name mu"
    ):
        read("vl-icl", tmp_path)
    made.write(tmp_path / "operator_induction" / "support.json", [])
    with pytest.raises(UserError, match="row 1: no 2 examples for it: ValueError"):
        read("vl-icl", tmp_path / "operator_induction", "2")


@pytest.mark.parametrize(
    ("support", "said"),
    [
        (["a text"] * 8, "support.json, row 1 is not an object"),
        ({"a": 1}, "support.json is not a list of rows"),
        ([{"same": "x"}], "support.json, row 1: same is 'x'; it must be an object"),
    ],
)
def test_vl_icl_examples_that_are_none(tmp_path: Path, support: Any, said: str) -> None:
    made.vl_icl(tmp_path)
    made.write(tmp_path / "operator_induction" / "support.json", support)
    with pytest.raises(UserError, match=said):
        read("vl-icl", tmp_path / "operator_induction", "4")


def test_nextqa_finds_videos_through_the_map(tmp_path: Path) -> None:
    (row,) = rows("nextqa", made.nextqa, tmp_path, "val")
    assert Path(row["video"]) == tmp_path / "NExTVideo" / "1000" / "42.mp4"
    assert row["question"].startswith("why\nA. p\nB. q\nC. r\nD. s\nE. t\nAnswer")
    assert (row["answers"], row["metric"], row["id"]) == (["C"], "mcq", "42-6")
    assert row["options"] == 5


def test_nextqa_answers_are_numbers_of_options(tmp_path: Path) -> None:
    made.nextqa(tmp_path)
    text = (tmp_path / "val.csv").read_text().replace("why,2", "why,7")
    (tmp_path / "val.csv").write_text(text)
    with pytest.raises(UserError, match="row 1: answer is '7'; it must be 0 to 4"):
        read("nextqa", tmp_path)


def test_nextqa_without_an_object_of_places(tmp_path: Path) -> None:
    made.nextqa(tmp_path)
    made.write(tmp_path / "map_vid_vidorID.json", ["1000/42"])
    with pytest.raises(UserError, match="map_vid_vidorID.json is not an object; it mu"):
        read("nextqa", tmp_path)
