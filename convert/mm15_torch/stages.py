"""The command line of a stage; `@file` stands for the flags in a file.

`python -m …sft @convert/mm15_torch/recipe/sft.args --screens DIR … --out sft.pt`: one
file per stage of the recipe; what comes later on the line wins.
"""

import argparse
import shlex


class StageParser(argparse.ArgumentParser):
    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, fromfile_prefix_chars="@")

    def convert_arg_line_to_args(self, arg_line: str) -> list[str]:
        """Any number of flags and values a line; `#` begins a comment."""
        return shlex.split(arg_line, comments=True)
