"""`mm15-mlx VERB`. Only the answer goes to stdout; everything else to stderr.

Every verb imports what it needs when it runs, so that `--help` answers at once. A
mistake of the user's ends with one line, `error: …`, and exit status 2.
"""

import errno
import re
import sys
import traceback
import warnings
from typing import Annotated, Any

import typer

from mm15_mlx import __version__, cli_ask
from mm15_mlx.cli_ask import Images, Json, ModelOption

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


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print it.")] = False,
) -> None:
    if version:
        print(f"mm15-mlx {__version__}")
        raise typer.Exit()


for verb in (cli_ask.generate, cli_ask.ground, cli_ask.widgets, cli_ask.chat):
    app.command()(verb)


@app.command()
def info(
    model: ModelOption = "nano-ui",
    image: Images = None,
    json: Json = False,
) -> None:
    """Shape, size, licence; and what a picture would cost, before loading anything."""
    from mm15_mlx import info as module

    module.run(model, cli_ask.one(image) if image else None, json_output=json)


def _add_others() -> None:
    """Here, so that these verbs stand in the middle of the list."""
    from mm15_mlx.cli_app import local_app
    from mm15_mlx.cli_convert import compose, convert
    from mm15_mlx.cli_data import screens
    from mm15_mlx.cli_eval import evaluate
    from mm15_mlx.cli_measure import bench, plan
    from mm15_mlx.cli_quantize import quantize
    from mm15_mlx.cli_train import check, fuse, preview, train

    app.command("eval")(evaluate)
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

    return (
        isinstance(error, UserError)
        or hasattr(error, "format_message")
        or _is_too_long(error)
    )


def _is_too_long(error: Exception) -> bool:
    """Whether a path is so long that not even its absence can be found out."""
    return isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG


def _message(error: Any) -> str:
    """One line; but a verb's own help where none of its flags was given."""
    from mm15_mlx.input_config import visible

    text = error.format_message() if hasattr(error, "format_message") else str(error)
    if _is_too_long(error):
        text = f"{error.filename!s:.60}… is too long for a path; give a shorter one"
    if type(error).__name__ == "NoArgsIsHelpError":
        return text
    return "error: " + visible(re.sub(r"\s*\n\s*", " ", text.strip()))


if __name__ == "__main__":
    main()
