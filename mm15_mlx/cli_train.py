"""The verbs `train` and `fuse`, and `data check` and `data preview`; see cli.py.

What this file is: their flags. What it is not: their work, which is imported when a
verb runs.
"""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

Model = Annotated[
    str | None, typer.Option("--model", help="Bundled name, folder, or hub id.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Folder = Annotated[Path, typer.Argument(help="The folder with train.jsonl.")]


def train(
    model: Model = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of train.jsonl, valid.jsonl.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="lora, sft, continual or pretrain.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML; flags win.")
    ] = None,
    adapter_path: Annotated[
        str | None, typer.Option(help="Folder to write; adapters.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last checkpoint.")
    ] = False,
    fine_tune_type: Annotated[
        str | None, typer.Option(help="lora, dora or full.")
    ] = None,
    train_part: Annotated[
        list[str] | None,
        typer.Option(help="decoder, connector or encoder, with =RATE if need be."),
    ] = None,
    num_layers: Annotated[
        int | None, typer.Option(help="The decoder's last ones; -1 is all.")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(help="adamw, adafactor or muon.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option()] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows at once.")] = None,
    grad_accumulation_steps: Annotated[
        int | None, typer.Option(help="Batches of one update.")
    ] = None,
    iters: Annotated[int | None, typer.Option(help="Updates.")] = None,
    val_batches: Annotated[int | None, typer.Option(help="-1 is all.")] = None,
    steps_per_report: Annotated[int | None, typer.Option()] = None,
    steps_per_eval: Annotated[int | None, typer.Option()] = None,
    save_every: Annotated[int | None, typer.Option()] = None,
    eval_data: Annotated[
        str | None, typer.Option(help="Tasks of `eval`, at every steps-per-eval.")
    ] = None,
    save_best: Annotated[
        str | None, typer.Option(help="valid_loss, or TASK.METRIC of --eval-data.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="End after so many evaluations without a gain.")
    ] = None,
    max_seq_length: Annotated[
        int | None, typer.Option(help="A longer row is an error; the context.")
    ] = None,
    grad_checkpoint: Annotated[
        bool | None,
        typer.Option("--grad-checkpoint", help="Less memory, more time."),
    ] = None,
    resume_adapter_file: Annotated[
        str | None, typer.Option(help="Begin with these weights.")
    ] = None,
    report_to: Annotated[
        str | None, typer.Option(help="tensorboard, wandb (offline), or both: a,b.")
    ] = None,
    project_name: Annotated[str | None, typer.Option(help="Of wandb.")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    json: Json = False,
    force: Force = False,
) -> None:
    """Fine-tune on your own rows: LoRA, DoRA or full, on a quantised model too."""
    from mm15_mlx.train import run

    flags: dict[str, Any] = {
        "model": model, "data": data, "stage": stage, "adapter_path": adapter_path,
        "fine_tune_type": fine_tune_type, "num_layers": num_layers,
        "optimizer": optimizer, "learning_rate": learning_rate,
        "batch_size": batch_size, "grad_accumulation_steps": grad_accumulation_steps,
        "iters": iters, "val_batches": val_batches,
        "steps_per_report": steps_per_report, "steps_per_eval": steps_per_eval,
        "save_every": save_every, "max_seq_length": max_seq_length,
        "eval_data": eval_data, "save_best": save_best, "patience": patience,
        "report_to": report_to, "project_name": project_name,
        "grad_checkpoint": grad_checkpoint,
        "resume_adapter_file": resume_adapter_file, "seed": seed,
        **_parts(train_part),
    }  # fmt: skip
    report, status = run(flags, config, resume, force)
    if json and report:  # of several processes only the first has one
        print(json_module.dumps(report, ensure_ascii=False, indent=2))
    raise typer.Exit(status)


def _parts(given: list[str] | None) -> dict[str, Any]:
    """`connector=1e-5` → the part and its rate."""
    from mm15_mlx.config import UserError

    if not given:
        return {}
    rates = {}
    for text in given:
        part, equals, rate = text.partition("=")
        if equals:
            try:
                rates[part] = float(rate)
            except ValueError as e:
                raise UserError(
                    f"--train-part {text}: {rate!r} is no learning rate; write 1e-5"
                ) from e
    parts = [text.partition("=")[0] for text in given]
    return {"train_parts": parts, "part_learning_rates": rates}


def fuse(
    adapter_path: Annotated[Path, typer.Option(help="What `train` wrote.")] = Path(
        "adapters"
    ),
    save_path: Annotated[Path, typer.Option(help="The model folder to write.")] = Path(
        "fused_model"
    ),
    model: Model = None,
    dequantize: Annotated[
        bool, typer.Option("--dequantize", help="Write floating-point weights.")
    ] = False,
    export_peft: Annotated[
        Path | None, typer.Option(help="Write the adapters for PEFT here; no model.")
    ] = None,
    export_mlx_lm: Annotated[
        Path | None, typer.Option(help="Write them for mlx-lm here; no model.")
    ] = None,
    force: Force = False,
) -> None:
    """Put adapters into a model folder, or write them for other programs."""
    from mm15_mlx.fuse import export, run

    for target, layout in ((export_peft, "peft"), (export_mlx_lm, "mlx-lm")):
        if target:
            export(adapter_path, target, layout, force)
    if export_peft or export_mlx_lm:
        return
    run(model, adapter_path, save_path, dequantize, force)


def check(
    folder: Folder,
    model: Annotated[
        str, typer.Option("--model", help="Whose tokens and tiles to count.")
    ] = "nano-ui",
    max_seq_length: Annotated[
        int | None, typer.Option(help="Most tokens of a row; the model's context.")
    ] = None,
    json: Json = False,
) -> None:
    """Check every row of training data; exit status 1 where one is bad."""
    from mm15_mlx.datacheck import run

    raise typer.Exit(run(folder, model, max_seq_length, json))


def preview(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="The picture sheet to write.")],
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "train",
    limit: Annotated[int, typer.Option(min=1, help="How many rows.")] = 20,
    model: Annotated[str, typer.Option("--model")] = "nano-ui",
    force: Force = False,
) -> None:
    """Draw rows of training data: pictures, boxes, questions, answers."""
    from mm15_mlx.preview import run

    run(folder, out, split, limit, model, force)
