"""`eval --html`: one page with the tables and pictures of what failed.

What this file is: HTML without script or network, light or dark as the reader's system
is. Whatever comes from rows or from a model is untrusted text and is escaped; the
page's own policy forbids everything but its style and its embedded pictures. What it is
not: what is drawn into the pictures (crops.py).
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from mm15_mlx.answered import prediction_row
from mm15_mlx.compare import missing_lines, tested
from mm15_mlx.crops import answered, draw_crop, expected, failed
from mm15_mlx.images import load_picture
from mm15_mlx.outputs import write_lines
from mm15_mlx.summaries import COUNTS, Prediction, by_task
from mm15_mlx.tasks import Row, pictures, question
from mm15_mlx.video import read_clip

WIDTH = 320  # pixels of a picture
TALLEST = 720
GAP = 4  # between pictures of a row
ABREAST = 3
BACK = "#80868b"  # behind them; seen in light and in dark
QUALITY = 60
LONGEST = 400  # characters of an answer that are shown

_STYLE = """
:root { color-scheme: light dark; --ink: #202124; --paper: #fff; --line: #c4c7cc;
  --faint: #5f6368; --good: #1b7a30; --bad: #c2123d; --card: #f4f4f2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --paper: #1b1c1f;
  --line: #4a4d52; --faint: #a6abb2; --good: #6fd08c; --bad: #ff8095;
  --card: #26282c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 1120px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; margin-bottom: 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding: .3rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .8rem .25rem 0;
  text-align: left; white-space: nowrap; }
td.number { text-align: right; }
summary { cursor: pointer; padding: .3rem 0; font-weight: 600; }
details details { margin-left: 1rem; }
.cells { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(260px, 1fr)); }
figure { margin: 0; padding: .6rem; background: var(--card); border-radius: 6px; }
img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption { overflow-wrap: anywhere; white-space: pre-wrap; font-size: .87rem;
  padding-top: .4rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
.faint { color: var(--faint); }
"""
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write(
    target: Path,
    report: Mapping[str, Any],
    parts: Mapping[str, Sequence[Prediction]],
    limit: int,
) -> None:
    """The page of a summary, written whole. `parts` are the answers by value of the
    first slice, or all under one name; at most `limit` failures of each task are
    shown, the worst first and equal ones by chance."""
    write_lines(target, [*page(report, parts, limit)])


def page(
    report: Mapping[str, Any],
    parts: Mapping[str, Sequence[Prediction]],
    limit: int,
) -> Iterator[str]:
    """The page's parts, in order."""
    title = f"mm15-mlx eval: {escape(report['model'])}"
    yield '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body>"
    seconds = report["seconds_per_task"]
    yield f"<h1>{title}</h1><p>{report['n']} tasks, {seconds:.2f} s each.</p><main>"
    counts = report.get("counts", {})
    yield _metrics("By task", report["metrics"], report["intervals"], counts)
    if "element_types" in report:
        yield _metrics(
            "Lists of widgets, by element type", report["element_types"], {}, {}
        )
    if "against" in report:
        yield _against(report["against"])
    for field, values in report.get("slices", {}).items():
        yield f"<h2>By {escape(field)}</h2>"
        for value, metrics in values.items():
            spread = report["slice_intervals"][field][value]
            counts = report.get("slice_counts", {}).get(field, {}).get(value, {})
            yield f"<details><summary>{escape(field)} {escape(value)}</summary>"
            yield f"{_metrics('By task', metrics, spread, counts)}</details>"
    yield from _failures(parts, limit)
    yield "</main></body></html>"


def _cells(cells: Sequence[str | float], kind: str = "td") -> str:
    """A row; numbers to the right."""
    scope = ' scope="col"' if kind == "th" else ""
    return "".join(
        f'<td class="number">{c:.3f}</td>'
        if isinstance(c, float)
        else f"<{kind}{scope}>{escape(str(c))}</{kind}>"
        for c in cells
    )


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    body = "\n".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{escape(title)}</caption>'
        f"<thead><tr>{_cells(head, 'th')}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _metrics(
    title: str,
    metrics: Mapping[str, Any],
    spread: Mapping[str, Any],
    counts: Mapping[str, Any],
) -> str:
    rows = []
    for task, values in metrics.items():
        for metric, value in values.items():
            if metric not in COUNTS:
                low, high = spread[task][metric] if spread else (None, None)
                span = "" if low is None else f"{low:.3f} – {high:.3f}"
                number = counts.get(task, {}).get(metric, values["n"])
                rows.append((task, metric, float(value), span, number))
    return _table(title, ("task", "metric", "value", "95 % interval", "n"), rows)


def _against(found: Mapping[str, Any]) -> str:
    rows = [
        (
            task, metric, d["this"], d["other"], d["difference"],
            "{:+.3f} – {:+.3f}".format(*d["interval"]), f"{d['p']:.4g}", tested(d),
            d["n"],
        )
        for task, values in found["metrics"].items()
        for metric, d in values.items()
        if metric != "n"
    ]  # fmt: skip
    head = "task metric this other difference interval p test n".split()
    notes = "".join(f"<p>{escape(line)}</p>" for line in missing_lines(found))
    return _table("Against the other run, paired by picture", head, rows) + notes


def _failures(parts: Mapping[str, Sequence[Prediction]], limit: int) -> Iterator[str]:
    rows = {
        id(p): (value, prediction_row(p)) for value, mine in parts.items() for p in mine
    }
    done = [p for mine in parts.values() for p in mine]
    yield "<h2>Failures</h2>"
    yield (
        '<p><span class="good">Expected: solid, green.</span> '
        '<span class="bad">Answered: dashed, red.</span></p>'
    )
    for task, mine in by_task(done).items():
        pool = [rows[id(p)] for p in mine if failed(rows[id(p)][1])]
        pool.sort(key=lambda found: str(found[1]["id"]))
        Random(task).shuffle(pool)
        pool.sort(key=lambda found: next(iter(found[1]["scores"].values())))
        counts = f"{len(pool)} of {len(mine)} failed"
        shown = f", {limit} shown" if len(pool) > limit else ""
        yield f"<details><summary>{task}: {counts}{shown}</summary>"
        groups: dict[str, list[Row]] = {}
        for value, row in pool[:limit]:
            groups.setdefault(value, []).append(row)
        for value in sorted(groups):
            cells = '<div class="cells">' + "".join(map(figure, groups[value]))
            named = f"<details open><summary>{escape(value)}</summary>"
            yield f"{named}{cells}</div></details>" if value else f"{cells}</div>"
        yield "</details>"


def figure(row: Row) -> str:
    """One failure: its pictures, what was asked, expected and answered."""
    image, more = _sheet(row)
    asked, truth, said = (
        _short(t) for t in (question(row), expected(row), answered(row))
    )
    scores = ", ".join(f"{k} {v:.2f}" for k, v in row["scores"].items())
    alt = escape(f"{row['id']}{more}: expected {truth}, answered {said}")
    return (
        f'<figure><img src="{_data_url(image)}" alt="{alt}" '
        f'width="{image.width}" height="{image.height}">'
        f"<figcaption>{escape(asked)}\n"
        f'<span class="good">expected: {escape(truth)}</span>\n'
        f'<span class="bad">answered: {escape(said)}</span>\n'
        f'<span class="faint">{escape(str(row["id"]) + more)}, {escape(scores)}</span>'
        "</figcaption></figure>"
    )


def _sheet(row: Row) -> tuple[Image.Image, str]:
    """What a row shows, `WIDTH` pixels wide at most, and a note on what that is: its
    pictures side by side, or the middle frame of its video. Boxes are of the first."""
    if "video" in row:
        frame = read_clip(row["video"], 1).frames[0].image
        return _fitted(draw_crop(row, frame, WIDTH), WIDTH), " (a video's middle frame)"
    paths = pictures(row)
    across = min(len(paths), ABREAST)
    width = (WIDTH - (across - 1) * GAP) // across
    first = draw_crop(row, load_picture(paths[0]).image, width)
    if len(paths) == 1:
        return _fitted(first, width), ""
    cells = [first, *(load_picture(path).image for path in paths[1:])]
    sheet = _joined([_fitted(cell, width) for cell in cells], across)
    return sheet, f" ({len(paths)} pictures)"


def _fitted(image: Image.Image, width: int) -> Image.Image:
    """`width` pixels wide, or narrower where it would be too tall."""
    factor = min(width / image.width, TALLEST / image.height)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _joined(cells: Sequence[Image.Image], across: int) -> Image.Image:
    """Cells in reading order, row under row."""
    bands = [cells[k : k + across] for k in range(0, len(cells), across)]
    heights = [max(cell.height for cell in band) for band in bands]
    height = sum(heights) + GAP * (len(bands) - 1)
    sheet = Image.new("RGB", (WIDTH, height), BACK)
    step = (WIDTH + GAP) // across
    y = 0
    for band, tall in zip(bands, heights, strict=True):
        for k, cell in enumerate(band):
            sheet.paste(cell, (k * step, y))
        y += tall + GAP
    return sheet


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _data_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
