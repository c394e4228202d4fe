"""Referring expressions in photographs: RefCOCO(+, g), Flickr30k Entities.

Both count the first answered box with IoU ≥ 0.5: `acc@0.5` of `find_widget`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from mm15_mlx.config import UserError
from mm15_mlx.json_lines import read_text
from mm15_mlx.readers.pictures import found
from mm15_mlx.readers.plain_pickles import read_plain
from mm15_mlx.readers.records import Record, numbers, records, upright_box
from mm15_mlx.readers.sources import read_json
from mm15_mlx.tasks import Row

_COCO = ("train2014", "images/train2014", "images", "val2014", "train2017")
_PHOTOS = ("flickr30k-images", "flickr30k_images", "images")
_Id = int | float | str


def refcoco(path: Path, split: str | None) -> Iterator[Row]:
    """RefCOCO (arXiv 1608.00272), in one of three layouts; one row for each expression,
    boxes x, y, width, height in pixels in all of them.

    - `instances.json` with `refs(unc).p`, the original's two files, or the refs as JSON
      (`refs(umd).p` of RefCOCOg; another of the folder is read where it is named). No
      pickle is run: only one of plain values is read. `split` is that of each ref.
    - `finetune_refcoco_{split}.json` of MDETR, which Ferret is measured on: an image
      and an annotation for each expression, pictures in `train2014`.
    - The hub's exports (lmms-lab), parquet or JSON rows: `image`, `bbox`, `answer`, a
      list of expressions.

    Splits: val, testA, testB. Layouts as of 2026, not tried with the real files.
    """
    return _referring(path, split, "refcoco")


def refcoco_plus(path: Path, split: str | None) -> Iterator[Row]:
    """RefCOCO+: expressions without places. Layouts and splits as of `refcoco`."""
    return _referring(path, split, "refcoco+")


def refcocog(path: Path, split: str | None) -> Iterator[Row]:
    """RefCOCOg (arXiv 1511.02283): longer ones. Layouts as of `refcoco`; splits val and
    test."""
    return _referring(path, split, "refcocog")


def _referring(path: Path, split: str | None, name: str) -> Iterator[Row]:
    instances = path / "instances.json"
    if instances.is_file() or any(path.glob("refs*.p")):
        yield from _instances(instances, _refs_of(path), split)
        return
    if path.match("refs*.p") or path.match("refs*.json"):
        yield from _instances(path.parent / "instances.json", path, split)
        return
    # one folder of MDETR's holds all three
    mdetr = f"finetune_{name}_*.json"
    patterns = (mdetr, "*.parquet", "*.jsonl", "*.json")
    for record in records(path, patterns, split, inside="rows"):
        if "annotations" in record.data and "images" in record.data:
            yield from _mdetr(record)
        else:
            yield from _exported(record)


def _exported(record: Record) -> Iterator[Row]:
    image = record.picture("image", "file_name", "img_path", below=_COCO)
    box = _corners(record.four("bbox"), record.where)
    name = str(record.get("question_id", "id") or record.number)
    texts = record.texts("answer", "sentences", "expression")
    for number, text in enumerate(texts):
        yield _row(f"{name}-{number}", image, text, box)


def _mdetr(record: Record) -> Iterator[Row]:
    where = str(record.file)
    boxes = _by(record.data, "annotations", "image_id", where)
    for number, image in enumerate(_objects(record.data, "images", where), 1):
        where = f"{record.file}, image {number}"
        for key in ("id", "file_name", "caption"):
            if key not in image:
                raise UserError(f"{where} lacks the key {key!r}")
        name, text = (
            _text(image[k], f"{where}: {k}") for k in ("file_name", "caption")
        )
        identifier = _identifier(image, "id", where)
        box = numbers(boxes.get(identifier, {}).get("bbox"), 4, f"{where}: bbox")
        folders = (record.folder, record.file.parent)
        path = found(name, where, folders, _COCO)
        yield _row(str(identifier), path, text, _corners(box, where))


def _refs_of(folder: Path) -> Path:
    """The refs of a folder: the split that everybody uses, where there are several."""
    refs = sorted(folder.glob("refs*.json")) or sorted(folder.glob("refs*.p"))
    if not refs:
        raise UserError(
            f"{folder} holds instances.json without refs*.p or refs*.json; add it"
        )
    usual = [r for r in refs if "unc" in r.name or "umd" in r.name]
    return (usual or refs)[0]


# What a ref must have; `sentences` is looked at where it is used.
_REF = {"image_id": int, "ann_id": int, "split": str, "sentences": list}
_KINDS = {int: "a number", str: "a text", list: "a list"}


def _instances(file: Path, listed: Path, split: str | None) -> Iterator[Row]:
    if not file.is_file():
        raise UserError(f"{listed} needs instances.json beside it, which has the boxes")
    folder = file.parent
    data = read_json(file)
    boxes = _by(data, "annotations", "id", str(file))
    images = _by(data, "images", "id", str(file))
    whole = read_plain(listed) if listed.suffix == ".p" else read_json(listed)
    seen = set()
    for number, ref in enumerate(_objects({"refs": whole}, "refs", str(listed)), 1):
        where = f"{listed}, row {number}"
        for key, kind in _REF.items():
            if key not in ref:
                raise UserError(f"{where} lacks the key {key!r}")
            if not isinstance(ref[key], kind):
                raise UserError(f"{where}: {key} must be {_KINDS[kind]}")
        seen.add(ref["split"])
        if split is not None and ref["split"].casefold() != split.casefold():
            continue
        box = numbers(boxes.get(ref["ann_id"], {}).get("bbox"), 4, f"{where}: bbox")
        box = _corners(box, where)
        image = images.get(ref["image_id"], {}).get("file_name")
        if not image:
            raise UserError(f"{where}: {file} has no image {ref['image_id']!r}")
        image = _text(image, f"{where}: {file}, image {ref['image_id']}: file_name")
        path = found(image, where, (folder, folder.parent), _COCO)
        for sentence in _objects(ref, "sentences", where):
            name = f"{ref.get('ref_id', number)}-{sentence.get('sent_id', 0)}"
            text = sentence.get("sent") or sentence.get("raw") or ""
            text = _text(text, f"{where}: a sentence")
            yield _row(name, path, text, box) | {"split": ref["split"]}
    if split is not None and split.casefold() not in {s.casefold() for s in seen}:
        raise UserError(
            f"{listed} has no ref of the split {split!r}; "
            f"it has {', '.join(sorted(seen))}"
        )


def _objects(data: Any, key: str, where: str) -> list[dict[str, Any]]:
    found = data.get(key) if isinstance(data, dict) else None
    if not isinstance(found, list) or not all(isinstance(f, dict) for f in found):
        raise UserError(f"{where or key}: {key!r} is not a list of objects")
    return found


def _by(data: Any, key: str, name: str, where: str) -> dict[_Id, dict[str, Any]]:
    """The objects of a list, by their numbers or texts `name`."""
    places = enumerate(_objects(data, key, where), 1)
    what = key.removesuffix("s")
    return {_identifier(o, name, f"{where}, {what} {n}"): o for n, o in places}


def _identifier(data: dict[str, Any], name: str, where: str) -> _Id:
    if name not in data:
        raise UserError(f"{where} lacks the key {name!r}")
    if not isinstance(data[name], int | float | str):
        raise UserError(
            f"{where}: {name} is {data[name]!r}; it must be a number or a text"
        )
    return data[name]


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{what} is {value!r}; it must be a text")
    return value


def _corners(box: list[float], where: str) -> list[float]:
    x, y, width, height = box
    return upright_box([x, y, x + width, y + height], where)


def _row(name: str, image: str, text: str, box: list[float]) -> Row:
    """The question is "Where is the …?", so the expression's own article goes."""
    query = re.sub(r"^(the|a|an)\s+", "", text.strip(), flags=re.IGNORECASE)
    return {
        "id": name, "image": image, "task": "find_widget", "query": query, "box": box,
    }  # fmt: skip


# --- Flickr30k Entities ----------------------------------------------------------

_PHRASE = re.compile(r"\[/EN#(\d+)((?:/\w+)+) ([^\]]+)\]")


def flickr30k(path: Path, split: str | None) -> Iterator[Row]:
    """Flickr30k Entities (arXiv 1505.04870): `Sentences/ID.txt`, `Annotations/ID.xml`,
    `flickr30k-images/ID.jpg` and the lists `{train,val,test}.txt`; one row for each
    phrase that has a box. Slice: `type` (people, clothing, …).

    Where a phrase has several boxes, the box around all of them is sought: the "merged
    boxes" protocol. Corners in the XML count from 1. A `split` is needed. Layout from
    the published tools, not tried with the real files.
    """
    if split is None:
        raise UserError(f"{path} holds several splits; choose one with --split test")
    listed = path / f"{split}.txt"
    if not listed.is_file():
        raise UserError(f"{listed} does not exist; it lists the pictures of the split")
    for name in read_text(listed).split():
        boxes = _annotated(path / "Annotations" / f"{name}.xml")
        file = path / "Sentences" / f"{name}.txt"
        image = found(f"{name}.jpg", str(file), (path, path.parent), _PHOTOS)
        for number, sentence in enumerate(read_text(file).splitlines()):
            for k, (entity, kinds, text) in enumerate(_PHRASE.findall(sentence)):
                if entity in boxes:
                    kind = kinds.split("/")[1]
                    key = f"{name}-{number}-{k}"
                    yield _row(key, image, text, boxes[entity]) | {"type": kind}


def _annotated(file: Path) -> dict[str, list[float]]:
    """The merged box x1, y1, x2, y2 of each entity."""
    text = read_text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        # what entities do (other files, a billion laughs) no annotation needs
        raise UserError(f"{file} declares a document type, so it is not read")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as e:
        raise UserError(f"{file} is not XML: {e}") from e
    merged: dict[str, list[float]] = {}
    for place in root.findall("object"):
        bounds = place.find("bndbox")
        if bounds is None:  # of the whole scene, or not to be seen
            continue
        try:
            box = [
                float(bounds.findtext(side, "")) - 1
                for side in ("xmin", "ymin", "xmax", "ymax")
            ]
        except ValueError as e:
            raise UserError(f"{file}: a bndbox lacks a number") from e
        for name in place.findall("name"):
            old = merged.get(name.text or "", box)
            merged[name.text or ""] = [
                *map(min, old[:2], box[:2]),
                *map(max, old[2:], box[2:]),
            ]
    return merged
