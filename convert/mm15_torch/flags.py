"""The command line of the answering stage."""

import argparse
from pathlib import Path

from mm15_mlx.convert.mm15_torch.draws import LONG
from mm15_mlx.convert.mm15_torch.stages import StageParser
from mm15_mlx.screens.questions import SHARES


def arguments(
    given: list[str] | None = None, description: str | None = None
) -> argparse.Namespace:
    parser = StageParser(description, steps=4000, lr=1e-3)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument(
        "--start",
        type=Path,
        nargs="*",
        default=[],
        help="earlier checkpoints, in order",
    )
    parser.add_argument(
        "--balance", action="store_true", help="scale visual tokens to size 1 first"
    )
    parser.add_argument(
        "--fit-late", action="store_true", help="fit the score of flows' frames first"
    )
    parser.add_argument(
        "--order-heads", action="store_true",
        help="begin the heads that name frames with what orders them; once frames do",
    )  # fmt: skip
    parser.add_argument("--whole", action="store_true", help="train every part")
    parser.add_argument(
        "--aids-only", action="store_true",
        help="train what is thrown away afterwards, as a model that `restore` gives "
        "needs first; with --whole",
    )  # fmt: skip
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[28, 28, 46],
        help="tokens of a question with its answer: one of these limits a batch",
    )  # fmt: skip
    parser.add_argument(
        "--shares", nargs="+", metavar="CATEGORY=SHARE",
        default=[f"{k}={v}" for k, v in SHARES.items()], help="the mixture's",
    )  # fmt: skip
    parser.add_argument(
        "--lines", type=int, default=0, help="screens with less text are left out"
    )
    parser.add_argument(
        "--long-share", type=float, default=0.12, help="of batches with one long answer"
    )
    parser.add_argument("--long", nargs="+", choices=tuple(LONG), default=list(LONG))
    for name, share, what in (
        ("read", 0.0, "batches that are only read"),
        ("several", 0.0, "batches of several screens"),
        ("turns", 0.0, "batches of short answers that are conversations"),
        ("drawn", 0.0, "batches of drawn pages"),
        ("moved", 0.25, "screens at another scale"),
        ("cropped", 0.0, "batches of parts of screens"),
        ("split", 0.0, "word pieces in answers that are written as two"),
    ):
        flag, what = f"--{name}", f"share of {what}"
        parser.add_argument(flag, type=float, default=share, help=what)
    parser.add_argument("--patches", type=int, default=96, help="with boxes, a screen")
    parser.add_argument("--aid", type=float, default=0.5, help="weight of those losses")
    parser.add_argument("--spread", type=float, default=3.0)
    return parser.parse_args(given)
