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
        list[Path] | None,
        typer.Option(
            help="What `train` wrote; again for another. It goes with the model that "
            "it names, else with the first."
        ),
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
    from mm15_mlx.apps.offered import offered

    run(offered(model or [], adapter_path or []), host, port, rows)
