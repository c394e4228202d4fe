"""ScreenSpot, ScreenSpot-v2 and ScreenSpot-Pro: an instruction, a screen, a box.

All count an answer whose point lies in the box: `centre_in_box` of `find_widget`.
Slices: `data_type` (text, icon), `data_source`, `platform`; of Pro `ui_type`,
`application`, `group`, `platform`, `language`.
"""

from collections.abc import Iterator
from pathlib import Path

from mm15_mlx.readers.pictures import size_of
from mm15_mlx.readers.records import Record, records, upright_box
from mm15_mlx.tasks import Row

_FOLDERS = ("screenspot_imgs", "screenspotv2_image", "images")
_SLICES = ("data_type", "data_source", "application", "group", "ui_type")
_PLATFORMS = ("mobile", "desktop", "web")
_LANGUAGES = {"en": "instruction", "cn": "instruction_cn"}  # the keys of Pro's rows
_PATTERNS = ("screenspot_*.json", "*.parquet", "*.jsonl", "*.tsv")


def screenspot(path: Path, split: str | None) -> Iterator[Row]:
    """v1 (SeeClick, arXiv 2401.10935) and v2 (OS-Atlas, arXiv 2410.23218).

    `screenspot_{mobile,desktop,web}[_v2].json` with pictures in `screenspot_imgs` or
    `screenspotv2_image`, and boxes x, y, width, height in pixels. The hub's parquet of
    v1 has corners x1, y1, x2, y2 as fractions of the picture: a box of which nothing is
    above 1 is read so. `split` chooses the platform, or the hub's split. Layout as of
    2026, not tried with the real files.
    """
    for number, record in enumerate(records(path, _PATTERNS, split), 1):
        image = record.picture("img_filename", "image", "file_name", below=_FOLDERS)
        box = record.four("bbox")
        if max(box) > 1:  # no fractions: x, y, width, height
            box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
        name = record.file.stem
        platform = next((p for p in _PLATFORMS if p in name), record.get("platform"))
        row = _row(record, f"{name}-{number}", image, box, "instruction")
        yield row | ({"platform": platform} if platform else {})


def screenspot_pro(path: Path, split: str | None) -> Iterator[Row]:
    """ScreenSpot-Pro (arXiv 2504.07981): `annotations/*.json` beside `images/`, boxes
    x1, y1, x2, y2 in pixels; targets that exist.

    As its own script has it, instructions are English, or Chinese, or both, each a row:
    `split` en, cn or all; any other is of the files, in English. Layout as of 2026, not
    tried with the real files.
    """
    languages = list(_LANGUAGES) if split == "all" else [split or "en"]
    if set(languages) <= set(_LANGUAGES):
        split = None
    else:
        languages = ["en"]
    patterns = ("annotations/*.json", "*.parquet", "*.json", "*.jsonl")
    for number, record in enumerate(records(path, patterns, split), 1):
        image = record.picture(
            "img_filename", "image", below=("images", "../images", "screenspot_imgs")
        )
        name = str(record.get("id") or f"{record.file.stem}-{number}")
        platform = record.get("platform")
        more = {"platform": platform} if platform else {}
        for language in languages:
            key = _LANGUAGES[language]
            own = name if language == "en" else f"{name}-{language}"
            row = _row(record, own, image, record.four("bbox"), key)
            yield row | more | {"language": language}


def _row(record: Record, name: str, image: str, corners: list[float], key: str) -> Row:
    """`corners` x1, y1, x2, y2 in pixels, or in fractions: then nothing is above 1;
    `key` is that of the instruction."""
    if max(corners) <= 1:
        size = size_of(image, record.where)
        corners = [v * s for v, s in zip(corners, (*size, *size), strict=True)]
    instruction = record.text(key)
    return {
        "id": name,
        "image": image,
        "task": "find_widget",
        # an instruction is no name: "close this window" stands in quotes
        "query": f'element for "{instruction}"',
        "box": upright_box(corners, record.where),
        "instruction": instruction,
        **{key: record.data[key] for key in _SLICES if record.get(key) is not None},
    }
