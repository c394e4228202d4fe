"""Annotated pictures of user interfaces, rendered from open UI kits.

`python -m mm15_mlx.screens --out DIR --n 500` writes DIR/images and
DIR/screens.jsonl; `render_screens` is the same from Python. `--pairs` and `--flows`
(`render_series`) make screens of which one follows from another.
"""

from .build import Options, plan_screen, render_screens
from .layouts import HELD_OUT, LAYOUTS
from .series import render_series

__all__ = [
    "HELD_OUT",
    "LAYOUTS",
    "Options",
    "plan_screen",
    "render_screens",
    "render_series",
]
