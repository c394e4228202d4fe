"""The verb `eval`; see cli.py.

What this file is: its flags. What it is not: its work (evaluate.py), which is imported
when the verb runs.
"""

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    data: Annotated[
        Path, typer.Option(help="Tasks, one JSON object a line; or see --format.")
    ],
    model: Annotated[
        str, typer.Option("--model", help="Bundled name, folder, or hub id.")
    ] = "nano-ui",
    format: Annotated[
        str | None,
        typer.Option("--format", help="Of a public benchmark on disk: docvqa, …"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Which part of it: val, test, …")
    ] = None,
    shots: Annotated[
        Path | None, typer.Option(help="Examples before every question, one a line.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write every answer, one JSON object a line.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with stopped --predictions.")
    ] = False,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help="Also for each value of a field, such as type or kit, or of the "
            "boxes' size; may be given again."
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="--predictions of another run: differences, with a test."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with tables and failures.")
    ] = None,
    failures: Annotated[
        int, typer.Option(min=0, help="Failures of each task on the page.")
    ] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print one document.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what exists.")
    ] = False,
    kv_bits: Annotated[
        int | None, typer.Option("--kv-bits", help="Quantise the KV cache.")
    ] = None,
    kv_group_size: Annotated[int, typer.Option("--kv-group-size")] = 64,
    quantized_kv_start: Annotated[int, typer.Option("--quantized-kv-start")] = 5000,
    cache_dir: Annotated[
        Path | None,
        typer.Option("--cache-dir", help="Keep pictures' visual tokens here."),
    ] = None,
    cache_gb: Annotated[
        float, typer.Option("--cache-gb", help="And at most so much.")
    ] = 1.0,
    adapter_path: Annotated[
        Path | None, typer.Option("--adapter-path", help="What `train` wrote.")
    ] = None,
) -> None:
    """Measure a model on tasks: find, read, classify, list, describe, answer."""
    from mm15_mlx import evaluate as module
    from mm15_mlx.answers import feature_store

    options = module.Options(
        kv_bits=kv_bits,
        kv_group_size=kv_group_size,
        quantized_kv_start=quantized_kv_start,
    )
    wanted = module.Wanted(
        limit, predictions, resume, by or (), against, html, failures, force, json,
        format, split, shots, options,
    )  # fmt: skip
    store = feature_store(cache_dir, cache_gb)
    module.run(model, data, wanted, store, adapter_path)
