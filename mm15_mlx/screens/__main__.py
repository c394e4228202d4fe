"""python -m mm15_mlx.screens --out DIR --n 500"""

import argparse
import sys
from pathlib import Path

from .build import KITS, VIEWPORTS, Options, render_screens
from .content import WORDS
from .layouts import LAYOUTS
from .series import render_series
from .sheet import FIRST, sheet_target, write_sheet
from .splits import SPLITS


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, shared with `mm15-mlx data screens`."""
    parser.add_argument(
        "--out", required=True, help="folder for images/ and screens.jsonl"
    )
    parser.add_argument(
        "--n",
        type=int,
        help="how many screens; 0: only the sheet. 500, or 0 with --pairs or --flows",
    )
    parser.add_argument(
        "--pairs", type=int, default=0, help="pairs between which one thing happens"
    )
    parser.add_argument("--flows", type=int, default=0, help="flows of four screens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--start", type=int, default=0, help="number of the first screen"
    )
    parser.add_argument("--kits", type=names, default=tuple(KITS),
                        help=f"{', '.join(SPLITS)}, or {', '.join(KITS)}")  # fmt: skip
    parser.add_argument("--layouts", type=names, help=", ".join(LAYOUTS))
    parser.add_argument("--exclude-layouts", type=names, default=())
    parser.add_argument("--viewports", type=names, default=VIEWPORTS,
                        help="phone, tablet, desktop or sizes as 390x844")  # fmt: skip
    parser.add_argument(
        "--scale", type=int, choices=(1, 2, 3), help="pixels per CSS pixel"
    )
    parser.add_argument("--format", choices=("jpeg", "png"), default="jpeg")
    parser.add_argument("--words", choices=WORDS, default=WORDS[0],
                        help="kept: those for test")  # fmt: skip
    parser.add_argument("--node-modules", help="where the kits are installed")
    parser.add_argument("--sheet", type=Path, help="draw the first screens there")
    parser.add_argument(
        "--sheet-of", type=int, default=FIRST, help="how many screens it shows"
    )
    parser.add_argument("--force", action="store_true", help="overwrite the sheet")


def run(args: argparse.Namespace) -> int:
    """Renders what the flags ask for."""
    layouts = args.layouts or tuple(LAYOUTS)
    unknown = [name for name in args.exclude_layouts if name not in LAYOUTS]
    if unknown:
        raise ValueError(f"unknown layout {unknown[0]!r}: one of {', '.join(LAYOUTS)}")
    layouts = tuple(name for name in layouts if name not in args.exclude_layouts)
    target = args.sheet and sheet_target(args.sheet, args.force)
    options = Options(
        args.kits, layouts, args.viewports, args.scale, args.format, args.words
    )
    count = args.n
    if count is None:
        count = 0 if args.pairs or args.flows else 500
    new = 0
    if count > 0:  # a folder that is still being rendered stays as it is
        new = render_screens(
            args.out, count, args.seed, options, args.start, args.node_modules
        )
    for what, number in (("pair", args.pairs), ("flow", args.flows)):
        if number > 0:
            new += render_series(
                args.out, what, number, args.seed, options, args.start,
                args.node_modules,
            )  # fmt: skip
    if target:
        write_sheet(Path(args.out), target, args.sheet_of)
    return new


def main() -> int:
    parser = argparse.ArgumentParser(prog="mm15_mlx.screens", description=__doc__)
    add_arguments(parser)
    try:
        run(parser.parse_args())
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
