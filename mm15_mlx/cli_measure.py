"""The verbs `bench` and `plan`; see cli.py.

What this file is: their flags. What it is not: their work (bench.py, plan.py), which is
imported when the verb runs.
"""

from typing import Annotated

import typer

Model = Annotated[str, typer.Option("--model", help="Bundled name, folder, or hub id.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Image = Annotated[
    str | None, typer.Option(help="The picture; else a phone's screenshot is drawn.")
]
Views = Annotated[
    int | None,
    typer.Option(min=0, help="A picture of so many views instead; 0: text only."),
]


def bench(
    model: Model = "nano-ui",
    image: Image = None,
    views: Views = None,
    prompt_tokens: Annotated[
        int, typer.Option(min=0, help="At least so many tokens of text.")
    ] = 0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-m", min=2)] = 64,
    batch: Annotated[
        int, typer.Option(min=1, help="Also so many questions at once.")
    ] = 1,
    trials: Annotated[int, typer.Option(min=1)] = 5,
    json: Json = False,
) -> None:
    """Measure first token, encode, prefill, decode and memory on this machine."""
    from mm15_mlx import bench as module
    from mm15_mlx.config import UserError

    if image and views is not None:
        raise UserError("--image and --views both choose a picture; give one")
    wanted = module.Wanted(prompt_tokens, max_tokens, batch, trials)
    module.run(model, image, views, wanted, json)


def plan(
    model: Annotated[
        str, typer.Option("--model", help="A size (1b, 7b, …), bundled name or folder.")
    ] = "nano-ui",
    chip: Annotated[
        str | None, typer.Option(help="m4-max, …; cpu: measures here. Default: here.")
    ] = None,
    memory_gb: Annotated[
        float | None, typer.Option("--memory-gb", min=1, help="Of the machine.")
    ] = None,
    q_bits: Annotated[
        int | None, typer.Option(help="Of the decoder's layers, as `quantize` has it.")
    ] = None,
    q_group_size: Annotated[int | None, typer.Option()] = None,
    q_mode: Annotated[str | None, typer.Option()] = None,
    head_bits: Annotated[int | None, typer.Option()] = None,
    embedding_bits: Annotated[int | None, typer.Option()] = None,
    connector_bits: Annotated[int | None, typer.Option()] = None,
    encoder_bits: Annotated[int | None, typer.Option()] = None,
    image: Annotated[
        str | None, typer.Option(help="The picture; else a phone's screenshot.")
    ] = None,
    views: Views = None,
    prompt_tokens: Annotated[
        int, typer.Option(min=1, help="Of text, beside the picture.")
    ] = 32,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-m", min=1)] = 256,
    json: Json = False,
) -> None:
    """Whether a model fits a machine, and how fast it would be, from its shape."""
    from mm15_mlx import plan as module
    from mm15_mlx.config import UserError
    from mm15_mlx.quantize import quantisation

    if image and views is not None:
        raise UserError("--image and --views both choose a picture; give one")
    bits = {
        "decoder": q_bits, "head": head_bits, "embedding": embedding_bits,
        "connector": connector_bits, "encoder": encoder_bits,
    }  # fmt: skip
    given = {part: b for part, b in bits.items() if b is not None}
    if not given and (q_mode or q_group_size is not None):
        given = {"decoder": None}  # as `quantize`: the mode's own bits
    ways = {
        part: quantisation(
            b,
            q_group_size,
            q_mode or "affine",
            f"--{'q' if part == 'decoder' else part}-bits",
        )
        for part, b in given.items()
    }
    module.run(
        model, ways, chip, memory_gb, image, views, prompt_tokens, max_tokens, json
    )
