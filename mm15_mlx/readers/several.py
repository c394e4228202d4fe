"""Questions about several pictures or a video: NLVR2, MuirBench, VL-ICL, NExT-QA."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mm15_mlx.config import UserError
from mm15_mlx.readers.pictures import found
from mm15_mlx.readers.records import Record, records
from mm15_mlx.readers.sources import read_json
from mm15_mlx.tasks import Row

LETTER = "\nAnswer with the option's letter from the given choices directly."
_PLACE = "<image>"


def nlvr2(path: Path, split: str | None) -> Iterator[Row]:
    """NLVR2 (arXiv 1811.00491): `{train,dev,test1}.json`, an object a line, and
    pictures `ID-img0.png`, `ID-img1.png` in `images/` or a folder of the split's name.

    Accuracy of yes or no; the question's words are our choice, as MM1.5's are not
    published. Layout from the published repository, not tried with the pictures.
    """
    for record in records(path, ("*.json", "*.jsonl", "*.parquet"), split):
        identifier = record.text("identifier", "id")
        if record.get("images") is not None:
            images = record.pictures("images")
        else:
            pair = identifier.rpartition("-")[0]
            split_name = identifier.partition("-")[0]
            below = ("images", f"images/{split_name}", split_name)
            folders = (record.folder, record.file.parent, record.folder.parent)
            images = [
                found(f"{pair}-img{side}.png", record.where, folders, below)
                for side in (0, 1)
            ]
        label = str(record.data.get("label", "")).casefold()
        if label not in ("true", "false"):
            raise UserError(
                f"{record.where}: label is {label!r}; it must be True or False"
            )
        answer = "yes" if label == "true" else "no"
        sentence = record.text("sentence")
        yield {
            "id": identifier,
            "images": images,
            "task": "vqa",
            "question": f"{sentence}\nIs that true of the two pictures, the left and "
            "the right one? Answer yes or no.",
            # a full stop after it is no other answer
            "answers": [answer, f"{answer}."],
            "metric": "exact_match",
        }


def muirbench(path: Path, split: str | None) -> Iterator[Row]:
    """MuirBench (arXiv 2406.09411): the hub's parquet or its rows as JSON, with
    `image_list`, `options` and the letter in `answer`. Accuracy of the letter. Slices:
    `category` (the original's task), `image_relation`, `image_type`.

    Layout as of 2026, not tried with the real files.
    """
    for record in records(path, ("*.parquet", "*.jsonl", "*.json", "*.tsv"), split):
        images = record.pictures("image_list", "images", below=("images",))
        options = record.texts("options")
        text = _options(record.text("question"), options)
        keys = (("task", "category"), ("image_relation",) * 2, ("image_type",) * 2)
        slices = {new: record.data[old] for old, new in keys if record.get(old)}
        yield {
            "id": record.text("idx", "id", "index"),
            "images": images,
            "task": "vqa",
            "question": placed(text, len(images)) + LETTER,
            "answers": [record.text("answer")],
            "metric": "mcq",
            "options": len(options),
            **slices,
        }


def _options(question: str, options: Sequence[str]) -> str:
    lines = [f"{chr(ord('A') + k)}. {text}" for k, text in enumerate(options)]
    return "\n".join([question, *lines])


def placed(text: str, pictures: int) -> str:
    """Text whose `<image>` stand for all pictures, or for none of them."""
    if text.count(_PLACE) in (0, pictures):
        return text
    pieces = text.split(_PLACE)
    named = [f"picture {k}{piece}" for k, piece in enumerate(pieces[1:], 1)]
    return "".join([pieces[0], *named])


# --- VL-ICL ----------------------------------------------------------------------

SHOTS = (0, 1, 2, 4, 8)
_INSTRUCTIONS = {  # ours; the original's "detailed" ones say the same at length
    "textocr": "Answer with the text in the red box.",
    "operator_induction": "Find the operator from the examples and apply it.",
    "operator_induction_interleaved": "Find the operator between the two pictures "
    "from the examples and apply it.",
    "open_mi": "Find the names from the examples. Answer with one word or phrase.",
    "clevr": "Find what is counted from the examples, and count it.",
    "matching_mi": "Find the relation from the examples. Answer yes or no.",
}
_OPERATORS = {"+": 0, "-": 1, "x": 2}
_PAIR = ("same", "diff")  # of matching_mi
_METRICS = {
    "operator_induction": "first_number",
    "operator_induction_interleaved": "first_number",
    "matching_mi": "yes_or_no",
}


def vl_icl(path: Path, split: str | None) -> Iterator[Row]:
    """VL-ICL Bench (arXiv 2403.13164), pictures to text: the folder of one data set,
    such as `VL-ICL/open_mi`, with `query.json` and `support.json`.

    Every question comes with 0, 1, 2, 4 and 8 examples, the slice `shots`; `--split 4`
    keeps those with 4, where a context holds no more. For `open_mi` and `matching_mi`
    an example is a pair. They are drawn at random from a seed of the question's: not
    the original's draws. Prompt: instruction, then picture, question, `Answer:` of
    each. Accuracy as the original has it: of the first line, for the operators of its
    first number, for `matching_mi` of whether it says yes. Layout from the published
    code, not tried with the real files.
    """
    if split is not None and split not in map(str, SHOTS):
        raise UserError(
            f"--split {split} of vl-icl is a number of examples; it must be one of "
            f"{', '.join(map(str, SHOTS))}"
        )
    name = path.name
    if name not in _INSTRUCTIONS:
        raise UserError(
            f"{path} is no data set of VL-ICL; the folder's name must be one of "
            f"{', '.join(_INSTRUCTIONS)}"
        )
    support = _support(path / "support.json") if name != "open_mi" else []
    for row in records(path / "query.json", (), None):
        record = replace(row, folder=path.parent)  # paths begin with the set's name
        for shots in [int(split)] if split else SHOTS:
            key = str(record.data.get("id", record.number))
            draw = random.Random(f"{name}-{key}-{shots}")
            try:
                examples = _examples(name, support, record.data, shots, draw)
            except (KeyError, IndexError, TypeError, ValueError) as e:
                raise UserError(
                    f"{record.where}: no {shots} examples for it: {e!r}"
                ) from e
            yield _icl_row(record, f"{key}-{shots}", name, examples) | {"shots": shots}


def _support(file: Path) -> list[dict[str, Any]]:
    rows = read_json(file)
    if not isinstance(rows, list):
        raise UserError(f"{file} is not a list of rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(f"{file}, row {number} is not an object")
        for key in _PAIR:
            if not isinstance(row.get(key, {}), dict):
                raise UserError(
                    f"{file}, row {number}: {key} is {row[key]!r:.100}; it must be an "
                    "object"
                )
    return rows


def _examples(
    name: str,
    support: list[dict[str, Any]],
    query: dict[str, Any],
    shots: int,
    draw: random.Random,
) -> list[dict[str, Any]]:
    """Rows like the query's; raises what random and dicts do where there are none."""
    if name == "open_mi":
        mine = query["answer"]
        other = draw.choice([c for c in query["classes"] if c != mine])
        order = draw.sample([mine, other], 2)
        return [
            {
                "image": [query["support"][label]["images"][k]],
                "question": "This is a",
                "answer": label,
            }
            for k in range(shots)
            for label in order
        ]
    drawn = draw.sample(support, shots)
    if name == "matching_mi":
        return [pair[kind] for pair in drawn for kind in _PAIR]
    if name.startswith("operator_induction"):
        which = _OPERATORS[query["operator"]]
        return [row | {"answer": row["answer"][which]} for row in drawn]
    return drawn


def _icl_row(
    record: Record, name: str, dataset: str, examples: Sequence[dict[str, Any]]
) -> Row:
    images: list[str] = []
    lines = [_INSTRUCTIONS[dataset]]
    turns = [replace(record, data=example) for example in examples]
    for turn in [*turns, record]:
        shown = turn.pictures("image")
        images += shown
        lines += [_PLACE] * len(shown)
        lines.append(turn.text("question"))
        lines.append("Answer:" if turn is record else f"Answer: {turn.text('answer')}")
    return {
        "id": f"{dataset}-{name}",
        "images": images,
        "task": "vqa",
        "question": "\n".join(lines),
        "answers": [record.text("answer")],
        "metric": _METRICS.get(dataset, "first_line"),
    }


# --- NExT-QA ---------------------------------------------------------------------


def nextqa(path: Path, split: str | None) -> Iterator[Row]:
    """NExT-QA's multiple choice (arXiv 2105.08276): `{train,val,test}.csv` with
    `question, a0 … a4, answer`, videos `NExTVideo/ID.mp4`, or at the place that
    `map_vid_vidorID.json` names. Accuracy of the letter. Slice: `type` (CW, TN, …).

    Layout from the published repository, not tried with the real videos.
    """
    places: dict[str, str] = {}
    folder = path if path.is_dir() else path.parent
    if (folder / "map_vid_vidorID.json").is_file():
        places = read_json(folder / "map_vid_vidorID.json")
        if not isinstance(places, dict):
            raise UserError(
                f"{folder / 'map_vid_vidorID.json'} is not an object; it must give the "
                "place of each video"
            )
    for record in records(path, ("*.csv", "*.parquet"), split):
        video = record.text("video")
        options = [record.text(f"a{k}") for k in range(5)]
        answer = record.text("answer")
        if answer not in ("0", "1", "2", "3", "4"):
            raise UserError(f"{record.where}: answer is {answer!r}; it must be 0 to 4")
        place = f"{places.get(video, video)}.mp4"
        below = ("NExTVideo", "videos")
        yield {
            "id": f"{video}-{record.text('qid')}",
            "video": found(place, record.where, (folder, folder.parent), below),
            "task": "vqa",
            "question": _options(record.text("question"), options) + LETTER,
            "answers": [chr(ord("A") + int(answer))],
            "metric": "mcq",
            "options": len(options),
            "type": record.text("type"),
        }
