"""The verb `quantize`; see cli.py.

What this file is: its flags. What it is not: its work (shrink.py), which is imported
when the verb runs.
"""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

Bits = Annotated[int | None, typer.Option(help="Left floating unless given.")]


def quantize(
    mlx_path: Annotated[Path, typer.Option(help="The model folder to write.")],
    model: Annotated[
        str, typer.Option("--model", help="Bundled name, folder, or hub id.")
    ] = "nano-ui",
    q_bits: Annotated[
        int | None, typer.Option(help="Of the decoder's layers: 2 to 6 or 8; 4.")
    ] = None,
    q_group_size: Annotated[
        int | None, typer.Option(help="32, 64 or 128; 64. The mx modes have their own.")
    ] = None,
    q_mode: Annotated[
        str, typer.Option(help="affine, mxfp4, mxfp8 or nvfp4.")
    ] = "affine",
    decoder_bits: Annotated[
        int | None, typer.Option(help="Instead of --q-bits.")
    ] = None,
    head_bits: Bits = None,
    embedding_bits: Bits = None,
    connector_bits: Bits = None,
    encoder_bits: Annotated[
        int | None, typer.Option(help="Left floating unless given; 8 is mild.")
    ] = None,
    q_recipe: Annotated[
        str | None, typer.Option(help="mixed_2_6, mixed_3_4, mixed_3_6 or mixed_4_6.")
    ] = None,
    target_bpw: Annotated[
        float | None,
        typer.Option(help="Bits per weight of the text layers, chosen by sensitivity."),
    ] = None,
    low_bits: Annotated[int, typer.Option(help="Least bits for --target-bpw.")] = 3,
    high_bits: Annotated[int, typer.Option(help="Most bits for --target-bpw.")] = 8,
    data: Annotated[
        Path | None, typer.Option(help="Tasks of `eval` to measure the cost on.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N.")] = None,
    gptq: Annotated[
        Path | None,
        typer.Option(help="Tasks of `eval` whose pictures layers are rounded for."),
    ] = None,
    dwq: Annotated[
        Path | None,
        typer.Option(
            help="Tasks of `eval` whose answers scales and biases are taught."
        ),
    ] = None,
    dwq_iters: Annotated[
        int | None, typer.Option(min=1, help="Steps of --dwq; 200.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one document.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what exists.")
    ] = False,
) -> None:
    """Make a model folder smaller, and measure what that cost."""
    from mm15_mlx.config import UserError
    from mm15_mlx.quantize import Wanted
    from mm15_mlx.shrink import Lesson, run

    if limit and data is None:
        raise UserError("--limit is about --data; give a JSONL file of tasks")
    if dwq_iters and dwq is None:
        raise UserError("--dwq-iters is about --dwq; give a JSONL file of tasks")
    lesson = Lesson(gptq, dwq, dwq_iters or Lesson.iters)
    wanted = Wanted(
        q_bits,
        q_group_size,
        q_mode,
        {
            "decoder": decoder_bits,
            "head": head_bits,
            "embedding": embedding_bits,
            "connector": connector_bits,
            "encoder": encoder_bits,
        },
        q_recipe,
        target_bpw,
        low_bits,
        high_bits,
    )
    report = run(model, mlx_path, wanted, data, limit, force, lesson)
    if json:
        print(json_module.dumps(report, ensure_ascii=False, indent=2))
