"""Between a person's words and pictures and the model: tiling, prompt, coordinates.

What this file is: the part of `config.json` by which model families differ before any
weight is used, and the errors of every configuration. What it is not: the families'
own values; those of their chats are in templates.py.
"""

import string
import unicodedata
from dataclasses import dataclass
from typing import Any

from mm15_mlx.limits import MAX_ALONG_EDGE, MAX_TILES, beyond


class UserError(ValueError):
    """A mistake that a user can mend; the message is one line and says how."""


class ConfigError(UserError):
    """A configuration that cannot be used; the message names the key and the remedy."""


def visible(text: str) -> str:
    """A line as a terminal may have it: what would move its cursor, turn the text
    around or begin a line of its own is written out (`\\x1b`)."""
    unseen = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return "".join(
        ascii(c)[1:-1] if unicodedata.category(c) in unseen else c for c in text
    )


def check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        names = ", ".join(allowed)
        raise ConfigError(f"{name} is {value!r}; it must be one of {names}")


def check_ranges(where: str, config: Any) -> None:
    """Raises ConfigError where a number is not in its range (limits.py)."""
    if why := beyond(where, config):
        raise ConfigError(why)


def _check_fields(name: str, text: str, fields: str, optional: bool = False) -> None:
    """`text` has each of `fields` once as {field}, or, if optional, none or some."""
    allowed = fields.split()
    try:
        found = [
            "?" if spec or conversion else field
            for _, field, spec, conversion in string.Formatter().parse(text)
            if field is not None
        ]
        text.format(**dict.fromkeys(allowed, 0))
    except (ValueError, LookupError, AttributeError):
        found = ["?"]
    wrong = set(found) - set(allowed) if optional else sorted(found) != sorted(allowed)
    if wrong:
        names = ", ".join(f"{{{f}}}" for f in allowed)
        how = "may name only" if optional else "must name once each of"
        raise ConfigError(f"{name} is {text!r}; it {how} {names}")


_SPLITTING = ("dynamic", "static", "longest_edge", "pinpoints", "aspect")
_WHOLE = ("none", "pad_square", "squash")


@dataclass(frozen=True)
class TilingConfig:
    """How a picture becomes views. The defaults are MM1.5's (§3.5)."""

    tile_size: int = 672  # side of one view in pixels
    # dynamic (MM1.5) | static | longest_edge (Idefics3) | pinpoints (LLaVA-NeXT) |
    # aspect (InternVL) | none | pad_square (LLaVA-1.5) | squash (CLIP at DFN, Honeybee)
    policy: str = "dynamic"
    n_min: int = 4  # MM1.5: (4, 9); InternVL: (1, 12)
    n_max: int = 9
    static_grid: tuple[int, int] = (2, 2)  # rows, columns of the static policy
    longest_edge: int = 0  # pixels, of the longest_edge policy; SmolVLM 2048
    pinpoints: tuple[
        tuple[int, int], ...
    ] = ()  # rows, columns of that policy, in order
    overview: str = "after"  # after | before | none
    indicator: str = "index"  # index = the prompt's texts | seps | none
    # How visual tokens of several views follow each other: flat = view by view;
    # spatial = the tiles as one map, row by row (Ferret-UI); spatial_unpad = without
    # its padding, a newline embedding after each row (LLaVA-NeXT as Hugging Face
    # rounds); spatial_unpad_floor = the same as LLaVA's own code rounds.
    merge: str = "flat"
    max_split_images: int = 2  # "fewer than three images" are split
    # With examples before the question, only so many pictures, the last ones, are split
    # (MM1's mixed resolution). Their number is not published: our choice.
    split_last: int = 1
    grid_rule: str = "mm15"  # mm15 = Eq. 1 | anyres = LLaVA's select_best_resolution
    resample: str = "bicubic"  # bicubic | lanczos (Idefics3) | bilinear
    pad_color: tuple[int, int, int] = (0, 0, 0)  # not published: our choice
    # Not published: our choice. end = right and bottom | center | none = stretched.
    pad_side: str = "end"

    def __post_init__(self) -> None:
        check_ranges("tiling", self)
        check_choice("tiling.policy", self.policy, _SPLITTING + _WHOLE)
        check_choice("tiling.overview", self.overview, ("after", "before", "none"))
        check_choice("tiling.indicator", self.indicator, ("index", "seps", "none"))
        check_choice("tiling.merge", self.merge, (
            "flat", "spatial", "spatial_unpad", "spatial_unpad_floor"
        ))  # fmt: skip
        check_choice("tiling.grid_rule", self.grid_rule, ("mm15", "anyres"))
        check_choice("tiling.resample", self.resample, (
            "bicubic", "lanczos", "bilinear"
        ))  # fmt: skip
        check_choice("tiling.pad_side", self.pad_side, ("end", "center", "none"))
        if not 1 <= self.n_min <= self.n_max:
            raise ConfigError(
                f"tiling.n_min {self.n_min} and n_max {self.n_max} must hold "
                "1 <= n_min <= n_max"
            )
        if self.policy == "longest_edge" and not 1 <= self.longest_edge <= 4096:
            raise ConfigError(
                f"tiling.longest_edge is {self.longest_edge}; the policy of that name "
                "needs 1 to 4096 pixels"
            )
        along = -(-self.longest_edge // self.tile_size)
        if self.policy == "longest_edge" and along > MAX_ALONG_EDGE:
            raise ConfigError(
                f"tiling.longest_edge {self.longest_edge} has {along} tiles of "
                f"tile_size {self.tile_size}; {MAX_ALONG_EDGE} are the most"
            )
        grids = (self.static_grid, *self.pinpoints)
        large = [g for g in grids if g[0] * g[1] > MAX_TILES]
        if large or len(self.pinpoints) > MAX_TILES:
            what = f"the grid {list(large[0])}" if large else "too many pinpoints"
            raise ConfigError(
                f"tiling has {what}; grids may have {MAX_TILES} tiles, and there may "
                "be as many pinpoints"
            )
        if self.policy == "pinpoints" and not self.pinpoints:
            raise ConfigError("tiling.pinpoints is empty; give grids, such as [[1, 2]]")
        small = [g for g in self.pinpoints if min(g) < 1 or g == (1, 1)]
        if small:
            raise ConfigError(
                f"tiling.pinpoints has the grid {list(small[0])}; give grids of two "
                "tiles or more: the overview is one already"
            )
        if self.pad_side == "none" and self.policy != "pinpoints":
            raise ConfigError(
                "tiling.pad_side 'none' stretches the tiles of the policy 'pinpoints'; "
                "to stretch the whole picture use the policy 'squash' or 'aspect'"
            )
        if self.merge != "flat" and self.indicator != "none":
            raise ConfigError(
                f"tiling.merge {self.merge!r} joins the views, so that nothing can "
                f"stand between them: tiling.indicator {self.indicator!r} must be "
                "'none'"
            )
        if self.merge.startswith("spatial_unpad") and self.pad_side != "center":
            raise ConfigError(
                f"tiling.merge {self.merge!r} takes away padding on both sides; "
                f"tiling.pad_side must be 'center', not {self.pad_side!r}"
            )


@dataclass(frozen=True)
class PromptConfig:
    """The conversation's text. MM1.5 publishes nothing of it: all our choice.

    In every field but `system`, names of special tokens stand for those tokens.
    """

    bos: str = ""  # what the ids of every conversation begin with
    system_start: str = "<|system|>"
    system_end: str = "<|end|>"
    user_start: str = "<|user|>"
    user_end: str = "<|end|>"
    assistant_start: str = "<|assistant|>"
    assistant_end: str = "<|end|>"
    stop: tuple[str, ...] = ("<|end|>",)  # special tokens that end an answer
    system: str = ""  # default system text
    # Between a role's start and a message that begins with text: SmolVLM writes
    # `User:<image>` but `User: Hello`.
    gap: str = ""
    # Whether neighbouring texts are tokenised as one, as chat templates are. Else each
    # text and each message stands alone (Honeybee).
    joined: bool = False
    image_token: str = "<|image|>"
    image_token_id: int = 4  # its id in the tokenizer; one per visual token
    image_start: str = ""  # around each picture
    image_end: str = ""
    # Before each tile and the overview of a split picture; k counts pictures from 0,
    # i and j rows and columns from 1. Before the one view of another picture.
    tile_text: str = "({k}, {i}, {j})"
    row_end: str = ""  # between rows of tiles, and between tiles and overview
    overview_text: str = "({k}, 0, 0)"
    whole_text: str = ""
    # Of a video, if nobody says. MM1.5-Video: 24, each one view of num_visual_tokens.
    video_frames: int = 24
    # What the verbs of these names ask, as the model was trained to be asked. MM1.5-UI
    # is not published: as Ferret-UI has it, and our choice.
    ground: str = "Where is the {query}?"
    widgets: str = "List the UI elements of this screen."

    def __post_init__(self) -> None:
        check_ranges("prompt", self)
        _check_fields("prompt.ground", self.ground, "query")
        _check_fields("prompt.tile_text", self.tile_text, "k i j", optional=True)
        _check_fields("prompt.overview_text", self.overview_text, "k", optional=True)
        if not self.stop:
            raise ConfigError(
                "prompt.stop is empty; name the token that ends an answer"
            )

    @property
    def turn_end(self) -> str:
        """The special token that ends an answer when one is trained on."""
        return self.stop[0]


@dataclass(frozen=True)
class CoordinateConfig:
    """How boxes and points are written for the model. Not published: our choice.

    `tokens`: `<box>` and four location tokens `<loc_0>`…`<loc_range>`. `digits`: the
    texts `box` and `point`, by default `[x1, y1, x2, y2]` as Ferret writes it, with
    whole numbers of 0…range or, with decimals, fractions of 1. Numbers count over the
    original picture, over the canvas of all tiles (then the same place in a tile is
    the same number, whatever the picture's proportions are), `per_tile` over the side
    of every tile (the same, and whatever tiles come after it), or over the picture
    padded to a square on both sides (LLaVA-1.5).
    """

    format: str = "digits"  # digits | tokens
    range: int = 1000  # ScreenVLM 500; with decimals ten to their power
    decimals: int = 0  # LLaVA 2, Honeybee 3
    frame: str = "picture"  # picture | canvas | tiles | square
    per_tile: int = 0  # of the frame "tiles": range / per_tile tiles in a row at most
    box: str = "[{x1}, {y1}, {x2}, {y2}]"
    point: str = "[{x}, {y}]"

    def __post_init__(self) -> None:
        check_ranges("coordinates", self)
        check_choice("coordinates.format", self.format, ("digits", "tokens"))
        check_choice("coordinates.frame", self.frame, (
            "picture", "canvas", "tiles", "square"
        ))  # fmt: skip
        _check_fields("coordinates.box", self.box, "x1 y1 x2 y2")
        _check_fields("coordinates.point", self.point, "x y")
        if self.frame in ("canvas", "tiles") and self.format != "tokens":
            raise ConfigError(
                f"coordinates.frame {self.frame!r} needs the format 'tokens': digits "
                "are shown to users as the model writes them"
            )
        if (self.frame == "tiles") != (self.per_tile > 0):
            raise ConfigError(
                f"coordinates.per_tile is {self.per_tile} with the frame "
                f"{self.frame!r}; it must be above 0 for 'tiles' and 0 for others"
            )
        if self.frame == "square" and self.format != "digits":
            raise ConfigError("coordinates.frame 'square' needs the format 'digits'")
        if self.decimals and self.range != 10**self.decimals:
            raise ConfigError(
                f"coordinates.range is {self.range}; with {self.decimals} decimals it "
                f"must be {10**self.decimals}"
            )
