"""Captions of RICO's Android screens: Screen2Words and Widget Captioning, by CIDEr.

RICO's `combined/` (ID.jpg with ID.json) lies in the benchmark's folder or beside it. A
`split` is needed: train, dev or test, lists of screens in `split/`.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mm15_mlx.config import UserError
from mm15_mlx.json_lines import read_text
from mm15_mlx.readers.pictures import found, size_of
from mm15_mlx.readers.records import numbers, records, upright_box
from mm15_mlx.readers.sources import read_json
from mm15_mlx.tasks import Row

_CANVAS_HEIGHT = 2560  # of RICO's bounds, whatever the size of the screenshot
_SCREENS = ("combined", "rico_images", "images")


def screen2words(path: Path, split: str | None) -> Iterator[Row]:
    """Screen2Words (arXiv 2108.03353): `screen_summaries.csv` with `screenId, summary`,
    five summaries a screen, and `split/{split}_screens.txt`.

    Layout from the published repository, not tried with the real screens.
    """
    wanted = _screens(path, split, "_screens")
    summaries: dict[str, list[str]] = {}
    table = "screen_summaries.csv"
    for record in records(path, [table], None):
        screen = record.text("screenId")
        if screen in wanted:
            summaries.setdefault(screen, []).append(record.text("summary"))
    for screen, references in summaries.items():
        yield {
            "id": screen,
            "image": _file(f"{screen}.jpg", path, str(path / table)),
            "task": "screen_summary",
            "references": references,
        }


def widget_captioning(path: Path, split: str | None) -> Iterator[Row]:
    """Widget Captioning (arXiv 2010.04295): `widget_captions.csv` with `screenId,
    nodeId, captions`, captions with `|` between them, and `split/{split}.txt`.

    `nodeId` is a path through the screen's view hierarchy, `0.1.3`, the first number
    being the root. Bounds are those of a canvas 2560 high, scaled by the picture's
    height in both directions as published evaluations do. Layout from public
    converters, not tried with the real screens.
    """
    wanted = _screens(path, split, "")
    for record in records(path, ["widget_captions.csv"], None):
        screen, node = record.text("screenId"), record.text("nodeId")
        if screen not in wanted:
            continue
        image = _file(f"{screen}.jpg", path, record.where)
        scale = size_of(image, record.where)[1] / _CANVAS_HEIGHT
        bounds = _bounds(_file(f"{screen}.json", path, record.where), node)
        captions = [c.strip() for c in record.text("captions").split("|")]
        yield {
            "id": f"{screen}-{node}",
            "image": image,
            "task": "widget_caption",
            "box": upright_box([v * scale for v in bounds], record.where),
            "references": [c for c in captions if c],
        }


def _screens(path: Path, split: str | None, ending: str) -> set[str]:
    if split is None:
        raise UserError(f"{path} holds several splits; choose one with --split test")
    for listed in (path / "split" / f"{split}{ending}.txt", path / f"{split}.txt"):
        if listed.is_file():
            return set(read_text(listed).split())
    raise UserError(f"{path} has no split/{split}{ending}.txt; it has train, dev, test")


def _file(name: str, path: Path, where: str) -> str:
    return found(name, where, (path, path.parent, path.parent / "rico"), _SCREENS)


@lru_cache(maxsize=1)  # a screen's widgets follow one another
def _hierarchy(file: str) -> Any:
    return read_json(Path(file))


def _bounds(file: str, node: str) -> Sequence[float]:
    where = f"{file}, node {node}"
    try:
        view = _hierarchy(file)["activity"]["root"]
        for index in node.split(".")[1:]:
            view = view["children"][int(index)]
        return numbers(view["bounds"], 4, where)
    except (KeyError, IndexError, TypeError, ValueError) as e:
        if isinstance(e, UserError):
            raise
        raise UserError(f"{where} is not in the view hierarchy") from e
