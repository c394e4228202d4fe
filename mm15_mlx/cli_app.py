"""The verb `app`; see cli.py. What it does is in apps/."""

from pathlib import Path
from typing import Annotated

import typer


def local_app(
    model: Annotated[
        list[str] | None,
        typer.Option(help="Bundled name, folder, or hub id; again for another."),
    ] = None,
    adapter_path: Annotated[
        Path | None, typer.Option(help="What `train` wrote: offers the first with it.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(help="Folder where training rows may be saved.")
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0: for the whole network.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
) -> None:
    """A page in the browser: drop a screenshot, point at it, ask, see the boxes."""
    from mm15_mlx.apps.app import run
    from mm15_mlx.apps.worker import Choice
    from mm15_mlx.load import DEFAULT_MODEL

    names = list(dict.fromkeys(model or [DEFAULT_MODEL]))
    choices = [Choice(name) for name in names]
    if adapter_path:
        choices.insert(0, Choice(names[0], adapter_path))
    run(choices, host, port, rows)
