"""Tiny made-up files in the layouts of public benchmarks, for test_readers.py.

Every function writes into a folder; pictures are 100 × 200 pixels unless it says other.
"""

import base64
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = (100, 200)


def picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "JPEG" if path.suffix == ".jpg" else "PNG"
    Image.new("RGB", size, "white").save(path, format=kind)


def picture_bytes(shade: int = 255) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", SIZE, (shade, shade, shade)).save(buffer, format="PNG")
    return buffer.getvalue()


def write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def write_lines(path: Path, rows: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def screenspot(folder: Path) -> None:
    """v2: a picture folder and a file for each platform."""
    picture(folder / "screenspotv2_image" / "a.png")
    row = {
        "img_filename": "a.png", "bbox": [10, 20, 30, 40], "data_type": "icon",
        "instruction": "close this window", "data_source": "macos",
    }  # fmt: skip
    write(folder / "screenspot_desktop_v2.json", [row])
    write(folder / "screenspot_web_v2.json", [row | {"instruction": "search"}])


def screenspot_pro(folder: Path) -> None:
    picture(folder / "images" / "cad" / "b.png")
    row = {
        "img_filename": "cad/b.png", "bbox": [10, 20, 30, 60], "ui_type": "icon",
        "instruction": "zoom", "instruction_cn": "缩放", "id": "cad_1",
        "application": "cad", "group": "CAD",
        "platform": "windows", "img_size": [100, 200],
    }  # fmt: skip
    write(folder / "annotations" / "cad_windows.json", [row])


def refcoco_original(folder: Path) -> None:
    """The original's two files, the refs as JSON."""
    picture(folder / "train2014" / "c.jpg")
    write(
        folder / "instances.json",
        {
            "images": [{"id": 7, "file_name": "c.jpg"}],
            "annotations": [{"id": 70, "image_id": 7, "bbox": [1, 2, 10, 20]}],
        },
    )
    ref = {"image_id": 7, "ann_id": 70, "ref_id": 3, "split": "testA"}
    sentences = [{"sent_id": 8, "sent": "the man"}, {"sent_id": 9, "sent": "a hat"}]
    write(
        folder / "refs(unc).json",
        [ref | {"sentences": sentences}, ref | {"split": "val", "sentences": []}],
    )


def refcoco_mdetr(folder: Path) -> None:
    """One folder for two benchmarks, as MDETR's archive is."""
    picture(folder / "train2014" / "c.jpg")
    for name in ("refcoco", "refcoco+"):
        write(
            folder / f"finetune_{name}_testA.json",
            {
                "images": [{"id": 1, "file_name": "c.jpg", "caption": f"the {name}"}],
                "annotations": [{"image_id": 1, "bbox": [5, 6, 7, 8]}],
            },
        )


def refcoco_exported(folder: Path) -> None:
    picture(folder / "images" / "c.jpg")
    row = {
        "question_id": "q1", "image": "images/c.jpg", "answer": ["man", "left one"],
        "bbox": [5, 6, 7, 8],
    }  # fmt: skip
    write_lines(folder / "val.jsonl", [row])


def flickr30k(folder: Path, head: str = "") -> None:
    """A picture with two phrases: one has two boxes, one has none."""
    picture(folder / "flickr30k-images" / "36.jpg")
    (folder / "test.txt").write_text("36\n")
    for name, text in (
        (
            "Sentences/36.txt",
            "[/EN#1/people Two men] near [/EN#0/notvisual the sun] run .\n",
        ),
        (
            "Annotations/36.xml",
            head + "<annotation><size><width>100</width></size>"
            "<object><name>1</name><bndbox><xmin>11</xmin><ymin>21</ymin>"
            "<xmax>31</xmax><ymax>41</ymax></bndbox></object>"
            "<object><name>1</name><bndbox><xmin>51</xmin><ymin>11</ymin>"
            "<xmax>61</xmax><ymax>31</ymax></bndbox></object>"
            "<object><name>2</name><scene>1</scene><nobndbox>0</nobndbox></object>"
            "</annotation>",
        ),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def rico(folder: Path) -> None:
    """RICO's screen 12, half as high as its canvas, with a hierarchy of one button."""
    picture(folder / "combined" / "12.jpg", (720, 1280))
    button = {"bounds": [100, 200, 300, 400], "children": []}
    root = {"bounds": [0, 0, 1440, 2560], "children": [{"children": []}, button]}
    write(folder / "combined" / "12.json", {"activity": {"root": root}})


def screen2words(folder: Path) -> None:
    rico(folder)
    (folder / "split").mkdir()
    (folder / "split" / "test_screens.txt").write_text("12\n")
    write_table(
        folder / "screen_summaries.csv",
        [
            {"screenId": 12, "summary": "a page, for login"},
            {"screenId": 99, "summary": "of another split"},
            {"screenId": 12, "summary": "sign in"},
        ],
    )


def widget_captioning(folder: Path, node: str = "0.1") -> None:
    rico(folder)
    (folder / "split").mkdir()
    (folder / "split" / "test.txt").write_text("12\n")
    row = {"screenId": 12, "nodeId": node, "captions": "go back|return"}
    write_table(folder / "widget_captions.csv", [row, row | {"screenId": 99}])


def ferret_ui(folder: Path) -> None:
    """A file for each kind of task."""
    picture(folder / "s.png")
    base = {"image": "s.png", "image_w": 100, "image_h": 200}
    box = [[[1, 2, 30, 40]], []]

    def turns(asked: str, answer: str) -> list[dict[str, str]]:
        human = {"from": "human", "value": f"<image>\n{asked}"}
        return [human, {"from": "gpt", "value": answer}]

    rows = {
        "ocr_iphone": (turns("What text …?", "Reminders"), box),
        "icon_recognition_iphone": (turns("Identify …?", "launch"), box),
        "widget_classification_iphone": (turns("What's …?", "Toggle"), box),
        "taperception": (turns("Predict …", "Yes."), box),
        "widgetcaptions": (turns("Describe …", "open the app"), box),
        "screen2words": (turns("Summarise …", "a shop"), None),
        "find_widget_iphone": (
            turns("Where is the Games Tab located?", "[100, 500, 200, 600]"),
            None,
        ),
        "find_text_iphone": (
            turns('Where is the text "Get" located?', "<bbox_location0>"),
            [[], [[5, 6, 7, 8]]],
        ),
        "find_icons_android": (
            turns("Where is the back icon located?", "It is [0, 0, 500, 500]."),
            None,
        ),
    }
    for k, (name, (conversations, boxes)) in enumerate(rows.items()):
        row = base | {"id": k, "conversations": conversations}
        write(
            folder / f"{name}.json", [row | ({"box_x1y1x2y2": boxes} if boxes else {})]
        )


def textvqa(folder: Path) -> None:
    picture(folder / "train_images" / "i1.jpg")
    row = {"question_id": 5, "image_id": "i1", "question": "what Brand is it?"}
    answers = ["nokia"] * 8 + ["samsung", "phone"]
    write(folder / "TextVQA_0.5.1_val.json", {"data": [row | {"answers": answers}]})
    write(folder / "TextVQA_0.5.1_test.json", {"data": [row]})
    write(folder / "TextVQA_Rosetta_OCR_v0.2_val.json", {"data": []})


def docvqa(folder: Path) -> None:
    picture(folder / "documents" / "d_1.png")
    row = {
        "questionId": 9, "question": "Which date?", "image": "documents/d_1.png",
        "answers": ["1/2/98"], "question_types": ["form", "layout"],
    }  # fmt: skip
    write(folder / "val_v1.0_withQT.json", {"data": [row]})


def infovqa(folder: Path) -> None:
    picture(folder / "infographicsvqa_images" / "2.jpg")
    row = {
        "questionId": 4, "question": "How many?", "image_local_name": "2.jpg",
        "answers": ["3", "three"],
    }  # fmt: skip
    write(folder / "infographicsVQA_val_v1.0_withQT.json", {"data": [row]})


def chartqa(folder: Path) -> None:
    for split in ("val", "test"):
        picture(folder / split / "png" / "k.png")
        for half, label in (("human", "12"), ("augmented", "14%")):
            row = {"imgname": "k.png", "query": "How much?", "label": label}
            write(folder / split / f"{split}_{half}.json", [row])


def ocrbench(folder: Path) -> None:
    picture(folder / "OCRBench_Images" / "IIIT5K" / "1.png")
    row = {
        "dataset_name": "IIIT5K", "image_path": "IIIT5K/1.png", "answers": "CENTRE",
        "question": "what is written in the image?", "type": "Regular Text Recognition",
    }  # fmt: skip
    write(folder / "OCRBench" / "OCRBench.json", [row])


def vlmevalkit(folder: Path) -> None:
    """Two questions about one picture; the second names the first one's row."""
    encoded = base64.b64encode(picture_bytes()).decode()
    row = {"index": "7", "image": encoded, "question": "What?", "answer": "['a', 'b']"}
    rows = [row, row | {"index": "8", "image": "7", "question": "Who?"}]
    write_table(folder / "DocVQA_VAL.tsv", rows)


def nlvr2(folder: Path) -> None:
    for side in (0, 1):
        picture(folder / "images" / "dev" / f"dev-850-0-img{side}.png")
    row = {"identifier": "dev-850-0-0", "sentence": "Two dogs run.", "label": "True"}
    lines = [row, row | {"identifier": "dev-850-0-1", "label": "False"}]
    write_lines(folder / "dev.json", lines)
    write_lines(folder / "balanced" / "balanced_dev.json", lines)


def muirbench(folder: Path) -> None:
    for name in "ab":
        picture(folder / f"{name}.png")
    row = {
        "idx": "1", "task": "Counting", "image_relation": "Ordered_Pages",
        "image_type": "Slides", "question": "In <image> and <image>: how many?",
        "options": ["one", "two"], "answer": "B", "image_list": ["a.png", "b.png"],
    }  # fmt: skip
    odd = row | {"idx": "2", "question": "Which of <image>?"}
    write_lines(folder / "test.jsonl", [row, odd])


def vl_icl(root: Path) -> None:
    """open_mi and operator_induction below `root`; paths begin with the set's name."""
    images = {}
    for label in ("dax", "wug"):
        names = [f"open_mi/{label}{k}.jpg" for k in range(8)]
        images[label] = {"images": names}
        for name in names:
            picture(root / name, (8, 8))
    picture(root / "open_mi" / "query.jpg", (8, 8))
    query = {
        "id": 1, "image": ["open_mi/query.jpg"], "question": "This is a",
        "answer": "dax", "classes": ["dax", "wug"], "support": images,
    }  # fmt: skip
    write(root / "open_mi" / "query.json", [query])
    folder = root / "operator_induction"
    picture(folder / "1.jpg", (8, 8))
    row = {"image": ["operator_induction/1.jpg"], "question": "2 ? 3 ="}
    support = [row | {"id": k, "answer": [5, -1, 6]} for k in range(8)]
    write(folder / "query.json", [row | {"id": 1, "operator": "x", "answer": 6}])
    write(folder / "support.json", support)


def nextqa(folder: Path) -> None:
    (folder / "NExTVideo" / "1000").mkdir(parents=True)
    (folder / "NExTVideo" / "1000" / "42.mp4").write_bytes(b"")
    write(folder / "map_vid_vidorID.json", {"42": "1000/42"})
    options = {f"a{k}": text for k, text in enumerate("pqrst")}
    row = {"video": 42, "question": "why", "answer": 2, "qid": 6, "type": "CW"}
    write_table(folder / "val.csv", [row | options])
