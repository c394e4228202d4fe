"""The verbs that make model folders of public checkpoints; see cli.py.

What this file is: their flags. What it is not: their work (convert/), which is imported
when a verb runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

MlxPath = Annotated[Path | None, typer.Option(help="The model folder to write.")]
Dtype = Annotated[str | None, typer.Option(help="float32, float16 or bfloat16.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say the plan, from headers alone.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
UploadRepo = Annotated[
    str | None, typer.Option(help="owner/name on the hub, to send the result to.")
]
Revision = Annotated[str | None, typer.Option(help="Of a hub id.")]


def convert(
    hf_path: Annotated[str, typer.Option(help="A folder, or a hub id owner/name.")],
    mlx_path: MlxPath = None,
    quantize: Annotated[
        bool, typer.Option("--quantize", "-q", help="Quantise the decoder.")
    ] = False,
    q_bits: Annotated[int | None, typer.Option(help="2 to 6 or 8; 4.")] = None,
    q_group_size: Annotated[
        int | None, typer.Option(help="32, 64 or 128; 64. The mx modes have their own.")
    ] = None,
    q_mode: Annotated[
        str, typer.Option(help="affine, mxfp4, mxfp8 or nvfp4.")
    ] = "affine",
    dtype: Dtype = None,
    revision: Revision = None,
    vision_tower: Annotated[
        str | None, typer.Option(help="LLaVA's CLIP, where it is not in the files.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare logits with transformers.")
    ] = False,
    upload_repo: UploadRepo = None,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Make a model folder of a public checkpoint, and prove that it runs."""
    from mm15_mlx.convert import run
    from mm15_mlx.load import find_source

    _needed(mlx_path, dry_run)
    if not quantize and (q_bits or q_group_size or q_mode != "affine"):
        raise typer.BadParameter(
            "it says how to quantise; add -q, or leave it out",
            param_hint="'--q-bits', '--q-group-size' or '--q-mode'",
        )
    how = run.quantisation(q_bits, q_group_size, q_mode) if quantize else None
    stored = run.dtype(dtype)
    with _planning(dry_run) as place:
        tower = None
        if vision_tower:
            tower = vision_tower, find_source(vision_tower, None, place and place / "v")
        run.convert(
            find_source(hf_path, revision, place and place / "m"),
            mlx_path,
            name=hf_path,
            revision=revision,
            tower=tower,
            dtype=stored,
            quantisation=how,
            compare=verify,
            upload_repo=upload_repo,
            dry_run=dry_run,
            force=force,
            say=lambda line: print(line, flush=True),
        )


def compose(
    encoder: Annotated[
        str, typer.Option(help="A CLIP or SigLIP: folder, weight file, or hub id.")
    ],
    decoder: Annotated[str, typer.Option(help="Folder, .gguf file, or hub id.")],
    mlx_path: MlxPath = None,
    connector: Annotated[
        str, typer.Option(help="c_abstractor, mlp or avg_pool.")
    ] = "c_abstractor",
    tile_size: Annotated[
        int, typer.Option(min=14, max=2048, help="Pixels; MM1.5: 378, then 672.")
    ] = 672,
    tokenizer: Annotated[
        str | None, typer.Option(help="Its folder, where the decoder has none.")
    ] = None,
    experts: Annotated[
        int, typer.Option(min=0, help="Make a dense decoder sparse; MM1.5: 64.")
    ] = 0,
    every: Annotated[int, typer.Option(help="Experts in every k-th layer.")] = 2,
    dtype: Dtype = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Of what is random.")
    ] = 0,
    encoder_revision: Revision = None,
    decoder_revision: Revision = None,
    upload_repo: UploadRepo = None,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Join an encoder, a fresh connector and a decoder: a model to be trained."""
    from mm15_mlx.convert import compose as module
    from mm15_mlx.convert import run

    _needed(mlx_path, dry_run)
    revisions = encoder_revision, decoder_revision
    stored = run.dtype(dtype)
    with _planning(dry_run) as place:
        joined = module.join(
            _headers(encoder, encoder_revision, place, "encoder"),
            _headers(decoder, decoder_revision, place, "decoder"),
            connector=connector,
            tile_size=tile_size,
            tokenizer=tokenizer,
            experts=experts,
            every=every,
            seed=seed,
            revisions=revisions,
        )
        module.compose(
            encoder,
            decoder,
            mlx_path,
            joined,
            revisions=revisions,
            dtype=stored,
            upload_repo=upload_repo,
            dry_run=dry_run,
            force=force,
            say=lambda line: print(line, flush=True),
        )


@contextmanager
def _planning(dry_run: bool) -> Iterator[Path | None]:
    """With a dry run, a folder for what it fetches: headers in place of weights."""
    if not dry_run:
        yield None
        return
    with TemporaryDirectory(prefix="mm15-mlx-") as folder:
        yield Path(folder)


def _headers(name: str, revision: str | None, place: Path | None, part: str) -> str:
    """With a `place`, the folder of a hub id's headers; any other name as it is."""
    from mm15_mlx.checkpoint import at_home
    from mm15_mlx.load import find_source

    if place is None or name.endswith(".gguf") or at_home(name).exists():
        return name
    return str(find_source(name, revision, place / part))


def _needed(mlx_path: Path | None, dry_run: bool) -> None:
    if mlx_path is None and not dry_run:
        raise typer.BadParameter("needed without --dry-run", param_hint="'--mlx-path'")
