"""`mm15-mlx VERB`. Only the answer goes to stdout; everything else to stderr.

Every verb imports what it needs when it runs, so that `--help` answers at once. A
mistake of the user's ends with one line, `error: …`, and exit status 2.
"""

import re
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from mm15_mlx import __version__

app = typer.Typer(
    name="mm15-mlx",
    help="MM1.5-shaped multimodal models on MLX: look at screens, answer, point.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data = typer.Typer(help="Training data.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data, name="data")

ModelOption = Annotated[
    str, typer.Option("--model", help="Bundled name, folder, or hub id.")
]
Images = Annotated[
    list[str] | None, typer.Option("--image", help="Pictures; several may follow.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Draw = Annotated[Path | None, typer.Option(help="Write the picture with its boxes.")]
Picture = Annotated[list[str], typer.Option("--image", help="The picture.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite what exists.")]
Scale = Annotated[
    float | None,
    typer.Option(min=0.1, help="Pixels per point: adds `pt` to the JSON."),
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-m", help="Longest answer.")]
Temp = Annotated[float, typer.Option("--temp", help="0 is greedy.")]
TopP = Annotated[float, typer.Option("--top-p")]
MinP = Annotated[float, typer.Option("--min-p")]
TopK = Annotated[int, typer.Option("--top-k")]
Seed = Annotated[int | None, typer.Option("--seed")]
KvBits = Annotated[int | None, typer.Option("--kv-bits", help="Quantise the KV cache.")]
KvGroup = Annotated[int, typer.Option("--kv-group-size")]
KvStart = Annotated[int, typer.Option("--quantized-kv-start")]
CacheDir = Annotated[
    Path | None, typer.Option("--cache-dir", help="Keep pictures' visual tokens here.")
]
CacheGb = Annotated[float, typer.Option("--cache-gb", help="And at most so much.")]
Adapters = Annotated[
    Path | None, typer.Option("--adapter-path", help="What `train` wrote.")
]
PrefillStep = Annotated[int, typer.Option("--prefill-step-size")]


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print it.")] = False,
) -> None:
    if version:
        print(f"mm15-mlx {__version__}")
        raise typer.Exit()


@app.command()
def generate(
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="`-` reads stdin.")
    ] = None,
    model: ModelOption = "nano-ui",
    image: Images = None,
    input: Annotated[
        Path | None, typer.Option(help="Instead of a prompt, rows: JSON lines.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where the rows' answers go, not stdout.")
    ] = None,
    shot: Annotated[
        list[str] | None,
        typer.Option(help="IMG::QUESTION::ANSWER, an example before the question."),
    ] = None,
    system_prompt: Annotated[str | None, typer.Option("--system-prompt")] = None,
    draw: Draw = None,
    scale: Scale = None,
    json: Json = False,
    force: Force = False,
    max_tokens: MaxTokens = 256,
    temp: Temp = 0.0,
    top_p: TopP = 1.0,
    min_p: MinP = 0.0,
    top_k: TopK = 0,
    seed: Seed = None,
    kv_bits: KvBits = None,
    kv_group_size: KvGroup = 64,
    quantized_kv_start: KvStart = 5000,
    prefill_step_size: PrefillStep = 2048,
    cache_dir: CacheDir = None,
    cache_gb: CacheGb = 1.0,
    adapter_path: Adapters = None,
) -> None:
    """Ask about pictures."""
    from mm15_mlx import answers

    if (prompt is None) == (input is None):
        raise typer.BadParameter("give it, or --input", param_hint="'--prompt'")
    if prompt == "-":
        prompt = sys.stdin.read()
    options = {
        "max_tokens": max_tokens, "temp": temp, "top_p": top_p, "min_p": min_p,
        "top_k": top_k, "seed": seed, "prefill_step_size": prefill_step_size,
        **_kv(kv_bits, kv_group_size, quantized_kv_start),
    }  # fmt: skip
    store = answers.feature_store(cache_dir, cache_gb)
    if input:
        from mm15_mlx import rows

        rows.only({"--image": image, "--shot": shot, "--draw": draw})
        session = answers.Session(model, _started(), options, store, adapter_path)
        return rows.run(session, input, output, system_prompt, force, scale)
    if output:
        raise typer.BadParameter("is for --input", param_hint="'--output'")
    messages = answers.conversation(prompt, image or [], shot or [], system_prompt)
    session = answers.Session(model, _started(), options, store, adapter_path)
    target = answers.drawing_target(draw, force, bool(image))
    result = session.answer(messages, [], stream=not json)
    answers.finish(result, session, json=json, target=target, scale=scale)


@app.command()
def ground(
    image: Picture,
    query: Annotated[list[str], typer.Option("--query", help="What to find.")],
    model: ModelOption = "nano-ui",
    draw: Draw = None,
    scale: Scale = None,
    json: Json = False,
    force: Force = False,
    kv_bits: KvBits = None,
    kv_group_size: KvGroup = 64,
    quantized_kv_start: KvStart = 5000,
    cache_dir: CacheDir = None,
    cache_gb: CacheGb = 1.0,
    adapter_path: Adapters = None,
) -> None:
    """Find things: phrases → boxes."""
    from mm15_mlx import answers

    picture = _one(image)
    store = answers.feature_store(cache_dir, cache_gb)
    options = {"max_tokens": 64, **_kv(kv_bits, kv_group_size, quantized_kv_start)}
    session = answers.Session(model, _started(), options, store, adapter_path)
    target = answers.drawing_target(draw, force, True)
    answers.ground(session, picture, query, json=json, target=target, scale=scale)


@app.command()
def widgets(
    image: Picture,
    model: ModelOption = "nano-ui",
    draw: Draw = None,
    scale: Scale = None,
    json: Json = False,
    force: Force = False,
    max_tokens: MaxTokens = 1500,
    cache_dir: CacheDir = None,
    cache_gb: CacheGb = 1.0,
    adapter_path: Adapters = None,
) -> None:
    """List every UI element with type, text and box."""
    from mm15_mlx import answers

    picture = _one(image)
    store = answers.feature_store(cache_dir, cache_gb)
    options = {"max_tokens": max_tokens}
    session = answers.Session(model, _started(), options, store, adapter_path)
    target = answers.drawing_target(draw, force, True)
    answers.widgets(session, picture, json=json, target=target, scale=scale)


@app.command()
def chat(
    model: ModelOption = "nano-ui",
    image: Images = None,
    max_tokens: MaxTokens = 256,
    temp: Temp = 0.0,
    seed: Seed = None,
    kv_bits: KvBits = None,
    kv_group_size: KvGroup = 64,
    quantized_kv_start: KvStart = 5000,
    cache_dir: CacheDir = None,
    cache_gb: CacheGb = 1.0,
    adapter_path: Adapters = None,
) -> None:
    """Several turns about the same pictures; an empty line or Ctrl-D ends."""
    from mm15_mlx import answers

    options = {
        "max_tokens": max_tokens, "temp": temp, "seed": seed,
        **_kv(kv_bits, kv_group_size, quantized_kv_start),
    }  # fmt: skip
    store = answers.feature_store(cache_dir, cache_gb)
    session = answers.Session(model, _started(), options, store, adapter_path)
    answers.chat(session, image or [])


@app.command()
def info(
    model: ModelOption = "nano-ui",
    image: Images = None,
    json: Json = False,
) -> None:
    """Shape, size, licence; and what a picture would cost, before loading anything."""
    from mm15_mlx import info as module

    module.run(model, _one(image) if image else None, json_output=json)


@app.command("eval")
def evaluate(
    data: Annotated[Path, typer.Option(help="Tasks, one JSON object a line.")],
    model: ModelOption = "nano-ui",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write every answer, one JSON object a line.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Also for each value of a field, such as kit.")
    ] = None,
    json: Json = False,
    force: Force = False,
    kv_bits: KvBits = None,
    kv_group_size: KvGroup = 64,
    quantized_kv_start: KvStart = 5000,
    cache_dir: CacheDir = None,
    cache_gb: CacheGb = 1.0,
    adapter_path: Adapters = None,
) -> None:
    """Measure a model on tasks: find, read, classify, list."""
    from mm15_mlx import evaluate as module
    from mm15_mlx.answers import feature_store

    store = feature_store(cache_dir, cache_gb)
    options = module.Options(**_kv(kv_bits, kv_group_size, quantized_kv_start))
    module.run(
        model, data, limit, predictions, force, json, by, store, options, adapter_path
    )


def _add_others() -> None:
    """Here, so that these verbs stand in the middle of the list."""
    from mm15_mlx.cli_app import local_app
    from mm15_mlx.cli_convert import compose, convert
    from mm15_mlx.cli_data import screens
    from mm15_mlx.cli_measure import bench, plan
    from mm15_mlx.cli_quantize import quantize
    from mm15_mlx.cli_train import check, fuse, preview, train

    app.command()(convert)
    app.command()(compose)
    app.command()(quantize)
    app.command()(train)
    app.command()(fuse)
    app.command()(plan)
    app.command()(bench)
    app.command("app")(local_app)
    data.command()(screens)
    data.command()(check)
    data.command()(preview)


_add_others()


@app.command()
def doctor(json: Json = False) -> None:
    """What this machine can do: backend, BLAS, kernels, memory, missing extras."""
    from mm15_mlx import doctor as module

    raise typer.Exit(module.run(json))


def _kv(bits: int | None, group_size: int, start: int) -> dict[str, Any]:
    return {
        "kv_bits": bits, "kv_group_size": group_size, "quantized_kv_start": start,
    }  # fmt: skip


def _one(images: list[str]) -> str:
    from mm15_mlx.config import UserError

    if len(images) != 1:
        raise UserError(f"--image names {len(images)} pictures; this verb takes one")
    return images[0]


def _started() -> float:
    """When the process began, so that a first token's time counts from there."""
    return _PROCESS_START


_PROCESS_START = time.perf_counter() - time.process_time()


def main(arguments: list[str] | None = None) -> None:
    """Run a verb; turn mistakes into one line and a status."""
    arguments = spread(list(sys.argv[1:] if arguments is None else arguments))
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if not debug:  # Pillow warns at length of what it could read all the same
        warnings.filterwarnings("ignore", module="PIL")
    try:
        status: Any = app(arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except Exception as e:
        if not _is_mistake(e):
            raise
        if debug:
            traceback.print_exc()
        print(_message(e), file=sys.stderr)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def spread(arguments: list[str]) -> list[str]:
    """`--image a.png b.png` → `--image a.png --image b.png`, as mlx-vlm has it."""
    spread: list[str] = []
    flag = None
    for a in arguments:
        name, equals, _ = a.partition("=")
        if name in ("--image", "--query", "--shot"):
            flag, fresh = name, not equals
        elif a.startswith("-") and a != "-":
            flag = None
        elif flag and not fresh:
            spread.append(flag)
        else:
            fresh = False
        spread.append(a)
    return spread


def _is_mistake(error: Exception) -> bool:
    from mm15_mlx.config import UserError

    return isinstance(error, UserError) or hasattr(error, "format_message")


def _message(error: Any) -> str:
    """One line; but a verb's own help where none of its flags was given."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        return text
    return "error: " + re.sub(r"\s*\n\s*", " ", text.strip())


if __name__ == "__main__":
    main()
