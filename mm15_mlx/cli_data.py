"""The verbs of `data`; see cli.py.

What this file is: their flags. What it is not: their work, which is imported when a
verb runs.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer


def screens(
    out: Annotated[Path, typer.Option(help="Folder for images/ and screens.jsonl.")],
    n: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How many screens. 500, or 0 with --pairs, --flows.",
        ),
    ] = None,
    pairs: Annotated[
        int, typer.Option(min=0, help="Pairs between which one thing happens.")
    ] = 0,
    flows: Annotated[int, typer.Option(min=0, help="Flows of four screens.")] = 0,
    seed: Annotated[int, typer.Option()] = 0,
    start: Annotated[int, typer.Option(min=0, help="Number of the first.")] = 0,
    kits: Annotated[
        str | None, typer.Option(help="train, validation, test, or some: a,b,c.")
    ] = None,
    layouts: Annotated[str | None, typer.Option(help="Some only: a,b,c.")] = None,
    exclude_layouts: Annotated[str, typer.Option(help="All but: a,b,c.")] = "",
    viewports: Annotated[
        str | None, typer.Option(help="phone, tablet, desktop, or sizes: 390x844.")
    ] = None,
    scale: Annotated[
        int | None, typer.Option(min=1, max=3, help="Pixels per CSS pixel.")
    ] = None,
    words: Annotated[
        str, typer.Option(help="usual, or kept: those that are for tests.")
    ] = "usual",
    format: Annotated[str, typer.Option(help="jpeg or png.")] = "jpeg",
    node_modules: Annotated[
        Path, typer.Option(help="Where the UI kits are installed.")
    ] = Path("node_modules"),
    sheet: Annotated[
        Path | None, typer.Option(help="Draw the first screens and their boxes.")
    ] = None,
    sheet_of: Annotated[int, typer.Option(min=1, help="How many of them.")] = 20,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what exists.")
    ] = False,
) -> None:
    """Make annotated UI screens. A stopped run goes on where it was."""
    from mm15_mlx.config import UserError

    try:
        from mm15_mlx.screens import build, series
        from mm15_mlx.screens.sheet import sheet_target, write_sheet
    except ModuleNotFoundError as e:
        raise UserError(
            f"data screens needs {e.name}: pip install 'mm15-mlx[screens]'"
        ) from e
    if n is None:
        n = 0 if pairs or flows else 500
    if not (n or pairs or flows or sheet):
        raise typer.BadParameter("0 screens need --sheet", param_hint="'--n'")
    excluded = _names(exclude_layouts)
    try:
        target = sheet_target(sheet, force) if sheet else None
        unknown = set(excluded) - set(build.LAYOUTS)
        if unknown:
            raise UserError(f"unknown layout {min(unknown)!r} to exclude")
        chosen = _names(layouts) or tuple(build.LAYOUTS)
        options = build.Options(
            kits=_names(kits) or tuple(build.KITS),
            layouts=tuple(name for name in chosen if name not in excluded),
            viewports=_names(viewports) or build.VIEWPORTS,
            scale=scale,
            picture=format,
            words=words,
        )
        if n:
            build.render_screens(out, n, seed, options, start, node_modules)
        for what, count in (("pair", pairs), ("flow", flows)):
            if count:
                series.render_series(
                    out, what, count, seed, options, start, node_modules
                )
        if target:
            drawn = write_sheet(out, target, sheet_of)
            print(f"wrote {target} ({drawn} screens)", file=sys.stderr)
    except (ValueError, RuntimeError, OSError) as e:
        raise UserError(str(e)) from e


def _names(text: str | None) -> tuple[str, ...]:
    """A comma-separated list."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
