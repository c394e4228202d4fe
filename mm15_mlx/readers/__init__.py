"""Readers of public benchmarks: files that a user has → rows of `eval`.

`read("docvqa", folder, "val")`. Nothing is fetched, and nothing in a file is executed;
parquet needs pyarrow. What each reads, and how the field scores it, says its own
docstring: screenspot.py, expressions.py, rico.py, ferret_ui.py, documents.py,
several.py. sources.py, records.py and pictures.py are what they share.
"""

import difflib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from mm15_mlx.config import UserError
from mm15_mlx.readers.documents import chartqa, docvqa, infovqa, ocrbench, textvqa
from mm15_mlx.readers.expressions import flickr30k, refcoco, refcoco_plus, refcocog
from mm15_mlx.readers.ferret_ui import ferret_ui
from mm15_mlx.readers.rico import screen2words, widget_captioning
from mm15_mlx.readers.screenspot import screenspot, screenspot_pro
from mm15_mlx.readers.several import muirbench, nextqa, nlvr2, vl_icl
from mm15_mlx.tasks import Row, checked

READERS: dict[str, Callable[[Path, str | None], Iterator[Row]]] = {
    "screenspot": screenspot,
    "screenspot-v2": screenspot,
    "screenspot-pro": screenspot_pro,
    "refcoco": refcoco,
    "refcoco+": refcoco_plus,
    "refcocog": refcocog,
    "flickr30k-entities": flickr30k,
    "screen2words": screen2words,
    "widget-captioning": widget_captioning,
    "ferret-ui": ferret_ui,
    "textvqa": textvqa,
    "docvqa": docvqa,
    "infovqa": infovqa,
    "chartqa": chartqa,
    "ocrbench": ocrbench,
    "nlvr2": nlvr2,
    "muirbench": muirbench,
    "vl-icl": vl_icl,
    "nextqa": nextqa,
}


def read(name: str, path: Path, split: str | None = None) -> list[Row]:
    """The rows of a benchmark, checked, with absolute paths of pictures or a `video`;
    an id that comes again gets `~2`, or the next number that no id of the file has.

    split: which part of a folder that holds several. Raises UserError that names the
    file and the row.
    """
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1)
        hint = f"did you mean {near[0]}? There" if near else "there"
        raise UserError(f"no format {name!r}; {hint} are {', '.join(READERS)}")
    if not path.exists():
        raise UserError(f"{path} does not exist; give the benchmark's file or folder")
    rows = list(READERS[name](path, split))
    if not rows:
        raise UserError(f"{path} holds no rows of {name}")
    given = {row["id"] for row in rows}
    seen: Counter[str] = Counter()
    for row in rows:  # answers on disk are told apart by their ids
        name = row["id"]
        seen[name] += 1
        if seen[name] > 1:
            while f"{name}~{seen[name]}" in given:
                seen[name] += 1
            row["id"] = f"{name}~{seen[name]}"
    return [checked(row, f"{path}, {row['id']}", Path()) for row in rows]
